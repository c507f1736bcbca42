//! The only effects: walks the stages of a plan and chooses nothing.
//!
//! What a stage does on one host travels as one remote execution. All hosts of a stage finish what they do; then every
//! failure is told together, each with what its host says about it.

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicBool},
    time::Duration,
};

use futures::{StreamExt, stream};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    event::{Event, Events, Failure, Stage as StageEvents, count},
    host::{Host, HostError, fleet::Fleet},
    inventory::{Cluster, NodeName},
    layout,
    observe::Observed,
    plan::{Action, HostWork, Plan, Refusal, Stage, Step, quorum::Outage},
};

mod aftermath;
pub mod alike;
pub mod ask;
pub mod causes;
mod dial;
pub mod differences;
pub mod forwarding;
pub mod gate;
pub mod heir;
pub mod keyring;
pub mod lock;
pub mod lookup;
pub mod members;
pub mod membership;
mod neighbours;
mod orphans;
pub mod paths;
pub mod restore;
pub mod run;
pub mod scripts;
pub mod served;
mod steps;
pub mod survey;
mod together;
pub mod upkeep;
pub mod wait;

use keyring::Keyring;
use members::Members;
use steps::Early;

/// How long one step may take where the operator does not say, beside what grows with a database.
pub const LIMIT: Duration = Duration::from_secs(120);
/// The same for an API server to be ready, which asks etcd, and takes its host's processors, before it is.
pub const API_LIMIT: Duration = Duration::from_secs(240);
/// How long a lost connection is waited for: a link that was down for a moment, a host that starts anew.
const ABSENCE: Duration = Duration::from_secs(60);
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// What a run works with.
pub struct Context<'a> {
    /// What is wanted.
    pub cluster: &'a Cluster,
    /// The hosts.
    pub fleet: &'a Fleet,
    /// How etcd members are reached.
    pub members: &'a dyn Members,
    /// Where to tell what happens.
    pub events: &'a Events,
    /// Secrets.
    pub keyring: Keyring,
    /// When the run began; certificates start there.
    pub now: OffsetDateTime,
    /// How long one thing may be waited for.
    pub limit: Duration,
    /// The same for an API server to be ready.
    pub api_limit: Duration,
    /// True where the operator accepted that etcd may lose its quorum meanwhile.
    pub accept_quorum_loss: bool,
    /// True once the operator wants to stop.
    pub stopping: &'a (dyn Fn() -> bool + Sync),
    ledger: Mutex<Observed>,
    given_up: Mutex<BTreeSet<String>>,
    /// True once members' data was compared for the first of them that is stopped.
    compared: AtomicBool,
}

/// Why a run did not reach its end.
#[derive(Debug)]
pub enum RunError {
    /// Steps failed; each was told as an event.
    Failed(Vec<Failure>),
    /// Nothing but connections failed, and they stand again: how far hosts came, another look tells. Not told as an event.
    Lost(Vec<Failure>),
    /// A gate said no in the middle.
    Refused(Refusal),
    /// The operator stopped it; what was left to do, in words.
    Stopped(String),
}

impl RunError {
    /// The operator stopped a plan with so many stages left.
    fn stopped(left: usize) -> Self {
        Self::Stopped(format!("{} not begun", count(left, "stage")))
    }
}

impl<'a> Context<'a> {
    /// A context that starts from what was observed.
    pub fn new(
        cluster: &'a Cluster,
        fleet: &'a Fleet,
        members: &'a dyn Members,
        events: &'a Events,
        seen: Observed,
        now: OffsetDateTime,
        stopping: &'a (dyn Fn() -> bool + Sync),
    ) -> Self {
        // As long as kubeadm waits for its control plane: at its first start it makes all roles, write after write, and begins
        // anew where that takes more than half a minute, as it does on busy machines.
        let ledger = Mutex::new(seen);
        Self {
            cluster,
            fleet,
            members,
            events,
            keyring: Keyring::default(),
            now,
            limit: LIMIT,
            api_limit: API_LIMIT,
            accept_quorum_loss: false,
            stopping,
            ledger,
            given_up: Mutex::default(),
            compared: AtomicBool::default(),
        }
    }

