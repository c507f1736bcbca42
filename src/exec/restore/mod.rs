//! A new logical etcd cluster out of a snapshot, on the hosts of the old one or on fresh ones.
//!
//! Order: API servers are fenced, members stop, the old data is set aside on every host, each host restores the same
//! snapshot with `etcdutl` (etcd, `op-guide/recovery.md`), members start together and agree, the restore is over, API
//! servers come back, and who watched is made to ask anew. The revision is raised and everything before it marked
//! compacted, so that no watcher sees time run backwards. All of it goes by what the hosts remember
//! ([`scripts::RESTORE`]), so an interrupted restore is run again, or rolled back. Once it is over on any host its data
//! takes writes, and a rerun only tidies up ([`over`]).

use std::{path::Path, time::Duration};

use futures::future::join_all;
use tokio::sync::watch;

use super::{aftermath, members::Members, scripts, steps::said};
use crate::{
    event::{Event, Events, Failure, count},
    host::{HostError, Op, Output, fleet::Fleet},
    inventory::{Cluster, Node, NodeName, Role},
};

mod agree;
mod elsewhere;
pub mod over;
pub mod revision;
pub mod survivors;
mod travel;

pub use elsewhere::{Absent, Running, who_runs};
use over::Ending;

/// In brackets before its lines.
const PHASE: &str = "restore";

/// How long a host may take for one step: a large database is copied and restored in minutes.
const STEP: Duration = Duration::from_secs(30 * 60);

/// Why a restore stopped half-way.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Hosts did not do what they were told; each with its words.
    #[error("{doing} failed on {}", list(.hosts))]
    Hosts {
        /// What.
        doing: String,
        /// Who, and why.
        hosts: Vec<(NodeName, String)>,
    },
    /// The snapshot could not be read or written here.
    #[error("could not {doing} {path}")]
    File {
        /// `read` or `write`.
        doing: &'static str,
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A restore of something else is under way.
    #[error("another restore is under way on {host}: {token}")]
    Another {
        /// Where.
        host: NodeName,
        /// Which.
        token: String,
    },
    /// A restore would fill their disks, on which etcd may serve.
    #[error("{}", list(.0))]
    NoRoom(Vec<(NodeName, String)>),
    /// Revisions would rise beyond what etcd can count.
    #[error("revisions would rise by {bump} over {snapshot}, which is beyond what etcd can count")]
    TooHigh {
        /// The snapshot's.
        snapshot: u64,
        /// By how much.
        bump: u64,
    },
    /// Members with the old data run that were off before.
    #[error("etcd runs again on {}, with the old data, which may be written to", names(.0))]
    Back(Vec<Running>),
    /// The operator asked to stop.
    #[error("stopped before: {0}")]
    Interrupted(String),
    /// What came after its end: it stays over, and the same again tidies up.
    #[error("{0}")]
    Over(Box<RestoreError>),
    /// The members did not come to terms.
    #[error("the restored members do not form a cluster: {0}")]
    NoAgreement(String),
}

impl RestoreError {
    fn after_the_end(self) -> Self {
        Self::Over(Box::new(self))
    }
}

fn names(running: &[Running]) -> String {
    running.iter().map(Running::to_string).collect::<Vec<_>>().join(", ")
}

fn list(hosts: &[(NodeName, String)]) -> String {
    hosts.iter().map(|(host, why)| format!("{host}: {why}")).collect::<Vec<_>>().join("; ")
}

/// What is restored.
pub struct Source<'a> {
    /// The snapshot, here.
    pub snapshot: &'a Path,
    /// Its checksum.
    pub sha256: &'a str,
    /// The newest revision in it.
    pub revision: u64,
}

/// A restore and whom it concerns.
pub struct Restore<'a> {
    /// What is wanted.
    pub cluster: &'a Cluster,
    /// Connections.
    pub fleet: &'a Fleet,
    /// Ways to the members.
    pub members: &'a dyn Members,
    /// Where to tell what happens.
    pub events: &'a Events,
    /// Where the new members will be; all connected.
    pub targets: Vec<NodeName>,
    /// Members of the old cluster that it does not reach.
    pub absent: Vec<Absent>,
    /// The etcd cluster that the snapshot is of, hexadecimal, where that is known: the new one takes its place, also on hosts
    /// that have no data of it.
    pub of: Option<String>,
    /// How long members may take to agree.
    pub limit: Duration,
    /// How long an API server may take to be ready.
    pub api_limit: Duration,
    /// True once the operator asks to stop: what runs is finished, and nothing more is begun.
    pub stop: watch::Receiver<bool>,
}

