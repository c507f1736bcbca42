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
        authorities::{Ca, WARNING_DAYS, holdings},
        inspect::{CertInfo, days_left},
        leaf::{Foreign, LeafSpec, URGENT_DAYS},
        specs,
    },
    plan::shared::Shared,
};

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
    status.advice = advice(sources, &status);
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

fn advice(sources: &Sources<'_>, status: &CertificatesStatus) -> Vec<Advice> {
    let say = |level, text: String, command: Option<String>| Advice { level, text, says: None, command };
    let renew = || Some(format!("rsadm certs renew{}", sources.inventory));
    let is_bare = sources.seen.hosts.values().all(|facts| facts.certs.is_empty());
    if !status.certificates.is_empty() && is_bare {
        let up = format!("rsadm up{}", sources.inventory);
        return vec![say(Level::Warning, "nothing is built yet; this does it:".to_owned(), Some(up))];
    }
    let hosts = |wants: &dyn Fn(&Certificate) -> bool| {
        let mut hosts: Vec<&str> = Vec::new();
        for c in status.certificates.iter().filter(|c| wants(c)) {
            if !hosts.contains(&c.host.as_str()) {
                hosts.push(c.host.as_str());
            }
        }
        (!hosts.is_empty()).then(|| hosts.join(", "))
    };
    let mut advice = Vec::new();
    // By such a clock nothing else of this can be told.
    if let Err(refusal) = clock::may_issue(sources.seen) {
        advice.push(say(Level::Warning, format!("{}; {}", refusal.why, refusal.help), None));
    }
    if let Err(refusal) = certs::agree(sources.cluster, sources.seen) {
        let text = format!("{}: {}; {}", refusal.subject, refusal.why, refusal.help);
        advice.push(say(Level::Warning, text, None));
    }
    for Certificate { host, path, authority, .. } in status.certificates.iter().filter(|c| c.foreign) {
        let text = format!(
            "{path} on {host} is signed by {authority}: the host serves another cluster, or the file was put there by mistake; \
             once it is moved away, this issues the right one:"
        );
        advice.push(say(Level::Warning, text, Some(format!("rsadm up{}", sources.inventory))));
    }
    for Certificate { host, path, of_another, .. } in &status.certificates {
        let Some(name) = of_another else { continue };
        let text = format!(
            "{path} on {host} is issued to {name}: it was put there by mistake; this issues the right one:"
        );
        advice.push(say(Level::Warning, text, Some(format!("rsadm up{}", sources.inventory))));
    }
    // Whoever built with kubeadm may keep the keys elsewhere on purpose.
    let built = sources.seen.hosts.values().any(|facts| facts.begun.is_some());
    for authority in status.authorities.iter().filter(|a| a.keepers.is_empty()) {
        let Authority { name, path, .. } = authority;
        let key = path.replace(".crt", ".key");
        let text = format!(
            "the key of the {name} is on no host that answers: nothing can be renewed, and nobody can join; put {key} back \
             from a backup on a host that keeps it (a bundle of rsadm etcd snapshot save --with-pki has it)"
        );
        advice.push(say(if built { Level::Warning } else { Level::Note }, text, None));
    }
    for authority in status.authorities.iter().filter(|a| a.days < WARNING_DAYS) {
        let Authority { name, days, .. } = authority;
        let text = match *days < 0 {
            true => format!(
                "the {name} has expired: nobody accepts what it signs, and nothing can be renewed with it"
            ),
            false => format!(
                "the {name} ends in {days} days, and with it everything that it signed; a new one is never made by \
                 itself, so plan the change now"
            ),
        };
        advice.push(say(Level::Warning, text, None));
    }
    // What its authority took along nobody can renew; the authority's line says so.
    let is_over = |c: &Certificate| status.authorities.iter().any(|a| a.name == c.authority && a.days < 0);
    let lost = hosts(&|c: &Certificate| c.is_lost() && !is_over(c));
    if let Some(hosts) = &lost {
        let or = if status.has_early() {
            "are missing, lack their keys, have expired or begin in the future"
        } else {
            "are missing, lack their keys or have expired"
        };
        let text = format!("certificates on {hosts} {or}; no API server is needed to renew them:");
        advice.push(say(Level::Warning, text, renew()));
    }
    let stale = |c: &Certificate| !c.is_lost() && matches!(c.served, Some(Served::Other { .. }));
    if let Some(hosts) = hosts(&stale) {
        let text = format!(
            "what is served on {hosts} is not what lies on disk: an API server may take a minute to notice a new file, \
             and what holds on longer takes it up when it is started anew"
        );
        advice.push(say(Level::Warning, text, None));
    }
    // Of what ends with its authority the authority's line says what there is to do.
    let within = |days| {
        move |c: &Certificate| {
            c.days.is_some_and(|d| (0..days).contains(&d)) && !c.with_authority && !c.renews_itself
        }
    };
    for (days, level) in [(URGENT_DAYS, Level::Warning), (RENEW_DAYS, Level::Note)] {
        if let (Some(hosts), None) = (hosts(&within(days)), &lost) {
            let text = format!("certificates on {hosts} end within {days} days; this renews them:");
            advice.push(say(level, text, renew()));
            break;
        }
    }
    advice
}

#[cfg(test)]
mod tests;
