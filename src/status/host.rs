//! One host of `rsadm status`: what should run there and does, and what is wrong.

use std::collections::BTreeMap;

use super::{Expiry, HostStatus, Sources};
use crate::{
    inventory::{Cluster, LoadBalancer, NetworkPlugin, Node, Role},
    layout,
    observe::Facts,
    phases::{certs, ownership::is_prepared},
    pki::{
        inspect::{CertInfo, days_left, ends_with_authority},
        leaf::LeafSpec,
        specs,
    },
};

/// One host, seen or not.
pub(super) fn look(sources: &Sources<'_>, node: &Node) -> HostStatus {
    let mut status = HostStatus {
        name: node.name.clone(),
        address: node.address.clone(),
        roles: node.roles.clone(),
        reachable: false,
        problems: Vec::new(),
        os: None,
        kernel: None,
        units: BTreeMap::new(),
        components: BTreeMap::new(),
        kubelet_version: None,
        containerd_version: None,
        node_ready: node_ready(sources, node),
        api_ready: None,
        first_expiry: None,
        changes: None,
    };
    if let Some(facts) = sources.seen.hosts.get(&node.name) {
        seen(&mut status, sources, node, facts);
    } else {
        let why = sources.unreachable.get(&node.name);
        status.problems.push(why.cloned().unwrap_or_else(|| "not reached".to_owned()));
    }
    if status.node_ready == Some(false) && !awaits_network(sources, node) {
        status.problems.push("node is not Ready".to_owned());
    }
    status
}

fn seen(status: &mut HostStatus, sources: &Sources<'_>, node: &Node, facts: &Facts) {
    status.reachable = true;
    status.os = Some(facts.os.clone());
    status.kernel = Some(facts.kernel.clone());
    status.containerd_version.clone_from(&facts.containerd);
    status.kubelet_version = facts.programs.get("kubelet").and_then(|p| p.version().map(Into::into));
    for unit in units(sources.cluster, node, facts) {
        status.units.insert(unit.to_owned(), facts.units.get(unit).is_some_and(|u| u.active));
    }
    for component in components(sources.cluster, node) {
        status.components.insert(component, facts.runs(component));
    }
    status.problems.extend(stopped(status, facts));
    if let Some((_, ready)) = sources.api.iter().find(|(name, _)| *name == node.name) {
        status.api_ready = Some(ready.is_ok());
        if let Err(why) = ready
            && facts.runs("kube-apiserver")
        {
            status.problems.push(format!("API server: {why}"));
        }
    }
    status.first_expiry = expiries(sources, node, facts).into_iter().next();
    if let Some(Ok(plan)) = sources.plan {
        let changes = plan.steps().filter(|(host, step)| **host == node.name && step.action.is_change());
        status.changes = Some(changes.count());
    }
}

/// Whether a node waits for the operator's own network plugin: those bring a file that the container runtime reads. Of a host that
/// does not answer nobody knows.
pub(super) fn awaits_network(sources: &Sources<'_>, node: &Node) -> bool {
    let has_none = |facts: &Facts| !facts.files.keys().any(|path| path.starts_with(layout::CNI_CONF_DIR));
    sources.cluster.network.plugin == NetworkPlugin::None
        && sources.seen.hosts.get(&node.name).is_some_and(has_none)
}

/// What should run and does not, in one sentence.
fn stopped(status: &HostStatus, facts: &Facts) -> Option<String> {
    if is_blank(facts) {
        return Some("nothing of the cluster is on it".to_owned());
    }
    let units = status.units.iter().map(|(name, runs)| (name.as_str(), *runs));
    let components = status.components.iter().map(|(name, runs)| (*name, *runs));
    let names: Vec<&str> = units.chain(components).filter(|(_, runs)| !runs).map(|(name, _)| name).collect();
    match names.as_slice() {
        [] => None,
        [one] => Some(format!("{one} does not run")),
        many => Some(format!("{} do not run", many.join(", "))),
    }
}

/// systemd's units on a host. Of the plugin `bridge`, the one that has the routes to the other nodes' pods; a node that somebody
/// else built has it not.
fn units(cluster: &Cluster, node: &Node, facts: &Facts) -> Vec<&'static str> {
    let mut units = vec!["containerd", "kubelet"];
    if node.is_kubernetes() && cluster.network.plugin == NetworkPlugin::Bridge && is_prepared(facts) {
        units.push("rsadm-network");
    }
    units
}

/// What runs on a host besides the kubelet and its runtime.
pub(super) fn components(cluster: &Cluster, node: &Node) -> Vec<&'static str> {
    let mut components = Vec::new();
    if node.is(Role::Etcd) {
        components.push("etcd");
    }
    if node.is(Role::ControlPlane) {
        components.extend(["kube-apiserver", "kube-controller-manager", "kube-scheduler"]);
    } else if node.is(Role::Worker) && cluster.load_balancer == LoadBalancer::NodeLocal {
        components.push("haproxy");
    }
    components
}

fn node_ready(sources: &Sources<'_>, node: &Node) -> Option<bool> {
    let nodes = sources.seen.nodes.as_ref().filter(|_| node.is_kubernetes())?;
    Some(nodes.get(&node.name).is_some_and(|n| n.ready))
}

/// Of what rsadm issues, and of what a kubelet renews by itself what it is late with, those that end first before the
/// others: of an authority, and of files that are somebody else's, other texts tell.
pub(super) fn expiries(sources: &Sources<'_>, node: &Node, facts: &Facts) -> Vec<Expiry> {
    let specs = specs::specs_for(sources.cluster, node).into_iter();
    let found = specs.filter_map(|spec| Some((certs::found_certificate(facts, &spec.place)?, spec)));
    let mut found: Vec<_> =
        found.filter(|(info, spec)| !certs::renews_itself(spec, info, sources.now)).collect();
    found.sort_by_key(|(info, _)| info.not_after);
    let expiry = |(info, spec): (CertInfo, LeafSpec)| {
        let authority = facts.certs.get(&spec.ca.cert_path()).and_then(|der| certs::certificate_of_der(der));
        Expiry {
            host: node.name.clone(),
            path: spec.place.cert_path().to_owned(),
            days: days_left(info.not_after, sources.now),
            with_authority: authority
                .is_some_and(|ca| ends_with_authority(info.not_after, ca.not_after, sources.now)),
        }
    };
    found.into_iter().map(expiry).collect()
}

/// True where nothing of ours and nothing like it is on a host.
pub(super) fn is_blank(facts: &Facts) -> bool {
    facts.identity.is_none()
        && !facts.etcd_data
        && facts.processes.iter().all(|p| p.name == "containerd")
        && !facts.files.keys().any(|path| path.starts_with(layout::PKI_DIR))
}
