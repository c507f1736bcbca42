//! Whether scheduled snapshots come: from what the hosts remember of them. Pure.

use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;

use super::{
    Advice,
    advice::{list, warning},
};
use crate::{
    event::span,
    layout::{BACKUP_RUN_AT_LEAST, SKEW},
};

/// What one host remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostBackups {
    /// Its name.
    pub host: String,
    /// Since when it has its present schedule, seconds since 1970; `None` where it has none.
    pub since: Option<i64>,
    /// When the newest snapshot that was checked was taken, and its name.
    pub newest: Option<(i64, String)>,
    /// Which other host took that, where it lies at a place that is several hosts'.
    pub by: Option<String>,
    /// When its newest one was taken, and its name, where that was found damaged later: it counts for nothing.
    pub damaged: Option<(i64, String)>,
    /// The same, with its whole path, where it is not in its folder any more.
    pub gone: Option<(i64, String)>,
    /// For how many seconds a run of it has been under way.
    pub runs: Option<i64>,
    /// When its timer last fired.
    pub last_run: i64,
    /// Why its last run failed.
    pub error: Option<String>,
    /// Why it did not remove older ones.
    pub unpruned: Option<String>,
}

impl HostBackups {
    /// Which host took the newest.
    fn taken_by(&self) -> &String {
        self.by.as_ref().unwrap_or(&self.host)
    }
}

/// What the inventory wants and the hosts remember.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backups {
    /// Seconds between two snapshots.
    pub interval: u64,
    /// The hosts that answered.
    pub hosts: Vec<HostBackups>,
}

/// How old the newest verified snapshot is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackupReport {
    /// Seconds between two snapshots, as the inventory has it.
    pub interval_seconds: u64,
    /// Seconds since the newest one; `null` where there is none.
    pub newest_age_seconds: Option<i64>,
    /// Its file name.
    pub newest_file: Option<String>,
    /// Which host took it.
    pub newest_host: Option<String>,
    /// True where it should have been followed by another: older than two intervals.
    pub overdue: bool,
    /// True where no host that answered has the schedule.
    pub missing: bool,
    /// The newest scheduled snapshot, `HOST:FILE`, where it was found damaged and no good one came after it.
    pub damaged: Option<String>,
    /// The newest scheduled snapshot, `HOST:PATH`, where it is not there any more and no other came after it.
    pub gone: Option<String>,
    /// The newest failure, `HOST: why`, where no snapshot came after it, or only others' that stepped in.
    pub failure: Option<String>,
    /// True where another host stepped in after that failure.
    pub stepped_in: bool,
    /// Runs that have been under way for longer than they take.
    pub hanging: Vec<Hanging>,
    /// Hosts whose timer has not fired for two intervals, or whose runs left no word, though others' did.
    pub idle: Vec<String>,
    /// The newest failure to remove what the retention no longer keeps, `HOST: why`.
    pub unpruned: Option<String>,
}

/// A run that does not end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hanging {
    /// Where.
    pub host: String,
    /// For how many seconds it has been under way.
    pub seconds: i64,
}

/// A run that takes so long is told, however long the interval is: snapshots and their trials take minutes.
const LONG: Duration = Duration::from_secs(60 * 60);

impl BackupReport {
    pub(super) fn of(backups: &Backups, now: OffsetDateTime) -> Self {
        let (now, latest) = (now.unix_timestamp(), (now + SKEW).unix_timestamp());
        // One from the future was taken by a clock that was ahead, and would hide for years that no other followed.
        let newest = backups.hosts.iter().filter_map(|h| Some((h.newest.as_ref()?, h.taken_by())));
        let newest = newest.filter(|((at, _), _)| *at <= latest).max();
        let newest_at = newest.map(|((at, _), _)| *at);
        // Nothing can be late before its schedule is two intervals old.
        let since = backups.hosts.iter().filter_map(|h| h.since).min();
        let awaited = newest_at.into_iter().chain(since).filter(|at| *at <= latest).max();
        let patience = i64::try_from(backups.interval.saturating_mul(2)).unwrap_or(i64::MAX);
        let is_later = |h: &HostBackups| newest_at.is_none_or(|at| h.last_run > at);
        // Whoever fails each time is told of, too, where others do its work.
        let interval = i64::try_from(backups.interval).unwrap_or(i64::MAX);
        let is_fresh = |h: &HostBackups| now.saturating_sub(h.last_run) <= interval;
        let fails = |h: &&HostBackups| h.error.is_some() && (is_later(h) || is_fresh(h));
        let failed = backups.hosts.iter().filter(fails).max_by_key(|h| h.last_run);
        // A timer that is off writes no failure, and another host does its work.
        let is_idle = |h: &&HostBackups| {
            let is_late = |since: i64| now.saturating_sub(since.max(h.last_run)) > patience;
            h.runs.is_none() && h.since.is_some_and(is_late)
        };
        let hangs = |h: &HostBackups| {
            let long = Duration::from_secs(backups.interval)
                .clamp(BACKUP_RUN_AT_LEAST, LONG)
                .as_secs()
                .cast_signed();
            let seconds = h.runs.filter(|seconds| *seconds > long)?;
            Some(Hanging { host: h.host.clone(), seconds })
        };
        let unpruned = backups.hosts.iter().filter(|h| h.unpruned.is_some()).max_by_key(|h| h.last_run);
        // In a folder that hosts share, one host's newest goes when another's has come.
        let unfollowed = |of: fn(&HostBackups) -> Option<&(i64, String)>| {
            let last = backups.hosts.iter().filter_map(|h| Some((of(h)?, &h.host))).max();
            let last = last.filter(|((at, _), _)| newest_at.is_none_or(|good| good < *at));
            last.map(|((_, file), host)| format!("{host}:{file}"))
        };
        Self {
            damaged: unfollowed(|h| h.damaged.as_ref()),
            gone: unfollowed(|h| h.gone.as_ref()),
            interval_seconds: backups.interval,
            newest_age_seconds: newest_at.map(|at| (now - at).max(0)),
            newest_file: newest.map(|((_, file), _)| file.clone()),
            newest_host: newest.map(|(_, host)| host.clone()),
            overdue: awaited.is_some_and(|at| now - at > patience),
            missing: !backups.hosts.is_empty() && since.is_none(),
            failure: failed.and_then(|h| Some(format!("{}: {}", h.host, h.error.as_ref()?))),
            stepped_in: failed.is_some_and(|h| !is_later(h)),
            hanging: backups.hosts.iter().filter_map(hangs).collect(),
            idle: backups.hosts.iter().filter(is_idle).map(|h| h.host.clone()).collect(),
            unpruned: unpruned.and_then(|h| Some(format!("{}: {}", h.host, h.unpruned.as_ref()?))),
        }
    }

