//! What a person should know about the state of a cluster, and what helps. Only commands that exist are named.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    assess::Known,
    disks,
    host::HostState,
    links,
    report::{Advice, EtcdReport, Level, MemberReport, Trouble},
    silence::{revive, silent, unfinished, was_removed},
};
use crate::{etcd::Alarm, pki::leaf::URGENT_DAYS};

/// Above this share of its quota a database is close to NOSPACE, after which etcd takes no writes.
const QUOTA_WARNING_PERCENT: u64 = 80;

/// All there is to say, warnings first. `inventory` is what stands after a command that takes one.
pub(super) fn advise(report: &EtcdReport, known: &Known) -> Vec<Advice> {
    let (inventory, timing) = (known.inventory.as_str(), known.timing);
    let up = format!("rsadm up{inventory}");
    let replace = format!("rsadm etcd replace{inventory}");
    let mut advice: Vec<Advice> = Vec::new();
    // Members whose certificates have expired trust nobody and are trusted by nobody: first, as it may be all that is wrong.
    advice.extend(other_clusters(report, &replace, &known.old_clusters));
    advice.extend(certificates(report, inventory));
    let unfinished = unfinished(report, inventory);
    let may_be_started = unfinished.is_none();
    advice.extend(unfinished);
    if report.serves {
        advice.extend(unhealthy(report, &up, &replace));
    } else if may_be_started {
        advice.extend(no_quorum(report, &up));
    }
    advice.extend(alarms(report, inventory, &replace));
    advice.extend(hashes(report, &replace));
    advice.extend(membership(report, &up, &format!("rsadm etcd add{inventory}")));
    advice.extend(report.members.iter().filter_map(quota));
    advice.extend(versions(report, inventory));
    advice.extend(links::advise(report));
    advice.extend(terms(report));
    advice.extend(disks::advise(report, timing));
    advice.extend(api_servers(report, &up));
    advice.extend(even(report));
    let names: Vec<String> = report.members.iter().map(title).collect();
    advice.extend(report.backup.iter().flat_map(|b| b.advice(inventory, &names)));
    advice.sort_by_key(|a| a.level);
    advice
}

pub(super) fn warning(text: String) -> Advice {
    Advice { level: Level::Warning, text, says: None, command: None }
}

pub(super) fn note(text: String) -> Advice {
    Advice { level: Level::Note, text, says: None, command: None }
}

impl Advice {
    pub(super) fn with(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }
}

