//! What runs on hosts: units, and static pods with their manifests. A process is judged by the revision that it was started with.

use super::{Difference, Planner};
use crate::{
    inventory::Node,
    layout,
    plan::{
        Action,
        action::{UnitVerb, revision},
    },
};

impl Planner<'_> {
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
        let manifest = layout::manifest_of(process);
        self.difference(node, &manifest, 0o600, text, inputs) == Some(Difference::Text)
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
        self.await_process(node, process, inputs)
    }

    fn await_process(&mut self, node: &Node, process: &str, inputs: &[String]) -> bool {
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
        let waits =
            self.process(node, process, inputs) || (rewritten && self.await_process(node, process, inputs));
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
}
