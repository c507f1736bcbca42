//! What only etcd's members tell of a cluster, for a plan: its membership, and whether it has objects.

use tokio::time::timeout;

use super::{ask, members::Members};
use crate::{
    etcd::status::{EtcdReport, MemberReport, Trouble},
    inventory::Cluster,
    observe::{Fate, MemberFact, Observed},
    phases::{certs, etcd::members::is_in_question},
};

/// Where API servers keep what they keep; rsadm lets nobody change it.
const OBJECTS: &str = "/registry/";

/// Looks up etcd's membership where it is in question, and whether Kubernetes has data in it where that decides if an
/// authority is new. Both stay unknown where no quorum tells. Members are asked unless what they said is `known`.
pub async fn look_up(
    cluster: &Cluster,
    members: &dyn Members,
    seen: &mut Observed,
    known: Option<&EtcdReport>,
) {
    if is_in_question(cluster, seen) {
        seen.membership = match known {
            Some(report) => membership(report),
            None => membership(&ask::report(members).await),
        };
    }
    if certs::depends_on_objects(cluster, seen) {
        seen.has_objects = has_objects(members).await;
    }
}

/// Whether etcd has objects of Kubernetes, from the first member that knows.
async fn has_objects(members: &dyn Members) -> Option<bool> {
    for host in members.hosts() {
        let Ok(Ok(api)) = timeout(ask::DIAL, members.dial(&host.name)).await else { continue };
        if let Ok(answer) = api.has_keys(OBJECTS).await {
            return Some(answer);
        }
    }
    None
}

/// The membership that a report found; `None` where no quorum stands behind it.
pub fn membership(report: &EtcdReport) -> Option<Vec<MemberFact>> {
    report.view.as_ref().filter(|view| view.linearizable)?;
    let started = |m: &MemberReport| m.error != Some(Trouble::Unstarted);
    let fact = |m: &MemberReport| MemberFact {
        name: if started(m) { m.name.clone() } else { String::new() },
        peer_url: m.peer_urls.first().cloned().unwrap_or_default(),
        learner: m.is_learner,
        healthy: m.error.is_none(),
        version: m.version.clone(),
        fate: Fate::default(),
    };
    Some(report.members.iter().filter(|m| m.id.is_some()).map(fact).collect())
}
