//! What will be true once a step is done: by this, later phases plan against the future, and not against the past.
//!
//! `tests/converge` holds each prediction against what is observed after the step was carried out.

use super::{
    Action,
    action::{FOLDER, FRESH, UnitVerb, bundle_hash, file_hash, revision},
    shared::Shared,
};
use crate::{
    hash::sha256,
    inventory::NodeName,
    layout,
    manifests::sysctl_config,
    observe::{
        Facts, Fate, FileFact, Identity, MemberFact, Observed, WorkloadFact,
        facts::{self, KubeconfigFact, ProcessFact, ProgramFact, UnitFact},
    },
};

/// The mode that every symbolic link has.
const SYMBOLIC_LINK: u32 = 0o777;

impl Action {
    /// Changes what was seen into what will be seen once the step is done.
    pub fn predict(&self, host: &NodeName, seen: &mut Observed) {
        match self {
            Self::Apply { bundle, objects } => {
                seen.bundles.insert(bundle.clone(), bundle_hash(objects));
                seen.damaged.remove(bundle);
            }
            Self::Mark { node, labels, taints, managed } => {
                let nodes = seen.nodes.get_or_insert_default();
                nodes.entry(node.clone()).or_default().mark(labels, taints, managed);
            }
            Self::AwaitNodes { nodes } => {
                let seen = seen.nodes.get_or_insert_default();
                for node in nodes {
                    seen.entry(node.clone()).or_default().ready = true;
                }
            }
            Self::AddLearner { peer_url, .. } => seen.membership.get_or_insert_default().push(MemberFact {
                name: String::new(),
                peer_url: peer_url.clone(),
                learner: true,
                healthy: false,
                version: None,
                fate: Fate::default(),
            }),
            Self::Promote { member, peer_url } => {
                for fact in seen.membership.iter_mut().flatten().filter(|m| m.peer_url == *peer_url) {
                    (fact.name, fact.learner, fact.healthy) = (member.to_string(), false, true);
                }
            }
            Self::RemoveMember { peer_url, .. } => {
                seen.membership.iter_mut().for_each(|all| all.retain(|m| m.peer_url != *peer_url));
            }
            Self::AwaitRollout { workloads, .. } => {
                for workload in workloads {
                    let fact = seen.workloads.entry(workload.clone()).or_default();
                    *fact = WorkloadFact { noticed: true, updated: fact.wanted, ready: fact.wanted, ..*fact };
                }
            }
            Self::AwaitEtcd { .. } | Self::AwaitApi { .. } | Self::Join { .. } => {}
            local => local.predict_host(seen.hosts.entry(host.clone()).or_default()),
        }
    }

