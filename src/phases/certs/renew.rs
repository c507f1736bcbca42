//! Certificates before, or after, their time is over: issued anew by authorities that stay, and taken up by what reads them.
//!
//! What nobody accepts costs nothing to replace, so that goes first and on all hosts at once. A member's certificates that still
//! hold are replaced one member at a time under the gate ([`members`](super::members)). Members, API servers and kubelets read
//! theirs anew by themselves or are started anew by the phases of `up`; of API servers it is only awaited that they answer.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::{
    PHASE, authority, ending, found_certificate, issue,
    members::{is_lost, is_read, one_by_one, usable},
    one_and_the_same, reason, renews_itself,
};
use crate::{
    inventory::{Node, Role},
    phases::{control_plane, etcd, ownership, preflight, prepare},
    pki::{authorities::Ca, inspect::CertInfo, leaf::LeafSpec, specs},
    plan::{Mode, Planner, Refusal, quorum::quorum, shared::Shared},
};

/// The phase in which kubelets start anew.
pub const KUBELETS: &str = "kubelets";

/// A certificate that is to be issued.
struct Due {
    node: usize,
    spec: LeafSpec,
    why: String,
    /// Nobody accepts the one that is there.
    lost: bool,
}

/// The certificates.
///
/// # Errors
/// Where rsadm did not build a host, where it is not the one that is meant, where clocks differ, or where the key of an
/// authority is on no host that answers.
pub fn certificates(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let wanted = wanted(p);
    ours(p, &wanted)?;
    fit(p, &wanted)?;
    signers(p, &wanted)?;
    ending::notices(p);
    let due = due(p, &wanted)?;
    authorities(p, &due)?;
    let members = members(p, &wanted);
    let nodes = &p.cluster.nodes;
    let push = |p: &mut Planner<'_>, due: &Due| issue(p, &nodes[due.node], &due.spec, &due.why);
    let of_member = |due: &Due| is_read(&due.spec);
    p.stage(PHASE, "certificates that nobody accepts", Mode::Parallel);
    due.iter().filter(|d| d.lost).for_each(|d| push(p, d));
    // Fewer follow no leader, and what this brings is of use all the same: the rest comes once others have theirs.
    let is_quorum = members.len() >= quorum(p.cluster.with_role(Role::Etcd).count());
    if is_quorum && due.iter().any(|d| d.lost && of_member(d)) {
        etcd::agree(p, &members);
    }
    p.stage(PHASE, "certificates and kubeconfigs", Mode::Parallel);
    due.iter().filter(|d| !d.lost && !of_member(d)).for_each(|d| push(p, d));
    one_by_one(p, &members, |p, node| {
        let its = due.iter().filter(|d| nodes[d.node].name == node.name && !d.lost && of_member(d));
        its.for_each(|d| push(p, d));
        Ok(())
    })
}

/// Kubelets read their serving certificate and their kubeconfig once. First, since a kubelet that starts anew also forgets
/// how long it meant to wait before it tries what has failed again.
///
/// # Errors
/// Never so far.
pub fn kubelets(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let wanted = wanted(p);
    p.stage(KUBELETS, "kubelets take up their certificates", Mode::Parallel);
    for node in wanted.into_iter().filter(|n| n.is_kubernetes()) {
        prepare::kubelet(p, node);
    }
    Ok(())
}

/// Controller managers and schedulers read their kubeconfigs once. Each host's are replaced once the API server beside them
/// answers: its kubelet has just started anew, too.
///
/// # Errors
/// See [`control_plane::plan`].
pub fn control_planes(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let wanted = wanted(p).into_iter().map(|n| n.name.clone()).collect();
    p.within(wanted, control_plane::plan)
}

/// The hosts that are asked for, as far as they answer.
fn wanted<'c>(p: &Planner<'c>) -> Vec<&'c Node> {
    let asked = |n: &&Node| p.renewal.hosts.is_empty() || p.renewal.hosts.contains(&n.name);
    let there = |n: &&Node| p.seen().hosts.contains_key(&n.name);
    p.cluster.nodes.iter().filter(asked).filter(there).collect()
}

/// Members that can be waited for: those that run, or lack nothing to run but what they get; not those that nobody is to renew
/// although nobody accepts theirs. A member that stands still for another reason stands still afterwards, and a host that has
/// never been one does not become one here.
fn members<'c>(p: &Planner<'c>, wanted: &[&Node]) -> Vec<&'c Node> {
    let serves = |node: &&Node| {
        let facts = p.facts(&node.name);
        let specs = specs::specs_for(p.cluster, node);
        let mut own = specs.iter().filter(|spec| is_read(spec));
        match wanted.iter().any(|n| n.name == node.name) {
            true if facts.runs(etcd::PROCESS) => true,
            true => facts.identity.is_some() && own.any(|spec| usable(facts, spec).is_none()),
            false => facts.runs(etcd::PROCESS) && !own.any(|spec| is_lost(p, node, spec)),
        }
    };
    p.cluster.with_role(Role::Etcd).filter(serves).collect()
}

