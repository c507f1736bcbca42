//! Without a quorum: whom to bring back, and what there is without them.

use super::{
    super::{
        advice::{is_on_others_host, list, title, warning},
        certificates::has_expired,
        commands::Commands,
        doubt::{is_ended_beside, kept_out},
        host::{HostState, Process},
        report::{Advice, EtcdReport, MemberReport},
    },
    has_bad_disk, has_bad_files, is_damaged, runs,
};

/// Without a quorum: which hosts would bring it back, told by what keeps each from it.
pub(in crate::etcd::status) fn revive(
    silent: &[&MemberReport],
    report: &EtcdReport,
    commands: Commands<'_>,
) -> Vec<Advice> {
    let (needs, voters) = (report.quorum.needs, report.quorum.voters);
    let is_away = |m: &&&MemberReport| matches!(m.host, Some(HostState::Unreachable { .. }));
    let names = |members: Vec<&&MemberReport>| members.into_iter().map(|m| title(m)).collect::<Vec<_>>();
    let is_shut = |m: &&&MemberReport| matches!(m.host, Some(HostState::Unreachable { shut: true, .. }));
    let away = names(silent.iter().filter(is_away).filter(|m| !is_shut(m)).collect());
    let is_here = |m: &&&MemberReport| !is_away(m) && !has_bad_disk(m) && !has_expired(m);
    let (damaged, here): (Vec<&&MemberReport>, Vec<&&MemberReport>) =
        silent.iter().filter(is_here).partition(|m| is_damaged(m, report));
    let is_kept_out = |m: &&&MemberReport| report.members.iter().any(|other| is_ended_beside(m, other));
    let (kept, damaged): (Vec<&MemberReport>, Vec<&MemberReport>) =
        damaged.into_iter().copied().partition(|m| is_kept_out(&m));
    let (run, stopped): (Vec<&&MemberReport>, Vec<&&MemberReport>) = here.into_iter().partition(|m| runs(m));
    // What is to start is there, and its kubelet alone does it: no other host is needed for that.
    let is_ready = |m: &&&&MemberReport| {
        matches!(&m.host, Some(HostState::Seen(Process { kubelet: false, manifest: true, data: true, .. })))
    };
    let ours = |m: &&&&MemberReport| !is_on_others_host(m);
    let kubelets_off = names(stopped.iter().filter(ours).filter(is_ready).copied().collect());
    let (run, here) = (names(run), names(stopped.iter().filter(ours).copied().collect()));
    let mut advice = Vec::new();
    if !away.is_empty() {
        let text = format!(
            "{} cannot be reached over SSH: bring back as many hosts as it takes for {needs} of {voters} members to run; etcd \
             then serves again by itself",
            list(&away)
        );
        // Of the others alone no quorum comes.
        advice.push(match voters.saturating_sub(away.len()) < needs {
            true => warning(format!(
                "{text}. If they are gone for good, this shows what is left, and changes nothing:"
            ))
            .with(commands.diagnose()),
            false => warning(text),
        });
    }
    let is_told = |m: &&&MemberReport| !is_away(m) || is_shut(m);
    advice.extend(silent.iter().filter(is_told).filter_map(|m| {
        // One command for all that rsadm built comes last; of others each is started on its own.
        let is_own = has_expired(m) || has_bad_files(m) || is_on_others_host(m) || is_shut(&m);
        super::silent(m, report, commands).map(|a| if is_own { a } else { Advice { command: None, ..a } })
    }));
    if !damaged.is_empty() {
        let text = format!(
            "etcd cannot start on {} with the data that is there; where the others are too few, this shows what each still has, \
             and changes nothing:",
            list(&names(damaged.iter().collect()))
        );
        advice.push(warning(text).with(commands.diagnose()));
    }
    let kept_out = kept_out(&kept, report, commands);
    let is_explained = kept_out.is_some();
    advice.extend(kept_out);
    let all_there = !silent.iter().any(|m| is_away(&m));
    if !run.is_empty() && here.is_empty() && all_there && !is_explained {
        let text = format!(
            "etcd runs on {} and does not answer in time: their hosts or disks are busy, or those that run are too few; look \
             again, and at the load of the hosts",
            list(&run)
        );
        advice.push(warning(text));
    }
    match (here.is_empty(), all_there) {
        (true, _) => {}
        (false, true) => {
            let text =
                format!("start etcd on {} again; this starts all that are stopped, together:", list(&here));
            advice.push(warning(text).with(commands.up()));
        }
        (false, false) => {
            let without = match kubelets_off.is_empty() {
                true => String::new(),
                false => {
                    format!("; without those, on {}: systemctl enable --now kubelet", list(&kubelets_off))
                }
            };
            let text =
                format!("once all hosts can be reached, this starts etcd on {} again{without}:", list(&here));
            advice.push(warning(text).with(commands.up()));
        }
    }
    advice
}
