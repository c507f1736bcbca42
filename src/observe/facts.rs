//! What one host says of itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::wal;
use crate::{layout, versions::Version};

/// A file on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFact {
    /// Permission bits.
    pub mode: u32,
    /// `uid:gid`; of etcd's data folder `user:group`, see [`crate::layout::owner_of`].
    pub owner: String,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
}

/// A process that matters here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFact {
    /// `comm`, at most 15 bytes.
    pub name: String,
    /// The inputs it was started with (see [`crate::layout::REVISION_VARIABLE`]); `None` if we did not start it.
    pub revision: Option<String>,
    /// Its `--etcd-servers`, for API servers.
    pub etcd_servers: Vec<String>,
}

/// A systemd unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitFact {
    /// `systemctl is-active` says `active`; and of a kubelet that rsadm installed, that it listens.
    pub active: bool,
    /// `systemctl is-enabled` says `enabled`.
    pub enabled: bool,
}

/// A program that we installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramFact {
    /// Where it came from; names the version.
    pub url: String,
    /// False where a file of it is not as we left it.
    pub kept: bool,
}

impl ProgramFact {
    /// The version that its address names, such as `v1.37.2`: the last, as a mirror may have a folder that reads like one.
    pub fn version(&self) -> Option<&str> {
        self.url.rsplit('/').find(|part| part.parse::<Version>().is_ok())
    }
}

/// A kubeconfig, without its key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeconfigFact {
    /// Whom it dials.
    pub server: String,
    /// The authority's certificate, base64 of PEM.
    pub ca: Option<String>,
    /// The client certificate, base64 of PEM.
    pub cert: Option<String>,
}

/// To which cluster a host belongs; written when etcd first served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `cluster_name`.
    pub cluster: String,
    /// etcd's cluster ID, hexadecimal.
    pub etcd_cluster_id: String,
    /// IDs of the clusters that this one took the place of, in a restore or a recovery: who still has their data missed
    /// it. The last is the one just before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<String>,
    /// IDs of the clusters whose snapshots it began with, where its hosts had none of their data: who has that missed it as well.
    /// It may be a drill beside them, so their snapshots are none of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restored_from: Vec<String>,
}

/// The kernel's module that has rules see the traffic of bridges.
pub const BRIDGE_FILTER: &str = "br_netfilter";

/// Its setting that pods need.
pub const BRIDGE_RULES: &str = "net.bridge.bridge-nf-call-iptables";

/// What stands in an identity while a restored cluster has no ID yet.
pub const RESTORED: &str = "restored";

impl Identity {
    /// That of the cluster `id`, which takes the place of those that hosts knew so far.
    #[must_use]
    pub fn after(cluster: &str, id: &str, before: &[Self]) -> Self {
        let mut replaces = Vec::new();
        let known = before.iter().flat_map(|i| i.replaces.iter().chain([&i.etcd_cluster_id]));
        for old in known.filter(|old| *old != id && *old != RESTORED) {
            replaces.retain(|r| r != old);
            replaces.push(old.clone());
        }
        let mut restored_from: Vec<String> = Vec::new();
        for of in before.iter().flat_map(|i| &i.restored_from) {
            if of != id && !replaces.contains(of) && !restored_from.contains(of) {
                restored_from.push(of.clone());
            }
        }
        Self { cluster: cluster.to_owned(), etcd_cluster_id: id.to_owned(), replaces, restored_from }
    }

    /// The IDs of all clusters whose data is old where this one is.
    pub fn in_place_of(&self) -> impl Iterator<Item = &String> {
        self.replaces.iter().chain(&self.restored_from)
    }
}

