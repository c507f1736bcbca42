//! A bounded load on etcd and what it says: how long writes take from here, and how long the members' disks took
//! meanwhile, which is what decides over elections.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use futures::future::join_all;
use serde::Serialize;
use tokio::time::{Instant, interval};

use super::{Tending, failed};
use crate::{
    etcd::{
        status::{Metrics, Millis, Timing, advised},
        upkeep::Upkeep,
    },
    exec::RunError,
    inventory::NodeName,
    plan::Refusal,
};

mod bounds;

/// The load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Load {
    /// How long.
    #[serde(skip)]
    pub duration: Duration,
    /// Writes a second, over all clients.
    pub rate: u32,
    /// Clients that write at the same time.
    pub clients: u32,
    /// Bytes of a value.
    pub value_bytes: usize,
}

/// How many keys are written to, over and over.
const KEYS: u64 = 1000;

/// Where all of them are, and nothing else.
const PREFIX: &str = "/rsadm/bench/";

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// What was asked for.
    pub load: Load,
    /// Writes that etcd acknowledged.
    pub writes: usize,
    /// Writes that failed.
    pub errors: usize,
    /// Of writes, as seen from here.
    pub write_ms: Percentiles,
    /// Of a question that touches no disk: what of the above is the way there and back.
    pub idle_ms: Option<Millis>,
    /// How long fsync took on each member during the load, 99th percentile.
    pub fsync_p99_ms: BTreeMap<String, Option<Millis>>,
    /// Heartbeat interval and election timeout that fit the slowest disk and the longest round trip.
    pub advised: Option<Advised>,
}

/// Timing, in the inventory's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Advised {
    /// `etcd.heartbeat_interval`.
    pub heartbeat_interval_ms: u128,
    /// `etcd.election_timeout`.
    pub election_timeout_ms: u128,
}

/// Percentiles of latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Half are faster.
    pub p50: Millis,
    /// 9 of 10 are faster.
    pub p90: Millis,
    /// 99 of 100 are faster.
    pub p99: Millis,
    /// The slowest.
    pub max: Millis,
}

impl Percentiles {
    /// Of some latencies; `None` of none.
    pub fn of(mut all: Vec<Duration>) -> Option<Self> {
        all.sort_unstable();
        let last = all.len().checked_sub(1)?;
        let at = |share: usize| Millis::from(all[last * share / 100]);
        Some(Self { p50: at(50), p90: at(90), p99: at(99), max: at(100) })
    }
}

fn nobody_leads() -> RunError {
    RunError::Refused(Refusal {
        rule: "leader",
        subject: "no load is put on etcd".to_owned(),
        why: "nobody leads at this moment; the members are holding an election".to_owned(),
        help: "rsadm etcd status shows every member; once one leads, run the same command again".to_owned(),
    })
}

/// Writes at a rate until the time is over or the operator stops it, and takes the keys away again. `measure` reads the
/// members' metrics, by their names, before and after.
///
/// # Errors
/// Where etcd has no quorum, no room for what the load leaves, or takes no write at all.
pub async fn bench(
    t: &Tending<'_>,
    load: Load,
    measure: impl AsyncFn() -> BTreeMap<String, Metrics>,
) -> Result<Measured, RunError> {
    let stage = t.events.stage("bench", "a bounded load", []);
    let report = t.serving().await?;
    let member = report.members.iter().find(|m| m.is_leader).ok_or_else(nobody_leads)?;
    bounds::fits(t, &report, &load).await?;
    let api = t.tend(&stage, member, "bench").await?;
    let host = NodeName::new(member.name.as_str());
    stage.says(&host, format!("{} writes a second for {} s", load.rate, load.duration.as_secs()));
    let cleaned = async || {
        let cleaned = api.delete_prefix(PREFIX).await;
        let doing = format!("delete the keys below {PREFIX}");
        cleaned.map_err(|e| failed(&stage, &member.name, &doing, e.into_why()))
    };
    // What runs left that were killed: nobody else puts a load on etcd meanwhile, since this holds the cluster's lock.
    cleaned().await?;
    let idle = idle(api.as_ref()).await;
    let before = measure().await;
    let (times, errors) = write(t, api.as_ref(), load).await;
    let after = measure().await;
    cleaned().await?;
    let writes = times.len();
    let Some(write_ms) = Percentiles::of(times) else {
        return Err(failed(&stage, &member.name, "write", "not one write was acknowledged".into()));
    };
    stage.done(format!("{writes} writes through {}, their keys taken away again", member.name));
    let during = during(&before, &after);
    let slowest = during.values().flatten().chain(trips(&after).iter()).max().copied();
    Ok(Measured {
        load,
        writes,
        errors,
        write_ms,
        idle_ms: idle.map(Millis::from),
        fsync_p99_ms: during.into_iter().map(|(name, p99)| (name, p99.map(Millis::from))).collect(),
        advised: slowest.map(|slowest| Advised::of(advised(slowest))),
    })
}

