//! Who joins beside whom, and who may leave.

use super::*;
use crate::{
    etcd::{KvHash, status::tests::Scene},
    plan::Action,
};

const NOBODY: &str = "https://10.0.0.9:2380";

fn url(n: usize) -> String {
    format!("https://10.0.0.{n}:2380")
}

fn with(n: usize, down: &[usize], odd: &[usize]) -> EtcdReport {
    let other = KvHash { hash: 7, revision: 48_211, newest: 48_211, compact_revision: 40_000 };
    let mut scene = down.iter().fold(Scene::new(n), |scene, n| scene.silence(*n, "refused"));
    odd.iter().for_each(|n| scene.answer(*n).hash = Some(other));
    scene.report()
}

/// The one that is down may be the right one, and what one has may be all that tells.
#[test]
fn data_is_given_on_only_where_all_that_stay_hold_the_same() {
    let first = Action::AwaitSound;
    for (report, leaves, joins, refused) in [
        // Replaced: the dead, and the odd.
        (with(3, &[1], &[3]), Some(1), Some(1), "m2 and m3 hold different data"),
        (with(3, &[1], &[]), Some(1), Some(1), ""),
        (with(3, &[], &[3]), Some(3), Some(3), ""),
        (with(5, &[5], &[1]), Some(5), Some(5), "the data of m1 is not that of the others"),
        (with(4, &[4], &[1]), Some(4), Some(4), "m1, m2 and m3 hold different data"),
        (with(4, &[], &[3, 4]), Some(4), Some(4), "the data of m3 is not that of the others"),
        (with(2, &[], &[2]), Some(2), Some(2), ""),
        // One that joins beside all.
        (with(2, &[], &[2]), None, Some(9), "m1 and m2 hold different data"),
        (with(2, &[], &[]), None, Some(9), ""),
        (with(3, &[], &[3]), None, Some(9), "the data of m3 is not that of the others"),
        // Who only leaves takes nothing away from who is known to be wrong, unless it is what tells.
        (with(3, &[], &[3]), Some(1), None, "the data of m3 is not that of the others"),
        (with(3, &[], &[3]), Some(3), None, ""),
        (with(3, &[1], &[3]), Some(1), None, ""),
        (with(2, &[], &[2]), Some(2), None, ""),
        (with(4, &[], &[3, 4]), Some(4), None, ""),
    ] {
        let leave: Option<String> = leaves.map(url);
        let joins = joins.map(|n| if n == 9 { NOBODY.to_owned() } else { url(n) });
        let ahead = Ahead {
            first: &first,
            may_be_asked: true,
            leave: leave.as_deref().into_iter().collect(),
            all_leave: vec![],
            joins: joins.as_deref(),
            may_be_joined: true,
        };
        let why = ahead.whose_data(&report).err().map(|refusal| refusal.why).unwrap_or_default();
        assert_eq!(why.is_empty(), refused.is_empty(), "{leaves:?} {joins:?}: {why}");
        assert!(why.starts_with(refused), "{leaves:?} {joins:?}: {why}");
    }
}

/// One that differs and runs leaves last, after its successor has joined, which nobody does beside it.
#[test]
fn who_makes_room_for_another_is_given_no_data_first() {
    let first = Action::AwaitSound;
    let (leaves, mut report) = (url(3), with(3, &[], &[3]));
    for (in_inventory, help) in [
        (true, "rsadm etcd remove m3 takes it out; then run this again"),
        (
            false,
            "with its host in the inventory, whatever its role (put its line back for now where it is gone), rsadm etcd remove m3",
        ),
    ] {
        report.members[2].in_inventory = in_inventory;
        let ahead = Ahead {
            first: &first,
            may_be_asked: true,
            leave: vec![],
            all_leave: vec![&leaves],
            joins: Some(NOBODY),
            may_be_joined: true,
        };
        let refusal = ahead.whose_data(&report).unwrap_err();
        assert!(refusal.help.starts_with(help), "{refusal}");
    }
}

/// Else it would leave, and not come back.
#[test]
fn nobody_leaves_to_join_anew_while_etcd_would_not_add_it() {
    let first = Action::AwaitSound;
    let (leaves, report) = (url(5), with(5, &[4], &[]));
    let change = Change::Remove { id: report.members[4].id.unwrap().0 };
    for (joins, refused) in [(Some(leaves.as_str()), true), (None, false)] {
        let ahead = Ahead {
            first: &first,
            may_be_asked: true,
            leave: vec![&leaves],
            all_leave: vec![],
            joins,
            may_be_joined: true,
        };
        let said = ahead.judged(&change, &report).err().map(|refusal| refusal.rule);
        assert_eq!(said, refused.then_some("all-healthy"));
    }
}
