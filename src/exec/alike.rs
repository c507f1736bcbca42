//! Whether members hold the same, asked before the first of them is started anew: beside one whose data is another's a member that
//! is right does not start (etcd, `corrupt.go`, `InitialCheck`), with no version and no settings.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Context, ask, members::Members};
use crate::{
    etcd::{
        Alarm,
        status::{Alike, Comparison, EtcdReport, Hashes, MemberReport},
    },
    inventory::NodeName,
    plan::{
        Refusal,
        quorum::{self, Change, Membership},
    },
    versions::Version,
};

/// How often members are compared whose hashes started from different compactions, as around each compaction.
const LOOKS: usize = 4;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// A look that took no longer left no member at its hash.
const BRIEF: Duration = Duration::from_secs(2);

/// Before an upgrade, which there is no way back from: all of it is compared, however long writes wait for that.
///
/// # Errors
/// Where members hold different data, or that is not known.
pub async fn before_an_upgrade(members: &dyn Members) -> Result<(), Refusal> {
    let report = compared(members, Hashes::Whole).await;
    let with = joining(&report)
        .map(|version| format!("with etcd.version: {version} in the inventory, "))
        .unwrap_or_default();
    let way = Way { with: &with, again: "then run this again with the new one" };
    match hold_the_same(&report, way) {
        // Of members that were started at different times hashes may start from different compactions for as long as nobody writes
        // (etcd, `hash.go`, keeps those of its last compactions in memory).
        Ok(Some(_)) if !is_untold(&report) => Ok(()),
        Ok(None) => Ok(()),
        Ok(Some(open)) => Err(Refusal {
            rule: "data-differs",
            subject: SUBJECT.into(),
            why: open,
            help: format!(
                "rsadm etcd status --compare shows who tells a hash: run this again at a quiet hour, once all do; one that never \
                 does, though its disk is not slow, is made anew: {}rsadm etcd replace HOST; {}",
                way.with, way.again
            ),
        }),
        Err(refusal) => Err(refusal),
    }
}

/// The version of whoever joins, which is the inventory's, and no older than that of any other: the newest of those that stay.
fn joining(report: &EtcdReport) -> Option<Version> {
    let judged = Alike::of(report, &[]);
    let is_odd = |m: &&MemberReport| matches!(&judged, Alike::Odd(odd) if odd.iter().any(|o| o.id == m.id));
    let staying = report.members.iter().filter(|m| !is_odd(m));
    staying.filter_map(|m| m.version.as_deref()?.parse::<Version>().ok()).max()
}

/// Whether somebody told no hash, after all looks.
fn is_untold(report: &EtcdReport) -> bool {
    let Alike::Open { uncompared, .. } = Alike::of(report, &[]) else { return false };
    uncompared.iter().any(|m| m.hash.is_none())
}

/// Before the member of a host is stopped, by how all were found just now. Once in a run that stops one, what is too large to be
/// compared each time is compared as well, where writes do not wait noticeably for it.
///
/// # Errors
/// Where members hold different data.
pub(super) async fn before_a_restart(
    cx: &Context<'_>,
    host: &NodeName,
    report: &EtcdReport,
) -> Result<(), Refusal> {
    // One that takes no part costs nothing, and to be started anew may heal it.
    if report.members.iter().any(|m| m.name == host.as_str() && m.error.is_some() && m.follows.is_none()) {
        return Ok(());
    }
    let is_first = !cx.compared.swap(true, Ordering::Relaxed);
    let looks_again = match Alike::of(report, &[]) {
        Alike::Open { apart, .. } => is_first || !apart.is_empty(),
        _ => is_first && report.comparison != Comparison::Compared,
    };
    let judged = match looks_again {
        true => hold_the_same(&compared(cx.members, Hashes::Quick).await, AGAIN),
        false => hold_the_same(report, AGAIN),
    };
    if let Some(open) = judged?.filter(|_| is_first) {
        tell_open(cx, &open);
    }
    Ok(())
}

/// Says that not all data was compared, where that keeps nobody from going on.
pub(super) fn tell_open(cx: &Context<'_>, open: &str) {
    cx.events.warn(open.to_owned(), Some("rsadm etcd status --compare compares it, at a quiet hour".into()));
}

/// How members are, looked at again where another look may compare more of them.
pub(super) async fn compared(members: &dyn Members, hashes: Hashes) -> EtcdReport {
    let mut looks = 1;
    loop {
        let asked = Instant::now();
        let report = ask::compared(members, hashes).await;
        let Alike::Open { uncompared, .. } = Alike::of(&report, &[]) else { return report };
        let is_at_one = uncompared.iter().any(|m| m.hash.is_none()) && asked.elapsed() >= BRIEF;
        if is_at_one || looks == LOOKS {
            return report;
        }
        looks += 1;
        sleep(PAUSE).await;
    }
}

const SUBJECT: &str = "no member of etcd is started anew";
/// What follows the way out.
pub(super) const AGAIN: Way<'_> = Way { with: "", again: "then run this again" };

/// What stands around the commands of a way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way<'a> {
    /// Before one that lets a member join.
    with: &'a str,
    /// After all of them.
    again: &'a str,
}

