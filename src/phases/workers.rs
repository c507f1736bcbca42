//! Workers start in parallel, and all nodes join; then every node gets its labels and taints, and all are waited for.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    inventory::{Cluster, LoadBalancer, NetworkPlugin, Node, NodeName, Role},
    layout,
    manifests::{haproxy_config, haproxy_pod, labels_by_api},
    observe::{NodeFact, taint_slot},
    phases::{addons, control_plane, prepare},
    plan::{
        Action, Mode, Planner, Refusal,
        action::{REVISION_MARK, text_input},
    },
};

/// The phase that waits for nodes.
pub const PHASE: &str = "workers";

/// The static pod that balances on a worker itself.
pub(super) const HAPROXY: &str = "haproxy";

/// See the module.
///
/// # Errors
/// Never so far.
pub fn plan(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let Some(speaker) = control_plane::speaker(p.cluster) else { return Ok(()) };
    let cluster = p.cluster;
    prepare::first_kubelet(p, PHASE, workers(cluster));
    p.stage_beside(PHASE, "kubelets, local load balancers, what nodes need to join");
    for node in workers(cluster) {
        let haproxy = load_balancer(p, node);
        prepare::kubelet(p, node);
        if let Some(inputs) = haproxy {
            p.process(node, HAPROXY, &inputs);
        }
    }
    for node in p.cluster.kubernetes_nodes() {
        join(p, node);
    }
    addons::early(p);
    p.stage_beside(PHASE, "labels and taints");
    for node in p.cluster.kubernetes_nodes() {
        // A control plane marks itself as soon as its API server serves, while the first is busy with what all need. One that
        // is not to be started in this run is marked by the first.
        let serves = p.facts(&node.name).runs("kube-apiserver");
        mark(p, if serves { node } else { speaker }, node);
    }
    ready(p, speaker);
    strangers(p);
    Ok(())
}

fn workers(cluster: &Cluster) -> impl Iterator<Item = &Node> {
    cluster.kubernetes_nodes().filter(|n| !n.is(Role::ControlPlane))
}

/// Its files, where there is one; what its process is to run with.
fn load_balancer(p: &mut Planner<'_>, node: &Node) -> Option<Vec<String>> {
    if p.cluster.load_balancer != LoadBalancer::NodeLocal {
        return None;
    }
    let text = prepare::yaml(&haproxy_pod(p.cluster, REVISION_MARK));
    let inputs = vec![layout::HAPROXY_CONFIG.to_owned(), text_input(&text)];
    p.file(node, layout::HAPROXY_CONFIG, 0o644, haproxy_config(p.cluster));
    let path = layout::manifest_of(HAPROXY);
    p.folder(node, layout::MANIFESTS_DIR, 0o700);
    p.file_with_inputs(node, &path, 0o600, text, &inputs);
    Some(inputs)
}

/// Workers whose own load balancer is idle: the inventory has another way to the API, and the kubelet takes that. Static pods, they
/// would run for ever.
pub fn idle_balancers(p: &Planner<'_>) -> Vec<NodeName> {
    let is_idle = |node: &&Node| {
        let facts = p.facts(&node.name);
        let dials = facts.kubeconfigs.get(layout::KUBELET_CONF).map(|config| config.server.as_str());
        // The mark that it is ours, and what goes last.
        facts.files.contains_key(layout::HAPROXY_CONFIG)
            && dials == Some(p.cluster.api_url_from(node).as_str())
            && prepare::kubelet_is_current(p, node)
    };
    let workers = workers(p.cluster).filter(|_| p.cluster.load_balancer != LoadBalancer::NodeLocal);
    workers.filter(is_idle).map(|node| node.name.clone()).collect()
}

/// They go, once the workloads that dialled them are rolled out.
pub fn remove_balancers(p: &mut Planner<'_>, idle: &[NodeName]) {
    const WHY: &str = "load_balancer is another one";
    p.stage(addons::PHASE, "load balancers that nobody dials any more", Mode::Parallel);
    for node in p.cluster.nodes.iter().filter(|node| idle.contains(&node.name)) {
        p.no_file(node, &layout::manifest_of(HAPROXY), WHY);
        p.push(&node.name, Action::AwaitStopped { process: HAPROXY.into() }, "");
        p.no_file(node, layout::HAPROXY_CONFIG, WHY);
    }
}

/// Nobody waits for a kubelet's pauses, and one whose node was deleted registers it again.
fn join(p: &mut Planner<'_>, node: &Node) {
    if p.seen().nodes.as_ref().is_none_or(|nodes| !nodes.contains_key(&node.name)) {
        p.push(&node.name, Action::Join { url: p.cluster.api_url_from(node) }, "");
    }
}

