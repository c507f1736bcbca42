//! Whom a recovery begins from, or why it does not.

use super::*;
use crate::observe::wal::Writer;

fn survivor(host: &str, far: Option<(u64, u64, u64)>) -> Survivor {
    let measured = far.map(|(raft_term, raft_index, revision)| {
        let undecided = Some(0);
        Measured::Far(Far {
            raft_term,
            raft_index,
            revision,
            hash: None,
            hashed_at: None,
            undecided,
            members: None,
        })
    });
    Survivor { host: host.into(), ..Survivor::default() }.with(measured)
}

fn damaged(revision: Option<u64>) -> Measured {
    Measured::Damaged { why: "walpb: crc mismatch".into(), revision }
}

fn best(survivors: &[Survivor]) -> Option<String> {
    Diagnosis::of(survivors.to_vec(), 5).best
}

#[test]
fn the_furthest_knows_of_most_that_was_agreed_on_whoever_has_voted_since() {
    let [a, b, c, d] = [(3, 10, 9), (3, 10, 8), (4, 8, 7), (5, 7, 7)].map(Some);
    let all = [survivor("a", a), survivor("b", b), survivor("c", c), survivor("d", d)];
    assert_eq!(best(&all).as_deref(), Some("a"));
    assert_eq!(best(&[all[0].clone(), survivor("e", None)]).as_deref(), Some("a"));
    assert_eq!(best(&[survivor("e", None), survivor("f", None)]).as_deref(), Some("e"));
    assert_eq!(best(&[]), None);
}

/// etcd drops what a survivor does not know to be agreed on, so a longer log does not make one further.
#[test]
fn what_is_dropped_of_a_log_is_told_and_makes_nobody_further() {
    let with = |host: &str, index: u64, undecided: Option<u64>| {
        let far = Far {
            raft_term: 2,
            raft_index: index,
            revision: index,
            hash: None,
            hashed_at: None,
            undecided,
            members: None,
        };
        survivor(host, None).with(Some(Measured::Far(far)))
    };
    let diagnosis = Diagnosis::of(vec![with("e1", 10, Some(6)), with("e2", 12, Some(1))], 5);
    let choice = diagnosis.choice("", None, None).unwrap();
    assert_eq!(choice.host, NodeName::new("e2"));
    let text = diagnosis.text();
    for words in ["e1 has 6 entries more at the end of its log", "e2 has 1 entry more", "e2 is furthest"] {
        assert!(text.contains(words), "{text}");
    }
    for (undecided, by_database, words) in [
        (
            Some(1),
            false,
            Some("The last entry of e1's log is dropped: e1 does not know whether a quorum agreed on it,"),
        ),
        (
            Some(6),
            false,
            Some(
                "The last 6 entries of e1's log are dropped: e1 does not know whether a quorum agreed on them,",
            ),
        ),
        (None, false, Some("Entries at the end of e1's log may be dropped: e1 does not know")),
        (Some(0), false, None),
        (Some(6), true, None),
    ] {
        let said = Diagnosis::of(vec![with("e1", 10, undecided)], 3)
            .drops(&Choice { host: NodeName::new("e1"), by_database });
        assert_eq!(said.as_deref().map(|said| said.starts_with(words.unwrap_or("-"))), words.map(|_| true));
    }
}

#[test]
fn damaged_and_old_data_is_neither_chosen_nor_counted() {
    let sound = survivor("e1", Some((2, 5, 5)));
    let damaged = survivor("e2", None).with(Some(damaged(None)));
    let old = Survivor { old_cluster: Some("ab".into()), ..survivor("e3", Some((9, 900, 900))) };
    let diagnosis = Diagnosis::of(vec![old.clone(), damaged.clone(), sound.clone()], 3);
    assert_eq!(diagnosis.choice("", None, None).map(|c| c.host).map_err(|r| r.why), Ok(NodeName::new("e1")));
    let text = diagnosis.text();
    for words in ["e3 has the data of an old cluster (ab)", "e2 cannot be started", "e1 is furthest"] {
        assert!(text.contains(words), "{text}");
    }
    let refusal = Diagnosis::of(vec![old, damaged], 3).choice("", None, None).unwrap_err();
    assert!(refusal.why.contains("walpb: crc mismatch"), "{refusal}");
    let two = Diagnosis::of(vec![sound, survivor("e2", None)], 3).choice("", None, None).unwrap_err();
    assert!(two.why.starts_with("2 of 3 members have their data (e1, e2)"), "{two}");
}

