//! Taking a snapshot: from a member into a folder of this machine, then its manifest and, where wanted, the bundle.

use std::path::{Path, PathBuf};

use tempfile::TempPath;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::{
    BackupError, Check, Manifest,
    bundle::{self, Carried, Recipient},
    choose::Doubts,
    file::{self, Arrived, Checked, Incoming},
    host::Saved,
    manifest::{BUNDLE, FORMAT, PLAIN, stem},
    room,
};
use crate::etcd::{MemberStatus, client::EtcdClient};

/// Pieces of 32 KiB that may wait for the disk: all the memory that a snapshot of any size takes.
const WAITING: usize = 64;

/// Whose snapshot it is.
#[derive(Clone, Debug)]
pub struct Source {
    /// The cluster's name in the inventory.
    pub cluster: String,
    /// The host of the member.
    pub member: String,
    /// What that member said just before.
    pub status: MemberStatus,
    /// The Kubernetes version, where there is Kubernetes.
    pub kubernetes: Option<String>,
    /// What speaks against what it has.
    pub doubts: Doubts,
}

impl Source {
    /// The manifest of a plain snapshot that was checked here.
    pub fn manifest(&self, checked: &Checked, taken_at: OffsetDateTime) -> Manifest {
        let Checked { sum, structure } = checked;
        let saved = Saved {
            file: own_name(&self.cluster, taken_at, &self.member, structure.revision),
            size: sum.size,
            sha256: sum.sha256.clone(),
            revision: structure.revision,
        };
        Manifest { check: Some(Check::Checksum), ..self.manifest_of(saved, taken_at) }
    }

    /// The manifest of one that a host wrote, which nobody has checked yet.
    pub fn manifest_of(&self, saved: Saved, taken_at: OffsetDateTime) -> Manifest {
        Manifest {
            format: FORMAT,
            file: saved.file,
            cluster: self.cluster.clone(),
            cluster_id: format!("{:x}", self.status.cluster_id),
            member: self.member.clone(),
            member_id: format!("{:x}", self.status.member_id),
            revision: saved.revision,
            etcd: self.status.version.clone(),
            kubernetes: self.kubernetes.clone(),
            taken_at: taken_at.replace_nanosecond(0).unwrap_or(taken_at),
            size: saved.size,
            sha256: saved.sha256,
            carries: vec![],
            encrypted: false,
            without_quorum: self.doubts.without_quorum,
            doubt: self.doubts.why.clone(),
            check: None,
            damaged: self.doubts.damaged.clone(),
            of_sick_member: self.doubts.damaged.is_some(),
        }
    }
}

/// Streams a snapshot into a folder, where it has no name yet. The disk is written by a thread of its own while the
/// network is read. `needed` is how many bytes it and all that is done with it there take; `told` hears how many have come.
///
/// # Errors
/// Where there is no room for that, or it breaks off or is not whole; nothing of it is left then.
pub async fn receive(
    client: &EtcdClient,
    folder: &Path,
    needed: u64,
    told: &(dyn Fn(u64) + Sync),
) -> Result<Arrived, BackupError> {
    room::check(folder, needed)?;
    let folder = folder.to_owned();
    let (send, mut pieces) = mpsc::channel::<Vec<u8>>(WAITING);
    let writer = tokio::task::spawn_blocking(move || {
        let mut incoming = Incoming::begin(&folder)?;
        while let Some(piece) = pieces.blocking_recv() {
            incoming.write(&piece)?;
        }
        Ok::<_, BackupError>(incoming)
    });
    let streamed = stream(client, send, told).await;
    // The disk's trouble is the cause where both failed: the stream stops because nobody takes it in.
    let incoming = writer.await.map_err(BackupError::task("write the snapshot"))??;
    streamed?;
    let finished = tokio::task::spawn_blocking(|| incoming.finish()).await;
    finished.map_err(BackupError::task("check the snapshot"))?
}

