//! How a whole cluster is, as `rsadm status` tells it: hosts, etcd, control planes, nodes, certificates, and what differs
//! from the inventory. Pure: all of it is made from what others observed.

use std::collections::BTreeMap;

use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    etcd::status::{Advice, EtcdReport, Id, Level, Verdict},
    inventory::{Cluster, NodeName, Role},
    observe::{
        Observed,
        api::{Answer, Workload},
    },
    phases::workers,
    plan::{Plan, Refusal},
};

mod advice;
pub mod certificates;
mod host;

/// What a status is made from.
pub struct Sources<'a> {
    /// What is wanted.
    pub cluster: &'a Cluster,
    /// What stands after a command that takes the inventory: a space and the file, or nothing for the default one.
    pub inventory: &'a str,
    /// What was seen.
    pub seen: &'a Observed,
    /// Why the other hosts were not, in words that stand alone in a table cell.
    pub unreachable: &'a BTreeMap<NodeName, String>,
    /// How etcd is.
    pub etcd: &'a EtcdReport,
    /// Whether API servers are ready.
    pub api: &'a [(NodeName, Answer)],
    /// What `up` would change; `None` where not all hosts were seen.
    pub plan: Option<&'a Result<Plan, Refusal>>,
    /// The time against which certificates expire.
    pub now: OffsetDateTime,
}

/// The whole. Names are an interface: `rsadm status -o json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterStatus {
    /// The cluster's name in the inventory.
    pub cluster: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// False where no host that was seen has anything of a cluster: `up` was never run.
    pub built: bool,
    /// The version that the inventory wants; `null` for etcd alone.
    pub kubernetes_version: Option<String>,
    /// Inventory order.
    pub hosts: Vec<HostStatus>,
    /// etcd in short; `rsadm etcd status` has the rest.
    pub etcd: EtcdStatus,
    /// The API; `null` for etcd alone.
    pub api: Option<ApiStatus>,
    /// Deployments and daemon sets of `kube-system`; `null` where no API server lists them.
    pub workloads: Option<Vec<Workload>>,
    /// Nodes that the API knows and the inventory does not; `null` where no API server answered.
    pub unlisted_nodes: Option<Vec<NodeName>>,
    /// The certificate that ends first.
    pub first_expiry: Option<Expiry>,
    /// What differs from the inventory.
    pub changes: Changes,
    /// What is off and what to do about it, the worst first.
    pub advice: Vec<Advice>,
}

/// One host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostStatus {
    /// Its name.
    pub name: NodeName,
    /// What the workstation dials.
    pub address: String,
    /// Its roles.
    pub roles: Vec<Role>,
    /// Whether it could be asked; where not, all below is `null` or empty.
    pub reachable: bool,
    /// What is wrong with it.
    pub problems: Vec<String>,
    /// Its distribution, such as `debian 12`.
    pub os: Option<String>,
    /// Its kernel.
    pub kernel: Option<String>,
    /// systemd units that matter, and whether they are active.
    pub units: BTreeMap<String, bool>,
    /// Components that should run there, and whether they do.
    pub components: BTreeMap<&'static str, bool>,
    /// The kubelet's version, where rsadm installed it.
    pub kubelet_version: Option<String>,
    /// containerd's version.
    pub containerd_version: Option<String>,
    /// Whether its node is Ready; `null` where it has none, or no API server could be asked.
    pub node_ready: Option<bool>,
    /// Whether its API server is ready; `null` where it has none.
    pub api_ready: Option<bool>,
    /// The certificate that ends first on it, but for a kubelet's own, which that renews in time.
    pub first_expiry: Option<Expiry>,
    /// How many changes `up` would make there; `null` where that is not known.
    pub changes: Option<usize>,
}

/// etcd in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EtcdStatus {
    /// Voting members.
    pub voters: usize,
    /// Those that are healthy.
    pub healthy: usize,
    /// How many more may fail.
    pub can_lose: usize,
    /// True where it serves.
    pub serves: bool,
    /// The leader's name; `null` without quorum.
    pub leader: Option<String>,
    /// The cluster's ID.
    pub cluster_id: Option<Id>,
}

