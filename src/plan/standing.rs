//! Where a run stands that failed, in words: what it did, what it did not begin, and who serves.

use std::{collections::BTreeSet, ops::Range};

use super::{Mode, Plan, Stage, summary};
use crate::{event::count, inventory::NodeName};

/// How things are, in words: what was done before some stages, what was not begun, and who serves, of etcd and of API servers.
pub fn state(
    plan: &Plan,
    stages: Range<usize>,
    failed: &[NodeName],
    etcd: &[(NodeName, bool)],
    servers: &[(NodeName, bool)],
) -> Vec<String> {
    let mut lines = progress(plan, stages, failed);
    let parts: Vec<String> =
        [part("etcd", etcd), part("API server", servers)].into_iter().flatten().collect();
    if !parts.is_empty() {
        lines.push(format!("serving now: {}", parts.join(", ")));
    }
    lines
}

/// Those that answer of `all` that were asked; nothing where none was.
fn part(what: &str, all: &[(NodeName, bool)]) -> Option<String> {
    let up: Vec<&str> = all.iter().filter(|(_, up)| *up).map(|(name, _)| name.as_str()).collect();
    match (all.is_empty(), up.is_empty()) {
        (true, _) => None,
        (false, true) => Some(format!("no {what}")),
        (false, false) => Some(format!("{what} on {}", up.join(" "))),
    }
}

fn progress(plan: &Plan, stages: Range<usize>, failed: &[NodeName]) -> Vec<String> {
    let changes = |stage: &&Stage| stage.work.iter().flat_map(|w| &w.steps).any(|s| s.action.is_change());
    let (before, rest) = (&plan.stages[..stages.start], &plan.stages[stages.end..]);
    let done: Vec<String> = before.iter().filter(changes).map(summary::outcome).collect();
    let mut touched: BTreeSet<&NodeName> = before.iter().flat_map(|s| &s.work).map(|w| &w.host).collect();
    let mut waiting: Vec<&NodeName> = rest.iter().flat_map(|s| &s.work).map(|w| &w.host).collect();
    for stage in &plan.stages[stages] {
        let width = match stage.mode {
            Mode::Parallel => stage.work.len(),
            Mode::OneByOne => 1,
            Mode::Batches(n) => n,
        };
        let last = stage.work.iter().rposition(|w| failed.contains(&w.host)).unwrap_or_default();
        let begun = (last / width.max(1) + 1) * width.max(1);
        touched.extend(stage.work.iter().take(begun).map(|w| &w.host));
        waiting.extend(stage.work.iter().skip(begun).map(|w| &w.host));
    }
    let untouched: BTreeSet<&NodeName> = waiting.into_iter().filter(|h| !touched.contains(h)).collect();
    let mut lines = Vec::new();
    if !done.is_empty() {
        lines.push(format!("done before: {}", done.join("; ")));
    }
    if !rest.is_empty() {
        lines.push(format!("not begun: {}", count(rest.len(), "stage")));
    }
    if !untouched.is_empty() {
        let names: Vec<&str> = untouched.into_iter().map(NodeName::as_str).collect();
        lines.push(format!("untouched: {}", names.join(" ")));
    }
    lines
}
