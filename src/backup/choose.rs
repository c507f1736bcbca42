//! Which member is asked for a snapshot: any voter's is good, so the one that has least else to do.

use std::cmp::Reverse;

use crate::etcd::{
    Alarm,
    status::{Alike, EtcdReport, LAG_LIMIT, MemberReport, Trouble},
};

/// Voters that can give a snapshot, the best first: healthy followers before the leader, since a follower's disk is not
/// what every write waits for; those behind last. Without a quorum, whoever answers, the one that has seen most first. Who
/// is none of this cluster's gives another's data, and only where that host was named.
pub fn candidates<'r>(report: &'r EtcdReport, named: Option<&str>) -> Vec<&'r MemberReport> {
    let is_wanted = |m: &&MemberReport| match named {
        Some(host) => host_of(m) == host,
        None => !is_another(m),
    };
    let mut members: Vec<&MemberReport> =
        report.members.iter().filter(|m| answers(m)).filter(is_wanted).collect();
    match report.serves {
        true => members.sort_by_key(|m| (!m.healthy, m.is_leader, m.lag.unwrap_or(u64::MAX))),
        false => members.sort_by_key(|m| Reverse((m.raft_term, m.raft_applied_index))),
    }
    members
}

/// Voters that answer, and are none of this cluster's.
pub fn others(report: &EtcdReport) -> Vec<&MemberReport> {
    report.members.iter().filter(|m| answers(m) && is_another(m)).collect()
}

/// The host on which a member is asked.
pub fn host_of(member: &MemberReport) -> &str {
    member.node.as_deref().unwrap_or(&member.name)
}

fn answers(member: &MemberReport) -> bool {
    member.version.is_some() && !member.is_learner
}

fn is_another(member: &MemberReport) -> bool {
    let trouble = member.error.as_ref();
    matches!(trouble, Some(Trouble::OtherCluster(_) | Trouble::NotAMember | Trouble::OtherMember(_)))
}

/// What speaks against a snapshot, by what is known of its member before it is taken; its manifest says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// True where no quorum stands behind what the member has.
    pub without_quorum: bool,
    /// What else than a missing quorum was wrong with it, where that is why.
    pub why: Option<String>,
    /// Why its data is not what a cluster can go on with; `None` where nothing says so.
    pub damaged: Option<String>,
}

/// Why no member's data is to be relied on where nothing tells whose is right.
pub(super) const UNDECIDED: &str = "members held different data, and no majority told whose was right (hash)";

impl Doubts {
    /// Those about a member.
    pub fn of(report: &EtcdReport, member: &MemberReport) -> Self {
        let is_cut_off = matches!(member.error, Some(Trouble::NoLeader | Trouble::NoReads(_)));
        let is_behind = report.serves && matches!(member.error, Some(Trouble::Behind(_)));
        let is_apart = is_behind || is_another(member);
        let is_sick = matches!(member.error, Some(Trouble::Corrupt | Trouble::Differs));
        let all = report.cluster_alarms.iter().any(|alarm| alarm == Alarm::CORRUPT);
        let of_all = all.then(|| {
            let text = "etcd found different data on its members and does not know whose is right";
            format!("{text} (alarm {})", Alarm::CORRUPT)
        });
        let own = member.error.as_ref().filter(|_| is_sick);
        let is_undecided = Alike::of(report, &[]).apart().iter().any(|apart| apart.id == member.id);
        Self {
            without_quorum: !report.serves || is_cut_off || is_apart,
            why: member.error.as_ref().filter(|_| is_apart).map(|t| format!("its member was not well: {t}")),
            damaged: own
                .map(|trouble| format!("of {}: {trouble}", host_of(member)))
                .or(of_all)
                .or(is_undecided.then(|| UNDECIDED.to_owned())),
        }
    }
}

/// A voter that answers, as those see it who ask which one takes a scheduled snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voter {
    /// Its host.
    pub name: String,
    /// True where it leads.
    pub is_leader: bool,
    /// True where it has a leader and has just served a linearizable read: a quorum stands behind what it has.
    pub serves: bool,
    /// True where its alarm CORRUPT is on, or that of the whole cluster.
    pub is_corrupt: bool,
    /// Its term, and the newest raft entry that it has applied.
    pub applied: (u64, u64),
    /// True where bundles are wanted, and its host has not all keys that go into one.
    pub lacks_keys: bool,
}

