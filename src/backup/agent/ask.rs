//! What the members of etcd say to a host that is about to take a snapshot.

use std::{fs, net::SocketAddr, time::Duration};

use futures::future::join_all;

use crate::{
    backup::{BackupError, choose::Voter},
    etcd::{
        Alarm, EtcdApi, EtcdError, MemberStatus,
        client::{Credentials, Dial, EtcdClient, dial},
        status::alarms_in,
    },
    layout,
    manifests::{BackupConfig, Peer},
    secret::Secret,
    until::until,
};

/// How long a member may take to answer: nobody waits for a timer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a host waits for etcd to serve, and how often it looks. Where all hosts were switched on at once, their timers fire
/// before that, and the next try is a whole interval away.
const BOOT: Duration = Duration::from_secs(5 * 60);
const PAUSE: Duration = Duration::from_secs(5);

/// The members that answer, and why the last that was asked did not.
type Asked = (Vec<Answer>, Option<EtcdError>);

/// The members that answer, once a voter of them serves; where none does, those that answer in the end.
pub(super) async fn everybody_once_served(config: &BackupConfig, credentials: &Credentials) -> Asked {
    // Little where the interval is short: what a survivor has is taken, too.
    let limit = BOOT.min(Duration::from_secs(config.interval / 4));
    let serves = |(answers, _): &Asked| answers.iter().any(|a| a.serves && !a.status.is_learner);
    until(limit, PAUSE, async || everybody(config, credentials).await, serves).await
}

/// The members that answer. Each is asked twice, where it is silent: on a busy host a silence is not yet an absence.
async fn everybody(config: &BackupConfig, credentials: &Credentials) -> Asked {
    let asked = join_all(config.members.iter().map(|peer| async {
        match ask(peer, credentials).await {
            Err(_) => ask(peer, credentials).await,
            answer => answer,
        }
    }));
    let (mut answers, mut silence) = (Vec::new(), None);
    for answer in asked.await {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(error) => silence = Some(error),
        }
    }
    (answers, silence)
}

/// Those of them that vote.
pub(super) fn voters(answers: &[Answer]) -> Vec<Voter> {
    // A member that was cut off knows of no alarm that came later.
    let is_corrupt = |id: u64| answers.iter().any(|other| other.alarms.are_of_corrupt(id));
    let voter = |a: &Answer| Voter {
        name: a.name.clone(),
        is_leader: a.status.leader == a.status.member_id,
        serves: a.serves,
        is_corrupt: is_corrupt(a.status.member_id),
        lacks_keys: a.lacks_keys,
        applied: (a.status.raft_term, a.status.raft_applied_index),
    };
    answers.iter().filter(|a| !a.status.is_learner).map(voter).collect()
}

/// What the member on this host says.
pub(super) async fn ask_own(config: &BackupConfig, credentials: &Credentials) -> Option<Answer> {
    ask(config.members.iter().find(|peer| peer.name == config.host)?, credentials).await.ok()
}

/// What one of them says.
pub(super) struct Answer {
    /// Whose member.
    pub name: String,
    /// True where bundles are wanted, and its host has not all keys that go into one.
    lacks_keys: bool,
    /// The connection, for more questions.
    pub client: EtcdClient,
    /// Its status.
    pub status: MemberStatus,
    /// True where it has a leader and a quorum stands behind it.
    pub serves: bool,
    /// The alarms that are on, by what this one says: a member's status names those of others too, and needs no quorum.
    pub alarms: Alarms,
}

/// Alarms of any member.
pub(super) struct Alarms(Vec<Alarm>);

impl Alarms {
    /// Those of a member's status.
    pub(super) fn of(status: &MemberStatus) -> Self {
        Self(alarms_in(&status.errors))
    }

    /// True where etcd grants no lease, so that nobody can leave a note (etcd, `server/etcdserver/apply`, `applierV3Capped` and
    /// `applierV3Corrupt`).
    pub(super) fn forbid_notes(&self) -> bool {
        self.0.iter().any(|a| [Alarm::NOSPACE, Alarm::CORRUPT].contains(&&*a.kind))
    }

    /// True where one says that a member's data is corrupt, or that etcd does not know whose is right.
    fn are_of_corrupt(&self, member_id: u64) -> bool {
        let of = [member_id, Alarm::WHOLE_CLUSTER];
        self.0.iter().any(|a| a.kind == Alarm::CORRUPT && of.contains(&a.member_id))
    }
}

async fn ask(peer: &Peer, credentials: &Credentials) -> Result<Answer, EtcdError> {
    let wanted = Dial {
        endpoint: format!("{} ({}:{})", peer.name, peer.address, layout::ETCD_CLIENT_PORT),
        address: SocketAddr::from((peer.address, layout::ETCD_CLIENT_PORT)),
        server_name: peer.address.to_string(),
        deadline: PATIENCE,
    };
    let client = dial(&wanted, credentials).await.client?;
    let status = client.status().await?;
    let serves = status.leader != 0 && client.linearizable_read().await.is_ok();
    let alarms = Alarms::of(&status);
    let (name, lacks_keys) = (peer.name.clone(), peer.lacks_keys);
    Ok(Answer { name, lacks_keys, client, status, serves, alarms })
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
    use super::*;

    /// Port 2379 of an address that is no host's.
    #[tokio::test]
    async fn why_no_member_answers_is_told() {
        let peer = Peer { name: "e1".into(), address: [127, 255, 255, 254].into(), lacks_keys: false };
        let config = BackupConfig { members: vec![peer], ..crate::backup::agent::tests::sample_config() };
        let credentials = Credentials { ca: vec![], certificate: vec![], key: Secret::new("") };
        let (answers, silence) = everybody(&config, &credentials).await;
        assert!(answers.is_empty());
        let said = crate::line::chain(&BackupError::Silent(silence));
        assert!(
            said.starts_with("no member of etcd answers: ") && said.contains("e1 (127.255.255.254"),
            "{said}"
        );
    }

    #[test]
    fn an_alarm_of_no_member_is_one_of_all() {
        for (errors, is_corrupt, forbid_notes) in [
            (&["etcdserver: no leader"][..], [false, false], false),
            (&["memberID:7 alarm:NOSPACE"], [false, false], true),
            (&["memberID:7  alarm:CORRUPT"], [true, false], true),
            (&["alarm:CORRUPT"], [true, true], true),
            (&["memberID:8 alarm:NOSPACE", "alarm:CORRUPT"], [true, true], true),
        ] {
            let alarms = Alarms(alarms_in(&errors.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>()));
            assert_eq!([7, 8].map(|id| alarms.are_of_corrupt(id)), is_corrupt, "{errors:?}");
            assert_eq!(alarms.forbid_notes(), forbid_notes, "{errors:?}");
        }
    }
}
