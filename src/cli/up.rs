//! `rsadm up`.

use time::OffsetDateTime;

use crate::{
    cli::{
        CliError, Context, Exit, GateArgs, InventoryArg, PhaseArgs,
        session::{Session, recorded},
    },
    event::{Event, Next, count},
    inventory::{Cluster, Role},
    phases::{self, UP, ownership, preflight},
    plan::Refusal,
};

/// Bring the cluster to what the inventory says: build, repair, extend or change it
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Can be run at any time and again after any failure: it goes by what it finds on the hosts.

Examples:
  rsadm up inventories/prod.yaml
  rsadm up --only etcd,control-plane
  rsadm up --skip addons")]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) inventory: InventoryArg,

    #[command(flatten)]
    pub(super) phases: PhaseArgs,

    #[command(flatten)]
    pub(super) gate: GateArgs,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let (events, report) = recorded(context);
    let mut session = Session::open(context, &args.inventory, events).await?;
    session.consent(&args.gate)?;
    let wants = |name: &str| args.phases.wants(name);
    let seen = session.observe().await?;
    let command = format!("up{}", args.inventory.as_typed());
    let (plan, text) = match phases::plan(UP, &session.cluster, seen, OffsetDateTime::now_utc(), wants) {
        Ok((plan, _)) if plan.is_empty() => {
            session.notices(&plan);
            let hosts = count(session.cluster.nodes.len(), "host");
            let text = format!("in sync: {hosts}, {} things checked, nothing to change", plan.checked);
            (plan, text)
        }
        // What facts alone forbid is told together with what the network forbids.
        Err(refusal) if !may_be_told_with_all(&refusal, &wants) => return Err(refusal.into()),
        Ok(_) | Err(_) => (session.carry_out(&command, UP, wants).await?, done(&session.cluster)),
    };
    let next = if plan.is_empty() { vec![] } else { next(&session.cluster, &args.inventory.as_typed()) };
    session.events.emit(Event::Finished { text, changed: plan.changes(), elapsed: session.elapsed(), next });
    report.print(context)?;
    Ok(Exit::Done)
}

/// Preflight finds it too, and finds all the rest.
fn may_be_told_with_all(refusal: &Refusal, wants: &impl Fn(&str) -> bool) -> bool {
    refusal.rule == preflight::PHASE || (refusal.rule == ownership::RULE && wants(preflight::PHASE))
}

fn done(cluster: &Cluster) -> String {
    match cluster.kubernetes_nodes().count() {
        0 => format!("{} healthy", count(cluster.with_role(Role::Etcd).count(), "etcd member")),
        n => format!("{} Ready", count(n, "node")),
    }
}

fn next(cluster: &Cluster, inventory: &str) -> Vec<Next> {
    let mut next = Vec::new();
    if cluster.has_kubernetes() {
        next.push(Next::new(
            format!("rsadm kubeconfig{inventory} --to ~/.kube/config"),
            "then: kubectl get nodes",
        ));
    }
    let members = cluster.with_role(Role::Etcd).count();
    let can_lose = (members - 1) / 2;
    next.push(Next::new(
        format!("rsadm etcd status{inventory}"),
        format!("etcd can lose {can_lose} of {}", count(members, "member")),
    ));
    if cluster.has_kubernetes() {
        next.push(Next::new(
            format!("rsadm up{inventory}"),
            "after adding a host to the inventory: it joins, the others stay as they are",
        ));
    }
    next
}
