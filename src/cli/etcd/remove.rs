//! `rsadm etcd remove`.

use super::membership::{Ground, Wish};
use crate::{
    cli::{CliError, Context, Exit, GateArgs, InventoryArg, naming::Takes},
    inventory::NodeName,
};

/// Take the member on a host out of etcd, dead or alive
#[derive(clap::Args, Debug)]
#[command(
    allow_missing_positional = true,
    after_help = "\
It hands over its leadership first, and what is left is a quorum at every moment, or nothing
is done. Its data is set aside on the host, not deleted. API servers are pointed away from
it, one after the other.

Examples:
  rsadm etcd remove e3
  rsadm etcd remove inventories/prod.yaml e3"
)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(in crate::cli) inventory: InventoryArg,

    /// The host
    #[arg(value_name = "HOST")]
    pub(in crate::cli) host: String,

    #[command(flatten)]
    pub(in crate::cli) gate: GateArgs,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    Takes::Hosts.after_inventory("etcd remove", &args.inventory, &[&args.host])?;
    let host = NodeName::new(args.host.as_str());
    let typed = args.inventory.as_typed();
    let command = format!("etcd remove{typed} {host}{}", args.gate.as_typed());
    let wish = Wish { command, inventory: typed, join: vec![], leave: vec![host], gate: args.gate.clone() };
    Ground::open(context, &args.inventory, &wish).await?.fulfil(&wish, context).await
}
