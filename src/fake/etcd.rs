//! etcd: members that found a cluster together, survive restarts by their data directories, and need a quorum.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{machine::Machine, pods::Wanted, state::State};
use crate::{etcd::Alarm, hash::sha256, inventory::NodeName, plan::quorum::quorum};

mod api;

pub use api::FakeMembers;

/// What a data directory remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// The cluster's ID.
    pub cluster: u64,
    /// The member's own.
    pub member: u64,
    /// Keys that clients wrote since it was founded or restored.
    #[serde(default)]
    pub written: Vec<String>,
    /// Its newest revision before those, which a restore has raised.
    #[serde(default)]
    pub raised: u64,
}

/// An entry of the member list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The member's ID.
    pub id: u64,
    /// Its name: a founder's from the start, that of one that was added once it has started.
    pub name: String,
    /// Where others dial it.
    pub peer_url: String,
    /// True while it has no vote.
    pub learner: bool,
    /// True once it has run.
    pub started: bool,
}

impl Data {
    /// Where it lies.
    pub const PATH: &'static str = "/var/lib/etcd/member";

    /// Reads a data directory.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// What a member with these flags founds. IDs follow from the flags, as etcd's do, so all members agree on them.
    fn found(wanted: &Wanted) -> Option<(Self, Vec<Listed>)> {
        let token = wanted.flag("initial-cluster-token").unwrap_or("etcd-cluster");
        let mut members: Vec<Listed> = initial_cluster(wanted)?
            .map(|(name, url)| Listed {
                id: id(&format!("{url} {token}")),
                name: name.to_owned(),
                peer_url: url.to_owned(),
                learner: false,
                started: false,
            })
            .collect();
        members.sort_by_key(|m| m.id);
        let own = wanted.flag("name")?;
        let member = members.iter().find(|m| m.name == own)?.id;
        let all: Vec<String> = members.iter().map(|m| m.id.to_string()).collect();
        Some((Self { cluster: id(&all.join(" ")), member, written: vec![], raised: 0 }, members))
    }
}

/// Names and peer URLs of `--initial-cluster`.
fn initial_cluster(wanted: &Wanted) -> Option<impl Iterator<Item = (&str, &str)>> {
    Some(wanted.flag("initial-cluster")?.split(',').filter_map(|m| m.split_once('=')))
}

fn id(text: &str) -> u64 {
    u64::from_str_radix(&sha256(text.as_bytes())[..16], 16).unwrap_or(1)
}

/// What the members together remember.
#[derive(Clone, Debug, Default)]
pub struct Etcd {
    /// How many clusters were founded in this world.
    pub founded: u32,
    /// True since a quorum stood for the first time.
    pub formed: bool,
    /// The member list.
    pub members: Vec<Listed>,
    /// How many bytes a database has beside its first MiB.
    pub grown: u64,
    /// How often a member was asked for the hash of its data.
    pub hashed: u32,
    /// Hosts whose members tell no hash of their data.
    pub untold: BTreeSet<NodeName>,
    /// Hosts whose members tell so many more hashes from another compaction than the rest.
    pub compacting: BTreeMap<NodeName, u32>,
    /// Alarms that are on.
    pub alarms: Vec<Alarm>,
    /// Their cluster's ID.
    cluster: u64,
    /// True since all voters were live at the same time.
    complete: bool,
    leader: Option<u64>,
    term: u64,
    /// Members of clusters whose place another took.
    former: BTreeMap<u64, Vec<Listed>>,
}

impl Etcd {
    fn voters(&self) -> impl Iterator<Item = &Listed> {
        self.members.iter().filter(|m| !m.learner)
    }

    /// This member leads from now on.
    pub fn lead(&mut self, member: u64) {
        self.leader = Some(member);
        self.term += 1;
    }

    /// Another cluster takes this one's place: its members are known and were never all there.
    pub(super) fn restored(&mut self, cluster: u64, members: Vec<Listed>) {
        if self.cluster != cluster {
            let former = self.with_former();
            *self = Self {
                founded: self.founded,
                formed: self.formed,
                members,
                cluster,
                former,
                ..Self::default()
            };
        }
    }

    /// All clusters so far, this one too.
    fn with_former(&mut self) -> BTreeMap<u64, Vec<Listed>> {
        let mut former = std::mem::take(&mut self.former);
        if !self.members.is_empty() {
            former.insert(self.cluster, std::mem::take(&mut self.members));
        }
        former
    }

    /// Its data is put back, and so is what its members know of each other.
    pub(super) fn back(&mut self, cluster: u64) {
        if let Some(members) = self.former.get(&cluster).cloned() {
            self.restored(cluster, members);
        }
    }

    fn listed(&mut self, id: u64) -> Option<&mut Listed> {
        self.members.iter_mut().find(|m| m.id == id)
    }
}

impl State {
    /// Whether a member may start: with data unless it was removed, else as a founder, and not where living members
    /// remember it (etcd, `bootstrap.go`, `isMemberBootstrapped`), or as one that was added and names the membership.
    pub(super) fn etcd_may_start(&self, wanted: &Wanted, machine: &Machine) -> bool {
        if let Some(data) = machine.etcd_data() {
            return self.etcd.members.iter().any(|m| m.id == data.member);
        }
        if wanted.flag("initial-cluster-state") == Some("new") {
            let Some((data, _)) = Data::found(wanted) else { return false };
            let remembered = self.etcd.members.iter().any(|m| m.id == data.member && m.started);
            return !(remembered && self.has_quorum());
        }
        self.has_quorum() && self.added(wanted).is_some()
    }

