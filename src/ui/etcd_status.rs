//! `rsadm etcd status` for people: one table, three lines that sum it up, and what to do.

use std::{fmt::Write as _, time::Duration};

use crate::{
    etcd::{
        Alarm,
        status::{
            Advice, ApiServer, BackupReport, EtcdReport, MemberReport, Metrics, Millis, Trouble, Verdict,
        },
    },
    event::{bytes, count, span},
    ui::text::elapsed,
};

mod changes;

pub use changes::changes;

/// What stands where nothing is known.
const NOTHING: &str = "–";

/// The whole text, with a line end.
pub fn render(report: &EtcdReport) -> String {
    let mut text = headline(report);
    text.push('\n');
    text.push_str(&table(report));
    text.push('\n');
    line(&mut text, "quorum", &quorum(report));
    if !report.api_servers.is_empty() {
        line(&mut text, "clients", &clients(report));
    }
    measured(&mut text, report);
    if let Some(backup) = &report.backup {
        line(&mut text, "backup", &self::backup(backup));
    }
    if !report.advice.is_empty() {
        text.push('\n');
    }
    report.advice.iter().for_each(|a| text.push_str(&advice(a)));
    text
}

fn line(text: &mut String, label: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{label:<8} {value}");
}

/// What members measured since they started.
fn measured(text: &mut String, report: &EtcdReport) {
    let all = || report.members.iter().filter_map(|m| Some((m.name.as_str(), m.metrics.as_ref()?)));
    let disk = |(name, m): (&str, &Metrics)| Some(format!("{name} {}", millis(m.fsync.p99()?)));
    let disks: Vec<String> = all().filter_map(disk).collect();
    if !disks.is_empty() {
        line(text, "disks", &format!("fsync takes up to {} (99%)", disks.join(", ")));
    }
    let trips = all().filter_map(|(name, m)| m.longest_round_trip().map(|(to, time)| (time, name, to)));
    if let Some((time, from, to)) = trips.max() {
        line(text, "network", &format!("round trips take up to {} (99%, {from} to {to})", millis(time)));
    }
    let changes = all().map(|(_, m)| m).max_by_key(|m| (m.uptime_seconds, m.leader_changes));
    if let (Some(m), Some(leader)) = (changes, report.members.iter().find(|m| m.is_leader)) {
        let changes = count(usize::try_from(m.leader_changes).unwrap_or(usize::MAX), "change");
        line(
            text,
            "leader",
            &format!("{}; {changes} seen in {}", leader.name, elapsed(Duration::from_secs(m.uptime_seconds))),
        );
    }
}

fn millis(time: Duration) -> String {
    latency(Millis::from(time).micros)
}

fn headline(report: &EtcdReport) -> String {
    let mut parts = vec![report.cluster.clone()];
    parts.extend(report.cluster_id.iter().map(|id| format!("cluster {id}")));
    let versions = versions(report);
    if !versions.is_empty() {
        parts.push(format!("etcd {}", versions.join(" and ")));
    }
    parts.extend(report.revision.map(|r| format!("revision {r}")));
    let mut text = format!("{}\n", parts.join("  "));
    if report.verdict == Verdict::NoQuorum {
        text.push_str(&no_quorum(report));
    }
    text
}