impl Advised {
    fn of((heartbeat, election): Timing) -> Self {
        Self { heartbeat_interval_ms: heartbeat.as_millis(), election_timeout_ms: election.as_millis() }
    }

    /// The same as a heartbeat interval and an election timeout.
    pub fn timing(self) -> Timing {
        let time = |millis: u128| Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
        (time(self.heartbeat_interval_ms), time(self.election_timeout_ms))
    }
}

fn trips(metrics: &BTreeMap<String, Metrics>) -> Vec<Duration> {
    metrics.values().filter_map(|m| m.longest_round_trip()).map(|(_, time)| time).collect()
}

fn during(
    before: &BTreeMap<String, Metrics>,
    after: &BTreeMap<String, Metrics>,
) -> BTreeMap<String, Option<Duration>> {
    let one = |(name, now): (&String, &Metrics)| {
        let since = before.get(name).map_or_else(|| now.fsync.clone(), |then| now.fsync.since(&then.fsync));
        (name.clone(), since.p99())
    };
    after.iter().map(one).collect()
}

/// The median of ten questions that no disk is asked for.
async fn idle(api: &dyn Upkeep) -> Option<Duration> {
    let mut times = Vec::new();
    for _ in 0..10 {
        let asked = Instant::now();
        api.status().await.ok()?;
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    times.get(5).copied()
}

async fn write(t: &Tending<'_>, api: &dyn Upkeep, load: Load) -> (Vec<Duration>, usize) {
    let value = vec![b'r'; load.value_bytes];
    let (end, next) = (Instant::now() + load.duration, AtomicU64::new(0));
    let clients = load.clients.max(1);
    let pause = Duration::from_secs(1) * clients / load.rate.max(1);
    let client = || async {
        let (mut times, mut errors, mut ticks) = (Vec::new(), 0, interval(pause));
        while Instant::now() < end && !(t.stopping)() {
            ticks.tick().await;
            let key = format!("{PREFIX}{}", next.fetch_add(1, Relaxed) % KEYS);
            let asked = Instant::now();
            match api.put(&key, &value).await {
                Ok(()) => times.push(asked.elapsed()),
                Err(_) => errors += 1,
            }
        }
        (times, errors)
    };
    let all = join_all((0..clients).map(|_| client())).await;
    let errors = all.iter().map(|(_, errors)| errors).sum();
    (all.into_iter().flat_map(|(times, _)| times).collect(), errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted() {
        let of = |n: u64| Percentiles::of((1..=n).rev().map(Duration::from_millis).collect());
        let hundred = of(101).unwrap();
        let micros = [hundred.p50, hundred.p90, hundred.p99, hundred.max].map(|m| m.micros / 1000);
        assert_eq!(micros, [51, 91, 100, 101]);
        assert_eq!(of(1).unwrap().p99.micros, 1000);
        assert_eq!(of(0), None);
    }
}
