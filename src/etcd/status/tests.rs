use std::time::Duration;

use time::macros::datetime;

use super::*;

mod alarms;
mod certificates;
mod doubt;
mod gathering;
mod interface;
mod membership;
mod of_others;
mod quorum;
mod scene;
mod silence;

pub(crate) use scene::member;
pub(crate) use scene::{Scene, id, metrics};

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

/// To clients and to other members.
fn serves_until(scene: &mut Scene, n: usize, end: OffsetDateTime) {
    let answer = scene.answer(n);
    (answer.served_not_after, answer.peer_not_after) = (Some(end), Some(end));
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
    let mut slow = Scene::new(3);
    slow.status(1).raft_applied_index = 40_000;
    insta::assert_snapshot!(summary(&slow), @r"
    Degraded 2/3 can lose 0
    m1: 10100 entries behind
    Warning: m1 does not keep up: look at the latency of its disk
    Warning: etcd survives no further failure: do not restart m2 and m3 until m1 is healthy
    ");
}
