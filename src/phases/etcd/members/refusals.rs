//! What stands in the way of a change of etcd's membership.

use std::collections::BTreeSet;

use super::{has_etcd, is_listed};
use crate::{
    inventory::{Cluster, Node, Role},
    layout,
    observe::{Facts, MemberFact, Observed},
    phases::{
        etcd::{PROCESS, upgrade},
        ownership,
    },
    plan::{Planner, Refusal},
    versions::{Version, etcd_join_obstacle},
};

/// Whether every member is where the inventory has its host: an `internal_address` that was edited, or an old inventory,
/// makes a member that is well look like one to be taken out, and its data like that of a newcomer. Another machine under its name
/// could not even start: of two members of one name etcd makes one (etcd, `types/urlsmap.go`).
///
/// # Errors
/// Where a member that is well is at another address than its host.
pub fn moved(cluster: &Cluster, seen: &Observed) -> Result<(), Refusal> {
    let takes_part = |n: &&Node| seen.hosts.get(&n.name).is_some_and(|f| n.is(Role::Etcd) || has_etcd(f));
    for node in cluster.nodes.iter().filter(takes_part) {
        let own = |m: &&MemberFact| m.name == node.name.as_str() && m.peer_url != node.peer_url();
        let Some(member) = seen.membership.iter().flatten().find(own).filter(|m| m.healthy) else { continue };
        let (name, wanted) = (&node.name, node.peer_url());
        return Err(Refusal {
            rule: "member-moved",
            subject: format!("{name} cannot be a member of etcd at {wanted}"),
            why: format!("it is one at {}, and it is well: there is nothing to take out", member.peer_url),
            help: format!(
                "set internal_address of {name} back; where it has to move: `rsadm etcd remove {name}` while the \
                 inventory has the old address, then change it and `{}`, which makes its certificates and its member anew",
                joins_with(seen, node, name.as_str())
            ),
        });
    }
    Ok(())
}

/// What makes a member of a host like `node`, as `host` names it: beside what others built `up` builds nothing.
pub(super) fn joins_with(seen: &Observed, node: &Node, host: &str) -> String {
    match seen.hosts.get(&node.name).is_some_and(ownership::is_adopted) {
        true => format!("rsadm etcd add {host}"),
        false => "rsadm up".to_owned(),
    }
}

/// Whether no more members leave for newcomers than stay, of those that are well and whose hosts left the inventory: one host of
/// another cluster of the same name, beside hosts of its own, would bring them that cluster's data, and take it from its members.
///
/// # Errors
/// Where more leave.
pub(super) fn most_stay(p: &Planner<'_>, joining: &[&Node], leave: &[MemberFact]) -> Result<(), Refusal> {
    let node = |m: &MemberFact| p.cluster.nodes.iter().find(|n| n.peer_url() == m.peer_url);
    let well = |m: &&MemberFact| m.healthy && !m.learner;
    let unlisted: Vec<&MemberFact> = leave.iter().filter(well).filter(|m| node(m).is_none()).collect();
    let members = p.seen().membership.iter().flatten();
    let stay: Vec<&Node> = members.filter(|m| !leave.contains(m)).filter_map(node).collect();
    if joining.is_empty() || stay.is_empty() || unlisted.len() <= stay.len() {
        return Ok(());
    }
    let told: Vec<String> = unlisted.iter().map(|m| format!("{} ({})", m.name, m.peer_url)).collect();
    let names = |nodes: &[&Node]| nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", ");
    let (stay, joining) = (names(&stay), names(joining));
    Err(Refusal {
        rule: "most-members-leave",
        subject: format!("etcd does not leave {} for {joining} at once", told.join(", ")),
        why: format!(
            "they are well and not in this inventory, and of the members that there are only {stay} would stay"
        ),
        help: format!(
            "is {stay} in the right inventory? If it is of another cluster that is called {}, too: take it out of this one. If \
             hosts are exchanged: put the others back into the inventory with the role etcd, beside {joining}; rsadm up lets the \
             new ones join; then take them out, and rsadm up lets those leave",
            p.cluster.name
        ),
    })
}

/// Two members are not chosen (etcd, `faq.md`: an even number survives no more than the odd one below it, and two no failure at
/// all). A cluster that is left with two is kept until a third is there.
pub(in crate::phases::etcd) fn two(p: &Planner<'_>) -> Refusal {
    let voters = || p.seen().membership.iter().flatten().filter(|m| !m.learner);
    let votes = |url: &str| voters().any(|m| m.peer_url == url);
    let hosts = p.cluster.with_role(Role::Etcd);
    let (old, new): (Vec<&Node>, Vec<&Node>) = hosts.partition(|n| votes(&n.peer_url()));
    let otherwise = match (&old[..], &new[..]) {
        ([old], [new]) if voters().count() == 1 => {
            format!("where the member shall move to {}: {}", new.name, moves(old.name.as_str(), new))
        }
        _ => "where a member is gone for good, its successor's line instead of its own".to_owned(),
    };
    Refusal {
        rule: "two-members",
        subject: "etcd gets no two members".into(),
        why: "if either stops, the cluster stops: two are worse than one".into(),
        help: format!("one or three hosts with the role etcd in the inventory; {otherwise}"),
    }
}

