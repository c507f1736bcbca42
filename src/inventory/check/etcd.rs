//! etcd's own rules (its `embed/config.go`), so that a member is not the first to say no.

use std::time::Duration;

use crate::inventory::{
    cluster::Role,
    draft::{Draft, Times},
    problem::{Findings, Path},
};

/// etcd's `maxElectionMs`.
const MAX_ELECTION: Duration = Duration::from_secs(50);
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

pub(super) fn check(draft: &Draft, findings: &Findings) {
    let path = Path::default().key("etcd");
    check_times(draft, &path, findings);
    check_quota(draft.etcd.quota_backend_bytes, &path.key("quota_backend_bytes"), findings);
    check_recipient(draft, &path.key("backup").key("recipient"), findings);
    let compaction = draft.etcd.auto_compaction;
    if !compaction.is_zero() && compaction < Duration::from_secs(60) {
        let message = format!("{compaction:?} between compactions leaves watchers behind");
        findings.error(
            &path.key("auto_compaction"),
            message,
            "at least 1m, or 0 to leave compacting to the API server",
        );
    }
}

fn check_times(draft: &Draft, path: &Path, findings: &Findings) {
    let (heartbeat_path, election_path) = (path.key("heartbeat_interval"), path.key("election_timeout"));
    let Times { heartbeat, election } = draft.times;
    if let Some(election) = election.filter(|time| *time > MAX_ELECTION) {
        let message = format!("{election:?} is too long for etcd");
        findings.error(&election_path, message, format!("at most {MAX_ELECTION:?}"));
    }
    let Some(heartbeat) = heartbeat else { return };
    if heartbeat.is_zero() {
        let help = "the round-trip time between members, for example 100ms";
        findings.error(&heartbeat_path, "no time at all", help);
        return;
    }
    // etcd: "--election-timeout should be at least as 5 times as --heartbeat-interval".
    let least = heartbeat.saturating_mul(5);
    if least > MAX_ELECTION {
        // No election_timeout fits it.
        let message = format!("{heartbeat:?} is too long for etcd");
        let help = format!(
            "at most {:?}; 100ms is usual, and the round-trip time where that is more",
            MAX_ELECTION / 5
        );
        findings.error(&heartbeat_path, message, help);
    } else if let Some(election) = election.filter(|time| *time < least) {
        let message = format!("{election:?} is less than five times heartbeat_interval ({heartbeat:?})");
        let help = format!("at least {least:?}; ten times the heartbeat is usual");
        findings.error(&election_path, message, help);
    }
}

fn check_quota(bytes: u64, path: &Path, findings: &Findings) {
    let help = "from 16MiB to 100GiB; etcd's developers advise 8GiB at most";
    if !(16 * MIB..=100 * GIB).contains(&bytes) {
        findings.error(path, format!("{bytes} bytes, out of range"), help);
    } else if bytes > 8 * GIB {
        let message = "more than 8GiB: members take minutes to start and to catch up";
        findings.warn(path, message, "8GiB, and look for what fills it");
    }
}

/// The hosts that take scheduled snapshots put in what keys they have; a control plane's they are not given for that.
fn check_recipient(draft: &Draft, path: &Path, findings: &Findings) {
    let is_encrypted = draft.etcd.backup.as_ref().is_some_and(|backup| backup.recipient.is_some());
    if !is_encrypted || !draft.hosts.iter().any(|h| h.is(Role::ControlPlane)) {
        return;
    }
    let (with, without): (Vec<_>, Vec<_>) =
        draft.hosts.iter().filter(|h| h.is(Role::Etcd)).partition(|h| h.is(Role::ControlPlane));
    let message = match (with.is_empty(), &without[..]) {
        (_, []) => return,
        (true, _) => {
            "no etcd host is a control plane: scheduled bundles hold etcd's keys alone, and restore on no fresh hosts"
                .to_owned()
        }
        (false, without) => {
            let names: Vec<String> = without.iter().filter_map(|h| Some(h.name.as_ref()?.to_string())).collect();
            format!(
                "not every etcd host is a control plane: a scheduled bundle of {} holds etcd's keys alone, and restores on no \
                 fresh hosts",
                names.join(", ")
            )
        }
    };
    let help = "rsadm etcd snapshot save --with-pki --recipient age1… now and then: that bundle has all keys";
    findings.warn(path, message, help);
}
