//! `rsadm certs renew`.

use std::{collections::BTreeSet, time::Duration};

use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use crate::{
    cli::{
        CliError, Context, Exit, GateArgs, InventoryArg,
        args::age,
        naming::has_hosts,
        plan::show,
        session::{Session, goes_on_without, recorded_unless},
    },
    event::{Event, Events, Next, count},
    exec::served,
    inventory::{Node, NodeName},
    observe::Observed,
    phases::{self, certs::found_certificate},
    pki::specs,
    plan::{Action, Plan, Renewal},
    status::certificates::RENEW_DAYS,
};

/// Issue certificates and kubeconfigs anew: those that end soon, or all
#[derive(clap::Args, Debug)]
#[command(after_help = "\
By the same authorities, which stay. It works over SSH alone: with API servers down, with etcd
without a quorum, with certificates that have expired or begin in the future of their hosts. Those
of etcd's members are replaced one member at a time under the quorum gate as long as they hold;
kubelets, controller managers and schedulers are started anew with theirs, control planes one at
a time, and what else of them differs from the inventory comes along, as with up. At the end it
sees that what is served is what was issued. Kubeconfigs that were taken elsewhere are not
reached: rsadm kubeconfig gives new ones.

It is refused where clocks differ, this computer's included, and where a host is not the one, or
not of the version, that the inventory means. What else rsadm preflight finds is told.

A kubelet renews its client certificate itself; it is replaced where that did not happen.

Examples:
  rsadm certs renew inventories/prod.yaml
  rsadm certs renew --plan
  rsadm certs renew --host m2 --all")]
pub(super) struct Args {
    #[command(flatten)]
    inventory: InventoryArg,

    /// Only on this host; several are separated by commas, or given one after the other
    #[arg(long = "host", value_name = "HOST", value_delimiter = ',')]
    hosts: Vec<String>,

    /// Renew what ends within this time, such as 30d
    #[arg(long, value_name = "TIME", value_parser = age, default_value = "90d")]
    expiring_within: Duration,

    /// Renew all, however long they hold
    #[arg(long, conflicts_with = "expiring_within")]
    all: bool,

    /// Show what would be done, and change nothing; ends with 7 where that is something
    #[arg(long)]
    plan: bool,

    #[command(flatten)]
    gate: GateArgs,
}

/// `--expiring-within` where it is not given.
const DEFAULT_SECONDS: u64 = RENEW_DAYS.unsigned_abs() * 86_400;

/// How long a server may take to serve what was put on its disk: an API server looks once a minute, and a busy host answers late.
const TAKEN_UP: Duration = Duration::from_secs(180);

impl Args {
    fn renewal(&self) -> Renewal {
        let within = time::Duration::try_from(self.expiring_within).unwrap_or(time::Duration::MAX);
        Renewal {
            hosts: self.hosts.iter().map(|name| NodeName::new(name.as_str())).collect(),
            within: (!self.all).then_some(within),
        }
    }

    /// The command as it has to be typed again.
    fn command(&self) -> String {
        let hosts: String = self.hosts.iter().map(|host| format!(" --host {host}")).collect();
        let which = match self.expiring_within.as_secs() {
            _ if self.all => " --all".to_owned(),
            DEFAULT_SECONDS => String::new(),
            seconds => format!(" --expiring-within {seconds}s"),
        };
        format!("certs renew{}{hosts}{which}{}", self.inventory.as_typed(), self.gate.as_typed())
    }
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let (events, report) = recorded_unless(args.plan, context);
    let renewal = args.renewal();
    let session = open(args, context, events, &renewal).await?;
    if args.plan {
        let (plan, _) = planned(&session, &renewal).await?;
        return show(context, plan);
    }
    let consent = session.consent(&args.gate)?;
    session.lock(&args.command()).await?;
    let (plan, seen) = planned(&session, &renewal).await?;
    session.notices(&plan);
    session.execute(&args.command(), &plan, seen, consent).await?;
    let renewed = renewed(&plan);
    if !renewed.is_empty() {
        taken_up(&session, &renewed).await?;
    }
    let inventory = args.inventory.as_typed();
    let mut next =
        vec![Next::new(format!("rsadm certs status{inventory}"), "every certificate, and what is served")];
    next.extend(taken_elsewhere(&renewed, &inventory));
    let text = match renewed.len() {
        0 => format!("nothing to renew: {} looked at", count(plan.checked, "thing")),
        n => format!("{} renewed", count(n, "certificate")),
    };
    session.events.emit(Event::Finished { text, changed: plan.changes(), elapsed: session.elapsed(), next });
    if let Some(report) = report {
        report.print(context)?;
    }
    Ok(Exit::Done)
}

/// Connects to all hosts; those that were asked for have to answer, and others only where all were.
async fn open<'a>(
    args: &Args,
    context: &'a Context,
    events: Events,
    renewal: &Renewal,
) -> Result<Session<'a>, CliError> {
    let cluster = context.load_gated(&args.inventory, &args.gate)?;
    has_hosts(&cluster, &renewal.hosts, None)?;
    let (session, silent) = Session::connect(context, cluster, events, |_| true, None).await?;
    let matters = |name: &NodeName| renewal.hosts.is_empty() || renewal.hosts.contains(name);
    if silent.iter().any(|e| matters(e.host())) {
        let answers = |name: &&NodeName| matters(name) && silent.iter().all(|e| e.host() != *name);
        let names: Vec<&str> =
            session.cluster.nodes.iter().map(|n| &n.name).filter(answers).map(NodeName::as_str).collect();
        let error = session.incomplete(&silent, &args.inventory);
        return Err(match others(&names) {
            Some(hint) => error.hint(hint),
            None => error,
        });
    }
    goes_on_without(&session.events, &silent);
    Ok(session)
}

