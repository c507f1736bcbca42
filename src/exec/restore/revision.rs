//! Where the revisions of a restored cluster begin: above every revision that any cluster in its place has had. Watch caches
//! take an older revision for old news, and would stay as they are without a word.
//!
//! Each restore begins at a revision that goes by the moment that is in its name: [`RATE`] for every second since 1970,
//! which is more than etcd ever takes, so whatever was written since an earlier restore is below the next, however old the
//! snapshot is, and also where nobody remembers the earlier one. The name is on the hosts ([`super::scripts::RESTORE`],
//! `token`), so all hosts restore alike, and a rerun as the run before it.

use time::OffsetDateTime;

use super::{RestoreError, over::Standing};
use crate::{
    exec::{ask, members::Members},
    inventory::NodeName,
    layout::RECOVERED,
};

/// Revisions in a second. etcd's own benchmark comes to half as many writes (etcd, `op-guide/performance.md`).
const RATE: u64 = 100_000;

/// By how much revisions rise over those that are beyond that, raised by other means or by a clock that was ahead: more writes
/// than any cluster makes between its last snapshot and a restore (etcd, `op-guide/recovery.md`, names this number).
const MARGIN: u64 = 1_000_000_000;

/// Names a restore, and the new cluster: when, and from what.
#[must_use]
pub fn of_snapshot(cluster: &str, moment: u64, sha256: &str) -> String {
    format!("{cluster}-{moment}-{}", &sha256[..12])
}

/// Names a recovery by its survivor, so that it goes on from the same one.
#[must_use]
pub fn of_survivor(cluster: &str, moment: u64, survivor: &NodeName) -> String {
    format!("{cluster}-{moment}{RECOVERED}{survivor}")
}

/// From whom a recovery takes its data, by its name; `None` for a restore.
#[must_use]
pub fn survivor_in(token: &str) -> Option<NodeName> {
    token.rsplit_once(RECOVERED).map(|(_, survivor)| NodeName::new(survivor))
}

/// The moment in a name.
pub(super) fn moment_in(token: &str) -> Option<u64> {
    let begin = token.rsplit_once(RECOVERED).or_else(|| token.rsplit_once('-'))?.0;
    begin.rsplit_once('-')?.1.parse().ok()
}

/// The moment for the name of a new restore: now, but no earlier than what is known of revisions allows, by whose clock ever.
pub async fn moment(members: &dyn Members, standing: &Standing) -> u64 {
    let now = OffsetDateTime::now_utc();
    let current = ask::report(members).await.revision;
    after(now.unix_timestamp().unsigned_abs(), current, standing.newest)
}

fn after(now: u64, current: Option<u64>, newest: Option<u64>) -> u64 {
    let known = current.map(|revision| revision.div_ceil(RATE)).max(newest);
    // No further ahead of the time than it takes: who remembers nothing of this one goes by the time alone.
    known.filter(|known| *known >= now).map_or(now, |known| known.saturating_add(MARGIN / RATE))
}

/// Below what no revision of the restored cluster is, with a second for what a snapshot without keys is counted by.
pub(super) fn least(token: &str) -> u64 {
    moment_in(token).unwrap_or_default().saturating_sub(1).saturating_mul(RATE)
}

