//! `rsadm certs status` for people: the authorities, a line a certificate, and what to do.

use crate::{
    etcd::status::Verdict,
    status::certificates::{Certificate, CertificatesStatus, Served},
    ui::{etcd_status::advice, text::table},
};

/// What stands where there is nothing to tell.
const NOTHING: &str = "–";

/// The whole text, with a line end.
pub fn render(status: &CertificatesStatus) -> String {
    let mut text = headline(status);
    text.push('\n');
    text.push_str(&authorities(status));
    text.push('\n');
    text.push_str(&certificates(status));
    for (host, why) in &status.unreachable {
        text.push_str(&format!("{host}  {why}\n"));
    }
    if !status.advice.is_empty() {
        text.push('\n');
    }
    status.advice.iter().for_each(|a| text.push_str(&advice(a)));
    text
}

fn headline(status: &CertificatesStatus) -> String {
    let lost = status.certificates.iter().filter(|c| c.is_lost()).count();
    let first = status.certificates.iter().filter_map(|c| Some((c.days?, c))).min_by_key(|(days, _)| *days);
    let tail = match (lost, first) {
        (0, Some((days, c))) => format!("the first to end in {days} d: {} on {}", c.name, c.host),
        (0, None) => "none seen".to_owned(),
        (n, _) if status.has_early() => {
            format!("{n} MISSING, EXPIRED OR NOT BEGUN")
        }
        (n, _) => format!("{n} MISSING OR EXPIRED"),
    };
    let degraded = match status.verdict {
        Verdict::Healthy => "",
        Verdict::Degraded | Verdict::NoQuorum => "  DEGRADED",
    };
    format!("{}  {} certificates, {tail}{degraded}\n", status.cluster, status.certificates.len())
}

fn authorities(status: &CertificatesStatus) -> String {
    let head = ["AUTHORITY", "ENDS", "DAYS", "KEY ON", "FILE"].map(str::to_owned);
    let rows = status.authorities.iter().map(|a| {
        let keepers: Vec<&str> = a.keepers.iter().map(crate::inventory::NodeName::as_str).collect();
        let keepers = if keepers.is_empty() { "no host".to_owned() } else { keepers.join(", ") };
        [a.name.clone(), day(&a.not_after), a.days.to_string(), keepers, a.path.clone()]
    });
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

fn certificates(status: &CertificatesStatus) -> String {
    let head = ["HOST", "CERTIFICATE", "ENDS", "DAYS", "SERVED", "SIGNED BY", "FILE"].map(str::to_owned);
    let rows = status.certificates.iter().map(|c| {
        [
            c.host.to_string(),
            c.name.to_owned(),
            c.not_after.as_deref().map_or_else(|| "missing".to_owned(), day),
            days(c),
            served(c),
            c.authority.clone(),
            c.path.clone(),
        ]
    });
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

fn days(certificate: &Certificate) -> String {
    match (&certificate.begins, certificate.days) {
        (Some(begins), _) => format!("from {}", minute(begins)),
        (None, Some(days)) => days.to_string(),
        (None, None) => NOTHING.to_owned(),
    }
}

fn served(certificate: &Certificate) -> String {
    match &certificate.served {
        None => NOTHING.to_owned(),
        Some(Served::Same) => "this one".to_owned(),
        Some(Served::Other { days }) if *days < 0 => "another, EXPIRED".to_owned(),
        Some(Served::Other { days }) => format!("another, {days} d"),
        Some(Served::Unknown { why }) => format!("? {}", why.lines().next().unwrap_or_default()),
    }
}

/// The minute of a time in RFC 3339.
fn minute(time: &str) -> String {
    time.get(..16).unwrap_or_default().replace('T', " ")
}

/// The day of a time in RFC 3339.
fn day(time: &str) -> String {
    time.split('T').next().unwrap_or_default().to_owned()
}
