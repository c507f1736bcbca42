//! What kubeadm built and rsadm keeps: `etcd upgrade`, and a schedule of snapshots beside it; all else stays as it was.

use std::{collections::BTreeMap, time::Duration};

use rsadm::{
    exec::RunError,
    fake::{State, World},
    inventory::{Agent, Backup, Cluster, NodeName, Retention},
    layout,
    observe::Observed,
    phases::{self, ETCD_UPGRADE, RESET, UP, backups},
    plan::{Action, Refusal},
    secret::Secret,
    versions::Version,
};
use time::OffsetDateTime;

use crate::{
    faults::{heals_from_every_kill, undisturbed},
    harness::{block_on, built, observe, plan, run, single, succeed, words},
    members::by_kubeadm,
};

/// Arguments of etcd's manifests, each in the place of another, as kubeadm leaves them on every host.
pub(crate) fn with_arguments(state: &mut State, replaced: &[(&str, &str)]) {
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

/// Another image in etcd's manifests.
fn with_image(state: &mut State, image: &str) {
    state.disaster = true;
    state.hang_up();
    for machine in state.machines.values_mut() {
        let Some(text) = machine.files.text(layout::ETCD_MANIFEST) else { continue };
        let had = text.lines().find(|l| l.trim().starts_with("image: ")).unwrap();
        let text = text.replace(had.trim(), &format!("image: {image}"));
        machine.files.put(layout::ETCD_MANIFEST, 0o600, text.as_bytes());
    }
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

/// As a run leaves a host that was killed right behind the new manifest of a member, which does not serve with that.
fn killed_behind_a_useless_manifest(cluster: &Cluster, state: State) -> State {
    let world = World::new(state);
    world.keep_snapshots();
    assert!(block_on(run(&world, &with_etcd(cluster, 99), ETCD_UPGRADE)).unwrap().result.is_err());
    let written = format!(": write {}", layout::ETCD_MANIFEST);
    let is_it = |m: &State| m.log.last().is_some_and(|l| l.ends_with(&written));
    let mut left = world.snapshots().into_iter().find(is_it).unwrap();
    left.hang_up();
    left.settle();
    left
}

#[test]
fn it_is_also_where_the_run_that_brought_it_was_killed() {
    let (cluster, state) = by_kubeadm();
    let world = World::new(killed_behind_a_useless_manifest(&cluster, state.clone()));
    let outcome = block_on(run(&world, &with_etcd(&cluster, 99), ETCD_UPGRADE)).unwrap();
    let Err(RunError::Failed(failures)) = outcome.result else { panic!("not noticed") };
    assert!(format!("{failures:?}").contains("etcd has its manifest from before again, and serves"));
    world.inner().state.settle();
    assert_eq!(changed(&state, &world.state()), Vec::<String>::new());
    assert_eq!(world.state().violations, Vec::<String>::new());
}

#[test]
fn of_a_single_member_of_kubeadms_the_way_back_that_is_named_is_one() {
    let cluster = single();
    let mut state = block_on(built(&cluster)).state();
    state.built_by_kubeadm();
    state.disaster = true;
    let world = World::new(killed_behind_a_useless_manifest(&cluster, state.clone()));
    let why = block_on(run(&world, &cluster, ETCD_UPGRADE)).err().unwrap();
    let (kept, manifest) = (layout::ETCD_MANIFEST_BEFORE, layout::ETCD_MANIFEST);
    assert!(why.contains(&format!("move {kept} on the host, if it is there, to {manifest}")), "{why}");
    assert!(!why.contains("rsadm up"), "{why}");
    let host = cluster.nodes[0].name.clone();
    {
        let state = &mut world.inner().state;
        let files = &mut state.machine(&host).files;
        let text = files.text(kept).unwrap();
        files.put(manifest, 0o600, text.as_bytes());
        files.remove(kept);
        state.hang_up();
    }
    block_on(succeed(&world, &with_etcd(&cluster, 0), ETCD_UPGRADE));
}

/// Tags of other registries, and a version that is older than what runs by its last number alone.
#[test]
fn a_tag_is_taken_as_it_is_and_no_version_back() {
    let (cluster, mut state) = by_kubeadm();
    with_image(&mut state, "r.local/etcd:v3.7.0");
    let world = World::new(state.clone());
    assert!(block_on(plan(&world, &cluster, ETCD_UPGRADE)).is_empty());
    let planned = words(&block_on(plan(&world, &with_etcd(&cluster, 0), ETCD_UPGRADE)));
    assert!(planned.contains("image r.local/etcd:v3.8.0"), "{planned}");

    with_image(&mut state, "registry.k8s.io/etcd:3.7.4-0");
    let seen = block_on(observe(&World::new(state), &cluster));
    let refusal: Refusal =
        phases::plan(ETCD_UPGRADE, &cluster, seen, OffsetDateTime::now_utc(), |_| true).err().unwrap();
    assert_eq!(refusal.why, "it has v3.7.4, which is newer than the inventory's v3.7.0");
    assert_eq!(refusal.help, "set etcd.version: v3.7.4 or a later one in the inventory");
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
    let (plan, predicted) = phases::plan(UP, &scheduled, seen, OffsetDateTime::now_utc(), only).unwrap();
    assert!(plan.hosts().iter().any(|host| host.as_str() == "m3"), "{}", words(&plan));
    let remembers = |action: &Action| matches!(action, Action::Remember { .. });
    assert!(!plan.steps().any(|(_, step)| remembers(&step.action)), "{}", words(&plan));
    // So a reset, which does not know what was there before, leaves it alone.
    let (reset, _) = phases::plan(RESET, &scheduled, predicted, OffsetDateTime::now_utc(), |_| true).unwrap();
    assert!(reset.is_empty(), "{}", words(&reset));
    let told = reset.notices.iter().find(|n| n.host.as_ref().is_some_and(|h| h.as_str() == "m3")).unwrap();
    assert!(told.text.contains("but a schedule of snapshots"), "{}", told.text);
}
