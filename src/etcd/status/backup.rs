//! Whether scheduled snapshots come: from what the hosts remember of them. Pure.

use serde::Serialize;
use time::OffsetDateTime;

use super::{
    Advice,
    advice::{list, warning},
};
use crate::backup::retention::SKEW;

/// What one host remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostBackups {
    /// Its name.
    pub host: String,
    /// Since when it has its present schedule, seconds since 1970; `None` where it has none.
    pub since: Option<i64>,
    /// When it took the newest snapshot that was checked, and its name.
    pub newest: Option<(i64, String)>,
    /// The same of its newest one, where that was found damaged later: it counts for nothing.
    pub damaged: Option<(i64, String)>,
    /// The same, with its whole path, where it is not in its folder any more.
    pub gone: Option<(i64, String)>,
    /// When its timer last fired.
    pub last_run: i64,
    /// Why its last run failed.
    pub error: Option<String>,
    /// Why it did not remove older ones.
    pub unpruned: Option<String>,
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
    /// Hosts whose timer has not fired for two intervals, though others' did.
    pub idle: Vec<String>,
    /// The newest failure to remove what the retention no longer keeps, `HOST: why`.
    pub unpruned: Option<String>,
}

impl BackupReport {
    pub(super) fn of(backups: &Backups, now: OffsetDateTime) -> Self {
        let (now, latest) = (now.unix_timestamp(), (now + SKEW).unix_timestamp());
        // One from the future was taken by a clock that was ahead, and would hide for years that no other followed.
        let newest = backups.hosts.iter().filter_map(|h| Some((h.newest.as_ref()?, &h.host)));
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
            h.since.is_some_and(|since| now.saturating_sub(since.max(h.last_run)) > patience)
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
            idle: backups.hosts.iter().filter(is_idle).map(|h| h.host.clone()).collect(),
            unpruned: unpruned.and_then(|h| Some(format!("{}: {}", h.host, h.unpruned.as_ref()?))),
        }
    }

    pub(super) fn advice(&self, inventory: &str, hosts: &[String]) -> Option<Advice> {
        let take = format!("rsadm etcd snapshot save{inventory}");
        if self.missing {
            let text = "the inventory has a schedule of snapshots, and no host has it yet".to_owned();
            return Some(warning(text).with(format!("rsadm up{inventory}")));
        }
        if let Some(file) = &self.damaged {
            let age = self.newest_age_seconds.map_or("there is no other".to_owned(), |age| {
                format!("the newest good one is {} old", span(age))
            });
            let text = format!("the newest scheduled snapshot, {file}, was found damaged; {age}");
            return Some(warning(text).with(take));
        }
        if let Some(file) = &self.gone {
            let age = self.newest_age_seconds.map_or("no other is known".to_owned(), |age| {
                format!("the newest one that is there is {} old", span(age))
            });
            let text = format!("the newest scheduled snapshot, {file}, is not there any more; {age}");
            let says = "it was removed or renamed, or the disk that it lies on is not mounted".to_owned();
            return Some(Advice { says: Some(says), ..warning(text).with(take) });
        }
        let text = match (self.overdue, self.newest_age_seconds, &self.failure) {
            (true, Some(age), _) => format!(
                "the newest verified snapshot is {} old, and one is due every {}",
                span(age),
                span(i64::try_from(self.interval_seconds).unwrap_or(i64::MAX))
            ),
            (true, None, _) => "no snapshot was ever taken on schedule".to_owned(),
            (false, _, Some(_)) if self.stepped_in => {
                "a host fails to take scheduled snapshots, and another stepped in".to_owned()
            }
            (false, _, Some(_)) => "the last scheduled snapshot failed".to_owned(),
            (false, _, None) => return self.aside(inventory),
        };
        let logs = format!("journalctl -u rsadm-backup.service on {} tells more", list(hosts));
        let says = self.failure.clone().unwrap_or(logs);
        Some(Advice { says: Some(says), ..warning(text).with(take) })
    }

    /// What is off although snapshots come.
    fn aside(&self, inventory: &str) -> Option<Advice> {
        if !self.idle.is_empty() {
            let text = format!(
                "the timer of scheduled snapshots has not fired on {} for two intervals: others do the work, and one host less \
                 could take it over",
                list(&self.idle)
            );
            let says = format!("systemctl status rsadm-backup.timer on {} tells more", list(&self.idle));
            return Some(Advice { says: Some(says), ..warning(text).with(format!("rsadm up{inventory}")) });
        }
        let text =
            "a scheduled snapshot was taken, and older ones could not be removed: their place will fill"
                .to_owned();
        self.unpruned.clone().map(|says| Advice { says: Some(says), ..warning(text) })
    }
}

