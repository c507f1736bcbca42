//! Hosts that are to hold a snapshot: fresh ones get what a bundle carries, programs, certificates and images.

use super::recovery::Ground;
use crate::{
    cli::{CliError, Exit, session::Consent},
    hash::sha256,
    host::{Op, RemoteFile},
    inventory::{Node, NodeName, Role},
    layout,
    observe::{Facts, FileFact, Observed},
    phases::{UP, certs, ownership, prepare, settled},
    pki::authorities::Ca,
    plan::Refusal,
    secret::Secret,
};

impl Ground<'_> {
    /// Fresh hosts get programs, what the bundle carries, certificates and images; then they can hold data. The restore has
    /// begun there by then, or `up` would found an empty cluster with the bundle's keys; and what the hosts had before
    /// was noted, or `reset` would leave those keys.
    pub(super) async fn prepare(&self, carried: &[(String, Secret)], sha256: &str) -> Result<(), CliError> {
        let seen = self.session.observe().await?;
        let has_authority = |f: &Facts| f.files.contains_key(&Ca::Etcd.key_path());
        let fresh = !seen.hosts.values().any(has_authority);
        let image = self.session.cluster.release.etcd_image();
        let equipped = |name: &NodeName| seen.hosts.get(name).is_some_and(|f| is_equipped(f, &image));
        let nodes = &self.session.cluster.nodes;
        // Control planes may be fresh where etcd's hosts are not.
        let lacking = nodes.iter().any(|node| lacks_any(node, &seen, carried));
        if !fresh && !lacking && self.etcd_hosts().iter().all(equipped) {
            return Ok(());
        }
        has_no_others(nodes, &seen, carried)?;
        // What is built from here on is built as `up` builds it.
        settled::nodes::roles(&self.session.cluster, &seen)?;
        let members = self.session.members();
        let restore = self.restore_to(&members, self.etcd_hosts());
        restore.begin(&self.token_of(sha256).await?).await.map_err(|e| self.failed(e))?;
        self.build(&[prepare::PHASE]).await?;
        for node in nodes {
            let ops: Vec<Op> = carried
                .iter()
                .filter(|(path, _)| belongs(node, path) && at(&seen, &node.name, path).is_none())
                .map(|(path, data)| {
                    let mode = if path.ends_with(".crt") || path.ends_with(".pub") { 0o644 } else { 0o600 };
                    Op::Put(RemoteFile { path: path.clone(), mode, data: data.clone() })
                })
                .collect();
            let Some(host) = self.session.fleet.host(&node.name) else { continue };
            let on = |first: &str| self.on_or_back(first);
            let outputs = host
                .run(&ops, false)
                .await
                .map_err(|e| CliError::new(Exit::Unreachable, e).hint(on("once the host can be used, ")))?;
            if let Some(failed) = outputs.iter().find(|o| !o.ok()) {
                let text =
                    format!("{}: the authorities could not be put: {}", node.name, failed.stderr.trim());
                return Err(CliError::new(Exit::StepFailed, text).hint(on("mend the cause and ")));
            }
        }
        self.build(&[certs::PHASE, prepare::IMAGES]).await
    }

    async fn build(&self, phases: &[&str]) -> Result<(), CliError> {
        let seen = self.session.observe().await?.despite_restore();
        let (plan, _) = self.session.plan(UP, seen.clone(), |phase| phases.contains(&phase))?;
        self.session.execute(&self.command, &plan, seen, Consent::NONE).await
    }
}

/// True where a host has what it takes to restore and to run a member.
fn is_equipped(facts: &Facts, image: &String) -> bool {
    let server = format!("{}/server.crt", layout::ETCD_PKI_DIR);
    ownership::is_adopted(facts)
        || (facts.runs("containerd") && facts.images.contains(image) && facts.files.contains_key(&server))
}

/// Which hosts keep a file of a bundle, as `up` would have it.
fn belongs(node: &Node, path: &str) -> bool {
    let of_etcd = path.starts_with(layout::ETCD_PKI_DIR);
    match path {
        _ if !path.starts_with('/') => false,
        _ if of_etcd => node.is(Role::Etcd),
        _ => node.is(Role::ControlPlane),
    }
}

