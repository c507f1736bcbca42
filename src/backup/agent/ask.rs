//! What the members of etcd say to a host that is about to take a snapshot.

use std::{collections::BTreeSet, fs, net::SocketAddr, time::Duration};

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use crate::{
    backup::{BackupError, choose::Voter},
    etcd::{
        Alarm, EtcdApi, MemberStatus,
        client::{Credentials, Dial, EtcdClient, dial},
        status::alarms_in,
    },
    host::Secret,
    layout,
    manifests::{BackupConfig, Peer},
};

/// How long a member may take to answer: nobody waits for a timer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a host waits for etcd to serve, and how often it looks. Where all hosts were switched on at once, their timers fire
/// before that, and the next try is a whole interval away.
const BOOT: Duration = Duration::from_secs(5 * 60);
const PAUSE: Duration = Duration::from_secs(5);

/// The members that answer, once a voter of them serves; where none does, those that answer in the end.
pub(super) async fn everybody_once_served(config: &BackupConfig, credentials: &Credentials) -> Vec<Answer> {
    // Little where the interval is short: what a survivor has is taken, too.
    let limit = BOOT.min(Duration::from_secs(config.interval / 4));
    let serves = |answers: &Vec<Answer>| answers.iter().any(|a| a.serves && !a.status.is_learner);
    until(limit, async || everybody(config, credentials).await, serves).await
}

/// Asks until the answer will do; the last answer where none did in time.
async fn until<T>(limit: Duration, ask: impl AsyncFn() -> T, will_do: impl Fn(&T) -> bool) -> T {
    let end = Instant::now() + limit;
    loop {
        let answer = ask().await;
        if will_do(&answer) || Instant::now() >= end {
            return answer;
        }
        sleep(PAUSE).await;
    }
}

/// The members that answer. Each is asked twice, where it is silent: on a busy host a silence is not yet an absence.
async fn everybody(config: &BackupConfig, credentials: &Credentials) -> Vec<Answer> {
    let asked = join_all(config.members.iter().map(|peer| async {
        match ask(peer, credentials).await {
            None => ask(peer, credentials).await,
            answer => answer,
        }
    }));
    asked.await.into_iter().flatten().collect()
}

/// Those of them that vote.
pub(super) fn voters(answers: &[Answer]) -> Vec<Voter> {
    let corrupt: BTreeSet<u64> = answers.iter().flat_map(|a| &a.corrupt).copied().collect();
    let voter = |a: &Answer| Voter {
        name: a.name.clone(),
        is_leader: a.status.leader == a.status.member_id,
        serves: a.serves,
        is_corrupt: corrupt.contains(&a.status.member_id),
        applied: (a.status.raft_term, a.status.raft_applied_index),
    };
    answers.iter().filter(|a| !a.status.is_learner).map(voter).collect()
}

/// What the member on this host says.
pub(super) async fn ask_own(config: &BackupConfig, credentials: &Credentials) -> Option<Answer> {
    ask(config.members.iter().find(|peer| peer.name == config.host)?, credentials).await
}

/// What one of them says.
pub(super) struct Answer {
    /// Whose member.
    pub name: String,
    /// The connection, for more questions.
    pub client: EtcdClient,
    /// Its status.
    pub status: MemberStatus,
    /// True where it has a leader and a quorum stands behind it.
    pub serves: bool,
    /// True where the alarm NOSPACE of any member is on.
    pub full: bool,
    /// IDs of members whose alarm CORRUPT is on, by what this one says.
    pub corrupt: Vec<u64>,
}

async fn ask(peer: &Peer, credentials: &Credentials) -> Option<Answer> {
    let wanted = Dial {
        endpoint: format!("{} ({}:{})", peer.name, peer.address, layout::ETCD_CLIENT_PORT),
        address: SocketAddr::from((peer.address, layout::ETCD_CLIENT_PORT)),
        server_name: peer.address.to_string(),
        deadline: PATIENCE,
    };
    let client = dial(&wanted, credentials).await.client.ok()?;
    let status = client.status().await.ok()?;
    let serves = status.leader != 0 && client.linearizable_read().await.is_ok();
    // A member's status names all alarms, those of others too, and needs no quorum.
    let alarms = alarms_in(&status.errors);
    let full = alarms.iter().any(|a| a.kind == Alarm::NOSPACE);
    let corrupt = alarms.into_iter().filter(|a| a.kind == Alarm::CORRUPT).map(|a| a.member_id).collect();
    Some(Answer { name: peer.name.clone(), client, status, serves, full, corrupt })
}

/// The certificate that kubeadm keeps for such questions on every etcd host.
pub(super) fn credentials() -> Result<Credentials, BackupError> {
    let read = |name: &str| {
        let path = format!("{}/{name}", layout::ETCD_PKI_DIR);
        fs::read(&path).map_err(BackupError::io(format!("read {path}")))
    };
    Ok(Credentials {
        ca: read("ca.crt")?,
        certificate: read("healthcheck-client.crt")?,
        key: Secret::new(read("healthcheck-client.key")?),
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn etcd_is_waited_for_and_not_for_ever() {
        for (served_at, limit, asked, answer) in
            [(1, 300, 1, true), (20, 300, 20, true), (1000, 300, 61, false), (1000, 0, 1, false)]
        {
            let times = Cell::new(0);
            let ask = async || {
                times.set(times.get() + 1);
                times.get() >= served_at
            };
            let found = until(Duration::from_secs(limit), ask, |serves| *serves).await;
            assert_eq!((found, times.get()), (answer, asked), "served at the {served_at}. time");
        }
    }
}
