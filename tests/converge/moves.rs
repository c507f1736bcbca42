//! etcd that goes to other hosts altogether, and API servers with it.

use rsadm::{
    fake::{State, World},
    inventory::{Cluster, Node, NodeName, Role},
    phases::UP,
};

use crate::{
    faults::{rests, undisturbed},
    harness::{self, block_on, built, succeed},
};

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
    let mut state = block_on(built(&before)).state();
    state.hang_up();
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
    let place = UP.iter().position(|phase| phase.name == "etcd").unwrap();
    for goal in [UP, &UP[place..=place]] {
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