/// A folder that somebody copied to heal a host makes no second member.
#[test]
fn a_copy_of_a_members_data_is_not_counted() {
    let of = |host: &str, member: &str, far: u64, running: bool| {
        let writer = Some(Writer { member: member.into(), cluster: "c".into() });
        Survivor { writer, running, ..survivor(host, Some((2, far, far))) }
    };
    let diagnosis = Diagnosis::of(vec![of("e2", "a", 5, false), of("e1", "a", 5, true)], 3);
    assert_eq!(diagnosis.choice("", None, None).map(|c| c.host).map_err(|r| r.why), Ok(NodeName::new("e1")));
    assert!(diagnosis.text().contains("e2 has a copy of the data of e1"), "{}", diagnosis.text());
    let stopped = Diagnosis::of(vec![of("e1", "a", 5, false), of("e2", "a", 9, false)], 3);
    assert_eq!(stopped.choice("", None, None).map(|c| c.host).map_err(|r| r.why), Ok(NodeName::new("e2")));
    let two = Diagnosis::of(vec![of("e1", "a", 5, true), of("e2", "b", 9, false)], 3);
    assert!(two.choice("", None, None).is_err());
    let unknown = Survivor { raft_index: None, unknown: Some("no room".into()), ..of("e1", "a", 5, true) };
    assert!(Diagnosis::of(vec![unknown, of("e2", "a", 4, false)], 5).choice("", None, None).is_err());
}

#[test]
fn nobody_is_chosen_beside_one_who_may_be_further() {
    let (e1, e2) = (survivor("e1", Some((2, 5, 5))), survivor("e2", Some((2, 6, 6))));
    let silent = survivor("e2", None).with(Some(Measured::Unknown("no room".into())));
    let choice = |all: &[&Survivor], begun: Option<&str>| {
        let all: Vec<Survivor> = all.iter().map(|s| (*s).clone()).collect();
        let choice = Diagnosis::of(all, 5).choice(" prod.yaml", begun.map(NodeName::new).as_ref(), None);
        choice.map(|c| c.host)
    };
    let refused = choice(&[&e1, &silent], None).unwrap_err();
    assert_eq!(refused.why, "How far e2 is could not be measured: no room");
    assert_eq!(choice(&[&silent], None), Ok(NodeName::new("e2")), "there is no other");
    // What has begun goes on from whom it began with, or not at all.
    assert_eq!(choice(&[&e1, &e2], Some("e2")), Ok(NodeName::new("e2")));
    let refused = choice(&[&e1, &e2], Some("e1")).unwrap_err();
    assert_eq!(refused.why, "the recovery that has begun is from e1, and e2 is further");
    assert!(refused.help.starts_with("rsadm etcd recover prod.yaml --from e1 goes on"), "{}", refused.help);
}

/// e5 is of the cluster whose place a restore took, and no host has a record of that.
#[test]
fn survivors_of_different_clusters_are_neither_weighed_nor_added_up() {
    let of = |host: &str, cluster: &str, far| {
        let writer = Some(Writer { member: host.into(), cluster: cluster.into() });
        Survivor { writer, ..survivor(host, Some((2, far, far))) }
    };
    let begun = NodeName::new("e4");
    for voters in [3, 5] {
        let all = vec![of("e4", "5f01", 80), of("e5", "c0de", 4_000)];
        let diagnosis = Diagnosis::of(all.clone(), voters);
        assert_eq!((diagnosis.best.as_deref(), diagnosis.may_be_started()), (None, None), "{voters}");
        let text = diagnosis.text();
        assert!(!text.contains("furthest") && !text.contains("nothing is lost"), "{text}");
        assert!(text.contains("HASH  CLUSTER\ne4") && text.contains("(5f01 on e4; c0de on e5)"), "{text}");
        let refused = diagnosis.choice(" prod.yaml", None, None).unwrap_err();
        assert!(refused.why.starts_with("survivors have data of different etcd clusters"), "{refused}");
        assert!(
            refused.help.starts_with("rsadm etcd recover prod.yaml --from HOST begins"),
            "{}",
            refused.help
        );
        let goes_on = diagnosis.choice("", Some(&begun), None).unwrap_err().help;
        assert!(goes_on.starts_with("rsadm etcd recover --from e4 goes on with it"), "{goes_on}");
        let named = |from: &str| diagnosis.choice("", None, Some(&NodeName::new(from))).map(|c| c.host);
        assert_eq!(["e4", "e5"].map(named), ["e4", "e5"].map(|host| Ok(NodeName::new(host))));
        // One that is known to be old is none of them.
        let [e4, e5] = [all[0].clone(), Survivor { old_cluster: Some("c0de".into()), ..all[1].clone() }];
        let chosen = Diagnosis::of(vec![e4, e5], voters).choice("", None, None).map(|c| c.host);
        assert_eq!(chosen, Ok(NodeName::new("e4")));
    }
}

