//! What is drawn on a terminal, one that `script` (util-linux) makes.

use std::io::Write as _;

use super::*;

/// From its upper left corner at each look, until Ctrl-C is typed there.
#[test]
fn a_watch_is_drawn_anew() {
    let ssh = "printf x >>dialled\necho 'ssh: connect to host 198.51.100.1 port 22: Connection refused' >&2\nexit 255";
    let rsadm = assert_cmd::cargo::cargo_bin("rsadm");
    let rsadm = format!("exec {} etcd status --watch=10ms", rsadm.display());
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &rsadm, "/dev/null"]).env("SHELL", "/bin/sh").env("TERM", "xterm");
    script.stdin(Stdio::piped());
    let (folder, mut child) = started_by(script, ssh);
    has_dialled(&folder, &mut child, 12);
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let run = child.wait_with_output().unwrap();
    let shown = String::from_utf8(run.stdout).unwrap();
    let mut screens = shown.split("\x1b[H\x1b[J");
    assert_eq!(screens.next(), Some(""), "before the first: {shown}");
    let drawn = |screen: &str| screen.contains(" UTC, Ctrl-C ends\r\n\r\ncould not connect to m1: ");
    assert!(screens.clone().count() >= 3 && screens.all(drawn), "{shown}");
    assert_eq!(run.status.code(), Some(4), "{shown}");
}
