//! Changes of etcd's membership, at their own moment: asked of the gate, sent to a voter, and confirmed.
//!
//! Every call may have been made before by a run that died, and every answer may be lost: what counts is the member
//! list afterwards. "Not yet" is waited out, since etcd takes no change before its leader has been connected to all for
//! five seconds (etcd, `server.go`, `HealthInterval`); a refusal of the gate is waited out as long, in case a member
//! was only restarting.

mod foreseen;
mod sound;

use std::{fmt, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Context, ask, gate, heir, members::Members, orphans};
use crate::{
    etcd::{
        EtcdApi, EtcdError, Silence,
        status::{EtcdReport, Hashes, Id, MemberReport},
    },
    host::Op,
    inventory::NodeName,
    layout,
    plan::{
        Action, Refusal,
        quorum::{self, Change, Membership},
    },
    until::until,
};

/// Bytes a second that a link between two members should carry at the least, and a disk take.
const SLOWEST_LINK: u64 = 2_000_000;
/// What is said of a member list that lacks a member, and proves nothing.
const NO_LIST: &str = "no quorum stands behind a member list";
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a change did not come about.
#[derive(Debug)]
pub enum Failed {
    /// The gate said no.
    Refused(Refusal),
    /// In words.
    Why(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Why(why) => f.write_str(why),
        }
    }
}

impl From<Silence> for Failed {
    fn from(silence: Silence) -> Self {
        Self::Why(silence.why)
    }
}

pub use foreseen::foresee;

type Told<'a> = &'a (dyn Fn(String) + Sync);

/// Performs what changes the membership or asks the members.
///
/// # Errors
/// Why it did not come about; for all other actions, that they are none of these.
pub async fn perform(cx: &Context<'_>, action: &Action, told: Told<'_>) -> Result<(), Failed> {
    match action {
        Action::AddLearner { peer_url, .. } => add(cx, peer_url, told).await,
        Action::Promote { member, peer_url } => promote(cx, member, peer_url, told).await,
        Action::RemoveMember { peer_url, .. } => remove(cx, peer_url, told).await,
        Action::HandOver { member } => yield_leadership(cx, member, told).await,
        Action::AwaitSound => sound::sound(cx, told).await,
        // What nobody performs is not to be told as done.
        other => Err(Failed::Why(format!("nothing here does this: {other}"))),
    }
}

async fn add(cx: &Context<'_>, peer_url: &str, told: Told<'_>) -> Result<(), Failed> {
    let until = Instant::now() + cx.limit;
    loop {
        let change = Change::AddLearner { peer_url: peer_url.to_owned() };
        let Some(report) = allowed(cx, &change, told, |r| by_url(r, peer_url).is_some()).await? else {
            return Ok(());
        };
        let api = voter(cx.members, &report, None).await?;
        wait_out(api.add_learner(peer_url).await.map(drop), until, told).await?;
    }
}

async fn promote(cx: &Context<'_>, host: &NodeName, peer_url: &str, told: Told<'_>) -> Result<(), Failed> {
    let Err(failed) = promoted(cx, peer_url, told).await else { return Ok(()) };
    let outcome = take_back(cx, host, peer_url, told).await;
    Err(match failed {
        Failed::Refused(refusal) => {
            Failed::Refused(Refusal { why: format!("{}; {outcome}", refusal.why), ..refusal })
        }
        Failed::Why(why) => Failed::Why(format!("{why}; {outcome}")),
    })
}

async fn promoted(cx: &Context<'_>, peer_url: &str, told: Told<'_>) -> Result<(), Failed> {
    let begun = Instant::now();
    let mut limit = cx.limit;
    loop {
        let report = ask::report(cx.members).await;
        limit = limit.max(cx.limit + travel(&report));
        let wrong = match by_url(&report, peer_url) {
            Some(member) if !member.is_learner && member.error.is_none() => return Ok(()),
            Some(member) => vote(cx, &report, member).await?,
            None if stands(&report) => {
                return Err(Failed::Why(format!("etcd's member list no longer has {peer_url}")));
            }
            // An election, or hosts that are busy: one look in which nobody tells anything is no answer.
            None => Some(Failed::Why(NO_LIST.to_owned())),
        };
        let Some(wrong) = wrong else { continue };
        if begun.elapsed() >= limit {
            return Err(match wrong {
                Failed::Refused(_) => wrong,
                Failed::Why(why) => Failed::Why(format!("{why}, for {} s", limit.as_secs())),
            });
        }
        told(format!("waiting for the new member: {wrong}"));
        sleep(PAUSE).await;
    }
}

