//! Changes of etcd's membership: one member at a time, and never a vote before there is a process to cast it.
//!
//! Order, as etcd's documents and Cluster API have it: the dead leave before anybody joins, since etcd counts them
//! against every change (etcd, `server.go`, `mayAddMember`); whoever joins is a learner first, which is always
//! reversible (etcd, `learning/design-learner.md`); the living leave last, when their successors vote. Each call asks the
//! quorum gate at its own moment.

use std::net::Ipv4Addr;

use super::{PHASE, PROCESS};
use crate::{
    inventory::{Cluster, Node, NodeName, Role},
    layout,
    manifests::{EtcdStart, InitialState},
    observe::{Facts, Fate, MemberFact, Observed},
    phases::{certs, control_plane, ownership, prepare, settled},
    plan::{Action, Mode, Planner, Refusal},
};

/// Whose manifest and data go.
const FORMER: &str = "of a former member";

mod founders;
pub(super) mod likeness;
mod listens;
mod quota;
mod refusals;

pub(super) use founders::refusal as other_founders;
use likeness::Likeness;
pub use listens::listens;
pub(super) use quota::holds_the_database;
pub use quota::{may_be_full, quotas, with_their_quota};
pub use refusals::{moved, moves};
pub(super) use refusals::{old_cluster, two};

/// True since the cluster's members served for the first time: hosts have it on record, or a quorum has just said so, of
/// which a run that died left none.
pub fn is_founded(cluster: &Cluster, seen: &Observed) -> bool {
    seen.membership.is_some() || is_recorded(cluster, seen)
}

fn is_recorded(cluster: &Cluster, seen: &Observed) -> bool {
    cluster.nodes.iter().any(|n| seen.hosts.get(&n.name).is_some_and(|f| f.identity.is_some()))
}

/// True where hosts and inventory differ on who is a member, or no etcd runs that would know better, so that etcd itself has
/// to be asked.
pub fn is_in_question(cluster: &Cluster, seen: &Observed) -> bool {
    let wanted = cluster.with_role(Role::Etcd).count();
    let facts = |node: &Node| seen.hosts.get(&node.name);
    let differs = |node: &Node| {
        let Some(facts) = facts(node) else { return false };
        let counts_otherwise = facts.etcd_members.is_some_and(|n| n != wanted);
        match node.is(Role::Etcd) {
            true => {
                !facts.etcd_data
                    || facts.identity.is_none()
                    || counts_otherwise
                    || started_at(node, facts).is_some()
            }
            false => has_etcd(facts),
        }
    };
    match is_recorded(cluster, seen) {
        true => {
            let counts = |node: &Node| facts(node).is_some_and(|f| f.etcd_members.is_some());
            cluster.nodes.iter().any(differs) || !cluster.with_role(Role::Etcd).any(counts)
        }
        false => founders::others(cluster, seen).is_some(),
    }
}

/// True where a founded cluster's membership is in question and no quorum has said yet who is a member: they may be down, and
/// what a run has to change shows once it has started them.
pub fn is_untold(cluster: &Cluster, seen: &Observed) -> bool {
    seen.membership.is_none() && is_recorded(cluster, seen) && is_in_question(cluster, seen)
}

/// True where a host runs etcd, or has its data.
fn has_etcd(facts: &Facts) -> bool {
    facts.etcd_manifest.is_some() || facts.etcd_data
}

/// Where the member on a host was started, if that is not where the inventory has it.
fn started_at(node: &Node, facts: &Facts) -> Option<String> {
    let mut members = EtcdStart::of_manifest(facts.etcd_manifest.as_deref()?)?.members.into_iter();
    let (_, url) = members.find(|(name, url)| *name == node.name && *url != node.peer_url())?;
    Some(url)
}

/// Who joins and who leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    join: Vec<NodeName>,
    leave: Vec<MemberFact>,
    /// Hosts that run etcd, or have its data, and are no members any more.
    clear: Vec<NodeName>,
}

