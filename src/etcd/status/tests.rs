use std::time::Duration;

use time::macros::datetime;

use super::*;
use crate::etcd::Cause;

mod certificates;
mod doubt;
mod gathering;
mod membership;
mod of_others;
mod scene;
mod silence;

pub(crate) use scene::member;
pub(crate) use scene::{Scene, id};

/// Verdict, voters healthy/all, can lose; then one line a member that is not well, and the advice.
fn summary(scene: &Scene) -> String {
    let report = scene.report();
    let q = report.quorum;
    let mut lines = vec![format!("{:?} {}/{} can lose {}", report.verdict, q.healthy, q.voters, q.can_lose)];
    let trouble = |m: &MemberReport| m.error.as_ref().map(|e| format!("{}: {e}", m.name));
    lines.extend(report.members.iter().filter_map(trouble));
    lines.extend(report.advice.iter().map(|a| format!("{:?}: {}", a.level, a.text)));
    lines.join("\n")
}

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

#[test]
fn alarms_and_hashes() {
    let mut scene = Scene::new(3);
    let alarm = |n, kind: &str| Alarm { member_id: id(n), kind: kind.to_owned() };
    scene.gathered.alarms = Some(vec![alarm(1, "NOSPACE"), alarm(3, "CORRUPT")]);
    insta::assert_snapshot!(summary(&scene), @"
    Degraded 2/3 can lose 0
    m3: its data is corrupt (alarm CORRUPT)
    Warning: etcd survives no further failure: do not restart m1 and m2 until m3 is healthy
    Warning: etcd takes no writes: the database of m1 reached its quota (alarm NOSPACE); this drops history, defragments one member at a time, the leader last, and takes the alarm back:
    Warning: the data of m3 is corrupt (alarm CORRUPT), and etcd takes no writes: do not restart the other members; this gives it theirs, sets its own aside, and takes the alarm back:
    ");

    // Who went with its alarm on.
    let mut gone = Scene::new(3);
    gone.gathered.alarms = Some(vec![alarm(9, "NOSPACE")]);
    let report = gone.report();
    assert_eq!(
        (report.verdict, report.raised(Alarm::NOSPACE)),
        (Verdict::Degraded, vec![Id(id(9)).to_string()])
    );
    assert!(report.advice[0].text.starts_with("etcd takes no writes: the alarm NOSPACE of member "));
    assert_eq!(report.advice[0].command.as_deref(), Some("rsadm etcd alarm disarm prod.yaml"));
    gone.gathered.alarms = Some(vec![alarm(9, "NOSPACE"), alarm(1, "NOSPACE")]);
    let commands: Vec<_> = gone.report().advice.into_iter().filter_map(|a| a.command).collect();
    assert_eq!(commands, ["rsadm etcd defrag prod.yaml"], "which takes all of them back");
    // Nobody's alarm is not one of somebody who is gone.
    gone.gathered.alarms = Some(vec![Alarm { member_id: Alarm::WHOLE_CLUSTER, kind: "CORRUPT".into() }]);
    let report = gone.report();
    assert_eq!(
        (report.orphaned_alarms.len(), report.raised(Alarm::CORRUPT)),
        (0, vec!["all members".to_owned()])
    );
    assert!(report.advice[0].text.contains("does not know whose is right"), "{:?}", report.advice);

    assert!(Scene::new(3).without_quorum().report().alarms_known, "a member's status tells its alarms");
    let nobody = (1..=3).fold(Scene::new(3).without_quorum(), |scene, n| scene.silence(n, "refused"));
    assert!(!nobody.report().alarms_known);

    let mut odd = Scene::new(3);
    odd.answer(3).hash.as_mut().unwrap().hash = 7;
    insta::assert_snapshot!(summary(&odd), @"
    Degraded 2/3 can lose 0
    m3: its data differs from the others' (hash)
    Warning: etcd survives no further failure: do not restart m1 and m2 until m3 is healthy
    Warning: at one revision the data of m3 is not that of the others: do not trust reads from there; this gives it theirs, and sets its own aside:
    ");

    let mut split = Scene::new(2);
    split.answer(2).hash.as_mut().unwrap().hash = 7;
    insta::assert_snapshot!(summary(&split), @r"
    Degraded 2/2 can lose 0
    Warning: at one revision m1 and m2 hold different data, and no majority tells whose is right: give nobody the data of either before that is known
    Note: 2 voters can lose no more than 1 can: an odd number is better
    ");

    let mut compacting = Scene::new(3);
    let hash = compacting.answer(3).hash.as_mut().unwrap();
    (hash.hash, hash.compact_revision) = (7, 48_000);
    assert_eq!(
        compacting.report().verdict,
        Verdict::Healthy,
        "hashes from different compactions do not compare"
    );
}

#[test]
fn without_quorum_alarms_come_from_the_statuses() {
    let mut scene = Scene::new(3).silence(2, "no answer").silence(3, "no answer").without_quorum();
    let text = |space: &str| format!("memberID:{}{space}alarm:NOSPACE", id(1));
    scene.status(1).errors = vec!["etcdserver: no leader".to_owned(), text("  ")];
    assert_eq!(scene.report().members[0].alarms, ["NOSPACE"]);
    let advice = scene.report().advice;
    assert!(advice.iter().any(|a| a.text.starts_with("alarms are on besides (NOSPACE of m1)")), "{advice:?}");
    assert!(!advice.iter().any(|a| a.command.as_ref().is_some_and(|c| c.contains("defrag"))), "{advice:?}");
    // protobuf's text form puts one space or two, at random.
    scene.status(1).errors = vec![text(" ")];
    assert_eq!(scene.report().members[0].alarms, ["NOSPACE"]);
    // It leaves out a member ID of zero.
    scene.status(1).errors = vec!["alarm:CORRUPT".to_owned()];
    assert_eq!(scene.report().raised(Alarm::CORRUPT), ["all members"]);
}

/// To clients and to other members.
fn serves_until(scene: &mut Scene, n: usize, end: OffsetDateTime) {
    let answer = scene.answer(n);
    (answer.served_not_after, answer.peer_not_after) = (Some(end), Some(end));
}

/// As `certs status` and `kubeconfig` have it.
#[test]
fn a_certificate_that_ends_within_thirty_days_has_fewer_whole_ones_left() {
    for (end, is_told) in
        [(datetime!(2026-12-22 15:00:00 UTC), false), (datetime!(2026-12-22 13:00:00 UTC), true)]
    {
        let mut scene = Scene::new(3);
        serves_until(&mut scene, 1, end);
        let advice = scene.report().advice;
        assert_eq!(
            advice.iter().any(|a| a.text.contains("will expire within")),
            is_told,
            "{end}: {advice:?}"
        );
    }
}

#[test]
fn smaller_complaints() {
    let mut scene = Scene::new(3);
    scene.status(1).db_size = 7 << 30;
    scene.status(3).version = "3.6.8".to_owned();
    scene.status(3).raft_term = 5;
    serves_until(&mut scene, 2, datetime!(2026-12-01 14:00:00 UTC));
    serves_until(&mut scene, 3, datetime!(2026-11-01 14:00:00 UTC));
    scene.known.api_servers[0].etcd_servers.pop();
    scene.known.api_servers[1].etcd_servers.push("https://10.0.0.9:2379".to_owned());
    // kubeadm's own way: each API server to the member beside it.
    scene.known.api_servers[2].etcd_servers = vec!["https://127.0.0.1:2379".to_owned()];
    insta::assert_snapshot!(summary(&scene), @"
    Degraded 3/3 can lose 1
    Warning: the certificate that m3 serves has expired; this renews what ends soon, with or without a quorum:
    Warning: the certificate that m2 serves will expire within 30 days; this renews what ends soon, with or without a quorum:
    Warning: the database of m1 takes 87% of its quota; at 100% etcd takes no writes (etcd.quota_backend_bytes)
    Warning: members run different versions: 3.6.8 on m3, 3.7.0 on m1 and m2; this goes on to that of the inventory:
    Warning: --etcd-servers on m2 names what is no member: https://10.0.0.9:2379
    Warning: --etcd-servers on m1 lacks https://10.0.0.3:2379
    Note: members are in different raft terms: an election was under way; if it stays so, look at the network
    ");
    let built = |prepared| HostState::Seen(Process { prepared, manifest: true, ..Process::default() });
    let mut mixed = Scene::new(3);
    for (n, prepared) in [(1, true), (2, false), (3, false)] {
        mixed.known.hosts.insert(format!("m{n}"), built(prepared));
        serves_until(&mut mixed, n, datetime!(2026-11-01 14:00:00 UTC));
    }
    let advice = mixed.report().advice;
    let told: Vec<_> =
        advice.iter().filter_map(|a| Some((a.text.split(';').next()?, a.command.as_deref()?))).collect();
    assert_eq!(
        told,
        [
            ("the certificate that m1 serves has expired", "rsadm certs renew prod.yaml"),
            ("the certificates that m2 and m3 serve have expired", "kubeadm certs renew all"),
        ]
    );
    // Within the first day after its end; and nothing renews what ends with its authority.
    let mut over = Scene::new(3);
    for (n, served, ends) in [
        (1, datetime!(2026-11-22 13:05:10 UTC), None),
        (2, datetime!(2026-12-01 14:00:00 UTC), Some(datetime!(2026-12-01 14:00:00 UTC))),
        (3, datetime!(2026-10-01 14:00:00 UTC), Some(datetime!(2026-11-01 14:00:00 UTC))),
    ] {
        serves_until(&mut over, n, served);
        let process = Process { prepared: true, running: true, authority_ends: ends, ..Process::default() };
        over.known.hosts.insert(format!("m{n}"), HostState::Seen(process));
    }
    let report = over.report();
    assert_eq!(report.members[0].certificate_days, Some(-1));
    let told: Vec<_> =
        report.advice.iter().map(|a| (a.text.as_str(), a.command.as_deref().unwrap_or_default())).collect();
    assert_eq!(
        told,
        [
            (
                "the certificate that m1 serves has expired; this renews what ends soon, with or without a quorum:",
                "rsadm certs renew prod.yaml"
            ),
            (
                "the certificate that m3 serves has expired, and its authority with it; this tells more:",
                "rsadm certs status prod.yaml"
            ),
            (
                "the certificate that m2 serves will expire within 30 days, and its authority with it; this tells more:",
                "rsadm certs status prod.yaml"
            ),
        ]
    );
    let early =
        "its certificate was not accepted: certificate not valid yet: verification time 1795356310 (UNIX)";
    let early = Silence::of(Cause::Certificate { early: true }, early);
    let scene = Scene::new(3).silence(1, early.clone()).silence(2, early);
    let told = summary(&scene);
    let text = "that m1 and m2 serve have not begun (rsadm preflight compares the clocks); this renews";
    assert!(told.contains(text), "{told}");
    let mut slow = Scene::new(3);
    slow.status(1).raft_applied_index = 40_000;
    insta::assert_snapshot!(summary(&slow), @r"
    Degraded 2/3 can lose 0
    m1: 10100 entries behind
    Warning: m1 does not keep up: look at the latency of its disk
    Warning: etcd survives no further failure: do not restart m2 and m3 until m1 is healthy
    ");
}

#[test]
fn json_is_an_interface() {
    let json = serde_json::to_value(Scene::new(1).report()).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap(), @r#"
    {
      "advice": [],
      "alarms_known": true,
      "api_servers": [
        {
          "etcd_servers": [
            "https://10.0.0.1:2379"
          ],
          "name": "m1"
        }
      ],
      "backup": null,
      "cluster": "prod",
      "cluster_alarms": [],
      "cluster_id": "7c1f0d2ab94e13aa",
      "comparison": "compared",
      "leader": "a102",
      "members": [
        {
          "alarms": [],
          "certificate_days": 360,
          "certificate_not_after": "2027-11-18T14:00:00Z",
          "client_urls": [
            "https://10.0.0.1:2379"
          ],
          "db_size": 25270000,
          "db_size_in_use": 5900000,
          "db_size_quota": 8589934592,
          "error": null,
          "follows": "a102",
          "hash": "9f3a00c1",
          "hash_compact_revision": 40000,
          "healthy": true,
          "host": null,
          "id": "a101",
          "in_inventory": true,
          "is_leader": false,
          "is_learner": false,
          "lag": 0,
          "latency_ms": 1.2,
          "metrics": null,
          "name": "m1",
          "node": "m1",
          "peer_certificate_days": 360,
          "peer_certificate_not_after": "2027-11-18T14:00:00Z",
          "peer_urls": [
            "https://10.0.0.1:2380"
          ],
          "raft_applied_index": 50100,
          "raft_index": 50100,
          "raft_term": 4,
          "revision": 48211,
          "version": "3.7.0"
        }
      ],
      "orphaned_alarms": [],
      "quorum": {
        "can_lose": 0,
        "healthy": 1,
        "needs": 1,
        "voters": 1
      },
      "revision": 48211,
      "serves": true,
      "verdict": "healthy",
      "view": {
        "from": "m1",
        "linearizable": true
      }
    }
    "#);
}

#[test]
fn exit_codes() {
    let codes = [Verdict::Healthy, Verdict::Degraded, Verdict::NoQuorum].map(Verdict::exit_code);
    assert_eq!(codes, [0, 8, 9]);
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
