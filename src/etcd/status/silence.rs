//! What to do about members that are silent, by what their hosts say instead.

mod revive;

use super::{
    advice::{host, is_of_others, list, title, warning},
    certificates::expired,
    commands::{Commands, START_KUBELET},
    disks,
    doubt::in_doubt,
    host::{HostState, Process, Restoring, Words},
    report::{Advice, EtcdReport, MemberReport, Trouble},
};
use crate::etcd::{Cause, Silence};

pub(super) use revive::revive;

/// What etcd says when its data is not what the others know of it: raft, its check against its peers, its log, its
/// database, and a member that should have data and starts with none. (`pods.sh` and `causes.rs` know them, too.)
const LOST: [&str; 11] = [
    "Was the raft log corrupted, truncated, or lost",
    CONFLICT,
    INCONSISTENT,
    "walpb: crc mismatch",
    "wal: crc mismatch",
    "checksum error",
    "freepages",
    "has already been bootstrapped",
    "database snapshot file",
    "of the backend is missing",
    "does not match with snapshot",
];

/// The same as etcd writes it; `wal:` is of 3.5, where one file of the log does not go on where the one before ends.
#[cfg(test)]
pub(crate) const LOST_LINES: [&str; 11] = [
    "panic: tocommit(41) is out of range [lastIndex(0)]. Was the raft log corrupted, truncated, or lost?",
    "panic: entry 96 conflict with committed entry [committed(100)]",
    "discovery failed: 8f3466efda134769 found data inconsistency with peers",
    "discovery failed: walpb: crc mismatch",
    "discovery failed: wal: crc mismatch",
    "failed to open database: checksum error",
    "panic: freepages: failed to get all reachable pages (page 5: multiple references)",
    "discovery failed: member 8f3466efda134769 has already been bootstrapped",
    "failed to recover v3 backend from snapshot: failed to find database snapshot file (snap: snapshot file doesn't exist)",
    "discovery failed: database file (/var/lib/etcd/member/snap/db) of the backend is missing",
    "discovery failed: database file (/var/lib/etcd/member/snap/db index 5) does not match with snapshot (index 9)",
];

/// What raft ends with on a member that knows an entry to be agreed on where the leader has another: those that run have lost it
/// (`raft/log.go`, `maybeAppend`).
const CONFLICT: &str = "conflict with committed entry";

/// What its check against its peers ends with, whoever of them is wrong.
pub(super) const INCONSISTENT: &str = "found data inconsistency with peers";

/// What a member ends with that starts with no data where more have joined since it did; whoever is no member yet says it too.
const UNKNOWN: &str = "error validating peerURLs";

/// What it ends with whose data is that of a member which was removed.
const REMOVED: &str = "permanently removed";

/// What etcd ends with where its disk is full; it starts again as soon as there is room.
const FULL: &str = "no space left on device";

/// What it ends with where nothing can be written, as on a file system that had an error: it starts again once that is
/// writable.
const READ_ONLY: &str = "read-only file system";

/// What it ends with where a file of its own is no key, or not that of the certificate beside it (Go, `crypto/tls`).
const KEYS: [&str; 3] = [
    "tls: failed to find any PEM data",
    "tls: failed to parse private key",
    "tls: private key does not match public key",
];

