//! What commands that touch hosts have in common: connecting to all, looking around, planning.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use time::OffsetDateTime;

use crate::{
    cli::{
        CliError, Context, Exit, GateArgs, InventoryArg,
        context::names_the_cluster,
        evidence,
        literal::typed,
        local,
        unreachable::{unusable, way_without},
    },
    event::{Event, Events, Failure, count, summary},
    exec::{
        self, RunError,
        paths::{self, Scope},
    },
    host::{
        HostError,
        fleet::Fleet,
        ssh::{ControlDir, Options},
    },
    inventory::{Cluster, Node, NodeName, Role},
    observe::{Facts, Observed, gather, gather_hosts_that_answer, gather_what_answers},
    phases::{self, Phase, preflight},
    plan::Plan,
    report::Report,
};

/// How long all hosts together have for a login and a root shell: who waits for an answer gets one within 15 s.
const PATIENCE: Duration = Duration::from_secs(14);

/// When every host's report is due where some may be missing: half a second on an idle host, and busy ones are not dead.
const FACTS_DUE: Duration = Duration::from_secs(30);

/// How often a run goes on after lost connections.
const LOSSES: usize = 3;

/// A cluster and the connections to its hosts.
pub(super) struct Session<'a> {
    pub(super) context: &'a Context,
    pub(super) cluster: Cluster,
    pub(super) fleet: Fleet,
    /// How many hosts were dialled.
    asked: usize,
    pub(super) events: Events,
    pub(super) started: std::time::Instant,
    accept_quorum_loss: bool,
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
        let (mut session, errors) = Self::connect(context, cluster, events, |_| true, None).await?;
        super::schedule::complete(&mut session.cluster)?;
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

    /// The same for a cluster that was read already, so that what the command line names could be looked for in it.
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
        let control_dir = ControlDir::create().map_err(|e| CliError::new(Exit::Bug, e))?;
        let options = Options { control_dir: Arc::new(control_dir), sudo_password };
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
            stage.done(format!("{}, all keys verified", count(fleet.hosts().len(), "host")));
        } else {
            stage.done(unusable(errors.len(), nodes.len()));
        }
        drop(connecting);
        let asked = nodes.len();
        Ok((Self { context, cluster, fleet, asked, events, started, accept_quorum_loss: false }, errors))
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
    pub(super) fn consent(&mut self, args: &GateArgs) -> Result<(), CliError> {
        self.accept_quorum_loss = self.context.accepts_quorum_loss(args, &self.cluster.name)?;
        Ok(())
    }

    /// True where the operator accepts the loss of etcd's quorum.
    pub(super) fn accepts_quorum_loss(&self) -> bool {
        self.accept_quorum_loss
    }

    /// Looks at all hosts.
    pub(super) async fn observe(&self) -> Result<Observed, CliError> {
        let mut seen =
            gather(&self.cluster, &self.fleet).await.map_err(|errors| self.unreachable(&errors))?;
        let members = exec::members::SshMembers::new(&self.cluster, &self.fleet);
        exec::gate::look_up(&self.cluster, &members, &mut seen, OffsetDateTime::now_utc()).await;
        Ok(seen)
    }

    /// Looks at those hosts that answer.
    pub(super) async fn observe_what_answers(&self) -> (Observed, Vec<HostError>) {
        gather_what_answers(&self.cluster, &self.fleet, tokio::time::Instant::now() + FACTS_DUE).await
    }

    /// Looks at whose the hosts that answer are, for commands that change them without a plan.
    pub(super) async fn belongs(&self) -> Result<(), CliError> {
        Ok(phases::ownership::check(&self.cluster, &self.owners().await)?)
    }

    /// The same for commands that bring an unfinished restore to its end.
    pub(super) async fn belongs_despite_restore(&self) -> Result<(), CliError> {
        Ok(phases::ownership::check(&self.cluster, &self.owners().await.despite_restore())?)
    }

    async fn owners(&self) -> Observed {
        let due = tokio::time::Instant::now() + FACTS_DUE;
        gather_hosts_that_answer(&self.cluster, &self.fleet, due).await.0
    }

    /// Plans a table of phases.
    pub(super) fn plan(
        &self,
        table: &[Phase],
        seen: Observed,
        wants: impl Fn(&str) -> bool,
    ) -> Result<(Plan, Observed), CliError> {
        Ok(phases::plan(table, &self.cluster, seen, OffsetDateTime::now_utc(), wants)?)
    }

    /// Tells what a plan found beside its steps.
    pub(super) fn notices(&self, plan: &Plan) {
        for notice in &plan.notices {
            self.events.emit(Event::Warning {
                phase: Some(notice.phase),
                host: notice.host.clone(),
                text: notice.text.clone(),
                help: Some(notice.help.clone()),
            });
        }
    }

    /// Takes the locks, looks and plans again under them, and does what is planned. Where a connection was lost on the way
    /// and stands again, it looks and plans anew, as the next run would: nothing is sent a second time unseen.
    pub(super) async fn carry_out(
        &self,
        command: &str,
        table: &[Phase],
        wants: impl Fn(&str) -> bool,
    ) -> Result<Plan, CliError> {
        // From here on Ctrl-C is an orderly end, also while it still looks around: locks are held.
        self.context.stop_signal()?;
        self.lock(command).await?;
        let mut seen = self.observe().await?;
        if wants(preflight::PHASE) {
            self.preflight(&seen, Scope::Newcomers).await?;
        }
        let (mut planned, _) = self.plan(table, seen.clone(), &wants)?;
        planned.notices.retain(|notice| notice.phase != preflight::PHASE);
        self.notices(&planned);
        let (mut rest, mut losses) = (planned.clone(), 0);
        loop {
            match self.run(&self.cluster, command, &rest, seen).await? {
                Err(RunError::Lost(lost)) if losses < LOSSES => self.tell_lost(&lost),
                result => return ended(result, command).map(|()| planned),
            }
            losses += 1;
            seen = self.observe().await?;
            (rest, _) = self.plan(table, seen.clone(), &wants)?;
        }
    }

    /// Tells of connections that were lost and stand again.
    fn tell_lost(&self, lost: &[Failure]) {
        for failure in lost {
            self.events.emit(Event::Warning {
                phase: Some(failure.phase),
                host: failure.host.clone(),
                text: brief(failure),
                help: Some(
                    "it answers again: looks at all hosts anew, and goes on from what is there".into(),
                ),
            });
        }
    }

    /// Takes the lock of every host that is connected.
    pub(super) async fn lock(&self, command: &str) -> Result<(), CliError> {
        Ok(exec::lock::take(&self.fleet, &exec::lock::holder(command), &self.events).await?)
    }

    /// Looks at everything before the first change, tells it in one line with its warnings, and refuses with all that
    /// stands in the way. To be called under the locks: it listens on ports for a moment.
    pub(super) async fn preflight(&self, seen: &Observed, scope: Scope<'_>) -> Result<(), CliError> {
        let names = self.cluster.nodes.iter().map(|n| n.name.clone());
        let shown = self.events.stage(preflight::PHASE, "hosts, and the network between them", names);
        let nothing = Facts::default();
        let facts = |name: &NodeName| seen.hosts.get(name).unwrap_or(&nothing);
        let mut findings = preflight::inspect(&self.cluster, facts, scope == Scope::Everything);
        let tried = paths::attempt(&self.cluster, &self.fleet, seen, scope)
            .await
            .map_err(|errors| self.unreachable(&errors))?;
        findings.extend(tried.findings);
        for (hosts, warning) in preflight::grouped(&findings.warnings) {
            shown.warn(None, format!("{hosts}: {}", warning.text), Some(warning.help.clone()));
        }
        let mut text =
            format!("{} on {}", count(findings.checks, "check"), count(self.cluster.nodes.len(), "host"));
        if tried.paths > 0 {
            text.push_str(&format!(", {} between them", count(tried.paths, "path")));
        }
        shown.done(text);
        match findings.refusal() {
            Some(refusal) => Err(CliError::from(refusal).detail("findings", json!(findings.errors))),
            None => Ok(()),
        }
    }

    /// Does what is planned. `command` is what goes on after a failure, as it has to be typed.
    pub(super) async fn execute(&self, command: &str, plan: &Plan, seen: Observed) -> Result<(), CliError> {
        self.execute_for(&self.cluster, command, plan, seen).await
    }

    /// The same for a plan that another cluster than the inventory's was wanted for. Members are still asked where the
    /// inventory has them.
    pub(super) async fn execute_for(
        &self,
        cluster: &Cluster,
        command: &str,
        plan: &Plan,
        seen: Observed,
    ) -> Result<(), CliError> {
        ended(self.run(cluster, command, plan, seen).await?, command)
    }

    async fn run(
        &self,
        cluster: &Cluster,
        command: &str,
        plan: &Plan,
        seen: Observed,
    ) -> Result<Result<(), RunError>, CliError> {
        let stop = self.context.stop_signal()?;
        let stopping = move || *stop.borrow();
        let members = exec::members::SshMembers::new(&self.cluster, &self.fleet);
        let now = OffsetDateTime::now_utc();
        let mut cx = exec::Context::new(cluster, &self.fleet, &members, &self.events, seen, now, &stopping);
        if let Some(limit) = self.context.options.timeout {
            cx.limit = limit;
        }
        cx.accept_quorum_loss = self.accept_quorum_loss;
        cx.again = format!("rsadm {command}");
        Ok(exec::execute(&cx, plan).await)
    }

    /// How long the command has run.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// How a run ended. `command` is what goes on, as it has to be typed.
