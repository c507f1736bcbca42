//! `rsadm etcd …`: one file a command.

use clap::Subcommand;

use crate::cli::{CliError, Context, Exit};

mod add;
pub(super) mod alarm;
mod begun;
mod bench;
mod compact;
mod defrag;
mod diagnosis;
mod equip;
mod fit;
mod guards;
mod live;
mod members;
mod membership;
mod move_leader;
mod recover;
mod recovery;
mod remove;
mod replace;
mod restore;
mod snapshot;
pub(super) mod status;
mod tending;
mod upgrade;
mod watch;

/// Look after the etcd cluster
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Status(status::Args),
    Members(members::Args),
    Add(add::Args),
    Remove(remove::Args),
    Replace(replace::Args),
    MoveLeader(move_leader::Args),
    Defrag(defrag::Args),
    Compact(compact::Args),
    Alarm(alarm::Args),
    Upgrade(upgrade::Args),
    Bench(bench::Args),
    Snapshot(snapshot::Args),
    Restore(restore::Args),
    Recover(recover::Args),
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    match &args.command {
        Command::Status(args) => status::run(args, context).await,
        Command::Members(args) => members::run(args, context).await,
        Command::Add(args) => add::run(args, context).await,
        Command::Remove(args) => remove::run(args, context).await,
        Command::Replace(args) => replace::run(args, context).await,
        Command::MoveLeader(args) => move_leader::run(args, context).await,
        Command::Defrag(args) => defrag::run(args, context).await,
        Command::Compact(args) => compact::run(args, context).await,
        Command::Alarm(args) => alarm::run(args, context).await,
        Command::Upgrade(args) => upgrade::run(args, context).await,
        Command::Bench(args) => bench::run(args, context).await,
        Command::Snapshot(args) => snapshot::run(args, context).await,
        Command::Restore(args) => restore::run(args, context).await,
        Command::Recover(args) => recover::run(args, context).await,
    }
}
