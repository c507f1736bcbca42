//! Members that hold different data, and one that its own check ends.

use super::*;

/// `m1` of so many does not start, since its data differs from that of some; of the rest some hold what is not theirs.
fn scene(n: usize, differs: &[usize], odd: &[usize]) -> Scene {
    let text = "discovery failed: a101 found data inconsistency with peers".to_owned();
    let process = Process {
        prepared: true,
        kubelet: true,
        manifest: true,
        data: true,
        restarts: Some(4),
        last_words: Some(Words { at: "now".into(), text }),
        differs: differs.iter().map(|n| scene::url(*n, 2380)).collect(),
        ..Process::default()
    };
    let mut scene = Scene::new(n).silence(1, "connection refused");
    scene.known.hosts.insert("m1".to_owned(), HostState::Seen(process));
    for (n, hash) in odd.iter().zip(7..) {
        scene.answer(*n).hash.as_mut().unwrap().hash = hash;
    }
    scene
}

fn first(scene: &Scene) -> (String, Option<String>) {
    let advice = scene.report().advice.remove(0);
    (advice.text, advice.command)
}

/// etcd ends the right one as well as the wrong one.
#[test]
fn who_may_be_right_is_not_told_to_be_replaced() {
    for (differs, says) in [
        (&[3][..], "of m2 that log says nothing, so that m3 may be the one that is wrong: do not replace m1"),
        (&[], "Do not replace m1, which may be right: its log names whom it differs from"),
        (&[2, 3], "its data is that of none of the others, and they do not hold the same either"),
    ] {
        let (text, command) = first(&scene(3, differs, &[3]));
        assert!(text.contains(says), "{text}");
        assert_eq!(command, None, "{text}");
    }
    insta::assert_snapshot!(summary(&scene(3, &[3], &[3])), @"
    Degraded 2/3 can lose 0
    m1: etcd does not run
    Warning: etcd stops on m1: by its own log its data is not that of m3, and of m2 that log says nothing, so that m3 may be the one that is wrong: do not replace m1. To find out, end etcd on m3 (mv /etc/kubernetes/manifests/etcd.yaml /root/) and start it on m1 (systemctl restart kubelet); nothing is written until it runs, and from then on m1 and m2 take writes. Once it runs, look at rsadm etcd status prod.yaml --compare: if m1 and m2 hold the same, rsadm etcd replace prod.yaml m3 then gives m3 their data; if they do not, or m1 does not start, put that file back with InitialCorruptCheck=false in its --feature-gates (of etcd 3.5 --experimental-initial-corrupt-check=false), without which m3 would be ended beside them, and keep it so until it is known whose data is right
    Warning: etcd survives no further failure: do not restart m2 and m3 until m1 is healthy
    Warning: at one revision m2 and m3 hold different data, and no majority tells whose is right: give nobody the data of either before that is known
    ");
    // Those that run hold the same: it is the one that is wrong, whomever it was able to ask.
    for differs in [&[2, 3][..], &[3], &[]] {
        let (text, command) = first(&scene(3, differs, &[]));
        assert!(text.contains("its data is lost or damaged"), "{text}");
        assert_eq!(command.as_deref(), Some("rsadm etcd replace prod.yaml m1"));
    }
    // A majority tells who is wrong, and that alone keeps this one away.
    let scene = scene(5, &[5], &[5]);
    let (text, command) = first(&scene);
    assert!(
        text.contains("etcd does not start on m1 beside m5, whose data is not that of the others"),
        "{text}"
    );
    assert_eq!(command, None);
    let commands: Vec<String> = scene.report().advice.into_iter().filter_map(|a| a.command).collect();
    assert_eq!(commands, ["rsadm etcd replace prod.yaml m5"]);
}

/// A hash of a large database is not asked for.
#[test]
fn without_hashes_its_own_log_is_what_there_is() {
    for (differs, may_be_right) in [(&[3][..], true), (&[2, 3], false), (&[], false)] {
        let mut scene = scene(3, differs, &[]);
        scene.answer(2).hash = None;
        scene.answer(3).hash = None;
        let (text, command) = first(&scene);
        assert_eq!(text.contains("do not replace m1"), may_be_right, "{text}");
        assert_eq!(command.is_none(), may_be_right);
    }
}

#[test]
fn no_majority_is_told_from_one() {
    let apart = |scene: &Scene, leaving: Option<usize>| {
        let report = scene.report();
        let leaving: Vec<Id> = leaving.into_iter().map(|n| Id(id(n))).collect();
        let apart = Alike::of(&report, &leaving).apart().into_iter().map(|m| m.name.clone());
        apart.collect::<Vec<_>>().join(" ")
    };
    let with = |n: usize, odd: &[usize]| {
        let mut scene = Scene::new(n);
        odd.iter().for_each(|n| scene.answer(*n).hash.as_mut().unwrap().hash = 7);
        scene
    };
    for (scene, leaving, expected) in [
        (with(2, &[2]), None, "m1 m2"),
        (with(2, &[2]), Some(2), ""),
        (with(3, &[3]), None, ""),
        (with(3, &[3]), Some(1), "m2 m3"),
        (with(3, &[3]), Some(3), ""),
        (with(4, &[3, 4]), None, "m1 m2 m3 m4"),
        (with(4, &[3, 4]), Some(4), ""),
        (scene(3, &[3], &[3]), Some(1), "m2 m3"),
        (Scene::new(3), None, ""),
    ] {
        assert_eq!(apart(&scene, leaving), expected, "{leaving:?}");
    }
    let mut compacting = with(2, &[2]);
    compacting.answer(2).hash.as_mut().unwrap().compact_revision = 41_000;
    assert_eq!(apart(&compacting, None), "", "no two hashes compare");
    let mut found_out = with(2, &[2]);
    found_out.gathered.alarms = Some(vec![Alarm { member_id: id(2), kind: "CORRUPT".to_owned() }]);
    assert_eq!(apart(&found_out, None), "m1 m2", "the alarm tells whom the leader has named");
    found_out.answer(2).hash = None;
    assert_eq!(apart(&found_out, None), "", "etcd's alarm is all that tells");
}

/// Two that are wrong are most of three that answer, and outvote the right one no more than etcd lets them.
#[test]
fn who_is_silent_counts_too() {
    let mut scene = Scene::new(5).silence(1, "refused").silence(4, "refused");
    [2, 3].into_iter().for_each(|n| scene.answer(n).hash.as_mut().unwrap().hash = 7);
    let report = scene.report();
    assert!(report.members.iter().all(|m| m.error != Some(Trouble::Differs)), "{:?}", report.members);
    let names = |members: Vec<&MemberReport>| members.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(Alike::of(&report, &[]).apart()), ["m2", "m3", "m5"]);
    assert!(report.advice.iter().all(|a| a.command.as_deref() != Some("rsadm etcd replace prod.yaml m5")));
}

