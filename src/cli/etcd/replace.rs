//! `rsadm etcd replace`.

use std::path::{Path, PathBuf};

use super::membership::{Ground, Wish};
use crate::{
    cli::{CliError, Context, Exit, GateArgs, InventoryArg, naming::Takes},
    inventory::NodeName,
};

/// Replace a member of etcd, dead or alive, on the same host or by another
#[derive(clap::Args, Debug)]
#[command(
    override_usage = "rsadm etcd replace [OPTIONS] [INVENTORY] <HOST> [NEW_HOST]",
    after_help = "\
With one host, its member leaves and joins anew with the data of the others: for a lost disk
or damaged data. With two, the second takes the place of the first: a dead member leaves
before its successor joins, a live one after. Old data is set aside, not deleted. No host is
special, not even the first. A new host stands in the inventory first, with its name, its
address and roles: [etcd]. Where members of another cluster would go along that still serve,
as after a recovery without them, it asks for the cluster's name first, or takes --yes.

Examples:
  rsadm etcd replace e3
  rsadm etcd replace e3 e4
  rsadm etcd replace inventories/prod.yaml e3 e4"
)]
pub(in crate::cli) struct Args {
    /// The member's host, and the new one's if it is another; an inventory file may stand before
    #[arg(value_name = "HOST", num_args = 1..=3, required = true)]
    pub(in crate::cli) words: Vec<String>,

    #[command(flatten)]
    pub(in crate::cli) gate: GateArgs,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let (inventory, hosts) = match &args.words[..] {
        [first, rest @ ..] if names_inventory(first, rest) => (PathBuf::from(first), rest),
        hosts => (PathBuf::from("./inventory.yaml"), hosts),
    };
    let inventory = InventoryArg { inventory };
    Takes::Hosts.after_inventory("etcd replace", &inventory, hosts)?;
    let host = |name: &String| NodeName::new(name.as_str());
    let (old, new) = match hosts {
        [old, new] if old == new => {
            let text = format!("{old} is named twice");
            let again =
                format!("its member leaves and joins anew: rsadm etcd replace{} {old}", inventory.as_typed());
            return Err(CliError::new(Exit::Usage, text).hint(again));
        }
        [old] => (host(old), host(old)),
        [old, new] => (host(old), host(new)),
        [first, ..] => {
            return Err(CliError::new(Exit::Usage, "a replacement takes one host, or two")
                .hint(format!("an inventory stands before them, and there is no file {first}")));
        }
        [] => return Err(CliError::new(Exit::Usage, "one host is named, or two")),
    };
    let typed = inventory.as_typed();
    let command = format!("etcd replace{typed} {}{}", hosts.join(" "), args.gate.as_typed());
    let wish = Wish { command, inventory: typed, join: vec![new], leave: vec![old], gate: args.gate.clone() };
    Ground::open(context, &inventory, &wish).await?.fulfil(&wish, context).await
}

/// A word alone is a host.
fn names_inventory(first: &str, rest: &[String]) -> bool {
    !rest.is_empty() && (Takes::Hosts.is_inventory(first) || Path::new(first).is_file())
}
