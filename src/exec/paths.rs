//! What takes trying before the first change: whether hosts reach one another's ports, and how fast disks sync.
//!
//! Nothing listens yet on the ports that matter, and a firewall may reject as a closed port does. So each host listens on
//! those of its ports that are free (with `systemd-socket-activate`, which every systemd brings), all hosts dial those
//! that their roles let them dial, and the listeners are ended: a few executions on each host, whatever the number of
//! pairs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::join;

use super::{
    dial::{outcomes, target},
    forwarding, neighbours, scripts,
};
use crate::{
    host::{HostError, Op, Output, Script, TIMED_OUT, fleet::Fleet},
    inventory::{Cluster, Node, NodeName, Role},
    layout,
    observe::{Facts, Observed},
    phases::preflight::{
        Findings,
        paths::{self, Outcome, Path},
        probe::{Places, Probe},
    },
};

/// How long a host may take to try what it is asked to, and to dial all others.
const LIMIT: Duration = Duration::from_secs(90);

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
    let arguments = to_probe(cluster, seen, &wanted, is_new);
    let (probes, dialled) = listen_and_dial(fleet, &wanted, &arguments).await?;
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

/// What each host is asked to try.
fn to_probe(
    cluster: &Cluster,
    seen: &Observed,
    wanted: &[Path],
    is_new: impl Fn(&NodeName) -> bool,
) -> BTreeMap<NodeName, Vec<String>> {
    // A member that runs is not disturbed by writes beside it.
    let tries_disk = |node: &Node| {
        node.is(Role::Etcd)
            && is_new(&node.name)
            && !seen.hosts.get(&node.name).is_some_and(|f| f.runs("etcd"))
    };
    cluster
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
        .collect()
}

/// Has all hosts try and listen, then all dial, and then those end that listen.
async fn listen_and_dial(
    fleet: &Fleet,
    wanted: &[Path],
    arguments: &BTreeMap<NodeName, Vec<String>>,
) -> Result<(BTreeMap<NodeName, Probe>, Vec<(Path, Outcome)>), Vec<HostError>> {
    let answers = everywhere(fleet, scripts::PROBE, arguments).await?;
    let probes: BTreeMap<NodeName, Probe> =
        answers.into_iter().map(|(name, text)| (name, Probe::parse(&text))).collect();
    // Whatever comes of dialling: who listens is told to stop.
    let dialled = dial(fleet, wanted, &probes).await;
    let listeners = probes.iter().filter_map(|(name, p)| Some((name.clone(), vec![p.listener?.to_string()])));
    let stopped = everywhere(fleet, scripts::HANG_UP, &listeners.collect()).await;
    let (dialled, stopped) = (dialled?, stopped?);
    // Who was refused where nobody listened any more has not tried the way there.
    let is_vain = |(path, outcome): &&(Path, Outcome)| {
        *outcome == Outcome::Refused && stopped.get(&path.to).is_some_and(|said| said.trim() == "gone")
    };
    let vain: BTreeSet<NodeName> = dialled.iter().filter(is_vain).map(|(path, _)| path.to.clone()).collect();
    match vain.is_empty() {
        true => Ok((probes, dialled)),
        false => Err(vain
            .iter()
            .map(|host| hangs(host, "listen", "that had ended before all had dialled"))
            .collect()),
    }
}

fn hangs(host: &NodeName, doing: &str, why: impl Into<String>) -> HostError {
    HostError::Hangs { host: host.clone(), doing: doing.into(), why: why.into() }
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
    let (mut dialled, mut untold) = (Vec::new(), Vec::new());
    for path in wanted {
        let target = target(path.address, path.port);
        match outcomes.get(&path.from).and_then(|told| told.get(&target)) {
            Some(outcome) => dialled.push((path.clone(), outcome.clone())),
            None => {
                untold.push(hangs(&path.from, "dial other hosts", format!("it says nothing of {target}")));
            }
        }
    }
    untold.dedup_by(|one, other| one.host() == other.host());
    if untold.is_empty() { Ok(dialled) } else { Err(untold) }
}

