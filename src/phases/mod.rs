//! The tables of phases: what each command does, in order, on one screen.
//!
//! A phase is a value beside a plain function that compares and adds steps; `--only`, `--skip` and the order of the
//! output come from these tables.

use time::OffsetDateTime;

use crate::{
    inventory::Cluster,
    observe::Observed,
    plan::{Action, Plan, Planner, Refusal, Renewal},
};

pub mod addons;
pub mod backups;
pub mod certs;
pub mod clock;
pub mod control_plane;
pub mod etcd;
pub mod ownership;
mod pod_network;
pub mod preflight;
pub mod prepare;
pub mod settled;
pub mod teardown;
#[cfg(test)]
mod tests;
pub mod workers;

/// One phase.
pub struct Phase {
    /// Its name, in brackets before its lines and after `--only`; rows of one name are wanted together.
    pub name: &'static str,
    /// What it brings about, in a line.
    pub about: &'static str,
    /// Compares, and adds steps.
    pub plan: fn(&mut Planner<'_>) -> Result<(), Refusal>,
}

const fn phase(
    name: &'static str,
    about: &'static str,
    plan: fn(&mut Planner<'_>) -> Result<(), Refusal>,
) -> Phase {
    Phase { name, about, plan }
}

/// What the phases of a table are for: by it is judged what has to be so before any of them is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Hosts become what the inventory wants.
    Build,
    /// Members of etcd join and leave; API servers follow them.
    Membership,
    /// etcd goes to another version, and nothing else is touched.
    Upgrade,
    /// Certificates are issued anew.
    Renewal,
    /// Hosts become what they were before.
    TakeDown,
}

/// What a command does, in order.
#[derive(Clone, Copy)]
pub struct Table {
    /// What for.
    pub aim: Aim,
    /// The phases.
    pub phases: &'static [Phase],
}

/// `rsadm up`.
pub const UP: &Table = &Table {
    aim: Aim::Build,
    phases: &[
        phase(preflight::PHASE, "hosts can carry what is wanted of them", preflight::plan),
        phase(prepare::PHASE, "containerd, kubelet, kubectl and CNI plugins", prepare::binaries),
        phase(certs::PHASE, "three authorities, certificates, kubeconfigs", certs::plan),
        phase(prepare::IMAGES, "the images that each host runs", prepare::images),
        phase(etcd::PHASE, "one member on each etcd host, with a leader", etcd::plan),
        phase(
            certs::PHASE,
            "those that members serve with, one member at a time",
            certs::members::of_serving,
        ),
        phase(control_plane::PHASE, "API servers, controller managers, schedulers", control_plane::plan),
        phase(workers::PHASE, "kubelets, local load balancers, kube-proxy, labels and taints", workers::plan),
        phase(addons::PHASE, "CoreDNS; all add-ons rolled out", addons::plan),
        phase(backups::PHASE, "snapshots of etcd on a schedule", backups::plan),
    ],
};

/// `rsadm etcd add`, `remove` and `replace`: the membership becomes that of the cluster that is planned for, and nothing
/// else changes, whoever built it.
pub const ETCD_MEMBERS: &Table = &Table {
    aim: Aim::Membership,
    phases: &[
        phase(prepare::PHASE, "what a new member's host needs", etcd::members::binaries),
        phase(certs::PHASE, "a new member's certificates", etcd::members::certificates),
        phase(prepare::IMAGES, "etcd's image on a new member's host", etcd::members::images),
        phase(etcd::PHASE, "members leave and join, one at a time", etcd::members::plan),
        phase(
            control_plane::PHASE,
            "API servers know the members, one after the other",
            control_plane::follow_members,
        ),
    ],
};

/// `rsadm etcd upgrade`.
pub const ETCD_UPGRADE: &Table = &Table {
    aim: Aim::Upgrade,
    phases: &[
        phase(etcd::upgrade::IMAGES, "the image of the version to come", etcd::upgrade::images),
        phase(etcd::upgrade::PHASE, "member by member, the leader last", etcd::upgrade::plan),
    ],
};

/// `rsadm certs renew`.
pub const CERTS_RENEW: &Table = &Table {
    aim: Aim::Renewal,
    phases: &[
        phase(certs::PHASE, "issued anew, those of members one member at a time", certs::renew::certificates),
        phase(certs::renew::KUBELETS, "kubelets take theirs up", certs::renew::kubelets),
        phase(
            control_plane::PHASE,
            "what reads kubeconfigs once, one host at a time",
            certs::renew::control_planes,
        ),
    ],
};

/// `rsadm reset`.
pub const RESET: &Table = &Table {
    aim: Aim::TakeDown,
    phases: &[phase(teardown::PHASE, "hosts as they were before", teardown::plan)],
};

/// Plans the wanted phases of a table: the plan, and what will be observed once it is done.
///
/// # Errors
/// Where a host is of another cluster, the inventory wants of a cluster what it cannot become, or `table` builds, more than a
/// schedule of snapshots is wanted of it, and somebody else built a host; else the first phase that refuses. Where certificates
/// would be issued by a clock that is wrong.
pub fn plan(
    table: &Table,
    cluster: &Cluster,
    seen: Observed,
    now: OffsetDateTime,
    wants: impl Fn(&str) -> bool,
) -> Result<(Plan, Observed), Refusal> {
    plan_with(Planner::new(cluster, seen, now), table, wants)
}

/// Plans the renewal of certificates.
///
/// # Errors
/// As [`plan`].
pub fn plan_renewal(
    cluster: &Cluster,
    seen: Observed,
    now: OffsetDateTime,
    renewal: Renewal,
) -> Result<(Plan, Observed), Refusal> {
    let mut planner = Planner::new(cluster, seen, now);
    planner.renewal = renewal;
    plan_with(planner, CERTS_RENEW, |_| true)
}

fn plan_with(
    mut planner: Planner<'_>,
    table: &Table,
    wants: impl Fn(&str) -> bool,
) -> Result<(Plan, Observed), Refusal> {
    // Whether something has begun or ended is told by the clocks of those who use it.
    planner.now = clock::of_hosts(planner.seen(), planner.now);
    may_plan(&planner, table, &wants)?;
    let chosen = |planner: &mut Planner<'_>| {
        table.phases.iter().filter(|p| wants(p.name)).try_for_each(|phase| (phase.plan)(planner))
    };
    if table.aim == Aim::Build && !wants(prepare::PHASE) {
        // The phase that notes whose a host is, before anything else, is left out; a host with files of ours and without
        // that note would be taken for somebody else's the next time.
        let mut trial = Planner::new(planner.cluster, planner.seen().clone(), planner.now);
        chosen(&mut trial)?;
        prepare::begin(&mut planner, &trial.finish().0);
    }
    chosen(&mut planner)?;
    let (plan, predicted) = planner.finish();
    // Preflight says it too where it is asked; what is wrong with the clock is then told before anything is judged by it.
    // Predictions do not touch what hosts said of their time.
    if plan.steps().any(|(_, step)| matches!(step.action, Action::PutCert { .. })) {
        clock::may_issue(&predicted)?;
    }
    Ok((plan, predicted))
}

