//! A restore that dies at any effect is run again, and ends where an undisturbed one ends; what was written after its end
//! stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use rsadm::{
    event::{Event, Events},
    exec::{
        self,
        members::Members,
        restore::{Absent, Restore, RestoreError, Running, Source, who_runs},
    },
    fake::{Data, Fault, State, When, World, shape},
    hash::sha256,
    host::fleet::Fleet,
    inventory::{Cluster, Node, Role},
    layout::{ENDED_RESTORES, IDENTITY},
    observe::Identity,
    phases::{ETCD_MEMBERS, Table, UP},
};

use crate::{
    faults::{differences, in_parallel, report, rests},
    harness::{self, block_on, etcd_only, ha},
    members,
};

const DATA: &[u8] = b"what etcd had";

/// Which restore it is.
const TOKEN: &str = "test-1795000000-0123456789ab";

/// Of which cluster the snapshot is.
const OF: &str = "c0de";

/// What a command does with the restore that hosts remember.
#[derive(Clone, Copy)]
enum Verb {
    Restore,
    RollBack,
}

async fn restore(world: &Arc<World>, cluster: &Cluster) -> Result<(), String> {
    command(world, cluster, Verb::Restore).await
}

/// What the command line does once it has a snapshot that is good: it tidies up what is over, or goes on with the restore
/// that hosts remember.
async fn command(world: &Arc<World>, cluster: &Cluster, verb: Verb) -> Result<(), String> {
    beside(world, cluster, vec![], verb).await
}

/// A restore on all etcd hosts of a cluster.
fn of_all<'a>(
    cluster: &'a Cluster,
    fleet: &'a Fleet,
    members: &'a dyn Members,
    events: &'a Events,
) -> Restore<'a> {
    let limit = Duration::from_secs(20);
    Restore {
        cluster,
        fleet,
        members,
        events,
        targets: cluster.with_role(Role::Etcd).map(|n| n.name.clone()).collect(),
        absent: vec![],
        of: None,
        limit,
        api_limit: limit * 2,
        stop: tokio::sync::watch::Sender::new(false).subscribe(),
    }
}

/// The same while members that it does not reach may come back.
async fn beside(
    world: &Arc<World>,
    cluster: &Cluster,
    absent: Vec<Absent>,
    verb: Verb,
) -> Result<(), String> {
    let fleet = world.fleet(cluster);
    exec::lock::take(&fleet, "a test", exec::lock::Mark::Own, &rsadm::event::Events::none())
        .await
        .map_err(|r| r.to_string())?;
    let (members, events) = (world.members(cluster), Events::none());
    let restore = Restore { absent, of: Some(OF.to_owned()), ..of_all(cluster, &fleet, &members, &events) };
    let mut snapshot = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    snapshot.write_all(DATA).map_err(|e| e.to_string())?;
    let steps = async {
        let standing = restore.standing().await?;
        restore.tidy_up(&standing).await?;
        if standing.over.contains_key(TOKEN) {
            return Ok(());
        }
        let token = standing.under_way.unwrap_or_else(|| TOKEN.to_owned());
        if let Verb::RollBack = verb {
            return restore.roll_back(&token).await;
        }
        let source = Source { snapshot: snapshot.path(), sha256: &sha256(DATA), revision: 48_211 };
        restore.exchange(&token, &source).await?;
        restore.unfence_members().await?;
        restore.finish(&token).await.map(drop)
    };
    steps.await.map_err(|e: RestoreError| e.to_string())
}

/// A restore, on what.
struct Goal<'g> {
    name: &'g str,
    cluster: &'g Cluster,
    start: State,
    absent: Vec<Absent>,
    /// The command that finds nothing left to do afterwards.
    table: &'static Table,
}

impl<'g> Goal<'g> {
    /// Of all members of what rsadm built.
    fn of_all(name: &'g str, cluster: &'g Cluster) -> Self {
        Self { name, cluster, start: harness::in_disaster(cluster), absent: vec![], table: UP }
    }

    async fn restore(&self, world: &Arc<World>) -> Result<(), String> {
        beside(world, self.cluster, self.absent.clone(), Verb::Restore).await
    }

    /// Undisturbed: what it comes to, and every moment of it.
    fn undisturbed(&self) -> (BTreeMap<String, String>, Vec<State>) {
        let run = async {
            let world = World::new(self.start.clone());
            world.keep_snapshots();
            self.restore(&world).await?;
            let moments = world.snapshots();
            Ok::<_, String>((rests(&world, self.cluster, self.table).await?, moments))
        };
        let (wanted, moments) = block_on(run).unwrap_or_else(|why| panic!("{}: {why}", self.name));
        assert!(moments.len() > 15, "{}: only {} effects", self.name, moments.len());
        (wanted, moments)
    }