/// `m1`, `m1 and m2`, `m1, m2 and m3`.
pub(super) fn list<S: AsRef<str>>(names: &[S]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.split_last() {
        None => "nobody".to_owned(),
        Some((one, [])) => (*one).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

fn names<'r>(members: impl Iterator<Item = &'r MemberReport>) -> Vec<String> {
    members.map(title).collect()
}

/// A member in words: its name, or its ID while it never started.
pub(super) fn title(member: &MemberReport) -> String {
    match member.id {
        Some(id) if member.name.is_empty() => format!("member {id}"),
        _ => member.name.clone(),
    }
}

fn unhealthy(report: &EtcdReport, up: &str, replace: &str) -> Vec<Advice> {
    let mut advice: Vec<Advice> =
        report.members.iter().filter_map(|m| silent(m, up, Some(replace), is_of_others(report))).collect();
    advice.extend(report.members.iter().filter_map(|m| astray(m, replace)));
    advice.extend(spare(report));
    advice
}

/// Members that serve the data of another cluster: first of all, since whoever reads there reads what is not so. Which of two
/// clusters is the one to keep is known only where a restore or a recovery recorded it.
fn other_clusters(report: &EtcdReport, replace: &str, old: &[u64]) -> Vec<Advice> {
    let of = |member: &MemberReport| {
        let Some(Trouble::OtherCluster(id)) = member.error else { return None };
        let title = title(member);
        let text = match old.contains(&id) {
            true => format!(
                "{title} missed a restore or a recovery and still serves the old data (of cluster {id:x}): let no API server \
                 ask it. This sets the old data aside and makes it a member again:"
            ),
            false => {
                let text = format!(
                    "{title} serves the data of another cluster ({id:x}), and only you can tell which of the two is the one \
                     to keep: stop etcd on the hosts of the other, by moving {} away there",
                    crate::layout::ETCD_MANIFEST
                );
                return Some(warning(text));
            }
        };
        let advice = warning(text);
        Some(if report.serves { advice.with(format!("{replace} {title}")) } else { advice })
    };
    report.members.iter().filter_map(of).collect()
}

/// Members that run, and not as part of this cluster.
fn astray(member: &MemberReport, replace: &str) -> Option<Advice> {
    let title = title(member);
    let text = match member.error.as_ref()? {
        Trouble::OtherMember(id) => {
            let text = format!(
                "etcd on {title} runs with the data of another member ({id:x}), which was removed or restored; this sets it \
                 aside and lets {title} join anew:"
            );
            return Some(warning(text).with(format!("{replace} {title}")));
        }
        Trouble::NoLeader | Trouble::NoReads(_) => {
            format!("{title} is cut off from the other members: look at the network between them, port 2380")
        }
        Trouble::Behind(_) => format!("{title} does not keep up: look at the latency of its disk"),
        _ => return None,
    };
    Some(warning(text))
}

/// With the command that gives the first of these members the data of the others, where there is a quorum to do it.
fn anew(advice: Advice, report: &EtcdReport, names: &[String], replace: &str) -> Advice {
    match names.first().filter(|_| report.serves) {
        Some(name) => advice.with(format!("{replace} {name}")),
        None => advice,
    }
}

/// How close the cluster is to losing its quorum.
fn spare(report: &EtcdReport) -> Option<Advice> {
    let q = &report.quorum;
    if q.healthy < q.needs {
        let text = format!(
            "a quorum stands, since etcd serves, but only {} of {} voters are well as seen from here",
            q.healthy, q.voters
        );
        return Some(warning(text));
    }
    let voters = || report.members.iter().filter(|m| m.id.is_some() && !m.is_learner);
    let sick = names(voters().filter(|m| !m.healthy));
    if sick.is_empty() || q.can_lose > 0 {
        return None;
    }
    let well = list(&names(voters().filter(|m| m.healthy)));
    let verb = if sick.len() == 1 { "is" } else { "are" };
    let text = format!(
        "etcd survives no further failure: do not restart {well} until {} {verb} healthy",
        list(&sick)
    );
    Some(warning(text))
}

fn no_quorum(report: &EtcdReport, up: &str) -> Vec<Advice> {
    let voters = || report.members.iter().filter(|m| !m.is_learner);
    let silent: Vec<&MemberReport> = voters().filter(|m| m.version.is_none()).collect();
    let answering = voters().count() - silent.len();
    let q = &report.quorum;
    if answering >= q.needs {
        let text = "enough members answer to elect a leader: ask again in a moment, and if it stays so look at the \
                    network between them, port 2380";
        return vec![warning(text.to_owned())];
    }
    if answering == 0
        && let Some(advice) = elsewhere(report)
    {
        return vec![advice];
    }
    let mut advice = revive(&silent, q.needs, q.voters, up);
    if answering == 0 {
        let text = "no member answers; whether etcd serves where we cannot see it cannot be told from here";
        advice.insert(0, warning(text.to_owned()));
    }
    let keep = "until then delete no data directory: it takes one of them to get the quorum back";
    advice.push(warning(keep.to_owned()));
    advice
}

/// Where API servers dial others than the hosts that were asked, those are not the members.
fn elsewhere(report: &EtcdReport) -> Option<Advice> {
    let asked: BTreeSet<&str> =
        report.members.iter().flat_map(|m| &m.client_urls).map(|u| u.trim_end_matches('/')).collect();
    let dialled: BTreeSet<&str> = report.api_servers.iter().flat_map(|s| s.dials(&report.members)).collect();
    let is_elsewhere = !dialled.is_empty() && dialled.is_disjoint(&asked);
    is_elsewhere.then(|| {
        let urls: Vec<&str> = dialled.into_iter().collect();
        warning(format!(
            "no etcd host of the inventory runs a member, and API servers dial {}: is it the right inventory? The hosts of the \
             members have the role etcd in it",
            list(&urls)
        ))
    })
}

fn alarms(report: &EtcdReport, inventory: &str, replace: &str) -> Vec<Advice> {
    let raised = |kind: &str| names(report.members.iter().filter(|m| m.alarms.iter().any(|a| a == kind)));
    let full = raised(Alarm::NOSPACE);
    let corrupt = raised(Alarm::CORRUPT);
    let mut advice = Vec::new();
    if !full.is_empty() {
        let text = format!(
            "etcd takes no writes: the database of {} reached its quota (alarm NOSPACE); this drops history, defragments \
             one member at a time, the leader last, and takes the alarm back:",
            list(&full)
        );
        advice.push(warning(text).with(format!("rsadm etcd defrag{inventory}")));
    }
    if !corrupt.is_empty() {
        let text = format!(
            "the data of {} is corrupt (alarm CORRUPT): do not restart the other members; this gives it theirs, and sets \
             its own aside:",
            list(&corrupt)
        );
        advice.push(anew(warning(text), report, &corrupt, replace));
    }
    advice
}

fn hashes(report: &EtcdReport, replace: &str) -> Option<Advice> {
    let odd = names(report.members.iter().filter(|m| m.error == Some(Trouble::Differs)));
    let hashes: BTreeSet<_> =
        report.members.iter().filter_map(|m| Some((m.hash_compact_revision?, m.hash.as_deref()?))).collect();
    let compactions: BTreeSet<u64> = hashes.iter().map(|(compaction, _)| *compaction).collect();
    if !odd.is_empty() {
        let text = format!(
            "at one revision the data of {} is not that of the others: do not trust reads from there; this gives it \
             theirs, and sets its own aside:",
            list(&odd)
        );
        return Some(anew(warning(text), report, &odd, replace));
    }
    (hashes.len() > compactions.len()).then(|| {
        warning(
            "at one revision members hold different data, and no majority tells which is right".to_owned(),
        )
    })
}

/// An etcd host that the inventory has and the cluster has not.
fn no_member(member: &MemberReport, report: &EtcdReport, up: &str, add: &str) -> Advice {
    let title = title(member);
    let text = format!("{title} is an etcd host of the inventory and no member of the cluster");
    let this = || format!("{text}: take the role off it there, or this makes it one:");
    match &member.host {
        // It has to be a node before it is a member, and kubeadm alone makes it one there.
        Some(HostState::Seen(process)) if is_of_others(report) && !process.kubelet => {
            warning(format!("{text}: take the role off it there, or let it join first, with kubeadm join"))
        }
        Some(HostState::Seen(_)) if report.serves && is_of_others(report) => {
            warning(this()).with(format!("{add} {title}"))
        }
        Some(HostState::Seen(_)) if report.serves => warning(this()).with(up),
        _ => warning(text),
    }
}

fn membership(report: &EtcdReport, up: &str, add: &str) -> Vec<Advice> {
    let of = |member: &MemberReport| {
        let title = title(member);
        let advice = match member.error {
            Some(Trouble::Unstarted) if member.is_learner => {
                let end = if member.in_inventory { "goes on with it" } else { "takes it out" };
                note(format!("{title} is a learner that was added and never started: this {end}:")).with(up)
            }
            Some(Trouble::Unstarted) => {
                warning(format!("{title} was added and never started: it counts as a voter that is down"))
            }
            _ if !member.in_inventory && member.id.is_some() => {
                let at = list(&member.peer_urls);
                warning(format!(
                    "{title} ({at}) is a member, and the inventory has no etcd host there: put it in, or this takes it out:"
                ))
                .with(up)
            }
            // Told with what it serves.
            Some(Trouble::OtherCluster(_)) if member.id.is_none() => return None,
            _ if member.id.is_none() && was_removed(member) => return None,
            _ if member.id.is_none() => no_member(member, report, up, add),
            _ if member.is_learner => {
                note(format!("{title} is a learner: it copies the data and has no vote yet"))
            }
            _ => return None,
        };
        Some(advice)
    };
    // Without a member list the rows are the inventory's, and nothing can be said.
    report.view.iter().flat_map(|_| report.members.iter().filter_map(of)).collect()
}

fn quota(member: &MemberReport) -> Option<Advice> {
    let (size, quota) = (member.db_size?, member.db_size_quota?);
    let percent = size.saturating_mul(100) / quota;
    let text = format!(
        "the database of {} takes {percent}% of its quota; at 100% etcd takes no writes (etcd.quota_backend_bytes)",
        title(member)
    );
    (percent > QUOTA_WARNING_PERCENT).then(|| warning(text))
}

/// Certificates that have ended, those that have not begun, and those that soon end: each kind once, by who built the hosts.
fn certificates(report: &EtcdReport, inventory: &str) -> Vec<Advice> {
    const CLOCKS: &str = "(rsadm preflight compares the clocks)";
    let soon = format!("will expire within {URGENT_DAYS} days");
    let ended = |m: &MemberReport| m.certificate_days.is_some_and(|d| d < 0);
    // In rustls' words.
    let early = |m: &MemberReport| m.error.as_ref().is_some_and(|e| e.to_string().contains("not valid yet"));
    let ends = |m: &MemberReport| m.certificate_days.is_some_and(|d| (0..=URGENT_DAYS).contains(&d));
    type Kind<'k> = (&'k dyn Fn(&MemberReport) -> bool, String, String);
    let kinds: [Kind<'_>; 3] = [
        (&ended, "has expired".into(), "have expired".into()),
        (&early, format!("has not begun {CLOCKS}"), format!("have not begun {CLOCKS}")),
        (&ends, soon.clone(), soon),
    ];
    let mut advice = Vec::new();
    for (concerns, of_one, of_several) in &kinds {
        for ours in [true, false] {
            let those = report.members.iter().filter(|m| concerns(m) && is_on_others_host(m) != ours);
            let names = names(those);
            let text = match names.len() {
                0 => continue,
                1 => format!("the certificate that {} serves {of_one}", list(&names)),
                _ => format!("the certificates that {} serve {of_several}", list(&names)),
            };
            advice.push(match ours {
                true => warning(format!("{text}; this renews what ends soon, with or without a quorum:"))
                    .with(format!("rsadm certs renew{inventory}")),
                false => warning(format!("{text}; on a host that kubeadm built, this renews what is there:"))
                    .with("kubeadm certs renew all"),
            });
        }
    }
    advice
}

