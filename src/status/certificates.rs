//! How the certificates of a cluster are, as `rsadm certs status` tells it: what lies on disk, what is served, and who
//! signed it. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    etcd::status::{Advice, Level, Verdict},
    inventory::{Cluster, Node, NodeName},
    observe::{Facts, Observed},
    phases::{certs, clock, ownership},
    pki::{
        authorities::{Ca, holdings},
        inspect::{CertInfo, days_left},
        leaf::{Foreign, LeafSpec},
        specs,
    },
    plan::shared::Shared,
};

mod advice;
#[cfg(test)]
mod tests;

/// A leaf that ends within this time is worth renewing: a quarter of the year for which it is issued.
pub const RENEW_DAYS: i64 = 90;

/// What it is made from.
pub struct Sources<'a> {
    /// What is wanted.
    pub cluster: &'a Cluster,
    /// What stands after a command that takes the inventory.
    pub inventory: &'a str,
    /// What was seen.
    pub seen: &'a Observed,
    /// Why other hosts were not.
    pub unreachable: &'a BTreeMap<NodeName, String>,
    /// What is served, or why that could not be seen.
    pub served: &'a BTreeMap<(NodeName, &'static str), Result<CertInfo, String>>,
    /// The time against which certificates expire.
    pub now: OffsetDateTime,
}

/// The whole. Names are an interface: `rsadm certs status -o json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificatesStatus {
    /// The cluster's name in the inventory.
    pub cluster: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// Who signs.
    pub authorities: Vec<Authority>,
    /// Host by host.
    pub certificates: Vec<Certificate>,
    /// Hosts that could not be asked, and why.
    pub unreachable: BTreeMap<NodeName, String>,
    /// What is off and what to do about it, the worst first.
    pub advice: Vec<Advice>,
}

/// One authority, on all hosts that have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authority {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: String,
    /// When it ends, RFC 3339.
    pub not_after: String,
    /// Whole days until then; negative once expired.
    pub days: i64,
    /// Hosts that keep its key.
    pub keepers: Vec<NodeName>,
}

/// One certificate of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// Where.
    pub host: NodeName,
    /// Its name, as kubeadm has it.
    pub name: &'static str,
    /// Its file: a certificate, or a kubeconfig that holds one.
    pub path: String,
    /// Who signs it; where another authority of that name did, `another` before it.
    pub authority: String,
    /// True where another authority did.
    #[serde(skip)]
    foreign: bool,
    /// True where it ends with its authority: renewed, it would end no later.
    #[serde(skip)]
    with_authority: bool,
    /// True where its owner renews it by itself, and is not late with that.
    #[serde(skip)]
    renews_itself: bool,
    /// Whom it is issued to instead of its host, where rsadm built that.
    #[serde(skip)]
    of_another: Option<String>,
    /// When it ends, RFC 3339; `null` where there is none, or its key is not beside it.
    pub not_after: Option<String>,
    /// Whole days until then; negative once expired.
    pub days: Option<i64>,
    /// When it begins, RFC 3339, where that is in the future of its hosts; `null` where it has begun.
    pub begins: Option<String>,
    /// What the process that has it serves; `null` for what only clients show.
    pub served: Option<Served>,
}

/// What is served where a certificate lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Served {
    /// The certificate on disk.
    Same,
    /// Another one, which ends in so many days.
    Other {
        /// Whole days.
        days: i64,
    },
    /// It could not be seen.
    Unknown {
        /// Why.
        why: String,
    },
}

impl Certificate {
    /// True where nobody accepts it, or nobody could.
    pub fn is_lost(&self) -> bool {
        self.days.is_none_or(|days| days < 0)
            || self.begins.is_some()
            || matches!(self.served, Some(Served::Other { days }) if days < 0)
    }
}

impl CertificatesStatus {
    /// True where one begins in the future of its hosts.
    pub fn has_early(&self) -> bool {
        self.certificates.iter().any(|c| c.begins.is_some())
    }
}

