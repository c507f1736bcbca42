//! That etcd stays somewhere: of its members at least one has to be in the inventory, since those that stay are whom `up` asks.

use std::collections::BTreeSet;

use crate::{
    inventory::{Cluster, Node, Role},
    observe::Observed,
    phases::etcd::members::moves,
    plan::Refusal,
};

/// Whether a member that is to stay runs etcd, where nobody told who is one: those that stay are whom `up` asks.
///
/// # Errors
/// Where etcd runs on none that has the role, but on hosts that have it no more, or that left the inventory: there API
/// servers dial it.
pub fn check(cluster: &Cluster, seen: &Observed) -> Result<(), Refusal> {
    if seen.membership.is_some() {
        return Ok(());
    }
    let facts = |node: &&Node| seen.hosts.get(&node.name);
    let runs = |node: &&Node| facts(node).is_some_and(|f| f.etcd_manifest.is_some() || f.etcd_data);
    let (wanted, others): (Vec<&Node>, Vec<&Node>) = cluster.nodes.iter().partition(|n| n.is(Role::Etcd));
    // Of others than ours the record alone tells whose they are.
    let is_member = |node: &&Node| runs(node) && facts(node).is_some_and(|f| f.identity.is_some());
    let left: Vec<&Node> = others.into_iter().filter(is_member).collect();
    if wanted.iter().any(runs) {
        return Ok(());
    }
    let dialled = seen.hosts.values().flat_map(|f| &f.processes).flat_map(|p| &p.etcd_servers);
    let elsewhere: BTreeSet<&str> = dialled
        .filter(|url| !cluster.nodes.iter().any(|n| n.client_url() == **url))
        .map(String::as_str)
        .collect();
    let new = names(wanted.iter().copied());
    if left.is_empty() && elsewhere.is_empty() {
        return Ok(());
    }
    if left.is_empty() {
        let back = "back into the inventory, with the role etcd";
        let help = match (elsewhere.len(), &wanted[..]) {
            (1, [only]) => format!(
                "put the host there {back}; if its member is the only one: {}; else {}",
                moves("HOST", only),
                exchanged(&format!("put the others {back}"), &new)
            ),
            _ => exchanged(&format!("put the hosts there {back}"), &new),
        };
        let urls = elsewhere.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Refusal {
            rule: "settled-etcd",
            subject: format!("etcd cannot move to {new} at once"),
            why: format!(
                "its members are at {urls}, which the inventory has no more, and none of them would stay"
            ),
            help,
        });
    }
    let is_only = |node: &&Node| facts(node).is_some_and(|f| f.etcd_members == Some(1));
    let help = match (&left[..], &wanted[..]) {
        ([old], [only]) if is_only(old) => {
            format!("give {} the role etcd again; {}", old.name, moves(old.name.as_str(), only))
        }
        _ => format!(
            "give {} the role etcd again, beside {new}; rsadm up lets the new ones join; then take it off the others, and \
             rsadm up lets those leave, one after the other",
            names(left.iter().copied())
        ),
    };
    let left = names(left.into_iter());
    Err(Refusal {
        rule: "settled-etcd",
        subject: format!("etcd cannot move to {new} at once"),
        why: format!(
            "its members run on {left}, which have the role etcd no more, and none of them would stay"
        ),
        help,
    })
}

/// How members come to other hosts, where there are several.
fn exchanged(back: &str, new: &str) -> String {
    format!(
        "{back}, beside {new}; rsadm up lets the new ones join; then take the others out, and rsadm up lets those leave, one \
         after the other"
    )
}

fn names<'n>(nodes: impl Iterator<Item = &'n Node>) -> String {
    nodes.map(|n| n.name.as_str()).collect::<Vec<_>>().join(", ")
}