/// As by storage that was set back: two of three cannot lack what the third knows to be agreed on.
#[test]
fn members_that_lost_what_was_agreed_on_are_not_started_as_if_nothing_were() {
    let of = |host: &str, index: u64, undecided: Option<u64>| Survivor {
        undecided,
        ..survivor(host, Some((2, index, index)))
    };
    let with = |others: [(u64, Option<u64>); 2], voters| {
        let [e2, e3] = others.map(|(index, undecided)| of("", index, undecided));
        let named = |host: &str, s: Survivor| Survivor { host: host.into(), ..s };
        Diagnosis::of(vec![of("e1", 100, Some(0)), named("e2", e2), named("e3", e3)], voters)
    };
    let lost = with([(95, Some(0)), (94, Some(1))], 3);
    let refused = lost.choice(" prod.yaml", None, None).unwrap_err();
    assert!(!refused.why.contains("nothing is lost"), "{refused}");
    let told = "e2 and e3 lost entries that a quorum had agreed on: logs end on e2 at 95 and e3 at 95, and e1 knows that 100";
    assert!(refused.why.contains(told) && lost.text().contains(told), "{refused}");
    assert!(refused.help.starts_with("keep etcd off on e2 and e3 at first"), "{}", refused.help);
    assert!(refused.help.contains("rsadm etcd recover prod.yaml --from e1 makes"), "{}", refused.help);
    // One alone may lack it, or have it where nobody looked; and of five two may.
    for (others, voters) in [
        ([(95, Some(0)), (95, Some(5))], 3),
        ([(95, Some(0)), (95, None)], 3),
        ([(95, Some(0)), (95, Some(0))], 5),
    ] {
        let diagnosis = with(others, voters);
        assert!(diagnosis.may_be_started().unwrap().ends_with("and nothing is lost"), "{others:?}");
    }
}

/// It would be stopped for the recovery, and the quorum that it hears would go on.
#[test]
fn nobody_begins_anew_beside_a_survivor_that_hears_a_leader() {
    let led = survivor("m1", None).with(Some(Measured::Led));
    let m1 = NodeName::new("m1");
    for from in [None, Some(&m1)] {
        let refused = Diagnosis::of(vec![led.clone()], 3).choice("", None, from).unwrap_err();
        assert_eq!(refused.subject, "etcd cannot be made anew beside a quorum that m1 hears");
    }
}

/// It has what was agreed on, and only the operator knows whether to trust a disk that has damaged something.
#[test]
fn a_whole_database_that_is_further_is_not_passed_over_in_silence() {
    let behind = survivor("e2", Some((4, 558, 417)));
    let with = |revision| survivor("e1", None).with(Some(damaged(revision)));
    let choice = |all: &[Survivor], begun: Option<&str>, from: Option<&str>| {
        let (begun, from) = (begun.map(NodeName::new), from.map(NodeName::new));
        Diagnosis::of(all.to_vec(), 5).choice(" prod.yaml", begun.as_ref(), from.as_ref())
    };
    let chosen = |host: &str, by_database| Ok(Choice { host: NodeName::new(host), by_database });
    let all = [with(Some(500)), behind.clone()];
    let refused = choice(&all, None, None).unwrap_err();
    assert!(refused.why.ends_with("up to revision 500.\ne2 is less far: revision 417"), "{refused}");
    assert!(refused.help.starts_with("rsadm etcd recover prod.yaml --from e1 begins"), "{}", refused.help);
    assert!(refused.help.contains("--from e2 gives up"), "{}", refused.help);
    assert_eq!(choice(&all, None, Some("e1")), chosen("e1", true));
    assert_eq!(choice(&all, None, Some("e2")), chosen("e2", false));
    // One that has begun goes on once that is said again.
    for begun in ["e1", "e2"] {
        let refused = choice(&all, Some(begun), None).unwrap_err();
        let goes_on = format!("rsadm etcd recover prod.yaml --from {begun} goes on with it; or ");
        assert!(refused.help.starts_with(&goes_on) && !refused.help.contains("gives up"), "{}", refused.help);
        assert_eq!(choice(&all, Some(begun), Some(begun)), chosen(begun, begun == "e1"));
    }
    assert!(choice(&all, Some("e2"), Some("e1")).is_err());
    assert!(choice(&all, None, Some("e3")).unwrap_err().help.contains("--diagnose"));
    // One that is not further, or not whole, is none to ask for.
    assert_eq!(choice(&[with(Some(417)), behind.clone()], None, None), chosen("e2", false));
    assert_eq!(choice(&[with(None), behind], None, None), chosen("e2", false));
    assert!(choice(&[with(None)], None, Some("e1")).is_err());
    let alone = choice(&[with(Some(500))], None, None).unwrap_err();
    assert!(alone.help.starts_with("rsadm etcd recover prod.yaml --from e1 begins"), "{}", alone.help);
    assert_eq!(choice(&[with(Some(500))], None, Some("e1")), chosen("e1", true));
}

