//! `rsadm init`.

use crate::{
    cli::{CliError, Context, Exit},
    event::Events,
    inventory::{HostArgument, Problem, Problems, load, remark, skeleton},
};

/// Print a commented inventory for these hosts
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The first three hosts (of fewer than three, the first) become control planes with etcd, the rest
workers. Where a host is given by its name, its internal_address is left to be filled in, which
stderr tells.

Examples:
  rsadm init 198.51.100.1 198.51.100.2 198.51.100.3 198.51.100.9 > inventory.yaml
  rsadm init m1=ops@m1.example.org m2=ops@m2.example.org:2222 m3=ops@m3.example.org > inventory.yaml")]
pub(super) struct Args {
    /// The hosts, as [NAME=][USER@]ADDRESS[:PORT]
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<HostArgument>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let inventory = skeleton(&args.hosts);
    context.ui.data(&inventory).map_err(CliError::output)?;
    if let Err(Problems { problems, .. }) = load(&inventory, "inventory.yaml", None) {
        tell(&problems, &context.ui.events());
    }
    if let Some((what, help)) = remark(args.hosts.len()) {
        context.ui.events().warn(what, Some(help.to_owned()));
    }
    Ok(Exit::Done)
}

/// What the hosts as they were named do not make a cluster without.
fn tell(problems: &[Problem], events: &Events) {
    for Problem { line, path, message, help, .. } in problems {
        events.warn(format!("not an inventory yet: line {line}, {path}: {message}"), help.clone());
    }
}
