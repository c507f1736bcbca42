//! What `etcd restore` and `etcd recover` have in common: a cluster whose old data makes room for other data.

use std::path::Path;

use time::OffsetDateTime;

use crate::{
    cli::{
        CliError, Context, Exit, InventoryArg,
        session::{Recording, Session, recorded},
    },
    etcd::status::{EtcdReport, MemberReport},
    event::{Event, Next},
    exec::{
        gate,
        members::SshMembers,
        restore::{Restore, RestoreError},
    },
    host::HostError,
    inventory::{Cluster, Node, NodeName, Role},
    layout,
    phases::UP,
    plan::Refusal,
};

/// In a token, before the survivor's name.
const RECOVERED: &str = "-recovered-from-";

/// The hosts that it is about, with their locks taken.
pub(super) struct Ground<'a> {
    pub(super) session: Session<'a>,
    context: &'a Context,
    inventory: String,
    pub(super) command: String,
    silent: Vec<HostError>,
    report: Recording,
}

impl<'a> Ground<'a> {
    /// Connects to all hosts that answer: also nodes, whose kubelets have watched. None of them is of another cluster.
    pub(super) async fn open(
        context: &'a Context,
        arg: &InventoryArg,
        command: &str,
    ) -> Result<Self, CliError> {
        let (events, report) = recorded(context);
        let (session, silent) = Session::open_what_answers(context, arg, events).await?;
        if session.fleet.hosts().is_empty() {
            return Err(CliError::unreachable(&silent, &session.cluster));
        }
        session.lock(command).await?;
        // Whoever confirms is asked for the inventory's name, which tells nothing of the hosts.
        session.belongs_despite_restore().await?;
        Ok(Self { session, context, inventory: arg.as_typed(), command: command.to_owned(), silent, report })
    }

    /// An API server that cannot be stopped would go on writing, and a member that cannot be stopped goes on serving
    /// the old data.
    pub(super) fn everybody_is_there(&self) -> Result<(), CliError> {
        let matters = |host: &NodeName| {
            self.session.cluster.node(host).is_some_and(|n| n.is(Role::Etcd) || n.is(Role::ControlPlane))
        };
        let missing: Vec<&HostError> = self.silent.iter().filter(|e| matters(e.host())).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = missing.iter().map(|e| e.host().as_str()).collect();
        let why: Vec<String> = missing.iter().map(|e| format!("{}: {}", e.host(), e.brief())).collect();
        Err(Refusal {
            rule: "everybody-fenced",
            subject: format!("etcd cannot be restored without {}", names.join(", ")),
            why: format!("{}; it would go on with the old data", why.join("; ")),
            help: "switch it off for good and take it out of the inventory, or make it reachable".into(),
        }
        .into())
    }

    /// A snapshot of another cluster would take the place of this one's objects, whose secrets and nodes it does not know.
    pub(super) fn is_its_own(&self, snapshot: Option<&str>) -> Result<(), CliError> {
        let own = &self.session.cluster.name;
        match snapshot.filter(|cluster| cluster != own) {
            None => Ok(()),
            Some(other) => Err(Refusal {
                rule: "own-snapshot",
                subject: format!("the snapshot is of the cluster {other}"),
                why: format!("the inventory's is {own}, and with it all its data would become that of {other}"),
                help: format!(
                    "choose a snapshot of {own} (rsadm etcd snapshot ls{}); other hosts that shall become {other} take \
                     an inventory with cluster_name: {other}",
                    self.inventory
                ),
            }
            .into()),
        }
    }

    /// A member at a host that the inventory does not have is fenced by nobody.
    pub(super) async fn nobody_else_serves(&self) -> Result<(), CliError> {
        let members = self.members();
        let report = gate::report(&members, OffsetDateTime::now_utc()).await;
        match strangers_that_run(&report, &self.session.cluster).first() {
            None => Ok(()),
            Some(stranger) => Err(Refusal {
                rule: "everybody-fenced",
                subject: format!("etcd cannot be made anew beside {stranger}"),
                why: "it is a member that runs, and this inventory does not know it: it would go on with the old data; \
                      nothing was stopped or changed"
                    .into(),
                help: format!(
                    "put its host into the inventory; or take it out of etcd first, while there is a quorum: rsadm up{}; \
                     or switch it off for good",
                    self.inventory
                ),
            }
            .into()),
        }
    }

