//! Keeping a running etcd well: what takes a member away for a moment is done to one member at a time, followers first
//! and the leader last, each under the quorum gate and only once the one before is well again.
//!
//! Nothing is planned ahead here: which member leads, and which can be spared, is asked just before each step.

use std::{collections::BTreeMap, time::Duration};

use super::{RunError, ask, gate, heir, members::Tended, wait::patiently};
use crate::{
    etcd::{
        DEFAULT_QUOTA,
        status::{EtcdReport, Hashes, MemberReport},
        upkeep::Upkeep,
    },
    event::{Events, Failure, Stage},
    inventory::{Cluster, NodeName},
    plan::quorum::{self, Change, Outage},
};

pub mod bench;
pub mod defrag;
pub mod space;

/// A running etcd, and what it takes to look after it.
pub struct Tending<'a> {
    /// What is wanted.
    pub cluster: &'a Cluster,
    /// Ways to the members.
    pub members: &'a dyn Tended,
    /// Where to tell what happens.
    pub events: &'a Events,
    /// How long one thing may take, beside what grows with a database.
    pub limit: Duration,
    /// True where the operator accepted that etcd may lose its quorum meanwhile.
    pub accept_quorum_loss: bool,
    /// True where somebody else than rsadm built hosts, on which no inventory sets anything.
    pub of_others: bool,
    /// The quotas that members are started with, by their hosts: not every etcd tells its own.
    pub quotas: BTreeMap<NodeName, u64>,
    /// True once the operator wants to stop.
    pub stopping: &'a (dyn Fn() -> bool + Sync),
}

impl Tending<'_> {
    /// The quota of members of which nothing tells theirs.
    fn usual_quota(&self) -> u64 {
        if self.of_others { DEFAULT_QUOTA } else { self.cluster.etcd.quota_backend_bytes }
    }
}

/// A slow disk writes a database anew at this many bytes a second, and compacts it no slower.
const SLOW_DISK: u64 = 5 << 20;

/// How long a member that is well may be too busy to be reached.
const REACHED: Duration = Duration::from_secs(20);

/// Within this time members write what was agreed on to their databases (etcd's `--backend-batch-interval` is 100 ms).
const COMMIT: Duration = Duration::from_millis(150);