/// Makes the status.
pub fn assess(sources: &Sources<'_>) -> CertificatesStatus {
    let Sources { cluster, seen, now, .. } = *sources;
    let on_hosts = cluster.nodes.iter().filter_map(|node| Some((node, seen.hosts.get(&node.name)?)));
    let authorities = Ca::ALL.map(|ca| (ca, authority_of(cluster, seen, ca)));
    // Where hosts differ nobody knows which of them signs for this cluster, so nothing is called another's.
    let is_one = |ca| certs::one_and_the_same(cluster, seen, Shared::Authority(ca)).is_ok();
    let signers = authorities.clone().map(|(ca, info)| (ca, info.filter(|_| is_one(ca))));
    let certificates: Vec<Certificate> = on_hosts
        .flat_map(|(node, facts)| {
            let specs = specs::specs_for(cluster, node).into_iter();
            let signers = &signers;
            specs.map(move |spec| {
                let signer =
                    signers.iter().find(|(ca, _)| *ca == spec.ca).and_then(|(_, info)| info.as_ref());
                certificate(sources, node, facts, &spec, signer)
            })
        })
        .collect();
    let authorities: Vec<Authority> = authorities
        .iter()
        .filter_map(|(ca, info)| Some(authority(sources, *ca, info.as_ref()?, now)))
        .collect();
    let mut status = CertificatesStatus {
        cluster: cluster.name.clone(),
        verdict: Verdict::Healthy,
        authorities,
        certificates,
        unreachable: sources.unreachable.clone(),
        advice: Vec::new(),
    };
    status.advice = advice::advice(sources, &status);
    let warned = status.advice.iter().any(|a| a.level == Level::Warning);
    if warned || !status.unreachable.is_empty() {
        status.verdict = Verdict::Degraded;
    }
    status
}

fn certificate(
    sources: &Sources<'_>,
    node: &Node,
    facts: &Facts,
    spec: &LeafSpec,
    signer: Option<&CertInfo>,
) -> Certificate {
    let found = certs::found_certificate(facts, &spec.place)
        .filter(|info| certs::has_its_key(facts, &spec.place, info));
    let foreign = spec.foreign == Foreign::Refuse
        && found.as_ref().zip(signer).is_some_and(|(info, signer)| !info.is_signed_by(signer));
    let served = sources.served.get(&(node.name.clone(), spec.name)).map(|served| match served {
        Err(why) => Served::Unknown { why: why.clone() },
        Ok(info) if found.as_ref().is_some_and(|f| f.fingerprint == info.fingerprint) => Served::Same,
        Ok(info) => Served::Other { days: days_left(info.not_after, sources.now) },
    });
    Certificate {
        host: node.name.clone(),
        name: spec.name,
        path: spec.place.cert_path().to_owned(),
        authority: if foreign { format!("another {}", spec.ca) } else { spec.ca.to_string() },
        foreign,
        with_authority: found.as_ref().zip(signer).is_some_and(|(info, signer)| info.ends_with(signer)),
        renews_itself: found.as_ref().is_some_and(|info| certs::renews_itself(spec, info, sources.now)),
        of_another: found
            .as_ref()
            .map(|info| info.common_name.clone())
            .filter(|name| facts.begun.is_some() && !foreign && *name != spec.common_name)
            // A host at another's address is another matter, which up tells.
            .filter(|_| ownership::built_as(sources.cluster, node, facts).is_none()),
        not_after: found.as_ref().and_then(ends),
        days: found.as_ref().map(|info| days_left(info.not_after, sources.now)),
        begins: found
            .filter(|info| info.is_early(clock::of_hosts(sources.seen, sources.now)))
            .and_then(|info| info.not_before.format(&Rfc3339).ok()),
        served,
    }
}

/// The authority as the first host has it; where they differ it is told.
pub(super) fn authority_of(cluster: &Cluster, seen: &Observed, ca: Ca) -> Option<CertInfo> {
    let hosts = cluster.nodes.iter().filter_map(|n| seen.hosts.get(&n.name));
    hosts.filter_map(|f| certs::certificate_of_der(f.certs.get(&ca.cert_path())?)).next()
}

fn authority(sources: &Sources<'_>, ca: Ca, info: &CertInfo, now: OffsetDateTime) -> Authority {
    let on_hosts = sources.cluster.nodes.iter().filter_map(|n| Some((n, sources.seen.hosts.get(&n.name)?)));
    let keeps = |(node, facts): &(&Node, &Facts)| {
        holdings(node).iter().any(|h| h.ca == ca && h.key) && facts.files.contains_key(&ca.key_path())
    };
    Authority {
        name: ca.to_string(),
        path: ca.cert_path(),
        not_after: ends(info).unwrap_or_default(),
        days: days_left(info.not_after, now),
        keepers: on_hosts.filter(keeps).map(|(node, _)| node.name.clone()).collect(),
    }
}

fn ends(info: &CertInfo) -> Option<String> {
    info.not_after.format(&Rfc3339).ok()
}
