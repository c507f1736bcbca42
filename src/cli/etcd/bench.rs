//! `rsadm etcd bench`.

use std::{cell::Cell, collections::BTreeMap, fmt::Write as _, time::Duration};

use tokio::time::Instant;

use super::{
    status::DUE,
    tending::{Outcome, tend_with},
};
use crate::{
    cli::{CliError, Context, Exit, GateArgs, InventoryArg, args::duration},
    etcd::status::{Hashes, Millis, Pace},
    event::Next,
    exec::{
        survey::Survey,
        upkeep::bench::{Load, Measured, bench},
    },
};

/// Put a bounded load on etcd, and say what it means for disks and timing
#[derive(clap::Args, Debug)]
#[command(after_help = "\
It writes to at most 1000 keys below /rsadm/bench/ and takes them away again, those too that a
killed run has left. The load is real: other clients feel it, and where its history would take
a database above 80% of its quota it refuses.

Examples:
  rsadm etcd bench inventories/prod.yaml
  rsadm etcd bench --duration 30s --rate 1000")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(in crate::cli) inventory: InventoryArg,

    /// How long, at most 5m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = load_time)]
    pub(in crate::cli) duration: Duration,

    /// Writes a second
    #[arg(long, value_name = "N", default_value = "200", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(in crate::cli) rate: u32,

    /// Clients that write at the same time
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(in crate::cli) clients: u32,
}

/// Bytes of a value: about what Kubernetes writes for a lease or a pod's status.
const VALUE: usize = 1024;
/// The longest load.
const LONGEST: Duration = Duration::from_secs(300);

fn load_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time > LONGEST => Err(format!("{text} is too long a load; at most 5m")),
        time => Ok(time),
    }
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let load = Load { duration: args.duration, rate: args.rate, clients: args.clients, value_bytes: VALUE };
    let command = format!(
        "etcd bench{} --duration {}ms --rate {} --clients {}",
        args.inventory.as_typed(),
        args.duration.as_millis(),
        args.rate,
        args.clients
    );
    tend_with(context, &args.inventory, &command, &GateArgs::default(), async |live, t| {
        let inventory = (t.cluster.etcd.heartbeat_interval, t.cluster.etcd.election_timeout);
        // That of the first look: hosts that are busy with the load may tell nothing.
        let pace = Cell::new(None);
        let measure = async || {
            let survey = Survey {
                cluster: &live.session.cluster,
                fleet: &live.session.fleet,
                unreachable: &[],
                inventory: String::new(),
                due: Instant::now() + DUE,
            };
            let report = survey.etcd(Hashes::Unasked, time::OffsetDateTime::now_utc()).await;
            pace.set(pace.get().or(Some(Pace::of(&report, inventory))));
            let members = report.members.into_iter().filter_map(|m| Some((m.name, m.metrics?)));
            members.collect::<BTreeMap<_, _>>()
        };
        let measured = bench(t, load, measure).await?;
        if !context.ui.settings().json {
            // Not a result of the plan's kind: a small table, for people.
            let pace = pace.get().unwrap_or(Pace { timing: inventory, of_others: false });
            let _ = context.ui.data(&text(&measured, pace));
        }
        let next = Next::new(
            format!("rsadm etcd compact{}", args.inventory.as_typed()),
            "drops the history that the load left",
        );
        Ok(Outcome {
            text: format!("{} writes measured", measured.writes),
            changed: 1,
            result: measured,
            next: vec![next],
        })
    })
    .await
}

