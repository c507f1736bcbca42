//! Members that are well, each of them connected to others, and not to one another: etcd serves as long as their leader
//! reaches both.

use super::{
    advice::{title, warning},
    report::{Advice, EtcdReport, MemberReport},
};

/// Who started less long ago may still be connecting.
const SETTLED_SECONDS: u64 = 10;

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
    member.metrics.as_ref().is_some_and(|metrics| metrics.peers.get(&other.name) == Some(&false))
}

#[cfg(test)]
mod tests {
    use crate::etcd::status::{Metrics, tests::Scene};

    /// What members say of others, by their IDs, and since when they run.
    fn told(says: &[(usize, &str, bool, u64)]) -> Vec<String> {
        let mut scene = Scene::new(3);
        for n in 1..=3 {
            let of = || says.iter().filter(move |(by, ..)| *by == n);
            let peers = of().map(|(_, to, up, _)| ((*to).to_owned(), *up)).collect();
            let uptime_seconds = of().map(|(.., seconds)| *seconds).next().unwrap_or(60);
            scene
                .known
                .metrics
                .insert(format!("m{n}"), Metrics { peers, uptime_seconds, ..Metrics::default() });
        }
        scene.report().advice.into_iter().map(|a| a.text).filter(|text| text.contains("each other")).collect()
    }

    #[test]
    fn two_that_are_not_connected_are_told_where_both_are_well() {
        let cut = "m1 and m3 do not reach each other: look at the network between them, port 2380; a quorum that takes both is none";
        assert_eq!(told(&[(1, "a103", false, 60), (3, "a101", false, 60)]), [cut]);
        assert_eq!(told(&[(3, "a101", false, 60)]), [cut], "in one direction");
        for fine in [&[][..], &[(1, "a103", true, 60)], &[(3, "a101", false, 5)], &[(1, "beef", false, 60)]] {
            assert_eq!(told(fine), [""; 0], "{fine:?}");
        }
    }
}
