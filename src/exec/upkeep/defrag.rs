//! Defragmenting: a member writes its database anew without the room that nothing uses. It serves nothing meanwhile,
//! so it is done to one at a time, and to the leader only once it has handed leadership over.

use futures::future::join_all;
use serde::Serialize;
use tokio::time::Instant;

use super::{Tending, failed};
use crate::{
    backup::room,
    etcd::status::{EtcdReport, MemberReport, Millis},
    event::{bytes, count},
    exec::{RunError, ask, gate},
    inventory::NodeName,
    layout,
    plan::{Refusal, quorum::Outage},
};

/// The phase's name.
const PHASE: &str = "defrag";

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Defragmented {
    /// Members that were defragmented, in the order of the work.
    pub members: Vec<Shrunk>,
    /// Members that were left as they are.
    pub left: Vec<Left>,
}

/// A member that was defragmented.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shrunk {
    /// Its name.
    pub name: String,
    /// Bytes on disk before.
    pub db_size_before: u64,
    /// Bytes on disk after.
    pub db_size_after: u64,
    /// How long it served nothing.
    pub away_ms: Millis,
}

/// A member that was left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

impl Defragmented {
    /// Bytes that are free now.
    pub fn freed(&self) -> u64 {
        self.members.iter().map(|m| m.db_size_before.saturating_sub(m.db_size_after)).sum()
    }

    /// In one line.
    pub fn summary(&self) -> String {
        match self.members.len() {
            0 => "nothing to defragment".to_owned(),
            n => format!("{} defragmented, {} freed", count(n, "member"), bytes(self.freed())),
        }
    }
}

/// Defragments every member whose file is at least `min_gain` percent free room.
///
/// # Errors
/// Where a member's disk has no room for the new file beside the old, before any is touched. Where the gate says no, a member
/// does not come back, or the operator stops it: those before stay as they then are.
pub async fn defragment(t: &Tending<'_>, min_gain: u8) -> Result<Defragmented, RunError> {
    let stage = t.events.stage(PHASE, "what there is to gain", []);
    t.recount(&t.serving().await?).await;
    let report = t.serving().await?;
    let (mut waiting, left) = choose(&report, min_gain);
    stage.done(survey(&report, &left));
    has_room(t, &report, &waiting).await?;
    gate::tell_outage(&report, &waiting, "is defragmented", t.events);
    let mut done = Defragmented { members: vec![], left };
    while !waiting.is_empty() {
        if (t.stopping)() {
            let left = format!("{} not defragmented", count(waiting.len(), "member"));
            return Err(RunError::Stopped(left));
        }
        let report = t.report().await;
        let name = waiting.remove(next(&report, &waiting));
        match one(t, &name).await? {
            Ok(shrunk) => done.members.push(shrunk),
            Err(why) => {
                t.events.warn(format!("goes on without {name}: {why}"), None);
                done.left.push(Left { name, why });
            }
        }
    }
    Ok(done)
}

/// Whether all of them may write their files anew. etcd does not look: it fills the disk, and the next write ends it.
async fn has_room(t: &Tending<'_>, report: &EtcdReport, waiting: &[String]) -> Result<(), RunError> {
    let members = report.members.iter().filter(|m| waiting.contains(&m.name));
    let asked = join_all(members.map(|member| async {
        let host = ask::host_of(t.members, member)?;
        let answer = t.members.clear_and_measure(&host).await?;
        let why = room::beside_etcd(&answer, member.db_size_in_use.unwrap_or(0), "a copy").err()?;
        Some((host, why))
    }));
    let full: Vec<(NodeName, String)> = asked.await.into_iter().flatten().collect();
    let Some((first, _)) = full.first() else { return Ok(()) };
    Err(RunError::Refused(Refusal {
        rule: "no-room",
        subject: "no member is defragmented".to_owned(),
        why: full.iter().map(|(name, why)| format!("{name}: {why}")).collect::<Vec<_>>().join("; "),
        help: format!(
            "make room there, then run this again; what there is tells, on {first}: df -h {0}; du -xsh {0}/*",
            layout::ETCD_DATA_DIR
        ),
    }))
}

/// Who is worth it, and who is left for which reason.
fn choose(report: &EtcdReport, min_gain: u8) -> (Vec<String>, Vec<Left>) {
    let (mut chosen, mut left) = (Vec::new(), Vec::new());
    for member in &report.members {
        match objection(member, min_gain) {
            None => chosen.push(member.name.clone()),
            Some(why) => left.push(Left { name: member.name.clone(), why }),
        }
    }
    (chosen, left)
}

fn objection(member: &MemberReport, min_gain: u8) -> Option<String> {
    match (&member.error, gain(member)) {
        (Some(why), _) => Some(why.to_string()),
        // Learners serve no such request (etcd, `isRPCSupportedForLearner`).
        _ if member.is_learner => Some("a learner".to_owned()),
        (None, Some((_, percent))) if percent < u64::from(min_gain) => {
            Some(format!("less than {min_gain}% to gain"))
        }
        (None, Some(_)) => None,
        (None, None) => Some("does not say how large it is".to_owned()),
    }
}

