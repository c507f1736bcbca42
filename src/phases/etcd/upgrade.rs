//! etcd's own upgrade: one member at a time, the leader last, each healthy and with the same data as the others before
//! the next. `up` refuses another version of etcd and names this command.
//!
//! Where the new version does not serve, the manifest from before goes back. Once it has served it stays: when all members
//! run it, and a single one is all, etcd raises the cluster's version within a second, and an older etcd does not start with
//! that data (etcd, `upgrading-etcd`; seen with 3.7.0 and 3.6.8).
//!
//! What kubeadm built keeps its manifest, but for the image and for [`arguments`] that the new version does not know.

use super::{PROCESS, manifest_text};
use crate::{
    inventory::{Cluster, Node, Role},
    layout,
    manifests::InitialState,
    observe::{Facts, MemberFact},
    phases::ownership,
    plan::{Action, Mode, Planner, Refusal},
    versions::{Version, etcd_upgrade_obstacle},
};

mod adopted;
mod arguments;

pub(super) use arguments::replaced as successors;

/// The phase.
pub const PHASE: &str = "etcd-upgrade";

/// The phase that brings the image.
pub const IMAGES: &str = "etcd-images";

/// The image, on all hosts before the first member stops.
///
/// # Errors
/// As [`plan`]: nothing is fetched for an upgrade that may not be.
pub fn images(p: &mut Planner<'_>) -> Result<(), Refusal> {
    may_be(p)?;
    p.stage(IMAGES, "the image of the version to come", Mode::Parallel);
    for node in members(p) {
        let image = match is_ours(p, node) {
            true => Some(p.cluster.release.etcd_image()),
            // What the manifest names already its kubelet brings.
            false => adopted::image(p, node).filter(|_| is_pending(p, node)),
        };
        p.images(node, image.as_slice());
    }
    Ok(())
}

/// Members in the order in which the live membership names them: who looked it up puts those first that are not well
/// (an upgrade that was interrupted goes on there), and the leader last.
///
/// # Errors
/// Where a member runs a version from which there is no way, or has a manifest that rsadm did not write and cannot change for
/// the new version.
pub fn plan(p: &mut Planner<'_>) -> Result<(), Refusal> {
    may_be(p)?;
    for node in order(p) {
        p.gated_stage(PHASE, format!("etcd {} on {}", p.cluster.release.etcd, node.name));
        let (files, process) = (is_pending(p, node), p.facts(&node.name).runs(PROCESS));
        if files && process {
            p.push(&node.name, Action::HandOver { member: node.name.clone() }, "");
        }
        match is_ours(p, node) {
            true => replace(p, node),
            false => adopted::change(p, node)?,
        }
        if p.has_work(&node.name) {
            p.push(&node.name, Action::AwaitSound, "");
        }
    }
    Ok(())
}

fn replace(p: &mut Planner<'_>, node: &Node) {
    let pod = (PROCESS, layout::ETCD_METRICS_PORT);
    let (text, inputs) = manifest_text(p, node, InitialState::Existing);
    p.replace_manifest(node, pod, text, &inputs);
    p.replaced_process(node, pod, &inputs, false);
    // From here on the data may be of the new version.
    p.commit(node);
}

/// True where rsadm built the host: else its manifest stays as it is, but for what has to change.
fn is_ours(p: &Planner<'_>, node: &Node) -> bool {
    ownership::is_prepared(p.facts(&node.name))
}

/// True where the member does not run what its manifest shall say.
fn is_pending(p: &Planner<'_>, node: &Node) -> bool {
    version(p, node) != Some(p.cluster.release.etcd)
}

/// The member on a host, as etcd lists it.
fn listed<'p>(p: &'p Planner<'_>, node: &Node) -> Option<&'p MemberFact> {
    p.seen().membership.iter().flatten().find(|m| m.peer_url == node.peer_url())
}

fn order<'c>(p: &Planner<'c>) -> Vec<&'c Node> {
    let listed = p.seen().membership.iter().flatten();
    let urls: Vec<&String> = listed.map(|m| &m.peer_url).collect();
    let mut nodes = members(p);
    nodes.sort_by_key(|n| urls.iter().position(|url| **url == n.peer_url()).unwrap_or(usize::MAX));
    nodes
}

/// The hosts of members. One that the inventory names and that is none yet becomes one by `up`, with the version to come.
fn members<'c>(p: &Planner<'c>) -> Vec<&'c Node> {
    let is_listed = |n: &&Node| p.seen().membership.is_none() || listed(p, n).is_some();
    p.cluster.with_role(Role::Etcd).filter(is_listed).collect()
}

fn may_be(p: &Planner<'_>) -> Result<(), Refusal> {
    let refusal = |rule, subject: &Node, why, help| {
        Err(Refusal { rule, subject: format!("etcd on {} is not upgraded", subject.name), why, help })
    };
    for node in members(p) {
        if !is_ours(p, node) {
            adopted::may_be(p, node).or_else(|(rule, why, help)| refusal(rule, node, why, help))?;
        }
        let Some(from) = version(p, node) else { continue };
        // Where it has begun, on is the way that is left.
        let goes_on = is_begun(p) && from < p.cluster.release.etcd;
        if let Some((why, help)) = obstacle(p.cluster, from, is_ours(p, node)).filter(|_| !goes_on) {
            return refusal("etcd-version", node, why, help);
        }
    }
    Ok(())
}

