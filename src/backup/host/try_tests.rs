//! `try.sh` in bash, on hosts that have an etcdutl and on one that has none.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

use tempfile::TempDir;

/// An etcdutl that makes of a snapshot what a restore makes.
const RESTORES: &str = r#"case $2 in
  restore) mkdir -p "$5/member/snap" && cp "$3" "$5/member/snap/db" ;;
  status) echo '{"revision":42}' ;;
esac"#;
/// containerd's tool, of a containerd without images.
const NO_IMAGES: &str = "exit 0";

/// What the script comes to on a host without a running etcd, that has this etcdutl on its PATH, or none.
fn tries(host: &TempDir, etcdutl: Option<&str>, args: &[&str]) -> Output {
    let programs = host.path().join("bin");
    fs::create_dir_all(&programs).unwrap();
    for (name, text) in [("etcdutl", etcdutl), ("ctr", Some(NO_IMAGES))] {
        let Some(text) = text else { continue };
        let program = programs.join(name);
        fs::write(&program, format!("#!/bin/bash\n{text}\n")).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    }
    let folder = host.path().join("rsadm");
    let script = include_str!("try.sh").replace("/var/lib/rsadm", folder.to_str().unwrap());
    let script = format!("processes() {{ pids=(); }}\n{script}");
    let path = format!("{}:/usr/bin:/bin", programs.display());
    Command::new("bash").args(["-c", &script, "try"]).args(args).env("PATH", path).output().unwrap()
}

/// As on new machines that are to be restored to: nothing of a snapshot is sent there in vain.
#[test]
fn a_host_without_etcdutl_makes_no_folder_for_a_try() {
    let host = tempfile::tempdir().unwrap();
    let asked = tries(&host, None, &["scratch"]);
    assert!(asked.status.success() && asked.stdout.is_empty(), "{asked:?}");
    assert!(!host.path().join("rsadm").exists());
}

#[test]
fn a_snapshot_that_was_sent_is_tried_and_goes() {
    let host = tempfile::tempdir().unwrap();
    let asked = tries(&host, Some(RESTORES), &["scratch"]);
    let folder = String::from_utf8(asked.stdout).unwrap().trim().to_owned();
    assert!(folder.starts_with(host.path().to_str().unwrap()), "{folder}");
    let snapshot = format!("{folder}/snapshot.db");
    fs::write(&snapshot, "data").unwrap();
    let tried = tries(&host, Some(RESTORES), &[&snapshot, "remove"]);
    assert!(tried.status.success(), "{tried:?}");
    assert_eq!(String::from_utf8_lossy(&tried.stdout), "{\"revision\":42}\n");
    assert_eq!(fs::read_dir(host.path().join("rsadm")).unwrap().count(), 0);
}

/// What lies on the host itself, as what a timer took, is not called good without.
#[test]
fn a_snapshot_of_the_host_is_not_good_untried() {
    let host = tempfile::tempdir().unwrap();
    let snapshot = host.path().join("prod.db");
    fs::write(&snapshot, "data").unwrap();
    let tried = tries(&host, None, &[snapshot.to_str().unwrap(), "keep"]);
    assert!(!tried.status.success() && tried.stdout.is_empty(), "{tried:?}");
    assert!(String::from_utf8_lossy(&tried.stderr).starts_with("no etcdutl here"), "{tried:?}");
    assert!(snapshot.exists());
}
