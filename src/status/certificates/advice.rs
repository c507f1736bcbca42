//! What is to be done about certificates, and what about who signs them.

use super::{Authority, Certificate, CertificatesStatus, RENEW_DAYS, Served, Sources};
use crate::{
    etcd::status::{Advice, Level},
    phases::{certs, clock},
    pki::{
        authorities::{Ca, WARNING_DAYS},
        leaf::URGENT_DAYS,
    },
};

/// All there is to say; of a cluster that is not there yet, how it comes to be.
pub(super) fn advice(sources: &Sources<'_>, status: &CertificatesStatus) -> Vec<Advice> {
    let is_bare = sources.seen.hosts.values().all(|facts| facts.certs.is_empty());
    if !status.certificates.is_empty() && is_bare {
        return vec![issue(sources, "nothing is built yet; this does it:".to_owned())];
    }
    let mut advice = Vec::new();
    advice.extend(wrong_clock(sources));
    advice.extend(disagreement(sources));
    advice.extend(foreign(sources, status));
    advice.extend(of_another(sources, status));
    advice.extend(without_key(sources, status));
    advice.extend(ending_authorities(status));
    let lost = lost(sources, status);
    let is_lost = lost.is_some();
    advice.extend(lost);
    advice.extend(not_taken_up(status));
    if !is_lost {
        advice.extend(ending(sources, status));
    }
    advice
}

fn say(level: Level, text: String) -> Advice {
    Advice { level, text, says: None, command: None }
}

/// `up` puts it right.
fn issue(sources: &Sources<'_>, text: String) -> Advice {
    Advice { command: Some(format!("rsadm up{}", sources.inventory)), ..say(Level::Warning, text) }
}

/// A renewal puts it right.
fn renew(sources: &Sources<'_>, level: Level, text: String) -> Advice {
    Advice { command: Some(format!("rsadm certs renew{}", sources.inventory)), ..say(level, text) }
}

/// The hosts of such certificates, each once; `None` where there are none.
fn hosts(status: &CertificatesStatus, wants: impl Fn(&Certificate) -> bool) -> Option<String> {
    let mut hosts: Vec<&str> = Vec::new();
    for c in status.certificates.iter().filter(|c| wants(c)) {
        if !hosts.contains(&c.host.as_str()) {
            hosts.push(c.host.as_str());
        }
    }
    (!hosts.is_empty()).then(|| hosts.join(", "))
}

/// By such a clock nothing else of this can be told.
fn wrong_clock(sources: &Sources<'_>) -> Option<Advice> {
    let refusal = clock::may_issue(sources.seen).err()?;
    Some(say(Level::Warning, format!("{}; {}", refusal.why, refusal.help)))
}

fn disagreement(sources: &Sources<'_>) -> Option<Advice> {
    let refusal = certs::agree(sources.cluster, sources.seen).err()?;
    Some(say(Level::Warning, format!("{}: {}; {}", refusal.subject, refusal.why, refusal.help)))
}

fn foreign(sources: &Sources<'_>, status: &CertificatesStatus) -> Vec<Advice> {
    let foreign = status.certificates.iter().filter(|c| c.foreign);
    let told = foreign.map(|Certificate { host, path, authority, .. }| {
        format!(
            "{path} on {host} is signed by {authority}: the host serves another cluster, or the file was put there by mistake; \
             once it is moved away, this issues the right one:"
        )
    });
    told.map(|text| issue(sources, text)).collect()
}

fn of_another(sources: &Sources<'_>, status: &CertificatesStatus) -> Vec<Advice> {
    let told = status.certificates.iter().filter_map(|Certificate { host, path, of_another, .. }| {
        let name = of_another.as_ref()?;
        Some(format!(
            "{path} on {host} is issued to {name}: it was put there by mistake; this issues the right one:"
        ))
    });
    told.map(|text| issue(sources, text)).collect()
}

fn without_key(sources: &Sources<'_>, status: &CertificatesStatus) -> Vec<Advice> {
    // Whoever built with kubeadm may keep the keys elsewhere on purpose.
    let built = sources.seen.hosts.values().any(|facts| facts.begun.is_some());
    let level = if built { Level::Warning } else { Level::Note };
    let without = status.authorities.iter().filter(|a| a.keepers.is_empty());
    let told = without.map(|Authority { name, path, .. }| {
        let key = path.replace(".crt", ".key");
        format!(
            "the key of the {name} is on no host that answers: nothing can be renewed, and nobody can join; put {key} back \
             from a backup on a host that keeps it (a bundle of rsadm etcd snapshot save --with-pki has it)"
        )
    });
    told.map(|text| say(level, text)).collect()
}

fn ending_authorities(status: &CertificatesStatus) -> Vec<Advice> {
    let ending = status.authorities.iter().filter(|a| a.days < WARNING_DAYS);
    let told = ending.map(|Authority { name, days, .. }| match (*days < 0, *name == Ca::Etcd.to_string()) {
        (true, _) => {
            format!("the {name} has expired: nobody accepts what it signs, and nothing can be renewed with it")
        }
        (false, true) => format!(
            "the {name} ends in {days} days, and with it everything that it signed; no command prolongs it, and README has the \
             steps by hand, at \"etcd's authority ends\""
        ),
        (false, false) => format!(
            "the {name} ends in {days} days, and with it everything that it signed; a new one is never made by \
             itself, so plan the change now"
        ),
    });
    told.map(|text| say(Level::Warning, text)).collect()
}

fn lost(sources: &Sources<'_>, status: &CertificatesStatus) -> Option<Advice> {
    // What its authority took along nobody can renew; the authority's line says so.
    let is_over = |c: &Certificate| status.authorities.iter().any(|a| a.name == c.authority && a.days < 0);
    let hosts = hosts(status, |c| c.is_lost() && !is_over(c))?;
    let or = match status.has_early() {
        true => "are missing, lack their keys, have expired or begin in the future",
        false => "are missing, lack their keys or have expired",
    };
    let text = format!("certificates on {hosts} {or}; no API server is needed to renew them:");
    Some(renew(sources, Level::Warning, text))
}

fn not_taken_up(status: &CertificatesStatus) -> Option<Advice> {
    let hosts = hosts(status, |c| !c.is_lost() && matches!(c.served, Some(Served::Other { .. })))?;
    let text = format!(
        "what is served on {hosts} is not what lies on disk: an API server may take a minute to notice a new file, \
         and what holds on longer takes it up when it is started anew"
    );
    Some(say(Level::Warning, text))
}

/// The most urgent alone. Of what ends with its authority the authority's line says what there is to do.
fn ending(sources: &Sources<'_>, status: &CertificatesStatus) -> Option<Advice> {
    let ends = |c: &Certificate, days| {
        c.days.is_some_and(|d| (0..days).contains(&d)) && !c.with_authority && !c.renews_itself
    };
    [(URGENT_DAYS, Level::Warning), (RENEW_DAYS, Level::Note)].into_iter().find_map(|(days, level)| {
        let hosts = hosts(status, |c| ends(c, days))?;
        let text = format!("certificates on {hosts} end within {days} days; this renews them:");
        Some(renew(sources, level, text))
    })
}
