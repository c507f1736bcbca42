//! The state of an etcd cluster as `rsadm etcd status -o json` prints it: names and units here are an interface.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

use super::{backup::BackupReport, hashes::Comparison, host::HostState, metrics::Metrics};
use crate::etcd::{Cause, Silence, is_loopback};

/// An ID of a member or cluster, written as etcd's own tools do: lower-case hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(pub u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A duration that is written as milliseconds with a fraction; kept in microseconds, so that reports compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis {
    /// The whole of it.
    pub micros: u32,
}

impl From<Duration> for Millis {
    fn from(duration: Duration) -> Self {
        Self { micros: u32::try_from(duration.as_micros()).unwrap_or(u32::MAX) }
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.micros) / 1000.0)
    }
}

/// An etcd cluster and each of its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EtcdReport {
    /// The cluster's name in the inventory.
    pub cluster: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// etcd's ID of the cluster; `null` where nobody answers.
    pub cluster_id: Option<Id>,
    /// The leader's member ID; `null` without quorum.
    pub leader: Option<Id>,
    /// The newest revision that a member has.
    pub revision: Option<u64>,
    /// How many voters there are, are healthy, and may fail.
    pub quorum: Quorum,
    /// True where a member has just served a linearizable read: a quorum stands, whatever we see of the members.
    pub serves: bool,
    /// Whose member list this is; `null` where nobody answers, and `members` are then the inventory's.
    pub view: Option<View>,
    /// Whether the members' data was compared, by their hashes.
    pub comparison: Comparison,
    /// Inventory order; members that the inventory does not know come last.
    pub members: Vec<MemberReport>,
    /// False where no member said which alarms are on: none that is named here may be on all the same.
    pub alarms_known: bool,
    /// Alarms of members that are none any more: etcd keeps those, and takes no writes for their sake, too.
    pub orphaned_alarms: Vec<OrphanedAlarm>,
    /// Alarms of nobody in particular: members hold different data, and etcd does not know whose is right.
    pub cluster_alarms: Vec<String>,
    /// Which members each API server is configured with.
    pub api_servers: Vec<ApiServer>,
    /// Whether scheduled snapshots come; `null` without a schedule.
    pub backup: Option<BackupReport>,
    /// What is off and what to do about it, the worst first.
    pub advice: Vec<Advice>,
}

impl EtcdReport {
    /// Alarms that are on, each with who raised it: a member's name, the ID of one that was removed, or all.
    pub fn alarms(&self) -> impl Iterator<Item = (String, &str)> {
        let of_members =
            self.members.iter().flat_map(|m| m.alarms.iter().map(|a| (m.name.clone(), a.as_str())));
        let orphaned = self.orphaned_alarms.iter().map(|a| (a.member_id.to_string(), a.alarm.as_str()));
        let of_all = self.cluster_alarms.iter().map(|alarm| ("all members".to_owned(), alarm.as_str()));
        of_members.chain(orphaned).chain(of_all)
    }

    /// Members at no etcd host of the inventory, which nobody who goes by that stops, upgrades or looks at.
    pub fn strangers(&self) -> impl Iterator<Item = &MemberReport> {
        self.members.iter().filter(|m| m.id.is_some() && !m.in_inventory)
    }

    /// Who has an alarm of this kind on.
    pub fn raised(&self, kind: &str) -> Vec<String> {
        self.alarms().filter(|(_, alarm)| *alarm == kind).map(|(name, _)| name).collect()
    }
}

/// An alarm of a member that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OrphanedAlarm {
    /// Which member that was.
    pub member_id: Id,
    /// What it raised.
    pub alarm: String,
}

/// What the state of a cluster comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every voter is healthy and nothing needs attention.
    Healthy,
    /// It serves, and something needs attention.
    Degraded,
    /// No member that answers has a quorum behind it.
    NoQuorum,
}

impl Verdict {
    /// The exit code of `rsadm etcd status`.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Degraded => 8,
            Self::NoQuorum => 9,
        }
    }
}

/// The arithmetic of the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quorum {
    /// Voting members, the unstarted too.
    pub voters: usize,
    /// Those that are healthy.
    pub healthy: usize,
    /// How many must be healthy.
    pub needs: usize,
    /// How many more may fail.
    pub can_lose: usize,
}

