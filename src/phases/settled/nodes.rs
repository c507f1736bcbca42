//! What a host is as a node: it keeps the role that it was built with, and no other machine has its name.

use crate::{
    inventory::{Cluster, Node, Role},
    layout,
    observe::{Facts, Observed},
    phases::ownership::{certified_names, is_prepared},
    plan::Refusal,
};

/// Whether all hosts have the roles that they were built with.
///
/// # Errors
/// See [`keeps_its_role`].
pub fn roles(cluster: &Cluster, seen: &Observed) -> Result<(), Refusal> {
    let mut there = cluster.nodes.iter().filter_map(|n| Some((n, seen.hosts.get(&n.name)?)));
    there.try_for_each(|(node, facts)| keeps_its_role(node, facts))
}

/// Whether a host that rsadm built has the role that it was built with.
///
/// # Errors
/// Where it has something of another role that nothing of rsadm's would end, or would end with all pods of the host.
pub fn keeps_its_role(node: &Node, facts: &Facts) -> Result<(), Refusal> {
    let Some((text, help)) = former_role(node, facts).filter(|_| is_prepared(facts)) else { return Ok(()) };
    Err(Refusal {
        rule: "settled-role",
        subject: format!("{} {text}", node.name),
        why: "the inventory has it for something else; nothing was changed on any host".into(),
        help,
    })
}

/// What a host has of the role that it had, as it reads after the host's name, and the way out. Its static pods nothing of `up`
/// ends: a control plane without the role would go on leading and signing, seen by nobody. And a kubelet that is no node's any
/// more ends every pod of its host when it starts anew, which nobody has drained.
pub fn former_role(node: &Node, facts: &Facts) -> Option<(String, String)> {
    let (leads, is_node) = (node.is(Role::ControlPlane), node.is_kubernetes());
    let pods = |process| (process, layout::manifest_of(process));
    let rows = [
        (!leads, "a control plane", pods("kube-apiserver")),
        (leads || !is_node, "a worker", pods("haproxy")),
        (!is_node && is_prepared(facts), "a node", ("kubelet.conf", layout::KUBELET_CONF.to_owned())),
    ];
    let has = |path: &str| facts.files.contains_key(path);
    let found = rows.into_iter().find(|(is_other, _, (_, path))| *is_other && has(path));
    let (_, was, (what, path)) = found?;
    // All that would be asked for next.
    let left = [layout::manifest_of("haproxy"), layout::KUBELET_CONF.to_owned()];
    let without = match !is_node && left.contains(&path) {
        true => {
            let left: Vec<String> = left.into_iter().filter(|path| has(path)).collect();
            format!("; where it is none any more and runs no pod, move {} away on it", left.join(" and "))
        }
        false => String::new(),
    };
    Some((
        format!("was built as {was} and has its {what} still"),
        format!(
            "give {} the role back that it had; to change it take the node out of the cluster (kubectl drain, rsadm etcd remove \
             where it has a member, kubectl delete node, rsadm reset with an inventory of that host alone), then rsadm \
             up{without}",
            node.name
        ),
    ))
}

/// Whether no host would be a node under the name of another machine that is one: their kubelets would take turns at being
/// it, and each end the pods of the other. A host whose own address changed has certificates in its name; what has been switched
/// off is not Ready for long.
///
/// # Errors
/// Where the API has a node at another address that is Ready, and the host was never a node of that name.
pub fn names(cluster: &Cluster, seen: &Observed) -> Result<(), Refusal> {
    for node in cluster.kubernetes_nodes() {
        let known = seen.nodes.as_ref().and_then(|nodes| nodes.get(&node.name)).filter(|n| n.ready);
        let elsewhere = known.and_then(|n| n.address).filter(|address| *address != node.internal_address);
        let (Some(address), Some(facts)) = (elsewhere, seen.hosts.get(&node.name)) else { continue };
        if certified_names(facts).any(|name| name == node.name.as_str()) {
            continue;
        }
        let name = &node.name;
        return Err(Refusal {
            rule: "node-elsewhere",
            subject: format!("{name} is a node already, at {address}, and Ready"),
            why: format!(
                "at {} is another machine, and two kubelets of one name end each other's pods; nothing was changed on any host",
                node.internal_address
            ),
            help: format!(
                "if {name} is the machine at {address}: put its address back into the inventory, and give the new one another \
                 name; if the new one takes its place: switch the old one off, or `rsadm reset` it with an inventory of that \
                 host alone, then kubectl delete node {name}, and rsadm up"
            ),
        });
    }
    Ok(())
}
