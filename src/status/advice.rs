//! What `rsadm status` advises, the worst first.

use super::{ClusterStatus, HostStatus, Sources, certificates::authority_of, host};
use crate::{
    etcd::status::{Advice, Level},
    inventory::{NetworkPlugin, Node, Role},
    observe::{NodeFact, api::Workload},
    phases::{addons, ownership},
    pki::{
        authorities::{Ca, WARNING_DAYS},
        inspect::days_left,
        leaf::is_urgent,
    },
};

/// What is off and what to do about it.
pub(super) fn advice(sources: &Sources<'_>, status: &ClusterStatus) -> Vec<Advice> {
    let inventory = sources.inventory;
    let warn =
        |text: String, command: Option<String>| Advice { level: Level::Warning, text, says: None, command };
    let note =
        |text: String, command: Option<String>| Advice { level: Level::Note, text, says: None, command };
    if !status.built {
        return vec![note(
            "nothing is built yet; this does it:".to_owned(),
            Some(format!("rsadm up{inventory}")),
        )];
    }
    let mut advice: Vec<Advice> =
        sources.etcd.advice.iter().filter(|a| a.level == Level::Warning).cloned().collect();
    let said = advice.iter().any(|a| a.command.as_deref().is_some_and(|c| c.starts_with("rsadm up")));
    let down: Vec<&str> = status.hosts.iter().filter(|h| has_stopped(h)).map(|h| h.name.as_str()).collect();
    if !down.is_empty() && !said {
        let what = format!("what should run on {} and does not", down.join(", "));
        advice.push(match sources.plan {
            Some(Err(_)) => warn(format!("{what}, up starts once it has nothing to refuse any more"), None),
            _ => warn(format!("{what}, this starts:"), Some(format!("rsadm up{inventory}"))),
        });
    }
    // Of a member's host etcd's advice tells.
    let is_away = |h: &&HostStatus| !h.reachable && !h.roles.contains(&Role::Etcd);
    for host in status.hosts.iter().filter(is_away) {
        let name = &host.name;
        advice.push(warn(
            format!(
                "{name} cannot be reached over SSH: is the host up? once it is, what runs there goes on by itself; where it is \
                 gone for good: kubectl delete node {name}, and take it out of the inventory"
            ),
            None,
        ));
    }
    let runs_unready = |h: &&HostStatus| {
        h.api_ready == Some(false) && h.components.get("kube-apiserver").is_some_and(|runs| *runs)
    };
    let unready: Vec<&str> = status.hosts.iter().filter(runs_unready).map(|h| h.name.as_str()).collect();
    // Without a quorum of etcd none is.
    if !unready.is_empty() && sources.etcd.serves {
        let text = format!(
            "the API server of {} runs and is not ready; if it stays so, this tries every port between hosts:",
            unready.join(", ")
        );
        advice.push(warn(text, Some(format!("rsadm preflight{inventory}"))));
    }
    advice.extend(not_ready(sources, status).into_iter().map(|(text, command)| warn(text, command)));
    let told = unlisted(status).into_iter().chain(workloads(sources, status));
    advice.extend(told.map(|(text, command)| warn(text, Some(command))));
    advice
        .extend(authorities(sources).map(|text| warn(text, Some(format!("rsadm certs status{inventory}")))));
    if let Some(text) = leaf(sources) {
        advice.push(warn(text, Some(format!("rsadm certs renew{inventory}"))));
    }
    if let Some(Err(refusal)) = sources.plan {
        let text = format!("{}: {}\n  {}", refusal.subject, refusal.why.trim(), refusal.help.trim());
        advice.push(warn(format!("up would refuse: {text}"), None));
    }
    for name in status.unlisted_nodes.iter().flatten() {
        let known = sources.seen.nodes.as_ref().and_then(|nodes| nodes.get(name));
        let text = match known.is_some_and(NodeFact::is_ours) {
            _ if sources.cluster.node(name).is_some() => {
                format!(
                    "{name} is still a node of the cluster and to be none; this takes it out, once nothing runs there:"
                )
            }
            true => {
                format!("node {name} is not in the inventory; name it there, or take it out of the cluster:")
            }
            false => format!(
                "node {name} is not in the inventory, and rsadm did not build it: it may stay; this takes it out of the \
                 cluster, before `kubeadm reset` there:"
            ),
        };
        let command = format!("kubectl drain {name} --ignore-daemonsets && kubectl delete node {name}");
        advice.push(note(text, Some(command)));
    }
    advice.sort_by_key(|a| a.level);
    advice
}

/// Authorities whose end is near, and with it that of all that they signed.
fn authorities(sources: &Sources<'_>) -> impl Iterator<Item = String> {
    Ca::ALL.into_iter().filter_map(|ca| {
        let info = authority_of(sources.cluster, sources.seen, ca)?;
        match days_left(info.not_after, sources.now) {
            WARNING_DAYS.. => None,
            days @ 0.. => Some(format!(
                "the {ca} ends in {days} days, and with it all that it signed; this tells more:"
            )),
            _ => Some(format!("the {ca} has expired, and nothing can be renewed with it; this tells more:")),
        }
    })
}

