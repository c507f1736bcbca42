//! The quorum gate at work: asked just before a member may be lost, with what the members say at that moment.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Context, alike, ask, members::Members};
use crate::{
    etcd::status::{EtcdReport, Hashes, MemberReport, Trouble},
    event::Events,
    inventory::NodeName,
    plan::{
        Refusal,
        quorum::{Change, Membership, Outage, can_be_accepted, gate},
    },
    until::until,
};

/// How long a gate that says no is asked again: six of etcd's health intervals (etcd, `server.go`, `HealthInterval`), since on busy
/// hosts each look may take one.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// How long members may take to elect a leader, on slow machines and with the largest timeout that anybody sets.
const ELECTION: Duration = Duration::from_secs(15);

/// Whether the member on a host may be restarted now, or get what may stop it; `outage` says which. How the members are.
///
/// # Errors
/// The reason why not, with the way out.
pub async fn may_restart(cx: &Context<'_>, host: &NodeName, outage: Outage) -> Result<EtcdReport, Refusal> {
    let change = Change::Restart { name: host.to_string(), outage };
    let (report, judged) = await_yes(cx.members, &change, cx.accept_quorum_loss, cx.limit).await;
    if accept(judged, cx.accept_quorum_loss, cx.events)? == Answer::Accepted {
        let sick = report.members.iter().filter(|m| m.error.is_some());
        cx.given_up().extend(sick.map(|m| m.name.clone()));
    }
    if outage == Outage::Stop {
        alike::before_a_restart(cx, host, &report).await?;
    }
    Ok(report)
}

/// Says so where no member can be spared at any time, and `who` of them are to be away while each `does` something.
pub(super) fn tell_outage(report: &EtcdReport, who: &[String], does: &str, events: &Events) {
    let votes = |name: &&String| report.members.iter().any(|m| m.name == **name && !m.is_learner);
    let voters: Vec<&str> = who.iter().filter(votes).map(String::as_str).collect();
    let text = match report.quorum.voters {
        1 => format!("it is the only voter: etcd serves nothing while it {does}"),
        2 => format!("both voters are needed: etcd takes no writes while one of them {does}"),
        _ => return,
    };
    // One that is down already costs nothing more.
    if report.serves && !voters.is_empty() && report.quorum.healthy == report.quorum.voters {
        events.warn(format!("{}: {text}", voters.join(" and ")), None);
    }
}

/// Asks the gate until it says yes or has said no for long enough: elections end, and the member that was restarted before
/// this one may still be catching up. What the members said last, and what follows from it.
pub(super) async fn await_yes(
    members: &dyn Members,
    change: &Change,
    accepts: bool,
    limit: Duration,
) -> (EtcdReport, Result<(), Refusal>) {
    let end = Instant::now() + PATIENCE.min(limit);
    loop {
        let judge = |report: &EtcdReport| gate(change, &Membership::from(report)).map(drop);
        let mut report = settled(members).await;
        let mut judged = judge(&report);
        // Only now: one whose data is another's counts for nothing.
        if judged.is_ok() {
            report = ask::compared(members, Hashes::Cheap).await;
            judged = judge(&report);
        }
        match &judged {
            Err(refusal) if Instant::now() < end && !(accepts && can_be_accepted(refusal)) => {
                sleep(PAUSE).await;
            }
            _ => return (report, judged),
        }
    }
}

/// What the members say once no election is under way. Where there is no quorum to lose a restart costs nothing, and a
/// recovery is allowed, so that a quorum is lost is only believed when it lasts: for seconds after a leader fell silent all
/// look as if it were.
pub async fn settled(members: &dyn Members) -> EtcdReport {
    until(ELECTION, PAUSE, async || ask::report(members).await, |report| !may_be_electing(report)).await
}

/// True where no quorum serves, and members answer or are only late to.
fn may_be_electing(report: &EtcdReport) -> bool {
    let is_there = |m: &MemberReport| m.version.is_some() || m.error.as_ref().is_some_and(Trouble::is_late);
    !report.serves && report.members.iter().any(is_there)
}

/// What the gate said where it lets a change through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The quorum stays.
    Safe,
    /// It may be lost, and the operator accepted that.
    Accepted,
}

/// Asks the gate. Where it says no for the quorum's sake alone and the operator `accepts` its loss, tells that and goes on.
///
/// # Errors
/// The reason why not, with the way out.
pub fn ask(change: &Change, report: &EtcdReport, accepts: bool, events: &Events) -> Result<Answer, Refusal> {
    accept(gate(change, &Membership::from(report)).map(drop), accepts, events)
}

/// What follows from the gate's judgement.
pub(super) fn accept(judged: Result<(), Refusal>, accepts: bool, events: &Events) -> Result<Answer, Refusal> {
    match judged {
        Ok(()) => Ok(Answer::Safe),
        Err(refusal) if accepts && can_be_accepted(&refusal) => {
            let help = "rsadm etcd status shows how etcd comes out of it".to_owned();
            let Refusal { subject, why, .. } = refusal;
            events.warn(format!("the loss of the quorum was accepted: {subject}; {why}"), Some(help));
            Ok(Answer::Accepted)
        }
        Err(refusal) => Err(refusal),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{
        etcd::{
            Silence,
            status::{Id, tests::Scene},
        },
        event::Event,
    };

    #[test]
    fn an_election_is_no_lost_quorum() {
        assert!(!may_be_electing(&Scene::new(3).report()));
        assert!(!may_be_electing(&Scene::new(3).silence(1, "no answer").report()));
        assert!(may_be_electing(&Scene::new(3).without_quorum().report()));
        let nobody = (1..=3).fold(Scene::new(3).without_quorum(), |s, n| s.silence(n, "refused"));
        assert!(!may_be_electing(&nobody.report()), "nobody is there to elect anybody");
        let late = nobody.silence(1, Silence::late("no answer within 2.0 s"));
        assert!(may_be_electing(&late.report()), "it may be there, and so may be others");
    }

    #[test]
    fn consent_goes_past_the_quorum_alone_and_is_told() {
        let stop = Change::Restart { name: "m1".into(), outage: Outage::Stop };
        let Some(Id(id)) = Scene::new(1).report().members[0].id else { panic!("it has an ID") };
        let last = Change::Remove { id };
        for (change, report, accepts, answer, told) in [
            (&stop, Scene::new(3).report(), true, Ok(Answer::Safe), false),
            (&stop, Scene::new(3).silence(3, "no answer").report(), false, Err("quorum"), false),
            (&stop, Scene::new(3).silence(3, "no answer").report(), true, Ok(Answer::Accepted), true),
            (&last, Scene::new(1).report(), true, Err("last-member"), false),
        ] {
            let warnings = Arc::new(Mutex::new(Vec::new()));
            let sink = warnings.clone();
            let events = Events::new(move |event| {
                if let Event::Warning { text, .. } = event {
                    sink.lock().unwrap().push(text);
                }
            });
            let said = ask(change, &report, accepts, &events).map_err(|refusal| refusal.rule);
            assert_eq!(said, answer, "{change:?}, accepts: {accepts}");
            let warnings = warnings.lock().unwrap();
            assert_eq!(
                warnings.iter().any(|w| w.contains("accepted") && w.contains("m3")),
                told,
                "{warnings:?}"
            );
        }
    }
}