/// How the only member comes to another host: no `up` makes two of it. Who is to be a node is one before it is a member.
pub fn moves(old: &str, new: &Node) -> String {
    let name = &new.name;
    let first = match new.is_kubernetes() {
        true => format!("take the role off {name}, and rsadm up makes it a node; then "),
        false => String::new(),
    };
    format!("{first}rsadm etcd replace {old} {name}, after which {name} alone has the role in the inventory")
}

/// Hosts that missed a restore or a recovery still have the old cluster, and enough of them are a quorum of it: nothing is
/// built on top of that.
pub(in crate::phases::etcd) fn old_cluster(p: &Planner<'_>) -> Option<Refusal> {
    let old = |n: &&Node| n.is(Role::Etcd) && p.seen().old_cluster_of(&n.name).is_some();
    let hosts: Vec<&str> = p.cluster.nodes.iter().filter(old).map(|n| n.name.as_str()).collect();
    let first = hosts.first()?;
    let (verb, them) = if hosts.len() == 1 { ("has", "it") } else { ("have", "each of them") };
    Some(Refusal {
        rule: "old-cluster",
        subject: format!("{} {verb} the data of the old cluster", hosts.join(", ")),
        why: "a restore or a recovery that they missed put another in its place; what they serve is not so any more, and \
              enough of them would be a quorum of their own"
            .into(),
        help: format!(
            "rsadm etcd replace {first} sets that data aside and makes {them} a member of the present cluster, one after the \
             other; until then move {} away there",
            layout::ETCD_MANIFEST
        ),
    })
}

/// etcd, or its data, that no record connects with this cluster, nor a place in its member list.
fn is_foreign(p: &Planner<'_>, node: &Node) -> bool {
    let facts = p.facts(&node.name);
    let ours = |name: &str| name == p.cluster.name;
    match &facts.identity {
        Some(identity) => !ours(&identity.cluster),
        None => has_etcd(facts) && !is_listed(p, node) && !facts.begun.as_deref().is_some_and(ours),
    }
}

/// True where a host without a record has data that was written in the cluster that all members' hosts are in, and no etcd
/// serves it: kubeadm keeps none, and the member list has forgotten a host that was off while its member was replaced. The ID
/// alone would not do: where kubeadm founded twice at one address, both clusters have the same.
fn was_member(p: &Planner<'_>, node: &Node) -> bool {
    let facts = p.facts(&node.name);
    let id_of = |facts: &Facts| match &facts.identity {
        Some(identity) => Some(identity.etcd_cluster_id.clone()),
        None => facts.etcd_writer.as_ref().map(|writer| writer.cluster.clone()),
    };
    let serves = facts.runs(PROCESS) && !facts.etcd_leaderless;
    let may_be = facts.identity.is_none() && !serves;
    let members = p.seen().membership.iter().flatten().filter(|m| m.healthy && !m.learner);
    let host = |m: &MemberFact| p.cluster.nodes.iter().find(|n| n.peer_url() == m.peer_url);
    let ids: BTreeSet<String> = members.filter_map(host).filter_map(|n| id_of(p.facts(&n.name))).collect();
    may_be && ids.len() == 1 && id_of(facts).is_some_and(|id| ids.contains(&id))
}

/// Whether what is on a host that shall join is not another cluster's.
pub(super) fn may_join(p: &Planner<'_>, node: &Node) -> Result<(), Refusal> {
    if was_member(p, node) { Ok(()) } else { is_no_strangers(p, node, "become a member of etcd") }
}

/// Whether what is on a host that shall join or be cleared is not another cluster's.
pub(super) fn is_no_strangers(p: &Planner<'_>, node: &Node, shall: &str) -> Result<(), Refusal> {
    if !is_foreign(p, node) {
        return Ok(());
    }
    let facts = p.facts(&node.name);
    let whose = match (&facts.identity, &facts.etcd_writer) {
        (Some(i), _) => format!("of the cluster {} (etcd cluster {})", i.cluster, i.etcd_cluster_id),
        (None, Some(writer)) => format!("of {writer}"),
        (None, None) => "of an unknown cluster".to_owned(),
    };
    let what = match facts.etcd_data {
        true => format!("etcd data {whose} in {}", layout::ETCD_DATA_DIR),
        false => format!("an etcd {whose} in {}", layout::ETCD_MANIFEST),
    };
    // One that has just started does not say yet that nobody knows it any more.
    let first = if facts.runs(PROCESS) {
        "run this again in a moment, if that etcd has only just started; "
    } else {
        ""
    };
    Err(Refusal {
        rule: "foreign-data",
        subject: format!("{} cannot {shall}", node.name),
        why: format!("it has {what}"),
        help: format!("{first}if nobody needs that, move it away by hand; rsadm deletes no data"),
    })
}

/// Whether the members that there are take a new one of the inventory's version.
pub(super) fn fits(p: &Planner<'_>, node: &Node) -> Result<(), Refusal> {
    let wanted = p.cluster.release.etcd;
    // In the middle of an upgrade both are there, and on is the way that is left.
    let goes_on = |found: &Version| upgrade::is_begun(p) && *found < wanted;
    let members = p.cluster.nodes.iter().filter(|n| is_listed(p, n) && n.name != node.name);
    let versions = members.filter_map(|n| upgrade::version(p, n)).filter(|found| !goes_on(found));
    let obstacle = versions.filter_map(|found| etcd_join_obstacle(found, wanted)).next();
    let Some((why, help)) = obstacle else { return Ok(()) };
    Err(Refusal {
        rule: "etcd-version",
        subject: format!("{} cannot become a member of etcd", node.name),
        why,
        help,
    })
}
