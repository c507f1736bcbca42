//! A host with data of a cluster whose quorum is lost.

use serde::Serialize;

use crate::{
    exec::restore::survivors::{LED, Measured, entries},
    observe::wal::Writer,
};

/// A host with data of etcd.
#[derive(Clone, Default, Serialize)]
pub(super) struct Survivor {
    pub(super) host: String,
    pub(super) running: bool,
    pub(super) raft_term: Option<u64>,
    pub(super) raft_index: Option<u64>,
    /// Entries behind that, which a recovery drops; `None` where it runs.
    pub(super) undecided: Option<u64>,
    pub(super) revision: Option<u64>,
    pub(super) hash: Option<String>,
    /// The revision of that hash, and the compaction that it starts from: hashes compare only where both are equal.
    #[serde(skip)]
    pub(super) hashed_at: Option<(u64, u64)>,
    /// The cluster whose data it has, where that made room for the present one.
    pub(super) old_cluster: Option<String>,
    /// Which member's data it has, and of which cluster, by what that says itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) writer: Option<Writer>,
    /// Another host with the data of the same member, which counts in its place.
    pub(super) copy_of: Option<String>,
    /// What etcd says of its data, where it ends over it.
    pub(super) damaged: Option<String>,
    /// Why nothing is known of it.
    pub(super) unknown: Option<String>,
    /// That is since it follows a leader.
    #[serde(skip)]
    pub(super) is_led: bool,
}

impl Survivor {
    /// True where it has data of this cluster that etcd can start with, as far as is known.
    pub(super) fn is_sound(&self) -> bool {
        self.old_cluster.is_none() && self.damaged.is_none() && self.copy_of.is_none()
    }

    /// The etcd cluster whose data it has, where that says so.
    pub(super) fn cluster(&self) -> Option<&str> {
        self.writer.as_ref().map(|writer| writer.cluster.as_str())
    }

    /// What a quorum has agreed on is one log, of which each knows the start: who knows of a later entry knows all of the
    /// earlier ones, in whatever term (raft, section 5.4). A term alone proves nothing, a vote is enough to have a high one. Nor
    /// do entries behind the last that it knows to be agreed on count, however many: etcd drops them, and what another knows to be
    /// agreed on beyond that would be lost with them.
    pub(super) fn is_so_far(&self) -> (Option<u64>, Option<u64>) {
        (self.raft_index, self.revision)
    }

    /// Up to which revision its database is whole, where etcd falls over the rest of its data.
    pub(super) fn database(&self) -> Option<u64> {
        let counts = self.damaged.is_some() && self.old_cluster.is_none() && self.copy_of.is_none();
        self.revision.filter(|_| counts)
    }

    /// True where hashes of the two are of the same revision, since the same compaction, of one cluster.
    pub(super) fn compares(&self, other: &Self) -> bool {
        self.hashed_at == other.hashed_at && self.cluster() == other.cluster()
    }

    pub(super) fn with(mut self, measured: Option<Measured>) -> Self {
        match measured {
            Some(Measured::Far(far)) => {
                (self.raft_term, self.raft_index) = (Some(far.raft_term), Some(far.raft_index));
                (self.revision, self.undecided) = (Some(far.revision), far.undecided);
                (self.hash, self.hashed_at) = (far.hash, far.hashed_at);
            }
            Some(Measured::Damaged { why, revision }) => {
                (self.damaged, self.revision) = (Some(why), revision);
            }
            Some(Measured::Led) => (self.unknown, self.is_led) = (Some(LED.to_owned()), true),
            Some(Measured::Unknown(why)) => self.unknown = Some(why),
            None => {}
        }
        self
    }

    /// What the table has no column for.
    pub(super) fn note(&self) -> Option<String> {
        let host = &self.host;
        if let Some(id) = &self.old_cluster {
            return Some(format!(
                "{host} has the data of an old cluster ({id}), which this one took the place of."
            ));
        }
        if let Some(other) = &self.copy_of {
            return Some(format!(
                "{host} has a copy of the data of {other}: etcd on both would be one member, which counts once."
            ));
        }
        if let Some(why) = &self.damaged {
            let text = format!("{host} cannot be started, its data is damaged: {why}");
            return Some(match self.database() {
                Some(revision) => {
                    format!("{text}\nThe database of {host} alone is whole, up to revision {revision}.")
                }
                None => text,
            });
        }
        if let Some(why) = &self.unknown {
            return Some(format!("How far {host} is could not be measured: {why}"));
        }
        let undecided = self.undecided.filter(|n| *n > 0)?;
        Some(format!(
            "{host} has {} more at the end of its log, and does not know whether a quorum agreed on them.",
            entries(undecided)
        ))
    }
}

/// Of hosts with the data of one member, as after a folder was copied, the one counts that is furthest, or else runs.
pub(super) fn mark_copies(survivors: &mut [Survivor]) {
    for n in 0..survivors.len() {
        // Of one that could not be measured nobody knows which of the two is the copy.
        let is_known = |s: &Survivor| s.is_sound() && s.unknown.is_none();
        let Some(writer) = survivors[n].writer.clone().filter(|_| is_known(&survivors[n])) else { continue };
        let same = survivors.iter().filter(|s| is_known(s) && s.writer.as_ref() == Some(&writer));
        let kept = same.rev().max_by_key(|s| (s.is_so_far(), s.running)).map(|s| s.host.clone());
        survivors[n].copy_of = kept.filter(|host| *host != survivors[n].host);
    }
}

/// Sound ones of which two hold different data at one revision.
pub(super) fn apart(survivors: &[Survivor]) -> Vec<&Survivor> {
    let told = || survivors.iter().filter(|s| s.is_sound() && s.hash.is_some() && s.hashed_at.is_some());
    let differs = |s: &&Survivor| told().any(|other| s.compares(other) && other.hash != s.hash);
    told().filter(differs).collect()
}
