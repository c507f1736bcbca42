//! Who is well, and what that comes to.

use super::*;

#[test]
fn healthy() {
    insta::assert_snapshot!(summary(&Scene::new(3)), @"Healthy 3/3 can lose 1");
    insta::assert_snapshot!(summary(&Scene::new(1)), @"Healthy 1/1 can lose 0");
}

#[test]
fn one_down() {
    insta::assert_snapshot!(summary(&Scene::new(3).silence(3, "connection refused")), @"
    Degraded 2/3 can lose 0
    m3: connection refused
    Warning: m3 does not answer (connection refused)
    Warning: etcd survives no further failure: do not restart m1 and m2 until m3 is healthy
    ");
    insta::assert_snapshot!(summary(&Scene::new(5).silence(3, "connection refused")), @"
    Degraded 4/5 can lose 1
    m3: connection refused
    Warning: m3 does not answer (connection refused)
    ");
}

#[test]
fn quorum_lost() {
    let scene = Scene::new(3).silence(2, "no answer").silence(3, "no answer").without_quorum();
    insta::assert_snapshot!(summary(&scene), @"
    NoQuorum 0/3 can lose 0
    m1: knows no leader
    m2: no answer
    m3: no answer
    Warning: m2 does not answer (no answer)
    Warning: m3 does not answer (no answer)
    Warning: start etcd on m2 and m3 again; this starts all that are stopped, together:
    Warning: until then delete no data directory: it takes one of them to get the quorum back
    ");
    assert_eq!(scene.report().view, Some(View { from: "m1".to_owned(), linearizable: false }));
    assert_eq!(scene.report().leader, None, "a leader without a quorum is none");
    let all = Scene::new(3).silence(1, "no answer").silence(2, "no answer").silence(3, "no answer");
    insta::assert_snapshot!(summary(&all), @"
    NoQuorum 0/3 can lose 0
    m1: no answer
    m2: no answer
    m3: no answer
    Warning: no member answers; whether etcd serves where we cannot see it cannot be told from here
    Warning: m1 does not answer (no answer)
    Warning: m2 does not answer (no answer)
    Warning: m3 does not answer (no answer)
    Warning: start etcd on m1, m2 and m3 again; this starts all that are stopped, together:
    Warning: until then delete no data directory: it takes one of them to get the quorum back
    ");
}

#[test]
fn quorum_stands_where_we_do_not_see_it() {
    let scene = Scene::new(3).silence(1, "ssh: no route to host").silence(2, "ssh: no route to host");
    insta::assert_snapshot!(summary(&scene), @"
    Degraded 1/3 can lose 0
    m1: ssh: no route to host
    m2: ssh: no route to host
    Warning: m1 does not answer (ssh: no route to host)
    Warning: m2 does not answer (ssh: no route to host)
    Warning: a quorum stands, since etcd serves, but only 1 of 3 voters are well as seen from here
    ");
}

#[test]
fn a_stopped_leader_leaves_reads_without_answer() {
    let mut scene = Scene::new(3).silence(2, "no answer within 2.0 s").without_quorum();
    // For one election timeout the others still believe in it.
    scene.status(1).leader = id(2);
    scene.status(3).leader = id(2);
    insta::assert_snapshot!(summary(&scene), @r"
    NoQuorum 0/3 can lose 0
    m1: serves no linearizable read: no answer within 2.0 s
    m2: no answer within 2.0 s
    m3: serves no linearizable read: no answer within 2.0 s
    Warning: enough members answer to elect a leader: ask again in a moment, and if it stays so look at the network between them, port 2380
    ");
}

#[test]
fn learner_and_unstarted() {
    insta::assert_snapshot!(summary(&Scene::with_learner(4)), @r"
    Healthy 3/3 can lose 1
    Note: m4 is a learner: it copies the data and has no vote yet
    ");
    let third = summary(&Scene::with_learner(3));
    assert!(third.contains("m3 is a learner") && !third.contains("an odd number"), "{third}");
    let unstarted = Scene::new(4).silence(4, "connection refused").listing(|list| {
        list[3].name.clear();
        list[3].client_urls.clear();
    });
    insta::assert_snapshot!(summary(&unstarted), @r"
    Degraded 3/4 can lose 0
    m4: added, but never started
    Warning: etcd survives no further failure: do not restart m1, m2 and m3 until m4 is healthy
    Warning: m4 was added and never started: it counts as a voter that is down
    Note: 4 voters can lose no more than 3 can: an odd number is better
    ");
}

/// Members that an inventory does not name are no lost quorum.
#[test]
fn an_inventory_without_the_members_hosts_is_told_from_a_lost_quorum() {
    let lost = || (1..=3).fold(Scene::new(3).without_quorum(), |scene, n| scene.silence(n, "refused"));
    let mut scene = lost();
    for server in &mut scene.known.api_servers {
        server.etcd_servers = vec!["https://10.0.0.91:2379".to_owned()];
    }
    let advice = scene.report().advice;
    assert!(
        advice[0].text.contains("API servers dial https://10.0.0.91:2379: is it the right"),
        "{advice:?}"
    );
    assert!(advice.iter().all(|a| a.command.is_none()), "{advice:?}");
    assert!(lost().report().advice.iter().any(|a| a.command.is_some()));
}
