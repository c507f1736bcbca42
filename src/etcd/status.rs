//! How an etcd cluster is: every member asked at once, under one deadline, and the answers judged by a pure function.
//!
//! [`gather`] is all the input and output, [`assess`] all the thinking. Nothing here writes to etcd: with the quorum
//! lost even its list of alarms would be a write, so that is only asked for where a member serves.

use std::time::Duration;

use futures::future::{join, join_all};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};

use super::{Alarm, EtcdApi, EtcdError, KvHash, Member, MemberStatus, Silence};

mod advice;
mod alarms;
mod alike;
mod assess;
mod backup;
mod certificates;
mod commands;
mod disks;
mod doubt;
mod hashes;
mod host;
mod links;
mod membership;
mod metrics;
mod report;
mod silence;
mod timing;

pub use advice::{list, title};
pub use alike::{Alike, Told, is_same_data, judged, lacks_writes, same};
pub use assess::{Known, LAG_LIMIT, alarms_in, assess, strangers};
pub use backup::{BackupReport, Backups, HostBackups};
pub use disks::LEAST_ROOM;
pub use hashes::{Comparison, Hashes, compare};
pub use host::{Expired, HostState, Process, Restoring, Words};
pub use metrics::{Histogram, Metrics};
pub use report::{
    Advice, ApiServer, EtcdReport, Id, Level, MemberReport, Millis, OrphanedAlarm, Quorum, Trouble, Verdict,
    View,
};
#[cfg(test)]
pub(crate) use silence::LOST_LINES;
pub use timing::{Pace, Timing, advised};

/// A host that should run a member, or a member that no etcd host of the inventory is, and the way to ask it.
pub struct Target {
    /// The host's name; a stranger's own.
    pub node: String,
    /// False for a stranger: a member at none of the inventory's etcd hosts.
    pub in_inventory: bool,
    /// Where other members dial it, by which it is found in the member list.
    pub peer_url: String,
    /// Where clients dial it.
    pub client_url: String,
    /// The connection, or why there is none.
    pub api: Result<Box<dyn EtcdApi>, Silence>,
    /// When the certificate that it serves to clients expires, from the handshake.
    pub served_not_after: Option<OffsetDateTime>,
    /// The same of the one that it serves to other members.
    pub peer_not_after: Option<OffsetDateTime>,
}

impl Target {
    /// One of whose certificates nothing was seen.
    pub fn of(
        node: String,
        in_inventory: bool,
        peer_url: String,
        client_url: String,
        api: Result<Box<dyn EtcdApi>, Silence>,
    ) -> Self {
        Self { node, in_inventory, peer_url, client_url, api, served_not_after: None, peer_not_after: None }
    }
}

/// How long members may take. The sum of what a person waits for stays under 5 s, connecting included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For status and reads. Twice the default election timeout: an election under way is not yet a lost quorum.
    pub answers: Duration,
    /// For everything, hashes included where they are not waited for.
    pub total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { answers: Duration::from_secs(2), total: Duration::from_millis(3_500) }
    }
}

/// What one host answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The host's name; a stranger's own.
    pub node: String,
    /// As in [`Target::in_inventory`].
    pub in_inventory: bool,
    /// Where other members dial it.
    pub peer_url: String,
    /// Where clients dial it.
    pub client_url: String,
    /// What its member says of itself, or why it said nothing.
    pub status: Result<MemberStatus, Silence>,
    /// How long it took to say so.
    pub latency: Option<Duration>,
    /// The member list through a quorum, or why it served none: `Ok` proves that a quorum stands behind it.
    pub quorum_list: Result<Vec<Member>, Silence>,
    /// The member list as this member has it, which needs no quorum.
    pub own_list: Option<Vec<Member>>,
    /// The hash of its key space at the common revision.
    pub hash: Option<KvHash>,
    /// Its newest revision when it was asked for a hash, which is after it said how it is.
    pub newest: Option<u64>,
    /// When the certificate that it serves to clients expires.
    pub served_not_after: Option<OffsetDateTime>,
    /// When the one expires that it serves to other members.
    pub peer_not_after: Option<OffsetDateTime>,
}

/// What all hosts answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// One entry a host, in the order asked.
    pub answers: Vec<Answer>,
    /// All alarms, where a member could say through a quorum.
    pub alarms: Option<Vec<Alarm>>,
    /// Whether hashes were wanted.
    pub hashes: Hashes,
}

/// Asks all members in parallel, for no hashes yet; comes back within [`Limits::total`] whatever they do.
pub async fn gather(targets: &[Target], limits: Limits) -> Gathered {
    let start = Instant::now();
    let answers = join_all(targets.iter().map(|t| ask(t, start + limits.answers))).await;
    let alarms = alarms(targets, &answers, start + limits.total).await;
    Gathered { answers, alarms, hashes: Hashes::Unasked }
}

async fn ask(target: &Target, deadline: Instant) -> Answer {
    let mut answer = Answer {
        node: target.node.clone(),
        in_inventory: target.in_inventory,
        peer_url: target.peer_url.clone(),
        client_url: target.client_url.clone(),
        status: Err("".into()),
        latency: None,
        quorum_list: Err("".into()),
        own_list: None,
        hash: None,
        newest: None,
        served_not_after: target.served_not_after,
        peer_not_after: target.peer_not_after,
    };
    let api = match &target.api {
        Ok(api) => api,
        Err(why) => {
            answer.status = Err(why.clone());
            answer.quorum_list = Err(why.clone());
            return answer;
        }
    };
    // Alone and first, so that its time is that of one round trip.
    let asked = Instant::now();
    answer.status = by(deadline, api.status()).await;
    if let Err(why) = &answer.status {
        answer.quorum_list = Err(why.clone());
        return answer;
    }
    answer.latency = Some(asked.elapsed());
    let lists = join(by(deadline, api.members(true)), by(deadline, api.members(false))).await;
    answer.quorum_list = lists.0;
    answer.own_list = lists.1.ok();
    answer
}

/// Asks one member that serves; the list is agreed on through raft, so one answer is everybody's.
async fn alarms(targets: &[Target], answers: &[Answer], deadline: Instant) -> Option<Vec<Alarm>> {
    let serving = targets.iter().zip(answers).find(|(_, a)| a.quorum_list.is_ok());
    let api = serving?.0.api.as_ref().ok()?;
    by(deadline, api.alarms()).await.ok()
}

/// Cuts a call off at the deadline, and puts its failure into words that need no endpoint: they stand in its row.
async fn by<T>(
    deadline: Instant,
    call: impl Future<Output = Result<T, EtcdError>> + Send,
) -> Result<T, Silence> {
    let started = Instant::now();
    match timeout_at(deadline, call).await {
        Ok(answer) => answer.map_err(Silence::from),
        Err(_) => Err(Silence::late(format!("no answer within {:.1} s", started.elapsed().as_secs_f64()))),
    }
}

#[cfg(test)]
pub(crate) mod tests;
