//! What to do about alarms: one of CORRUPT tells whom etcd has named, and hashes tell whether that is the one that is wrong.

use super::{
    advice::{anew, list, names, note, warning},
    alike::{Alike, acquitted},
    commands::Commands,
    hashes::Comparison,
    report::{Advice, EtcdReport, MemberReport, OrphanedAlarm},
};
use crate::etcd::Alarm;

pub(super) fn alarms(report: &EtcdReport, commands: Commands<'_>) -> Vec<Advice> {
    // To take one back is a write.
    if !report.serves {
        let on: Vec<String> = report.alarms().map(|(name, alarm)| format!("{alarm} of {name}")).collect();
        let text = format!("alarms are on besides ({}): see to them once etcd has a quorum", on.join(", "));
        return if on.is_empty() { vec![] } else { vec![note(text)] };
    }
    let raised = |kind: &str| names(report.members.iter().filter(|m| m.alarms.iter().any(|a| a == kind)));
    let full = raised(Alarm::NOSPACE);
    let (corrupt, others) = accused(report, commands);
    let mut advice: Vec<Advice> =
        report.orphaned_alarms.iter().map(|alarm| orphaned(alarm, &full, commands)).collect();
    if let Some(alarm) = report.cluster_alarms.first() {
        let text = format!(
            "etcd takes no writes: it found different data on its members, and does not know whose is right (alarm {alarm} of \
             no member); once all hold the same, this takes it back:"
        );
        advice.push(warning(text).with(commands.disarm()));
    }
    if !full.is_empty() {
        let text = format!(
            "etcd takes no writes: the database of {} reached its quota (alarm NOSPACE); this drops history, defragments \
             one member at a time, the leader last, and takes the alarm back:",
            list(&full)
        );
        advice.push(warning(text).with(commands.defrag()));
    }
    advice.extend(others.into_iter().map(|text| match text {
        Ok(text) => warning(text).with(commands.disarm()),
        Err(text) => warning(text),
    }));
    if !corrupt.is_empty() {
        let first = match report.comparison {
            Comparison::Compared => String::new(),
            _ => format!(" {} first, since not all told what they hold;", commands.compare()),
        };
        let text = format!(
            "the data of {} is corrupt (alarm CORRUPT), and etcd takes no writes: do not restart the other members;{first} this \
             gives it theirs, sets its own aside, and takes the alarm back:",
            list(&corrupt)
        );
        advice.push(anew(warning(text), report, &corrupt, commands));
    }
    advice
}

/// Members with the alarm CORRUPT that are to get the data of others; and what is said of those of which hashes tell something else,
/// an `Err` where nothing takes the alarm back yet.
fn accused(report: &EtcdReport, commands: Commands<'_>) -> (Vec<String>, Vec<Result<String, String>>) {
    let alike = Alike::of(report, &[]);
    let odd: Vec<&MemberReport> = if let Alike::Odd(odd) = &alike { odd.clone() } else { vec![] };
    let apart = alike.apart();
    let is_in = |all: &[&MemberReport], m: &MemberReport| all.iter().any(|other| other.id == m.id);
    let raised = || report.members.iter().filter(|m| m.alarms.iter().any(|a| a == Alarm::CORRUPT));
    let acquitted = acquitted(&report.members);
    let is_right = |m: &&MemberReport| m.id.is_some_and(|id| acquitted.contains(&id)) && !is_in(&odd, m);
    // Of whom no hash tells while others hold different data, too.
    let is_open = |m: &&MemberReport| !is_right(m) && !is_in(&odd, m) && !apart.is_empty();
    let right = names(raised().filter(is_right));
    let open = names(raised().filter(is_open));
    let corrupt = names(raised().filter(|m| !is_right(m) && !is_open(m)));
    let holds = if right.len() == 1 { "it holds" } else { "they hold" };
    let right_ones = list(&right);
    let of_right = match odd.is_empty() {
        _ if right.is_empty() => None,
        true => Some(Ok(format!(
            "etcd takes no writes: the alarm CORRUPT is on for {right_ones}, and by the hashes {holds} what most do; where no other \
             differs, this takes it back:"
        ))),
        false => Some(Err(format!(
            "etcd takes no writes: the alarm CORRUPT is on for {right_ones}, and by the hashes {holds} what most do (etcd's periodic \
             check believes the leader): do not replace {right_ones}. It is the data of {} that differs; once all hold the same, \
             {} takes the alarm back",
            list(&names(odd.iter().copied())),
            commands.disarm()
        ))),
    };
    let of_open = (!open.is_empty()).then(|| {
        Err(format!(
            "etcd takes no writes: the alarm CORRUPT is on for {}, and hashes do not tell whose data is right: replace nobody before \
             that is known; {} asks all that answer, for as long as it takes",
            list(&open),
            commands.compare()
        ))
    });
    (corrupt, of_right.into_iter().chain(of_open).collect())
}

/// What a member has left that was removed with its alarm on.
fn orphaned(alarm: &OrphanedAlarm, full: &[String], commands: Commands<'_>) -> Advice {
    let text = format!(
        "etcd takes no writes: the alarm {} of member {} is on, which is none any more",
        alarm.alarm, alarm.member_id
    );
    // What makes room for the others takes this one back, too.
    match full.is_empty() || alarm.alarm != Alarm::NOSPACE {
        true => warning(format!("{text}; this takes it back:")).with(commands.disarm()),
        false => warning(text),
    }
}