/// True where some member runs the inventory's minor version already.
pub(super) fn is_begun(p: &Planner<'_>) -> bool {
    let wanted = p.cluster.release.etcd;
    let is_there = |found: Version| (found.major, found.minor) == (wanted.major, wanted.minor);
    members(p).into_iter().any(|node| version(p, node).is_some_and(is_there))
}

/// The version of the image that a host's manifest names.
pub fn version(p: &Planner<'_>, node: &Node) -> Option<Version> {
    version_of(p.facts(&node.name).etcd_image.as_deref()?)
}

/// The version of a member of ours that has served, where it is not the inventory's.
pub fn other_version(cluster: &Cluster, facts: &Facts) -> Option<Version> {
    facts.identity.as_ref().filter(|_| ownership::is_prepared(facts))?;
    version_of(facts.etcd_image.as_deref()?).filter(|found| *found != cluster.release.etcd)
}

/// What to do where a member has another version than the inventory, and something else than an upgrade is wanted.
pub fn way_out(cluster: &Cluster, found: Version) -> String {
    match obstacle(cluster, found, true) {
        Some((why, help)) if found < cluster.release.etcd => {
            format!("{why}; {help}; where other members are there already, `rsadm etcd upgrade` goes on")
        }
        Some((why, help)) => format!("{why}; {help}"),
        None => {
            format!("`rsadm etcd upgrade` goes there one member at a time; or set etcd.version: {found}")
        }
    }
}

/// Why a member, on a host that rsadm built or not, may not have the inventory's version, and what to do.
fn obstacle(cluster: &Cluster, found: Version, is_ours: bool) -> Option<(String, String)> {
    let wanted = cluster.release.etcd;
    let (why, help) = etcd_upgrade_obstacle(found, wanted)?;
    Some(match (wanted.major, wanted.minor) < (found.major, found.minor) {
        true => (why, format!("{help}; {}", way_back(cluster, found, is_ours))),
        false => (why, help),
    })
}

/// How a member gets back that cannot run `newer`, as a run that was killed leaves one. Whether it ever served is not to be
/// seen on its host; etcd itself takes no data of a newer cluster.
fn way_back(cluster: &Cluster, newer: Version, is_ours: bool) -> String {
    let (wanted, manifest) = (cluster.release.etcd, layout::ETCD_MANIFEST);
    let starts = match is_ours {
        true => format!("move {manifest} away on the host, and `rsadm up` starts {wanted}"),
        false => format!(
            "move {} on the host, if it is there, to {manifest}, or put the image of {wanted} back there, and its kubelet starts \
             {wanted}",
            layout::ETCD_MANIFEST_BEFORE
        ),
    };
    match cluster.with_role(Role::Etcd).count() {
        1 => format!(
            "where {newer} never served: {starts}; where it did, {wanted} does not start with its data, and then `rsadm etcd \
             restore HOST:SNAPSHOT` takes the one that the upgrade took first (`rsadm etcd snapshot ls --from hosts:`)"
        ),
        _ => format!(
            "where {newer} never served, and the other members run {wanted}: `rsadm etcd replace HOST` makes that member \
             anew, with the data of the others"
        ),
    }
}

/// New settings are rolled out with no snapshot before and no comparison of data after, which is no way to another
/// version.
///
/// # Errors
/// Where a member has one.
pub fn is_not_asked_for(p: &Planner<'_>, nodes: &[&Node]) -> Result<(), Refusal> {
    let others: Vec<(&Node, Version)> =
        nodes.iter().filter_map(|n| Some((*n, other_version(p.cluster, p.facts(&n.name))?))).collect();
    let Some((_, found)) = others.first() else { return Ok(()) };
    let wanted = p.cluster.release.etcd;
    let has: Vec<String> = others.iter().map(|(n, found)| format!("{} has etcd {found}", n.name)).collect();
    Err(Refusal {
        rule: "etcd-version",
        subject: format!("etcd does not become {wanted} by the way"),
        why: format!("{}, and the inventory says {wanted}", has.join(", ")),
        help: way_out(p.cluster, *found),
    })
}

/// etcd's version by the tag of its image: `registry.k8s.io/etcd:3.6.8-0`.
pub fn version_of(image: &str) -> Option<Version> {
    let tag = image.rsplit_once(':')?.1;
    tag.trim_start_matches('v').split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_images_tag() {
        for (image, version) in [
            ("registry.k8s.io/etcd:3.6.8-0", Some("v3.6.8")),
            ("10.0.0.1:5000/etcd:v3.5.26", Some("v3.5.26")),
            ("registry.k8s.io/etcd@sha256:0123", None),
            ("10.0.0.1:5000/etcd", None),
            ("etcd", None),
        ] {
            assert_eq!(version_of(image).map(|v| v.to_string()).as_deref(), version, "{image}");
        }
    }
}
