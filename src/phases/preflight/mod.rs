//! Whether the hosts can carry what is wanted of them: all findings of all hosts at once, each with its remedy, before
//! the first change.
//!
//! What a host says of itself is judged here and in [`host`], what hosts are to one another, their clocks too, in
//! [`between`]; both know only facts. The network between hosts and the speed of disks take a measurement, which
//! `exec::paths` makes and [`paths`] and [`probe`] judge.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    event::count,
    inventory::{Cluster, Node, NodeName},
    observe::Facts,
    phases::ownership,
    plan::{Planner, Refusal},
};

mod between;
pub mod host;
pub mod paths;
pub mod probe;

/// The name of the phase.
pub const PHASE: &str = "preflight";

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// On which host.
    pub host: NodeName,
    /// What, as it reads after the host's name.
    pub text: String,
    /// What to do about it.
    pub help: String,
}

/// What was found on all hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// How many things were looked at.
    pub checks: usize,
    /// `up` would founder on these.
    pub errors: Vec<Finding>,
    /// And on these it would not.
    pub warnings: Vec<Finding>,
}

/// What a check has to say about a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It cannot be: what is wrong, and the remedy.
    Error(String, String),
    /// It had better not be.
    Warning(String, String),
}

impl Verdict {
    fn error(text: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Error(text.into(), help.into())
    }

    fn warning(text: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Warning(text.into(), help.into())
    }
}

impl Findings {
    /// Counts one check and takes over what it found.
    pub fn take(&mut self, host: &NodeName, verdicts: impl IntoIterator<Item = Verdict>) {
        self.checks += 1;
        for verdict in verdicts {
            let (list, text, help) = match verdict {
                Verdict::Error(text, help) => (&mut self.errors, text, help),
                Verdict::Warning(text, help) => (&mut self.warnings, text, help),
            };
            list.push(Finding { host: host.clone(), text, help });
        }
    }

    /// Adds what another look found.
    pub fn extend(&mut self, other: Self) {
        self.checks += other.checks;
        self.errors.extend(other.errors);
        self.warnings.extend(other.warnings);
    }

    /// The refusal that the errors make; `None` where there are none.
    pub fn refusal(&self) -> Option<Refusal> {
        if self.errors.is_empty() {
            return None;
        }
        let lines: Vec<String> = grouped(&self.errors)
            .into_iter()
            .map(|(hosts, finding)| format!("{hosts}: {}\n    {}", finding.text, finding.help))
            .collect();
        Some(Refusal {
            rule: PHASE,
            subject: format!("preflight found {}", count(self.errors.len(), "fault")),
            why: lines.join("\n"),
            help: "nothing was changed".into(),
        })
    }
}

/// Findings that read the same, once, with all their hosts.
pub fn grouped(findings: &[Finding]) -> Vec<(String, &Finding)> {
    let mut groups: Vec<(String, &Finding)> = Vec::new();
    for finding in findings {
        match groups.iter_mut().find(|(_, f)| f.text == finding.text && f.help == finding.help) {
            Some((hosts, _)) => hosts.push_str(&format!(", {}", finding.host)),
            None => groups.push((finding.host.to_string(), finding)),
        }
    }
    groups
}

/// Everything that facts tell. `remarks` as of [`host::Subject`], for all hosts; new ones get theirs in any case.
pub fn inspect<'a>(cluster: &Cluster, facts: impl Fn(&NodeName) -> &'a Facts, remarks: bool) -> Findings {
    let built = is_built(cluster.nodes.iter().map(|node| facts(&node.name)));
    let mut findings = each(host::CHECKS, cluster, &facts, remarks, built);
    between::inspect(cluster, facts, &mut findings);
    findings
}

/// The same of one host that joins those of the cluster that answer: what is wrong with them is not its fault.
pub fn newcomer(cluster: &Cluster, node: &Node, seen: &BTreeMap<NodeName, Facts>) -> Findings {
    let Some(facts) = seen.get(&node.name) else { return Findings::default() };
    let mut alone = cluster.clone();
    alone.nodes = vec![node.clone()];
    let mut findings = each(host::CHECKS, &alone, |_: &NodeName| facts, false, is_built(seen.values()));
    let mut all = cluster.clone();
    // Of two with the same name, the later one is told.
    all.nodes.retain(|n| n.name != node.name && seen.contains_key(&n.name));
    all.nodes.push(node.clone());
    let mut among = Findings::default();
    between::inspect(&all, |name| seen.get(name).unwrap_or(facts), &mut among);
    among.errors.retain(|f| f.host == node.name);
    among.warnings.retain(|f| f.host == node.name);
    findings.extend(among);
    findings
}