/// The API in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApiStatus {
    /// What clients dial.
    pub url: String,
    /// How many API servers are ready.
    pub ready: usize,
    /// How many there should be.
    pub servers: usize,
}

/// When a certificate ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expiry {
    /// The host that has it.
    pub host: NodeName,
    /// Its file: a certificate, or a kubeconfig that holds one.
    pub path: String,
    /// Whole days until then; negative once expired.
    pub days: i64,
    /// True where its authority ends then, too, or has ended, so that renewing it would not help.
    #[serde(skip)]
    pub with_authority: bool,
}

/// What differs from the inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// How many changes `up` would make; `null` where that is not known.
    pub pending: Option<usize>,
    /// On which hosts.
    pub hosts: Vec<NodeName>,
    /// How many things were compared and found as wanted.
    pub in_sync: usize,
    /// Why it is not known.
    pub unknown: Option<String>,
}

/// Makes the status.
pub fn assess(sources: &Sources<'_>) -> ClusterStatus {
    let Sources { cluster, seen, etcd, .. } = *sources;
    let hosts: Vec<HostStatus> = cluster.nodes.iter().map(|node| host::look(sources, node)).collect();
    let built = !seen.hosts.values().all(host::is_blank) || !sources.unreachable.is_empty();
    let mut status = ClusterStatus {
        cluster: cluster.name.clone(),
        verdict: Verdict::Healthy,
        built,
        kubernetes_version: cluster.has_kubernetes().then(|| cluster.release.kubernetes.to_string()),
        etcd: etcd_status(etcd),
        api: cluster.has_kubernetes().then(|| ApiStatus {
            url: format!("https://{}", cluster.api_endpoint()),
            ready: hosts.iter().filter(|h| h.api_ready == Some(true)).count(),
            servers: cluster.with_role(Role::ControlPlane).count(),
        }),
        workloads: sources.api.iter().find_map(|(_, answer)| answer.as_ref().ok()?.clone()),
        unlisted_nodes: seen.nodes.as_ref().map(|nodes| workers::unlisted(cluster, Some(nodes))),
        first_expiry: hosts.iter().filter_map(|h| h.first_expiry.clone()).min_by_key(|e| e.days),
        changes: changes(sources),
        hosts,
        advice: Vec::new(),
    };
    status.advice = advice::advice(sources, &status);
    status.verdict = verdict(sources, &status);
    status
}

fn verdict(sources: &Sources<'_>, status: &ClusterStatus) -> Verdict {
    let warned = status.advice.iter().any(|a| a.level == Level::Warning);
    match sources.etcd.verdict {
        _ if !status.built => Verdict::Degraded,
        Verdict::NoQuorum => Verdict::NoQuorum,
        Verdict::Healthy if !warned && status.hosts.iter().all(|h| h.problems.is_empty()) => Verdict::Healthy,
        Verdict::Healthy | Verdict::Degraded => Verdict::Degraded,
    }
}

fn etcd_status(report: &EtcdReport) -> EtcdStatus {
    EtcdStatus {
        voters: report.quorum.voters,
        healthy: report.quorum.healthy,
        can_lose: report.quorum.can_lose,
        serves: report.serves,
        leader: report.members.iter().find(|m| m.is_leader).map(|m| m.name.clone()),
        cluster_id: report.cluster_id,
    }
}

fn changes(sources: &Sources<'_>) -> Changes {
    let mut changes = Changes { pending: None, hosts: Vec::new(), in_sync: 0, unknown: None };
    match sources.plan {
        None => {
            let missing: Vec<&str> = sources.unreachable.keys().map(NodeName::as_str).collect();
            changes.unknown = Some(format!("not known without {}", missing.join(", ")));
        }
        Some(Err(refusal)) => changes.unknown = Some(format!("up would refuse: {}", refusal.subject)),
        Some(Ok(plan)) => {
            changes.pending = Some(plan.changes());
            changes.in_sync = plan.checked;
            changes.hosts = plan.hosts().into_iter().cloned().collect();
        }
    }
    changes
}

#[cfg(test)]
pub(crate) mod tests;