/// The certificate that ends first of those that can be renewed, where that is soon.
fn leaf(sources: &Sources<'_>) -> Option<String> {
    let hosts = sources.cluster.nodes.iter().filter_map(|n| Some((n, sources.seen.hosts.get(&n.name)?)));
    let expiries = hosts.flat_map(|(node, facts)| host::expiries(sources, node, facts));
    let first = expiries.filter(|e| is_urgent(e.days) && !e.with_authority).min_by_key(|e| e.days)?;
    let when = match first.days {
        days @ 0.. => format!("expires in {days} days"),
        _ => "has expired".to_owned(),
    };
    Some(format!("{} on {} {when}; this renews what ends soon:", first.path, first.host))
}

/// What no API server lists though one is ready, and how to ask for it by hand.
fn unlisted(status: &ClusterStatus) -> Vec<(String, String)> {
    if status.api.as_ref().is_none_or(|api| api.ready == 0) {
        return vec![];
    }
    let asked = [
        (status.unlisted_nodes.is_none(), "nodes", "kubectl get nodes"),
        (
            status.workloads.is_none(),
            "what runs in kube-system",
            "kubectl -n kube-system get deployments,daemonsets",
        ),
    ];
    let said =
        |what| format!("an API server is ready, and none listed {what} in time; this waits for longer:");
    asked.iter().filter(|a| a.0).map(|(_, what, command)| (said(*what), (*command).to_owned())).collect()
}

/// Who is not Ready though its kubelet runs: who waits for the operator's own network plugin, and who has another reason.
fn not_ready(sources: &Sources<'_>, status: &ClusterStatus) -> Vec<(String, Option<String>)> {
    let runs = |h: &HostStatus| h.units.get("kubelet").is_some_and(|runs| *runs);
    let sick =
        status.hosts.iter().filter(|h| h.node_ready == Some(false) && runs(h)).map(|h| h.name.as_str());
    let waits = |name: &&str| {
        let node = sources.cluster.nodes.iter().find(|node| node.name.as_str() == *name);
        node.is_some_and(|node| host::awaits_network(sources, node))
    };
    let (waiting, others): (Vec<&str>, Vec<&str>) = sick.partition(waits);
    let mut told = vec![];
    if !waiting.is_empty() {
        told.push((
            format!(
                "not Ready: {}; with network.plugin: none nodes, and CoreDNS with them, wait for the network plugin that you apply",
                waiting.join(", ")
            ),
            None,
        ));
    }
    if !others.is_empty() {
        let text = format!("not Ready though the kubelet runs: {}; this tells more:", others.join(", "));
        told.push((text, Some(format!("kubectl describe node {}", others.join(" ")))));
    }
    told
}

/// Workloads without which the cluster is not well, and those whose pods are not all ready.
fn workloads(sources: &Sources<'_>, status: &ClusterStatus) -> Vec<(String, String)> {
    let Some(workloads) = &status.workloads else { return vec![] };
    let describe = |name: &str| format!("kubectl -n kube-system describe {name}");
    // Somebody else's cluster may do without, and with the plugin `none` nobody knows what is to run there.
    let is_ours = |node: &Node| sources.seen.hosts.get(&node.name).is_some_and(ownership::is_prepared);
    let expects = sources.cluster.with_role(Role::ControlPlane).any(is_ours)
        && sources.cluster.network.plugin != NetworkPlugin::None;
    let expected = addons::workloads(sources.cluster).into_iter().filter(|_| expects);
    let missing = expected.filter_map(|name| match workloads.iter().find(|w| w.name == name) {
        None => Some((
            format!("{name}, which every cluster needs, is not in kube-system; this makes it anew:"),
            format!("rsadm up{}", sources.inventory),
        )),
        Some(Workload { wanted: 0, .. }) if name.starts_with("deployment/") => Some((
            // `up` leaves the number to whoever has set it.
            format!("{name}, which every cluster needs, is scaled to no pods; this gives it two:"),
            format!("kubectl -n kube-system scale {name} --replicas 2"),
        )),
        Some(Workload { wanted: 0, .. }) => Some((
            format!("{name}, which every cluster needs, is to run on no node; this tells more:"),
            describe(name),
        )),
        Some(_) => None,
    });
    let late = workloads.iter().filter(|w| w.ready < w.wanted).map(|Workload { name, ready, wanted }| {
        (format!("{ready} of {wanted} pods of {name} are ready; this tells more:"), describe(name))
    });
    missing.chain(late).collect()
}

/// True where a host that can be asked does not run something that it should.
fn has_stopped(host: &HostStatus) -> bool {
    host.units.values().chain(host.components.values()).any(|runs| !runs)
}
