//! What phases plan with: compare, and add a step only where something differs.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::{
    Action, DIFFERS, HostWork, Mode, Notice, Plan, Renewal, Stage, Step,
    action::{FRESH, UnitVerb, file_hash, revision, text_input},
    made::Made,
};
use crate::{
    inventory::{Cluster, Node, NodeName},
    layout,
    observe::{Facts, Observed},
    programs::Program,
};

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

    /// The same for work of all hosts at once that waits for no other host's part in the stage before.
    pub fn stage_beside(&mut self, phase: &'static str, title: impl Into<String>) {
        self.stage(phase, title, Mode::Parallel);
        if let Some(stage) = self.plan.stages.last_mut() {
            stage.beside = true;
        }
    }

    /// The same, where every host's work may cost etcd a member.
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
        if self.scope.as_ref().is_some_and(|scope| !scope.contains(host)) {
            return;
        }
        action.predict(host, &mut self.seen);
        match self.made.get_mut(host) {
            Some(made) => made.note(&action),
            None => self.made.entry(host.clone()).or_default().note(&action),
        }
        let Some(stage) = self.plan.stages.last_mut() else { return };
        let step = Step::new(action, why);
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
        let Some(why) = self.difference(node, path, mode, &text, inputs) else {
            self.checked();
            return false;
        };
        let action = Action::PutFile { path: path.into(), mode, text, inputs: inputs.to_vec() };
        self.push(&node.name, action, why);
        true
    }

    /// The manifest of a static pod that runs shall have this text: the one it runs with is kept until the new one serves.
    /// True where that takes a step.
    pub fn replace_manifest(
        &mut self,
        node: &Node,
        (process, port): (&str, u16),
        text: impl Into<String>,
        inputs: &[String],
    ) -> bool {
        let (text, path) = (text.into(), layout::manifest_of(process));
        if self.replaces(node, process, &text, inputs) {
            self.push(&node.name, Action::Keep { process: process.into(), port }, "");
        }
        self.file_with_inputs(node, &path, 0o600, text, inputs)
    }

    /// True where the manifest of a static pod is there and does not have this text.
    pub fn replaces(&self, node: &Node, process: &str, text: &str, inputs: &[String]) -> bool {
        self.difference(node, &layout::manifest_of(process), 0o600, text, inputs) == Some(DIFFERS)
    }

    /// What of a file is not as wanted.
    fn difference(
        &self,
        node: &Node,
        path: &str,
        mode: u32,
        text: &str,
        inputs: &[String],
    ) -> Option<&'static str> {
        let facts = self.facts(&node.name);
        let wanted = file_hash(text, revision(facts, inputs).as_deref());
        match facts.files.get(path) {
            None => Some("missing"),
            Some(_) if wanted == FRESH && self.is_current(node, path, inputs, Some(text)) => None,
            Some(f) if f.sha256 != wanted || wanted == FRESH => Some(DIFFERS),
            Some(f) if f.mode != mode => Some("has another mode"),
            Some(f) if f.owner != layout::owner_of(path) => Some("has another owner"),
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
            Some(fact) if fact.url != program.url => "another version",
            Some(fact) if !fact.kept => "was changed on the host",
            Some(_) => return self.checked(),
        };
        self.push(&node.name, Action::Install { program }, why);
    }

    /// Images shall be there.
    pub fn images(&mut self, node: &Node, images: &[String]) {
        let facts = self.facts(&node.name);
        let missing: Vec<String> = images.iter().filter(|i| !facts.images.contains(i)).cloned().collect();
        self.plan.checked += images.len() - missing.len();
        if !missing.is_empty() {
            self.push(&node.name, Action::Pull { images: missing }, "missing");
        }
    }

    /// A unit shall run, and its process with these inputs.
    pub fn unit(&mut self, node: &Node, unit: &str, inputs: &[String]) -> bool {
        let state = self.facts(&node.name).units.get(unit).cloned().unwrap_or_default();
        let (verb, why) = match state {
            s if !s.active => (UnitVerb::Start, "not running"),
            _ if self.is_older(node, unit, inputs) => (UnitVerb::Restart, "runs with older files"),
            s if !s.enabled => (UnitVerb::Start, "not started at boot"),
            _ => {
                self.checked();
                return false;
            }
        };
        self.push(&node.name, Action::Unit { unit: unit.into(), verb, inputs: inputs.to_vec() }, why);
        true
    }

    /// True where a unit runs with other inputs than these.
    pub fn is_older(&self, node: &Node, unit: &str, inputs: &[String]) -> bool {
        let facts = self.facts(&node.name);
        let wanted = revision(facts, inputs);
        facts.units.get(unit).is_some_and(|u| u.active)
            && !inputs.is_empty()
            && !self.is_current(node, unit, inputs, None)
            && (wanted.is_none() || facts.running_revision(unit) != wanted.as_deref())
    }

    /// True where this run restarts a unit of this name somewhere.
    pub fn restarts(&self, unit: &str) -> bool {
        let is_it =
            |a: &Action| matches!(a, Action::Unit { unit: u, verb: UnitVerb::Restart, .. } if u == unit);
        self.plan.steps().any(|(_, step)| is_it(&step.action))
    }

    /// A static pod's process shall run with these inputs; true where it has to be waited for.
    pub fn process(&mut self, node: &Node, process: &str, inputs: &[String]) -> bool {
        let facts = self.facts(&node.name);
        let wanted = revision(facts, inputs);
        let runs = wanted.is_some() && facts.running_revision(process) == wanted.as_deref();
        if runs || self.is_current(node, process, inputs, None) {
            self.checked();
            return false;
        }
        let action = Action::AwaitProcess { process: process.into(), inputs: inputs.to_vec() };
        self.push(&node.name, action, "");
        true
    }

    /// The same where one that ran is replaced, and has to serve before anything else is touched. One whose manifest somebody
    /// edited was `rewritten`, and is waited for also where its revision is the wanted one: that is not of what was edited, and
    /// its kubelet starts it anew.
    pub fn replaced_process(
        &mut self,
        node: &Node,
        (process, port): (&str, u16),
        inputs: &[String],
        rewritten: bool,
    ) -> bool {
        let mut waits = self.process(node, process, inputs);
        if rewritten && !waits {
            let action = Action::AwaitProcess { process: process.into(), inputs: inputs.to_vec() };
            self.push(&node.name, action, "");
            waits = true;
        }
        if waits {
            self.push(&node.name, Action::AwaitServing { process: process.into(), port }, "");
        }
        waits
    }

    /// What replaced manifests on the host serves by now: they are not put back any more. Nothing, where none was kept.
    pub fn commit(&mut self, node: &Node) {
        let work = self.places.get(&node.name).and_then(|place| self.plan.stages.last()?.work.get(*place));
        let steps = work.into_iter().flat_map(|work| work.steps.iter().rev());
        let mut open = steps.map(|step| &step.action).take_while(|action| !matches!(action, Action::Commit));
        if open.any(|action| matches!(action, Action::Keep { .. })) {
            self.push(&node.name, Action::Commit, "");
        }
    }

    /// True where one of these bundles is applied in this run.
    pub fn applies(&self, bundles: &[&str]) -> bool {
        let of = |action: &Action| match action {
            Action::Apply { bundle, .. } => bundle.as_deref().is_some_and(|b| bundles.contains(&b)),
            _ => false,
        };
        self.plan.steps().any(|(_, step)| of(&step.action))
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