    fn predict_host(&self, facts: &mut Facts) {
        match self {
            Self::Remember { cluster, .. } => facts.begun = Some(cluster.clone()),
            Self::PutFile { path, mode, text, inputs } => {
                let sha = file_hash(text, revision(facts, inputs).as_deref());
                put(facts, path, *mode, &sha);
                facts.learn_from(path, text);
            }
            Self::PutSecret { path, secret } => {
                put(facts, path, 0o600, &sha256(secret.expose()));
            }
            Self::PutAgent { sha256: wanted } => {
                let fact = ProgramFact { url: format!("sha256:{wanted}"), kept: true };
                facts.programs.insert(layout::AGENT_NAME.into(), fact);
            }
            Self::PutShared { shared, secret, .. } => {
                if let Some(path) = shared.public_path() {
                    put(facts, &path, 0o644, FRESH);
                    if matches!(shared, Shared::Authority(_)) {
                        facts.certs.insert(path, FRESH.into());
                    }
                }
                if *secret {
                    put(facts, &shared.secret_path(), 0o600, FRESH);
                }
            }
            Self::PutCert { paths, server, .. } => predict_certificate(facts, paths, server.as_deref()),
            Self::PutKubeletConf { server } => {
                put(facts, layout::KUBELET_CONF, 0o600, FRESH);
                predict_kubeconfig(facts, layout::KUBELET_CONF, server);
            }
            Self::Folder { path, mode } => {
                if !facts.shut.remove(path) {
                    put(facts, path, *mode, FOLDER);
                }
            }
            // Nobody looks there: it may lie on a disk of another machine that does not answer.
            Self::SnapshotFolder { .. } => {}
            Self::Mode { path, mode } => {
                if let Some(file) = facts.files.get_mut(path) {
                    file.mode = *mode;
                }
            }
            Self::Remove { paths } => {
                let gone = |file: &str| paths.iter().any(|p| file == p || file.starts_with(&format!("{p}/")));
                facts.files.retain(|file, _| !gone(file));
                facts.certs.retain(|file, _| !gone(file));
                facts.keys.retain(|file, _| !gone(file));
                if gone(layout::IDENTITY) {
                    facts.identity = None;
                }
                if gone(layout::AGENT) {
                    facts.programs.remove(layout::AGENT_NAME);
                }
                if gone(layout::BACKUP_CONFIG) {
                    facts.backup_target = None;
                }
                if gone(layout::ETCD_MANIFEST) {
                    (facts.etcd_manifest, facts.etcd_image) = (None, None);
                }
            }
            Self::Install { program } => {
                let fact = ProgramFact { url: program.url.clone(), kept: true };
                facts.programs.insert(program.name.clone(), fact);
            }
            Self::Pull { images } => {
                facts.images.extend(images.iter().cloned());
                facts.images_untold = false;
            }
            Self::Unit { unit, verb, inputs } => predict_unit(facts, unit, *verb, inputs),
            Self::AwaitProcess { process, inputs } => {
                start(facts, process, inputs);
                // A member that runs has founded, or has found, its data.
                facts.etcd_data |= process == "etcd";
            }
            Self::AwaitStopped { process } => facts.processes.retain(|p| p.name != *process),
            Self::SetEtcdServers { servers, .. } => {
                put(facts, &layout::manifest_of("kube-apiserver"), 0o600, FRESH);
                for process in facts.processes.iter_mut().filter(|p| p.name == "kube-apiserver") {
                    process.etcd_servers.clone_from(servers);
                }
            }
            Self::SetEtcdImage { image, arguments, .. } => {
                put(facts, layout::ETCD_MANIFEST, 0o600, FRESH);
                for path in layout::ETCD_MANIFEST_KEPT {
                    facts.files.remove(path);
                }
                facts.etcd_image = Some(image.clone());
                let flags = facts.etcd_manifest.take().unwrap_or_default();
                facts.etcd_manifest = Some(with_arguments(&flags, arguments));
            }
            Self::SetManifestAside => {
                facts.files.remove(layout::ETCD_MANIFEST);
                (facts.etcd_manifest, facts.etcd_image) = (None, None);
            }
            Self::SetAside => {
                facts.etcd_data = false;
                facts.etcd_writer = None;
            }
            Self::RecordIdentity { cluster } => {
                put(facts, layout::IDENTITY, 0o644, FRESH);
                facts.identity = Some(Identity {
                    cluster: cluster.clone(),
                    etcd_cluster_id: FRESH.into(),
                    ..Identity::default()
                });
            }
            Self::Wipe { .. } => {
                facts.files.clear();
                facts.shut.clear();
                facts.processes.clear();
                facts.programs.clear();
                facts.units.clear();
                facts.network.clear();
                facts.cgroups.clear();
                facts.backup_target = None;
                facts.etcd_data = false;
                facts.identity = None;
                facts.begun = None;
            }
            Self::Sysctl => {
                if !facts.features.iter().any(|feature| feature == facts::BRIDGE_FILTER) {
                    facts.features.push(facts::BRIDGE_FILTER.into());
                    facts.settings.insert(facts::BRIDGE_RULES.into(), String::new());
                }
                for (key, value) in &mut facts.settings {
                    if let Some(wanted) = facts::setting_in(&sysctl_config(), key) {
                        wanted.clone_into(value);
                    }
                }
            }
            Self::HandOver { .. }
            | Self::AwaitSound
            | Self::AddLearner { .. }
            | Self::Promote { .. }
            | Self::RemoveMember { .. }
            | Self::Keep { .. }
            | Self::Commit
            | Self::AwaitServing { .. }
            | Self::AwaitApi { .. }
            | Self::Join { .. }
            | Self::AwaitEtcd { .. }
            | Self::Apply { .. }
            | Self::Mark { .. }
            | Self::AwaitNodes { .. }
            | Self::AwaitRollout { .. } => {}
        }
    }
}

fn put(facts: &mut Facts, path: &str, mode: u32, sha256: &str) {
    let fact = FileFact { mode, owner: layout::owner_of(path).into(), sha256: sha256.into() };
    facts.files.insert(path.into(), fact);
}

/// Flags, a line each, with others in the place of some.
fn with_arguments(flags: &str, replaced: &[(String, Option<String>)]) -> String {
    let now = |flag: &'_ str| match replaced.iter().find(|(old, _)| old == flag) {
        None => Some(format!("{flag}\n")),
        Some((_, new)) => new.as_ref().map(|new| format!("{new}\n")),
    };
    flags.lines().filter_map(now).collect()
}

/// The first path is the one that the certificate is read from.
fn predict_certificate(facts: &mut Facts, paths: &[String], server: Option<&str>) {
    for path in paths {
        let mode = match path.as_str() {
            layout::KUBELET_CLIENT_CURRENT => SYMBOLIC_LINK,
            path if path.ends_with(".crt") => 0o644,
            _ => 0o600,
        };
        put(facts, path, mode, FRESH);
    }
    match (paths.first(), server) {
        (Some(path), Some(server)) => predict_kubeconfig(facts, path, server),
        (Some(path), None) => drop(facts.certs.insert(path.clone(), FRESH.into())),
        (None, _) => {}
    }
}

fn predict_kubeconfig(facts: &mut Facts, path: &str, server: &str) {
    let fresh = KubeconfigFact { server: server.into(), ca: Some(FRESH.into()), cert: Some(FRESH.into()) };
    facts.kubeconfigs.insert(path.into(), fresh);
}

fn predict_unit(facts: &mut Facts, unit: &str, verb: UnitVerb, inputs: &[String]) {
    let up = verb != UnitVerb::Disable;
    facts.units.insert(unit.into(), UnitFact { active: up, enabled: up });
    match up {
        true if !inputs.is_empty() => start(facts, unit, inputs),
        true => {}
        false => facts.processes.retain(|p| p.name != unit),
    }
}

/// The process now runs with these inputs.
fn start(facts: &mut Facts, process: &str, inputs: &[String]) {
    let name = process.get(..15).unwrap_or(process).to_owned();
    facts.processes.retain(|p| p.name != name);
    let revision = Some(revision(facts, inputs).unwrap_or_else(|| FRESH.into()));
    facts.processes.push(ProcessFact { name, revision, etcd_servers: vec![] });
}