    /// Members that do not answer still have the old cluster, and would go on with it.
    pub(super) fn old_cluster_elsewhere(&self) -> Option<String> {
        let is_etcd = |e: &&HostError| self.session.cluster.node(e.host()).is_some_and(|n| n.is(Role::Etcd));
        let names: Vec<&str> = self.silent.iter().filter(is_etcd).map(|e| e.host().as_str()).collect();
        (!names.is_empty()).then(|| {
            format!(
                "{} {} not answer and {} the old data. Keep {} switched off, or cut off from the others, until the \
                 folder {} there was moved away: else the old cluster comes back beside the new one.",
                names.join(", "),
                if names.len() == 1 { "does" } else { "do" },
                if names.len() == 1 { "has" } else { "have" },
                if names.len() == 1 { "it" } else { "them" },
                layout::ETCD_DATA_DIR
            )
        })
    }

    pub(super) fn etcd_hosts(&self) -> Vec<NodeName> {
        let connected = |n: &&Node| self.session.fleet.host(&n.name).is_some();
        self.session.cluster.with_role(Role::Etcd).filter(connected).map(|n| n.name.clone()).collect()
    }

    /// Asks, unless this very restore is under way already.
    pub(super) async fn confirm(&self, question: &str, sha256: &str) -> Result<(), CliError> {
        let members = self.members();
        let under_way = self.restore_to(&members, vec![]).under_way().await.map_err(|e| self.failed(e))?;
        match under_way {
            Some(token) if token.contains(&sha256[..12]) => Ok(()),
            Some(token) => Err(self.another(token)),
            None => self.context.confirm(question, &self.session.cluster.name),
        }
    }

    /// From fence to end.
    pub(super) async fn restore(
        self,
        snapshot: &Path,
        sha256: &str,
        targets: Vec<NodeName>,
    ) -> Result<Exit, CliError> {
        self.context.stop_signal()?;
        let members = self.members();
        let restore = self.restore_to(&members, targets.clone());
        let token = match restore.under_way().await.map_err(|e| self.failed(e))? {
            Some(token) => token,
            None => self.token(sha256),
        };
        restore.exchange(&token, snapshot, sha256).await.map_err(|e| self.failed(e))?;
        self.start(&restore).await?;
        let api_is_back = restore.finish().await.map_err(|e| self.failed(e))?;
        let text = format!("etcd restored on {}", crate::event::count(targets.len(), "host"));
        let up = Next::new(format!("rsadm up{}", self.inventory), "builds the control planes over it");
        let bare = !api_is_back && self.session.cluster.has_kubernetes();
        self.finish(text, bare.then_some(up))
    }

    /// Hosts that had a member start it again; those that had none get one as `up` gives it.
    async fn start(&self, restore: &Restore<'_>) -> Result<(), CliError> {
        restore.unfence_members().await.map_err(|e| self.failed(e))?;
        let seen = self.session.observe().await?;
        let lacks = |host: &NodeName| seen.hosts.get(host).is_none_or(|f| f.etcd_manifest.is_none());
        if restore.targets.iter().any(lacks) {
            restore.record("restored").await.map_err(|e| self.failed(e))?;
            let seen = self.session.observe().await?.despite_restore();
            let (plan, _) = self.session.plan(UP, seen.clone(), |phase| phase == "etcd")?;
            self.session.execute(&self.command, &plan, seen).await?;
        }
        Ok(())
    }

    /// Puts the old state back.
    pub(super) async fn roll_back(self) -> Result<Exit, CliError> {
        self.context.stop_signal()?;
        let members = self.members();
        let restore = self.restore_to(&members, self.etcd_hosts());
        let token = restore.under_way().await.map_err(|e| self.failed(e))?;
        if token.is_none() {
            return Err(CliError::new(Exit::Refused, "no restore is under way on these hosts")
                .hint("the data of finished restores is in /var/lib/rsadm/aside on each host"));
        }
        restore.roll_back().await.map_err(|e| self.failed(e))?;
        self.finish("the restore was rolled back; what it had restored is set aside".into(), None)
    }