fn ours(p: &Planner<'_>, nodes: &[&Node]) -> Result<(), Refusal> {
    match nodes.iter().find(|n| !ownership::is_prepared(p.facts(&n.name))) {
        None => Ok(()),
        Some(node) => Err(Refusal {
            rule: "not-ours",
            subject: format!("certificates on {} are not renewed", node.name),
            why: "rsadm did not build this host".into(),
            help: "where kubeadm did, `kubeadm certs renew all` on the host renews them; where nobody did yet, rsadm up"
                .into(),
        }),
    }
}

/// What of a host differs from the inventory comes along with its certificates, so that has to be the host that is meant, of
/// the version that is meant; and its kubelet starts anew. All else that preflight finds, such as a disk that is nearly full,
/// is told and stands in nobody's way: a cluster whose certificates have ended cannot wait for it.
fn fit(p: &mut Planner<'_>, nodes: &[&Node]) -> Result<(), Refusal> {
    let mut those = p.cluster.clone();
    those.nodes.retain(|n| nodes.iter().any(|wanted| wanted.name == n.name));
    let grave = preflight::grave(&those, |name| p.facts(name));
    if let Some(refusal) = grave.refusal() {
        return Err(refusal);
    }
    preflight::notices(p, &preflight::inspect(&those, |name| p.facts(name), false).errors);
    Ok(())
}

/// Asked before certificates are judged by who signed them: where hosts differ, the first keeper's authority would count as the
/// cluster's, and all that another host's has signed as a stranger's.
fn signers(p: &Planner<'_>, wanted: &[&Node]) -> Result<(), Refusal> {
    let specs = wanted.iter().flat_map(|node| specs::specs_for(p.cluster, node));
    let all: BTreeSet<Ca> = specs.map(|spec| spec.ca).collect();
    all.into_iter().try_for_each(|ca| one_and_the_same(p.cluster, p.seen(), Shared::Authority(ca)))
}

fn due(p: &Planner<'_>, wanted: &[&Node]) -> Result<Vec<Due>, Refusal> {
    let mut all = Vec::new();
    for (i, node) in
        p.cluster.nodes.iter().enumerate().filter(|(_, n)| wanted.iter().any(|w| w.name == n.name))
    {
        let facts = p.facts(&node.name);
        let from = all.len();
        for spec in specs::specs_for(p.cluster, node) {
            let found = found_certificate(facts, &spec.place);
            let early = found.as_ref().and_then(|info| not_begun(info, p.now));
            let lost = is_lost(p, node, &spec);
            let why = reason(p, &node.name, &spec, None)?.or(early);
            if let Some(why) = why.or_else(|| soon(p, &spec, found.as_ref()?)) {
                all.push(Due { node: i, spec, why, lost });
            }
        }
        along_with_its_client(p, i, &mut all, from);
    }
    Ok(all)
}

/// Whether a certificate begins in its host's future, as one does that was issued where the clock was ahead.
fn not_begun(info: &CertInfo, now: OffsetDateTime) -> Option<String> {
    let begins = info.not_before;
    info.is_early(now).then(|| {
        let (hour, minute, _) = begins.to_hms();
        format!("begins on {} at {hour:02}:{minute:02} UTC, which is still to come", begins.date())
    })
}

/// Why a certificate that still holds is replaced. One that ends with its authority would only be made again, night after night.
fn soon(p: &Planner<'_>, spec: &LeafSpec, info: &CertInfo) -> Option<String> {
    let within = match p.renewal.within {
        None => return Some(format!("asked for; the old one ends on {}", info.not_after.date())),
        Some(_) if authority(p, spec.ca).is_some_and(|ca| info.ends_with(&ca)) => return None,
        Some(_) if renews_itself(spec, info, p.now) => return None,
        Some(within) => within,
    };
    info.expires_within(within, p.now).then(|| format!("ends on {}", info.not_after.date()))
}

/// A kubelet notices a new client certificate of ours when it starts, and it starts anew for its serving certificate.
fn along_with_its_client(p: &Planner<'_>, node: usize, all: &mut Vec<Due>, from: usize) {
    let has = |name: &str| all[from..].iter().any(|d| d.spec.name == name);
    if !has("kubelet-client") || has("kubelet-server") {
        return;
    }
    if let Some(spec) = specs::spec_for(p.cluster, &p.cluster.nodes[node], "kubelet-server") {
        all.push(Due { node, spec, why: "so that the kubelet starts with both".into(), lost: false });
    }
}

/// Somebody has to sign.
fn authorities(p: &Planner<'_>, due: &[Due]) -> Result<(), Refusal> {
    for Due { node, spec, .. } in due {
        let subject = format!("{} on {} cannot be renewed", spec.name, p.cluster.nodes[*node].name);
        if !p.seen().hosts.values().any(|facts| Shared::Authority(spec.ca).is_on(facts)) {
            let why = format!("the key of the {} is on no host that answers", spec.ca);
            let path = spec.ca.key_path();
            let help = format!("make a host reachable that keeps it, or put {path} back from a backup");
            return Err(Refusal { rule: "authorities", subject, why, help });
        }
        if let Some(refusal) = ending::expired(p, &p.cluster.nodes[*node].name, spec, "renewed") {
            return Err(refusal);
        }
    }
    Ok(())
}
