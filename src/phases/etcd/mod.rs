//! etcd: founded by all members together, afterwards changed one member at a time under the quorum gate.
//!
//! Members that are down start first, all of them (a cluster that lost power has no quorum to wait for: k0sctl#561).
//! Then the membership becomes that of the inventory ([`members`]), then settings are rolled out.
//!
//! `initial-cluster` and its state are read at a member's first start only. They are kept out of what identifies the
//! pod to the kubelet (`metadata.uid`), so that turning `new` into `existing` after the foundation restarts nobody, and
//! a wiped data directory finds a manifest that founds nothing (kubespray#13261 tells of the alternative). It rejoins under
//! its old ID as long as the list is that of all members (etcd, `bootstrapExistingClusterNoWAL`), with an empty log and its vote.

use crate::{
    hash::sha256,
    inventory::{Cluster, Node, Role},
    layout,
    manifests::{EtcdSettings, EtcdStart, InitialState, etcd_pod},
    phases::prepare,
    pki::authorities::Ca,
    plan::{
        Action, Mode, Planner, Refusal,
        action::{REVISION_MARK, text_input},
    },
};

pub mod members;
pub mod upgrade;
pub mod wish;

/// The phase.
pub const PHASE: &str = "etcd";

/// The process's name.
pub const PROCESS: &str = "etcd";

/// See the module.
///
/// # Errors
/// Where a member has lost its data or is of another version, a host that shall become one holds data of another cluster,
/// members that were to found one with others do not serve, or the database has outgrown the quota.
pub fn plan(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let cluster = p.cluster;
    let nodes: Vec<&Node> = cluster.with_role(Role::Etcd).collect();
    if !members::is_founded(cluster, p.seen()) {
        if let Some(refusal) = members::other_founders(cluster, p.seen()) {
            return Err(refusal);
        }
        if nodes.len() == 2 {
            return Err(members::two(p));
        }
        found(p, &nodes);
        return Ok(());
    }
    if let Some(refusal) = members::old_cluster(p) {
        return Err(refusal);
    }
    let change = members::Change::of_inventory(p);
    if nodes.len() == 2 && change.is_choice() {
        return Err(members::two(p));
    }
    let there: Vec<&Node> = nodes.iter().copied().filter(|n| !change.joins(n)).collect();
    // Preflight says so too; it can be left out.
    upgrade::is_not_asked_for(p, &there)?;
    if let Some(node) = there.iter().find(|n| !p.facts(&n.name).etcd_data) {
        return Err(no_data(p, node));
    }
    members::holds_the_database(p, &nodes)?;
    let waits = start(p, &there);
    change.plan(p)?;
    keep(p, &there);
    if members::is_untold(cluster, p.seen()) {
        // Who joins and who leaves shows once members serve, whether they were down or only late with their answer.
        let text = "etcd does not tell who is a member now";
        let help =
            "rsadm up asks again once it serves, and then lets those leave whom the inventory does not have";
        p.notice(PHASE, None, text, help);
        if !waits {
            agree(p, &there);
        }
    }
    Ok(())
}

/// All members at once, from one static list: the floor is one election, where learner after learner would wait out
/// etcd's own five seconds for each.
fn found(p: &mut Planner<'_>, nodes: &[&Node]) {
    let title = format!("{} together", crate::event::count(nodes.len(), "member"));
    p.stage_beside(PHASE, title);
    for node in nodes {
        // The manifest first: the kubelet starts with it, instead of noticing it.
        p.folder(node, layout::ETCD_DATA_DIR, 0o700);
        p.folder(node, layout::MANIFESTS_DIR, 0o700);
        manifest(p, node, InitialState::New);
        prepare::kubelet(p, node);
        p.process(node, PROCESS, &inputs(p, node));
    }
    agree(p, nodes);
    p.stage(PHASE, "founded: a wiped member can found no second cluster", Mode::Parallel);
    for node in nodes {
        manifest(p, node, InitialState::Existing);
        p.push(&node.name, Action::RecordIdentity { cluster: p.cluster.name.clone() }, "");
    }
}