/// All facts of one host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// `uname -n`.
    pub hostname: String,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// What the firmware calls the machine; empty in containers, which share that of their host.
    pub product_uuid: String,
    /// Changes with each boot.
    pub boot_id: String,
    /// `uname -m`.
    pub arch: String,
    /// `uname -r`.
    pub kernel: String,
    /// ID and version of the distribution.
    pub os: String,
    /// Nanoseconds since 1970 by the host's clock.
    pub time: i128,
    /// The same by the clock of the workstation, when it asked.
    pub asked_at: i128,
    /// Processors.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// True where a swap device is on.
    pub swap: bool,
    /// systemd's version; `None` where it is not PID 1.
    pub systemd: Option<u32>,
    /// 1 or 2.
    pub cgroup: u8,
    /// cgroup controllers that are on.
    pub controllers: Vec<String>,
    /// Tools that are not there.
    pub missing: Vec<String>,
    /// Kernel features that are there now.
    pub features: Vec<String>,
    /// Kernel modules that could be loaded.
    pub loadable: Vec<String>,
    /// Free bytes by folder, of the nearest above it where it is not there yet.
    pub disk: BTreeMap<String, u64>,
    /// All bytes of the file systems of those folders.
    pub disk_size: BTreeMap<String, u64>,
    /// The host's addresses.
    pub addresses: Vec<IpAddr>,
    /// Listening TCP ports and who listens.
    pub ports: BTreeMap<u16, String>,
    /// containerd's version.
    pub containerd: Option<String>,
    /// Units by name, without `.service`.
    pub units: BTreeMap<String, UnitFact>,
    /// Processes of ours or like ours.
    pub processes: Vec<ProcessFact>,
    /// Files under the folders that rsadm and kubeadm use. One without a byte, or a key that ends early, is as good as none: a
    /// disk was full, or somebody emptied it.
    pub files: BTreeMap<String, FileFact>,
    /// Of [`files`](Self::files) those that rsadm wrote where an operator may have some, too: of registries' mirrors, and
    /// containerd's unit.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ours: BTreeSet<String>,
    /// Programs that a run which died was about to install, and has put something of in place.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub placing: BTreeSet<String>,
    /// Folders of Kubernetes in which root could not read without its privilege to go past modes: its containers lack that.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub shut: BTreeSet<String>,
    /// Certificates by path, base64 of DER (of the first in the file).
    pub certs: BTreeMap<String, String>,
    /// The public ends of private keys on P-256 by path ([`public_point`](crate::pki::inspect::public_point)).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, String>,
    /// Kubeconfigs by path.
    pub kubeconfigs: BTreeMap<String, KubeconfigFact>,
    /// True where `/var/lib/etcd/member` is there.
    pub etcd_data: bool,
    /// Bytes of the database in it.
    pub etcd_database: u64,
    /// Who wrote that data, where the host has no [`Identity`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_writer: Option<wal::Writer>,
    /// How many members the etcd that runs here knows, learners too; `None` where none runs.
    pub etcd_members: Option<usize>,
    /// True where the etcd that runs here says that it knows no leader.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub etcd_leaderless: bool,
    /// Which cluster the host belongs to.
    pub identity: Option<Identity>,
    /// The cluster that the host was prepared for, which a host knows before it has an [`Identity`].
    pub begun: Option<String>,
    /// The name of a restore that is not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restoring: Option<String>,
    /// The flags of etcd's manifest, a line each.
    pub etcd_manifest: Option<String>,
    /// The flags of a manifest of etcd's that was set aside there, a line each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_kept: Option<String>,
    /// The image that etcd's manifest names.
    pub etcd_image: Option<String>,
    /// Where etcd's manifest has data or log, if that is not `/var/lib/etcd` (kubeadm's `etcd.local.dataDir`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd_elsewhere: Option<String>,
    /// The part of the pod subnet that the host's pods have.
    pub pod_subnet: Option<Ipv4Net>,
    /// Parts of the pod subnet that the host has routes to, and by which address.
    pub pod_routes: BTreeMap<Ipv4Net, Ipv4Addr>,
    /// What of the cluster's network the host's files say, by the inventory's key ([`network_in`]).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub network: BTreeMap<String, String>,
    /// Where the kubelet's file has the cgroups of pods, by its own keys ([`cgroups_in`]).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cgroups: BTreeMap<String, String>,
    /// Where the host puts its scheduled snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_target: Option<String>,
    /// The resolver file that pods shall have, where it is not `/etc/resolv.conf`; empty where the host has none that names a
    /// server.
    pub resolv_conf: Option<String>,
    /// Of the kernel's settings those without which pods reach nobody, as they are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Programs by name.
    pub programs: BTreeMap<String, ProgramFact>,
    /// Images that containerd has.
    pub images: Vec<String>,
    /// True where it was too busy to tell all of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub images_untold: bool,
}

/// What a file of ours says of the cluster's network, by the key under `network` that it comes from in an inventory. The
/// subnet of pods is in the script of their routes, or in the controller manager's manifest where that gives it out.
pub fn network_in(path: &str, text: &str) -> Vec<(&'static str, String)> {
    const PLACES: [(&str, &str); 4] = [
        ("POD_SUBNET=", "pod_subnet"),
        ("- --cluster-cidr=", "pod_subnet"),
        ("- --service-cluster-ip-range=", "service_subnet"),
        ("clusterDomain: ", "cluster_domain"),
    ];
    let manifests = ["kube-apiserver", "kube-controller-manager"].map(layout::manifest_of);
    if ![layout::NETWORK_SCRIPT, layout::KUBELET_CONFIG].contains(&path)
        && !manifests.iter().any(|m| m == path)
    {
        return vec![];
    }
    let value = |line: &str| {
        let (start, key) = PLACES.into_iter().find(|(start, _)| line.starts_with(start))?;
        Some((key, line.strip_prefix(start)?.trim_matches(['"', '\'']).to_owned()))
    };
    text.lines().filter_map(|line| value(line.trim_start())).collect()
}