impl Change {
    /// What makes the membership that of the inventory; nothing where the membership is not known.
    pub fn of_inventory(p: &Planner<'_>) -> Self {
        let Some(members) = &p.seen().membership else { return Self::default() };
        let votes = |n: &&Node| {
            members.iter().any(|m| !m.learner && m.fate != Fate::Leaves && m.peer_url == n.peer_url())
        };
        let wanted = |m: &&MemberFact| match m.fate {
            Fate::ByInventory => p.cluster.with_role(Role::Etcd).any(|n| n.peer_url() == m.peer_url),
            Fate::Leaves => false,
            Fate::Stays => true,
        };
        let has_etcd = |n: &&Node| !n.is(Role::Etcd) && has_etcd(p.facts(&n.name));
        let names = |nodes: Vec<&Node>| nodes.into_iter().map(|n| n.name.clone()).collect();
        Self {
            join: names(p.cluster.with_role(Role::Etcd).filter(|n| !votes(n)).collect()),
            leave: members.iter().filter(|m| !wanted(m)).cloned().collect(),
            clear: names(p.cluster.nodes.iter().filter(has_etcd).collect()),
        }
    }

    /// The hosts that join.
    pub fn joining(&self) -> Vec<NodeName> {
        self.join.clone()
    }

    /// True where somebody joins, or leaves that is well: not merely what is left of members that died.
    pub(super) fn is_choice(&self) -> bool {
        !self.join.is_empty() || self.leave.iter().any(|m| m.healthy)
    }

    /// True where the host is to become a member.
    pub fn joins(&self, node: &Node) -> bool {
        self.join.contains(&node.name)
    }

    /// Adds the steps.
    ///
    /// # Errors
    /// Where a host that shall join or be cleared has data of another cluster, or no member is left that could vote.
    pub fn plan(&self, p: &mut Planner<'_>) -> Result<(), Refusal> {
        let cluster = p.cluster;
        let mut joining: Vec<&Node> = cluster.nodes.iter().filter(|n| self.joins(n)).collect();
        // Whom a run that died left without a vote is in the way of all others.
        let waits = |n: &Node| {
            let mut members = p.seen().membership.iter().flatten();
            members.any(|m| m.learner && m.fate != Fate::Leaves && m.peer_url == n.peer_url())
        };
        joining.sort_by_key(|n| !waits(n));
        for node in &joining {
            refusals::may_join(p, node)?;
            settled::nodes::keeps_its_role(node, p.facts(&node.name))?;
            refusals::fits(p, node)?;
        }
        for node in cluster.nodes.iter().filter(|n| self.clear.contains(&n.name)) {
            refusals::is_no_strangers(p, node, "be cleared of etcd")?;
        }
        refusals::most_stay(p, &joining, &self.leave)?;
        let again = |m: &MemberFact| joining.iter().any(|n| n.peer_url() == m.peer_url);
        let (first, last): (Vec<_>, Vec<_>) = self.leave.iter().partition(|m| !m.healthy || again(m));
        for member in first {
            self.leave(p, member)?;
        }
        // Side by side, so that a host whose turn comes has nothing left to do but to start its member.
        p.stage(PHASE, "hosts of members to come", Mode::Parallel);
        // Before the manifests of those that are made anew are taken away.
        let likenesses: Vec<_> = joining.iter().map(|node| likeness::of(p, node)).collect();
        for node in &joining {
            make_ready(p, node);
        }
        for (node, likeness) in joining.into_iter().zip(likenesses) {
            join(p, node, likeness);
        }
        for member in last {
            self.leave(p, member)?;
        }
        p.stage(PHASE, "data of former members set aside", Mode::Parallel);
        for node in cluster.nodes.iter().filter(|n| self.clear.contains(&n.name)) {
            clear(p, node);
        }
        Ok(())
    }

    fn leave(&self, p: &mut Planner<'_>, member: &MemberFact) -> Result<(), Refusal> {
        let name = match member.name.as_str() {
            "" => member.peer_url.clone(),
            name => name.to_owned(),
        };
        let anchor = anchor(p, &member.peer_url).ok_or_else(|| Refusal {
            rule: "last-member",
            subject: format!("{name} cannot leave etcd"),
            why: "no other member would be left that votes, and its data is all the data there is".into(),
            help: "add a member first; `rsadm reset` takes a cluster down, and all its data with it".into(),
        })?;
        // Each of them before the member goes, on whatever host that is put down.
        p.stage(PHASE, format!("API servers pointed away from {name}"), Mode::OneByOne);
        let (stay, well) = (self.stay_at(p, |_| true), self.stay_at(p, |m| m.healthy));
        let others = staying(p, &member.peer_url);
        for node in &p.cluster.nodes {
            control_plane::dial_others(p, node, &stay, &well, &others);
        }
        p.stage(PHASE, format!("{name} leaves"), Mode::OneByOne);
        match p.cluster.nodes.iter().find(|n| n.peer_url() == member.peer_url) {
            Some(node) if p.seen().hosts.contains_key(&node.name) => record(p, node),
            Some(_) => {}
            // Nobody names it any more once it is no member.
            None => p.notice(
                PHASE,
                None,
                format!("the host of {name} is not in the inventory: its kubelet, its data and etcd's keys stay there"),
                "empty it: `rsadm reset` with an inventory of that host alone; `kubeadm reset` where kubeadm built it",
            ),
        }
        p.push(&anchor, Action::RemoveMember { member: name, peer_url: member.peer_url.clone() }, "");
        Ok(())
    }

