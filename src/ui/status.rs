//! `rsadm status` for people: one line a host, the sums, and what to do.

use crate::{
    etcd::status::Verdict,
    inventory::Role,
    observe::api::Workload,
    status::{ClusterStatus, HostStatus},
    ui::{etcd_status::advice, text::table},
};

/// What stands where nothing is known, or nothing is to be known.
const NOTHING: &str = "–";

/// The whole text, with a line end.
pub fn render(status: &ClusterStatus) -> String {
    let mut text = headline(status);
    text.push('\n');
    text.push_str(&hosts(status));
    text.push('\n');
    text.push_str(&table(&sums(status)));
    if !status.advice.is_empty() {
        text.push('\n');
    }
    status.advice.iter().for_each(|a| text.push_str(&advice(a)));
    text
}

fn headline(status: &ClusterStatus) -> String {
    let version = status.kubernetes_version.as_ref().map(|v| format!("  Kubernetes {v}")).unwrap_or_default();
    let verdict = match status.verdict {
        _ if !status.built => "not built",
        Verdict::Healthy => "healthy",
        Verdict::Degraded => "DEGRADED",
        Verdict::NoQuorum => "NO QUORUM: etcd serves no writes, and the API nothing that is not cached",
    };
    format!("{}{version}  {verdict}\n", status.cluster)
}

fn hosts(status: &ClusterStatus) -> String {
    let kubernetes = status.kubernetes_version.is_some();
    let mut head = vec!["HOST", "ADDRESS", "ROLES"];
    if kubernetes {
        head.extend(["NODE", "API"]);
    }
    head.extend(["KUBELET", "CONTAINERD", "OS", "KERNEL", "CERT", "CHANGES", "PROBLEMS"]);
    let mut rows: Vec<Vec<String>> = vec![head.into_iter().map(str::to_owned).collect()];
    rows.extend(status.hosts.iter().map(|h| row(h, kubernetes)));
    table(&rows)
}

fn row(host: &HostStatus, kubernetes: bool) -> Vec<String> {
    let or_nothing = |value: Option<String>| value.unwrap_or_else(|| NOTHING.to_owned());
    let word = |value: Option<bool>, yes: &str, no: &str| {
        or_nothing(value.map(|v| if v { yes.to_owned() } else { no.to_owned() }))
    };
    let mut row = vec![host.name.to_string(), host.address.clone(), roles(&host.roles)];
    if kubernetes {
        row.push(word(host.node_ready, "Ready", "NotReady"));
        row.push(word(host.api_ready, "ready", "down"));
    }
    row.extend([
        or_nothing(host.kubelet_version.clone()),
        or_nothing(host.containerd_version.clone()),
        or_nothing(host.os.clone()),
        or_nothing(host.kernel.clone()),
        or_nothing(host.first_expiry.as_ref().map(|e| format!("{} d", e.days))),
        or_nothing(host.changes.map(|n| n.to_string())),
        host.problems.join("; "),
    ]);
    row
}

fn roles(roles: &[Role]) -> String {
    roles.iter().map(Role::to_string).collect::<Vec<_>>().join(",")
}

fn sums(status: &ClusterStatus) -> Vec<[String; 2]> {
    let mut sums = vec![["etcd".to_owned(), etcd(status)]];
    if let Some(api) = &status.api {
        sums.push([
            "API".to_owned(),
            format!("{} of {} servers ready; clients dial {}", api.ready, api.servers, api.url),
        ]);
        sums.push(["nodes".to_owned(), nodes(status)]);
    }
    if let Some(workloads) = status.workloads.as_ref().filter(|w| !w.is_empty()) {
        let each = |w: &Workload| format!("{} {}/{}", short(&w.name), w.ready, w.wanted);
        // Of nodes that `kubeadm join` added there are mostly none.
        let runs = |w: &&Workload| w.wanted > 0 || !w.name.starts_with("daemonset/");
        sums.push([
            "addons".to_owned(),
            workloads.iter().filter(runs).map(each).collect::<Vec<_>>().join(", "),
        ]);
    }
    if let Some(first) = &status.first_expiry {
        let when = match first.days {
            days @ 0.. => format!("first to expire in {days} d"),
            // Rounded down: within the first day after its end it has -1.
            days => format!("expired {} d ago", -days),
        };
        let text = format!("{when}: {} on {}", first.path, first.host);
        sums.push(["certs".to_owned(), text]);
    }
    sums.push(["changes".to_owned(), changes(status)]);
    sums
}

/// A workload without its kind.
fn short(name: &str) -> &str {
    name.split_once('/').map_or(name, |(_, short)| short)
}

fn etcd(status: &ClusterStatus) -> String {
    let e = &status.etcd;
    let leader = e.leader.as_ref().map(|l| format!(", leader {l}")).unwrap_or_default();
    let spare = match e.can_lose {
        _ if !e.serves => "; serves no writes".to_owned(),
        0 if e.healthy < e.voters => "; can lose no more".to_owned(),
        0 => "; can lose none".to_owned(),
        n => format!("; can lose {n}"),
    };
    format!("{} of {} voters healthy{leader}{spare}", e.healthy, e.voters)
}

fn nodes(status: &ClusterStatus) -> String {
    let Some(unlisted) = &status.unlisted_nodes else {
        return "not known: no API server lists them".to_owned();
    };
    let wanted = || status.hosts.iter().filter(|h| h.node_ready.is_some());
    let ready = wanted().filter(|h| h.node_ready == Some(true)).count();
    let others: Vec<&str> = unlisted.iter().map(crate::inventory::NodeName::as_str).collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!("; not in the inventory: {}", others.join(", ")),
    };
    format!("{ready} of {} Ready{others}", wanted().count())
}

fn changes(status: &ClusterStatus) -> String {
    let c = &status.changes;
    match (c.pending, &c.unknown) {
        (Some(0), _) => format!("in sync: {} things checked", c.in_sync),
        (Some(n), _) => {
            let hosts: Vec<&str> = c.hosts.iter().map(crate::inventory::NodeName::as_str).collect();
            format!("{n} pending on {}; rsadm plan shows them", hosts.join(", "))
        }
        (None, Some(why)) => why.clone(),
        (None, None) => NOTHING.to_owned(),
    }
}

#[cfg(test)]
mod tests;