async fn stream(
    client: &EtcdClient,
    send: mpsc::Sender<Vec<u8>>,
    told: &(dyn Fn(u64) + Sync),
) -> Result<(), BackupError> {
    let mut stream = client.snapshot().await?;
    let mut bytes = 0;
    while let Some(piece) = stream.next().await? {
        bytes += piece.len() as u64;
        if send.send(piece).await.is_err() {
            return Ok(());
        }
        told(bytes);
    }
    Ok(())
}

fn own_name(cluster: &str, taken_at: OffsetDateTime, member: &str, revision: u64) -> String {
    format!("{}-r{revision}{PLAIN}", stem(cluster, taken_at, member))
}

/// The manifest by a name of its own that is free in a folder. Of two that are taken within a second and of one revision the
/// later one bears the next second, as if its taker had waited for it.
fn free(mut manifest: Manifest, folder: &Path) -> Manifest {
    let is_taken = |m: &Manifest| {
        let plain = folder.join(&m.file);
        plain.exists() || file::manifest_of_another(&plain).is_some()
    };
    while is_taken(&manifest) {
        manifest.taken_at += time::Duration::SECOND;
        manifest.file = own_name(&manifest.cluster, manifest.taken_at, &manifest.member, manifest.revision);
    }
    manifest
}

/// Gives a snapshot its name in the folder it is in, or a bundle of it where there are recipients; `name` is for a file
/// of another name than its own. Comes back with where it is and the manifest beside it.
///
/// # Errors
/// Where there is a file of the name that was asked for, or the disk takes no more.
pub fn keep(
    arrived: Arrived,
    manifest: Manifest,
    name: Option<&str>,
    recipients: &[Recipient],
    carried: &[Carried],
) -> Result<(PathBuf, Manifest), BackupError> {
    let folder = arrived.path().parent().map(Path::to_owned).unwrap_or_default();
    let manifest = if name.is_none() { free(manifest, &folder) } else { manifest };
    if recipients.is_empty() {
        let manifest = Manifest { file: name.map_or(manifest.file.clone(), str::to_owned), ..manifest };
        let path = folder.join(&manifest.file);
        arrived.keep(&path, &manifest)?;
        return Ok((path, manifest));
    }
    let own = manifest.file.trim_end_matches(PLAIN).to_owned() + BUNDLE;
    let file_name = name.map_or(own, str::to_owned);
    let path = folder.join(&file_name);
    // Nobody sees it under its name before it is whole.
    let made = folder.join(file::begun(file::INCOMING) + "bundle");
    bundle::write(&made, recipients, &manifest, carried, arrived.path())?;
    let doing = format!("write {}", made.display());
    let made = TempPath::try_from_path(made).map_err(BackupError::io(doing))?;
    let sum = file::sum(&made)?;
    let carries = carried.iter().map(|c| c.path.clone()).collect();
    let (file, size, sha256) = (file_name, sum.size, sum.sha256);
    let outer = Manifest { file, size, sha256, carries, encrypted: true, ..manifest };
    file::name(made, &path, &outer)?;
    Ok((path, outer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::manifest::tests::sample;

    #[test]
    fn the_second_of_one_second_has_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let m = sample();
        let first = Manifest { file: own_name(&m.cluster, m.taken_at, &m.member, m.revision), ..m };
        assert_eq!(free(first.clone(), folder.path()), first);
        // A plain one, with its manifest; then a bundle, which would have the same.
        std::fs::write(folder.path().join(&first.file), "").unwrap();
        let second = free(first.clone(), folder.path());
        assert_eq!(second.taken_at - first.taken_at, time::Duration::SECOND);
        assert!(second.file != first.file && !second.file.contains(&first.file));
        let bundle = Manifest { file: second.file.replace(PLAIN, BUNDLE), ..second.clone() };
        let path = folder.path().join(&bundle.file);
        std::fs::write(&path, "").unwrap();
        std::fs::write(file::manifest_path(&path), bundle.to_json()).unwrap();
        let third = free(first.clone(), folder.path());
        assert_eq!(third.taken_at - first.taken_at, time::Duration::SECOND * 2);
    }
}
