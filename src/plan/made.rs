//! What a plan remembers of its own steps.

use std::collections::BTreeMap;

use super::Action;

/// What this plan itself brings about on a host. Hashes of what is made in the run are not known yet, so that only the
/// order of the steps can tell whether something is up to date with what was made before it.
#[derive(Default)]
pub(super) struct Made {
    steps: usize,
    /// Files, and the step that writes each last.
    written: BTreeMap<String, usize>,
    /// Files and processes that take in other files, with these and the step.
    from: BTreeMap<String, (usize, Vec<String>)>,
}

impl Made {
    /// Takes a step over.
    pub(super) fn note(&mut self, action: &Action) {
        self.steps += 1;
        for path in action.writes() {
            self.written.insert(path, self.steps);
        }
        if let Some((what, inputs)) = action.takes_in() {
            self.from.insert(what.to_owned(), (self.steps, inputs));
        }
    }

    /// True where it was made in this plan from these inputs, and none of them is written again since.
    pub(super) fn is_current(&self, what: &str, inputs: &[String]) -> bool {
        let Some((step, from)) = self.from.get(what) else { return false };
        from == inputs && !inputs.iter().any(|i| self.written.get(i).is_some_and(|written| written > step))
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::{
        manifests::testing,
        observe::Observed,
        plan::{Mode, Planner},
    };

    #[test]
    fn what_was_made_in_this_run_is_made_once_and_again_only_for_new_inputs() {
        let cluster = testing::ha();
        let node = &cluster.nodes[0];
        let mut p = Planner::new(&cluster, Observed::default(), OffsetDateTime::UNIX_EPOCH);
        p.stage("x", "x", Mode::Parallel);
        let inputs = ["/etc/kubernetes/kubelet.conf".to_owned()];
        let put = |p: &mut Planner<'_>| {
            p.push(&node.name, Action::PutKubeletConf { server: "https://a".into() }, "");
        };
        let drop_in =
            |p: &mut Planner<'_>, text: &str| p.file_with_inputs(node, "/d.conf", 0o644, text, &inputs);
        put(&mut p);
        assert!(drop_in(&mut p, "@REVISION@") && p.unit(node, "kubelet", &inputs));
        assert!(!drop_in(&mut p, "@REVISION@") && !p.unit(node, "kubelet", &inputs));
        assert!(drop_in(&mut p, "@REVISION@ new") && !drop_in(&mut p, "@REVISION@ new"));
        put(&mut p);
        assert!(drop_in(&mut p, "@REVISION@ new") && p.unit(node, "kubelet", &inputs));
    }
}
