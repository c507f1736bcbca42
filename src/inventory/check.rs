//! From a draft to a cluster: what must hold between the values.
//!
//! Each value is valid by itself by now. A value that could not be read takes part in no check, so one mistake makes
//! one problem.

mod etcd;
mod hosts;
mod network;

use std::net::IpAddr;

use super::{
    cluster::{Cluster, Role},
    draft::Draft,
    problem::{Findings, Path},
    settings::{Api, LoadBalancer},
};

/// Reports everything that is wrong between the values. Of some hosts alone, such as the second of two lists, it is not
/// said which they come to together.
pub(super) fn check(draft: &Draft, has_all_hosts: bool, findings: &Findings) {
    hosts::check(draft, has_all_hosts, findings);
    etcd::check(draft, findings);
    network::check(draft, findings);
    check_api(draft, findings);
    check_upgrade_strategy(draft, findings);
}

/// The cluster of a draft without problems; `None` where a part could not be read, which has been reported then.
pub(super) fn finish(draft: Draft) -> Option<Cluster> {
    let nodes = draft.hosts.into_iter().map(super::hosts::HostDraft::finish).collect::<Option<Vec<_>>>()?;
    let control_planes = nodes.iter().filter(|n| n.is(Role::ControlPlane)).count();
    let first = nodes.iter().find(|n| n.is(Role::ControlPlane)).or(nodes.first())?;
    let api = Api {
        host: draft.api.host.unwrap_or_else(|| first.internal_address.to_string()),
        port: draft.api.port,
        alternative_names: draft.api.alternative_names,
    };
    Some(Cluster {
        name: draft.name?,
        release: draft.release?,
        api,
        load_balancer: draft.load_balancer.unwrap_or(default_load_balancer(control_planes)),
        nodes,
        etcd: draft.etcd,
        network: draft.network.finish()?,
        network_manifests: vec![],
        agent: None,
        backup_credentials: None,
        artifacts: draft.artifacts,
        runtime: draft.runtime,
        api_server: draft.api_server,
        controller_manager: draft.controller_manager,
        scheduler: draft.scheduler,
        kubelet: draft.kubelet,
        kube_proxy: draft.kube_proxy,
        upgrade_strategy: draft.upgrade_strategy,
    })
}

/// Nothing to balance with one API server; with several, any of them may die.
fn default_load_balancer(control_planes: usize) -> LoadBalancer {
    if control_planes > 1 { LoadBalancer::NodeLocal } else { LoadBalancer::None }
}

fn check_api(draft: &Draft, findings: &Findings) {
    let root = Path::default();
    let control_planes = draft.hosts.iter().filter(|h| h.is(Role::ControlPlane)).count();
    let balancer = root.key("load_balancer").key("type");
    match draft.load_balancer {
        Some(LoadBalancer::None) if control_planes > 1 => {
            let message = format!("none, with {control_planes} control planes");
            findings.error(
                &balancer,
                message,
                "node-local or external; otherwise workers know only one of them",
            );
        }
        Some(LoadBalancer::External) if draft.api.host.is_none() => {
            let help = "give api.host the address or name of your load balancer";
            findings.error(&balancer, "external, without api.host", help);
        }
        _ => {}
    }
    let Some(host) = &draft.api.host else { return };
    let path = root.key("api").key("host");
    let is_it = |h: &&super::hosts::HostDraft| {
        h.address.as_ref() == Some(host) || h.internal_address.is_some_and(|a| a.to_string() == *host)
    };
    // With a node-local load balancer the nodes do not dial it, and a tunnel of the operator's may end there.
    let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|a| a.is_loopback());
    if is_loopback && draft.hosts.len() > 1 && draft.load_balancer == Some(LoadBalancer::External) {
        findings.error(
            &path,
            format!("{host} is another host on each host"),
            "the address of your load balancer",
        );
    }
    let found = draft.hosts.iter().find(is_it);
    if let Some(other) = found.filter(|h| h.roles.is_some() && !h.is(Role::ControlPlane)) {
        let message = format!("{host} is {}, which runs no API server", other.label());
        findings.error(&path, message, "a control plane, or the address of a load balancer in front of them");
    }
}

fn check_upgrade_strategy(draft: &Draft, findings: &Findings) {
    let strategy = &draft.upgrade_strategy;
    let path = Path::default().key("upgrade_strategy").key("drain");
    if strategy.drain_timeout.is_zero() {
        findings.error(&path.key("timeout"), "no time at all", "for example 5m");
    } else if strategy.drain_grace_period > strategy.drain_timeout {
        let message = "shorter than drain.grace_period, so a drain can end before its pods";
        findings.warn(&path.key("timeout"), message, "give the drain more time than a pod");
    }
}
