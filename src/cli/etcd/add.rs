//! `rsadm etcd add`.

use super::membership::{Ground, Wish};
use crate::{
    cli::{CliError, Context, Exit, GateArgs, InventoryArg, naming::Takes},
    inventory::NodeName,
};

/// Make a host a voting member of etcd
#[derive(clap::Args, Debug)]
#[command(
    allow_missing_positional = true,
    after_help = "\
The host stands in the inventory first, with its name, its address and roles: [etcd].

It joins as a learner, is in sync, and then gets its vote; should it not come up, it is
removed again. API servers are pointed at it afterwards, one after the other.

Examples:
  rsadm etcd add e4
  rsadm etcd add inventories/prod.yaml e4"
)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(in crate::cli) inventory: InventoryArg,

    /// The host
    #[arg(value_name = "HOST")]
    pub(in crate::cli) host: String,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    Takes::Hosts.after_inventory("etcd add", &args.inventory, &[&args.host])?;
    let host = NodeName::new(args.host.as_str());
    let typed = args.inventory.as_typed();
    let command = format!("etcd add{typed} {host}");
    let wish = Wish { command, inventory: typed, join: vec![host], leave: vec![], gate: GateArgs::default() };
    Ground::open(context, &args.inventory, &wish).await?.fulfil(&wish, context).await
}
