//! How long gathering takes, and what it asks, with members that are slow or hang.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

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
    hashing: Arc<Hashing>,
}

/// How members hash their data.
#[derive(Default)]
struct Hashing {
    db_size: u64,
    takes: Duration,
    asked: AtomicUsize,
    /// How far they are, where that is not as far as all others.
    revision: Option<u64>,
    compacted: u64,
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
        let all = status(1);
        let revision = self.hashing.revision.unwrap_or(all.revision);
        self.answer(MemberStatus { db_size: self.hashing.db_size, revision, ..all }).await
    }

    async fn alarms(&self) -> Result<Vec<Alarm>, EtcdError> {
        self.alarms_asked.fetch_add(1, Ordering::Relaxed);
        self.answer(Vec::new()).await
    }

    async fn disarm(&self, _: &Alarm) -> Result<(), EtcdError> {
        unreachable!("status changes nothing")
    }

    async fn hash_kv(&self, revision: u64, _: Duration) -> Result<KvHash, EtcdError> {
        self.hashing.asked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.hashing.takes).await;
        if revision < self.hashing.compacted {
            return Err(EtcdError::Refused { endpoint: "m1".into(), why: EtcdError::COMPACTED.into() });
        }
        let newest = self.hashing.revision.unwrap_or(revision);
        self.answer(KvHash { hash: 1, revision, newest, compact_revision: self.hashing.compacted }).await
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
    let member = SlowMember { delay, hangs_reads, alarms_asked, hashing: Arc::default() };
    Target::of("m1".to_owned(), true, url(1, 2380), url(1, 2379), Ok(Box::new(member)))
}

/// One that answers at once, and hashes its data so.
fn hashed(alarms_asked: &'static AtomicUsize, hashing: &Arc<Hashing>) -> Target {
    let member =
        SlowMember { delay: Duration::ZERO, hangs_reads: false, alarms_asked, hashing: hashing.clone() };
    Target { api: Ok(Box::new(member)), ..target(Duration::ZERO, false, alarms_asked) }
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
    assert_eq!(gathered.answers[1].status, Err(Silence::late("no answer within 2.0 s")));
    assert_eq!(gathered.answers[0].own_list, Some(vec![member(1)]));
    assert_eq!(gathered.alarms, None);
    assert_eq!(ALARMS.load(Ordering::Relaxed), 0, "without a quorum the list of alarms would be a write");
}

#[tokio::test(start_paused = true)]
async fn members_that_cannot_be_dialled_say_why() {
    static ALARMS: AtomicUsize = AtomicUsize::new(0);
    let mut dead = target(Duration::ZERO, false, &ALARMS);
    dead.api = Err("connection refused".into());
    let gathered = gather(&[dead, target(Duration::ZERO, false, &ALARMS)], Limits::default()).await;
    assert_eq!(gathered.answers[0].status, Err("connection refused".into()));
    assert_eq!(gathered.alarms, Some(Vec::new()));
    assert_eq!(ALARMS.load(Ordering::Relaxed), 1, "one member speaks for all");
}

/// A hash stops a large database for seconds, whoever waits for it.
#[tokio::test(start_paused = true)]
async fn hashes_are_asked_for_where_they_are_wanted_and_bearable() {
    static ALARMS: AtomicUsize = AtomicUsize::new(0);
    let (small, large) = (1 << 20, 8 << 30);
    let (quick, slow) = (Duration::from_millis(10), Duration::from_secs(80));
    for (wanted, db_size, takes, asked, told) in [
        (Hashes::Unasked, small, quick, 0, false),
        (Hashes::Cheap, small, quick, 1, true),
        (Hashes::Cheap, 200 << 20, quick, 0, false),
        (Hashes::Quick, small, quick, 1, true),
        (Hashes::Quick, small, slow, 1, false),
        (Hashes::Quick, large, quick, 0, false),
        (Hashes::Whole, large, slow, 1, true),
        (Hashes::Whole, large, slow * 2, 1, false),
    ] {
        let hashing = Arc::new(Hashing { db_size, takes, ..Hashing::default() });
        let targets = [hashed(&ALARMS, &hashing)];
        let mut gathered = gather(&targets, Limits::default()).await;
        compare(&targets, &mut gathered, wanted, Instant::now() + Duration::from_secs(1)).await;
        let what = format!("{wanted:?} {db_size} {takes:?}");
        assert_eq!(hashing.asked.load(Ordering::Relaxed), asked, "{what}");
        assert_eq!(gathered.answers[0].hash.is_some(), told, "{what}");
    }
}