pub(super) fn ended<T>(result: Result<T, RunError>, command: &str) -> Result<T, CliError> {
    result.map_err(|error| match error {
        RunError::Refused(refusal) => refusal.into(),
        RunError::Failed(failures) => failed(&failures),
        RunError::Lost(lost) => {
            let lost: Vec<String> = lost.iter().map(brief).collect();
            CliError::new(Exit::StepFailed, lost.join("; "))
                .hint("it answers again; run the same command again: it goes on from what it finds")
        }
        RunError::Stopped(left) => {
            let text = format!("stopped as asked; {} not begun", count(left, "stage"));
            CliError::new(Exit::Interrupted, text).hint(format!("rsadm {command} goes on where this stopped"))
        }
    })
}

/// A lost connection in a line.
fn brief(failure: &Failure) -> String {
    let why = failure.cause.clone().unwrap_or_else(|| failure.step.clone());
    [why].into_iter().chain(failure.state.clone()).collect::<Vec<_>>().join("; ")
}

/// Failures were shown as they happened; this closes the run.
fn failed(failures: &[Failure]) -> CliError {
    let hosts: Vec<String> =
        failures.iter().filter_map(|f| f.host.as_ref()).map(ToString::to_string).collect();
    CliError::new(
        Exit::StepFailed,
        format!("{} failed on {}", count(failures.len(), "step"), hosts.join(", ")),
    )
    .hint("mend the cause, then run the same command again: it goes on where it stopped")
}

