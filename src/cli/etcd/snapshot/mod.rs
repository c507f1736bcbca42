//! `rsadm etcd snapshot …`: one file a command.

use clap::Subcommand;

use crate::{
    backup::BackupError,
    cli::{CliError, Context, Exit},
};

pub(super) mod fetch;
mod ls;
mod prune;
mod remember;
pub(super) mod save;
mod verify;
mod whence;

/// Take snapshots of etcd, and look after those that were taken
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Save(save::Args),
    Ls(ls::Args),
    Verify(verify::Args),
    Prune(prune::Args),
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    match &args.command {
        Command::Save(args) => save::run(args, context).await,
        Command::Ls(args) => ls::run(args, context).await,
        Command::Verify(args) => verify::run(args, context).await,
        Command::Prune(args) => prune::run(args, context).await,
    }
}

impl From<BackupError> for CliError {
    fn from(error: BackupError) -> Self {
        match &error {
            BackupError::Broken { .. } | BackupError::Damaged(_) => Self::new(Exit::Refused, error)
                .hint("rsadm etcd snapshot ls shows the others; rsadm etcd snapshot save takes a new one"),
            BackupError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Self::new(Exit::StepFailed, error).hint("nothing was left there; --to names another folder")
            }
            _ => Self::new(Exit::StepFailed, error),
        }
    }
}
