//! Whether nodes have one another on a network of their own, which the plugin `bridge` takes: its routes lead from node to node with
//! nothing between.

use std::{collections::BTreeMap, net::Ipv4Addr};

use crate::{
    host::{Cmd, Op, Output, fleet::Fleet},
    inventory::{Cluster, NetworkPlugin, NodeName},
    phases::preflight::{Findings, paths},
};

/// Asks each node's kernel which way it takes to the others, where one of the two is new.
pub(super) async fn findings(
    cluster: &Cluster,
    fleet: &Fleet,
    is_new: impl Fn(&NodeName) -> bool,
) -> Findings {
    let mut findings = Findings::default();
    if cluster.network.plugin != NetworkPlugin::Bridge {
        return findings;
    }
    let nodes = || cluster.kubernetes_nodes();
    let others = |name: &NodeName| {
        let others = nodes().filter(|n| n.name != *name && (is_new(&n.name) || is_new(name)));
        others.map(|n| format!("route get {}\n", n.internal_address)).collect::<String>()
    };
    let asked: BTreeMap<NodeName, String> = nodes().map(|n| (n.name.clone(), others(&n.name))).collect();
    let names: Vec<NodeName> = asked.iter().filter(|(_, q)| !q.is_empty()).map(|(n, _)| n.clone()).collect();
    let answers = fleet.for_each(&names, |host| {
        let questions = asked.get(host.name()).cloned().unwrap_or_default();
        let ask = Op::Run(Cmd::new(["ip", "-4", "-force", "-batch", "-"]).stdin(questions));
        async move { host.run(&[ask], false).await }
    });
    for (name, answer) in answers.await {
        // Who gives no answer, or knows no way at all, does not get far when ports are dialled.
        let text = answer.ok().and_then(|outputs| outputs.first().map(Output::text)).unwrap_or_default();
        findings.take(&name, paths::not_next(cluster, &gateways(&text)));
    }
    findings
}

/// Reads what `ip route get` printed: whom a gateway leads to.
fn gateways(text: &str) -> Vec<Ipv4Addr> {
    let to = |line: &str| {
        let (address, rest) = line.split_once(' ')?;
        rest.starts_with("via ").then(|| address.parse().ok()).flatten()
    };
    text.lines().filter_map(to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As iproute2 6.1 prints it.
    #[test]
    fn only_who_is_behind_a_gateway_is_told() {
        let text = "10.0.0.2 dev eth0 src 10.0.0.1 uid 0 \n    cache \n\
                    10.1.0.9 via 10.0.0.254 dev eth0 src 10.0.0.1 uid 0 \n    cache \n\
                    local 10.0.0.1 dev lo table local src 10.0.0.1 uid 0 \n    cache <local> \n";
        assert_eq!(gateways(text), [Ipv4Addr::new(10, 1, 0, 9)]);
        assert_eq!(gateways("RTNETLINK answers: Network is unreachable\nvia via\n\n"), [] as [Ipv4Addr; 0]);
    }
}
