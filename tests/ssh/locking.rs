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
    exec::lock,
    host::{Host, fleet::Fleet},
    layout,
};

use crate::sshd::Sshd;

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
    let remover = Remover::start();
    let mut refused = Vec::new();
    for turn in 0..TURNS.1 {
        if turn >= TURNS.0 && remover.removed.load(SeqCst) > 0 {
            break;
        }
        let first = fleet(&sshd).await;
        remover.left.store(TIMES, SeqCst);
        refused.extend(lock::take(&first, &format!("turn {turn}"), &Events::none()).await.err());
        remover.left.store(0, SeqCst);
        if turn == 0 {
            let second = fleet(&sshd).await;
            let why = lock::take(&second, "another", &Events::none()).await.expect_err("it is taken").why;
            assert_eq!(why, "turn 0");
        }
    }
    assert!(remover.end() > 0, "nobody got in between");
    // That the one before is not quite gone yet may happen on a busy machine.
    refused.retain(|refusal| !refusal.why.starts_with("turn "));
    assert_eq!(refused, []);
}

/// One host, over a connection of its own.
async fn fleet(sshd: &Sshd) -> Fleet {
    let host = sshd.connect().await.expect("it connects");
    Fleet::new(vec![std::sync::Arc::new(host) as std::sync::Arc<dyn Host>], 1)
}
