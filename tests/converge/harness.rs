//! Runs goals on worlds as the command line does: lock, look, plan, execute.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use rsadm::{
    event::{Event, Events},
    exec::{self, Context, RunError, members::Members},
    fake::{State, World},
    inventory::{self, Cluster, LoadBalancer, NetworkPlugin, Node},
    observe::{Observed, gather},
    phases::{self, Aim, Table},
    plan::{Action, Plan, Refusal},
};
use time::OffsetDateTime;

/// What a run came to.
pub(crate) struct Run {
    pub(crate) plan: Plan,
    pub(crate) predicted: Observed,
    pub(crate) events: Vec<Event>,
    pub(crate) result: Result<(), RunError>,
}

/// An inventory of this repository.
pub(crate) fn load(path: &str) -> Cluster {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = std::fs::read_to_string(&file).unwrap();
    inventory::load(&text, path, Some(Path::new("/home/operator")))
        .unwrap_or_else(|e| panic!("{path}: {e:?}"))
        .cluster
}

/// Three control planes with etcd, two workers.
pub(crate) fn ha() -> Cluster {
    load("inventories/lab.yaml")
}

/// One host that does everything.
pub(crate) fn single() -> Cluster {
    load("tests/lab/inventories/lab-single.yaml")
}

/// Three etcd hosts, two control planes, one worker.
pub(crate) fn external_etcd() -> Cluster {
    load("tests/lab/inventories/lab-external-etcd.yaml")
}

/// Three etcd hosts and no Kubernetes.
pub(crate) fn etcd_only() -> Cluster {
    let mut cluster = load("tests/lab/inventories/lab-etcd-only.yaml");
    cluster.nodes.truncate(3);
    cluster
}

/// Manifests of the operator's for the pods' network.
pub(crate) fn with_manifests() -> Cluster {
    let mut cluster = single();
    cluster.network.plugin = NetworkPlugin::Manifests(vec!["net.yaml".into()]);
    cluster.network_manifests = vec![("network-0".into(), "kind: Namespace\n".into())];
    cluster
}

/// No network for pods.
pub(crate) fn without_plugin() -> Cluster {
    let mut cluster = single();
    cluster.network.plugin = NetworkPlugin::None;
    cluster
}

/// Somebody else's load balancer.
pub(crate) fn external_balancer() -> Cluster {
    let mut cluster = external_etcd();
    cluster.load_balancer = LoadBalancer::External;
    cluster.api.host = "api.example.org".into();
    cluster
}

/// One of each kind.
pub(crate) fn topologies() -> [(&'static str, Cluster); 7] {
    [
        ("ha", ha()),
        ("single", single()),
        ("external-etcd", external_etcd()),
        ("etcd-only", etcd_only()),
        ("manifests", with_manifests()),
        ("no plugin", without_plugin()),
        ("external balancer", external_balancer()),
    ]
}

/// A clock that waits for nobody: whatever sleeps wakes as soon as nothing else can be done.
pub(crate) fn block_on<T>(run: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(run)
}

/// What is there.
pub(crate) async fn observe(world: &Arc<World>, cluster: &Cluster) -> Observed {
    let mut seen = gather(cluster, &world.fleet(cluster)).await.unwrap_or_else(|e| panic!("{e:?}"));
    exec::lookup::look_up(cluster, &world.members(cluster), &mut seen, None).await;
    seen
}

/// As the command does: an upgrade asks etcd itself who is a member.
async fn asked(table: &Table, members: &dyn Members, seen: &mut Observed) {
    if table.aim == Aim::Upgrade {
        let report = exec::ask::report(members).await;
        seen.membership = exec::lookup::membership(&report);
    }
}

/// Plans, without doing anything.
pub(crate) async fn plan(world: &Arc<World>, cluster: &Cluster, table: &Table) -> Plan {
    let mut seen = observe(world, cluster).await;
    asked(table, &world.members(cluster), &mut seen).await;
    let (plan, _) = phases::plan(table, cluster, seen, OffsetDateTime::now_utc(), |_| true)
        .unwrap_or_else(|r| panic!("{r}; {}", r.help));
    only_a_reset_wipes(table, &plan);
    plan
}

/// A host's data goes with such a step, which the world takes for what is wanted.
fn only_a_reset_wipes(table: &Table, plan: &Plan) {
    let wipes = plan.steps().any(|(_, step)| matches!(step.action, Action::Wipe { .. }));
    assert!(!wipes || table.aim == Aim::TakeDown, "{:?} wipes:\n{}", table.aim, words(plan));
}

/// One run of a command; what forbade it where it did not begin.
pub(crate) async fn run(world: &Arc<World>, cluster: &Cluster, table: &Table) -> Result<Run, String> {
    run_through(world, cluster, table, &world.members(cluster), None).await
}

/// The same, with other ways to the members than the world's own, and another limit of patience.
pub(crate) async fn run_through(
    world: &Arc<World>,
    cluster: &Cluster,
    table: &Table,
    members: &dyn Members,
    limit: Option<Duration>,
) -> Result<Run, String> {
    let fleet = world.fleet(cluster);
    let refused = |r: Refusal| format!("{r}; {}", r.help);
    exec::lock::take(&fleet, "a test", exec::lock::Mark::Own, &rsadm::event::Events::none())
        .await
        .map_err(refused)?;
    let mut seen = gather(cluster, &fleet).await.map_err(|e| format!("{e:?}"))?;
    let now = OffsetDateTime::now_utc();
    exec::lookup::look_up(cluster, members, &mut seen, None).await;
    asked(table, members, &mut seen).await;
    let (plan, predicted) = phases::plan(table, cluster, seen.clone(), now, |_| true).map_err(refused)?;
    only_a_reset_wipes(table, &plan);
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = told.clone();
    let events = Events::new(move |event| sink.lock().unwrap().push(event));
    let mut cx = Context::new(cluster, &fleet, members, &events, seen, now, &|| false);
    cx.limit = limit.unwrap_or(cx.limit);
    let result = exec::execute(&cx, &plan).await;
    let events = told.lock().unwrap().clone();
    if result.is_ok() {
        assert_eq!(steps_done(&events), steps_planned(&plan), "a step was not told of, or twice");
    }
    Ok(Run { plan, predicted, events, result })
}

/// The steps that were told to have ended well: where, what, and whether that changed something.
fn steps_done(events: &[Event]) -> Vec<(String, String, bool)> {
    let done = |event: &Event| match event {
        Event::StepDone { host, text, changed, .. } => Some((host.to_string(), text.clone(), *changed)),
        _ => None,
    };
    sorted(events.iter().filter_map(done))
}

/// The steps of a plan.
fn steps_planned(plan: &Plan) -> Vec<(String, String, bool)> {
    sorted(
        plan.steps().map(|(host, step)| (host.to_string(), step.action.to_string(), step.action.is_change())),
    )
}

fn sorted<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.collect();
    all.sort();
    all
}