    /// Where such members are that vote and stay, those too whose hosts the inventory does not have.
    fn stay_at(&self, p: &Planner<'_>, is_such: impl Fn(&MemberFact) -> bool) -> Vec<Ipv4Addr> {
        let members = p.seen().membership.iter().flatten();
        let stay = members.filter(|m| is_such(m) && !m.learner && !self.leave.contains(m));
        stay.filter_map(|m| address_of(&m.peer_url)).collect()
    }
}

/// Whom a URL of etcd's names, where it names an address.
pub fn address_of(url: &str) -> Option<Ipv4Addr> {
    url.split("//").nth(1)?.split(':').next()?.parse().ok()
}

/// Programs of hosts that join.
///
/// # Errors
/// See [`prepare::binaries`].
pub fn binaries(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let mut joining = Change::of_inventory(p).joining();
    joining.retain(|host| !ownership::is_adopted(p.facts(host)));
    // Of those alone: nothing is prepared on the others, and a member that died has to be replaced whatever they have.
    let nodes = p.cluster.nodes.iter().filter(|node| joining.contains(&node.name));
    settled::runtime::check(nodes, p.cluster, p.seen())?;
    p.within(joining, prepare::binaries)
}

/// Certificates of hosts that join.
///
/// # Errors
/// See [`certs::of_members`].
pub fn certificates(p: &mut Planner<'_>) -> Result<(), Refusal> {
    within_newcomers(p, certs::of_members)
}

/// Images of hosts that join.
///
/// # Errors
/// See [`prepare::images`].
pub fn images(p: &mut Planner<'_>) -> Result<(), Refusal> {
    within_newcomers(p, prepare::images)
}

/// Members leave and join.
///
/// # Errors
/// Where who joins would be full at once; see [`Change::plan`].
pub fn plan(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let change = Change::of_inventory(p);
    let joining: Vec<&Node> = p.cluster.nodes.iter().filter(|n| change.joins(n)).collect();
    holds_the_database(p, &joining)?;
    change.plan(p)?;
    // A run that died between a vote and this record left a member that nobody lets join again.
    p.stage(PHASE, "records of members that have their vote", Mode::Parallel);
    let cluster = p.cluster;
    for node in cluster.with_role(Role::Etcd) {
        let facts = p.facts(&node.name);
        if facts.begun.is_some() && facts.identity.is_none() && is_listed(p, node) {
            p.push(&node.name, Action::RecordIdentity { cluster: cluster.name.clone() }, "");
        }
    }
    Ok(())
}

