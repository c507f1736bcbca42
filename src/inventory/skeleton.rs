//! The commented inventory that `rsadm init HOST…` prints.

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU16,
    str::FromStr,
};

use serde_json::json;

use crate::{hash::sha256, versions::DEFAULT_KUBERNETES};

use super::{TAKES_PODS, cluster::NodeName, file, syntax};

/// A host as named on the command line: `[NAME=][USER@]ADDRESS[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostArgument {
    /// Where it was given.
    pub name: Option<NodeName>,
    /// Where it was given.
    pub user: Option<String>,
    /// An address or a DNS name.
    pub address: String,
    /// Where it was given.
    pub port: Option<u16>,
}

/// Why text is no [`HostArgument`]: a lower-case sentence with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoHost(String);

impl FromStr for HostArgument {
    type Err = NoHost;

    fn from_str(text: &str) -> Result<Self, NoHost> {
        let explain = |f: super::problem::Fault| NoHost(format!("{}; {}", f.message, f.help));
        if text.contains(',') {
            return Err(NoHost(format!("{text:?} is no host; hosts are separated by spaces")));
        }
        if let Some((_, rest)) = text.split_once("://") {
            let rest = rest.trim_end_matches('/');
            return Err(NoHost(format!("{text:?} is a URL; {rest} alone, as [NAME=][USER@]ADDRESS[:PORT]")));
        }
        let (name, rest) = text.split_once('=').map_or((None, text), |(n, r)| (Some(n), r));
        let (user, rest) = rest.rsplit_once('@').map_or((None, rest), |(u, r)| (Some(u), r));
        let (address, port) = match (rest.rsplit_once(':'), rest.split_once(':')) {
            // An IPv6 address has a port behind brackets alone; without, more than one colon is one.
            (Some((address, port)), _) if address.ends_with(']') => (address, Some(port)),
            (_, Some((address, port))) if !port.contains(':') => (address, Some(port)),
            _ => (rest, None),
        };
        // What is printed goes into a file, and is not read from one.
        if address.ends_with(".yaml") || address.ends_with(".yml") {
            let text = format!("{address} is the name of a file; to write it: rsadm init HOST… > {address}");
            return Err(NoHost(text));
        }
        let no_port =
            |_| NoHost(format!("{:?} is no port; a whole number from 1 to 65535", port.unwrap_or_default()));
        Ok(Self {
            name: name.map(syntax::node_name).transpose().map_err(explain)?,
            user: user.map(syntax::user).transpose().map_err(explain)?,
            address: syntax::ssh_host(address).map_err(explain)?,
            port: port.map(str::parse::<NonZeroU16>).transpose().map_err(no_port)?.map(NonZeroU16::get),
        })
    }
}

/// An inventory of these hosts: the first three (with fewer, the first) are control planes with etcd, the rest workers.
///
/// It loads without problems where the addresses are IPv4 and differ. For a DNS name the operator has to fill in
/// `internal_address`, which loading asks for: what the name means to the hosts is not known here.
pub fn skeleton(hosts: &[HostArgument]) -> String {
    let common = common_user(hosts);
    let user = scalar(common);
    let names = names(hosts);
    let cluster = cluster_name(hosts);
    let mut lines = String::new();
    for (i, (host, name)) in hosts.iter().zip(&names).enumerate() {
        let own_user = host.user.as_deref().filter(|u| *u != common);
        let roles = match is_control_plane(i, hosts.len()) {
            // The only host has to run the workloads too.
            true if hosts.len() == 1 => "control-plane, etcd, worker",
            true => "control-plane, etcd",
            false => "worker",
        };
        lines += &host_lines(host, name, own_user, roles);
    }
    let remark = remark(hosts.len()).map(|(what, help)| format!("# {what}\n# → {help}\n"));
    let remark = remark.unwrap_or_default();
    format!(
        "\
# An rsadm cluster. Only cluster_name, kubernetes_version and hosts are needed; keys that are commented out show their
# defaults. Check it with `rsadm validate`, see what would happen with `rsadm plan`, do it with `rsadm up`.
cluster_name: {cluster:<25}# of no other cluster of yours: by it rsadm knows whose a host is
kubernetes_version: {DEFAULT_KUBERNETES}

ssh:
  user: {user}
  # key_path: ~/.ssh/id_ed25519        # default: what ssh would use
  # become: true                       # sudo; default for every user but root
  # host_key_check: strict             # strict, accept-new: trust a host on first contact
  # bastion: {{address: jump.example.org, user: {user}}}
  control_persist: 60s                 # connections wait that long for your next command; default: 0, none does

{remark}hosts:
{lines}
# api:
#   host: k8s.example.org              # what clients dial; default: the first control plane
#   port: 6443
#   alternative_names: []              # more names for the API's certificate

# load_balancer:
#   type: node-local                   # node-local: haproxy on each worker; external: yours, at api.host

# network:
#   plugin: bridge                     # bridge: hosts on one L2 network; manifests: flannel, Calico, …; none
#   pod_subnet: 10.244.0.0/16
#   service_subnet: 10.96.0.0/12
#   cluster_domain: cluster.local

# etcd:
#   backup:                            # none by default: without it nobody takes snapshots of etcd
#     interval: 6h
#     retention: 28                    # how many are kept; or for how long, such as 14d
#     target: s3://backups/prod        # s3://, gs://, az://; a folder of the etcd hosts dies with them
#     credentials: ~/s3.env            # AWS_ACCESS_KEY_ID=… and AWS_SECRET_ACCESS_KEY=…, a line each
#     recipient:                       # age1…: encrypts them to this age key, with the keys that fresh hosts need
"
    )
}

