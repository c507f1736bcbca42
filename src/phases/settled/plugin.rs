//! Whose network the pods have: rsadm's own plugin `bridge`, or another, between which an operator may move as he likes. Routes and
//! a configuration of ours fight with those of another plugin, whose files are read before or after ours by their names. So who
//! moves takes the old one off first; this says how.

use crate::{
    inventory::{Cluster, NetworkPlugin},
    layout,
    observe::{Facts, Observed},
    plan::Refusal,
};

use super::{RULE, SERVICE_SUBNET, built};

/// What `bridge` has on a host.
const OURS: [&str; 3] = [layout::CNI_CONFIG, layout::NETWORK_SCRIPT, layout::NETWORK_UNIT];

/// Whether the hosts have the plugin that the inventory wants, where a table builds something.
///
/// # Errors
/// Where hosts have `bridge` and another is wanted, or none has it and it is wanted, on a network that nodes are Ready with.
pub fn check(cluster: &Cluster, seen: &Observed) -> Result<(), Refusal> {
    let built = built(cluster, seen);
    let with = |wanted: fn(&Facts) -> bool| -> Vec<&str> {
        built.iter().filter(|(_, facts)| wanted(facts)).map(|(host, _)| *host).collect()
    };
    let (bridge, others) = (with(has_bridge), with(has_another));
    let serves = || seen.nodes.iter().flatten().any(|(_, node)| node.ready);
    let wanted = match &cluster.network.plugin {
        NetworkPlugin::Bridge if bridge.is_empty() && !others.is_empty() && serves() => "bridge",
        NetworkPlugin::Manifests(_) if !bridge.is_empty() => "manifests",
        NetworkPlugin::None if !bridge.is_empty() => "none",
        _ => return Ok(()),
    };
    let (hosts, has, help) = match bridge.is_empty() {
        true => (others, "another plugin", "set it back: network.plugin: manifests, or none".to_owned()),
        false => {
            let help = format!(
                "set it back: network.plugin: bridge; or, since pods have no network until the other plugin gives them one, take it \
                 off all of these hosts first, in a quiet hour: sh {0} down; systemctl disable --now rsadm-network; rm -rf {1}.d {2}",
                layout::NETWORK_SCRIPT,
                layout::NETWORK_UNIT,
                OURS.join(" ")
            );
            (bridge, "bridge", help)
        }
    };
    let have = if hosts.len() == 1 { "has" } else { "have" };
    Err(Refusal {
        rule: RULE,
        subject: "network.plugin of a cluster that is built cannot change".to_owned(),
        why: format!(
            "{} {have} {has}, and the inventory says {wanted}: two plugins fight over routes and files\nnothing was changed on any host",
            hosts.join(", ")
        ),
        help,
    })
}

fn has_bridge(facts: &Facts) -> bool {
    OURS.iter().any(|path| facts.files.contains_key(*path))
}

/// A control plane that has none of ours was built with another; but for one that somebody else built, which has no kubelet of ours
/// either.
fn has_another(facts: &Facts) -> bool {
    !has_bridge(facts) && facts.network.contains_key(SERVICE_SUBNET) && facts.programs.contains_key("kubelet")
}
