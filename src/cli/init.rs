//! `rsadm init`.

use crate::{
    cli::{CliError, Context, Exit},
    inventory::{HostArgument, skeleton},
};

/// Print a commented inventory for these hosts
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The first three hosts (of fewer than three, the first) become control planes with etcd, the rest workers.

Examples:
  rsadm init 198.51.100.1 198.51.100.2 198.51.100.3 198.51.100.9 > inventory.yaml
  rsadm init m1=ops@m1.example.org m2=ops@m2.example.org:2222 m3=ops@m3.example.org > inventory.yaml")]
pub(super) struct Args {
    /// The hosts, as [NAME=][USER@]ADDRESS[:PORT]
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<HostArgument>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    context.ui.data(&skeleton(&args.hosts)).map_err(CliError::output)?;
    Ok(Exit::Done)
}
