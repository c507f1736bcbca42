//! What every cluster needs inside: kubeadm's own objects, kube-proxy, CoreDNS, and the operator's manifests.
//!
//! Each is a bundle of objects, applied as one and recorded in the cluster with a hash, so that an unchanged bundle
//! costs a later run nothing. Recorded are also its objects with the fields that were applied: one that somebody
//! deleted or changed since is noticed, and the bundle applied again. Like kubeadm, we leave CoreDNS' replicas and
//! Corefile to whoever has set them by hand, which `apply.sh` sees to: only there it is sure what the cluster has.

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    inventory::{Cluster, NetworkPlugin, Node, NodeName},
    layout,
    manifests::{coredns, kube_proxy, kubeadm},
    observe::WorkloadFact,
    phases::{control_plane, prepare, workers},
    plan::{
        Action, Mode, Planner, Refusal,
        action::{CA_MARK, bundle_hash},
    },
};

/// The phase.
pub const PHASE: &str = "addons";

const PROXY: &str = "daemonset/kube-proxy";
const DNS: &str = "deployment/coredns";

/// What a cluster runs in `kube-system`.
pub fn workloads(cluster: &Cluster) -> Vec<&'static str> {
    match cluster.kube_proxy.enabled {
        true => vec![PROXY, DNS],
        false => vec![DNS],
    }
}

/// What nodes need to become Ready and to join: applied while workers start their kubelets.
pub fn early(p: &mut Planner<'_>) {
    let Some(speaker) = control_plane::speaker(p.cluster) else { return };
    let cluster = p.cluster;
    // The authority's certificate may be made in this very run, so a mark stands for its encoded form.
    let interop = prepare::text(kubeadm(cluster, CA_MARK)).replace(&BASE64_STANDARD.encode(CA_MARK), CA_MARK);
    bundle(p, speaker, "kubeadm", interop);
    if cluster.kube_proxy.enabled {
        bundle(p, speaker, "kube-proxy", proxy(cluster));
    }
    for (name, text) in &cluster.network_manifests {
        bundle(p, speaker, name, text.clone());
    }
}

/// CoreDNS, once there are workers for it; and that it, like kube-proxy, serves.
///
/// # Errors
/// Never so far.
pub fn plan(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let Some(speaker) = control_plane::speaker(p.cluster) else { return Ok(()) };
    p.stage(PHASE, "CoreDNS and kube-proxy", Mode::Parallel);
    let upstream = nameservers(p);
    if p.seen().edited.contains("Deployment") {
        let text = "the number of CoreDNS' replicas was set by somebody else and stays so";
        p.notice(
            PHASE,
            None,
            text,
            "to change it: kubectl -n kube-system scale deployment coredns --replicas N",
        );
    }
    if p.seen().edited.contains("ConfigMap") {
        let text = "CoreDNS' Corefile was changed by somebody else and stays so";
        let help =
            "to have rsadm's again: kubectl -n kube-system delete configmap coredns, and rsadm up afterwards";
        p.notice(PHASE, None, text, help);
    }
    bundle(p, speaker, "coredns", prepare::text(coredns(p.cluster, upstream)));
    if !p.cluster.kube_proxy.enabled && p.seen().workloads.contains_key(PROXY) {
        let help = "once the network plugin does its work: kubectl -n kube-system delete daemonset kube-proxy kube-proxy-joined";
        p.notice(PHASE, None, "kube-proxy is there still, and the inventory wants none", help);
    }
    // A node that is new has yet to get its kube-proxy.
    let changes = p.applies(&["kube-proxy", "coredns"]) || p.awaits_nodes();
    let mut idle = workers::idle_balancers(p);
    if !idle.is_empty() && !proxy_is_current(p) {
        idle.clear();
    }
    // CoreDNS waits for a network.
    let awaited = match p.cluster.network.plugin {
        NetworkPlugin::None => vec![],
        _ => workloads(p.cluster),
    };
    if (changes || is_late(p)) && !awaited.is_empty() {
        let workloads = awaited.into_iter().map(String::from).collect();
        // A node that the inventory does not name may be switched off for good.
        let nodes = match workers::unlisted(p.cluster, p.seen().nodes.as_ref()).is_empty() {
            true => vec![],
            false => p.cluster.kubernetes_nodes().map(|n| n.name.clone()).collect(),
        };
        p.push(&speaker.name, Action::AwaitRollout { workloads, nodes }, "");
    }
    if others_may_dial(p.cluster) {
        balancers_stay(p, &idle);
    } else if !idle.is_empty() {
        workers::remove_balancers(p, &idle);
    }
    Ok(())
}

