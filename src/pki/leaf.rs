//! What a certificate on a host shall be, as a value. The table in [`specs`](crate::pki::specs) makes them. Pure.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use crate::pki::authorities::Ca;

/// A leaf that ends within so many days was not renewed when it could have been, and somebody has to know.
pub const URGENT_DAYS: i64 = 30;

/// True where one with so many whole days left ends within [`URGENT_DAYS`], or has ended.
pub fn is_urgent(days: i64) -> bool {
    days < URGENT_DAYS
}

/// What a certificate may be used for (extended key usage).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Usage {
    /// To serve.
    Server,
    /// To be a client.
    Client,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

/// A name or an address that a certificate vouches for (subject alternative name).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum San {
    /// A DNS name.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl From<&str> for San {
    /// An address where the text is one, else a DNS name, in lower case since DNS names compare so.
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Dns(text.to_ascii_lowercase()), Self::Ip)
    }
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.pad(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// How a certificate and its key lie on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A certificate file and a key file.
    Pair {
        /// Mode 0644.
        cert: String,
        /// Mode 0600.
        key: String,
    },
    /// One PEM file with the certificate, then its key; mode 0600.
    Bundle {
        /// The file that we write.
        path: String,
        /// A link to it, by which it is read. It must be a link: a kubelet that finds a plain file there never
        /// rotates (client-go, `certificate_store.go`). After a rotation it leads to a file of the kubelet's.
        link: String,
    },
    /// Embedded in a kubeconfig, mode 0600. What server it names is the caller's choice.
    Kubeconfig {
        /// Where.
        path: String,
    },
}

impl Place {
    /// The file to read the certificate from.
    pub fn cert_path(&self) -> &str {
        match self {
            Self::Pair { cert, .. } => cert,
            Self::Bundle { link, .. } => link,
            Self::Kubeconfig { path } => path,
        }
    }

    /// The file to read the key from; the same as the certificate's unless they are a pair.
    pub fn key_path(&self) -> &str {
        match self {
            Self::Pair { key, .. } => key,
            Self::Bundle { link, .. } => link,
            Self::Kubeconfig { path } => path,
        }
    }
}

/// What a certificate from an authority that is not ours means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// The host serves another cluster: leave it alone and say so.
    Refuse,
    /// The program made itself one that nobody can verify: replace it.
    Replace,
}

/// One certificate on one host, as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafSpec {
    /// Unique on a host; the name under which `kubeadm certs check-expiration` lists it, where it does.
    pub name: &'static str,
    /// Who signs it.
    pub ca: Ca,
    /// The subject's common name: the user, for a client of the API.
    pub common_name: String,
    /// The subject's organization: the group, for a client of the API.
    pub organization: Option<&'static str>,
    /// Extended key usages.
    pub usages: &'static [Usage],
    /// Names and addresses it must vouch for.
    pub sans: BTreeSet<San>,
    /// Its files.
    pub place: Place,
    /// What to do where the host has one from another authority.
    pub foreign: Foreign,
}
