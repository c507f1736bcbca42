//! One etcd member as a static pod, on control planes and on hosts of its own alike.
//!
//! Flags are kubeadm's (`phases/etcd/local.go`) plus what a cluster for years needs: both corruption checks (off by
//! default in etcd), an explicit quota and timeouts from the inventory, and TLS 1.3, since every client is ours. Probes
//! ask `/livez` and `/readyz`, never `/health`, which a full disk quota turns red (etcd#14497); and the startup probe
//! asks `/livez`, since a member that waits for its quorum is alive: killing it every four minutes would not bring it.
//!
//! CIS 1.1.12 wants the data folder to be `etcd:etcd`. The process stays root, because the keys it reads are root's
//! with mode 0600 (1.1.19, 1.1.21), so it gets `DAC_OVERRIDE`, the one capability to write into another user's folder,
//! and no other.

use std::{collections::BTreeMap, fmt, time::Duration};

use k8s_openapi::api::core::v1::Pod;

use crate::{
    inventory::{Cluster, Node, NodeName},
    layout,
};

use super::{
    flags,
    static_pod::{Health, Mount, StaticPod},
};

/// Whether a member founds a cluster or joins one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    /// Founds it, together with the others of the list.
    New,
    /// Joins it.
    Existing,
}

impl fmt::Display for InitialState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Existing => "existing",
        })
    }
}

/// What a member reads at its very first start only: the membership of that moment.
///
/// It never follows later changes of the membership, since changing it would restart the member for nothing. So what a
/// host has is read back with [`EtcdStart::of_manifest`] and written again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdStart {
    /// Every member by name and peer URL, itself among them.
    pub members: Vec<(NodeName, String)>,
    /// Founder or not. A manifest that says `new` lets a wiped data folder boot as a cluster of its own.
    pub state: InitialState,
    /// Tells clusters apart whose members have the same names and addresses.
    pub token: String,
}

impl EtcdStart {
    /// What the manifest on a host says, or `None` where it is not one of ours or kubeadm's.
    pub fn of_manifest(yaml: &str) -> Option<Self> {
        let flag = |name: &str| flag_in(yaml, name);
        let members = flag("initial-cluster")?.split(',').map(|member| {
            let (name, url) = member.split_once('=')?;
            Some((NodeName::new(name), url.to_owned()))
        });
        Some(Self {
            members: members.collect::<Option<_>>()?,
            // kubeadm writes neither for the first member; these are etcd's defaults.
            state: match flag("initial-cluster-state") {
                Some("existing") => InitialState::Existing,
                _ => InitialState::New,
            },
            token: flag("initial-cluster-token").unwrap_or("etcd-cluster").to_owned(),
        })
    }

    fn initial_cluster(&self) -> String {
        let members: Vec<_> = self.members.iter().map(|(name, url)| format!("{name}={url}")).collect();
        members.join(",")
    }
}

/// The value of a flag in a manifest of etcd's, ours or kubeadm's.
pub fn flag_in<'y>(yaml: &'y str, name: &str) -> Option<&'y str> {
    let value = |line: &'y str| line.trim_start_matches([' ', '-']).strip_prefix(name)?.strip_prefix('=');
    yaml.lines().find_map(value)
}

/// Flags by name that say nothing of the host and its place in the cluster: timing, quota, metrics, and whatever else somebody
/// has set.
pub type EtcdSettings = BTreeMap<String, String>;

/// Whether a flag is a member's own: who and where it is, what it began with and its certificates.
pub fn is_members_own(flag: &str) -> bool {
    const OWN: [&str; 14] = [
        "advertise-client-urls",
        "cert-file",
        "client-cert-auth",
        "data-dir",
        "key-file",
        "listen-client-urls",
        "listen-peer-urls",
        "name",
        "peer-cert-file",
        "peer-client-cert-auth",
        "peer-key-file",
        "peer-trusted-ca-file",
        "trusted-ca-file",
        "wal-dir",
    ];
    OWN.contains(&flag) || ["initial-", "discovery", "force-new-"].iter().any(|word| flag.starts_with(word))
}

/// The etcd member of `node`, with the inventory's settings, or with those of `others`, where somebody else built them.
pub fn etcd_pod(
    cluster: &Cluster,
    node: &Node,
    start: &EtcdStart,
    revision: &str,
    others: Option<&EtcdSettings>,
) -> Pod {
    let mut base = own_flags(node, start);
    match others {
        Some(others) => base.extend(others.iter().map(|(flag, value)| (flag.as_str(), value.clone()))),
        None => base.extend(settings(cluster)),
    }
    let mut command = vec!["etcd".to_owned()];
    command.extend(flags(&base, &cluster.etcd.extra_args));
    let advertised = ("kubeadm.kubernetes.io/etcd.advertise-client-urls".to_owned(), node.client_url());
    StaticPod {
        name: "etcd",
        tier: "control-plane",
        annotations: BTreeMap::from([advertised]),
        image: cluster.release.etcd_image(),
        command,
        revision,
        requests: &[("cpu", "100m"), ("memory", "100Mi")],
        mounts: vec![
            Mount::writable_folder("etcd-data", layout::ETCD_DATA_DIR),
            Mount::folder("etcd-certs", layout::ETCD_PKI_DIR),
        ],
        health: Health {
            scheme: "HTTP",
            host: "127.0.0.1".to_owned(),
            port: layout::ETCD_METRICS_PORT,
            live: "/livez",
            ready: Some("/readyz"),
        },
        capabilities: &["DAC_OVERRIDE"],
        user: None,
    }
    .build()
}

