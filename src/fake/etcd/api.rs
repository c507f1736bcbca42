//! What members answer, and how they are reached: [`EtcdApi`] and [`Members`] over the members of a world.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Answer, Data, Listed, id};
use crate::{
    etcd::{Alarm, Cause, EtcdApi, EtcdError, KvHash, Member, MemberStatus, Silence},
    exec::members::{MemberHost, Members},
    fake::{State, When, World, machine::Machine},
    hash::sha256,
    inventory::{Cluster, NodeName, Role},
    layout,
    plan::quorum::quorum,
};

/// The ways to the members of a world.
pub struct FakeMembers {
    world: Arc<World>,
    hosts: Vec<MemberHost>,
}

impl FakeMembers {
    pub(in crate::fake) fn new(world: Arc<World>, cluster: &Cluster) -> Self {
        Self { world, hosts: cluster.with_role(Role::Etcd).map(MemberHost::of).collect() }
    }
}

#[async_trait]
impl Members for FakeMembers {
    fn hosts(&self) -> Vec<MemberHost> {
        self.hosts.clone()
    }

    async fn dial_stranger(&self, client_url: &str) -> Result<Box<dyn EtcdApi>, Silence> {
        let at = |m: &&Machine| client_url == client_url_of(m);
        let host = self.world.inner().state.machines.values().find(at).map(|m| m.name.clone());
        self.dial_machine(&host.ok_or("no route to host")?)
    }

    /// Where the inventory has the host, which need not be where its member listens.
    async fn dial(&self, host: &NodeName) -> Result<Box<dyn EtcdApi>, Silence> {
        let listens = client_url_of(self.world.inner().state.machine(host));
        match self.hosts.iter().any(|known| known.name == *host && known.client_url != listens) {
            true => Err("connection refused".into()),
            false => self.dial_machine(host),
        }
    }
}

fn client_url_of(machine: &Machine) -> String {
    format!("https://{}:{}", machine.address, layout::ETCD_CLIENT_PORT)
}

impl FakeMembers {
    fn dial_machine(&self, host: &NodeName) -> Result<Box<dyn EtcdApi>, Silence> {
        let mut inner = self.world.inner();
        inner.state.tick();
        let now = inner.state.clock;
        let machine = inner.state.machine(host);
        if machine.off {
            return Err("no route to host".into());
        }
        for file in ["ca.crt", "healthcheck-client.crt", "healthcheck-client.key"] {
            if !machine.files.has(&format!("{}/{file}", layout::ETCD_PKI_DIR)) {
                let cause = Cause::Certificate { early: false };
                return Err(Silence::of(cause, "has no etcd certificates"));
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
        if struck == Some(When::Before) {
            return Err(lost());
        }
        let result = {
            let mut inner = self.world.inner();
            let result = change(&mut inner.state);
            inner.state.tick();
            inner.keep_snapshot();
            result
        };
        if struck == Some(When::After) {
            return Err(lost());
        }
        result.map_err(|answer| match answer {
            Answer::Unavailable(why) => EtcdError::Unavailable { endpoint, why: why.into() },
            Answer::NotYet(why) => EtcdError::NotYet { endpoint, why: why.into() },
            Answer::Refused(why) => EtcdError::Refused { endpoint, why: why.into() },
        })
    }
}

fn members(state: &State) -> Vec<Member> {
    let one = |listed: &Listed| {
        let address: Option<Ipv4Addr> =
            listed.peer_url.trim_start_matches("https://").split(':').next().and_then(|a| a.parse().ok());
        let client = address.map(|a| format!("https://{a}:{}", layout::ETCD_CLIENT_PORT));
        Member {
            id: listed.id,
            name: listed.name.clone(),
            peer_urls: vec![listed.peer_url.clone()],
            client_urls: client.filter(|_| listed.started).into_iter().collect(),
            is_learner: listed.learner,
        }
    };
    state.etcd.members.iter().map(one).collect()
}

fn hash(written: &[String]) -> u32 {
    u32::from_str_radix(&sha256(written.join("\n").as_bytes())[..8], 16).unwrap_or_default()
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
                version: state.machines[&self.host].etcd_version().unwrap_or_default(),
                db_size: (1 << 20) + state.etcd.grown,
                db_size_in_use: 1 << 19,
                db_size_quota: 8 << 30,
                leader: state.etcd.leader.unwrap_or_default(),
                raft_term: state.etcd.term,
                raft_index: state.clock,
                raft_applied_index: state.clock,
                revision: data.raised.max(1),
                errors: vec![],
                is_learner: state.etcd.members.iter().any(|m| m.id == data.member && m.learner),
            })
        })
    }

    async fn alarms(&self) -> Result<Vec<Alarm>, EtcdError> {
        self.linearizable(|state, _| state.etcd.alarms.clone())
    }

    async fn disarm(&self, alarm: &Alarm) -> Result<(), EtcdError> {
        self.linearizable(|_, _| ())?;
        self.world.inner().state.etcd.alarms.retain(|on| on != alarm);
        Ok(())
    }

    async fn hash_kv(&self, revision: u64, _: Duration) -> Result<KvHash, EtcdError> {
        let compact_revision = {
            let etcd = &mut self.world.inner().state.etcd;
            etcd.hashed += 1;
            let left = etcd.compacting.get_mut(&self.host).filter(|left| **left > 0);
            left.map_or(0, |left| {
                *left -= 1;
                1
            })
        };
        self.ask(|state, data| match state.etcd.untold.contains(&self.host) {
            true => Err("no answer".into()),
            false => Ok(KvHash { hash: hash(&data.written), revision, newest: revision, compact_revision }),
        })
    }

    async fn linearizable_read(&self) -> Result<(), EtcdError> {
        self.linearizable(|_, _| ())
    }

    async fn has_keys(&self, prefix: &str) -> Result<bool, EtcdError> {
        self.linearizable(|state, _| prefix == "/registry/" && state.kube.was_served())
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
        let asked = self.ask(|_, data| Ok(data.member))?;
        self.change(&format!("move the leader to {to:x}"), |state| {
            if state.etcd.leader != Some(asked) {
                return Err(Answer::Refused("etcdserver: not leader"));
            }
            if !(state.is_live(to) && state.etcd.voters().any(|m| m.id == to)) {
                return Err(Answer::Refused("etcdserver: bad leader transferee"));
            }
            state.etcd.leader = Some(to);
            state.etcd.term += 1;
            Ok(())
        })
        .await
    }
}
