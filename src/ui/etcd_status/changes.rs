//! What is different between two reports, a line each: for those who watch where nothing can be drawn anew.

use std::collections::BTreeSet;

use crate::etcd::status::{EtcdReport, MemberReport, Verdict};

/// What changed from one report to the next; the state itself where there is none before.
pub fn changes(before: Option<&EtcdReport>, now: &EtcdReport) -> Vec<String> {
    let mut lines = Vec::new();
    if before.map(|b| (b.verdict, b.quorum)) != Some((now.verdict, now.quorum)) {
        lines.push(headline(now));
    }
    let leader = |report: &EtcdReport| report.members.iter().find(|m| m.is_leader).map(|m| m.name.clone());
    if before.and_then(leader) != leader(now) {
        lines.push(leader(now).map_or("nobody leads".to_owned(), |name| format!("{name} leads")));
    }
    let names: BTreeSet<&str> =
        before.iter().flat_map(|b| &b.members).chain(&now.members).map(|m| m.name.as_str()).collect();
    for name in names {
        let of = |report: &'_ EtcdReport| report.members.iter().find(|m| m.name == name).cloned();
        lines.extend(member(name, before.map(of), of(now)));
    }
    let advice = |report: &EtcdReport| report.advice.iter().map(|a| a.text.clone()).collect::<Vec<_>>();
    let known = before.map(advice).unwrap_or_default();
    // Numbers in an advice change all the time: one that reads alike without them is the same.
    let is_known = |text: &str| known.iter().any(|k| gist(k) == gist(text));
    lines.extend(advice(now).into_iter().filter(|text| !is_known(text)));
    lines
}

fn headline(report: &EtcdReport) -> String {
    let q = &report.quorum;
    let verdict = match report.verdict {
        Verdict::Healthy => "healthy",
        Verdict::Degraded => "degraded",
        Verdict::NoQuorum => "NO QUORUM",
    };
    format!("{verdict}: {} of {} voters healthy, can lose {}", q.healthy, q.voters, q.can_lose)
}

/// `before` is `None` where there was no report at all.
fn member(name: &str, before: Option<Option<MemberReport>>, now: Option<MemberReport>) -> Vec<String> {
    let (before, now) = match (before, now) {
        (Some(None), Some(_)) => return vec![format!("{name} is a member now")],
        (_, None) => return vec![format!("{name} is no member any more")],
        (None, Some(now)) => (None, now),
        (Some(before), Some(now)) => (before, now),
    };
    let error = |m: &MemberReport| m.error.as_ref().map(ToString::to_string);
    let mut lines = Vec::new();
    match (before.as_ref().and_then(error), error(&now)) {
        (was, Some(why)) if was.as_ref() != Some(&why) => lines.push(format!("{name}: {why}")),
        (Some(_), None) => lines.push(format!("{name} is well again")),
        _ => {}
    }
    let alarms = |m: &MemberReport| m.alarms.iter().cloned().collect::<BTreeSet<_>>();
    let (were, are) = (before.as_ref().map(alarms).unwrap_or_default(), alarms(&now));
    lines.extend(are.difference(&were).map(|alarm| format!("{name} raised {alarm}")));
    lines.extend(were.difference(&are).map(|alarm| format!("{name}: {alarm} is over")));
    if let Some(before) = before {
        if before.is_learner && !now.is_learner {
            lines.push(format!("{name} has a vote now"));
        }
        if before.version.is_some() && now.version.is_some() && before.version != now.version {
            lines.push(format!("{name} runs etcd {}", now.version.unwrap_or_default()));
        }
    }
    lines
}

/// A text without its numbers.
fn gist(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit() && *c != '.').collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::{
        Alarm,
        status::tests::{Scene, id},
    };

    #[test]
    fn the_first_look_tells_the_state_and_the_same_again_nothing() {
        let well = Scene::new(3).report();
        assert_eq!(changes(None, &well), ["healthy: 3 of 3 voters healthy, can lose 1", "m2 leads"]);
        assert_eq!(changes(Some(&well), &well), Vec::<String>::new());
    }

    #[test]
    fn what_happens_is_told_once_a_line() {
        let well = Scene::new(3).report();
        let down = Scene::new(3).silence(3, "connection refused").report();
        assert_eq!(
            changes(Some(&well), &down),
            [
                "degraded: 2 of 3 voters healthy, can lose 0",
                "m3: connection refused",
                "m3 does not answer (connection refused)",
                "etcd survives no further failure: do not restart m1 and m2 until m3 is healthy",
            ]
        );
        assert_eq!(
            changes(Some(&down), &well),
            ["healthy: 3 of 3 voters healthy, can lose 1", "m3 is well again"]
        );
    }

    #[test]
    fn alarms_leaders_and_members_come_and_go() {
        let well = Scene::new(3).report();
        let mut full = Scene::new(3);
        full.gathered.alarms = Some(vec![Alarm { member_id: id(1), kind: "NOSPACE".into() }]);
        assert_eq!(changes(Some(&well), &full.report())[1], "m1 raised NOSPACE");
        assert_eq!(changes(Some(&full.report()), &well)[1], "m1: NOSPACE is over");
        let mut led = Scene::new(3);
        (1..=3).for_each(|n| led.status(n).leader = id(1));
        assert_eq!(changes(Some(&well), &led.report()), ["m1 leads"]);
        let lines = changes(Some(&well), &Scene::with_learner(4).report());
        assert!(lines.contains(&"m4 is a member now".to_owned()), "{lines:?}");
        let lines = changes(Some(&Scene::with_learner(4).report()), &Scene::new(4).report());
        assert!(lines.contains(&"m4 has a vote now".to_owned()), "{lines:?}");
    }

    #[test]
    fn an_advice_whose_numbers_move_is_no_news() {
        let quota = |size: u64| {
            let mut scene = Scene::new(3);
            (scene.status(1).db_size, scene.status(1).db_size_quota) = (size, 100);
            scene.report()
        };
        assert_eq!(changes(Some(&quota(85)), &quota(91)), Vec::<String>::new());
    }
}
