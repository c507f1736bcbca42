//! The plan: who does what, in which order, and why, as pure data.
//!
//! Execution chooses nothing: `rsadm plan` prints and `rsadm up` runs the same value. A [`Planner`] owns a copy of what
//! was observed; each step it adds moves that copy ([`Action::predict`]), so later phases plan against what will be
//! true, not against what was.

use std::fmt;

use serde::Serialize;

use crate::inventory::NodeName;

pub mod action;
mod made;
pub mod planner;
mod predict;
pub mod quorum;
pub mod shared;
pub mod standing;
pub mod summary;

pub use action::Action;
pub use planner::Planner;

/// Unsafe is an answer, with the way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Refusal {
    /// The rule that says no, as a short name.
    pub rule: &'static str,
    /// What would have been done, to whom.
    pub subject: String,
    /// Why not.
    pub why: String,
    /// The way out.
    pub help: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused: {}: {}", self.subject, self.why)
    }
}

/// How the hosts of a stage go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All at once.
    Parallel,
    /// In order, the next only after the one before is well again; a failure stops the stage.
    OneByOne,
}

impl Mode {
    /// How many of so many hosts work at once; at least one.
    pub fn width(self, hosts: usize) -> usize {
        match self {
            Self::Parallel => hosts.max(1),
            Self::OneByOne => 1,
        }
    }
}

/// One action on one host, and the reason for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// What.
    pub action: Action,
    /// Why; empty where the action says it all.
    pub why: String,
    /// True where a file is there and gets another text.
    #[serde(skip)]
    pub rewrites: bool,
    /// What another text of a file that is there changes, a line each; empty where nobody looked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

impl Step {
    /// A step, and why.
    pub fn new(action: Action, why: impl Into<String>) -> Self {
        Self { action, why: why.into(), rewrites: false, changes: Vec::new() }
    }
}

/// What a stage does on one host; travels together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HostWork {
    /// Where.
    pub host: NodeName,
    /// What, in order.
    pub steps: Vec<Step>,
}

/// Work that has to be done before later stages begin, save those that are [beside](Stage::beside) it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    /// The phase it belongs to.
    pub phase: &'static str,
    /// What it does, in words.
    pub title: String,
    /// How its hosts go.
    pub mode: Mode,
    /// True where every host's work may cost etcd a member: the quorum gate is asked before each.
    pub gated: bool,
    /// True where a host goes on from the stage before as soon as its own work there is done, whatever other hosts
    /// are still at.
    pub beside: bool,
    /// The work, host by host.
    pub work: Vec<HostWork>,
}

/// Something an operator should know that stops nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Which phase saw it.
    pub phase: &'static str,
    /// About which host, if one.
    pub host: Option<NodeName>,
    /// What.
    pub text: String,
    /// What to do about it.
    pub help: String,
}

/// Which certificates `certs renew` replaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewal {
    /// On these hosts; on all where it is empty.
    pub hosts: Vec<NodeName>,
    /// Those that end within this time; all where it is `None`.
    pub within: Option<time::Duration>,
}

/// Everything a run will do.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// In order.
    pub stages: Vec<Stage>,
    /// What to know beside.
    pub notices: Vec<Notice>,
    /// How many things were compared and found as wanted.
    pub checked: usize,
}

impl Plan {
    /// True where nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// The stages, those together that run beside one another. Only hosts that may all go at once can do that.
    pub fn groups(&self) -> impl Iterator<Item = &[Stage]> {
        let free = |stage: &Stage| stage.mode == Mode::Parallel && !stage.gated;
        self.stages.chunk_by(move |a, b| b.beside && free(a) && free(b))
    }

    /// Steps that change something, as opposed to waiting for it.
    pub fn changes(&self) -> usize {
        self.steps().filter(|(_, s)| s.action.is_change()).count()
    }

    /// All steps with their hosts.
    pub fn steps(&self) -> impl Iterator<Item = (&NodeName, &Step)> {
        self.stages.iter().flat_map(|s| &s.work).flat_map(|w| w.steps.iter().map(move |s| (&w.host, s)))
    }

    /// The files that are there and get another text, by host.
    pub fn rewritten(&self) -> impl Iterator<Item = (&NodeName, &str)> {
        let steps = self.steps().filter(|(_, step)| step.rewrites);
        steps.filter_map(|(host, step)| match &step.action {
            Action::PutFile { path, .. } => Some((host, path.as_str())),
            _ => None,
        })
    }

    /// Tells of each file that is there and gets another text what that changes; `changes` compares what a host has at a path
    /// with that text.
    pub fn explain(&mut self, changes: impl Fn(&NodeName, &str, &str) -> Vec<String>) {
        for work in self.stages.iter_mut().flat_map(|s| &mut s.work) {
            for step in work.steps.iter_mut().filter(|step| step.rewrites) {
                if let Action::PutFile { path, text, .. } = &step.action {
                    step.changes = changes(&work.host, path, text);
                }
            }
        }
    }

    /// Hosts on which something is to be done.
    pub fn hosts(&self) -> std::collections::BTreeSet<&NodeName> {
        self.stages.iter().flat_map(|s| &s.work).map(|w| &w.host).collect()
    }
}
