//! An in-memory world for tests: machines behind [`Host`](crate::host::Host), etcd members behind
//! [`Members`](crate::exec::members::Members), with a fault wherever a test wants one.
//!
//! It reads the very operations that the executor sends to real hosts and answers as they would, so that `up` and
//! `reset` run whole, in milliseconds, and can be cut off at every single effect. It knows what the phases rely on and
//! no more: when a kubelet restarts a static pod, when an etcd member may start, who trusts which authority. A world is
//! a value ([`State`]): a copy taken at an effect is what a run that died there leaves behind.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    host::{Host, Op, fleet::Fleet, frame, ssh},
    inventory::{Cluster, NodeName},
};

mod etcd;
mod facts;
mod files;
mod host;
mod kube;
mod kubeadm;
mod machine;
mod pods;
mod restore;
mod rollback;
mod scripts;
mod secrets;
mod shape;
mod state;
mod watch;

pub use etcd::{Data, Etcd, FakeMembers};
pub use files::{Entry, Files};
pub use host::FakeHost;
pub use kube::Kube;
pub use machine::{Machine, Process, Unit};
pub use secrets::Secrets;
pub use shape::shape;
pub use state::State;

/// On which side of an effect a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It does not take place.
    Before,
    /// It took place, and nobody heard of it.
    After,
}

/// What goes wrong, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection to the host of the effect of this number, the first being 1, breaks and does not come back during the run.
    Lost(usize, When),
    /// It breaks, and whoever asks the host again has another.
    Cut(usize, When),
}

/// What was sent to a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Batches.
    pub batches: usize,
    /// Operations in them.
    pub operations: usize,
    /// Bytes on the wire, as a real host's shell and batches would take them.
    pub bytes: usize,
}

/// Machines, and all that is watched about them.
pub struct World {
    inner: Mutex<Inner>,
}

/// What the lock guards.
pub struct Inner {
    /// Everything there is.
    pub state: State,
    /// Secrets that were written to any host.
    pub secrets: Secrets,
    /// Every operation that was sent, as its `Debug` shows it; filled where [`World::transcribe`] was called.
    pub transcript: Option<Vec<String>>,
    /// By host.
    pub traffic: BTreeMap<NodeName, Traffic>,
    fault: Option<Fault>,
    effects: usize,
    snapshots: Option<Vec<State>>,
}

impl World {
    /// A world in this state.
    pub fn new(state: State) -> Arc<Self> {
        let inner = Inner {
            state,
            secrets: Secrets::default(),
            transcript: None,
            traffic: BTreeMap::new(),
            fault: None,
            effects: 0,
            snapshots: None,
        };
        Arc::new(Self { inner: Mutex::new(inner) })
    }

    /// What is in it.
    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of its state.
    pub fn state(&self) -> State {
        self.inner().state.clone()
    }

    /// Lets something go wrong.
    pub fn strike_at(&self, fault: Fault) {
        self.inner().fault = Some(fault);
    }

    /// Keeps a copy of the state after every effect from now on.
    pub fn keep_snapshots(&self) {
        self.inner().snapshots = Some(vec![]);
    }

    /// The copies that were kept; each is what a run that died there leaves behind.
    pub fn snapshots(&self) -> Vec<State> {
        self.inner().snapshots.take().unwrap_or_default()
    }

    /// Writes down every operation from now on.
    pub fn transcribe(&self) {
        self.inner().transcript = Some(vec![]);
    }

    /// How many effects there were.
    pub fn effects(&self) -> usize {
        self.inner().effects
    }

    /// Connections to all hosts of an inventory.
    pub fn fleet(self: &Arc<Self>, cluster: &Cluster) -> Fleet {
        let hosts = cluster
            .nodes
            .iter()
            .map(|n| Arc::new(FakeHost::new(self.clone(), n.name.clone())) as Arc<dyn Host>);
        Fleet::new(hosts.collect(), cluster.nodes.len())
    }

    /// Ways to the etcd members.
    pub fn members(self: &Arc<Self>, cluster: &Cluster) -> FakeMembers {
        FakeMembers::new(self.clone(), cluster)
    }

    fn is_cut(&self) -> bool {
        matches!(self.inner().fault, Some(Fault::Cut(..)))
    }
}

impl Inner {
    /// Counts an effect; on which side of it the fault strikes.
    fn count(&mut self, host: &NodeName, doing: &str) -> Option<When> {
        self.effects += 1;
        self.state.log.push(format!("{host}: {doing}"));
        match self.fault {
            Some(Fault::Lost(n, when) | Fault::Cut(n, when)) if n == self.effects => Some(when),
            _ => None,
        }
    }

    fn keep_snapshot(&mut self) {
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.push(self.state.clone());
        }
    }

    /// A shell is opened.
    fn open(&mut self, host: &NodeName) {
        self.traffic.entry(host.clone()).or_default().bytes += ssh::opening_size();
    }

    fn batch(&mut self, host: &NodeName, ops: &[Op]) {
        let traffic = self.traffic.entry(host.clone()).or_default();
        traffic.batches += 1;
        traffic.operations += ops.len();
        traffic.bytes += frame::size(ops);
        if let Some(transcript) = &mut self.transcript {
            transcript.extend(ops.iter().map(|op| format!("{host}: {op:?}")));
        }
    }
}
