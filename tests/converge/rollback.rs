//! A roll-out that fails goes back: the first host has its manifest from before, the others were never touched.

use rsadm::{
    exec::RunError,
    fake::{Fault, State, When, World},
    inventory::{Cluster, NodeName, Role},
    layout,
    phases::UP,
    plan::{Action, Stage, Step, action::UnitVerb},
};

use crate::harness::{self, block_on, in_sync, run, succeed};

/// A flag that no program of the world knows.
pub(crate) const FLAG: &str = "no-such-flag";

type Change = fn(&mut Cluster) -> &mut std::collections::BTreeMap<String, String>;

const COMPONENTS: [(&str, Change); 4] = [
    ("kube-apiserver", |c| &mut c.api_server.extra_args),
    ("kube-controller-manager", |c| &mut c.controller_manager.extra_args),
    ("kube-scheduler", |c| &mut c.scheduler.extra_args),
    ("etcd", |c| &mut c.etcd.extra_args),
];

/// Manifests that are kept on hosts for putting back.
pub(crate) fn kept(state: &State) -> Vec<String> {
    let of = |(name, machine): (&NodeName, &rsadm::fake::Machine)| -> Vec<String> {
        machine
            .files
            .below(layout::KEPT_DIR)
            .filter(|(path, _)| path.ends_with(".yaml"))
            .map(|(path, _)| format!("{name} {path}"))
            .collect()
    };
    state.machines.iter().flat_map(of).collect()
}

/// Manifests, and which of their processes run since when, by host.
pub(crate) fn pods(state: &State) -> Vec<String> {
    let of = |name: &NodeName, process: &str| {
        let machine = &state.machines[name];
        let manifest = machine.files.sha256(&layout::manifest_of(process)).map(str::to_owned);
        format!("{name} {process} {manifest:?} {:?}", machine.process(process).map(|p| &p.revision))
    };
    state.machines.keys().flat_map(|name| COMPONENTS.map(|(process, _)| of(name, process))).collect()
}

#[test]
fn a_flag_that_nobody_knows_stops_at_the_first_host_and_is_taken_back() {
    let good = harness::ha();
    let built = block_on(harness::built(&good)).state();
    for (component, extra_args) in COMPONENTS {
        let mut bad = good.clone();
        extra_args(&mut bad).insert(FLAG.into(), "x".into());
        let mut start = built.clone();
        start.hang_up();
        let world = World::new(start);
        let outcome = block_on(run(&world, &bad, UP)).unwrap();
        let Err(RunError::Failed(failures)) = outcome.result else { panic!("{component}: not noticed") };
        let [failure] = &failures[..] else { panic!("{component}: {failures:?}") };
        assert_eq!(failure.host, Some(NodeName::new("m1")), "{component}");
        assert!(failure.step.contains(component), "{component}: {}", failure.step);
        let state = failure.state.join("\n");
        assert!(
            state.contains(&format!("{component} has its manifest from before again")),
            "{component}: {state}"
        );
        assert!(state.contains("etcd on m1 m2 m3, API server on m1 m2 m3"), "{component}: {state}");
        assert!(state.contains("untouched: m2 m3"), "{component}: {state}");

        world.inner().state.settle();
        assert_eq!(pods(&world.state()), pods(&built), "{component}");
        assert_eq!(kept(&world.state()), Vec::<String>::new(), "{component}");
        assert_eq!(world.state().violations, Vec::<String>::new(), "{component}");
        block_on(async {
            succeed(&world, &good, UP).await;
            in_sync(&world, &good, UP).await;
        });
    }
}

/// All kubelets together would take the readiness of every pod with them.
#[test]
fn a_flag_that_no_kubelet_knows_stops_at_the_first_host() {
    for good in [harness::ha(), harness::external_etcd(), harness::etcd_only()] {
        let start = harness::standing(&good);
        let mut bad = good.clone();
        bad.kubelet.extra_args.insert(FLAG.into(), "x".into());
        let world = World::new(start);
        let outcome = block_on(run(&world, &bad, UP)).unwrap();
        let Err(RunError::Failed(failures)) = outcome.result else { panic!("not noticed") };
        let [failure] = &failures[..] else { panic!("{failures:?}") };
        let first = good.nodes.iter().find(|n| n.is(Role::Etcd)).unwrap();
        assert_eq!(failure.host.as_ref(), Some(&first.name));
        let state = world.state();
        let stopped = state.machines.iter().filter(|(_, m)| m.process("kubelet").is_none());
        assert_eq!(stopped.map(|(name, _)| name).collect::<Vec<_>>(), [&first.name]);
        // The next attempt goes to the host that has no kubelet any more, and not to a second one.
        bad.kubelet.extra_args.insert("v".into(), "4".into());
        let again = block_on(run(&world, &bad, UP)).unwrap();
        let Err(RunError::Failed(failures)) = again.result else { panic!("not noticed") };
        assert_eq!(failures.iter().map(|f| f.host.as_ref()).collect::<Vec<_>>(), [Some(&first.name)]);
        let state = world.state();
        let stopped = state.machines.iter().filter(|(_, m)| m.process("kubelet").is_none());
        assert_eq!(stopped.map(|(name, _)| name).collect::<Vec<_>>(), [&first.name]);
        block_on(async {
            succeed(&world, &good, UP).await;
            in_sync(&world, &good, UP).await;
        });
        // One that all kubelets know is tried on the first host too, and comes to all.
        let mut other = good.clone();
        other.kubelet.extra_args.insert("v".into(), "3".into());
        let plan = block_on(succeed(&world, &other, UP)).plan;
        let restarts = |s: &Stage| s.work.iter().filter(|w| w.steps.iter().any(is_restart)).count();
        let hosts: Vec<usize> = plan.stages.iter().map(restarts).filter(|n| *n > 0).collect();
        assert_eq!(hosts[0], 1, "{}", harness::words(&plan));
        assert_eq!(hosts.iter().sum::<usize>(), good.nodes.len(), "{}", harness::words(&plan));
        block_on(in_sync(&world, &other, UP));
    }
}

