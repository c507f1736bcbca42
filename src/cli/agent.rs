//! `rsadm agent`: what rsadm does on an etcd host itself, started by the timer that `up` put there. Not for people.

use clap::Subcommand;

use crate::{
    backup::agent::{Outcome, run as back_up},
    cli::{CliError, Context, Exit},
    event::bytes,
};

/// Do what a timer of a host starts
#[derive(clap::Args, Debug)]
#[command(hide = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take a snapshot of etcd, if this host is the one that does
    Backup,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    match args.command {
        Command::Backup => {
            let told = match back_up(context.minds_interrupts()?).await? {
                Outcome::Elsewhere(host) => format!("{host} takes the snapshot"),
                Outcome::Fresh(file) => format!("{file} is young enough for a host that has just started"),
                Outcome::Taken(m, unpruned) => {
                    let left = unpruned.map(|why| format!("; older ones could not be removed: {why}"));
                    let left = left.unwrap_or_default();
                    format!("{}: revision {}, {}{left}", m.file, m.revision, bytes(m.size))
                }
            };
            context.print(&told, |told| format!("{told}\n"))?;
            Ok(Exit::Done)
        }
    }
}
