//! What a host needs before anything of the cluster runs on it: programs, the container runtime, kernel settings, the
//! network of pods, and the kubelet.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    inventory::{Cluster, LoadBalancer, Node, NodeName, Role, RuntimeInstall},
    layout,
    manifests::{
        containerd_config, containerd_unit, coredns_replicas, coredns_tolerates, kubelet_config,
        kubelet_drop_in, kubelet_instance_config, kubelet_unit, modules_config, registry_hosts,
        standalone_kubelet_config, sysctl_config, to_yaml,
    },
    observe::facts::{BRIDGE_FILTER, Facts, cgroups_in, setting_in},
    phases::{ownership, pod_network},
    pki::authorities::Ca,
    plan::{
        Action, Mode, Plan, Planner, Refusal,
        action::{REVISION_MARK, text_input},
    },
    programs::programs_for,
};

/// The phase that comes before all that change something.
pub const PHASE: &str = "binaries";

/// The phase that brings images.
pub const IMAGES: &str = "images";

/// Programs, kernel settings, container runtime and pod network of every host, all at once.
///
/// # Errors
/// Where the pod subnet has no room for another node.
pub fn binaries(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let cluster = p.cluster;
    let pods = pod_network::layout(p)?;
    p.stage(PHASE, "programs, container runtime, pod network", Mode::Parallel);
    for node in &cluster.nodes {
        remember(p, node);
        for program in programs_for(cluster, node, &p.facts(&node.name).arch.clone()) {
            p.program(node, program);
        }
        kernel(p, node);
        open_folders(p, node);
        containerd(p, node);
        pod_network::host(p, node, &pods);
    }
    Ok(())
}

/// Static pods read below these as root, without the privilege to go past modes.
fn open_folders(p: &mut Planner<'_>, node: &Node) {
    for path in p.facts(&node.name).shut.clone() {
        let mode = if path == layout::KUBERNETES_DIR { 0o755 } else { 0o700 };
        p.push(&node.name, Action::Folder { path, mode }, "root's own containers cannot use it");
    }
}

/// The images that each host runs or may run, and no others.
///
/// Cluster DNS runs on as many hosts as it has pods, and its image is brought to as many, those first that have it already; should a
/// pod come to another host, the kubelet there fetches it.
///
/// # Errors
/// Never so far.
pub fn images(p: &mut Planner<'_>) -> Result<(), Refusal> {
    p.stage_beside(IMAGES, "what each host runs");
    let dns = dns_hosts(p);
    for node in &p.cluster.nodes {
        // Where its containerd was too busy to tell of any.
        if p.facts(&node.name).images_untold && runs_its_pods(node, p.facts(&node.name)) {
            continue;
        }
        let mut images = images_for(p.cluster, node);
        images.extend(dns.contains(&node.name).then(|| p.cluster.release.coredns_image()));
        p.images(node, &images);
    }
    Ok(())
}

/// True where what a host is to run by its roles runs, and therefore has its images.
fn runs_its_pods(node: &Node, facts: &Facts) -> bool {
    let of = |role, process| !node.is(role) || facts.runs(process);
    facts.runs("kubelet") && of(Role::Etcd, "etcd") && of(Role::ControlPlane, "kube-apiserver")
}

/// Every image that runs on a host by its roles.
fn images_for(cluster: &Cluster, node: &Node) -> Vec<String> {
    let release = &cluster.release;
    let mut images = vec![release.pause_image()];
    if node.is(Role::Etcd) {
        images.push(release.etcd_image());
    }
    if node.is(Role::ControlPlane) {
        let components = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
        images.extend(components.map(|c| release.kubernetes_image(c)));
    } else if node.is(Role::Worker) && cluster.load_balancer == LoadBalancer::NodeLocal {
        images.push(release.haproxy_image());
    }
    if node.is_kubernetes() && cluster.kube_proxy.enabled {
        images.push(release.kubernetes_image("kube-proxy"));
    }
    images
}

/// Where cluster DNS is to find its image: where it is; workers before control planes, as its pods prefer them, and last who takes
/// none of them.
fn dns_hosts(p: &Planner<'_>) -> Vec<NodeName> {
    let image = p.cluster.release.coredns_image();
    let mut nodes: Vec<&Node> = p.cluster.kubernetes_nodes().collect();
    nodes.sort_by_key(|n| {
        let takes = n.taints.iter().all(coredns_tolerates);
        let facts = p.facts(&n.name);
        let may_have = facts.images_untold || facts.images.contains(&image);
        (!may_have, !takes, n.is(Role::ControlPlane))
    });
    nodes.truncate(coredns_replicas(p.cluster).into());
    nodes.into_iter().map(|n| n.name.clone()).collect()
}

