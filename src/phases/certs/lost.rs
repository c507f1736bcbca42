//! A secret that is on no host: it never was, and may be made, or it was lost, and what was built with it still is.

use crate::{
    inventory::Node,
    layout,
    observe::Facts,
    plan::{Planner, Refusal, shared::Shared},
};

use super::{is_of_kubernetes, keeps};

/// Whether nothing holds data that only the lost secret opens, and no host trusts it.
///
/// # Errors
/// Where something does.
pub(super) fn nothing_was_built(p: &Planner<'_>, shared: Shared) -> Result<(), Refusal> {
    let used = |node: &Node| used_with(p, p.facts(&node.name), shared);
    let witness = p.cluster.nodes.iter().find_map(|n| Some((&n.name, used(n)?)));
    let Some((host, what)) = witness else { return Ok(()) };
    let (rule, secret) = ("never-a-second-authority", shared.secret_path());
    let why = "a new one would lock the cluster out of its own data";
    let is_left_alone = !p.cluster.nodes.iter().any(|n| keeps(n, shared) && used(n).is_some());
    if let Some(of) = p.facts(host).begun.as_ref().filter(|_| is_left_alone) {
        // To empty the host comes last: it may serve in a cluster that is well.
        return Err(Refusal {
            rule,
            subject: format!(
                "{host} was built for a cluster {of}, and no host here has the {shared} of that"
            ),
            why: format!("{host} has {what}; {why}"),
            help: format!(
                "is {host} in the right inventory? If it is of another cluster that is called {of}, too: take it out of this one. If \
                 the hosts that kept {secret} are gone: put it back from a backup on any host that is to keep it, or have `rsadm etcd \
                 restore BUNDLE --identity FILE` bring all keys back, and the data; if that cluster is no more: `rsadm reset` \
                 with an inventory of {host} alone, which empties it"
            ),
        });
    }
    Err(Refusal {
        rule,
        subject: format!("the secret part of the {shared} is on no host, and {host} has {what}"),
        why: why.into(),
        help: format!(
            "put {secret} back from a backup on any host that keeps it, or, if nothing here is worth keeping, run \
             `rsadm reset` first"
        ),
    })
}

/// What on a host shows that something was built with this secret.
///
/// etcd that was founded by itself knows none of Kubernetes', and gets them when control planes come to it. What it holds
/// counts unless a quorum has said that there is nothing of Kubernetes in it.
fn used_with(p: &Planner<'_>, facts: &Facts, shared: Shared) -> Option<&'static str> {
    let etcd_counts = !is_of_kubernetes(shared) || p.seen().has_objects != Some(false);
    let has_public_part = shared.public_path().is_some_and(|path| facts.files.contains_key(&path));
    // Made after all authorities are where they are kept.
    let was_node = facts.files.contains_key(layout::KUBELET_CONF) || facts.runs("kube-apiserver");
    match facts {
        f if f.identity.is_some() && etcd_counts => Some("the record of a cluster that served"),
        f if f.etcd_data && etcd_counts => Some("etcd data"),
        _ if has_public_part => Some("its public part"),
        _ if is_of_kubernetes(shared) && was_node => Some("the credentials of a node"),
        _ => None,
    }
}
