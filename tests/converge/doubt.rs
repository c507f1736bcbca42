//! Members whose data differs: none is made anew, and none is started anew, before it is known whose is right.

use rsadm::{
    exec::{RunError, alike},
    fake::{Data, State, World},
    inventory::{Cluster, NodeName, Role},
    layout,
    phases::{ETCD_UPGRADE, Phase, UP},
    versions::Version,
};
use time::OffsetDateTime;

use crate::{
    harness::{self, block_on, run, succeed},
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

/// What the command does to all members of a cluster: other settings, or another version.
fn roll_outs(cluster: &Cluster) -> [(Cluster, &'static [Phase]); 2] {
    let (mut tuned, mut newer) = (cluster.clone(), cluster.clone());
    tuned.etcd.extra_args.insert("snapshot-count".into(), "5000".into());
    let had = newer.release.etcd;
    newer.release = newer.release.with_etcd(Version::new(had.major, had.minor + 1, 0));
    [(tuned, UP), (newer, ETCD_UPGRADE)]
}

/// One that is right would not start beside one that is not. What is too large to be compared each time is compared once.
#[test]
fn no_member_is_started_anew_beside_one_whose_data_is_not_that_of_the_others() {
    let cluster = harness::etcd_only();
    for (wanted, table) in roll_outs(&cluster) {
        for odd in etcd_hosts(&cluster) {
            let mut start = built(&cluster);
            start.etcd.grown = 200 << 20;
            assert!(start.write("kept"));
            alter(&mut start, &odd);
            let effects = start.log.len();
            let world = World::new(start);
            let Err(RunError::Refused(refusal)) = block_on(run(&world, &wanted, table)).unwrap().result
            else {
                panic!("{odd}: not refused")
            };
            assert!(
                refusal.why.starts_with(&format!("the data of {odd} is not that of the others")),
                "{refusal}"
            );
            let log = world.state().log;
            assert!(!log[effects..].iter().any(|done| done.contains(layout::ETCD_MANIFEST)), "{log:?}");
        }
    }
}

/// Each hash holds up writes: none where nothing is to do, and none that would hold them up for long.
#[test]
fn a_roll_out_asks_for_the_hash_of_a_large_database_once() {
    let cluster = harness::etcd_only();
    let [(tuned, table), _] = roll_outs(&cluster);
    for (grown, asked) in [(200 << 20, 3), (2 << 30, 0)] {
        let mut start = built(&cluster);
        start.etcd.grown = grown;
        let before = start.etcd.hashed;
        let world = World::new(start);
        block_on(succeed(&world, &tuned, table));
        assert_eq!(world.state().etcd.hashed - before, asked, "{grown}");
        world.inner().state.hang_up();
        block_on(succeed(&world, &tuned, table));
        assert_eq!(world.state().etcd.hashed - before, asked, "{grown}: asked where nothing was to do");
    }
}

/// However large they are.
#[test]
fn an_upgrade_begins_where_all_members_hold_the_same() {
    let cluster = harness::etcd_only();
    let mut start = built(&cluster);
    start.etcd.grown = 3 << 30;
    let compared = |state: &State| {
        let world = World::new(state.clone());
        block_on(alike::before_an_upgrade(&world.members(&cluster), OffsetDateTime::now_utc()))
    };
    assert_eq!(compared(&start), Ok(()));
    alter(&mut start, &etcd_hosts(&cluster)[1]);
    assert!(compared(&start).unwrap_err().why.starts_with("the data of e2 is not that of the others"));
}
