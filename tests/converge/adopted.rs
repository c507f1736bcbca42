//! What kubeadm built and rsadm keeps: `etcd upgrade`, and a schedule of snapshots beside it; all else stays as it was.

use std::{collections::BTreeMap, time::Duration};

use rsadm::{
    exec::RunError,
    fake::{State, World},
    host::Secret,
    inventory::{Agent, Backup, Cluster, NodeName, Retention},
    layout,
    observe::Observed,
    phases::{self, ETCD_UPGRADE, RESET, UP, backups},
    plan::{Action, Refusal},
    versions::Version,
};
use time::OffsetDateTime;

use crate::{
    faults::{heals_from_every_kill, undisturbed},
    harness::{block_on, observe, run, succeed, words},
    members::by_kubeadm,
};

/// Arguments of etcd's manifests, each in the place of another, as kubeadm leaves them on every host.
fn with_arguments(state: &mut State, replaced: &[(&str, &str)]) {
    state.disaster = true;
    state.hang_up();
    for machine in state.machines.values_mut() {
        machine.power_off();
        let Some(mut text) = machine.files.text(layout::ETCD_MANIFEST) else { continue };
        for (old, new) in replaced {
            let line = text.lines().find(|l| l.trim().starts_with(&format!("- --{old}"))).unwrap().to_owned();
            text = text.replace(&line, &line.replace(line.trim(), &format!("- {new}")));
        }
        machine.files.put(layout::ETCD_MANIFEST, 0o600, text.as_bytes());
    }
    let now = state.clock;
    state.machines.values_mut().for_each(|machine| machine.power_on(now));
    state.settle();
    state.disaster = false;
}

fn with_etcd(cluster: &Cluster, patch: u16) -> Cluster {
    let mut newer = cluster.clone();
    let minor = newer.release.etcd.minor + 1;
    newer.release = newer.release.with_etcd(Version::new(3, minor, patch));
    newer
}

/// Every file of every host.
fn files(state: &State) -> BTreeMap<String, String> {
    let of = |(name, machine): (&NodeName, &rsadm::fake::Machine)| -> Vec<(String, String)> {
        let text = |path: &str| machine.files.text(path).unwrap_or_default();
        machine.files.all().map(|(path, _)| (format!("{name} {path}"), text(path))).collect()
    };
    state.machines.iter().flat_map(of).collect()
}

/// Of two worlds, the files that differ, without what runs leave anywhere: locks and their own folders in memory.
fn changed(before: &State, after: &State) -> Vec<String> {
    let (before, after) = (files(before), files(after));
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = |key: &&String| before.get(*key) != after.get(*key) && !key.contains(" /run");
    keys.into_iter().filter(differs).cloned().collect()
}

#[test]
fn etcd_of_kubeadms_is_upgraded_and_nothing_else_of_its_hosts() {
    let (cluster, mut state) = by_kubeadm();
    let gates = "--experimental-initial-corrupt-check=true";
    with_arguments(&mut state, &[("feature-gates=", gates)]);
    let newer = with_etcd(&cluster, 0);
    let undisturbed = undisturbed(&newer, state.clone(), ETCD_UPGRADE);
    heals_from_every_kill("kubeadm's", &newer, &undisturbed, ETCD_UPGRADE);
    let last = undisturbed.moments.last().unwrap();
    let manifests: Vec<String> =
        ["m1", "m2", "m3"].iter().map(|host| format!("{host} {}", layout::ETCD_MANIFEST)).collect();
    assert_eq!(changed(&state, last), manifests);
    let (before, after) = (files(&state), files(last));
    for manifest in manifests {
        let (had, has): (Vec<&str>, Vec<&str>) =
            (before[&manifest].lines().collect(), after[&manifest].lines().collect());
        let lines: Vec<(&str, &str)> = had
            .into_iter()
            .zip(has)
            .filter(|(old, new)| old != new)
            .map(|(old, new)| (old.trim(), new.trim()))
            .collect();
        assert_eq!(
            lines,
            [
                ("- --experimental-initial-corrupt-check=true", "- --feature-gates=InitialCorruptCheck=true"),
                ("image: registry.k8s.io/etcd:3.7.0-0", "image: registry.k8s.io/etcd:3.8.0-0"),
            ]
        );
    }
}

#[test]
fn a_version_that_does_not_run_is_taken_back_at_kubeadms_first_member() {
    let (cluster, state) = by_kubeadm();
    let world = World::new(state.clone());
    let outcome = block_on(run(&world, &with_etcd(&cluster, 99), ETCD_UPGRADE)).unwrap();
    let Err(RunError::Failed(failures)) = outcome.result else { panic!("not noticed") };
    let [failure] = &failures[..] else { panic!("{failures:?}") };
    let cause = failure.cause.clone().unwrap_or_default();
    assert!(cause.contains("etcd has its manifest from before again, and serves"), "{failure:?}");
    world.inner().state.settle();
    assert_eq!(changed(&state, &world.state()), Vec::<String>::new());
    assert_eq!(world.state().violations, Vec::<String>::new());
    world.inner().state.hang_up();
    block_on(succeed(&world, &with_etcd(&cluster, 0), ETCD_UPGRADE));
}

