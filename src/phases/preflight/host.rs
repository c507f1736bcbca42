//! What one host says of itself, judged by what its roles need: a table of checks.

use std::net::IpAddr;

use crate::{
    inventory::{Cluster, LoadBalancer, NetworkPlugin, Node, Role, RuntimeInstall},
    layout,
    observe::{Facts, facts::BRIDGE_FILTER},
    phases::{
        etcd::upgrade,
        ownership::{self, Stranger},
        settled,
    },
    versions::pins_pause,
};

use super::{Verdict, disk};

pub(super) const MIB: u64 = 1 << 20;

/// A host and what is wanted of it.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The whole.
    pub cluster: &'a Cluster,
    /// Its part in it.
    pub node: &'a Node,
    /// What it says.
    pub facts: &'a Facts,
    /// Whether it is told what need not be changed: once, where the host is new, and whoever asks.
    pub remarks: bool,
    /// Whether rsadm has prepared any of the hosts, so that the inventory cannot say otherwise whose containerd they have.
    pub built: bool,
}

/// What a check has to say; nothing where all is well.
pub type Check = fn(&Subject<'_>) -> Vec<Verdict>;

/// All checks, in the order in which a host's findings are shown.
pub const CHECKS: &[Check] = &[
    machine,
    system,
    systemd,
    address,
    cgroups,
    kernel_features,
    kernel_version,
    memory,
    processors,
    disk::space,
    disk::pressure,
    disk::etcd_room,
    swap,
    tools,
    download,
    packet_filter,
    runtime,
    version,
    other_cluster,
    strangers,
    ports,
];

/// What new certificates of a host that serves stand or fall with: whose it is, what runs there, whether its kubelet starts
/// again, and whether the new ones find room.
pub const GRAVE: &[Check] =
    &[address, kubernetes_version, other_cluster, strangers, kubelet_starts, disk::room];

fn machine(s: &Subject<'_>) -> Vec<Verdict> {
    match s.facts.arch.as_str() {
        "x86_64" | "aarch64" => vec![],
        arch => vec![Verdict::error(format!("is a {arch}"), "use a host of x86_64 or aarch64")],
    }
}

/// What the tests run on. `ID VERSION_ID` of `/etc/os-release`.
const TESTED: [&str; 2] = ["debian 12", "debian 13"];

fn system(s: &Subject<'_>) -> Vec<Verdict> {
    if !s.remarks || TESTED.contains(&s.facts.os.as_str()) {
        return vec![];
    }
    let text = format!("runs {}, on which rsadm is untested", s.facts.os);
    vec![Verdict::warning(text, format!("nothing speaks against it; tests run on {}", TESTED.join(" and ")))]
}

fn systemd(s: &Subject<'_>) -> Vec<Verdict> {
    match s.facts.systemd {
        None => vec![Verdict::error("does not run systemd", "use a host whose PID 1 is systemd")],
        Some(version) if version < 244 => {
            vec![Verdict::warning(format!("runs systemd {version}"), "newer kubelets expect 244 or later")]
        }
        Some(_) => vec![],
    }
}

fn address(s: &Subject<'_>) -> Vec<Verdict> {
    let wanted = s.node.internal_address;
    if s.facts.addresses.contains(&IpAddr::V4(wanted)) {
        return vec![];
    }
    let have: Vec<String> = s
        .facts
        .addresses
        .iter()
        .filter(|a| a.is_ipv4() && !a.is_loopback())
        .map(ToString::to_string)
        .collect();
    vec![Verdict::error(
        format!("does not have the address {wanted} (it has {})", have.join(", ")),
        "set hosts[].internal_address to an address of the host",
    )]
}

fn cgroups(s: &Subject<'_>) -> Vec<Verdict> {
    let mut verdicts = vec![];
    let minor = s.cluster.release.kubernetes.minor;
    if s.facts.cgroup == 1 && minor >= 35 && !is_set(s, "failCgroupV1", &false.into()) {
        verdicts.push(Verdict::error(
            format!("has cgroup v1, which the kubelet refuses from 1.35 on (1.{minor} is wanted)"),
            "boot with systemd.unified_cgroup_hierarchy=1, or set kubelet.config.failCgroupV1: false",
        ));
    }
    for controller in ["cpu", "cpuset", "memory", "pids"] {
        if !s.facts.controllers.iter().any(|c| c == controller) {
            let help = format!(
                "boot with cgroup_enable={controller} on the kernel's command line, and without cgroup_disable \
                 (on a Raspberry Pi: /boot/firmware/cmdline.txt)"
            );
            verdicts.push(Verdict::error(format!("its cgroup controller {controller} is off"), help));
        }
    }
    verdicts
}

/// True where the inventory gives the kubelet this setting.
fn is_set(s: &Subject<'_>, key: &str, value: &serde_json::Value) -> bool {
    s.cluster.kubelet.config.get(key) == Some(value)
}

/// Features, not module names: what is built in has no module.
fn kernel_features(s: &Subject<'_>) -> Vec<Verdict> {
    let has =
        |feature: &str| [&s.facts.features, &s.facts.loadable].iter().any(|l| l.iter().any(|f| f == feature));
    [
        ("overlay", "container images", true),
        (BRIDGE_FILTER, "services of pods", s.cluster.filters_bridges(s.node)),
    ]
    .into_iter()
    .filter(|(feature, _, needed)| *needed && !has(feature))
    .map(|(feature, user, _)| {
        let text = format!("its kernel has no {feature}, which {user} need");
        Verdict::error(text, format!("modprobe {feature}, or use a kernel that has it"))
    })
    .collect()
}

/// kube-proxy's nftables mode asks for 5.13 (`pkg/proxy/nftables/proxier.go`).
fn kernel_version(s: &Subject<'_>) -> Vec<Verdict> {
    let mut numbers = s.facts.kernel.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else { return vec![] };
    if !s.node.is_kubernetes() || !s.cluster.kube_proxy.uses_nftables() || (major, minor) >= (5, 13) {
        return vec![];
    }
    vec![Verdict::error(
        format!("has kernel {}, and kube-proxy's nftables mode needs 5.13", s.facts.kernel),
        "a newer kernel, or set kube_proxy.config.mode: iptables",
    )]
}

fn memory(s: &Subject<'_>) -> Vec<Verdict> {
    let (least, wise) = match s.node.is(Role::ControlPlane) {
        true => (1000 * MIB, 1700 * MIB),
        false => (400 * MIB, 900 * MIB),
    };
    let text = format!("has {} MiB of memory", s.facts.memory / MIB);
    match s.facts.memory {
        have if have < least => vec![Verdict::error(text, format!("{} MiB at least", least / MIB))],
        have if have < wise => {
            vec![Verdict::warning(text, format!("{} MiB and more are advised", wise / MIB))]
        }
        _ => vec![],
    }
}

/// kubeadm asks for two on control planes (`preflight/checks.go`).
fn processors(s: &Subject<'_>) -> Vec<Verdict> {
    match s.facts.cpus {
        1 if s.node.is(Role::ControlPlane) => {
            vec![Verdict::warning("has one processor", "2 and more are advised for a control plane")]
        }
        _ => vec![],
    }
}

fn swap(s: &Subject<'_>) -> Vec<Verdict> {
    if !s.facts.swap || is_set(s, "failSwapOn", &false.into()) {
        return vec![];
    }
    vec![Verdict::error(
        "swap is on, and the kubelet refuses to start",
        "swapoff -a and out of /etc/fstab, or kubelet.config.failSwapOn: false",
    )]
}

/// It looks at these when it starts, so that one that runs may have been there before them.
fn kubelet_starts(s: &Subject<'_>) -> Vec<Verdict> {
    match s.node.is_kubernetes() {
        true => swap(s).into_iter().chain(cgroups(s)).collect(),
        false => vec![],
    }
}

fn is_missing(s: &Subject<'_>, tool: &str) -> bool {
    s.facts.missing.iter().any(|t| t == tool)
}

/// What scripts of ours call beside coreutils; `facts.sh` looks for them.
const TOOLS: &str = "tar gzip sha256sum mount ip ss awk sed grep find sysctl timeout setsid flock";

/// Of a containerd that we did not install: the same scripts ask it with its own client.
const CLIENT: &str = "ctr";

fn tools(s: &Subject<'_>) -> Vec<Verdict> {
    let client = (s.cluster.runtime.install == RuntimeInstall::Existing).then_some(CLIENT);
    let gone: Vec<&str> = TOOLS.split_whitespace().chain(client).filter(|t| is_missing(s, t)).collect();
    match gone.is_empty() {
        true => vec![],
        false => vec![Verdict::error(
            format!("lacks {}", gone.join(", ")),
            "install them with the host's package manager",
        )],
    }
}

fn download(s: &Subject<'_>) -> Vec<Verdict> {
    if !(is_missing(s, "curl") && is_missing(s, "wget")) {
        return vec![];
    }
    vec![Verdict::error("has neither curl nor wget", "install one with the host's package manager")]
}

/// The plugin `bridge` cannot come up without; another plugin may bring its own.
fn packet_filter(s: &Subject<'_>) -> Vec<Verdict> {
    if !(s.node.is_kubernetes() && is_missing(s, "nft") && is_missing(s, "iptables")) {
        return vec![];
    }
    match s.cluster.network.plugin {
        NetworkPlugin::Bridge => vec![Verdict::error(
            "has neither nft nor iptables, one of which the network plugin bridge needs",
            "install nftables, or set network.plugin: manifests",
        )],
        NetworkPlugin::Manifests(_) | NetworkPlugin::None => vec![Verdict::warning(
            "has neither nft nor iptables: pods may not reach beyond the cluster",
            "install nftables",
        )],
    }
}

fn runtime(s: &Subject<'_>) -> Vec<Verdict> {
    let Some(found) = &s.facts.containerd else {
        return match s.cluster.runtime.install {
            RuntimeInstall::Existing => {
                vec![Verdict::error(
                    "has no containerd",
                    format!("install it{}", or_set(s, ", or set container_runtime.install: upstream")),
                )]
            }
            RuntimeInstall::Upstream => vec![],
        };
    };
    let kubernetes = s.cluster.release.kubernetes;
    let least = s.cluster.release.min_containerd;
    match s.cluster.runtime.install {
        RuntimeInstall::Existing if s.facts.containerd_version().is_none_or(|v| v < least) => {
            vec![Verdict::error(
                format!("has containerd {found}, and Kubernetes {kubernetes} needs {least}"),
                format!(
                    "install a newer one{}",
                    or_set(s, "; or remove it from the host, and set container_runtime.install: upstream")
                ),
            )]
        }
        RuntimeInstall::Upstream if !ownership::is_prepared(s.facts) => vec![Verdict::error(
            format!("has containerd {found}, which ours would displace with all that runs in it"),
            format!("remove it from the host{}", or_set(s, ", or set container_runtime.install: existing")),
        )],
        RuntimeInstall::Existing if !s.facts.containerd_version().is_some_and(pins_pause) => {
            vec![Verdict::warning(
                format!(
                    "has containerd {found}, of which the kubelet may remove the pause image when the disk fills"
                ),
                "install 1.6.30, 1.7.14 or newer",
            )]
        }
        RuntimeInstall::Existing | RuntimeInstall::Upstream => vec![],
    }
}

/// What the inventory may say instead, where it still may: see [`settled::runtime`].
fn or_set<'t>(s: &Subject<'_>, text: &'t str) -> &'t str {
    if s.built { "" } else { text }
}

/// `up` would put new programs on all hosts at once, which is no upgrade.
fn version(s: &Subject<'_>) -> Vec<Verdict> {
    match kubernetes_version(s) {
        verdicts if verdicts.is_empty() => etcd_version(s).into_iter().collect(),
        verdicts => verdicts,
    }
}

fn kubernetes_version(s: &Subject<'_>) -> Vec<Verdict> {
    let wanted = s.cluster.release.kubernetes;
    let other = settled::other_kubernetes(s.cluster, s.facts).map(|found| {
        Verdict::error(
            format!("has Kubernetes {found}, and the inventory says {wanted}"),
            format!("upgrading is not what `up` does: set kubernetes_version: {found}"),
        )
    });
    other.into_iter().collect()
}

/// A member with another image would restart with it like with any new setting, which is no upgrade either.
fn etcd_version(s: &Subject<'_>) -> Option<Verdict> {
    let found = upgrade::other_version(s.cluster, s.facts)?;
    let wanted = s.cluster.release.etcd;
    Some(Verdict::error(
        format!("has etcd {found}, and the inventory says {wanted}"),
        upgrade::way_out(s.cluster, found),
    ))
}

/// Another cluster's state is never taken over and never deleted.
fn other_cluster(s: &Subject<'_>) -> Vec<Verdict> {
    let help = "take the host out of this inventory, or `rsadm reset` it with the inventory of that cluster, which deletes what it has of \
                that";
    ownership::foreign(s.cluster, s.facts).into_iter().map(|text| Verdict::error(text, help)).collect()
}

/// Nor is what somebody built without rsadm.
fn strangers(s: &Subject<'_>) -> Vec<Verdict> {
    let help = |stranger: &Stranger<'_>| match stranger {
        Stranger::Data(_) => "move it away if it is of no use; rsadm never deletes it".to_owned(),
        Stranger::File(_) | Stranger::Kubelet => format!(
            "`kubeadm reset`, or what its installer has for that, if that cluster is given up{}",
            ownership::schedule_alone(s.cluster)
        ),
    };
    ownership::strangers(s.facts).iter().map(|found| Verdict::error(found.to_string(), help(found))).collect()
}