fn within_newcomers(
    p: &mut Planner<'_>,
    plan: impl FnOnce(&mut Planner<'_>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let joining = Change::of_inventory(p).joining();
    p.within(joining, plan)
}

/// Where clients reach the members at hosts of the inventory that go on voting without the one that leaves.
fn staying(p: &Planner<'_>, leaving: &str) -> Vec<String> {
    let votes = |n: &&Node| {
        let url = n.peer_url();
        let listed = p.seen().membership.iter().flatten().find(|m| m.peer_url == url);
        url != leaving && listed.is_some_and(|m| m.healthy && !m.learner && m.fate != Fate::Leaves)
    };
    p.cluster.with_role(Role::Etcd).filter(votes).map(Node::client_url).collect()
}

/// A host that stays, to which the removal of another member is put down: the call itself comes from the workstation.
fn anchor(p: &Planner<'_>, leaving: &str) -> Option<NodeName> {
    let members = p.seen().membership.as_ref()?;
    let stays = |n: &&Node| {
        let url = n.peer_url();
        url != leaving && members.iter().any(|m| m.peer_url == url && m.healthy && !m.learner)
    };
    let there = |n: &&Node| p.seen().hosts.contains_key(&n.name);
    p.cluster.nodes.iter().filter(there).find(stays).map(|n| n.name.clone())
}

fn is_listed(p: &Planner<'_>, node: &Node) -> bool {
    p.seen().membership.iter().flatten().any(|m| m.peer_url == node.peer_url())
}

/// Whose the data on a host is that rsadm did not prepare, before etcd's member list ceases to tell it: without this record
/// a run that comes after one that died, or that took a learner back, finds what could be anybody's.
fn record(p: &mut Planner<'_>, node: &Node) {
    let facts = p.facts(&node.name);
    if !ownership::is_prepared(facts) && facts.identity.is_none() {
        p.push(&node.name, Action::RecordIdentity { cluster: p.cluster.name.clone() }, "");
    }
}

/// No stale identity, and a kubelet, which then finds no manifest of a former member to start.
fn make_ready(p: &mut Planner<'_>, node: &Node) {
    let (former, facts) = (!is_listed(p, node), p.facts(&node.name));
    let adopted = ownership::is_adopted(facts);
    // A learner whose manifest kubeadm wrote, for a join that broke off: that is kept, too.
    let is_theirs = adopted && facts.running_revision(PROCESS).is_none();
    let may_start = (former || is_theirs) && no_manifest(p, node);
    if !adopted {
        prepare::kubelet(p, node);
    }
    if former || may_start {
        stop(p, node, may_start);
    }
    if former {
        set_aside(p, node, may_start);
    }
    record(p, node);
}

/// Learner, then process, then vote.
fn join(p: &mut Planner<'_>, node: &Node, likeness: Option<Likeness>) {
    p.stage(PHASE, format!("{} joins", node.name), Mode::OneByOne);
    if !is_listed(p, node) {
        let member = node.name.clone();
        p.push(&node.name, Action::AddLearner { member, peer_url: node.peer_url() }, "");
    }
    p.folder(node, layout::ETCD_DATA_DIR, 0o700);
    let start = EtcdStart { members: membership(p), state: InitialState::Existing, token: super::token(p) };
    if let Some(likeness) = &likeness {
        likeness::tell(p, node, likeness);
    }
    let settings = likeness.map(|likeness| likeness.settings);
    let (text, inputs) = super::text_and_inputs(p.cluster, node, &start, settings.as_ref());
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

/// True where one was there: the kubelet may have started it since the host was looked at.
fn no_manifest(p: &mut Planner<'_>, node: &Node) -> bool {
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

fn stop(p: &mut Planner<'_>, node: &Node, may_start: bool) {
    if may_start || p.facts(&node.name).runs(PROCESS) {
        p.push(&node.name, Action::AwaitStopped { process: PROCESS.into() }, "");
    }
}

fn set_aside(p: &mut Planner<'_>, node: &Node, may_start: bool) {
    if may_start || p.facts(&node.name).etcd_data {
        p.push(&node.name, Action::SetAside, FORMER);
    }
}

/// What a former member leaves on a host of the inventory: its data is kept, its keys are not. The data goes last, since
/// it is what a run that comes after an interrupted one goes by.
fn clear(p: &mut Planner<'_>, node: &Node) {
    let may_start = no_manifest(p, node);
    stop(p, node, may_start);
    let keys = ["server", "peer", "healthcheck-client"];
    let mut paths: Vec<String> = keys
        .iter()
        .flat_map(|key| [format!("{key}.crt"), format!("{key}.key")])
        .chain(["ca.key".to_owned()])
        .map(|file| format!("{}/{file}", layout::ETCD_PKI_DIR))
        .filter(|path| p.facts(&node.name).files.contains_key(path))
        .collect();
    // Where rsadm did not prepare the host, the record is all that tells whose the data is, until it is set aside and after.
    let facts = p.facts(&node.name);
    if facts.identity.is_some() && facts.begun.is_some() && !node.is_kubernetes() {
        paths.push(layout::IDENTITY.to_owned());
    }
    if !paths.is_empty() {
        p.push(&node.name, Action::Remove { paths }, "only members have use for them");
    }
    set_aside(p, node, may_start);
}
