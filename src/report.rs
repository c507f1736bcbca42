//! What a run came to, folded from its events: the result that `-o json` prints on stdout.

use std::time::Duration;

use serde::Serialize;

use crate::{
    event::{Event, Failure, Next},
    inventory::NodeName,
};

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It ended before its end: interrupted, refused, or a host was lost.
    #[default]
    Incomplete,
    /// Everything was as wanted before.
    InSync,
    /// Everything is as wanted now.
    Done,
    /// The hosts can carry what is wanted; whether it is there was not looked at.
    Checked,
    /// At least one step failed.
    Failed,
}

/// A warning of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The phase that found it.
    pub phase: Option<&'static str>,
    /// The host, where it is about one.
    pub host: Option<NodeName>,
    /// What was found.
    pub text: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// One stage that ended well.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageTime {
    /// Its phase.
    pub phase: &'static str,
    /// What was true after it.
    pub text: String,
    /// How long it took.
    pub seconds: f64,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The cluster's name.
    pub cluster: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The last word: "5 nodes Ready".
    pub text: String,
    /// How many steps changed something.
    pub changed: usize,
    /// How long it took; zero where it is incomplete.
    pub seconds: f64,
    /// The stages that ended well, in that order.
    pub stages: Vec<StageTime>,
    /// All warnings.
    pub warnings: Vec<Warning>,
    /// All failures.
    pub failures: Vec<Failure>,
    /// What to run next.
    pub next: Vec<Next>,
}

impl Report {
    /// Takes in one event.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::RunStarted { cluster, .. } => self.cluster.clone_from(cluster),
            Event::StepDone { changed, .. } => self.changed += usize::from(*changed),
            Event::StageDone { phase, text, elapsed } => {
                self.stages.push(StageTime { phase, text: text.clone(), seconds: rounded(*elapsed) });
            }
            Event::Warning { phase, host, text, help } => {
                let (text, help) = (text.clone(), help.clone());
                self.warnings.push(Warning { phase: *phase, host: host.clone(), text, help });
            }
            Event::StepFailed(failure) => {
                self.outcome = Outcome::Failed;
                self.failures.push(failure.clone());
            }
            Event::Finished { text, changed, elapsed, next } => {
                self.finish(*changed, *elapsed);
                self.text.clone_from(text);
                self.next.clone_from(next);
            }
            Event::StageStarted { .. } | Event::StepStarted { .. } => {}
        }
    }

    fn finish(&mut self, changed: usize, elapsed: Duration) {
        self.changed = changed;
        self.seconds = rounded(elapsed);
        self.outcome = match (self.outcome, changed) {
            (Outcome::Failed, _) => Outcome::Failed,
            (_, 0) => Outcome::InSync,
            _ => Outcome::Done,
        };
    }
}

fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(changed: bool) -> Event {
        let (host, elapsed) = (NodeName::new("m1"), Duration::ZERO);
        Event::StepDone { phase: "etcd", host, text: "start etcd".into(), changed, elapsed }
    }

    fn failure() -> Event {
        Event::StepFailed(Failure {
            phase: "etcd",
            host: None,
            step: "no leader".into(),
            cause: None,
            likely: None,
            collected: vec![],
            log: None,
            state: vec![],
            next: "rsadm up".into(),
        })
    }

    fn finished(changed: usize) -> Event {
        Event::Finished { text: "done".into(), changed, elapsed: Duration::from_millis(1500), next: vec![] }
    }

    #[test]
    fn the_outcome_follows_from_the_events() {
        for (events, outcome, changed) in [
            (vec![], Outcome::Incomplete, 0),
            (vec![step(true), step(true), step(false)], Outcome::Incomplete, 2),
            (vec![step(false), finished(0)], Outcome::InSync, 0),
            (vec![step(true), finished(1)], Outcome::Done, 1),
            (vec![failure()], Outcome::Failed, 0),
            (vec![failure(), step(true), finished(1)], Outcome::Failed, 1),
        ] {
            let mut report = Report::default();
            events.iter().for_each(|e| report.apply(e));
            assert_eq!((report.outcome, report.changed), (outcome, changed), "{events:?}");
        }
    }
}
