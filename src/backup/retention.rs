//! Which snapshots may go. Pure, since what it says is deleted.

use std::{collections::BTreeMap, time::Duration};

use time::OffsetDateTime;

use super::Manifest;
pub use crate::inventory::Retention;
use crate::layout::SKEW;

impl Retention {
    /// Those not older than this.
    pub fn age(limit: Duration) -> Self {
        Self::Seconds(limit.as_secs())
    }

    /// How many snapshots it comes to, of a schedule with this interval in seconds.
    pub fn in_intervals(self, interval: u64) -> u64 {
        match self {
            Self::Count(n) => n,
            Self::Seconds(limit) => limit / interval.max(1),
        }
    }

    /// Positions of the snapshots that may go, of a list with the newest first. Those of each group count for themselves.
    ///
    /// Of those against which nothing is known the newest `least` stay whatever their age. By age alone the first snapshot
    /// after an outage that was longer than the limit, or by a clock that is far ahead, would be the end of all others; so they
    /// go one by one, as new ones take their places.
    ///
    /// The newest verified one stays whatever its age: it is what a restore would take. So does the newest of those that carry
    /// the cluster's keys, where newer ones carry etcd's alone: it is what fresh hosts would be made from. One that is known to be damaged, or
    /// was taken without a quorum, is none of the number that is kept: of such there may be as many again, so that they
    /// neither push out a good one nor fill the place. Neither is one from the future, and it stays: a clock was ahead when it was taken,
    /// or is behind now, and what is newest is then not for a clock to say.
    pub fn spare<'m, K: Ord>(
        self,
        newest_first: &[&'m Manifest],
        group: impl Fn(&'m Manifest) -> K,
        least: u64,
        now: OffsetDateTime,
    ) -> Vec<usize> {
        let mut groups: BTreeMap<K, Newer> = BTreeMap::new();
        let mut spare = Vec::new();
        for (i, m) in newest_first.iter().enumerate().filter(|(_, m)| m.taken_at <= now + SKEW) {
            let newer = groups.entry(group(m)).or_default();
            let has_keys = m.has_the_clusters_keys();
            let is_safe = m.is_verified() && (!newer.verified || (has_keys && !newer.with_keys));
            let is_old = match self {
                Self::Count(n) => newer.good >= n || (!m.is_good() && newer.others >= n),
                Self::Seconds(limit) => {
                    let age = (now - m.taken_at).whole_seconds();
                    age > i64::try_from(limit).unwrap_or(i64::MAX) && (newer.good >= least || !m.is_good())
                }
            };
            if is_old && !is_safe {
                spare.push(i);
            }
            newer.verified |= m.is_verified();
            newer.with_keys |= m.is_verified() && has_keys;
            *(if m.is_good() { &mut newer.good } else { &mut newer.others }) += 1;
        }
        spare
    }
}

/// What came before a snapshot in its cluster's list.
#[derive(Default)]
struct Newer {
    /// How many against which nothing is known.
    good: u64,
    /// How many of the rest.
    others: u64,
    /// Whether one was verified.
    verified: bool,
    /// Whether one was that carries the cluster's keys.
    with_keys: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backup::{Check, manifest::tests::sample},
        pki::authorities::Ca,
    };

