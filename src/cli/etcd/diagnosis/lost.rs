//! Survivors that have lost what they had acknowledged, as by storage that was set back: their numbers beside those of another prove
//! it.

use super::{
    Diagnosis, Survivor,
    choice::{Asked, no},
};
use crate::{
    etcd::status::list,
    layout,
    plan::{Refusal, quorum::quorum},
};

/// What the numbers come to.
pub(super) struct Lost<'d> {
    /// Whose logs end before an entry that a quorum had agreed on; more than may lack one.
    lacking: Vec<&'d Survivor>,
    /// Who knows of that entry, and which it is.
    knows: (&'d Survivor, u64),
}

impl Survivor {
    /// The last entry of its log, where that was measured.
    fn end(&self) -> Option<u64> {
        Some(self.raft_index? + self.undecided?)
    }
}

impl Diagnosis {
    /// What a quorum has agreed on is in the logs of a quorum. Whoever is missing or could not be measured is taken to have it; where
    /// all of those are still too few, some of the others had it once.
    pub(super) fn lost(&self) -> Option<Lost<'_>> {
        let sound = || self.survivors.iter().filter(|s| s.is_sound() && self.of_several().is_none());
        let knows = sound().filter_map(|s| Some((s, s.raft_index?))).max_by_key(|(_, index)| *index)?;
        let lacking: Vec<&Survivor> = sound().filter(|s| s.end().is_some_and(|end| end < knows.1)).collect();
        let may_have = self.voters.saturating_sub(lacking.len());
        // One of an even number may be a learner, without which a quorum is smaller.
        let least = quorum(self.voters - usize::from(self.voters > 0 && self.voters.is_multiple_of(2)));
        (!lacking.is_empty() && may_have < least).then_some(Lost { lacking, knows })
    }
}

impl Lost<'_> {
    /// In words, after who has data.
    pub(super) fn text(&self) -> String {
        let ends: Vec<String> =
            self.lacking.iter().map(|s| format!("{} at {}", s.host, s.end().unwrap_or_default())).collect();
        let (knows, index) = (&self.knows.0.host, self.knows.1);
        format!(
            "{} lost entries that a quorum had agreed on: logs end on {}, and {knows} knows that {index} was agreed on, which \
             so many cannot lack; started without {knows} they would elect one another, and what they lost would be lost for \
             good",
            list(&self.lacking.iter().map(|s| s.host.as_str()).collect::<Vec<_>>()),
            list(&ends)
        )
    }

    /// A refusal to begin anew where members could be started, with the ways on.
    pub(super) fn refusal(&self, asked: Asked<'_>) -> Refusal {
        let (knows, inventory) = (&self.knows.0.host, asked.inventory);
        let lacking = list(&self.lacking.iter().map(|s| s.host.as_str()).collect::<Vec<_>>());
        let keep_off =
            format!("keep etcd off on {lacking} at first (mv {} /root/ there)", layout::ETCD_MANIFEST);
        let help = match asked.begun {
            Some(begun) if begun.as_str() == knows => {
                format!("rsadm etcd recover{inventory} --from {knows} goes on with what {knows} has")
            }
            Some(_) => format!("{keep_off}; then {}", asked.back()),
            None => format!(
                "{keep_off}; start {knows} and, beside it, no more of them than it takes for a quorum; once {knows} leads (rsadm \
                 etcd status{inventory}) put the other manifests back; or rsadm etcd recover{inventory} --from {knows} makes etcd \
                 anew from what {knows} has"
            ),
        };
        no(self.text(), help)
    }
}
