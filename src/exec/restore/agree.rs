//! Members that were restored come to terms, and their hosts record to which cluster they belong now.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{PHASE, Restore, RestoreError, revision, words};
use crate::{
    etcd::status::EtcdReport,
    event::count,
    exec::{ask, orphans, run::identity},
    host::{Host, HostError, Op, Output},
    inventory::{Node, NodeName},
    layout,
    observe::{Identity, facts::RESTORED, wal},
};

impl Restore<'_> {
    /// Done when all members agree, on the data that was restored.
    ///
    /// # Errors
    /// What they do not agree on.
    pub(super) async fn await_members(&self, token: &str) -> Result<(), RestoreError> {
        let stage = self.events.stage(PHASE, "members agree", self.targets.iter().cloned());
        let until = Instant::now() + self.limit;
        let targets: Vec<&Node> = self.targets.iter().filter_map(|host| self.cluster.node(host)).collect();
        loop {
            let report = ask::report(self.members).await;
            let wrong = disagreement(&report, &targets);
            match (wrong, report.cluster_id) {
                (None, Some(id)) => {
                    // No wait would change that.
                    if let Some((host, wrong)) = of_before(&report, &targets, token) {
                        self.explain(host, "start etcd", "etcd", &wrong).await;
                        return Err(RestoreError::NoAgreement(wrong));
                    }
                    self.record(&id.to_string()).await?;
                    // Alarms came along with the data.
                    orphans::disarm_restored(self.members, &report, self.events).await;
                    stage.done(format!(
                        "agreed by {}: cluster {id}, revision {}",
                        count(self.targets.len(), "member"),
                        report.revision.unwrap_or_default()
                    ));
                    return Ok(());
                }
                (Some((host, wrong)), _) if Instant::now() >= until => {
                    if let Some(host) = host {
                        self.explain(host, "start etcd", "etcd", &wrong).await;
                    }
                    return Err(RestoreError::NoAgreement(wrong));
                }
                (wrong, _) => {
                    if let (Some((_, wrong)), Some(host)) = (wrong, self.targets.first()) {
                        stage.says(host, format!("waiting for etcd: {wrong}"));
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Records on the targets to which cluster they belong.
    ///
    /// # Errors
    /// Hosts on which it could not be written.
    pub async fn record(&self, cluster_id: &str) -> Result<(), RestoreError> {
        // Hosts that kubeadm built have no record yet, and their data says it, too. Bare ones have neither, and one with the data
        // of before may come back.
        let heads = self.ask("tell whose data made room", &self.targets, |_| words(["was"])).await?;
        let written = heads.iter().filter_map(|(_, head)| wal::writer(head)).map(|writer| Identity {
            cluster: self.cluster.name.clone(),
            etcd_cluster_id: writer.cluster,
            ..Identity::default()
        });
        let recorded = self.identities(&self.targets).await.into_values();
        let mut before: Vec<Identity> = written.chain(recorded).collect();
        let of = Identity {
            cluster: self.cluster.name.clone(),
            etcd_cluster_id: RESTORED.to_owned(),
            restored_from: self.of.clone().into_iter().collect(),
            ..Identity::default()
        };
        before.push(of);
        let op = identity(&Identity::after(&self.cluster.name, cluster_id, &before));
        self.run("record the cluster", &self.targets, |_| op.clone()).await.map(drop)
    }

    /// Records on hosts that have the old data again that their cluster has taken the place of the one that was restored: a host
    /// that missed the rollback says the contrary, and is not to be believed alone.
    ///
    /// # Errors
    /// Hosts on which it could not be written.
    pub(super) async fn record_rollback(
        &self,
        hosts: &[NodeName],
        restored: &BTreeMap<NodeName, Identity>,
    ) -> Result<(), RestoreError> {
        let old = self.identities(hosts).await;
        let ids: BTreeSet<&String> = restored.values().map(|i| &i.etcd_cluster_id).collect();
        let after = |own: &Identity| {
            let is_new = |id: &String| {
                *id != own.etcd_cluster_id && id.as_str() != RESTORED && !own.replaces.contains(id)
            };
            let gone = ids.iter().copied().filter(|id| is_new(id)).cloned();
            Identity { replaces: own.replaces.iter().cloned().chain(gone).collect(), ..own.clone() }
        };
        let changed =
            old.iter().map(|(host, own)| (host, own, after(own))).filter(|(_, own, new)| *own != new);
        let records: BTreeMap<&NodeName, Op> = changed.map(|(host, _, new)| (host, identity(&new))).collect();
        let those: Vec<NodeName> = records.keys().map(|&host| host.clone()).collect();
        self.run("record the cluster", &those, |host| records[host].clone()).await.map(drop)
    }

    /// What hosts have recorded so far.
    pub(super) async fn identities(&self, hosts: &[NodeName]) -> BTreeMap<NodeName, Identity> {
        let read = |host: Arc<dyn Host>| async move {
            host.run(&[Op::Read(layout::IDENTITY.to_owned())], true).await
        };
        let answers = self.fleet.for_each(hosts, read).await;
        let text = |answer: Result<Vec<Output>, HostError>| answer.ok()?.pop().filter(Output::ok);
        let parsed = answers
            .into_iter()
            .filter_map(|(name, answer)| Some((name, serde_json::from_slice(&text(answer)?.stdout).ok()?)));
        parsed.collect()
    }
}

/// What the members on the targets do not agree on, and whose host is to tell why. They are known by where they are dialled: kubeadm gives members names
/// of nodes, which need not be those of the inventory.
fn disagreement<'n>(report: &EtcdReport, targets: &[&'n Node]) -> Option<(Option<&'n NodeName>, String)> {
    for target in targets {
        let Some(member) = report.members.iter().find(|m| m.peer_urls.contains(&target.peer_url())) else {
            return Some((Some(&target.name), format!("{} is in nobody's member list", target.name)));
        };
        if let Some(trouble) = &member.error {
            return Some((Some(&target.name), format!("{}: {trouble}", target.name)));
        }
    }
    (!report.serves).then(|| (None, "no quorum serves".to_owned()))
}

/// Who serves other data than what was put in place, and what data: revisions of that begin above all that were before. Its etcd has
/// its data elsewhere, and what only looks at whether members are well takes that for a restore.
fn of_before<'n>(report: &EtcdReport, targets: &[&'n Node], token: &str) -> Option<(&'n NodeName, String)> {
    targets.iter().find_map(|target| {
        let member = report.members.iter().find(|m| m.peer_urls.contains(&target.peer_url()))?;
        let revision = member.revision.filter(|revision| *revision < revision::least(token))?;
        let (name, folder, manifest) = (&target.name, layout::ETCD_DATA_DIR, layout::ETCD_MANIFEST);
        Some((
            name,
            format!(
                "etcd on {name} serves the data of before (revision {revision}), not what was put at {folder}: look at {manifest} \
                 there for where its data is (the hostPath of its volume, --data-dir, --config-file)"
            ),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{etcd::status::tests::Scene, manifests::testing};

    #[test]
    fn members_are_known_by_where_they_are_dialled() {
        let cluster = testing::ha();
        let targets: Vec<&Node> = cluster.nodes.iter().filter(|n| n.name.as_str() != "w1").take(3).collect();
        let mut report = Scene::new(3).report();
        for member in &mut report.members {
            member.name.push_str(".example.org");
        }
        assert_eq!(disagreement(&report, &targets), None);
        let silent = Scene::new(3).silence(3, "no answer").report();
        let on_m3 = |words: &str| Some((Some(&targets[2].name), words.to_owned()));
        assert_eq!(disagreement(&silent, &targets), on_m3("m3: no answer"));
        report.members.pop();
        assert_eq!(disagreement(&report, &targets), on_m3("m3 is in nobody's member list"));
    }

    /// kubeadm's volume of etcd may lead elsewhere, which no flag tells.
    #[test]
    fn members_with_the_data_of_before_are_no_restored_ones() {
        let cluster = testing::ha();
        let targets: Vec<&Node> = cluster.nodes.iter().filter(|n| n.name.as_str() != "w1").take(3).collect();
        let token = "prod-1795000000-0123456789ab";
        let mut scene = Scene::new(3);
        (1..=3).for_each(|n| scene.status(n).revision = 179_500_000_048_211);
        assert_eq!(of_before(&scene.report(), &targets, token), None);
        scene.status(3).revision = 48_211;
        let (host, wrong) = of_before(&scene.report(), &targets, token).unwrap();
        assert_eq!(host.as_str(), "m3");
        assert!(wrong.starts_with("etcd on m3 serves the data of before (revision 48211)"), "{wrong}");
    }
}