#[test]
fn an_argument_without_a_successor_is_named_before_a_member_is_touched() {
    let (cluster, state) = by_kubeadm();
    let newer = with_etcd(&cluster, 0);
    for (replaced, rule, why) in [
        (
            ("feature-gates=", "--discovery=https://x"),
            "etcd-argument",
            "v3.8.0 does not know --discovery=https://x any more, and nothing is known that takes its place",
        ),
        (
            ("listen-metrics-urls=", "--listen-metrics-urls=http://127.0.0.1:9381"),
            "etcd-metrics",
            "its metrics, by which it is told what runs, are not where kubeadm has them",
        ),
    ] {
        let mut state = state.clone();
        with_arguments(&mut state, &[replaced]);
        let seen = block_on(observe(&World::new(state), &newer));
        let refusal: Refusal =
            phases::plan(ETCD_UPGRADE, &newer, seen, OffsetDateTime::now_utc(), |_| true).err().unwrap();
        assert_eq!((refusal.rule, refusal.why.as_str()), (rule, why));
    }
}

fn scheduled(cluster: &Cluster) -> Cluster {
    let mut scheduled = cluster.clone();
    scheduled.agent =
        Some(Agent { sha256: "ab".repeat(32), arch: "x86_64".into(), data: Secret::new("program") });
    scheduled.etcd.backup = Some(Backup {
        interval: Duration::from_secs(3600),
        retention: Retention::Count(3),
        target: "/var/lib/rsadm/backups".into(),
        endpoint: None,
        region: None,
        credentials: None,
        recipient: None,
    });
    scheduled
}

#[test]
fn a_schedule_stands_beside_what_kubeadm_built_and_is_taken_away_again() {
    let (cluster, state) = by_kubeadm();
    let scheduled = scheduled(&cluster);
    let seen = block_on(observe(&World::new(state), &cluster));
    let planned = |cluster: &Cluster, seen: &Observed, wants: &dyn Fn(&str) -> bool| {
        phases::plan(UP, cluster, seen.clone(), OffsetDateTime::now_utc(), wants)
    };
    let only = |name: &str| name == backups::PHASE;
    let (plan, with) = planned(&scheduled, &seen, &only).unwrap();
    let is_of_it = |action: &Action| match action {
        Action::PutAgent { .. } | Action::Unit { .. } => true,
        action => action.writes().iter().all(|path| path.contains("/rsadm")) && !action.writes().is_empty(),
    };
    assert!(plan.steps().all(|(_, step)| is_of_it(&step.action)), "{}", words(&plan));
    assert_eq!(plan.hosts().len(), 3, "{}", words(&plan));
    let (plan, _) = planned(&scheduled, &with, &only).unwrap();
    assert!(plan.is_empty(), "{}", words(&plan));

    // The hosts are kubeadm's as before, for all else of `up` and for `reset`.
    let refusal = planned(&scheduled, &with, &|_| true).err().unwrap();
    assert!(refusal.why.contains("rsadm up --only backups"), "{refusal}");
    let refusal = planned(&scheduled, &with, &|name| name != "preflight").err().unwrap();
    assert!(refusal.help.contains("rsadm up --only backups"), "{}", refusal.help);
    let (reset, _) =
        phases::plan(RESET, &scheduled, with.clone(), OffsetDateTime::now_utc(), |_| true).unwrap();
    assert!(reset.is_empty(), "would wipe what kubeadm built:\n{}", words(&reset));
    assert!(reset.notices.iter().any(|n| n.help.contains("rsadm up --only backups")), "{:?}", reset.notices);

    // Nor where its kubelet stands still, and etcd's manifest was moved aside, on a host of etcd alone.
    let mut bare = with.clone();
    for facts in bare.hosts.values_mut().filter(|facts| facts.etcd_data) {
        facts.processes.clear();
        facts.etcd_manifest = None;
        facts
            .files
            .retain(|path, _| !path.starts_with(layout::MANIFESTS_DIR) && path != layout::KUBELET_CONF);
        assert!(facts.programs.contains_key(layout::AGENT_NAME));
    }
    let (reset, _) = phases::plan(RESET, &scheduled, bare, OffsetDateTime::now_utc(), |_| true).unwrap();
    assert!(reset.is_empty(), "would wipe etcd's data and keys:\n{}", words(&reset));

    let (plan, without) = planned(&cluster, &with, &only).unwrap();
    assert!(words(&plan).contains(layout::AGENT), "{}", words(&plan));
    for (host, facts) in &without.hosts {
        let had = &seen.hosts[host];
        assert_eq!((&facts.files, &facts.programs), (&had.files, &had.programs), "{host}");
    }
    assert!(planned(&cluster, &without, &only).unwrap().0.is_empty());
}

/// It joins with kubeadm later, and nothing may then tell that it was rsadm's.
#[test]
fn a_schedule_on_a_blank_host_beside_them_makes_it_nobodys() {
    let (cluster, mut state) = by_kubeadm();
    let blank = State::new(&cluster).machines.remove(&NodeName::new("m3")).unwrap();
    state.disaster = true;
    state.machines.insert(NodeName::new("m3"), blank);
    let scheduled = scheduled(&cluster);
    let seen = block_on(observe(&World::new(state), &cluster));
    let only = |name: &str| name == backups::PHASE;
    let (plan, _) = phases::plan(UP, &scheduled, seen, OffsetDateTime::now_utc(), only).unwrap();
    assert!(plan.hosts().iter().any(|host| host.as_str() == "m3"), "{}", words(&plan));
    let remembers = |action: &Action| matches!(action, Action::Remember { .. });
    assert!(!plan.steps().any(|(_, step)| remembers(&step.action)), "{}", words(&plan));
}
