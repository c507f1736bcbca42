//! `rsadm certs …`: one file a command.

use clap::Subcommand;

use crate::cli::{CliError, Context, Exit};

mod renew;
mod status;

/// Look after certificates and kubeconfigs
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(status::Args),
    Renew(renew::Args),
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    match &args.command {
        Command::Status(args) => status::run(args, context).await,
        Command::Renew(args) => renew::run(args, context).await,
    }
}
