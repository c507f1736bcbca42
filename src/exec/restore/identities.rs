//! What hosts record of the cluster that they belong to, and of those whose place it took.

use std::{collections::BTreeMap, sync::Arc};

use super::{Restore, RestoreError};
use crate::{
    exec::run::identity,
    host::{Host, HostError, Op, Output},
    inventory::NodeName,
    layout,
    observe::Identity,
};

impl Restore<'_> {
    /// Records on the targets to which cluster they belong.
    ///
    /// # Errors
    /// Hosts on which it could not be written.
    pub async fn record(&self, cluster_id: &str) -> Result<(), RestoreError> {
        let before: Vec<Identity> = self.identities(&self.targets).await.into_values().collect();
        let op = identity(&Identity::after(&self.cluster.name, cluster_id, &before));
        self.run("record the cluster", &self.targets, |_| op.clone()).await.map(drop)
    }

    /// What hosts have recorded so far.
    async fn identities(&self, hosts: &[NodeName]) -> BTreeMap<NodeName, Identity> {
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
