//! Clusters for tests, and the golden files they are compared with.

use std::{collections::BTreeMap, env, fs, path::Path, time::Duration};

use crate::{
    inventory::{
        Api, Artifacts, Backup, Cluster, Component, Etcd, HostKeyCheck, KubeProxy, LoadBalancer, Network,
        NetworkPlugin, Node, NodeName, Retention, Role, Runtime, RuntimeInstall, Ssh, Taint, UpgradeStrategy,
    },
    versions::{DEFAULT_KUBERNETES, release},
};

use super::{EtcdStart, InitialState, NodeSubnets};

/// One host that does everything.
pub(crate) fn single() -> Cluster {
    let mut cluster = cluster(vec![host("m1", 1, &[Role::ControlPlane, Role::Etcd, Role::Worker])]);
    cluster.load_balancer = LoadBalancer::None;
    cluster
}

/// Three stacked control planes and two workers behind node-local load balancers.
pub(crate) fn ha() -> Cluster {
    let master = |name, n| {
        let mut node = host(name, n, &[Role::ControlPlane, Role::Etcd]);
        node.taints = vec![taint("node-role.kubernetes.io/control-plane", "")];
        node
    };
    let mut worker = host("w1", 11, &[Role::Worker]);
    worker.labels = [("zone", "a"), ("node-role.kubernetes.io/gpu", ""), ("node.kubernetes.io/rack", "7")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    worker.taints = vec![taint("gpu", "true")];
    let nodes =
        vec![master("m1", 1), master("m2", 2), master("m3", 3), worker, host("w2", 12, &[Role::Worker])];
    cluster(nodes)
}

/// Three etcd hosts that are no nodes, a control plane, a worker, and a network plugin of the user's.
pub(crate) fn external_etcd() -> Cluster {
    let etcd = |name, n| host(name, n, &[Role::Etcd]);
    let mut cluster = cluster(vec![
        host("c1", 1, &[Role::ControlPlane]),
        host("w1", 11, &[Role::Worker]),
        etcd("e1", 21),
        etcd("e2", 22),
        etcd("e3", 23),
    ]);
    cluster.network.plugin = NetworkPlugin::Manifests(vec!["flannel.yaml".to_owned()]);
    cluster.load_balancer = LoadBalancer::External;
    cluster
}

/// The host of that name.
pub(crate) fn node<'a>(cluster: &'a Cluster, name: &str) -> &'a Node {
    cluster.node(&NodeName::new(name)).unwrap()
}

/// All etcd hosts as founders or joiners.
pub(crate) fn etcd_start(cluster: &Cluster, state: InitialState) -> EtcdStart {
    let members = cluster.with_role(Role::Etcd).map(|node| (node.name.clone(), node.peer_url())).collect();
    EtcdStart { members, state, token: "prod-1".to_owned() }
}

/// Every node's /24, in the order of the file.
pub(crate) fn subnets(cluster: &Cluster) -> NodeSubnets {
    let subnet = |n| cluster.network.node_subnet(n);
    (0..).zip(cluster.kubernetes_nodes()).map(|(n, node)| (node.name.clone(), subnet(n))).collect()
}

/// Compares with `tests/manifests/PATH`; with `RSADM_GOLDEN=write` in the environment, writes it instead.
pub(crate) fn golden(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests").join(path);
    if env::var_os("RSADM_GOLDEN").is_some_and(|value| value == "write") {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        return;
    }
    let wanted = fs::read_to_string(&file).unwrap_or_default();
    let different = wanted.lines().zip(text.lines()).enumerate().find(|(_, (wanted, is))| wanted != is);
    assert!(
        wanted == text,
        "tests/manifests/{path} differs (RSADM_GOLDEN=write rewrites it), first at {different:?}; {} and {} lines",
        wanted.lines().count(),
        text.lines().count()
    );
}

/// Scheduled snapshots to a folder.
pub(crate) fn backup() -> Backup {
    Backup {
        interval: Duration::from_secs(3600),
        retention: Retention::Count(3),
        target: "/mnt/nas".into(),
        endpoint: None,
        region: None,
        credentials: None,
        recipient: None,
    }
}

fn taint(key: &str, value: &str) -> Taint {
    Taint { key: key.to_owned(), value: value.to_owned(), effect: "NoSchedule".to_owned() }
}

/// A host of these roles.
pub(crate) fn host(name: &str, n: u8, roles: &[Role]) -> Node {
    Node {
        name: NodeName::new(name),
        address: format!("198.51.100.{n}"),
        internal_address: [10, 0, 0, n].into(),
        ssh: Ssh {
            user: "root".to_owned(),
            port: 22,
            key_path: None,
            known_hosts_path: None,
            become_root: false,
            host_key_check: HostKeyCheck::Strict,
            bastion: None,
            control_persist: std::time::Duration::ZERO,
        },
        roles: roles.to_vec(),
        labels: BTreeMap::new(),
        taints: Vec::new(),
    }
}

/// A cluster of these hosts.
pub(crate) fn cluster(nodes: Vec<Node>) -> Cluster {
    Cluster {
        name: "prod".to_owned(),
        release: release(DEFAULT_KUBERNETES).unwrap(),
        api: Api {
            host: "k8s.example.org".to_owned(),
            port: 6443,
            alternative_names: vec!["10.0.0.100".to_owned()],
        },
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
            cluster_domain: "cluster.local".to_owned(),
        },
        network_manifests: vec![],
        agent: None,
        backup_credentials: None,
        artifacts: Artifacts { base_url: None, registry_mirrors: BTreeMap::new() },
        runtime: Runtime { install: RuntimeInstall::Upstream, restrict_oom_score_adj: false },
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
