//! Survivors that follow a leader: a quorum of their cluster lives where nobody looks.

use crate::{
    etcd::status::{EtcdReport, Id, MemberReport, Trouble, title},
    layout,
    plan::Refusal,
};

/// Whether no member names a leader once elections have ended. Members hear from a leader that has a quorum behind it, or forget
/// it (raft, `CheckQuorum`, which etcd has on), so that one that names it is proof enough; a learner alone never stands for
/// election, and goes on naming whom it heard last.
///
/// # Errors
/// Where one names a leader.
pub(super) fn nobody_is(report: &EtcdReport) -> Result<(), Refusal> {
    let is_of_another = |m: &MemberReport| {
        matches!(m.error, Some(Trouble::OtherCluster(_) | Trouble::OtherMember(_) | Trouble::NotAMember))
    };
    let votes = |m: &&MemberReport| m.id.is_some() && !m.is_learner && !is_of_another(m);
    let led = report.members.iter().filter(votes).find_map(|m| Some((m, m.follows?)));
    let Some((member, leader)) = led else { return Ok(()) };
    Err(by(&title(member), &whom(report, leader)))
}

fn whom(report: &EtcdReport, leader: Id) -> String {
    let known = report.members.iter().find(|m| m.id == Some(leader));
    known.map_or_else(|| format!("member {leader}"), title)
}

/// The refusal to go on where the member on `host` follows `leader`.
pub(in crate::cli::etcd) fn by(host: &str, leader: &str) -> Refusal {
    Refusal {
        rule: "everybody-fenced",
        subject: format!("etcd cannot be made anew beside a quorum that {host} hears"),
        why: format!(
            "{host} follows {leader} as its leader, and only one with a quorum behind it leads: members that are not seen from here \
             run, and take writes, which the new cluster would not have; nothing was stopped or changed"
        ),
        help: format!(
            "make the other members' hosts reachable over SSH, and look at the load of {host}; where you know that none of them \
             runs, end etcd on {host} (mv {} /root/), run this again, and it is measured on a copy of its data",
            layout::ETCD_MANIFEST
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::status::tests::{Scene, id};

    /// m1 is what is left, and its reads take too long; m2 leads where nobody looks.
    #[test]
    fn one_that_names_a_leader_is_not_recovered_from() {
        let lost =
            || Scene::new(3).silence(2, "no route to host").silence(3, "no route to host").without_quorum();
        assert_eq!(nobody_is(&lost().report()), Ok(()));
        let mut led = lost();
        led.status(1).leader = id(2);
        let refused = nobody_is(&led.report()).unwrap_err();
        assert!(refused.why.starts_with("m1 follows m2 as its leader"), "{refused}");
        // Of another cluster, or without a vote, it proves nothing.
        let mut other = led;
        other.known.old_clusters = vec![0xbad];
        other.status(1).cluster_id = 0xbad;
        assert_eq!(nobody_is(&other.report()), Ok(()));
        let mut learner = lost().listing(|list| list[0].is_learner = true);
        (learner.status(1).leader, learner.status(1).is_learner) = (id(2), true);
        assert_eq!(nobody_is(&learner.report()), Ok(()));
    }
}
