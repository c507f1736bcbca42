//! Which member is asked for a snapshot: any voter's is good, so the one that has least else to do.

use std::cmp::Reverse;

use crate::etcd::status::{EtcdReport, LAG_LIMIT, MemberReport};

/// Voters that can give a snapshot, the best first: healthy followers before the leader, since a follower's disk is not
/// what every write waits for; those behind last. Without a quorum, whoever answers, the one that has seen most first.
pub fn candidates(report: &EtcdReport) -> Vec<&MemberReport> {
    let answers = |m: &&MemberReport| m.version.is_some() && !m.is_learner;
    let mut members: Vec<&MemberReport> = report.members.iter().filter(answers).collect();
    match report.serves {
        true => members.sort_by_key(|m| (!m.healthy, m.is_leader, m.lag.unwrap_or(u64::MAX))),
        false => members.sort_by_key(|m| Reverse((m.raft_term, m.raft_applied_index))),
    }
    members
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
}

/// Who of the members that answer takes a scheduled snapshot, the first that could first: followers by name that are well,
/// then the leader. Members without a quorum, with the alarm CORRUPT or far behind come last, in this order from the end,
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
        (!m.serves, m.is_corrupt, m.serves && is_behind, Reverse(has_seen), m.is_leader, &m.name)
    });
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `e2` follows and is well; `*` leads, `!` has no quorum, `?` is corrupt, `<` is far behind, and each `+` a little ahead.
    fn voter(text: &str) -> Voter {
        let has = |mark: char| text.contains(mark);
        let ahead = text.matches('+').count() as u64;
        Voter {
            name: text[..2].to_owned(),
            is_leader: has('*'),
            serves: !has('!'),
            is_corrupt: has('?'),
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
            ("", None),
        ] {
            let voters: Vec<Voter> = members.split_whitespace().map(voter).collect();
            assert_eq!(ranked(&voters).first().map(|v| v.name.as_str()), expected, "{members:?}");
        }
    }
}
