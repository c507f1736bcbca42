//! Whether members hold the same, by the hashes that they told and by what etcd itself found: one judgement for all who ask.

use std::collections::BTreeMap;

use super::{
    hashes::Comparison,
    report::{EtcdReport, Id, MemberReport, Trouble},
};
use crate::etcd::Alarm;

/// What the data of one comes to, beside that of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nobody tells otherwise, or more than half of all voters hold the same.
    Same,
    /// More than half of all voters hold other data.
    Odd,
    /// Somebody holds other data, and nothing tells whose is right.
    Undecided,
}

/// Judges one of `all`, of whom `same` tells whether two hold the same, and `None` where nothing does. Of the `voters` those count,
/// too, that told nothing, as etcd counts (`corrupt.go`, `checkPeerHashes`): else two that are wrong outvote the right one while
/// the others are away.
pub fn judged<T>(own: &T, all: &[T], voters: usize, same: impl Fn(&T, &T) -> Option<bool>) -> Told {
    let is_of_most = |one: &T| all.iter().filter(|other| same(one, other) == Some(true)).count() * 2 > voters;
    let others: Vec<&T> = all.iter().filter(|other| same(own, other) == Some(false)).collect();
    match (is_of_most(own), others.iter().any(|other| is_of_most(other))) {
        _ if others.is_empty() => Told::Same,
        (true, false) => Told::Same,
        (false, true) => Told::Odd,
        _ => Told::Undecided,
    }
}

/// Whether two hashes are of the same data, each with the compaction that it starts from; `None` where they do not compare.
pub fn is_same_data<H: PartialEq>((since, hash): (u64, H), other: (u64, H)) -> Option<bool> {
    (since == other.0).then(|| hash == other.1)
}

/// What the voters' data comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alike<'r> {
    /// Nobody told anything else than the others.
    Equal,
    /// More than half of all voters hold other data than these; or these have the alarm CORRUPT, and no hash tells that they hold
    /// what most do.
    Odd(Vec<&'r MemberReport>),
    /// These hold different data at one revision, and no more than half of all voters hold the same.
    Undecided(Vec<&'r MemberReport>),
    /// Not all were compared, and another look may tell more.
    Open {
        /// Who holds different data at one revision; none where that is not known of anybody.
        apart: Vec<&'r MemberReport>,
        /// Who told no hash, or none that starts from the compaction of most.
        uncompared: Vec<&'r MemberReport>,
    },
}

impl<'r> Alike<'r> {
    /// Judges a report without those that are `leaving`.
    pub fn of(report: &'r EtcdReport, leaving: &[Id]) -> Self {
        Self::among(&report.members, report.comparison, leaving)
    }

    pub(super) fn among(members: &'r [MemberReport], comparison: Comparison, leaving: &[Id]) -> Self {
        let is_voter = |m: &&MemberReport| m.id.is_some() && !m.is_learner;
        let votes = |m: &&MemberReport| is_voter(m) && m.id.is_some_and(|id| !leaving.contains(&id));
        // Who leaves and told nothing may have held what the few hold.
        let voters = members.iter().filter(|m| votes(m) || is_voter(m) && hash(m).is_none()).count();
        let is_other =
            |m: &&MemberReport| matches!(m.error, Some(Trouble::OtherCluster(_) | Trouble::OtherMember(_)));
        let all: Vec<&MemberReport> = members.iter().filter(votes).filter(|m| !is_other(m)).collect();
        let are = |told: Told| -> Vec<&MemberReport> {
            all.iter().copied().filter(|m| judged(m, &all, voters, |a, b| same(a, b)) == told).collect()
        };
        let (differing, apart) = (are(Told::Odd), are(Told::Undecided));
        // An alarm alone tells where hashes tell nothing: whom its periodic check names etcd has only found to differ from the leader,
        // which may be the one that is wrong (`corrupt.go`, `PeriodicCheck`).
        let is_told = |m: &MemberReport| {
            let is_it = |other: &&MemberReport| other.id == m.id;
            differing.iter().chain(&apart).any(is_it) || holds_what_most_do(m, &all, voters)
        };
        let (corrupt, rest): (Vec<&MemberReport>, Vec<&MemberReport>) =
            all.iter().copied().partition(|m| is_corrupt(m) && !is_told(m));
        let was_asked = matches!(comparison, Comparison::Compared | Comparison::Incomplete);
        // Hashes compare only where they start from one compaction: that of most counts.
        let common = most_common(rest.iter().filter_map(|m| since(m)));
        let is_uncompared = |m: &&MemberReport| match since(m) {
            None => was_asked && m.error.is_none(),
            since => since != common,
        };
        let uncompared: Vec<&MemberReport> = rest.iter().copied().filter(is_uncompared).collect();
        let is_open = differing.is_empty() && !apart.is_empty();
        let odd = [corrupt, differing].concat();
        match (is_open, uncompared.is_empty()) {
            (true, true) => Self::Undecided(apart),
            (true, false) => Self::Open { apart, uncompared },
            _ if !odd.is_empty() => Self::Odd(odd),
            // One alone has nobody to be compared with.
            (false, false) if rest.len() > 1 => Self::Open { apart, uncompared },
            _ => Self::Equal,
        }
    }

    /// Who holds different data where nothing tells whose is right.
    pub fn apart(self) -> Vec<&'r MemberReport> {
        match self {
            Self::Undecided(apart) | Self::Open { apart, .. } => apart,
            Self::Equal | Self::Odd(_) => vec![],
        }
    }
}

