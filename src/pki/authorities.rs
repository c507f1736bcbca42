//! The three authorities and the service account keys: names, files, and which hosts hold them. Pure, as the table is.

use std::fmt;

use crate::{
    inventory::{Node, Role},
    layout,
};

/// A new authority takes all who trust the old one to be told, so the warning comes so many days before its end.
pub const WARNING_DAYS: i64 = 180;

/// One of the three certificate authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ca {
    /// Signs everything that speaks with an API server or a kubelet.
    Cluster,
    /// Signs etcd members and their clients. Apart, because any certificate it signs opens all of etcd.
    Etcd,
    /// Signs what an API server shows to aggregated API servers on a user's behalf.
    FrontProxy,
}

impl Ca {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cluster, Self::Etcd, Self::FrontProxy];

    /// Its subject's common name, by which kubeadm's tools know it.
    pub fn common_name(self) -> &'static str {
        match self {
            Self::Cluster => "kubernetes",
            Self::Etcd => "etcd-ca",
            Self::FrontProxy => "front-proxy-ca",
        }
    }

    /// Where hosts have its certificate.
    pub fn cert_path(self) -> String {
        format!("{}.crt", self.stem())
    }

    /// Where some hosts have its key.
    pub fn key_path(self) -> String {
        format!("{}.key", self.stem())
    }

    fn stem(self) -> String {
        match self {
            Self::Cluster => format!("{}/ca", layout::PKI_DIR),
            Self::Etcd => format!("{}/ca", layout::ETCD_PKI_DIR),
            Self::FrontProxy => format!("{}/front-proxy-ca", layout::PKI_DIR),
        }
    }
}

impl fmt::Display for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cluster => "cluster CA",
            Self::Etcd => "etcd CA",
            Self::FrontProxy => "front proxy CA",
        })
    }
}

/// An authority that a host holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Which authority; its certificate is always there.
    pub ca: Ca,
    /// True where its key is there too, so that any such host can restore the others.
    pub key: bool,
}

/// The authorities that a host holds.
///
/// Keys are where kubeadm keeps them: the cluster's and the front proxy's on every control plane, etcd's on every
/// etcd member. A control plane whose etcd is elsewhere has no use for etcd's key, and kubeadm gives it none either.
pub fn holdings(node: &Node) -> Vec<Holding> {
    let control_plane = node.is(Role::ControlPlane);
    let etcd = node.is(Role::Etcd);
    let rows = [
        (Ca::Cluster, node.is_kubernetes(), control_plane),
        (Ca::Etcd, etcd || control_plane, etcd),
        (Ca::FrontProxy, control_plane, control_plane),
    ];
    rows.into_iter().filter(|(_, cert, _)| *cert).map(|(ca, _, key)| Holding { ca, key }).collect()
}

/// True where a host has the key pair that signs service account tokens: one pair for the cluster, on every control plane.
pub fn holds_service_account_keys(node: &Node) -> bool {
    node.is(Role::ControlPlane)
}

/// The private half of the service account key pair.
pub fn service_account_key_path() -> String {
    format!("{}/sa.key", layout::PKI_DIR)
}

/// The public half of the service account key pair.
pub fn service_account_public_path() -> String {
    format!("{}/sa.pub", layout::PKI_DIR)
}
