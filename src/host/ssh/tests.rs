//! The remote half, on a pipe: what it makes of a caller of whom nothing more is heard.

use std::{
    io::Write,
    process::{Child, ChildStdin, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

const PROGRAM: &str = include_str!("remote.sh");

/// A shell that waits so many seconds for what does not come, and takes data by four bytes.
fn shell(silence: u32) -> (Child, ChildStdin) {
    let waits = format!("silence={silence}");
    let program = PROGRAM.replace("silence=80", &waits).replace("slice=262144", "slice=4");
    assert!(program.contains(&format!("{waits}\nslice=4\n")));
    let mut command = Command::new("bash");
    command.args(["--norc", "--noprofile", "-c", &program, "rsadm", "N"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    (child, stdin)
}

/// It waits for more for ever where nothing ends it: its computer is gone, and sshd has not noticed.
#[test]
fn a_caller_who_falls_silent_anywhere_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file").display().to_string();
    let words: String = [&path, "0600", "SUM", "0700", "/pki"].map(|w| format!("{}\n{w}", w.len())).concat();
    let put = format!("put 0 0 1000 5\n{words}half of it");
    let begun = [
        String::new(),
        "batch 0 0".into(),
        "batch 0 0 0 0\nrun 0 60 0 2\n4\nec".into(),
        "batch 0 0 0 0\nrun 0 60 0 1\n".into(),
        "batch 0 0 0 0\nrun 0 60 9 1\n3\ncathalf".into(),
        "batch 0 0 0 0\npacked 0 60 9 1\n1\nxhalf".into(),
        format!("batch 0 0 0 0\n{put}"),
        // Passed over after a failure.
        format!("batch 0 0 0 0\nrun 0 60 0 1\n5\nfalse{put}"),
    ];
    let shells = begun.map(|begun| {
        let (child, mut stdin) = shell(1);
        stdin.write_all(begun.as_bytes()).unwrap();
        (begun, child, stdin)
    });
    let until = Instant::now() + Duration::from_secs(60);
    for (begun, mut child, stdin) in shells {
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "it still waits after {begun:?}");
            sleep(Duration::from_millis(20));
        }
        drop(stdin);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "half a file stays");
}

/// As on a line that others use, too.
#[test]
fn what_comes_slowly_comes_whole() {
    let (child, mut stdin) = shell(4);
    stdin.write_all(b"batch 0 0 0 0\nrun 0 60 12 1\n3\ncat").unwrap();
    for slice in ["slow", "and ", "sure"] {
        sleep(Duration::from_millis(1500));
        stdin.write_all(slice.as_bytes()).unwrap();
    }
    stdin.write_all(b"end 0 0 0 0\n").unwrap();
    drop(stdin);
    let said = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "\nN 0 0 12 0\nslowand sureN .\n\nN end\n");
}

/// As without inodes in /run: the caller hears why, and is understood when he goes on.
#[test]
fn a_packed_script_for_which_no_file_can_be_made_fails_and_no_more() {
    let (child, mut stdin) = shell(10);
    let data = vec![b'x'; 200_000];
    stdin.write_all(b"batch 1 0 0 0\npacked 0 60 200000 1\n6\nno/way").unwrap();
    stdin.write_all(&data).unwrap();
    stdin.write_all(b"run 1 60 0 2\n4\necho4\nnextend 0 0 0 0\n").unwrap();
    drop(stdin);
    let said = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.starts_with("\nN 0 1 0 ") && said.contains("No such file or directory"), "{said}");
    assert!(said.ends_with("\nN 1 0 5 0\nnext\nN .\n\nN end\n"), "{said}");
}
