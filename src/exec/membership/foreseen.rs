//! What is asked before anything of a plan is done, so that a refusal finds all hosts as they were: the gate of its first change,
//! and of the first that joins; and, here alone, whether it is known whose data is right. What a new member gets is the leader's,
//! right or wrong.

use tokio::time::{Instant, sleep};

use super::{PAUSE, by_url, sound};
use crate::{
    etcd::{
        Alarm,
        status::{Alike, EtcdReport, Hashes, Id, MemberReport},
    },
    exec::{Context, alike, gate},
    inventory::{Node, NodeName},
    plan::{
        Action, Plan, Refusal, Step,
        quorum::{self, Change, Membership},
    },
};

/// Asks the gate of the first change of the membership, which is asked again at the change's own moment, and compares data.
///
/// # Errors
/// The refusal, once it lasts.
pub async fn foresee(cx: &Context<'_>, plan: &Plan) -> Result<(), Refusal> {
    let Some(ahead) = Ahead::of(cx, plan) else { return Ok(()) };
    let patience = gate::PATIENCE.min(cx.limit);
    let until = Instant::now() + patience;
    let mut hashes = if ahead.may_be_asked { Hashes::Unasked } else { Hashes::Quick };
    let mut told = false;
    loop {
        let report = alike::compared(cx.members, hashes).await;
        let Some(change) = change_of(ahead.first, &report) else { return Ok(()) };
        // Only where the rest is well, and once: hashes hold up writes.
        if hashes != Hashes::Unasked {
            let open = ahead.whose_data(&report)?;
            let gated = ahead.may_be_asked.then(|| ahead.judged(&change, &report));
            match gated {
                Some(Err(refusal)) if !(cx.accept_quorum_loss && quorum::can_be_accepted(&refusal)) => {
                    if Instant::now() >= until || sound::differ(&report) {
                        return Err(refusal);
                    }
                }
                _ => {
                    open.iter().for_each(|open| alike::tell_open(cx, open));
                    return Ok(());
                }
            }
        }
        hashes = match ahead.judged(&change, &report) {
            Ok(()) => all_of_it(&report),
            Err(refusal) if cx.accept_quorum_loss && quorum::can_be_accepted(&refusal) => all_of_it(&report),
            Err(refusal) if Instant::now() >= until => return Err(refusal),
            Err(refusal) => {
                if !std::mem::replace(&mut told, true) {
                    let seconds = patience.as_secs();
                    cx.events.warn(format!("waits for etcd, {seconds} s at most: {}", refusal.why), None);
                }
                sleep(PAUSE * 5).await;
                Hashes::Unasked
            }
        };
    }
}

/// How much of the data is compared: of a large one too where the alarm CORRUPT is on, which may name the one that is right.
fn all_of_it(report: &EtcdReport) -> Hashes {
    if report.raised(Alarm::CORRUPT).is_empty() { Hashes::Quick } else { Hashes::Whole }
}

/// What is asked of the gate for it; `None` where that was done already.
fn change_of(action: &Action, report: &EtcdReport) -> Option<Change> {
    match action {
        Action::AddLearner { peer_url, .. } if by_url(report, peer_url).is_none() => {
            Some(Change::AddLearner { peer_url: peer_url.clone() })
        }
        Action::RemoveMember { peer_url, .. } => {
            by_url(report, peer_url)?.id.map(|Id(id)| Change::Remove { id })
        }
        _ => None,
    }
}

/// The changes that a plan makes.
struct Ahead<'p> {
    first: &'p Action,
    /// False where a step before it touches a host that goes on voting, which may be what makes the change safe.
    may_be_asked: bool,
    /// Peer URLs of those that leave before the first joins, or at all where none does.
    leave: Vec<&'p str>,
    /// The same of all that leave.
    all_leave: Vec<&'p str>,
    /// The peer URL of the first that joins.
    joins: Option<&'p str>,
    /// The same as of the first change.
    may_be_joined: bool,
}

