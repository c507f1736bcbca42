//! The whole table, for a cluster of each kind.

use std::{collections::BTreeSet, fmt::Write as _};

use super::fixture::topologies;
use crate::{
    inventory::{Cluster, Role},
    pki::{
        authorities::{Ca, holdings, holds_service_account_keys},
        leaf::{Place, San, Usage},
        specs::{spec_for, specs_for},
    },
};

fn table(cluster: &Cluster) -> String {
    let mut text = String::new();
    for node in &cluster.nodes {
        writeln!(text, "{}", node.name).unwrap();
        for holding in holdings(node) {
            let key = if holding.key { " + key" } else { "" };
            writeln!(text, "  {}{key}: {}", holding.ca, holding.ca.cert_path()).unwrap();
        }
        if holds_service_account_keys(node) {
            writeln!(text, "  service account keys").unwrap();
        }
        for spec in specs_for(cluster, node) {
            let join = |items: Vec<String>| items.join(" ");
            let usages = join(spec.usages.iter().map(Usage::to_string).collect());
            let organization = spec.organization.map(|o| format!(", O={o}")).unwrap_or_default();
            writeln!(text, "  {}: {}", spec.name, spec.place.cert_path()).unwrap();
            writeln!(text, "    {} → CN={}{organization}; {usages}", spec.ca, spec.common_name).unwrap();
            if !spec.sans.is_empty() {
                writeln!(text, "    {}", join(spec.sans.iter().map(San::to_string).collect())).unwrap();
            }
        }
    }
    text
}

#[test]
fn the_table_of_each_topology() {
    for (name, cluster) in topologies() {
        insta::assert_snapshot!(name, table(&cluster));
    }
}

#[test]
fn the_table_is_sound_on_every_host() {
    for (topology, cluster) in topologies() {
        for node in &cluster.nodes {
            let place = format!("{topology} {}", node.name);
            let held = holdings(node);
            let mut paths = BTreeSet::new();
            let mut names = BTreeSet::new();
            for holding in &held {
                assert!(
                    paths.insert(holding.ca.cert_path()) && paths.insert(holding.ca.key_path()),
                    "{place}"
                );
            }
            for spec in specs_for(&cluster, node) {
                assert!(
                    held.iter().any(|h| h.ca == spec.ca),
                    "{place}: {} has no {} beside it",
                    spec.name,
                    spec.ca
                );
                assert!(names.insert(spec.name), "{place}: {} twice", spec.name);
                assert!(
                    paths.insert(spec.place.cert_path().to_owned()),
                    "{place}: {} shares a file",
                    spec.name
                );
                if let Place::Pair { key, .. } = &spec.place {
                    assert!(paths.insert(key.clone()), "{place}: {} shares a file", spec.name);
                }
                assert_eq!(
                    spec.usages.contains(&Usage::Server),
                    !spec.sans.is_empty(),
                    "{place}: {}",
                    spec.name
                );
                assert_eq!(spec_for(&cluster, node, spec.name).as_ref(), Some(&spec));
            }
            let keys: Vec<Ca> = held.iter().filter(|h| h.key).map(|h| h.ca).collect();
            if !node.is(Role::ControlPlane) && !node.is(Role::Etcd) {
                assert_eq!(keys, [], "{place}: a worker holds keys");
            }
            if !node.is(Role::Etcd) {
                assert!(!keys.contains(&Ca::Etcd), "{place}: etcd's key far from etcd");
            }
        }
        // Whatever must be signed, somebody holds the key for.
        let keys: BTreeSet<Ca> =
            cluster.nodes.iter().flat_map(holdings).filter(|h| h.key).map(|h| h.ca).collect();
        for spec in cluster.nodes.iter().flat_map(|n| specs_for(&cluster, n)) {
            assert!(keys.contains(&spec.ca), "{topology}: nobody can sign {}", spec.name);
        }
    }
}
