//! Which hosts a restore concerns, and how they are asked: for one verb of its script, all at once, with every failure told.

use std::time::Duration;

use super::{PHASE, Restore, RestoreError};
use crate::{
    exec::{said, scripts},
    host::{HostError, Op, Output},
    inventory::{Node, NodeName, Role},
};

/// How long a host may take for one step: a large database is copied and restored in minutes.
const STEP: Duration = Duration::from_secs(30 * 60);

impl Restore<'_> {
    pub(super) async fn stage(
        &self,
        title: &str,
        done: String,
        hosts: &[NodeName],
        args: impl Fn(&NodeName) -> Vec<String>,
    ) -> Result<(), RestoreError> {
        let stage = self.events.stage(PHASE, title, hosts.iter().cloned());
        self.ask(title, hosts, args).await?;
        stage.done(done);
        Ok(())
    }

    pub(super) async fn ask(
        &self,
        doing: &str,
        hosts: &[NodeName],
        args: impl Fn(&NodeName) -> Vec<String>,
    ) -> Result<Vec<(NodeName, String)>, RestoreError> {
        let op = |host: &NodeName| Op::Script(scripts::RESTORE, args(host), STEP);
        let outputs = self.run(doing, hosts, op).await?;
        Ok(outputs.into_iter().map(|(host, output)| (host, output.text().trim().to_owned())).collect())
    }

    /// All hosts at once; every failure is told.
    pub(super) async fn run(
        &self,
        doing: &str,
        hosts: &[NodeName],
        op: impl Fn(&NodeName) -> Op,
    ) -> Result<Vec<(NodeName, Output)>, RestoreError> {
        if *self.stop.borrow() {
            return Err(RestoreError::Interrupted(doing.to_owned()));
        }
        let answers = self.fleet.for_each(hosts, |host| {
            let op = op(host.name());
            async move { host.run(&[op], false).await }
        });
        let (mut outputs, mut failed) = (Vec::new(), Vec::new());
        for (name, answer) in answers.await {
            match answer.map(|mut outputs| outputs.pop()) {
                Ok(Some(output)) if output.ok() => outputs.push((name, output)),
                Ok(output) => failed.push((name, output.map(|o| said(&o)).unwrap_or_default())),
                Err(error) => failed.push((name, HostError::to_string(&error))),
            }
        }
        match failed.is_empty() {
            true => Ok(outputs),
            false => Err(RestoreError::Hosts { doing: doing.to_owned(), hosts: failed }),
        }
    }

    /// Connected control planes.
    pub(super) fn control_planes(&self) -> Vec<NodeName> {
        self.connected(|n| n.is(Role::ControlPlane))
    }

    /// Connected etcd hosts, also those that get no new member.
    pub(super) fn etcd_hosts(&self) -> Vec<NodeName> {
        self.connected(|n| n.is(Role::Etcd))
    }

    pub(super) fn everybody(&self) -> Vec<NodeName> {
        self.connected(|n| n.is(Role::Etcd) || n.is(Role::ControlPlane))
    }

    fn connected(&self, wants: impl Fn(&Node) -> bool) -> Vec<NodeName> {
        let nodes = self.cluster.nodes.iter().filter(|n| wants(n) && self.fleet.host(&n.name).is_some());
        nodes.map(|n| n.name.clone()).collect()
    }
}

pub(super) fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}
