//! `etcd add`, `remove` and `replace`, on what rsadm built and on what kubeadm did: each ends as it would have ended
//! undisturbed wherever it was killed, when it is run again, and no API server is ever without etcd.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use rsadm::{
    etcd::{EtcdApi, Silence},
    event::Events,
    exec::{
        self, Context, RunError, ask, lookup,
        members::{MemberHost, Members},
    },
    fake::{FakeMembers, State, World, shape},
    inventory::{Cluster, NodeName, Role},
    layout,
    observe::{Fate, Observed, gather},
    phases::{self, ETCD_MEMBERS, etcd::wish},
    plan::{Action, Plan},
};
use time::OffsetDateTime;

use crate::{
    adopted::with_arguments,
    faults::{differences, in_parallel, report},
    harness::{self, block_on, observe, words},
    prediction,
};

/// What is asked for: who joins, who leaves.
#[derive(Clone, Copy)]
pub(crate) struct Asked(pub(crate) &'static [&'static str], pub(crate) &'static [&'static str]);

impl Asked {
    fn target(self, inventory: &Cluster, seen: &mut Observed) -> Cluster {
        let names = |hosts: &[&str]| hosts.iter().map(|h| NodeName::new(*h)).collect::<Vec<_>>();
        wish::target(inventory, seen, &names(self.0), &names(self.1))
    }
}

async fn look(world: &Arc<World>, inventory: &Cluster) -> Observed {
    let mut seen = gather(inventory, &world.fleet(inventory)).await.unwrap_or_else(|e| panic!("{e:?}"));
    let found = ask::report(&world.members(inventory)).await;
    seen.membership = lookup::membership(&found);
    seen
}

/// One run of the command; what it foresaw.
pub(crate) async fn run(world: &Arc<World>, inventory: &Cluster, asked: Asked) -> Result<Observed, String> {
    run_through(world, inventory, asked, &world.members(inventory)).await
}

/// The same, with other ways to the members than the world's own.
pub(crate) async fn run_through(
    world: &Arc<World>,
    inventory: &Cluster,
    asked: Asked,
    members: &dyn Members,
) -> Result<Observed, String> {
    let fleet = world.fleet(inventory);
    exec::lock::take(&fleet, "a test", exec::lock::Mark::Own, &rsadm::event::Events::none())
        .await
        .map_err(|r| r.to_string())?;
    let mut seen = look(world, inventory).await;
    let target = asked.target(inventory, &mut seen);
    let now = OffsetDateTime::now_utc();
    let (plan, predicted) = phases::plan(ETCD_MEMBERS, &target, seen.clone(), now, |_| true)
        .map_err(|r| format!("{r}; {}", r.help))?;
    let events = Events::none();
    let cx = Context::new(&target, &fleet, members, &events, seen, now, &|| false);
    match exec::execute(&cx, &plan).await {
        Ok(()) => Ok(predicted),
        Err(RunError::Refused(refusal)) => Err(refusal.to_string()),
        Err(other) => Err(format!("{other:?}")),
    }
}

/// What the command would still do, and what it came to.
async fn rests(
    world: &Arc<World>,
    inventory: &Cluster,
    asked: Asked,
) -> Result<BTreeMap<String, String>, String> {
    world.inner().state.settle();
    let mut seen = look(world, inventory).await;
    let target = asked.target(inventory, &mut seen);
    // Who asks twice for a member to be made anew gets it anew twice.
    seen.membership.iter_mut().flatten().for_each(|m| m.fate = Fate::Stays);
    let (left, _) = phases::plan(ETCD_MEMBERS, &target, seen, OffsetDateTime::now_utc(), |_| true)
        .map_err(|r| r.to_string())?;
    if !left.is_empty() {
        return Err(format!("planned again:\n{}", words(&left)));
    }
    match world.state().violations.first() {
        Some(violation) => Err(violation.clone()),
        None => Ok(shape(&world.state())),
    }
}

