//! What programs read.

use super::*;

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
fn metrics_are_a_part_of_it() {
    let mut scene = Scene::new(3);
    let time = Duration::from_micros;
    let measured = metrics(1, time(1800), &[(2, time(900)), (3, time(4200))]);
    scene.known.metrics.insert("m1".to_owned(), measured);
    let json = serde_json::to_value(scene.report()).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&json["members"][0]["metrics"]).unwrap(), @r#"
    {
      "commit_p99_ms": 3.564,
      "fsync_p99_ms": 1.782,
      "heard_ms_ago": {
        "m2": 40.0,
        "m3": 40.0
      },
      "leader_changes": 1,
      "round_trips_p99_ms": {
        "m2": 0.891,
        "m3": 4.158
      },
      "uptime_seconds": 3600
    }
    "#);
}

#[test]
fn exit_codes() {
    let codes = [Verdict::Healthy, Verdict::Degraded, Verdict::NoQuorum].map(Verdict::exit_code);
    assert_eq!(codes, [0, 8, 9]);
}
