//! What no run changes that is not made for it. The version of Kubernetes is that of the hosts, since an upgrade is more than
//! other images.
//!
//! And what is decided once, when a cluster is built: whether rsadm's own plugin connects the pods ([`plugin`]), whether containerd
//! is ours ([`runtime`]), the subnets of pods and services, and the domain. Addresses out of those are in objects, in certificates
//! and in every running pod, and Kubernetes takes no other ones afterwards. Whichever phases are wanted, a change is told before
//! anything is done. So are the cgroups of pods, out of which no running pod comes alive.

use std::collections::BTreeMap;

use crate::{
    inventory::{Cluster, Node, Role},
    manifests::EtcdStart,
    observe::{Facts, Observed},
    phases::prepare,
    plan::{Planner, Refusal},
    versions::Version,
};

pub mod etcd;
pub mod nodes;
pub mod plugin;
pub mod runtime;

/// The rule that a cluster keeps its network.
pub const RULE: &str = "settled-network";

/// The version of Kubernetes that was installed on a host, where it is not that of the inventory.
pub fn other_kubernetes(cluster: &Cluster, facts: &Facts) -> Option<Version> {
    let installed = facts.programs.get("kubelet")?.version()?.parse().ok()?;
    (installed != cluster.release.kubernetes).then_some(installed)
}

/// Whether the hosts have the inventory's version of Kubernetes: a command that writes the manifest of a component for another
/// reason would bring another version along.
///
/// # Errors
/// Where one has another.
pub fn version(cluster: &Cluster, seen: &Observed) -> Result<(), Refusal> {
    let mut others: Vec<(&str, Version)> = Vec::new();
    for node in &cluster.nodes {
        let facts = seen.hosts.get(&node.name);
        others.extend(facts.and_then(|f| other_kubernetes(cluster, f)).map(|v| (node.name.as_str(), v)));
    }
    let Some((_, found)) = others.first() else { return Ok(()) };
    let names: Vec<&str> = others.iter().map(|(host, _)| *host).collect();
    let has = if names.len() == 1 { "has" } else { "have" };
    Err(Refusal {
        rule: "settled-version",
        subject: format!("{} {has} Kubernetes {found}", names.join(", ")),
        why: format!(
            "the inventory says {}, and this would bring that version along, which is no upgrade",
            cluster.release.kubernetes
        ),
        help: format!("set kubernetes_version: {found}"),
    })
}

/// Whether members have the names of their hosts in the inventory. A member keeps the name that it was started with; a host
/// that got another one would be another node, and the pods of the old one be evicted, before etcd is asked.
///
/// # Errors
/// Where a host has another name than its member. Of hosts that somebody else built only the address counts.
pub fn member_names(cluster: &Cluster, seen: &Observed) -> Result<(), Refusal> {
    let old = |node: &Node| {
        let facts = seen.hosts.get(&node.name).filter(|f| f.begun.is_some())?;
        let members = EtcdStart::of_manifest(facts.etcd_manifest.as_deref()?)?.members;
        let own = members.into_iter().find(|(_, url)| *url == node.peer_url());
        own.map(|(name, _)| name).filter(|name| *name != node.name)
    };
    let Some((node, old)) = cluster.with_role(Role::Etcd).find_map(|n| Some((n, old(n)?))) else {
        return Ok(());
    };
    let delete = if node.is_kubernetes() { format!("kubectl delete node {old}, ") } else { String::new() };
    Err(Refusal {
        rule: "member-renamed",
        subject: format!("the member of etcd on {} is called {old}", node.name),
        why: format!(
            "it was started so at {}, and a member keeps its name; nothing was changed on any host",
            node.peer_url()
        ),
        help: format!(
            "put the name {old} back into the inventory; a host that shall have another one leaves first: rsadm etcd remove {old} \
             while the inventory has that name, {delete}`rsadm reset` with an inventory of that host alone, which empties it; \
             then {} in the inventory, and rsadm up",
            node.name
        ),
    })
}

