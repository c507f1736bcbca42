//! Runs that die, and the runs that come after them.

use std::{collections::BTreeMap, sync::Arc};

use rsadm::{
    exec::RunError,
    fake::{Fault, State, When, World, shape},
    inventory::Cluster,
    phases::Table,
};

use crate::harness::{Run, block_on, plan, run, try_to, words};

/// An undisturbed run, to compare others with.
pub(crate) struct Undisturbed {
    pub(crate) start: State,
    pub(crate) shape: BTreeMap<String, String>,
    /// The world after each effect.
    pub(crate) moments: Vec<State>,
}

/// Runs a goal without a fault, and keeps every moment of it.
pub(crate) fn undisturbed(cluster: &Cluster, start: State, goal: &Table) -> Undisturbed {
    block_on(async {
        let world = World::new(start.clone());
        world.keep_snapshots();
        try_to(&world, cluster, goal).await.unwrap_or_else(|why| panic!("undisturbed: {why}"));
        let moments = world.snapshots();
        let shape = rests(&world, cluster, goal).await.unwrap_or_else(|why| panic!("undisturbed: {why}"));
        Undisturbed { start, shape, moments }
    })
}

/// What it came to once nothing moves any more; an error where more is planned, or something happened that must not.
pub(crate) async fn rests(
    world: &Arc<World>,
    cluster: &Cluster,
    goal: &Table,
) -> Result<BTreeMap<String, String>, String> {
    world.inner().state.settle();
    let left = plan(world, cluster, goal).await;
    if !left.is_empty() {
        return Err(format!("planned again:\n{}", words(&left)));
    }
    let state = world.state();
    match state.violations.first() {
        Some(violation) => Err(violation.clone()),
        None => Ok(shape(&state)),
    }
}

/// Kills the run after every effect (and so before every next one), and runs it again.
pub(crate) fn heals_from_every_kill(name: &str, cluster: &Cluster, undisturbed: &Undisturbed, goal: &Table) {
    let moments = &undisturbed.moments[..undisturbed.moments.len().saturating_sub(1)];
    report(
        name,
        in_parallel(moments, |moment| {
            let mut state = moment.clone();
            state.hang_up();
            let why = heals(cluster, World::new(state), undisturbed, goal).err()?;
            Some(format!("killed after effect {} ({}): {why}", moment.log.len(), moment.log.last()?))
        }),
    );
}

/// What is wrong with each, on all processors.
pub(crate) fn in_parallel<T: Sync>(all: &[T], wrong: impl Fn(&T) -> Option<String> + Sync) -> Vec<String> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let wrong = &wrong;
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|n| {
                scope.spawn(move || all.iter().skip(n).step_by(threads).filter_map(wrong).collect::<Vec<_>>())
            })
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}

/// Breaks one connection before every effect (of every `step`) for good, and after it for a moment; lets the others finish, and
/// looks and runs again.
pub(crate) fn heals_from_lost_connections(
    name: &str,
    cluster: &Cluster,
    undisturbed: &Undisturbed,
    goal: &Table,
    step: usize,
) {
    let effects = undisturbed.moments.len();
    let faults =
        (1..=effects).step_by(step).flat_map(|n| [Fault::Lost(n, When::Before), Fault::Cut(n, When::After)]);
    let wrong = faults.filter_map(|fault| {
        let world = World::new(undisturbed.start.clone());
        world.strike_at(fault);
        let first = block_on(run(&world, cluster, goal));
        let why = match first {
            Err(why) => why,
            Ok(first) if first.result.is_ok() => "the lost connection was not noticed".to_owned(),
            Ok(Run { result: Err(RunError::Failed(failures)), .. }) if matches!(fault, Fault::Cut(..)) => {
                format!("it came back, and the run failed: {failures:?}")
            }
            Ok(_) => heals(cluster, World::new(world.state()), undisturbed, goal).err()?,
        };
        Some(format!("{fault:?}: {why}"))
    });
    report(name, wrong.collect());
}

/// Loses the answer to each call that changes etcd's membership; the same run has to come to its end. How many there were.
pub(crate) fn goes_on_without_an_answer(
    name: &str,
    cluster: &Cluster,
    undisturbed: &Undisturbed,
    goal: &Table,
) -> usize {
    let calls = ["add learner", "promote", "remove", "move the leader"].map(|call| format!(": {call} "));
    let asked = |moment: &State| moment.log.last().is_some_and(|l| calls.iter().any(|call| l.contains(call)));
    let numbers: Vec<usize> =
        (1..).zip(&undisturbed.moments).filter(|(_, m)| asked(m)).map(|(n, _)| n).collect();
    let wrong = numbers.iter().filter_map(|n| {
        let world = World::new(undisturbed.start.clone());
        world.strike_at(Fault::Lost(*n, When::After));
        let why = heals(cluster, world, undisturbed, goal).err()?;
        Some(format!("no answer to effect {n}: {why}"))
    });
    report(name, wrong.collect());
    numbers.len()
}

/// Runs to the end, and compares.
pub(crate) fn heals(
    cluster: &Cluster,
    world: Arc<World>,
    undisturbed: &Undisturbed,
    goal: &Table,
) -> Result<(), String> {
    block_on(async {
        try_to(&world, cluster, goal).await?;
        let shape = rests(&world, cluster, goal).await?;
        differences(&undisturbed.shape, &shape)
    })
}

pub(crate) fn differences(
    wanted: &BTreeMap<String, String>,
    found: &BTreeMap<String, String>,
) -> Result<(), String> {
    let keys: std::collections::BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
    let short = |text: Option<&String>| text.map(|t| t.chars().take(300).collect::<String>());
    let lines: Vec<String> = keys
        .into_iter()
        .filter(|k| wanted.get(*k) != found.get(*k))
        .map(|k| format!("{k}: undisturbed {:?}, now {:?}", short(wanted.get(k)), short(found.get(k))))
        .collect();
    if lines.is_empty() { Ok(()) } else { Err(format!("ends otherwise:\n  {}", lines.join("\n  "))) }
}

pub(crate) fn report(name: &str, wrong: Vec<String>) {
    let first: Vec<&str> = wrong.iter().take(6).map(String::as_str).collect();
    assert!(wrong.is_empty(), "{name}: {} do not heal:\n{}", wrong.len(), first.join("\n\n"));
}
