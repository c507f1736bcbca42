//! Clusters to test with.

use crate::{
    inventory::{Api, Cluster, Node, Role, Runtime, RuntimeInstall, Ssh},
    manifests::testing,
};

pub(crate) fn node(number: u8, name: &str, roles: &[Role]) -> Node {
    let node = testing::host(name, number, roles);
    Node { ssh: Ssh { user: "ops".into(), become_root: true, ..node.ssh }, ..node }
}

pub(crate) fn cluster(nodes: Vec<Node>) -> Cluster {
    Cluster {
        api: Api { host: "K8s.example.org".into(), port: 6443, alternative_names: vec!["192.0.2.7".into()] },
        runtime: Runtime { install: RuntimeInstall::Existing, restrict_oom_score_adj: false },
        ..testing::cluster(nodes)
    }
}

/// One cluster of each kind.
pub(crate) fn topologies() -> Vec<(&'static str, Cluster)> {
    use Role::{ControlPlane, Etcd, Worker};
    let topology = |name, nodes: Vec<Node>| (name, cluster(nodes));
    vec![
        topology(
            "stacked",
            vec![
                node(1, "m1", &[ControlPlane, Etcd]),
                node(2, "m2", &[ControlPlane, Etcd]),
                node(9, "w1", &[Worker]),
            ],
        ),
        topology("single", vec![node(1, "m1", &[ControlPlane, Etcd, Worker])]),
        topology(
            "external",
            vec![node(1, "e1", &[Etcd]), node(2, "m1", &[ControlPlane]), node(9, "w1", &[Worker])],
        ),
        topology("etcd", vec![node(1, "e1", &[Etcd]), node(2, "e2", &[Etcd])]),
    ]
}