/// The command undisturbed, and killed after each effect and run again; what it leaves undisturbed.
fn heals_from_every_kill(name: &str, inventory: &Cluster, start: &State, asked: Asked) -> State {
    let world = World::new(start.clone());
    world.keep_snapshots();
    let predicted = block_on(run(&world, inventory, asked)).unwrap_or_else(|why| panic!("{name}: {why}"));
    let moments = world.snapshots();
    let wanted = block_on(rests(&world, inventory, asked)).unwrap_or_else(|why| panic!("{name}: {why}"));
    let seen = block_on(observe(&world, inventory));
    let members_only = Observed { nodes: seen.nodes.clone(), bundles: seen.bundles.clone(), ..predicted };
    assert_eq!(prediction::differences(&members_only, &seen), Vec::<String>::new(), "{name}");
    report(
        name,
        in_parallel(&moments, |moment| {
            let mut state = moment.clone();
            state.hang_up();
            let world = World::new(state);
            let why = block_on(async {
                run(&world, inventory, asked).await?;
                differences(&wanted, &rests(&world, inventory, asked).await?)
            })
            .err()?;
            Some(format!("killed after effect {} ({}): {why}", moment.log.len(), moment.log.last()?))
        }),
    );
    let mut state = world.state();
    state.hang_up();
    state
}

/// The inventory with another etcd host, and a world in which it is bare.
pub(crate) fn with_e4(mut cluster: Cluster, mut state: State) -> (Cluster, State) {
    let mut e4 = cluster.nodes[0].clone();
    (e4.name, e4.internal_address) = (NodeName::new("e4"), [10, 77, 0, 34].into());
    (e4.address, e4.roles) = (e4.internal_address.to_string(), vec![Role::Etcd]);
    cluster.nodes.push(e4);
    state.meet(&cluster);
    (cluster, state)
}

pub(crate) fn by_kubeadm() -> (Cluster, State) {
    let cluster = harness::ha();
    let mut state = harness::standing(&cluster);
    state.built_by_kubeadm();
    (cluster, state)
}

#[test]
fn members_of_rsadms_own_come_and_go() {
    let cluster = harness::etcd_only();
    let (cluster, state) = with_e4(cluster.clone(), harness::standing(&cluster));
    for (name, asked) in [
        ("add e4", Asked(&["e4"], &[])),
        ("remove e1", Asked(&[], &["e1"])),
        ("replace e2", Asked(&["e2"], &["e2"])),
        ("replace e1 e4", Asked(&["e4"], &["e1"])),
    ] {
        heals_from_every_kill(name, &cluster, &state, asked);
    }
    let mut only = harness::etcd_only();
    only.nodes.truncate(1);
    let (only, state) = with_e4(only.clone(), harness::standing(&only));
    heals_from_every_kill("replace the only one", &only, &state, Asked(&["e4"], &["e1"]));
}

#[test]
fn members_beside_api_servers_come_and_go() {
    let cluster = harness::ha();
    let state = harness::standing(&cluster);
    let without = heals_from_every_kill("remove m1", &cluster, &state, Asked(&[], &["m1"]));
    heals_from_every_kill("add m1", &cluster, &without, Asked(&["m1"], &[]));
    heals_from_every_kill("replace m2", &cluster, &state, Asked(&["m2"], &["m2"]));
}

#[test]
fn members_that_kubeadm_made_come_and_go() {
    let (cluster, state) = by_kubeadm();
    let without = heals_from_every_kill("remove m3", &cluster, &state, Asked(&[], &["m3"]));
    let with = heals_from_every_kill("add m3", &cluster, &without, Asked(&["m3"], &[]));
    assert!(!with.machines[&NodeName::new("m2")].files.has(layout::RSADM_DIR), "m2 was not named");
    heals_from_every_kill("replace m1", &cluster, &state, Asked(&["m1"], &["m1"]));
    let (cluster, state) = with_e4(cluster, state);
    heals_from_every_kill("replace m3 e4", &cluster, &state, Asked(&["e4"], &["m3"]));
}