/// Whether what runs kube-proxy is what the inventory wants: it dials the API as the kubelets do. One that is there though the
/// inventory wants none dials what it was told once.
fn proxy_is_current(p: &Planner<'_>) -> bool {
    match p.cluster.kube_proxy.enabled {
        true => p.seen().bundles.get("kube-proxy") == Some(&bundle_hash(&proxy(p.cluster))),
        false => !p.seen().workloads.contains_key(PROXY),
    }
}

/// Network plugins that do kube-proxy's work dial the API by an address that somebody gave them, of which rsadm does not know.
fn others_may_dial(cluster: &Cluster) -> bool {
    cluster.network.plugin != NetworkPlugin::Bridge
}

/// Whoever still dials one would lose the API, and with a network plugin all pods their network.
fn balancers_stay(p: &mut Planner<'_>, idle: &[NodeName]) {
    if idle.is_empty() {
        return;
    }
    let names: Vec<&str> = idle.iter().map(NodeName::as_str).collect();
    let text = format!(
        "haproxy stays on {}, with the control planes of now, whoever comes or goes: kubelets do not dial 127.0.0.1:{} any more, \
         a network plugin may",
        names.join(", "),
        p.cluster.api.port
    );
    let help = format!(
        "give the plugin another way to the API before control planes change or workers come; once none dials it: rm {} there, \
         and {} once haproxy has ended",
        layout::manifest_of(workers::HAPROXY),
        layout::HAPROXY_CONFIG
    );
    p.notice(PHASE, None, text, help);
}

/// The way out where a host has no nameserver for its pods. One on loopback is none: inside a pod that is the pod itself, and
/// CoreDNS ends when it finds that it asks itself (its plugin `loop`).
const NAMESERVERS: &str = "set nameservers on the hosts, other than on 127.0.0.1; or have kubelet.config.resolvConf name a file with some";

/// Whether any host has a nameserver, or the operator named a file of his own; those that have none are told.
fn nameservers(p: &mut Planner<'_>) -> bool {
    if p.cluster.kubelet.config.contains_key("resolvConf") {
        return true;
    }
    let has_one = |n: &&Node| p.facts(&n.name).features.iter().any(|f| f == "resolver");
    let (with, without): (Vec<&Node>, Vec<&Node>) = p.cluster.kubernetes_nodes().partition(has_one);
    let names: Vec<&str> = without.iter().map(|n| n.name.as_str()).collect();
    if with.is_empty() {
        let text = "no host has a nameserver that pods can ask: they resolve names of the cluster only";
        p.notice(PHASE, None, text, NAMESERVERS);
    } else if !without.is_empty() {
        let text = format!(
            "{} without a nameserver that pods can ask: CoreDNS does not start there",
            names.join(", ")
        );
        p.notice(PHASE, None, text, NAMESERVERS);
    }
    !with.is_empty()
}

/// Whether a workload that is there was never rolled out, or is not any more: a run that waited in vain has applied its bundle
/// all the same. Pods on nodes that are not Ready or that nobody named are not waited for: a node may be switched off for good. Of
/// CoreDNS one that serves is enough here: somebody may want more replicas than there are nodes that take one.
fn is_late(p: &Planner<'_>) -> bool {
    let nodes = p.seen().nodes.iter().flatten();
    let away = nodes.filter(|(name, node)| !node.ready || p.cluster.node(name).is_none()).count();
    let is_there = |name: &str, workload: &WorkloadFact| match name {
        DNS => workload.is_in_place(),
        _ => workload.is_rolled_out(away),
    };
    let late = |name: &&str| p.seen().workloads.get(*name).is_some_and(|w| !is_there(name, w));
    workloads(p.cluster).iter().any(late)
}

