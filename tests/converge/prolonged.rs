//! Row 29 of the fault matrix: the certificate of etcd's authority made anew by hand, with the key that it has, as README tells it.

use rsadm::{
    fake::{State, World},
    inventory::{Cluster, Node, NodeName, Role},
    phases::{UP, control_plane, etcd},
    pki::{
        authorities::{Ca, holdings},
        issue::Authority,
    },
    secret::Secret,
};
use time::OffsetDateTime;

use crate::{
    harness::{self, block_on, in_sync, run, succeed},
    renewal::{self, ALL, issued},
};

/// Gives that certificate to all hosts that have one, but for so many of the last.
fn prolong(cluster: &Cluster, state: &mut State, but: usize) {
    let (path, first) = (Ca::Etcd.cert_path(), &cluster.nodes.iter().find(|n| keeps(n)).unwrap().name);
    let key = Secret::new(state.machine(first).files.read(&Ca::Etcd.key_path()).unwrap().to_vec());
    let made = Authority::make_with(Ca::Etcd, key, OffsetDateTime::now_utc()).unwrap();
    let has: Vec<&NodeName> = cluster
        .nodes
        .iter()
        .filter(|n| holdings(n).iter().any(|h| h.ca == Ca::Etcd))
        .map(|n| &n.name)
        .collect();
    for name in &has[..has.len() - but] {
        state.machine(name).files.put(&path, 0o644, made.files().cert.as_bytes());
    }
}

fn keeps(node: &Node) -> bool {
    holdings(node).iter().any(|h| h.ca == Ca::Etcd && h.key)
}

#[test]
fn members_and_api_servers_take_it_up_in_turn_and_nothing_is_issued() {
    for cluster in [harness::etcd_only(), harness::ha(), harness::external_etcd()] {
        let mut state = harness::standing(&cluster);
        prolong(&cluster, &mut state, 0);
        let world = World::new(state);
        let plan = block_on(succeed(&world, &cluster, UP)).plan;
        let words = harness::words(&plan);
        assert_eq!(issued(&plan), [""; 0], "{words}");
        let (members, others): (Vec<_>, Vec<_>) = plan.stages.iter().partition(|s| s.phase == etcd::PHASE);
        assert_eq!(members.len(), cluster.with_role(Role::Etcd).count(), "{words}");
        assert!(members.iter().all(|s| s.gated && s.work.len() == 1), "{words}");
        assert!(others.iter().all(|s| s.phase == control_plane::PHASE && s.work.len() == 1), "{words}");
        assert_eq!(others.len(), cluster.with_role(Role::ControlPlane).count(), "{words}");
        assert_eq!(world.state().violations, [""; 0], "{words}");
        block_on(in_sync(&world, &cluster, UP));
        // What it signs from then on lasts beyond the old end, and is good for who still has the old one.
        let renewed = block_on(renewal::renew(&world, &cluster, 0, &ALL));
        assert!(!issued(&renewed).is_empty());
        block_on(in_sync(&world, &cluster, UP));
    }
}

#[test]
fn until_all_hosts_have_it_nothing_is_done() {
    let cluster = harness::ha();
    let mut state = harness::standing(&cluster);
    prolong(&cluster, &mut state, 1);
    let refused = block_on(run(&World::new(state), &cluster, UP)).err().unwrap();
    assert!(refused.contains("the etcd CA is not the same on all hosts"), "{refused}");
}
