//! What takes trying before the first change: whether hosts reach one another's ports, and how fast disks sync.
//!
//! Nothing listens yet on the ports that matter, and a firewall may reject as a closed port does. So each host listens on
//! those of its ports that are free (with `systemd-socket-activate`, which every systemd brings), all hosts dial those
//! that their roles let them dial, and the listeners are ended: a few executions on each host, whatever the number of
//! pairs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use futures::future::join;

use super::{forwarding, neighbours, scripts};
use crate::{
    host::{HostError, Op, Output, Script, fleet::Fleet},
    inventory::{Cluster, Node, NodeName, Role},
    layout,
    observe::{Facts, Observed},
    phases::preflight::{
        Findings,
        paths::{self, Outcome, Path},
        probe::{Places, Probe},
    },
};

/// What trying gave.
#[derive(Debug, Default)]
pub struct Tried {
    /// What is wrong.
    pub findings: Findings,
    /// How many paths between hosts were tried.
    pub paths: usize,
}

/// Which hosts are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// All, and every path between them.
    Everything,
    /// Hosts that are not yet part of the cluster or of its etcd, and the paths from and to them.
    Newcomers,
    /// Hosts that become members of etcd, and the paths from and to them that etcd takes.
    Members(&'a [NodeName]),
}

impl Scope<'_> {
    fn takes_in(self, node: &Node, facts: Option<&Facts>) -> bool {
        match self {
            Self::Everything => true,
            Self::Newcomers => facts.is_none_or(|f| {
                !f.runs("kubelet") || node.is(Role::Etcd) && f.etcd_manifest.is_none() && !f.etcd_data
            }),
            Self::Members(joining) => joining.contains(&node.name),
        }
    }

    fn takes(self, path: &Path) -> bool {
        let etcd = [layout::ETCD_PEER_PORT, layout::ETCD_CLIENT_PORT];
        !matches!(self, Self::Members(_)) || etcd.contains(&path.port)
    }
}

/// Tries, on hosts that are all connected, and leaves nothing running.
///
/// # Errors
/// Every host that could not be asked.
pub async fn attempt(
    cluster: &Cluster,
    fleet: &Fleet,
    seen: &Observed,
    scope: Scope<'_>,
) -> Result<Tried, Vec<HostError>> {
    let mut tried = between(cluster, fleet, seen, scope).await?;
    let moves = cluster.nodes.iter().filter_map(|n| {
        let target = paths::dials_another(cluster, n, seen)?;
        Some((n.name.clone(), vec![target]))
    });
    // Members stay with what their kubelets dial.
    let moves: BTreeMap<_, _> = moves.filter(|_| !matches!(scope, Scope::Members(_))).collect();
    for (host, text) in everywhere(fleet, scripts::DIAL, &moves).await? {
        for (target, outcome) in outcomes(&text) {
            tried.findings.extend(paths::balancer(&host, &target, &outcome));
        }
    }
    Ok(tried)
}

/// The paths between hosts.
async fn between(
    cluster: &Cluster,
    fleet: &Fleet,
    seen: &Observed,
    scope: Scope<'_>,
) -> Result<Tried, Vec<HostError>> {
    let new = cluster.nodes.iter().filter(|n| scope.takes_in(n, seen.hosts.get(&n.name)));
    let new: BTreeSet<&NodeName> = new.map(|n| &n.name).collect();
    if new.is_empty() {
        return Ok(Tried::default());
    }
    let is_new = |name: &NodeName| new.contains(name);
    let wanted = paths::wanted(cluster).into_iter();
    let wanted: Vec<Path> = wanted.filter(|p| (is_new(&p.from) || is_new(&p.to)) && scope.takes(p)).collect();
    let etcd = cluster.with_role(Role::Etcd).filter(|n| is_new(&n.name));
    let ways = async {
        match scope {
            Scope::Members(_) => Findings::default(),
            _ => neighbours::findings(cluster, fleet, is_new).await,
        }
    };
    // Before anything listens where they dial.
    let (mut findings, ways) = join(forwarding::findings(fleet, etcd), ways).await;
    findings.extend(ways);
    let probes = probe(cluster, fleet, seen, &wanted, is_new).await;
    // Whatever comes of dialling: who listens is told to stop.
    let dialled = match &probes {
        Ok(probes) => dial(fleet, &wanted, probes).await,
        Err(_) => Ok(vec![]),
    };
    let listeners = probes.as_ref().map_or_else(|_| BTreeMap::new(), listeners);
    hang_up(fleet, &listeners).await;
    let (probes, dialled) = (probes?, dialled?);
    findings.extend(paths::findings(cluster, &dialled));
    let mut tried = Tried { findings, paths: dialled.len() };
    for node in cluster.nodes.iter().filter(|n| is_new(&n.name)) {
        if let Some(probe) = probes.get(&node.name) {
            // Who becomes a member runs its pods already.
            let is_new_node = node.is_kubernetes() && !matches!(scope, Scope::Members(_));
            tried.findings.take(&node.name, probe.verdicts(cluster, is_new_node));
        }
    }
    Ok(tried)
}