    /// Run again where it died, it ends as an undisturbed one.
    fn ends_as_wanted(&self, mut left: State, wanted: &BTreeMap<String, String>) -> Result<(), String> {
        left.hang_up();
        block_on(async {
            let world = World::new(left);
            self.restore(&world).await?;
            differences(wanted, &rests(&world, self.cluster, self.table).await?)
        })
    }

    fn heals_from_every_kill(&self) {
        let (wanted, moments) = self.undisturbed();
        let wrong = in_parallel(&moments[..moments.len() - 1], |moment| {
            let why = self.ends_as_wanted(moment.clone(), &wanted).err()?;
            Some(format!("killed after effect {} ({}): {why}", moment.log.len(), moment.log.last()?))
        });
        report(self.name, wrong);
    }

    /// One host fails half-way, at every effect (of every `step`), and what was wrong with it is mended before the same is run
    /// again.
    fn heals_from_hosts_that_fail(&self, step: usize) {
        let (wanted, moments) = self.undisturbed();
        let faults: Vec<(usize, When)> =
            (1..=moments.len()).step_by(step).flat_map(|n| [(n, When::Before), (n, When::After)]).collect();
        // From then on all that is left is to tidy up, which a host may do later.
        let is_end = |moment: &State| moment.log.last().is_some_and(|l| l.ends_with("note that it is over"));
        let end = moments.iter().position(is_end).unwrap();
        let wrong = in_parallel(&faults, |(n, when)| {
            let world = World::new(self.start.clone());
            world.strike_at(Fault::Lost(*n, *when));
            let why = match block_on(self.restore(&world)) {
                Ok(()) if *n <= end => "it was not noticed".to_owned(),
                _ => self.ends_as_wanted(world.state(), &wanted).err()?,
            };
            Some(format!("{when:?} effect {n} ({}): {why}", moments[n - 1].log.last()?))
        });
        report(self.name, wrong);
    }
}

/// Everything is as it was, but for which etcd cluster it is, which one it took the place of, and by which restore.
fn all_else(shape: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let lasts = |key: &str| !key.ends_with(IDENTITY) && !key.ends_with(ENDED_RESTORES);
    shape.iter().filter(|(key, _)| lasts(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[test]
fn row_47_a_killed_restore_goes_on_and_ends_as_an_undisturbed_one() {
    for (name, cluster) in [("etcd only", etcd_only()), ("ha", ha())] {
        let goal = Goal::of_all(name, &cluster);
        let (wanted, _) = goal.undisturbed();
        assert_eq!(differences(&all_else(&shape(&goal.start)), &all_else(&wanted)), Ok(()), "{name}");
        goal.heals_from_every_kill();
    }
}

#[test]
fn row_47_a_restore_that_failed_on_one_host_goes_on_once_that_is_mended() {
    Goal::of_all("etcd only", &etcd_only()).heals_from_hosts_that_fail(1);
    Goal::of_all("ha", &ha()).heals_from_hosts_that_fail(3);
}

#[test]
fn a_killed_restore_of_what_kubeadm_built_goes_on() {
    let (cluster, mut start) = members::by_kubeadm();
    start.disaster = true;
    let (name, table) = ("by kubeadm", ETCD_MEMBERS);
    Goal { name, cluster: &cluster, start, absent: vec![], table }.heals_from_every_kill();
}

/// The one that is left begins anew alone, as with `etcd recover`.
#[test]
fn a_killed_recovery_of_what_kubeadm_built_goes_on() {
    let (cluster, mut start) = members::by_kubeadm();
    start.disaster = true;
    let (lost, left): (Vec<Node>, Vec<Node>) =
        cluster.nodes.iter().cloned().partition(|n| ["m2", "m3"].contains(&n.name.as_str()));
    lost.iter().for_each(|node| start.machine(&node.name).power_off());
    start.settle();
    let (name, table, absent) = ("survivor", ETCD_MEMBERS, lost.iter().map(absent).collect());
    let survivor = Cluster { nodes: left, ..cluster };
    Goal { name, cluster: &survivor, start, absent, table }.heals_from_every_kill();
}

/// A host that had it may come back beside hosts that never had, as after all were lost.
#[test]
fn the_cluster_of_the_snapshot_is_one_whose_place_was_taken() {
    let cluster = etcd_only();
    let start = harness::in_disaster(&cluster);
    let record = |state: &State, node: &Node| -> Identity {
        serde_json::from_slice(state.machines[&node.name].files.read(IDENTITY).unwrap()).unwrap()
    };
    let world = World::new(start.clone());
    block_on(restore(&world, &cluster)).unwrap();
    for node in &cluster.nodes {
        let before = record(&start, node).etcd_cluster_id;
        let after = record(&world.state(), node);
        assert_eq!(
            (after.replaces, after.restored_from),
            (vec![before], vec![OF.to_owned()]),
            "{}",
            node.name
        );
    }
}

/// Why a member does not come up only its host knows.
#[test]
fn a_member_that_does_not_come_up_is_told_with_its_host() {
    let cluster = etcd_only();
    let told = Arc::new(Mutex::new(vec![]));
    let kept = Arc::clone(&told);
    let events = Events::new(move |event| {
        if let Event::StepFailed(failure) = event {
            kept.lock().unwrap().push(failure);
        }
    });
    let start = harness::in_disaster(&cluster);
    block_on(async {
        let world = World::new(start);
        let (fleet, members) = (world.fleet(&cluster), world.members(&cluster));
        let restore = Restore { limit: Duration::ZERO, ..of_all(&cluster, &fleet, &members, &events) };
        exec::lock::take(&fleet, "a test", exec::lock::Mark::Own, &events).await.unwrap();
        let mut snapshot = tempfile::NamedTempFile::new().unwrap();
        snapshot.write_all(DATA).unwrap();
        let source = Source { snapshot: snapshot.path(), sha256: &sha256(DATA), revision: 48_211 };
        restore.exchange(TOKEN, &source).await.unwrap();
        // Nobody starts them.
        assert!(matches!(restore.finish(TOKEN).await, Err(RestoreError::NoAgreement(_))));
    });
    let told = told.lock().unwrap();
    let first = cluster.with_role(Role::Etcd).next().map(|n| n.name.clone());
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].step.as_str(), &told[0].host), ("start etcd", &first));
}

