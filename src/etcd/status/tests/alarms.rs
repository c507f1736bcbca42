//! Alarms, and data that differs.

use super::*;

#[test]
fn alarms_are_told_with_what_takes_them_back() {
    let mut scene = Scene::new(3);
    let alarm = |n, kind: &str| Alarm { member_id: id(n), kind: kind.to_owned() };
    scene.gathered.alarms = Some(vec![alarm(1, "NOSPACE"), alarm(3, "CORRUPT")]);
    // No hash tells otherwise.
    scene.answer(3).hash = None;
    insta::assert_snapshot!(summary(&scene), @"
    Degraded 2/3 can lose 0
    m3: its data is corrupt (alarm CORRUPT)
    Warning: etcd survives no further failure: do not restart m1 and m2 until m3 is healthy
    Warning: etcd takes no writes: the database of m1 reached its quota (alarm NOSPACE); this drops history, defragments one member at a time, the leader last, and takes the alarm back:
    Warning: the data of m3 is corrupt (alarm CORRUPT), and etcd takes no writes: do not restart the other members; this gives it theirs, sets its own aside, and takes the alarm back:
    ");

    // Who went with its alarm on.
    let mut gone = Scene::new(3);
    gone.gathered.alarms = Some(vec![alarm(9, "NOSPACE")]);
    let report = gone.report();
    assert_eq!(
        (report.verdict, report.raised(Alarm::NOSPACE)),
        (Verdict::Degraded, vec![Id(id(9)).to_string()])
    );
    assert!(report.advice[0].text.starts_with("etcd takes no writes: the alarm NOSPACE of member "));
    assert_eq!(report.advice[0].command.as_deref(), Some("rsadm etcd alarm disarm prod.yaml"));
    gone.gathered.alarms = Some(vec![alarm(9, "NOSPACE"), alarm(1, "NOSPACE")]);
    let commands: Vec<_> = gone.report().advice.into_iter().filter_map(|a| a.command).collect();
    assert_eq!(commands, ["rsadm etcd defrag prod.yaml"], "which takes all of them back");
    // Nobody's alarm is not one of somebody who is gone.
    gone.gathered.alarms = Some(vec![Alarm { member_id: Alarm::WHOLE_CLUSTER, kind: "CORRUPT".into() }]);
    let report = gone.report();
    assert_eq!(
        (report.orphaned_alarms.len(), report.raised(Alarm::CORRUPT)),
        (0, vec!["all members".to_owned()])
    );
    assert!(report.advice[0].text.contains("does not know whose is right"), "{:?}", report.advice);

    assert!(Scene::new(3).without_quorum().report().alarms_known, "a member's status tells its alarms");
    let nobody = (1..=3).fold(Scene::new(3).without_quorum(), |scene, n| scene.silence(n, "refused"));
    assert!(!nobody.report().alarms_known);
}

/// etcd's periodic check names the first that differs from the leader, whoever of the two is wrong.
#[test]
fn an_alarm_is_weighed_against_what_members_hold() {
    let with = |n: usize, odd: &[usize], corrupt: usize| {
        let mut scene = Scene::new(n);
        odd.iter().for_each(|n| scene.answer(*n).hash.as_mut().unwrap().hash = 7);
        scene.gathered.alarms = Some(vec![Alarm { member_id: id(corrupt), kind: "CORRUPT".to_owned() }]);
        scene.report()
    };
    let commands =
        |report: &EtcdReport| report.advice.iter().filter_map(|a| a.command.clone()).collect::<Vec<_>>();
    let says = |report: &EtcdReport, words: &str| report.advice.iter().any(|a| a.text.contains(words));
    let sick = |report: &EtcdReport| {
        let sick = report.members.iter().filter(|m| !m.healthy);
        sick.map(|m| m.name.clone()).collect::<Vec<_>>()
    };
    let leader = with(3, &[2], 3);
    assert_eq!(commands(&leader), ["rsadm etcd replace prod.yaml m2"]);
    assert!(says(&leader, "do not replace m3. It is the data of m2 that differs"), "{:?}", leader.advice);
    assert_eq!(sick(&leader), ["m2"]);
    let right = with(3, &[3], 3);
    assert!(commands(&right).iter().all(|c| c == "rsadm etcd replace prod.yaml m3"), "{:?}", right.advice);
    assert_eq!(sick(&right), ["m3"]);
    let healed = with(3, &[], 3);
    assert_eq!(commands(&healed), ["rsadm etcd alarm disarm prod.yaml"]);
    assert_eq!(sick(&healed), [""; 0]);
    let two = with(2, &[2], 2);
    assert!(
        commands(&two).is_empty() && says(&two, "hashes do not tell whose data is right"),
        "{:?}",
        two.advice
    );
}

#[test]
fn without_quorum_alarms_come_from_the_statuses() {
    let mut scene = Scene::new(3).silence(2, "no answer").silence(3, "no answer").without_quorum();
    let text = |space: &str| format!("memberID:{}{space}alarm:NOSPACE", id(1));
    scene.status(1).errors = vec!["etcdserver: no leader".to_owned(), text("  ")];
    assert_eq!(scene.report().members[0].alarms, ["NOSPACE"]);
    let advice = scene.report().advice;
    assert!(advice.iter().any(|a| a.text.starts_with("alarms are on besides (NOSPACE of m1)")), "{advice:?}");
    assert!(!advice.iter().any(|a| a.command.as_ref().is_some_and(|c| c.contains("defrag"))), "{advice:?}");
    // protobuf's text form puts one space or two, at random.
    scene.status(1).errors = vec![text(" ")];
    assert_eq!(scene.report().members[0].alarms, ["NOSPACE"]);
    // It leaves out a member ID of zero.
    scene.status(1).errors = vec!["alarm:CORRUPT".to_owned()];
    assert_eq!(scene.report().raised(Alarm::CORRUPT), ["all members"]);
}

#[test]
fn hashes_that_differ_are_told_where_they_compare() {
    let mut odd = Scene::new(3);
    odd.answer(3).hash.as_mut().unwrap().hash = 7;
    insta::assert_snapshot!(summary(&odd), @"
    Degraded 2/3 can lose 0
    m3: its data differs from the others' (hash)
    Warning: etcd survives no further failure: do not restart m1 and m2 until m3 is healthy
    Warning: at one revision the data of m3 is not that of the others: do not trust reads from there; this gives it theirs, and sets its own aside:
    ");

    let mut split = Scene::new(2);
    split.answer(2).hash.as_mut().unwrap().hash = 7;
    insta::assert_snapshot!(summary(&split), @r"
    Degraded 2/2 can lose 0
    Warning: at one revision m1 and m2 hold different data, and no majority tells whose is right: give nobody the data of either before that is known
    Note: 2 voters can lose no more than 1 can: an odd number is better
    ");

    let mut compacting = Scene::new(3);
    let hash = compacting.answer(3).hash.as_mut().unwrap();
    (hash.hash, hash.compact_revision) = (7, 48_000);
    assert_eq!(
        compacting.report().verdict,
        Verdict::Healthy,
        "hashes from different compactions do not compare"
    );
}