/// Another one for other hosts: of two clusters of one name rsadm could not tell whose a host is.
fn cluster_name(hosts: &[HostArgument]) -> String {
    let places: Vec<String> = hosts.iter().map(|h| format!("{}:{:?}", h.address, h.port)).collect();
    format!("prod-{}", &sha256(places.join(" ").as_bytes())[..4])
}

/// What so many hosts do not make, and what would.
pub fn remark(hosts: usize) -> Option<(&'static str, &'static str)> {
    match hosts {
        1 | 2 => Some((
            "one control plane with one etcd member: where it fails, the cluster stands still",
            "three hosts or more make it highly available",
        )),
        3 => Some(("three control planes and no worker: no host takes ordinary pods", TAKES_PODS)),
        _ => None,
    }
}

fn is_control_plane(index: usize, hosts: usize) -> bool {
    index < if hosts >= 3 { 3 } else { 1 }
}

/// The user of most hosts that name one; root where none does.
fn common_user(hosts: &[HostArgument]) -> &str {
    let users: Vec<&str> = hosts.iter().filter_map(|h| h.user.as_deref()).collect();
    let count = |user: &str| users.iter().filter(|u| **u == user).count();
    // Of equally frequent ones the first, so that the answer does not depend on anything but the arguments.
    users.iter().rev().max_by_key(|user| count(user)).unwrap_or(&"root")
}

/// Names that differ: the given ones, the first labels of DNS names, and m1, m2, … and w1, w2, … for the rest.
fn names(hosts: &[HostArgument]) -> Vec<String> {
    let mut taken: Vec<String> =
        hosts.iter().filter_map(|h| h.name.as_ref()).map(ToString::to_string).collect();
    let mut names = Vec::new();
    for (i, host) in hosts.iter().enumerate() {
        if let Some(name) = &host.name {
            names.push(name.to_string());
            continue;
        }
        let letter = if is_control_plane(i, hosts.len()) { 'm' } else { 'w' };
        let own = Some(&host.address).filter(|a| a.parse::<IpAddr>().is_err());
        let own = own.and_then(|a| a.split('.').next()).map(str::to_ascii_lowercase);
        // An alias of `~/.ssh/config` may be no host name.
        let own = own.filter(|name| syntax::node_name(name).is_ok());
        let numbered = (1..).map(|n| format!("{letter}{n}"));
        let name = own.into_iter().chain(numbered).find(|name| !taken.contains(name));
        let name = name.unwrap_or_default();
        taken.push(name.clone());
        names.push(name);
    }
    names
}

/// As YAML reads it as text, inside brackets too: `null` and `1` are names.
fn scalar(text: &str) -> String {
    let read = file::parse(format!("[{text}]").as_bytes());
    // Other readers take some words with a colon for numbers.
    let is_text = !text.contains(':') && read.is_ok_and(|read| read.value == json!([text]));
    if is_text { text.to_owned() } else { json!(text).to_string() }
}

fn host_lines(host: &HostArgument, name: &str, user: Option<&str>, roles: &str) -> String {
    let (name, address) = (scalar(name), scalar(&host.address));
    let mut lines = format!("  - name: {name}\n    address: {address}\n    roles: [{roles}]\n");
    if host.address.parse::<Ipv4Addr>().is_err() {
        lines += "    internal_address:                  # to be filled in: the IPv4 address by which the other hosts reach it\n";
    }
    if let Some(user) = user {
        lines += &format!("    user: {}\n", scalar(user));
    }
    if let Some(port) = host.port {
        lines += &format!("    port: {port}\n");
    }
    lines
}

#[cfg(test)]
mod tests;