    /// What is true by now.
    fn ledger(&self) -> MutexGuard<'_, Observed> {
        self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Names of members that the run did not wait for: nothing is known of them when it is over.
    pub fn left_behind(&self) -> BTreeSet<String> {
        self.given_up().clone()
    }

    /// Members that were not well when the operator's consent was made use of: the run does not wait for them.
    fn given_up(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.given_up.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn host(&self, name: &NodeName) -> Result<Arc<dyn Host>, String> {
        self.fleet.host(name).cloned().ok_or_else(|| format!("{name} is not connected"))
    }

    /// Where this run keeps manifests on a host. Runs hold the hosts' locks, so that no two of them begin at one moment.
    fn kept(&self) -> String {
        format!("{}/{:x}", crate::layout::KEPT_DIR, self.now.unix_timestamp_nanos())
    }

    async fn cluster_id(&self) -> Result<u64, String> {
        wait::cluster_id(self).await
    }
}

/// Runs a plan.
///
/// # Errors
/// See [`RunError`].
pub async fn execute(cx: &Context<'_>, plan: &Plan) -> Result<(), RunError> {
    membership::foresee(cx, plan).await.map_err(RunError::Refused)?;
    let mut at = 0;
    for group in plan.groups() {
        if (cx.stopping)() {
            return Err(RunError::stopped(plan.stages.len() - at));
        }
        match group {
            [_] => run_stage(cx, plan, at).await?,
            group => together::run(cx, plan, at..at + group.len()).await?,
        }
        at += group.len();
    }
    Ok(())
}

/// What of a host's work may cost its member.
fn endangering(work: &HostWork) -> Outage {
    let renews = work.steps.iter().any(|step| matches!(step.action, Action::PutCert { .. }));
    if renews { Outage::Renew } else { Outage::Stop }
}

/// Whether the member there gets another manifest, with which its kubelet starts it anew.
fn restarts_etcd(work: &HostWork) -> bool {
    let writes = |step: &Step| step.action.writes().iter().any(|path| path == layout::ETCD_MANIFEST);
    work.steps.iter().any(writes)
}

/// Tells that a stage begins.
fn begin(cx: &Context<'_>, stage: &Stage) -> StageEvents {
    cx.events.stage(stage.phase, stage.title.clone(), stage.work.iter().map(|w| w.host.clone()))
}

async fn run_stage(cx: &Context<'_>, plan: &Plan, at: usize) -> Result<(), RunError> {
    let stage = &plan.stages[at];
    let shown = begin(cx, stage);
    let mut halts = Halts::default();
    let width = stage.mode.width(stage.work.len());
    for batch in stage.work.chunks(width) {
        if stage.gated {
            for work in batch {
                let asked = gate::may_restart(cx, &work.host, endangering(work)).await;
                let report = asked.map_err(RunError::Refused)?;
                if restarts_etcd(work) {
                    gate::tell_outage(&report, &[work.host.to_string()], "starts anew", cx.events);
                }
            }
        }
        let results: Vec<Result<(), Halt>> =
            stream::iter(batch).map(|w| host_work(cx, stage, w, &shown)).buffered(width).collect().await;
        results.into_iter().filter_map(Result::err).for_each(|halt| halts.take(halt));
        if !halts.are_none() {
            break;
        }
    }
    if let Some(error) = halts.end(cx, plan, at..at + 1).await {
        return Err(error);
    }
    shown.done(outcome(cx, stage));
    Ok(())
}

/// Why the work of a host ended early.
enum Halt {
    Failed(Box<Failure>),
    /// Its connection was lost, and stands again.
    Lost(Box<Failure>),
    Refused(Refusal),
}

/// All that ended early in a stage, or in stages beside one another.
#[derive(Default)]
struct Halts {
    failed: Vec<Failure>,
    lost: Vec<Failure>,
    refused: Option<Refusal>,
}

impl Halts {
    fn take(&mut self, halt: Halt) {
        match halt {
            Halt::Failed(failure) => self.failed.push(*failure),
            Halt::Lost(failure) => self.lost.push(*failure),
            Halt::Refused(refusal) => self.refused = Some(refusal),
        }
    }

