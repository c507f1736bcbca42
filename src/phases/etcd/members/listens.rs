//! Members that run where nobody asks them: after `internal_address` was edited on all etcd hosts, or on the only one.

use super::{founders, refusals::joins_with, started_at};
use crate::{
    inventory::{Cluster, Node, Role},
    manifests::flag_in,
    observe::{Facts, Observed},
    phases::etcd::PROCESS,
    plan::Refusal,
};

/// Whether etcd listens where the inventory has its hosts, where nobody told who is a member. With certificates for other
/// addresses alone, which etcd reads with every handshake, members that dial one another at the old ones take each other for
/// strangers: they would lose their quorum to the very first change.
///
/// # Errors
/// Where etcd runs on a host and was started at another address. What was never founded is told by its own rule.
pub fn listens(cluster: &Cluster, seen: &Observed) -> Result<(), Refusal> {
    if seen.membership.is_some() || founders::refusal(cluster, seen).is_some() {
        return Ok(());
    }
    let there = |n: &'_ &Node| seen.hosts.get(&n.name).is_some_and(|facts| listens_elsewhere(n, facts));
    let moved: Vec<&Node> = cluster.with_role(Role::Etcd).filter(there).collect();
    let Some(first) = moved.first() else { return Ok(()) };
    let names = moved.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", ");
    let at = |n: &&Node| seen.hosts.get(&n.name).and_then(|facts| started_at(n, facts)).unwrap_or_default();
    let urls = moved.iter().map(at).collect::<Vec<_>>().join(", ");
    let move_on = match cluster.with_role(Role::Etcd).count() {
        1 => format!(
            "where it has to move, another host takes its member first: `rsadm etcd replace {} NEW_HOST`, while the inventory \
             has the old address",
            first.name
        ),
        _ => format!(
            "where they have to move, one after the other: `rsadm etcd remove HOST` while the inventory has its old address, \
             then change it and `{}`, which makes its certificates and its member anew",
            joins_with(seen, first, "HOST")
        ),
    };
    Err(Refusal {
        rule: "member-moved",
        subject: format!("etcd on {names} cannot be asked"),
        why: format!(
            "it runs, as a member at {urls}, and the inventory has {names} elsewhere; nothing was changed on any host"
        ),
        help: format!("set internal_address of {names} back; {move_on}"),
    })
}

/// True where etcd runs that was started at another address than the inventory's, and does not listen there beside.
fn listens_elsewhere(node: &Node, facts: &Facts) -> bool {
    let urls = facts.etcd_manifest.as_deref().and_then(|flags| flag_in(flags, "listen-client-urls"));
    let everywhere = ["//0.0.0.0:", "//[::]:"];
    let here = |url: &str| url == node.client_url() || everywhere.iter().any(|all| url.contains(all));
    facts.runs(PROCESS)
        && started_at(node, facts).is_some()
        && urls.is_some_and(|urls| !urls.split(',').any(here))
}