/// What of it stands in the way of new certificates on hosts that serve already: whose they are, what they run, and clocks.
pub fn grave<'a>(cluster: &Cluster, facts: impl Fn(&NodeName) -> &'a Facts) -> Findings {
    let mut findings = each(host::GRAVE, cluster, &facts, false, true);
    between::clocks(cluster, facts, &mut findings);
    findings
}

/// Whether rsadm has prepared one of these hosts.
fn is_built<'a>(mut facts: impl Iterator<Item = &'a Facts>) -> bool {
    facts.any(ownership::is_prepared)
}

fn each<'a>(
    checks: &[host::Check],
    cluster: &Cluster,
    facts: impl Fn(&NodeName) -> &'a Facts,
    remarks: bool,
    built: bool,
) -> Findings {
    let mut findings = Findings::default();
    for node in &cluster.nodes {
        let facts = facts(&node.name);
        let remarks = remarks || !facts.runs("kubelet");
        let subject = host::Subject { cluster, node, facts, remarks, built };
        for check in checks {
            findings.take(&node.name, check(&subject));
        }
    }
    findings
}

/// See the module.
///
/// # Errors
/// Where a finding is one that `up` would founder on.
pub fn plan(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let findings = inspect(p.cluster, |name| p.facts(name), false);
    notices(p, &findings.warnings);
    findings.refusal().map_or(Ok(()), Err)
}

/// Tells what stops nothing.
pub fn notices(p: &mut Planner<'_>, findings: &[Finding]) {
    for (hosts, finding) in grouped(findings) {
        match hosts == finding.host.as_str() {
            true => p.notice(PHASE, Some(&finding.host), &finding.text, &finding.help),
            false => p.notice(PHASE, None, format!("{hosts}: {}", finding.text), &finding.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(host: &str, text: &str) -> Finding {
        Finding { host: NodeName::new(host), text: text.into(), help: "swapoff -a".into() }
    }

    #[test]
    fn one_refusal_has_all_findings_and_names_hosts_together() {
        let findings = Findings {
            checks: 9,
            errors: vec![
                finding("m1", "swap is on"),
                finding("m2", "has no tar"),
                finding("w1", "swap is on"),
            ],
            warnings: vec![finding("m1", "little memory")],
        };
        let refusal = findings.refusal().unwrap();
        assert_eq!(refusal.subject, "preflight found 3 faults");
        assert_eq!(refusal.why, "m1, w1: swap is on\n    swapoff -a\nm2: has no tar\n    swapoff -a");
    }

    #[test]
    fn a_newcomer_is_held_against_those_that_are_there_and_for_its_own_faults_alone() {
        let cluster = crate::manifests::testing::ha();
        let (w1, m3) = (NodeName::new("w1"), NodeName::new("m3"));
        let at = |seconds: i128| (1_800_000_000 + seconds) * 1_000_000_000;
        let names = ["m1", "m2", "w1", "w2"].map(NodeName::new);
        let facts = |name: &NodeName| Facts {
            hostname: if *name == w1 { "w2".into() } else { name.to_string() },
            time: if *name == w1 { at(90) } else { at(0) },
            asked_at: at(0),
            ..Facts::default()
        };
        let seen: BTreeMap<_, _> = names.iter().map(|n| (n.clone(), facts(n))).collect();
        let told = |name: &NodeName| {
            let node = cluster.nodes.iter().find(|n| n.name == *name).unwrap();
            let found = newcomer(&cluster, node, &seen);
            assert!(found.errors.iter().all(|f| f.host == *name), "{:?}", found.errors);
            found.errors.into_iter().map(|f| f.text).collect::<Vec<_>>()
        };
        let of_w1 = told(&w1);
        assert!(of_w1.contains(&"its clock is 90 s ahead of the others".to_owned()), "{of_w1:?}");
        assert!(of_w1.contains(&"has the host name of w2: w2".to_owned()), "{of_w1:?}");
        assert!(!told(&names[0]).iter().any(|text| text.contains("clock")));
        assert!(told(&m3).is_empty(), "nothing is known of it");
    }

    #[test]
    fn warnings_refuse_nothing() {
        let findings = Findings { warnings: vec![finding("m1", "little memory")], ..Findings::default() };
        assert_eq!(findings.refusal(), None);
    }
}
