//! What commands that touch hosts have in common: connecting to all, looking around, doing what is planned.

use std::{sync::Arc, time::Duration};

use crate::{
    cli::{
        CliError, Context, Exit, GateArgs, InventoryArg,
        context::names_the_cluster,
        evidence,
        literal::typed,
        local,
        unreachable::{unusable, way_without},
    },
    event::{Event, Events, count, summary},
    exec::{lookup::look_up, members::SshMembers},
    host::{
        HostError,
        fleet::{Fleet, PATIENCE},
        ssh::{ControlDir, Options},
    },
    inventory::{Cluster, Node, NodeName, Role},
    observe::{Observed, gather, gather_hosts_that_answer, gather_what_answers},
    phases,
};

mod recording;
mod run;

pub(super) use recording::{Recording, recorded, recorded_unless};
pub(super) use run::ended;

/// When every host's report is due where some may be missing: half a second on an idle host, and busy ones are not dead.
const FACTS_DUE: Duration = Duration::from_secs(30);

/// Whether the operator accepts the loss of etcd's quorum. What carries out a plan takes one, so that no command has the option and
/// forgets to ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Consent(bool);

impl Consent {
    /// Of a command that has no such option.
    pub(super) const NONE: Self = Self(false);

    /// True where it was given.
    pub(super) fn is_given(self) -> bool {
        self.0
    }
}

/// A cluster and the connections to its hosts.
pub(super) struct Session<'a> {
    pub(super) context: &'a Context,
    pub(super) cluster: Cluster,
    pub(super) fleet: Fleet,
    /// How many hosts were dialled.
    asked: usize,
    pub(super) events: Events,
    pub(super) started: std::time::Instant,
}

impl<'a> Session<'a> {
    /// Reads the inventory of a cluster that is to become what it says and connects to every host; nothing was done where
    /// one cannot be reached.
    pub(super) async fn to_build(
        context: &'a Context,
        arg: &InventoryArg,
        events: Events,
        gate: &GateArgs,
    ) -> Result<Self, CliError> {
        let cluster = context.load_to_build(arg)?.cluster;
        names_the_cluster(gate, &cluster.name)?;
        Self::with_all(context, arg, cluster, events).await
    }

    /// The same for commands that change a cluster that is there and pass the quorum gate.
    pub(super) async fn open_gated(
        context: &'a Context,
        arg: &InventoryArg,
        events: Events,
        gate: &GateArgs,
    ) -> Result<Self, CliError> {
        Self::with_all(context, arg, context.load_gated(arg, gate)?, events).await
    }

    async fn with_all(
        context: &'a Context,
        arg: &InventoryArg,
        cluster: Cluster,
        events: Events,
    ) -> Result<Self, CliError> {
        let (session, errors) = Self::connect(context, cluster, events, |_| true, None).await?;
        match errors.is_empty() {
            true => Ok(session),
            false => Err(session.incomplete(&errors, arg)),
        }
    }

    /// The same with those hosts that answer, for commands that are wanted most where some are lost: a restore, a recovery.
    pub(super) async fn open_what_answers(
        context: &'a Context,
        arg: &InventoryArg,
        events: Events,
    ) -> Result<(Self, Vec<HostError>), CliError> {
        Self::connect(context, context.load(arg)?.cluster, events, |_| true, None).await
    }

    /// The same with hosts that may be some of a cluster, for a reset.
    pub(super) async fn open_part(
        context: &'a Context,
        arg: &InventoryArg,
        events: Events,
    ) -> Result<(Self, Vec<HostError>), CliError> {
        Self::connect(context, context.load_part(arg)?.cluster, events, |_| true, None).await
    }

    /// Connects to the wanted hosts only, and gives up soon on those that do not answer: for commands that tell how
    /// things are, most of all when they are bad. Of hosts that cannot be used the errors come back; where that is all
    /// of them, nothing can be told, and it is an error.
    pub(super) async fn look(
        context: &'a Context,
        arg: &InventoryArg,
        patience: Duration,
        wants: impl Fn(&Node) -> bool,
    ) -> Result<(Self, Vec<HostError>), CliError> {
        let cluster = context.load(arg)?.cluster;
        let (session, errors) =
            Self::connect(context, cluster, Events::none(), wants, Some(patience)).await?;
        match session.fleet.hosts().is_empty() {
            true => Err(session.unreachable(&errors)),
            false => Ok((session, errors)),
        }
    }

