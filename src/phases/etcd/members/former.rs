//! What a former member leaves on a host: its manifest and process, data and keys.

use crate::{
    inventory::{Node, NodeName, Role},
    layout,
    phases::{
        etcd::{PHASE, PROCESS},
        ownership,
    },
    pki::authorities::Ca,
    plan::{Action, Planner},
};

/// Whose manifest and data go.
const FORMER: &str = "of a former member";

/// Whose the data on a host is that rsadm did not prepare, before etcd's member list ceases to tell it: without this record
/// a run that comes after one that died, or that took a learner back, finds what could be anybody's.
pub(super) fn record(p: &mut Planner<'_>, node: &Node) {
    let facts = p.facts(&node.name);
    if !ownership::is_prepared(facts) && facts.identity.is_none() {
        p.push(&node.name, Action::RecordIdentity { cluster: p.cluster.name.clone() }, "");
    }
}

/// True where one was there: the kubelet may have started it since the host was looked at.
pub(super) fn no_manifest(p: &mut Planner<'_>, node: &Node) -> bool {
    let facts = p.facts(&node.name);
    if !ownership::is_adopted(facts) {
        return p.no_file(node, layout::ETCD_MANIFEST, FORMER);
    }
    let there = facts.files.contains_key(layout::ETCD_MANIFEST);
    if there {
        p.push(&node.name, Action::SetManifestAside, FORMER);
    }
    there
}

pub(super) fn stop(p: &mut Planner<'_>, node: &Node, may_start: bool) {
    if may_start || p.facts(&node.name).runs(PROCESS) {
        p.push(&node.name, Action::AwaitStopped { process: PROCESS.into() }, "");
    }
}

pub(super) fn set_aside(p: &mut Planner<'_>, node: &Node, may_start: bool) {
    if may_start || p.facts(&node.name).etcd_data {
        p.push(&node.name, Action::SetAside, FORMER);
    }
}

/// Whether the key of etcd's authority stays there: kubeadm issues certificates with its own, of API servers too, and where no
/// member's host is known to have another copy nobody could ever make one again.
fn keeps_authority(p: &mut Planner<'_>, node: &Node) -> bool {
    let path = Ca::Etcd.key_path();
    let has = |host: &NodeName| p.facts(host).files.contains_key(&path);
    if !has(&node.name) || ownership::is_adopted(p.facts(&node.name)) {
        return has(&node.name);
    }
    let is_only = !p.cluster.with_role(Role::Etcd).any(|n| n.name != node.name && has(&n.name));
    if is_only {
        let text = format!("{path} stays there: no host of a member has it");
        let help = "rsadm up puts it on those as long as this host is in the inventory; or copy it to the same place on each of them \
                    (mode 0600): without it no certificate of etcd can be made";
        p.notice(PHASE, Some(&node.name), text, help);
    }
    is_only
}

/// What a former member leaves on a host of the inventory: its data is kept, its keys are not. The data goes last, since
/// it is what a run that comes after an interrupted one goes by.
pub(super) fn clear(p: &mut Planner<'_>, node: &Node) {
    let may_start = no_manifest(p, node);
    stop(p, node, may_start);
    let keys = ["server", "peer", "healthcheck-client"];
    let keeps_authority = keeps_authority(p, node);
    let mut paths: Vec<String> = keys
        .iter()
        .flat_map(|key| [format!("{key}.crt"), format!("{key}.key")])
        .chain((!keeps_authority).then(|| "ca.key".to_owned()))
        .map(|file| format!("{}/{file}", layout::ETCD_PKI_DIR))
        .filter(|path| p.facts(&node.name).files.contains_key(path))
        .collect();
    // Where rsadm did not prepare the host, the record is all that tells whose the data is, until it is set aside and after.
    let facts = p.facts(&node.name);
    // By it a run also knows where an authority is that no member has.
    if facts.identity.is_some() && facts.begun.is_some() && !node.is_kubernetes() && !keeps_authority {
        paths.push(layout::IDENTITY.to_owned());
    }
    if !paths.is_empty() {
        p.push(&node.name, Action::Remove { paths }, "only members have use for them");
    }
    set_aside(p, node, may_start);
}
