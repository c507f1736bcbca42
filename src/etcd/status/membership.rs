//! What to do about members that are not those of the inventory, or not of this cluster.

use super::{
    advice::{host, is_of_others, list, names, note, title, warning},
    certificates::has_expired,
    commands::Commands,
    host::{HostState, Process},
    report::{Advice, EtcdReport, MemberReport, Trouble},
    silence::was_removed,
};
use crate::etcd::is_loopback;

/// Who is a member and not in the inventory, or in the inventory and no member, or not yet one with a vote.
pub(super) fn membership(report: &EtcdReport, commands: Commands<'_>, old: &[u64]) -> Vec<Advice> {
    let of = |member: &MemberReport| {
        let title = title(member);
        let advice = match member.error {
            Some(Trouble::Unstarted) if member.is_learner => {
                let (end, command) = match (member.in_inventory, is_of_others(report)) {
                    (true, true) => ("goes on with it", commands.add(&host(member))),
                    (false, true) => {
                        return Some(note(format!(
                            "{title} is a learner that was added and never started: put its host into the inventory, from which \
                         rsadm etcd remove then takes it out"
                        )));
                    }
                    (true, false) => ("goes on with it", commands.up()),
                    (false, false) => ("takes it out", commands.up()),
                };
                note(format!("{title} is a learner that was added and never started: this {end}:"))
                    .with(command)
            }
            Some(Trouble::Unstarted) => {
                warning(format!("{title} was added and never started: it counts as a voter that is down"))
            }
            _ if elsewhere(member, report).is_some() => warning(format!(
                "{title} is a member at {}, and the inventory has that host elsewhere: set its internal_address back; where it \
                     has to move, rsadm etcd remove takes it out first, while the inventory has its old address",
                list(&member.peer_urls)
            )),
            _ if !member.in_inventory && member.id.is_some() => {
                let text = format!(
                    "{title} ({}) is a member, and the inventory has no etcd host there: put it in",
                    list(&member.peer_urls)
                );
                match is_of_others(report) {
                    true => warning(format!("{text}; rsadm etcd remove takes it out then")),
                    false => warning(format!("{text}, or this takes it out:")).with(commands.up()),
                }
            }
            // Told with what it serves.
            Some(Trouble::OtherCluster(_)) if member.id.is_none() => return None,
            _ if member.id.is_none() && was_removed(member) => return None,
            // Told with the member that it is.
            _ if report.members.iter().any(|m| elsewhere(m, report).is_some_and(|host| host == member)) => {
                return None;
            }
            _ if member.id.is_none() => no_member(member, report, commands, old),
            _ if member.is_learner => {
                note(format!("{title} is a learner: it copies the data and has no vote yet"))
            }
            _ => return None,
        };
        Some(advice)
    };
    // Without a member list the rows are the inventory's, and nothing can be said.
    report.view.iter().flat_map(|_| report.members.iter().filter_map(of)).collect()
}

/// The inventory's row of the host that this member runs on, where the inventory has another address for it: rsadm gives
/// members the names of their hosts. One that is not well may be of a host that was made anew, at another address.
fn elsewhere<'r>(member: &MemberReport, report: &'r EtcdReport) -> Option<&'r MemberReport> {
    let is_unknown = !member.in_inventory && member.healthy && !member.name.is_empty();
    let is_it = |row: &&MemberReport| row.in_inventory && row.id.is_none() && row.name == member.name;
    report.members.iter().filter(|_| is_unknown).find(is_it)
}

/// True where etcd runs on a member's host and listens at other addresses than that at which it was asked.
pub(super) fn listens_elsewhere(member: &&MemberReport) -> bool {
    let Some(HostState::Seen(process)) = &member.host else { return false };
    let everywhere = ["//0.0.0.0:", "//[::]:"];
    let here = |url: &str| {
        member.client_urls.iter().any(|asked| asked == url) || everywhere.iter().any(|all| url.contains(all))
    };
    process.running
        && member.version.is_none()
        && listens(process).is_some_and(|urls| !urls.split(',').any(here))
}

fn listens(process: &Process) -> Option<&str> {
    process.flags.get("listen-client-urls").map(String::as_str)
}

