//! Members whose data differs: none is made anew, and none is started anew, before it is known whose is right.

use rsadm::{
    etcd::Alarm,
    exec::{RunError, alike},
    fake::{Data, State, World},
    inventory::{Cluster, NodeName, Role},
    layout,
    phases::{ETCD_UPGRADE, Table, UP},
    versions::Version,
};

use crate::{
    harness::{self, block_on, run, succeed},
    members::{self, Asked},
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
        let mut start = harness::standing(&cluster);
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
fn roll_outs(cluster: &Cluster) -> [(Cluster, &'static Table); 2] {
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
            let mut start = harness::standing(&cluster);
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
        let mut start = harness::standing(&cluster);
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
    let mut start = harness::standing(&cluster);
    start.etcd.grown = 3 << 30;
    let compared = |state: &State| {
        let world = World::new(state.clone());
        block_on(alike::before_an_upgrade(&world.members(&cluster)))
    };
    assert_eq!(compared(&start), Ok(()));
    alter(&mut start, &etcd_hosts(&cluster)[1]);
    let refused = compared(&start).unwrap_err();
    assert!(refused.why.starts_with("the data of e2 is not that of the others"), "{refused}");
    let runs = cluster.release.etcd;
    assert_eq!(
        refused.help,
        format!(
            "with etcd.version: {runs} in the inventory, rsadm etcd replace e2 gives it theirs; then run this again with the new one"
        )
    );
}

/// A compaction that is on its way is over at the next look; one that tells nothing for long keeps an upgrade, and no roll-out.
#[test]
fn what_was_not_compared_is_looked_at_again() {
    let cluster = harness::etcd_only();
    let [first, second, _] = <[NodeName; 3]>::try_from(etcd_hosts(&cluster)).unwrap();
    let start = harness::standing(&cluster);
    let compared = |state: &State| {
        let world = World::new(state.clone());
        block_on(alike::before_an_upgrade(&world.members(&cluster)))
    };
    let mut settles = start.clone();
    settles.etcd.compacting.insert(first.clone(), 1);
    assert_eq!(compared(&settles), Ok(()));
    // Those of one compaction would be one against one.
    alter(&mut settles, &second);
    let refused = compared(&settles).unwrap_err();
    assert!(refused.why.starts_with("the data of e2 is not that of the others"), "{refused}");
    let (mut compacting, mut untold) = (start.clone(), start);
    compacting.etcd.compacting.insert(first.clone(), u32::MAX);
    untold.etcd.untold.insert(first);
    let [(tuned, table), _] = roll_outs(&cluster);
    // A member that was started after the last compaction may tell one from another for ever, where nobody writes.
    assert_eq!(compared(&compacting), Ok(()));
    let refused = compared(&untold).unwrap_err();
    assert!(refused.why.starts_with("the data of e1 was not compared"), "{refused}");
    assert!(refused.help.contains("rsadm etcd replace HOST"), "{refused}");
    for mut once in [compacting, untold] {
        // All that follows a restart waits for equal hashes.
        once.etcd.compacting.values_mut().for_each(|left| *left = 5);
        let world = World::new(once.clone());
        let run = block_on(run(&world, &tuned, table)).unwrap();
        assert!(!matches!(run.result, Err(RunError::Refused(_))), "{:?}", run.result);
        assert!(world.state().log.len() > once.log.len());
    }
}

/// With the alarm CORRUPT on, too, whatever hashes tell by now.
#[test]
fn no_member_is_started_anew_beside_one_that_etcd_found_out() {
    let cluster = harness::etcd_only();
    let mut start = harness::standing(&cluster);
    let corrupt = Data::read(start.machine(&NodeName::new("e3")).files.read(Data::PATH).unwrap()).unwrap();
    start.etcd.alarms = vec![Alarm { member_id: corrupt.member, kind: Alarm::CORRUPT.to_owned() }];
    for (wanted, table) in roll_outs(&cluster) {
        let world = World::new(start.clone());
        let result = block_on(run(&world, &wanted, table)).unwrap().result;
        assert!(matches!(result, Err(RunError::Refused(_))), "{result:?}");
        // An image may have come.
        let log = world.state().log;
        assert!(!log[start.log.len()..].iter().any(|done| done.contains(layout::ETCD_MANIFEST)), "{log:?}");
    }
    let world = World::new(start);
    let refused = block_on(alike::before_an_upgrade(&world.members(&cluster)));
    assert!(refused.unwrap_err().why.starts_with("the alarm CORRUPT of e3 is on"));
}

/// What joins gets the data of the leader, which may be the one that is wrong.
#[test]
fn nobody_joins_beside_one_whose_data_is_wrong() {
    let cluster = harness::etcd_only();
    let mut start = harness::standing(&cluster);
    assert!(start.write("kept"));
    let e1 = NodeName::new("e1");
    alter(&mut start, &e1);
    let leader = Data::read(start.machine(&e1).files.read(Data::PATH).unwrap()).unwrap().member;
    start.etcd.lead(leader);
    for asked in [Asked(&["e2"], &["e2"]), Asked(&["e3"], &["e3"])] {
        let world = World::new(start.clone());
        let refused = block_on(members::run(&world, &cluster, asked)).unwrap_err();
        assert!(refused.contains("hold different data, and no majority"), "{refused}");
        assert_eq!(world.effects(), 0);
    }
    // With a fourth the rest is a majority, and the one that leads is wrong all the same.
    let world = World::new(start.clone());
    let replaced = block_on(members::run(&world, &cluster, Asked(&["e1"], &["e1"])));
    assert!(replaced.is_ok(), "{replaced:?}");
    let (grown, state) = members::with_e4(cluster, start);
    let world = World::new(state);
    let refused = block_on(members::run(&world, &grown, Asked(&["e4"], &[]))).unwrap_err();
    assert!(refused.contains("the data of e1 is not that of the others"), "{refused}");
    assert_eq!(world.effects(), 0);
}