/// Members that are down, all at once; and kubelets, whose restart no container notices. Whether it waits until they agree.
fn start(p: &mut Planner<'_>, nodes: &[&Node]) -> bool {
    prepare::first_kubelet(p, PHASE, nodes.iter().copied());
    let all_run = nodes.iter().all(|n| p.facts(&n.name).runs(PROCESS));
    let title = if all_run { "kubelets beside members" } else { "members that are down" };
    p.stage(PHASE, title, Mode::Parallel);
    for node in nodes {
        prepare::kubelet(p, node);
    }
    let down: Vec<&Node> = nodes.iter().copied().filter(|n| !p.facts(&n.name).runs(PROCESS)).collect();
    for node in &down {
        p.folder(node, layout::ETCD_DATA_DIR, 0o700);
        manifest(p, node, InitialState::Existing);
        p.process(node, PROCESS, &inputs(p, node));
    }
    let waits = !down.is_empty() && nodes.iter().any(|n| p.has_work(&n.name));
    if waits {
        agree(p, nodes);
    }
    waits
}

/// New settings, one member after the other.
fn keep(p: &mut Planner<'_>, nodes: &[&Node]) {
    for node in nodes {
        p.gated_stage(PHASE, format!("new settings on {}", node.name));
        p.folder(node, layout::ETCD_DATA_DIR, 0o700);
        let pod = (PROCESS, layout::ETCD_METRICS_PORT);
        let (text, inputs) = manifest_text(p, node, InitialState::Existing);
        // Asked to, a leader hands over within a round trip while all endpoints still answer; etcd does so itself when it is
        // told to end, but then its clients lose leader and endpoint at the same moment.
        if nodes.len() > 1 && p.replaces(node, PROCESS, &text, &inputs) {
            p.push(&node.name, Action::HandOver { member: node.name.clone() }, "");
        }
        p.replace_manifest(node, pod, text, &inputs);
        p.replaced_process(node, pod, &inputs, false);
        if p.has_work(&node.name) {
            p.push(&node.name, await_members(nodes), "");
        }
        p.commit(node);
        if p.facts(&node.name).etcd_leaderless && !p.has_work(&node.name) {
            let help = "rsadm etcd status tells why, and what heals it";
            p.notice(PHASE, Some(&node.name), "its etcd runs and knows no leader", help);
        }
    }
    p.stage(PHASE, "founded: a wiped member can found no second cluster", Mode::Parallel);
    for node in nodes {
        if p.facts(&node.name).identity.is_none() {
            p.push(&node.name, Action::RecordIdentity { cluster: p.cluster.name.clone() }, "");
        }
    }
}

/// Waits until these members follow one leader.
pub(super) fn agree(p: &mut Planner<'_>, nodes: &[&Node]) {
    p.stage(PHASE, "one leader, one cluster", Mode::Parallel);
    if let Some(first) = nodes.first() {
        p.push(&first.name, await_members(nodes), "");
    }
}

pub(super) fn await_members(nodes: &[&Node]) -> Action {
    Action::AwaitEtcd { members: nodes.iter().map(|n| (n.name.clone(), n.client_url())).collect() }
}

fn manifest(p: &mut Planner<'_>, node: &Node, state: InitialState) {
    let (text, inputs) = manifest_text(p, node, state);
    p.file_with_inputs(node, layout::ETCD_MANIFEST, 0o600, text, &inputs);
}

