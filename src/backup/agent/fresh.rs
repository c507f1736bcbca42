//! The run that each boot begins with: a host that starts again and again would push out weeks of snapshots with those of a day.

use std::fs;

use time::OffsetDateTime;

use super::own::own_manifests;
use crate::{
    backup::{Manifest, place::Entry},
    manifests::BackupConfig,
};

/// True for the first run since the host started. A host that has never had one is not meant: whoever set the schedule up
/// wants to see that it works.
pub(super) fn is_first_of_boot(last_run: i64, now: OffsetDateTime) -> bool {
    let uptime = fs::read_to_string("/proc/uptime").ok();
    uptime.is_some_and(|uptime| ran_before(last_run, &uptime, now))
}

fn ran_before(last_run: i64, uptime: &str, now: OffsetDateTime) -> bool {
    let up = uptime.split(['.', ' ']).next().and_then(|seconds| seconds.parse::<i64>().ok());
    last_run != 0 && up.is_some_and(|up| last_run < now.unix_timestamp() - up)
}

/// A snapshot of the place that is good for now: verified, of this very cluster, and younger than a quarter of the interval, so
/// that its host has left its next note before others take it for late ([`turn::is_due`](crate::backup::turn::is_due)). What a
/// restore took the place of is not meant.
pub(super) fn fresh<'a>(
    config: &BackupConfig,
    cluster_id: u64,
    list: &'a [Entry],
    now: OffsetDateTime,
) -> Option<&'a Manifest> {
    let (lineage, quarter) =
        ([format!("{cluster_id:x}")], std::time::Duration::from_secs(config.interval) / 4);
    let is_young = |m: &&Manifest| m.taken_at <= now && now - m.taken_at < quarter;
    own_manifests(config, Some(&lineage), list).into_iter().filter(|m| m.is_verified()).find(is_young)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{agent::tests::sample_config, manifest::tests::sample};

    #[test]
    fn only_the_first_run_of_a_boot_may_be_left_out() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        for (last_run, uptime, first) in [
            (1_800_000_000 - 3600, "95.31 180.00\n", true),
            (1_800_000_000 - 30, "95.31 180.00\n", false),
            (0, "95.31 180.00\n", false),
            (1_800_000_000 + 3600, "95.31 180.00\n", false),
            (1_800_000_000 - 3600, "", false),
        ] {
            assert_eq!(ran_before(last_run, uptime, now), first, "{last_run} {uptime:?}");
        }
    }

    #[test]
    fn what_is_good_for_now_is_verified_young_and_of_this_cluster() {
        let (config, now) = (sample_config(), sample().taken_at + time::Duration::hours(9));
        let of = |minutes: i64, change: &dyn Fn(&mut Manifest)| {
            let taken_at = now - time::Duration::minutes(minutes);
            let mut manifest =
                Manifest { cluster: config.cluster.clone(), cluster_id: "a7".into(), taken_at, ..sample() };
            change(&mut manifest);
            vec![Entry::new(manifest.file.clone(), manifest.size, Ok(manifest))]
        };
        for (what, list, good) in [
            ("a young one", of(14, &|_| ()), true),
            ("one of a quarter of an interval", of(15, &|_| ()), false),
            ("one of a clock that was ahead", of(-1, &|_| ()), false),
            ("one of before a restore", of(5, &|m| m.cluster_id = "a6".into()), false),
            ("a damaged one", of(5, &|m| m.damaged = Some("it was cut off".into())), false),
            ("one without a quorum", of(5, &|m| m.without_quorum = true), false),
            ("another cluster's", of(5, &|m| m.cluster = "test".into()), false),
            ("none", vec![], false),
        ] {
            assert_eq!(fresh(&config, 0xa7, &list, now).is_some(), good, "{what}");
        }
    }
}