/// Members that are asked where they are not, of so many voters.
pub(super) fn moved(members: &[&MemberReport], voters: usize) -> Option<Advice> {
    let own = |m: &&MemberReport| match &m.host {
        Some(HostState::Seen(process)) => {
            listens(process)?.split(',').find(|url| !is_loopback(url)).map(str::to_owned)
        }
        _ => None,
    };
    let urls: Vec<String> = members.iter().filter_map(own).collect();
    let names = names(members.iter().copied());
    let (it, its) = if names.len() == 1 { ("it", "its") } else { ("them", "their") };
    let first = match voters {
        1 => "rsadm etcd replace gives another host its member",
        _ => "rsadm etcd remove takes its member out",
    };
    let text = format!(
        "etcd runs on {} and listens at {}, and the inventory has {it} elsewhere: set {its} internal_address back; where a host has \
         to move, {first} first, while the inventory has its old address",
        list(&names),
        list(&urls)
    );
    (!members.is_empty()).then(|| warning(text))
}

/// An etcd host that the inventory has and the cluster has not.
fn no_member(member: &MemberReport, report: &EtcdReport, commands: Commands<'_>, old: &[u64]) -> Advice {
    let title = title(member);
    if let Some(HostState::Seen(Process { data: true, data_of: Some(id), .. })) = &member.host
        && report.serves
        && old.contains(id)
    {
        let text = format!(
            "{title} missed a restore or a recovery and has the old data (of cluster {id:x}): let etcd not be started there. \
             This sets the old data aside and makes it a member again:"
        );
        return warning(text).with(commands.replace(&host(member)));
    }
    let text = format!("{title} is an etcd host of the inventory and no member of the cluster");
    let this = || format!("{text}: take the role off it there, or this makes it one:");
    match &member.host {
        // It has to be a node before it is a member, and kubeadm alone makes it one there.
        Some(HostState::Seen(process)) if is_of_others(report) && !process.kubelet => {
            warning(format!("{text}: take the role off it there, or let it join first, with kubeadm join"))
        }
        Some(HostState::Seen(_)) if report.serves && is_of_others(report) => {
            warning(this()).with(commands.add(&host(member)))
        }
        Some(HostState::Seen(_)) if report.serves => warning(this()).with(commands.up()),
        _ => warning(text),
    }
}

/// Members that serve the data of another cluster: first of all, since whoever reads there reads what is not so. Which of two
/// clusters is the one to keep is known only where a restore or a recovery recorded it, and is over.
pub(super) fn other_clusters(
    report: &EtcdReport,
    commands: Commands<'_>,
    old: &[u64],
    is_unfinished: bool,
) -> Vec<Advice> {
    let of = |member: &MemberReport| {
        let Some(Trouble::OtherCluster(id)) = member.error else { return None };
        let title = title(member);
        if is_unfinished {
            let which = if old.contains(&id) { "from before it" } else { "of another cluster" };
            return Some(warning(format!("{title} serves the data {which} ({id:x})")));
        }
        // Its clients were told that it has what they wrote, and no other cluster has that.
        if old.contains(&id) && member.reads {
            let text = format!(
                "{title} missed a restore or a recovery and still serves the old data (of cluster {id:x}) with a quorum of its \
                 own: clients may have written to it since. Let no API server ask it, and look at what it has: this keeps a \
                 snapshot of it; {} then sets it aside, and makes {title} a member again:",
                commands.replace(&host(member))
            );
            return Some(warning(text).with(commands.save_from(&host(member))));
        }
        let text = match old.contains(&id) {
            true => format!(
                "{title} missed a restore or a recovery and still serves the old data (of cluster {id:x}): let no API server \
                 ask it. This sets the old data aside and makes it a member again:"
            ),
            false => {
                let text = format!(
                    "{title} serves the data of another cluster ({id:x}), and only you can tell which of the two is the one \
                     to keep: stop etcd on the hosts of the other, by moving {} away there",
                    crate::layout::ETCD_MANIFEST
                );
                return Some(warning(text));
            }
        };
        let advice = warning(text);
        Some(if report.serves { advice.with(commands.replace(&host(member))) } else { advice })
    };
    report.members.iter().filter_map(of).collect()
}

/// Members that run, and not as part of this cluster.
pub(super) fn astray(member: &MemberReport, commands: Commands<'_>) -> Option<Advice> {
    let title = title(member);
    let text = match member.error.as_ref()? {
        Trouble::OtherMember(id) => {
            let text = format!(
                "etcd on {title} runs with the data of another member ({id:x}), which was removed or restored; this sets it \
                 aside and lets {title} join anew:"
            );
            return Some(warning(text).with(commands.replace(&host(member))));
        }
        // Told with its certificates.
        Trouble::NoLeader | Trouble::NoReads(_) if has_expired(member) => return None,
        Trouble::NoLeader | Trouble::NoReads(_) => {
            format!("{title} is cut off from the other members: look at the network between them, port 2380")
        }
        Trouble::Behind(_) => format!("{title} does not keep up: look at the latency of its disk"),
        _ => return None,
    };
    Some(warning(text))
}
