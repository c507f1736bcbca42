//! Certificates that a member reads with every connection: exchanged one member at a time under the quorum gate.
//!
//! Between a new key and the certificate to it nobody accepts that member. Where nobody accepts it anyway there is nothing to lose,
//! so what is lost goes first and on all hosts at once: a cluster whose certificates have all expired, or begin in its hosts'
//! future, has no quorum that a gate could ask.

use std::collections::BTreeMap;

use super::{PHASE, certificate, found_certificate, has_its_key, reason};
use crate::{
    inventory::{Node, Role},
    observe::Facts,
    phases::etcd::{self, members::Change},
    pki::{
        authorities::Ca,
        inspect::CertInfo,
        leaf::{LeafSpec, San},
        specs,
    },
    plan::{Planner, Refusal},
};

/// Of members that serve: once all serve that can, since one that stands still keeps the gate from letting another be touched.
///
/// # Errors
/// See [`super::plan`].
pub fn of_serving(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let serving = serving(p);
    let mut kept = BTreeMap::new();
    for node in &serving {
        kept.insert(&node.name, kept_for_the_gate(p, &serving, node)?);
    }
    // No stage is begun in vain: API servers start beside a foundation, and would wait for it.
    if kept.values().all(Vec::is_empty) {
        return Ok(());
    }
    one_by_one(p, &serving, |p, node| {
        kept.get(&node.name).into_iter().flatten().try_for_each(|spec| certificate(p, node, spec))
    })
}

/// Issues what each etcd host gets of these certificates, host by host; the next one's turn comes once `members` agree.
pub(super) fn one_by_one(
    p: &mut Planner<'_>,
    members: &[&Node],
    issue: impl Fn(&mut Planner<'_>, &Node) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    for node in p.cluster.with_role(Role::Etcd) {
        p.gated_stage(PHASE, format!("etcd's certificates on {}", node.name));
        issue(p, node)?;
        if p.has_work(&node.name) && !members.is_empty() {
            p.push(&node.name, etcd::await_members(members), "");
        }
    }
    Ok(())
}

/// Hosts with a member that runs and has its vote. Until members have served for the first time there is no quorum to lose.
pub(super) fn serving<'c>(p: &Planner<'c>) -> Vec<&'c Node> {
    if !etcd::members::is_founded(p.cluster, p.seen()) {
        return vec![];
    }
    let change = Change::of_inventory(p);
    let serves = |n: &&Node| p.facts(&n.name).runs(etcd::PROCESS) && !change.joins(n);
    p.cluster.with_role(Role::Etcd).filter(serves).collect()
}

/// What a member serves with that has to be another: not without the gate.
pub(super) fn kept_for_the_gate(
    p: &Planner<'_>,
    serving: &[&Node],
    node: &Node,
) -> Result<Vec<LeafSpec>, Refusal> {
    let mut kept = Vec::new();
    if !serving.iter().any(|n| n.name == node.name) {
        return Ok(kept);
    }
    for spec in specs::specs_for(p.cluster, node) {
        if is_read(&spec) && !is_lost(p, node, &spec) && reason(p, &node.name, &spec, None)?.is_some() {
            kept.push(spec);
        }
    }
    Ok(kept)
}

/// True for what a member reads, or what one is asked with.
pub(super) fn is_read(spec: &LeafSpec) -> bool {
    spec.ca == Ca::Etcd && spec.name.starts_with("etcd-")
}

/// A certificate that is there with its key.
pub(super) fn usable(facts: &Facts, spec: &LeafSpec) -> Option<CertInfo> {
    found_certificate(facts, &spec.place).filter(|info| has_its_key(facts, &spec.place, info))
}

/// True where nobody accepts what is there. A member that is dialled at an address which its certificate does not name, as where
/// another host's was put in its place, is refused by all others.
pub(super) fn is_lost(p: &Planner<'_>, node: &Node, spec: &LeafSpec) -> bool {
    let dialled = San::Ip(node.internal_address.into());
    usable(p.facts(&node.name), spec).is_none_or(|info| {
        let is_refused = is_read(spec) && spec.sans.contains(&dialled) && !info.sans.contains(&dialled);
        info.is_early(p.now) || info.is_expired(p.now) || is_refused
    })
}