/// Who of the members that answer takes a scheduled snapshot, the first that could first: followers by name that are well,
/// then the leader; where the cluster's keys are to go along, those whose hosts have them before all others. Members without a quorum, with the alarm CORRUPT or far behind come last, in this order from the end,
/// since one of them would else be chosen every time, and what it gives is not what the cluster has. Where nobody serves it is
/// the one that has seen most. Every host asks itself this and comes to the same answer from the same members; a host that
/// sees fewer than there are may come to another, and then two snapshots are taken, which harms nothing. Where the first fails
/// each time, see [`turn`](super::turn).
pub fn ranked(members: &[Voter]) -> Vec<&Voter> {
    let furthest = members.iter().map(|m| m.applied.1).max().unwrap_or_default();
    let mut ranked: Vec<&Voter> = members.iter().collect();
    ranked.sort_by_key(|m| {
        let is_behind = furthest - m.applied.1 > LAG_LIMIT;
        let has_seen = if m.serves { (0, 0) } else { m.applied };
        let is_sick = (!m.serves, m.is_corrupt, m.serves && is_behind, Reverse(has_seen));
        (is_sick, m.lacks_keys, m.is_leader, &m.name)
    });
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::status::tests::{Scene, id};

    fn named<'r>(report: &'r EtcdReport, host: Option<&str>) -> Vec<&'r str> {
        candidates(report, host).into_iter().map(host_of).collect()
    }

    #[test]
    fn who_is_none_of_the_clusters_gives_no_snapshot_unless_named() {
        assert_eq!(named(&Scene::new(3).report(), None), ["m1", "m3", "m2"]);
        for mut scene in [Scene::new(3), Scene::new(3).without_quorum()] {
            scene.status(1).cluster_id = 7;
            scene.status(1).raft_term = 99;
            let report = scene.report();
            assert_eq!(named(&report, None).len(), 2, "{:?}", named(&report, None));
            assert!(!named(&report, None).contains(&"m1"));
            assert_eq!(named(&report, Some("m1")), ["m1"]);
            let doubts = Doubts::of(&report, &report.members[0]);
            assert!(doubts.without_quorum);
            assert_eq!(
                doubts.why.as_deref(),
                Some("its member was not well: belongs to another cluster (7)")
            );
            assert_eq!(others(&report).into_iter().map(host_of).collect::<Vec<_>>(), ["m1"]);
        }
        let stray = Scene::new(3).listing(|list| drop(list.remove(0))).report();
        assert_eq!(named(&stray, None), ["m3", "m2"]);
    }

    #[test]
    fn a_snapshot_says_what_was_wrong_with_its_member() {
        let doubts = |scene: &Scene| {
            let report = scene.report();
            let of = Doubts::of(&report, &report.members[2]);
            (of.without_quorum, of.damaged.unwrap_or_default())
        };
        assert_eq!(doubts(&Scene::new(3)), (false, String::new()));
        assert_eq!(doubts(&Scene::new(3).without_quorum()), (true, String::new()));
        let mut scene = Scene::new(3);
        scene.status(3).leader = 0;
        assert_eq!(doubts(&scene), (true, String::new()), "it knows no leader, though others have one");
        let mut scene = Scene::new(3);
        scene.answer(3).quorum_list = Err("no answer within 2.0 s".into());
        assert_eq!(doubts(&scene), (true, String::new()), "it serves no linearizable read");
        let mut scene = Scene::new(3);
        scene.status(3).raft_applied_index = 40_000;
        assert_eq!(doubts(&scene), (true, String::new()), "it is behind");
        let report = scene.report();
        let why = Doubts::of(&report, &report.members[2]).why.unwrap();
        assert!(why.starts_with("its member was not well: ") && why.ends_with("entries behind"), "{why}");
        let mut scene = Scene::new(3);
        scene.answer(3).hash.as_mut().unwrap().hash = 7;
        assert_eq!(doubts(&scene), (false, "of m3: its data differs from the others' (hash)".into()));
        scene.answer(2).hash.as_mut().unwrap().hash = 8;
        assert_eq!(doubts(&scene), (false, UNDECIDED.into()), "nobody knows whose is right");
        for (member_id, said) in [
            (id(3), "of m3: its data is corrupt (alarm CORRUPT)"),
            (id(1), ""),
            (
                Alarm::WHOLE_CLUSTER,
                "etcd found different data on its members and does not know whose is right (alarm CORRUPT)",
            ),
        ] {
            let mut scene = Scene::new(3);
            scene.gathered.alarms = Some(vec![Alarm { member_id, kind: Alarm::CORRUPT.into() }]);
            // By its hash it would be one of most.
            scene.answer(3).hash = scene.answer(3).hash.filter(|_| member_id != id(3));
            assert_eq!(doubts(&scene), (false, said.to_owned()));
        }
    }

    /// `e2` follows and is well; `*` leads, `!` has no quorum, `?` is corrupt, `<` is far behind, each `+` a little ahead, and
    /// `-` lacks keys.
    fn voter(text: &str) -> Voter {
        let has = |mark: char| text.contains(mark);
        let ahead = text.matches('+').count() as u64;
        Voter {
            name: text[..2].to_owned(),
            is_leader: has('*'),
            serves: !has('!'),
            is_corrupt: has('?'),
            lacks_keys: has('-'),
            applied: (7, 100_000 + ahead - if has('<') { LAG_LIMIT + 10 } else { 0 }),
        }
    }

    #[test]
    fn one_member_does_the_work_and_no_sick_one_while_there_is_another() {
        for (members, expected) in [
            ("e2 e1* e3", Some("e2")),
            ("e3 e1*", Some("e3")),
            ("e1*", Some("e1")),
            ("e2 e1", Some("e1")),
            ("e1! e2 e3*", Some("e2")),
            ("e1? e2* e3", Some("e3")),
            ("e1< e2* e3", Some("e3")),
            ("e1+ e2* e3", Some("e1")),
            ("e1! e2? e3*", Some("e3")),
            ("e1< e2? e3*!", Some("e1")),
            ("e1! e2?", Some("e2")),
            ("e1! e2!++ e3!+", Some("e2")),
            ("e1?! e2!", Some("e2")),
            ("e1- e2 e3*", Some("e2")),
            ("e1- e2*", Some("e2")),
            ("e1- e2? e3!", Some("e1")),
            ("e1- e2-*", Some("e1")),
            ("", None),
        ] {
            let voters: Vec<Voter> = members.split_whitespace().map(voter).collect();
            assert_eq!(ranked(&voters).first().map(|v| v.name.as_str()), expected, "{members:?}");
        }
    }
}
