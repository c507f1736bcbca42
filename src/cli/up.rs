//! `rsadm up`.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use crate::{
    cli::{
        CliError, Context, Exit, GateArgs, InventoryArg, PhaseArgs,
        etcd::alarm,
        schedule,
        session::{Session, recorded},
    },
    event::{Event, Next, count},
    inventory::{Cluster, NetworkPlugin, Role},
    phases::{self, UP, ownership, preflight, workers},
    plan::{Action, Plan, Refusal},
};

/// Bring the cluster to what the inventory says: build, repair, extend or change it
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Can be run at any time and again after any failure: it goes by what it finds on the hosts.

Examples:
  rsadm up inventories/prod.yaml
  rsadm up --only etcd,control-plane
  rsadm up --only backups          beside an etcd that kubeadm built, too
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
    schedule::complete_for(&args.command(), &args.phases, &mut session.cluster)?;
    let consent = session.consent(&args.gate)?;
    let wants = |name: &str| args.phases.wants(name);
    let seen = session.observe().await?;
    let serves = seen.hosts.values().any(|facts| facts.runs("etcd"));
    let may_be_full = serves && phases::etcd::members::may_be_full(&session.cluster, &seen);
    let of_others = seen.hosts.values().any(ownership::is_adopted);
    let (plan, text, etcd) = match phases::plan(UP, &session.cluster, seen, OffsetDateTime::now_utc(), wants)
    {
        Ok((plan, _)) if plan.is_empty() => {
            session.notices(&plan);
            if may_be_full {
                alarm::warn_where_full(&session, &session.cluster).await;
            }
            let hosts = count(session.cluster.nodes.len(), "host");
            let text = format!("in sync: {hosts}, {} things checked, nothing to change", plan.checked);
            (plan, text, Etcd::default())
        }
        // What facts alone forbid is told together with what the network forbids.
        Err(refusal) if !may_be_told_with_all(&refusal, &wants) => return Err(refusal.into()),
        Ok(_) | Err(_) => {
            // Before and not after, since what it asks of Kubernetes would fail for that.
            let is_told = serves && alarm::warn_where_full(&session, &session.cluster).await;
            let (plan, given_up) = session.carry_out(&args.command(), UP, wants, consent).await?;
            // With other settings members may have come to their quota.
            if serves && !is_told && plan.stages.iter().any(|stage| stage.gated) {
                alarm::warn_where_full(&session, &session.cluster).await;
            }
            let etcd = Etcd::of(&plan, &given_up);
            let text = done(&session.cluster, &plan, etcd, wants(workers::PHASE));
            (plan, text, etcd)
        }
    };
    let next = match plan.is_empty() {
        true => vec![],
        false => next(&session.cluster, &args.inventory.as_typed(), etcd, of_others),
    };
    session.events.emit(Event::Finished { text, changed: plan.changes(), elapsed: session.elapsed(), next });
    report.print(context)?;
    Ok(Exit::Done)
}

/// Preflight finds it too, and finds all the rest.
fn may_be_told_with_all(refusal: &Refusal, wants: &impl Fn(&str) -> bool) -> bool {
    refusal.rule == preflight::PHASE || (refusal.rule == ownership::RULE && wants(preflight::PHASE))
}

/// What a run saw of etcd itself: of how many members it waited until they are well, and how many those became.
#[derive(Clone, Copy, Default)]
struct Etcd {
    awaited: usize,
    healthy: usize,
}

impl Etcd {
    fn of(plan: &Plan, given_up: &BTreeSet<String>) -> Self {
        let waits = |action: &'_ Action| match action {
            Action::AwaitEtcd { members } => {
                let healthy = members.iter().filter(|(name, _)| !given_up.contains(name.as_str())).count();
                Some(Self { awaited: members.len(), healthy })
            }
            _ => None,
        };
        let waited = plan.steps().filter_map(|(_, step)| waits(&step.action));
        waited.max_by_key(|etcd| etcd.awaited).unwrap_or_default()
    }

    /// How many members can be lost, where all were seen to be well.
    fn can_lose(self, members: usize) -> Option<usize> {
        (self.healthy == members).then(|| members.saturating_sub(1) / 2)
    }
}

