//! What scripts do with the program: inventories through pipes, and JSON wherever something ends.

use std::{path::Path, thread};

use super::*;

/// A snapshot of a cluster, by its manifest alone.
fn snapshot(folder: &Path, cluster: &str, day: u32) {
    let stem = format!("{cluster}-202611{day:02}T140511Z-m1-r{day}");
    let manifest = format!(
        r#"{{"format": 1, "file": "{stem}.db", "cluster": "{cluster}", "cluster_id": "{cluster}", "member": "m1",
            "member_id": "1", "revision": {day}, "etcd": "3.6.16", "kubernetes": null, "size": 4, "sha256": "",
            "taken_at": "2026-11-{day:02}T14:05:11Z", "check": "checksum"}}"#
    );
    std::fs::write(folder.join(format!("{stem}.db")), "data").unwrap();
    std::fs::write(folder.join(format!("{stem}.json")), manifest).unwrap();
}

/// An inventory that is named tells whose snapshots may go; one that cannot be read tells nobody's.
#[test]
fn snapshots_of_other_clusters_stay_whatever_names_the_inventory() {
    let folder = tempfile::tempdir().unwrap();
    for (cluster, day) in [("prod", 1), ("prod", 2), ("prod", 3), ("test", 1), ("test", 2), ("test", 3)] {
        snapshot(folder.path(), cluster, day);
    }
    let left = |cluster: &str| {
        let names = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        names.filter(|name| name.starts_with(cluster) && name.ends_with(".db")).count()
    };
    let from = folder.path().display();
    let shown = rsadm(&format!("etcd snapshot prune prdo.yaml --from {from} --keep 1 --yes"), "");
    assert!(
        shown.contains("could not read the inventory prdo.yaml") && shown.ends_with("exit: 3"),
        "{shown}"
    );
    assert_eq!((left("prod"), left("test")), (3, 3));
    let shown = rsadm(&format!("etcd snapshot prune - --from {from} --keep 1 --yes"), VALID);
    assert!(shown.ends_with("exit: 0"), "{shown}");
    assert_eq!((left("prod"), left("test")), (1, 3));
    // Without one, each cluster's are looked at for themselves.
    let shown = rsadm(&format!("etcd snapshot prune --from {from} --keep 1 --yes"), "");
    assert!(shown.ends_with("exit: 0"), "{shown}");
    assert_eq!((left("prod"), left("test")), (1, 1));
}

/// It may be of no use to a look at a file, and whoever names it wants it to be read.
#[test]
fn an_inventory_that_is_named_is_read() {
    for (args, stdin) in [
        ("etcd snapshot verify prdo.yaml /dev/null", ""),
        ("etcd snapshot verify - /dev/null", NOT_VALID),
        ("etcd snapshot verify prdo.yaml s3://b/x.db", ""),
        ("etcd snapshot ls prdo.yaml --from .", ""),
        ("etcd snapshot ls - --from .", NOT_VALID),
    ] {
        let shown = rsadm(args, stdin);
        assert!(shown.ends_with("exit: 3"), "{args}: {shown}");
    }
    let shown = rsadm("etcd snapshot verify /dev/null", "");
    assert!(shown.ends_with("exit: 5"), "{shown}");
}

/// `<(sops -d prod.yaml)`; this command reads its inventory twice.
#[test]
fn an_inventory_that_can_be_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let writer = thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::write(pipe, VALID)
    });
    let mut command = Command::cargo_bin("rsadm").unwrap();
    command.args(["etcd", "snapshot", "ls"]).arg(&pipe).args(["--from", "m9:"]);
    let run = command.timeout(Duration::from_secs(120)).output().unwrap();
    writer.join().unwrap().unwrap();
    let stderr = String::from_utf8(run.stderr).unwrap();
    assert!(stderr.contains("the inventory has no host m9"), "{stderr}");
    assert_eq!(run.status.code(), Some(2), "{stderr}");
}

/// Whatever ends a command, the last line is an event that says so.
#[test]
fn an_error_is_an_event_wherever_json_is_asked_for() {
    for args in ["up -yo json --onyl etcd", "-qo json upp", "upp -vojson"] {
        let shown = rsadm(args, "");
        assert!(shown.starts_with("stderr:\n{\"event\":\"error\",\"kind\":\"usage\""), "{args}: {shown}");
    }
    let silent = "printf x >>dialled\nexec sleep 600";
    let run =
        signalled(&["etcd", "status", "--watch=10ms", "--timeout", "1m", "-o", "json"], silent, 1, "INT");
    let stderr = String::from_utf8(run.stderr).unwrap();
    let last = stderr.lines().last().unwrap_or_default();
    let said = r#""kind":"interrupted","exit_code":130,"message":"interrupted""#;
    assert!(last.contains(said), "{stderr}");
    assert_eq!(run.status.code(), Some(130), "{stderr}");
}