/// Where the member list comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    /// The host that gave it.
    pub from: String,
    /// True for a list that a quorum stands behind; else it is that member's own view and may be old.
    pub linearizable: bool,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberReport {
    /// Its name, or its host's where it has none yet.
    pub name: String,
    /// The inventory's host at its address, which may have another name; `null` for a member at none.
    pub node: Option<String>,
    /// False for a member at none of the inventory's etcd hosts: one that is to leave, or that somebody else added.
    pub in_inventory: bool,
    /// Its member ID; `null` for a host that is not in the member list.
    pub id: Option<Id>,
    /// Where other members dial it.
    pub peer_urls: Vec<String>,
    /// Where clients dial it.
    pub client_urls: Vec<String>,
    /// Its version, without a `v`.
    pub version: Option<String>,
    /// Bytes on disk.
    pub db_size: Option<u64>,
    /// Bytes of them that hold data.
    pub db_size_in_use: Option<u64>,
    /// Bytes it may grow to; `null` where there is no limit, or it does not say (before etcd 3.6).
    #[serde(serialize_with = "limited")]
    pub db_size_quota: Option<u64>,
    /// True for the leader.
    pub is_leader: bool,
    /// True for a member without a vote.
    pub is_learner: bool,
    /// The member that it takes for the leader; `null` for nobody.
    pub follows: Option<Id>,
    /// Raft term.
    pub raft_term: Option<u64>,
    /// Newest raft entry that it knows to be committed.
    pub raft_index: Option<u64>,
    /// Newest raft entry that it has applied.
    pub raft_applied_index: Option<u64>,
    /// Its newest revision.
    pub revision: Option<u64>,
    /// The same when it was asked for its hash, after all that stands here was told.
    #[serde(skip)]
    pub newest: Option<u64>,
    /// How many entries it is behind the member that is furthest.
    pub lag: Option<u64>,
    /// The hash of its key space at a revision that all have, eight hexadecimal digits.
    pub hash: Option<String>,
    /// Which revision that is.
    #[serde(skip)]
    pub hash_revision: Option<u64>,
    /// The compaction that the hash starts from: hashes compare only where it is equal.
    pub hash_compact_revision: Option<u64>,
    /// True where it served a linearizable read: a quorum of its own cluster stands behind it, whichever that is.
    #[serde(skip)]
    pub reads: bool,
    /// True where it does its part.
    pub healthy: bool,
    /// How long its status took.
    pub latency_ms: Option<Millis>,
    /// When the certificate that it serves to clients expires, RFC 3339.
    pub certificate_not_after: Option<String>,
    /// Whole days until then; negative once expired.
    pub certificate_days: Option<i64>,
    /// When the certificate expires that it serves to other members; `null` where that was not seen.
    pub peer_certificate_not_after: Option<String>,
    /// Whole days until then.
    pub peer_certificate_days: Option<i64>,
    /// True where its authority ends with the earlier of them, too, or has ended, so that renewing it would not help.
    #[serde(skip)]
    pub with_authority: bool,
    /// Alarms it raised.
    pub alarms: Vec<String>,
    /// Why it is not healthy.
    pub error: Option<Trouble>,
    /// How its host was found; `null` where it was not looked at.
    pub host: Option<HostState>,
    /// What it measured since it started; `null` where it did not say.
    pub metrics: Option<Metrics>,
}

/// Why a member does not do its part; in JSON and for people a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It did not say how it is.
    #[error("{0}")]
    Silent(Silence),
    /// It is in the member list and has no name yet.
    #[error("added, but never started")]
    Unstarted,
    /// It is in the member list and no host of the inventory is it.
    #[error("not in the inventory, so not asked")]
    NotInInventory,
    /// It runs, and the member list does not have it.
    #[error("not in the member list")]
    NotAMember,
    /// Most members have another cluster ID.
    #[error("belongs to another cluster ({0:x})")]
    OtherCluster(u64),
    /// At this member's address runs one with another ID: its data directory is from an earlier life.
    #[error("runs as another member ({0:x})")]
    OtherMember(u64),
    /// It raised CORRUPT, or another raised it about this one.
    #[error("its data is corrupt (alarm CORRUPT)")]
    Corrupt,
    /// At the same revision its hash is not that of most, or it lacks writes that it has applied by its own account.
    #[error("its data differs from the others' (hash)")]
    Differs,
    /// It has no leader.
    #[error("knows no leader")]
    NoLeader,
    /// It is this many raft entries behind.
    #[error("{0} entries behind")]
    Behind(u64),
    /// It answered, but not through a quorum.
    #[error("serves no linearizable read: {0}")]
    NoReads(String),
}

/// Where there is no limit, `u64::MAX`, programs are told none.
fn limited<S: Serializer>(quota: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    quota.filter(|quota| *quota != u64::MAX).serialize(to)
}

impl MemberReport {
    /// Whole days until the earlier of its certificates expires.
    pub fn days_left(&self) -> Option<i64> {
        self.certificate_days.into_iter().chain(self.peer_certificate_days).min()
    }
}

impl Trouble {
    /// True where it did not answer in time, so that it may be there all the same.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Silent(Silence { cause: Cause::Late, .. }))
    }

    /// True where it runs, and its auth keeps from us how it is.
    pub fn is_denial(&self) -> bool {
        matches!(self, Self::Silent(Silence { cause: Cause::Denied, .. }))
    }
}

impl Serialize for Trouble {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What an API server is configured with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApiServer {
    /// The host it runs on.
    pub name: String,
    /// Its `--etcd-servers`.
    pub etcd_servers: Vec<String>,
}

impl ApiServer {
    /// The client URLs that it dials, with its own host's member in place of loopback.
    pub fn dials<'r>(&'r self, members: &'r [MemberReport]) -> Vec<&'r str> {
        let own = members.iter().find(|m| m.name == self.name).and_then(|m| m.client_urls.first());
        let url = |url: &'r String| match own {
            Some(own) if is_loopback(url) => own.as_str(),
            _ => url.trim_end_matches('/'),
        };
        self.etcd_servers.iter().map(url).collect()
    }

    /// True where it only dials the member beside it: kubeadm's choice, not an error.
    pub fn dials_itself_only(&self) -> bool {
        self.etcd_servers.iter().all(|url| is_loopback(url))
    }
}

/// How much an advice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Something is off: the cluster is degraded.
    Warning,
    /// Good to know.
    Note,
}

/// Something that is off, in plain sentences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// How much it matters.
    pub level: Level,
    /// What is so.
    pub text: String,
    /// What a host says about it, in quotes of its own: the host, when, and the words; `null` where it says nothing.
    pub says: Option<String>,
    /// What helps, as a command to type; `null` where no single command does.
    pub command: Option<String>,
}
