//! Changes of etcd's membership: one member at a time, and never a vote before there is a process to cast it.
//!
//! Order, as etcd's documents and Cluster API have it: the dead leave before anybody joins, since etcd counts them
//! against every change (etcd, `server.go`, `mayAddMember`); whoever joins is a learner first, which is always
//! reversible (etcd, `learning/design-learner.md`); the living leave last, when their successors vote. Each call asks the
//! quorum gate at its own moment.

use std::net::Ipv4Addr;

use super::PHASE;
use crate::{
    inventory::{Cluster, Node, Role},
    manifests::EtcdStart,
    observe::{Facts, Observed},
    phases::{certs, ownership, prepare, settled},
    plan::{Action, Mode, Planner, Refusal},
};

mod change;
mod former;
mod founders;
mod join;
pub(super) mod likeness;
mod listens;
mod quota;
mod refusals;

pub use change::Change;
pub(super) use founders::refusal as other_founders;
pub use listens::listens;
pub(super) use quota::holds_the_database;
pub use quota::{may_be_full, quotas, with_their_quota};
pub use refusals::{moved, moves};
pub(super) use refusals::{old_cluster, two};

/// True since the cluster's members served for the first time: hosts have it on record, or a quorum has just said so, of
/// which a run that died left none.
pub fn is_founded(cluster: &Cluster, seen: &Observed) -> bool {
    seen.membership.is_some() || is_recorded(cluster, seen)
}

fn is_recorded(cluster: &Cluster, seen: &Observed) -> bool {
    cluster.nodes.iter().any(|n| seen.hosts.get(&n.name).is_some_and(|f| f.identity.is_some()))
}

/// True where hosts and inventory differ on who is a member, or no etcd runs that would know better, so that etcd itself has
/// to be asked.
pub fn is_in_question(cluster: &Cluster, seen: &Observed) -> bool {
    let wanted = cluster.with_role(Role::Etcd).count();
    let facts = |node: &Node| seen.hosts.get(&node.name);
    let differs = |node: &Node| {
        let Some(facts) = facts(node) else { return false };
        let counts_otherwise = facts.etcd_members.is_some_and(|n| n != wanted);
        match node.is(Role::Etcd) {
            true => {
                !facts.etcd_data
                    || facts.identity.is_none()
                    || counts_otherwise
                    || started_at(node, facts).is_some()
            }
            false => has_etcd(facts),
        }
    };
    match is_recorded(cluster, seen) {
        true => {
            let counts = |node: &Node| facts(node).is_some_and(|f| f.etcd_members.is_some());
            cluster.nodes.iter().any(differs) || !cluster.with_role(Role::Etcd).any(counts)
        }
        false => founders::others(cluster, seen).is_some(),
    }
}

/// True where a founded cluster's membership is in question and no quorum has said yet who is a member: they may be down, and
/// what a run has to change shows once it has started them.
pub fn is_untold(cluster: &Cluster, seen: &Observed) -> bool {
    seen.membership.is_none() && is_recorded(cluster, seen) && is_in_question(cluster, seen)
}

/// True where a host runs etcd, or has its data.
fn has_etcd(facts: &Facts) -> bool {
    facts.etcd_manifest.is_some() || facts.etcd_data
}

/// Where the member on a host was started, if that is not where the inventory has it.
fn started_at(node: &Node, facts: &Facts) -> Option<String> {
    let mut members = EtcdStart::of_manifest(facts.etcd_manifest.as_deref()?)?.members.into_iter();
    let (_, url) = members.find(|(name, url)| *name == node.name && *url != node.peer_url())?;
    Some(url)
}

/// Whom a URL of etcd's names, where it names an address.
pub fn address_of(url: &str) -> Option<Ipv4Addr> {
    url.split("//").nth(1)?.split(':').next()?.parse().ok()
}

/// Programs of hosts that join.
///
/// # Errors
/// See [`prepare::binaries`].
pub fn binaries(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let mut joining = Change::of_inventory(p).joining();
    joining.retain(|host| !ownership::is_adopted(p.facts(host)));
    // Of those alone: nothing is prepared on the others, and a member that died has to be replaced whatever they have.
    let nodes = p.cluster.nodes.iter().filter(|node| joining.contains(&node.name));
    settled::runtime::check(nodes, p.cluster, p.seen())?;
    p.within(joining, prepare::binaries)
}

/// Certificates of hosts that join.
///
/// # Errors
/// See [`certs::of_members`].
pub fn certificates(p: &mut Planner<'_>) -> Result<(), Refusal> {
    within_newcomers(p, certs::of_members)
}

/// Images of hosts that join.
///
/// # Errors
/// See [`prepare::images`].
pub fn images(p: &mut Planner<'_>) -> Result<(), Refusal> {
    within_newcomers(p, prepare::images)
}

/// Members leave and join.
///
/// # Errors
/// Where who joins would be full at once; see [`Change::plan`].
pub fn plan(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let change = Change::of_inventory(p);
    let joining: Vec<&Node> = p.cluster.nodes.iter().filter(|n| change.joins(n)).collect();
    holds_the_database(p, &joining)?;
    change.plan(p)?;
    // A run that died between a vote and this record left a member that nobody lets join again.
    p.stage(PHASE, "records of members that have their vote", Mode::Parallel);
    let cluster = p.cluster;
    for node in cluster.with_role(Role::Etcd) {
        let facts = p.facts(&node.name);
        if facts.begun.is_some() && facts.identity.is_none() && is_listed(p, node) {
            p.push(&node.name, Action::RecordIdentity { cluster: cluster.name.clone() }, "");
        }
    }
    Ok(())
}

fn within_newcomers(
    p: &mut Planner<'_>,
    plan: impl FnOnce(&mut Planner<'_>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let joining = Change::of_inventory(p).joining();
    p.within(joining, plan)
}

fn is_listed(p: &Planner<'_>, node: &Node) -> bool {
    p.seen().membership.iter().flatten().any(|m| m.peer_url == node.peer_url())
}
