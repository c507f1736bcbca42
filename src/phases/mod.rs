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
    /// Its name, in brackets before its lines and after `--only`.
    pub name: &'static str,
    /// What it brings about, in a line.
    pub about: &'static str,
    /// Compares, and adds steps.
    pub plan: fn(&mut Planner<'_>) -> Result<(), Refusal>,
}

/// `rsadm up`.
pub const UP: &[Phase] = &[
    Phase { name: preflight::PHASE, about: "hosts can carry what is wanted of them", plan: preflight::plan },
    Phase {
        name: prepare::PHASE,
        about: "containerd, kubelet, kubectl and CNI plugins",
        plan: prepare::binaries,
    },
    Phase { name: certs::PHASE, about: "three authorities, certificates, kubeconfigs", plan: certs::plan },
    Phase { name: prepare::IMAGES, about: "the images that each host runs", plan: prepare::images },
    Phase { name: etcd::PHASE, about: "one member on each etcd host, with a leader", plan: etcd::plan },
    Phase {
        name: control_plane::PHASE,
        about: "API servers, controller managers, schedulers",
        plan: control_plane::plan,
    },
    Phase {
        name: workers::PHASE,
        about: "kubelets, local load balancers, kube-proxy, labels and taints",
        plan: workers::plan,
    },
    Phase { name: addons::PHASE, about: "CoreDNS; all add-ons rolled out", plan: addons::plan },
    Phase { name: backups::PHASE, about: "snapshots of etcd on a schedule", plan: backups::plan },
];

/// `rsadm etcd add`, `remove` and `replace`: the membership becomes that of the cluster that is planned for, and nothing
/// else changes, whoever built it.
pub const ETCD_MEMBERS: &[Phase] = &[
    Phase { name: prepare::PHASE, about: "what a new member's host needs", plan: etcd::members::binaries },
    Phase { name: certs::PHASE, about: "a new member's certificates", plan: etcd::members::certificates },
    Phase {
        name: prepare::IMAGES,
        about: "etcd's image on a new member's host",
        plan: etcd::members::images,
    },
    Phase { name: etcd::PHASE, about: "members leave and join, one at a time", plan: etcd::members::plan },
    Phase {
        name: control_plane::PHASE,
        about: "API servers know the members, one after the other",
        plan: control_plane::follow_members,
    },
];

/// `rsadm etcd upgrade`.
pub const ETCD_UPGRADE: &[Phase] = &[
    Phase {
        name: etcd::upgrade::IMAGES,
        about: "the image of the version to come",
        plan: etcd::upgrade::images,
    },
    Phase {
        name: etcd::upgrade::PHASE,
        about: "member by member, the leader last",
        plan: etcd::upgrade::plan,
    },
];

/// `rsadm certs renew`.
pub const CERTS_RENEW: &[Phase] = &[
    Phase {
        name: certs::PHASE,
        about: "issued anew, those of members one member at a time",
        plan: certs::renew::certificates,
    },
    Phase { name: certs::renew::KUBELETS, about: "kubelets take theirs up", plan: certs::renew::kubelets },
    Phase {
        name: control_plane::PHASE,
        about: "what reads kubeconfigs once, one host at a time",
        plan: certs::renew::control_planes,
    },
];

/// `rsadm reset`.
pub const RESET: &[Phase] =
    &[Phase { name: teardown::PHASE, about: "hosts as they were before", plan: teardown::plan }];

/// Plans the wanted phases of a table: the plan, and what will be observed once it is done.
///
/// # Errors
/// Where a host is of another cluster, the inventory wants of a cluster what it cannot become, or `table` builds, more than a
/// schedule of snapshots is wanted of it, and somebody else built a host; else the first phase that refuses. Where certificates would be issued by a clock that is wrong.
pub fn plan(
    table: &[Phase],
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
    table: &[Phase],
    wants: impl Fn(&str) -> bool,
) -> Result<(Plan, Observed), Refusal> {
    ownership::check(planner.cluster, planner.seen())?;
    // Whether something has begun or ended is told by the clocks of those who use it.
    planner.now = clock::of_hosts(planner.seen(), planner.now);
    // What is taken down may be wanted otherwise.
    if table.iter().all(|phase| phase.name != teardown::PHASE) {
        settled::check(planner.cluster, planner.seen())?;
        settled::etcd::check(planner.cluster, planner.seen())?;
        settled::member_names(planner.cluster, planner.seen())?;
        etcd::members::moved(planner.cluster, planner.seen())?;
        etcd::members::listens(planner.cluster, planner.seen())?;
        settled::cgroups(&planner)?;
    }
    // A table that looks whether hosts can carry something builds it there. Whose they are is asked with this look or
    // without it.
    let builds = table.iter().any(|phase| phase.name == preflight::PHASE);
    // One that looks has it among its findings, and so has a renewal; etcd's own upgrade touches nothing else, and a reset needs
    // no version.
    let looks = builds && wants(preflight::PHASE);
    if builds {
        settled::plugin::check(planner.cluster, planner.seen())?;
        settled::nodes::names(planner.cluster, planner.seen())?;
        settled::runtime::check(&planner.cluster.nodes, planner.cluster, planner.seen())?;
    }
    // A schedule stands beside what others built, takes nothing over, and starts no kubelet.
    let beside = table.iter().all(|phase| phase.name == backups::PHASE || !wants(phase.name));
    if builds && !looks && !beside {
        settled::nodes::roles(planner.cluster, planner.seen())?;
    }
    let others = [teardown::PHASE, etcd::upgrade::PHASE, certs::renew::KUBELETS];
    let touches = |phase: &Phase| !others.contains(&phase.name);
    if !looks && table.iter().all(touches) {
        settled::version(planner.cluster, planner.seen())?;
    }
    if builds && !wants(preflight::PHASE) {
        ownership::may_build(planner.cluster, planner.seen(), beside)?;
    }
    let chosen = |planner: &mut Planner<'_>| {
        table.iter().filter(|p| wants(p.name)).try_for_each(|phase| (phase.plan)(planner))
    };
    if builds && !wants(prepare::PHASE) {
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
