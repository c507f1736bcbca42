//! The etcd client and `etcd status` against real etcd members with TLS, on loopback.
//!
//! `RSADM_ETCD` names the folder that has `etcd` and `etcdctl`; `tests/all` builds them and sets it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at what should not be; clippy only knows test functions, not their helpers"
)]

use std::{
    future::Future,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use rsadm::{
    etcd::{
        EtcdApi, EtcdError, Silence,
        client::{self, Dial, EtcdClient},
        status::{EtcdReport, Hashes, Known, Limits, Target, Trouble, Verdict, assess, compare, gather},
    },
    host::tls,
    pki::inspect::inspect_der,
    plan::quorum::{Change, Membership, Outage, gate},
};
use time::OffsetDateTime;

use self::cluster::{Authority, Cluster};

#[path = "etcd/cluster.rs"]
mod cluster;
#[path = "etcd/snapshot.rs"]
mod snapshot;
#[path = "etcd/survivor.rs"]
mod survivor;
#[path = "etcd/upkeep.rs"]
mod upkeep;

fn dial_to(address: SocketAddr) -> Dial {
    Dial {
        endpoint: address.to_string(),
        address,
        server_name: "127.0.0.1".to_owned(),
        deadline: Duration::from_secs(3),
    }
}

/// Tries until it works, as a phase of the program would; the last failure if it never does.
async fn until<T, F: Future<Output = Result<T, EtcdError>>>(mut attempt: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        match attempt().await {
            Ok(answer) => return answer,
            Err(error) if started.elapsed() > Duration::from_secs(120) => panic!("never worked: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Tries until the database has no space left; a slow machine may fail a write before.
async fn until_full<F: Future<Output = Result<(), EtcdError>>>(mut attempt: impl FnMut() -> F) {
    let mut last = Ok(());
    for _ in 0..200 {
        last = attempt().await;
        if last.as_ref().is_err_and(|error| error.to_string().contains("database space exceeded")) {
            return;
        }
    }
    panic!("never full: {last:?}")
}

async fn connect(cluster: &Cluster, n: usize) -> EtcdClient {
    let dial = dial_to(cluster.client_address(n));
    let credentials = cluster.authority.client();
    until(|| async { client::dial(&dial, &credentials).await.client }).await
}

/// Connected to every member, all of which serve.
async fn serving(cluster: &Cluster) -> Vec<EtcdClient> {
    let mut clients = Vec::new();
    for n in 0..cluster.members.len() {
        let client = connect(cluster, n).await;
        until(|| client.linearizable_read()).await;
        clients.push(client);
    }
    clients
}

async fn report(cluster: &Cluster) -> EtcdReport {
    let credentials = cluster.authority.client();
    let mut targets = Vec::new();
    for (n, member) in cluster.members.iter().enumerate() {
        let dial = Dial { deadline: Duration::from_secs(3), ..dial_to(cluster.client_address(n)) };
        let dialled = client::dial(&dial, &credentials).await;
        targets.push(Target {
            node: member.name.clone(),
            in_inventory: true,
            peer_url: member.peer_url.clone(),
            client_url: member.client_url.clone(),
            api: dialled.client.map(|c| Box::new(c) as Box<dyn EtcdApi>).map_err(Silence::from),
            served_not_after: dialled.served_not_after,
            peer_not_after: client::served_not_after(&dial_to(cluster.peer_address(n)), &credentials).await,
        });
    }
    let until = tokio::time::Instant::now() + Limits::default().total;
    let mut gathered = unless_it_hangs(gather(&targets, Limits::default())).await;
    unless_it_hangs(compare(&targets, &mut gathered, Hashes::Quick, until)).await;
    let known = Known { cluster: "test".into(), ..Known::default() };
    assess(&gathered, &known, OffsetDateTime::now_utc())
}

/// The same as soon as it is so, or after a minute: on a busy machine a member may be late with its answer, or who leads another
/// for a moment.
async fn report_once(cluster: &Cluster, is_so: impl Fn(&EtcdReport) -> bool) -> EtcdReport {
    let started = Instant::now();
    loop {
        let report = report(cluster).await;
        if is_so(&report) || started.elapsed() > Duration::from_secs(60) {
            return report;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What is answered, once it is no word of somebody who is late.
async fn answer<T, F: Future<Output = Result<T, EtcdError>>>(ask: impl Fn() -> F) -> Result<T, EtcdError> {
    let started = Instant::now();
    loop {
        match ask().await {
            Err(EtcdError::Unavailable { .. } | EtcdError::Late { .. })
                if started.elapsed() < Duration::from_secs(60) =>
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            answer => return answer,
        }
    }
}

/// What has no end fails; how long a person waits, `tests/bench` measures.
async fn unless_it_hangs<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), call).await.expect("an answer within a minute")
}

fn leader(report: &EtcdReport) -> usize {
    report.members.iter().position(|m| m.is_leader).expect("a leader")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_cluster() {
    let cluster = Cluster::start(3);
    serving(&cluster).await;
    let has_all = |r: &EtcdReport| r.members.iter().all(|m| m.hash.is_some() && m.lag.is_some());
    let report = report_once(&cluster, |r| r.verdict == Verdict::Healthy && has_all(r)).await;
    assert_eq!(report.verdict, Verdict::Healthy, "{report:#?}");
    assert_eq!((report.quorum.voters, report.quorum.healthy, report.quorum.can_lose), (3, 3, 1));
    let first = &report.members[0];
    assert!(first.hash.is_some() && report.members.iter().all(|m| m.hash == first.hash), "{report:#?}");
    assert!(report.members.iter().all(|m| m.raft_term == first.raft_term && m.lag.is_some()));
    assert_eq!(first.db_size_quota, Some(cluster::QUOTA));
    assert_eq!(first.certificate_days, Some(cluster::DAYS - 1));
    assert_eq!(first.peer_certificate_days, Some(cluster::PEER_DAYS - 1));
    assert_eq!(first.id.map(|i| i.to_string()).as_deref(), Some(cluster.etcdctl_id(0).as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go() {
    let mut cluster = Cluster::start(3);
    let clients = serving(&cluster).await;
    let first = &clients[0];

    // etcd wants all members connected for five seconds first: that is a reason to wait, not a failure.
    let added = cluster.prepare("m4");
    let id = match first.add_learner(&added.peer_url).await {
        Err(EtcdError::NotYet { why, .. }) if why.contains("unhealthy") => {
            until(|| first.add_learner(&added.peer_url)).await
        }
        answer => answer.expect("on a slow machine the five seconds are over, but nothing else may be wrong"),
    };
    assert_eq!(first.add_learner(&added.peer_url).await, Ok(id), "a lost answer is made good");
    let second = first.add_learner("https://127.0.0.1:1").await;
    assert!(matches!(second, Err(EtcdError::NotYet { .. })), "{second:?}");
    let unready = first.promote(id).await;
    assert!(matches!(unready, Err(EtcdError::NotYet { .. })), "{unready:?}");

    cluster.join(added);
    let unstarted = report(&cluster).await;
    assert_eq!(unstarted.quorum.voters, 3, "a learner has no vote: {unstarted:#?}");
    assert!(unstarted.members[3].is_learner);
    let joined = connect(&cluster, 3).await;
    until(|| joined.status()).await;
    let refused = answer(|| joined.linearizable_read()).await;
    assert!(matches!(refused, Err(EtcdError::Refused { .. })), "learners serve nothing: {refused:?}");
    until(|| first.promote(id)).await;
    assert_eq!(first.promote(id).await, Ok(()), "promoted already");
    until(|| joined.linearizable_read()).await;
    let four = report_once(&cluster, |r| r.quorum.healthy == 4).await;
    assert_eq!((four.quorum.voters, four.quorum.healthy), (4, 4), "{four:#?}");

    let old = leader(&four);
    let new = (old + 1) % 3;
    let target = four.members[new].id.expect("an ID").0;
    let not_leader = answer(|| clients[new].move_leader(target)).await;
    assert!(matches!(not_leader, Err(EtcdError::Refused { .. })), "{not_leader:?}");
    assert_eq!(clients[old].move_leader(target).await, Ok(()));
    let led = report_once(&cluster, |r| r.members[new].is_leader).await;
    assert_eq!(leader(&led), new, "{led:#?}");

    until(|| first.remove(id)).await;
    assert_eq!(first.remove(id).await, Ok(()), "gone already");
    let members = first.members(true).await.expect("a member list");
    assert_eq!(members.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_down_then_two() {
    let mut cluster = Cluster::start(3);
    let clients = serving(&cluster).await;
    let healthy = report(&cluster).await;
    let stop = |n: usize| Change::Restart { name: format!("m{n}"), outage: Outage::Stop };
    assert!(gate(&stop(2), &Membership::from(&healthy)).is_ok());

    cluster.kill(0);
    until(|| clients[1].linearizable_read()).await;
    let one_down = report(&cluster).await;
    assert_eq!(one_down.verdict, Verdict::Degraded, "{one_down:#?}");
    assert_eq!((one_down.quorum.healthy, one_down.quorum.can_lose), (2, 0));
    assert!(matches!(one_down.members[0].error, Some(Trouble::Silent(_))), "{one_down:#?}");
    let refused = gate(&stop(2), &Membership::from(&one_down)).expect_err("must be refused");
    assert_eq!(refused.rule, "quorum", "{refused:?}");

    cluster.kill(1);
    let lost = report(&cluster).await;
    assert_eq!(lost.verdict, Verdict::NoQuorum, "{lost:#?}");
    assert_eq!(lost.verdict.exit_code(), 9);
    let view = lost.view.expect("the survivor's own list");
    assert_eq!((view.from.as_str(), view.linearizable), ("m3", false));
    assert_eq!(lost.quorum.voters, 3);

    let client = connect(&cluster, 2).await;
    let read = client.members(true).await;
    assert!(matches!(read, Err(EtcdError::Unavailable { .. } | EtcdError::Late { .. })), "{read:?}");
    assert_eq!(client.members(false).await.map(|m| m.len()), Ok(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_hang() {
    let cluster = Cluster::start(3);
    let clients = serving(&cluster).await;
    let paused = leader(&report(&cluster).await);
    cluster.pause(paused);
    let silent = unless_it_hangs(clients[paused].status()).await;
    assert!(matches!(silent, Err(EtcdError::Late { .. })), "{silent:?}");
    until(|| clients[(paused + 1) % 3].linearizable_read()).await;
    let report = report(&cluster).await;
    assert_eq!(report.verdict, Verdict::Degraded, "{report:#?}");
    assert_ne!(leader(&report), paused, "the others have elected another: {report:#?}");
    cluster.resume(paused);
    until(|| clients[paused].linearizable_read()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_heals_when_its_member_is_back() {
    let mut cluster = Cluster::start(1);
    let client = serving(&cluster).await.remove(0);
    cluster.kill(0);
    let down = client.status().await;
    assert!(matches!(down, Err(EtcdError::Unavailable { .. })), "{down:?}");
    cluster.restart(0);
    until(|| client.linearizable_read()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_database() {
    let cluster = Cluster::start(1);
    let client = serving(&cluster).await.remove(0);
    cluster.fill();
    let alarms = client.alarms().await.expect("a list of alarms");
    assert_eq!(alarms.iter().map(|a| a.kind.as_str()).collect::<Vec<_>>(), ["NOSPACE"]);
    let report = report(&cluster).await;
    assert_eq!(report.verdict, Verdict::Degraded);
    assert_eq!(report.members[0].alarms, ["NOSPACE"], "{report:#?}");
    assert!(report.advice.iter().any(|a| a.text.contains("NOSPACE")), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_do_not_fit() {
    let cluster = Cluster::start(1);
    serving(&cluster).await;
    let dial = dial_to(cluster.client_address(0));
    let ours = cluster.authority.client();
    let strangers = Authority::new();

    let wrong_ca = client::Credentials { ca: strangers.client().ca, ..ours.clone() };
    let dialled = client::dial(&dial, &wrong_ca).await;
    assert!(matches!(&dialled.client, Err(EtcdError::Untrusted { .. })), "{dialled:?}");
    assert!(dialled.served_not_after.is_some(), "seen although refused");

    // Whoever only looks needs no certificate of his own, and sees the very one.
    let look = |name| tls::served(cluster.client_address(0), name, Duration::from_secs(3));
    let served = inspect_der(&look("127.0.0.1").await.unwrap()).unwrap();
    assert_eq!(Some(served.not_after), dialled.served_not_after);
    assert_eq!(inspect_der(&look("elsewhere").await.unwrap()).unwrap(), served);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(tls::served(nobody, "127.0.0.1", Duration::from_secs(3)).await.is_err());

    let wrong_name = Dial { server_name: "10.0.0.1".to_owned(), ..dial.clone() };
    let dialled = client::dial(&wrong_name, &ours).await;
    assert!(matches!(&dialled.client, Err(EtcdError::Untrusted { .. })), "{dialled:?}");

    let wrong_client = client::Credentials { ca: ours.ca.clone(), ..strangers.client() };
    let dialled = client::dial(&dial, &wrong_client).await;
    assert!(matches!(&dialled.client, Err(EtcdError::Untrusted { .. })), "{dialled:?}");
    assert!(!format!("{dialled:?} {wrong_client:?}").contains("PRIVATE KEY"));

    let unreadable = client::Credentials { certificate: b"nothing".to_vec(), ..ours };
    let dialled = client::dial(&dial, &unreadable).await;
    assert!(matches!(&dialled.client, Err(EtcdError::Untrusted { .. })), "{dialled:?}");
}

/// As README has it done by hand: nobody is shut out while some know the old certificate and some the new one, whoever signed when.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_is_prolonged_member_by_member() {
    let mut cluster = Cluster::start(3);
    serving(&cluster).await;
    let before = cluster.authority.client();
    cluster.prolong_authority();
    let after = cluster.authority.client();
    assert_ne!(before.ca, after.ca);
    for n in 0..3 {
        cluster.kill(n);
        cluster.restart(n);
        for other in 0..3 {
            for credentials in [&before, &after] {
                let dial = dial_to(cluster.client_address(other));
                let client = until(|| async { client::dial(&dial, credentials).await.client }).await;
                until(|| client.linearizable_read()).await;
            }
        }
    }
    let report = report(&cluster).await;
    assert_eq!(report.verdict, Verdict::Healthy, "{report:#?}");
}

/// People read that log, and `etcd status` has its last line.
#[tokio::test(flavor = "multi_thread")]
async fn who_looks_at_what_members_serve_to_one_another_leaves_no_complaint() {
    const COMPLAINT: &str = "rejected connection on peer endpoint";
    let cluster = Cluster::start(1);
    serving(&cluster).await;
    let dial = dial_to(cluster.peer_address(0));
    let strangers = Authority::new().client();
    for _ in 0..5 {
        let seen = client::served_not_after(&dial, &cluster.authority.client()).await.expect("a certificate");
        assert_eq!((seen - OffsetDateTime::now_utc()).whole_days(), cluster::PEER_DAYS - 1);
    }
    assert!(!cluster.log(0).contains(COMPLAINT), "{}", cluster.log(0));
    // Whom nobody trusts sees it, too, and that is told.
    assert!(client::served_not_after(&dial, &strangers).await.is_some());
    until(|| async {
        let why = "no complaint yet".to_owned();
        let silent = EtcdError::Unavailable { endpoint: "m1".into(), why };
        cluster.log(0).contains(COMPLAINT).then_some(()).ok_or(silent)
    })
    .await;
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(client::served_not_after(&dial_to(nobody), &strangers).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_and_nothing_there() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mute =
        Dial { deadline: Duration::from_millis(300), ..dial_to(listener.local_addr().expect("bound")) };
    let silent =
        unless_it_hangs(client::dial(&mute, &authority.client())).await.client.expect_err("nobody speaks");
    assert!(matches!(&silent, EtcdError::Late { .. }), "{silent:?}");
    drop(listener);
    let refused = client::dial(&mute, &authority.client()).await.client.expect_err("nobody listens");
    assert!(refused.to_string().contains("refused"), "{refused}");
}
