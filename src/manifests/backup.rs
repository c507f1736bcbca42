//! What an etcd host needs to take snapshots by itself: settings for our own program, and a systemd timer.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    inventory::{Backup, Cluster, Node, Retention, Role},
    layout::{self, BACKUP_RUN_AT_LEAST},
};

/// A member as another host finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its host's name.
    pub name: String,
    /// The address that its certificate names.
    pub address: Ipv4Addr,
    /// True where bundles are wanted, and its host has not all keys that go into one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lacks_keys: bool,
}

/// What the timer's program reads. No secret is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupConfig {
    /// The cluster's name.
    pub cluster: String,
    /// Its Kubernetes version; `None` for etcd alone.
    pub kubernetes: Option<String>,
    /// This host.
    pub host: String,
    /// All members, this one included.
    pub members: Vec<Peer>,
    /// Seconds between two snapshots.
    pub interval: u64,
    /// What is kept.
    pub retention: Retention,
    /// A folder of this host, or the URL of a bucket.
    pub target: String,
    /// The target again, where it is a folder elsewhere than below ours, which `up` has made: gone, it is not made anew.
    #[serde(default)]
    pub made: Option<String>,
    /// Settings of the bucket that are no secrets.
    pub settings: BTreeMap<String, String>,
    /// To whom snapshots are encrypted, with the cluster's keys in them.
    pub recipient: Option<String>,
}

/// True for a folder that is not below ours.
pub fn is_elsewhere(target: &str) -> bool {
    !target.contains("://") && !Path::new(target).starts_with(layout::RSADM_DIR)
}

/// The settings of one host.
pub fn backup_config(cluster: &Cluster, node: &Node, backup: &Backup) -> BackupConfig {
    let bundles = backup.recipient.is_some() && cluster.has_kubernetes();
    let peer = |n: &Node| Peer {
        name: n.name.to_string(),
        address: n.internal_address,
        lacks_keys: bundles && !n.is(Role::ControlPlane),
    };
    BackupConfig {
        cluster: cluster.name.clone(),
        kubernetes: cluster.has_kubernetes().then(|| cluster.release.kubernetes.to_string()),
        host: node.name.to_string(),
        members: cluster.with_role(Role::Etcd).map(peer).collect(),
        interval: backup.interval.as_secs(),
        retention: backup.retention,
        target: backup.target.clone(),
        made: is_elsewhere(&backup.target).then(|| backup.target.clone()),
        settings: backup.settings(),
        recipient: backup.recipient.clone(),
    }
}

/// What none may take, however long the interval is.
const RUN_AT_MOST: Duration = Duration::from_secs(2 * 60 * 60);

/// The unit that takes one snapshot. The member's own disk and processor come first.
pub fn backup_service(backup: &Backup) -> String {
    // A run that hangs, as on a folder of another machine that is gone, keeps the timer from the next.
    let timeout = backup.interval.saturating_mul(3).clamp(BACKUP_RUN_AT_LEAST, RUN_AT_MOST).as_secs();
    format!(
        "# Written by rsadm.\n[Unit]\nDescription=Snapshot of etcd\nAfter=network-online.target\n\
         \n[Service]\nType=oneshot\nExecStart={} agent backup\nUMask=0077\nNice=10\nIOSchedulingClass=idle\n\
         TimeoutStartSec={timeout}s\n",
        layout::AGENT
    )
}

/// The timer: soon after it was set up, so that whoever did sees that it works, and after each boot, since how long ago the last
/// time was is forgotten by then; and from there at the interval. The program itself takes none after a boot where a young
/// one is there; but for that first run of a boot, whoever starts the service by hand gets one at once.
pub fn backup_timer(backup: &Backup) -> String {
    format!(
        "# Written by rsadm.\n[Timer]\nOnActiveSec=10s\nOnUnitActiveSec={}s\nAccuracySec=1s\n\
         \n[Install]\nWantedBy=timers.target\n",
        backup.interval.as_secs()
    )
}

/// A drop-in by which the loaded timer tells with which files it was loaded.
pub fn backup_timer_revision(mark: &str) -> String {
    format!("[Unit]\nDescription=Snapshots of etcd, {}={mark}\n", layout::REVISION_VARIABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_the_clusters_keys_is_told_from_one_that_has_them() {
        let mut cluster = crate::manifests::testing::ha();
        cluster.nodes[2].roles.retain(|role| *role == Role::Etcd);
        let lacking = |cluster: &Cluster, recipient: Option<&str>| -> Vec<bool> {
            let recipient = recipient.map(str::to_owned);
            let backup = Backup { recipient, ..crate::manifests::testing::backup() };
            let config = backup_config(cluster, &cluster.nodes[0], &backup);
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(json.contains("lacks_keys"), config.members.iter().any(|peer| peer.lacks_keys));
            config.members.iter().map(|peer| peer.lacks_keys).collect()
        };
        assert_eq!(lacking(&cluster, Some("age1…")), [false, false, true]);
        assert_eq!(lacking(&cluster, None), [false; 3], "a snapshot alone has no keys");
        cluster.nodes.retain(|n| n.is(Role::Etcd));
        cluster.nodes.iter_mut().for_each(|n| n.roles = [Role::Etcd].into());
        assert_eq!(lacking(&cluster, Some("age1…")), [false; 3], "etcd is all there is");
    }

    #[test]
    fn a_run_that_hangs_ends_after_some_intervals() {
        for (interval, timeout) in [(60, 900), (300, 900), (600, 1800), (6 * 3600, 7200)] {
            let backup =
                Backup { interval: Duration::from_secs(interval), ..crate::manifests::testing::backup() };
            let unit = backup_service(&backup);
            assert!(unit.ends_with(&format!("\nTimeoutStartSec={timeout}s\n")), "{interval}: {unit}");
        }
    }
}
