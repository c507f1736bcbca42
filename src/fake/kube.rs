//! The Kubernetes API as far as rsadm asks it: nodes and bundles, behind API servers that need etcd and a certificate.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{machine::Machine, pods, state::State};
use crate::{inventory::NodeName, layout, observe::NodeFact, pki::authorities::Ca};

/// What the API servers keep in etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kube {
    /// Node objects.
    pub nodes: BTreeMap<NodeName, NodeFact>,
    /// Objects that were applied: a bundle's name, or its file's, and their hash.
    pub objects: BTreeMap<String, String>,
    /// The ConfigMap that records bundles.
    pub bundles: BTreeMap<String, String>,
    /// What somebody did to them.
    pub damaged: BTreeMap<String, String>,
    /// Whose field of CoreDNS somebody else has set.
    pub edited: BTreeSet<String>,
    /// Workloads whose pods end again and again.
    pub crashing: BTreeSet<String>,
    /// How many API servers served at the same time, at most.
    serving: usize,
}

impl Kube {
    /// True where an API server ever served: it writes its first objects by itself.
    pub fn was_served(&self) -> bool {
        self.serving > 0
    }
}

/// A kubeconfig, as far as it matters here.
struct Kubeconfig {
    server: String,
    ca: Vec<u8>,
}

impl Kubeconfig {
    fn read(machine: &Machine, path: &str) -> Option<Self> {
        let text = machine.files.text(path)?;
        let field =
            |name: &str| text.lines().find_map(|l| l.trim().strip_prefix(name)).map(|v| v.trim().to_owned());
        let ca = BASE64_STANDARD.decode(field("certificate-authority-data:")?).ok()?;
        Some(Self { server: field("server:")?, ca })
    }
}

impl State {
    /// Whether `kubectl` on a host gets an answer, from `server` or else from whom the kubeconfig names.
    ///
    /// # Errors
    /// In `kubectl`'s manner.
    pub(super) fn kubectl(&self, host: &NodeName, server: Option<&str>) -> Result<(), String> {
        let machine = self.machines.get(host).ok_or("no such machine")?;
        if !machine.files.has("/usr/local/bin/kubectl") {
            return Err("kubectl: command not found".into());
        }
        let config = Kubeconfig::read(machine, layout::SUPER_ADMIN_CONF)
            .ok_or_else(|| format!("stat {}: no such file or directory", layout::SUPER_ADMIN_CONF))?;
        self.answers(machine, server.unwrap_or(&config.server), &config.ca)
    }

    /// Whether one answers the kubelet of a machine.
    ///
    /// # Errors
    /// In `kubectl`'s manner.
    pub(super) fn kubelet_reaches(&self, machine: &Machine, url: &str) -> Result<(), String> {
        self.answers(machine, url, machine.files.read(&Ca::Cluster.cert_path()).unwrap_or_default())
    }

    /// Whether an API server answers at a URL, seen from a machine that trusts `ca`.
    fn answers(&self, from: &Machine, url: &str, ca: &[u8]) -> Result<(), String> {
        let place = url.trim_start_matches("https://");
        let (host, _) = place.rsplit_once(':').unwrap_or((place, ""));
        let backends: Vec<&Machine> = match host {
            "127.0.0.1" if from.serves("haproxy", self.clock) => self.machines.values().collect(),
            "127.0.0.1" => vec![from],
            host => match host.parse::<std::net::Ipv4Addr>() {
                Ok(address) => self.machines.values().filter(|m| m.address == address).collect(),
                Err(_) if host == self.api.0 => self.machines.values().collect(),
                Err(_) => vec![],
            },
        };
        let up = |m: &&&Machine| !m.off && m.serves("kube-apiserver", self.clock);
        let Some(server) = backends.iter().find(up) else {
            return Err(format!("The connection to the server {place} was refused"));
        };
        if server.files.read(&Ca::Cluster.cert_path()) != Some(ca) {
            return Err(
                "tls: failed to verify certificate: x509: certificate signed by unknown authority".into()
            );
        }
        match self.has_quorum() && self.has_etcd(server) {
            true => Ok(()),
            false => Err("Error from server: etcdserver: request timed out".into()),
        }
    }

