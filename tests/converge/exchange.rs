//! Certificates that members serve with and that have to be others: exchanged one member at a time, under the gate that also
//! `certs renew` asks. Row 27 of the fault matrix.

use std::collections::BTreeMap;

use rsadm::{
    exec::RunError,
    fake::{State, World},
    inventory::{Cluster, NodeName, Role},
    phases::{self, Aim, Phase, Table, UP, certs},
    plan::{Action, Plan, Stage},
};
use time::OffsetDateTime;

use crate::{
    faults,
    harness::{self, block_on, in_sync, node_mut, observe, run, succeed, words},
    renewal::ALL,
};

/// `rsadm up --only certificates`.
const ONLY: &Table = &Table {
    aim: Aim::Build,
    phases: &[
        Phase { name: certs::PHASE, about: "", plan: certs::plan },
        Phase { name: certs::PHASE, about: "", plan: certs::members::of_serving },
    ],
};

/// The inventory in which etcd's hosts are dialled by names, as a cluster is whose hosts move to DNS.
fn by_name(cluster: &Cluster) -> Cluster {
    let mut changed = cluster.clone();
    for node in cluster.with_role(Role::Etcd) {
        node_mut(&mut changed, node.name.as_str()).address = format!("{}.example.org", node.name);
    }
    changed
}

/// What a stage issues that members read, as `HOST CERTIFICATE`.
fn issued(stage: &Stage) -> Vec<String> {
    let steps = stage.work.iter().flat_map(|work| work.steps.iter().map(move |step| (&work.host, step)));
    let names = steps.filter_map(|(host, step)| match &step.action {
        Action::PutCert { spec, .. } if spec.starts_with("etcd-") => Some(format!("{host} {spec}")),
        _ => None,
    });
    names.collect()
}

/// The same of the stages that issue any, and whether the gate is asked for each.
fn exchanges(plan: &Plan) -> Vec<(bool, Vec<String>)> {
    let stages = plan.stages.iter().map(|stage| (stage.gated, issued(stage)));
    stages.filter(|(_, issued)| !issued.is_empty()).collect()
}

/// Of one member.
fn pair(host: &str) -> Vec<String> {
    ["etcd-server", "etcd-peer"].map(|spec| format!("{host} {spec}")).to_vec()
}

/// All of etcd's certificates and keys, by host and path.
fn files(state: &State) -> BTreeMap<(NodeName, String), Option<String>> {
    let of = |name: &NodeName, path: &str| {
        ((name.clone(), path.to_owned()), state.machines[name].files.sha256(path).map(str::to_owned))
    };
    let each = |name: &NodeName| {
        let pairs = ["server", "peer", "healthcheck-client"];
        let paths = pairs.iter().flat_map(|stem| [format!("{stem}.crt"), format!("{stem}.key")]);
        paths.map(|file| of(name, &format!("/etc/kubernetes/pki/etcd/{file}"))).collect::<Vec<_>>()
    };
    state.machines.keys().flat_map(each).collect()
}

#[test]
fn row_27_another_address_is_put_into_the_certificates_of_one_member_at_a_time() {
    for cluster in [harness::etcd_only(), harness::ha(), harness::external_etcd()] {
        let changed = by_name(&cluster);
        let start = harness::standing(&cluster);
        let world = World::new(start.clone());
        let plan = block_on(async {
            let run = succeed(&world, &changed, UP).await;
            in_sync(&world, &changed, UP).await;
            run.plan
        });
        let one_by_one: Vec<_> =
            cluster.with_role(Role::Etcd).map(|node| (true, pair(node.name.as_str()))).collect();
        assert_eq!(one_by_one.len(), 3);
        assert_eq!(exchanges(&plan), one_by_one, "{}:\n{}", cluster.name, words(&plan));
        for stage in plan.stages.iter().filter(|stage| !issued(stage).is_empty()) {
            let last = stage.work[0].steps.last().map(|step| &step.action);
            assert!(matches!(last, Some(Action::AwaitEtcd { members }) if members.len() == 3), "{last:?}");
        }
        assert_eq!(world.state().violations, Vec::<String>::new(), "{}", cluster.name);
    }
}

#[test]
fn row_27_a_killed_exchange_goes_on() {
    let cluster = harness::etcd_only();
    let changed = by_name(&cluster);
    let undisturbed = faults::undisturbed(&changed, harness::standing(&cluster), UP);
    faults::heals_from_every_kill("another address", &changed, &undisturbed, UP);
}

