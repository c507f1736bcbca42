//! Clusters to test with.

use std::{collections::BTreeMap, time::Duration};

use crate::{inventory::*, versions};

pub(crate) fn node(number: u8, name: &str, roles: &[Role]) -> Node {
    Node {
        name: NodeName::new(name),
        address: format!("198.51.100.{number}"),
        internal_address: [10, 0, 0, number].into(),
        ssh: Ssh {
            user: "ops".into(),
            port: 22,
            key_path: None,
            known_hosts_path: None,
            become_root: true,
            host_key_check: HostKeyCheck::Strict,
            bastion: None,
            control_persist: std::time::Duration::ZERO,
        },
        roles: roles.to_vec(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
    }
}

pub(crate) fn cluster(nodes: Vec<Node>) -> Cluster {
    Cluster {
        name: "prod".into(),
        release: versions::release(versions::DEFAULT_KUBERNETES).unwrap(),
        api: Api { host: "K8s.example.org".into(), port: 6443, alternative_names: vec!["192.0.2.7".into()] },
        load_balancer: LoadBalancer::NodeLocal,
        nodes,
        etcd: Etcd {
            version: None,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            quota_backend_bytes: 8 << 30,
            auto_compaction: Duration::from_secs(8 * 3600),
            extra_args: BTreeMap::new(),
            backup: None,
        },
        network: Network {
            plugin: NetworkPlugin::Bridge,
            pod_subnet: "10.244.0.0/16".parse().unwrap(),
            service_subnet: "10.96.0.0/12".parse().unwrap(),
            cluster_domain: "cluster.local".into(),
        },
        network_manifests: vec![],
        agent: None,
        backup_credentials: None,
        artifacts: Artifacts { base_url: None, registry_mirrors: BTreeMap::new() },
        runtime: Runtime { install: RuntimeInstall::Existing, restrict_oom_score_adj: false },
        api_server: Component::default(),
        controller_manager: Component::default(),
        scheduler: Component::default(),
        kubelet: Component::default(),
        kube_proxy: KubeProxy::default(),
        upgrade_strategy: UpgradeStrategy {
            max_unavailable_workers: 1,
            drain_timeout: Duration::from_secs(300),
            drain_grace_period: Duration::from_secs(30),
        },
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
