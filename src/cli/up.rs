//! `rsadm up`.

use time::OffsetDateTime;

use crate::{
    cli::{
        CliError, Context, Exit, GateArgs, InventoryArg, PhaseArgs,
        etcd::alarm,
        session::{Session, recorded},
    },
    event::{Event, Next, count},
    inventory::{Cluster, NetworkPlugin, Role},
    phases::{self, UP, etcd, ownership, preflight, workers},
    plan::{Action, Plan, Refusal},
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

impl Args {
    /// The command as it has to be typed again.
    fn command(&self) -> String {
        let Self { inventory, phases, gate } = self;
        format!("up{}{}{}", inventory.as_typed(), phases.as_typed(), gate.as_typed())
    }
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let (events, report) = recorded(context);
    let mut session = Session::to_build(context, &args.inventory, events, &args.gate).await?;
    session.consent(&args.gate)?;
    let wants = |name: &str| args.phases.wants(name);
    let seen = session.observe().await?;
    let serves = seen.hosts.values().any(|facts| facts.runs("etcd"));
    let (plan, text) = match phases::plan(UP, &session.cluster, seen, OffsetDateTime::now_utc(), wants) {
        Ok((plan, _)) if plan.is_empty() => {
            session.notices(&plan);
            let hosts = count(session.cluster.nodes.len(), "host");
            let text = format!("in sync: {hosts}, {} things checked, nothing to change", plan.checked);
            (plan, text)
        }
        // What facts alone forbid is told together with what the network forbids.
        Err(refusal) if !may_be_told_with_all(&refusal, &wants) => return Err(refusal.into()),
        Ok(_) | Err(_) => {
            // Before and not after, since what it asks of Kubernetes would fail for that.
            if serves {
                alarm::warn_where_full(&session, &session.cluster).await;
            }
            let plan = session.carry_out(&args.command(), UP, wants).await?;
            let text = done(&session.cluster, &plan, wants(workers::PHASE));
            (plan, text)
        }
    };
    let next = match plan.is_empty() {
        true => vec![],
        false => next(&session.cluster, &args.inventory.as_typed(), wants(etcd::PHASE)),
    };
    session.events.emit(Event::Finished { text, changed: plan.changes(), elapsed: session.elapsed(), next });
    report.print(context)?;
    Ok(Exit::Done)
}

/// Preflight finds it too, and finds all the rest.
fn may_be_told_with_all(refusal: &Refusal, wants: &impl Fn(&str) -> bool) -> bool {
    refusal.rule == preflight::PHASE || (refusal.rule == ownership::RULE && wants(preflight::PHASE))
}

/// What a run came to: what it saw to itself, and no more. `joined` is true where it looked after nodes.
fn done(cluster: &Cluster, plan: &Plan, joined: bool) -> String {
    let nodes = cluster.kubernetes_nodes().count();
    let waits = |action: &Action| match action {
        Action::AwaitEtcd { members } => Some(members.len()),
        _ => None,
    };
    match plan.steps().filter_map(|(_, step)| waits(&step.action)).max() {
        Some(members) if nodes == 0 => format!("{} healthy", count(members, "etcd member")),
        _ if nodes > 0 && joined && cluster.network.plugin == NetworkPlugin::None => {
            format!("{} joined (network.plugin: none)", count(nodes, "node"))
        }
        _ if nodes > 0 && joined => format!("{} Ready", count(nodes, "node")),
        _ => format!("{} on {}", count(plan.changes(), "change"), count(plan.hosts().len(), "host")),
    }
}

/// What to do now. `settled` is true where the run looked after etcd.
fn next(cluster: &Cluster, inventory: &str, settled: bool) -> Vec<Next> {
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
        match settled {
            true => format!("etcd can lose {can_lose} of {}", count(members, "member")),
            false => "shows every member".to_owned(),
        },
    ));
    if cluster.has_kubernetes() {
        next.push(Next::new(
            format!("rsadm up{inventory}"),
            "after adding a host to the inventory: it joins, the others stay as they are",
        ));
    }
    next
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{
        manifests::testing,
        plan::{HostWork, Mode, Stage, Step},
    };

    /// A plan with one step on one host.
    fn plan(action: Action) -> Plan {
        let steps = vec![Step::new(action, "")];
        let work = vec![HostWork { host: crate::inventory::NodeName::new("m1"), steps }];
        let (title, mode) = (String::new(), Mode::Parallel);
        let stage = Stage { phase: "x", title, mode, gated: false, beside: false, work };
        Plan { stages: vec![stage], ..Plan::default() }
    }

    #[test]
    fn what_goes_on_after_a_stop_is_what_was_typed() {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        for line in [
            "up",
            "up prod.yaml --only etcd,control-plane",
            "up --skip addons --accept-quorum-loss",
            "up 'my prod.yaml' --accept-quorum-loss=prod",
        ] {
            let words = line.replace("'my prod.yaml'", "my_prod.yaml");
            let words = words.split(' ').map(|word| word.replace("my_", "my "));
            assert_eq!(Line::parse_from(words).args.command(), line);
        }
    }

    #[test]
    fn no_more_is_said_than_was_seen_to() {
        let ha = testing::ha();
        let mut without = ha.clone();
        without.network.plugin = NetworkPlugin::None;
        let mut etcd = testing::external_etcd();
        etcd.nodes.retain(|n| !n.is_kubernetes());
        let change = || plan(Action::Sysctl);
        let members: Vec<_> = etcd.nodes.iter().map(|n| (n.name.clone(), n.client_url())).collect();
        for (cluster, plan, joined, text) in [
            (&ha, change(), true, "5 nodes Ready"),
            (&ha, change(), false, "1 change on 1 host"),
            (&without, change(), true, "5 nodes joined (network.plugin: none)"),
            (&without, change(), false, "1 change on 1 host"),
            (&etcd, change(), true, "1 change on 1 host"),
            (&etcd, plan(Action::AwaitEtcd { members }), true, "3 etcd members healthy"),
        ] {
            assert_eq!(done(cluster, &plan, joined), text);
        }
    }
}
