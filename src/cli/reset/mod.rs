//! `rsadm reset`.

use std::fmt;

use serde_json::json;

use crate::{
    cli::{
        CliError, Context, Exit, GateArgs, InventoryArg,
        session::{Consent, Session, recorded},
    },
    event::{Event, Events, count},
    exec::lock::Mark,
    host::HostError,
    inventory::{Cluster, NodeName, Role},
    observe::Observed,
    phases::{RESET, teardown::kept_schedules},
    plan::Plan,
    ui::{lines::one_line, text::indent},
};

use self::beside::{Beside, beside};

mod beside;

/// Take the cluster down and leave its hosts as they were before up
#[derive(clap::Args, Debug)]
#[command(after_help = "\
All data of the cluster is lost, etcd's included. It asks for the cluster's name first, or
takes --yes. Goes on past hosts and steps that fail, and says at the end what is left.
Members of etcd that the inventory does not have stay; where that would cost them their
quorum, it refuses.

Examples:
  rsadm reset inventories/prod.yaml
  rsadm reset --yes")]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) inventory: InventoryArg,

    #[command(flatten)]
    pub(super) gate: GateArgs,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let (events, report) = recorded(context);
    let (session, mut silent) = Session::open_part(context, &args.inventory, events).await?;
    if session.fleet.hosts().is_empty() {
        let left = "hosts that are gone for good: reset with an inventory of those that are left";
        return Err(session.not_begun(&silent).hint(left));
    }
    let (seen, lost) = session.observe_what_answers().await;
    silent.extend(lost);
    warn_of_restore(&session.events, &seen, &args.inventory.as_typed());
    let seen = seen.despite_restore();
    let (plan, _) = session.plan(RESET, seen.clone(), |_| true)?;
    let mut consent = Consent::NONE;
    if !plan.is_empty() {
        let found = beside::as_found(&session.cluster, &seen);
        let beside = beside(&session, &found, &plan, &seen).await;
        consent = session.consent(&args.gate)?;
        keeps_quorum(consent, &beside, &args.inventory.as_typed())?;
        let question = question(&found, &plan, &silent);
        ask(context, &session.events, &beside, &question, &session.cluster.name)?;
    }
    let command = format!("reset{}{}", args.inventory.as_typed(), args.gate.as_typed());
    let outcome = wipe(&session, &command, &args.inventory.as_typed(), consent, &mut silent).await;
    if let Some(error) = unfinished(outcome.as_ref().err(), &silent, &command) {
        return Err(error);
    }
    let changed = outcome?;
    let text = closing(changed, session.cluster.nodes.len(), kept_schedules(&seen));
    session.events.emit(Event::Finished { text, changed, elapsed: session.elapsed(), next: vec![] });
    report.print(context)?;
    Ok(Exit::Done)
}

/// How it ended: how many hosts were wiped, of how many, and how many of others keep a schedule of snapshots.
fn closing(changed: usize, hosts: usize, schedules: usize) -> String {
    let hosts = count(hosts, "host");
    let left = match schedules {
        0 => String::new(),
        kept => format!(", but for the schedule of snapshots on {}", count(kept, "host")),
    };
    match changed {
        0 => format!("nothing of rsadm is on {hosts}{left}"),
        _ => format!("{hosts} as before{left}"),
    }
}

/// Whether those who stay are a quorum, or the operator accepts that they are not.
fn keeps_quorum(consent: Consent, beside: &Beside, inventory: &str) -> Result<(), CliError> {
    match beside.refusal(inventory) {
        Some(refusal) if !consent.is_given() => Err(refusal.into()),
        _ => Ok(()),
    }
}