/// Runs a script on each of these hosts with its arguments; what each printed. What one that ran out of time printed says nothing
/// of the rest, so that is an error of its host.
async fn everywhere(
    fleet: &Fleet,
    script: Script,
    arguments: &BTreeMap<NodeName, Vec<String>>,
) -> Result<BTreeMap<NodeName, String>, Vec<HostError>> {
    let names: Vec<NodeName> = arguments.keys().cloned().collect();
    let answers = fleet
        .for_each(&names, |host| {
            let arguments = arguments.get(host.name()).cloned().unwrap_or_default();
            async move { host.run(&[Op::Script(script, arguments, LIMIT)], false).await }
        })
        .await;
    let (mut texts, mut errors) = (BTreeMap::new(), Vec::new());
    for (name, answer) in answers {
        match answer.map(|outputs| outputs.into_iter().next().unwrap_or_default()) {
            Ok(Output { status: TIMED_OUT, .. }) => {
                let (doing, why) = (
                    format!("run the script {}", script.name),
                    format!("no end within {} s", LIMIT.as_secs()),
                );
                errors.push(hangs(&name, &doing, why));
            }
            Ok(output) => drop(texts.insert(name, output.text())),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(texts) } else { Err(errors) }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{host::testing as stub, manifests::testing, observe::facts::ProcessFact};

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

    /// m1 dials m2; what they answer to each script, with a status.
    async fn dialled(
        m1: &'static str,
        status: i32,
        m2: &'static [(&'static str, i32, &'static str)],
    ) -> Result<Vec<Outcome>, String> {
        let dials: &'static [(&str, i32, &str)] =
            Box::leak(Box::new([("probe", 0, ""), ("dial", status, m1)]));
        let names = ["m1", "m2"].map(NodeName::new);
        let hosts = [("m1", dials), ("m2", m2)].map(|(name, says)| {
            stub::host(name, move |ops| {
                let [Op::Script(script, ..)] = ops else { unreachable!("one script at a time") };
                let (_, status, text) = says.iter().find(|(name, ..)| *name == script.name).unwrap();
                stub::says(*status, text)
            })
        });
        let [from, to] = names.clone();
        let path = Path { from, to, address: Ipv4Addr::new(10, 0, 0, 2), port: 2380 };
        let arguments: BTreeMap<_, Vec<String>> = names.map(|name| (name, vec![])).into();
        let tried = listen_and_dial(&Fleet::new(hosts.into(), 2), &[path], &arguments).await;
        let said =
            |errors: Vec<HostError>| errors.iter().map(HostError::to_string).collect::<Vec<_>>().join("; ");
        tried.map(|(_, paths)| paths.into_iter().map(|(_, outcome)| outcome).collect()).map_err(said)
    }

    #[tokio::test]
    async fn a_path_that_was_not_tried_is_neither_open_nor_closed() {
        const LISTENED: &[(&str, i32, &str)] = &[("probe", 0, "listener 7\n"), ("hang-up", 0, "")];
        const GONE: &[(&str, i32, &str)] = &[("probe", 0, "listener 7\n"), ("hang-up", 0, "gone\n")];
        const SLOW: &[(&str, i32, &str)] = &[("probe", TIMED_OUT, "listener 7\n"), ("hang-up", 0, "")];
        let (open, refused) = ("10.0.0.2:2380 open\n", "10.0.0.2:2380 refused\n");
        assert_eq!(dialled(open, 0, LISTENED).await, Ok(vec![Outcome::Open]));
        assert_eq!(dialled(open, 0, GONE).await, Ok(vec![Outcome::Open]));
        assert_eq!(dialled(refused, 0, LISTENED).await, Ok(vec![Outcome::Refused]));
        let hangs =
            |host: &str, doing: &str, why: &str| Err(format!("{host} was to {doing}, and hangs: {why}"));
        assert_eq!(
            dialled(refused, 0, GONE).await,
            hangs("m2", "listen", "that had ended before all had dialled")
        );
        assert_eq!(dialled(open, 0, SLOW).await, hangs("m2", "run the script probe", "no end within 90 s"));
        assert_eq!(
            dialled("", TIMED_OUT, LISTENED).await,
            hangs("m1", "run the script dial", "no end within 90 s")
        );
        assert_eq!(
            dialled("", 0, LISTENED).await,
            hangs("m1", "dial other hosts", "it says nothing of 10.0.0.2:2380")
        );
    }
}