/// The way on with those that answer; none where none of those does that it is about.
fn others(answering: &[&str]) -> Option<String> {
    (!answering.is_empty()).then(|| {
        format!(
            "--host {} renews on those that answer, in one run: a member alone finds no quorum where the others' certificates \
             have expired",
            answering.join(",")
        )
    })
}

async fn planned(session: &Session<'_>, renewal: &Renewal) -> Result<(Plan, Observed), CliError> {
    let (seen, lost) = session.observe_what_answers().await;
    if !lost.is_empty() {
        return Err(session.unreachable(&lost));
    }
    let now = OffsetDateTime::now_utc();
    let (plan, _) = phases::plan_renewal(&session.cluster, seen.clone(), now, renewal.clone())?;
    Ok((plan, seen))
}

/// What the plan issues, by host and name.
fn renewed(plan: &Plan) -> BTreeSet<(NodeName, &'static str)> {
    let issued = |(host, step): (&NodeName, &crate::plan::Step)| match &step.action {
        Action::PutCert { spec, .. } => Some((host.clone(), *spec)),
        _ => None,
    };
    plan.steps().filter_map(issued).collect()
}

/// What nobody but its holders can put in place: the kubeconfigs that were handed out.
fn taken_elsewhere(renewed: &BTreeSet<(NodeName, &'static str)>, inventory: &str) -> Vec<Next> {
    let kinds = [("admin.conf", ""), ("super-admin.conf", " --super-admin")];
    let renewed = kinds.iter().filter(|(name, _)| renewed.iter().any(|(_, spec)| spec == name));
    let again = |option: &str| {
        let command = format!("rsadm kubeconfig{inventory}{option} --to FILE");
        Next::new(command, "for whoever has one: those that were taken before end on their old day")
    };
    renewed.map(|(_, option)| again(option)).collect()
}

/// Waits until everything that was issued and is served is served.
async fn taken_up(
    session: &Session<'_>,
    renewed: &BTreeSet<(NodeName, &'static str)>,
) -> Result<(), CliError> {
    let cluster = &session.cluster;
    let is_served = |(_, name): &&(NodeName, &'static str)| served::port(cluster, name).is_some();
    let waited: Vec<_> = renewed.iter().filter(is_served).cloned().collect();
    if waited.is_empty() {
        return Ok(());
    }
    let hosts: BTreeSet<NodeName> = waited.iter().map(|(host, _)| host.clone()).collect();
    let stage = session.events.stage("served", "what was issued is what is served", hosts);
    let (seen, _) = session.observe_what_answers().await;
    let until = Instant::now() + session.context.options.timeout.unwrap_or(TAKEN_UP);
    loop {
        let served = served::look(cluster, &session.fleet).await;
        let wrong: Vec<String> = waited
            .iter()
            .filter_map(|key| {
                let node = cluster.node(&key.0)?;
                stale(session, &seen, node, key.1, served.get(key)?)
            })
            .collect();
        if wrong.is_empty() {
            stage.done(format!("{} served as issued", count(waited.len(), "certificate")));
            return Ok(());
        }
        if Instant::now() >= until {
            let text = format!("issued, and not served:\n{}", wrong.join("\n"));
            return Err(CliError::new(Exit::StepFailed, text).hint(
                "a process that holds on to its old certificate takes up the new one when it is started anew",
            ));
        }
        if let Some(host) = waited.first() {
            stage.says(&host.0, format!("waiting: {}", wrong.join("; ")));
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Why a certificate is not served as it lies on disk; `None` where it is.
fn stale(
    session: &Session<'_>,
    seen: &Observed,
    node: &Node,
    name: &'static str,
    served: &Result<crate::pki::inspect::CertInfo, String>,
) -> Option<String> {
    let spec = specs::spec_for(&session.cluster, node, name)?;
    let on_disk = found_certificate(seen.hosts.get(&node.name)?, &spec.place)?;
    match served {
        Ok(info) if info.fingerprint == on_disk.fingerprint => None,
        Ok(info) => {
            Some(format!("{} on {} still serves one that ends on {}", name, node.name, info.not_after.date()))
        }
        Err(why) => Some(format!("{} on {}: {why}", name, node.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What it does by default is what `certs status` tells to renew.
    #[test]
    fn it_renews_what_status_tells_of() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let line = <Line as clap::Parser>::try_parse_from(["renew"]).unwrap();
        assert_eq!(line.args.expiring_within.as_secs(), DEFAULT_SECONDS);
    }

    #[test]
    fn who_holds_a_kubeconfig_of_before_is_told_to_take_it_again() {
        let next = |names: &[&'static str]| {
            let renewed = names.iter().map(|name| (NodeName::new("m1"), *name)).collect();
            taken_elsewhere(&renewed, " prod.yaml").into_iter().map(|next| next.command).collect::<Vec<_>>()
        };
        assert_eq!(next(&["apiserver", "etcd-server"]), [""; 0]);
        assert_eq!(next(&["admin.conf"]), ["rsadm kubeconfig prod.yaml --to FILE"]);
        assert_eq!(next(&["super-admin.conf", "admin.conf"]).len(), 2);
    }

    #[test]
    fn nobody_is_told_to_renew_on_no_host() {
        assert_eq!(others(&[]), None);
        assert!(others(&["m1", "m3"]).is_some_and(|hint| hint.starts_with("--host m1,m3 renews")));
    }
}