/// Whether the hosts have the network that the inventory wants.
///
/// Where at least one host has it, that is what was wanted when the others got theirs, and it goes on to all.
///
/// # Errors
/// Where hosts of a cluster that is built have another one, and none has that.
pub fn check(cluster: &Cluster, seen: &Observed) -> Result<(), Refusal> {
    let ours = built(cluster, seen);
    let mut kept = Kept::default();
    for (key, wanted) in wanted(cluster) {
        let mut found: Found<'_> = BTreeMap::new();
        for (host, facts) in &ours {
            if let Some(value) = facts.network.get(key) {
                found.entry(value).or_default().push(host);
            }
        }
        if !found.contains_key(wanted.as_str()) {
            kept.note(format!("network.{key}"), &found, &wanted);
        }
    }
    kept.refusal(RULE, "")
}

/// The hosts that rsadm has prepared, once they are of a cluster that is built: before the first API server has its manifest
/// nothing has an address, and all can still be had otherwise.
fn built<'c>(cluster: &'c Cluster, seen: &'c Observed) -> Vec<(&'c str, &'c Facts)> {
    let hosts = cluster.nodes.iter().filter_map(|n| Some((n.name.as_str(), seen.hosts.get(&n.name)?)));
    let ours: Vec<_> = hosts.filter(|(_, facts)| facts.begun.is_some()).collect();
    match ours.iter().any(|(_, facts)| facts.network.contains_key(SERVICE_SUBNET)) {
        true => ours,
        false => vec![],
    }
}

/// Whether pods may stay in the cgroups that they are in. A kubelet that looks for them elsewhere ends every pod that it finds
/// running (kubelet, `kubelet.go`, `SyncPod`), and kubelets of several hosts get new settings at once: so would members of
/// etcd and API servers end.
///
/// # Errors
/// Where a host that rsadm has prepared has running pods elsewhere.
pub fn cgroups(p: &Planner<'_>) -> Result<(), Refusal> {
    let mut found: BTreeMap<(&str, String), Found<'_>> = BTreeMap::new();
    for node in &p.cluster.nodes {
        let facts = p.facts(&node.name);
        if facts.begun.is_none() || facts.cgroups.is_empty() || !carries_pods(node, facts) {
            continue;
        }
        let Some(wanted) = prepare::other_cgroups(p, node) else { continue };
        for (key, default) in CGROUPS {
            let (has, wants) = (setting(&facts.cgroups, key, default), setting(&wanted, key, default));
            if has != wants {
                let of_key = found.entry((key, wants.to_owned())).or_default();
                of_key.entry(has).or_default().push(node.name.as_str());
            }
        }
    }
    let mut kept = Kept::default();
    for ((key, wanted), found) in &found {
        kept.note(format!("kubelet.config.{key}"), found, wanted);
    }
    kept.refusal(
        "settled-cgroups",
        "a kubelet that starts with others ends every pod that runs on its host\n",
    )
}

/// Whether pods run there: else a setting that was wrong from the start could not be put right.
fn carries_pods(node: &Node, facts: &Facts) -> bool {
    match node.is(Role::Etcd) || node.is(Role::ControlPlane) {
        true => ["etcd", "kube-apiserver"].iter().any(|pod| facts.runs(pod)),
        false => facts.units.get("kubelet").is_some_and(|unit| unit.active),
    }
}

/// Fields of the kubelet's configuration, and what goes without them (kubelet, `cmd/kubelet/app/server.go`).
const CGROUPS: [(&str, &str); 3] =
    [("cgroupDriver", "cgroupfs"), ("cgroupRoot", "/"), ("cgroupsPerQOS", "true")];

fn setting<'s>(of: &'s BTreeMap<String, String>, key: &str, default: &'s str) -> &'s str {
    of.get(key).map(String::as_str).filter(|value| !value.is_empty()).unwrap_or(default)
}

/// What hosts have, and which.
type Found<'f> = BTreeMap<&'f str, Vec<&'f str>>;

/// Settings that hosts keep.
#[derive(Default)]
struct Kept {
    keys: Vec<String>,
    lines: Vec<String>,
    back: Vec<String>,
}

impl Kept {
    /// Notes that hosts have a setting otherwise than it is wanted, where any has it.
    fn note(&mut self, key: String, found: &Found<'_>, wanted: &str) {
        if found.is_empty() {
            return;
        }
        let has: Vec<String> = found
            .iter()
            .map(|(value, hosts)| match hosts.as_slice() {
                [host] => format!("{host} has {value}"),
                hosts => format!("{} have {value}", hosts.join(", ")),
            })
            .collect();
        self.lines.push(format!("{key}: {}, and the inventory says {wanted}", has.join("; ")));
        self.back.extend(found.keys().map(|value| format!("{key}: {value}")));
        self.keys.push(key);
    }

