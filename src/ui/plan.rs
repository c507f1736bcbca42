//! The plan as `rsadm plan` prints it: stage by stage, hosts that do the same together.

use std::fmt::Write;

use crate::{
    event::count,
    plan::{Mode, Plan, Stage, Step},
};

/// The whole plan and its sum.
pub fn render(plan: &Plan) -> String {
    let mut text = String::new();
    for stage in &plan.stages {
        let beside = if stage.beside { ", beside the one above" } else { "" };
        let _ = writeln!(text, "[{}] {}{}{beside}", stage.phase, stage.title, how(stage));
        hosts(&mut text, stage);
    }
    for notice in &plan.notices {
        let host = notice.host.as_ref().map(|h| format!(" {h}:")).unwrap_or_default();
        let _ = writeln!(text, "warning{host} {}\n    {}", notice.text, notice.help);
    }
    let _ = match plan.changes() {
        _ if plan.is_empty() => {
            writeln!(text, "in sync: {} things checked, nothing to change", plan.checked)
        }
        0 => writeln!(text, "nothing to change; a run would {}", waits(plan).join(", ")),
        changes => writeln!(
            text,
            "{} on {}. Nothing was changed.",
            count(changes, "change"),
            count(plan.hosts().len(), "host")
        ),
    };
    text
}

/// What a plan does that changes nothing, each once.
fn waits(plan: &Plan) -> Vec<String> {
    let mut waits = Vec::new();
    for wait in plan.steps().map(|(_, step)| step.action.to_string()) {
        if !waits.contains(&wait) {
            waits.push(wait);
        }
    }
    waits
}

fn how(stage: &Stage) -> String {
    match stage.mode {
        _ if stage.work.len() < 2 && !stage.gated => String::new(),
        _ if stage.gated => ", only while etcd can spare a member".into(),
        Mode::Parallel => format!(", {} at once", stage.work.len()),
        Mode::OneByOne => ", one after the other".into(),
    }
}

fn hosts(text: &mut String, stage: &Stage) {
    let mut before: Option<(&str, Vec<String>)> = None;
    let width = stage.work.iter().map(|w| w.host.as_str().len()).max().unwrap_or(0);
    for work in &stage.work {
        let lines: Vec<String> = work.steps.iter().flat_map(lines).collect();
        let host = work.host.as_str();
        if let Some((other, _)) = before.as_ref().filter(|(_, theirs)| *theirs == lines) {
            let _ = writeln!(text, "  {host:width$}  the same as {other}");
            continue;
        }
        for (i, line) in lines.iter().enumerate() {
            let _ = writeln!(text, "  {:width$}  {line}", if i == 0 { host } else { "" });
        }
        before = Some((host, lines));
    }
}

/// A step, and below it what it changes in a file.
fn lines(step: &Step) -> impl Iterator<Item = String> {
    let line = match step.why.as_str() {
        "" => step.action.to_string(),
        why => format!("{} ({why})", step.action),
    };
    std::iter::once(line).chain(step.changes.iter().map(|change| format!("    {change}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inventory::NodeName,
        plan::{Action, HostWork, Notice},
        ui::json::line,
    };

    #[test]
    fn a_plan_that_only_waits_has_nothing_to_change() {
        let wait = Action::AwaitNodes { nodes: vec![NodeName::new("w2")] };
        let work = ["m1", "m2"]
            .map(|host| HostWork { host: NodeName::new(host), steps: vec![Step::new(wait.clone(), "")] });
        let stage = Stage {
            phase: "workers",
            title: "nodes are Ready".into(),
            mode: Mode::Parallel,
            gated: false,
            beside: false,
            work: work.into(),
        };
        let shown = render(&Plan { stages: vec![stage], ..Plan::default() });
        assert_eq!(shown.lines().last(), Some("nothing to change; a run would wait until w2 is Ready"));
    }

    /// Programs read these names: there may be more of them, and none is lost.
    #[test]
    fn a_plan_for_programs() {
        let file = Action::PutFile {
            path: "/etc/rsadm/network.sh".into(),
            mode: 0o644,
            text: "new\n".into(),
            inputs: vec![],
        };
        let mut steps = vec![Step::new(file, "differs"), Step::new(Action::Sysctl, "")];
        steps[0].changes = vec!["old → new".into()];
        let stage = |mode| Stage {
            phase: "etcd",
            title: "new settings on m1".into(),
            mode,
            gated: true,
            beside: false,
            work: vec![],
        };
        let mut plan = Plan {
            stages: [Mode::OneByOne, Mode::Parallel].map(stage).into(),
            checked: 212,
            ..Plan::default()
        };
        plan.stages[0].work = vec![HostWork { host: NodeName::new("m1"), steps }];
        plan.notices = vec![Notice {
            phase: "workers",
            host: None,
            text: "swap is on".into(),
            help: "swapoff -a".into(),
        }];
        insta::assert_snapshot!(line(&plan), @r#"{"stages":[{"phase":"etcd","title":"new settings on m1","mode":"one-by-one","gated":true,"beside":false,"work":[{"host":"m1","steps":[{"action":{"put-file":{"path":"/etc/rsadm/network.sh","mode":420,"text":"new\n","inputs":[]}},"why":"differs","changes":["old → new"]},{"action":"sysctl","why":""}]}]},{"phase":"etcd","title":"new settings on m1","mode":"parallel","gated":true,"beside":false,"work":[]}],"notices":[{"phase":"workers","host":null,"text":"swap is on","help":"swapoff -a"}],"checked":212}"#);
    }
}
