//! Which hosts must reach which ports of which others, by their roles, and what is wrong where one does not.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::{
    inventory::{Cluster, LoadBalancer, Node, NodeName, Role},
    layout,
    observe::Observed,
};

use super::{Findings, Verdict};

/// Of a host whose sshd forwards nothing.
pub fn no_forwarding() -> Verdict {
    Verdict::error(
        "its sshd forwards no connection, which etcd is asked through",
        "AllowTcpForwarding local, or yes, in its sshd_config, without DisableForwarding and PermitOpen; no restrict or \
         no-port-forwarding before the key in authorized_keys",
    )
}

/// Of a node that has others at these addresses, and a gateway before them.
pub fn not_next(cluster: &Cluster, behind_gateway: &[Ipv4Addr]) -> Option<Verdict> {
    let others = cluster.kubernetes_nodes().filter(|n| behind_gateway.contains(&n.internal_address));
    let others: Vec<String> = others.map(|n| format!("{} ({})", n.name, n.internal_address)).collect();
    let text = || {
        let others = others.join(", ");
        format!("does not have {others} on its own network, which network.plugin bridge needs")
    };
    (!others.is_empty()).then(|| {
        let help =
            "network.plugin: manifests, with those of a network that needs none (Calico, Cilium, flannel)";
        Verdict::error(text(), help)
    })
}

/// One host dials a port of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Who dials.
    pub from: NodeName,
    /// Whom.
    pub to: NodeName,
    /// At which address.
    pub address: Ipv4Addr,
    /// At which port.
    pub port: u16,
}

/// What came of dialling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Open,
    /// It was turned down at once, by the host or by a firewall that rejects.
    Refused,
    /// Nothing came back: as a firewall does that drops.
    Filtered,
    /// There is no way there, in the kernel's words.
    Unreachable(String),
}

/// Who has to reach whom: etcd members each other, control planes etcd and every kubelet, every node the API servers; with a
/// schedule of snapshots etcd hosts the members as clients, too.
pub fn wanted(cluster: &Cluster) -> Vec<Path> {
    let etcd = || cluster.with_role(Role::Etcd);
    let control = || cluster.with_role(Role::ControlPlane);
    let mut paths = Vec::new();
    let mut all = |from: &Node, to: &Node, port: u16| {
        if from.name != to.name {
            paths.push(Path {
                from: from.name.clone(),
                to: to.name.clone(),
                address: to.internal_address,
                port,
            });
        }
    };
    for from in etcd() {
        etcd().for_each(|to| all(from, to, layout::ETCD_PEER_PORT));
        // Whose timer fires asks all members how they are.
        if cluster.etcd.backup.is_some() {
            etcd().for_each(|to| all(from, to, layout::ETCD_CLIENT_PORT));
        }
    }
    for from in control() {
        etcd().for_each(|to| all(from, to, layout::ETCD_CLIENT_PORT));
        cluster.kubernetes_nodes().for_each(|to| all(from, to, layout::KUBELET_PORT));
    }
    for from in cluster.kubernetes_nodes() {
        control().for_each(|to| all(from, to, cluster.api.port));
    }
    paths.sort();
    paths.dedup();
    paths
}

/// The address that a kubelet which runs is to dial in place of another, as `HOST:PORT`; `None` where rsadm itself brings what
/// listens there, as it does where the API servers' own port is another from now on. Somebody else's balancer may be a name that
/// nobody has pointed anywhere yet.
pub fn dials_another(cluster: &Cluster, node: &Node, seen: &Observed) -> Option<String> {
    let facts = seen.hosts.get(&node.name)?;
    // Else there is nothing to lose, and nobody to answer before this run has started it.
    let serves = |n: &Node| {
        let facts = seen.hosts.get(&n.name);
        facts.is_some_and(|f| f.runs("kube-apiserver") && f.ports.contains_key(&cluster.api.port))
    };
    if !cluster.with_role(Role::ControlPlane).any(serves) {
        return None;
    }
    let url = cluster.api_url_from(node);
    let (host, now) = (host_of(&url), host_of(&facts.kubeconfigs.get(layout::KUBELET_CONF)?.server));
    let ours = node.is(Role::ControlPlane)
        || cluster.load_balancer == LoadBalancer::NodeLocal
        || cluster.with_role(Role::ControlPlane).any(|n| n.internal_address.to_string() == host);
    let moves = node.is_kubernetes() && !ours && now != host && facts.runs("kubelet");
    moves.then(|| url.trim_start_matches("https://").to_owned())
}