/// Hardened hosts keep it on one alone; without it no certificate of etcd can ever be made again.
#[test]
fn the_only_key_of_etcds_authority_does_not_go_with_its_member() {
    let key = "/etc/kubernetes/pki/etcd/ca.key";
    let of_rsadm = harness::ha();
    let etcd_only = harness::etcd_only();
    for (name, (cluster, state), leaves, others, stays) in [
        ("the only one", (of_rsadm.clone(), harness::standing(&of_rsadm)), "m3", &["m1", "m2"][..], true),
        ("one of three", (of_rsadm.clone(), harness::standing(&of_rsadm)), "m3", &[], false),
        ("of etcd alone", (etcd_only.clone(), harness::standing(&etcd_only)), "e3", &["e1", "e2"], true),
        ("of kubeadm's", by_kubeadm(), "m3", &[], true),
    ] {
        let mut state = state;
        others.iter().for_each(|host| state.machine(&NodeName::new(*host)).files.remove(key));
        let asked = if leaves == "e3" { Asked(&[], &["e3"]) } else { Asked(&[], &["m3"]) };
        let after = heals_from_every_kill(name, &cluster, &state, asked);
        let files = &after.machines[&NodeName::new(leaves)].files;
        assert_eq!(files.has(key), stays, "{name}");
        assert!(!files.has("/etc/kubernetes/pki/etcd/peer.key"), "{name}");
    }
}