/// True for a host of ours, or a bare one, that is to have a file of a bundle and has none.
fn lacks_any(node: &Node, seen: &Observed, carried: &[(String, Secret)]) -> bool {
    let is_ours = seen.hosts.get(&node.name).is_some_and(|facts| !ownership::is_adopted(facts));
    is_ours && carried.iter().any(|(path, _)| belongs(node, path) && at(seen, &node.name, path).is_none())
}

/// What a host has at a path.
fn at<'a>(seen: &'a Observed, host: &NodeName, path: &str) -> Option<&'a FileFact> {
    seen.hosts.get(host)?.files.get(path)
}

/// A key that a host has is its cluster's, and is never overwritten: what it signed and encrypted would be lost.
fn has_no_others(nodes: &[Node], seen: &Observed, carried: &[(String, Secret)]) -> Result<(), Refusal> {
    let others: Vec<String> = nodes
        .iter()
        .flat_map(|node| carried.iter().map(move |(path, data)| (node, path, data)))
        .filter(|(node, path, _)| belongs(node, path))
        .filter(|(node, path, data)| {
            at(seen, &node.name, path).is_some_and(|file| file.sha256 != sha256(data.expose()))
        })
        .map(|(node, path, _)| format!("{} has another {path}", node.name))
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(Refusal {
        rule: "authorities",
        subject: "these hosts cannot take the keys of the bundle".into(),
        why: others.join("; "),
        help: "they belong to another cluster, or their keys were made anew since: restore a snapshot without keys, or \
               rsadm reset the hosts first"
            .into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::testing;

    #[test]
    fn keys_of_a_host_are_not_overwritten() {
        let nodes = testing::ha().nodes;
        let (path, name) = (Ca::Etcd.key_path(), nodes[0].name.clone());
        let carried = [(path.clone(), Secret::new("ours"))];
        let with = |bytes: &[u8]| {
            let file = FileFact { mode: 0o600, owner: "root:root".into(), sha256: sha256(bytes) };
            let mut facts = Facts::default();
            facts.files.insert(path.clone(), file);
            Observed { hosts: [(name.clone(), facts)].into(), ..Observed::default() }
        };
        assert!(has_no_others(&nodes, &Observed::default(), &carried).is_ok());
        assert!(has_no_others(&nodes, &with(b"ours"), &carried).is_ok());
        let refusal = has_no_others(&nodes, &with(b"theirs"), &carried).unwrap_err();
        assert_eq!(refusal.why, format!("{name} has another {path}"));
        assert!(has_no_others(&nodes, &with(b"theirs"), &[]).is_ok());
    }

    #[test]
    fn a_control_plane_that_is_fresh_gets_its_keys_beside_an_etcd_that_is_not() {
        let cluster = testing::external_etcd();
        let carried = [Ca::Etcd, Ca::Cluster].map(|ca| (ca.key_path(), Secret::new("ours")));
        let file = FileFact { mode: 0o600, owner: "root:root".into(), sha256: sha256(b"ours") };
        let with = |paths: &[String], kubelet: bool| {
            let files = paths.iter().map(|path| (path.clone(), file.clone())).collect();
            let mut facts = Facts { files, ..Facts::default() };
            if kubelet {
                facts.files.insert(layout::KUBELET_CONF.into(), file.clone());
            }
            facts
        };
        for (name, facts, lacks) in [
            ("e1", with(&[Ca::Etcd.key_path()], false), false),
            ("e1", with(&[], false), true),
            ("c1", with(&[Ca::Cluster.key_path()], false), false),
            ("c1", with(&[], false), true),
            ("c1", with(&[], true), false),
            ("w1", with(&[], false), false),
        ] {
            let node = testing::node(&cluster, name);
            let seen = Observed { hosts: [(node.name.clone(), facts)].into(), ..Observed::default() };
            assert_eq!(lacks_any(node, &seen, &carried), lacks, "{name}");
        }
    }
}
