use super::*;
use crate::etcd::{
    Alarm,
    status::tests::{Scene, id, metrics},
};

fn text(scene: &Scene) -> String {
    render(&scene.report())
}

#[test]
fn healthy() {
    insta::assert_snapshot!(text(&Scene::new(3)), @r"
    prod  cluster 7c1f0d2ab94e13aa  etcd 3.7.0  revision 48211

    MEMBER  ENDPOINT       ROLE    TERM  LAG  DB / IN USE / QUOTA   HASH      LATENCY  CERT   NOTES
    m1      10.0.0.1:2379  voter   4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.2 ms   360 d
    m2      10.0.0.2:2379  leader  4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.5 ms   360 d
    m3      10.0.0.3:2379  voter   4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.8 ms   360 d

    quorum   3 of 3 voters healthy; needs 2; can lose 1
    clients  API servers m1 m2 m3 each dial m1 m2 m3
    ");
}

/// The slowest round trip of all, and the most that a member saw of leaders.
#[test]
fn what_members_measured() {
    let mut scene = Scene::new(3);
    scene.known.timing = (Duration::from_millis(100), Duration::from_secs(1));
    let time = Duration::from_micros;
    for (n, fsync, round_trips) in [
        (1, time(1800), [(2, time(900)), (3, time(4200))]),
        (3, time(7000), [(1, time(4000)), (2, time(700))]),
    ] {
        scene.known.metrics.insert(format!("m{n}"), metrics(n, fsync, &round_trips));
    }
    insta::assert_snapshot!(text(&scene), @"
    prod  cluster 7c1f0d2ab94e13aa  etcd 3.7.0  revision 48211

    MEMBER  ENDPOINT       ROLE    TERM  LAG  DB / IN USE / QUOTA   HASH      LATENCY  CERT   NOTES
    m1      10.0.0.1:2379  voter   4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.2 ms   360 d
    m2      10.0.0.2:2379  leader  4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.5 ms   360 d
    m3      10.0.0.3:2379  voter   4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.8 ms   360 d

    quorum   3 of 3 voters healthy; needs 2; can lose 1
    clients  API servers m1 m2 m3 each dial m1 m2 m3
    disks    fsync takes up to m1 1.7 ms, m3 6.9 ms (99%)
    network  round trips take up to 4.1 ms (99%, m1 to m3)
    leader   m2; 3 changes seen in 1 h 0 min
    ");
}

#[test]
fn one_down() {
    insta::assert_snapshot!(text(&Scene::new(3).silence(3, "connection refused")), @"
    prod  cluster 7c1f0d2ab94e13aa  etcd 3.7.0  revision 48211

    MEMBER  ENDPOINT       ROLE    TERM  LAG  DB / IN USE / QUOTA   HASH      LATENCY  CERT   NOTES
    m1      10.0.0.1:2379  voter   4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.2 ms   360 d
    m2      10.0.0.2:2379  leader  4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.5 ms   360 d
    m3      10.0.0.3:2379  –       –     –    –                     –         –        –      connection refused

    quorum   2 of 3 voters healthy; needs 2; can lose 0 more
    clients  API servers m1 m2 m3 each dial m1 m2 m3

    m3 does not answer (connection refused)
    etcd survives no further failure: do not restart m1 and m2 until m3 is healthy
    ");
}

#[test]
fn where_versions_differ_each_member_tells_its_own() {
    let mut scene = Scene::new(4).silence(4, "connection refused");
    scene.status(3).version = "3.6.8".to_owned();
    let shown = text(&scene);
    let rows = shown.lines().filter(|line| line.contains(":2379  "));
    let notes: Vec<&str> = rows.filter_map(|row| row.rsplit("  ").next()).collect();
    assert_eq!(notes, ["etcd 3.7.0", "etcd 3.7.0", "etcd 3.6.8", "connection refused"]);
}

#[test]
fn no_quorum() {
    let scene =
        Scene::new(3).silence(2, "connection refused").silence(3, "no route to host").without_quorum();
    insta::assert_snapshot!(text(&scene), @"
    prod  cluster 7c1f0d2ab94e13aa  etcd 3.7.0  revision 48211
    NO QUORUM: 1 of 3 voters answers; etcd serves no writes; what follows is m1's own view

    MEMBER  ENDPOINT       ROLE   TERM  LAG  DB / IN USE / QUOTA   HASH      LATENCY  CERT   NOTES
    m1      10.0.0.1:2379  voter  4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.2 ms   360 d  knows no leader
    m2      10.0.0.2:2379  –      –     –    –                     –         –        –      connection refused
    m3      10.0.0.3:2379  –      –     –    –                     –         –        –      no route to host

    quorum   0 of 3 voters healthy; needs 2
    clients  API servers m1 m2 m3 each dial m1 m2 m3

    m2 does not answer (connection refused)
    m3 does not answer (no route to host)
    start etcd on m2 and m3 again; this starts all that are stopped, together:
      rsadm up prod.yaml
    until then delete no data directory: it takes one of them to get the quorum back
    ");
}

#[test]
fn nobody_answers() {
    let scene = Scene::new(3).silence(1, "no answer").silence(2, "no answer").silence(3, "no answer");
    insta::assert_snapshot!(text(&scene), @"
    prod
    NO QUORUM: 0 of 3 voters answer; what follows is the inventory's view

    MEMBER  ENDPOINT       ROLE  TERM  LAG  DB / IN USE / QUOTA  HASH  LATENCY  CERT  NOTES
    m1      10.0.0.1:2379  –     –     –    –                    –     –        –     no answer
    m2      10.0.0.2:2379  –     –     –    –                    –     –        –     no answer
    m3      10.0.0.3:2379  –     –     –    –                    –     –        –     no answer

    quorum   0 of 3 voters healthy; needs 2
    clients  API servers m1 m2 m3 each dial m1 m2 m3

    no member answers; whether etcd serves where we cannot see it cannot be told from here
    m1 does not answer (no answer)
    m2 does not answer (no answer)
    m3 does not answer (no answer)
    start etcd on m1, m2 and m3 again; this starts all that are stopped, together:
      rsadm up prod.yaml
    until then delete no data directory: it takes one of them to get the quorum back
    ");
}

#[test]
fn learner() {
    insta::assert_snapshot!(text(&Scene::with_learner(4)), @r"
    prod  cluster 7c1f0d2ab94e13aa  etcd 3.7.0  revision 48211

    MEMBER  ENDPOINT       ROLE     TERM  LAG  DB / IN USE / QUOTA   HASH      LATENCY  CERT   NOTES
    m1      10.0.0.1:2379  voter    4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.2 ms   360 d
    m2      10.0.0.2:2379  leader   4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.5 ms   360 d
    m3      10.0.0.3:2379  voter    4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.8 ms   360 d
    m4      10.0.0.4:2379  learner  4     7    24 MiB / 23% / 8 GiB  –         2.1 ms   360 d

    quorum   3 of 3 voters healthy; needs 2; can lose 1
    clients  API servers m1 m2 m3 m4 each dial m1 m2 m3 m4

    m4 is a learner: it copies the data and has no vote yet
    ");
}

#[test]
fn corrupt() {
    let mut scene = Scene::new(3);
    scene.gathered.alarms = Some(vec![Alarm { member_id: id(3), kind: "CORRUPT".to_owned() }]);
    scene.answer(3).hash.as_mut().unwrap().hash = 7;
    insta::assert_snapshot!(text(&scene), @"
    prod  cluster 7c1f0d2ab94e13aa  etcd 3.7.0  revision 48211

    MEMBER  ENDPOINT       ROLE    TERM  LAG  DB / IN USE / QUOTA   HASH      LATENCY  CERT   NOTES
    m1      10.0.0.1:2379  voter   4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.2 ms   360 d
    m2      10.0.0.2:2379  leader  4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.5 ms   360 d
    m3      10.0.0.3:2379  voter   4     0    24 MiB / 23% / 8 GiB  00000007  1.8 ms   360 d  its data is corrupt (alarm CORRUPT)

    quorum   2 of 3 voters healthy; needs 2; can lose 0 more
    clients  API servers m1 m2 m3 each dial m1 m2 m3

    etcd survives no further failure: do not restart m1 and m2 until m3 is healthy
    the data of m3 is corrupt (alarm CORRUPT), and etcd takes no writes: do not restart the other members; this gives it theirs, sets its own aside, and takes the alarm back:
      rsadm etcd replace prod.yaml m3
    ");
}

/// By the hashes it holds what the others do.
#[test]
fn an_alarm_of_one_that_is_right() {
    let mut scene = Scene::new(3);
    scene.gathered.alarms = Some(vec![Alarm { member_id: id(3), kind: "CORRUPT".to_owned() }]);
    let text = text(&scene);
    let row = text.lines().find(|line| line.starts_with("m3 ")).unwrap();
    assert!(row.ends_with("360 d  alarm CORRUPT"), "{text}");
    assert!(text.ends_with("this takes it back:\n  rsadm etcd alarm disarm prod.yaml\n"), "{text}");
}

#[test]
fn different_hashes() {
    let mut scene = Scene::new(3);
    scene.answer(3).hash.as_mut().unwrap().hash = 7;
    insta::assert_snapshot!(text(&scene), @"
    prod  cluster 7c1f0d2ab94e13aa  etcd 3.7.0  revision 48211

    MEMBER  ENDPOINT       ROLE    TERM  LAG  DB / IN USE / QUOTA   HASH      LATENCY  CERT   NOTES
    m1      10.0.0.1:2379  voter   4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.2 ms   360 d
    m2      10.0.0.2:2379  leader  4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.5 ms   360 d
    m3      10.0.0.3:2379  voter   4     0    24 MiB / 23% / 8 GiB  00000007  1.8 ms   360 d  its data differs from the others' (hash)

    quorum   2 of 3 voters healthy; needs 2; can lose 0 more
    clients  API servers m1 m2 m3 each dial m1 m2 m3

    etcd survives no further failure: do not restart m1 and m2 until m3 is healthy
    at one revision the data of m3 is not that of the others: do not trust reads from there; this gives it theirs, and sets its own aside:
      rsadm etcd replace prod.yaml m3
    ");
}

#[test]
fn etcd_only() {
    let mut scene = Scene::new(5);
    scene.known.api_servers.clear();
    insta::assert_snapshot!(text(&scene), @r"
    prod  cluster 7c1f0d2ab94e13aa  etcd 3.7.0  revision 48211

    MEMBER  ENDPOINT       ROLE    TERM  LAG  DB / IN USE / QUOTA   HASH      LATENCY  CERT   NOTES
    m1      10.0.0.1:2379  voter   4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.2 ms   360 d
    m2      10.0.0.2:2379  leader  4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.5 ms   360 d
    m3      10.0.0.3:2379  voter   4     0    24 MiB / 23% / 8 GiB  9f3a00c1  1.8 ms   360 d
    m4      10.0.0.4:2379  voter   4     0    24 MiB / 23% / 8 GiB  9f3a00c1  2.1 ms   360 d
    m5      10.0.0.5:2379  voter   4     0    24 MiB / 23% / 8 GiB  9f3a00c1  2.4 ms   360 d

    quorum   5 of 5 voters healthy; needs 3; can lose 2
    ");
}

#[test]
fn sizes_and_times() {
    let sizes = [0, 1023, 1024, 25_270_000, 8 << 30, u64::MAX].map(bytes);
    assert_eq!(sizes, ["0 B", "1023 B", "1 KiB", "24 MiB", "8 GiB", "16777215.9 TiB"]);
    assert_eq!([0, 1_240, 9_999, 12_345].map(latency), ["0.0 ms", "1.2 ms", "9.9 ms", "12 ms"]);
}