impl Restore<'_> {
    /// The old data for that of the snapshot: from the mark to members that only need to start. `token` names the restore
    /// and the new cluster.
    ///
    /// # Errors
    /// The first step that did not succeed everywhere; run again, it goes on there.
    pub async fn exchange(&self, token: &str, source: &Source<'_>) -> Result<(), RestoreError> {
        let bump = revision::bump(token, source.revision)?;
        self.has_room(source.snapshot, source.sha256).await?;
        self.begin(token).await?;
        self.deliver(source.snapshot, source.sha256).await?;
        self.fence().await?;
        self.nobody_is_back().await?;
        self.place(token, &bump.to_string()).await
    }

    /// The rest, once members start: they agree, the restore is over, API servers come back, and it is forgotten. True
    /// where there are API servers that came back; bare hosts have none yet.
    ///
    /// # Errors
    /// As in [`exchange`](Self::exchange).
    pub async fn finish(&self, token: &str) -> Result<bool, RestoreError> {
        self.await_members(token).await?;
        self.nobody_is_back().await?;
        let last = async {
            self.mark_over(token, Ending::Stays).await?;
            let back = self.unfence().await?;
            self.end(&self.everybody()).await?;
            Ok(back)
        };
        last.await.map_err(RestoreError::after_the_end)
    }

    /// Marks this restore on every host, with those that are to have members. `token` names it, and the new cluster.
    ///
    /// # Errors
    /// Where another one is under way.
    pub async fn begin(&self, token: &str) -> Result<(), RestoreError> {
        let targets = self.targets.iter().map(ToString::to_string);
        let begin: Vec<String> = words(["begin", token]).into_iter().chain(targets).collect();
        let said = self.ask("begin", &self.everybody(), |_| begin.clone()).await?;
        match said.into_iter().find(|(_, said)| said != token) {
            None => Ok(()),
            Some((host, token)) => Err(RestoreError::Another { host, token }),
        }
    }

    /// API servers first, so that nobody writes any more; then members.
    ///
    /// # Errors
    /// Hosts on which one still runs.
    pub async fn fence(&self) -> Result<(), RestoreError> {
        let control = self.control_planes();
        if !control.is_empty() {
            let title = format!("{} stopped: nobody writes any more", count(control.len(), "API server"));
            self.stage("API servers out of the way", title, &control, |_| words(["fence", "kube-apiserver"]))
                .await?;
        }
        let etcd = self.etcd_hosts();
        let title = format!("etcd stopped on {}", count(etcd.len(), "host"));
        self.stage("etcd stops", title, &etcd, |_| words(["fence", "etcd"])).await
    }

    /// Restores on every target, and sets the old data aside on every etcd host.
    ///
    /// # Errors
    /// Hosts on which it did not succeed.
    async fn place(&self, token: &str, bump: &str) -> Result<(), RestoreError> {
        let nodes: Vec<&Node> = self.targets.iter().filter_map(|host| self.cluster.node(host)).collect();
        let all: Vec<String> = nodes.iter().map(|n| format!("{}={}", n.name, n.peer_url())).collect();
        let all = all.join(",");
        let title = format!("restored on {}; old data set aside there", count(self.targets.len(), "host"));
        self.stage("the snapshot becomes a new cluster", title, &self.targets, |host| {
            let url = self.cluster.node(host).map(Node::peer_url).unwrap_or_default();
            words(["place", host.as_str(), url.as_str(), all.as_str(), token, bump])
        })
        .await
    }

    /// Members that were there start together.
    ///
    /// # Errors
    /// Hosts that did not answer.
    pub async fn unfence_members(&self) -> Result<(), RestoreError> {
        self.ask("start etcd", &self.targets, |_| words(["unfence", "etcd"])).await.map(drop)
    }

    /// API servers come back, and everybody who has watched asks anew.
    ///
    /// # Errors
    /// Hosts on which one did not come back.
    async fn unfence(&self) -> Result<bool, RestoreError> {
        let control = self.control_planes();
        let said =
            self.ask("bring the API server back", &control, |_| words(["unfence", "kube-apiserver"])).await?;
        self.serve_again(said).await
    }

    /// Waits for the API servers whose hosts said that they have one, and has everybody who watched ask anew. False where
    /// there is none.
    async fn serve_again(&self, said: Vec<(NodeName, String)>) -> Result<bool, RestoreError> {
        let back = |(host, said): (NodeName, String)| (said == "here").then_some(host);
        let control: Vec<NodeName> = said.into_iter().filter_map(back).collect();
        if control.is_empty() {
            return Ok(false);
        }
        let title = format!("{} ready", count(control.len(), "API server"));
        let stage = self.events.stage(PHASE, "API servers come back", control.iter().cloned());
        let limit = self.api_limit;
        let ready = self.run("wait for the API server", &control, |host| {
            let address = self.cluster.node(host).map(|n| n.internal_address.to_string()).unwrap_or_default();
            let url = format!("https://{address}:{}", self.cluster.api.port);
            Op::Script(scripts::AWAIT_API, vec![url, limit.as_secs().to_string()], limit * 2)
        });
        if let Err(error) = ready.await {
            if let RestoreError::Hosts { doing, hosts } = &error {
                let told = hosts.iter().map(|(host, why)| self.explain(host, doing, "kube-apiserver", why));
                join_all(told).await;
            }
            return Err(error);
        }
        stage.done(title);
        let nodes: Vec<NodeName> = self
            .cluster
            .kubernetes_nodes()
            .map(|n| n.name.clone())
            .filter(|name| self.fleet.host(name).is_some())
            .collect();
        let title = format!("controllers and kubelets of {} look anew", count(nodes.len(), "node"));
        self.stage("who watched asks anew", title, &nodes, |_| words(["relist"])).await?;
        Ok(true)
    }

    /// Puts the old state back: data, manifests, API servers. Once the data is back everywhere this restore is over, too:
    /// what is written from then on stays, however this ends.
    ///
    /// # Errors
    /// Hosts on which that did not succeed.
    pub async fn roll_back(&self, token: &str) -> Result<(), RestoreError> {
        let control = self.control_planes();
        // Before that the old cluster may serve, with hosts that this restore has not reached.
        if self.standing().await?.placed {
            self.ask("stop the API server", &control, |_| words(["fence", "kube-apiserver"])).await?;
        }
        let etcd = self.etcd_hosts();
        let restored = self.identities(&etcd).await;
        let title = format!("old data back on {}", count(etcd.len(), "host"));
        self.stage("old data comes back", title, &etcd, |_| words(["roll-back"])).await?;
        self.record_rollback(&etcd, &restored).await?;
        let last = async {
            self.mark_over(token, Ending::Undone).await?;
            self.ask("start etcd", &etcd, |_| words(["unfence", "etcd"])).await?;
            self.ask("bring the API server back", &control, |_| words(["unfence", "kube-apiserver"])).await?;
            // Nobody waits for them first: the old data may have no quorum either, and what is remembered would stand in the
            // way of every recovery from that.
            self.end(&self.everybody()).await
        };
        last.await.map_err(RestoreError::after_the_end)
    }

    /// Tells of a container that does not serve what its host says of it.
    async fn explain(&self, host: &NodeName, step: &str, container: &str, why: &str) {
        let mut failure = Failure::new(PHASE, host.clone(), step, why.to_owned());
        aftermath::explain(self.fleet, host, Some(container), &mut failure).await;
        // While a restore is not over no other command of ours is the way on.
        if failure.next.starts_with("rsadm ") {
            failure.next.clear();
        }
        self.events.emit(Event::StepFailed(failure));
    }

    async fn stage(
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

    async fn ask(
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
    async fn run(
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
    fn control_planes(&self) -> Vec<NodeName> {
        self.connected(|n| n.is(Role::ControlPlane))
    }

    /// Connected etcd hosts, also those that get no new member.
    fn etcd_hosts(&self) -> Vec<NodeName> {
        self.connected(|n| n.is(Role::Etcd))
    }

    fn everybody(&self) -> Vec<NodeName> {
        self.connected(|n| n.is(Role::Etcd) || n.is(Role::ControlPlane))
    }

    fn connected(&self, wants: impl Fn(&Node) -> bool) -> Vec<NodeName> {
        let nodes = self.cluster.nodes.iter().filter(|n| wants(n) && self.fleet.host(&n.name).is_some());
        nodes.map(|n| n.name.clone()).collect()
    }
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests;
