//! What is called the same and is another: nodes and members.

use std::net::Ipv4Addr;

use rsadm::{
    fake::{State, World},
    inventory::{Cluster, Node, NodeName},
    phases::{ETCD_MEMBERS, UP},
};

use super::{guards::plan, harness, situations::built};

fn node<'c>(cluster: &'c mut Cluster, name: &str) -> &'c mut Node {
    cluster.nodes.iter_mut().find(|n| n.name.as_str() == name).unwrap()
}

/// The inventory with a bare machine at another address under that name, and a world in which the old one goes on.
fn replaced(cluster: &Cluster, state: &State, name: &str) -> (Cluster, State) {
    let (mut cluster, mut state) = (cluster.clone(), state.clone());
    let node = node(&mut cluster, name);
    node.internal_address = Ipv4Addr::new(10, 77, 0, 99);
    node.address = node.internal_address.to_string();
    let mut old = state.machines.remove(&NodeName::new(name)).unwrap();
    old.name = NodeName::new("old");
    state.machines.insert(old.name.clone(), old);
    state.meet(&cluster);
    (cluster, state)
}

#[test]
fn a_bare_machine_is_no_node_under_the_name_of_one_that_is_ready() {
    let before = harness::ha();
    let start = built(&before);
    let w2 = NodeName::new("w2");
    let (cluster, state) = replaced(&before, &start, "w2");
    for only in [None, Some("binaries"), Some("workers")] {
        let refusal = plan(&World::new(state.clone()), &cluster, UP, only).err().unwrap();
        assert_eq!(refusal.rule, "node-elsewhere", "{only:?}: {refusal}");
        assert!(refusal.subject.contains("at 10.77.0.22"), "{refusal}");
        assert!(refusal.help.contains("kubectl delete node w2"), "{}", refusal.help);
    }
    assert_eq!(plan(&World::new(state.clone()), &cluster, ETCD_MEMBERS, None), Ok(()));
    // Switched off, and then deleted.
    let mut gone = state;
    gone.machines.remove(&NodeName::new("old"));
    gone.kube.nodes.get_mut(&w2).unwrap().ready = false;
    assert_eq!(plan(&World::new(gone.clone()), &cluster, UP, None), Ok(()));
    gone.kube.nodes.remove(&w2);
    assert_eq!(plan(&World::new(gone), &cluster, UP, None), Ok(()));
    // The machine itself, at an address of its own that is new.
    let mut same = start;
    same.machine(&w2).address = Ipv4Addr::new(10, 77, 0, 99);
    assert_eq!(plan(&World::new(same), &cluster, UP, None), Ok(()));
}

/// Of two members of one name etcd makes one with two addresses, and does not start.
#[test]
fn a_bare_machine_is_no_member_under_the_name_of_one_that_is_well() {
    let before = harness::etcd_only();
    let (cluster, mut state) = replaced(&before, &built(&before), "e3");
    let world = World::new(state.clone());
    for (table, only) in [(UP, None), (UP, Some("etcd")), (ETCD_MEMBERS, None)] {
        let refusal = plan(&world, &cluster, table, only).err().unwrap();
        assert_eq!(refusal.rule, "member-moved", "{only:?}: {refusal}");
        assert!(refusal.help.starts_with("set internal_address of e3 back"), "{}", refusal.help);
    }
    state.disaster = true;
    state.machine(&NodeName::new("old")).power_off();
    state.settle();
    assert_eq!(plan(&World::new(state), &cluster, UP, None), Ok(()));
}
