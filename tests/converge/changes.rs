//! Inventories that change after a cluster was built.

use rsadm::{
    fake::State,
    inventory::{Cluster, NodeName, Taint},
};

use crate::harness::node_mut;

/// What somebody does to an inventory.
pub(crate) struct Change {
    pub(crate) name: &'static str,
    /// Changes it.
    pub(crate) to: fn(&mut Cluster),
    /// The phases that have work then, and no others.
    pub(crate) phases: &'static [&'static str],
}

impl Change {
    /// The changed inventory, and a built world in which its new hosts are there.
    pub(crate) fn apply(&self, before: &Cluster, built: &State) -> (Cluster, State) {
        let mut cluster = before.clone();
        (self.to)(&mut cluster);
        let mut start = built.clone();
        start.hang_up();
        start.meet(&cluster);
        (cluster, start)
    }
}

/// Changes to three control planes with two workers.
pub(crate) const CHANGES: &[Change] = &[
    Change {
        name: "a label",
        to: |c| drop(node_mut(c, "w1").labels.insert("zone".into(), "a".into())),
        phases: &["workers"],
    },
    Change {
        name: "a label under kubernetes.io",
        to: |c| {
            drop(node_mut(c, "m1").labels.insert("node-role.kubernetes.io/ingress".into(), String::new()));
        },
        phases: &["workers"],
    },
    Change {
        name: "a taint",
        to: |c| {
            node_mut(c, "w2").taints.push(Taint {
                key: "gpu".into(),
                value: "true".into(),
                effect: "NoSchedule".into(),
            });
        },
        phases: &["workers"],
    },
    Change {
        name: "another value of a taint",
        to: |c| node_mut(c, "m1").taints[0].value = "yes".into(),
        phases: &["etcd", "workers"],
    },
    Change {
        name: "an argument of the API server",
        to: |c| drop(c.api_server.extra_args.insert("v".into(), "4".into())),
        phases: &["control-plane", "workers"],
    },
    Change {
        name: "an issuer of tokens",
        to: |c| drop(c.api_server.config.insert("jwt".into(), serde_json::json!([{"issuer": {}}]))),
        phases: &["control-plane"],
    },
    Change {
        name: "an argument of the scheduler",
        to: |c| drop(c.scheduler.extra_args.insert("v".into(), "4".into())),
        phases: &["control-plane", "workers"],
    },
    Change {
        name: "a name of the API",
        to: |c| c.api.alternative_names.push("k8s.example.org".into()),
        phases: &["certificates", "workers"],
    },
    Change {
        name: "an argument of etcd",
        to: |c| drop(c.etcd.extra_args.insert("snapshot-count".into(), "5000".into())),
        phases: &["etcd"],
    },
    Change {
        name: "a worker more",
        to: one_more,
        phases: &["binaries", "certificates", "images", "workers", "addons"],
    },
    Change {
        name: "a worker less",
        to: |c| c.nodes.retain(|n| n.name.as_str() != "w2"),
        // The second pod of cluster DNS goes to a control plane.
        phases: &["images"],
    },
    Change {
        name: "one worker for another",
        to: |c| {
            one_more(c);
            c.nodes.retain(|n| n.name.as_str() != "w2");
        },
        phases: &["binaries", "certificates", "images", "workers", "addons"],
    },
    Change {
        name: "another place of the same programs",
        to: |c| c.artifacts.base_url = Some("http://mirror.example.org/2026.11.1".into()),
        phases: &[],
    },
    Change {
        name: "a mirror of a registry",
        to: |c| drop(c.artifacts.registry_mirrors.insert("docker.io".into(), "http://10.0.0.9:5000".into())),
        phases: &["binaries"],
    },
    Change {
        name: "a field of the kubelet",
        to: |c| drop(c.kubelet.config.insert("maxPods".into(), 50.into())),
        phases: &["etcd", "workers", "workers"],
    },
];

/// Changes of etcd's membership, to three hosts of etcd alone.
pub(crate) const MEMBERSHIP: &[Change] = &[
    Change {
        name: "two members more",
        to: |c| {
            another(c, "e3", "e4", 14);
            another(c, "e3", "e5", 15);
        },
        phases: &["binaries", "certificates", "images", "etcd"],
    },
    Change {
        name: "one member instead of another",
        to: |c| {
            another(c, "e3", "e4", 14);
            c.nodes.retain(|n| n.name.as_str() != "e1");
        },
        phases: &["binaries", "certificates", "images", "etcd"],
    },
    Change {
        name: "the first member and another less",
        to: |c| c.nodes.retain(|n| n.name.as_str() == "e3"),
        phases: &["etcd"],
    },
];

/// The same, to three control planes with two workers.
pub(crate) const STACKED_MEMBERSHIP: &[Change] = &[
    Change {
        name: "a control plane more",
        to: |c| another(c, "m3", "m4", 14),
        phases: &["binaries", "certificates", "images", "etcd", "control-plane", "workers", "addons"],
    },
    Change {
        name: "two control planes lose their members",
        to: |c| {
            for name in ["m1", "m2"] {
                node_mut(c, name).roles.retain(|r| *r != rsadm::inventory::Role::Etcd);
            }
        },
        phases: &["etcd", "control-plane", "workers"],
    },
];

/// Another host like one that is there, at 10.77.0.`address`.
fn another(cluster: &mut Cluster, like: &str, name: &str, address: u8) {
    let mut more = node_mut(cluster, like).clone();
    more.name = NodeName::new(name);
    more.internal_address = [10, 77, 0, address].into();
    more.address = more.internal_address.to_string();
    cluster.nodes.push(more);
}

fn one_more(cluster: &mut Cluster) {
    another(cluster, "w2", "w3", 23);
}
