//! The table of all certificates: names, subjects, usages and files as kubeadm has them, and on which hosts.
//!
//! Source: kubeadm v1.37, `phases/certs/certlist.go`, `phases/kubeconfig/kubeconfig.go` and `util/pkiutil`. Where we
//! differ, the row says why. Everything here is a function of the cluster alone: no clock, no randomness.

use std::collections::BTreeSet;

use crate::{
    inventory::{Cluster, Node, Role},
    layout,
    pki::{
        authorities::Ca,
        leaf::{Foreign, LeafSpec, Place, San, Usage},
    },
};

/// One line of the table. Its columns: name, file, signer, subject, use.
struct Row(&'static str, File, Ca, Subject, Use);

#[derive(Clone, Copy)]
enum File {
    /// `NAME.crt` and `NAME.key` in kubeadm's folder.
    Pki,
    /// The same in etcd's folder, where the name lacks the prefix.
    EtcdPki(&'static str),
    Kubeconfig(&'static str),
    KubeletServing,
    KubeletClient,
}

#[derive(Clone, Copy)]
enum Subject {
    User(&'static str),
    /// A user and his group.
    Member(&'static str, &'static str),
    /// The node's bare name.
    NodeName,
    /// The node as the node authorizer knows it.
    SystemNode,
}

#[derive(Clone, Copy)]
enum Use {
    Client,
    Server(Sans),
    /// Both ends. etcd's server certificate is one too: its gRPC gateway dials its own member with it.
    Peer(Sans),
}

#[derive(Clone, Copy)]
enum Sans {
    ApiServer,
    Etcd,
    Kubelet,
}

/// What every control plane has.
///
/// `apiserver-kubelet-client` has no group since kubeadm v1.37: its user is bound to `system:kubelet-api-admin`, all that
/// it needs (ClusterRoleBinding `kubeadm:apiserver-kubelet-client`). kubeadm binds the group `kubeadm:cluster-admins` to
/// `cluster-admin`; `system:masters` is past all authorization and cannot be taken away.
const CONTROL_PLANE: [Row; 8] = {
    use {Ca::*, File::*, Sans::*, Subject::*, Use::*};
    [
        Row("apiserver", Pki, Cluster, User("kube-apiserver"), Server(ApiServer)),
        Row("apiserver-kubelet-client", Pki, Cluster, User("kube-apiserver-kubelet-client"), Client),
        Row("apiserver-etcd-client", Pki, Ca::Etcd, User("kube-apiserver-etcd-client"), Client),
        Row("front-proxy-client", Pki, FrontProxy, User("front-proxy-client"), Client),
        Row(
            "admin.conf",
            Kubeconfig(layout::ADMIN_CONF),
            Cluster,
            Member("kubernetes-admin", "kubeadm:cluster-admins"),
            Client,
        ),
        Row(
            "super-admin.conf",
            Kubeconfig(layout::SUPER_ADMIN_CONF),
            Cluster,
            Member("kubernetes-super-admin", "system:masters"),
            Client,
        ),
        Row(
            "controller-manager.conf",
            Kubeconfig(layout::CONTROLLER_MANAGER_CONF),
            Cluster,
            User("system:kube-controller-manager"),
            Client,
        ),
        Row(
            "scheduler.conf",
            Kubeconfig(layout::SCHEDULER_CONF),
            Cluster,
            User("system:kube-scheduler"),
            Client,
        ),
    ]
};

/// What every etcd member has.
const ETCD: [Row; 3] = {
    use {Ca::*, File::*, Subject::*, Use::*};
    [
        Row("etcd-server", EtcdPki("server"), Etcd, NodeName, Peer(Sans::Etcd)),
        Row("etcd-peer", EtcdPki("peer"), Etcd, NodeName, Peer(Sans::Etcd)),
        Row(
            "etcd-healthcheck-client",
            EtcdPki("healthcheck-client"),
            Etcd,
            User(layout::ETCD_CLIENT_USER),
            Client,
        ),
    ]
};

/// What every Kubernetes node has. The serving certificate is not kubeadm's: there a kubelet signs its own, which no API
/// server can verify. The client's is the first one; the kubelet rotates it and turns the link.
const NODE: [Row; 2] = {
    use {Ca::*, File::*, Sans::*, Subject::*, Use::*};
    [
        Row("kubelet-server", KubeletServing, Cluster, SystemNode, Server(Kubelet)),
        Row("kubelet-client", KubeletClient, Cluster, SystemNode, Client),
    ]
};

/// Every certificate that a host shall have, in a fixed order.
pub fn specs_for(cluster: &Cluster, node: &Node) -> Vec<LeafSpec> {
    let tables: [(bool, &[Row]); 3] = [
        (node.is(Role::ControlPlane), &CONTROL_PLANE),
        (node.is(Role::Etcd), &ETCD),
        (node.is_kubernetes(), &NODE),
    ];
    let rows = tables.into_iter().filter(|(has, _)| *has).flat_map(|(_, rows)| rows);
    rows.map(|row| row.spec(cluster, node)).collect()
}

/// The certificate of that name on a host, or `None` where the host has no such certificate.
pub fn spec_for(cluster: &Cluster, node: &Node, name: &str) -> Option<LeafSpec> {
    specs_for(cluster, node).into_iter().find(|spec| spec.name == name)
}

impl Row {
    fn spec(&self, cluster: &Cluster, node: &Node) -> LeafSpec {
        let Self(name, file, ca, subject, usage) = *self;
        let (common_name, organization) = subject.names(node);
        let (usages, sans): (&[Usage], _) = match usage {
            Use::Client => (&[Usage::Client], BTreeSet::new()),
            Use::Server(sans) => (&[Usage::Server], sans.of(cluster, node)),
            Use::Peer(sans) => (&[Usage::Server, Usage::Client], sans.of(cluster, node)),
        };
        let foreign = match file {
            File::KubeletServing => Foreign::Replace,
            File::Pki | File::EtcdPki(_) | File::Kubeconfig(_) | File::KubeletClient => Foreign::Refuse,
        };
        LeafSpec { name, ca, common_name, organization, usages, sans, place: file.place(name), foreign }
    }
}

impl Subject {
    fn names(self, node: &Node) -> (String, Option<&'static str>) {
        match self {
            Self::User(name) => (name.to_owned(), None),
            Self::Member(name, group) => (name.to_owned(), Some(group)),
            Self::NodeName => (node.name.to_string(), None),
            Self::SystemNode => (system_node(node), Some("system:nodes")),
        }
    }
}

/// A node as a user of the API, by which the node authorizer knows it.
pub fn system_node(node: &Node) -> String {
    format!("system:node:{}", node.name)
}

impl Sans {
    fn of(self, cluster: &Cluster, node: &Node) -> BTreeSet<San> {
        // An alias of `~/.ssh/config` may be no DNS name, and nobody but ssh knows it then.
        let dialled = Some(node.address.as_str()).filter(|address| !address.contains('_'));
        let host = [node.name.as_str().into(), San::Ip(node.internal_address.into())].into_iter();
        let host = host.chain(dialled.map(San::from));
        match self {
            Self::Kubelet => host.collect(),
            Self::Etcd => host.chain(["localhost", "127.0.0.1", "::1"].map(San::from)).collect(),
            Self::ApiServer => host.chain(api_server_sans(cluster)).collect(),
        }
    }
}

/// What every API server is called besides its host's names. Loopback is not kubeadm's: node-local load balancers and
/// our own forwarded connections dial it. Other control planes are not in it, so that a new one changes none.
fn api_server_sans(cluster: &Cluster) -> impl Iterator<Item = San> {
    let in_cluster = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(San::from);
    let qualified = format!("kubernetes.default.svc.{}", cluster.network.cluster_domain);
    let api = &cluster.api;
    in_cluster
        .into_iter()
        .chain([San::from(qualified.as_str()), San::Ip(cluster.network.api_service_ip().into())])
        .chain(["localhost", "127.0.0.1", api.host.as_str()].map(San::from))
        .chain(api.alternative_names.iter().map(|name| San::from(name.as_str())))
}

impl File {
    fn place(self, name: &str) -> Place {
        match self {
            Self::Pki => pair(layout::PKI_DIR, name),
            Self::EtcdPki(stem) => pair(layout::ETCD_PKI_DIR, stem),
            Self::KubeletServing => pair(layout::KUBELET_PKI_DIR, "kubelet"),
            Self::KubeletClient => Place::Bundle {
                path: format!("{}/kubelet-client-rsadm.pem", layout::KUBELET_PKI_DIR),
                link: layout::KUBELET_CLIENT_CURRENT.to_owned(),
            },
            Self::Kubeconfig(path) => Place::Kubeconfig { path: path.to_owned() },
        }
    }
}

fn pair(folder: &str, stem: &str) -> Place {
    Place::Pair { cert: format!("{folder}/{stem}.crt"), key: format!("{folder}/{stem}.key") }
}
