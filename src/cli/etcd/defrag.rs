//! `rsadm etcd defrag`.

use serde::Serialize;

use super::tending::{Outcome, tend};
use crate::{
    cli::{CliError, Context, Exit, GateArgs, InventoryArg, args::unless_default},
    etcd::Alarm,
    event::Next,
    exec::upkeep::{
        defrag::{Defragmented, defragment},
        space::{Compacted, relieve},
    },
};

/// Give back the room that etcd's databases no longer use, one member at a time
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Followers first; the leader last, once it has handed leadership over. Before each member it asks
whether etcd can spare it, and after each it waits until that member is well again. A member
serves nothing while it is defragmented: a second or two for each GiB of data.

Where the alarm NOSPACE is on, it does all it takes to have writes again: drops history,
defragments every member, takes the alarm back.

Examples:
  rsadm etcd defrag inventories/prod.yaml
  rsadm etcd defrag --min-gain 0")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(in crate::cli) inventory: InventoryArg,

    /// Leave members whose file would shrink by less than this many percent
    #[arg(long, value_name = "PERCENT", default_value_t = MIN_GAIN, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(in crate::cli) min_gain: u8,

    #[command(flatten)]
    pub(in crate::cli) gate: GateArgs,
}

/// `--min-gain` where it is not given.
const MIN_GAIN: u8 = 20;

impl Args {
    /// The command as it has to be typed again.
    fn command(&self) -> String {
        let min_gain = unless_default("--min-gain", self.min_gain, MIN_GAIN);
        format!("etcd defrag{}{min_gain}{}", self.inventory.as_typed(), self.gate.as_typed())
    }
}

/// What came of it, as JSON has it.
#[derive(Serialize)]
struct Report {
    /// Where the alarm NOSPACE was on: how far history was dropped.
    compacted: Option<Compacted>,
    #[serde(flatten)]
    defragmented: Defragmented,
    /// Members whose alarm was taken back.
    disarmed: Vec<String>,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    tend(context, &args.inventory, &args.command(), &args.gate, async |t| {
        let report = t.serving().await?;
        let names = report.raised(Alarm::NOSPACE);
        let report = if names.is_empty() {
            let defragmented = defragment(t, args.min_gain).await?;
            Report { compacted: None, defragmented, disarmed: vec![] }
        } else {
            let text = format!("the alarm NOSPACE is on ({}): history is dropped first", names.join(", "));
            t.events.warn(text, None);
            let relieved = relieve(t).await?;
            let (compacted, disarmed) = (Some(relieved.compacted), relieved.disarmed);
            Report { compacted, defragmented: relieved.defragmented, disarmed }
        };
        Ok(told(report, &args.inventory.as_typed()))
    })
    .await
}

fn told(report: Report, inventory: &str) -> Outcome<Report> {
    let mut text = report.defragmented.summary();
    if !report.disarmed.is_empty() {
        text.push_str("; etcd takes writes again");
    }
    let next = match report.compacted {
        Some(_) => {
            vec![Next::new(format!("rsadm etcd status{inventory}"), "how much of the quota is used now")]
        }
        None => vec![],
    };
    Outcome { text, changed: report.defragmented.members.len() + report.disarmed.len(), result: report, next }
}
