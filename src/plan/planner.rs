//! What phases plan with: compare, and add a step only where something differs.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::{
    Action, HostWork, Mode, Notice, Plan, Renewal, Stage, Step,
    action::{FRESH, file_hash, revision, text_input},
    made::Made,
};
use crate::{
    inventory::{Cluster, Node, NodeName},
    layout,
    observe::{Facts, Observed},
    programs::Program,
};

mod running;

/// What of a file on a host is not as wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    Missing,
    Text,
    Mode,
    Owner,
}

impl Difference {
    fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Text => "differs",
            Self::Mode => "has another mode",
            Self::Owner => "has another owner",
        }
    }
}

/// Collects the steps of a run and moves a copy of what was observed along with them.
pub struct Planner<'a> {
    /// What is wanted.
    pub cluster: &'a Cluster,
    /// When the plan is made, by the hosts' clocks: certificates are judged by it.
    pub now: OffsetDateTime,
    /// Which certificates are replaced before their time is over.
    pub renewal: Renewal,
    seen: Observed,
    plan: Plan,
    /// Where steps may be added; `None` for everywhere.
    scope: Option<Vec<NodeName>>,
    made: BTreeMap<NodeName, Made>,
    /// Where in the stage that is being filled the work of a host is.
    places: BTreeMap<NodeName, usize>,
}

impl<'a> Planner<'a> {
    /// A planner that starts from what was observed.
    pub fn new(cluster: &'a Cluster, seen: Observed, now: OffsetDateTime) -> Self {
        Self {
            cluster,
            now,
            renewal: Renewal::default(),
            seen,
            plan: Plan::default(),
            made: BTreeMap::new(),
            scope: None,
            places: BTreeMap::new(),
        }
    }

    /// The plan, and what will be observed once it is done.
    pub fn finish(mut self) -> (Plan, Observed) {
        // What was to wait for an empty stage waits for those before it.
        let mut waits = false;
        for stage in &mut self.plan.stages {
            stage.work.retain(|w| !w.steps.is_empty());
            stage.beside &= !waits;
            waits = stage.work.is_empty() && !stage.beside;
        }
        self.plan.stages.retain(|s| !s.work.is_empty());
        if let Some(first) = self.plan.stages.first_mut() {
            first.beside = false;
        }
        (self.plan, self.seen)
    }

    /// Begins a stage; steps go into it until the next begins. A stage that stays empty vanishes.
    pub fn stage(&mut self, phase: &'static str, title: impl Into<String>, mode: Mode) {
        let stage = Stage { phase, title: title.into(), mode, gated: false, beside: false, work: vec![] };
        self.plan.stages.push(stage);
        self.places.clear();
    }

    /// Starts a stage of all hosts at once that waits for no other host's part in the stage before.
    pub fn stage_beside(&mut self, phase: &'static str, title: impl Into<String>) {
        self.stage(phase, title, Mode::Parallel);
        if let Some(stage) = self.plan.stages.last_mut() {
            stage.beside = true;
        }
    }

    /// Starts a stage of one host after the other, where every host's work may cost etcd a member: the gate is asked before each.
    pub fn gated_stage(&mut self, phase: &'static str, title: impl Into<String>) {
        self.stage(phase, title, Mode::OneByOne);
        if let Some(stage) = self.plan.stages.last_mut() {
            stage.gated = true;
        }
    }

    /// Plans with steps for these hosts only; what a phase would do to others is left out.
    pub fn within<T>(&mut self, hosts: Vec<NodeName>, plan: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.scope.replace(hosts);
        let planned = plan(self);
        self.scope = before;
        planned
    }

    /// What will be true at this point of the run.
    pub fn seen(&self) -> &Observed {
        &self.seen
    }

    /// The facts of a host, as they will be at this point.
    pub fn facts(&self, host: &NodeName) -> &Facts {
        static NOTHING: std::sync::LazyLock<Facts> = std::sync::LazyLock::new(Facts::default);
        self.seen.hosts.get(host).unwrap_or(&NOTHING)
    }