/// Whether the hosts are this cluster's, and it can become what the inventory wants.
fn may_plan(p: &Planner<'_>, table: &Table, wants: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    let (cluster, seen) = (p.cluster, p.seen());
    ownership::check(cluster, seen)?;
    // What is taken down may be wanted otherwise.
    if table.aim != Aim::TakeDown {
        settled::check(cluster, seen)?;
        settled::etcd::check(cluster, seen)?;
        settled::member_names(cluster, seen)?;
        etcd::members::moved(cluster, seen)?;
        etcd::members::listens(cluster, seen)?;
        settled::cgroups(p)?;
    }
    match table.aim {
        Aim::Build => may_build(p, table, wants),
        Aim::Membership => settled::version(cluster, seen),
        // A renewal has the version among its findings; etcd's own upgrade touches nothing else, and a reset needs none.
        Aim::Upgrade | Aim::Renewal | Aim::TakeDown => Ok(()),
    }
}

/// Whether what is built on hosts can become what the inventory wants. Whose the hosts are is asked by preflight, among all else that it
/// finds, or here.
fn may_build(p: &Planner<'_>, table: &Table, wants: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    let (cluster, seen) = (p.cluster, p.seen());
    settled::plugin::check(cluster, seen)?;
    settled::nodes::names(cluster, seen)?;
    settled::runtime::check(&cluster.nodes, cluster, seen)?;
    if table.phases.iter().any(|phase| phase.name == preflight::PHASE && wants(phase.name)) {
        return Ok(());
    }
    // A schedule stands beside what others built, takes nothing over, and starts no kubelet.
    let beside = table.phases.iter().all(|phase| phase.name == backups::PHASE || !wants(phase.name));
    if !beside {
        settled::nodes::roles(cluster, seen)?;
    }
    settled::version(cluster, seen)?;
    ownership::may_build(cluster, seen, beside)
}