/// As where a volume of kubeadm's leads elsewhere than to where the data was put: all would be well, and nothing restored.
#[test]
fn a_restore_whose_members_serve_the_data_of_before_is_none() {
    let cluster = etcd_only();
    let start = harness::in_disaster(&cluster);
    block_on(async {
        let world = World::new(start);
        let (fleet, members, events) = (world.fleet(&cluster), world.members(&cluster), Events::none());
        let restore = of_all(&cluster, &fleet, &members, &events);
        exec::lock::take(&fleet, "a test", exec::lock::Mark::Own, &events).await.unwrap();
        let mut snapshot = tempfile::NamedTempFile::new().unwrap();
        snapshot.write_all(DATA).unwrap();
        let source = Source { snapshot: snapshot.path(), sha256: &sha256(DATA), revision: 48_211 };
        restore.exchange(TOKEN, &source).await.unwrap();
        for node in &cluster.nodes {
            let mut inner = world.inner();
            let machine = inner.state.machine(&node.name);
            let data = Data { raised: 48_211, ..machine.etcd_data().unwrap() };
            machine.files.put(Data::PATH, 0o700, &serde_json::to_vec(&data).unwrap());
        }
        restore.unfence_members().await.unwrap();
        let wrong = restore.finish(TOKEN).await.unwrap_err().to_string();
        assert!(wrong.contains("etcd on e1 serves the data of before (revision 48211)"), "{wrong}");
        assert_eq!(
            restore.standing().await.unwrap().under_way.as_deref(),
            Some(TOKEN),
            "it can be rolled back"
        );
    });
}

/// After which effect members that take writes were there again for good: the last that started one.
fn members_are_back(moments: &[State], doing: &str) -> usize {
    let starts = |m: &State| m.log.last().is_some_and(|l| l.ends_with(doing));
    moments.iter().rposition(starts).unwrap()
}

/// A client writes; the command runs again; every member has what was written.
async fn keeps_later_writes(mut state: State, cluster: &Cluster, verb: Verb) -> Result<(), String> {
    state.hang_up();
    state.settle();
    if !state.write("later") {
        return Err("nobody takes writes".into());
    }
    let world = World::new(state);
    command(&world, cluster, verb).await?;
    rests(&world, cluster, UP).await?;
    let state = world.state();
    for node in cluster.with_role(Role::Etcd) {
        let data = state.machines[&node.name].etcd_data();
        if !data.is_some_and(|data| data.written.contains(&"later".to_owned())) {
            return Err(format!("{} lost what was written", node.name));
        }
    }
    Ok(())
}

