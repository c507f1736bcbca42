//! A clock of this computer that is wrong: nothing is issued by it, and what was issued by one is replaced.

use rsadm::{
    fake::{State, World},
    inventory::{Cluster, Role},
    observe::Observed,
    phases::{self, CERTS_RENEW, ETCD_MEMBERS, Table, UP},
    pki::specs::specs_for,
    plan::Refusal,
};
use time::{Duration, OffsetDateTime};

use super::{
    changes,
    harness::{self, block_on, built, in_sync, observe, words},
    renewal::{ALL, QUARTER, issued, planned, renew},
};

/// Nobody accepts what begins in the future, so no quorum can be asked and nothing is lost by all of it at once.
#[test]
fn what_a_clock_that_was_ahead_issued_is_issued_anew() {
    for (name, cluster) in harness::topologies() {
        block_on(async {
            let world = built(&cluster).await;
            renew(&world, &cluster, 1, &ALL).await;
            let plan = renew(&world, &cluster, 0, &QUARTER).await;
            let wanted: usize = cluster.nodes.iter().map(|n| specs_for(&cluster, n).len()).sum();
            assert_eq!(issued(&plan).len(), wanted, "{name}: {}", words(&plan));
            let gated = plan.stages.iter().filter(|s| s.gated && s.phase == "certificates").count();
            assert_eq!(gated, 0, "{name}: {}", words(&plan));
            let why =
                plan.steps().find(|(_, s)| s.action.to_string().starts_with("issue ")).unwrap().1.why.clone();
            assert!(
                why.starts_with("begins on ") && why.ends_with("which is still to come"),
                "{name}: {why}"
            );
            let (again, _) = planned(&cluster, observe(&world, &cluster).await, 0, &QUARTER);
            assert!(again.is_empty(), "{name}: {}", words(&again));
            in_sync(&world, &cluster, UP).await;
            assert_eq!(world.state().violations, Vec::<String>::new(), "{name}");
        });
    }
}

/// Whether certificates have ended is told by the hosts, which use them: this computer may have slept.
#[test]
fn what_has_ended_on_the_hosts_has_ended() {
    let cluster = harness::etcd_only();
    let world = block_on(built(&cluster));
    for (behind, gated) in [(10, 0), (0, 3)] {
        let mut seen = block_on(observe(&world, &cluster));
        let apart = Duration::hours(behind).whole_nanoseconds();
        seen.hosts.values_mut().for_each(|facts| facts.time += apart);
        let now = OffsetDateTime::now_utc() + Duration::days(365) - Duration::hours(5);
        let (plan, _) = phases::plan_renewal(&cluster, seen, now, QUARTER).unwrap();
        let stages = plan.stages.iter().filter(|s| s.gated && s.phase == "certificates").count();
        assert_eq!(stages, gated, "{behind} h behind: {}", words(&plan));
    }
}

/// Nor does what has not begun on the hosts begin by being looked at from a computer that is behind.
#[test]
fn what_has_not_begun_on_the_hosts_has_not_begun() {
    let cluster = harness::etcd_only();
    let world = block_on(built(&cluster));
    block_on(renew(&world, &cluster, 1, &ALL));
    for behind in [0, 20] {
        let mut seen = block_on(observe(&world, &cluster));
        let apart = Duration::hours(behind).whole_nanoseconds();
        seen.hosts.values_mut().for_each(|facts| facts.time += apart);
        let (plan, _) = phases::plan_renewal(&cluster, seen, OffsetDateTime::now_utc(), QUARTER).unwrap();
        assert!(!issued(&plan).is_empty(), "{behind} h behind: {}", words(&plan));
    }
}

/// Plans as this computer would with its clock so far ahead, without preflight.
fn ahead(table: &Table, cluster: &Cluster, mut seen: Observed, by: Duration) -> Result<bool, Refusal> {
    let nanoseconds = by.whole_nanoseconds();
    seen.hosts.values_mut().for_each(|facts| facts.asked_at += nanoseconds);
    let now = OffsetDateTime::now_utc() + by;
    phases::plan(table, cluster, seen, now, |name| name != "preflight").map(|(plan, _)| plan.is_empty())
}

#[test]
fn no_command_issues_certificates_by_a_clock_that_is_wrong() {
    let before = harness::etcd_only();
    let state = block_on(built(&before)).state();
    let seen = |cluster: &Cluster, start: State| block_on(observe(&World::new(start), cluster));
    let change = changes::MEMBERSHIP.iter().find(|c| c.name == "one member instead of another").unwrap();
    let (replaced, start) = change.apply(&before, &state);
    assert_eq!(replaced.with_role(Role::Etcd).count(), 3);
    let cases = [
        ("up of nothing", UP, before.clone(), seen(&before, State::new(&before))),
        ("up, with a newcomer", UP, replaced.clone(), seen(&replaced, start.clone())),
        ("etcd replace", ETCD_MEMBERS, replaced.clone(), seen(&replaced, start)),
        ("certs renew, all ended", CERTS_RENEW, before.clone(), seen(&before, state.clone())),
    ];
    for (name, table, cluster, seen) in cases {
        for hours in [2, 400 * 24] {
            let refusal = ahead(table, &cluster, seen.clone(), Duration::hours(hours));
            // Renewing has nothing to do by a clock that is two hours off, and looks at clocks in any case.
            let refusal = refusal.err().unwrap_or_else(|| panic!("{name}, {hours} h"));
            assert!(["clock", "preflight"].contains(&refusal.rule), "{name}, {hours} h: {refusal}");
            assert!(refusal.why.contains("this computer's clock is"), "{name}, {hours} h: {refusal}");
        }
        assert!(ahead(table, &cluster, seen, Duration::minutes(3)).is_ok(), "{name}");
    }
    // What issues none is held up by no clock.
    assert_eq!(ahead(UP, &before, seen(&before, state), Duration::hours(2)), Ok(true));
}