fn text(measured: &Measured, pace: Pace) -> String {
    let ms = |m: Millis| format!("{}.{} ms", m.micros / 1000, m.micros % 1000 / 100);
    let p = &measured.write_ms;
    let mut text = format!(
        "writes   {} acknowledged, {} failed; half within {}, 90% {}, 99% {}, all {}\n",
        measured.writes,
        measured.errors,
        ms(p.p50),
        ms(p.p90),
        ms(p.p99),
        ms(p.max)
    );
    // Writing to a String cannot fail.
    if let Some(idle) = measured.idle_ms {
        let _ = writeln!(text, "way      {} of that are the way from here and back", ms(idle));
    }
    for (name, p99) in &measured.fsync_p99_ms {
        let told = match p99 {
            Some(p99) if p99.micros > 10_000 => {
                format!(
                    "99% of fsyncs took up to {}, and etcd asks for less than 10 ms: a slow disk",
                    ms(*p99)
                )
            }
            Some(p99) => {
                format!("99% of fsyncs took up to {}, as etcd wants it (less than 10 ms)", ms(*p99))
            }
            None => "too few fsyncs to tell how long 99% take".to_owned(),
        };
        let _ = writeln!(text, "disk     {name}: {told}");
    }
    if let Some(advised) = measured.advised {
        let (heartbeat, election) = pace.timing;
        let fits = heartbeat.as_millis() >= advised.heartbeat_interval_ms;
        let _ = match fits {
            true => writeln!(
                text,
                "timing   heartbeat {} ms and election timeout {} ms fit this",
                heartbeat.as_millis(),
                election.as_millis()
            ),
            false => writeln!(text, "timing   {}", pace.change_to(advised.timing())),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::upkeep::bench::{Advised, Percentiles};

    fn measured(fsync: [Option<u32>; 3], advised: (u128, u128)) -> Measured {
        let ms = |ms: u32| Millis { micros: ms * 1000 };
        let disks = ["e1", "e2", "e3"].map(str::to_owned).into_iter();
        Measured {
            load: Load { duration: Duration::from_secs(5), rate: 50, clients: 4, value_bytes: VALUE },
            writes: 250,
            errors: 0,
            write_ms: Percentiles { p50: ms(2), p90: ms(4), p99: ms(9), max: ms(15) },
            idle_ms: Some(ms(1)),
            fsync_p99_ms: disks.zip(fsync.map(|micros| micros.map(|micros| Millis { micros }))).collect(),
            advised: Some(Advised { heartbeat_interval_ms: advised.0, election_timeout_ms: advised.1 }),
        }
    }

    /// etcd's documents ask for 99 of 100 fsyncs within 10 ms (etcd, `op-guide/hardware.md`).
    #[test]
    fn disks_and_timeouts_are_judged() {
        let timing = (Duration::from_millis(100), Duration::from_millis(1000));
        let pace = Pace { timing, of_others: false };
        let well = measured([Some(4_000), Some(10_000), None], (100, 1000));
        insta::assert_snapshot!(text(&well, pace), @"
        writes   250 acknowledged, 0 failed; half within 2.0 ms, 90% 4.0 ms, 99% 9.0 ms, all 15.0 ms
        way      1.0 ms of that are the way from here and back
        disk     e1: 99% of fsyncs took up to 4.0 ms, as etcd wants it (less than 10 ms)
        disk     e2: 99% of fsyncs took up to 10.0 ms, as etcd wants it (less than 10 ms)
        disk     e3: too few fsyncs to tell how long 99% take
        timing   heartbeat 100 ms and election timeout 1000 ms fit this
        ");
        let slow = measured([Some(4_000), Some(10_100), Some(180_000)], (250, 2500));
        insta::assert_snapshot!(text(&slow, pace), @"
        writes   250 acknowledged, 0 failed; half within 2.0 ms, 90% 4.0 ms, 99% 9.0 ms, all 15.0 ms
        way      1.0 ms of that are the way from here and back
        disk     e1: 99% of fsyncs took up to 4.0 ms, as etcd wants it (less than 10 ms)
        disk     e2: 99% of fsyncs took up to 10.1 ms, and etcd asks for less than 10 ms: a slow disk
        disk     e3: 99% of fsyncs took up to 180.0 ms, and etcd asks for less than 10 ms: a slow disk
        timing   set etcd.heartbeat_interval: 250ms and etcd.election_timeout: 2500ms in the inventory, then rsadm up
        ");
        let told = text(&slow, Pace { of_others: true, ..pace });
        let flags =
            "--heartbeat-interval=250 and --election-timeout=2500 in /etc/kubernetes/manifests/etcd.yaml";
        assert!(told.contains(flags) && !told.contains("rsadm up"), "{told}");
    }
}