fn keeps_what_was_written(name: &str, cluster: &Cluster, verb: Verb, start: &State, back: &str) {
    let moments = block_on(async {
        let world = World::new(start.clone());
        world.keep_snapshots();
        command(&world, cluster, verb).await.unwrap_or_else(|why| panic!("{name}: {why}"));
        world.snapshots()
    });
    let first = members_are_back(&moments, back);
    let kills = in_parallel(&moments[first..moments.len() - 1], |moment| {
        let why = block_on(keeps_later_writes(moment.clone(), cluster, verb)).err()?;
        Some(format!("killed after effect {} ({}): {why}", moment.log.len(), moment.log.last()?))
    });
    report(name, kills);
    // One host's connection is lost instead: the others go on, and what they do may be the end.
    let faults: Vec<Fault> = (first + 2..=moments.len())
        .flat_map(|n| [Fault::Lost(n, When::Before), Fault::Lost(n, When::After)])
        .collect();
    let lost = in_parallel(&faults, |fault| {
        let world = World::new(start.clone());
        world.strike_at(*fault);
        let again = async {
            match command(&world, cluster, verb).await {
                // Nobody runs it again, and what is left stands in nobody's way.
                Ok(()) => rests(&world, cluster, UP).await.map(drop),
                Err(_) => keeps_later_writes(world.state(), cluster, verb).await,
            }
        };
        Some(format!("{fault:?}: {}", block_on(again).err()?))
    });
    report(name, lost);
}

#[test]
fn what_is_written_after_a_restore_stays_however_it_ended() {
    for (name, cluster) in [("etcd only", etcd_only()), ("ha", ha())] {
        let start = harness::in_disaster(&cluster);
        keeps_what_was_written(name, &cluster, Verb::Restore, &start, "bring etcd back");
    }
}

#[test]
fn what_is_written_after_a_rollback_stays_however_it_ended() {
    for (name, cluster) in [("etcd only", etcd_only()), ("ha", ha())] {
        let world = World::new(harness::in_disaster(&cluster));
        world.keep_snapshots();
        block_on(restore(&world, &cluster)).unwrap_or_else(|why| panic!("{name}: {why}"));
        let placed = |m: &&State| m.log.last().is_some_and(|l| l.ends_with("place the restored data"));
        let mut start = world.snapshots().iter().rfind(placed).cloned().unwrap();
        start.hang_up();
        keeps_what_was_written(name, &cluster, Verb::RollBack, &start, "bring etcd back");
    }
}

#[test]
fn a_restore_that_would_fill_a_disk_changes_nothing_on_any_host() {
    let cluster = etcd_only();
    let mut start = harness::in_disaster(&cluster);
    start.machine(&cluster.nodes[1].name).free = 300 << 20;
    let world = World::new(start);
    let refused = block_on(restore(&world, &cluster)).unwrap_err();
    assert!(refused.starts_with("e2: no room in /var/lib/rsadm: 300 MiB free, and "), "{refused}");
    assert_eq!(world.effects(), 0, "{:?}", world.state().log.last());
}

/// The third host is switched off once all three did that, and `knows` of the restore what was noted on it alone; the others end what
/// was begun without it and are written to, and then it comes back.
fn comes_back_after(all: &Cluster, done: &str, knows: &[(&str, &str)], end: Verb) -> (Node, State) {
    let mut two = all.clone();
    let left = two.nodes.pop().unwrap();
    let world = World::new(harness::in_disaster(all));
    world.keep_snapshots();
    block_on(restore(&world, all)).unwrap();
    let did = |m: &&State| m.log.iter().filter(|l| l.ends_with(done)).count() == 3;
    let mut state = world.snapshots().iter().find(did).cloned().unwrap();
    state.hang_up();
    knows.iter().for_each(|(path, text)| state.machine(&left.name).files.put(path, 0o600, text.as_bytes()));
    state.machine(&left.name).power_off();
    let world = World::new(state);
    block_on(command(&world, &two, end)).unwrap();
    let mut state = world.state();
    state.hang_up();
    state.settle();
    assert!(state.write("later"));
    let now = state.clock;
    state.machine(&left.name).power_on(now);
    state.settle();
    (left, state)
}

/// What the next command comes to, undisturbed and killed after each of its effects and run again.
fn tidied_up(all: &Cluster, start: State) -> Vec<State> {
    let world = World::new(start);
    world.keep_snapshots();
    block_on(restore(&world, all)).unwrap();
    let mut ends = vec![world.state()];
    let is_left = |state: &State| {
        state.machines.values().any(|machine| machine.files.below("/var/lib/rsadm/restore").count() > 0)
    };
    for mut state in world.snapshots().into_iter().filter(is_left) {
        state.hang_up();
        let world = World::new(state);
        block_on(restore(&world, all)).unwrap();
        ends.push(world.state());
    }
    assert!(ends.len() > 2, "nothing was tidied up");
    ends.iter_mut().for_each(State::settle);
    ends
}

