//! Programs that have to be there before ours come.

use super::Subject;
use crate::{
    inventory::{NetworkPlugin, RuntimeInstall},
    phases::{ownership, preflight::Verdict},
    versions::pins_pause,
};

fn is_missing(s: &Subject<'_>, tool: &str) -> bool {
    s.facts.missing.iter().any(|t| t == tool)
}

/// What scripts of ours call beside coreutils; `facts.sh` looks for them.
const TOOLS: &str = "tar gzip sha256sum mount ip ss awk sed grep find sysctl timeout setsid flock";

/// Of a containerd that we did not install: the same scripts ask it with its own client.
const CLIENT: &str = "ctr";

pub(super) fn tools(s: &Subject<'_>) -> Vec<Verdict> {
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

pub(super) fn download(s: &Subject<'_>) -> Vec<Verdict> {
    if !(is_missing(s, "curl") && is_missing(s, "wget")) {
        return vec![];
    }
    vec![Verdict::error("has neither curl nor wget", "install one with the host's package manager")]
}

/// The plugin `bridge` cannot come up without; another plugin may bring its own.
pub(super) fn packet_filter(s: &Subject<'_>) -> Vec<Verdict> {
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

pub(super) fn runtime(s: &Subject<'_>) -> Vec<Verdict> {
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

/// What the inventory may say instead, where it still may: see [`settled::runtime`](crate::phases::settled::runtime).
fn or_set<'t>(s: &Subject<'_>, text: &'t str) -> &'t str {
    if s.built { "" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifests::testing, observe::Facts, phases::preflight::host::tests::well};

    /// `settled::runtime` takes no other value there.
    #[test]
    fn of_hosts_that_are_built_nobody_is_sent_to_another_value() {
        let mut cluster = testing::ha();
        for (install, found) in [
            (RuntimeInstall::Existing, None),
            (RuntimeInstall::Existing, Some("1.0.0")),
            (RuntimeInstall::Upstream, Some("2.1.4")),
        ] {
            cluster.runtime.install = install;
            for built in [false, true] {
                let node = &cluster.nodes[0];
                let facts = Facts { containerd: found.map(str::to_owned), ..well(node) };
                let subject = Subject { cluster: &cluster, node, facts: &facts, remarks: true, built };
                let [Verdict::Error(_, help)] = &runtime(&subject)[..] else {
                    panic!("{install:?} {found:?}")
                };
                assert_eq!(help.contains("container_runtime.install"), !built, "{help}");
            }
        }
    }
}