/// Seconds in the largest unit that fits at least once: `3 h`, `5 min`.
pub fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const HOUR: i64 = 3600;

    fn host(name: &str, since: Option<i64>, newest: Option<i64>, failed: Option<i64>) -> HostBackups {
        HostBackups {
            host: name.into(),
            since: since.map(|hours| NOW - hours * HOUR),
            newest: newest.map(|hours| (NOW - hours * HOUR, format!("{name}.db"))),
            damaged: None,
            gone: None,
            last_run: NOW - failed.or(newest.filter(|hours| *hours > 0)).unwrap_or(1) * HOUR,
            error: failed.map(|_| "disk full".into()),
            unpruned: None,
        }
    }

    /// What ran so many hours ago, and never since.
    fn ran(hours: i64, host: HostBackups) -> HostBackups {
        HostBackups { last_run: NOW - hours * HOUR, ..host }
    }

    /// What a host took last, so many hours ago, is damaged.
    fn damaged(hours: i64) -> HostBackups {
        let damaged = Some((NOW - hours * HOUR, "bad.db".to_owned()));
        HostBackups { damaged, ..host("e1", Some(99), None, None) }
    }

    /// What a host took last, so many hours ago, is not there any more.
    fn gone(hours: i64) -> HostBackups {
        let gone = Some((NOW - hours * HOUR, "/nas/e1.db".to_owned()));
        HostBackups { gone, ..host("e1", Some(99), None, None) }
    }

    /// An interval of six hours; hours ago.
    #[test]
    fn late_is_what_is_older_than_two_intervals() {
        let table = [
            ("fresh", vec![host("e1", Some(99), Some(3), None), host("e2", Some(99), None, None)], None),
            (
                "just late",
                vec![host("e1", Some(99), Some(13), None)],
                Some("13 h old, and one is due every 6 h"),
            ),
            (
                "one from the future",
                vec![host("e1", Some(99), Some(-9999), Some(1)), host("e2", Some(99), Some(13), None)],
                Some("13 h old, and one is due every 6 h"),
            ),
            (
                "another took over",
                vec![ran(2, host("e1", Some(99), Some(40), None)), host("e2", Some(99), Some(2), None)],
                None,
            ),
            (
                "another took over from one whose timer is off",
                vec![host("e1", Some(99), Some(13), None), host("e2", Some(99), Some(2), None)],
                Some("has not fired on e1 for two intervals"),
            ),
            (
                "one that never fired",
                vec![ran(999, host("e1", Some(13), None, None)), host("e2", Some(99), Some(2), None)],
                Some("has not fired on e1 for two intervals"),
            ),
            (
                "one that is still new",
                vec![ran(999, host("e1", Some(11), None, None)), host("e2", Some(99), Some(2), None)],
                None,
            ),
            (
                "older ones stay",
                vec![HostBackups { unpruned: Some("locked".into()), ..host("e1", Some(99), Some(2), None) }],
                Some("older ones could not be removed"),
            ),
            ("new schedule", vec![host("e1", Some(1), None, None)], None),
            ("never", vec![host("e1", Some(99), None, None)], Some("no snapshot was ever taken on schedule")),
            (
                "failed since",
                vec![host("e1", Some(99), Some(7), Some(1))],
                Some("the last scheduled snapshot failed"),
            ),
            (
                "failed before",
                vec![host("e1", Some(99), None, Some(9)), host("e2", Some(99), Some(1), None)],
                None,
            ),
            (
                "failed, and another stepped in",
                vec![host("e1", Some(99), Some(20), Some(3)), host("e2", Some(99), Some(2), None)],
                Some("a host fails to take scheduled snapshots, and another stepped in"),
            ),
            ("not there", vec![host("e1", None, None, None)], Some("no host has it yet")),
            ("nobody answers", vec![], None),
            (
                "damaged",
                vec![damaged(2), host("e2", Some(99), Some(8), None)],
                Some("the newest good one is 8 h old"),
            ),
            (
                "damaged, and no other",
                vec![damaged(2)],
                Some("e1:bad.db, was found damaged; there is no other"),
            ),
            (
                "gone",
                vec![gone(2), host("e2", Some(99), Some(8), None)],
                Some("e1:/nas/e1.db, is not there any more; the newest one that is there is 8 h old"),
            ),
            ("gone, and no other", vec![gone(2)], Some("is not there any more; no other is known")),
            ("gone long ago", vec![gone(9), host("e2", Some(99), Some(1), None)], None),
            ("damaged long ago", vec![damaged(9), host("e2", Some(99), Some(1), None)], None),
        ];
        let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
        for (what, hosts, expected) in table {
            let report = BackupReport::of(&Backups { interval: 6 * 3600, hosts }, now);
            let advice = report.advice("", &["e1".into()]).map(|a| a.text);
            assert_eq!(advice.is_some(), expected.is_some(), "{what}: {advice:?}");
            assert!(advice.unwrap_or_default().contains(expected.unwrap_or_default()), "{what}");
        }
    }
}