/// What a run came to: what it saw to itself, and no more. `joined` is true where it looked after nodes.
fn done(cluster: &Cluster, plan: &Plan, etcd: Etcd, joined: bool) -> String {
    let nodes = cluster.kubernetes_nodes().count();
    match etcd {
        Etcd { awaited: 1.., healthy } if nodes == 0 && healthy == etcd.awaited => {
            format!("{} healthy", count(healthy, "etcd member"))
        }
        Etcd { awaited: awaited @ 1.., healthy } if nodes == 0 => {
            format!("{healthy} of {} healthy", count(awaited, "etcd member"))
        }
        _ if nodes > 0 && joined && cluster.network.plugin == NetworkPlugin::None => {
            format!("{} joined (network.plugin: none)", count(nodes, "node"))
        }
        _ if nodes > 0 && joined => format!("{} Ready", count(nodes, "node")),
        _ => format!("{} on {}", count(plan.changes(), "change"), count(plan.hosts().len(), "host")),
    }
}

/// What to do now. A cluster `of_others` has its own kubeconfigs, and its own way to join a host.
fn next(cluster: &Cluster, inventory: &str, etcd: Etcd, of_others: bool) -> Vec<Next> {
    let mut next = Vec::new();
    let has_kubernetes = cluster.has_kubernetes() && !of_others;
    if has_kubernetes {
        next.push(Next::new(
            format!("rsadm kubeconfig{inventory} --to ~/.kube/config"),
            "then: kubectl get nodes",
        ));
    }
    let members = cluster.with_role(Role::Etcd).count();
    next.push(Next::new(
        format!("rsadm etcd status{inventory}"),
        match etcd.can_lose(members) {
            Some(n) => format!("etcd can lose {n} of {}", count(members, "member")),
            None => "shows every member".to_owned(),
        },
    ));
    if has_kubernetes {
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
        let waits = || plan(Action::AwaitEtcd { members: members.clone() });
        let one = plan(Action::AwaitEtcd { members: members[..1].to_vec() });
        let (all, first) = ("etcd can lose 1 of 3 members", members[0].0.to_string());
        for (cluster, plan, given_up, joined, text, of_etcd) in [
            (&ha, change(), None, true, "5 nodes Ready", "shows every member"),
            (&ha, change(), None, false, "1 change on 1 host", "shows every member"),
            (&without, change(), None, true, "5 nodes joined (network.plugin: none)", "shows every member"),
            (&without, change(), None, false, "1 change on 1 host", "shows every member"),
            (&etcd, change(), None, true, "1 change on 1 host", "shows every member"),
            (&etcd, waits(), None, true, "3 etcd members healthy", all),
            (&etcd, waits(), Some(&first), true, "2 of 3 etcd members healthy", "shows every member"),
            (&etcd, one, None, true, "1 etcd member healthy", "shows every member"),
            (&ha, waits(), None, true, "5 nodes Ready", all),
            (&ha, waits(), Some(&first), true, "5 nodes Ready", "shows every member"),
        ] {
            let seen = Etcd::of(&plan, &given_up.cloned().into_iter().collect());
            assert_eq!(done(cluster, &plan, seen, joined), text);
            let said: Vec<String> = next(cluster, "", seen, false).into_iter().map(|n| n.why).collect();
            let of_nodes = [
                "then: kubectl get nodes",
                "after adding a host to the inventory: it joins, the others stay as they are",
            ];
            let of_others = next(cluster, "", seen, true).into_iter().map(|n| n.why).collect::<Vec<_>>();
            let (has_nodes, etcd_alone) = (cluster.has_kubernetes(), [of_etcd]);
            let all = [of_nodes[0], of_etcd, of_nodes[1]];
            assert_eq!(said, if has_nodes { &all[..] } else { &etcd_alone }, "{text}");
            assert_eq!(of_others, etcd_alone, "{text}");
        }
    }
}
