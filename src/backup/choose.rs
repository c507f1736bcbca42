//! Which member is asked for a snapshot: any voter's is good, so the one that has least else to do.

use std::cmp::Reverse;

use crate::etcd::status::{EtcdReport, MemberReport};

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

/// Who of the members that answer takes a scheduled snapshot: the first follower by name, or the leader where nobody
/// else answers. Every host asks itself this and comes to the same answer from the same members; a host that sees fewer
/// than there are may come to another, and then two snapshots are taken, which harms nothing.
pub fn elected<'n>(members: impl IntoIterator<Item = (&'n str, bool)>) -> Option<&'n str> {
    members.into_iter().min_by_key(|(name, is_leader)| (*is_leader, *name)).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_member_does_the_work() {
        for (members, expected) in [
            (vec![("e2", false), ("e1", true), ("e3", false)], Some("e2")),
            (vec![("e3", false), ("e1", true)], Some("e3")),
            (vec![("e1", true)], Some("e1")),
            (vec![("e2", false), ("e1", false)], Some("e1")),
            (vec![], None),
        ] {
            assert_eq!(elected(members.clone()), expected, "{members:?}");
        }
    }
}
