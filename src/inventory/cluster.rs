//! What is wanted, valid by construction: nothing downstream checks an inventory again.
//!
//! Only `check.rs` makes a [`Cluster`] (and tests, through it). All values are resolved: defaults are filled in,
//! durations are durations, names are unique, subnets do not overlap.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use serde::{Deserialize, Serialize};

use crate::{secret::Secret, versions::Release};

use super::settings::{
    Agent, Api, Artifacts, Component, Etcd, KubeProxy, LoadBalancer, Network, NetworkPlugin, Runtime, Ssh,
    UpgradeStrategy,
};

/// The name of a host: a DNS label, unique in its cluster, and the name of its Kubernetes node.
#[derive(Clone, Debug, Serialize, Deserialize)]
// Tests count comparisons.
#[cfg_attr(not(test), derive(PartialEq, Eq, PartialOrd, Ord, Hash))]
#[serde(transparent)]
pub struct NodeName(pub(crate) String);

impl NodeName {
    /// Wraps a name as it stands, whether it is a DNS label or not: read back from a host, or typed, by which a host is looked for.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a host does in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// kube-apiserver, kube-controller-manager and kube-scheduler as static pods.
    ControlPlane,
    /// One etcd member as a static pod.
    Etcd,
    /// Runs workloads.
    Worker,
}

impl fmt::Display for Role {
    /// As the inventory has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ControlPlane => "control-plane",
            Self::Etcd => "etcd",
            Self::Worker => "worker",
        })
    }
}

/// `key=value:Effect`, as Kubernetes writes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Taint {
    /// The qualified key.
    pub key: String,
    /// The value; may be empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.as_str() {
            "" => write!(f, "{}:{}", self.key, self.effect),
            value => write!(f, "{}={value}:{}", self.key, self.effect),
        }
    }
}

/// One host of the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its unique name.
    pub name: NodeName,
    /// What the workstation dials: an address or a DNS name.
    pub address: String,
    /// What the other hosts dial; every component listens and is certified here. The same as `address` unless given.
    pub internal_address: Ipv4Addr,
    /// SSH port, user, key and so on; the cluster's unless the host says otherwise.
    pub ssh: Ssh,
    /// At least one; no duplicates.
    pub roles: Vec<Role>,
    /// Labels beyond those that roles bring.
    pub labels: BTreeMap<String, String>,
    /// Taints; for a control plane that is no worker, with `node-role.kubernetes.io/control-plane:NoSchedule`
    /// unless the inventory gives a list of its own.
    pub taints: Vec<Taint>,
}

impl Node {
    /// True where the role is among the host's.
    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// True where the host is a Kubernetes node: control planes and workers, not hosts that only run etcd.
    pub fn is_kubernetes(&self) -> bool {
        self.is(Role::ControlPlane) || self.is(Role::Worker)
    }

    /// `https://INTERNAL:2380`, by which etcd members are known to one another and to us.
    pub fn peer_url(&self) -> String {
        format!("https://{}:{}", self.internal_address, crate::layout::ETCD_PEER_PORT)
    }

    /// `https://INTERNAL:2379`.
    pub fn client_url(&self) -> String {
        format!("https://{}:{}", self.internal_address, crate::layout::ETCD_CLIENT_PORT)
    }

    /// `https://INTERNAL:PORT` of the API server on it; `port` is the cluster's `api.port`.
    pub fn api_url(&self, port: u16) -> String {
        format!("https://{}:{port}", self.internal_address)
    }
}

/// A whole cluster, as wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its name; also typed by the operator to confirm what cannot be undone.
    pub name: String,
    /// The Kubernetes version and all that goes with it.
    pub release: Release,
    /// Where clients dial.
    pub api: Api,
    /// How workers find the API.
    pub load_balancer: LoadBalancer,
    /// At least one host, in the order of the file.
    pub nodes: Vec<Node>,
    /// etcd.
    pub etcd: Etcd,
    /// Pods and services.
    pub network: Network,
    /// The objects of `network.manifests` by name, as their files have them; read by whoever reads the inventory.
    pub network_manifests: Vec<(String, String)>,
    /// This rsadm itself, where etcd hosts are to have it; read by whoever connects, since this module reads no files.
    pub agent: Option<Agent>,
    /// Credentials of the bucket that snapshots go to; read as the above.
    pub backup_credentials: Option<Secret>,
    /// Programs and images.
    pub artifacts: Artifacts,
    /// containerd.
    pub runtime: Runtime,
    /// kube-apiserver.
    pub api_server: Component,
    /// kube-controller-manager.
    pub controller_manager: Component,
    /// kube-scheduler.
    pub scheduler: Component,
    /// kubelet.
    pub kubelet: Component,
    /// kube-proxy.
    pub kube_proxy: KubeProxy,
    /// Roll-outs.
    pub upgrade_strategy: UpgradeStrategy,
}

impl Cluster {
    /// The hosts that have a role, in the order of the file.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |n| n.is(role))
    }

    /// The same cluster with etcd on these hosts and no others. A host may be left without a role.
    #[must_use]
    pub fn with_etcd_on(&self, wants: impl Fn(&Node) -> bool) -> Self {
        let mut cluster = self.clone();
        for node in &mut cluster.nodes {
            let wanted = wants(node);
            node.roles.retain(|role| *role != Role::Etcd);
            if wanted {
                node.roles.push(Role::Etcd);
            }
        }
        cluster
    }

    /// Hosts that are Kubernetes nodes.
    pub fn kubernetes_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|n| n.is_kubernetes())
    }

    /// False for a plain etcd cluster.
    pub fn has_kubernetes(&self) -> bool {
        self.kubernetes_nodes().next().is_some()
    }

    /// The host of that name.
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.iter().find(|n| &n.name == name)
    }

    /// `host:port` as clients dial it.
    pub fn api_endpoint(&self) -> String {
        let host = &self.api.host;
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) => format!("[{host}]:{}", self.api.port),
            _ => format!("{host}:{}", self.api.port),
        }
    }

    /// What the kubelet and kube-proxy of a node dial: control planes their own API server, workers what the
    /// load balancer's kind says.
    pub fn api_url_from(&self, node: &Node) -> String {
        let port = self.api.port;
        match self.load_balancer {
            _ if node.is(Role::ControlPlane) => format!("https://{}:{port}", node.internal_address),
            LoadBalancer::NodeLocal => format!("https://127.0.0.1:{port}"),
            LoadBalancer::External | LoadBalancer::None => format!("https://{}", self.api_endpoint()),
        }
    }

    /// What kube-proxy dials; one file for all nodes, so a name that is right on each of them.
    pub fn api_url_everywhere(&self) -> String {
        match self.load_balancer {
            LoadBalancer::NodeLocal => format!("https://127.0.0.1:{}", self.api.port),
            LoadBalancer::External | LoadBalancer::None => format!("https://{}", self.api_endpoint()),
        }
    }

    /// True for a node on which rules have to see the traffic of bridges: that of our own, and what kube-proxy has to answer.
    /// No pod of etcd's own hosts has an address to be forwarded to.
    pub fn filters_bridges(&self, node: &Node) -> bool {
        node.is_kubernetes() && (self.network.plugin == NetworkPlugin::Bridge || self.kube_proxy.enabled)
    }

    /// The client URLs of all etcd hosts, in the order of the file.
    pub fn etcd_urls(&self) -> Vec<String> {
        self.with_role(Role::Etcd).map(Node::client_url).collect()
    }
}