/// By how much revisions rise over those of a snapshot.
///
/// # Errors
/// Where etcd could not count that far.
pub fn bump(token: &str, snapshot: u64) -> Result<u64, RestoreError> {
    let begin = moment_in(token).unwrap_or_default().saturating_mul(RATE);
    // No more than to there, or a restore soon after of an older snapshot would begin below.
    let bump = if begin > snapshot { begin - snapshot } else { MARGIN };
    // etcd's revisions are of 64 bits, one of them for the sign; what is restored has to have some left.
    let fits = snapshot.checked_add(bump).is_some_and(|r| r <= i64::MAX.unsigned_abs() - MARGIN);
    fits.then_some(bump).ok_or(RestoreError::TooHigh { snapshot, bump })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_000_000;

    /// What it begins at: a restore of a snapshot at that moment.
    fn begins(snapshot: u64, moment: u64) -> u64 {
        snapshot + bump(&of_snapshot("prod-2", moment, "0123456789abcdef"), snapshot).unwrap()
    }

    #[test]
    fn every_restore_begins_above_all_that_was_written_before_it() {
        let first = 48_211;
        let (mut highest, mut snapshots, mut now) = (first + 5_000_000, vec![first], NOW);
        for step in 0..200 {
            // The newest snapshot, the oldest, or one between.
            let snapshot = snapshots[[snapshots.len() - 1, 0, snapshots.len() / 2][step % 3]];
            let begin = begins(snapshot, now);
            assert!(begin > highest, "restore {step} of {snapshot}: {begin} after {highest}");
            // As many writes as etcd takes, for five minutes.
            (highest, now) = (begin + 300 * 50_000, now + 300);
            snapshots.push(highest - 1000);
        }
    }

    /// Also soon after another restore, whose data would else be taken for that of this one.
    #[test]
    fn what_is_restored_is_told_from_what_was_there() {
        for snapshot in [0, 1, 48_211, NOW * RATE - 1, NOW * RATE + 7] {
            let token = of_snapshot("prod", NOW, "0123456789abcdef");
            assert!(begins(snapshot, NOW) >= least(&token), "{snapshot}");
        }
        let token = of_snapshot("prod", NOW, "0123456789abcdef");
        assert!(begins(48_211, NOW - 60) + 60 * 50_000 < least(&token));
    }

    #[test]
    fn a_name_tells_its_moment_whatever_is_in_it() {
        let survivor = NodeName::new("e-1");
        for cluster in ["prod", "prod-7", "a-1-2"] {
            assert_eq!(moment_in(&of_snapshot(cluster, NOW, "0123456789abcdef")), Some(NOW));
            let recovery = of_survivor(cluster, NOW, &survivor);
            assert_eq!((moment_in(&recovery), survivor_in(&recovery)), (Some(NOW), Some(survivor.clone())));
        }
    }

    #[test]
    fn a_clock_that_is_behind_does_not_bring_revisions_down() {
        assert_eq!(after(NOW, None, None), NOW);
        assert_eq!(after(NOW, Some(48_211), Some(NOW - 86_400)), NOW);
        // Soon after another, too: on bare hosts nobody knows of either, a little later.
        assert_eq!(after(NOW, Some((NOW - 100) * RATE + 12), Some(NOW - 100)), NOW);
        assert_eq!(after(NOW, None, Some(NOW)), NOW + 10_000);
        // The last one was begun by a clock that is a year ahead; or etcd was raised by other means.
        assert_eq!(after(NOW, None, Some(NOW + 31_536_000)), NOW + 31_536_000 + 10_000);
        let current = 3 * NOW * RATE + 17;
        assert!(begins(48_211, after(NOW, Some(current), None)) > current + MARGIN);
        // Nothing but the snapshot tells how far it was.
        assert_eq!(begins(current, NOW), current + MARGIN);
    }

    #[test]
    fn revisions_that_etcd_cannot_count_are_refused() {
        let token = of_snapshot("prod", NOW, "0123456789abcdef");
        let highest = i64::MAX.unsigned_abs();
        assert_eq!(bump(&token, highest - 2 * MARGIN).unwrap(), MARGIN);
        for snapshot in [highest - 2 * MARGIN + 1, highest, u64::MAX] {
            assert!(matches!(bump(&token, snapshot), Err(RestoreError::TooHigh { .. })), "{snapshot}");
        }
        let token = of_snapshot("prod", after(NOW, Some(highest - 1), None), "0123456789abcdef");
        assert!(matches!(bump(&token, 48_211), Err(RestoreError::TooHigh { .. })));
    }
}
