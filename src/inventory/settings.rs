//! The settings of a cluster, one type a section of the inventory, all defaults filled in.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{layout, secret::Secret, versions::Version};

/// How strictly an SSH host key is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostKeyCheck {
    /// Only keys in known_hosts. The default.
    Strict,
    /// Unknown keys are accepted and kept, changed ones refused.
    AcceptNew,
}

/// How one host is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// Login user.
    pub user: String,
    /// TCP port.
    pub port: u16,
    /// Private key file, `~` expanded; without it ssh's own defaults and agent apply.
    pub key_path: Option<PathBuf>,
    /// known_hosts file, `~` expanded; without it ssh's own.
    pub known_hosts_path: Option<PathBuf>,
    /// Whether commands run through sudo. False only for root.
    pub become_root: bool,
    /// Host key policy.
    pub host_key_check: HostKeyCheck,
    /// A jump host, `[user@]address[:port]`.
    pub bastion: Option<String>,
    /// For how long a connection that nobody uses waits for the next run; zero: it ends with the run.
    pub control_persist: Duration,
}

/// Where clients dial the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// A DNS name or an address.
    pub host: String,
    /// TCP port of the API servers (and of the local load balancers).
    pub port: u16,
    /// Further names and addresses for the serving certificate.
    pub alternative_names: Vec<String>,
}

/// How a worker finds a live API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadBalancer {
    /// haproxy on each worker's loopback, over all control planes.
    NodeLocal,
    /// Somebody else's at `api.host`.
    External,
    /// The first control plane alone; for one control plane only.
    None,
}

/// etcd's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// Another version than the one that goes with Kubernetes.
    pub version: Option<Version>,
    /// `--heartbeat-interval`.
    pub heartbeat_interval: Duration,
    /// `--election-timeout`.
    pub election_timeout: Duration,
    /// `--quota-backend-bytes`.
    pub quota_backend_bytes: u64,
    /// `--auto-compaction-retention`, periodic; zero switches it off (the API server compacts by itself).
    pub auto_compaction: Duration,
    /// Laid over our flags, without the leading dashes.
    pub extra_args: BTreeMap<String, String>,
    /// Snapshots on a schedule; none without it.
    pub backup: Option<Backup>,
}

/// Snapshots that the etcd hosts take by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// How often.
    pub interval: Duration,
    /// What is kept.
    pub retention: Retention,
    /// An absolute folder of the etcd hosts, or the URL of a bucket: `s3://`, `gs://`, `az://`.
    pub target: String,
    /// Where an S3 that is not Amazon's is.
    pub endpoint: Option<String>,
    /// The bucket's region.
    pub region: Option<String>,
    /// A file of the workstation with the bucket's credentials, `~` expanded.
    pub credentials: Option<PathBuf>,
    /// To whom snapshots are encrypted, with the keys of the cluster in them: `age1…`.
    pub recipient: Option<String>,
}

impl Backup {
    /// The names of [`Backup::settings`].
    pub const PLAIN: [&str; 3] = ["aws_endpoint", "aws_region", "aws_allow_http"];

    /// Settings of the bucket that are no secrets, by the names that its builders take.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let is_plain = self.endpoint.as_ref().is_some_and(|url| url.starts_with("http://"));
        let values = [self.endpoint.clone(), self.region.clone(), is_plain.then(|| "true".to_owned())];
        let settings = Self::PLAIN.into_iter().zip(values);
        settings.filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }

    /// The folder around the snapshots that a reset removes with all that is in it. They are there for when a cluster is not
    /// any more.
    pub fn removed_by_reset(&self) -> Option<&'static str> {
        let is_in = |folder: &str| Path::new(&self.target).starts_with(folder);
        let removed = layout::FOOTPRINT.iter().chain(layout::RUNTIME_FOOTPRINT).chain([&layout::RSADM_DIR]);
        removed.copied().find(|folder| is_in(folder) && !is_in(layout::BACKUP_DIR))
    }
}

/// A program of this rsadm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// The architecture that it is for, as `uname -m` has it.
    pub arch: String,
    /// Its bytes. They are no secret, but nobody wants to see them either.
    pub data: Secret,
}

/// What is kept of snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retention {
    /// The newest so many.
    Count(u64),
    /// Those not older than so many seconds.
    Seconds(u64),
}

/// What gives pods their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkPlugin {
    /// The reference `bridge` plugin and one route per node.
    Bridge,
    /// Manifests (files or URLs) that are applied once the API serves.
    Manifests(Vec<String>),
    /// Nothing: nodes stay NotReady until the operator brings one.
    None,
}

