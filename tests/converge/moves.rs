//! etcd that goes to other hosts altogether: what a refusal names leads there, and API servers go along.

use rsadm::{
    fake::{State, World},
    inventory::{Cluster, Node, NodeName, Role},
    phases::{Table, UP},
};

use crate::{
    faults::{rests, undisturbed},
    harness::{self, block_on, built, in_sync, node_mut, run, succeed},
    members::{self, Asked, with_e4},
};

/// As the advice has it, to a host of etcd alone and to another control plane.
#[test]
fn the_only_member_moves_by_the_advice() {
    for roles in [vec![], vec![Role::ControlPlane]] {
        let is_node = !roles.is_empty();
        let with = |role| roles.iter().copied().chain([role]).collect::<Vec<Role>>();
        let before = harness::single();
        let (mut wanted, mut state) = with_e4(before.clone(), block_on(built(&before)).state());
        state.hang_up();
        node_mut(&mut wanted, "e4").roles = with(Role::Etcd);
        node_mut(&mut wanted, "m1").roles = vec![Role::ControlPlane, Role::Worker];
        let mut both = wanted.clone();
        node_mut(&mut both, "m1").roles.push(Role::Etcd);
        let world = World::new(state);
        let way = match is_node {
            true => {
                "take the role off e4, and rsadm up makes it a node; then rsadm etcd replace m1 e4, after which"
            }
            false => "rsadm etcd replace m1 e4, after which e4 alone has the role",
        };
        let advice = [
            (&wanted, format!("give m1 the role etcd again; {way}")),
            (&both, format!("where the member shall move to e4: {way}")),
        ];
        for (inventory, help) in advice {
            let refused = block_on(run(&world, inventory, UP)).err().unwrap();
            assert!(refused.contains(&help), "{refused}");
            world.inner().state.hang_up();
        }
        assert_eq!(world.effects(), 0);
        if is_node {
            let mut first = both.clone();
            node_mut(&mut first, "e4").roles = roles;
            block_on(succeed(&world, &first, UP));
            world.inner().state.hang_up();
        }
        block_on(members::run(&world, &both, Asked(&["e4"], &["m1"]))).unwrap();
        world.inner().state.hang_up();
        // Settings of what is another cluster now, such as a second control plane's, may differ.
        block_on(succeed(&world, &wanted, UP));
        world.inner().state.hang_up();
        block_on(in_sync(&world, &wanted, UP));
        let state = world.state();
        let names: Vec<&str> = state.etcd.members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!((names, state.violations), (vec!["e4"], vec![]));
    }
}

/// With the advice for the only one, the next `up` would take the others out.
#[test]
fn one_of_three_is_not_moved_as_the_only_member() {
    let before = harness::etcd_only();
    let (mut wanted, mut state) = with_e4(before.clone(), block_on(built(&before)).state());
    state.hang_up();
    wanted.nodes.retain(|n| ["e1", "e4"].contains(&n.name.as_str()));
    let refused = block_on(run(&World::new(state), &wanted, UP)).err().unwrap();
    assert!(refused.contains("etcd gets no two members"), "{refused}");
    assert!(refused.contains("its successor's line instead of its own"), "{refused}");
    assert!(!refused.contains("rsadm etcd replace"), "{refused}");
}

/// Three members more, which no API server knows yet, since the run died before their turn; and an inventory without the first
/// three, from then on.
fn half_way() -> (Cluster, State) {
    let before = harness::external_etcd();
    let mut more = before.clone();
    for (name, address) in [("e4", 34), ("e5", 35), ("e6", 36)] {
        let mut member = before.with_role(Role::Etcd).next().unwrap().clone();
        (member.name, member.internal_address) = (NodeName::new(name), [10, 77, 0, address].into());
        member.address = member.internal_address.to_string();
        more.nodes.push(member);
    }
    let mut state = harness::standing(&before);
    state.meet(&more);
    let grown = undisturbed(&more, state, UP);
    let voters = |s: &&State| s.etcd.members.iter().filter(|m| m.started && !m.learner).count() == 6;
    let mut state = grown.moments.iter().find(voters).cloned().unwrap();
    state.hang_up();
    let mut fewer = more;
    fewer.nodes.retain(|n| !["e1", "e2", "e3"].contains(&n.name.as_str()));
    (fewer, state)
}

#[test]
fn no_api_server_is_left_with_former_members_alone() {
    let (fewer, state) = half_way();
    let place = UP.phases.iter().position(|phase| phase.name == "etcd").unwrap();
    for goal in [UP, &Table { phases: &UP.phases[place..=place], ..*UP }] {
        let world = World::new(state.clone());
        let (plan, seen) = block_on(async {
            let run = succeed(&world, &fewer, goal).await;
            rests(&world, &fewer, goal).await.unwrap();
            (run.plan, harness::observe(&world, &fewer).await)
        });
        let words = harness::words(&plan);
        let [server, leaves] = ["kube-apiserver.yaml", "remove e1 from etcd"]
            .map(|what| words.lines().position(|l| l.contains(what)));
        assert!(server.is_some() && server < leaves, "{words}");
        let members: Vec<String> = fewer.with_role(Role::Etcd).map(Node::client_url).collect();
        for control_plane in fewer.with_role(Role::ControlPlane) {
            let processes = &seen.hosts[&control_plane.name].processes;
            let server = processes.iter().find(|s| s.name == "kube-apiserver").unwrap();
            assert_eq!(server.etcd_servers, members, "{}", control_plane.name);
        }
    }
}
