//! What `etcd add`, `remove` and `replace` wish: the membership that there is, but for the hosts that are named.

use std::collections::BTreeSet;

use crate::{
    inventory::{Cluster, Node, NodeName},
    observe::{Fate, Observed},
};

/// The cluster in which the hosts to `join` are members and those to `leave` are not; who is in both leaves and joins anew.
/// What becomes of each member is noted in what was seen: those at hosts that the inventory does not have stay, since
/// only `up` makes the membership that of the inventory.
pub fn target(inventory: &Cluster, seen: &mut Observed, join: &[NodeName], leave: &[NodeName]) -> Cluster {
    let known: BTreeSet<String> = inventory.nodes.iter().map(Node::peer_url).collect();
    let listed: BTreeSet<String> = seen.membership.iter().flatten().map(|m| m.peer_url.clone()).collect();
    let anew: Vec<String> = inventory
        .nodes
        .iter()
        .filter(|n| join.contains(&n.name) && leave.contains(&n.name))
        .map(Node::peer_url)
        .collect();
    for member in seen.membership.iter_mut().flatten() {
        match &member.peer_url {
            url if anew.contains(url) => member.fate = Fate::Leaves,
            url if !known.contains(url) => member.fate = Fate::Stays,
            _ => {}
        }
    }
    inventory.with_etcd_on(|n| {
        join.contains(&n.name) || (listed.contains(&n.peer_url()) && !leave.contains(&n.name))
    })
}
