//! etcd in our own words: members, their health, and the calls that phases and commands need.
//!
//! `client.rs` is the only file that knows `etcd-client`. Members are addressed by peer URL; IDs are looked up at the
//! last moment.

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

/// The real thing.
pub mod client;
/// How a cluster is: asked of all members at once, then judged.
pub mod status;
/// Defragmenting, compacting, disarming.
pub mod upkeep;

/// The quota that a member has without the flag (etcd, `DefaultQuotaBytes`).
pub const DEFAULT_QUOTA: u64 = 2 << 30;

/// True for the URL of whatever listens on the host that dials it: of an API server, the member beside it.
pub fn is_loopback(url: &str) -> bool {
    url.contains("//127.0.0.1:") || url.contains("//localhost:")
}

/// One member of the live member list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its ID, as hexadecimal in all texts.
    pub id: u64,
    /// Its name; empty while it was added but never started.
    pub name: String,
    /// Where other members dial it.
    pub peer_urls: Vec<String>,
    /// Where clients dial it; empty while it never started.
    pub client_urls: Vec<String>,
    /// True for a learner, which does not vote.
    pub is_learner: bool,
}

/// What one member says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberStatus {
    /// The member that answered.
    pub member_id: u64,
    /// The cluster it belongs to.
    pub cluster_id: u64,
    /// Its version, without a `v`.
    pub version: String,
    /// Bytes on disk.
    pub db_size: u64,
    /// Bytes that hold live data.
    pub db_size_in_use: u64,
    /// The quota it was started with, where it says so (etcd 3.6 and later); [`u64::MAX`] where it has none.
    pub db_size_quota: u64,
    /// Whom it believes to be leader; zero for nobody.
    pub leader: u64,
    /// Raft term.
    pub raft_term: u64,
    /// Raft index.
    pub raft_index: u64,
    /// Applied raft index.
    pub raft_applied_index: u64,
    /// Store revision.
    pub revision: u64,
    /// Its own complaints.
    pub errors: Vec<String>,
    /// True for a learner.
    pub is_learner: bool,
}

/// An alarm that a member raised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// Which member.
    pub member_id: u64,
    /// [`Alarm::NOSPACE`] or [`Alarm::CORRUPT`].
    pub kind: String,
}

impl Alarm {
    /// Its database reached the quota: etcd takes no writes.
    pub const NOSPACE: &str = "NOSPACE";

    /// Whose alarm it is where etcd does not know whose data is right (etcd, `corrupt.go`, `checkPeerHashes`).
    pub const WHOLE_CLUSTER: u64 = 0;

    /// Its data is not that of the others.
    pub const CORRUPT: &str = "CORRUPT";
}

/// A member's hash of its key space at one revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct KvHash {
    /// The hash.
    pub hash: u32,
    /// The revision it was asked for.
    pub revision: u64,
    /// The newest revision that the member had when it told the hash.
    pub newest: u64,
    /// The compaction revision it includes; hashes compare only where this is equal.
    pub compact_revision: u64,
}

/// Why etcd did not do as asked.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum EtcdError {
    /// No answer: down, cut off, or without quorum for a linearizable call.
    #[error("no answer from etcd at {endpoint}: {why}")]
    Unavailable {
        /// Who was asked.
        endpoint: String,
        /// What was seen.
        why: String,
    },
    /// The same, as the deadline was over: it may as well be busy.
    #[error("no answer from etcd at {endpoint}: {why}")]
    Late {
        /// Who was asked.
        endpoint: String,
        /// How long it was waited for.
        why: String,
    },
    /// etcd's own guard says not now (`unhealthy cluster`, `too many learner members`, `can only promote a learner
    /// member which is in sync with leader`): wait and ask again.
    #[error("etcd at {endpoint} says not yet: {why}")]
    NotYet {
        /// Who was asked.
        endpoint: String,
        /// etcd's words.
        why: String,
    },
    /// The TLS handshake failed over a certificate, ours or its own: waiting does not help.
    #[error("could not agree with etcd at {endpoint} on certificates: {why}")]
    Untrusted {
        /// Who was asked.
        endpoint: String,
        /// What is wrong with which certificate.
        why: String,
        /// True where it is the member's own, which has not begun.
        early: bool,
    },
    /// Its auth is on and forbids that to the user of our certificate: it runs, and a read has been agreed on by a quorum.
    #[error("etcd at {endpoint} denies it: {why}")]
    Denied {
        /// Who was asked.
        endpoint: String,
        /// etcd's words.
        why: String,
    },
    /// Refused for good.
    #[error("etcd at {endpoint} refused: {why}")]
    Refused {
        /// Who was asked.
        endpoint: String,
        /// etcd's words.
        why: String,
    },
}

impl EtcdError {
    /// How etcd says that it has what is asked for no more (etcd, `rpctypes/error.go`, `ErrCompacted`).
    pub const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

