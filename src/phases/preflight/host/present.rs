//! What is on the host already: another version, another cluster's state, what somebody built, and who listens.

use super::Subject;
use crate::{
    inventory::{LoadBalancer, Role},
    layout,
    phases::{
        etcd::upgrade,
        ownership::{self, Stranger},
        preflight::Verdict,
        settled,
        workers::HAPROXY,
    },
};

/// `up` would put new programs on all hosts at once, which is no upgrade.
pub(super) fn version(s: &Subject<'_>) -> Vec<Verdict> {
    match kubernetes_version(s) {
        verdicts if verdicts.is_empty() => etcd_version(s).into_iter().collect(),
        verdicts => verdicts,
    }
}

pub(super) fn kubernetes_version(s: &Subject<'_>) -> Vec<Verdict> {
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
pub(super) fn other_cluster(s: &Subject<'_>) -> Vec<Verdict> {
    let help = "take the host out of this inventory, or `rsadm reset` it with the inventory of that cluster, which deletes what it has of \
                that";
    ownership::foreign(s.cluster, s.facts).into_iter().map(|text| Verdict::error(text, help)).collect()
}

/// Nor is what somebody built without rsadm.
pub(super) fn strangers(s: &Subject<'_>) -> Vec<Verdict> {
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
        ports.extend([(s.cluster.api.port, HAPROXY), (layout::HAPROXY_HEALTH_PORT, HAPROXY)]);
    }
    if node.is_kubernetes() && s.cluster.kube_proxy.enabled {
        ports.push((layout::KUBE_PROXY_METRICS_PORT, "kube-proxy"));
    }
    ports
}

pub(super) fn ports(s: &Subject<'_>) -> Vec<Verdict> {
    // A program to stop is another thing than what its kubelet starts again.
    if let Some((text, help)) = settled::nodes::former_role(s.node, s.facts) {
        return vec![Verdict::error(text, help)];
    }
    wanted_ports(s)
        .into_iter()
        .filter_map(|(port, owner)| {
            // A listener of our own, of a preflight that was killed, ends within seconds of its shell. Once it was called it
            // is the `sleep` of `probe.sh`, which opens no port itself.
            // Ours the facts tell as a process, by its files; one of the host's own they do not.
            let is_ours = |found: &str| found == owner && (owner != HAPROXY || s.facts.runs(HAPROXY));
            let others = |found: &&String| {
                !is_ours(found) && *found != "sleep" && !found.starts_with("systemd-socket-")
            };
            let found = s.facts.ports.get(&port).filter(others)?;
            // Ours listens on loopback alone, and the facts do not tell on which address that one does.
            if found == HAPROXY && owner == HAPROXY {
                return Some(Verdict::warning(
                    format!("port {port} is taken by a haproxy of the host's own"),
                    "ours needs it on 127.0.0.1: where that one listens there, too, stop that",
                ));
            }
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
