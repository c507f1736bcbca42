//! The real etcd, over one TLS connection to one member; the only file that knows `etcd-client`.
//!
//! A member is dialled through a forwarded port on loopback, but has to prove its own address: the TLS server name is
//! the member's, so a port that leads to the wrong host is found out. Nothing here retries or backs off. A dead
//! member is an error at once and a silent one after [`Dial::deadline`]; who wants to wait dials again.

use std::{
    fmt::Display,
    future::Future,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Channel, Client, GetOptions, MemberAddOptions};
use time::OffsetDateTime;
use tonic::transport::{ClientTlsConfig, Endpoint, Identity};

use self::{
    certificate::Observer,
    failure::{
        MEMBER_ID_EXISTS, MEMBER_NOT_FOUND, NOT_A_LEARNER, PEER_URL_EXISTS, classify, says, transport_error,
    },
};
use super::{Alarm, EtcdApi, EtcdError, KvHash, Member, MemberStatus};
use crate::{log, secret::Secret};

mod certificate;
mod failure;
mod lease;
mod snapshot;
mod upkeep;

pub use snapshot::SnapshotStream;

/// How long a call may take where the caller does not say.
///
/// Five times the default election timeout: a call that meets an election still gets its answer, also on a busy host.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Which member to ask, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// The member in words, for messages: `m1 (10.0.0.1:2379)`.
    pub endpoint: String,
    /// Where to dial: usually a forwarded port on loopback.
    pub address: SocketAddr,
    /// What its certificate has to be for: the member's internal address, which every certificate of ours and of
    /// kubeadm names.
    pub server_name: String,
    /// The longest that connecting (first answer included), and then each call, may take.
    pub deadline: Duration,
}

/// What a client of etcd proves itself with, and whom it trusts; all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The etcd CA's certificate, or several (while a CA is being changed).
    pub ca: Vec<u8>,
    /// A client certificate that the members accept.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Secret,
}

/// What came of dialling a member.
#[derive(Debug)]
pub struct Dialled {
    /// The connected client, or why there is none.
    pub client: Result<EtcdClient, EtcdError>,
    /// When the certificate that the member served expires: known even where we refused it, for instance because it
    /// has expired; `None` where the handshake did not come so far.
    pub served_not_after: Option<OffsetDateTime>,
}

/// A connection to one member.
pub struct EtcdClient {
    endpoint: String,
    deadline: Duration,
    client: Client,
}

impl std::fmt::Debug for EtcdClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdClient").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Connects to a member and has it answer once.
///
/// With TLS 1.3 a member judges our certificate after the handshake, so only an answer shows that it let us in.
pub async fn dial(dial: &Dial, credentials: &Credentials) -> Dialled {
    let observer = match Observer::new(&credentials.ca) {
        Ok(observer) => Arc::new(observer),
        Err(why) => {
            let why = format!("the CA certificate given for it is not usable: {why}");
            let error = EtcdError::Untrusted { endpoint: dial.endpoint.clone(), why, early: false };
            return Dialled { client: Err(error), served_not_after: None };
        }
    };
    let asked = Instant::now();
    let accepted = async {
        let client = connect(dial, credentials, &observer).await?;
        client.status().await.map(|_| client)
    };
    let mut client = within(&dial.endpoint, dial.deadline, accepted).await;
    if matches!(client, Err(EtcdError::Unavailable { .. })) && asked.elapsed() < dial.deadline {
        client = rejected(dial, credentials, &observer).await.map_or(client, Err);
    }
    log::call(&dial.endpoint, "dial", asked.elapsed(), client.as_ref().err().map(|e| e as &dyn Display));
    Dialled { client, served_not_after: observer.not_after() }
}

/// When the certificate expires that is served at the port of `dial`, which need not be one for clients; `None` where nobody
/// showed one in time.
pub async fn served_not_after(dial: &Dial, credentials: &Credentials) -> Option<OffsetDateTime> {
    let observer = Arc::new(Observer::new(&credentials.ca).ok()?);
    let (address, name) = (dial.address, dial.server_name.clone());
    let (credentials, looking) = (credentials.clone(), Arc::clone(&observer));
    let look = tokio::task::spawn_blocking(move || looking.look(address, &name, &credentials));
    // What it showed by then counts.
    let _ = tokio::time::timeout(dial.deadline, look).await;
    observer.not_after()
}

/// A closed connection explained, where the reason is our certificate.
async fn rejected(dial: &Dial, credentials: &Credentials, observer: &Arc<Observer>) -> Option<EtcdError> {
    let (dial, credentials, observer) = (dial.clone(), credentials.clone(), Arc::clone(observer));
    tokio::task::spawn_blocking(move || observer.rejection(&dial, &credentials)).await.ok()?
}