/// What the kubelet's configuration says of the cgroups of pods: `cgroupDriver`, `cgroupRoot`, `cgroupsPerQOS`.
pub fn cgroups_in(config: &str) -> BTreeMap<String, String> {
    let fields = config.lines().filter(|line| line.starts_with("cgroup")).filter_map(|l| l.split_once(": "));
    fields.map(|(key, value)| (key.to_owned(), value.trim_matches(['"', '\'', ' ']).to_owned())).collect()
}

/// The value of a setting in the text of a `sysctl.d` file.
pub fn setting_in<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let mut lines = text.lines().filter_map(|line| line.trim_start_matches('-').split_once(" = "));
    lines.find_map(|(name, value)| (name == key).then_some(value))
}

/// What stands in quotes behind these words.
pub fn quoted_after(words: &str, text: &str) -> Option<String> {
    let rest = text.split(words).nth(1)?.strip_prefix('"')?;
    rest.split('"').next().map(str::to_owned)
}

impl Facts {
    /// The revision that a running process was started with; `None` where it does not run (or not by us). A process of that
    /// name that somebody else has in the host's network says nothing of ours.
    pub fn running_revision(&self, process: &str) -> Option<&str> {
        let comm = process.get(..15).unwrap_or(process);
        self.processes.iter().filter(|p| p.name == comm).find_map(|p| p.revision.as_deref())
    }

    /// True where a process of that name runs, whoever started it.
    pub fn runs(&self, process: &str) -> bool {
        let comm = process.get(..15).unwrap_or(process);
        self.processes.iter().any(|p| p.name == comm)
    }

    /// Takes over what the script would read from a file with this text.
    pub fn learn_from(&mut self, path: &str, text: &str) {
        self.network.extend(network_in(path, text).into_iter().map(|(key, value)| (key.to_owned(), value)));
        if path == layout::KUBELET_CONFIG {
            self.cgroups = cgroups_in(text);
        } else if path == layout::BACKUP_CONFIG {
            self.backup_target = quoted_after("\"made\": ", text);
        } else if path == layout::CNI_CONFIG {
            self.pod_subnet = quoted_after("\"subnet\": ", text).and_then(|v| v.parse().ok());
        } else if path == layout::NETWORK_SCRIPT {
            self.pod_routes = crate::manifests::routes_of_script(text);
        } else if path == layout::ETCD_MANIFEST {
            let words = text.lines().filter_map(|line| line.trim_start().strip_prefix("- "));
            let flags = words.filter(|word| word.starts_with("--"));
            self.etcd_manifest = Some(flags.map(|flag| format!("{flag}\n")).collect());
            let image =
                text.lines().find_map(|l| l.trim_start().trim_start_matches("- ").strip_prefix("image: "));
            self.etcd_image = image.map(|image| image.trim_matches('"').to_owned());
        }
    }

    /// Whether rsadm installed this containerd, or was about to; not where its owner did.
    pub fn has_our_containerd(&self) -> bool {
        let name = "containerd";
        self.programs.contains_key(name)
            || self.placing.contains(name)
            || self.ours.contains(layout::CONTAINERD_UNIT)
    }

    /// containerd's version, where it reads as one.
    pub fn containerd_version(&self) -> Option<Version> {
        let text = self.containerd.as_deref()?;
        text.split(['~', '+', '-']).next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_url() {
        let kubelet = |version: &str| ProgramFact {
            url: format!("https://dl.k8s.io/release/{version}/bin/linux/amd64/kubelet"),
            kept: true,
        };
        assert_eq!(kubelet("v1.36.1").version(), Some("v1.36.1"));
        let mirror = "http://mirror/2026.11.1/dl.k8s.io/release/v1.36.1/bin/linux/amd64/kubelet";
        let mirrored = ProgramFact { url: mirror.into(), kept: true };
        assert_eq!(mirrored.version(), Some("v1.36.1"));
        let other = ProgramFact { url: "https://dl.k8s.io/kubelet".into(), kept: true };
        assert_eq!((kubelet("latest").version(), other.version()), (None, None));
    }
}
