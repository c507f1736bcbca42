//! `rsadm validate`.

use serde::Serialize;

use crate::{
    cli::{CliError, Context, Exit, InventoryArg},
    event::summary,
    inventory::Problem,
};

/// Check an inventory and show every problem at once
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Reads the file only: no host is asked. See rsadm preflight for the hosts.

Examples:
  rsadm validate
  rsadm validate inventories/prod.yaml
  rsadm init 198.51.100.1 | rsadm validate -")]
pub(super) struct Args {
    #[command(flatten)]
    inventory: InventoryArg,
}

/// A valid inventory, for programs. An invalid one is an error event with its problems.
#[derive(Serialize)]
struct Valid {
    valid: bool,
    cluster: String,
    summary: String,
    warnings: Vec<Problem>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let loaded = context.load(&args.inventory)?;
    let (cluster, warnings) = (loaded.cluster, loaded.warnings);
    let valid = Valid { valid: true, summary: summary(&cluster), cluster: cluster.name, warnings };
    let file = args.inventory.file_name();
    context.print(&valid, |v| format!("{file} is valid: {}: {}\n", v.cluster, v.summary))?;
    Ok(Exit::Done)
}