/// The host in `https://HOST:PORT`.
fn host_of(url: &str) -> &str {
    let address = url.trim_start_matches("https://");
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

/// What is wrong with an address that kubelets are to dial.
pub fn balancer(host: &NodeName, target: &str, outcome: &Outcome) -> Findings {
    let how = match outcome {
        Outcome::Open => return Findings::default(),
        Outcome::Refused => "it is refused",
        Outcome::Filtered => "no answer",
        Outcome::Unreachable(why) => why.as_str(),
    };
    let text = format!("does not reach {target} (api.host), which its kubelet is to dial from now on: {how}");
    let help = "have the API servers answer there, before all nodes dial it; or put load_balancer.type and api.host back";
    let mut findings = Findings::default();
    findings.take(host, [Verdict::error(text, help)]);
    findings.checks = 0;
    findings
}

/// The ports that others dial on a host.
pub fn ports_of(paths: &[Path], host: &NodeName) -> Vec<u16> {
    let mut ports: Vec<u16> = paths.iter().filter(|p| p.to == *host).map(|p| p.port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// What is wrong between the hosts: one finding for each port that some cannot reach, on the host that has the port.
pub fn findings(cluster: &Cluster, dialled: &[(Path, Outcome)]) -> Findings {
    let mut findings = Findings::default();
    let mut closed: BTreeMap<(&NodeName, u16, &str), Vec<&Path>> = BTreeMap::new();
    for (path, outcome) in dialled {
        let how = match outcome {
            Outcome::Open => continue,
            Outcome::Refused => "it is refused",
            Outcome::Filtered => "no answer",
            Outcome::Unreachable(why) => why.as_str(),
        };
        closed.entry((&path.to, path.port, how)).or_default().push(path);
    }
    for ((to, port, how), paths) in closed {
        let from: Vec<&str> = paths.iter().map(|p| p.from.as_str()).collect();
        let addresses: Vec<String> = paths
            .iter()
            .filter_map(|p| cluster.node(&p.from))
            .map(|node| node.internal_address.to_string())
            .collect();
        let to_address = paths.first().map(|p| p.address.to_string()).unwrap_or_default();
        let text = format!(
            "its port {port} ({}) cannot be reached from {}: {how}",
            service(cluster, port),
            from.join(", ")
        );
        let help = match how {
            "it is refused" | "no answer" => {
                format!(
                    "let TCP port {port} of {to_address} through from {}, in firewalls on the way and on the host",
                    addresses.join(", ")
                )
            }
            // Firewalls that reject politely say the same as a router that knows no way.
            _ => {
                format!("a route to {to_address} for {}, or a firewall that lets it through", from.join(", "))
            }
        };
        findings.take(to, [Verdict::error(text, help)]);
    }
    findings.checks = 0; // paths are counted as paths
    findings
}

fn service(cluster: &Cluster, port: u16) -> &'static str {
    match port {
        layout::ETCD_PEER_PORT => "etcd, between members",
        layout::ETCD_CLIENT_PORT => "etcd",
        layout::KUBELET_PORT => "kubelet",
        port if port == cluster.api.port => "API server",
        _ => "cluster",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifests::testing,
        observe::facts::{Facts, KubeconfigFact, ProcessFact},
    };

    fn pairs(paths: &[Path], port: u16) -> Vec<String> {
        paths.iter().filter(|p| p.port == port).map(|p| format!("{}>{}", p.from, p.to)).collect()
    }

    #[test]
    fn only_the_paths_that_roles_need() {
        let cluster = testing::ha();
        let paths = wanted(&cluster);
        assert_eq!(pairs(&paths, 2380), ["m1>m2", "m1>m3", "m2>m1", "m2>m3", "m3>m1", "m3>m2"]);
        assert_eq!(pairs(&paths, 2379), pairs(&paths, 2380));
        assert_eq!(pairs(&paths, 10250).len(), 3 * 4, "control planes to all other kubelets");
        let to_api = pairs(&paths, cluster.api.port);
        assert!(
            to_api.contains(&"w1>m3".to_owned())
                && !to_api.iter().any(|p| p.ends_with('1') && p.contains(">w")),
            "{to_api:?}"
        );
        assert!(!paths.iter().any(|p| p.from == p.to));
    }

    #[test]
    fn etcd_hosts_that_take_snapshots_reach_the_members_as_clients() {
        let mut cluster = testing::external_etcd();
        assert_eq!(pairs(&wanted(&cluster), 2379), ["c1>e1", "c1>e2", "c1>e3"]);
        let backup = Some(testing::backup());
        cluster.etcd.backup.clone_from(&backup);
        let among = ["e1>e2", "e1>e3", "e2>e1", "e2>e3", "e3>e1", "e3>e2"];
        assert_eq!(pairs(&wanted(&cluster), 2379)[3..], among);
        let mut stacked = testing::ha();
        let before = wanted(&stacked);
        stacked.etcd.backup = backup;
        assert_eq!(wanted(&stacked), before, "control planes try that path once");
    }

    #[test]
    fn a_kubelet_that_runs_moves_to_an_address_that_is_not_ours() {
        let mut cluster = testing::ha();
        let (here, there) = ("https://127.0.0.1:6443", "https://api.example.org:6443");
        let dialled = |cluster: &Cluster, host: &str, runs: bool, server: &str| {
            let kubelet = ProcessFact { name: "kubelet".into(), revision: None, etcd_servers: vec![] };
            let config = KubeconfigFact { server: server.into(), ..KubeconfigFact::default() };
            let facts = Facts {
                processes: runs.then_some(kubelet).into_iter().collect(),
                kubeconfigs: [(layout::KUBELET_CONF.into(), config)].into(),
                ..Facts::default()
            };
            let server = ProcessFact { name: "kube-apiserver".into(), revision: None, etcd_servers: vec![] };
            let serving = Facts {
                processes: vec![server],
                ports: [(6443, "kube-apiserver".into())].into(),
                ..Facts::default()
            };
            let mut seen = Observed::default();
            seen.hosts.insert(NodeName::new("m2"), serving);
            seen.hosts.insert(NodeName::new(host), facts);
            dials_another(cluster, testing::node(cluster, host), &seen)
        };
        assert_eq!(dialled(&cluster, "w1", true, there), None, "haproxy is ours");
        cluster.load_balancer = LoadBalancer::External;
        cluster.api.host = "api.example.org".into();
        assert_eq!(dialled(&cluster, "w1", true, here).as_deref(), Some("api.example.org:6443"));
        assert_eq!(dialled(&cluster, "w1", true, there), None);
        assert_eq!(dialled(&cluster, "w1", false, here), None);
        assert_eq!(dialled(&cluster, "m1", true, here), None, "its own API server");
        let port = "https://api.example.org:7443";
        assert_eq!(
            dialled(&cluster, "w1", true, port),
            None,
            "the API servers come to that port in this run"
        );
        cluster.api.host = testing::node(&cluster, "m1").internal_address.to_string();
        assert_eq!(dialled(&cluster, "w1", true, here), None, "a control plane itself");
        cluster.api.host = "api.example.org".into();
        let node = testing::node(&cluster, "w1");
        assert_eq!(dials_another(&cluster, node, &Observed::default()), None, "no API server is there yet");
        assert_eq!(balancer(&node.name, "api.example.org:6443", &Outcome::Open), Findings::default());
        let found = balancer(&node.name, "api.example.org:6443", &Outcome::Refused);
        let words = "does not reach api.example.org:6443 (api.host), which its kubelet is to dial from now on: it is refused";
        assert_eq!(found.errors[0].text, words);
    }

    #[test]
    fn a_closed_port_is_one_finding_with_all_who_miss_it() {
        let cluster = testing::ha();
        let mut dialled: Vec<(Path, Outcome)> =
            wanted(&cluster).into_iter().map(|p| (p, Outcome::Open)).collect();
        assert_eq!(findings(&cluster, &dialled), Findings::default());
        for (path, outcome) in &mut dialled {
            if path.to == NodeName::new("m2") && path.port == 2380 {
                *outcome = Outcome::Filtered;
            }
        }
        let found = findings(&cluster, &dialled);
        let texts: Vec<String> = found.errors.iter().map(|f| format!("{}: {}", f.host, f.text)).collect();
        assert_eq!(
            texts,
            ["m2: its port 2380 (etcd, between members) cannot be reached from m1, m3: no answer"]
        );
        assert!(
            found.errors[0].help.starts_with("let TCP port 2380 of 10.0.0.2 through from 10.0.0.1, 10.0.0.3")
        );
    }

    #[test]
    fn nodes_behind_a_gateway_are_named() {
        let cluster = testing::ha();
        assert_eq!(not_next(&cluster, &[]), None);
        let w2 = testing::node(&cluster, "w2").internal_address;
        let Some(Verdict::Error(text, _)) = not_next(&cluster, &[w2, [10, 9, 9, 9].into()]) else { panic!() };
        assert_eq!(
            text,
            format!("does not have w2 ({w2}) on its own network, which network.plugin bridge needs")
        );
    }

    #[test]
    fn no_route_is_told_as_such() {
        let cluster = testing::ha();
        let path = wanted(&cluster).remove(0);
        let found = findings(&cluster, &[(path, Outcome::Unreachable("No route to host".into()))]);
        assert!(
            found.errors[0].text.ends_with("No route to host")
                && found.errors[0].help.starts_with("a route to ")
        );
    }
}