    /// Connects to the control planes that answer; for commands that need one of them.
    pub(super) async fn control_planes(context: &'a Context, arg: &InventoryArg) -> Result<Self, CliError> {
        let control_planes = |n: &Node| n.is(Role::ControlPlane);
        let (session, _) = Self::look(context, arg, Duration::from_secs(5), control_planes).await?;
        Ok(session)
    }

    /// Connects to whom `wants` says, of a cluster that was read already, so that what the command line names could be looked for in it.
    /// Of hosts that cannot be used the errors come back.
    pub(super) async fn connect(
        context: &'a Context,
        mut cluster: Cluster,
        events: Events,
        wants: impl Fn(&Node) -> bool,
        patience: Option<Duration>,
    ) -> Result<(Self, Vec<HostError>), CliError> {
        let started = std::time::Instant::now();
        local::keys_are_there(&cluster)?;
        cluster.network_manifests = local::network_manifests(&cluster)?;
        let events = typed(&evidence::kept(&events, &cluster.name), context.inventory());
        let sudo_password = context.sudo_password()?;
        let connecting = context.connecting()?;
        events.emit(Event::RunStarted { cluster: cluster.name.clone(), summary: summary(&cluster) });
        let control_dir = ControlDir::create().map_err(|e| {
            CliError::new(Exit::Usage, e)
                .hint("name a folder of yours, by a short path: TMPDIR=/var/tmp rsadm …")
        })?;
        let control_dir = Arc::new(control_dir);
        let given = context.options.timeout.unwrap_or_default();
        let options = Options { control_dir, sudo_password, patience: given };
        let nodes: Vec<&Node> = cluster.nodes.iter().filter(|n| wants(n)).collect();
        if nodes.is_empty() {
            // Every cluster has etcd hosts, so it was control planes that were wanted.
            let text = format!("cluster {} is etcd alone: it has no Kubernetes API", cluster.name);
            return Err(CliError::new(Exit::Usage, text));
        }
        let names = nodes.iter().map(|n| n.name.clone());
        let stage = events.stage("connect", format!("to {}", count(nodes.len(), "host")), names);
        let patience = context.options.timeout.or(patience).unwrap_or(PATIENCE);
        let (fleet, errors) =
            Fleet::connect(&nodes, context.options.concurrency.get(), &options, patience).await;
        if errors.is_empty() {
            stage.done(connected(fleet.hosts().len(), fleet.new_keys().len()));
        } else {
            stage.done(unusable(errors.len(), nodes.len()));
        }
        if let Some((text, help)) = at_first_sight(fleet.new_keys()) {
            events.warn(text, Some(help));
        }
        if fleet.hosts().is_empty() && errors.iter().any(|e| matches!(e, HostError::Sudo { .. })) {
            context.forget_sudo_password();
        }
        drop(connecting);
        let asked = nodes.len();
        Ok((Self { context, cluster, fleet, asked, events, started }, errors))
    }

    /// One with connections that are there, for tests.
    #[cfg(test)]
    pub(super) fn of(context: &'a Context, cluster: Cluster, fleet: Fleet) -> Self {
        let (asked, events, started) = (fleet.hosts().len(), Events::none(), std::time::Instant::now());
        Self { context, cluster, fleet, asked, events, started }
    }

    /// Hosts could not be used.
    pub(super) fn unreachable(&self, errors: &[HostError]) -> CliError {
        CliError::unreachable(errors, &self.cluster, self.asked)
    }

    /// The same while all are connected to, which comes before anything is changed.
    pub(super) fn not_begun(&self, errors: &[HostError]) -> CliError {
        let can = if errors.len() == 1 { "once the host can" } else { "once the hosts can" };
        self.unreachable(errors)
            .hint(format!("nothing was changed; {can} be used, run the same command again"))
    }

