//! Snapshots of real members: whole, restorable, and told apart from what is none.

use std::{path::Path, process::Command};

use rsadm::{
    backup::{
        BackupError, Broken, Manifest,
        choose::Doubts,
        file,
        take::{Source, keep, receive},
        trial,
        turn::{lifetime, note},
    },
    etcd::{EtcdApi, client::EtcdClient},
};
use time::OffsetDateTime;

use super::{Cluster, cluster::program, connect, serving, until};

async fn taken(client: &EtcdClient, folder: &Path) -> (std::path::PathBuf, Manifest) {
    let source = Source {
        cluster: "prod".to_owned(),
        member: "m1".to_owned(),
        status: client.status().await.unwrap(),
        kubernetes: None,
        doubts: Doubts::default(),
    };
    let arrived = receive(client, folder, 1, &|_| ()).await.unwrap();
    let manifest = source.manifest(&arrived.checked, OffsetDateTime::now_utc());
    keep(arrived, manifest, None, &[], &[]).unwrap()
}

/// What etcdutl says of a snapshot.
fn etcdutl_revision(path: &Path) -> u64 {
    let output = Command::new(program("etcdutl"))
        .args(["snapshot", "status", "-w", "json"])
        .arg(path)
        .output()
        .unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    status["revision"].as_u64().unwrap()
}

#[tokio::test]
async fn a_snapshot_is_whole_and_etcd_takes_it() {
    let cluster = Cluster::start(1);
    let client = connect(&cluster, 0).await;
    let folder = tempfile::tempdir().unwrap();
    let (_, manifest) = taken(&client, &folder.path().join("empty")).await;
    assert_eq!(manifest.revision, 1, "nobody has written yet, and etcd begins at 1");
    cluster.write(40);
    let revision = client.status().await.unwrap().revision;
    let (path, manifest) = taken(&client, folder.path()).await;
    assert_eq!([manifest.revision; 2], [revision, etcdutl_revision(&path)]);
    assert_eq!(file::check(&path).unwrap().sum.sha256, manifest.sha256);
    trial::restore(&program("etcdutl"), &path, folder.path()).unwrap();
    cluster.compact(revision);
    let (_, manifest) = taken(&client, &folder.path().join("compacted")).await;
    assert_eq!(manifest.revision, revision, "after a compaction of everything");
}

/// Row 46 of the fault matrix, and that etcdutl agrees with us.
#[tokio::test]
async fn what_is_damaged_is_refused_with_the_reason() {
    let cluster = Cluster::start(1);
    let client = connect(&cluster, 0).await;
    cluster.write(40);
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = taken(&client, folder.path()).await;
    let whole = std::fs::read(&path).unwrap();
    let mut edited = whole.clone();
    let middle = edited.len() - 5000;
    edited[middle] ^= 1;
    let live = std::fs::read(cluster.database(0)).unwrap();
    let cases = [
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("edited", edited),
        ("raw", whole[..whole.len() - 32].to_vec()),
        ("live", live),
    ];
    for (name, bytes) in cases {
        let damaged = folder.path().join(format!("{name}.db"));
        std::fs::write(&damaged, bytes).unwrap();
        let Err(BackupError::Broken { source, .. }) = file::check(&damaged) else {
            panic!("{name} was accepted")
        };
        let expected = match name {
            "cut" => matches!(source, Broken::Truncated { .. }),
            "edited" => matches!(source, Broken::Edited { .. } | Broken::Damaged(_)),
            _ => source == Broken::Raw,
        };
        assert!(expected, "{name}: {source}");
        assert!(trial::restore(&program("etcdutl"), &damaged, folder.path()).is_err(), "{name}");
    }
}

#[tokio::test]
async fn what_the_disk_has_no_room_for_is_not_begun() {
    let cluster = Cluster::start(1);
    let client = connect(&cluster, 0).await;
    let folder = tempfile::tempdir().unwrap();
    let Err(refused) = receive(&client, folder.path(), u64::MAX, &|_| panic!("it came")).await else {
        panic!("there was room")
    };
    assert!(refused.to_string().starts_with("no room in "), "{refused}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// By which hosts tell one another that they took a scheduled snapshot.
#[tokio::test]
async fn a_note_is_found_by_every_member_and_changes_no_revision() {
    let cluster = Cluster::start(3);
    let clients = serving(&cluster).await;
    let before = clients[0].status().await.unwrap().revision;
    let note = note("e1", 1_800_000_000);
    clients[0].grant(note, lifetime(3, 3600)).await.unwrap();
    for client in &clients {
        until(|| client.linearizable_read()).await;
        assert_eq!(client.leases().await.unwrap(), [note]);
        assert_eq!(client.status().await.unwrap().revision, before);
    }
}
