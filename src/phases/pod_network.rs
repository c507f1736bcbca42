//! The plugin `bridge`: which node has which /24 of the pod subnet, and the routes between them.
//!
//! What a host has stays its own, whatever is added to or taken from the inventory. A node that left the inventory and is
//! still a node of the cluster keeps its /24 and the routes to it: its pods run on, until somebody deletes the node.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    inventory::{NetworkPlugin, Node, NodeName},
    layout,
    manifests::{NodeSubnets, Route, Routes, cni_config, network_script, network_unit, routes_to_nodes},
    phases::{prepare, workers},
    plan::{Planner, Refusal},
};

/// Who has which pods.
#[derive(Default)]
pub(super) struct PodNetwork {
    subnets: NodeSubnets,
    /// To every node, found once and not for each host anew.
    routes: Vec<Route>,
    /// To nodes that are not in the inventory.
    strangers: Routes,
}

/// Gives every node its /24, where we give them out.
///
/// # Errors
/// Where the pod subnet has no room for another node.
pub(super) fn layout(p: &Planner<'_>) -> Result<PodNetwork, Refusal> {
    let network = &p.cluster.network;
    if network.plugin != NetworkPlugin::Bridge {
        return Ok(PodNetwork::default());
    }
    let taken: BTreeMap<NodeName, u32> = p
        .cluster
        .kubernetes_nodes()
        .filter_map(|n| Some((n.name.clone(), network.number_of(p.facts(&n.name).pod_subnet?)?)))
        .collect();
    let taken = with_recalled(p, taken);
    let strangers = strangers(p);
    let numbers = numbers(p, &taken, strangers.keys().filter_map(|subnet| network.number_of(*subnet)));
    match numbers.iter().find(|(_, n)| **n >= network.node_subnets()) {
        Some((name, _)) => Err(Refusal {
            rule: "pod-subnet-full",
            subject: format!("no pod addresses are left for {name}"),
            why: format!(
                "{} has room for {} nodes, one /24 each",
                network.pod_subnet,
                network.node_subnets()
            ),
            help: "a pod subnet cannot grow in a running cluster; take a node out first".into(),
        }),
        None => {
            let subnets: NodeSubnets =
                numbers.into_iter().map(|(name, n)| (name, network.node_subnet(n))).collect();
            let routes = routes_to_nodes(p.cluster, &subnets);
            Ok(PodNetwork { subnets, routes, strangers })
        }
    }
}

/// And the numbers of hosts that do not tell theirs any more, by the routes that others have to them: somebody emptied the
/// folder of their file, and the pods that run there have addresses of that part.
fn with_recalled(p: &Planner<'_>, mut taken: BTreeMap<NodeName, u32>) -> BTreeMap<NodeName, u32> {
    let lost = p.cluster.kubernetes_nodes().filter(|n| !taken.contains_key(&n.name));
    let lost: BTreeMap<_, _> = lost.map(|n| (n.internal_address, &n.name)).collect();
    let mut used: BTreeSet<u32> = taken.values().copied().collect();
    for (subnet, address) in p.cluster.nodes.iter().flat_map(|n| &p.facts(&n.name).pod_routes) {
        let Some(name) = lost.get(address).filter(|name| !taken.contains_key(**name)) else { continue };
        if let Some(number) = p.cluster.network.number_of(*subnet).filter(|number| used.insert(*number)) {
            taken.insert((*name).clone(), number);
        }
    }
    taken
}

/// Routes that hosts have to nodes that are not in the inventory and that the API still knows; where no API server
/// answered, to all of them.
fn strangers(p: &Planner<'_>) -> Routes {
    let ours: BTreeSet<_> = p.cluster.nodes.iter().map(|n| n.internal_address).collect();
    let nodes = p.seen().nodes.as_ref();
    let known: Option<BTreeSet<_>> = nodes.map(|nodes| {
        let unlisted = workers::unlisted(p.cluster, Some(nodes));
        unlisted.iter().filter_map(|name| nodes.get(name)?.address).collect()
    });
    let is_there = |address| known.as_ref().is_none_or(|known| known.contains(address));
    p.cluster
        .kubernetes_nodes()
        .flat_map(|n| &p.facts(&n.name).pod_routes)
        .filter(|(_, address)| !ours.contains(*address) && is_there(*address))
        .map(|(subnet, address)| (*subnet, *address))
        .collect()
}

/// Stable numbers for hosts: those in `taken` keep theirs, others get the lowest that nobody has.
fn numbers(
    p: &Planner<'_>,
    taken: &BTreeMap<NodeName, u32>,
    strangers: impl Iterator<Item = u32>,
) -> BTreeMap<NodeName, u32> {
    let mut numbers: BTreeMap<NodeName, u32> = BTreeMap::new();
    let mut used: BTreeSet<u32> = BTreeSet::new();
    for node in p.cluster.kubernetes_nodes() {
        if let Some(n) = taken.get(&node.name).filter(|n| used.insert(**n)) {
            numbers.insert(node.name.clone(), *n);
        }
    }
    used.extend(strangers);
    let mut free = (0..).filter(|n| !used.contains(n));
    for node in p.cluster.kubernetes_nodes() {
        if !numbers.contains_key(&node.name) {
            numbers.insert(node.name.clone(), free.next().unwrap_or(u32::MAX));
        }
    }
    numbers
}

/// A host's part: where its pods get addresses from, and the routes to all others.
pub(super) fn host(p: &mut Planner<'_>, node: &Node, pods: &PodNetwork) {
    let Some(own) = pods.subnets.get(&node.name) else { return };
    p.file(node, layout::CNI_CONFIG, 0o644, cni_config(*own));
    let script = network_script(&p.cluster.network, *own, &pods.routes, &pods.strangers);
    p.file(node, layout::NETWORK_SCRIPT, 0o755, script);
    p.file(node, layout::NETWORK_UNIT, 0o644, network_unit());
    let inputs = [layout::NETWORK_SCRIPT, layout::NETWORK_UNIT].map(String::from);
    prepare::revision_file(p, node, layout::NETWORK_REVISION, &inputs);
    p.unit(node, "rsadm-network", &inputs);
}