fn is_restart(step: &Step) -> bool {
    matches!(&step.action, Action::Unit { unit, verb: UnitVerb::Restart, .. } if unit == "kubelet")
}

/// A bad manifest and what waits for it travel together: where the connection breaks behind it, nobody knows how far the host
/// came. What another run kept is none of this one's.
#[test]
fn a_manifest_goes_back_also_where_the_connection_was_lost_right_behind_it() {
    let good = harness::ha();
    let mut start = block_on(harness::built(&good)).state();
    let built = start.clone();
    start.hang_up();
    for (component, extra_args) in COMPONENTS {
        let mut bad = good.clone();
        extra_args(&mut bad).insert(FLAG.into(), "x".into());
        let world = World::new(start.clone());
        assert!(block_on(run(&world, &bad, UP)).unwrap().result.is_err(), "{component}");
        let written = format!("m1: write {}", layout::manifest_of(component));
        let log = &world.state().log[start.log.len()..];
        let at = 1 + log.iter().position(|line| *line == written).unwrap();
        for fault in [Fault::Cut(at, When::After), Fault::Lost(at, When::After)] {
            let world = World::new(start.clone());
            world.strike_at(fault);
            let outcome = block_on(run(&world, &bad, UP)).unwrap();
            let failures = match (outcome.result, fault) {
                (Err(RunError::Lost(failures)), Fault::Cut(..)) => failures,
                (Err(RunError::Failed(failures)), Fault::Lost(..)) => failures,
                (result, _) => panic!("{component}, {fault:?}: {result:?}"),
            };
            let state = failures.iter().flat_map(|f| f.state.clone()).collect::<Vec<_>>().join("\n");
            let back = format!("{component} has its manifest from before again");
            assert_eq!(
                state.contains(&back),
                matches!(fault, Fault::Cut(..)),
                "{component}, {fault:?}: {state}"
            );
            let mut left = world.state();
            left.hang_up();
            left.settle();
            if matches!(fault, Fault::Cut(..)) {
                assert_eq!(pods(&left), pods(&built), "{component}");
                assert_eq!(kept(&left), Vec::<String>::new(), "{component}");
                continue;
            }
            assert_ne!(kept(&left), Vec::<String>::new(), "{component}: nothing was left");
            extra_args(&mut bad).insert(FLAG.into(), "y".into());
            let world = World::new(left);
            let failed = block_on(run(&world, &bad, UP));
            let told = failed.map(|outcome| format!("{:?}", outcome.result)).unwrap_or_else(|why| why);
            assert!(!told.contains("from before again"), "{component}: {told}");
        }
    }
}

#[test]
fn a_run_that_died_beside_a_bad_flag_is_healed_by_the_corrected_inventory() {
    let good = harness::ha();
    let mut bad = good.clone();
    bad.api_server.extra_args.insert(FLAG.into(), "x".into());
    let start = harness::standing(&good);
    let world = World::new(start);
    world.keep_snapshots();
    assert!(block_on(run(&world, &bad, UP)).unwrap().result.is_err());
    for (n, mut moment) in world.snapshots().into_iter().enumerate() {
        moment.hang_up();
        let world = World::new(moment);
        world.inner().state.settle();
        block_on(async {
            succeed(&world, &good, UP).await;
            in_sync(&world, &good, UP).await;
        });
        assert_eq!(world.state().violations, Vec::<String>::new(), "killed after effect {n}");
    }
}

#[test]
fn nothing_is_kept_once_the_new_ones_serve() {
    let before = harness::ha();
    let start = harness::standing(&before);
    let mut after = before.clone();
    for (_, extra_args) in COMPONENTS {
        extra_args(&mut after).insert("v".into(), "2".into());
    }
    let world = World::new(start);
    world.keep_snapshots();
    block_on(succeed(&world, &after, UP));
    assert!(world.snapshots().iter().any(|state| kept(state).len() > 1), "nothing was kept at all");
    assert_eq!(kept(&world.state()), Vec::<String>::new());
}
