//! What `etcd restore` and `etcd recover` have in common: a cluster whose old data makes room for other data.

use std::{
    collections::BTreeSet,
    fs::File,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tempfile::TempDir;
use time::OffsetDateTime;

use super::guards::lacks_manifest;
use crate::{
    backup::structure::inspect,
    cli::{
        CliError, Context, Exit, InventoryArg,
        session::{Consent, Recording, Session, recorded},
    },
    event::{Event, Next, count},
    exec::{
        ask, causes,
        members::SshMembers,
        restore::{Absent, Restore, RestoreError, Source, over::Standing, revision},
    },
    host::HostError,
    inventory::{Node, NodeName, Role},
    phases::{
        self, UP,
        etcd::{self, members},
    },
    until::until,
};

/// How long members may take to serve that were started anew, which they do within seconds.
const STARTED: Duration = Duration::from_secs(30);

/// A recovery that has begun.
pub(super) struct UnderWay {
    /// Whose data it takes.
    pub(super) survivor: NodeName,
    pub(super) token: String,
    /// True where its data is in place on some host.
    pub(super) placed: bool,
    /// Where it has begun.
    pub(super) hosts: BTreeSet<NodeName>,
}

/// The hosts that it is about, with their locks taken.
pub(super) struct Ground<'a> {
    pub(super) session: Session<'a>,
    context: &'a Context,
    pub(super) inventory: String,
    pub(super) command: String,
    pub(super) silent: Vec<HostError>,
    /// Members at hosts that the inventory does not have, as far as others told.
    pub(super) strangers: Mutex<Vec<Absent>>,
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
            return Err(session.not_begun(&silent));
        }
        session.lock(command).await?;
        // Whoever confirms is asked for the inventory's name, which tells nothing of the hosts.
        session.belongs_despite_restore().await?;
        let (inventory, command, strangers) = (arg.as_typed(), command.to_owned(), Mutex::default());
        Ok(Self { session, context, inventory, command, silent, strangers, report })
    }

    pub(super) fn etcd_hosts(&self) -> Vec<NodeName> {
        let connected = |n: &&Node| self.session.fleet.host(&n.name).is_some();
        self.session.cluster.with_role(Role::Etcd).filter(connected).map(|n| n.name.clone()).collect()
    }

    /// Whoever is asked whether all data shall go knows that the new fits.
    pub(super) async fn has_room(&self, snapshot: &Path, sha256: &str) -> Result<(), CliError> {
        let members = self.session.members();
        let restore = self.restore_to(&members, self.etcd_hosts());
        restore.has_room(snapshot, sha256).await.map_err(|e| self.failed(e))
    }

    /// The same for a recovery, before anything is stopped for it.
    pub(super) async fn has_room_to_replay(&self, survivor: &NodeName) -> Result<(), CliError> {
        let members = self.session.members();
        let restore = self.restore_to(&members, self.etcd_hosts());
        restore.has_room_to_replay(survivor).await.map_err(|e| self.failed(e))
    }

    /// Asks, unless this very restore is under way already and its data is in place somewhere: before that the cluster may
    /// have served again since somebody was asked.
    pub(super) async fn confirm(&self, question: &str, sha256: &str) -> Result<(), CliError> {
        let standing = self.standing().await?;
        match standing.under_way {
            Some(token) if !token.contains(&sha256[..12]) => Err(self.another(token)),
            Some(_) if standing.placed => Ok(()),
            _ => self.context.confirm(question, &self.session.cluster.name),
        }
    }

    /// Which restores the hosts remember.
    pub(super) async fn standing(&self) -> Result<Standing, CliError> {
        let members = self.session.members();
        self.restore_to(&members, vec![]).standing().await.map_err(|e| self.failed(e))
    }

    /// Takes away what is left of restores that are over: their data takes writes, and nothing of them is done again. Answers how
    /// they stood.
    pub(super) async fn tidy_up(&self) -> Result<Standing, CliError> {
        let standing = self.standing().await?;
        if standing.over.is_empty() {
            return Ok(standing);
        }
        self.context.stop_signal()?;
        let members = self.session.members();
        let restore = self.restore_to(&members, vec![]);
        restore.tidy_up(&standing).await.map_err(|e| self.failed(e))?;
        Ok(standing)
    }

    /// True once etcd serves, for which members that have just been started get a moment.
    pub(super) async fn comes_to_serve(&self) -> bool {
        let serves = async || ask::report(&self.session.members()).await.serves;
        until(STARTED, Duration::from_millis(500), serves, |serves| *serves).await
    }

    /// Ends a command whose restore was over before it began.
    pub(super) fn was_over(self) -> Result<Exit, CliError> {
        self.finish(
            "this restore was over already, its data stays: only what was left of it was tidied up".into(),
            None,
        )
    }

    /// The name of the restore of this snapshot: that which hosts remember, or a new one.
    pub(super) async fn token_of(&self, sha256: &str) -> Result<String, CliError> {
        let standing = self.standing().await?;
        if let Some(token) = standing.under_way {
            return Ok(token);
        }
        let moment = revision::moment(&self.session.members(), &standing).await;
        Ok(revision::of_snapshot(&self.session.cluster.name, moment, sha256))
    }

    /// From fence to end; `of` is the etcd cluster that the snapshot is of, where that is known.
    pub(super) async fn restore(
        self,
        snapshot: &Path,
        sha256: &str,
        of: Option<String>,
        targets: Vec<NodeName>,
    ) -> Result<Exit, CliError> {
        self.context.stop_signal()?;
        let members = self.session.members();
        let restore = Restore { of, ..self.restore_to(&members, targets.clone()) };
        let source = Source { snapshot, sha256, revision: revision_of(snapshot)? };
        let token = self.token_of(sha256).await?;
        restore.exchange(&token, &source).await.map_err(|e| self.failed(e))?;
        self.start(&restore).await?;
        let api_is_back = restore.finish(&token).await.map_err(|e| self.failed(e))?;
        let text = format!("etcd restored on {}", count(targets.len(), "host"));
        let up = Next::new(format!("rsadm up{}", self.inventory), "builds the control planes over it");
        let bare = !api_is_back && self.session.cluster.has_kubernetes();
        self.finish(text, bare.then_some(up))
    }

    /// Hosts that had a member start it again; those that had none get one as `up` gives it.
    async fn start(&self, restore: &Restore<'_>) -> Result<(), CliError> {
        restore.unfence_members().await.map_err(|e| self.failed(e))?;
        let seen = self.session.observe().await?;
        if restore.targets.iter().any(|host| lacks_manifest(&seen, host)) {
            restore.record("restored").await.map_err(|e| self.failed(e))?;
            let seen = self.session.observe().await?.despite_restore();
            let cluster = members::with_their_quota(&self.session.cluster, &seen);
            let (plan, _) = phases::plan(UP, &cluster, seen.clone(), OffsetDateTime::now_utc(), |phase| {
                phase == etcd::PHASE
            })?;
            let (session, command) = (&self.session, &self.command);
            session.execute_for(&cluster, command, &plan, seen, Consent::NONE).await?;
        }
        Ok(())
    }

    /// Puts the old state back.
    pub(super) async fn roll_back(self) -> Result<Exit, CliError> {
        let over = self.tidy_up().await?;
        let standing = self.standing().await?;
        if standing.bare {
            return Err(CliError::new(Exit::Refused, "there is nothing to put back: these hosts were bare").hint(
                format!(
                    "rsadm etcd restore{0} with the same snapshot goes on; rsadm reset{0} makes them bare again",
                    self.inventory
                ),
            ));
        }
        if standing.under_way.is_none() && over.was_rolled_back() {
            let text = "the restore was rolled back already: where that was missing it was done";
            return self.end(text.into(), None);
        }
        self.can_be_rolled_back(&standing)?;
        let Some(token) = standing.under_way else {
            let text = match standing.over.is_empty() && over.over.is_empty() {
                true => "no restore is under way on these hosts",
                false => "the restore was over and is not rolled back; what was left of it was tidied up",
            };
            return Err(CliError::new(Exit::Refused, text)
                .hint("the data of finished restores is in /var/lib/rsadm/aside on each host"));
        };
        let members = self.session.members();
        if standing.placed && ask::report(&members).await.serves {
            let question = format!(
                "The members that were restored serve by now. What clients have written to them since is not in the old data \
                 of the cluster {}: it is set aside with theirs.",
                self.session.cluster.name
            );
            self.context.confirm(&question, &self.session.cluster.name)?;
        }
        self.context.stop_signal()?;
        let restore = self.restore_to(&members, self.etcd_hosts());
        restore.roll_back(&token).await.map_err(|e| self.failed(e))?;
        if !self.comes_to_serve().await {
            let help = format!("rsadm etcd status{} tells who is missing", self.inventory);
            self.session.events.warn("etcd has its old data again, and no quorum so far", Some(help));
        }
        self.end("the restore was rolled back; what it had restored is set aside".into(), None)
    }

    /// Members that no restore stops: on hosts that cannot be logged in to, or that the inventory does not have.
    pub(super) fn absent(&self) -> Vec<Absent> {
        let silent = self.silent_etcd_hosts().into_iter();
        let silent = silent.map(|n| Absent { name: n.name.to_string(), client_url: n.client_url() });
        let strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        silent.chain(strangers).collect()
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
            absent: self.absent(),
            of: None,
            stop: self.context.asked_to_stop(),
            limit: self.context.limit(),
            api_limit: self.context.api_limit(),
        }
    }

    /// A recovery that is under way.
    pub(super) async fn under_way(&self) -> Result<Option<UnderWay>, CliError> {
        let standing = self.standing().await?;
        let Some(token) = standing.under_way else { return Ok(None) };
        match revision::survivor_in(&token) {
            Some(survivor) => {
                Ok(Some(UnderWay { survivor, token, placed: standing.placed, hosts: standing.hosts }))
            }
            None => Err(self.another(token)),
        }
    }

    /// Names a recovery.
    pub(super) async fn recovery_token(&self, survivor: &NodeName) -> Result<String, CliError> {
        let moment = revision::moment(&self.session.members(), &self.standing().await?).await;
        Ok(revision::of_survivor(&self.session.cluster.name, moment, survivor))
    }

    fn another(&self, token: String) -> CliError {
        let host = self.etcd_hosts().into_iter().next().unwrap_or_else(|| NodeName::new("a host"));
        self.failed(RestoreError::Another { host, token })
    }

    pub(super) fn failed(&self, error: RestoreError) -> CliError {
        let (exit, hint) = self.told(&error);
        let cause = causes::likely(&error.to_string(), &[]);
        let mend = cause.map(|c| format!("likely: {}; {}\n", c.why, c.next.replace("on HOST: ", "there: ")));
        CliError::new(exit, error).hint(mend.unwrap_or_default() + &hint)
    }

    /// How a command ends with that, and the way on.
    fn told(&self, error: &RestoreError) -> (Exit, String) {
        match error {
            RestoreError::Another { .. } => {
                let inventory = &self.inventory;
                let way = format!(
                    "finish that one with its own snapshot, or: rsadm etcd restore{inventory} --rollback"
                );
                (Exit::StepFailed, way)
            }
            RestoreError::NoRoom(_) => {
                let (aside, data) = (crate::layout::ASIDE_DIR, crate::layout::ETCD_DATA_DIR);
                let way = format!(
                    "make room there and run the same again: old data in {aside}, or in {data}/aside where that is a disk of its \
                     own, may go, if nobody needs it, but for the newest, without which a restore that has begun cannot be rolled back"
                );
                (Exit::Refused, way)
            }
            RestoreError::TooHigh { .. } => {
                let way = "choose a snapshot with lower revisions; or build the cluster anew and apply its objects again";
                (Exit::Refused, way.to_owned())
            }
            RestoreError::Back(_) => {
                let way = format!(
                    "rsadm etcd restore{} --rollback puts the old data back here, and the old members serve together; or \
                     switch them off for good and run the same again, without what only they know",
                    self.inventory
                );
                (Exit::Refused, way)
            }
            RestoreError::NoAgreement(_) => {
                let way = format!(
                    "mend the cause and run the same again, it goes on where it stopped; rsadm etcd restore{} --rollback puts \
                     the old data back, without what clients have written to those that serve by now",
                    self.inventory
                );
                (Exit::StepFailed, way)
            }
            RestoreError::File { doing: "write", .. } => {
                let mend = "make room there, or name another folder in TMPDIR, and ";
                (Exit::StepFailed, self.on_or_back(mend))
            }
            RestoreError::Over(inner) => {
                let way = "mend the cause, if there is one, and run the same again: the data is in place for good, and only what \
                           waits for it is left to do";
                match **inner {
                    RestoreError::Interrupted(_) => (Exit::Interrupted, way.to_owned()),
                    _ => (Exit::StepFailed, way.to_owned()),
                }
            }
            RestoreError::Interrupted(_) => (Exit::Interrupted, self.on_or_back("")),
            _ => (Exit::StepFailed, self.on_or_back("mend the cause and ")),
        }
    }

    /// The two ways from a restore that stopped in the middle, the first behind what has to be done before.
    pub(super) fn on_or_back(&self, first: &str) -> String {
        let inventory = &self.inventory;
        format!(
            "{first}run the same again, it goes on where it stopped; or: rsadm etcd restore{inventory} --rollback"
        )
    }

    fn finish(self, text: String, first: Option<Next>) -> Result<Exit, CliError> {
        for warning in self.old_cluster_elsewhere().into_iter().chain(self.control_planes_elsewhere()) {
            self.session.events.warn(warning, None);
        }
        self.end(text, first)
    }

    /// The same where the old cluster is the one that goes on: hosts that are away are to come back to it as they are.
    fn end(self, text: String, first: Option<Next>) -> Result<Exit, CliError> {
        let status = Next::new(format!("rsadm etcd status{}", self.inventory), "shows every member");
        let next = first.into_iter().chain([status]).collect();
        self.session.events.emit(Event::Finished { text, changed: 1, elapsed: self.session.elapsed(), next });
        self.report.print(self.context)?;
        Ok(Exit::Done)
    }
}

/// A folder for snapshots that only the operator can read, for as long as a command runs.
pub(super) fn scratch() -> Result<TempDir, CliError> {
    tempfile::tempdir().map_err(|error| {
        let text = format!("no folder for temporary files could be made: {error}");
        CliError::new(Exit::StepFailed, text).hint(
            "make room there, or name another folder, with room for a snapshot: TMPDIR=/var/tmp rsadm …",
        )
    })
}

/// The newest revision in a snapshot.
fn revision_of(snapshot: &Path) -> Result<u64, CliError> {
    let unreadable = |why: String| CliError::new(Exit::Refused, format!("{}: {why}", snapshot.display()));
    let mut file = File::open(snapshot).map_err(|e| unreadable(e.to_string()))?;
    let size = file.metadata().map_err(|e| unreadable(e.to_string()))?.len();
    Ok(inspect(&mut file, size).map_err(|e| unreadable(e.to_string()))?.revision)
}