/// What the manifest shall say, and what its process reads.
fn manifest_text(p: &Planner<'_>, node: &Node, state: InitialState) -> (String, Vec<String>) {
    let before = p.facts(&node.name).etcd_manifest.as_deref().and_then(EtcdStart::of_manifest);
    let token = before.as_ref().map_or_else(|| token(p), |start| start.token.clone());
    let members = match before {
        Some(start) if state == InitialState::Existing => start.members,
        _ => p.cluster.with_role(Role::Etcd).map(|n| (n.name.clone(), n.peer_url())).collect(),
    };
    let start = EtcdStart { members, state, token };
    let likeness = members::likeness::of(p, node);
    text_and_inputs(p.cluster, node, &start, likeness.map(|l| l.settings).as_ref())
}

/// What the process of a member reads once that is there already.
fn inputs(p: &Planner<'_>, node: &Node) -> Vec<String> {
    manifest_text(p, node, InitialState::Existing).1
}

/// What tells this foundation from every other. etcd draws the cluster's ID from it and from names and addresses alone
/// (membership/cluster.go, `genID`): without it a cluster that is built anew on the same hosts would take the old one's
/// snapshots for its own, and prune them. A foundation that broke off goes on with the token that a host has of it, also where
/// members have started with it: all read the same static list, so that whoever starts later founds the same cluster. etcd's
/// own way (`op-guide/failures.md`) is to remove all data and to take another token: whether a client was told that a write
/// is taken, nobody knows by then.
fn token(p: &Planner<'_>) -> String {
    let manifests = p.cluster.with_role(Role::Etcd).filter_map(|n| p.facts(&n.name).etcd_manifest.as_deref());
    let begun = manifests.filter_map(EtcdStart::of_manifest).map(|start| start.token).next();
    begun.unwrap_or_else(|| {
        let moment = p.now.unix_timestamp_nanos().to_string();
        format!("{}-{}", p.cluster.name, &sha256(moment.as_bytes())[..16])
    })
}

/// The manifest, with the pod's identity drawn from everything but the foundation; and what etcd reads once. Its own certificates
/// it reads anew with every handshake (etcd, `transport/listener.go`).
fn text_and_inputs(
    cluster: &Cluster,
    node: &Node,
    start: &EtcdStart,
    others: Option<&EtcdSettings>,
) -> (String, Vec<String>) {
    let nothing = EtcdStart { members: vec![], state: InitialState::Existing, token: String::new() };
    let lasting = prepare::yaml(&etcd_pod(cluster, node, &nothing, REVISION_MARK, others));
    let mut pod = etcd_pod(cluster, node, start, REVISION_MARK, others);
    pod.metadata.uid = Some(format!("{}-{REVISION_MARK}", &sha256(lasting.as_bytes())[..16]));
    (prepare::yaml(&pod), vec![Ca::Etcd.cert_path(), text_input(&lasting)])
}

fn no_data(p: &Planner<'_>, node: &Node) -> Refusal {
    let (name, facts) = (&node.name, p.facts(&node.name));
    // By now facts are what they will be once this run has prepared the host.
    let is_bare = p.prepares(name) || facts.begun.is_none() && !facts.runs("kubelet");
    if is_bare && p.seen().membership.is_none() {
        return Refusal {
            rule: "etcd-membership",
            subject: format!("{name} has no etcd data, and no quorum tells whether it is a member"),
            why: "others have data; founded beside them, it would be a cluster of its own".into(),
            help: "rsadm etcd status tells how the quorum comes back; after that rsadm up joins it, or names what takes its old member out".into(),
        };
    }
    Refusal {
        rule: "etcd-membership",
        subject: format!("{name} is a member of etcd and has no etcd data"),
        why: "started so, it could only be refused by the others: they remember what it has forgotten".into(),
        help: match is_bare && node.is_kubernetes() {
            // It has to be a node before it is a member.
            true => format!(
                "if a disk is only not mounted, mount it; if the host was made anew, rsadm etcd remove {name} takes its old \
                 member out, and rsadm up then builds it, its new member included"
            ),
            false => format!(
                "if its disk is only not mounted, mount it; if the data is lost, rsadm etcd replace {name} takes the member \
                 out and lets it join anew, with the data of the others"
            ),
        },
    }
}
