//! The steps of one host: what travels to it together, what is done from the workstation, and how long each took.

use std::time::Duration;

use tokio::time::Instant;

use super::{Context, membership, run, wait};
use crate::{
    event::Stage as StageEvents,
    host::{HostError, Op, Output, TIMED_OUT},
    plan::{Action, HostWork, Refusal, Step},
};

/// Why the work of a host ended early, as the step itself tells it.
pub(super) enum Early {
    /// The number of the step, if it was one, and why.
    Failed(Option<usize>, String),
    /// The same of a step, or one after it, in which the connection was lost.
    Lost(Option<usize>, String),
    /// The members do not agree, for the sake of one that may be another host's.
    Lacking(usize, wait::Lack),
    Refused(Refusal),
}

/// A step that waits for its operations to travel.
struct Queued {
    /// Its number in the work of its host.
    step: usize,
    /// How long it took to make what it sends.
    made: Duration,
    ops: Vec<Op>,
}

/// Runs of operations travel together, broken only by what is done from the workstation.
pub(super) async fn take(cx: &Context<'_>, work: &HostWork, shown: &StageEvents) -> Result<(), Early> {
    let node = run::node(cx.cluster, &work.host).map_err(|why| Early::Failed(None, why))?;
    let mut batch: Vec<Queued> = Vec::new();
    for (step, Step { action, .. }) in work.steps.iter().enumerate() {
        let told = |text: String| shown.says(&work.host, text);
        if let Action::AwaitEtcd { members } = action {
            flush(cx, work, &mut batch, shown).await?;
            told(action.to_string());
            let begun = Instant::now();
            wait::etcd(cx, members, &told).await.map_err(|lack| Early::Lacking(step, lack))?;
            did(work, step, begun.elapsed(), shown);
            continue;
        }
        if action.is_from_workstation() {
            flush(cx, work, &mut batch, shown).await?;
            told(action.to_string());
            let begun = Instant::now();
            match membership::perform(cx, action, &told).await {
                Ok(()) => {}
                Err(membership::Failed::Refused(refusal)) => return Err(Early::Refused(refusal)),
                Err(membership::Failed::Why(why)) => return Err(Early::Failed(Some(step), why)),
            }
            run::record(cx, node, action, &[]);
            did(work, step, begun.elapsed(), shown);
            continue;
        }
        told(action.to_string());
        let begun = Instant::now();
        let ops = run::operations(cx, node, action).await.map_err(|why| Early::Failed(Some(step), why))?;
        run::record(cx, node, action, &ops);
        batch.push(Queued { step, made: begun.elapsed(), ops });
    }
    flush(cx, work, &mut batch, shown).await
}

/// Tells that a step ended well.
fn did(work: &HostWork, step: usize, elapsed: Duration, shown: &StageEvents) {
    let action = &work.steps[step].action;
    shown.did(&work.host, action.to_string(), action.is_change(), elapsed);
}

/// Sends what waits, and tells which steps of it ended well.
async fn flush(
    cx: &Context<'_>,
    work: &HostWork,
    batch: &mut Vec<Queued>,
    shown: &StageEvents,
) -> Result<(), Early> {
    let steps: Vec<usize> = batch.iter().flat_map(|q| q.ops.iter().map(|_| q.step)).collect();
    let queued: Vec<_> = batch.iter().map(|q| (q.step, q.made, q.ops.len())).collect();
    let ops: Vec<Op> = batch.drain(..).flat_map(|q| q.ops).collect();
    let outputs = match ops.is_empty() {
        true => vec![],
        false => travel(cx, work, &ops, &steps).await?,
    };
    let mut answers = &outputs[..];
    for (step, made, count) in queued {
        let Some((own, others)) = answers.split_at_checked(count) else { break };
        if !own.iter().all(Output::ok) {
            break;
        }
        answers = others;
        did(work, step, made + own.iter().map(|output| output.elapsed).sum::<Duration>(), shown);
    }
    match outputs.last() {
        Some(last) if !last.ok() || outputs.len() < ops.len() => {
            Err(Early::Failed(steps.get(outputs.len() - 1).copied(), said(last)))
        }
        None if !ops.is_empty() => {
            Err(Early::Failed(steps.first().copied(), "the host answered nothing".into()))
        }
        _ => Ok(()),
    }
}

/// Sends operations to a host, `steps` being whose each is.
async fn travel(
    cx: &Context<'_>,
    work: &HostWork,
    ops: &[Op],
    steps: &[usize],
) -> Result<Vec<Output>, Early> {
    let first = steps.first().copied();
    let host = cx.host(&work.host).map_err(|why| Early::Failed(first, why))?;
    host.run(ops, false).await.map_err(|e| {
        if matches!(e, HostError::Overtaken { .. }) {
            return Early::Failed(first, e.to_string());
        }
        // Steps travel together and answer together.
        let one_of = if steps.last().copied() == first { "" } else { " (at this step or one after it)" };
        Early::Lost(first, format!("{e}{one_of}"))
    })
}

/// What a host said of an operation that failed.
pub(super) fn said(output: &Output) -> String {
    let text =
        [output.stderr.trim(), output.text().trim()].into_iter().find(|t| !t.is_empty()).map(str::to_owned);
    match (output.status, text) {
        (TIMED_OUT, text) => format!("ran out of time; {}", text.unwrap_or_default()),
        (status, None) => format!("exit status {status}"),
        (_, Some(text)) => text,
    }
}
