//! etcd: members that found a cluster together, survive restarts by their data directories, and need a quorum.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{World, machine::Machine, pods::Wanted, state::State};
use crate::{
    etcd::{Alarm, EtcdApi, EtcdError, KvHash, Member, MemberStatus},
    exec::members::{MemberHost, Members},
    inventory::{Cluster, NodeName, Role},
    layout,
    plan::{quorum::quorum, sha256},
};

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
}

/// An entry of the member list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The member's ID.
    pub id: u64,
    /// Its name, once it has started.
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
        Some((Self { cluster: id(&all.join(" ")), member, written: vec![] }, members))
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
        (named == listed).then_some(Data { cluster: self.etcd.cluster, member: member.id, written: vec![] })
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
            let after = self.log.last().cloned().unwrap_or_default();
            self.violations
                .push(format!("only {} of {voters} etcd members live, after: {after}", voting.len()));
            self.etcd.complete = false;
        }
        self.etcd.complete |= voting.len() == voters;
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

    fn is_live(&self, id: u64) -> bool {
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

/// The ways to the members of a world.
pub struct FakeMembers {
    world: Arc<World>,
    hosts: Vec<MemberHost>,
}

impl FakeMembers {
    pub(super) fn new(world: Arc<World>, cluster: &Cluster) -> Self {
        Self { world, hosts: cluster.with_role(Role::Etcd).map(MemberHost::of).collect() }
    }
}

#[async_trait]
impl Members for FakeMembers {
    fn hosts(&self) -> Vec<MemberHost> {
        self.hosts.clone()
    }

    async fn dial_stranger(&self, client_url: &str) -> Result<Box<dyn EtcdApi>, String> {
        let at = |m: &&Machine| client_url == format!("https://{}:{}", m.address, layout::ETCD_CLIENT_PORT);
        let host = self.world.inner().state.machines.values().find(at).map(|m| m.name.clone());
        self.dial(&host.ok_or("no route to host")?).await
    }

    async fn dial(&self, host: &NodeName) -> Result<Box<dyn EtcdApi>, String> {
        let mut inner = self.world.inner();
        inner.state.tick();
        let now = inner.state.clock;
        let machine = inner.state.machine(host);
        if machine.off {
            return Err("no route to host".into());
        }
        for file in ["ca.crt", "healthcheck-client.crt", "healthcheck-client.key"] {
            if !machine.files.has(&format!("{}/{file}", layout::ETCD_PKI_DIR)) {
                return Err("has no etcd certificates".into());
            }
        }
        if !machine.serves("etcd", now) {
            return Err("connection refused".into());
        }
        let endpoint = format!("{host} ({}:{})", machine.address, layout::ETCD_CLIENT_PORT);
        Ok(Box::new(FakeEtcd { world: self.world.clone(), host: host.clone(), endpoint }))
    }
}

/// A connection to one member.
struct FakeEtcd {
    world: Arc<World>,
    host: NodeName,
    endpoint: String,
}

impl FakeEtcd {
    fn ask<T>(&self, answer: impl FnOnce(&State, Data) -> Result<T, String>) -> Result<T, EtcdError> {
        let unavailable = |why: String| EtcdError::Unavailable { endpoint: self.endpoint.clone(), why };
        let mut inner = self.world.inner();
        inner.state.tick();
        let now = inner.state.clock;
        let machine = inner.state.machine(&self.host);
        let data = machine.etcd_data().filter(|_| !machine.off && machine.serves("etcd", now));
        let data = data.ok_or_else(|| unavailable("connection refused".into()))?;
        answer(&inner.state, data).map_err(unavailable)
    }

    fn linearizable<T>(&self, answer: impl FnOnce(&State, Data) -> T) -> Result<T, EtcdError> {
        self.ask(|state, data| match state.has_quorum() {
            true => Ok(answer(state, data)),
            false => Err("etcdserver: no leader".into()),
        })
    }

    /// A change of the membership: an effect, whose answer may be lost.
    async fn change<T>(
        &self,
        doing: &str,
        change: impl FnOnce(&mut State) -> Result<T, Answer> + Send,
    ) -> Result<T, EtcdError> {
        let endpoint = self.endpoint.clone();
        let lost = || EtcdError::Unavailable { endpoint: endpoint.clone(), why: "connection reset".into() };
        self.ask(|_, _| Ok(()))?;
        let struck = self.world.inner().count(&self.host, doing);
        if struck == Some(super::When::Before) {
            self.strike().await;
            return Err(lost());
        }
        let result = {
            let mut inner = self.world.inner();
            let result = change(&mut inner.state);
            inner.state.tick();
            inner.keep_snapshot();
            result
        };
        if struck == Some(super::When::After) {
            self.strike().await;
            return Err(lost());
        }
        result.map_err(|answer| match answer {
            Answer::Unavailable(why) => EtcdError::Unavailable { endpoint, why: why.into() },
            Answer::NotYet(why) => EtcdError::NotYet { endpoint, why: why.into() },
            Answer::Refused(why) => EtcdError::Refused { endpoint, why: why.into() },
        })
    }

    /// Where the whole run dies, there is no answer at all.
    async fn strike(&self) {
        if self.world.is_kill() {
            self.world.killed.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

fn members(state: &State) -> Vec<Member> {
    let one = |listed: &Listed| {
        let address: Option<Ipv4Addr> =
            listed.peer_url.trim_start_matches("https://").split(':').next().and_then(|a| a.parse().ok());
        let client = address.map(|a| format!("https://{a}:{}", layout::ETCD_CLIENT_PORT));
        Member {
            id: listed.id,
            name: if listed.started { listed.name.clone() } else { String::new() },
            peer_urls: vec![listed.peer_url.clone()],
            client_urls: client.filter(|_| listed.started).into_iter().collect(),
            is_learner: listed.learner,
        }
    };
    state.etcd.members.iter().map(one).collect()
}

#[async_trait]
impl EtcdApi for FakeEtcd {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    async fn members(&self, linearizable: bool) -> Result<Vec<Member>, EtcdError> {
        match linearizable {
            true => self.linearizable(|state, _| members(state)),
            false => self.ask(|state, _| Ok(members(state))),
        }
    }

    async fn status(&self) -> Result<MemberStatus, EtcdError> {
        self.ask(|state, data| {
            Ok(MemberStatus {
                member_id: data.member,
                cluster_id: data.cluster,
                version: "3.7.0".into(),
                db_size: 1 << 20,
                db_size_in_use: 1 << 19,
                db_size_quota: 8 << 30,
                leader: state.etcd.leader.unwrap_or_default(),
                raft_term: state.etcd.term,
                raft_index: state.clock,
                raft_applied_index: state.clock,
                revision: 1,
                errors: vec![],
                is_learner: state.etcd.members.iter().any(|m| m.id == data.member && m.learner),
            })
        })
    }

    async fn alarms(&self) -> Result<Vec<Alarm>, EtcdError> {
        self.linearizable(|_, _| vec![])
    }

    async fn hash_kv(&self, revision: u64) -> Result<KvHash, EtcdError> {
        self.ask(|_, _| Ok(KvHash { hash: 1, revision, compact_revision: 0 }))
    }

    async fn linearizable_read(&self) -> Result<(), EtcdError> {
        self.linearizable(|_, _| ())
    }

    async fn add_learner(&self, peer_url: &str) -> Result<u64, EtcdError> {
        self.change(&format!("add learner {peer_url}"), |state| {
            state.changeable()?;
            if let Some(there) = state.etcd.members.iter().find(|m| m.peer_url == peer_url) {
                return Ok(there.id);
            }
            if state.etcd.members.iter().any(|m| m.learner) {
                return Err(Answer::NotYet("etcdserver: too many learner members in cluster"));
            }
            let id = id(&format!("{peer_url} {}", state.clock));
            let (name, peer_url) = (String::new(), peer_url.to_owned());
            state.etcd.members.push(Listed { id, name, peer_url, learner: true, started: false });
            Ok(id)
        })
        .await
    }

    async fn promote(&self, id: u64) -> Result<(), EtcdError> {
        self.change(&format!("promote {id:x}"), |state| {
            state.changeable()?;
            let in_sync = state.is_live(id);
            match state.etcd.listed(id) {
                None => Err(Answer::Refused("etcdserver: member not found")),
                Some(_) if !in_sync => Err(Answer::NotYet(
                    "etcdserver: can only promote a learner member which is in sync with leader",
                )),
                Some(listed) => {
                    listed.learner = false;
                    Ok(())
                }
            }
        })
        .await
    }

    async fn remove(&self, id: u64) -> Result<(), EtcdError> {
        self.change(&format!("remove {id:x}"), |state| {
            if !state.has_quorum() {
                return Err(Answer::Unavailable("etcdserver: no leader"));
            }
            let voters: Vec<u64> = state.etcd.voters().map(|m| m.id).filter(|m| *m != id).collect();
            if voters.is_empty() {
                return Err(Answer::Refused(
                    "etcdserver: re-configuration failed due to not enough started members",
                ));
            }
            let live = voters.iter().filter(|m| state.is_live(**m)).count();
            if live < quorum(voters.len()) {
                state.violations.push(format!("the removal of {id:x} cost the quorum"));
            }
            state.etcd.members.retain(|m| m.id != id);
            Ok(())
        })
        .await
    }

    async fn move_leader(&self, to: u64) -> Result<(), EtcdError> {
        self.change(&format!("move the leader to {to:x}"), |state| {
            state.etcd.leader = Some(to);
            state.etcd.term += 1;
            Ok(())
        })
        .await
    }
}