/// As where its host has just come back: it has to serve again before another may be touched, and gets its own beforehand.
fn with_e3_down() -> (Cluster, State) {
    let mut state = harness::standing(&harness::etcd_only());
    let e3 = state.machine(&NodeName::new("e3"));
    e3.stop("kubelet");
    e3.kill_pods();
    (by_name(&harness::etcd_only()), state)
}

#[test]
fn row_27_a_member_that_is_down_is_started_before_those_that_serve_exchange_theirs() {
    let (cluster, state) = with_e3_down();
    let begun = state.log.len();
    let world = World::new(state);
    let plan = block_on(async {
        let run = succeed(&world, &cluster, UP).await;
        in_sync(&world, &cluster, UP).await;
        run.plan
    });
    let stages = [(false, pair("e3")), (true, pair("e1")), (true, pair("e2"))];
    assert_eq!(exchanges(&plan), stages, "{}", words(&plan));
    let state = world.state();
    let place = |words: &str| state.log[begun..].iter().position(|line| line.contains(words));
    let (starts, first) = (place("e3: restart kubelet"), place("e1: write /etc/kubernetes/pki/etcd"));
    assert!(starts.is_some() && starts < first, "{:#?}", &state.log[begun..]);
    assert!(state.machines[&NodeName::new("e3")].process("etcd").is_some());
}

/// Nobody starts it where the phase that would is not wanted.
#[test]
fn row_27_with_a_member_down_no_other_exchanges_its_certificates() {
    let (cluster, state) = with_e3_down();
    let before = files(&state);
    let world = World::new(state);
    let result = block_on(run(&world, &cluster, ONLY)).unwrap().result;
    let Err(RunError::Refused(refusal)) = result else { panic!("not refused: {result:?}") };
    assert_eq!(refusal.rule, "quorum", "{refusal}");
    assert!(refusal.subject.contains("exchanging the certificates of etcd on e1"), "{refusal}");
    for ((host, path), text) in files(&world.state()) {
        let had = &before[&(host.clone(), path.clone())];
        assert!(host.as_str() == "e3" || text == *had, "{host} got another {path}");
    }
}

/// As after backups that were put on the wrong hosts: members refuse one another whose certificates do not name the addresses that
/// they dial, so that there is no quorum to ask, and to wait for one would keep them from it for ever.
#[test]
fn certificates_of_other_hosts_are_replaced_on_all_at_once() {
    let cluster = harness::etcd_only();
    let mut state = harness::standing(&cluster);
    let names: Vec<NodeName> = cluster.nodes.iter().map(|n| n.name.clone()).collect();
    let built = state.clone();
    for (host, other) in names.iter().zip(names.iter().cycle().skip(1)) {
        for file in ["peer.crt", "peer.key"] {
            let path = format!("/etc/kubernetes/pki/etcd/{file}");
            let text = built.machines[other].files.text(&path).unwrap();
            state.machine(host).files.put(&path, 0o600, text.as_bytes());
        }
    }
    let all = names.iter().map(|name| format!("{name} etcd-peer")).collect::<Vec<_>>();
    let seen = block_on(observe(&World::new(state), &cluster));
    let now = OffsetDateTime::now_utc();
    let (up, _) = phases::plan(UP, &cluster, seen.clone(), now, |_| true).unwrap();
    assert_eq!(exchanges(&up), [(false, all.clone())], "{}", words(&up));
    // The rest still holds, and is issued one member at a time.
    let (renewal, _) = phases::plan_renewal(&cluster, seen, now, ALL).unwrap();
    assert_eq!(exchanges(&renewal)[0], (false, all), "{}", words(&renewal));
}

/// Nobody was told yet that it serves, and a foundation that broke off is gone on with at once.
#[test]
fn members_of_a_foundation_that_broke_off_wait_for_no_gate() {
    let cluster = harness::etcd_only();
    let undisturbed = faults::undisturbed(&cluster, State::new(&cluster), UP);
    let runs = |state: &State, name: &NodeName| state.machines[name].process("etcd").is_some();
    let names: Vec<NodeName> = cluster.nodes.iter().map(|n| n.name.clone()).collect();
    let is_such = |state: &&State| {
        runs(state, &names[0])
            && !names.iter().any(|name| state.machines[name].files.has(rsadm::layout::IDENTITY))
    };
    let mut state = undisturbed.moments.iter().find(is_such).cloned().unwrap();
    state.hang_up();
    let changed = by_name(&cluster);
    let plan = block_on(succeed(&World::new(state), &changed, UP)).plan;
    let all = exchanges(&plan);
    assert!(!all.is_empty() && all.iter().all(|(gated, _)| !gated), "{}", words(&plan));
}