/// What [`is_members_own`].
fn own_flags(node: &Node, start: &EtcdStart) -> Vec<(&'static str, String)> {
    let pki = |file: &str| format!("{}/{file}", layout::ETCD_PKI_DIR);
    vec![
        ("advertise-client-urls", node.client_url()),
        ("cert-file", pki("server.crt")),
        ("client-cert-auth", "true".to_owned()),
        ("data-dir", layout::ETCD_DATA_DIR.to_owned()),
        ("initial-advertise-peer-urls", node.peer_url()),
        ("initial-cluster", start.initial_cluster()),
        ("initial-cluster-state", start.state.to_string()),
        ("initial-cluster-token", start.token.clone()),
        ("key-file", pki("server.key")),
        (
            "listen-client-urls",
            format!("https://127.0.0.1:{},{}", layout::ETCD_CLIENT_PORT, node.client_url()),
        ),
        ("listen-peer-urls", node.peer_url()),
        ("name", node.name.to_string()),
        ("peer-cert-file", pki("peer.crt")),
        ("peer-client-cert-auth", "true".to_owned()),
        ("peer-key-file", pki("peer.key")),
        ("peer-trusted-ca-file", pki("ca.crt")),
        ("trusted-ca-file", pki("ca.crt")),
    ]
}

fn settings(cluster: &Cluster) -> Vec<(&'static str, String)> {
    let etcd = &cluster.etcd;
    let mut flags = vec![
        ("election-timeout", etcd.election_timeout.as_millis().to_string()),
        ("feature-gates", "InitialCorruptCheck=true,CompactHashCheck=true".to_owned()),
        ("heartbeat-interval", etcd.heartbeat_interval.as_millis().to_string()),
        ("listen-metrics-urls", format!("http://127.0.0.1:{}", layout::ETCD_METRICS_PORT)),
        ("quota-backend-bytes", etcd.quota_backend_bytes.to_string()),
        ("snapshot-count", "10000".to_owned()),
        ("strict-reconfig-check", "true".to_owned()),
        ("tls-min-version", "TLS1.3".to_owned()),
        ("watch-progress-notify-interval", "5s".to_owned()),
    ];
    if etcd.auto_compaction > Duration::ZERO {
        flags.push(("auto-compaction-mode", "periodic".to_owned()));
        flags.push(("auto-compaction-retention", format!("{}s", etcd.auto_compaction.as_secs())));
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::{testing, to_yaml};

    fn yaml(cluster: &Cluster, name: &str, state: InitialState) -> String {
        let node = testing::node(cluster, name);
        to_yaml("etcd", &etcd_pod(cluster, node, &testing::etcd_start(cluster, state), "0123abcd", None))
            .unwrap()
    }

    #[test]
    fn golden() {
        testing::golden("single/etcd.yaml", &yaml(&testing::single(), "m1", InitialState::New));
        testing::golden("ha/etcd-m2.yaml", &yaml(&testing::ha(), "m2", InitialState::New));
        testing::golden(
            "external-etcd/etcd-e1.yaml",
            &yaml(&testing::external_etcd(), "e1", InitialState::Existing),
        );
    }

    #[test]
    fn the_start_is_read_back_from_the_manifest() {
        for state in [InitialState::New, InitialState::Existing] {
            let cluster = testing::ha();
            let start = testing::etcd_start(&cluster, state);
            assert_eq!(EtcdStart::of_manifest(&yaml(&cluster, "m3", state)), Some(start));
        }
        assert_eq!(EtcdStart::of_manifest("kind: Pod\n"), None);
        let kubeadm = "    - --initial-advertise-peer-urls=https://10.0.0.1:2380\n    - --initial-cluster=m1=https://10.0.0.1:2380\n";
        let start = EtcdStart::of_manifest(kubeadm).unwrap();
        assert_eq!((start.state, start.token.as_str()), (InitialState::New, "etcd-cluster"));
        assert_eq!(start.members, [(NodeName::new("m1"), "https://10.0.0.1:2380".to_owned())]);
    }

    #[test]
    fn the_inventorys_flags_win_and_compaction_can_be_off() {
        let mut cluster = testing::single();
        cluster.etcd.extra_args.insert("snapshot-count".to_owned(), "5000".to_owned());
        cluster.etcd.auto_compaction = Duration::ZERO;
        let yaml = yaml(&cluster, "m1", InitialState::New);
        assert!(yaml.contains("--snapshot-count=5000\n") && !yaml.contains("10000"), "{yaml}");
        assert!(!yaml.contains("auto-compaction"), "{yaml}");
    }
}