    /// The member that was added for a newcomer with these flags.
    fn added(&self, wanted: &Wanted) -> Option<Data> {
        let named: BTreeSet<&str> = initial_cluster(wanted)?.map(|(_, url)| url).collect();
        let listed: BTreeSet<&str> = self.etcd.members.iter().map(|m| m.peer_url.as_str()).collect();
        let own = wanted.flag("initial-advertise-peer-urls")?;
        let member = self.etcd.members.iter().find(|m| m.peer_url == own && !m.started)?;
        // What it gets is the leader's.
        let leads = |data: &Data| Some(data.member) == self.etcd.leader;
        let (written, raised) =
            self.live_members().find(leads).map(|data| (data.written, data.raised)).unwrap_or_default();
        (named == listed).then_some(Data { cluster: self.etcd.cluster, member: member.id, written, raised })
    }

    /// Gives members that have just started for the first time their data, ends those that were removed, and looks who
    /// leads. Once all voters live, no more than one may be away at a time.
    pub(super) fn etcd_tick(&mut self) {
        let nobody_had_data = !self.machines.values().any(|m| m.files.has(Data::PATH));
        let mut founders = false;
        let clock = self.clock;
        let names: Vec<NodeName> = self.machines.keys().cloned().collect();
        for name in names {
            let Some(machine) = self.machines.get(&name) else { continue };
            let Some(process) = machine.process("etcd").cloned() else { continue };
            if let Some(data) = machine.etcd_data() {
                if !self.etcd.members.is_empty() && self.etcd.listed(data.member).is_none() {
                    self.machine(&name).crash("etcd");
                }
                continue;
            }
            if process.since != clock {
                continue;
            }
            let wanted = Wanted { argv: process.argv, ..Wanted::default() };
            let data = match self.added(&wanted) {
                Some(data) if wanted.flag("initial-cluster-state") != Some("new") => data,
                _ => {
                    let Some((data, members)) = Data::found(&wanted) else { continue };
                    founders = true;
                    if nobody_had_data {
                        (self.etcd.members, self.etcd.cluster) = (members, data.cluster);
                    }
                    data
                }
            };
            if let Some(listed) = self.etcd.listed(data.member) {
                listed.started = true;
                listed.name = wanted.flag("name").unwrap_or_default().to_owned();
            }
            let text = serde_json::to_string(&data).unwrap_or_default();
            self.machine(&name).files.put(Data::PATH, 0o700, text.as_bytes());
        }
        if founders && nobody_had_data {
            if self.etcd.formed {
                self.violations.push("a second etcd cluster was founded".into());
            }
            self.etcd.founded += 1;
            self.kube = super::kube::Kube::default();
        }
        self.elect();
    }

    fn elect(&mut self) {
        let live: BTreeSet<u64> = self.live_members().map(|d| d.member).collect();
        if !self.machines.values().any(|m| m.etcd_data().is_some()) {
            let former = self.etcd.with_former();
            let fresh = Etcd { founded: self.etcd.founded, former, ..Etcd::default() };
            self.etcd = fresh;
            return;
        }
        let voters = self.etcd.voters().count();
        let voting: Vec<u64> = self.etcd.voters().map(|m| m.id).filter(|id| live.contains(id)).collect();
        if self.etcd.complete && voting.len() + 1 < voters && !self.disaster {
            let after = self.after();
            self.violations
                .push(format!("only {} of {voters} etcd members live, after: {after}", voting.len()));
            self.etcd.complete = false;
        }
        self.etcd.complete |= voting.len() == voters;
        self.watch_leader(self.etcd.leader, &voting);
        if voting.len() < quorum(voters) {
            self.etcd.leader = None;
            return;
        }
        self.etcd.formed = true;
        if self.etcd.leader.is_none_or(|leader| !voting.contains(&leader)) {
            self.etcd.leader = voting.first().copied();
            self.etcd.term += 1;
        }
    }

    fn live_members(&self) -> impl Iterator<Item = Data> {
        let live = self.machines.values().filter(|m| !m.off && m.serves("etcd", self.clock));
        live.filter_map(Machine::etcd_data)
    }

    /// A client writes a key, which all live members take; false where no quorum takes it.
    pub fn write(&mut self, key: &str) -> bool {
        if !self.has_quorum() {
            return false;
        }
        let clock = self.clock;
        for machine in self.machines.values_mut().filter(|m| !m.off && m.serves("etcd", clock)) {
            let Some(mut data) = machine.etcd_data() else { continue };
            data.written.push(key.to_owned());
            let text = serde_json::to_string(&data).unwrap_or_default();
            machine.files.put(Data::PATH, 0o700, text.as_bytes());
        }
        true
    }

    pub(super) fn is_live(&self, id: u64) -> bool {
        self.live_members().any(|d| d.member == id)
    }

    /// True where linearizable requests are served.
    pub fn has_quorum(&self) -> bool {
        self.etcd.leader.is_some()
    }

    /// What `etcd` says to a change of membership while a member is away or has only just come.
    fn changeable(&self) -> Result<(), Answer> {
        let away = self.etcd.voters().filter(|m| !self.is_live(m.id)).count();
        match (self.has_quorum(), away) {
            (false, _) => Err(Answer::Unavailable("etcdserver: no leader")),
            (true, 0) => Ok(()),
            (true, _) => Err(Answer::NotYet("etcdserver: unhealthy cluster")),
        }
    }
}

/// What a member answers instead of doing it.
enum Answer {
    Unavailable(&'static str),
    NotYet(&'static str),
    Refused(&'static str),
}
