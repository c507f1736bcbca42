use proptest::prelude::*;

use super::*;
use crate::etcd::{Cause, Silence, status::tests::Scene};

/// `n` voters `m1…`, the first `sick` of them down, in a cluster that serves if the rest is a quorum.
fn cluster(n: usize, sick: usize) -> Membership {
    let down = |i| if i < sick { Err("no answer".to_owned()) } else { Ok(()) };
    let voters = (0..n)
        .map(|i| Voter {
            name: format!("m{}", i + 1),
            host: None,
            id: i as u64 + 1,
            healthy: down(i),
            votes: false,
            reach: Reach::Host,
            follows: (i >= sick).then_some((n as u64, 4)),
        })
        .collect();
    Membership { voters, serves: n - sick >= quorum(n), ..Membership::default() }
}

fn learner(id: u64, healthy: Result<(), String>) -> Learner {
    Learner { name: format!("m{id}"), id, peer_urls: vec![format!("https://10.0.0.{id}:2380")], healthy }
}

/// A [`cluster`] with a learner.
fn with_learner(n: usize, sick: usize, healthy: Result<(), String>) -> Membership {
    Membership { learners: vec![learner(9, healthy)], ..cluster(n, sick) }
}

/// The vote of that learner.
const PROMOTE: Change = Change::Promote { id: 9 };

fn stop(name: &str) -> Change {
    Change::Restart { name: name.to_owned(), outage: Outage::Stop }
}

fn add() -> Change {
    Change::AddLearner { peer_url: "https://10.0.0.9:2380".to_owned() }
}

/// `healthy/voters` afterwards, or the rule that refuses.
fn verdict(change: &Change, live: &Membership) -> String {
    match gate(change, live) {
        Ok(p) => format!("{}/{}", p.healthy, p.voters),
        Err(refusal) => refusal.rule.to_owned(),
    }
}

#[test]
fn a_quorum_is_more_than_half() {
    assert_eq!([1, 2, 3, 4, 5, 6, 7].map(quorum), [1, 2, 2, 3, 3, 4, 4]);
}

/// Columns: voters, of them down; then restarting a healthy one, restarting a sick one (`m1`), removing a healthy
/// one, removing a sick one, adding a learner, giving one that is well its vote. `.` where there is no such member.
#[test]
fn every_size_from_one_to_seven() {
    let table = "
        1 0 | 0/1       .          last-member  .          1/1         1/2
        1 1 | .         0/1        .            no-quorum  no-quorum   no-quorum
        2 0 | 1/2       .          1/1          .          2/2         2/3
        2 1 | quorum    1/2        no-quorum    no-quorum  no-quorum   no-quorum
        3 0 | 2/3       .          2/2          .          3/3         3/4
        3 1 | quorum    2/3        quorum       2/2        all-healthy learner-costs-quorum
        3 2 | quorum    1/3        no-quorum    no-quorum  no-quorum   no-quorum
        4 0 | 3/4       .          3/3          .          4/4         4/5
        4 1 | quorum    3/4        2/3          3/3        all-healthy 3/5
        4 2 | quorum    2/4        no-quorum    no-quorum  no-quorum   no-quorum
        5 0 | 4/5       .          4/4          .          5/5         5/6
        5 1 | 3/5       4/5        3/4          4/4        all-healthy 4/6
        5 2 | quorum    3/5        quorum       3/4        all-healthy learner-costs-quorum
        5 3 | quorum    2/5        no-quorum    no-quorum  no-quorum   no-quorum
        6 0 | 5/6       .          5/5          .          6/6         6/7
        6 1 | 4/6       5/6        4/5          5/5        all-healthy 5/7
        6 2 | quorum    4/6        3/5          4/5        all-healthy 4/7
        7 0 | 6/7       .          6/6          .          7/7         7/8
        7 1 | 5/7       6/7        5/6          6/6        all-healthy 6/8
        7 2 | 4/7       5/7        4/6          5/6        all-healthy 5/8
        7 3 | quorum    4/7        quorum       4/6        all-healthy learner-costs-quorum
        7 4 | quorum    3/7        no-quorum    no-quorum  no-quorum   no-quorum
    ";
    for row in table.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let words: Vec<&str> = row.split_whitespace().filter(|w| *w != "|").collect();
        let (n, sick) = (words[0].parse().unwrap(), words[1].parse().unwrap());
        let live = cluster(n, sick);
        let last = n as u64;
        let if_some = |exists: bool, change: Change| {
            if exists { verdict(&change, &live) } else { ".".to_owned() }
        };
        let got = [
            if_some(sick < n, stop(&format!("m{n}"))),
            if_some(sick > 0, stop("m1")),
            if_some(sick < n, Change::Remove { id: last }),
            if_some(sick > 0, Change::Remove { id: 1 }),
            verdict(&add(), &live),
            verdict(&PROMOTE, &with_learner(n, sick, Ok(()))),
        ];
        assert_eq!(got, words[2..], "{row}");
    }
}

