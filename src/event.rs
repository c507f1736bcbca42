//! What happens while a command runs, as data.
//!
//! Whoever does the work tells it here and draws nothing; the consumers under [`crate::ui`] turn the same events into
//! lines, spinners or JSON. Events carry finished texts in the operator's words and no bytes from hosts that could
//! be key material.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::inventory::{Cluster, NodeName, Role};

/// One thing that happened.
///
/// The JSON form (`-o json`, one object a line on stderr) is a public interface: fields are added, never renamed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The inventory was read and the work begins.
    RunStarted {
        /// The cluster's name.
        cluster: String,
        /// What it consists of, see [`summary`].
        summary: String,
    },
    /// A stage begins: steps that belong together on one or more hosts.
    StageStarted {
        /// The phase it belongs to; several stages of a phase may follow one another.
        phase: &'static str,
        /// What is being done, as shown while it runs: "starting 3 members".
        title: String,
        /// Where.
        hosts: Vec<NodeName>,
    },
    /// A step begins on a host, or goes on to something new ("waiting for /readyz: connection refused").
    StepStarted {
        /// Its phase.
        phase: &'static str,
        /// Where.
        host: NodeName,
        /// What is being done.
        text: String,
    },
    /// A step of a plan ended well.
    StepDone {
        /// Its phase.
        phase: &'static str,
        /// Where.
        host: NodeName,
        /// What was done.
        text: String,
        /// False for a step that only looked or waited.
        changed: bool,
        /// How long it took.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        elapsed: Duration,
    },
    /// All steps of a stage ended well.
    StageDone {
        /// Its phase.
        phase: &'static str,
        /// What is true now: "3 members healthy, leader m2".
        text: String,
        /// How long it took, from its start.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        elapsed: Duration,
    },
    /// Something the operator should know that stops nothing.
    Warning {
        /// The phase that found it; `None` before the first.
        phase: Option<&'static str>,
        /// The host, where it is about one.
        host: Option<NodeName>,
        /// What was found.
        text: String,
        /// What to do about it, where there is something.
        help: Option<String>,
    },
    /// A step did not do what it was to.
    StepFailed(Failure),
    /// The command is over.
    Finished {
        /// What it came to: "5 nodes Ready".
        text: String,
        /// How many steps changed something.
        changed: usize,
        /// How long the whole took.
        #[serde(rename = "seconds", serialize_with = "seconds")]
        elapsed: Duration,
        /// What the operator may want to do next.
        next: Vec<Next>,
    },
}

/// A step that failed, with all that explains it and the way on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// The phase.
    pub phase: &'static str,
    /// Where; `None` where it is about no single host ("the members agree on no leader").
    pub host: Option<NodeName>,
    /// What was to be done: "wait until kube-apiserver is ready".
    pub step: String,
    /// Why, in the words of who failed.
    pub cause: Option<String>,
    /// What is likely wrong, where those words are known.
    pub likely: Option<String>,
    /// What explains it, collected from the host: unit state, last words of a container; a line each.
    pub collected: Vec<String>,
    /// The file on the workstation that holds all that was collected.
    pub log: Option<PathBuf>,
    /// What was done before, what was not started, what still serves; a line each.
    pub state: Vec<String>,
    /// The command that goes on, where it is another one than that which failed.
    pub next: String,
}

impl Failure {
    /// A step that failed, and why; nothing explains it yet.
    pub fn new(phase: &'static str, host: NodeName, step: impl Into<String>, why: String) -> Self {
        Self {
            phase,
            host: Some(host),
            step: step.into(),
            cause: Some(why),
            likely: None,
            collected: vec![],
            log: None,
            state: vec![],
            next: String::new(),
        }
    }
}

/// A command worth running next, and what for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Next {
    /// To be typed as it is.
    pub command: String,
    /// What it gives, or what to run after it.
    pub why: String,
}

impl Next {
    /// A command and what for.
    pub fn new(command: impl Into<String>, why: impl Into<String>) -> Self {
        Self { command: command.into(), why: why.into() }
    }
}

