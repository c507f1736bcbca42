//! What a member's own metrics say of its disk, its network and its leaders.
//!
//! They count from the start of the process, so what is read here is how it has been since then; the difference of two
//! readings ([`Histogram::since`]) is how it was in between.

use std::{collections::BTreeMap, time::Duration};

use serde::{Serialize, Serializer};

use super::report::Millis;

/// Fewer observations than these say nothing of a percentile.
const ENOUGH: u64 = 100;

/// A Prometheus histogram of durations: upper bounds in microseconds, and how many were not above each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: Vec<(u64, u64)>,
}

impl Histogram {
    /// How many durations it holds.
    pub fn count(&self) -> u64 {
        self.buckets.last().map_or(0, |(_, count)| *count)
    }

    /// The 99th percentile; `None` where too few were seen.
    pub fn p99(&self) -> Option<Duration> {
        self.percentile(99)
    }

    /// The median; `None` where too few were seen.
    pub fn median(&self) -> Option<Duration> {
        self.percentile(50)
    }

    /// Interpolated within its bucket as Prometheus does.
    fn percentile(&self, percent: u64) -> Option<Duration> {
        let total = self.count();
        if total < ENOUGH {
            return None;
        }
        let rank = total * percent / 100;
        let mut below = (0, 0);
        for (bound, count) in &self.buckets {
            if *count >= rank && *bound == u64::MAX {
                return Some(Duration::from_micros(below.0));
            }
            if *count >= rank {
                let (share, width) = (rank - below.1, (*count - below.1).max(1));
                return Some(Duration::from_micros(below.0 + (bound - below.0) * share / width));
            }
            below = (*bound, *count);
        }
        None
    }

    /// What was added since an earlier reading of the same; everything, where the member has started anew since.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        if earlier.count() > self.count() || earlier.buckets.len() != self.buckets.len() {
            return self.clone();
        }
        let pairs = self.buckets.iter().zip(&earlier.buckets);
        Self { buckets: pairs.map(|((bound, now), (_, then))| (*bound, now.saturating_sub(*then))).collect() }
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.p99().map(Millis::from).serialize(serializer)
    }
}

/// What one member measured since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// How long it has run, in seconds.
    pub uptime_seconds: u64,
    /// How many times it saw another leader.
    pub leader_changes: u64,
    /// How long its disk takes to make its log safe, 99th percentile.
    #[serde(rename = "fsync_p99_ms")]
    pub fsync: Histogram,
    /// How long its disk takes to commit to the database, 99th percentile.
    #[serde(rename = "commit_p99_ms")]
    pub commit: Histogram,
    /// How long messages to other members and back take, 99th percentile, by their names.
    #[serde(rename = "round_trips_p99_ms")]
    pub round_trips: BTreeMap<String, Histogram>,
    /// How long ago it heard of others last, by their names; empty where its host does not say.
    #[serde(rename = "heard_ms_ago")]
    pub heard: BTreeMap<String, Millis>,
}

impl Metrics {
    /// Reads lines in Prometheus' text format; `now` is the host's clock in seconds. `None` where etcd's are not there.
    pub fn read<'l>(lines: impl Iterator<Item = &'l str>, now: u64) -> Option<Self> {
        let (mut metrics, mut found) = (Self::default(), false);
        for line in lines {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            let value = whole(value);
            match name {
                "process_start_time_seconds" => metrics.uptime_seconds = now.saturating_sub(value),
                "etcd_server_leader_changes_seen_total" => {
                    (metrics.leader_changes, found) = (value, true);
                }
                "etcd_disk_wal_fsync_duration_seconds_bucket" => metrics.fsync.add(labels, value),
                "etcd_disk_backend_commit_duration_seconds_bucket" => metrics.commit.add(labels, value),
                "etcd_network_peer_round_trip_time_seconds_bucket" => {
                    if let Some(to) = label(labels, "To") {
                        metrics.round_trips.entry(to.to_owned()).or_default().add(labels, value);
                    }
                }
                "heard" => {
                    if let Some(from) = label(labels, "From") {
                        metrics.heard.insert(from.to_owned(), Duration::from_millis(value).into());
                    }
                }
                _ => {}
            }
        }
        found.then_some(metrics)
    }

    /// The longest round trip, and to whom.
    pub fn longest_round_trip(&self) -> Option<(&str, Duration)> {
        let known = self.round_trips.iter().filter_map(|(to, times)| Some((to.as_str(), times.p99()?)));
        known.max_by_key(|(_, time)| *time)
    }
}

impl Histogram {
    fn add(&mut self, labels: &str, count: u64) {
        let bound = match label(labels, "le").map(str::parse::<f64>) {
            Some(Ok(seconds)) if seconds.is_finite() => whole(seconds * 1e6),
            _ => u64::MAX,
        };
        self.buckets.push((bound, count));
    }
}

fn label<'l>(labels: &'l str, name: &str) -> Option<&'l str> {
    let at = labels.find(&format!("{name}=\""))? + name.len() + 2;
    labels[at..].split('"').next()
}

/// Counts and bounds of histograms are never negative, and far from what a float cannot hold.
fn whole(value: f64) -> u64 {
    Duration::try_from_secs_f64(value.round()).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 900
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.002"} 980
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.004"} 1000
etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 1000
etcd_network_peer_round_trip_time_seconds_bucket{To="a102",le="0.0001"} 0
etcd_network_peer_round_trip_time_seconds_bucket{To="a102",le="0.0002"} 200
etcd_network_peer_round_trip_time_seconds_bucket{To="a102",le="+Inf"} 200
heard{From="10.0.0.2"} 1428
etcd_server_leader_changes_seen_total 3
process_start_time_seconds 1.7638e+09
"#;

    #[test]
    fn metrics_are_read() {
        let metrics = Metrics::read(TEXT.lines(), 1_763_800_060).unwrap();
        assert_eq!((metrics.leader_changes, metrics.uptime_seconds), (3, 60));
        assert_eq!(metrics.fsync.p99(), Some(Duration::from_micros(3000)), "half-way in its bucket");
        assert_eq!(metrics.longest_round_trip(), Some(("a102", Duration::from_micros(199))));
        assert_eq!(metrics.heard, [("10.0.0.2".to_owned(), Duration::from_millis(1428).into())].into());
        assert_eq!(metrics.commit.p99(), None, "nothing was seen");
        assert_eq!(Metrics::read("go_threads 7".lines(), 0), None);
    }

    #[test]
    fn percentiles_of_few_and_of_the_unbounded() {
        let of =
            |buckets: &[(u64, u64)]| Histogram { buckets: buckets.to_vec() }.p99().map(|d| d.as_micros());
        assert_eq!(of(&[(1000, 99), (u64::MAX, 99)]), None, "too few");
        assert_eq!(of(&[(1000, 0), (8000, 0), (u64::MAX, 100)]), Some(8000), "at least so much");
        assert_eq!(of(&[(1000, 100), (u64::MAX, 100)]), Some(990));
    }

    #[test]
    fn the_difference_of_two_readings_is_what_was_in_between() {
        let of = |counts: [u64; 3]| Histogram {
            buckets: [1000, 2000, u64::MAX].into_iter().zip(counts).collect(),
        };
        let between = of([1000, 1400, 1400]).since(&of([1000, 1000, 1000]));
        assert_eq!((between.count(), between.p99()), (400, Some(Duration::from_micros(1990))));
        let restarted = of([200, 200, 200]);
        assert_eq!(restarted.since(&of([1000, 1400, 1400])), restarted);
    }
}
