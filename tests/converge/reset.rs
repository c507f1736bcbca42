//! `reset` leaves nothing, wherever it was killed, and goes on past hosts that it does not reach or cannot wipe.

use std::{collections::BTreeMap, sync::Arc};

use rsadm::{
    event::Events,
    exec::{self, Context, RunError},
    fake::{Fault, State, When, World, shape},
    inventory::{Cluster, NodeName},
    observe::gather_what_answers,
    phases::{self, RESET},
};
use time::OffsetDateTime;
use tokio::time::{Duration, Instant};

use crate::{
    faults,
    harness::{self, block_on, etcd_only, ha, run, single},
};

/// What is there of ours on hosts whose names begin so.
fn left(shape: &BTreeMap<String, String>, host: &str) -> Vec<String> {
    let kinds = [" file ", " link ", " unit ", " process ", " image "];
    let is_ours = |key: &&String| key.starts_with(host) && kinds.iter().any(|kind| key.contains(kind));
    shape.keys().filter(is_ours).cloned().collect()
}

#[test]
fn reset_leaves_nothing_wherever_it_was_killed() {
    for (name, cluster) in [("single", single()), ("etcd-only", etcd_only())] {
        let undisturbed = faults::undisturbed(&cluster, harness::in_disaster(&cluster), RESET);
        let left = left(&undisturbed.shape, "");
        assert!(left.is_empty(), "{name}: left behind: {left:#?}");
        faults::heals_from_every_kill(name, &cluster, &undisturbed, RESET);
    }
}

#[test]
fn a_host_that_cannot_be_wiped_keeps_nobody_elses_from_it() {
    let cluster = etcd_only();
    let undisturbed = faults::undisturbed(&cluster, harness::in_disaster(&cluster), RESET);
    let second = |m: &State| m.log.last().is_some_and(|l| l == "e2: wipe: kill containers");
    let effect = undisturbed.moments.iter().position(second).unwrap() + 1;
    let world = World::new(undisturbed.start.clone());
    world.strike_at(Fault::Lost(effect, When::Before));
    let result = block_on(run(&world, &cluster, RESET)).unwrap().result;
    let Err(RunError::Failed(failures)) = result else { panic!("not noticed") };
    let hosts: Vec<_> = failures.iter().filter_map(|f| f.host.as_ref()).map(NodeName::as_str).collect();
    assert_eq!(hosts, ["e2"], "{failures:?}");
    let now = shape(&world.state());
    for (host, is_bare) in [("e1", true), ("e2", false), ("e3", true)] {
        assert_eq!(left(&now, host).is_empty(), is_bare, "{host}: {:#?}", left(&now, host));
    }
    let again = World::new(world.state());
    assert_eq!(faults::heals(&cluster, again, &undisturbed, RESET), Ok(()));
}

/// As the text says that names a node which is in the inventory no more.
#[test]
fn a_worker_alone_is_taken_down() {
    let cluster = ha();
    let mut part = cluster.clone();
    part.nodes.retain(|n| n.name.as_str() == "w1");
    let mut state = harness::in_disaster(&cluster);
    state.hang_up();
    let world = World::new(state);
    block_on(run(&world, &part, RESET)).unwrap().result.unwrap();
    let now = shape(&world.state());
    for (host, is_bare) in [("w1", true), ("w2", false)] {
        assert_eq!(left(&now, host).is_empty(), is_bare, "{host}: {:#?}", left(&now, host));
    }
}

/// What the command does where a host cannot be connected to.
async fn without_those_that_are_away(world: &Arc<World>, cluster: &Cluster, there: &Cluster) {
    let fleet = world.fleet(there);
    let (members, events) = (world.members(cluster), Events::none());
    exec::lock::take(&fleet, "a test", exec::lock::Mark::None, &events).await.unwrap();
    let due = Instant::now() + Duration::from_secs(30);
    let (seen, lost) = gather_what_answers(cluster, &fleet, due).await;
    assert!(lost.is_empty(), "{lost:?}");
    let now = OffsetDateTime::now_utc();
    let (plan, _) = phases::plan(RESET, cluster, seen.clone(), now, |_| true).unwrap();
    let cx = Context::new(cluster, &fleet, &members, &events, seen, now, &|| false);
    exec::execute(&cx, &plan).await.unwrap();
}

#[test]
fn a_host_that_is_away_keeps_what_it_has_and_is_wiped_once_it_is_there() {
    let cluster = etcd_only();
    let undisturbed = faults::undisturbed(&cluster, harness::in_disaster(&cluster), RESET);
    let mut there = cluster.clone();
    let away = there.nodes.pop().unwrap().name;
    let world = World::new(undisturbed.start.clone());
    world.inner().state.machine(&away).power_off();
    block_on(without_those_that_are_away(&world, &cluster, &there));
    let mut state = world.state();
    let now = shape(&state);
    for (host, is_bare) in [("e1", true), ("e2", true), ("e3", false)] {
        assert_eq!(left(&now, host).is_empty(), is_bare, "{host}: {:#?}", left(&now, host));
    }
    assert!(state.machine(&away).etcd_data().is_some());
    let clock = state.clock;
    state.machine(&away).power_on(clock);
    state.hang_up();
    state.settle();
    let again = World::new(state);
    assert_eq!(faults::heals(&cluster, again, &undisturbed, RESET), Ok(()));
}
