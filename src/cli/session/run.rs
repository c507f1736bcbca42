//! From a plan to its end: locks, preflight, steps, and once more where a connection was lost.

use std::collections::BTreeSet;

use serde_json::json;
use time::OffsetDateTime;

use super::{Consent, Session};
use crate::{
    cli::{CliError, Exit},
    event::{Event, Failure, count},
    exec::{
        self, RunError,
        lock::{self, Mark},
        paths::{self, Scope},
    },
    inventory::{Cluster, NodeName},
    observe::{Facts, Observed},
    phases::{self, Table, etcd, preflight},
    plan::Plan,
};

/// How often a run looks and plans anew: after lost connections, and once etcd tells who is a member.
const ROUNDS: usize = 3;

impl Session<'_> {
    /// Plans a table of phases.
    pub(in crate::cli) fn plan(
        &self,
        table: &Table,
        seen: Observed,
        wants: impl Fn(&str) -> bool,
    ) -> Result<(Plan, Observed), CliError> {
        Ok(phases::plan(table, &self.cluster, seen, OffsetDateTime::now_utc(), wants)?)
    }

    /// Tells what a plan found beside its steps.
    pub(in crate::cli) fn notices(&self, plan: &Plan) {
        for notice in &plan.notices {
            self.events.emit(Event::Warning {
                phase: Some(notice.phase),
                host: notice.host.clone(),
                text: notice.text.clone(),
                help: Some(notice.help.clone()),
            });
        }
    }

    /// Takes the locks, looks and plans again under them, and does what is planned. Where a connection was lost on the way
    /// and stands again, it looks and plans anew, as the next run would: nothing is sent a second time unseen. So it does where
    /// it had to start etcd before that could tell who is a member. Answers what was planned, and which members it gave up on.
    pub(in crate::cli) async fn carry_out(
        &self,
        command: &str,
        table: &Table,
        wants: impl Fn(&str) -> bool,
        consent: Consent,
    ) -> Result<(Plan, BTreeSet<String>), CliError> {
        // From here on Ctrl-C is an orderly end, also while it still looks around: locks are held.
        self.context.stop_signal()?;
        self.lock(command).await?;
        let mut seen = self.observe().await?;
        if wants(preflight::PHASE) {
            self.preflight(&seen, Scope::Newcomers).await?;
        }
        let (mut planned, _) = self.plan(table, seen.clone(), &wants)?;
        planned.notices.retain(|notice| notice.phase != preflight::PHASE);
        self.notices(&planned);
        let (mut rest, mut rounds, mut given_up) = (planned.clone(), 0, BTreeSet::new());
        loop {
            let untold = wants(etcd::PHASE) && etcd::members::is_untold(&self.cluster, &seen);
            let (result, left) = self.run(&self.cluster, &rest, seen, consent).await?;
            given_up.extend(left);
            if !goes_on(&result, untold, rounds) {
                ended(result, command)?;
                return if untold { Err(still_untold()) } else { Ok((planned, given_up)) };
            }
            rounds += 1;
            seen = self.observe().await?;
            (rest, _) = self.plan(table, seen.clone(), &wants)?;
            match result {
                Err(RunError::Lost(lost)) => self.tell_lost(&lost),
                // What it adds to what was planned, not what is left of that.
                _ => planned.stages.extend(rest.stages.clone()),
            }
            rest.notices.retain(|new| new.phase != preflight::PHASE && !planned.notices.contains(new));
            self.notices(&rest);
            planned.notices.append(&mut rest.notices);
        }
    }

    /// Tells of connections that were lost and stand again.
    fn tell_lost(&self, lost: &[Failure]) {
        for failure in lost {
            self.events.emit(Event::Warning {
                phase: Some(failure.phase),
                host: failure.host.clone(),
                text: brief(failure),
                help: Some(
                    "it answers again: looks at all hosts anew, and goes on from what is there".into(),
                ),
            });
        }
    }

    /// Takes the lock of every host that is connected.
    pub(in crate::cli) async fn lock(&self, command: &str) -> Result<(), CliError> {
        self.lock_and_leave(Mark::Own, command).await
    }

    /// The same for a run that leaves no line of its own.
    pub(in crate::cli) async fn lock_and_leave(&self, mark: Mark, command: &str) -> Result<(), CliError> {
        Ok(lock::take(&self.fleet, &lock::holder(command), mark, &self.events).await?)
    }

    /// Looks at everything before the first change, tells it in one line with its warnings, and refuses with all that
    /// stands in the way. To be called under the locks: it listens on ports for a moment.
    pub(in crate::cli) async fn preflight(&self, seen: &Observed, scope: Scope<'_>) -> Result<(), CliError> {
        let names = self.cluster.nodes.iter().map(|n| n.name.clone());
        let shown = self.events.stage(preflight::PHASE, "hosts, and the network between them", names);
        let nothing = Facts::default();
        let facts = |name: &NodeName| seen.hosts.get(name).unwrap_or(&nothing);
        let mut findings = preflight::inspect(&self.cluster, facts, scope == Scope::Everything);
        let tried = paths::attempt(&self.cluster, &self.fleet, seen, scope)
            .await
            .map_err(|errors| self.unreachable(&errors))?;
        findings.extend(tried.findings);
        for (hosts, warning) in preflight::grouped(&findings.warnings) {
            shown.warn(None, format!("{hosts}: {}", warning.text), Some(warning.help.clone()));
        }
        let mut text =
            format!("{} on {}", count(findings.checks, "check"), count(self.cluster.nodes.len(), "host"));
        if tried.paths > 0 {
            text.push_str(&format!(", {} between them", count(tried.paths, "path")));
        }
        shown.done(text);
        match findings.refusal() {
            Some(refusal) => Err(CliError::from(refusal).detail("findings", json!(findings.errors))),
            None => Ok(()),
        }
    }

    /// Does what is planned. `command` is what goes on after a failure, as it has to be typed.
    pub(in crate::cli) async fn execute(
        &self,
        command: &str,
        plan: &Plan,
        seen: Observed,
        consent: Consent,
    ) -> Result<(), CliError> {
        self.execute_for(&self.cluster, command, plan, seen, consent).await
    }

    /// The same for a plan that another cluster than the inventory's was wanted for. Members are still asked where the
    /// inventory has them.
    pub(in crate::cli) async fn execute_for(
        &self,
        cluster: &Cluster,
        command: &str,
        plan: &Plan,
        seen: Observed,
        consent: Consent,
    ) -> Result<(), CliError> {
        let (result, _) = self.run(cluster, plan, seen, consent).await?;
        ended(result, command)
    }

    /// How it ended, and which members it gave up on.
    async fn run(
        &self,
        cluster: &Cluster,
        plan: &Plan,
        seen: Observed,
        consent: Consent,
    ) -> Result<(Result<(), RunError>, BTreeSet<String>), CliError> {
        let stop = self.context.stop_signal()?;
        let stopping = move || *stop.borrow();
        let members = self.members();
        let now = OffsetDateTime::now_utc();
        let mut cx = exec::Context::new(cluster, &self.fleet, &members, &self.events, seen, now, &stopping);
        (cx.limit, cx.api_limit) = (self.context.limit(), self.context.api_limit());
        cx.accept_quorum_loss = consent.is_given();
        let result = exec::execute(&cx, plan).await;
        Ok((result, cx.left_behind()))
    }
}