/// Tells which hosts a command goes on without.
pub(super) fn goes_on_without(events: &Events, silent: &[HostError]) {
    for error in silent {
        events.warn(format!("goes on without {}: {}", error.host(), error.brief()), None);
    }
}

/// What a run comes to, as it is told.
pub(super) struct Recording(Arc<std::sync::Mutex<Report>>);

impl Recording {
    /// Prints it where a program reads; people were told as it happened.
    pub(super) fn print(&self, context: &Context) -> Result<(), CliError> {
        if !context.ui.settings().json {
            return Ok(());
        }
        let report = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        context.print(&report, |_| String::new())
    }
}

/// The same as [`recorded`], unless only a plan is shown: then there is nothing to tell of a run.
pub(super) fn recorded_unless(plan_only: bool, context: &Context) -> (Events, Option<Recording>) {
    if plan_only {
        return (Events::none(), None);
    }
    let (events, report) = recorded(context);
    (events, Some(report))
}

/// The events of a run, and the report they fold into.
pub(super) fn recorded(context: &Context) -> (Events, Recording) {
    let report = Arc::new(std::sync::Mutex::new(Report::default()));
    let sink = report.clone();
    let events = context.ui.events().tee(move |event| {
        sink.lock().unwrap_or_else(std::sync::PoisonError::into_inner).apply(event);
    });
    (events, Recording(report))
}