/// True where somebody else than rsadm built hosts of members that run.
fn is_of_others(report: &EtcdReport) -> bool {
    report.members.iter().any(|m| m.version.is_some() && is_on_others_host(m))
}

/// True where somebody else than rsadm built the host of a member.
fn is_on_others_host(member: &MemberReport) -> bool {
    matches!(&member.host, Some(HostState::Seen(process)) if !process.prepared)
}

fn versions(report: &EtcdReport, inventory: &str) -> Option<Advice> {
    let versions: BTreeSet<&str> = report.members.iter().filter_map(|m| m.version.as_deref()).collect();
    let all: Vec<&str> = versions.into_iter().collect();
    (all.len() > 1).then(|| {
        let text = format!("members run different versions: {}", list(&all));
        match is_of_others(report) {
            true => warning(text),
            false => warning(format!("{text}; this goes on to that of the inventory:"))
                .with(format!("rsadm etcd upgrade{inventory}")),
        }
    })
}

fn terms(report: &EtcdReport) -> Option<Advice> {
    let terms: BTreeSet<u64> =
        report.members.iter().filter(|m| m.id.is_some()).filter_map(|m| m.raft_term).collect();
    let text =
        "members are in different raft terms: an election was under way; if it stays so, look at the network";
    (terms.len() > 1).then(|| note(text.to_owned()))
}