    /// Lets kubelets register and report.
    pub(super) fn kube_tick(&mut self) {
        self.watch_servers();
        self.watch_restore();
        let registered: Vec<(NodeName, NodeName, NodeFact)> =
            self.machines.values().filter(|m| !m.off).filter_map(|m| self.registration(m)).collect();
        for (machine, name, fact) in registered {
            let ready = fact.ready;
            if let Some(machine) = self.machines.get_mut(&machine) {
                machine.registered = machine.process("kubelet").map(|kubelet| kubelet.since);
            }
            let node = self.kube.nodes.entry(name).or_insert(fact);
            node.ready |= ready;
        }
    }

    /// Once they all serve, no more than one may be away at a time.
    fn watch_servers(&mut self) {
        let orphan = self.machines.values().find(|m| !m.off && self.is_orphaned(m)).map(|m| m.name.clone());
        if let Some(orphan) = orphan {
            let after = self.after();
            self.violations.push(format!("the API server of {orphan} has no etcd left, after: {after}"));
        }
        let serving =
            self.machines.values().filter(|m| !m.off && m.serves("kube-apiserver", self.clock)).count();
        if serving + 1 < self.kube.serving && !self.disaster {
            let after = self.after();
            let all = self.kube.serving;
            self.violations.push(format!("only {serving} of {all} API servers serve, after: {after}"));
            self.kube.serving = serving;
        }
        self.kube.serving = self.kube.serving.max(serving);
    }

    /// The machine, and its node as its kubelet registers it, once; labels and taints count at the first time only.
    fn registration(&self, machine: &Machine) -> Option<(NodeName, NodeName, NodeFact)> {
        let kubelet = machine.process("kubelet").filter(|_| machine.serves("kubelet", self.clock))?;
        let name = pods::flag(&kubelet.argv, "hostname-override").unwrap_or(&machine.hostname);
        match self.kube.nodes.get(&NodeName::new(name)) {
            Some(node) if node.ready => return None,
            None if machine.registered == Some(kubelet.since) => return None,
            _ => {}
        }
        let config = Kubeconfig::read(machine, pods::flag(&kubelet.argv, "kubeconfig")?)?;
        machine.files.read(layout::KUBELET_CLIENT_CURRENT)?;
        self.answers(machine, &config.server, &config.ca).ok()?;
        let mut fact = NodeFact {
            ready: self.pod_network(machine),
            address: Some(machine.address),
            ..NodeFact::default()
        };
        fact.labels.insert("kubernetes.io/hostname".into(), name.into());
        for label in pods::flag(&kubelet.argv, "node-labels").unwrap_or_default().split(',') {
            if let Some((key, value)) = label.split_once('=') {
                fact.labels.insert(key.into(), value.into());
            }
        }
        fact.taints = taints(&machine.files.text(layout::KUBELET_CONFIG).unwrap_or_default());
        Some((machine.name.clone(), NodeName::new(name), fact))
    }

    /// True where pods get addresses: the plugin of ours, or one that was applied.
    fn pod_network(&self, machine: &Machine) -> bool {
        let ours: BTreeSet<&str> = ["kubeadm", "kube-proxy", "coredns"].into();
        machine.files.has(layout::CNI_CONFIG)
            || self.kube.objects.keys().any(|name| !ours.contains(name.as_str()))
    }
}

/// `registerWithTaints` of the kubelet's configuration.
fn taints(config: &str) -> Vec<String> {
    let config: serde_json::Value = serde_yaml::from_str(config).unwrap_or_default();
    let word = |taint: &serde_json::Value, key: &str| {
        taint.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned()
    };
    let list = config.get("registerWithTaints").and_then(|t| t.as_array()).cloned().unwrap_or_default();
    list.iter()
        .map(|taint| match word(taint, "value").as_str() {
            "" => format!("{}:{}", word(taint, "key"), word(taint, "effect")),
            value => format!("{}={value}:{}", word(taint, "key"), word(taint, "effect")),
        })
        .collect()
}