/// Bytes that could be gained, and how many percent of the file they are.
fn gain(member: &MemberReport) -> Option<(u64, u64)> {
    let size = member.db_size?;
    let gain = size.saturating_sub(member.db_size_in_use?);
    Some((gain, gain.saturating_mul(100) / size.max(1)))
}

fn survey(report: &EtcdReport, left: &[Left]) -> String {
    let one = |member: &MemberReport| {
        let gain = gain(member).map(|(gain, percent)| format!("{} ({percent}%)", bytes(gain)));
        let why = left.iter().find(|l| l.name == member.name).map(|l| format!("left: {}", l.why));
        let words: Vec<String> = gain.into_iter().chain(why).collect();
        format!("{} {}", member.name, words.join(", "))
    };
    format!("to gain: {}", report.members.iter().map(one).collect::<Vec<_>>().join("; "))
}

/// The first of those that do not lead; the leader once nobody else waits.
fn next(report: &EtcdReport, waiting: &[String]) -> usize {
    let leads = |name: &String| report.members.iter().any(|m| m.is_leader && m.name == *name);
    waiting.iter().position(|name| !leads(name)).unwrap_or(0)
}

/// Defragments a member; why it is left, where it is one no more, or its host is not in the inventory and it cannot be reached.
async fn one(t: &Tending<'_>, name: &str) -> Result<Result<Shrunk, String>, RunError> {
    let report = t.may_pause(name, Outage::Defragment).await?;
    let own = |report: &EtcdReport| report.members.iter().find(|m| m.name == name).cloned();
    let Some(mut member) = own(&report) else { return Ok(Err("it is no member any more".to_owned())) };
    if !member.in_inventory
        && let Err(why) = t.reach(&member).await
    {
        return Ok(Err(format!("the inventory lacks its host, and {why}")));
    }
    if member.is_leader {
        t.hand_over(&report, &member).await?;
        // It took a moment, and an election may have brought leadership back.
        let report = t.may_pause(name, Outage::Defragment).await?;
        member = own(&report).unwrap_or(member);
    }
    let host = ask::host_of(t.members, &member).unwrap_or_else(|| NodeName::new(name));
    let stage = t.events.stage(PHASE, name, [host.clone()]);
    let (before, in_use) = (member.db_size.unwrap_or(0), member.db_size_in_use.unwrap_or(0));
    let api = t.tend(&stage, &member, "defragment").await?;
    stage.says(&host, format!("writes {} anew", bytes(in_use)));
    let started = Instant::now();
    let answer = api.defragment(t.limit_for(in_use)).await;
    let away = started.elapsed();
    if let Err(error) = answer {
        // What it wrote of the new file would stay in the way of everything else.
        t.members.clear_and_measure(&host).await;
        return Err(failed(&stage, name, "defragment", error.into_why()));
    }
    let after = t.well_again(&stage, name).await?.db_size.unwrap_or(before);
    stage.done(format!("{name}: {} → {}", bytes(before), bytes(after)));
    let (name, away_ms) = (name.to_owned(), away.into());
    Ok(Ok(Shrunk { name, db_size_before: before, db_size_after: after, away_ms }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::status::tests::Scene;

    fn report(sizes: &[(u64, u64)]) -> EtcdReport {
        let mut scene = Scene::new(sizes.len());
        for (n, (size, in_use)) in sizes.iter().enumerate() {
            let status = scene.status(n + 1);
            (status.db_size, status.db_size_in_use) = (*size, *in_use);
        }
        scene.report()
    }

    #[test]
    fn only_what_gains_enough_is_chosen() {
        let report = report(&[(100, 79), (100, 80), (100, 81)]);
        let names = |gain| choose(&report, gain).0.join(" ");
        for (gain, chosen) in [(0, "m1 m2 m3"), (19, "m1 m2 m3"), (20, "m1 m2"), (21, "m1"), (22, "")] {
            assert_eq!(names(gain), chosen, "at least {gain}%");
        }
        let (_, left) = choose(&report, 20);
        assert_eq!(left, [Left { name: "m3".into(), why: "less than 20% to gain".into() }]);
        assert_eq!(
            survey(&report, &left),
            "to gain: m1 21 B (21%); m2 20 B (20%); m3 19 B (19%), left: less than 20% to gain"
        );
    }

    #[test]
    fn the_sick_and_learners_are_left() {
        let sick = Scene::new(3).silence(3, "connection refused").report();
        let (chosen, left) = choose(&sick, 0);
        assert_eq!(chosen, ["m1", "m2"]);
        assert_eq!(left[0].why, "connection refused");
        let learning = Scene::with_learner(4).report();
        assert_eq!(choose(&learning, 0).1[0].why, "a learner");
    }

    #[test]
    fn the_leader_is_the_last() {
        let report = Scene::new(3).report();
        let waiting = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        for (names, chosen) in [(&["m1", "m2", "m3"][..], 0), (&["m2", "m3"], 1), (&["m2"], 0)] {
            assert_eq!(next(&report, &waiting(names)), chosen, "{names:?}");
        }
    }
}