/// Why a member that does not answer does not, as far as its host knows. Only a quorum takes members out and in, and where
/// hosts are of others rsadm builds none.
pub(super) fn silent(member: &MemberReport, report: &EtcdReport, commands: Commands<'_>) -> Option<Advice> {
    let Some(Trouble::Silent(silence)) = &member.error else { return None };
    let why = silence.why.as_str();
    // What has stopped it is told first of all, and so is that it denies its state.
    if restoring(member).is_some_and(|r| !r.over) || silence.cause == Cause::Denied {
        return None;
    }
    let title = title(member);
    if let Some(HostState::Seen(process)) = &member.host
        && report.serves
        && was_removed(member)
    {
        let text = format!(
            "etcd stops on {title}: its data is that of a member which was removed. If a disk is only not mounted, mount it; \
             else this sets the data aside and makes it a member again:"
        );
        let says = said(&title, process.last_words.as_ref());
        return Some(Advice { says, ..warning(text).with(commands.replace(&host(member))) });
    }
    if let Some(HostState::Seen(process)) = &member.host
        && report.serves
        && is_damaged(member, report)
    {
        let says = said(&title, process.last_words.as_ref());
        if has_said(process, &[CONFLICT]) {
            let text = format!(
                "etcd stops on {title}: it knows of writes that a quorum had agreed on, and the members that run have others in \
                 their place, as where disks lost what they had acknowledged, or a member began with an empty folder. Do not \
                 replace {title} before what only it has is kept (cp -a {} /root/ there), and somebody knows which writes are \
                 missed; {} then gives it the data of the others",
                crate::layout::ETCD_DATA_DIR,
                commands.replace(&host(member))
            );
            return Some(Advice { says, ..warning(text) });
        }
        if let Some(advice) = in_doubt(member, report, commands) {
            return Some(Advice { says, ..advice });
        }
        let text = format!(
            "etcd stops on {title}: its data is lost or damaged. If a disk is only not mounted, mount it; else this gives \
             it the data of the others and sets aside what is there:"
        );
        return Some(Advice { says, ..warning(text).with(commands.replace(&host(member))) });
    }
    Some(match &member.host {
        None => warning(format!("{title} does not answer ({why})")),
        Some(HostState::Unreachable { shut: true, .. }) => warning(format!(
            "{title} does not let rsadm in ({}): how its etcd is cannot be told from here; this tells what is to be mended:",
            why.strip_prefix("host ").unwrap_or(why)
        ))
        .with(commands.preflight()),
        Some(HostState::Unreachable { .. }) if member.id.is_none() && report.serves => warning(format!(
            "{title} cannot be reached over SSH and is no member of this cluster: if it has the data of an older one, from \
             before a restore or a recovery, keep it switched off, or cut off from the others, until {} there was moved \
             away; {} makes it a member again",
            crate::layout::ETCD_DATA_DIR,
            if is_of_others(report) { commands.add(&host(member)) } else { commands.up() }
        )),
        // Without a quorum nobody is taken out.
        Some(HostState::Unreachable { .. }) if !report.serves => warning(format!(
            "{title} cannot be reached over SSH: is the host up? once it is, its etcd rejoins by itself"
        )),
        Some(HostState::Unreachable { .. }) => warning(format!(
            "{title} cannot be reached over SSH: is the host up? once it is, its etcd rejoins by itself; if it is gone for good, \
             {} NEW_HOST gives its place to another, and this takes it out:",
            commands.replace(&host(member))
        ))
        .with(commands.remove(&host(member))),
        // Told as one that is still to join.
        Some(HostState::Seen(_)) if member.id.is_none() && report.serves => return None,
        Some(HostState::Seen(process)) if report.serves && is_bare(process) => warning(format!(
            "nothing of etcd is on {title} any more, as after a reset or where the host was made anew; this takes its old \
             member out, and then {} makes it one again:",
            if is_of_others(report) { "kubeadm join".to_owned() } else { commands.up() }
        ))
        .with(commands.remove(&host(member))),
        Some(HostState::Seen(process)) if ended_with(member, FULL) => Advice {
            says: said(&title, process.last_words.as_ref()),
            ..disks::full(&title, process)
        },
        Some(HostState::Seen(process)) if ended_with(member, READ_ONLY) => Advice {
            says: said(&title, process.last_words.as_ref()),
            ..warning(format!(
                "{0} of {title} is read only, as after an error of its disk (findmnt -T {0} and dmesg tell more), which ends \
                 its etcd: mount it writable again, and its kubelet then starts it",
                crate::layout::ETCD_DATA_DIR
            ))
        },
        Some(HostState::Seen(process)) if process.expired.is_some() => {
            Advice { says: said(&title, process.last_words.as_ref()), ..expired(&title, process, commands)? }
        }
        // What it wrote last is of nothing that is wrong.
        Some(HostState::Seen(process)) if process.running && silence.cause == Cause::Forbidden => {
            stopped(member, silence, process, report.serves, commands)
        }
        Some(HostState::Seen(process)) => Advice {
            says: said(&title, process.last_words.as_ref()),
            ..stopped(member, silence, process, report.serves, commands)
        },
    })
}

/// True where etcd ends because its member was removed, whoever that was.
pub(super) fn was_removed(member: &MemberReport) -> bool {
    ended_with(member, REMOVED)
}

/// True where nothing has been built, or all of it is gone.
fn is_bare(process: &Process) -> bool {
    !(process.prepared || process.kubelet || process.manifest || process.data || process.running)
}