fn listeners(probes: &BTreeMap<NodeName, Probe>) -> BTreeMap<NodeName, Vec<String>> {
    probes
        .iter()
        .filter_map(|(name, probe)| Some((name.clone(), vec![probe.listener?.to_string()])))
        .collect()
}

async fn probe(
    cluster: &Cluster,
    fleet: &Fleet,
    seen: &Observed,
    wanted: &[Path],
    is_new: impl Fn(&NodeName) -> bool,
) -> Result<BTreeMap<NodeName, Probe>, Vec<HostError>> {
    // A member that runs is not disturbed by writes beside it.
    let tries_disk = |node: &Node| {
        node.is(Role::Etcd)
            && is_new(&node.name)
            && !seen.hosts.get(&node.name).is_some_and(|f| f.runs("etcd"))
    };
    let arguments = cluster
        .nodes
        .iter()
        .map(|node| {
            let disk = if tries_disk(node) { "yes" } else { "no" };
            let places = Places::of(node, seen.hosts.get(&node.name));
            let (files, programs) = (places.files.join(" "), places.programs.join(" "));
            let fixed = [node.internal_address.to_string(), disk.into(), files, programs];
            let ports = paths::ports_of(wanted, &node.name).into_iter().map(|p| p.to_string());
            (node.name.clone(), fixed.into_iter().chain(ports).collect())
        })
        .collect();
    let answers = everywhere(fleet, scripts::PROBE, &arguments).await?;
    Ok(answers.into_iter().map(|(name, text)| (name, Probe::parse(&text))).collect())
}

/// Dials every path whose end can answer.
async fn dial(
    fleet: &Fleet,
    wanted: &[Path],
    probes: &BTreeMap<NodeName, Probe>,
) -> Result<Vec<(Path, Outcome)>, Vec<HostError>> {
    let is_deaf = |path: &Path| probes.get(&path.to).is_none_or(|probe| probe.deaf.contains(&path.port));
    let wanted: Vec<&Path> = wanted.iter().filter(|p| !is_deaf(p)).collect();
    let mut arguments: BTreeMap<NodeName, Vec<String>> = BTreeMap::new();
    for path in &wanted {
        arguments.entry(path.from.clone()).or_default().push(target(path.address, path.port));
    }
    let answers = everywhere(fleet, scripts::DIAL, &arguments).await?;
    let outcomes: BTreeMap<NodeName, BTreeMap<String, Outcome>> =
        answers.into_iter().map(|(name, text)| (name, outcomes(&text))).collect();
    Ok(wanted
        .into_iter()
        .filter_map(|path| {
            let outcome = outcomes.get(&path.from)?.get(&target(path.address, path.port))?;
            Some((path.clone(), outcome.clone()))
        })
        .collect())
}

fn target(address: Ipv4Addr, port: u16) -> String {
    format!("{address}:{port}")
}

