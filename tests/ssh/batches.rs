//! What a batch answers.

use std::time::Duration;

use rsadm::host::{Cmd, Host, Op, Script};

use crate::sshd::{Sshd, ok, put, run, sh};

#[tokio::test]
async fn a_batch_answers_in_order_and_stops_at_the_first_failure() {
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.connect().await.unwrap();
    let ops = [sh("echo one; echo eins >&2"), sh("exit 3"), sh("echo three")];
    let stopped = host.run(&ops, false).await.unwrap();
    assert_eq!(stopped.iter().map(|o| o.status).collect::<Vec<_>>(), [0, 3]);
    assert_eq!((stopped[0].text().as_str(), stopped[0].stderr.as_str()), ("one\n", "eins\n"));
    let all = host.run(&ops, true).await.unwrap();
    assert_eq!(all.iter().map(|o| o.status).collect::<Vec<_>>(), [0, 3, 0]);
    assert_eq!(all[2].text(), "three\n");
    let traffic = host.traffic();
    assert_eq!((traffic.connections, traffic.executions, traffic.batches), (1, 1, 2));
}

#[tokio::test]
async fn words_and_input_reach_a_command_untouched() {
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.connect().await.unwrap();
    let every: String = (1..=127u8).map(char::from).chain("é€𝄞".chars()).collect();
    const SHOW: Script = Script { name: "show", text: "printf '%s|' \"$@\"; cat\n" };
    let done = ok(
        &host,
        &[
            run(&["printf", "%s|", &every, "", " a  b ", "-n", "$(id)", "'"]),
            Op::Script(SHOW, vec![every.clone(), String::new(), "\n".into()], Duration::from_secs(5)),
            Op::Run(Cmd::new(["cat"]).stdin((0..=255).collect::<Vec<u8>>())),
            run(&["cat"]),
        ],
    )
    .await;
    assert_eq!(done[0].text(), format!("{every}|| a  b |-n|$(id)|'|"));
    assert_eq!(done[1].text(), format!("{every}||\n|"));
    assert_eq!(done[2].stdout, (0..=255).collect::<Vec<u8>>());
    assert_eq!(done[3].stdout, b"");
    let refused = host.run(&[run(&["echo", "a\0b"]), run(&["echo"])], false).await.unwrap();
    assert_eq!((refused.len(), refused[0].status), (1, 2));
    assert!(refused[0].stderr.contains("NUL"));
}

#[tokio::test]
async fn a_command_ends_at_its_time_limit_with_its_children() {
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.connect().await.unwrap();
    let limited = |text: &str| Op::Run(Cmd::new(["bash", "-c", text]).timeout(Duration::from_secs(3)));
    let ops = [limited("echo begun; sleep 61 & sleep 62"), run(&["nosuchcommand"]), sh("kill -9 $$")];
    let done = host.run(&ops, true).await.unwrap();
    assert_eq!(done.iter().map(|o| o.status).collect::<Vec<_>>(), [124, 127, 137]);
    assert_eq!(done[0].text(), "begun\n");
}

#[tokio::test]
async fn only_the_end_of_a_long_complaint_is_kept() {
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.connect().await.unwrap();
    let done = ok(&host, &[sh("seq 100000 >&2; echo the end >&2")]).await;
    assert_eq!(done[0].stderr.len(), 16384);
    assert!(done[0].stderr.ends_with("\n100000\nthe end\n"));
}

#[tokio::test]
async fn a_noisy_login_shell_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let noise = "echo Welcome; echo 'rsadm-0 ready'; printf 'no newline'; echo warning >&2\n\
                 (for _ in 1 2 3; do sleep 0.1; echo; echo still here; done) &\n";
    std::fs::write(home.path().join(".bashrc"), noise).unwrap();
    let Some(sshd) = Sshd::start_with(&[&format!("SetEnv HOME={}", home.path().display())]) else { return };
    let host = sshd.connect().await.unwrap();
    for _ in 0..5 {
        let done = ok(&host, &[sh("echo out; echo err >&2; sleep 0.1")]).await;
        assert_eq!((done[0].text().as_str(), done[0].stderr.as_str()), ("out\n", "err\n"));
    }
    let heard = ok(&host, &[sh("ls -A $HOME; echo $HOME")]).await;
    assert!(heard[0].text().contains(".bashrc"), "the noise was not in the way: {}", heard[0].text());
}

#[tokio::test]
async fn batches_of_many_callers_do_not_mix() {
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.connect().await.unwrap();
    let batches = (0..16).map(|n| {
        let host = &host;
        async move {
            let word = format!("{n}").repeat(5000);
            let done =
                ok(host, &[run(&["echo", &word]), Op::Run(Cmd::new(["cat"]).stdin(word.clone()))]).await;
            assert_eq!((done[0].text(), done[1].text()), (format!("{word}\n"), word));
        }
    });
    futures::future::join_all(batches).await;
    assert_eq!(host.traffic().executions, 1);
}

#[tokio::test]
async fn no_secret_is_in_any_argument_or_file_that_others_can_read() {
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.connect().await.unwrap();
    let secret = "hunter2-hunter2-hunter2";
    let path = sshd.path("secret").display().to_string();
    // Pieces, so that the search does not find itself.
    let search = "grep -l hunter2-hun''ter2 /proc/[0-9]*/cmdline /proc/[0-9]*/environ; cat >/dev/null; \
                  find /run/rsadm.[0-9]* /tmp/rsadm.[0-9]* -maxdepth 0 -perm /077 2>/dev/null; true";
    let done = ok(
        &host,
        &[
            put(&path, 0o600, secret.as_bytes()),
            Op::Run(Cmd::new(["bash", "-c", search]).stdin(secret)),
            sh("ps -eo args | grep -c '[g]zip -d) && eval'"),
            sh("grep -rl hunter2-hun''ter2 /run/rsadm.* || true"),
        ],
    )
    .await;
    assert_eq!(done[1].text(), "");
    assert_ne!(done[2].text(), "0\n");
    assert_eq!(done[3].text(), "");
}
