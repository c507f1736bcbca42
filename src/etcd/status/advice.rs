//! What a person should know about the state of a cluster, and what helps. Only commands that exist are named.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    alarms::alarms,
    assess::Known,
    certificates::{self, has_expired},
    commands::Commands,
    disks, doubt,
    hashes::uncompared,
    host::HostState,
    links,
    membership::{astray, listens_elsewhere, membership, moved, other_clusters},
    report::{Advice, EtcdReport, Level, MemberReport, Trouble},
    silence::{revive, silent, unfinished},
    timing::Pace,
};

/// Above this share of its quota a database is close to NOSPACE, after which etcd takes no writes.
const QUOTA_WARNING_PERCENT: u64 = 80;

/// All there is to say, warnings first. `inventory` is what stands after a command that takes one.
pub(super) fn advise(report: &EtcdReport, known: &Known) -> Vec<Advice> {
    let commands = Commands::new(&known.inventory);
    let mut advice: Vec<Advice> = Vec::new();
    let unfinished = unfinished(report, commands);
    let may_be_started = unfinished.is_none();
    advice.extend(unfinished);
    advice.extend(other_clusters(report, commands, &known.old_clusters, !may_be_started));
    // Members whose certificates have expired trust nobody and are trusted by nobody: early, as it may be all that is wrong.
    advice.extend(certificates::advise(report, commands));
    let denied = denied(report);
    let is_told = denied.is_none();
    advice.extend(denied);
    if report.serves {
        advice.extend(unhealthy(report, commands));
    } else if may_be_started && is_told {
        advice.extend(no_quorum(report, commands));
    }
    advice.extend(alarms(report, commands));
    advice.extend(hashes(report, commands));
    advice.extend(uncompared(report, commands));
    advice.extend(membership(report, commands, &known.old_clusters));
    advice.extend(report.members.iter().filter_map(|m| quota(m, is_of_others(report))));
    advice.extend(versions(report, commands));
    advice.extend(links::advise(report));
    advice.extend(terms(report));
    advice.extend(disks::advise(report, Pace::of(report, known.timing)));
    advice.extend(report.members.iter().filter_map(|m| disks::unmounted(m, commands)));
    advice.extend(report.members.iter().filter_map(disks::room));
    advice.extend(api_servers(report, commands));
    advice.extend(even(report));
    let names: Vec<String> = report.members.iter().map(title).collect();
    let up = if is_of_others(report) { commands.backups() } else { commands.up() };
    advice.extend(report.backup.iter().flat_map(|b| b.advice(&known.inventory, &up, &names)));
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
pub fn list<S: AsRef<str>>(names: &[S]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.split_last() {
        None => "nobody".to_owned(),
        Some((one, [])) => (*one).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

pub(super) fn names<'r>(members: impl Iterator<Item = &'r MemberReport>) -> Vec<String> {
    members.map(title).collect()
}

/// A member in words: its name, or its ID while it never started.
pub fn title(member: &MemberReport) -> String {
    match member.id {
        Some(id) if member.name.is_empty() => format!("member {id}"),
        _ => member.name.clone(),
    }
}

/// What a command calls it: the inventory's host, whatever the member's own name is.
pub(super) fn host(member: &MemberReport) -> String {
    member.node.clone().unwrap_or_else(|| title(member))
}

fn unhealthy(report: &EtcdReport, commands: Commands<'_>) -> Vec<Advice> {
    let mut advice: Vec<Advice> = report.members.iter().filter_map(|m| silent(m, report, commands)).collect();
    advice.extend(report.members.iter().filter_map(|m| astray(m, commands)));
    advice.extend(spare(report));
    advice
}

/// Members that run and tell us nothing: no quorum is lost for that.
fn denied(report: &EtcdReport) -> Option<Advice> {
    let denied = names(report.members.iter().filter(|m| m.error.as_ref().is_some_and(Trouble::is_denial)));
    let text = format!(
        "etcd's auth is on, and {} {} the user {} of rsadm's client certificate how it is; as etcd's root, this gives that user \
         the role that it takes:",
        list(&denied),
        if denied.len() == 1 { "denies" } else { "deny" },
        crate::layout::ETCD_CLIENT_USER
    );
    (!denied.is_empty()).then(|| warning(text).with(crate::layout::ETCD_CLIENT_GRANT))
}

/// With the command that gives the first of these members the data of the others, where there is a quorum to do it.
pub(super) fn anew(advice: Advice, report: &EtcdReport, names: &[String], commands: Commands<'_>) -> Advice {
    match names.first().filter(|_| report.serves) {
        Some(name) => {
            let member = report.members.iter().find(|m| title(m) == *name);
            advice.with(commands.replace(&member.map_or_else(|| name.clone(), host)))
        }
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

fn no_quorum(report: &EtcdReport, commands: Commands<'_>) -> Vec<Advice> {
    let voters = || report.members.iter().filter(|m| !m.is_learner);
    let silent: Vec<&MemberReport> = voters().filter(|m| m.version.is_none()).collect();
    let answering = voters().count() - silent.len();
    let q = &report.quorum;
    if answering >= q.needs {
        // Those that answer are told with their certificates; a member that trusts nobody is none to elect with.
        let apart = voters().filter(|m| m.version.is_some() && has_expired(m)).count();
        let expired = silent.iter().filter(|m| has_expired(m));
        let mut advice: Vec<Advice> = expired.filter_map(|m| self::silent(m, report, commands)).collect();
        if answering - apart >= q.needs {
            let text = "enough members answer to elect a leader: ask again in a moment, and if it stays so look at the \
                        network between them, port 2380";
            advice.push(warning(text.to_owned()));
        }
        return advice;
    }
    // One that answers has the list, by which those at other addresses are asked there.
    let (moved, silent): (Vec<&MemberReport>, Vec<&MemberReport>) = match answering {
        0 => silent.into_iter().partition(listens_elsewhere),
        _ => (vec![], silent),
    };
    let moved = self::moved(&moved, q.voters);
    if moved.is_some() && silent.is_empty() {
        return moved.into_iter().collect();
    }
    if answering == 0
        && moved.is_none()
        && let Some(advice) = elsewhere(report)
    {
        return vec![advice];
    }
    let mut advice = revive(&silent, report, commands);
    advice.extend(moved);
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

fn hashes(report: &EtcdReport, commands: Commands<'_>) -> Option<Advice> {
    let odd = names(report.members.iter().filter(|m| m.error == Some(Trouble::Differs)));
    if !odd.is_empty() {
        let text = format!(
            "at one revision the data of {} is not that of the others: do not trust reads from there; this gives it \
             theirs, and sets its own aside:",
            list(&odd)
        );
        return Some(anew(warning(text), report, &odd, commands));
    }
    doubt::told(report)
}

fn quota(member: &MemberReport, of_others: bool) -> Option<Advice> {
    let (size, quota) = (member.db_size?, member.db_size_quota?);
    let percent = size.saturating_mul(100) / quota;
    let set_by = match of_others {
        true => format!("--quota-backend-bytes in {}", crate::layout::ETCD_MANIFEST),
        false => "etcd.quota_backend_bytes".to_owned(),
    };
    let text = format!(
        "the database of {} takes {percent}% of its quota; at 100% etcd takes no writes ({set_by})",
        title(member)
    );
    (percent > QUOTA_WARNING_PERCENT).then(|| warning(text))
}

/// True where somebody else than rsadm built hosts of members.
pub(super) fn is_of_others(report: &EtcdReport) -> bool {
    report.members.iter().any(is_on_others_host)
}

/// True where somebody else than rsadm built the host of a member.
pub(super) fn is_on_others_host(member: &MemberReport) -> bool {
    matches!(&member.host, Some(HostState::Seen(process)) if process.is_of_others())
}

fn versions(report: &EtcdReport, commands: Commands<'_>) -> Option<Advice> {
    let mut members: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for member in &report.members {
        if let Some(version) = &member.version {
            members.entry(version).or_default().push(&member.name);
        }
    }
    (members.len() > 1).then(|| {
        let all = members.iter().map(|(version, names)| format!("{version} on {}", list(names)));
        let text = format!("members run different versions: {}", all.collect::<Vec<_>>().join(", "));
        warning(format!("{text}; this goes on to that of the inventory:")).with(commands.upgrade())
    })
}

fn terms(report: &EtcdReport) -> Option<Advice> {
    let terms: BTreeSet<u64> =
        report.members.iter().filter(|m| m.id.is_some()).filter_map(|m| m.raft_term).collect();
    let text =
        "members are in different raft terms: an election was under way; if it stays so, look at the network";
    (terms.len() > 1).then(|| note(text.to_owned()))
}

fn api_servers(report: &EtcdReport, commands: Commands<'_>) -> Vec<Advice> {
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
        found
            .map(|(urls, on)| {
                let text = format!("--etcd-servers on {} {verb} {}", list(&on), list(&urls));
                if !is_of_others(report) {
                    return warning(text).with(commands.up());
                }
                // For one that is a member already nothing is left to do but that.
                match report.members.iter().find(|m| m.healthy && !m.is_learner) {
                    Some(voter) => warning(format!("{text}; this points them at the members:"))
                        .with(commands.add(&host(voter))),
                    None => warning(text),
                }
            })
            .collect()
    };
    [differs(unknown, "names what is no member:"), differs(missing, "lacks")].concat()
}

/// A learner is to be the next voter.
fn even(report: &EtcdReport) -> Option<Advice> {
    let voters = report.quorum.voters;
    let one_waits = report.members.iter().any(|m| m.is_learner);
    let text = format!(
        "{voters} voters can lose no more than {} can: an odd number is better",
        voters.saturating_sub(1)
    );
    (voters > 0 && voters.is_multiple_of(2) && !one_waits).then(|| note(text))
}