    pub(super) fn members(&self) -> SshMembers<'_> {
        SshMembers::new(&self.session.cluster, &self.session.fleet)
    }

    pub(super) fn restore_to<'r>(
        &'r self,
        members: &'r SshMembers<'r>,
        targets: Vec<NodeName>,
    ) -> Restore<'r> {
        Restore {
            cluster: &self.session.cluster,
            fleet: &self.session.fleet,
            members,
            events: &self.session.events,
            targets,
            stop: self.context.asked_to_stop(),
            limit: self.context.options.timeout.unwrap_or(std::time::Duration::from_secs(120)),
        }
    }

    /// What hosts have, without touching it.
    pub(super) async fn diagnose(&self) -> Result<Vec<(NodeName, String)>, CliError> {
        let members = self.members();
        let restore = self.restore_to(&members, self.etcd_hosts());
        restore.diagnose().await.map_err(|e| self.failed(e))
    }

    /// A recovery that is under way: from whom, and its token.
    pub(super) async fn under_way(&self) -> Result<Option<(NodeName, String)>, CliError> {
        let members = self.members();
        let restore = self.restore_to(&members, vec![]);
        let Some(token) = restore.under_way().await.map_err(|e| self.failed(e))? else { return Ok(None) };
        match token.rsplit_once(RECOVERED) {
            Some((_, survivor)) => Ok(Some((NodeName::new(survivor), token.clone()))),
            None => Err(self.another(token)),
        }
    }

    /// Names a recovery by its survivor, so that it goes on from the same one.
    pub(super) fn recovery_token(&self, survivor: &NodeName) -> String {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        format!("{}-{now}{RECOVERED}{survivor}", self.session.cluster.name)
    }

    /// Names the restore and the new cluster: when, and from what.
    fn token(&self, sha256: &str) -> String {
        let now = OffsetDateTime::now_utc();
        format!("{}-{}-{}", self.session.cluster.name, now.unix_timestamp(), &sha256[..12])
    }

    fn another(&self, token: String) -> CliError {
        let host = self.etcd_hosts().into_iter().next().unwrap_or_else(|| NodeName::new("a host"));
        self.failed(RestoreError::Another { host, token })
    }

    pub(super) fn failed(&self, error: RestoreError) -> CliError {
        let exit = match error {
            RestoreError::Interrupted(_) => Exit::Interrupted,
            _ => Exit::StepFailed,
        };
        let hint = match error {
            RestoreError::Another { .. } => {
                format!(
                    "finish that one with its own snapshot, or: rsadm etcd restore --rollback{}",
                    self.inventory
                )
            }
            RestoreError::Interrupted(_) => format!(
                "run the same again, it goes on where it stopped; or: rsadm etcd restore --rollback{}",
                self.inventory
            ),
            _ => format!(
                "mend the cause and run the same again, it goes on where it stopped; or: rsadm etcd restore --rollback{}",
                self.inventory
            ),
        };
        CliError::new(exit, error).hint(hint)
    }

    fn finish(self, text: String, first: Option<Next>) -> Result<Exit, CliError> {
        if let Some(warning) = self.old_cluster_elsewhere() {
            self.session.events.warn(warning, None);
        }
        let status = Next::new(format!("rsadm etcd status{}", self.inventory), "shows every member");
        let next = first.into_iter().chain([status]).collect();
        self.session.events.emit(Event::Finished { text, changed: 1, elapsed: self.session.elapsed(), next });
        self.report.print(self.context)?;
        Ok(Exit::Done)
    }
}

/// Members at hosts that the inventory does not have and that answer; of the dead nothing is known, as of its own.
fn strangers_that_run(report: &EtcdReport, inventory: &Cluster) -> Vec<String> {
    let known: Vec<String> = inventory.nodes.iter().map(Node::peer_url).collect();
    let strange = |m: &&MemberReport| m.id.is_some() && !m.peer_urls.iter().any(|url| known.contains(url));
    let runs = |m: &&MemberReport| m.raft_term.is_some();
    let listed = report.members.iter().filter(strange).filter(runs);
    listed.map(|m| format!("{} ({})", m.name, m.peer_urls.join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{etcd::status::tests::Scene, manifests::testing};

    #[test]
    fn a_running_member_that_the_inventory_lacks_is_no_bystander() {
        let mut cluster = testing::ha();
        assert_eq!(strangers_that_run(&Scene::new(3).report(), &cluster), Vec::<String>::new());
        cluster.nodes.retain(|n| n.name.as_str() != "m3");
        for (scene, strangers) in [
            (Scene::new(3), vec!["m3 (https://10.0.0.3:2380)"]),
            (Scene::new(3).without_quorum(), vec!["m3 (https://10.0.0.3:2380)"]),
            (Scene::new(3).silence(3, "no route to host"), vec![]),
        ] {
            assert_eq!(strangers_that_run(&scene.report(), &cluster), strangers);
        }
    }
}