/// What keeps others from joining is told, with the way out, also where more answer that are none of this cluster's.
#[test]
fn one_judgement_is_told_and_refuses() {
    let mut scene = Scene::new(5).listing(|list| list.truncate(3));
    [(3, 7), (4, 8), (5, 9)]
        .into_iter()
        .for_each(|(n, hash)| scene.answer(n).hash.as_mut().unwrap().hash = hash);
    [4, 5].into_iter().for_each(|n| scene.status(n).cluster_id = 7);
    let report = scene.report();
    let Alike::Odd(odd) = Alike::of(&report, &[]) else { panic!("m3 differs") };
    assert_eq!((odd.len(), odd[0].name.as_str(), &odd[0].error), (1, "m3", &Some(Trouble::Differs)));
    assert!(report.advice.iter().any(|a| a.command.as_deref() == Some("rsadm etcd replace prod.yaml m3")));
}

/// Hashes are of what all have: they do not tell of writes that a member lacks.
#[test]
fn who_lacks_writes_that_it_has_applied_differs() {
    let lacking = |hash: bool| {
        let mut scene = Scene::new(3);
        scene.status(3).revision = 30_000;
        scene.answer(3).newest = Some(30_000);
        if !hash {
            scene.answer(3).hash = None;
        }
        scene
    };
    for hash in [true, false] {
        let report = lacking(hash).report();
        assert_eq!(report.members[2].error, Some(Trouble::Differs));
        assert_eq!(report.comparison, Comparison::Compared);
        assert_eq!(report.advice.len(), 2, "{:?}", report.advice);
    }
    // It has still to apply what others have, or had it by the time that it was asked again.
    let mut behind = lacking(false);
    behind.status(3).raft_applied_index -= 1;
    let report = behind.report();
    assert_eq!(report.members[2].error, None);
    assert!(report.advice[0].text.ends_with("it has nothing so new that they still have it"), "{report:?}");
    let mut catches_up = lacking(true);
    catches_up.answer(3).newest = Some(48_211);
    assert!(matches!(Alike::of(&catches_up.report(), &[]), Alike::Equal));
    // Two of two: nothing tells who counted wrong.
    let mut two = Scene::new(2);
    (two.status(2).revision, two.answer(2).newest) = (30_000, Some(30_000));
    assert_eq!(Alike::of(&two.report(), &[]).apart().len(), 2);
}