/// How a run ended. `command` is what goes on, as it has to be typed.
pub(in crate::cli) fn ended<T>(result: Result<T, RunError>, command: &str) -> Result<T, CliError> {
    result.map_err(|error| match error {
        RunError::Refused(refusal) => refusal.into(),
        RunError::Failed(failures) => failed(&failures),
        RunError::Lost(lost) => {
            let lost: Vec<String> = lost.iter().map(brief).collect();
            CliError::new(Exit::StepFailed, lost.join("; "))
                .hint("it answers again; run the same command again: it goes on from what it finds")
        }
        RunError::Stopped(left) => {
            let text = format!("stopped as asked; {left}");
            CliError::new(Exit::Interrupted, text).hint(format!("rsadm {command} goes on where this stopped"))
        }
    })
}

/// Whether another round follows one that came to this: where connections were lost and stand again, and where members had to
/// start before they could tell who is one.
fn goes_on(result: &Result<(), RunError>, untold: bool, rounds: usize) -> bool {
    let has_more = match result {
        Err(RunError::Lost(_)) => true,
        Ok(()) => untold,
        Err(_) => false,
    };
    has_more && rounds < ROUNDS
}

fn still_untold() -> CliError {
    CliError::new(Exit::StepFailed, "etcd does not tell who is a member, so that nobody joined or left")
        .hint("rsadm etcd status tells how it is; once a quorum serves, run the same command again")
}

/// A lost connection in a line.
fn brief(failure: &Failure) -> String {
    let why = failure.cause.clone().unwrap_or_else(|| failure.step.clone());
    [why].into_iter().chain(failure.state.clone()).collect::<Vec<_>>().join("; ")
}

/// Failures were shown as they happened; this closes the run.
fn failed(failures: &[Failure]) -> CliError {
    let hosts: Vec<String> =
        failures.iter().filter_map(|f| f.host.as_ref()).map(ToString::to_string).collect();
    CliError::new(
        Exit::StepFailed,
        format!("{} failed on {}", count(failures.len(), "step"), hosts.join(", ")),
    )
    .hint("mend the cause, then run the same command again: it goes on where it stopped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_round_follows_a_loss_and_an_answer_that_is_due() {
        let lost = || Err(RunError::Lost(vec![]));
        for (result, untold, rounds, more) in [
            (Ok(()), false, 0, false),
            (Ok(()), true, 0, true),
            (Ok(()), true, ROUNDS, false),
            (lost(), false, 0, true),
            (lost(), true, ROUNDS, false),
            (Err(RunError::Failed(vec![])), true, 0, false),
            (Err(RunError::Stopped(String::new())), true, 0, false),
        ] {
            assert_eq!(goes_on(&result, untold, rounds), more, "{result:?}, untold: {untold}, {rounds}");
        }
    }
}