/// Labels and taints as wanted; those of an earlier inventory are taken back, others' are left alone.
fn mark(p: &mut Planner<'_>, speaker: &Node, node: &Node) {
    let nothing = NodeFact::default();
    let seen = p.seen().nodes.as_ref().and_then(|nodes| nodes.get(&node.name)).unwrap_or(&nothing);
    let wanted: BTreeMap<String, String> =
        labels_by_api(node).into_iter().chain(node.labels.clone()).collect();
    let taints: BTreeSet<String> = node.taints.iter().map(ToString::to_string).collect();
    let managed: Vec<String> = wanted.keys().cloned().chain(taints.iter().cloned()).collect();
    let managed = managed.join(",");
    let ours: Vec<&str> = seen.managed.split(',').filter(|s| !s.is_empty()).collect();

    let mut labels: Vec<String> = wanted
        .iter()
        .filter(|(key, value)| seen.labels.get(*key) != Some(value))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let gone =
        |key: &&&str| !key.contains(':') && !wanted.contains_key(**key) && seen.labels.contains_key(**key);
    labels.extend(ours.iter().filter(gone).map(|key| format!("{key}-")));
    // A node that is new has it from its kubelet.
    let is_known = p.seen().nodes.as_ref().is_some_and(|nodes| nodes.contains_key(&node.name));
    let lacks_ours = is_known && !seen.labels.contains_key(layout::NODE_LABEL);
    labels.extend(lacks_ours.then(|| format!("{}=", layout::NODE_LABEL)));
    let mut changes: Vec<String> = taints.iter().filter(|t| !seen.taints.contains(t)).cloned().collect();
    // One of which only the value is another is replaced by the new one; to remove it would remove that.
    let is_wanted = |taint: &str| taints.iter().any(|t| taint_slot(t) == taint_slot(taint));
    let gone =
        |taint: &&&str| taint.contains(':') && !is_wanted(taint) && seen.taints.iter().any(|t| t == **taint);
    changes.extend(ours.iter().filter(gone).map(|taint| format!("{taint}-")));

    if labels.is_empty() && changes.is_empty() && seen.managed == managed {
        return p.checked();
    }
    let action = Action::Mark { node: node.name.clone(), labels, taints: changes, managed };
    p.push(&speaker.name, action, "");
}

fn ready(p: &mut Planner<'_>, speaker: &Node) {
    if p.cluster.network.plugin == NetworkPlugin::None {
        return;
    }
    let nodes = p.seen().nodes.as_ref();
    let waiting: Vec<NodeName> = p
        .cluster
        .kubernetes_nodes()
        .filter(|n| !nodes.and_then(|all| all.get(&n.name)).is_some_and(|n| n.ready))
        .map(|n| n.name.clone())
        .collect();
    if !waiting.is_empty() {
        p.stage(PHASE, "nodes become Ready", Mode::Parallel);
        p.push(&speaker.name, Action::AwaitNodes { nodes: waiting }, "");
    }
}

/// Nodes of the cluster that the inventory does not name: told, never silently dropped.
fn strangers(p: &mut Planner<'_>) {
    for name in unlisted(p.cluster, p.seen().nodes.as_ref()) {
        let node = p.seen().nodes.as_ref().and_then(|nodes| nodes.get(&name));
        let address = node.and_then(|node| node.address);
        let renamed = p.cluster.nodes.iter().find(|n| Some(n.internal_address) == address);
        let leave = format!("kubectl drain {name} --ignore-daemonsets, kubectl delete node {name}, and");
        let help = match renamed {
            _ if p.cluster.node(&name).is_some() => {
                format!("its host is to be none: kubectl delete node {name}")
            }
            Some(node) => format!("it is {} now, at the same address: kubectl delete node {name}", node.name),
            None if node.is_some_and(NodeFact::is_ours) => format!(
                "name it in the inventory, or: {leave} `rsadm reset` with an inventory of that host alone, which empties it"
            ),
            None => format!(
                "rsadm did not build it, it may stay as it is, where logs and exec work once its request in `kubectl get csr` is \
                 approved; or: {leave} `kubeadm reset` there, after which an inventory may \
                 name it"
            ),
        };
        p.notice(
            PHASE,
            Some(&name),
            "is a node of the cluster and not in the inventory as one; it was left alone",
            help,
        );
    }
}

/// Nodes that the API knows and the inventory does not, or for a host that is to be none.
pub fn unlisted(cluster: &Cluster, nodes: Option<&BTreeMap<NodeName, NodeFact>>) -> Vec<NodeName> {
    let listed: BTreeSet<&NodeName> = cluster.kubernetes_nodes().map(|n| &n.name).collect();
    let known = nodes.into_iter().flatten().map(|(name, _)| name);
    known.filter(|name| !listed.contains(name)).cloned().collect()
}