/// The cluster's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The plugin.
    pub plugin: NetworkPlugin,
    /// Pods' addresses; every node gets one /24 of it.
    pub pod_subnet: Ipv4Net,
    /// Services' addresses; the first is the API's, the tenth the DNS's.
    pub service_subnet: Ipv4Net,
    /// The DNS domain.
    pub cluster_domain: String,
}

impl Network {
    /// The API's address inside the cluster: the first of the service subnet.
    pub fn api_service_ip(&self) -> Ipv4Addr {
        self.nth_service_ip(1)
    }

    /// The cluster DNS's address: the tenth of the service subnet, as kubeadm has it.
    pub fn dns_service_ip(&self) -> Ipv4Addr {
        self.nth_service_ip(10)
    }

    fn nth_service_ip(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.service_subnet.network()) + n)
    }

    /// How many nodes the pod subnet has room for, one /24 each.
    pub fn node_subnets(&self) -> u32 {
        1u32.checked_shl(u32::from(24u8.saturating_sub(self.pod_subnet.prefix_len()))).unwrap_or(u32::MAX)
    }

    /// The `n`th /24 of the pod subnet, counted from zero.
    pub fn node_subnet(&self, n: u32) -> Ipv4Net {
        let base = u32::from(self.pod_subnet.network()) + n * 256;
        Ipv4Net::new_assert(Ipv4Addr::from(base), 24)
    }

    /// Which of them `subnet` is: what [`node_subnet`](Self::node_subnet) makes it from.
    pub fn number_of(&self, subnet: Ipv4Net) -> Option<u32> {
        let offset = u32::from(subnet.network()).checked_sub(u32::from(self.pod_subnet.network()))?;
        let number = offset / 256;
        (number < self.node_subnets() && self.node_subnet(number) == subnet).then_some(number)
    }
}

/// Where programs and images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifacts {
    /// A mirror laid out as `HOST/PATH` of the upstream sites; ends without a slash. Without it, the sites themselves.
    pub base_url: Option<String>,
    /// Upstream registry host → mirror URL.
    pub registry_mirrors: BTreeMap<String, String>,
}

impl Artifacts {
    /// Where a file of an upstream site is downloaded from, such as `dl.k8s.io/release/v1.37.2/bin/linux/amd64/kubelet`.
    pub fn url(&self, source: &str) -> String {
        match &self.base_url {
            Some(mirror) => format!("{mirror}/{source}"),
            None => format!("https://{source}"),
        }
    }
}

/// Who installs containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuntimeInstall {
    /// We do: containerd, runc and CNI plugins from the artifacts.
    Upstream,
    /// The host has it; we configure it.
    Existing,
}

/// The container runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Who installs it.
    pub install: RuntimeInstall,
    /// containerd's setting of that name, for hosts that lack CAP_SYS_RESOURCE.
    pub restrict_oom_score_adj: bool,
}

/// Flags laid over ours, and fields of a component's own file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Component {
    /// Flag name without dashes → value.
    pub extra_args: BTreeMap<String, String>,
    /// Fields laid over the kubelet's configuration file, or over that of the API servers' authentication; merged deeply.
    pub config: Map<String, Value>,
}

/// kube-proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct KubeProxy {
    /// False where the network plugin does its work, as Cilium can.
    pub enabled: bool,
    /// Fields laid over its configuration file, merged deeply.
    pub config: Map<String, Value>,
}

impl KubeProxy {
    /// Whether it has rules in nftables, its mode unless the inventory says otherwise.
    pub fn uses_nftables(&self) -> bool {
        self.enabled && self.config.get("mode").is_none_or(|mode| mode == "nftables")
    }
}

impl Default for KubeProxy {
    fn default() -> Self {
        Self { enabled: true, config: Map::new() }
    }
}

/// How disruptive changes go over the workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeStrategy {
    /// How many workers may be out at once; at least one.
    pub max_unavailable_workers: usize,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// Seconds that a pod gets to stop.
    pub drain_grace_period: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_pod_subnet_have_numbers() {
        for (pods, last) in [("10.0.0.0/8", 65_535), ("10.244.0.0/16", 255), ("10.244.8.0/24", 0)] {
            let pod_subnet = pods.parse().unwrap();
            let network = Network {
                plugin: NetworkPlugin::Bridge,
                pod_subnet,
                service_subnet: "172.16.0.0/16".parse().unwrap(),
                cluster_domain: "cluster.local".to_owned(),
            };
            assert_eq!(network.node_subnets(), last + 1, "{pods}");
            for n in [0, last / 2, last] {
                assert_eq!(network.number_of(network.node_subnet(n)), Some(n), "{pods}");
            }
            for other in ["9.255.255.0/24", "11.0.0.0/24", "10.244.8.0/25", "10.244.8.1/24"] {
                assert_eq!(network.number_of(other.parse().unwrap()), None, "{other} of {pods}");
            }
        }
    }
}
