//! What is there: all hosts in parallel, one execution each, read only.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::inventory::NodeName;

pub mod api;
pub mod etcd_host;
pub mod facts;
pub mod gather;
pub mod parser;
pub mod wal;

pub use facts::{Facts, FileFact, Identity};
pub use gather::{gather, gather_hosts_that_answer, gather_what_answers};

/// What was seen of the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Facts of every host that answered.
    pub hosts: BTreeMap<NodeName, Facts>,
    /// Kubernetes nodes as the API tells them; `None` where no API server answered.
    pub nodes: Option<BTreeMap<NodeName, NodeFact>>,
    /// Bundles of objects that we applied, with their hashes.
    pub bundles: BTreeMap<String, String>,
    /// What of them somebody took away or changed since, in words.
    #[serde(default)]
    pub damaged: BTreeMap<String, String>,
    /// Kinds of CoreDNS' objects whose field that operators set by hand is not ours: `ConfigMap`, `Deployment`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub edited: BTreeSet<String>,
    /// Deployments and daemon sets of `kube-system`, as `kind/name`, lower case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub workloads: BTreeMap<String, WorkloadFact>,
    /// etcd's membership; asked only where hosts do not tell that it is the inventory's, and `None` where no quorum tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership: Option<Vec<MemberFact>>,
    /// Whether etcd has objects of Kubernetes; asked only where that decides whether an authority may be made, and `None`
    /// where no quorum tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_objects: Option<bool>,
}

impl Observed {
    /// The ID of the cluster whose data a host has, where a restore or a recovery that it missed put another in its place.
    pub fn old_cluster_of(&self, host: &NodeName) -> Option<&str> {
        let own = self.hosts.get(host)?.identity.as_ref()?.etcd_cluster_id.as_str();
        replaced(self.hosts.values().filter_map(|f| f.identity.as_ref())).contains(own).then_some(own)
    }

    /// The record of a host that has joined the etcd cluster of this ID: with those that it took the place of, as far as any host
    /// knows.
    pub fn identity_of(&self, cluster: &str, id: String) -> Identity {
        let mut known = self.hosts.values().filter_map(|f| f.identity.as_ref());
        let known = known.find(|i| i.etcd_cluster_id == id && i.in_place_of().next().is_some());
        Identity { cluster: cluster.to_owned(), etcd_cluster_id: id, ..known.cloned().unwrap_or_default() }
    }

    /// As if no restore were under way: for the commands that bring one to its end.
    #[must_use]
    pub fn despite_restore(mut self) -> Self {
        self.hosts.values_mut().for_each(|facts| facts.restoring = None);
        self
    }
}

/// The IDs of etcd clusters in whose place a restore or a recovery put another, as these hosts have recorded it. Of two that took each
/// other's place neither is one: so it is where a restore was rolled back, and a host that missed it comes back with its data.
/// What serves decides between those.
pub fn replaced<'i>(identities: impl Iterator<Item = &'i Identity>) -> BTreeSet<&'i str> {
    let by = |i: &'i Identity| i.in_place_of().map(|old| (i.etcd_cluster_id.as_str(), old.as_str()));
    let replacements: BTreeSet<(&str, &str)> = identities.flat_map(by).collect();
    let holds = |&&(new, old): &&(&'i str, &'i str)| !replacements.contains(&(old, new));
    replacements.iter().filter(holds).map(|(_, old)| *old).collect()
}

/// A member of the live membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberFact {
    /// Its name; empty while it was added but never started.
    pub name: String,
    /// Where other members dial it, by which it is known here.
    pub peer_url: String,
    /// True while it has no vote.
    pub learner: bool,
    /// True where it serves.
    pub healthy: bool,
    /// The version that it says it runs.
    #[serde(default)]
    pub version: Option<String>,
    /// What is to become of it.
    #[serde(default)]
    pub fate: Fate,
}

/// What is to become of a member of the live membership.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It stays where the inventory has an etcd host at its address, and leaves elsewhere.
    #[default]
    ByInventory,
    /// It leaves, whatever the inventory says: its data is lost or broken.
    Leaves,
    /// It stays, whatever the inventory says: who adds one member has not asked for another to go.
    Stays,
}

/// A node object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFact {
    /// Its Ready condition is true.
    pub ready: bool,
    /// Where the others dial it (`InternalIP`), as far as it is IPv4.
    #[serde(default)]
    pub address: Option<std::net::Ipv4Addr>,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// All taints, as `key=value:Effect`.
    pub taints: Vec<String>,
    /// Which of them are ours (the annotation `rsadm/managed`, of mark.sh): label keys and taints, comma-separated.
    pub managed: String,
}

/// How far a deployment or daemon set is rolled out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadFact {
    /// Whether its controller has seen its newest settings.
    pub noticed: bool,
    /// Pods that there should be.
    pub wanted: usize,
    /// Pods with the newest settings.
    pub updated: usize,
    /// Pods that are ready, with whatever settings.
    pub ready: usize,
}

