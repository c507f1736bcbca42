//! Members on hosts that the inventory does not have, or has without the role etcd: nobody stops them, and nobody looks at
//! what they have. `etcd add` and `etcd replace` give the vote to such hosts, and the role may have been taken off since.

use crate::{
    etcd::status::{EtcdReport, MemberReport},
    exec::restore::Absent,
    inventory::{Cluster, Node, Role},
    layout,
    observe::{Facts, Observed},
    plan::Refusal,
};

/// Whether none of them answers; of the dead nothing is known, as of the inventory's own.
///
/// # Errors
/// Where one does.
pub(super) fn runs_none(report: &EtcdReport, cluster: &Cluster, inventory: &str) -> Result<(), Refusal> {
    let runs = |m: &&MemberReport| m.raft_term.is_some();
    let Some(stranger) = report.strangers().find(runs) else { return Ok(()) };
    let host = cluster.nodes.iter().find(|n| stranger.peer_urls.contains(&n.peer_url()));
    let (unknown, way_out) = match host {
        Some(Node { name, .. }) => (
            format!("{name} has not the role etcd in this inventory"),
            format!("give {name} the role etcd in the inventory, then run this again"),
        ),
        None => (
            "this inventory does not know it".to_owned(),
            "put its host into the inventory, with the role etcd".to_owned(),
        ),
    };
    Err(Refusal {
        rule: "everybody-fenced",
        subject: format!(
            "etcd cannot be made anew beside {} ({})",
            stranger.name,
            stranger.peer_urls.join(", ")
        ),
        why: format!(
            "it is a member that runs, and {unknown}: it would go on with the old data; nothing was stopped or changed"
        ),
        help: format!(
            "{way_out}; or take it out of etcd first, while there is a quorum and its host is in the inventory: rsadm etcd \
             remove{inventory} {}; or switch it off for good",
            host.map_or("HOST", |n| n.name.as_str())
        ),
    })
}

/// All of them, as far as others told.
pub(super) fn all(report: &EtcdReport) -> Vec<Absent> {
    let dialled =
        |m: &MemberReport| Some(Absent { name: m.name.clone(), client_url: m.client_urls.first()?.clone() });
    report.strangers().filter_map(dialled).collect()
}

/// Whether no host without the role has a member that runs, or that its kubelet would start: where no other member answers,
/// nobody lists it.
///
/// # Errors
/// Where one has.
pub(super) fn none_is_built(cluster: &Cluster, seen: &Observed) -> Result<(), Refusal> {
    // A process of that name alone may be of somebody's pod.
    let has = |f: &Facts| f.etcd_manifest.is_some() || f.etcd_data && f.runs("etcd");
    let others: Vec<&str> = cluster
        .nodes
        .iter()
        .filter(|n| !n.is(Role::Etcd) && seen.hosts.get(&n.name).is_some_and(has))
        .map(|n| n.name.as_str())
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    let names = others.join(", ");
    let verb = if others.len() == 1 { "has" } else { "have" };
    Err(Refusal {
        rule: "everybody-fenced",
        subject: format!("etcd cannot be made anew beside the etcd of {names}"),
        why: format!(
            "one is built there, and {names} {verb} not the role etcd in the inventory: nobody would stop it, it would go on \
             with the old data, and nobody looks at what it has"
        ),
        help: format!(
            "give {names} the role etcd in the inventory, then run this again; where that is no member any more, end it: move \
             {} away there; nothing was stopped or changed",
            layout::ETCD_MANIFEST
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        etcd::status::tests::Scene, inventory::NodeName, manifests::testing, observe::facts::ProcessFact,
    };

    /// By an inventory that has other hosts for etcd.
    fn seen_by(scene: &Scene, cluster: &Cluster) -> EtcdReport {
        let mut report = scene.report();
        for member in &mut report.members {
            let is_at = |n: &Node| member.peer_urls.contains(&n.peer_url());
            member.in_inventory = cluster.with_role(Role::Etcd).any(is_at);
        }
        report
    }

    #[test]
    fn a_running_member_that_the_inventory_lacks_is_no_bystander() {
        let whole = testing::ha();
        let (mut gone, mut without_role) = (whole.clone(), whole.clone());
        gone.nodes.retain(|n| n.name.as_str() != "m3");
        without_role.nodes[2].roles.retain(|role| *role != Role::Etcd);
        let (runs, down) = (Scene::new(3), Scene::new(3).silence(3, "no route to host"));
        for (cluster, scene, help) in [
            (&whole, &runs, None),
            (&gone, &runs, Some("put its host into the inventory, with the role etcd; or")),
            (&gone, &Scene::new(3).without_quorum(), Some("put its host into the inventory")),
            (&gone, &down, None),
            (&without_role, &runs, Some("give m3 the role etcd in the inventory, then run this again; or")),
            (&without_role, &down, None),
        ] {
            let said = runs_none(&seen_by(scene, cluster), cluster, "");
            assert_eq!(said.is_err(), help.is_some());
            if let (Err(refusal), Some(help)) = (said, help) {
                assert!(refusal.subject.ends_with("beside m3 (https://10.0.0.3:2380)"), "{refusal}");
                assert!(refusal.help.starts_with(help), "{refusal}");
                assert!(
                    refusal.help.contains("rsadm etcd remove ") && !refusal.help.contains("rsadm up"),
                    "{refusal}"
                );
            }
        }
        // One that is silent is dialled again before anything takes its place.
        for (cluster, known) in [(&whole, 0), (&gone, 1), (&without_role, 1)] {
            assert_eq!(all(&seen_by(&down, cluster)).len(), known);
        }
    }

    #[test]
    fn a_member_on_a_host_without_the_role_is_told_where_nobody_lists_it() {
        let cluster = testing::ha();
        let process = ProcessFact { name: "etcd".into(), revision: None, etcd_servers: vec![] };
        let built = Facts { etcd_manifest: Some(String::new()), ..Facts::default() };
        let in_a_pod = Facts { processes: vec![process], ..Facts::default() };
        let orphaned = Facts { etcd_data: true, ..in_a_pod.clone() };
        let set_aside = Facts { etcd_data: true, ..Facts::default() };
        for (host, facts, refused) in [
            ("m1", &built, false),
            ("w1", &built, true),
            ("w1", &orphaned, true),
            ("w1", &in_a_pod, false),
            ("w1", &set_aside, false),
        ] {
            let hosts = [(NodeName::new(host), facts.clone())].into();
            let said = none_is_built(&cluster, &Observed { hosts, ..Observed::default() });
            assert_eq!(said.is_err(), refused, "{host}");
            if let Err(refusal) = said {
                assert!(refusal.help.starts_with("give w1 the role etcd"), "{refusal}");
            }
        }
    }
}
