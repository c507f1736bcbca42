//! Between hosts: names and addresses, and whether the roles make a cluster.

use std::collections::HashMap;

use crate::{
    inventory::{
        TAKES_PODS,
        cluster::Role,
        draft::Draft,
        hosts::HostDraft,
        problem::{Findings, Path},
        settings::RuntimeInstall,
    },
    layout,
};

pub(super) fn check(draft: &Draft, has_all_hosts: bool, findings: &Findings) {
    check_unique(&draft.hosts, findings);
    if has_all_hosts {
        check_topology(&draft.hosts, findings);
        check_workers(draft, findings);
    }
    for host in &draft.hosts {
        check_node_settings(host, findings);
        check_ports(host, draft.api.port, findings);
    }
}

fn check_unique(hosts: &[HostDraft], findings: &Findings) {
    let mut names = HashMap::new();
    let mut dialled = HashMap::new();
    let mut internal = HashMap::new();
    for (i, host) in hosts.iter().enumerate() {
        if let Some(name) = &host.name {
            let first = *names.entry(name.as_str()).or_insert(i);
            report_twin(hosts, (first, i), "name", name.as_str(), findings);
        }
        // Several hosts behind one address differ by port: forwarded ports, as Vagrant makes them.
        if let Some(address) = host.address.as_ref().filter(|_| host.is_port_known) {
            let first = *dialled.entry((address.to_ascii_lowercase(), host.ssh.port)).or_insert(i);
            report_twin(hosts, (first, i), "address", address, findings);
        }
        if let Some(address) = host.internal_address {
            let first = *internal.entry(address).or_insert(i);
            let given = host.address.as_deref() != Some(&address.to_string());
            // Where it is taken from `address`, that has been reported; with another port that is no twin.
            let dials = |host: &HostDraft| (host.address.clone(), host.ssh.port);
            let is_known = hosts[first].is_port_known && host.is_port_known;
            if given || (is_known && dials(&hosts[first]) != dials(host)) {
                report_twin(hosts, (first, i), "internal_address", &address.to_string(), findings);
            }
        }
    }
    check_crossed(hosts, &internal, findings);
}

fn report_twin(hosts: &[HostDraft], (first, i): (usize, usize), key: &str, value: &str, findings: &Findings) {
    if first == i {
        return;
    }
    let message = format!("{value} is already the {key} of hosts[{first}] ({})", hosts[first].label());
    let help = match key {
        "internal_address" => {
            "every host needs its own internal_address, by which the other hosts reach it".to_owned()
        }
        key => format!("every host needs its own {key}"),
    };
    findings.error(&hosts[i].path.key(key), message, help);
}

/// One host's address that is another's internal address: one of the two is a slip.
fn check_crossed(hosts: &[HostDraft], internal: &HashMap<std::net::Ipv4Addr, usize>, findings: &Findings) {
    for (i, host) in hosts.iter().enumerate() {
        let Some(address) = host.address.as_ref().and_then(|a| a.parse().ok()) else { continue };
        let Some(&other) = internal.get(&address).filter(|o| **o != i) else { continue };
        if hosts[other].address == host.address || host.internal_address == Some(address) {
            continue;
        }
        let message =
            format!("{address} is the internal address of hosts[{other}] ({})", hosts[other].label());
        findings.error(&host.path.key("address"), message, "every host needs its own addresses");
    }
}

fn check_topology(hosts: &[HostDraft], findings: &Findings) {
    // With a role unknown, every conclusion about the whole would be a guess.
    if hosts.is_empty() || hosts.iter().any(|h| h.roles.is_none()) {
        return;
    }
    let path = Path::default().key("hosts");
    let count = |role| hosts.iter().filter(|h| h.is(role)).count();
    let members = count(Role::Etcd);
    if count(Role::Worker) > 0 && count(Role::ControlPlane) == 0 {
        findings.lacking(
            &path,
            "workers without a control plane",
            "give at least one host the role control-plane",
        );
    }
    match members {
        0 => findings.lacking(
            &path,
            "no etcd member",
            "give one, three, five or seven hosts the role etcd; control planes may have it too",
        ),
        2 => {
            let message = "2 etcd members: if either stops, the cluster stops, so two are worse than one";
            let help = "one or three hosts with the role etcd: up makes no such cluster, and keeps one that is left with two";
            findings.warn(&path, message, help);
        }
        4 | 6 => {
            let message = format!("{members} etcd members survive no more failures than {}", members - 1);
            findings.warn(&path, message, "an odd number of hosts with the role etcd");
        }
        8.. => {
            let message = format!("{members} etcd members; each write waits for a majority of them");
            findings.unwanted(
                &path,
                message,
                "at most seven hosts with the role etcd; five survive two failures",
            );
        }
        _ => {}
    }
}

