//! Stages that run beside one another: each host goes through all of them in their order, and waits for no other host.
//!
//! A worker joins while the third API server still starts. What one host needs of another is a step that waits for it.

use std::{
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::future::join_all;

use super::{Context, Halt, Halts, RunError, begin, host_work, outcome};
use crate::{
    event::Stage as StageEvents,
    inventory::NodeName,
    plan::{Plan, Stage},
};

/// How far a stage is.
#[derive(Default)]
struct Progress {
    /// From when its first host came to it.
    shown: Option<StageEvents>,
    /// Hosts that are through.
    done: usize,
}

/// How one host came to the end of its part.
enum End {
    /// All of it is done.
    Done,
    /// The operator wants to stop; so many stages had nothing left of it to do.
    Stopped,
    /// It ended early.
    Halted(Halt),
}

/// Runs stages of a plan that belong together.
///
/// # Errors
/// See [`RunError`]. A host that fails stops no other: failures are told when all have come to their ends.
pub(super) async fn run(cx: &Context<'_>, plan: &Plan, range: Range<usize>) -> Result<(), RunError> {
    let (stages, left) = (&plan.stages[range.clone()], plan.stages.len() - range.start);
    let progress: Vec<Mutex<Progress>> = stages.iter().map(|_| Mutex::default()).collect();
    let mut hosts: Vec<&NodeName> = Vec::new();
    for work in stages.iter().flat_map(|s| &s.work) {
        if !hosts.contains(&&work.host) {
            hosts.push(&work.host);
        }
    }
    let ends = join_all(hosts.into_iter().map(|host| go_through(cx, stages, &progress, host))).await;
    let stopped = ends.iter().any(|end| matches!(end, End::Stopped));
    let mut halts = Halts::default();
    for end in ends {
        if let End::Halted(halt) = end {
            halts.take(halt);
        }
    }
    if let Some(error) = halts.end(cx, plan, range).await {
        return Err(error);
    }
    if !stopped {
        return Ok(());
    }
    let done = stages.iter().zip(&progress).filter(|(s, p)| lock(p).done == s.work.len()).count();
    Err(RunError::stopped(left - done))
}

/// One host's part of all stages, in their order.
async fn go_through(
    cx: &Context<'_>,
    stages: &[Stage],
    progress: &[Mutex<Progress>],
    host: &NodeName,
) -> End {
    let mine = stages.iter().zip(progress);
    let mine = mine.filter_map(|(s, p)| Some((s, p, s.work.iter().find(|w| &w.host == host)?)));
    for (i, (stage, progress, work)) in mine.enumerate() {
        if i > 0 && (cx.stopping)() {
            return End::Stopped;
        }
        let shown = lock(progress).shown.get_or_insert_with(|| begin(cx, stage)).clone();
        if let Err(halt) = host_work(cx, stage, work, &shown).await {
            return End::Halted(halt);
        }
        let mut progress = lock(progress);
        progress.done += 1;
        if progress.done == stage.work.len() {
            shown.done(outcome(cx, stage));
        }
    }
    End::Done
}

fn lock(progress: &Mutex<Progress>) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}