/// Reads what `dial.sh` printed.
fn outcomes(text: &str) -> BTreeMap<String, Outcome> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(target, said)| {
            let outcome = match said.split_once(' ').unwrap_or((said, "")) {
                ("open", _) => Outcome::Open,
                ("refused", _) => Outcome::Refused,
                ("filtered", _) => Outcome::Filtered,
                ("unreachable", why) => Outcome::Unreachable(why.to_owned()),
                _ => return None,
            };
            Some((target.to_owned(), outcome))
        })
        .collect()
}

/// A listener that is not told ends by itself soon after.
async fn hang_up(fleet: &Fleet, listeners: &BTreeMap<NodeName, Vec<String>>) {
    drop(everywhere(fleet, scripts::HANG_UP, listeners).await);
}

/// Runs a script on each of these hosts with its arguments; what each printed.
async fn everywhere(
    fleet: &Fleet,
    script: Script,
    arguments: &BTreeMap<NodeName, Vec<String>>,
) -> Result<BTreeMap<NodeName, String>, Vec<HostError>> {
    let names: Vec<NodeName> = arguments.keys().cloned().collect();
    let answers = fleet
        .for_each(&names, |host| {
            let arguments = arguments.get(host.name()).cloned().unwrap_or_default();
            async move { host.run(&[Op::Script(script, arguments, Duration::from_secs(30))], false).await }
        })
        .await;
    let (mut texts, mut errors) = (BTreeMap::new(), Vec::new());
    for (name, answer) in answers {
        match answer {
            Ok(outputs) => drop(texts.insert(name, outputs.first().map(Output::text).unwrap_or_default())),
            Err(error) => errors.push(error),
        }
    }
    let gone: BTreeSet<&NodeName> = errors.iter().map(HostError::host).collect();
    if gone.is_empty() { Ok(texts) } else { Err(errors) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifests::testing, observe::facts::ProcessFact};

    #[test]
    fn who_comes_new_to_the_cluster_or_to_its_etcd_is_tried() {
        let cluster = testing::ha();
        let node = |name: &str| cluster.node(&NodeName::new(name)).unwrap();
        let bare = Facts::default();
        let kubelet = ProcessFact { name: "kubelet".into(), revision: None, etcd_servers: vec![] };
        let runs = Facts { processes: vec![kubelet], ..Facts::default() };
        let member = Facts { etcd_manifest: Some(String::new()), ..runs.clone() };
        let stopped = Facts { etcd_data: true, ..runs.clone() };
        for (host, facts, is_new) in [
            ("m1", Some(&bare), true),
            ("m1", None, true),
            ("m1", Some(&runs), true),
            ("m1", Some(&member), false),
            ("m1", Some(&stopped), false),
            ("w1", Some(&bare), true),
            ("w1", Some(&runs), false),
        ] {
            assert_eq!(Scope::Newcomers.takes_in(node(host), facts), is_new, "{host} {facts:?}");
        }
        let joining = [NodeName::new("m1")];
        let members = Scope::Members(&joining);
        assert!(members.takes_in(node("m1"), Some(&member)) && !members.takes_in(node("m2"), Some(&bare)));
        let ports = |scope: Scope<'_>| -> BTreeSet<u16> {
            paths::wanted(&cluster).iter().filter(|p| scope.takes(p)).map(|p| p.port).collect()
        };
        assert_eq!(ports(members), [2379, 2380].into());
        assert_eq!(ports(Scope::Newcomers), [2379, 2380, 6443, 10250].into());
    }

    #[test]
    fn answers_are_read_by_target() {
        let read = outcomes(
            "10.0.0.1:2380 open\n10.0.0.2:2380 unreachable No route to host\nnoise\n10.0.0.3:6443 filtered\n10.0.0.3:1 refused\n",
        );
        assert_eq!(read["10.0.0.1:2380"], Outcome::Open);
        assert_eq!(read["10.0.0.2:2380"], Outcome::Unreachable("No route to host".into()));
        assert_eq!((&read["10.0.0.3:6443"], &read["10.0.0.3:1"]), (&Outcome::Filtered, &Outcome::Refused));
        assert_eq!(read.len(), 4);
    }
}
