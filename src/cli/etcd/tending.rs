//! What the commands of upkeep have in common: a running etcd under its locks, and an orderly end.

use serde::Serialize;

use super::live::Live;
use crate::{
    cli::{CliError, Context, Exit, GateArgs, InventoryArg, session::ended},
    event::{Event, Next},
    exec::{RunError, upkeep::Tending},
    phases::{etcd::members::quotas, ownership::is_adopted},
};

/// What a command came to.
pub(super) struct Outcome<T> {
    /// For programs.
    pub(super) result: T,
    /// For people, in one line.
    pub(super) text: String,
    /// How many things changed.
    pub(super) changed: usize,
    /// What to type next.
    pub(super) next: Vec<Next>,
}

/// Connects, takes the locks, does the work and tells what it came to. `command` is what others read in the
/// lock, and what goes on after a stop: as it has to be typed.
pub(super) async fn tend<T: Serialize>(
    context: &Context,
    arg: &InventoryArg,
    command: &str,
    gate: &GateArgs,
    work: impl AsyncFnOnce(&Tending<'_>) -> Result<Outcome<T>, RunError>,
) -> Result<Exit, CliError> {
    tend_with(context, arg, command, gate, async |_, tending| work(tending).await).await
}

/// The same for work that needs the hosts too.
pub(super) async fn tend_with<T: Serialize>(
    context: &Context,
    arg: &InventoryArg,
    command: &str,
    gate: &GateArgs,
    work: impl AsyncFnOnce(&Live<'_>, &Tending<'_>) -> Result<Outcome<T>, RunError>,
) -> Result<Exit, CliError> {
    let live = Live::open_gated(context, arg, context.ui.events(), gate).await?;
    let consent = live.session.consent(gate)?;
    let seen = live.lock(command).await?;
    let members = live.session.members();
    let stop = context.stop_signal()?;
    let stopping = move || *stop.borrow();
    let session = &live.session;
    let tending = Tending {
        cluster: &session.cluster,
        members: &members,
        events: &session.events,
        limit: context.limit(),
        accept_quorum_loss: consent.is_given(),
        of_others: seen.hosts.values().any(is_adopted),
        quotas: quotas(&seen),
        stopping: &stopping,
    };
    let Outcome { result, text, changed, next } = ended(work(&live, &tending).await, command)?;
    session.events.emit(Event::Finished { text, changed, elapsed: session.elapsed(), next });
    if context.ui.settings().json {
        context.print(&result, |_| String::new())?;
    }
    Ok(Exit::Done)
}