/// Notes it on the hosts that a plan without this phase changes. In a cluster of others on none, as the note would make a host
/// ours: one that is blank beside theirs is theirs as soon as `kubeadm join` ran there.
pub fn begin(p: &mut Planner<'_>, plan: &Plan) {
    if p.seen().hosts.values().any(ownership::is_adopted) {
        return;
    }
    p.stage(PHASE, "what is there, for a reset", Mode::Parallel);
    for node in &p.cluster.nodes {
        if plan.steps().any(|(host, step)| *host == node.name && step.action.is_change()) {
            remember(p, node);
        }
    }
}

/// Before anything else, and once.
fn remember(p: &mut Planner<'_>, node: &Node) {
    if p.facts(&node.name).begun.is_none() {
        let runtime = p.cluster.runtime.install == RuntimeInstall::Upstream;
        p.push(&node.name, Action::Remember { cluster: p.cluster.name.clone(), runtime }, "");
    }
}

/// Applied first and written then: the files are the proof that it was done, also to a run that comes after one that
/// died in between. Of the settings that matter most the kernel is asked, too: programs for routers, VPNs and hardening
/// change them, and no boot has to come before pods miss them. Where the module of one is not loaded, as where hardening has
/// blacklisted it, the kernel has no such setting at all; of a kernel without the module preflight tells.
fn kernel(p: &mut Planner<'_>, node: &Node) {
    let settings = sysctl_config();
    let differs = |(key, value): (&String, &String)| {
        let wanted = setting_in(&settings, key).filter(|wanted| wanted != value)?;
        Some(format!("{key} is {value}, not {wanted}"))
    };
    let facts = p.facts(&node.name);
    let has = |all: &[String]| all.iter().any(|feature| feature == BRIDGE_FILTER);
    let unloaded = p.cluster.filters_bridges(node) && !has(&facts.features) && has(&facts.loadable);
    let unloaded = unloaded.then(|| format!("{BRIDGE_FILTER} is not loaded"));
    // No pod of etcd's own hosts has an address to be forwarded to.
    let other = unloaded.or_else(|| facts.settings.iter().find_map(differs)).filter(|_| node.is_kubernetes());
    let files = [(layout::MODULES_CONFIG, modules_config()), (layout::SYSCTL_CONFIG, settings)];
    if files.iter().any(|(path, text)| !p.has_text(node, path, text)) {
        p.push(&node.name, Action::Sysctl, "");
    } else if let Some(why) = other {
        p.push(&node.name, Action::Sysctl, why);
    }
    for (path, text) in files {
        p.file(node, path, 0o644, text);
    }
}

fn containerd(p: &mut Planner<'_>, node: &Node) {
    let cluster = p.cluster;
    let ours = cluster.runtime.install == RuntimeInstall::Upstream;
    let found = p.facts(&node.name).containerd_version().filter(|_| !ours);
    let version = found.unwrap_or(cluster.release.containerd);
    p.file(node, layout::CONTAINERD_CONFIG, 0o644, containerd_config(cluster, version));
    let mirrors = registry_hosts(cluster);
    let is_former = |path: &&String| {
        path.starts_with(layout::CONTAINERD_HOSTS_DIR) && !mirrors.iter().any(|(wanted, _)| wanted == *path)
    };
    let former: Vec<String> = p.facts(&node.name).ours.iter().filter(is_former).cloned().collect();
    for path in former {
        p.no_file(node, &path, "the inventory names no mirror of that registry");
    }
    for (path, text) in mirrors {
        p.file(node, &path, 0o644, text);
    }
    let mut inputs = vec![layout::CONTAINERD_CONFIG.to_owned()];
    if ours {
        p.file(node, layout::CONTAINERD_UNIT, 0o644, containerd_unit());
        inputs.push(layout::CONTAINERD_UNIT.to_owned());
    }
    revision_file(p, node, layout::CONTAINERD_REVISION, &inputs);
    p.unit(node, "containerd", &inputs);
}

/// A drop-in by which a unit's process later tells with which files it was started.
pub(super) fn revision_file(p: &mut Planner<'_>, node: &Node, path: &str, inputs: &[String]) {
    let text = format!("[Service]\nEnvironment={}={REVISION_MARK}\n", layout::REVISION_VARIABLE);
    p.file_with_inputs(node, path, 0o644, text, inputs);
}

/// The kubelet: its configuration, its unit, and that it runs with both.
pub fn kubelet(p: &mut Planner<'_>, node: &Node) {
    let cluster = p.cluster;
    let facts = p.facts(&node.name);
    let (resolv_conf, hostname) = (facts.resolv_conf.clone(), facts.hostname.clone());
    let config = kubelet_configuration(cluster, node, resolv_conf.as_deref());
    p.folder(node, layout::MANIFESTS_DIR, 0o700);
    p.file(node, layout::KUBELET_CONFIG, 0o600, config);
    if node.is_kubernetes() {
        p.file(node, layout::KUBELET_INSTANCE_CONFIG, 0o644, kubelet_instance_config());
    }
    // CIS 4.1.1.
    p.file(node, layout::KUBELET_UNIT, 0o600, kubelet_unit(cluster, node, &hostname));
    let inputs = kubelet_inputs(p, node);
    let drop_in = kubelet_drop_in(cluster, node, &hostname, REVISION_MARK);
    p.file_with_inputs(node, layout::KUBELET_REVISION, 0o600, drop_in, &inputs);
    p.unit(node, "kubelet", &inputs);
}

