//! `rsadm etcd upgrade`.

use std::collections::BTreeSet;

use crate::{
    cli::{
        CliError, Context, Exit, GateArgs, InventoryArg,
        plan::show,
        session::{Consent, Session, recorded_unless},
    },
    etcd::status::{EtcdReport, Trouble},
    event::{Event, Next, count},
    exec::{alike, ask, lookup},
    observe::Observed,
    phases::{ETCD_UPGRADE, ownership},
    plan::{Action, Plan, Refusal, quorum},
    versions::Version,
};

/// Bring etcd to the inventory's version, one member at a time, the leader last
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The version is etcd.version in the inventory, or else the one that goes with
kubernetes_version. One minor version at a time, from 3.5.26 or later to 3.6 and from
3.6.11 or later to 3.7, as etcd asks for. It takes a snapshot first, which stays on a
member's host (etcd snapshot ls --from hosts: shows it). Before each member it asks whether
etcd can spare it; before the first and after each, all members have to hold the same data,
and after each they have to be healthy. A member on which the new version does not serve
gets the old one back, and no further one is touched. Run again after any failure, it goes
on where it stopped.

Members that kubeadm built keep kubeadm's manifest; the image becomes another, from where
it is now, and so do arguments that the new version does not know.

Examples:
  rsadm etcd upgrade --plan
  rsadm etcd upgrade inventories/prod.yaml")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    pub(in crate::cli) inventory: InventoryArg,

    /// Show what would be done, and change nothing; ends with 7 where that is something
    #[arg(long)]
    pub(in crate::cli) plan: bool,

    #[command(flatten)]
    pub(in crate::cli) gate: GateArgs,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let (events, report) = recorded_unless(args.plan, context);
    let session = Session::open_gated(context, &args.inventory, events, &args.gate).await?;
    if args.plan {
        let (plan, _) = planned(&session).await?;
        return show(context, plan);
    }
    let consent = session.consent(&args.gate)?;
    let (plan, seen) = upgrade(&session, args, consent).await?;
    super::alarm::warn_where_full(&session, &session.cluster).await;
    session.events.emit(finished(&session, &plan, &seen, &args.inventory.as_typed()));
    if let Some(report) = report {
        report.print(context)?;
    }
    Ok(Exit::Done)
}

async fn upgrade(session: &Session<'_>, args: &Args, consent: Consent) -> Result<(Plan, Observed), CliError> {
    let command = format!("etcd upgrade{}{}", args.inventory.as_typed(), args.gate.as_typed());
    session.lock(&command).await?;
    let (plan, seen) = planned(session).await?;
    session.notices(&plan);
    if !plan.is_empty() {
        let members = session.members();
        alike::before_an_upgrade(&members).await?;
        // There is no way back to an older version but this (etcd, `upgrading-etcd`).
        super::snapshot::save::before_a_change(session, &args.inventory).await?;
    }
    session.execute(&command, &plan, seen.clone(), consent).await?;
    Ok((plan, seen))
}

/// What is to be done by what hosts and members say now.
async fn planned(session: &Session<'_>) -> Result<(Plan, Observed), CliError> {
    let mut seen = session.observe().await?;
    let members = session.members();
    let report = ask::report(&members).await;
    if !report.serves {
        return Err(quorum::none("etcd is not upgraded", "it has no quorum").into());
    }
    if let Some(refusal) = unsettled(&report, seen.hosts.values().any(ownership::is_adopted)) {
        return Err(refusal.into());
    }
    seen.membership = lookup::membership(&in_order(report));
    let (plan, _) = session.plan(ETCD_UPGRADE, seen.clone(), |_| true)?;
    Ok((plan, seen))
}

/// Members that would be passed over, since no etcd host of the inventory has them, and those for which each of the others would
/// wait in vain, once it was restarted: told before the first is touched. Who is a member `up` settles, which asks for the version
/// that runs; on hosts of others, and while two versions run, `remove` and `add` do.
fn unsettled(report: &EtcdReport, of_others: bool) -> Option<Refusal> {
    let unstarted = report.members.iter().filter(|m| m.error == Some(Trouble::Unstarted));
    let member = report.strangers().chain(unstarted).next()?;
    // While two versions run `up` takes neither, and a member joins with the newer.
    let versions: BTreeSet<Version> =
        report.members.iter().filter_map(|m| m.version.as_deref()?.parse().ok()).collect();
    let (runs, newest) = (versions.first()?, versions.last()?);
    let (why, stays) = match &member.error {
        Some(trouble @ Trouble::Unstarted) => (trouble.to_string(), ""),
        _ => (
            "no etcd host of the inventory is at its address".to_owned(),
            "put its host into the inventory, with the role etcd, then run this again; or, to have it out, ",
        ),
    };
    let by_name = of_others || runs != newest;
    let and = if by_name && !member.in_inventory { " and its host" } else { "" };
    let settles = match (by_name, member.in_inventory) {
        (false, _) => "`rsadm up` settles who is a member",
        (true, true) => "`rsadm etcd remove` takes it out, and `rsadm etcd add` makes it one anew",
        (true, false) => "`rsadm etcd remove` takes it out",
    };
    Some(Refusal {
        rule: "membership",
        subject: "etcd is not upgraded".into(),
        why: format!("its member {} ({}): {why}", member.name, member.peer_urls.join(", ")),
        help: format!(
            "{stays}with etcd.version: {newest}{and} in the inventory {settles}; then again with the new one"
        ),
    })
}