/// A second look compares what a compaction kept apart: before it nobody is called odd by a few.
#[test]
fn of_those_not_compared_yet_nothing_is_said() {
    let mut scene = Scene::new(3);
    scene.answer(1).hash.as_mut().unwrap().compact_revision = 41_000;
    scene.answer(3).hash.as_mut().unwrap().hash = 7;
    let report = scene.report();
    let Alike::Open { apart, uncompared } = Alike::of(&report, &[]) else { panic!("it is open") };
    let names = |members: Vec<&MemberReport>| members.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
    assert_eq!((names(apart).join(" "), names(uncompared).join(" ")), ("m2 m3".into(), "m1".into()));
    // Two of three of one compaction are no majority of five.
    let mut scene = Scene::new(5);
    scene.answer(3).hash.as_mut().unwrap().hash = 7;
    [4, 5].into_iter().for_each(|n| scene.answer(n).hash.as_mut().unwrap().compact_revision = 41_000);
    let report = scene.report();
    assert!(report.members.iter().all(|m| m.error.is_none()));
    assert!(matches!(Alike::of(&report, &[]), Alike::Open { .. }));
}

/// One that is wrong and runs ends all others at their start, and nothing is compacted without a quorum: it stays so.
#[test]
fn without_a_quorum_the_one_that_runs_makes_room() {
    // What the hosts of those say that do not start, beside `m2`, which runs.
    let without = |blocked: &[usize], silent: &[usize]| {
        let scene = scene(3, &[2], &[]);
        let says = scene.known.hosts["m1"].clone();
        let mut scene = silent.iter().fold(scene, |scene, n| scene.silence(*n, "refused")).without_quorum();
        scene.known.hosts.extend(blocked.iter().map(|n| (format!("m{n}"), says.clone())));
        scene
    };
    let about = |scene: &Scene, words: &str| {
        scene.report().advice.into_iter().find(|a| a.text.contains(words)).expect(words)
    };
    let mut both = without(&[1, 3], &[3]);
    let told = about(&both, "Without m2 a quorum is left");
    assert_eq!(
        told.text,
        "etcd does not start on m1 and m3 beside m2: by its own log there the data is not the same, and it ends whoever starts, \
         right or wrong. Without m2 a quorum is left: end etcd on m2 (mv /etc/kubernetes/manifests/etcd.yaml /root/; pkill -x \
         etcd) and start it on m1 and m3 (systemctl restart kubelet). Once etcd serves, look at rsadm etcd status prod.yaml \
         --compare: if they hold the same, rsadm etcd replace prod.yaml m2 then gives m2 their data"
    );
    assert_eq!(told.command, None);
    assert!(!both.report().advice.iter().any(|a| a.text.starts_with("etcd cannot start on")));
    // One that was started without a quorum answers nobody, and its peers all the same.
    both = both.silence(2, "late");
    let runs = Process { prepared: true, kubelet: true, manifest: true, running: true, ..Process::default() };
    both.known.hosts.insert("m2".to_owned(), HostState::Seen(runs));
    about(&both, "end etcd on m2 (mv /etc/kubernetes/manifests/etcd.yaml /root/; pkill -x etcd)");
    assert!(!both.report().advice.iter().any(|a| a.text.contains("does not answer in time")));
    // One against one, and the third is gone.
    let gone = HostState::Unreachable { why: "not reached".to_owned(), shut: false };
    let mut one = without(&[1], &[3]);
    one.known.hosts.insert("m3".to_owned(), gone);
    let told = about(&one, "without m2 too few are left for a quorum");
    assert!(told.text.contains("rsadm etcd recover prod.yaml --from HOST begins from the one"), "{told:?}");
    assert_eq!(told.command.as_deref(), Some("rsadm etcd recover prod.yaml --diagnose"));
}
