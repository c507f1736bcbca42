//! Where a run stands that failed, in words: what it did, what it did not begin, and who serves.

use std::{collections::BTreeSet, ops::Range};

use super::{Plan, Stage, summary};
use crate::{event::count, inventory::NodeName};

/// What is known of a member or an API server that served before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// It answers.
    Yes,
    /// Its host does, and it does not.
    No,
    /// Its host cannot be asked.
    Unknown,
}

/// How things are, in words: what was done before some stages, what was not begun, and who serves, of etcd and of API servers.
pub fn state(
    plan: &Plan,
    stages: Range<usize>,
    failed: &[NodeName],
    etcd: &[(NodeName, Serves)],
    servers: &[(NodeName, Serves)],
) -> Vec<String> {
    let mut lines = progress(plan, stages, failed);
    let parts: Vec<String> =
        [part("etcd", etcd), part("API server", servers)].into_iter().flatten().collect();
    if !parts.is_empty() {
        lines.push(format!("serving now: {}", parts.join(", ")));
    }
    lines
}

/// Those that answer of `all` that were asked, and those that nobody knows of; nothing where none was asked.
fn part(what: &str, all: &[(NodeName, Serves)]) -> Option<String> {
    let those = |wanted: Serves| {
        let names: Vec<&str> = all.iter().filter(|(_, s)| *s == wanted).map(|(n, _)| n.as_str()).collect();
        (!names.is_empty()).then(|| names.join(" "))
    };
    match (those(Serves::Yes), those(Serves::Unknown)) {
        _ if all.is_empty() => None,
        (None, None) => Some(format!("no {what}")),
        (Some(up), None) => Some(format!("{what} on {up}")),
        (None, Some(unknown)) => Some(format!("no {what} is known of ({unknown} cannot be asked)")),
        (Some(up), Some(unknown)) => Some(format!("{what} on {up} ({unknown} cannot be asked)")),
    }
}

fn progress(plan: &Plan, stages: Range<usize>, failed: &[NodeName]) -> Vec<String> {
    let changes = |stage: &&Stage| stage.work.iter().flat_map(|w| &w.steps).any(|s| s.action.is_change());
    let (before, rest) = (&plan.stages[..stages.start], &plan.stages[stages.end..]);
    let done: Vec<String> = before.iter().filter(changes).map(summary::outcome).collect();
    let mut touched: BTreeSet<&NodeName> = before.iter().flat_map(|s| &s.work).map(|w| &w.host).collect();
    let mut waiting: Vec<&NodeName> = rest.iter().flat_map(|s| &s.work).map(|w| &w.host).collect();
    for stage in &plan.stages[stages] {
        let width = stage.mode.width(stage.work.len());
        let last = stage.work.iter().rposition(|w| failed.contains(&w.host)).unwrap_or_default();
        let begun = (last / width + 1) * width;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_could_ask_is_not_called_gone() {
        use Serves::{No, Unknown, Yes};
        for (all, said) in [
            (vec![], None),
            (vec![Yes, No], Some("etcd on m0")),
            (vec![No, No], Some("no etcd")),
            (vec![No, Unknown], Some("no etcd is known of (m1 cannot be asked)")),
            (vec![Yes, Unknown, Unknown], Some("etcd on m0 (m1 m2 cannot be asked)")),
        ] {
            let all: Vec<_> =
                all.into_iter().enumerate().map(|(i, s)| (NodeName::new(format!("m{i}")), s)).collect();
            assert_eq!(part("etcd", &all).as_deref(), said, "{all:?}");
        }
    }
}