/// Members that are not well first: an upgrade that was interrupted goes on there. The leader last.
fn in_order(mut report: EtcdReport) -> EtcdReport {
    report.members.sort_by_key(|m| (m.is_leader, m.healthy));
    report
}

fn finished(session: &Session<'_>, plan: &Plan, seen: &Observed, inventory: &str) -> Event {
    let members = count(seen.membership.as_ref().map_or(0, Vec::len), "member");
    let version = session.cluster.release.etcd;
    let (text, next) = match plan.is_empty() {
        true => (format!("{members} run etcd {version}, nothing to upgrade"), vec![]),
        false => {
            let status =
                Next::new(format!("rsadm etcd status{inventory}"), "every member's version and hash");
            let text = format!("etcd {version} on {members}");
            (text, [status].into_iter().chain(told_to_kubeadm(session, plan, seen)).collect())
        }
    };
    Event::Finished { text, changed: plan.changes(), elapsed: session.elapsed(), next }
}

/// What makes the manifest of a member to come: without it `kubeadm join` takes the image that goes with its own Kubernetes, and
/// an older etcd does not join members of a newer one (kubeadm, `images.GetEtcdImageTag`); arguments that the operator gave
/// kubeadm it writes again.
fn told_to_kubeadm(session: &Session<'_>, plan: &Plan, seen: &Observed) -> Option<Next> {
    let of_others = seen.hosts.values().any(ownership::is_adopted);
    let tag = &session.cluster.release.etcd_tag;
    let replaces =
        |action: &Action| matches!(action, Action::SetEtcdImage { arguments, .. } if !arguments.is_empty());
    let and = match plan.steps().any(|(_, step)| replaces(&step.action)) {
        true => ", and of etcd.local.extraArgs those that the version dropped",
        false => "",
    };
    let why = format!("there, for kubeadm join and upgrade: etcd.local.imageTag: {tag}{and}");
    of_others.then(|| Next::new("kubectl -n kube-system edit configmap kubeadm-config", why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::status::tests::{Scene, member};

    #[test]
    fn who_never_starts_is_told_before_a_member_is_touched() {
        assert!(unsettled(&Scene::new(3).report(), false).is_none());
        let silent = Scene::new(3).silence(3, "connection refused");
        assert!(unsettled(&silent.report(), false).is_none(), "the gate's");
        let unlisted = Scene::new(3).listing(|list| list.push(member(9)));
        let mut answers = Scene::new(3);
        answers.answer(3).in_inventory = false;
        let mut is_silent = Scene::new(3).silence(3, "connection refused");
        is_silent.answer(3).in_inventory = false;
        for (stranger, title) in
            [(unlisted, "m9 (https://10.0.0.9:2380)"), (answers, "m3 ("), (is_silent, "m3 (")]
        {
            let refusal = unsettled(&stranger.report(), false).unwrap();
            assert!(refusal.why.starts_with(&format!("its member {title}")), "{}", refusal.why);
            assert!(
                refusal.why.ends_with("no etcd host of the inventory is at its address"),
                "{}",
                refusal.why
            );
            let help = &refusal.help;
            assert!(
                help.starts_with("put its host into the inventory, with the role etcd, then run this"),
                "{help}"
            );
            assert!(help.contains("etcd.version: v3.7.0 in the inventory `rsadm up`"), "{help}");
            let of_others = unsettled(&stranger.report(), true).unwrap().help;
            assert!(of_others.contains("and its host in the inventory `rsadm etcd remove`"), "{of_others}");
            assert!(!of_others.contains("rsadm up"), "{of_others}");
        }
        // A member's host died in the middle of an upgrade, and another has its line.
        let mut midway = Scene::new(3).silence(3, "connection refused");
        midway.answer(3).in_inventory = false;
        midway.status(1).version = "3.6.14".to_owned();
        let help = unsettled(&midway.report(), false).unwrap().help;
        assert!(
            help.contains(
                "etcd.version: v3.7.0 and its host in the inventory `rsadm etcd remove` takes it out"
            ),
            "{help}"
        );
        let unstarted = Scene::new(3).silence(3, "connection refused").listing(|list| list[2].name.clear());
        let refusal = unsettled(&unstarted.report(), false).unwrap();
        assert!(refusal.why.ends_with("added, but never started"), "{refusal}");
        assert!(
            refusal.help.starts_with("with etcd.version: v3.7.0 in the inventory `rsadm up`"),
            "{refusal}"
        );
    }

    #[test]
    fn the_sick_go_first_and_the_leader_last() {
        let names =
            |report: EtcdReport| report.members.into_iter().map(|m| m.name).collect::<Vec<_>>().join(" ");
        assert_eq!(names(in_order(Scene::new(3).report())), "m1 m3 m2");
        assert_eq!(names(in_order(Scene::new(3).silence(3, "connection refused").report())), "m3 m1 m2");
    }
}
