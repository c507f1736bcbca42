//! Plans as text: a folder of `tests/plans` is a case, with an inventory, what is observed, and the plan that follows.
//!
//! `observed.yaml` is `empty` for bare hosts, or an [`Observed`] in YAML, as `rsadm plan --observed` writes it: a fault from the
//! field is planned for as of the time when it was seen. Files that the inventory names are not read. With `RSADM_GOLDEN=write` in the environment
//! `plan.txt` is written instead of compared. Random material is not in a plan, so the text is the same every time.

#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at what should not be; clippy does not know its helpers"
)]

use std::{env, fmt::Write, fs, path::Path};

use rsadm::{
    fake::{State, World},
    inventory,
    observe::{Observed, gather},
    phases::{self, UP},
    plan::Plan,
};
use time::OffsetDateTime;

fn words(plan: &Plan) -> String {
    let mut text = String::new();
    for stage in &plan.stages {
        let gated = if stage.gated { ", gated" } else { "" };
        let beside = if stage.beside { ", beside the one above" } else { "" };
        writeln!(text, "[{}] {} ({:?}{gated}{beside})", stage.phase, stage.title, stage.mode).unwrap();
        for work in &stage.work {
            for step in &work.steps {
                let why = if step.why.is_empty() { String::new() } else { format!(": {}", step.why) };
                writeln!(text, "  {}: {}{why}", work.host, step.action).unwrap();
            }
        }
    }
    if text.is_empty() { "nothing to do\n".into() } else { text }
}

/// When the hosts were asked: a certificate that was good then has ended since.
fn seen_at(seen: &Observed) -> Option<OffsetDateTime> {
    let asked = seen.hosts.values().map(|facts| facts.asked_at).max()?;
    OffsetDateTime::from_unix_timestamp_nanos(asked).ok()
}

#[test]
fn plans_are_as_written_down() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let write = env::var_os("RSADM_GOLDEN").is_some_and(|v| v == "write");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut seen_cases = 0;
    for case in fs::read_dir(cases).unwrap().map(|e| e.unwrap().path()) {
        seen_cases += 1;
        let text = fs::read_to_string(case.join("inventory.yaml")).unwrap();
        let cluster =
            inventory::load(&text, "inventory.yaml", Some(Path::new("/home/operator"))).unwrap().cluster;
        let observed = fs::read_to_string(case.join("observed.yaml")).unwrap();
        let seen: Observed = match observed.trim() {
            "empty" => {
                let world = World::new(State::new(&cluster));
                runtime.block_on(gather(&cluster, &world.fleet(&cluster))).unwrap()
            }
            text => serde_yaml::from_str(text).unwrap(),
        };
        let now = seen_at(&seen).unwrap_or_else(OffsetDateTime::now_utc);
        let is = match phases::plan(UP, &cluster, seen, now, |_| true) {
            Ok((plan, _)) => words(&plan),
            Err(refusal) => format!("refused: {refusal}\n{}\n", refusal.help),
        };
        let file = case.join("plan.txt");
        if write {
            fs::write(&file, &is).unwrap();
        }
        let wanted = fs::read_to_string(&file).unwrap_or_default();
        assert!(wanted == is, "{} differs (RSADM_GOLDEN=write rewrites it):\n{is}", file.display());
    }
    assert!(seen_cases > 0, "no cases");
}
