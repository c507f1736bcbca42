//! Whether what was predicted is what came true.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use rsadm::{
    observe::{Facts, NodeFact, Observed},
    plan::action::FRESH,
};

/// Compares everything that a phase may plan with. What is only known once it is there ([`FRESH`]) matches anything.
pub(crate) fn differences(predicted: &Observed, seen: &Observed) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, seen) in &seen.hosts {
        let differ =
            predicted.hosts.get(name).map_or(vec!["nothing is predicted".to_owned()], |p| host(p, seen));
        wrong.extend(differ.into_iter().map(|line| format!("{name}: {line}")));
    }
    wrong.extend(nodes(predicted.nodes.as_ref(), seen.nodes.as_ref()));
    wrong.extend(maps("bundle", &predicted.bundles, &seen.bundles));
    wrong
}

fn host(predicted: &Facts, seen: &Facts) -> Vec<String> {
    let files = |f: &Facts| -> BTreeMap<String, (String, String, String)> {
        f.files
            .iter()
            .map(|(p, f)| (p.clone(), (format!("{:o}", f.mode), f.owner.clone(), f.sha256.clone())))
            .collect()
    };
    let mut predicted_files = files(predicted);
    let seen_files = files(seen);
    for (path, fact) in &mut predicted_files {
        if fact.2 == FRESH {
            fact.2 = seen_files.get(path).map(|f| f.2.clone()).unwrap_or_default();
        }
    }
    let mut wrong = maps("file", &predicted_files, &seen_files);
    wrong.extend(maps("process", &processes(predicted, Some(seen)), &processes(seen, None)));
    wrong.extend(maps("unit", &predicted.units, &seen.units));
    wrong.extend(maps("program", &predicted.programs, &seen.programs));
    wrong.extend(sets("shut folder", predicted.shut.iter(), seen.shut.iter()));
    wrong.extend(sets("certificate", predicted.certs.keys(), seen.certs.keys()));
    let servers =
        |f: &Facts| f.kubeconfigs.iter().map(|(path, k)| (path.clone(), k.server.clone())).collect();
    wrong.extend(maps::<String>("kubeconfig", &servers(predicted), &servers(seen)));
    wrong.extend(sets("image", predicted.images.iter(), seen.images.iter()));
    wrong.extend(one("etcd data", &predicted.etcd_data, &seen.etcd_data));
    wrong.extend(one("etcd flags", &predicted.etcd_manifest, &seen.etcd_manifest));
    wrong.extend(one("pod subnet", &predicted.pod_subnet, &seen.pod_subnet));
    wrong.extend(one("cgroups", &predicted.cgroups, &seen.cgroups));
    wrong.extend(one("pod routes", &predicted.pod_routes, &seen.pod_routes));
    wrong.extend(maps("setting", &predicted.settings, &seen.settings));
    wrong.extend(maps("network", &predicted.network, &seen.network));
    let cluster = |f: &Facts| f.identity.as_ref().map(|i| i.cluster.clone());
    wrong.extend(one("identity", &cluster(predicted), &cluster(seen)));
    wrong
}

/// Revisions by process; what could not be known is taken from what was seen.
fn processes(facts: &Facts, seen: Option<&Facts>) -> BTreeMap<String, Option<String>> {
    let revision = |p: &rsadm::observe::facts::ProcessFact| match (&p.revision, seen) {
        (Some(fresh), Some(seen)) if fresh == FRESH => seen.running_revision(&p.name).map(str::to_owned),
        (revision, _) => revision.clone(),
    };
    facts.processes.iter().map(|p| (p.name.clone(), revision(p))).collect()
}

/// Labels that a kubelet gives its own node are its own business.
fn nodes(
    predicted: Option<&BTreeMap<rsadm::inventory::NodeName, NodeFact>>,
    seen: Option<&BTreeMap<rsadm::inventory::NodeName, NodeFact>>,
) -> Vec<String> {
    let (Some(predicted), Some(seen)) = (predicted, seen) else {
        return one("nodes", &predicted.is_some(), &seen.is_some());
    };
    let mut wrong = sets("node", predicted.keys(), seen.keys());
    for (name, node) in predicted {
        let Some(found) = seen.get(name) else { continue };
        let missing = node.labels.iter().filter(|(k, v)| found.labels.get(*k) != Some(v));
        wrong.extend(missing.map(|(k, v)| format!("node {name} lacks the label {k}={v}")));
        wrong.extend(one("ready", &node.ready, &found.ready));
        wrong.extend(one("managed", &node.managed, &found.managed));
        wrong.extend(sets("taint", node.taints.iter(), found.taints.iter()));
    }
    wrong
}

fn maps<V: PartialEq + Debug>(
    kind: &str,
    predicted: &BTreeMap<String, V>,
    seen: &BTreeMap<String, V>,
) -> Vec<String> {
    let keys: BTreeSet<&String> = predicted.keys().chain(seen.keys()).collect();
    let differs = keys.into_iter().filter(|k| predicted.get(*k) != seen.get(*k));
    differs
        .map(|k| format!("{kind} {k}: predicted {:?}, found {:?}", predicted.get(k), seen.get(k)))
        .collect()
}

fn sets<'a, T: Ord + Debug + 'a>(
    kind: &str,
    predicted: impl Iterator<Item = &'a T>,
    seen: impl Iterator<Item = &'a T>,
) -> Vec<String> {
    let (predicted, seen): (BTreeSet<&T>, BTreeSet<&T>) = (predicted.collect(), seen.collect());
    let only = |who: &str, all: Vec<&&T>| {
        all.iter().map(|v| format!("{kind} {v:?}: only {who}")).collect::<Vec<_>>()
    };
    let mut wrong = only("predicted", predicted.difference(&seen).collect());
    wrong.extend(only("found", seen.difference(&predicted).collect()));
    wrong
}

fn one<T: PartialEq + Debug>(what: &str, predicted: &T, seen: &T) -> Vec<String> {
    if predicted == seen { vec![] } else { vec![format!("{what}: predicted {predicted:?}, found {seen:?}")] }
}