/// Where events go: cheap to clone, never blocks on more than a line of output, and never fails.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Hands every event to `consume`, in the order of emission per task.
    pub fn new(consume: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(consume))
    }

    /// Drops everything.
    pub fn none() -> Self {
        Self::new(|_| ())
    }

    /// Hands every event to `consume` and then to this sink.
    #[must_use]
    pub fn tee(&self, consume: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        let rest = self.clone();
        Self::new(move |event| {
            consume(&event);
            rest.emit(event);
        })
    }

    /// Tells one event.
    pub fn emit(&self, event: Event) {
        (self.0)(event);
    }

    /// Tells that a stage begins; the returned value measures it.
    #[must_use = "a stage that is never done is shown as running"]
    pub fn stage(
        &self,
        phase: &'static str,
        title: impl Into<String>,
        hosts: impl IntoIterator<Item = NodeName>,
    ) -> Stage {
        let hosts = hosts.into_iter().collect();
        self.emit(Event::StageStarted { phase, title: title.into(), hosts });
        Stage { events: self.clone(), phase, started: Instant::now() }
    }

    /// Warns outside any stage.
    pub fn warn(&self, text: impl Into<String>, help: Option<String>) {
        self.emit(Event::Warning { phase: None, host: None, text: text.into(), help });
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

/// A stage under way. It ends with [`Stage::done`], or with [`Stage::failed`] once for each step that failed.
///
/// Time is tokio's, so a test with a paused clock gets the same durations every time.
#[derive(Clone, Debug)]
pub struct Stage {
    events: Events,
    phase: &'static str,
    started: Instant,
}

impl Stage {
    /// The phase it belongs to.
    pub fn phase(&self) -> &'static str {
        self.phase
    }

    /// Tells what a host is at: the step that begins, or what it waits for ("waiting for a leader: m3 does not answer").
    pub fn says(&self, host: &NodeName, text: impl Into<String>) {
        self.events.emit(Event::StepStarted { phase: self.phase, host: host.clone(), text: text.into() });
    }

    /// Tells that a step ended well, and how long it took. Several travel to a host together, so that one may end after another
    /// has begun.
    pub fn did(&self, host: &NodeName, text: impl Into<String>, changed: bool, elapsed: Duration) {
        let (phase, host, text) = (self.phase, host.clone(), text.into());
        self.events.emit(Event::StepDone { phase, host, text, changed, elapsed });
    }

    /// Warns, about one host or about all.
    pub fn warn(&self, host: Option<&NodeName>, text: impl Into<String>, help: Option<String>) {
        let (phase, host) = (Some(self.phase), host.cloned());
        self.events.emit(Event::Warning { phase, host, text: text.into(), help });
    }

    /// Ends the stage well; `text` says what is true now.
    pub fn done(self, text: impl Into<String>) {
        let elapsed = self.started.elapsed();
        self.events.emit(Event::StageDone { phase: self.phase, text: text.into(), elapsed });
    }

    /// Tells of a step that failed. The other hosts of the stage finish what they do.
    pub fn failed(&self, failure: Failure) {
        self.events.emit(Event::StepFailed(failure));
    }
}

/// What a cluster consists of, in one line: "3 control planes, 3 etcd members, 2 workers, Kubernetes v1.37.2, etcd 3.7.0".
pub fn summary(cluster: &Cluster) -> String {
    let release = &cluster.release;
    let mut parts: Vec<String> =
        [(Role::ControlPlane, "control plane"), (Role::Etcd, "etcd member"), (Role::Worker, "worker")]
            .into_iter()
            .map(|(role, noun)| (cluster.with_role(role).count(), noun))
            .filter(|(n, _)| *n > 0)
            .map(|(n, noun)| count(n, noun))
            .collect();
    if cluster.has_kubernetes() {
        parts.push(format!("Kubernetes {}", release.kubernetes));
    }
    parts.push(format!("etcd {}", release.etcd.to_string().trim_start_matches('v')));
    parts.join(", ")
}

/// "1 host", "3 hosts": for nouns whose plural is an s.
pub fn count(n: usize, noun: &str) -> String {
    match n {
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}

/// Binary units with one decimal, which is left out where it is zero: `24.1 MiB`, `8 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut tenths = u128::from(count) * 10;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {}", UNITS[unit]),
        (whole, part) => format!("{whole}.{part} {}", UNITS[unit]),
    }
}

/// Seconds in the largest unit that fits at least once: `3 h`, `5 min`.
pub fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Seconds with three decimals: as exact as a remote step can be measured.
fn seconds<S: Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((elapsed.as_secs_f64() * 1000.0).round() / 1000.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn recorder() -> (Events, Arc<Mutex<Vec<Event>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        (Events::new(move |e| sink.lock().unwrap().push(e)), seen)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_measures_itself_and_is_told_of_its_steps() {
        let (events, seen) = recorder();
        let m1 = NodeName::new("m1");
        let stage = events.stage("etcd", "starting 1 member", [m1.clone()]);
        tokio::time::advance(Duration::from_millis(1000)).await;
        stage.did(&m1, "start etcd", true, Duration::from_millis(700));
        stage.done("1 member healthy");

        let seen = seen.lock().unwrap();
        let elapsed: Vec<u128> = seen
            .iter()
            .filter_map(|e| match e {
                Event::StepDone { elapsed, .. } | Event::StageDone { elapsed, .. } => {
                    Some(elapsed.as_millis())
                }
                _ => None,
            })
            .collect();
        assert_eq!(elapsed, [700, 1000]);
    }

    #[test]
    fn a_tee_sees_each_event_once_and_passes_it_on() {
        let (events, seen) = recorder();
        let copy = Arc::new(Mutex::new(0));
        let counter = copy.clone();
        let tee = events.tee(move |_| *counter.lock().unwrap() += 1);
        tee.warn("swap is on", None);
        assert_eq!((*copy.lock().unwrap(), seen.lock().unwrap().len()), (1, 1));
    }
}