async fn connect(
    dial: &Dial,
    credentials: &Credentials,
    observer: &Arc<Observer>,
) -> Result<EtcdClient, EtcdError> {
    let failed = |e: tonic::transport::Error| transport_error(&dial.endpoint, &e);
    let tls = ClientTlsConfig::new()
        .domain_name(&dial.server_name)
        .identity(Identity::from_pem(&credentials.certificate, credentials.key.expose()));
    let endpoint = Endpoint::from_shared(format!("https://{}", dial.address)).map_err(failed)?;
    // Nobody was asked yet: it is our own certificate or key that cannot be read.
    let unusable = |e| {
        let why = format!("the client certificate given for it is not usable: {}", failed(e).into_why());
        EtcdError::Untrusted { endpoint: dial.endpoint.clone(), why, early: false }
    };
    let endpoint =
        endpoint.tls_config_with_verifier(tls, Arc::<Observer>::clone(observer)).map_err(unusable)?;
    // One tonic channel, not `Client::connect`: that one balances over a set of endpoints, connects in the background
    // and leaves calls pending while a connection cannot be made.
    let channel = within(&dial.endpoint, dial.deadline, async { endpoint.connect().await.map_err(failed) });
    let client = Client::from_channel(Channel::Tonic(channel.await?), None);
    Ok(EtcdClient {
        endpoint: dial.endpoint.clone(),
        deadline: dial.deadline,
        client: client.await.map_err(|e| classify(&dial.endpoint, &e))?,
    })
}

/// Bounds a call; silence is [`EtcdError::Late`].
async fn within<T>(
    endpoint: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, EtcdError>> + Send,
) -> Result<T, EtcdError> {
    let silent = |_| EtcdError::Late {
        endpoint: endpoint.to_owned(),
        why: format!("silent for {:.1} s", limit.as_secs_f64()),
    };
    tokio::time::timeout(limit, call).await.map_err(silent)?
}

impl EtcdClient {
    /// Runs one call under the deadline and puts its failure into our words.
    async fn call<T, F>(&self, name: &str, call: impl FnOnce(Client) -> F + Send) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        self.call_for(name, self.deadline, call).await
    }

    /// The same under a limit of its own.
    async fn call_for<T, F>(
        &self,
        name: &str,
        limit: Duration,
        call: impl FnOnce(Client) -> F + Send,
    ) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let (call, begun) = (call(self.client.clone()), Instant::now());
        let answer =
            within(&self.endpoint, limit, async { call.await.map_err(|e| classify(&self.endpoint, &e)) })
                .await;
        log::call(&self.endpoint, name, begun.elapsed(), answer.as_ref().err().map(|e| e as &dyn Display));
        answer
    }

    /// The learner with this peer URL, where there is one: what an addition whose answer was lost has left.
    async fn learner(&self, peer_url: &str) -> Option<u64> {
        let members = self.members(true).await.ok()?;
        members.iter().find(|m| m.is_learner && m.peer_urls == [peer_url]).map(|m| m.id)
    }
}

#[async_trait]
impl EtcdApi for EtcdClient {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    async fn members(&self, linearizable: bool) -> Result<Vec<Member>, EtcdError> {
        // etcd-client only sends the serializable request. A linearizable read before it gives the same promise:
        // that is all etcd itself does for `linearizable` (server/etcdserver/api/v3rpc/member.go, `MemberList`).
        if linearizable {
            self.linearizable_read().await?;
        }
        let answer = self.call("member_list", |mut c| async move { c.member_list().await }).await?;
        Ok(answer.members().iter().map(member).collect())
    }

    async fn status(&self) -> Result<MemberStatus, EtcdError> {
        let s = self.call("status", |mut c| async move { c.status().await }).await?;
        let (member_id, cluster_id, revision) =
            s.header().map_or((0, 0, 0), |h| (h.member_id(), h.cluster_id(), h.revision()));
        Ok(MemberStatus {
            member_id,
            cluster_id,
            version: s.version().to_owned(),
            db_size: unsigned(s.db_size()),
            db_size_in_use: unsigned(s.raft_used_db_size()),
            db_size_quota: quota(s.db_size_quota()),
            leader: s.leader(),
            raft_term: s.raft_term(),
            raft_index: s.raft_index(),
            raft_applied_index: s.raft_applied_index(),
            revision: unsigned(revision),
            errors: s.errors().to_vec(),
            is_learner: s.is_learner(),
        })
    }

