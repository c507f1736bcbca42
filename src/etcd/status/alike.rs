//! Whether members hold the same, by the hashes that they told and by what etcd itself found: one judgement for all who ask.

use std::collections::BTreeMap;

use super::{
    hashes::Comparison,
    report::{EtcdReport, Id, MemberReport, Trouble},
};
use crate::etcd::Alarm;

/// What the voters' data comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alike<'r> {
    /// Nobody told anything else than the others.
    Equal,
    /// These hold other data than more than half of those that told, or have the alarm CORRUPT.
    Odd(Vec<&'r MemberReport>),
    /// These hold different data at one revision, and no more than half of all that told hold the same.
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
        let counts = |m: &&MemberReport| {
            let is_other = matches!(m.error, Some(Trouble::OtherCluster(_) | Trouble::OtherMember(_)));
            m.id.is_some_and(|id| !leaving.contains(&id)) && !m.is_learner && !is_other
        };
        // Of one with the alarm etcd has found it out.
        let (mut odd, rest): (Vec<&MemberReport>, Vec<&MemberReport>) =
            report.members.iter().filter(counts).partition(|m| is_corrupt(m));
        let told: Vec<&MemberReport> = rest.iter().copied().filter(|m| hash(m).is_some()).collect();
        let was_asked = matches!(report.comparison, Comparison::Compared | Comparison::Incomplete);
        let is_untold = |m: &&MemberReport| was_asked && m.error.is_none() && m.hash.is_none();
        let mut uncompared: Vec<&MemberReport> = rest.iter().copied().filter(is_untold).collect();
        let apart: Vec<&MemberReport> = told
            .iter()
            .copied()
            .filter(|m| told.iter().any(|o| hash(o) != hash(m) && since(o) == since(m)))
            .collect();
        let most = majority(told.iter().filter_map(|m| hash(m)));
        // Hashes compare only where they start from one compaction: that of most counts.
        let common =
            most.map(|(since, _)| since).or_else(|| most_common(told.iter().filter_map(|m| since(m))));
        uncompared.extend(told.iter().copied().filter(|m| since(m) != common));
        let is_odd = |m: &&MemberReport| most.is_some() && since(m) == common && hash(m) != most;
        odd.extend(told.iter().copied().filter(is_odd));
        match (most.is_none() && !apart.is_empty(), uncompared.is_empty()) {
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

/// The hash that more than half of all have that told one.
pub(super) fn majority<T: Ord>(told: impl Iterator<Item = T> + Clone) -> Option<T> {
    let all = told.clone().count();
    counted(told).into_iter().find(|(_, holders)| holders * 2 > all).map(|(hash, _)| hash)
}

fn most_common<T: Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    counted(values).into_iter().max_by_key(|(_, count)| *count).map(|(value, _)| value)
}

pub(super) fn counted<T: Ord>(values: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_insert(0) += 1);
    counts
}