/// Ordinary pods stay Pending where every node keeps them off. With a runtime of its own the cluster may be another's, whose
/// workers need not be in the file.
fn check_workers(draft: &Draft, findings: &Findings) {
    let is_known = draft.hosts.iter().all(|h| h.roles.is_some());
    let keeps_off = |h: &HostDraft| h.is(Role::ControlPlane) && !h.is(Role::Worker) && h.taints.is_none();
    let mut nodes = draft.hosts.iter().filter(|h| h.is(Role::ControlPlane) || h.is(Role::Worker)).peekable();
    let is_ours = draft.runtime.install == RuntimeInstall::Upstream;
    if is_known && is_ours && nodes.peek().is_some() && nodes.all(keeps_off) {
        let message = "no host takes ordinary pods: control planes that are no workers are tainted";
        findings.warn(&Path::default().key("hosts"), message, TAKES_PODS);
    }
}

fn check_node_settings(host: &HostDraft, findings: &Findings) {
    let is_node = host.is(Role::ControlPlane) || host.is(Role::Worker);
    if host.roles.is_some() && !is_node {
        let message = "the host only runs etcd and is no Kubernetes node";
        let help = "remove the key, or add the role worker";
        if !host.labels.is_empty() {
            findings.key(&host.path.key("labels"), message, help);
        }
        if host.taints.as_ref().is_some_and(|t| !t.is_empty()) {
            findings.key(&host.path.key("taints"), message, help);
        }
    }
    let taints = host.taints.as_deref().unwrap_or_default();
    for (i, taint) in taints.iter().enumerate() {
        let is_same = |t: &&crate::inventory::Taint| t.key == taint.key && t.effect == taint.effect;
        if taints[..i].iter().any(|t| is_same(&t)) {
            let message = format!("{}:{} is already in the list", taint.key, taint.effect);
            findings.error(&host.path.key("taints"), message, "one value for a key and effect");
        }
    }
}

fn check_ports(host: &HostDraft, api_port: u16, findings: &Findings) {
    let api = Path::default().key("api").key("port");
    // Where ssh's is the default, the file has no key of it, and api.port is what was chosen.
    let path = host.port_key.as_ref().unwrap_or(&api);
    if let Some(owner) = component_at(host.ssh.port) {
        let message = format!("ssh's port {} is {owner}'s", host.ssh.port);
        findings.error(path, message, "let sshd listen on another port");
    } else if host.ssh.port == api_port && (host.is(Role::ControlPlane) || host.is(Role::Worker)) {
        // With a node-local load balancer workers listen there too.
        let message = format!("ssh's port {api_port} is api.port too");
        findings.error(path, message, "choose another api.port");
    }
}

/// Which component listens on a port, on some of the hosts.
pub(super) fn component_at(port: u16) -> Option<&'static str> {
    Some(match port {
        layout::ETCD_CLIENT_PORT | layout::ETCD_PEER_PORT | layout::ETCD_METRICS_PORT => "etcd",
        layout::KUBELET_PORT | layout::KUBELET_HEALTH_PORT => "kubelet",
        layout::CONTROLLER_MANAGER_PORT => "kube-controller-manager",
        layout::SCHEDULER_PORT => "kube-scheduler",
        layout::HAPROXY_HEALTH_PORT => "the node-local load balancer",
        10249 | 10256 => "kube-proxy",
        _ => return None,
    })
}