#[test]
fn who_is_alone_with_his_data_is_named() {
    let with = |(host, hash): (&str, &str)| Survivor {
        hash: Some(hash.into()),
        hashed_at: Some((9, 5)),
        ..survivor(host, Some((2, 9, 9)))
    };
    let says = |voters, all: &[(&str, &str)]| {
        let text = Diagnosis::of(all.iter().copied().map(with).collect(), voters).text();
        text.lines().find(|line| line.contains("at one revision")).unwrap_or_default().to_owned()
    };
    let three = [("e1", "aa"), ("e2", "aa"), ("e3", "bb")];
    let most = says(3, &three);
    assert!(
        most.starts_with(
            "e3 holds other data at one revision than e1 and e2, who are more than half of all 3"
        )
    );
    assert!(says(5, &three).ends_with("nothing here tells whose is right."), "two of five outvote nobody");
    let five = [three.as_slice(), &[("e4", "aa"), ("e5", "bb")]].concat();
    assert!(says(5, &five).starts_with("e3 and e5 hold other data at one revision than e1, e2 and e4, who"));
    assert_eq!(says(3, &three[..2]), "");
}

/// etcd ends one beside the other over what they hold, and no count of them makes that a quorum.
#[test]
fn whoever_names_one_goes_past_the_count_and_different_data_is_told() {
    let with = |host: &str, hash: &str, hashed_at: (u64, u64)| Survivor {
        hash: Some(hash.into()),
        hashed_at: Some(hashed_at),
        ..survivor(host, Some((2, 9, 9)))
    };
    let two = |hash, at| vec![with("e1", "aa", (9, 5)), with("e2", hash, at)];
    let choice = |voters, survivors, begun: Option<&str>, from: Option<&str>| {
        let (begun, from) = (begun.map(NodeName::new), from.map(NodeName::new));
        let diagnosis = Diagnosis::of(survivors, voters);
        let says = diagnosis.text().contains("e1 and e2 hold different data at one revision");
        (diagnosis.choice(" prod.yaml", begun.as_ref(), from.as_ref()), says)
    };
    let chosen = |host| Ok(Choice { host: NodeName::new(host), by_database: false });
    let (refused, says) = choice(3, two("bb", (9, 5)), None, None);
    let refused = refused.unwrap_err();
    assert!(says && refused.why.starts_with("2 of 3 members have their data (e1, e2)"), "{refused}");
    assert!(refused.help.contains("rsadm etcd status prod.yaml tells beside whom"), "{}", refused.help);
    assert!(refused.help.contains("rsadm etcd recover prod.yaml --from HOST"), "{}", refused.help);
    assert_eq!(choice(3, two("bb", (9, 5)), None, Some("e2")).0, chosen("e2"));
    assert!(choice(3, two("bb", (9, 5)), None, Some("e3")).0.is_err());
    // Too few for a quorum, and as far as one another.
    let (refused, says) = choice(5, two("bb", (9, 5)), None, None);
    assert!(says && refused.unwrap_err().help.starts_with("rsadm etcd recover prod.yaml --from HOST begins"));
    assert_eq!(choice(5, two("bb", (9, 5)), None, Some("e2")).0, chosen("e2"));
    assert_eq!(choice(5, two("bb", (9, 5)), Some("e1"), None).0, chosen("e1"));
    for (hash, at) in [("aa", (9, 5)), ("bb", (9, 6)), ("bb", (8, 5))] {
        assert_eq!(choice(5, two(hash, at), None, None), (chosen("e1"), false), "{hash} {at:?}");
    }
}
