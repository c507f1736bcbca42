//! `rsadm etcd move-leader`.

use std::error::Error;

use serde::Serialize;

use super::live::Live;
use crate::{
    cli::{CliError, Context, Exit, InventoryArg, naming::Takes},
    etcd::status::{Id, MemberReport},
    exec::ask,
    inventory::NodeName,
};

/// Hand etcd's leadership to the member on a host
#[derive(clap::Args, Debug)]
#[command(
    allow_missing_positional = true,
    after_help = "\
No write is lost and none fails: it takes one round trip, where the loss of a leader takes
an election.

Examples:
  rsadm etcd move-leader m2
  rsadm etcd move-leader inventories/prod.yaml m2"
)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(in crate::cli) inventory: InventoryArg,

    /// The host whose member shall lead
    #[arg(value_name = "HOST")]
    pub(in crate::cli) host: String,
}

/// What came of it.
#[derive(Serialize)]
struct Moved {
    from: String,
    to: String,
    leader: Id,
    changed: bool,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    Takes::Hosts.after_inventory("etcd move-leader", &args.inventory, &[&args.host])?;
    let wanted = NodeName::new(args.host.as_str());
    let live = Live::open_for(context, &args.inventory, context.ui.events(), &wanted).await?;
    live.lock(&format!("etcd move-leader{} {wanted}", args.inventory.as_typed())).await?;
    let members = live.session.members();
    let report = live.serving(&members).await?;
    // By its address: kubeadm names members after nodes, which the inventory may call otherwise.
    let is_there = |m: &&MemberReport| ask::host_of(&members, m).as_ref() == Some(&wanted);
    let Some(target) = report.members.iter().find(is_there) else {
        return Err(refused(format!("etcd has no member on {wanted}")));
    };
    if let Some(trouble) = &target.error {
        return Err(refused(format!("{wanted} cannot lead: {trouble}")));
    }
    let (Some(leader), Some(id)) = (report.members.iter().find(|m| m.is_leader), target.id) else {
        return Err(refused("nobody leads at this moment; the members are holding an election".into()));
    };
    if target.is_learner {
        return Err(refused(format!("{wanted} is a learner and has no vote")));
    }
    let moved =
        Moved { from: leader.name.clone(), to: target.name.clone(), leader: id, changed: !target.is_leader };
    if moved.changed {
        let api = ask::dial(&members, leader).await;
        let api = api.map_err(|why| failed(format!("{}: {why}", leader.name)))?;
        api.move_leader(id.0).await.map_err(failed)?;
    }
    context.print(&moved, |moved| match moved.changed {
        true => format!("{} leads now, before it {}\n", moved.to, moved.from),
        false => format!("{} leads already\n", moved.to),
    })?;
    Ok(Exit::Done)
}

fn refused(why: String) -> CliError {
    CliError::new(Exit::Refused, why).hint("rsadm etcd status shows every member")
}

fn failed(why: impl Into<Box<dyn Error + Send + Sync>>) -> CliError {
    CliError::new(Exit::StepFailed, why).hint("rsadm etcd status shows every member, and who leads now")
}