/// Gives a learner its vote, where it is well and the gate lets it have one; what is still wrong. Both may pass, and a learner
/// that waits for it costs nobody anything.
async fn vote(
    cx: &Context<'_>,
    report: &EtcdReport,
    member: &MemberReport,
) -> Result<Option<Failed>, Failed> {
    let Some(Id(id)) = member.id else { return Err(Failed::Why("it has no member ID".into())) };
    if let Some(trouble) = &member.error {
        return Ok(Some(Failed::Why(trouble.to_string())));
    }
    if let Err(refusal) = quorum::gate(&Change::Promote { id }, &Membership::from(report)) {
        return Ok(Some(Failed::Refused(refusal)));
    }
    // They answered just now: one look in which none of them can be dialled is no answer either.
    let api = match voter(cx.members, report, None).await {
        Ok(api) => api,
        Err(silence) => return Ok(Some(silence.into())),
    };
    match api.promote(id).await {
        Ok(()) => Ok(None),
        Err(error @ (EtcdError::Refused { .. } | EtcdError::Denied { .. })) => {
            Err(Failed::Why(error.to_string()))
        }
        Err(error) => Ok(Some(Failed::Why(error.to_string()))),
    }
}

/// How long the database may take to a new member, which says nothing until it has all of it.
fn travel(report: &EtcdReport) -> Duration {
    let bytes = report.members.iter().filter_map(|m| m.db_size).max().unwrap_or_default();
    Duration::from_secs(bytes / SLOWEST_LINK)
}

/// A learner that does not come up costs nothing but the next member's turn, so it goes; its data is kept.
async fn take_back(cx: &Context<'_>, host: &NodeName, peer_url: &str, told: Told<'_>) -> String {
    let ask = async || {
        let report = ask::report(cx.members).await;
        if !stands(&report) {
            told(format!("waiting for etcd: {NO_LIST}"));
        }
        report
    };
    let report = until(gate::PATIENCE, PAUSE, ask, stands).await;
    match by_url(&report, peer_url) {
        Some(member) if !member.is_learner => return "it has its vote and stays a member".into(),
        None if stands(&report) => return "it is no member".into(),
        None => return format!("{NO_LIST}, so whether it is a member is not known"),
        Some(_) => {}
    }
    if let Err(failed) = remove(cx, peer_url, told).await {
        return format!("the learner could not be removed again: {failed}");
    }
    let stopped = match cx.host(host) {
        Ok(host) => {
            let rm = ["rm", "-rf", "--", layout::ETCD_MANIFEST];
            host.run(&[Op::Run(crate::host::Cmd::new(rm))], false).await.is_ok()
        }
        Err(_) => false,
    };
    match stopped {
        true => "the learner was removed again, and the other members are as they were".into(),
        false => format!("the learner was removed again; {host} still tries to start it"),
    }
}

async fn remove(cx: &Context<'_>, peer_url: &str, told: Told<'_>) -> Result<(), Failed> {
    let until = Instant::now() + cx.limit;
    loop {
        let report = ask::report(cx.members).await;
        let Some(member) = by_url(&report, peer_url) else {
            return match stands(&report) {
                true => {
                    orphans::disarm(cx.members, &report, cx.events).await;
                    Ok(())
                }
                // After a leader that could not hand over there is an election first.
                false if Instant::now() < until => {
                    told(format!("waiting for etcd: {NO_LIST}"));
                    sleep(PAUSE).await;
                    continue;
                }
                false => Err(Failed::Why(NO_LIST.into())),
            };
        };
        let Some(Id(id)) = member.id else { return Ok(()) };
        let Some(report) =
            allowed(cx, &Change::Remove { id }, told, |r| by_url(r, peer_url).is_none()).await?
        else {
            continue;
        };
        hand_over(cx, &report, id, told).await?;
        let api = voter(cx.members, &report, Some(id)).await?;
        wait_out(api.remove(id).await, until, told).await?;
    }
}

