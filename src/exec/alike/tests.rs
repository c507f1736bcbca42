//! Who is started anew beside whom, and the way out of each refusal.

use super::*;
use crate::etcd::{
    Alarm,
    status::tests::{Scene, id},
};

/// So many members, of whom some are down, some hold what is not theirs, and some have the alarm CORRUPT.
fn with(n: usize, down: &[usize], odd: &[usize], corrupt: &[usize]) -> Scene {
    let mut scene = down.iter().fold(Scene::new(n), |scene, n| scene.silence(*n, "refused"));
    odd.iter().zip(7..).for_each(|(n, hash)| scene.answer(*n).hash.as_mut().unwrap().hash = hash);
    let alarm = |n: &usize| Alarm { member_id: id(*n), kind: Alarm::CORRUPT.to_owned() };
    scene.gathered.alarms = Some(corrupt.iter().map(alarm).collect());
    // No hash tells otherwise.
    corrupt.iter().for_each(|n| scene.answer(*n).hash = None);
    scene
}

#[test]
fn no_member_is_started_anew_beside_one_that_differs() {
    for (scene, why, help) in [
        (with(1, &[], &[], &[]), "", ""),
        (with(3, &[], &[], &[]), "", ""),
        (with(3, &[], &[3], &[]), "the data of m3 is not that of the others", "rsadm etcd replace m3 gives"),
        (with(5, &[], &[5], &[]), "the data of m5 is not that of the others", "rsadm etcd replace m5 gives"),
        (with(5, &[], &[], &[5]), "the data of m5 is not that of the others", "rsadm etcd replace m5 gives"),
        (with(2, &[], &[], &[2]), "the data of m2 is not that of the others", "rsadm etcd replace m2 gives"),
        // While one more is down nobody joins.
        (
            with(5, &[4], &[5], &[]),
            "the data of m5",
            "rsadm etcd remove m5 takes it out; then run this again, and",
        ),
        // Who is silent counts as well: two are not most of four.
        (
            with(4, &[3], &[4], &[]),
            "m1, m2 and m4 hold different data, and no majority",
            "rsadm etcd status tells more",
        ),
        (with(5, &[], &[4, 5], &[]), "the data of m4 and m5", "rsadm etcd remove m4 takes it out; then run"),
        (
            with(3, &[2], &[], &[3]),
            "the data of m3",
            "start etcd on m2 again or, if its data is lost for good, rsadm etcd remove m2; then rsadm etcd remove m3 takes",
        ),
        (
            with(2, &[], &[2], &[]),
            "m1 and m2 hold different data, and no majority",
            "rsadm etcd status tells more",
        ),
        (
            with(3, &[], &[2, 3], &[]),
            "m1, m2 and m3 hold different data, and no majority",
            "rsadm etcd status",
        ),
        (
            with(3, &[1], &[3], &[]),
            "m2 and m3 hold different data, and no majority",
            "rsadm etcd status tells more: where etcd stops on another host, that one may be right, and its log names whom it \
             differs from (found different hash values from remote peer); start etcd on m1 again or, if its data is lost for \
             good, rsadm etcd remove m1; then rsadm etcd remove HOST takes out",
        ),
    ] {
        let said = hold_the_same(&scene.report(), AGAIN);
        let (said, way) = said.err().map(|refusal| (refusal.why, refusal.help)).unwrap_or_default();
        assert_eq!(said.is_empty(), why.is_empty(), "{said}");
        assert!(said.starts_with(why), "{said}");
        assert!(way.starts_with(help), "{way}");
    }
    let mut of_nobody = with(3, &[], &[], &[]);
    of_nobody.gathered.alarms =
        Some(vec![Alarm { member_id: Alarm::WHOLE_CLUSTER, kind: Alarm::CORRUPT.to_owned() }]);
    assert!(hold_the_same(&of_nobody.report(), AGAIN).unwrap_err().help.contains("rsadm etcd alarm disarm"));
}

/// Whom the alarm names holds what most do: it is no reason to replace it, and none to go on either.
#[test]
fn nobody_is_started_anew_while_the_alarm_is_on() {
    let mut scene = with(3, &[], &[], &[]);
    scene.gathered.alarms = Some(vec![Alarm { member_id: id(3), kind: Alarm::CORRUPT.to_owned() }]);
    let refusal = hold_the_same(&scene.report(), AGAIN).unwrap_err();
    assert!(refusal.why.starts_with("the alarm CORRUPT of m3 is on"), "{refusal}");
    scene.answer(1).hash.as_mut().unwrap().hash = 7;
    let refusal = hold_the_same(&scene.report(), AGAIN).unwrap_err();
    assert!(refusal.help.starts_with("rsadm etcd replace m1 gives it theirs"), "{}", refusal.help);
}

/// In the middle of an upgrade a member joins with the newest version of those that stay; the prefix stands before what needs it.
#[test]
fn who_joins_has_the_version_of_the_newest_that_stays() {
    let runs = |scene: &mut Scene, older: &[usize]| {
        older.iter().for_each(|n| scene.status(*n).version = "3.6.14".to_owned());
        joining(&scene.report()).map(|version| version.to_string()).unwrap_or_default()
    };
    for (odd, older, joins) in [
        (&[2][..], &[2, 3][..], "v3.7.0"),
        (&[1], &[2, 3], "v3.6.14"),
        (&[3], &[], "v3.7.0"),
        (&[2, 3], &[2, 3], "v3.7.0"),
    ] {
        assert_eq!(runs(&mut with(3, &[], odd, &[]), older), joins, "{odd:?} {older:?}");
    }
    let way = Way { with: "with v3.7.0, ", ..AGAIN };
    for (scene, says) in [
        (with(3, &[], &[3], &[]), "with v3.7.0, rsadm etcd replace m3 gives it theirs"),
        (with(2, &[], &[2], &[]), "know to be wrong, and with v3.7.0, rsadm etcd add HOST then gives"),
        (with(5, &[4], &[5], &[]), "or made anew, with v3.7.0, rsadm etcd add m5 gives it theirs"),
    ] {
        let help = hold_the_same(&scene.report(), way).unwrap_err().help;
        assert!(help.contains(says) && help.matches("with v").count() == 1, "{help}");
    }
}

/// Two against two: each of the two would be refused for the sake of the other.
#[test]
fn of_two_that_differ_from_two_one_goes_first() {
    let mut scene = with(4, &[], &[], &[]);
    [3, 4].into_iter().for_each(|n| scene.answer(n).hash.as_mut().unwrap().hash = 7);
    let report = scene.report();
    let way = mends(&report, &report.members[2], AGAIN);
    assert!(way.starts_with("rsadm etcd remove m3 takes it out; then run this again, and once"), "{way}");
}

#[test]
fn what_was_not_compared_is_not_taken_for_equal() {
    let mut untold = Scene::new(3);
    untold.answer(3).hash = None;
    let mut compacting = Scene::new(3);
    compacting.answer(3).hash.as_mut().unwrap().compact_revision = 41_000;
    for scene in [untold, compacting] {
        let open = hold_the_same(&scene.report(), AGAIN).unwrap().unwrap_or_default();
        assert!(open.starts_with("the data of m3 was not compared with that of the others"), "{open}");
    }
    let mut unasked = Scene::new(3);
    unasked.gathered.hashes = Hashes::Unasked;
    (1..=3).for_each(|n| unasked.answer(n).hash = None);
    assert_eq!(hold_the_same(&unasked.report(), AGAIN), Ok(None));
}
