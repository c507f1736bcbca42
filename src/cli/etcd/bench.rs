//! `rsadm etcd bench`.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use tokio::time::Instant;

use super::{
    status::DUE,
    tending::{Outcome, tend_with},
};
use crate::{
    cli::{CliError, Context, Exit, GateArgs, InventoryArg, args::duration},
    etcd::status::{Hashes, Millis},
    event::Next,
    exec::{
        survey::Survey,
        upkeep::bench::{Load, Measured, bench},
    },
};

/// Put a bounded load on etcd, and say what it means for disks and timing
#[derive(clap::Args, Debug)]
#[command(after_help = "\
It writes to at most 1000 keys below /rsadm/bench/ and takes them away again. The load is real:
other clients feel it.

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
    tend_with(context, &args.inventory, "etcd bench", &GateArgs::default(), async |live, t| {
        let measure = async || {
            let survey = Survey {
                cluster: &live.session.cluster,
                fleet: &live.session.fleet,
                unreachable: &[],
                inventory: String::new(),
                due: Instant::now() + DUE,
            };
            let report = survey.etcd(Hashes::Unasked, time::OffsetDateTime::now_utc()).await;
            let members = report.members.into_iter().filter_map(|m| Some((m.name, m.metrics?)));
            members.collect::<BTreeMap<_, _>>()
        };
        let measured = bench(t, load, measure).await?;
        let timing = (t.cluster.etcd.heartbeat_interval, t.cluster.etcd.election_timeout);
        if !context.ui.settings().json {
            // Not a result of the plan's kind: a small table, for people.
            let _ = context.ui.data(&text(&measured, timing));
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

fn text(measured: &Measured, (heartbeat, election): (Duration, Duration)) -> String {
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
        let fits = heartbeat.as_millis() >= advised.heartbeat_interval_ms;
        let _ = match fits {
            true => writeln!(
                text,
                "timing   heartbeat {} ms and election timeout {} ms fit this",
                heartbeat.as_millis(),
                election.as_millis()
            ),
            false => writeln!(
                text,
                "timing   set etcd.heartbeat_interval: {}ms and etcd.election_timeout: {}ms, then rsadm up",
                advised.heartbeat_interval_ms, advised.election_timeout_ms
            ),
        };
    }
    text
}