    /// True where the run finds a host that nothing was done to yet, and prepares it.
    pub fn prepares(&self, host: &NodeName) -> bool {
        let works = self.plan.stages.iter().flat_map(|s| &s.work).filter(|w| w.host == *host);
        works.flat_map(|w| &w.steps).any(|step| matches!(step.action, Action::Remember { .. }))
    }

    /// Adds a step.
    pub fn push(&mut self, host: &NodeName, action: Action, why: impl Into<String>) {
        self.add(host, Step::new(action, why));
    }

    fn add(&mut self, host: &NodeName, step: Step) {
        if self.scope.as_ref().is_some_and(|scope| !scope.contains(host)) {
            return;
        }
        step.action.predict(host, &mut self.seen);
        match self.made.get_mut(host) {
            Some(made) => made.note(&step.action),
            None => self.made.entry(host.clone()).or_default().note(&step.action),
        }
        let Some(stage) = self.plan.stages.last_mut() else { return };
        match self.places.get(host).and_then(|place| stage.work.get_mut(*place)) {
            Some(work) => work.steps.push(step),
            None => {
                self.places.insert(host.clone(), stage.work.len());
                stage.work.push(HostWork { host: host.clone(), steps: vec![step] });
            }
        }
    }

    /// See [`Made::is_current`]; `text` is a file's, as it takes that in as well.
    fn is_current(&self, node: &Node, what: &str, inputs: &[String], text: Option<&str>) -> bool {
        let all: Vec<String> = text.map(text_input).into_iter().chain(inputs.iter().cloned()).collect();
        self.made.get(&node.name).is_some_and(|made| made.is_current(what, &all))
    }

    /// Counts something that is as wanted.
    pub fn checked(&mut self) {
        self.plan.checked += 1;
    }

    /// Notes something that stops nothing.
    pub fn notice(
        &mut self,
        phase: &'static str,
        host: Option<&NodeName>,
        text: impl Into<String>,
        help: impl Into<String>,
    ) {
        let notice = Notice { phase, host: host.cloned(), text: text.into(), help: help.into() };
        self.plan.notices.push(notice);
    }

    /// A file shall have this text; true where that takes a step.
    pub fn file(&mut self, node: &Node, path: &str, mode: u32, text: impl Into<String>) -> bool {
        self.file_with_inputs(node, path, mode, text, &[])
    }

    /// The same for a file whose text names the revision of `inputs`.
    pub fn file_with_inputs(
        &mut self,
        node: &Node,
        path: &str,
        mode: u32,
        text: impl Into<String>,
        inputs: &[String],
    ) -> bool {
        let text = text.into();
        let Some(difference) = self.difference(node, path, mode, &text, inputs) else {
            self.checked();
            return false;
        };
        let action = Action::PutFile { path: path.into(), mode, text, inputs: inputs.to_vec() };
        let rewrites = difference == Difference::Text;
        self.add(&node.name, Step { rewrites, ..Step::new(action, difference.as_str()) });
        true
    }

    fn difference(
        &self,
        node: &Node,
        path: &str,
        mode: u32,
        text: &str,
        inputs: &[String],
    ) -> Option<Difference> {
        let facts = self.facts(&node.name);
        let wanted = file_hash(text, revision(facts, inputs).as_deref());
        match facts.files.get(path) {
            None => Some(Difference::Missing),
            Some(_) if wanted == FRESH && self.is_current(node, path, inputs, Some(text)) => None,
            Some(f) if f.sha256 != wanted || wanted == FRESH => Some(Difference::Text),
            Some(f) if f.mode != mode => Some(Difference::Mode),
            Some(f) if f.owner != layout::owner_of(path) => Some(Difference::Owner),
            Some(_) => None,
        }
    }

    /// True where a file is there and has this text.
    pub fn has_text(&self, node: &Node, path: &str, text: &str) -> bool {
        let wanted = file_hash(text, None);
        self.facts(&node.name).files.get(path).is_some_and(|f| f.sha256 == wanted)
    }

    /// A file of ours shall not be there; true where that takes a step.
    pub fn no_file(&mut self, node: &Node, path: &str, why: &str) -> bool {
        let there = self.facts(&node.name).files.contains_key(path);
        if there {
            self.push(&node.name, Action::Remove { paths: vec![path.into()] }, why);
        }
        there
    }