fn api_servers(report: &EtcdReport, up: &str) -> Vec<Advice> {
    if report.view.is_none() {
        return Vec::new();
    }
    let urls = |learners: bool| -> BTreeSet<&str> {
        let members = report.members.iter().filter(|m| m.id.is_some() && (learners || !m.is_learner));
        members.flat_map(|m| &m.client_urls).map(|u| u.trim_end_matches('/')).collect()
    };
    let (all, voters) = (urls(true), urls(false));
    let mut unknown: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
    let mut missing = unknown.clone();
    for server in &report.api_servers {
        if server.dials_itself_only() {
            continue;
        }
        let dialled: BTreeSet<&str> = server.dials(&report.members).into_iter().collect();
        unknown.entry(dialled.difference(&all).copied().collect()).or_default().push(&server.name);
        missing.entry(voters.difference(&dialled).copied().collect()).or_default().push(&server.name);
    }
    let differs = |found: BTreeMap<Vec<&str>, Vec<&str>>, verb: &str| -> Vec<Advice> {
        let found = found.into_iter().filter(|(urls, _)| !urls.is_empty());
        let text = |(urls, on): (Vec<&str>, Vec<&str>)| {
            format!("--etcd-servers on {} {verb} {}", list(&on), list(&urls))
        };
        found.map(|f| warning(text(f)).with(up)).collect()
    };
    [differs(unknown, "names what is no member:"), differs(missing, "lacks")].concat()
}

fn even(report: &EtcdReport) -> Option<Advice> {
    let voters = report.quorum.voters;
    let text = format!(
        "{voters} voters can lose no more than {} can: an odd number is better",
        voters.saturating_sub(1)
    );
    (voters > 0 && voters.is_multiple_of(2)).then(|| note(text))
}