    /// `up` sets the schedule up.
    pub(super) fn advice(&self, inventory: &str, up: &str, hosts: &[String]) -> Vec<Advice> {
        let take = format!("rsadm etcd snapshot save{inventory}");
        if self.missing {
            let text = "the inventory has a schedule of snapshots, and no host has it yet".to_owned();
            return vec![warning(text).with(up)];
        }
        if let Some(file) = &self.damaged {
            let age = self.newest_age_seconds.map_or("there is no other".to_owned(), |age| {
                format!("the newest good one is {} old", span(age))
            });
            let text = format!("the newest scheduled snapshot, {file}, was found damaged; {age}");
            return vec![warning(text).with(take)];
        }
        let here = [self.gone(&take), self.hanging(), self.late(up, hosts, &take)];
        here.into_iter().flatten().collect()
    }

    fn gone(&self, take: &str) -> Option<Advice> {
        let file = self.gone.as_ref()?;
        let age = self.newest_age_seconds.map_or("no other is known".to_owned(), |age| {
            format!("the newest one that is there is {} old", span(age))
        });
        let text = format!("the newest scheduled snapshot, {file}, is not there any more; {age}");
        let says = "it was removed or renamed, or the disk that it lies on is not mounted".to_owned();
        Some(Advice { says: Some(says), ..warning(text).with(take) })
    }

    fn late(&self, up: &str, hosts: &[String], take: &str) -> Option<Advice> {
        // How old what is left is was told with what is gone.
        let overdue = self.overdue && self.gone.is_none();
        let text = match (overdue, self.newest_age_seconds, &self.failure) {
            (true, Some(age), _) => format!(
                "the newest verified snapshot is {} old, and one is due every {}",
                span(age),
                span(i64::try_from(self.interval_seconds).unwrap_or(i64::MAX))
            ),
            (true, None, _) => "no snapshot was ever taken on the present schedule".to_owned(),
            (false, _, Some(_)) if self.stepped_in => {
                "a host fails to take scheduled snapshots, and another stepped in".to_owned()
            }
            (false, _, Some(_)) => "the last scheduled snapshot failed".to_owned(),
            (false, _, None) => return self.aside(up),
        };
        let logs = format!("journalctl -u rsadm-backup.service on {} tells more", list(hosts));
        let says = self.failure.clone().unwrap_or(logs);
        Some(Advice { says: Some(says), ..warning(text).with(take) })
    }

    /// Which runs do not end, and what ends them: one that is stuck hears nothing less than KILL.
    fn hanging(&self) -> Option<Advice> {
        let hosts: Vec<&str> = self.hanging.iter().map(|h| h.host.as_str()).collect();
        let longest = self.hanging.iter().map(|h| h.seconds).max()?;
        let text = format!(
            "the run of scheduled snapshots on {} has been under way for {}, and one is due every {}: does their target answer \
             there?",
            list(&hosts),
            span(longest),
            span(i64::try_from(self.interval_seconds).unwrap_or(i64::MAX))
        );
        let ends = format!("systemctl kill -s KILL rsadm-backup.service on {} ends it", list(&hosts));
        Some(Advice { says: Some(ends), ..warning(text) })
    }

    /// What is off although snapshots come.
    fn aside(&self, up: &str) -> Option<Advice> {
        if !self.idle.is_empty() {
            let text = format!(
                "the timer of scheduled snapshots has not fired on {} for two intervals, or its runs were ended before they could \
                 tell of themselves: others do the work, and one host less could take it over",
                list(&self.idle)
            );
            let says = format!(
                "systemctl status rsadm-backup.timer rsadm-backup.service on {} tells which",
                list(&self.idle)
            );
            return Some(Advice { says: Some(says), ..warning(text).with(up) });
        }
        let text =
            "a scheduled snapshot was taken, and older ones could not be removed: their place will fill"
                .to_owned();
        self.unpruned.clone().map(|says| Advice { says: Some(says), ..warning(text) })
    }
}

#[cfg(test)]
mod tests;
