//! What dies on the way, and what is left behind.

use std::time::Duration;

use rsadm::host::{Host, HostError, Op, ssh::SshHost};

use crate::sshd::{FIND_SSHD, Sshd, ok, options, put, run, sh};

#[tokio::test]
async fn a_shell_that_dies_is_told_and_replaced() {
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.connect().await.unwrap();
    let path = sshd.path("target").display().to_string();
    let ops = [
        put(&path, 0o600, b"before"),
        sh("kill -9 $(ps -o ppid= $PPID); sleep 1"),
        put(&path, 0o600, b"after"),
    ];
    let error = host.run(&ops, false).await.unwrap_err();
    let HostError::Lost { doing, .. } = &error else { panic!("{error}") };
    assert!(doing.starts_with("run `bash -c kill"), "{doing}");
    assert_eq!(ok(&host, &[Op::Read(path)]).await[0].stdout, b"before");
    assert_eq!((host.traffic().connections, host.traffic().executions), (1, 2));
}

#[tokio::test]
async fn a_connection_that_breaks_is_told_and_replaced() {
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.connect().await.unwrap();
    let forward = host.forward(([127, 0, 0, 1], sshd.node().ssh.port).into()).await.unwrap();
    assert!(forward.leads().await);
    let kill = format!("{FIND_SSHD}; kill -9 $pid; sleep 1");
    let error = host.run(&[sh(&kill)], false).await.unwrap_err();
    assert!(matches!(error, HostError::Lost { .. }), "{error}");
    ok(&host, &[run(&["true"])]).await;
    assert!(!forward.leads().await);
    assert_eq!((host.traffic().connections, host.traffic().executions), (2, 2));
}

#[tokio::test]
async fn a_dropped_batch_disturbs_no_later_one_and_leaves_no_half_file() {
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.connect().await.unwrap();
    let path = sshd.path("dropped").display().to_string();
    ok(&host, &[put(&path, 0o600, b"old")]).await;
    let big = vec![7u8; 16 << 20];
    for millis in [1, 5, 20, 60] {
        let ops = [run(&["true"]), put(&path, 0o600, &big)];
        let batch = host.run(&ops, false);
        if tokio::time::timeout(Duration::from_millis(millis), batch).await.is_ok() {
            return eprintln!("skipped: this machine is too fast to be interrupted");
        }
        assert_eq!(ok(&host, &[run(&["echo", "again"])]).await[0].text(), "again\n");
        let content = ok(&host, &[Op::Read(path.clone())]).await.remove(0).stdout;
        assert!(content == b"old" || content == big, "{} bytes", content.len());
    }
    // The shells that were cut off clear up behind them.
    for _ in 0..1500 {
        let list = sh(&format!("ls -d {}/.rsadm* 2>/dev/null || true", sshd.path("").display()));
        if ok(&host, &[list]).await[0].stdout.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("a temporary file stays");
}

#[tokio::test]
async fn nothing_is_left_on_either_side() {
    let Some(sshd) = Sshd::start() else { return };
    let options = options();
    let control = options.control_dir.path().to_owned();
    let host = SshHost::connect(&sshd.node(), &options).await.unwrap();
    let spool = ok(&host, &[sh("ls -d /run/rsadm.$(ps -o ppid= $PPID | tr -d ' ').*")]).await[0].text();
    assert!(std::path::Path::new(spool.trim()).is_dir(), "{spool}");
    // A command that is still at work does not hold the connection.
    let long = [sh("exec sleep 7")];
    assert!(tokio::time::timeout(Duration::from_millis(200), host.run(&long, false)).await.is_err());
    ok(&host, &[run(&["true"])]).await;
    drop((host, options));
    for _ in 0..1500 {
        let socket = format!("{}", control.display());
        let ssh = std::process::Command::new("pgrep").args(["-f", &socket]).output().unwrap();
        if !control.exists() && !std::path::Path::new(spool.trim()).exists() && ssh.stdout.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("left: {} or {spool} or an ssh", control.display());
}