impl WorkloadFact {
    /// Whether all its pods are new and ready, but for so many that nobody waits for; of those that are ready at least one.
    pub fn is_rolled_out(&self, but: usize) -> bool {
        let all = |pods: usize| pods + but >= self.wanted;
        self.noticed && all(self.updated) && all(self.ready) && self.serves()
    }

    /// Whether all its pods are new and any is ready. There may be more replicas than nodes that take one.
    pub fn is_in_place(&self) -> bool {
        self.noticed && self.updated >= self.wanted && self.serves()
    }

    fn serves(&self) -> bool {
        self.ready > 0 || self.wanted == 0
    }
}

impl NodeFact {
    /// True where rsadm built the node; others come by `kubeadm join`.
    pub fn is_ours(&self) -> bool {
        self.labels.contains_key(crate::layout::NODE_LABEL)
    }

    /// What the node looks like after `kubectl label` and `kubectl taint` with these arguments.
    pub fn mark(&mut self, labels: &[String], taints: &[String], managed: &str) {
        for label in labels {
            match (label.split_once('='), label.strip_suffix('-')) {
                (Some((key, value)), _) => drop(self.labels.insert(key.into(), value.into())),
                (None, Some(key)) => drop(self.labels.remove(key)),
                (None, None) => {}
            }
        }
        for taint in taints {
            match taint.strip_suffix('-') {
                Some(gone) => self.taints.retain(|t| taint_slot(t) != taint_slot(gone)),
                None => {
                    self.taints.retain(|t| taint_slot(t) != taint_slot(taint));
                    self.taints.push(taint.clone());
                }
            }
        }
        self.managed = managed.into();
    }
}

/// Key and effect of `key=value:Effect`: a node has one taint of each such pair, and `kubectl taint` removes by them alone,
/// whatever value it is given.
pub fn taint_slot(taint: &str) -> (&str, &str) {
    let (rest, effect) = taint.rsplit_once(':').unwrap_or((taint, ""));
    (rest.split_once('=').map_or(rest, |(key, _)| key), effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(id: &str, replaces: &[&str]) -> Identity {
        let replaces = replaces.iter().map(|&r| r.to_owned()).collect();
        Identity { cluster: "prod".into(), etcd_cluster_id: id.into(), replaces, ..Identity::default() }
    }

    #[test]
    fn a_restored_cluster_remembers_those_before_it() {
        let restored = Identity::after("prod", facts::RESTORED, &[identity("a", &[])]);
        let first = Identity::after("prod", "b", &[restored, identity("a", &[])]);
        assert_eq!(first, identity("b", &["a"]));
        let second = Identity::after("prod", "c", &[first.clone(), identity("b", &["a"])]);
        assert_eq!(second, identity("c", &["a", "b"]));
    }

    #[test]
    fn a_workload_is_rolled_out_when_its_new_pods_are_ready() {
        let there = WorkloadFact { noticed: true, wanted: 3, updated: 3, ready: 3 };
        for (workload, but, is_there) in [
            (there, 0, true),
            (WorkloadFact { noticed: false, ..there }, 0, false),
            (WorkloadFact { updated: 2, ..there }, 0, false),
            (WorkloadFact { ready: 2, ..there }, 0, false),
            (WorkloadFact { ready: 2, ..there }, 1, true),
            (WorkloadFact { ready: 0, ..there }, 3, false),
            (WorkloadFact { wanted: 0, updated: 0, ready: 0, ..there }, 0, true),
        ] {
            assert_eq!(workload.is_rolled_out(but), is_there, "{workload:?} but {but}");
        }
    }

    #[test]
    fn taints_are_replaced_and_removed_by_key_and_effect() {
        let mark = |taints: &[&str]| {
            let mut node = NodeFact {
                taints: ["gpu=true:NoSchedule", "gpu:NoExecute"].map(String::from).into(),
                ..NodeFact::default()
            };
            let taints: Vec<String> = taints.iter().map(|&t| t.to_owned()).collect();
            node.mark(&[], &taints, "");
            node.taints
        };
        assert_eq!(mark(&["gpu=false:NoSchedule"]), ["gpu:NoExecute", "gpu=false:NoSchedule"]);
        assert_eq!(mark(&["gpu=false:NoSchedule-"]), ["gpu:NoExecute"]);
        assert_eq!(mark(&["gpu=false:NoSchedule", "gpu=true:NoSchedule-"]), ["gpu:NoExecute"]);
    }

    #[test]
    fn who_missed_a_restore_has_the_old_cluster() {
        let host = |identity| Facts { identity: Some(identity), ..Facts::default() };
        let hosts = [("e1", identity("b", &["a"])), ("e2", identity("a", &[])), ("e3", identity("x", &[]))];
        let hosts = hosts.map(|(name, identity)| (NodeName::new(name), host(identity)));
        let seen = Observed { hosts: hosts.into(), ..Observed::default() };
        let old = |name| seen.old_cluster_of(&NodeName::new(name));
        assert_eq!([old("e1"), old("e2"), old("e3"), old("e4")], [None, Some("a"), None, None]);
        // A restore was rolled back, and e1 missed that.
        let both = [identity("b", &["a", "z"]), identity("a", &["z", "b"])];
        assert_eq!(replaced(both.iter()), ["z"].into());
    }
}
