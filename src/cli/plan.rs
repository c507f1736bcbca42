//! `rsadm plan`.

use crate::{
    cli::{
        CliError, Context, Exit, GateArgs, InventoryArg, PhaseArgs, literal::with_inventory, session::Session,
    },
    event::Events,
    exec::differences,
    phases::UP,
    plan::Plan,
    ui::plan::render,
};

/// Show what up would change, where, in which order and why, and change nothing
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Ends with 7 where changes are pending and with 0 where there are none.

Examples:
  rsadm plan inventories/prod.yaml
  rsadm plan --only etcd")]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) inventory: InventoryArg,

    #[command(flatten)]
    pub(super) phases: PhaseArgs,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let session = Session::to_build(context, &args.inventory, Events::none(), &GateArgs::default()).await?;
    let seen = session.observe().await?;
    let (mut plan, _) = session.plan(UP, seen, |name| args.phases.wants(name))?;
    differences::explain(&session.fleet, &mut plan).await;
    show(context, plan)
}

/// Prints a plan instead of doing it. What is only waited for is nothing to change.
pub(super) fn show(context: &Context, mut plan: Plan) -> Result<Exit, CliError> {
    for notice in &mut plan.notices {
        notice.help = with_inventory(&notice.help, context.inventory());
    }
    context.print(&plan, render)?;
    Ok(if plan.changes() > 0 { Exit::ChangesPending } else { Exit::Done })
}
