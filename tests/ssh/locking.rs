//! The lock of a host, taken and let go by real sessions.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rsadm::{
    exec::lock,
    host::{Host, fleet::Fleet},
};

use crate::sshd::Sshd;

/// Who lets go removes the lock's folder, maybe while somebody else is about to open the file in it. Here a program that
/// does nothing else takes the part of all those who let go.
#[tokio::test]
async fn a_lock_that_is_being_let_go_is_taken_and_holds() {
    let Some(sshd) = Sshd::start() else { return };
    let remover = "while :; do mkdir -p /run/rsadm-lock; rmdir /run/rsadm-lock; done";
    let mut remover =
        Command::new("bash").args(["-c", remover]).stderr(Stdio::null()).spawn().expect("bash starts");
    let mut refused = Vec::new();
    for turn in 0..8 {
        let first = fleet(&sshd).await;
        refused.extend(lock::take(&first, &format!("turn {turn}")).await.err());
        if turn == 0 {
            let second = fleet(&sshd).await;
            let asked = Instant::now();
            let why = lock::take(&second, "another").await.expect_err("it is taken").why;
            assert_eq!(why, "turn 0");
            assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        }
    }
    remover.kill().and_then(|()| remover.wait()).expect("bash ends");
    // That the one before is not quite gone yet may happen on a busy machine.
    refused.retain(|refusal| !refusal.why.starts_with("turn "));
    assert_eq!(refused, []);
}

/// One host, over a connection of its own.
async fn fleet(sshd: &Sshd) -> Fleet {
    let host = sshd.connect().await.expect("it connects");
    Fleet::new(vec![std::sync::Arc::new(host) as std::sync::Arc<dyn Host>], 1)
}