/// Ports that the host's own programs listen on, and the name of each as the kernel has it, at most 15 bytes.
fn wanted_ports(s: &Subject<'_>) -> Vec<(u16, &'static str)> {
    let node = s.node;
    let mut ports = vec![(layout::KUBELET_PORT, "kubelet"), (layout::KUBELET_HEALTH_PORT, "kubelet")];
    if node.is(Role::Etcd) {
        ports.extend(
            [layout::ETCD_CLIENT_PORT, layout::ETCD_PEER_PORT, layout::ETCD_METRICS_PORT]
                .map(|p| (p, "etcd")),
        );
    }
    if node.is(Role::ControlPlane) {
        ports.extend([
            (s.cluster.api.port, "kube-apiserver"),
            (layout::CONTROLLER_MANAGER_PORT, "kube-controller"),
            (layout::SCHEDULER_PORT, "kube-scheduler"),
        ]);
    } else if node.is(Role::Worker) && s.cluster.load_balancer == LoadBalancer::NodeLocal {
        ports.extend([(s.cluster.api.port, "haproxy"), (layout::HAPROXY_HEALTH_PORT, "haproxy")]);
    }
    if node.is_kubernetes() && s.cluster.kube_proxy.enabled {
        ports.push((layout::KUBE_PROXY_METRICS_PORT, "kube-proxy"));
    }
    ports
}

fn ports(s: &Subject<'_>) -> Vec<Verdict> {
    // A program to stop is another thing than what its kubelet starts again.
    if let Some((text, help)) = settled::nodes::former_role(s.node, s.facts) {
        return vec![Verdict::error(text, help)];
    }
    wanted_ports(s)
        .into_iter()
        .filter_map(|(port, owner)| {
            // A listener of our own, of a preflight that was killed, ends by itself within seconds. Once it was called it
            // is the `sleep` of `probe.sh`, which opens no port itself.
            let others = |found: &&String| {
                *found != owner && *found != "sleep" && !found.starts_with("systemd-socket-")
            };
            let found = s.facts.ports.get(&port).filter(others)?;
            let (by, way_out) = match found.as_str() {
                "-" => ("a program that does not show".to_owned(), "free it".to_owned()),
                name => (name.to_owned(), format!("stop {name}")),
            };
            Some(Verdict::error(
                format!("port {port} is taken by {by}"),
                format!("{owner} needs it: {way_out}"),
            ))
        })
        .collect()
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