/// Whether they do; what is said where that is not known.
fn hold_the_same(report: &EtcdReport, way: Way<'_>) -> Result<Option<String>, Refusal> {
    let judged = Alike::of(report, &[]);
    if let Some(refusal) =
        differ(report, &judged, SUBJECT, "etcd starts no member beside one that differs", way)
    {
        return Err(refusal);
    }
    let raised = report.raised(Alarm::CORRUPT);
    if !raised.is_empty() {
        let why = match report.cluster_alarms.iter().any(|alarm| alarm == Alarm::CORRUPT) {
            true => {
                "etcd found different data on its members, and does not know whose is right (alarm CORRUPT of no member)"
                    .to_owned()
            }
            false => format!(
                "the alarm CORRUPT of {} is on: etcd found different data on its members",
                raised.join(", ")
            ),
        };
        return Err(Refusal {
            rule: "data-differs-somewhere",
            subject: SUBJECT.into(),
            why,
            help: "rsadm etcd status --compare tells what they hold; once all hold the same, rsadm etcd alarm disarm takes it back"
                .into(),
        });
    }
    Ok(open(&judged))
}

/// What is said where not all were compared.
pub(super) fn open(judged: &Alike<'_>) -> Option<String> {
    let Alike::Open { uncompared, .. } = judged else { return None };
    let names = list(uncompared);
    Some(format!(
        "the data of {names} was not compared with that of the others: it told no hash of it, or one from another compaction"
    ))
}

/// What is refused where members hold different data, and why nothing is done beside one that does.
pub(super) fn differ(
    report: &EtcdReport,
    judged: &Alike<'_>,
    subject: &str,
    danger: &str,
    way: Way<'_>,
) -> Option<Refusal> {
    let (why, help) = match judged {
        Alike::Odd(odd) => (
            format!("the data of {} is not that of the others, and {danger}", list(odd)),
            mends(report, odd.first()?, way),
        ),
        Alike::Undecided(apart) | Alike::Open { apart, .. } if !apart.is_empty() => (
            format!("{} hold different data, and no majority tells whose is right", list(apart)),
            format!(
                "rsadm etcd status tells more: where etcd stops on another host, that one may be right, and its log names whom it \
                 differs from (found different hash values from remote peer); {}rsadm etcd remove HOST takes out the one of them \
                 that you know to be wrong, and {}rsadm etcd add HOST then gives it the data of the others; {}",
                goes_first(report, apart.first()?),
                way.with,
                way.again
            ),
        ),
        _ => return None,
    };
    Some(Refusal { rule: "data-differs", subject: subject.into(), why, help })
}

/// How one that is known to be wrong gets the data of the others. etcd adds nobody while one more is not well.
fn mends(report: &EtcdReport, odd: &MemberReport, way: Way<'_>) -> String {
    let Way { with, again } = way;
    let host = host(odd);
    let is_sick = |m: &&MemberReport| m.id.is_some() && m.id != odd.id && !m.is_learner && m.error.is_some();
    // Where it is odd for the sake of one that leaves, it could join beside that one no more than that one beside it.
    let is_alone =
        matches!(Alike::of(report, &[]), Alike::Odd(_)) && !report.members.iter().any(|m| is_sick(&m));
    let first = goes_first(report, odd);
    match (is_alone, odd.in_inventory) {
        // Its place is another's already, and by name goes who has a line.
        (_, false) => format!(
            "{first}with its host in the inventory, whatever its role (put its line back for now where it is gone), {}",
            takes_out(odd, way)
        ),
        (true, true) => format!("{with}rsadm etcd replace {host} gives it theirs; {again}"),
        (false, true) => format!(
            "{first}{}, and once all the others are well, or made anew, {with}rsadm etcd add {host} gives it theirs",
            takes_out(odd, way)
        ),
    }
}

/// The same of one whose place is to be another's.
pub(super) fn takes_out(odd: &MemberReport, way: Way<'_>) -> String {
    format!("rsadm etcd remove {} takes it out; {}", host(odd), way.again)
}

/// Who has to go before this one may: with a dead one counted, those that are left would be none of a quorum.
fn goes_first(report: &EtcdReport, leaving: &MemberReport) -> String {
    let live = Membership::from(report);
    let may_leave = leaving.id.is_some_and(|id| quorum::gate(&Change::Remove { id: id.0 }, &live).is_ok());
    let dead = live
        .voters
        .iter()
        .find(|v| v.healthy.is_err() && !v.votes && Some(v.id) != leaving.id.map(|id| id.0));
    match dead.filter(|_| !may_leave) {
        Some(dead) => {
            let host = dead.host.as_deref().unwrap_or(&dead.name);
            format!(
                "start etcd on {host} again or, if its data is lost for good, rsadm etcd remove {host}; then "
            )
        }
        None => String::new(),
    }
}

fn host(member: &MemberReport) -> &str {
    member.node.as_deref().unwrap_or(&member.name)
}

/// Their hosts, since commands take those.
fn list(members: &[&MemberReport]) -> String {
    crate::etcd::status::list(&members.iter().map(|m| host(m)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
