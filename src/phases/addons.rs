//! What every cluster needs inside: kubeadm's own objects, kube-proxy, CoreDNS, and the operator's manifests.
//!
//! Each is a bundle of objects, applied as one and recorded in the cluster with a hash, so that an unchanged bundle
//! costs a later run nothing. Recorded are also its objects with the fields that were applied: one that somebody
//! deleted or changed since is noticed, and the bundle applied again. Like kubeadm, we leave CoreDNS' replicas and
//! Corefile to whoever has set them by hand, which `apply.sh` sees to: only there it is sure what the cluster has.

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    inventory::{NetworkPlugin, Node},
    manifests::{coredns, kube_proxy, kubeadm},
    phases::{control_plane, prepare, workers},
    plan::{
        Action, Mode, Planner, Refusal,
        action::{CA_MARK, bundle_hash},
    },
};

/// The phase.
pub const PHASE: &str = "addons";

/// What every cluster runs in `kube-system`.
pub const WORKLOADS: [&str; 2] = ["daemonset/kube-proxy", "deployment/coredns"];

/// What nodes need to become Ready and to join: applied while workers start their kubelets.
pub fn early(p: &mut Planner<'_>) {
    let Some(speaker) = control_plane::speaker(p.cluster) else { return };
    let cluster = p.cluster;
    // The authority's certificate may be made in this very run, so a mark stands for its encoded form.
    let interop = prepare::text(kubeadm(cluster, CA_MARK)).replace(&BASE64_STANDARD.encode(CA_MARK), CA_MARK);
    bundle(p, speaker, "kubeadm", interop);
    bundle(p, speaker, "kube-proxy", prepare::text(kube_proxy(cluster)));
    for (name, text) in &cluster.network_manifests {
        bundle(p, speaker, name, text.clone());
    }
}

/// CoreDNS, once there are workers for it; and that it, like kube-proxy, serves.
///
/// # Errors
/// Never so far.
pub fn plan(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let Some(speaker) = control_plane::speaker(p.cluster) else { return Ok(()) };
    p.stage(PHASE, "CoreDNS and kube-proxy", Mode::Parallel);
    let upstream =
        p.cluster.kubernetes_nodes().any(|n| p.facts(&n.name).features.iter().any(|f| f == "resolver"));
    if !upstream {
        let (text, help) = (
            "no host has a nameserver: pods resolve names of the cluster only",
            "set nameservers on the hosts",
        );
        p.notice(PHASE, None, text, help);
    }
    if p.seen().edited.contains("Deployment") {
        let text = "the number of CoreDNS' replicas was set by somebody else and stays so";
        p.notice(
            PHASE,
            None,
            text,
            "to change it: kubectl -n kube-system scale deployment coredns --replicas N",
        );
    }
    if p.seen().edited.contains("ConfigMap") {
        let text = "CoreDNS' Corefile was changed by somebody else and stays so";
        let help =
            "to have rsadm's again: kubectl -n kube-system delete configmap coredns, and rsadm up afterwards";
        p.notice(PHASE, None, text, help);
    }
    bundle(p, speaker, "coredns", prepare::text(coredns(p.cluster, upstream)));
    if p.applies(&["kube-proxy", "coredns"]) && p.cluster.network.plugin != NetworkPlugin::None {
        let workloads = WORKLOADS.map(String::from).into();
        // A node that the inventory does not name may be switched off for good.
        let nodes = match workers::unlisted(p.cluster, p.seen().nodes.as_ref()).is_empty() {
            true => vec![],
            false => p.cluster.kubernetes_nodes().map(|n| n.name.clone()).collect(),
        };
        p.push(&speaker.name, Action::AwaitRollout { workloads, nodes }, "");
    }
    Ok(())
}

fn bundle(p: &mut Planner<'_>, speaker: &Node, name: &str, objects: String) {
    let action = Action::Apply { what: name.into(), objects, bundle: Some(name.into()) };
    let why = match (p.seen().bundles.get(name), p.seen().damaged.get(name)) {
        (Some(hash), None) if *hash == bundle_hash(&action) => return p.checked(),
        (Some(_), None) => "differs".to_owned(),
        (Some(_), Some(damage)) => damage.clone(),
        (None, _) => "missing".to_owned(),
    };
    p.push(&speaker.name, action, why);
}
