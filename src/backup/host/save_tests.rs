//! `save.sh` in bash, with programs that stand for etcd's.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

/// What etcdctl does last is to give the file its name.
const WHOLE: &str = r#"for to; do :; done; echo data > "$to""#;
/// A disk that is full in the middle of it.
const HALF: &str =
    r#"for to; do :; done; echo da > "$to.part"; echo 'Error: write: no space left on device' >&2; exit 1"#;
const STATUS: &str = r#"echo '{"hash":1,"revision":42}'"#;

/// A host whose etcd has these programs, and what saving a snapshot there comes to.
fn save(etcdctl: &str, etcdutl: &str) -> (TempDir, Output) {
    let host = tempfile::tempdir().unwrap();
    let programs = host.path().join("bin");
    fs::create_dir(&programs).unwrap();
    for (name, text) in [("etcdctl", etcdctl), ("etcdutl", etcdutl)] {
        let program = programs.join(name);
        fs::write(&program, format!("#!/bin/bash\n{text}\n")).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    }
    // etcd is this very shell, and its programs are elsewhere.
    let script = include_str!("save.sh").replace("/usr/local/bin", programs.to_str().unwrap());
    let script = format!("processes() {{ pids=(self); }}\n{script}");
    let folder = host.path().join("snapshots");
    let done = Command::new("bash").args(["-c", &script, "save"]).arg(folder).args(["prod", "here"]).output();
    (host, done.unwrap())
}

fn left(host: &TempDir) -> Vec<String> {
    let names = fs::read_dir(Path::new(host.path()).join("snapshots")).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_snapshot_has_its_name_once_it_is_whole() {
    let (host, done) = save(WHOLE, STATUS);
    assert!(done.status.success(), "{done:?}");
    let sum = "6667b2d1aab6a00caa5aee5af8ad9f1465e567abf1c209d15727d57b3e8f6e5f";
    assert_eq!(String::from_utf8_lossy(&done.stdout), format!("prod-r42.db 5 {sum} 42\n"));
    assert_eq!(left(&host), ["prod-r42.db"]);
}

/// Row 22 of the fault matrix.
#[test]
fn nothing_is_left_of_a_snapshot_that_fails_on_the_way() {
    let (host, done) = save(HALF, STATUS);
    assert_eq!(String::from_utf8_lossy(&done.stderr), "write: no space left on device\n");
    assert!(!done.status.success() && left(&host).is_empty(), "{:?}", left(&host));
    for broken in ["exit 1", "echo '{}'"] {
        let (host, done) = save(WHOLE, broken);
        assert!(!done.status.success() && left(&host).is_empty(), "{broken}: {:?}", left(&host));
    }
}
