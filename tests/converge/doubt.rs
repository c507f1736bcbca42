//! Members whose data differs: none is made anew, and none is started anew, before it is known whose is right.

use rsadm::{
    fake::{Data, State, World},
    inventory::{Cluster, NodeName, Role},
    layout,
};

use crate::{
    harness::{self, block_on},
    members::{self, Asked},
    situations::built,
};

/// A write of one member's own, which no other has.
fn alter(state: &mut State, host: &NodeName) {
    let files = &mut state.machine(host).files;
    let mut data = Data::read(files.read(Data::PATH).unwrap()).unwrap();
    data.written.push("of its own".into());
    files.put(Data::PATH, 0o700, &serde_json::to_vec(&data).unwrap());
}

fn etcd_hosts(cluster: &Cluster) -> Vec<NodeName> {
    cluster.with_role(Role::Etcd).map(|n| n.name.clone()).collect()
}

/// The first is down, and may be the right one. Where API servers are pointed away from it first, the gate is not asked before.
#[test]
fn no_member_is_made_anew_while_the_others_differ_without_a_majority() {
    for (cluster, asked) in
        [(harness::etcd_only(), Asked(&["e1"], &["e1"])), (harness::ha(), Asked(&["m1"], &["m1"]))]
    {
        let hosts = etcd_hosts(&cluster);
        let mut start = built(&cluster);
        start.machine(&hosts[0]).files.remove(layout::ETCD_MANIFEST);
        start.settle();
        let world = World::new(start.clone());
        let replaced = block_on(members::run(&world, &cluster, asked));
        assert!(replaced.is_ok(), "{}: {replaced:?}", cluster.name);
        alter(&mut start, &hosts[2]);
        let world = World::new(start);
        let refused = block_on(members::run(&world, &cluster, asked)).unwrap_err();
        let why = format!(
            "{} and {} hold different data, and no majority tells whose is right",
            hosts[1], hosts[2]
        );
        assert!(refused.contains(&why), "{}: {refused}", cluster.name);
        assert_eq!(world.effects(), 0, "{}", cluster.name);
    }
}
