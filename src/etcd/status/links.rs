//! Members that are well, each of them connected to others, and not to one another: etcd serves as long as their leader
//! reaches both.

use std::time::Duration;

use super::{
    advice::{title, warning},
    report::{Advice, EtcdReport, MemberReport},
};

/// Who started less long ago may still be connecting.
const SETTLED_SECONDS: u64 = 10;

/// Members say every two seconds on each connection that they are there (etcd, `rafthttp`, `ConnReadTimeout`, a third of it).
const SILENT: Duration = Duration::from_secs(8);

/// What to do about each pair. What either of the two says counts: a rule of a firewall has a direction.
pub(super) fn advise(report: &EtcdReport) -> Vec<Advice> {
    let well: Vec<&MemberReport> = report.members.iter().filter(|m| m.healthy && is_settled(m)).collect();
    let pairs =
        well.iter().enumerate().flat_map(|(i, one)| well[i + 1..].iter().map(move |other| (one, other)));
    let cut = pairs.filter(|(one, other)| has_lost(one, other) || has_lost(other, one));
    cut.map(|(one, other)| {
        warning(format!(
            "{} and {} do not reach each other: look at the network between them, port 2380; a quorum that takes both is none",
            title(one),
            title(other)
        ))
    })
    .collect()
}

fn is_settled(member: &MemberReport) -> bool {
    member.metrics.as_ref().is_some_and(|metrics| metrics.uptime_seconds >= SETTLED_SECONDS)
}

fn has_lost(member: &MemberReport, other: &MemberReport) -> bool {
    let heard = member.metrics.as_ref().map(|metrics| &metrics.heard).filter(|heard| !heard.is_empty());
    heard.is_some_and(|heard| {
        heard.get(&other.name).is_none_or(|ago| u128::from(ago.micros) >= SILENT.as_micros())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::status::{Metrics, tests::Scene};

    /// A member: how long ago it heard of others, by their addresses, and since when it runs.
    type Says<'s> = (usize, &'s [(&'s str, u64)], u64);

    fn told(says: &[Says<'_>]) -> Vec<String> {
        let mut scene = Scene::new(3);
        for (n, heard, uptime_seconds) in says {
            let heard = heard.iter().map(|(ip, ms)| ((*ip).to_owned(), Duration::from_millis(*ms).into()));
            let metrics =
                Metrics { heard: heard.collect(), uptime_seconds: *uptime_seconds, ..Metrics::default() };
            scene.known.metrics.insert(format!("m{n}"), metrics);
        }
        scene.report().advice.into_iter().map(|a| a.text).filter(|text| text.contains("each other")).collect()
    }

    #[test]
    fn two_that_do_not_hear_each_other_are_told_where_both_are_well() {
        let cut = "m1 and m3 do not reach each other: look at the network between them, port 2380; a quorum that takes both is none";
        let well: Says<'_> = (1, &[("10.0.0.2", 1500), ("10.0.0.3", 2500)], 60);
        for silent in [&[("10.0.0.2", 20), ("10.0.0.1", 186_000)][..], &[("10.0.0.2", 20)]] {
            assert_eq!(told(&[well, (3, silent, 60)]), [cut], "{silent:?}");
            assert_eq!(told(&[well, (3, silent, 5)]), [""; 0], "it has just started");
        }
        let fine = (3, &[("10.0.0.2", 20), ("10.0.0.1", 7_000)][..], 60);
        assert_eq!(told(&[well, fine]), [""; 0]);
        assert_eq!(told(&[well, (3, &[], 60)]), [""; 0], "its host does not say");
        assert_eq!(told(&[]), [""; 0]);
    }
}
