//! A foundation of etcd that never came to its end: members that never started, and inventories that have others since.

use rsadm::{
    fake::{State, World},
    inventory::{Cluster, NodeName},
    phases::UP,
};

use crate::{
    faults::{self, Undisturbed},
    harness::{self, block_on, run, succeed},
    members::{self, Asked, with_e4},
};

const HOSTS: [&str; 3] = ["e1", "e2", "e3"];

/// How many of the three members have data.
fn with_data(state: &State) -> usize {
    state.machines.values().filter(|m| m.etcd_data().is_some()).count()
}

/// What a run left that died before any member ran, when only the first `started` of them ever came up: the other hosts
/// are switched off.
fn begun(undisturbed: &Undisturbed, started: usize) -> State {
    let mut state = undisturbed.moments.iter().rfind(|m| with_data(m) == 0).cloned().unwrap();
    state.hang_up();
    for host in &HOSTS[started..] {
        state.machine(&NodeName::new(*host)).power_off();
    }
    state.settle();
    assert_eq!((with_data(&state), state.has_quorum()), (started, started > 1), "not as it should begin");
    state
}

/// The hosts that were off are there again: as they were, or bare.
fn come_back(state: &mut State, cluster: &Cluster, started: usize, bare: bool) {
    let now = state.clock;
    for host in HOSTS[started..].iter().map(|host| NodeName::new(*host)) {
        match bare {
            true => drop(state.machines.remove(&host)),
            false => state.machine(&host).power_on(now),
        }
    }
    state.meet(cluster);
}

#[test]
fn row_32_a_foundation_of_which_some_members_never_started_comes_to_its_end() {
    let cluster = harness::etcd_only();
    let undisturbed = faults::undisturbed(&cluster, State::new(&cluster), UP);
    for (started, bare) in [(1, false), (1, true), (2, false), (2, true)] {
        let mut state = begun(&undisturbed, started);
        come_back(&mut state, &cluster, started, bare);
        let healed = faults::heals(&cluster, World::new(state), &undisturbed, UP);
        assert_eq!(healed, Ok(()), "{started} of 3 started, others bare: {bare}");
    }
}

/// Two founders are a quorum: the cluster is there, and its third member leaves it as any other does.
#[test]
fn a_founder_that_never_came_up_gives_its_place_to_another_host() {
    let cluster = harness::etcd_only();
    let founding = faults::undisturbed(&cluster, State::new(&cluster), UP);
    let (all, state) = with_e4(cluster, begun(&founding, 2));
    let mut swapped = all;
    swapped.nodes.retain(|n| n.name.as_str() != "e3");
    let undisturbed = faults::undisturbed(&swapped, state, UP);
    let state = undisturbed.moments.last().unwrap();
    let names: Vec<&str> = state.etcd.members.iter().map(|m| m.name.as_str()).collect();
    assert!(names.len() == 3 && ["e1", "e2", "e4"].iter().all(|n| names.contains(n)), "{names:?}");
    assert_eq!(state.etcd.founded, 1);
    faults::heals_from_every_kill("e4 instead of e3", &swapped, &undisturbed, UP);
}

/// One of three serves nothing, so nobody can be taken out: what the refusal names leads on.
#[test]
fn founders_that_do_not_serve_are_not_made_members_of_another_cluster() {
    let cluster = harness::etcd_only();
    let founding = faults::undisturbed(&cluster, State::new(&cluster), UP);
    let (all, mut state) = with_e4(cluster.clone(), begun(&founding, 1));
    come_back(&mut state, &all, 1, true);
    let mut swapped = all.clone();
    swapped.nodes.retain(|n| n.name.as_str() != "e3");
    let mut fewer = cluster.clone();
    fewer.nodes.pop();
    let world = World::new(state);
    for (inventory, why, help) in [
        (
            &swapped,
            "e1 has the data of a foundation with e3 at https://10.77.0.33:2380, without e4",
            "put e3 at https://10.77.0.33:2380 back into and take e4 out of the inventory, `rsadm up`, and then \
             `rsadm etcd replace e3 e4`",
        ),
        (
            &fewer,
            "with e3 at",
            "put e3 at https://10.77.0.33:2380 back into the inventory, `rsadm up`, and then `rsadm up`",
        ),
        (&all, "without e4", "take e4 out of the inventory"),
    ] {
        let refused = block_on(run(&world, inventory, UP)).err().unwrap();
        assert!(refused.contains(why) && refused.contains(help), "{refused}");
        assert_eq!(world.effects(), 0);
        world.inner().state.hang_up();
    }
    block_on(succeed(&world, &cluster, UP));
    world.inner().state.hang_up();
    block_on(members::run(&world, &all, Asked(&["e4"], &["e3"]))).unwrap();
    world.inner().state.hang_up();
    block_on(harness::in_sync(&world, &swapped, UP));
    assert_eq!(world.state().violations, Vec::<String>::new());
}