    async fn alarms(&self) -> Result<Vec<Alarm>, EtcdError> {
        let list = |mut c: Client| async move { c.alarm(AlarmAction::Get, AlarmType::None, None).await };
        let answer = self.call("alarms", list).await?;
        let alarm = |a: &etcd_client::AlarmMember| Alarm {
            member_id: a.member_id(),
            kind: match a.alarm() {
                AlarmType::None => "NONE",
                AlarmType::Nospace => Alarm::NOSPACE,
                AlarmType::Corrupt => Alarm::CORRUPT,
            }
            .to_owned(),
        };
        Ok(answer.alarms().iter().map(alarm).collect())
    }

    async fn disarm(&self, alarm: &Alarm) -> Result<(), EtcdError> {
        let kind = match alarm.kind.as_str() {
            Alarm::NOSPACE => AlarmType::Nospace,
            Alarm::CORRUPT => AlarmType::Corrupt,
            _ => AlarmType::None,
        };
        let mut options = AlarmOptions::new();
        options.with_member(alarm.member_id);
        let disarm =
            |mut c: Client| async move { c.alarm(AlarmAction::Deactivate, kind, Some(options)).await };
        self.call("disarm", disarm).await.map(drop)
    }

    async fn hash_kv(&self, revision: u64, limit: Duration) -> Result<KvHash, EtcdError> {
        let asked = i64::try_from(revision).unwrap_or(i64::MAX);
        let h = self.call_for("hash_kv", limit, |mut c| async move { c.hash_kv(asked).await }).await?;
        // Before 3.6 the revision of the hash is not in the answer; it is the one asked for.
        let revision = if h.hash_revision() > 0 { unsigned(h.hash_revision()) } else { revision };
        let newest = h.header().map_or(revision, |header| unsigned(header.revision()));
        Ok(KvHash { hash: h.hash(), revision, newest, compact_revision: unsigned(h.compact_version()) })
    }

    async fn linearizable_read(&self) -> Result<(), EtcdError> {
        // The key `etcdctl endpoint health` reads; whether it exists does not matter.
        match self.call("get", |mut c| async move { c.get("health", None).await }).await {
            // Auth judges only what a quorum has agreed to read (etcd, `v3_server.go`, `Range`); that tool counts it, too.
            Err(EtcdError::Denied { .. }) => Ok(()),
            answer => answer.map(drop),
        }
    }

    async fn has_keys(&self, prefix: &str) -> Result<bool, EtcdError> {
        let (prefix, one) =
            (prefix.to_owned(), GetOptions::new().with_prefix().with_keys_only().with_limit(1));
        let answer = self.call("get", |mut c| async move { c.get(prefix, Some(one)).await }).await?;
        Ok(!answer.kvs().is_empty())
    }

    async fn add_learner(&self, peer_url: &str) -> Result<u64, EtcdError> {
        let urls = [peer_url.to_owned()];
        let learner = MemberAddOptions::new().with_is_learner();
        let answer =
            self.call("member_add", |mut c| async move { c.member_add(urls, Some(learner)).await }).await;
        match answer {
            Ok(added) => Ok(added.member().map_or(0, etcd_client::Member::id)),
            // Added already: an earlier addition whose answer was lost.
            Err(error) if says(&error, PEER_URL_EXISTS) || says(&error, MEMBER_ID_EXISTS) => {
                self.learner(peer_url).await.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn promote(&self, id: u64) -> Result<(), EtcdError> {
        match self.call("member_promote", |mut c| async move { c.member_promote(id).await }).await {
            // A voter already: an earlier promotion whose answer was lost (kubernetes/kubeadm#3317).
            Err(error) if says(&error, NOT_A_LEARNER) => Ok(()),
            answer => answer.map(drop),
        }
    }

    async fn remove(&self, id: u64) -> Result<(), EtcdError> {
        match self.call("member_remove", |mut c| async move { c.member_remove(id).await }).await {
            // Gone already, which is what was wanted.
            Err(error) if says(&error, MEMBER_NOT_FOUND) => Ok(()),
            answer => answer.map(drop),
        }
    }

    async fn move_leader(&self, to: u64) -> Result<(), EtcdError> {
        self.call("move_leader", |mut c| async move { c.move_leader(to).await }).await.map(drop)
    }
}

fn member(m: &etcd_client::Member) -> Member {
    Member {
        id: m.id(),
        name: m.name().to_owned(),
        peer_urls: m.peer_urls().to_vec(),
        client_urls: m.client_urls().to_vec(),
        is_learner: m.is_learner(),
    }
}

/// A quota below zero is none at all.
fn quota(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// etcd's counts are signed on the wire and never negative.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_that_is_off_is_not_one_that_nothing_tells() {
        assert_eq!([quota(-1), quota(0), quota(2 << 30)], [u64::MAX, 0, 2 << 30]);
    }
}