/// It was switched off when the others went on without it, and has the token still.
#[test]
fn a_host_that_missed_the_end_of_a_restore_begins_nothing() {
    let all = etcd_only();
    let (left, start) = comes_back_after(&all, "take etcd away", &[], Verb::Restore);
    for state in tidied_up(&all, start) {
        for node in all.nodes.iter().filter(|n| n.name != left.name) {
            let data = state.machines[&node.name].etcd_data().unwrap();
            assert_eq!(data.written, ["later"], "{}", node.name);
        }
        let left = &state.machines[&left.name];
        assert!(left.process("etcd").is_none(), "old data serves: {:?}", state.log);
        assert_eq!(left.files.below("/var/lib/rsadm/restore").count(), 0, "something of the restore is left");
    }
}

/// What was restored there would be a cluster beside that of the others; also where it was over by all that the host knew.
#[test]
fn a_host_that_missed_a_rollback_has_its_old_data_again() {
    let all = etcd_only();
    let over = [("/var/lib/rsadm/restore/over", ""), (ENDED_RESTORES, TOKEN)];
    for knows in [&[][..], &over] {
        let (left, start) = comes_back_after(&all, "place the restored data", knows, Verb::RollBack);
        for state in tidied_up(&all, start) {
            let clusters: BTreeSet<u64> =
                state.machines.values().map(|machine| machine.etcd_data().unwrap().cluster).collect();
            assert_eq!(clusters.len(), 1, "{:?}", state.log);
            assert!(state.machines[&left.name].process("etcd").is_some(), "{:?}", state.log);
        }
    }
}

fn absent(node: &Node) -> Absent {
    Absent { name: node.name.to_string(), client_url: node.client_url() }
}

#[test]
fn a_member_that_runs_on_a_host_nobody_can_log_in_to_is_found() {
    let cluster = etcd_only();
    let mut state = harness::in_disaster(&cluster);
    state.machine(&cluster.nodes[2].name).power_off();
    state.settle();
    let world = World::new(state);
    let absent: Vec<Absent> = cluster.nodes[1..].iter().map(absent).collect();
    let running = block_on(async { who_runs(&world.members(&cluster), &absent).await });
    assert_eq!(running, [Running { name: cluster.nodes[1].name.to_string(), unknown: None }]);
}

/// Switched on while the survivor is fenced, they are a quorum of the old cluster, and what they take is not lost.
#[test]
fn members_that_come_back_meanwhile_are_not_restored_beside() {
    let cluster = etcd_only();
    let mut survivor = cluster.clone();
    survivor.nodes.truncate(1);
    let mut start = harness::in_disaster(&cluster);
    let others: Vec<&Node> = cluster.nodes[1..].iter().collect();
    others.iter().for_each(|n| start.machine(&n.name).power_off());
    start.disaster = true;
    start.settle();
    let world = World::new(start);
    world.keep_snapshots();
    let absent: Vec<Absent> = others.iter().map(|n| absent(n)).collect();
    let dead = block_on(beside(&world, &survivor, absent.clone(), Verb::Restore));
    assert_eq!(dead, Ok(()), "who is off stands in nobody's way");
    let ends = |m: &&State, words: &str| m.log.last().is_some_and(|l| l.ends_with(words));
    let moments = world.snapshots();
    let mut moment = moments.iter().find(|m| ends(m, "take etcd away")).unwrap().clone();
    moment.hang_up();
    let now = moment.clock;
    others.iter().for_each(|n| moment.machine(&n.name).power_on(now));
    moment.settle();
    assert!(moment.write("later"), "they are a quorum");
    let world = World::new(moment);
    let refused = block_on(beside(&world, &survivor, absent.clone(), Verb::Restore)).unwrap_err();
    assert!(refused.starts_with("etcd runs again on e2, e3"), "{refused}");
    let place = |state: &State, path: &str| state.machines[&survivor.nodes[0].name].files.has(path);
    assert!(!place(&world.state(), "/var/lib/rsadm/restore/placed"));
    block_on(beside(&world, &survivor, absent, Verb::RollBack)).unwrap();
    let mut state = world.state();
    state.settle();
    let data = |node: &Node| state.machines[&node.name].etcd_data().unwrap();
    assert_eq!(data(&cluster.nodes[0]).cluster, data(others[0]).cluster);
    assert_eq!(data(others[0]).written, ["later"]);
    assert!(state.machines[&survivor.nodes[0].name].process("etcd").is_some());
}