impl Tending<'_> {
    /// How the members are at this moment, those too whose hosts left the inventory.
    pub async fn report(&self) -> EtcdReport {
        with_quotas(ask::report(self.members).await, &self.quotas)
    }

    /// The same with a look at whether they hold the same data, however long it takes.
    async fn compared(&self) -> EtcdReport {
        let report = ask::compared(self.members, Hashes::Whole).await;
        with_quotas(report, &self.quotas)
    }

    /// How the members are once no election is under way, where a quorum serves: upkeep needs one.
    ///
    /// # Errors
    /// Where none does.
    pub async fn serving(&self) -> Result<EtcdReport, RunError> {
        let report = gate::settled(self.members).await;
        serves(&report)?;
        Ok(with_quotas(report, &self.quotas))
    }

    /// Whether the member may be away for a moment, for what is being done to it, by what the members say now; how they are.
    async fn may_pause(&self, name: &str, outage: Outage) -> Result<EtcdReport, RunError> {
        let change = Change::Restart { name: name.to_owned(), outage };
        let accepts = self.accept_quorum_loss;
        let (report, judged) = gate::await_yes(self.members, &change, accepts, self.limit).await;
        serves(&report)?;
        gate::accept(judged, accepts, self.events).map_err(RunError::Refused)?;
        Ok(report)
    }

    /// A connection to a member, wherever it runs.
    async fn reach(&self, member: &MemberReport) -> Result<Box<dyn Upkeep>, String> {
        // A member under load may take longer than a dial waits.
        patiently(REACHED, || ask::tend(self.members, member)).await
    }

    async fn tend(
        &self,
        stage: &Stage,
        member: &MemberReport,
        step: &str,
    ) -> Result<Box<dyn Upkeep>, RunError> {
        self.reach(member).await.map_err(|why| failed(stage, &member.name, step, why))
    }

    /// Has every member count anew how much of its database it uses; what it says is old in a cluster at rest. Under
    /// NOSPACE etcd refuses, and nobody relies on it.
    async fn recount(&self, report: &EtcdReport) {
        let Some(member) = speaker(report, |_| false) else { return };
        let Ok(api) = ask::tend(self.members, member).await else { return };
        for _ in 0..2 {
            if api.touch().await.is_err() {
                return;
            }
            tokio::time::sleep(COMMIT).await;
        }
    }

    /// What a database of that size may take.
    fn limit_for(&self, bytes: u64) -> Duration {
        self.limit + Duration::from_secs(bytes / SLOW_DISK)
    }

    /// Hands leadership to the best of the others: of those that are well the one that is furthest.
    async fn hand_over(&self, report: &EtcdReport, leader: &MemberReport) -> Result<(), RunError> {
        let others = report.members.iter().filter(|m| m.healthy && !m.is_learner && m.id != leader.id);
        let Some(next) = others.min_by_key(|m| (m.lag, m.latency_ms.map(|l| l.micros))) else {
            return Ok(());
        };
        let stage = self.events.stage("leader", format!("from {} to {}", leader.name, next.name), []);
        let api = self.tend(&stage, leader, "hand over leadership").await?;
        let told = |why: String| failed(&stage, &leader.name, "hand over leadership", why);
        let id = next.id.map_or(0, |id| id.0);
        api.move_leader(id).await.map_err(|e| told(e.into_why()))?;
        let leads = || async {
            match self.report().await.leader {
                Some(now) if Some(now) != leader.id => Ok(()),
                _ => Err(format!("{} still leads", leader.name)),
            }
        };
        patiently(self.limit, leads).await.map_err(told)?;
        if !self.accept_quorum_loss {
            let followed = heir::is_followed(self.members, self.cluster, report).await;
            followed.map_err(RunError::Refused)?;
        }
        stage.done(format!("{} leads, before it {}", next.name, leader.name));
        Ok(())
    }

    /// Waits until the member does its part again.
    async fn well_again(&self, stage: &Stage, name: &str) -> Result<MemberReport, RunError> {
        let well = || async {
            let report = self.report().await;
            match report.members.into_iter().find(|m| m.name == name) {
                Some(MemberReport { error: Some(why), .. }) => {
                    Err(format!("{name} is not well again: {why}"))
                }
                Some(member) => Ok(member),
                None => Err(format!("{name} is no member any more")),
            }
        };
        patiently(self.limit, well).await.map_err(|why| failed(stage, name, "wait until it is well", why))
    }
}

/// With the quotas of hosts where members do not say theirs (etcd before 3.6).
fn with_quotas(mut report: EtcdReport, quotas: &BTreeMap<NodeName, u64>) -> EtcdReport {
    for member in &mut report.members {
        let of_host = member.node.as_deref().and_then(|node| quotas.get(&NodeName::new(node)));
        member.db_size_quota = member.db_size_quota.or(of_host.copied());
    }
    report
}

/// Whom all members are asked through: one that is well and at a host of the inventory, or else one that is well.
fn speaker(report: &EtcdReport, prefers: impl Fn(&MemberReport) -> bool) -> Option<&MemberReport> {
    let well = report.members.iter().filter(|m| m.healthy && !m.is_learner);
    well.min_by_key(|m| (!prefers(m), !m.in_inventory))
}

/// Refuses where no quorum serves: upkeep needs one.
fn serves(report: &EtcdReport) -> Result<(), RunError> {
    match report.serves {
        true => Ok(()),
        false => {
            let why = "it serves no writes, and no member can be spared";
            Err(RunError::Refused(quorum::none("etcd has no quorum", why)))
        }
    }
}

/// Tells of a step that failed.
fn failed(stage: &Stage, host: &str, step: &str, why: String) -> RunError {
    let next = "rsadm etcd status, then the same command again".into();
    let failure = Failure { next, ..Failure::new(stage.phase(), NodeName::new(host), step, why) };
    stage.failed(failure.clone());
    RunError::Failed(vec![failure])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::status::tests::Scene;

    #[test]
    fn a_quota_that_a_member_does_not_tell_is_that_of_its_manifest() {
        let mut scene = Scene::new(3);
        scene.status(1).db_size_quota = 0;
        scene.status(3).db_size_quota = 0;
        let quotas = ["m1", "m2"].map(|host| (NodeName::new(host), 3 << 30)).into();
        let report = with_quotas(scene.report(), &quotas);
        let found: Vec<Option<u64>> = report.members.iter().map(|m| m.db_size_quota).collect();
        assert_eq!(found, [Some(3 << 30), Some(8 << 30), None]);
    }
}
