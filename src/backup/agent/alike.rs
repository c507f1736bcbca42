//! Whether this host's member holds what the others do, asked once for each snapshot that it takes: the alarm CORRUPT is none that
//! every cluster raises (kubeadm's members compare themselves at their start alone), and a snapshot of data that is not the cluster's
//! opens and restores as any other does.

use futures::future::join_all;

use crate::{
    backup::choose::UNDECIDED,
    etcd::{
        EtcdApi, EtcdError, KvHash, MemberStatus,
        status::{Hashes, Told, is_same_data, judged, lacks_writes},
    },
};

/// Why the data of `own` is not what the cluster can go on with; `None` where nothing says so, and where hashes would hold up
/// writes: whose databases are that large compare them with `rsadm etcd status --compare`. Of `members` some may be away.
pub(super) async fn doubt(own: &str, voters: &[(&str, &dyn EtcdApi)], members: usize) -> Option<String> {
    let statuses = join_all(voters.iter().map(async |(_, api)| api.status().await.ok())).await;
    let largest = statuses.iter().flatten().map(|status| status.db_size).max()?;
    let revision = statuses.iter().flatten().map(|status| status.revision).min()?;
    if voters.len() < 2 || !Hashes::Quick.has(largest) {
        return None;
    }
    let limit = Hashes::limit(largest);
    let hash = async |(name, api): &(&str, &dyn EtcdApi)| (name == &own, api.hash_kv(revision, limit).await);
    let answers = join_all(voters.iter().map(hash)).await;
    let is_dropped = answers.iter().any(|(_, hash)| hash.as_ref().is_err_and(EtcdError::is_compacted));
    let told: Vec<(bool, KvHash)> =
        answers.into_iter().filter_map(|(is_own, hash)| Some((is_own, hash.ok()?))).collect();
    let own_hash = told.iter().find(|(is_own, _)| *is_own)?;
    let status = voters
        .iter()
        .zip(&statuses)
        .find(|((name, _), _)| *name == own)
        .and_then(|(_, status)| status.as_ref());
    let reached = status.map(|status| (status.raft_applied_index, own_hash.1.newest));
    let lacks = |other: &MemberStatus| {
        reached.is_some_and(|own| lacks_writes(own, (other.raft_index, other.revision)))
    };
    if statuses.iter().flatten().any(lacks) {
        return Some(format!(
            "of {own}: it lacks writes that others have, and has applied all that they know of"
        ));
    }
    if is_dropped && own_hash.1.newest == revision {
        return Some(format!("of {own}: it has nothing so new that the others still have it (hash)"));
    }
    let of = |(_, hash): &(bool, KvHash)| (hash.compact_revision, hash.hash);
    match judged(own_hash, &told, members, |a, b| is_same_data(of(a), of(b))) {
        Told::Same => None,
        Told::Odd => Some(format!("of {own}: its data differs from the others' (hash)")),
        Told::Undecided => Some(UNDECIDED.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use async_trait::async_trait;

    use super::*;
    use crate::etcd::{Alarm, Member, status::tests::Scene};

    /// A member at some revision with so large a database, and the hash that it tells, of what it starts from.
    struct Voter {
        revision: u64,
        applied: u64,
        db_size: u64,
        hash: Option<(u32, u64)>,
        asked: Mutex<Vec<u64>>,
    }

    #[async_trait]
    impl EtcdApi for Voter {
        fn endpoint(&self) -> &'static str {
            "m1"
        }
        async fn status(&self) -> Result<MemberStatus, EtcdError> {
            Ok(MemberStatus {
                db_size: self.db_size,
                revision: self.revision,
                raft_index: self.applied,
                raft_applied_index: self.applied,
                ..Scene::new(3).status(1).clone()
            })
        }
        async fn hash_kv(&self, revision: u64, _: Duration) -> Result<KvHash, EtcdError> {
            self.asked.lock().unwrap().push(revision);
            let silent = || EtcdError::Unavailable { endpoint: "m1".into(), why: "no answer".into() };
            let (hash, compact_revision) = self.hash.ok_or_else(silent)?;
            if compact_revision > revision {
                return Err(EtcdError::Refused { endpoint: "m1".into(), why: EtcdError::COMPACTED.into() });
            }
            Ok(KvHash { hash, revision, newest: self.revision, compact_revision })
        }
        async fn members(&self, _: bool) -> Result<Vec<Member>, EtcdError> {
            unreachable!("hashes are all that is asked for")
        }
        async fn alarms(&self) -> Result<Vec<Alarm>, EtcdError> {
            unreachable!("hashes are all that is asked for")
        }
        async fn disarm(&self, _: &Alarm) -> Result<(), EtcdError> {
            unreachable!("nothing is changed")
        }
        async fn has_keys(&self, _: &str) -> Result<bool, EtcdError> {
            unreachable!("hashes are all that is asked for")
        }
        async fn linearizable_read(&self) -> Result<(), EtcdError> {
            unreachable!("hashes are all that is asked for")
        }
        async fn add_learner(&self, _: &str) -> Result<u64, EtcdError> {
            unreachable!("nothing is changed")
        }
        async fn promote(&self, _: u64) -> Result<(), EtcdError> {
            unreachable!("nothing is changed")
        }
        async fn remove(&self, _: u64) -> Result<(), EtcdError> {
            unreachable!("nothing is changed")
        }
        async fn move_leader(&self, _: u64) -> Result<(), EtcdError> {
            unreachable!("nothing is changed")
        }
    }

    /// What is said of the first of these, and the revisions at which they were asked; of more members so many are away.
    async fn said(db_size: u64, hashes: &[Option<(u32, u64)>], away: usize) -> (String, Vec<u64>) {
        said_at([70, 71, 72], db_size, hashes, away).await
    }

    /// The same with what each has applied.
    async fn said_at(
        applied: [u64; 3],
        db_size: u64,
        hashes: &[Option<(u32, u64)>],
        away: usize,
    ) -> (String, Vec<u64>) {
        let asked = || Mutex::new(vec![]);
        let voter = |((revision, applied), hash): ((u64, u64), &Option<(u32, u64)>)| Voter {
            revision,
            applied,
            db_size,
            hash: *hash,
            asked: asked(),
        };
        let voters: Vec<Voter> = (70..).zip(applied).zip(hashes).map(voter).collect();
        let named =
            ["e1", "e2", "e3"].into_iter().zip(&voters).map(|(name, voter)| (name, voter as &dyn EtcdApi));
        let doubt = doubt("e1", &named.collect::<Vec<_>>(), hashes.len() + away).await.unwrap_or_default();
        (doubt, voters.into_iter().flat_map(|voter| voter.asked.into_inner().unwrap()).collect())
    }

    #[tokio::test]
    async fn what_differs_is_told_where_the_cluster_raises_no_alarm() {
        let odd = "of e1: its data differs from the others' (hash)";
        let split = UNDECIDED;
        let (a, b, later) = (Some((1, 5)), Some((2, 5)), Some((3, 6)));
        for (hashes, doubt) in [
            (&[a, a, a][..], ""),
            (&[b, a, a], odd),
            (&[a, b, a], ""),
            (&[b, a, Some((9, 5))], split),
            (&[a, b], split),
            (&[a, b, None], split),
            // What starts from another compaction is another hash.
            (&[later, a, a], ""),
            (&[a, later, later], ""),
            (&[None, a, a], ""),
        ] {
            let (told, asked) = said(1 << 20, hashes, 0).await;
            assert_eq!(told, doubt, "{hashes:?}");
            assert!(asked.iter().all(|revision| *revision == 70), "{asked:?}");
        }
        // Two that are wrong outvote nobody while the others are away.
        for hashes in [[a, b, b], [b, a, b]] {
            assert_eq!(said(1 << 20, &hashes, 2).await.0, split);
        }
        // One that lacks what others applied is far below what they keep.
        let (new, below) =
            (Some((3, 900)), "of e1: it has nothing so new that the others still have it (hash)");
        assert_eq!(said(1 << 20, &[a, new, new], 0).await.0, below);
        assert_eq!(said(1 << 20, &[new, new, a], 0).await.0, "");
        // Of equal hashes, too: they are of what all have.
        let lacks = "of e1: it lacks writes that others have, and has applied all that they know of";
        assert_eq!(said_at([72, 71, 72], 1 << 20, &[a, a, a], 0).await.0, lacks);
        assert_eq!(said_at([70, 71, 70], 1 << 20, &[a, a, a], 0).await.0, lacks);
        assert_eq!(said_at([70, 72, 71], 1 << 20, &[a, a, a], 0).await.0, "");
        // Nobody to compare with, and nobody that a hash would hold up.
        for (size, hashes) in [(1 << 20, &[a][..]), ((1 << 30) + 1, &[b, a, a])] {
            assert_eq!(said(size, hashes, 0).await, (String::new(), vec![]));
        }
    }
}
