//! Who leads etcd while its leader is restarted or removed: a member that all the others hear, or nobody.
//!
//! A leader may be the only one that reaches two members which do not reach each other. All is well then, until one of the two
//! leads: the other has no leader, and once the former one is away there is no quorum.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{ask, gate, members::Members};
use crate::{
    etcd::status::{EtcdReport, Id, MemberReport},
    inventory::Cluster,
    plan::Refusal,
};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether every voter that was well before follows the new leader, in its term; a member that hears nobody waits for its
/// election timeout before it says so. Where one does not, leadership goes back to who had it.
///
/// # Errors
/// Why the former leader cannot be spared, with what is to be mended.
pub async fn is_followed(
    members: &dyn Members,
    cluster: &Cluster,
    before: &EtcdReport,
) -> Result<(), Refusal> {
    let election = cluster.etcd.election_timeout * 3 + Duration::from_secs(2);
    let Err(lack) = followed(before, election, async || ask::report(members).await).await else {
        return Ok(());
    };
    let former = before.members.iter().find(|m| m.is_leader);
    if let Some(former) = former {
        hand_back(members, former).await;
    }
    Err(lack.refusal(&former.map(name).unwrap_or_default()))
}

/// Asks until all follow. That one does not is believed where a look tells so that began when an `election` was over; who says
/// nothing may be slow, and gets longer.
async fn followed(
    before: &EtcdReport,
    election: Duration,
    look: impl AsyncFn() -> EtcdReport,
) -> Result<(), Lack> {
    let begun = Instant::now();
    loop {
        let waited = begun.elapsed();
        let lack = Lack::of(before, &look().await);
        let limit = match (lack.lost.is_empty(), lack.silent.is_empty()) {
            (true, true) => return Ok(()),
            (true, false) => election.max(gate::PATIENCE),
            (false, _) => election,
        };
        if waited >= limit {
            return Err(lack);
        }
        sleep(PAUSE).await;
    }
}

/// What the new leader lacks.
#[derive(Debug, PartialEq, Eq)]
struct Lack {
    /// Who it is, where anybody tells.
    heir: Option<String>,
    /// Who follows another, or nobody.
    lost: Vec<String>,
    /// Who does not say whom it follows.
    silent: Vec<String>,
}

impl Lack {
    /// By what members say of themselves: that the leader serves reads, too, may take longer and is not asked for.
    fn of(before: &EtcdReport, now: &EtcdReport) -> Self {
        let former = before.members.iter().filter_map(|m| m.raft_term).max();
        let told = now.members.iter().filter_map(|m| Some((m.raft_term?, m.follows?)));
        let heir = told.max_by_key(|(term, _)| *term).filter(|(term, _)| Some(*term) > former);
        let heirs_name = |(_, id): (u64, Id)| now.members.iter().find(|m| m.id == Some(id)).map(name);
        let mut lack = Self { heir: heir.and_then(heirs_name), lost: vec![], silent: vec![] };
        for member in before.members.iter().filter(|m| is_well(m)) {
            let same = now.members.iter().find(|m| m.id == member.id);
            match same.and_then(|m| Some((m.raft_term?, m.follows))) {
                None => lack.silent.push(name(member)),
                Some((term, Some(follows))) if heir == Some((term, follows)) => {}
                Some(_) => lack.lost.push(name(member)),
            }
        }
        lack
    }

    fn refusal(self, former: &str) -> Refusal {
        let heir = self.heir.unwrap_or_else(|| "another".to_owned());
        let (lost, silent) = (self.lost.join(", "), self.silent.join(", "));
        let (why, help) = if lost.is_empty() {
            (
                format!(
                    "with {heir} in its place, {silent} did not answer, so that nobody knows whether it follows"
                ),
                format!("rsadm etcd status shows how {silent} is; then run the same command again"),
            )
        } else {
            (
                format!("with {heir} in its place, {lost} did not follow: they do not reach each other"),
                format!(
                    "mend the network between {heir} and {lost}, port 2380 (rsadm preflight tries every path), then run the same command again"
                ),
            )
        };
        Refusal { rule: "heir", subject: format!("{former} cannot be spared as etcd's leader"), why, help }
    }
}

