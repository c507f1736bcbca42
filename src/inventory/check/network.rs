//! Subnets that neither overlap nor run out, and ports that nobody else has.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::inventory::{
    cluster::Role,
    draft::Draft,
    hosts::HostDraft,
    problem::{Findings, Path},
    settings::NetworkPlugin,
};

use super::hosts::component_at;

const NO_HOST: &str = "a subnet that no host has an address of";

pub(super) fn check(draft: &Draft, findings: &Findings) {
    let path = Path::default().key("network");
    let named = [("pod_subnet", draft.network.pod_subnet), ("service_subnet", draft.network.service_subnet)];
    for (key, subnet) in named.into_iter().filter_map(|(key, s)| Some((key, s?))) {
        check_kind(&path.key(key), subnet, findings);
        check_hosts_outside(draft, key, subnet, findings);
    }
    if let Some(pods) = draft.network.pod_subnet {
        check_room(draft, &path.key("pod_subnet"), pods, findings);
    }
    if let Some(services) = draft.network.service_subnet {
        check_service_size(&path.key("service_subnet"), services, findings);
    }
    if let (Some(pods), Some(services)) = (draft.network.pod_subnet, draft.network.service_subnet)
        && overlap(pods, services)
    {
        // Whoever wrote one of them met the other's default.
        let (key, message) = match draft.network.given.contains(&"service_subnet") {
            true => ("service_subnet", format!("{services} overlaps pod_subnet ({pods})")),
            false => ("pod_subnet", format!("{pods} overlaps service_subnet ({services})")),
        };
        findings.error(&path.key(key), message, "two subnets that share no address");
    }
    if !draft.kube_proxy.enabled && draft.network.plugin == Some(NetworkPlugin::Bridge) {
        let proxy = Path::default().key("kube_proxy").key("enabled");
        let message = "false, and the network plugin bridge has nobody else who makes Services work";
        findings.error(
            &proxy,
            message,
            "true, or a plugin of yours that does without: network.plugin: manifests",
        );
    }
    if let Some(owner) = component_at(draft.api.port) {
        let api_port = Path::default().key("api").key("port");
        findings.error(&api_port, format!("{} is {owner}'s port", draft.api.port), "6443, or 443");
    }
}

fn check_kind(path: &Path, subnet: Ipv4Net, findings: &Findings) {
    let address = subnet.network();
    let is_special = address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.octets()[0] == 0
        || address.octets()[0] >= 240;
    if is_special {
        findings.error(
            path,
            format!("{subnet} is not for hosts"),
            "a private subnet, for example of 10.0.0.0/8",
        );
    } else if !is_private(subnet) {
        let message = format!("{subnet} is public; its owner's servers cannot be reached from the cluster");
        findings.warn(
            path,
            message,
            "a private subnet of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10",
        );
    }
}

/// RFC 1918, and the shared space of RFC 6598.
fn is_private(subnet: Ipv4Net) -> bool {
    let of = |a, b, prefix| Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), prefix);
    [of(10, 0, 8), of(172, 16, 12), of(192, 168, 16), of(100, 64, 10)].iter().any(|net| net.contains(&subnet))
}

fn check_hosts_outside(draft: &Draft, key: &'static str, subnet: Ipv4Net, findings: &Findings) {
    let inside = |host: &'_ HostDraft| host.internal_address.is_some_and(|a| subnet.contains(&a));
    let inside: Vec<&HostDraft> = draft.hosts.iter().filter(|host| inside(host)).collect();
    match draft.network.given.contains(&key) {
        _ if inside.is_empty() => {}
        // Hosts are where they are; the subnet is what can be chosen, and is in one place.
        true => {
            let message = format!("{subnet} has hosts in it: {}", shown(&inside));
            findings.error(&Path::default().key("network").key(key), message, NO_HOST);
        }
        false => inside.iter().for_each(|host| report_default(host, key, subnet, findings)),
    }
    let api_host: Option<Ipv4Addr> = draft.api.host.as_ref().and_then(|h| h.parse().ok());
    if let Some(address) = api_host.filter(|a| subnet.contains(a)) {
        let path = Path::default().key("api").key("host");
        let message = format!("{address} is inside network.{key} ({subnet})");
        findings.error(&path, message, "an address that exists before the cluster does");
    }
}

/// A host in the subnet that is the default, of which the file has no line.
fn report_default(host: &HostDraft, key: &str, subnet: Ipv4Net, findings: &Findings) {
    let Some(address) = host.internal_address else { return };
    let given = host.address.as_deref() != Some(&address.to_string());
    let path = host.path.key(if given { "internal_address" } else { "address" });
    let message = format!("{address} is inside network.{key}, which is {subnet} by default");
    findings.error(&path, message, format!("add network.{key}: {NO_HOST}"));
}

/// `m1 (10.0.0.1), m2 (10.0.0.2)`; of many, the first.
fn shown(hosts: &[&HostDraft]) -> String {
    const MOST: usize = 3;
    let one = |host: &&HostDraft| Some(format!("{} ({})", host.label(), host.internal_address?));
    let first = hosts.iter().take(MOST).filter_map(one).collect::<Vec<_>>().join(", ");
    match hosts.len().saturating_sub(MOST) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn check_room(draft: &Draft, path: &Path, pods: Ipv4Net, findings: &Findings) {
    let is_node = |h: &&HostDraft| h.is(Role::ControlPlane) || h.is(Role::Worker);
    let nodes = draft.hosts.iter().filter(is_node).count().max(1);
    // kube-controller-manager: "cluster CIDR mask size … can't exceed 16" bits of node subnets.
    if pods.prefix_len() < 8 {
        findings.error(
            path,
            format!("{pods} is larger than the controller manager takes"),
            "a /8 to /24, for example 10.244.0.0/16",
        );
        return;
    }
    let room = if pods.prefix_len() > 24 { 0 } else { 1usize << (24 - pods.prefix_len()) };
    if room < nodes {
        let message = format!("{pods} has room for {room} nodes, one /24 each, and there are {nodes}");
        findings.error(path, message, "a larger subnet, for example 10.244.0.0/16 for 256 nodes");
    }
}

fn check_service_size(path: &Path, services: Ipv4Net, findings: &Findings) {
    // kube-apiserver: "must be … 20 bits" at most.
    if services.prefix_len() < 12 {
        findings.error(
            path,
            format!("{services} is larger than the API server takes"),
            "a /12 to /24, for example 10.96.0.0/12",
        );
    } else if services.prefix_len() > 24 {
        findings.error(
            path,
            format!("{services} is too small for services to come"),
            "a /12 to /24, for example 10.96.0.0/12",
        );
    }
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}