impl<'p> Ahead<'p> {
    fn of(cx: &Context<'_>, plan: &'p Plan) -> Option<Self> {
        let steps: Vec<_> = plan.steps().collect();
        let at = steps.iter().position(|(_, step)| step.action.changes_membership())?;
        let first = &steps[at].1.action;
        let concerned = match first {
            Action::AddLearner { peer_url, .. } | Action::RemoveMember { peer_url, .. } => peer_url,
            _ => return None,
        };
        let added = |action: &'p Action| match action {
            Action::AddLearner { peer_url, .. } => Some(peer_url.as_str()),
            _ => None,
        };
        let join_at = steps.iter().position(|(_, step)| added(&step.action).is_some());
        let removed = |step: &'p Step| match &step.action {
            Action::RemoveMember { peer_url, .. } => Some(peer_url.as_str()),
            _ => None,
        };
        let all_leave = steps.iter().filter_map(|&(_, step)| removed(step)).collect();
        let before = &steps[..join_at.unwrap_or(steps.len())];
        let leave: Vec<&str> = before.iter().filter_map(|&(_, step)| removed(step)).collect();
        let seen = cx.ledger();
        let stays = |host: &NodeName| {
            let url = cx.cluster.node(host).map(Node::peer_url);
            url.is_some_and(|url| {
                url != *concerned
                    && !leave.contains(&url.as_str())
                    && seen.membership.iter().flatten().any(|m| m.peer_url == url)
            })
        };
        let touches = |steps: &[(&NodeName, _)]| steps.iter().any(|(host, _)| stays(host));
        Some(Self {
            first,
            may_be_asked: !touches(&steps[..at]),
            joins: join_at.and_then(|at| added(&steps[at].1.action)),
            may_be_joined: join_at.is_some_and(|at| !touches(&steps[..at])),
            leave,
            all_leave,
        })
    }

    /// What the gate says of the first change, and of the first that joins once who leaves before it is gone.
    fn judged(&self, change: &Change, report: &EtcdReport) -> Result<(), Refusal> {
        let mut live = Membership::from(report);
        quorum::gate(change, &live)?;
        if let Some(peer_url) = self.joins.filter(|_| self.may_be_joined) {
            let leaving = self.leaving(report);
            live.voters.retain(|voter| !leaving.contains(&Id(voter.id)));
            live.learners.retain(|learner| !leaving.contains(&Id(learner.id)));
            if !live.voters.is_empty()
                && by_url(report, peer_url).is_none_or(|m| m.id.is_some_and(|id| leaving.contains(&id)))
            {
                quorum::gate(&Change::AddLearner { peer_url: peer_url.to_owned() }, &live)?;
            }
        }
        Ok(())
    }

    fn leaving(&self, report: &EtcdReport) -> Vec<Id> {
        self.leave.iter().filter_map(|url| by_url(report, url)?.id).collect()
    }

    /// Whether those that stay tell whose data is right; what is said where not all told theirs. Who only leaves gives nobody any
    /// data: it stays for what it tells, as long as that decides.
    fn whose_data(&self, report: &EtcdReport) -> Result<Option<String>, Refusal> {
        const SUBJECT: &str = "etcd's members stay who they are";
        let (before, after) = (Alike::of(report, &[]), Alike::of(report, &self.leaving(report)));
        let judged = match (&before, &after) {
            _ if self.joins.is_some() => after,
            (Alike::Equal | Alike::Odd(_), Alike::Undecided(_)) => match before {
                Alike::Odd(_) => before,
                _ => after,
            },
            _ => return Ok(None),
        };
        let danger = "a new member gets the data of the leader, whoever that is";
        let refused = alike::differ(report, &judged, SUBJECT, danger, alike::AGAIN);
        let Some(refusal) = refused else { return Ok(alike::open(&judged)) };
        // Nobody gives it data that is to leave: it goes first.
        let goes = |m: &&&MemberReport| {
            m.in_inventory && m.peer_urls.iter().any(|url| self.all_leave.contains(&url.as_str()))
        };
        Err(match &judged {
            Alike::Odd(odd) => match odd.first().filter(goes) {
                Some(odd) => Refusal { help: alike::takes_out(odd, alike::AGAIN), ..refusal },
                None => refusal,
            },
            _ => refusal,
        })
    }
}

#[cfg(test)]
mod tests;
