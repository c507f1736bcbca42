//! Whose turn a scheduled snapshot is, where the host that is chosen each time ([`choose`](super::choose)) fails each time.
//!
//! A host whose snapshot is taken and verified leaves a note in etcd, the one thing that all of them reach: a lease, which is
//! no key, so that no client sees it and the revision stays; it goes by itself. Host and time are in its number, since how
//! much of its life is left begins anew with each leader (etcd, `lessor.go`, `Promote`). A host that is next in line waits
//! for a note of those before it, one interval longer for each host between, and then does the work each time until they
//! leave notes again. Where no note can be read, or etcd takes none because an alarm is on, nobody steps in: all
//! of them would each time, and push out the snapshots from before.

use std::time::Duration;

use crate::hash::sha256;

/// How many bits of a note are the time, seconds since 1970; the host's are above them.
const TIME: u32 = 32;

/// How much longer each host in the line waits than the one before it; less where the interval is short.
const PAUSE: Duration = Duration::from_secs(3 * 60);

/// The note that a host took one.
pub fn note(host: &str, at: i64) -> i64 {
    (mark(host) << TIME) | (at & ((1 << TIME) - 1))
}

/// How long a note stays, in seconds: as long as anybody looks for it.
pub fn lifetime(members: usize, interval: u64) -> i64 {
    let intervals = i64::try_from(members).unwrap_or(i64::MAX).saturating_add(2);
    i64::try_from(interval).unwrap_or(i64::MAX).saturating_mul(intervals)
}

/// True where a host does the work: it is the first of those that could, or of all before it no note came in time. `notes`
/// are all leases there are.
pub fn is_due(ranked: &[&str], host: &str, notes: &[i64], now: i64, interval: u64) -> bool {
    let interval = i64::try_from(interval).unwrap_or(i64::MAX);
    let Some(rank) = ranked.iter().position(|name| *name == host) else { return false };
    // Timers of hosts are not in step, and no snapshot takes exactly as long as the one before.
    let patience = |before: i64| interval.saturating_mul(before).saturating_add(interval / 4);
    // One from further ahead was left by a clock that is wrong, and would stand for its host until it ends.
    let latest = now.saturating_add(interval / 4);
    let is_late = |(before, host): (i64, &&str)| {
        newest(notes, host, latest).is_none_or(|at| now.saturating_sub(at) > patience(before))
    };
    (1..).zip(ranked[..rank].iter().rev()).all(is_late)
}

/// How long a host waits before it steps in, by its place in the line behind the first: the work of one is over, or at least its
/// reading from etcd, before the next begins it.
pub fn pause(rank: usize, interval: u64) -> Duration {
    PAUSE.min(Duration::from_secs(interval) / 16) * u32::try_from(rank).unwrap_or(u32::MAX)
}

/// When a host took its newest one, by the notes that are not of after `latest`.
fn newest(notes: &[i64], host: &str, latest: i64) -> Option<i64> {
    let mark = mark(host);
    let own = notes.iter().filter(|note| **note >> TIME == mark).map(|note| note & ((1 << TIME) - 1));
    own.filter(|at| *at <= latest).max()
}

/// 31 bits, so that a note is a positive number, as a lease's is. etcd's own leases begin with bits of a member's ID, and
/// have a time of day in milliseconds where a note has a date.
fn mark(host: &str) -> i64 {
    let sum = sha256(format!("rsadm backup {host}").as_bytes());
    i64::from_str_radix(&sum[..8], 16).unwrap_or(1) & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    const NOW: i64 = 1_800_000_000;

    /// Hosts and how many quarters of an hour ago each took one; the interval is an hour.
    #[test]
    fn whoever_is_next_in_line_steps_in_once_those_before_it_are_late() {
        let ranked = ["e1", "e2", "e3"];
        for (taken, due) in [
            (&[("e1", 4)][..], &["e1"][..]),
            (&[("e1", 5)], &["e1"]),
            (&[("e1", 6)], &["e1", "e2"]),
            (&[("e1", 9)], &["e1", "e2"]),
            (&[("e1", 10)], &["e1", "e2", "e3"]),
            (&[("e1", 12), ("e2", 4)], &["e1", "e2"]),
            (&[("e1", 30), ("e2", 6), ("e3", 4)], &["e1", "e2", "e3"]),
            (&[("e2", 4)], &["e1", "e2"]),
            (&[("e1", 4), ("e2", 1)], &["e1"]),
            (&[], &["e1", "e2", "e3"]),
            (&[("e1", -1)], &["e1"]),
            (&[("e1", -2)], &["e1", "e2", "e3"]),
            (&[("e1", -2), ("e1", 4)], &["e1"]),
        ] {
            let foreign = [7_587_894_372_415_217_925, 1];
            let notes = taken.iter().map(|(host, quarters)| note(host, NOW - quarters * HOUR / 4));
            let notes: Vec<i64> = notes.chain(foreign).collect();
            let hosts = ["e1", "e2", "e3", "e4"].into_iter();
            let found: Vec<&str> = hosts.filter(|host| is_due(&ranked, host, &notes, NOW, 3600)).collect();
            assert_eq!(found, due, "{taken:?}");
        }
    }

    /// The furthest of seven waits less than half an interval.
    #[test]
    fn those_who_step_in_do_so_one_after_the_other() {
        for (rank, interval, seconds) in
            [(0, 3600, 0), (1, 3600, 180), (2, 3600, 360), (1, 960, 60), (6, 960, 360)]
        {
            assert_eq!(pause(rank, interval).as_secs(), seconds, "{rank} {interval}");
        }
    }

    /// Three hosts whose timers fire at once, or one after the other, for twelve intervals; in five of them e1 fails.
    #[test]
    fn one_failing_host_stops_no_snapshot_and_its_return_ends_the_help() {
        for phases in [[0, 0, 0], [0, 900, 1800], [1800, 900, 0], [0, 3500, 100]] {
            let (mut notes, mut taken) = (Vec::new(), Vec::new());
            for hour in 0..12 {
                let mut firing: Vec<(i64, &str)> = phases.into_iter().zip(["e1", "e2", "e3"]).collect();
                firing.sort_unstable();
                let before = notes.clone();
                for (phase, host) in firing {
                    let now = NOW + hour * HOUR + phase;
                    // At one moment nobody sees what another does then.
                    let seen = if phases == [0, 0, 0] { &before } else { &notes };
                    let is_due = match hour {
                        0 => host == "e1",
                        _ => is_due(&["e1", "e2", "e3"], host, seen, now, 3600),
                    };
                    if is_due && (host != "e1" || !(3..8).contains(&hour)) {
                        notes.push(note(host, now));
                        taken.push((hour, host, now));
                    }
                }
            }
            let longest = taken.windows(2).map(|w| w[1].2 - w[0].2).max().unwrap();
            assert!(longest <= 9 * HOUR / 4, "{phases:?}: {longest} s without one: {taken:?}");
            let by = |hours: std::ops::Range<i64>| -> Vec<&str> {
                taken.iter().filter(|t| hours.contains(&t.0)).map(|t| t.1).collect()
            };
            assert_eq!(by(1..3), ["e1", "e1"], "{phases:?}");
            assert_eq!(by(5..8), ["e2", "e2", "e2"], "{phases:?}");
            assert_eq!(by(9..12), ["e1", "e1", "e1"], "{phases:?}");
        }
    }
}