/// Which versions members run, each once.
fn versions(report: &EtcdReport) -> Vec<&str> {
    let mut versions: Vec<&str> = report.members.iter().filter_map(|m| m.version.as_deref()).collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

fn no_quorum(report: &EtcdReport) -> String {
    let answering = report.members.iter().filter(|m| m.version.is_some() && !m.is_learner).count();
    let verb = if answering == 1 { "answers" } else { "answer" };
    let view = match &report.view {
        Some(view) => format!("what follows is {}'s own view", view.from),
        None => "what follows is the inventory's view".to_owned(),
    };
    let serves = if answering == 0 { "" } else { "etcd serves no writes; " };
    format!("NO QUORUM: {answering} of {} voters {verb}; {serves}{view}\n", report.quorum.voters)
}

fn quorum(report: &EtcdReport) -> String {
    let q = &report.quorum;
    let spare = match (q.can_lose, q.healthy < q.voters) {
        _ if !report.serves => String::new(),
        (0, false) => "; can lose none".to_owned(),
        (n, false) => format!("; can lose {n}"),
        (n, true) => format!("; can lose {n} more"),
    };
    format!("{} of {} voters healthy; needs {}{spare}", q.healthy, q.voters, q.needs)
}

fn backup(backup: &BackupReport) -> String {
    let every = span(i64::try_from(backup.interval_seconds).unwrap_or(i64::MAX));
    match (backup.newest_age_seconds, &backup.newest_host) {
        (Some(age), Some(host)) => format!("newest verified {} ago, by {host} (every {every})", span(age)),
        _ if backup.gone.is_some() => format!("none that is still there (every {every})"),
        _ => format!("none yet (every {every})"),
    }
}

fn clients(report: &EtcdReport) -> String {
    let mut lists: Vec<(Vec<&str>, Vec<&str>)> = Vec::new();
    for server in &report.api_servers {
        let dialled = dialled(report, server);
        match lists.iter_mut().find(|(members, _)| *members == dialled) {
            Some((_, names)) => names.push(&server.name),
            None => lists.push((dialled, vec![&server.name])),
        }
    }
    let dial = |(members, names): &(Vec<&str>, Vec<&str>)| {
        let verb = if names.len() == 1 { "dials" } else { "each dial" };
        format!("{} {verb} {}", names.join(" "), members.join(" "))
    };
    format!("API servers {}", lists.iter().map(dial).collect::<Vec<_>>().join("; "))
}

/// Whom an API server dials: members by name and in the table's order, whatever order it prefers; then what is none.
fn dialled<'r>(report: &'r EtcdReport, server: &'r ApiServer) -> Vec<&'r str> {
    let urls = server.dials(&report.members);
    let has = |member: &MemberReport, url: &str| member.client_urls.iter().any(|u| u == url);
    let members = report.members.iter().filter(|m| urls.iter().any(|u| has(m, u))).map(|m| m.name.as_str());
    let others = urls.iter().copied().filter(|u| !report.members.iter().any(|m| has(m, u)));
    members.chain(others).collect()
}

/// An advice as lines of text: what is so, what a host says, what to type.
pub(super) fn advice(advice: &Advice) -> String {
    let mut text = format!("{}\n", advice.text);
    for below in [&advice.says, &advice.command].into_iter().flatten() {
        let _ = writeln!(text, "  {below}");
    }
    text
}

const HEAD: [&str; 10] =
    ["MEMBER", "ENDPOINT", "ROLE", "TERM", "LAG", "DB / IN USE / QUOTA", "HASH", "LATENCY", "CERT", "NOTES"];

fn table(report: &EtcdReport) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    let differ = versions(report).len() > 1;
    rows.extend(report.members.iter().map(|member| row(member, differ)));
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let padded = |row: &[String; 10]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(|row| padded(row) + "\n").collect()
}

/// `differ` is true where members run different versions.
fn row(member: &MemberReport, differ: bool) -> [String; 10] {
    let or_nothing = |value: Option<String>| value.unwrap_or_else(|| NOTHING.to_owned());
    let name =
        if member.name.is_empty() { member.id.map(|id| id.to_string()) } else { Some(member.name.clone()) };
    let url = member.client_urls.first().or(member.peer_urls.first());
    [
        or_nothing(name),
        or_nothing(url.map(|u| u.split_once("//").map_or(u.as_str(), |(_, host)| host).to_owned())),
        role(member).to_owned(),
        or_nothing(member.raft_term.map(|t| t.to_string())),
        or_nothing(member.lag.map(|l| l.to_string())),
        or_nothing(database(member)),
        or_nothing(member.hash.clone()),
        or_nothing(member.latency_ms.map(|l| latency(l.micros))),
        or_nothing(member.days_left().map(|d| format!("{d} d"))),
        notes(member, differ),
    ]
}

fn role(member: &MemberReport) -> &'static str {
    match member {
        MemberReport { version: None, .. } | MemberReport { id: None, .. } => NOTHING,
        MemberReport { is_leader: true, .. } => "leader",
        MemberReport { is_learner: true, .. } => "learner",
        _ => "voter",
    }
}

fn database(member: &MemberReport) -> Option<String> {
    let size = member.db_size?;
    let used = member.db_size_in_use.unwrap_or(0).saturating_mul(100) / size.max(1);
    let quota = match member.db_size_quota {
        Some(u64::MAX) => "no quota".to_owned(),
        quota => quota.map_or_else(|| NOTHING.to_owned(), bytes),
    };
    Some(format!("{} / {used}% / {quota}", bytes(size)))
}

fn latency(micros: u32) -> String {
    match micros {
        0..10_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        _ => format!("{} ms", micros / 1000),
    }
}

fn notes(member: &MemberReport, differ: bool) -> String {
    let version = member.version.iter().filter(|_| differ).map(|version| format!("etcd {version}"));
    // The alarm CORRUPT is an error already, which says so, unless hashes tell otherwise.
    let is_told = |alarm: &&String| *alarm == Alarm::CORRUPT && member.error == Some(Trouble::Corrupt);
    let alarms = member.alarms.iter().filter(|a| !is_told(a)).map(|a| format!("alarm {a}"));
    let error = member.error.iter().map(ToString::to_string);
    version.chain(alarms).chain(error).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
