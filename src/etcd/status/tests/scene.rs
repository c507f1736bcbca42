//! A scene to be judged, which tests of several modules spoil in their ways.

use super::*;

const CLUSTER: u64 = 0x7c1f_0d2a_b94e_13aa;
const NOW: OffsetDateTime = datetime!(2026-11-22 14:05:10 UTC);

/// A scene to be judged: `n` members `m1…`, all well, `m2` leads; tests then spoil it.
pub(crate) struct Scene {
    pub(crate) gathered: Gathered,
    pub(crate) known: Known,
}

pub(crate) fn id(n: usize) -> u64 {
    0xa100 + n as u64
}

pub(super) fn url(n: usize, port: u16) -> String {
    format!("https://10.0.0.{n}:{port}")
}

pub(crate) fn member(n: usize) -> Member {
    Member {
        id: id(n),
        name: format!("m{n}"),
        peer_urls: vec![url(n, 2380)],
        client_urls: vec![url(n, 2379)],
        is_learner: false,
    }
}

pub(super) fn status(n: usize) -> MemberStatus {
    MemberStatus {
        member_id: id(n),
        cluster_id: CLUSTER,
        version: "3.7.0".to_owned(),
        db_size: 25_270_000,
        db_size_in_use: 5_900_000,
        db_size_quota: 8 << 30,
        leader: id(2),
        raft_term: 4,
        raft_index: 50_100,
        raft_applied_index: 50_100,
        revision: 48_211,
        errors: Vec::new(),
        is_learner: false,
    }
}

/// What the metrics of member `n` say: it has run for an hour, and each of its disk's and its network's times lies in one bucket.
pub(crate) fn metrics(n: usize, fsync: Duration, round_trips: &[(usize, Duration)]) -> Metrics {
    let mut lines = vec![
        format!("etcd_server_leader_changes_seen_total {n}"),
        "process_start_time_seconds 1000".to_owned(),
    ];
    lines.extend(round_trips.iter().map(|(from, _)| format!("heard{{From=\"10.0.0.{from}\"}} 40")));
    let mut histogram = |name: &str, labels: &str, time: Duration| {
        for (bound, count) in [(time.as_secs_f64().to_string(), 1000), ("+Inf".to_owned(), 1000)] {
            lines.push(format!("{name}_bucket{{{labels}le=\"{bound}\"}} {count}"));
        }
    };
    histogram("etcd_disk_wal_fsync_duration_seconds", "", fsync);
    histogram("etcd_disk_backend_commit_duration_seconds", "", fsync * 2);
    for (to, time) in round_trips {
        histogram("etcd_network_peer_round_trip_time_seconds", &format!("To=\"{:x}\",", id(*to)), *time);
    }
    Metrics::read(lines.iter().map(String::as_str), 4600).unwrap()
}

impl Scene {
    pub(crate) fn new(n: usize) -> Self {
        let list: Vec<Member> = (1..=n).map(member).collect();
        let answer = |n: usize| Answer {
            node: format!("m{n}"),
            in_inventory: true,
            peer_url: url(n, 2380),
            client_url: url(n, 2379),
            status: Ok(status(n)),
            latency: Some(Duration::from_micros(900 + 300 * n as u64)),
            quorum_list: Ok(list.clone()),
            own_list: Some(list.clone()),
            hash: Some(KvHash {
                hash: 0x9f3a_00c1,
                revision: 48_211,
                newest: 48_211,
                compact_revision: 40_000,
            }),
            newest: Some(48_211),
            served_not_after: Some(datetime!(2027-11-18 14:00:00 UTC)),
            peer_not_after: Some(datetime!(2027-11-18 14:00:00 UTC)),
        };
        let urls: Vec<String> = (1..=n).map(|n| url(n, 2379)).collect();
        let api_server = |n: usize| ApiServer { name: format!("m{n}"), etcd_servers: urls.clone() };
        Self {
            gathered: Gathered {
                answers: (1..=n).map(answer).collect(),
                alarms: Some(Vec::new()),
                hashes: Hashes::Quick,
            },
            known: Known {
                cluster: "prod".to_owned(),
                inventory: " prod.yaml".to_owned(),
                api_servers: (1..=n).map(api_server).collect(),
                ..Known::default()
            },
        }
    }

    pub(crate) fn answer(&mut self, n: usize) -> &mut Answer {
        &mut self.gathered.answers[n - 1]
    }

    pub(crate) fn status(&mut self, n: usize) -> &mut MemberStatus {
        self.answer(n).status.as_mut().unwrap()
    }

    /// The member does not answer.
    pub(crate) fn silence(mut self, n: usize, why: impl Into<Silence>) -> Self {
        let (answer, why) = (self.answer(n), why.into());
        answer.status = Err(why.clone());
        answer.quorum_list = Err(why);
        (answer.latency, answer.own_list, answer.hash, answer.newest) = (None, None, None, None);
        (answer.served_not_after, answer.peer_not_after) = (None, None);
        self
    }

    /// The members that answer have no quorum behind them.
    pub(crate) fn without_quorum(mut self) -> Self {
        self.gathered.alarms = None;
        for answer in &mut self.gathered.answers {
            answer.quorum_list = Err("no answer within 2.0 s".into());
            if let Ok(status) = &mut answer.status {
                status.leader = 0;
            }
        }
        self
    }

    /// Changes the member list that every member gives.
    pub(crate) fn listing(mut self, change: impl Fn(&mut Vec<Member>)) -> Self {
        for answer in &mut self.gathered.answers {
            answer.quorum_list.iter_mut().for_each(&change);
            answer.own_list.iter_mut().for_each(&change);
        }
        self
    }

    /// The last member is a learner that `m2` still feeds.
    pub(crate) fn with_learner(n: usize) -> Self {
        let mut scene = Self::new(n).listing(|list| list.last_mut().unwrap().is_learner = true);
        scene.status(n).is_learner = true;
        scene.status(n).raft_applied_index = 50_093;
        let answer = scene.answer(n);
        answer.quorum_list = Err("etcdserver: rpc not supported for learner".into());
        (answer.own_list, answer.hash, answer.newest) = (None, None, None);
        scene
    }

    pub(crate) fn report(&self) -> EtcdReport {
        assess(&self.gathered, &self.known, NOW)
    }
}