    /// A folder shall be there with this mode, and be whose [`layout::owner_of`] says.
    pub fn folder(&mut self, node: &Node, path: &str, mode: u32) {
        let why = match self.facts(&node.name).files.get(path) {
            None => "missing".to_owned(),
            Some(f) if f.mode != mode => format!("is {:04o}", f.mode),
            Some(f) if f.owner != layout::owner_of(path) => format!("is of {}", f.owner),
            Some(_) => return self.checked(),
        };
        self.push(&node.name, Action::Folder { path: path.into(), mode }, why);
    }

    /// A file that is there shall have this mode.
    pub fn mode(&mut self, node: &Node, path: &str, mode: u32) {
        let found = self.facts(&node.name).files.get(path).map(|f| f.mode);
        if let Some(found) = found.filter(|m| *m != mode) {
            let why = format!("is {found:04o}");
            self.push(&node.name, Action::Mode { path: path.into(), mode }, why);
        }
    }

    /// A program shall be installed.
    pub fn program(&mut self, node: &Node, program: Program) {
        let why = match self.facts(&node.name).programs.get(&program.name) {
            None => "missing",
            Some(fact) if !program.is_at(&fact.url) => "another version",
            Some(fact) if !fact.kept => "was changed on the host",
            Some(_) => return self.checked(),
        };
        self.push(&node.name, Action::Install { program }, why);
    }

    /// Images shall be there.
    pub fn images(&mut self, node: &Node, images: &[String]) {
        let facts = self.facts(&node.name);
        let missing: Vec<String> = images.iter().filter(|i| !facts.images.contains(i)).cloned().collect();
        let why = if facts.images_untold { "not told: containerd was too busy" } else { "missing" };
        self.plan.checked += images.len() - missing.len();
        if !missing.is_empty() {
            self.push(&node.name, Action::Pull { images: missing }, why);
        }
    }

    /// True where one of these bundles is applied in this run.
    pub fn applies(&self, bundles: &[&str]) -> bool {
        let of = |action: &Action| match action {
            Action::Apply { bundle, .. } => bundles.contains(&bundle.as_str()),
            _ => false,
        };
        self.plan.steps().any(|(_, step)| of(&step.action))
    }

    /// True where this run waits for nodes to become Ready.
    pub fn awaits_nodes(&self) -> bool {
        self.plan.steps().any(|(_, step)| matches!(step.action, Action::AwaitNodes { .. }))
    }

    /// True where the stage that is being filled has work for the host.
    pub fn has_work(&self, host: &NodeName) -> bool {
        self.places.contains_key(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::testing;

    fn folder() -> Action {
        Action::Folder { path: "/x".into(), mode: 0o755 }
    }

    #[test]
    fn what_would_wait_for_an_empty_stage_waits_for_those_before_it() {
        let cluster = testing::ha();
        let host = cluster.nodes[0].name.clone();
        let mut p = Planner::new(&cluster, Observed::default(), OffsetDateTime::UNIX_EPOCH);
        for (title, beside, filled) in [
            ("empty", false, false),
            ("first", true, true),
            ("second", true, true),
            ("barrier", false, false),
            ("empty", true, false),
            ("third", true, true),
            ("empty", true, false),
            ("fourth", true, true),
            ("one by one", false, true),
            ("fifth", true, true),
        ] {
            match (title, beside) {
                ("one by one", _) => p.stage("x", title, Mode::OneByOne),
                (_, true) => p.stage_beside("x", title),
                (_, false) => p.stage("x", title, Mode::Parallel),
            }
            if filled {
                p.push(&host, folder(), "");
            }
        }
        let (plan, _) = p.finish();
        let groups: Vec<Vec<&str>> =
            plan.groups().map(|group| group.iter().map(|s| s.title.as_str()).collect()).collect();
        assert_eq!(
            groups,
            [vec!["first", "second"], vec!["third", "fourth"], vec!["one by one"], vec!["fifth"]]
        );
    }
}