fn proxy(cluster: &Cluster) -> String {
    prepare::text(kube_proxy(cluster))
}

fn bundle(p: &mut Planner<'_>, speaker: &Node, name: &str, objects: String) {
    let why = match (p.seen().bundles.get(name), p.seen().damaged.get(name)) {
        (Some(hash), None) if *hash == bundle_hash(&objects) => return p.checked(),
        (Some(_), None) => "differs".to_owned(),
        (Some(_), Some(damage)) => damage.clone(),
        (None, _) => "missing".to_owned(),
    };
    p.push(&speaker.name, Action::Apply { bundle: name.into(), objects }, why);
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::{
        manifests::testing,
        observe::{NodeFact, Observed},
    };

    fn nodes(cluster: &Cluster) -> Observed {
        let ready = NodeFact { ready: true, ..NodeFact::default() };
        let nodes = cluster.nodes.iter().map(|n| (n.name.clone(), ready.clone())).collect();
        Observed { nodes: Some(nodes), ..Observed::default() }
    }

    #[test]
    fn pods_on_nodes_that_are_away_or_unlisted_make_nothing_late() {
        let cluster = testing::ha();
        let mut seen = nodes(&cluster);
        let late =
            |seen: &Observed| is_late(&Planner::new(&cluster, seen.clone(), OffsetDateTime::UNIX_EPOCH));
        assert!(!late(&seen), "of what is not there its bundle tells");
        let proxy = WorkloadFact { noticed: true, wanted: 6, updated: 6, ready: 5 };
        seen.workloads.insert(PROXY.into(), proxy);
        seen.workloads.insert("daemonset/theirs".into(), WorkloadFact { ready: 0, ..proxy });
        assert!(late(&seen));
        let dns = WorkloadFact { noticed: true, wanted: 9, updated: 9, ready: 1 };
        let mut scaled = nodes(&cluster);
        scaled.workloads.insert(DNS.into(), dns);
        assert!(!late(&scaled), "more than there are nodes");
        for sick in [WorkloadFact { ready: 0, ..dns }, WorkloadFact { updated: 1, ..dns }] {
            scaled.workloads.insert(DNS.into(), sick);
            assert!(late(&scaled));
        }
        let w2 = seen.nodes.as_mut().unwrap().get_mut(&NodeName::new("w2")).unwrap();
        w2.ready = false;
        assert!(!late(&seen));
        let mut seen = Observed { workloads: seen.workloads, ..nodes(&cluster) };
        let gone = NodeFact { ready: true, ..NodeFact::default() };
        seen.nodes.as_mut().unwrap().insert(NodeName::new("gone"), gone);
        assert!(!late(&seen));
    }

    #[test]
    fn hosts_without_a_nameserver_are_named() {
        let cluster = testing::ha();
        let told = |with: &[&str]| {
            let mut seen = nodes(&cluster);
            for name in with {
                seen.hosts.entry(NodeName::new(*name)).or_default().features.push("resolver".into());
            }
            let mut p = Planner::new(&cluster, seen, OffsetDateTime::UNIX_EPOCH);
            let upstream = nameservers(&mut p);
            (upstream, p.finish().0.notices.into_iter().map(|n| n.text).collect::<Vec<_>>())
        };
        assert_eq!(told(&["m1", "m2", "m3", "w1", "w2"]), (true, vec![]));
        let some = "m2, w2 without a nameserver that pods can ask: CoreDNS does not start there".to_owned();
        assert_eq!(told(&["m1", "m3", "w1"]), (true, vec![some]));
        let none =
            "no host has a nameserver that pods can ask: they resolve names of the cluster only".to_owned();
        assert_eq!(told(&[]), (false, vec![none]));
    }
}