/// kubeadm's configuration may have tuned it, and an operator; the inventory says nothing of that.
#[test]
fn a_member_of_kubeadms_that_is_made_anew_is_tuned_as_it_was() {
    let (cluster, mut state) = by_kubeadm();
    // Of its own, which those that stay do not have.
    let own = &mut state.machine(&NodeName::new("m1")).files;
    let text = own.text(layout::ETCD_MANIFEST).unwrap().replace("count=10000", "count=9000");
    own.put(layout::ETCD_MANIFEST, 0o600, text.as_bytes());
    with_arguments(
        &mut state,
        &[
            ("heartbeat-interval", "--heartbeat-interval=500"),
            ("election-timeout", "--election-timeout=5000"),
            ("listen-metrics-urls", "--listen-metrics-urls=http://0.0.0.0:2381"),
            ("quota-backend-bytes", "--quota-backend-bytes=4294967296"),
            ("auto-compaction-mode", "--max-request-bytes=3145728"),
            ("auto-compaction-retention", "--log-outputs=/var/log/etcd.log"),
        ],
    );
    let flags = |state: &State, host: &str| -> BTreeMap<String, String> {
        let text = state.machines[&NodeName::new(host)].files.text(layout::ETCD_MANIFEST).unwrap();
        let flags = text.lines().filter_map(|line| line.trim().strip_prefix("- --")?.split_once('='));
        let others = flags.filter(|(name, _)| !name.starts_with("initial-"));
        others.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let manifest = |state: &State, path: &str| state.machines[&NodeName::new("m1")].files.text(path);
    assert_eq!(flags(&state, "m1")["snapshot-count"], "9000");
    let (had, of_kubeadms) = (flags(&state, "m1"), manifest(&state, layout::ETCD_MANIFEST));
    let again = heals_from_every_kill("replace m1", &cluster, &state, Asked(&["m1"], &["m1"]));
    let mut wanted = had.clone();
    assert!(wanted.remove("log-outputs").is_some(), "that folder is not the new member's");
    assert_eq!(flags(&again, "m1"), wanted);
    assert_eq!(manifest(&again, layout::ETCD_MANIFEST_ASIDE), of_kubeadms);
    // What was set aside tells it, too.
    let without = heals_from_every_kill("remove m1", &cluster, &state, Asked(&[], &["m1"]));
    assert_eq!(manifest(&without, layout::ETCD_MANIFEST_ASIDE), of_kubeadms);
    let with = heals_from_every_kill("add m1", &cluster, &without, Asked(&["m1"], &[]));
    assert_eq!(flags(&with, "m1"), wanted);
    let (cluster, state) = with_e4(cluster, state);
    let beside = heals_from_every_kill("add e4", &cluster, &state, Asked(&["e4"], &[]));
    assert_eq!(flags(&beside, "e4")["election-timeout"], "5000");
}

/// Its manifest is kubeadm's, and may have what is nowhere else.
#[test]
fn a_learner_of_kubeadms_whose_join_broke_off_gets_its_vote_and_its_manifest_is_kept() {
    let (cluster, mut state) = by_kubeadm();
    let m3 = NodeName::new("m3");
    let of_kubeadms = state.machines[&m3].files.text(layout::ETCD_MANIFEST);
    state.machine(&m3).files.remove(&layout::manifest_of("kube-apiserver"));
    with_arguments(&mut state, &[]);
    state.etcd.members.iter_mut().filter(|m| m.name == "m3").for_each(|m| m.learner = true);
    // Who was the first to serve leads, and no learner does.
    let voter = state.etcd.members.iter().find(|m| !m.learner).unwrap().id;
    state.etcd.lead(voter);
    let with = heals_from_every_kill("add m3", &cluster, &state, Asked(&["m3"], &[]));
    assert_eq!(with.machines[&m3].files.text(layout::ETCD_MANIFEST_ASIDE), of_kubeadms);
}

/// kubeadm keeps no record of the cluster there, and its member list has forgotten the host: its log has not.
#[test]
fn a_host_of_kubeadms_that_was_off_while_its_member_was_replaced_joins_again() {
    let (cluster, mut state) = by_kubeadm();
    let m3 = NodeName::new("m3");
    state.disaster = true;
    state.machine(&m3).power_off();
    let off = state.machines[&m3].clone();
    let now = state.clock;
    state.machine(&m3).power_on(now);
    state.settle();
    state.disaster = false;
    let mut without = heals_from_every_kill("remove m3", &cluster, &state, Asked(&[], &["m3"]));
    assert!(without.machines[&m3].files.has(layout::IDENTITY));
    let now = without.clock;
    without.machines.insert(m3.clone(), off);
    without.machine(&m3).power_on(now);
    // The API server there knows no other member until it is pointed at them.
    without.disaster = true;
    without.settle();
    assert!(!without.machines[&m3].files.has(layout::IDENTITY));
    let with = heals_from_every_kill("add m3", &cluster, &without, Asked(&["m3"], &[]));
    assert_eq!(with.etcd.members.len(), 3);
}

/// Nor where its kubelet is down.
#[test]
fn a_host_of_kubeadms_is_not_made_one_of_ours() {
    let m3 = NodeName::new("m3");
    for runs in [true, false] {
        let (cluster, mut state) = by_kubeadm();
        if !runs {
            state.machine(&m3).stop("kubelet");
        }
        let asked = Asked(&["m3"], &["m3"]);
        let mut seen = block_on(look(&World::new(state), &cluster));
        let target = asked.target(&cluster, &mut seen);
        let planned = phases::plan(ETCD_MEMBERS, &target, seen, OffsetDateTime::now_utc(), |_| true);
        let (plan, _) = planned.unwrap();
        let builds =
            |a: &Action| matches!(a, Action::Remember { .. } | Action::Install { .. } | Action::Unit { .. });
        let built: Vec<_> = plan.steps().filter(|(_, step)| builds(&step.action)).collect();
        assert!(built.is_empty(), "with its kubelet {runs}: {built:?}");
        assert!(plan.steps().any(|(host, step)| *host == m3 && step.action.is_change()), "{}", words(&plan));
    }
}

/// The learner never came to be in sync, so it was taken out again; its data is still there.
#[test]
fn a_learner_that_was_taken_back_joins_at_the_next_try() {
    let (cluster, state) = by_kubeadm();
    let asked = Asked(&["m3"], &[]);
    let without = heals_from_every_kill("remove m3", &cluster, &state, Asked(&[], &["m3"]));
    let world = World::new(without);
    world.keep_snapshots();
    block_on(run(&world, &cluster, asked)).unwrap();
    let m3 = NodeName::new("m3");
    let is_learner = |s: &&State| s.etcd.members.iter().any(|m| m.learner);
    let mut state = world.snapshots().into_iter().rfind(|s| is_learner(&s)).unwrap();
    state.hang_up();
    state.settle();
    assert!(state.machine(&m3).etcd_data().is_some(), "the learner has not started");
    state.etcd.members.retain(|m| !m.learner);
    state.machine(&m3).files.remove(layout::ETCD_MANIFEST);
    let world = World::new(state);
    block_on(run(&world, &cluster, asked)).unwrap();
    block_on(rests(&world, &cluster, asked)).unwrap();
}

/// Members that answer nobody for some questions, once the log ends with these words.
struct Silent {
    world: Arc<World>,
    members: FakeMembers,
    after: &'static str,
    left: AtomicUsize,
}

#[async_trait]
impl Members for Silent {
    fn hosts(&self) -> Vec<MemberHost> {
        self.members.hosts()
    }

    async fn dial(&self, host: &NodeName) -> Result<Box<dyn EtcdApi>, Silence> {
        let is_due = self.world.inner().state.log.last().is_some_and(|line| line.ends_with(self.after));
        let less = |left: usize| left.checked_sub(1);
        match is_due && self.left.fetch_update(Relaxed, Relaxed, less).is_ok() {
            true => Err("no answer".into()),
            false => self.members.dial(host).await,
        }
    }
}

#[test]
fn one_look_that_nobody_answers_takes_no_learner_back() {
    let cluster = harness::etcd_only();
    let (cluster, state) = with_e4(cluster.clone(), harness::standing(&cluster));
    let world = World::new(state);
    let (members, after) = (world.members(&cluster), "write /etc/kubernetes/manifests/etcd.yaml");
    let silent = Silent { world: world.clone(), members, after, left: AtomicUsize::new(12) };
    let asked = Asked(&["e4"], &[]);
    block_on(run_through(&world, &cluster, asked, &silent)).unwrap();
    assert_eq!(silent.left.load(Relaxed), 0, "nobody was silent");
    block_on(rests(&world, &cluster, asked)).unwrap();
}

/// Members of which none can be dialled for some questions, once all were seen to be well with a learner that runs.
struct Busy {
    world: Arc<World>,
    members: FakeMembers,
    learner: NodeName,
    /// Questions left, from when the learner runs.
    left: AtomicUsize,
    is_due: AtomicBool,
}

#[async_trait]
impl Members for Busy {
    fn hosts(&self) -> Vec<MemberHost> {
        self.members.hosts()
    }

    async fn dial(&self, host: &NodeName) -> Result<Box<dyn EtcdApi>, Silence> {
        let less = |left: usize| left.checked_sub(1);
        if self.is_due.load(Relaxed) && self.left.fetch_update(Relaxed, Relaxed, less).is_ok() {
            return Err("no answer".into());
        }
        let dialled = self.members.dial(host).await;
        // It is the last of a look at all.
        let inner = self.world.inner();
        let runs = inner.state.machines[host].serves("etcd", inner.state.clock);
        self.is_due.fetch_or(*host == self.learner && dialled.is_ok() && runs, Relaxed);
        dialled
    }
}

/// All had answered a moment before.
#[test]
fn one_moment_in_which_nobody_can_be_dialled_takes_no_learner_back() {
    let cluster = harness::etcd_only();
    let (cluster, state) = with_e4(cluster.clone(), harness::standing(&cluster));
    let world = World::new(state);
    let (members, learner) = (world.members(&cluster), NodeName::new("e4"));
    let (left, is_due) = (AtomicUsize::new(3), AtomicBool::new(false));
    let busy = Busy { world: world.clone(), members, learner, left, is_due };
    let asked = Asked(&["e4"], &[]);
    block_on(run_through(&world, &cluster, asked, &busy)).unwrap();
    assert_eq!(busy.left.load(Relaxed), 0, "nobody was busy");
    block_on(rests(&world, &cluster, asked)).unwrap();
}

/// Members of which one dies with its kubelet once the log ends with these words.
struct Dying {
    world: Arc<World>,
    members: FakeMembers,
    after: &'static str,
    who: NodeName,
}

#[async_trait]
impl Members for Dying {
    fn hosts(&self) -> Vec<MemberHost> {
        self.members.hosts()
    }

    async fn dial(&self, host: &NodeName) -> Result<Box<dyn EtcdApi>, Silence> {
        {
            let mut inner = self.world.inner();
            if inner.state.log.last().is_some_and(|line| line.ends_with(self.after)) {
                let machine = inner.state.machine(&self.who);
                machine.stop("kubelet");
                machine.kill_pods();
            }
        }
        self.members.dial(host).await
    }
}

/// Between being added and its vote: with it two of four voters could be gone, and the quorum with them.
#[test]
fn a_learner_gets_no_vote_while_a_voter_is_dead_and_is_taken_back() {
    let cluster = harness::etcd_only();
    let (cluster, state) = with_e4(cluster.clone(), harness::standing(&cluster));
    let world = World::new(state);
    let (members, after) = (world.members(&cluster), "write /etc/kubernetes/manifests/etcd.yaml");
    let dying = Dying { world: world.clone(), members, after, who: NodeName::new("e3") };
    let asked = Asked(&["e4"], &[]);
    let why = block_on(run_through(&world, &cluster, asked, &dying)).unwrap_err();
    for words in [
        "giving e4 a vote, should it then fail, would leave 2 healthy of 4 voters, and 3 are needed: e3 is not healthy",
        "; the learner was removed again, and the other members are as they were",
    ] {
        assert!(why.contains(words), "{why}");
    }
    let mut state = world.state();
    let voters: Vec<&str> =
        state.etcd.members.iter().filter(|m| !m.learner).map(|m| m.name.as_str()).collect();
    assert_eq!((voters.len(), state.etcd.members.len(), voters.contains(&"e4")), (3, 3, false));
    let manifests =
        |state: &State, name| state.machines[&NodeName::new(name)].files.has(layout::ETCD_MANIFEST);
    assert!(!manifests(&state, "e4") && manifests(&state, "e3"));
    // By either way that was told.
    state.hang_up();
    for (asked, revived) in
        [(Asked(&["e3"], &["e3"]), false), (Asked(&["e4"], &["e3"]), false), (asked, true)]
    {
        let mut state = state.clone();
        if revived {
            let now = state.clock;
            state.machine(&NodeName::new("e3")).restart("kubelet", now).unwrap();
            state.settle();
        }
        let world = World::new(state);
        block_on(run(&world, &cluster, asked)).unwrap();
        block_on(rests(&world, &cluster, asked)).unwrap();
    }
}

/// A killed run left it, and etcd takes no other learner before; it waits itself for the dead voter to leave.
#[test]
fn who_waits_for_a_vote_gets_it_before_others_join() {
    let cluster = harness::etcd_only();
    let (cluster, state) = with_e4(cluster.clone(), harness::standing(&cluster));
    let world = World::new(state);
    world.keep_snapshots();
    block_on(run(&world, &cluster, Asked(&["e4"], &[]))).unwrap();
    let is_learner = |s: &State| s.etcd.members.iter().any(|m| m.learner);
    let mut state = world.snapshots().into_iter().rfind(is_learner).unwrap();
    state.hang_up();
    let machine = state.machine(&NodeName::new("e3"));
    machine.stop("kubelet");
    machine.kill_pods();
    let (world, asked) = (World::new(state), Asked(&["e3"], &["e3"]));
    block_on(run(&world, &cluster, asked)).unwrap();
    block_on(rests(&world, &cluster, asked)).unwrap();
    assert_eq!(world.state().etcd.members.iter().filter(|m| !m.learner).count(), 4);
}

/// With a member that is down nobody may be added, and none of the others may leave.
#[test]
fn a_refusal_finds_all_hosts_as_they_were() {
    let plain = harness::etcd_only();
    let plain = with_e4(plain.clone(), harness::standing(&plain));
    for ((cluster, mut state), dead, asked) in [
        (plain.clone(), "e3", Asked(&["e4"], &[])),
        (plain.clone(), "e3", Asked(&[], &["e2"])),
        (plain, "e3", Asked(&["e4"], &["e2"])),
        (by_kubeadm(), "m3", Asked(&[], &["m2"])),
    ] {
        let machine = state.machine(&NodeName::new(dead));
        machine.stop("kubelet");
        machine.kill_pods();
        let world = World::new(state.clone());
        let why = block_on(run(&world, &cluster, asked)).unwrap_err();
        assert!(why.starts_with("refused: "), "{why}");
        let mut after = world.state();
        after.hang_up();
        assert_eq!(shape(&after), shape(&state), "{:?} {:?}", asked.0, asked.1);
    }
}

/// Before the member goes, not after: until its API server dials another it has none.
#[test]
fn an_api_server_is_pointed_away_before_its_member_leaves() {
    let (cluster, state) = by_kubeadm();
    let place = |plan: &Plan, what: &str| words(plan).lines().position(|line| line.contains(what));
    for (name, asked, dials) in [("remove", Asked(&[], &["m3"]), 1), ("replace", Asked(&["m3"], &["m3"]), 2)]
    {
        let mut seen = block_on(look(&World::new(state.clone()), &cluster));
        let target = asked.target(&cluster, &mut seen);
        let planned = phases::plan(ETCD_MEMBERS, &target, seen, OffsetDateTime::now_utc(), |_| true);
        let (plan, _) = planned.unwrap();
        let away = "point the API server at https://10.77.0.11:2379, https://10.77.0.12:2379";
        let steps = words(&plan);
        assert!(place(&plan, away).is_some(), "{name}: {steps}");
        assert!(place(&plan, away) < place(&plan, "remove m3 from etcd"), "{name}: {steps}");
        assert_eq!(steps.matches("point the API server").count(), dials, "{name}: {steps}");
    }
}

/// Its API server knows that member alone and gets it back with it; if another is never ready, nobody could leave.
#[test]
fn an_api_server_stays_beside_its_member_that_is_ill_and_does_not_leave() {
    let (cluster, state) = by_kubeadm();
    let mut seen = block_on(look(&World::new(state), &cluster));
    seen.membership.iter_mut().flatten().filter(|m| m.name == "m2").for_each(|m| m.healthy = false);
    let target = Asked(&[], &["m3"]).target(&cluster, &mut seen);
    let planned = phases::plan(ETCD_MEMBERS, &target, seen, OffsetDateTime::now_utc(), |_| true);
    let (plan, _) = planned.unwrap();
    let steps = words(&plan);
    assert!(steps.contains("remove m3 from etcd"), "{steps}");
    assert!(!plan.hosts().contains(&NodeName::new("m2")), "{steps}");
}

/// Two are not chosen, and who is left with two is looked after until a third is there.
#[test]
fn a_cluster_that_is_left_with_two_members_is_kept() {
    let three = harness::etcd_only();
    let mut two = three.clone();
    two.nodes.retain(|n| n.name.as_str() != "e3");
    let refused = |world: &Arc<World>| {
        let why = block_on(harness::run(world, &two, phases::UP)).err().expect("two members were made");
        assert!(why.contains("etcd gets no two members"), "{why}");
        assert_eq!(world.effects(), 0);
    };
    refused(&World::new(State::new(&two)));
    let mut built = harness::standing(&three);
    refused(&World::new(built.clone()));
    let dead = NodeName::new("e3");
    built.machine(&dead).power_off();
    let world = World::new(built);
    let run = block_on(harness::succeed(&world, &two, phases::UP));
    block_on(harness::in_sync(&world, &two, phases::UP));
    assert_eq!(world.state().etcd.members.len(), 2);
    // Nobody names that host afterwards.
    let told = run.plan.notices.iter().find(|n| n.text.starts_with("the host of e3 is not in the inventory"));
    assert!(told.is_some_and(|n| n.help.contains("rsadm reset")), "{:?}", run.plan.notices);
}
