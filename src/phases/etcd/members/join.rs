//! A host becomes a member.

use super::{
    former, is_listed,
    likeness::{self, Likeness},
};
use crate::{
    inventory::{Node, NodeName},
    layout,
    manifests::{EtcdStart, InitialState},
    observe::MemberFact,
    phases::{
        etcd::{PHASE, PROCESS, text_and_inputs, token},
        ownership, prepare,
    },
    plan::{Action, Mode, Planner},
};

/// No stale identity, and a kubelet, which then finds no manifest of a former member to start.
pub(super) fn make_ready(p: &mut Planner<'_>, node: &Node) {
    let (former, facts) = (!is_listed(p, node), p.facts(&node.name));
    let adopted = ownership::is_adopted(facts);
    // A learner whose manifest kubeadm wrote, for a join that broke off: that is kept, too.
    let is_theirs = adopted && facts.running_revision(PROCESS).is_none();
    let may_start = (former || is_theirs) && former::no_manifest(p, node);
    if !adopted {
        prepare::kubelet(p, node);
    }
    if former || may_start {
        former::stop(p, node, may_start);
    }
    if former {
        former::set_aside(p, node, may_start);
    }
    former::record(p, node);
}

/// Learner, then process, then vote.
pub(super) fn join(p: &mut Planner<'_>, node: &Node, likeness: Option<Likeness>) {
    p.stage(PHASE, format!("{} joins", node.name), Mode::OneByOne);
    if !is_listed(p, node) {
        let member = node.name.clone();
        p.push(&node.name, Action::AddLearner { member, peer_url: node.peer_url() }, "");
    }
    p.folder(node, layout::ETCD_DATA_DIR, 0o700);
    let start = EtcdStart { members: membership(p), state: InitialState::Existing, token: token(p) };
    if let Some(likeness) = &likeness {
        likeness::tell(p, node, likeness);
    }
    let settings = likeness.map(|likeness| likeness.settings);
    let (text, inputs) = text_and_inputs(p.cluster, node, &start, settings.as_ref());
    p.file_with_inputs(node, layout::ETCD_MANIFEST, 0o600, text, &inputs);
    p.push(&node.name, Action::Promote { member: node.name.clone(), peer_url: node.peer_url() }, "");
    p.process(node, PROCESS, &inputs);
    if p.facts(&node.name).identity.is_none() || p.seen().old_cluster_of(&node.name).is_some() {
        p.push(&node.name, Action::RecordIdentity { cluster: p.cluster.name.clone() }, "");
    }
}

/// The member list at this point of the run, as a new member has to name it: etcd compares it with its own, by peer URL.
fn membership(p: &Planner<'_>) -> Vec<(NodeName, String)> {
    let name = |m: &MemberFact| match m.name.as_str() {
        "" => p.cluster.nodes.iter().find(|n| n.peer_url() == m.peer_url).map(|n| n.name.clone()),
        name => Some(NodeName::new(name)),
    };
    let members = p.seen().membership.iter().flatten();
    let mut named: Vec<_> = members
        .map(|m| (name(m).unwrap_or_else(|| NodeName::new("unstarted")), m.peer_url.clone()))
        .collect();
    // Whatever order they were asked in: a run that goes on where another died writes the same.
    named.sort_by(|(_, a), (_, b)| a.cmp(b));
    named
}
