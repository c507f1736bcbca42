//! Who leads etcd while its leader is restarted or removed: a member that all the others hear, or nobody.
//!
//! A leader may be the only one that reaches two members which do not reach each other. All is well then, until one of the two
//! leads: the other has no leader, and once the former one is away there is no quorum.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{ask, members::Members};
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
    let until = Instant::now() + cluster.etcd.election_timeout * 3 + Duration::from_secs(2);
    let (lost, heir) = loop {
        let report = ask::report(members).await;
        let heir = report.members.iter().find(|m| m.is_leader);
        let lost: Vec<String> =
            before.members.iter().filter(|m| is_well(m) && !follows(m, heir, &report)).map(name).collect();
        if lost.is_empty() {
            return Ok(());
        }
        if Instant::now() >= until {
            break (lost, heir.map(name));
        }
        sleep(PAUSE).await;
    };
    let former = before.members.iter().find(|m| m.is_leader);
    if let Some(former) = former {
        hand_back(members, former).await;
    }
    let former = former.map(name).unwrap_or_default();
    let heir = heir.unwrap_or_else(|| "another".to_owned());
    Err(Refusal {
        rule: "heir",
        subject: format!("{former} cannot be spared as etcd's leader"),
        why: format!(
            "with {heir} in its place, {} did not follow: they do not reach each other",
            lost.join(", ")
        ),
        help: format!(
            "mend the network between {heir} and {}, port 2380 (rsadm preflight tries every path), then run the same command again",
            lost.join(", ")
        ),
    })
}

fn name(member: &MemberReport) -> String {
    member.name.clone()
}

fn is_well(member: &MemberReport) -> bool {
    member.error.is_none() && !member.is_learner
}

fn follows(member: &MemberReport, heir: Option<&MemberReport>, now: &EtcdReport) -> bool {
    let Some(heir) = heir else { return false };
    let same = now.members.iter().find(|m| m.id == member.id);
    same.is_some_and(|m| m.error.is_none() && m.raft_term == heir.raft_term)
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
