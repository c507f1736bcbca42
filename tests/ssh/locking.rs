//! The lock of a host, taken and let go by real sessions.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rsadm::{
    event::Events,
    exec::lock::{self, Mark},
    host::{Host, HostError, fleet::Fleet, ssh::SshHost},
    inventory::{Node, NodeName},
    layout,
};

use crate::sshd::{Sshd, ok, options, run, sh};

/// The lock is the machine's.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How often the folder is taken away while one lock is being taken; far less often than that is tried.
const TIMES: usize = 3;

/// How many locks are taken at least, and at most: it takes luck to take the folder away from one of them.
const TURNS: (usize, usize) = (8, 300);

/// Takes the part of those who let go: removes the lock's folder as soon as somebody has made it, before there is a file in it.
struct Remover {
    left: Arc<AtomicUsize>,
    removed: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Remover {
    fn start() -> Self {
        let (left, removed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let ends = Arc::new(AtomicBool::new(false));
        let folder = Path::new(layout::LOCK).parent().expect("it is in a folder");
        let (still, done, end) = (Arc::clone(&left), Arc::clone(&removed), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            while !end.load(SeqCst) {
                if still.load(SeqCst) == 0 {
                    thread::sleep(Duration::from_millis(1));
                } else if fs::remove_dir(folder).is_ok() {
                    done.fetch_add(1, SeqCst);
                    still.fetch_sub(1, SeqCst);
                }
            }
        });
        Self { left, removed, ends, thread }
    }

    /// How often it did.
    fn end(self) -> usize {
        self.ends.store(true, SeqCst);
        self.thread.join().expect("it ends");
        self.removed.load(SeqCst)
    }
}

/// Who lets go removes the lock's folder, maybe while somebody else is about to open the file in it.
#[tokio::test]
async fn a_lock_that_is_being_let_go_is_taken_and_holds() {
    let Some(sshd) = Sshd::start() else { return };
    let _alone = ALONE.lock().await;
    let remover = Remover::start();
    let mut refused = Vec::new();
    for turn in 0..TURNS.1 {
        if turn >= TURNS.0 && remover.removed.load(SeqCst) > 0 {
            break;
        }
        let first = fleet(&sshd).await;
        remover.left.store(TIMES, SeqCst);
        refused.extend(lock::take(&first, &format!("turn {turn}"), Mark::Own, &Events::none()).await.err());
        remover.left.store(0, SeqCst);
        if turn == 0 {
            let second = fleet(&sshd).await;
            let why = lock::take(&second, "another", Mark::Own, &Events::none())
                .await
                .expect_err("it is taken")
                .why;
            assert_eq!(why, "turn 0");
        }
    }
    assert!(remover.end() > 0, "nobody got in between");
    // That the one before is not quite gone yet may happen on a busy machine.
    refused.retain(|refusal| !refusal.why.starts_with("turn "));
    assert_eq!(refused, []);
}

/// As where a computer slept: its shell is gone, and with it the lock. What it found before says nothing any more once another
/// run was there.
#[tokio::test]
async fn a_run_that_was_away_goes_on_only_where_no_other_came() {
    let Some(sshd) = Sshd::start() else { return };
    let _alone = ALONE.lock().await;
    let host = Arc::new(sshd.connect().await.expect("it connects"));
    let fleet_of = |host| Fleet::new(vec![host as Arc<dyn Host>], 1);
    taken(&fleet_of(Arc::clone(&host)), "sleeper", Mark::Own).await;
    assert!(matches!(end_shell(&host).await, HostError::Lost { .. }));
    ok(&host, &[run(&["true"])]).await;

    end_shell(&host).await;
    taken(&fleet(&sshd).await, "another\tthere 17 1", Mark::Own).await;
    for _ in 0..2 {
        assert_eq!(overtaken(&host).await, "another");
    }
    taken(&fleet(&sshd).await, "third", Mark::Own).await;
}

/// Who was away knows of a reset by what it took away, and not of a look.
#[tokio::test]
async fn a_reset_leaves_nothing_and_is_told_to_who_was_away() {
    let Some(sshd) = Sshd::start() else { return };
    let _alone = ALONE.lock().await;
    let [first, reset] =
        [sshd.connect().await, sshd.connect().await].map(|host| Arc::new(host.expect("it connects")));
    let fleet_of = |host: &Arc<SshHost>| Fleet::new(vec![Arc::clone(host) as Arc<dyn Host>], 1);
    taken(&fleet_of(&first), "sleeper", Mark::Own).await;
    end_shell(&first).await;
    taken(&fleet(&sshd).await, "a look", Mark::Before).await;
    until_free(&first).await.expect("nobody has changed anything");

    end_shell(&first).await;
    taken(&fleet_of(&reset), "a reset", Mark::None).await;
    assert!(!Path::new("/run/rsadm-last").exists());
    end_shell(&reset).await;
    ok(&reset, &[run(&["true"])]).await;
    end_shell(&reset).await;
    assert_eq!(overtaken(&first).await, "a reset, which leaves no name");
}

/// As by an sshd that lost its network.
async fn end_shell(host: &SshHost) -> HostError {
    host.run(&[sh("kill -9 $(ps -o ppid= $PPID); sleep 1")], false).await.unwrap_err()
}

/// Who it is that came meanwhile.
async fn overtaken(host: &SshHost) -> String {
    match until_free(host).await {
        Err(HostError::Overtaken { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

/// What a run hears on its way back, once the other's shell has ended, which it does a little after the other.
async fn until_free(host: &SshHost) -> Result<(), HostError> {
    loop {
        match host.run(&[run(&["true"])], false).await {
            Err(HostError::Lost { why, .. }) => {
                assert!(!why.contains('\t'), "{why}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            answer => return answer.map(drop),
        }
    }
}

/// As from two containers on one computer, or two that were made of one image: name, number and second may be the same.
#[tokio::test]
async fn a_run_that_calls_itself_the_same_is_another() {
    let Some(sshd) = Sshd::start() else { return };
    let _alone = ALONE.lock().await;
    let holder = |run: &str| format!("rsadm up by root@desk (pid 17)\t{run}");
    let first = fleet(&sshd).await;
    taken(&first, &holder("here 17 1"), Mark::Own).await;
    let second = fleet(&sshd).await;
    let why = lock::take(&second, &holder("there 17 2"), Mark::Own, &Events::none())
        .await
        .expect_err("it is taken")
        .why;
    assert_eq!(why, "rsadm up by root@desk (pid 17)");
    // Its shell was not taken for one that the same run had before, and ended.
    first.hosts()[0].run(&[run(&["true"])], false).await.expect("its shell lives");
}

async fn taken(fleet: &Fleet, holder: &str, mark: Mark) {
    let mut refused = lock::take(fleet, holder, mark, &Events::none()).await.err();
    // The one before may not be quite gone yet.
    for _ in 0..600 {
        if refused.is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        refused = lock::take(fleet, holder, mark, &Events::none()).await.err();
    }
    panic!("{refused:?}");
}

/// Else a run would wait for itself, or end the shell that holds its own lock.
#[tokio::test]
async fn a_machine_under_two_names_is_told() {
    let Some(sshd) = Sshd::start() else { return };
    let _alone = ALONE.lock().await;
    let mut hosts = vec![];
    for name in ["m1", "m2"] {
        let node = Node { name: NodeName::new(name), ..sshd.node() };
        hosts
            .push(Arc::new(SshHost::connect(&node, &options()).await.expect("it connects")) as Arc<dyn Host>);
    }
    let fleet = Fleet::new(hosts, 2);
    let refusal =
        lock::take(&fleet, "a run", Mark::Own, &Events::none()).await.expect_err("it is one machine");
    assert_eq!(refusal.subject, "m1 and m2 are the same machine");
}

/// One host, over a connection of its own.
async fn fleet(sshd: &Sshd) -> Fleet {
    let host = sshd.connect().await.expect("it connects");
    Fleet::new(vec![std::sync::Arc::new(host) as std::sync::Arc<dyn Host>], 1)
}