    /// True where what was asked for is history that etcd has dropped.
    pub fn is_compacted(&self) -> bool {
        matches!(self, Self::Refused { why, .. } if why == Self::COMPACTED)
    }

    /// What was seen or said, without the endpoint: for a place that names it already.
    pub fn into_why(self) -> String {
        match self {
            Self::Unavailable { why, .. }
            | Self::Late { why, .. }
            | Self::NotYet { why, .. }
            | Self::Untrusted { why, .. }
            | Self::Denied { why, .. }
            | Self::Refused { why, .. } => why,
        }
    }
}

/// What keeps a member silent, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It runs, and its auth keeps from us how it is.
    Denied,
    /// A certificate, its own or ours, or that we have none to ask with.
    Certificate {
        /// True where it is the member's own, which has not begun.
        early: bool,
    },
    /// Its host leads nobody to it.
    Forbidden,
    /// It did not answer in time: it hangs, is busy, or is cut off from us.
    Late,
    /// Anything else: most often it does not run.
    Other,
}

/// Why a member does not say how it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Silence {
    /// What advice goes by.
    pub cause: Cause,
    /// The same for people, in words that stand alone in a table cell.
    pub why: String,
}

impl Silence {
    /// Of one who did not answer in time.
    pub fn late(why: impl Into<String>) -> Self {
        Self::of(Cause::Late, why)
    }

    /// For a cause that is known.
    pub fn of(cause: Cause, why: impl Into<String>) -> Self {
        Self { cause, why: why.into() }
    }
}

impl From<EtcdError> for Silence {
    fn from(error: EtcdError) -> Self {
        let cause = match error {
            EtcdError::Denied { .. } => Cause::Denied,
            EtcdError::Untrusted { early, .. } => Cause::Certificate { early },
            EtcdError::Late { .. } => Cause::Late,
            EtcdError::Unavailable { .. } | EtcdError::NotYet { .. } | EtcdError::Refused { .. } => {
                Cause::Other
            }
        };
        Self { cause, why: error.into_why() }
    }
}

impl From<String> for Silence {
    fn from(why: String) -> Self {
        Self { cause: Cause::Other, why }
    }
}

impl From<&str> for Silence {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

impl From<Silence> for String {
    fn from(silence: Silence) -> Self {
        silence.why
    }
}

/// The calls, to one endpoint. Every call has a deadline; none waits for readiness.
#[async_trait]
pub trait EtcdApi: Send + Sync {
    /// The endpoint in words, for messages.
    fn endpoint(&self) -> &str;
    /// The member list; `linearizable` needs a quorum, otherwise it is this member's own view.
    ///
    /// # Errors
    /// See [`EtcdError`].
    async fn members(&self, linearizable: bool) -> Result<Vec<Member>, EtcdError>;
    /// What this member says of itself.
    ///
    /// # Errors
    /// See [`EtcdError`].
    async fn status(&self) -> Result<MemberStatus, EtcdError>;
    /// All alarms.
    ///
    /// # Errors
    /// See [`EtcdError`].
    async fn alarms(&self) -> Result<Vec<Alarm>, EtcdError>;
    /// Takes an alarm back.
    ///
    /// # Errors
    /// See [`EtcdError`].
    async fn disarm(&self, alarm: &Alarm) -> Result<(), EtcdError>;
    /// The hash of this member's key space at a revision (0: its newest). The member goes on making it where nobody waits for
    /// its answer any longer, and takes no writes meanwhile.
    ///
    /// # Errors
    /// See [`EtcdError`]; [`EtcdError::Late`] after `limit`.
    async fn hash_kv(&self, revision: u64, limit: Duration) -> Result<KvHash, EtcdError>;
    /// Proves that this member serves linearizable reads: a quorum stands behind it.
    ///
    /// # Errors
    /// See [`EtcdError`].
    async fn linearizable_read(&self) -> Result<(), EtcdError>;
    /// Whether any key begins so, as a quorum knows it.
    ///
    /// # Errors
    /// See [`EtcdError`].
    async fn has_keys(&self, prefix: &str) -> Result<bool, EtcdError>;
    /// Adds a learner; answers its ID.
    ///
    /// # Errors
    /// See [`EtcdError`].
    async fn add_learner(&self, peer_url: &str) -> Result<u64, EtcdError>;
    /// Makes a learner a voter.
    ///
    /// # Errors
    /// See [`EtcdError`].
    async fn promote(&self, id: u64) -> Result<(), EtcdError>;
    /// Removes a member.
    ///
    /// # Errors
    /// See [`EtcdError`].
    async fn remove(&self, id: u64) -> Result<(), EtcdError>;
    /// Hands leadership to another member; this endpoint must be the leader.
    ///
    /// # Errors
    /// See [`EtcdError`].
    async fn move_leader(&self, to: u64) -> Result<(), EtcdError>;
}
