//! `rsadm preflight`.

use crate::{
    cli::{
        CliError, Context, Exit, GateArgs, InventoryArg,
        session::{Session, recorded},
    },
    event::{Event, Next, count},
    exec::{lock::Mark, paths::Scope},
};

/// Check all hosts and the network between them, and change nothing
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Tries every path between hosts that their roles need; listens for that on ports where nothing
listens yet.

Examples:
  rsadm preflight inventories/prod.yaml
  rsadm preflight -o json | jq .warnings")]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) inventory: InventoryArg,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let (events, report) = recorded(context);
    let session = Session::to_build(context, &args.inventory, events, &GateArgs::default()).await?;
    // Two who listen on the same ports would each find them taken.
    session.lock_and_leave(Mark::Before, &format!("preflight{}", args.inventory.as_typed())).await?;
    let seen = session.observe().await?;
    session.preflight(&seen, Scope::Everything).await?;
    let text = format!("{} can carry {}", count(session.cluster.nodes.len(), "host"), session.cluster.name);
    let next =
        vec![Next::new(format!("rsadm up{}", args.inventory.as_typed()), "builds the cluster, or goes on")];
    session.events.emit(Event::Finished { text, changed: 0, elapsed: session.elapsed(), next });
    report.print_checked(context)?;
    Ok(Exit::Done)
}
