//! Who joins and who leaves, and in which order.

use std::net::Ipv4Addr;

use super::{address_of, former, has_etcd, join, likeness, refusals};
use crate::{
    inventory::{Node, NodeName, Role},
    observe::{Fate, MemberFact},
    phases::{control_plane, etcd::PHASE, settled},
    plan::{Action, Mode, Planner, Refusal},
};

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
    pub(in crate::phases::etcd) fn is_choice(&self) -> bool {
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
            join::make_ready(p, node);
        }
        for (node, likeness) in joining.into_iter().zip(likenesses) {
            join::join(p, node, likeness);
        }
        for member in last {
            self.leave(p, member)?;
        }
        p.stage(PHASE, "data of former members set aside", Mode::Parallel);
        for node in cluster.nodes.iter().filter(|n| self.clear.contains(&n.name)) {
            former::clear(p, node);
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
            Some(node) if p.seen().hosts.contains_key(&node.name) => former::record(p, node),
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