/// Leadership goes to a healthy voter first: one round trip, where the loss of a leader costs an election. Where it
/// cannot be handed over, the election has to do; where the others do not follow, the leader stays.
async fn hand_over(cx: &Context<'_>, report: &EtcdReport, id: u64, told: Told<'_>) -> Result<(), Failed> {
    if report.leader != Some(Id(id)) {
        return Ok(());
    }
    let heirs = report.members.iter().filter(|m| m.error.is_none() && !m.is_learner && m.id != Some(Id(id)));
    let next = heirs.max_by_key(|m| m.raft_applied_index).and_then(|m| m.id.map(|Id(id)| (id, &m.name)));
    let leader = report.members.iter().find(|m| m.id == Some(Id(id)));
    let (Some((next, name)), Some(leader)) = (next, leader) else { return Ok(()) };
    told(format!("{} hands its leadership to {name}", leader.name));
    let handed = match ask::dial(cx.members, leader).await {
        Ok(api) => api.move_leader(next).await.map_err(|error| error.to_string()),
        Err(silence) => Err(silence.why),
    };
    if let Err(why) = handed {
        told(format!("{} kept its leadership: {why}", leader.name));
        return Ok(());
    }
    match cx.accept_quorum_loss {
        true => Ok(()),
        false => heir::is_followed(cx.members, cx.cluster, report).await.map_err(Failed::Refused),
    }
}

async fn yield_leadership(cx: &Context<'_>, host: &NodeName, told: Told<'_>) -> Result<(), Failed> {
    let report = ask::compared(cx.members, Hashes::Cheap).await;
    let is_there = |m: &&MemberReport| ask::host_of(cx.members, m).as_ref() == Some(host);
    if let Some(Id(id)) = report.members.iter().find(is_there).and_then(|m| m.id) {
        hand_over(cx, &report, id, told).await?;
    }
    Ok(())
}

/// Asks the gate until it says yes; `None` where what was wanted `is_done` already.
async fn allowed(
    cx: &Context<'_>,
    change: &Change,
    told: Told<'_>,
    is_done: impl Fn(&EtcdReport) -> bool,
) -> Result<Option<EtcdReport>, Failed> {
    let until = Instant::now() + gate::PATIENCE.min(cx.limit);
    loop {
        let report = ask::report(cx.members).await;
        if is_done(&report) && stands(&report) {
            return Ok(None);
        }
        match gate::ask(change, &report, cx.accept_quorum_loss, cx.events) {
            Ok(_) => return Ok(Some(report)),
            Err(refusal) if Instant::now() >= until => return Err(Failed::Refused(refusal)),
            Err(refusal) => told(format!("waiting for etcd: {}", refusal.why)),
        }
        sleep(PAUSE * 5).await;
    }
}

/// "Not yet" and a lost answer are no failures before the time is over: the caller looks again.
async fn wait_out(answer: Result<(), EtcdError>, until: Instant, told: Told<'_>) -> Result<(), Failed> {
    match answer {
        Ok(()) => Ok(()),
        Err(error @ (EtcdError::NotYet { .. } | EtcdError::Unavailable { .. } | EtcdError::Late { .. }))
            if Instant::now() < until =>
        {
            told(format!("waiting for etcd: {error}"));
            sleep(PAUSE).await;
            Ok(())
        }
        Err(error) => Err(Failed::Why(error.to_string())),
    }
}

/// A healthy voter, the leader if it may be: it answers for all, and only it knows how far a learner is.
pub(super) async fn voter(
    members: &dyn Members,
    report: &EtcdReport,
    except: Option<u64>,
) -> Result<Box<dyn EtcdApi>, Silence> {
    let usable = |m: &&MemberReport| m.error.is_none() && !m.is_learner && m.id != except.map(Id);
    let mut voters: Vec<&MemberReport> = report.members.iter().filter(usable).collect();
    voters.sort_by_key(|m| !m.is_leader);
    let mut silence = Silence::from("no member of etcd that votes answers");
    for member in voters {
        match ask::dial(members, member).await {
            Ok(api) => return Ok(api),
            Err(Silence { cause, why }) => silence = Silence::of(cause, format!("{}: {why}", member.name)),
        }
    }
    Err(silence)
}

/// True where a quorum stands behind the member list of a report.
fn stands(report: &EtcdReport) -> bool {
    report.view.as_ref().is_some_and(|v| v.linearizable)
}

fn by_url<'a>(report: &'a EtcdReport, peer_url: &str) -> Option<&'a MemberReport> {
    report.members.iter().find(|m| m.id.is_some() && m.peer_urls.iter().any(|url| url == peer_url))
}
