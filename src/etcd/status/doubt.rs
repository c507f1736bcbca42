//! Members that hold different data where nothing tells whose is right: nobody is given any of it before that is known.
//!
//! etcd's check at its start ends a member whose data differs from that of any other (etcd, `corrupt.go`, `InitialCheck`), also
//! where it is the other one that is wrong. Whom it differed from stands in its log.

use super::{
    advice::{host, list, names, title, warning},
    alike::Alike,
    commands::Commands,
    host::{HostState, Process},
    report::{Advice, EtcdReport, MemberReport, Trouble},
    silence::{INCONSISTENT, runs},
};
use crate::layout;

/// That members do.
pub(super) fn told(report: &EtcdReport) -> Option<Advice> {
    let apart = Alike::of(report, &[]).apart();
    let text = format!(
        "at one revision {} hold different data, and no majority tells whose is right: give nobody the data of either before \
         that is known",
        list(&names(apart.iter().copied()))
    );
    (!apart.is_empty()).then(|| warning(text))
}

/// A member that its own check ends, and that may be right: what others hold is told by their hashes, or by whom it differs from.
pub(super) fn in_doubt(member: &MemberReport, report: &EtcdReport, commands: Commands<'_>) -> Option<Advice> {
    let Some(HostState::Seen(process)) = &member.host else { return None };
    let Process { last_words: Some(words), differs, .. } = process else { return None };
    if !words.text.contains(INCONSISTENT) {
        return None;
    }
    let runs =
        |m: &&MemberReport| m.id.is_some() && m.id != member.id && !m.is_learner && m.version.is_some();
    let is_named = |m: &&MemberReport| m.peer_urls.iter().any(|url| differs.contains(url));
    let (named, others): (Vec<&MemberReport>, Vec<&MemberReport>) =
        report.members.iter().filter(runs).partition(is_named);
    let name = title(member);
    let list = |members: &[&MemberReport]| list(&names(members.iter().copied()));
    if !named.is_empty() && named.iter().all(|m| m.error == Some(Trouble::Differs)) {
        let text = format!(
            "etcd does not start on {name} beside {}, whose data is not that of the others: once that is mended, its kubelet \
             starts it",
            list(&named)
        );
        return Some(warning(text));
    }
    let compared = others.iter().chain(&named).all(|m| m.hash.is_some());
    let is_open = !compared && !named.is_empty() && !others.is_empty();
    if Alike::of(report, &[]).apart().is_empty() && !is_open {
        return None;
    }
    let told = match (named.as_slice(), others.as_slice()) {
        ([odd], [_, ..]) => {
            let agree = names([member].into_iter().chain(others.iter().copied()));
            let writes = match others.len() < report.quorum.needs {
                true => format!(
                    "nothing is written until it runs, and from then on {} take writes",
                    super::advice::list(&agree)
                ),
                false => format!("{} take writes meanwhile", list(&others)),
            };
            format!(
                "etcd stops on {name}: by its own log its data is not that of {odd}, and of {others} that log says nothing, so \
                 that {odd} may be the one that is wrong: do not replace {name}. To find out, end etcd on {odd} (mv {} /root/) \
                 and start it on {name} (systemctl restart kubelet); {writes}. Once it runs, look at {}: if {agree} hold the same, {} then gives {odd} their data; if they do \
                 not, or {name} does not start, put that file back with InitialCorruptCheck=false in its --feature-gates (of etcd \
                 3.5 --experimental-initial-corrupt-check=false), without which {odd} would be ended beside them, and keep it so \
                 until it is known whose data is right",
                layout::ETCD_MANIFEST,
                commands.compare(),
                commands.replace(&host(odd)),
                agree = super::advice::list(&agree),
                odd = title(odd),
                others = list(&others),
            )
        }
        (_, []) => format!(
            "etcd stops on {name}: its data is that of none of the others, and they do not hold the same either. Nothing tells \
             whose is right: replace nobody before you know it"
        ),
        _ => format!(
            "etcd stops on {name}, since its data is not that of every other, and those that run do not hold the same either. Do \
             not replace {name}, which may be right: its log names whom it differs from (found different hash values from \
             remote peer)"
        ),
    };
    Some(warning(told))
}

/// True where etcd's check ends a member beside another that runs, by what that check told.
pub(super) fn is_ended_beside(member: &MemberReport, other: &MemberReport) -> bool {
    let Some(HostState::Seen(Process { running: false, last_words: Some(words), differs, .. })) =
        &member.host
    else {
        return false;
    };
    let is_named = other.peer_urls.iter().any(|url| differs.contains(url));
    words.text.contains(INCONSISTENT) && is_named && (other.version.is_some() || runs(other))
}

/// Members that etcd ends beside some that run, where none serves: without a quorum nothing is compacted, so that it stays so, and
/// their data may be the right one.
pub(super) fn kept_out(
    kept: &[&MemberReport],
    report: &EtcdReport,
    commands: Commands<'_>,
) -> Option<Advice> {
    let is_odd = |m: &&MemberReport| kept.iter().any(|kept| is_ended_beside(kept, m));
    let is_strange = |m: &&MemberReport| {
        m.is_learner
            || matches!(
                m.error,
                Some(Trouble::OtherCluster(_) | Trouble::OtherMember(_) | Trouble::NotAMember)
            )
    };
    let (odd, others): (Vec<&MemberReport>, Vec<&MemberReport>) = report.members.iter().partition(is_odd);
    let run = others.iter().filter(|m| !is_strange(m) && (m.version.is_some() || runs(m))).count();
    let list = |members: &[&MemberReport]| list(&names(members.iter().copied()));
    let (these, those) = (list(kept), list(&odd));
    let ends = format!(
        "etcd does not start on {these} beside {those}: by its own log there the data is not the same, and it ends whoever \
         starts, right or wrong"
    );
    if kept.is_empty() {
        return None;
    }
    if kept.len() + run < report.quorum.needs {
        let text = format!(
            "{ends}; and without {those} too few are left for a quorum. Where no other member comes back, {} --from HOST begins \
             from the one that you know to be right; this shows what each has, and changes nothing:",
            commands.recover()
        );
        return Some(warning(text).with(commands.diagnose()));
    }
    let replace: Vec<String> = odd.iter().map(|m| commands.replace(&host(m))).collect();
    Some(warning(format!(
        "{ends}. Without {those} a quorum is left: end etcd on {those} (mv {} /root/; pkill -x etcd) and start it on {these} \
         (systemctl restart kubelet). Once etcd serves, look at {}: if they hold the same, {} then gives {those} their data",
        layout::ETCD_MANIFEST,
        commands.compare(),
        super::advice::list(&replace),
    )))
}