    fn are_none(&self) -> bool {
        self.failed.is_empty() && self.lost.is_empty() && self.refused.is_none()
    }

    /// What they make of the run, failures told; `None` where there are none.
    async fn end(mut self, cx: &Context<'_>, plan: &Plan, stages: Range<usize>) -> Option<RunError> {
        match (self.failed.is_empty(), self.refused) {
            (true, Some(refusal)) => return Some(RunError::Refused(refusal)),
            (true, None) if self.lost.is_empty() => return None,
            (true, None) => return Some(RunError::Lost(self.lost)),
            (false, _) => self.failed.append(&mut self.lost),
        }
        aftermath::of_run(cx, plan, stages, &mut self.failed).await;
        for failure in &self.failed {
            cx.events.emit(Event::StepFailed(failure.clone()));
        }
        Some(RunError::Failed(self.failed))
    }
}

/// The work of one host; where a step fails, with what follows from it.
async fn host_work(
    cx: &Context<'_>,
    stage: &Stage,
    work: &HostWork,
    shown: &StageEvents,
) -> Result<(), Halt> {
    let mut is_back = false;
    let (step, why, culprit) = match steps::take(cx, work, shown).await {
        Ok(()) => return Ok(()),
        Err(Early::Refused(refusal)) => return Err(Halt::Refused(refusal)),
        Err(Early::Failed(step, why)) => (step, why, None),
        Err(Early::Lost(step, why)) => {
            is_back = comes_back(cx, &work.host, shown).await;
            let asks = if is_back { "" } else { "; is the host on, and the network in between?" };
            (step, format!("{why}{asks}"), None)
        }
        Err(Early::Lacking(step, lack)) => (Some(step), lack.why, lack.host),
    };
    let action = step.and_then(|i| work.steps.get(i)).map(|s| &s.action);
    let name = action.map_or_else(|| "plan".to_owned(), ToString::to_string);
    let mut failed = Failure::new(stage.phase, work.host.clone(), name, why);
    failed.host = culprit.or(failed.host);
    aftermath::of_host(cx, work, action, &mut failed).await;
    Err(if is_back { Halt::Lost(Box::new(failed)) } else { Halt::Failed(Box::new(failed)) })
}

/// Whether a host can be asked again before [`ABSENCE`] is over, for as long as nobody wants to stop.
async fn comes_back(cx: &Context<'_>, name: &NodeName, shown: &StageEvents) -> bool {
    let until = Instant::now() + ABSENCE;
    let Ok(host) = cx.host(name) else { return false };
    loop {
        match timeout_at(until, host.run(&[], false)).await {
            Ok(Ok(_)) => return true,
            Ok(Err(HostError::Overtaken { .. })) => return false,
            Ok(Err(error)) => shown.says(name, format!("waiting for the connection: {error}")),
            Err(_) => return false,
        }
        if (cx.stopping)() || Instant::now() + PAUSE >= until {
            return false;
        }
        sleep(PAUSE).await;
    }
}

/// What a stage came to, and who was not waited for.
fn outcome(cx: &Context<'_>, stage: &Stage) -> String {
    let text = crate::plan::summary::outcome(stage);
    let waits = |a: &Action| matches!(a, Action::AwaitEtcd { .. } | Action::AwaitSound);
    let given_up: Vec<String> = cx.given_up().iter().cloned().collect();
    match stage.work.iter().flat_map(|w| &w.steps).any(|s| waits(&s.action)) && !given_up.is_empty() {
        true => format!("{text}, but for {}, which was not well before", given_up.join(", ")),
        false => text,
    }
}
