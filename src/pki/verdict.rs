//! Judges the certificates of a host against the table: keep, issue anew, or not ours to touch. Pure.

use std::{collections::BTreeSet, fmt};

use time::OffsetDateTime;

use crate::pki::{
    inspect::CertInfo,
    leaf::{Foreign, LeafSpec, San, Usage},
};

/// What to do with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// Make a new one.
    Issue(Reason),
    /// Another authority signed it, so the host may serve another cluster: refuse to touch it.
    ForeignCa {
        /// The common name of who signed it.
        issuer: String,
    },
}

/// Why a certificate must be issued. Reads after the certificate's name: "apiserver: …".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is none, or it cannot be read, or its key is gone.
    Missing,
    /// Its time is over.
    Expired(OffsetDateTime),
    /// It is somebody else's.
    OtherSubject {
        /// The subject it has.
        found: String,
        /// The subject it must have.
        wanted: String,
    },
    /// It does not vouch for these.
    SansMissing(BTreeSet<San>),
    /// It may not be used for these.
    UsagesMissing(BTreeSet<Usage>),
    /// The key beside it is not its key, as when a run was cut between the two files.
    OtherKey,
    /// Another authority signed it, and nobody relies on that one.
    OtherIssuer(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Expired(when) => write!(f, "expired on {}", when.date()),
            Self::OtherSubject { found, wanted } => write!(f, "issued to {found}, not to {wanted}"),
            Self::SansMissing(sans) => write!(f, "does not name {}", list(sans)),
            Self::UsagesMissing(usages) => write!(f, "not for use as {}", list(usages)),
            Self::OtherKey => f.write_str("does not fit its key"),
            Self::OtherIssuer(issuer) => write!(f, "signed by {issuer}"),
        }
    }
}

fn list<T: fmt::Display>(items: &BTreeSet<T>) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Judges what a host has for a line of the table.
///
/// `found` is `None` where the certificate or its key is missing or cannot be read; `key` is the end of its key as
/// [`CertInfo::is_of_key`] takes it, where that is known. More than the table asks for (another name
/// vouched for, another usage) is no reason to replace a certificate, and neither is a validity that has not begun: the
/// clock of this machine is then the likelier to be wrong. One that expires soon is kept too; renewing is its own command,
/// which also replaces what begins in the future of its hosts.
pub fn verdict(
    spec: &LeafSpec,
    found: Option<&CertInfo>,
    key: Option<&str>,
    ca: &CertInfo,
    now: OffsetDateTime,
) -> Verdict {
    let Some(info) = found else { return Verdict::Issue(Reason::Missing) };
    if !info.is_signed_by(ca) {
        let issuer = info.issuer.clone();
        return match spec.foreign {
            Foreign::Refuse => Verdict::ForeignCa { issuer },
            Foreign::Replace => Verdict::Issue(Reason::OtherIssuer(issuer)),
        };
    }
    reason(spec, info, key, now).map_or(Verdict::Keep, Verdict::Issue)
}

fn reason(spec: &LeafSpec, info: &CertInfo, key: Option<&str>, now: OffsetDateTime) -> Option<Reason> {
    if key.is_some_and(|end| !info.is_of_key(end)) {
        return Some(Reason::OtherKey);
    }
    if info.is_expired(now) {
        return Some(Reason::Expired(info.not_after));
    }
    let wanted: Vec<&str> = spec.organization.into_iter().collect();
    if info.common_name != spec.common_name || info.organizations != wanted {
        return Some(Reason::OtherSubject {
            found: subject(&info.common_name, info.organizations.first().map(String::as_str)),
            wanted: subject(&spec.common_name, spec.organization),
        });
    }
    let sans: BTreeSet<San> = spec.sans.difference(&info.sans).cloned().collect();
    if !sans.is_empty() {
        return Some(Reason::SansMissing(sans));
    }
    let usages: BTreeSet<Usage> = spec.usages.iter().filter(|u| !info.usages.contains(u)).copied().collect();
    (!usages.is_empty()).then_some(Reason::UsagesMissing(usages))
}

fn subject(common_name: &str, organization: Option<&str>) -> String {
    organization.map_or_else(|| common_name.to_owned(), |o| format!("{common_name} of {o}"))
}
