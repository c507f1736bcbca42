//! The secrets that several hosts share.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{
    inventory::NodeName,
    layout,
    observe::Facts,
    pki::authorities::{self, Ca},
};

/// A secret that several hosts share, made once per cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shared {
    /// A certificate authority.
    Authority(Ca),
    /// The pair that signs service account tokens.
    ServiceAccounts,
    /// The key that encrypts secrets at rest, in its configuration file.
    Encryption,
}

impl Shared {
    /// The public file, where there is one.
    pub fn public_path(self) -> Option<String> {
        match self {
            Self::Authority(ca) => Some(ca.cert_path()),
            Self::ServiceAccounts => Some(authorities::service_account_public_path()),
            Self::Encryption => None,
        }
    }

    /// The file that must stay secret.
    pub fn secret_path(self) -> String {
        match self {
            Self::Authority(ca) => ca.key_path(),
            Self::ServiceAccounts => authorities::service_account_key_path(),
            Self::Encryption => layout::ENCRYPTION_CONFIG.to_owned(),
        }
    }

    /// True where the host has all of it, so that others can be given it.
    pub fn is_on(self, facts: &Facts) -> bool {
        let has = |path: &str| facts.files.contains_key(path);
        has(&self.secret_path()) && self.public_path().is_none_or(|path| has(&path))
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(ca) => ca.fmt(f),
            Self::ServiceAccounts => f.pad("service account key pair"),
            Self::Encryption => f.pad("encryption key"),
        }
    }
}

impl Serialize for Shared {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where a shared secret comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Nobody has it and nothing was ever built with it: it is made.
    Made,
    /// Read from a host that has it.
    From(NodeName),
}