    /// The same for commands that want every host, with the way on for good without a member's host.
    pub(super) fn incomplete(&self, errors: &[HostError], arg: &InventoryArg) -> CliError {
        let error = self.not_begun(errors);
        match way_without(errors, &self.cluster, &arg.as_typed()) {
            Some(way) => error.hint(way),
            None => error,
        }
    }

    /// Learns whether the operator accepts the loss of etcd's quorum. To be called before any lock is taken.
    pub(super) fn consent(&self, args: &GateArgs) -> Result<Consent, CliError> {
        Ok(Consent(self.context.accepts_quorum_loss(args, &self.cluster.name)?))
    }

    /// Ways to the members, through the hosts.
    pub(super) fn members(&self) -> SshMembers<'_> {
        SshMembers::new(&self.cluster, &self.fleet)
    }

    /// Looks at all hosts.
    pub(super) async fn observe(&self) -> Result<Observed, CliError> {
        let mut seen =
            gather(&self.cluster, &self.fleet).await.map_err(|errors| self.unreachable(&errors))?;
        look_up(&self.cluster, &self.members(), &mut seen, None).await;
        Ok(seen)
    }

    /// Looks at those hosts that answer.
    pub(super) async fn observe_what_answers(&self) -> (Observed, Vec<HostError>) {
        gather_what_answers(&self.cluster, &self.fleet, tokio::time::Instant::now() + FACTS_DUE).await
    }

    /// Looks at whose the hosts that answer are, for commands that change them without a plan.
    pub(super) async fn belongs(&self) -> Result<Observed, CliError> {
        let seen = self.owners().await;
        phases::ownership::check(&self.cluster, &seen)?;
        Ok(seen)
    }

    /// The same for commands that bring an unfinished restore to its end.
    pub(super) async fn belongs_despite_restore(&self) -> Result<(), CliError> {
        Ok(phases::ownership::check(&self.cluster, &self.owners().await.despite_restore())?)
    }

    async fn owners(&self) -> Observed {
        let due = tokio::time::Instant::now() + FACTS_DUE;
        let (seen, lost) = gather_hosts_that_answer(&self.cluster, &self.fleet, due).await;
        goes_on_without(&self.events, &lost);
        seen
    }

    /// How long the command has run.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// What the logins came to.
fn connected(hosts: usize, new_keys: usize) -> String {
    let hosts = count(hosts, "host");
    match new_keys {
        0 => format!("{hosts}, all keys verified"),
        new => format!("{hosts}, {} trusted at first sight", count(new, "new key")),
    }
}

/// Keys that nobody has verified, for the operator to do so.
fn at_first_sight(new_keys: &[(NodeName, String)]) -> Option<(String, String)> {
    let keys: Vec<String> = new_keys.iter().map(|(host, key)| format!("{host}: {key}")).collect();
    let text = format!(
        "nobody knew these host keys, and host_key_check: accept-new trusts them: {}",
        keys.join(", ")
    );
    let help = "compare each with that of its host, on its console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub (or that of its \
                kind); ssh knows them from now on, where it keeps them";
    (!keys.is_empty()).then(|| (text, help.to_owned()))
}

/// Tells which hosts a command goes on without.
pub(super) fn goes_on_without(events: &Events, silent: &[HostError]) {
    for error in silent {
        events.warn(format!("goes on without {}: {}", error.host(), error.brief()), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_nobody_verified_are_told_as_such() {
        assert_eq!((connected(5, 0).as_str(), at_first_sight(&[])), ("5 hosts, all keys verified", None));
        assert_eq!(connected(5, 1), "5 hosts, 1 new key trusted at first sight");
        let new = [("m1", "ssh-ed25519 SHA256:a"), ("w1", "ssh-rsa SHA256:b")];
        let new = new.map(|(host, key)| (NodeName::new(host), key.to_owned()));
        let (text, _) = at_first_sight(&new).unwrap();
        assert!(text.ends_with("m1: ssh-ed25519 SHA256:a, w1: ssh-rsa SHA256:b"), "{text}");
    }
}
