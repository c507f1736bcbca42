//! How long gathering takes, and what it asks, with members that are slow or hang.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::{
    scene::{status, url},
    *,
};

/// A member that answers after a delay, or never.
struct SlowMember {
    delay: Duration,
    hangs_reads: bool,
    alarms_asked: &'static AtomicUsize,
}

impl SlowMember {
    async fn answer<T>(&self, answer: T) -> Result<T, EtcdError> {
        tokio::time::sleep(self.delay).await;
        Ok(answer)
    }
}

#[async_trait]
impl EtcdApi for SlowMember {
    fn endpoint(&self) -> &'static str {
        "m1"
    }

    async fn members(&self, linearizable: bool) -> Result<Vec<Member>, EtcdError> {
        if linearizable && self.hangs_reads {
            std::future::pending::<()>().await;
        }
        self.answer(vec![member(1)]).await
    }

    async fn status(&self) -> Result<MemberStatus, EtcdError> {
        self.answer(status(1)).await
    }

    async fn alarms(&self) -> Result<Vec<Alarm>, EtcdError> {
        self.alarms_asked.fetch_add(1, Ordering::Relaxed);
        self.answer(Vec::new()).await
    }

    async fn disarm(&self, _: &Alarm) -> Result<(), EtcdError> {
        unreachable!("status changes nothing")
    }

    async fn hash_kv(&self, revision: u64) -> Result<KvHash, EtcdError> {
        self.answer(KvHash { hash: 1, revision, compact_revision: 0 }).await
    }

    async fn has_keys(&self, _: &str) -> Result<bool, EtcdError> {
        unreachable!("nobody asks for keys here")
    }
    async fn linearizable_read(&self) -> Result<(), EtcdError> {
        unreachable!("the member list says it all")
    }

    async fn add_learner(&self, _: &str) -> Result<u64, EtcdError> {
        unreachable!("status changes nothing")
    }

    async fn promote(&self, _: u64) -> Result<(), EtcdError> {
        unreachable!("status changes nothing")
    }

    async fn remove(&self, _: u64) -> Result<(), EtcdError> {
        unreachable!("status changes nothing")
    }

    async fn move_leader(&self, _: u64) -> Result<(), EtcdError> {
        unreachable!("status changes nothing")
    }
}

fn target(delay: Duration, hangs_reads: bool, alarms_asked: &'static AtomicUsize) -> Target {
    Target {
        node: "m1".to_owned(),
        in_inventory: true,
        peer_url: url(1, 2380),
        client_url: url(1, 2379),
        api: Ok(Box::new(SlowMember { delay, hangs_reads, alarms_asked })),
        served_not_after: None,
    }
}

#[tokio::test(start_paused = true)]
async fn hanging_members_do_not_hold_up_the_answer() {
    static ALARMS: AtomicUsize = AtomicUsize::new(0);
    let forever = Duration::from_secs(1_000_000);
    let targets = [target(Duration::ZERO, true, &ALARMS), target(forever, false, &ALARMS)];
    let started = Instant::now();
    let gathered = gather(&targets, Limits::default()).await;
    // The clock of this test stands still except while all tasks wait, so this is exact.
    assert_eq!(started.elapsed(), Limits::default().answers);
    assert_eq!(gathered.answers[1].status, Err("no answer within 2.0 s".to_owned()));
    assert_eq!(gathered.answers[0].own_list, Some(vec![member(1)]));
    assert!(gathered.answers[0].hash.is_some());
    assert_eq!(gathered.alarms, None);
    assert_eq!(ALARMS.load(Ordering::Relaxed), 0, "without a quorum the list of alarms would be a write");
}

#[tokio::test(start_paused = true)]
async fn members_that_cannot_be_dialled_say_why() {
    static ALARMS: AtomicUsize = AtomicUsize::new(0);
    let mut dead = target(Duration::ZERO, false, &ALARMS);
    dead.api = Err("connection refused".to_owned());
    let gathered = gather(&[dead, target(Duration::ZERO, false, &ALARMS)], Limits::default()).await;
    assert_eq!(gathered.answers[0].status, Err("connection refused".to_owned()));
    assert_eq!(gathered.alarms, Some(Vec::new()));
    assert_eq!(ALARMS.load(Ordering::Relaxed), 1, "one member speaks for all");
}