#[test]
fn an_outage_is_only_for_one_or_two() {
    assert_eq!(verdict(&stop("m1"), &cluster(1, 0)), "0/1");
    assert_eq!(verdict(&stop("m2"), &cluster(2, 0)), "1/2");
    // m1 is down already: m2 alone would not bring the cluster back by itself.
    assert_eq!(verdict(&stop("m2"), &cluster(2, 1)), "quorum");
    assert_eq!(verdict(&stop("m3"), &cluster(3, 1)), "quorum");
}

/// The sick are the first of a [`cluster`].
#[test]
fn a_roll_out_needs_one_to_spare_but_for_the_sick_which_it_may_heal() {
    let (sick, well) = (
        |n, sick| verdict(&stop("m1"), &cluster(n, sick)),
        |n, sick| verdict(&stop(&format!("m{n}")), &cluster(n, sick)),
    );
    assert_eq!(well(3, 0), "2/3");
    assert_eq!((sick(3, 1), well(3, 1)), ("2/3".to_owned(), "quorum".to_owned()));
    assert_eq!(well(5, 1), "3/5");
    assert_eq!((sick(5, 2), well(5, 2)), ("3/5".to_owned(), "quorum".to_owned()));
    assert_eq!((sick(3, 2), well(3, 2)), ("1/3".to_owned(), "quorum".to_owned()));
}

#[test]
fn a_member_we_cannot_see_is_not_restarted_while_etcd_serves() {
    let mut live = cluster(3, 2);
    assert_eq!(verdict(&stop("m1"), &live), "1/3", "the quorum is lost: starting again is the cure");
    live.serves = true;
    assert_eq!(verdict(&stop("m1"), &live), "quorum", "two of three are alive, whatever we see");
}

/// m1 is dead; the disks of m2 and m3 are so slow that no read comes in time, and writes get through.
#[test]
fn slow_reads_are_no_lost_quorum() {
    let mut live = cluster(3, 1);
    live.serves = false;
    live.voters[1..].iter_mut().for_each(|v| v.healthy = Err("serves no linearizable read".into()));
    assert_eq!(verdict(&stop("m2"), &live), "quorum");
    let refusal = gate(&stop("m2"), &live).unwrap_err();
    assert!(refusal.why.starts_with("etcd answers too slowly to tell: 2 of 3 voters"), "{refusal}");
    assert_eq!(verdict(&stop("m1"), &live), "0/3", "the others do without it, and it may come back");
    live.voters[2].follows = Some((3, 3));
    assert_eq!(verdict(&stop("m2"), &live), "0/3", "of another term: nobody has a quorum behind it");
    live.voters.iter_mut().for_each(|v| v.follows = None);
    assert_eq!(verdict(&stop("m2"), &live), "0/3", "nobody leads: starting again is the cure");
}

/// etcd 3.5.28 and 3.6.9 with auth tell how a member is to root alone.
#[test]
fn what_is_denied_is_not_lost() {
    let silence = Silence::of(Cause::Denied, "etcdserver: permission denied");
    let denied = (1..=3).fold(Scene::new(3), |scene, n| scene.silence(n, silence.clone()));
    let report = denied.report();
    let refusal = gate(&stop("m1"), &Membership::from(&report)).unwrap_err();
    assert_eq!((refusal.rule, can_be_accepted(&refusal)), ("membership-denied", false));
    assert!(refusal.help.contains("grant-role kube-etcd-healthcheck-client root"), "{}", refusal.help);
    let advice: Vec<&str> = report.advice.iter().map(|a| a.text.as_str()).collect();
    assert!(advice[0].starts_with("etcd's auth is on, and m1, m2 and m3 deny the user kube-"), "{advice:?}");
    assert!(advice.iter().all(|text| !text.contains("start etcd")), "{advice:?}");
    let mut live = cluster(3, 2);
    (live.serves, live.denied) = (false, true);
    assert_eq!(verdict(&stop("m1"), &live), "quorum");
}

#[test]
fn learners_neither_count_nor_cost() {
    let mut live = cluster(3, 1);
    live.learners.push(learner(4, Ok(())));
    assert_eq!(verdict(&stop("m3"), &live), "quorum");
    assert_eq!(verdict(&stop("m4"), &live), "2/3");
    assert_eq!(verdict(&Change::Remove { id: 4 }, &live), "2/3");
    assert_eq!(verdict(&add(), &live), "one-learner");
    assert_eq!(verdict(&Change::Remove { id: 4 }, &Membership { serves: false, ..live }), "2/3");
}