/// The same, and it has to go well.
pub(crate) async fn try_to(world: &Arc<World>, cluster: &Cluster, table: &Table) -> Result<Run, String> {
    let run = run(world, cluster, table).await?;
    let why = match &run.result {
        Ok(()) => return Ok(run),
        Err(RunError::Refused(refusal)) => format!("{refusal}; {}", refusal.help),
        Err(RunError::Stopped(left)) => format!("stopped; {left}"),
        Err(RunError::Failed(failures) | RunError::Lost(failures)) => {
            let words = failures.iter().map(|f| {
                let host = f.host.as_ref().map(ToString::to_string).unwrap_or_default();
                format!("{host}: {}: {}", f.step, f.cause.clone().unwrap_or_default())
            });
            words.collect::<Vec<_>>().join("; ")
        }
    };
    let log = world.state().log;
    Err(format!("{why}\nafter: {}", log[log.len().saturating_sub(4)..].join("; ")))
}

/// The same, or the test ends.
pub(crate) async fn succeed(world: &Arc<World>, cluster: &Cluster, table: &Table) -> Run {
    try_to(world, cluster, table).await.unwrap_or_else(|why| panic!("{why}"))
}

/// What a plan holds, for a failed assertion.
pub(crate) fn words(plan: &Plan) -> String {
    plan.steps().map(|(host, step)| format!("{host}: {} ({})\n", step.action, step.why)).collect()
}

/// Nothing is planned.
pub(crate) async fn in_sync(world: &Arc<World>, cluster: &Cluster, table: &Table) {
    let plan = plan(world, cluster, table).await;
    assert!(plan.is_empty(), "planned again:\n{}", words(&plan));
}

/// A world after an undisturbed `up`.
pub(crate) async fn built(cluster: &Cluster) -> Arc<World> {
    let world = World::new(State::new(cluster));
    succeed(&world, cluster, phases::UP).await;
    world
}

/// What that leaves, as the next run finds it.
pub(crate) fn standing(cluster: &Cluster) -> State {
    let mut state = block_on(built(cluster)).state();
    state.hang_up();
    state
}

/// The same where more goes wrong than a run is to answer for: members stop all at once, as for a reset and a restore.
pub(crate) fn in_disaster(cluster: &Cluster) -> State {
    let mut state = standing(cluster);
    state.disaster = true;
    state
}

/// The host of that name.
pub(crate) fn node_mut<'c>(cluster: &'c mut Cluster, name: &str) -> &'c mut Node {
    cluster.nodes.iter_mut().find(|n| n.name.as_str() == name).unwrap()
}