    /// Newest first, an hour apart; `v` is verified, `-` is not, `x` was once and is known to be damaged, `q` was checked and
    /// had no quorum behind it.
    #[test]
    fn the_newest_verified_one_always_stays() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let hours = |n: u64| Retention::age(Duration::from_secs(n * 3600 + 1));
        let table: [(&str, Retention, &[usize]); 18] = [
            ("vvvv", Retention::Count(2), &[2, 3]),
            ("vvvv", Retention::Count(9), &[]),
            ("vvvv", Retention::Count(0), &[1, 2, 3]),
            ("--vv", Retention::Count(2), &[3]),
            ("--v-", Retention::Count(1), &[1, 3]),
            ("----", Retention::Count(1), &[1, 2, 3]),
            ("vvvv", hours(2), &[3]),
            ("---v", hours(1), &[2]),
            ("", Retention::Count(1), &[]),
            ("xvv", Retention::Count(1), &[2]),
            ("xxv-", Retention::Count(0), &[0, 1, 3]),
            ("vxv", Retention::Count(1), &[1, 2]),
            ("xv", hours(0), &[]),
            ("qqv", Retention::Count(2), &[]),
            ("qqqvvv", Retention::Count(2), &[2, 5]),
            ("vqq", Retention::Count(1), &[1, 2]),
            ("xqxvv", Retention::Count(2), &[2]),
            ("qqqv", hours(1), &[2]),
        ];
        for (states, retention, expected) in table {
            let list: Vec<Manifest> = states
                .chars()
                .zip(0i64..)
                .map(|(state, i)| Manifest {
                    taken_at: now - Duration::from_secs(u64::try_from(i).unwrap() * 3600),
                    check: (state != '-').then_some(Check::Checksum),
                    damaged: (state == 'x').then(|| "it was cut off".to_owned()),
                    without_quorum: state == 'q',
                    ..sample()
                })
                .collect();
            let list: Vec<&Manifest> = list.iter().collect();
            assert_eq!(retention.spare(&list, Manifest::built, 0, now), expected, "{states} {retention:?}");
        }
    }

    /// `k` carries the cluster's keys, `e` etcd's alone, `v` none; all are verified.
    #[test]
    fn the_newest_with_the_clusters_keys_stays_too() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let table: [(&str, Retention, &[usize]); 6] = [
            ("eekk", Retention::Count(1), &[1, 3]),
            ("eeek", Retention::age(Duration::from_secs(1)), &[1, 2]),
            ("kkek", Retention::Count(1), &[1, 2, 3]),
            ("vvkv", Retention::Count(1), &[1, 3]),
            ("vvvv", Retention::Count(1), &[1, 2, 3]),
            ("eeee", Retention::Count(2), &[2, 3]),
        ];
        for (kinds, retention, expected) in table {
            let of = |(kind, hours): (char, i64)| Manifest {
                taken_at: now - time::Duration::hours(hours),
                carries: match kind {
                    'k' => vec![Ca::Etcd.key_path(), Ca::Cluster.key_path()],
                    'e' => vec![Ca::Etcd.key_path()],
                    _ => vec![],
                },
                ..sample()
            };
            let list: Vec<Manifest> = kinds.chars().zip(1..).map(of).collect();
            let list: Vec<&Manifest> = list.iter().collect();
            assert_eq!(retention.spare(&list, Manifest::built, 0, now), expected, "{kinds} {retention:?}");
        }
    }

    /// A clock that was ahead once takes nothing from what is taken since.
    #[test]
    fn what_is_from_the_future_stays_and_counts_for_nothing() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let at = |days: i64| Manifest { taken_at: now + time::Duration::days(days), ..sample() };
        let list = [at(1500), at(1499), at(0), at(-1), at(-2)];
        let list: Vec<&Manifest> = list.iter().collect();
        let spare = |keep, least| Retention::Count(keep).spare(&list, Manifest::built, least, now);
        assert_eq!(spare(2, 2), [4]);
        assert_eq!(spare(0, 0), [3, 4], "the newest of its own time stays");
    }

    /// A day's worth of one each hour; each line has how many hours ago the newest were taken, by the host's clock.
    #[test]
    fn after_an_outage_or_by_a_clock_that_is_ahead_old_ones_go_as_new_ones_come() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let day = Retention::age(Duration::from_secs(24 * 3600));
        let least = day.in_intervals(3600);
        assert_eq!(least, 24);
        for (newest, gap, gone) in
            [(24, 1, 23), (1, 24 * 365, 1), (2, 24 * 365, 2), (0, 100, 0), (30, 30, 29)]
        {
            // 24 newer ones make up for one that is too old.
            let hours = (0..newest).chain((0..24).map(|i| newest + gap - 1 + i));
            let list: Vec<Manifest> = hours
                .map(|hours| Manifest { taken_at: now - time::Duration::hours(hours), ..sample() })
                .collect();
            let list: Vec<&Manifest> = list.iter().collect();
            let spare = day.spare(&list, Manifest::built, least, now);
            assert_eq!(spare.len(), gone, "{newest} after {gap} hours");
        }
    }

    #[test]
    fn each_cluster_keeps_its_own_number() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let of = |cluster: &str, hours: i64| Manifest {
            cluster: cluster.to_owned(),
            taken_at: now - time::Duration::hours(hours),
            ..sample()
        };
        let mut list = [of("prod", 1), of("prod", 2), of("prod", 3), of("payments", 4), of("payments", 5)];
        let spare = |list: &[Manifest], n| {
            let list: Vec<&Manifest> = list.iter().collect();
            Retention::Count(n).spare(&list, Manifest::built, n, now)
        };
        assert_eq!(spare(&list, 2), [2]);
        assert_eq!(spare(&list, 1), [1, 2, 4]);
        // A drill on other machines has the name of what it is a drill for, and pushes nothing of that out.
        list[..2].iter_mut().for_each(|m| m.cluster_id = "d111".into());
        assert_eq!(spare(&list, 1), [1, 4]);
    }
}