/// A dead voter has to be able to leave while a learner waits for the vote that it may not have before.
#[test]
fn beside_a_learner_voters_restart_and_leave_as_without_one() {
    let waits = with_learner(3, 1, Ok(()));
    assert_eq!(verdict(&PROMOTE, &waits), "learner-costs-quorum");
    assert_eq!(verdict(&Change::Remove { id: 1 }, &waits), "2/2");
    assert_eq!(verdict(&PROMOTE, &with_learner(2, 0, Ok(()))), "2/3", "the dead one has left");
    for (n, sick) in (1..=7).flat_map(|n| (0..=n).map(move |sick| (n, sick))) {
        for healthy in [Ok(()), Err("never started".to_owned())] {
            let (without, with) = (cluster(n, sick), with_learner(n, sick, healthy));
            for id in [1, n as u64] {
                for change in [stop(&format!("m{id}")), Change::Remove { id }] {
                    assert_eq!(verdict(&change, &with), verdict(&change, &without), "{change:?} {n} {sick}");
                }
            }
        }
    }
}

/// At its first vote; sizes are in the table above.
#[test]
fn a_learner_that_is_not_well_gets_no_vote_and_one_that_is_may_fail() {
    let unwell = with_learner(3, 0, Err("never started".to_owned()));
    assert_eq!(verdict(&PROMOTE, &unwell), "learner-unhealthy");
    assert_eq!(verdict(&Change::Promote { id: 2 }, &cluster(3, 0)), "3/3", "promoted already");
    assert_eq!(verdict(&PROMOTE, &cluster(3, 0)), "unknown-member");
    let refusal = gate(&PROMOTE, &with_learner(3, 1, Ok(()))).unwrap_err();
    insta::assert_snapshot!(
        format!("{refusal}\nhelp: {}", refusal.help),
        @"
    refused: giving m9 a vote, should it then fail, would leave 2 healthy of 4 voters, and 3 are needed: m1 is not healthy (no answer)
    help: start etcd on m1 again (its container's log tells why it stopped), or rsadm etcd replace m1 where rsadm etcd status names that
    "
    );
}

#[test]
fn what_is_gone_needs_no_removal_and_what_is_unknown_no_guess() {
    assert_eq!(verdict(&Change::Remove { id: 77 }, &cluster(3, 1)), "2/3");
    assert_eq!(verdict(&stop("elsewhere"), &cluster(3, 0)), "unknown-member");
    assert_eq!(verdict(&stop("m1"), &Membership::default()), "membership-unknown");
}

#[test]
fn a_refusal_says_who_is_down_and_what_helps() {
    let Err(refusal) = gate(&stop("m2"), &cluster(3, 1)) else { panic!("must be refused") };
    insta::assert_snapshot!(
        format!("{refusal}\nsubject: {}\nhelp: {}", refusal.subject, refusal.help),
        @"
    refused: stopping etcd on m2 would leave 1 healthy of 3 voters, and 2 are needed: m1 is not healthy (no answer)
    subject: stopping etcd on m2 would leave 1 healthy of 3 voters, and 2 are needed
    help: start etcd on m1 again (its container's log tells why it stopped), or rsadm etcd replace m1 where rsadm etcd status names that; the last way out is --accept-quorum-loss: etcd may serve no writes meanwhile
    "
    );
    let Err(refusal) = gate(&Change::Remove { id: 3 }, &cluster(3, 2)) else { panic!("must be refused") };
    insta::assert_snapshot!(refusal, @"refused: removing m3 takes a quorum, but etcd has 1 healthy of 3 voters, and 2 are needed: m1 is not healthy (no answer); m2 is not healthy (no answer)");
}

/// Nothing can be started on a host that is gone, and nothing put there.
#[test]
fn a_host_that_is_gone_has_another_remedy() {
    let mut live = cluster(3, 1);
    live.voters[0].reach = Reach::Nobody;
    let defragment = Change::Restart { name: "m2".into(), outage: Outage::Defragment };
    let refusal = gate(&defragment, &live).unwrap_err();
    insta::assert_snapshot!(
        format!("{refusal}\nhelp: {}", refusal.help),
        @"
    refused: defragmenting m2 would leave 1 healthy of 3 voters, and 2 are needed: m1 is not healthy (no answer)
    help: make the host of m1 reachable again (is it on?): its etcd then rejoins by itself; if it is gone for good: rsadm etcd remove m1, and in the inventory its successor's line instead of its own; the last way out is --accept-quorum-loss: etcd may serve no writes meanwhile
    "
    );
}

/// What etcd would not do, and what would take the last copy of the data, nobody can accept.
#[test]
fn only_the_loss_of_the_quorum_can_be_accepted() {
    for (change, live, acceptable) in [
        (stop("m3"), cluster(3, 1), true),
        (stop("m2"), cluster(2, 1), true),
        (Change::Remove { id: 3 }, cluster(3, 1), true),
        (Change::Remove { id: 1 }, cluster(1, 0), false),
        (Change::Remove { id: 3 }, cluster(3, 2), false),
        (add(), cluster(3, 1), false),
        (PROMOTE, with_learner(3, 1, Ok(())), false),
        (stop("elsewhere"), cluster(3, 0), false),
        (stop("m1"), Membership::default(), false),
    ] {
        let refusal = gate(&change, &live).unwrap_err();
        assert_eq!(can_be_accepted(&refusal), acceptable, "{change:?}: {refusal}");
        assert_eq!(refusal.help.contains(OVERRIDE), acceptable, "{change:?}: {}", refusal.help);
    }
}

fn any_membership() -> impl Strategy<Value = Membership> {
    let health = || prop::bool::weighted(0.7).prop_map(|up| if up { Ok(()) } else { Err("down".to_owned()) });
    let voters = prop::collection::vec((health(), any::<bool>()), 1..=7);
    (voters, prop::collection::vec(health(), 0..=2), any::<bool>()).prop_map(|(voters, learners, serves)| {
        let voter = |(i, (healthy, named)): (usize, (Result<(), String>, bool))| {
            let healthy = if named { healthy } else { Err("added, but never started".to_owned()) };
            let name = if named { format!("m{i}") } else { String::new() };
            let follows = healthy.is_ok().then_some((1, 4));
            Voter { name, host: None, id: i as u64, healthy, votes: false, reach: Reach::Host, follows }
        };
        let voters: Vec<Voter> = voters.into_iter().enumerate().map(voter).collect();
        let learners = learners.into_iter().zip(100..).map(|(healthy, id)| learner(id, healthy)).collect();
        Membership { voters, learners, serves, denied: false }
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    let id = prop_oneof![0..8_u64, 100..102_u64];
    prop_oneof![
        id.clone().prop_map(|id| stop(&format!("m{id}"))),
        id.clone().prop_map(|id| Change::Remove { id }),
        id.prop_map(|id| Change::Promote { id }),
        Just(add()),
    ]
}

proptest! {
    /// The promise of this module: a cluster with a quorum has one after any change that passed, except where one
    /// or two voters can never spare a member; and nobody who is well is stopped where it has none.
    #[test]
    fn what_passes_keeps_the_quorum(change in any_change(), live in any_membership()) {
        let Ok(after) = gate(&change, &live) else { return Ok(()) };
        prop_assert_eq!(after.quorum, quorum(after.voters));
        let outage =
            matches!(change, Change::Restart { .. }) && live.voters.len() <= 2;
        let costs = after.healthy < live.now().healthy;
        if (live.serves || live.now().stands()) && costs {
            prop_assert!(after.stands() || outage, "{:?} on {:?}", change, live);
        }
        if !live.now().stands() {
            prop_assert!(!costs || outage, "{:?} on {:?}", change, live);
        }
        if matches!(change, Change::Remove { .. }) {
            prop_assert!(after.voters >= 1);
        }
        // Whoever gets a vote may fail with it.
        if let Change::Promote { id } = change
            && live.learners.iter().any(|l| l.id == id)
        {
            let others = live.voters.iter().filter(|v| v.healthy.is_ok()).count();
            let is_second = live.voters.len() == 1;
            prop_assert!(is_second || quorum(live.voters.len() + 1) <= others, "{:?} on {:?}", change, live);
            prop_assert_eq!(after, Projection::of(live.voters.len() + 1, others));
        }
    }
}

/// Who holds the wrong data writes with the others: it can be taken out, and so can the dead beside it.
#[test]
fn one_whose_data_is_wrong_can_be_taken_out_beside_a_dead_one() {
    for (voters, wrong_goes, dead_goes) in
        [(2, true, true), (3, false, true), (4, true, true), (5, true, true)]
    {
        let dead = usize::from(voters > 2);
        let mut live = cluster(voters, dead);
        let last = live.voters.last_mut().unwrap();
        (last.healthy, last.votes) = (Err("its data is corrupt".to_owned()), true);
        let wrong = Change::Remove { id: voters as u64 };
        assert_eq!(gate(&wrong, &live).is_ok(), wrong_goes, "{voters}");
        if dead == 1 {
            assert_eq!(gate(&Change::Remove { id: 1 }, &live).is_ok(), dead_goes, "{voters}");
        }
    }
}