/// True where a member does not run, and had such words at its end.
fn ended_with(member: &MemberReport, sign: &str) -> bool {
    match &member.host {
        Some(HostState::Seen(process)) => !process.running && has_said(process, &[sign]),
        _ => false,
    }
}

/// True where its disk lets none start: once that is mended the kubelet does it.
fn has_bad_disk(member: &MemberReport) -> bool {
    [FULL, READ_ONLY].iter().any(|sign| ended_with(member, sign))
}

/// True where its process runs on its host.
pub(super) fn runs(member: &MemberReport) -> bool {
    matches!(&member.host, Some(HostState::Seen(Process { running: true, .. })))
}

/// True where `up` has to issue something before it starts.
fn has_bad_files(member: &MemberReport) -> bool {
    matches!(&member.host, Some(HostState::Seen(process)) if process.prepared && !process.running && has_bad_keys(process))
}

/// A restore or a recovery of which something is left on a member's host.
fn restoring(member: &MemberReport) -> Option<&Restoring> {
    match &member.host {
        Some(HostState::Seen(process)) => process.restoring.as_deref(),
        _ => None,
    }
}

/// A restore or a recovery that is not over, and the ways out of it: on, or back. Of one that is, what still waits for its end.
pub(super) fn unfinished(report: &EtcdReport, commands: Commands<'_>) -> Option<Advice> {
    let all = || report.members.iter().filter_map(|m| Some((m, restoring(m)?)));
    // Over on one host is over on all.
    let ended = |r: &Restoring| all().any(|(_, other)| other.over && other.token == r.token);
    let is_over = all().all(|(_, r)| ended(r));
    let concerned: Vec<&MemberReport> = all().filter(|(_, r)| ended(r) == is_over).map(|(m, _)| m).collect();
    let unfinished = || concerned.iter().filter_map(|m| restoring(m));
    let is_recovery = unfinished().next()?.token.contains(crate::layout::RECOVERED);
    let (what, again) = match is_recovery {
        true => ("recovery", commands.recover()),
        false => ("restore", format!("{} with the same snapshot", commands.restore())),
    };
    let names: Vec<String> = concerned.iter().map(|m| title(m)).collect();
    let back = commands.roll_back();
    if is_over {
        let waits = format!("on {} something still waits for its end, such as an API server", list(&names));
        return Some(match all().any(|(_, r)| r.undone) {
            // The same restore again would be one.
            true => warning(format!("a {what} of etcd was rolled back, and {waits}; this brings it back:"))
                .with(back),
            false => warning(format!("a {what} of etcd is over, and {waits}: {again} brings it back")),
        });
    }
    let begun = format!("a {what} of etcd has begun on {} and is not over", list(&names));
    let placed = unfinished().any(|r| r.placed);
    let without = report.serves && (!placed || concerned.iter().all(|m| !m.healthy));
    Some(match without {
        true => warning(format!("{begun}; etcd serves without it. This ends it and keeps what etcd has:"))
            .with(back),
        false => warning(format!("{begun}: {again} goes on with it; this puts the old data back instead:"))
            .with(back),
    })
}

/// True where one of these is in its last words.
fn has_said(process: &Process, signs: &[&str]) -> bool {
    process.last_words.as_ref().is_some_and(|words| signs.iter().any(|sign| words.text.contains(sign)))
}

/// True where a member, or a host that is none, fell over its data more than once in a row: its log of an earlier life says
/// nothing.
fn has_lost_data(process: &Process, is_member: bool) -> bool {
    let unknown = is_member && has_said(process, &[UNKNOWN]);
    process.restarts.is_some_and(|n| n > 0) && (unknown || has_said(process, &LOST))
}

/// True where it does not start for the sake of its certificates or their keys.
fn has_bad_keys(process: &Process) -> bool {
    let is_gone = |text: &str| text.contains(crate::layout::ETCD_PKI_DIR) && text.contains("no such file");
    has_said(process, &KEYS) || process.last_words.as_ref().is_some_and(|words| is_gone(&words.text))
}

/// True where its kubelet starts it in vain.
fn is_damaged(member: &MemberReport, report: &EtcdReport) -> bool {
    // Without a member list nobody knows of an ID.
    let is_member = member.id.is_some() || report.view.is_none();
    let lost = |process: &Process| !process.running && has_lost_data(process, is_member);
    matches!(&member.host, Some(HostState::Seen(process)) if lost(process))
}