/// New settings of running kubelets are tried on the first host alone: with settings that no kubelet can use all would end
/// at once, and with them the readiness of every pod. Where a kubelet is down, as it is once settings were tried there that
/// it could not use, that host is the first: it has the least to lose, and a second one is not touched for the next attempt.
/// Comes before the stage that has them all.
pub fn first_kubelet<'a>(
    p: &mut Planner<'_>,
    phase: &'static str,
    nodes: impl IntoIterator<Item = &'a Node>,
) {
    let cluster = p.cluster;
    let is_older = |p: &Planner<'_>, n: &Node| p.is_older(n, "kubelet", &kubelet_inputs(p, n));
    let is_down = |p: &Planner<'_>, n: &Node| {
        let facts = p.facts(&n.name);
        facts.files.contains_key(layout::KUBELET_UNIT)
            && !facts.units.get("kubelet").is_some_and(|u| u.active)
    };
    let count = |which: &dyn Fn(&Node) -> bool| cluster.nodes.iter().filter(|n| which(n)).count();
    let older = count(&|n| is_older(p, n));
    if p.restarts("kubelet") || older == 0 || older + count(&|n| is_down(p, n)) < 2 {
        return;
    }
    let nodes: Vec<&Node> = nodes.into_iter().collect();
    let first = nodes.iter().find(|n| is_down(p, n)).or_else(|| nodes.iter().find(|n| is_older(p, n)));
    let Some(node) = first else { return };
    p.stage(phase, format!("the kubelet of {}, before all others", node.name), Mode::OneByOne);
    kubelet(p, node);
}

/// Where a host's pods are to have their cgroups; `None` where its kubelet already runs with all that is wanted of it, whatever
/// somebody has written into its file since.
pub(super) fn other_cgroups(p: &Planner<'_>, node: &Node) -> Option<BTreeMap<String, String>> {
    let resolv_conf = p.facts(&node.name).resolv_conf.as_deref();
    let config = || kubelet_configuration(p.cluster, node, resolv_conf);
    (!kubelet_is_current(p, node)).then(|| cgroups_in(&config()))
}

/// Whether a kubelet runs, and with all that is wanted of it.
pub(super) fn kubelet_is_current(p: &Planner<'_>, node: &Node) -> bool {
    let runs = p.facts(&node.name).units.get("kubelet").is_some_and(|u| u.active);
    runs && !p.is_older(node, "kubelet", &kubelet_inputs(p, node))
}

/// What a kubelet reads once.
fn kubelet_inputs(p: &Planner<'_>, node: &Node) -> Vec<String> {
    let facts = p.facts(&node.name);
    let mut inputs = kubelet_texts(p.cluster, node, facts.resolv_conf.as_deref(), &facts.hostname);
    if node.is_kubernetes() {
        let files = [layout::KUBELET_CONF, layout::KUBELET_SERVING_CERT].map(String::from);
        inputs.extend([Ca::Cluster.cert_path()].into_iter().chain(files));
    }
    inputs
}

fn kubelet_configuration(cluster: &Cluster, node: &Node, resolv_conf: Option<&str>) -> String {
    text(match node.is_kubernetes() {
        true => kubelet_config(cluster, node, resolv_conf),
        false => standalone_kubelet_config(cluster, resolv_conf),
    })
}

/// What the kubelet's own files say to a kubelet that starts, as inputs. Not the files themselves: they also hold the
/// labels and taints with which a node is first registered, and a change of those restarts nobody.
fn kubelet_texts(cluster: &Cluster, node: &Node, resolv_conf: Option<&str>, hostname: &str) -> Vec<String> {
    let unmarked = Node { labels: BTreeMap::new(), taints: vec![], ..node.clone() };
    let config = kubelet_configuration(cluster, &unmarked, resolv_conf);
    let unit = kubelet_unit(cluster, &unmarked, hostname);
    vec![text_input(&config), text_input(&unit)]
}

/// A typed object as YAML.
pub fn yaml(object: &impl Serialize) -> String {
    text(to_yaml("object", object))
}

/// The text of a file that a pure function made. Our own types always serialize; should one not, the text says so and no
/// component accepts it.
pub fn text<E: std::fmt::Display>(made: Result<String, E>) -> String {
    made.unwrap_or_else(|e| format!("# rsadm: {e}\n"))
}
