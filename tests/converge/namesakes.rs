//! What is called the same and is another: nodes, members, and whole clusters.

use std::net::Ipv4Addr;

use rsadm::{
    fake::{State, World},
    inventory::{Cluster, NodeName},
    phases::{ETCD_MEMBERS, RESET, UP},
    pki::authorities::Ca,
};

use super::{
    guards::plan,
    harness::{self, block_on, node_mut, succeed},
};

/// The inventory with a bare machine at another address under that name, and a world in which the old one goes on.
fn replaced(cluster: &Cluster, state: &State, name: &str) -> (Cluster, State) {
    let (mut cluster, mut state) = (cluster.clone(), state.clone());
    let node = node_mut(&mut cluster, name);
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
    let start = harness::standing(&before);
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
    let (cluster, mut state) = replaced(&before, &harness::standing(&before), "e3");
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

/// The inventory of a cluster of the same name on hosts of its own, but for one that it has by mistake.
fn with_one_of(ours: &Cluster, slip: &str, state: &mut State) -> Cluster {
    let mut cluster = ours.clone();
    for node in cluster.nodes.iter_mut().filter(|n| n.name.as_str() != slip) {
        let [a, b, _, d] = node.internal_address.octets();
        node.name = NodeName::new(format!("b{}", node.name));
        node.internal_address = Ipv4Addr::new(a, b, 1, d);
        node.address = node.internal_address.to_string();
    }
    cluster.api.host = cluster.nodes[0].address.clone();
    state.meet(&cluster);
    cluster
}

/// To reset it, as once was advised, would empty a worker of a cluster that is well.
#[test]
fn a_worker_of_another_cluster_is_asked_for_before_a_new_authority_is_made() {
    let ours = harness::ha();
    let mut state = harness::standing(&ours);
    let other = with_one_of(&ours, "w2", &mut state);
    for only in [None, Some("certificates")] {
        let refusal = plan(&World::new(state.clone()), &other, UP, only).err().unwrap();
        assert_eq!(refusal.rule, "never-a-second-authority", "{only:?}: {refusal}");
        let subject = format!("w2 was built for a cluster {}, and no host here has", ours.name);
        assert!(refusal.subject.starts_with(&subject), "{refusal}");
        assert!(refusal.help.starts_with("is w2 in the right inventory?"), "{}", refusal.help);
        let last =
            "if that cluster is no more: `rsadm reset` with an inventory of w2 alone, which empties it";
        assert!(refusal.help.ends_with(last), "{}", refusal.help);
    }
}

/// It would take the place of that cluster's members one by one, with its data.
#[test]
fn a_member_of_another_cluster_brings_its_data_to_nobody() {
    let ours = harness::etcd_only();
    let mut state = harness::standing(&ours);
    let other = with_one_of(&ours, "e3", &mut state);
    for only in [None, Some("etcd")] {
        let refusal = plan(&World::new(state.clone()), &other, UP, only).err().unwrap();
        assert_eq!(refusal.rule, "most-members-leave", "{only:?}: {refusal}");
        assert!(refusal.subject.contains("e1 (https://10.77.0."), "{refusal}");
        assert!(refusal.help.starts_with("is e3 in the right inventory?"), "{}", refusal.help);
    }
    // The way there for who exchanges hosts.
    let mut both = other.clone();
    both.nodes.extend(ours.nodes.iter().filter(|n| n.name.as_str() != "e3").cloned());
    assert_eq!(plan(&World::new(state), &both, UP, None), Ok(()));
}

#[test]
fn a_reset_takes_hosts_of_one_cluster_at_a_time() {
    let cluster = harness::ha();
    for (ca, host) in [(Ca::Cluster, "w2"), (Ca::Cluster, "m3"), (Ca::Etcd, "m3")] {
        let mut state = harness::standing(&cluster);
        let another =
            harness::standing(&cluster).machine(&NodeName::new(host)).files.text(&ca.cert_path()).unwrap();
        state.machine(&NodeName::new(host)).files.put(&ca.cert_path(), 0o644, another.as_bytes());
        let world = World::new(state);
        let refusal = plan(&world, &cluster, RESET, None).err().unwrap();
        assert_eq!(refusal.rule, "one-authority", "{refusal}");
        assert!(
            refusal.why.contains(&format!("another cluster that is called {}", cluster.name)),
            "{refusal}"
        );
        let first = format!("first `rsadm reset` with an inventory of {host} alone, then with this one");
        assert!(refusal.help.contains(&first), "{}", refusal.help);
        assert_eq!(world.effects(), 0);
        for is_there in [false, true] {
            let mut part = cluster.clone();
            part.nodes.retain(|n| (n.name.as_str() == host) == is_there);
            assert_eq!(plan(&world, &part, RESET, None), Ok(()));
            if is_there {
                block_on(succeed(&world, &part, RESET));
                world.inner().state.hang_up();
            }
        }
        assert_eq!(plan(&world, &cluster, RESET, None), Ok(()));
    }
}