/// Nothing is written then, and the alarm may name the one that is right.
#[tokio::test(start_paused = true)]
async fn while_corrupt_is_on_hashes_are_asked_for_whatever_the_size_and_not_for_longer() {
    static ALARMS: AtomicUsize = AtomicUsize::new(0);
    for (kind, wanted, asked, told) in [
        (Alarm::CORRUPT, Hashes::Unasked, 0, false),
        (Alarm::CORRUPT, Hashes::Quick, 1, false),
        (Alarm::CORRUPT, Hashes::Whole, 1, true),
        (Alarm::NOSPACE, Hashes::Quick, 0, false),
    ] {
        let takes = Duration::from_secs(40);
        let hashing = Arc::new(Hashing { db_size: 8 << 30, takes, ..Hashing::default() });
        let targets = [hashed(&ALARMS, &hashing)];
        let mut gathered = gather(&targets, Limits::default()).await;
        gathered.alarms = Some(vec![Alarm { member_id: 1, kind: kind.to_owned() }]);
        compare(&targets, &mut gathered, wanted, Instant::now() + Duration::from_secs(1)).await;
        assert_eq!(hashing.asked.load(Ordering::Relaxed), asked, "{kind} {wanted:?}");
        assert_eq!(gathered.answers[0].hash.is_some(), told, "{kind} {wanted:?}");
    }
}

/// What others have dropped of it all, they tell no hash of: that is none of theirs that did not come.
#[tokio::test]
async fn one_far_below_the_others_is_the_one_that_is_not_compared() {
    static ALARMS: AtomicUsize = AtomicUsize::new(0);
    let targets = [(1_000, 900), (1_005, 900), (500, 400)].map(|(revision, compacted)| {
        let hashing = Arc::new(Hashing { revision: Some(revision), compacted, ..Hashing::default() });
        let mut target = target(Duration::ZERO, false, &ALARMS);
        let (delay, hangs_reads, alarms_asked) = (Duration::ZERO, false, &ALARMS);
        target.api = Ok(Box::new(SlowMember { delay, hangs_reads, alarms_asked, hashing }));
        target
    });
    let mut gathered = gather(&targets, Limits::default()).await;
    compare(&targets, &mut gathered, Hashes::Whole, Instant::now()).await;
    let told: Vec<_> = gathered.answers.iter().map(|a| (a.hash.map(|h| h.revision), a.newest)).collect();
    assert_eq!(told, [(Some(1_000), Some(1_000)), (Some(1_000), Some(1_005)), (None, Some(500))]);
}

#[test]
fn data_that_was_not_compared_is_not_called_equal() {
    let note = |scene: &Scene| scene.report().advice.into_iter().map(|a| a.text).collect::<Vec<_>>().join("");
    let mut scene = Scene::new(3);
    (scene.answer(3).hash, scene.answer(3).newest) = (None, None);
    assert_eq!(scene.report().comparison, Comparison::Incomplete);
    assert_eq!(
        note(&scene),
        "the data of m3 was not compared with that of the others: no hash of it came in time"
    );
    scene.status(1).db_size = 3 << 30;
    let report = scene.report();
    assert_eq!((report.comparison, report.verdict), (Comparison::TooLarge, Verdict::Healthy));
    insta::assert_snapshot!(note(&scene), @"whether members hold the same data was not compared: databases are up to 3 GiB large, and a hash of more than 1 GiB holds up writes for longer than a second; at a quiet hour, this compares them:");
    let compares = scene.report().advice.into_iter().find_map(|a| a.command);
    assert_eq!(compares.as_deref(), Some("rsadm etcd status prod.yaml --compare"));
    scene.gathered.hashes = Hashes::Unasked;
    assert_eq!((scene.report().comparison, note(&scene)), (Comparison::NotAsked, String::new()));
    // One that is ill has other troubles; one alone has nobody to be compared with.
    assert_eq!(Scene::new(3).silence(3, "no answer").report().comparison, Comparison::Compared);
    let mut alone = Scene::new(1);
    alone.answer(1).hash = None;
    assert_eq!(note(&alone), "");
}