/// Looks again under the locks, and wipes; how many hosts. While somebody thought about the answer a member may have failed, or
/// left by another hand: the locks of those who reset other hosts are other ones.
async fn wipe(
    session: &Session<'_>,
    command: &str,
    inventory: &str,
    consent: Consent,
    silent: &mut Vec<HostError>,
) -> Result<usize, CliError> {
    session.lock_and_leave(Mark::None, command).await?;
    let (seen, lost) = session.observe_what_answers().await;
    silent.extend(
        lost.into_iter().filter(|e| !silent.iter().any(|s| s.host() == e.host())).collect::<Vec<_>>(),
    );
    let seen = seen.despite_restore();
    let (plan, _) = session.plan(RESET, seen.clone(), |_| true)?;
    let found = beside::as_found(&session.cluster, &seen);
    keeps_quorum(consent, &beside(session, &found, &plan, &seen).await, inventory)?;
    session.notices(&plan);
    session.execute(command, &plan, seen, consent).await?;
    Ok(plan.changes())
}

/// What a restore has set aside is all that there is of the old data, and goes with the rest.
fn warn_of_restore(events: &Events, seen: &Observed, inventory: &str) {
    let hosts: Vec<&str> =
        seen.hosts.iter().filter(|(_, f)| f.restoring.is_some()).map(|(host, _)| host.as_str()).collect();
    if !hosts.is_empty() {
        let text = format!(
            "a restore is not over on {}: the data that it has set aside there goes, too, and where others stay they may be too \
             few to put theirs back",
            hosts.join(", ")
        );
        let help = format!("rsadm etcd restore{inventory} --rollback puts the old data back");
        events.warn(text, Some(help));
    }
}

/// Tells who is left behind, also where `--yes` leaves no question to read it in, and asks.
fn ask(
    context: &Context,
    events: &Events,
    beside: &Beside,
    question: &str,
    cluster: &str,
) -> Result<(), CliError> {
    if let Some(text) = beside.warning() {
        events.warn(text, None);
    }
    context.confirm(question, cluster)
}

/// What is about to be lost, a line each.
fn question(cluster: &Cluster, plan: &Plan, silent: &[HostError]) -> String {
    let hosts: Vec<&str> = plan.hosts().into_iter().map(NodeName::as_str).collect();
    let members = cluster.with_role(Role::Etcd).filter(|n| hosts.contains(&n.name.as_str())).count();
    let mut text = format!("This removes the cluster {} from {}:\n", cluster.name, hosts.join(" "));
    if members > 0 {
        text.push_str(&format!(
            "  all data of {}, with everything that is stored in the cluster\n",
            count(members, "etcd member")
        ));
    }
    text.push_str(
        "  all pods with their local volumes, certificates with the cluster's authorities, and programs\n",
    );
    if !silent.is_empty() {
        let names: Vec<&str> = silent.iter().map(|e| e.host().as_str()).collect();
        text.push_str(&format!("It does not reach {}, which keep what they have.\n", names.join(", ")));
    }
    text.push_str("Nothing of it can be brought back.");
    text
}

/// The error of a reset that could not do everything; `None` where another error says more.
fn unfinished(failed: Option<&CliError>, silent: &[HostError], command: &str) -> Option<CliError> {
    let failed_steps = match failed {
        None => None,
        Some(error) if error.kind() == Exit::StepFailed => Some(error.message()),
        Some(_) => return None,
    };
    if failed_steps.is_none() && silent.is_empty() {
        return None;
    }
    let hosts: Vec<_> = silent.iter().map(|e| json!({"host": e.host(), "message": e.to_string()})).collect();
    let error = Unfinished { failed: failed_steps, silent: silent.to_vec() };
    Some(CliError::new(Exit::StepFailed, error).detail("not_reached", json!(hosts)).hint(format!(
        "rsadm {command} does what is left once the cause is mended; a host that is gone for good can be taken out of \
         the inventory"
    )))
}

#[derive(Debug)]
struct Unfinished {
    failed: Option<String>,
    silent: Vec<HostError>,
}

impl std::error::Error for Unfinished {}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reset is not complete")?;
        if let Some(failed) = &self.failed {
            write!(f, "\n{}", indent(failed, 2).trim_end())?;
        }
        for error in &self.silent {
            write!(
                f,
                "\n{}",
                indent(&format!("{} keeps what it has: {}", error.host(), one_line(&error.to_string())), 2)
                    .trim_end()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