    /// Lines of `why` end each.
    fn refusal(self, rule: &'static str, why: &str) -> Result<(), Refusal> {
        if self.keys.is_empty() {
            return Ok(());
        }
        Err(Refusal {
            rule,
            subject: format!("{} of a cluster that is built cannot change", self.keys.join(" and ")),
            why: format!("{}\n{why}nothing was changed on any host", self.lines.join("\n")),
            help: format!(
                "set it back: {}; who wants another one builds the cluster anew, after `rsadm reset`, which \
                 deletes all its data",
                self.back.join(", ")
            ),
        })
    }
}

/// See [`Facts::network`].
const SERVICE_SUBNET: &str = "service_subnet";

fn wanted(cluster: &Cluster) -> [(&'static str, String); 3] {
    let network = &cluster.network;
    [
        (SERVICE_SUBNET, network.service_subnet.to_string()),
        ("pod_subnet", network.pod_subnet.to_string()),
        ("cluster_domain", network.cluster_domain.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inventory::NodeName, manifests::testing};

    /// Hosts of `testing::ha` with what their files say.
    fn seen(hosts: &[(&str, &[(&str, &str)])]) -> Observed {
        let facts = |network: &[(&str, &str)]| Facts {
            begun: Some("prod".into()),
            network: network.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Facts::default()
        };
        let hosts = hosts.iter().map(|(name, network)| (NodeName::new(*name), facts(network)));
        Observed { hosts: hosts.collect(), ..Observed::default() }
    }

    #[test]
    fn a_built_network_is_kept() {
        let cluster = testing::ha();
        let (service, pods, domain) = (
            ("service_subnet", "10.96.0.0/12"),
            ("pod_subnet", "10.244.0.0/16"),
            ("cluster_domain", "cluster.local"),
        );
        let (other_service, other_pods, other_domain) = (
            ("service_subnet", "10.64.0.0/12"),
            ("pod_subnet", "10.32.0.0/16"),
            ("cluster_domain", "k8s.local"),
        );
        /// A host, and what its files say of settings.
        type Says<'a> = (&'a str, &'a [(&'a str, &'a str)]);
        let cases: [(&[Says<'_>], Option<&str>); 7] = [
            (&[], None),
            (&[("m1", &[service, pods, domain]), ("w1", &[pods, domain]), ("w2", &[])], None),
            (&[("m1", &[other_pods, other_domain]), ("m2", &[])], None),
            (
                &[("m1", &[other_service, pods, domain]), ("m2", &[other_service, pods, domain])],
                Some("network.service_subnet: m1, m2 have 10.64.0.0/12, and the inventory says 10.96.0.0/12"),
            ),
            (
                &[("m1", &[service, domain]), ("w1", &[other_pods, domain])],
                Some("network.pod_subnet: w1 has 10.32.0.0/16, and the inventory says 10.244.0.0/16"),
            ),
            (
                &[("m1", &[service, pods, other_domain])],
                Some("network.cluster_domain: m1 has k8s.local, and the inventory says cluster.local"),
            ),
            // One got it before the run died: the rest follows.
            (&[("m1", &[service, pods, domain]), ("m2", &[service, other_pods, other_domain])], None),
        ];
        for (hosts, wanted) in cases {
            let why = check(&cluster, &seen(hosts)).err().map(|refusal| refusal.why);
            assert_eq!(why.as_deref().and_then(|why| why.lines().next()), wanted, "{hosts:?}");
        }
    }

    #[test]
    fn the_way_out_names_what_to_set_back() {
        let refusal =
            check(&testing::ha(), &seen(&[("m1", &[("service_subnet", "10.64.0.0/12")])])).unwrap_err();
        assert_eq!(refusal.subject, "network.service_subnet of a cluster that is built cannot change");
        assert!(
            refusal.help.starts_with("set it back: network.service_subnet: 10.64.0.0/12; "),
            "{}",
            refusal.help
        );
    }

    #[test]
    fn hosts_that_rsadm_did_not_prepare_say_nothing() {
        let mut seen = seen(&[("m1", &[("service_subnet", "10.64.0.0/12")])]);
        seen.hosts.values_mut().for_each(|facts| facts.begun = None);
        assert_eq!(check(&testing::ha(), &seen), Ok(()));
    }
}
