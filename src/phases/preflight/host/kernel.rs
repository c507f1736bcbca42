//! What kubelets and containers ask of a kernel, and of how it was booted.

use super::Subject;
use crate::{observe::facts::BRIDGE_FILTER, phases::preflight::Verdict};

pub(super) fn cgroups(s: &Subject<'_>) -> Vec<Verdict> {
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
pub(super) fn features(s: &Subject<'_>) -> Vec<Verdict> {
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
pub(super) fn version(s: &Subject<'_>) -> Vec<Verdict> {
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

pub(super) fn swap(s: &Subject<'_>) -> Vec<Verdict> {
    if !s.facts.swap || is_set(s, "failSwapOn", &false.into()) {
        return vec![];
    }
    vec![Verdict::error(
        "swap is on, and the kubelet refuses to start",
        "swapoff -a and out of /etc/fstab, or kubelet.config.failSwapOn: false",
    )]
}

/// It looks at these when it starts, so that one that runs may have been there before them.
pub(super) fn kubelet_starts(s: &Subject<'_>) -> Vec<Verdict> {
    match s.node.is_kubernetes() {
        true => swap(s).into_iter().chain(cgroups(s)).collect(),
        false => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifests::testing, observe::Facts, phases::preflight::host::tests::well};

    #[test]
    fn a_host_of_etcd_alone_needs_no_filter_for_bridges() {
        let cluster = testing::external_etcd();
        for (name, findings) in [("e1", 0), ("w1", 1)] {
            let node = testing::node(&cluster, name);
            let facts = Facts { loadable: vec![], ..well(node) };
            let subject = Subject { cluster: &cluster, node, facts: &facts, remarks: true, built: false };
            assert_eq!(features(&subject).len(), findings, "{name}");
        }
    }
}
