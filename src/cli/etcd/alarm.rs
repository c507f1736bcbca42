//! `rsadm etcd alarm …`.

use clap::Subcommand;
use serde::Serialize;

use super::{
    live::Live,
    status,
    tending::{Outcome, tend},
};
use crate::{
    cli::{CliError, Context, Exit, GateArgs, InventoryArg, session::Session},
    etcd::{
        Alarm,
        status::{EtcdReport, Verdict},
    },
    event::{Events, count},
    exec::{ask, members::SshMembers, upkeep::space::disarm},
    inventory::Cluster,
    ui::table,
};

/// Show etcd's alarms, or take them back
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    pub(in crate::cli) command: Command,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Show which members raised an alarm
    #[command(after_help = "\
Ends with 8 where an alarm is on, and with 9 where there is no quorum: what it shows then is what
members know themselves, and null in JSON where none answers.

Examples:
  rsadm etcd alarm list inventories/prod.yaml")]
    List {
        #[command(flatten)]
        inventory: InventoryArg,
    },
    /// Take back the alarms whose cause is gone
    #[command(after_help = "\
An alarm whose cause is still there stays, and it says what to do: rsadm etcd defrag for NOSPACE.

Examples:
  rsadm etcd alarm disarm inventories/prod.yaml")]
    Disarm {
        #[command(flatten)]
        inventory: InventoryArg,
    },
}

/// An alarm, as JSON has it.
#[derive(Serialize)]
struct Raised<'r> {
    /// By name, or by ID where it was removed.
    member: String,
    alarm: &'r str,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    match &args.command {
        Command::List { inventory } => list(inventory, context).await,
        Command::Disarm { inventory } => {
            let command = format!("etcd alarm disarm{}", inventory.as_typed());
            tend(context, inventory, &command, &GateArgs::default(), async |t| {
                let names = disarm(t, |_| true).await?;
                let text = match names.len() {
                    0 => "no alarm is on".to_owned(),
                    n => format!("{} taken back", count(n, "alarm")),
                };
                Ok(Outcome { text, changed: names.len(), result: names, next: vec![] })
            })
            .await
        }
    }
}

async fn list(inventory: &InventoryArg, context: &Context) -> Result<Exit, CliError> {
    let live = Live::open(context, inventory, Events::none()).await?;
    let report = live.report().await;
    let raised = raised(&report);
    context.print(&raised, |raised| text(raised.as_deref(), inventory))?;
    Ok(match (report.verdict, raised) {
        (Verdict::NoQuorum, _) => status::exit(report.verdict),
        (_, Some(raised)) if raised.is_empty() => Exit::Done,
        _ => Exit::Degraded,
    })
}

/// `None` where nobody says: an empty list would be taken for none.
fn raised(report: &EtcdReport) -> Option<Vec<Raised<'_>>> {
    let raised = || report.alarms().map(|(member, alarm)| Raised { member, alarm }).collect();
    report.alarms_known.then(raised)
}

/// Whoever changes a cluster, or has changed its etcd, has to know where that takes no writes. True where it does not.
pub(in crate::cli) async fn warn_where_full(session: &Session<'_>, cluster: &Cluster) -> bool {
    let members = SshMembers::new(cluster, &session.fleet);
    let report = ask::report(&members).await;
    let full = report.raised(Alarm::NOSPACE);
    if !report.alarms_known {
        let text = format!("whether etcd takes writes is not known: {UNKNOWN}");
        session.events.warn(text, Some("rsadm etcd status shows what keeps its members from it".to_owned()));
    }
    if !full.is_empty() {
        let text = format!("etcd takes no writes: the alarm NOSPACE of {} is on", full.join(", "));
        let help = "rsadm etcd defrag makes room, and then takes the alarm back".to_owned();
        session.events.warn(text, Some(help));
    }
    !full.is_empty()
}

/// What is said where nobody says which alarms are on.
const UNKNOWN: &str = "which alarms are on is not known: no member answered";

fn text(raised: Option<&[Raised<'_>]>, inventory: &InventoryArg) -> String {
    let Some(raised) = raised else { return format!("{UNKNOWN}\n") };
    if raised.is_empty() {
        return "no alarm is on\n".to_owned();
    }
    let mut rows = vec![["MEMBER", "ALARM", "MEANING"]];
    rows.extend(raised.iter().map(|r| {
        let meaning = match r.alarm {
            Alarm::NOSPACE => "its database reached the quota: etcd takes no writes",
            Alarm::CORRUPT => "data is not that of the others: etcd takes no writes",
            _ => "",
        };
        [r.member.as_str(), r.alarm, meaning]
    }));
    let way_out = match raised.iter().any(|r| r.alarm == Alarm::NOSPACE) {
        true => {
            format!("\n  rsadm etcd defrag{}  makes room, then takes the alarm back\n", inventory.as_typed())
        }
        false => String::new(),
    };
    table(&rows) + &way_out
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::etcd::status::tests::Scene;

    #[test]
    fn no_answer_is_not_no_alarm() {
        let inventory = InventoryArg { inventory: PathBuf::from("prod.yaml") };
        let said = |scene: &Scene| text(raised(&scene.report()).as_deref(), &inventory);
        assert_eq!(said(&Scene::new(3)), "no alarm is on\n");
        let nobody = (1..=3).fold(Scene::new(3).without_quorum(), |scene, n| scene.silence(n, "refused"));
        assert_eq!(said(&nobody), "which alarms are on is not known: no member answered\n");
    }
}