fn stopped(
    member: &MemberReport,
    silence: &Silence,
    process: &Process,
    serves: bool,
    commands: Commands<'_>,
) -> Advice {
    let (title, Silence { cause, why }) = (title(member), silence);
    let by_kubelet = |text: String| match process.is_of_others() {
        true => warning(format!("{text}; on that host, this starts it:")).with(START_KUBELET),
        false => warning(text).with(commands.up()),
    };
    // Of what is missing `up` makes the member that it was; where it may not, the member is made anew.
    let by_files = |text: String| match (process.is_of_others(), serves) {
        (true, true) => warning(format!("{text}: put it back, or this makes it a member anew:"))
            .with(commands.replace(&host(member))),
        (true, false) => warning(format!("{text}: put it back")),
        (false, _) => warning(text).with(commands.up()),
    };
    match process {
        Process { running: true, .. } if *cause == Cause::Forbidden => {
            warning(format!("etcd on {title} runs, and nobody here can ask it: {why}"))
        }
        // Whoever starts or hangs says nothing of certificates.
        Process { running: true, .. } if matches!(cause, Cause::Certificate { .. }) => {
            warning(format!("etcd on {title} runs, and {why}; this tells what its certificates are like:"))
                .with(commands.certificates())
        }
        Process { running: true, kubelet: false, .. } => by_kubelet(format!(
            "etcd on {title} is stuck, and its kubelet, which would start it anew, does not run ({why})"
        )),
        Process { running: true, .. } => warning(format!(
            "etcd on {title} starts, stops or is stuck: its process is there and does not answer ({why}); its kubelet ends one \
             that is stuck within some two minutes, and starts it anew: look again"
        )),
        Process { kubelet: false, .. } => {
            by_kubelet(format!("the kubelet of {title} does not run, so its etcd does not either"))
        }
        Process { manifest: false, .. } => {
            by_files(format!("{title} has no manifest of etcd any more, so its kubelet does not run it"))
        }
        Process { restarts: None, data: true, .. } => warning(format!(
            "etcd on {title} is not started yet, which takes its kubelet some seconds after its manifest has changed: look \
             again; if it stays so, look at the kubelet there: journalctl -u kubelet"
        )),
        Process { restarts: None, .. } => {
            by_files(format!("etcd never ran on {title}, and has no data there"))
        }
        Process { restarts: Some(0), .. } => {
            warning(format!("etcd stopped on {title}, and its kubelet has not started it again"))
        }
        Process { restarts: Some(_), prepared: true, .. } if has_bad_keys(process) => {
            let text = format!(
                "etcd stops on {title}, since it cannot use a certificate or a key of its own; this issues anew what is of no \
                 use:"
            );
            warning(text).with(commands.up())
        }
        Process { restarts: Some(n), .. } => {
            let times = if *n == 1 { "time" } else { "times" };
            warning(format!("etcd stops on {title} each time its kubelet starts it ({n} {times} so far)"))
        }
    }
}

fn said(title: &str, words: Option<&Words>) -> Option<String> {
    words.map(|w| format!("{title} at {}: {}", w.at, w.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of etcd 3.7 itself; a log of an earlier life, and one that is only slow, is no reason to replace anybody.
    #[test]
    fn lost_data_is_told_by_etcds_own_words() {
        let lost = LOST_LINES.map(|words| (1, words, true));
        let others = [
            (0, "panic: freepages: failed to get all reachable pages", false),
            (3, "error validating peerURLs {ClusterID:1}: member count is unequal", true),
            (3, "listen tcp 10.0.0.1:2380: bind: address already in use", false),
        ];
        for (restarts, words, lost) in lost.into_iter().chain(others) {
            let last_words = Some(Words { at: "now".into(), text: words.into() });
            let process = Process { restarts: Some(restarts), last_words, ..Process::default() };
            assert_eq!(has_lost_data(&process, true), lost, "{restarts} {words}");
        }
        let text = "error validating peerURLs {ClusterID:1}: member count is unequal".to_owned();
        let last_words = Some(Words { at: "now".into(), text });
        let process = Process { restarts: Some(3), last_words, ..Process::default() };
        assert!(!has_lost_data(&process, false), "who is no member has none to lose");
    }
}