/// Voters that the alarm CORRUPT is on for, and whose data is that of more than half of all voters.
pub(super) fn acquitted(members: &[MemberReport]) -> Vec<Id> {
    let all: Vec<&MemberReport> = members.iter().filter(|m| m.id.is_some() && !m.is_learner).collect();
    let is_one = |m: &&&MemberReport| is_corrupt(m) && holds_what_most_do(m, &all, all.len());
    all.iter().filter(is_one).filter_map(|m| m.id).collect()
}

fn holds_what_most_do(member: &MemberReport, all: &[&MemberReport], voters: usize) -> bool {
    all.iter().filter(|other| same(member, other) == Some(true)).count() * 2 > voters
}

/// True of one that has raised the alarm CORRUPT, or of which another has.
fn is_corrupt(member: &MemberReport) -> bool {
    member.error == Some(Trouble::Corrupt) || member.alarms.iter().any(|alarm| alarm == Alarm::CORRUPT)
}

fn since(member: &MemberReport) -> Option<u64> {
    member.hash.as_ref().and(member.hash_compact_revision)
}

/// With the compaction that it starts from.
fn hash(member: &MemberReport) -> Option<(u64, &str)> {
    Some((member.hash_compact_revision?, member.hash.as_deref()?))
}

/// Whether two members hold the same data; `None` where nothing tells. Who has applied as much and has come to another revision
/// holds other data, whatever the hashes of what came before.
pub fn same(one: &MemberReport, other: &MemberReport) -> Option<bool> {
    if lacks_writes_of(one, other) || lacks_writes_of(other, one) {
        return Some(false);
    }
    is_same_data(hash(one)?, hash(other)?)
}

fn lacks_writes_of(member: &MemberReport, other: &MemberReport) -> bool {
    let own = member.raft_applied_index.zip(member.newest);
    own.zip(other.raft_index.zip(other.revision)).is_some_and(|(own, other)| lacks_writes(own, other))
}

/// True of a member, by what it had applied and its newest revision after that, that had applied all that the other knew to be
/// committed when that told its revision, and did not have that revision. etcd tells its revision before what is committed, and
/// that before what is applied (`v3rpc/maintenance.go`, `Status`), so that no write under way looks like this.
pub const fn lacks_writes((applied, newest): (u64, u64), (committed, revision): (u64, u64)) -> bool {
    applied >= committed && newest < revision
}

pub(super) fn most_common<T: Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_insert(0) += 1);
    counts.into_iter().max_by_key(|(_, count): &(T, usize)| *count).map(|(value, _)| value)
}
