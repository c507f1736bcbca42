//! Everything there is in a world, as a value: a copy of it is the world at the moment in which a run died.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{etcd::Etcd, kube::Kube, machine::Machine};
use crate::inventory::{Cluster, NodeName, RuntimeInstall};

/// All machines, and what they make together.
#[derive(Clone, Debug)]
pub struct State {
    /// By their names in the inventory.
    pub machines: BTreeMap<NodeName, Machine>,
    /// What the etcd members together remember.
    pub etcd: Etcd,
    /// What is in etcd.
    pub kube: Kube,
    /// Ticks so far.
    pub clock: u64,
    /// What must never happen and did.
    pub violations: Vec<String>,
    /// Every effect so far, in words.
    pub log: Vec<String>,
    /// True while more goes wrong than a run is to answer for: machines without power, a cluster that is taken down.
    pub disaster: bool,
    /// Links that cannot be fetched.
    pub unavailable: Vec<String>,
    /// `api.host` and `api.port` of the inventory.
    pub(super) api: (String, u16),
    /// Certificates of authorities that were ever put anywhere, by path.
    pub(super) authorities: BTreeMap<String, Vec<String>>,
}

impl State {
    /// Bare machines for all hosts of an inventory.
    pub fn new(cluster: &Cluster) -> Self {
        let mut state = Self {
            machines: BTreeMap::new(),
            etcd: Etcd::default(),
            kube: Kube::default(),
            clock: 0,
            violations: vec![],
            log: vec![],
            disaster: false,
            unavailable: vec![],
            api: (String::new(), 0),
            authorities: BTreeMap::new(),
        };
        state.meet(cluster);
        state
    }

    /// Adds bare machines for hosts that are not there yet.
    pub fn meet(&mut self, cluster: &Cluster) {
        self.api = (cluster.api.host.clone(), cluster.api.port);
        for node in &cluster.nodes {
            if self.machines.contains_key(&node.name) {
                continue;
            }
            let mut machine = Machine::new(node.name.clone(), node.internal_address);
            if cluster.runtime.install == RuntimeInstall::Existing {
                machine.own_containerd = Some("2.1.4".into());
                machine.files.put(crate::layout::CONTAINERD_CONFIG, 0o644, b"version = 2\n");
                machine.units.entry("containerd".into()).or_default().enabled = true;
                let _ = machine.restart("containerd", 0);
            }
            self.machines.insert(node.name.clone(), machine);
        }
    }

    /// A machine; one that nobody knows is bare and has no address.
    pub fn machine(&mut self, name: &NodeName) -> &mut Machine {
        self.machines.entry(name.clone()).or_insert_with(|| Machine::new(name.clone(), Ipv4Addr::UNSPECIFIED))
    }

    /// All connections end, and the locks with them.
    pub fn hang_up(&mut self) {
        self.machines.values_mut().for_each(|m| m.lock = None);
    }

    /// Lets time pass.
    pub fn tick(&mut self) {
        self.clock += 1;
        let now = self.clock;
        let names: Vec<NodeName> =
            self.machines.iter().filter(|(_, m)| !m.off).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(mut machine) = self.machines.remove(&name) else { continue };
            machine
                .tick(now, |wanted, machine| wanted.name != "etcd" || self.etcd_may_start(wanted, machine));
            self.machines.insert(name, machine);
        }
        self.etcd_tick();
        self.kube_tick();
    }

    /// Lets time pass until nothing more happens by itself.
    pub fn settle(&mut self) {
        for _ in 0..60 {
            self.tick();
        }
    }

    /// Watches what an effect did.
    pub(super) fn judge(&mut self, host: &NodeName, had_data: bool, meant: bool) {
        let machine = self.machine(host);
        let lost = had_data && machine.etcd_data().is_none();
        if lost && !meant {
            self.violations.push(format!("{host} lost its etcd data"));
        }
    }

    /// Remembers the certificate of an authority: it is made once, and never beside data of another.
    pub(super) fn authority_put(&mut self, path: &str, sha256: &str) {
        let known = self.authorities.entry(path.into()).or_default();
        if known.iter().any(|k| k == sha256) {
            return;
        }
        known.push(sha256.into());
        let times = known.len();
        if times > 1 {
            self.violations.push(format!("{path} was made {times} times"));
        }
    }
}