fn name(member: &MemberReport) -> String {
    member.name.clone()
}

fn is_well(member: &MemberReport) -> bool {
    member.error.is_none() && !member.is_learner
}

/// What fails here is seen by who looks next: etcd is no worse off than before.
async fn hand_back(members: &dyn Members, former: &MemberReport) {
    let report = ask::report(members).await;
    let leader = report.members.iter().find(|m| m.is_leader && m.id != former.id);
    if let (Some(leader), Some(Id(id))) = (leader, former.id)
        && let Ok(api) = ask::dial(members, leader).await
    {
        let _ = api.move_leader(id).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::etcd::status::tests::{Scene, id};

    /// All follow m3, which leads after m2.
    fn handed_over() -> Scene {
        let mut scene = Scene::new(3);
        (1..=3).for_each(|n| follow(&mut scene, n, 3, 5));
        scene
    }

    fn follow(scene: &mut Scene, n: usize, leader: usize, term: u64) {
        let status = scene.status(n);
        (status.leader, status.raft_term) = (if leader == 0 { 0 } else { id(leader) }, term);
    }

    const ELECTION: Duration = Duration::from_secs(5);

    /// What comes of looks that take so many seconds and show these, the last one for ever; and after how many seconds.
    async fn outcome(takes: u64, looks: &[Scene]) -> (Result<(), Lack>, u64) {
        let (begun, seen) = (Instant::now(), Cell::new(0));
        let look = async || {
            sleep(Duration::from_secs(takes)).await;
            let n = seen.replace(seen.get() + 1);
            looks[n.min(looks.len() - 1)].report()
        };
        let outcome = followed(&Scene::new(3).report(), ELECTION, look).await;
        (outcome, begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_is_late_or_lacks_an_answer_says_nothing_against_anybody() {
        let late = || "no answer within 2.0 s";
        let mut not_yet = handed_over();
        follow(&mut not_yet, 1, 2, 4);
        for (about, first) in [
            ("as it was before", Scene::new(3)),
            ("one has not heard of it yet", not_yet),
            ("one is silent", handed_over().silence(1, late())),
            ("the new leader is", handed_over().silence(3, late())),
            ("nobody answers", (1..=3).fold(Scene::new(3), |scene, n| scene.silence(n, late()))),
        ] {
            let (outcome, after) = outcome(5, &[first, handed_over()]).await;
            assert_eq!((outcome, after), (Ok(()), 10), "{about}");
        }
        // Reads come late, and who leads has no entry yet that a quorum has.
        let mut no_reads = handed_over();
        no_reads.gathered.answers.iter_mut().for_each(|a| a.quorum_list = Err(late().into()));
        assert_eq!(outcome(5, &[no_reads]).await, (Ok(()), 5));
    }

    #[tokio::test(start_paused = true)]
    async fn who_follows_another_or_nobody_is_told_once_an_election_is_over() {
        for (leader, term) in [(2, 4), (0, 4), (0, 5), (3, 4)] {
            let mut cut = handed_over();
            follow(&mut cut, 1, leader, term);
            let (outcome, after) = outcome(0, &[cut]).await;
            let lack = outcome.unwrap_err();
            assert_eq!((&*lack.lost, after), (&["m1".to_owned()][..], 5), "{leader}, {term}");
            assert_eq!(
                lack.refusal("m2").why,
                "with m3 in its place, m1 did not follow: they do not reach each other"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_stays_silent_is_not_said_to_be_cut_off() {
        let (outcome, after) = outcome(5, &[handed_over().silence(1, "no answer")]).await;
        assert!(after >= gate::PATIENCE.as_secs(), "{after}");
        let refusal = outcome.unwrap_err().refusal("m2");
        assert!(refusal.why.contains("m1 did not answer") && !refusal.help.contains("2380"), "{refusal}");
    }
}
