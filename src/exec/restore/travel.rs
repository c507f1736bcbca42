//! Snapshots on their way: from here to every target, and from a survivor to here, in pieces through the hosts' own
//! connections.

use std::{io::Read, path::Path};

use super::{PHASE, Restore, RestoreError, words};
use crate::{
    backup::room,
    event::count,
    host::{Cmd, Op, RemoteFile},
    inventory::NodeName,
    secret::Secret,
};

/// What travels at once.
const PIECE: usize = 16 << 20;

/// Where the pieces wait.
const FOLDER: &str = "/var/lib/rsadm/restore";

impl Restore<'_> {
    /// Nothing is begun that would fill a disk: etcd may serve on it, and ends on all hosts at once.
    ///
    /// # Errors
    /// Hosts without the room; a host that does not answer.
    pub async fn has_room(&self, snapshot: &Path, sha256: &str) -> Result<(), RestoreError> {
        let unreadable = |source| failed("read", snapshot, source);
        let size = std::fs::metadata(snapshot).map_err(unreadable)?.len();
        self.have_room(sha256, |_| size).await
    }

    /// Whether every target has room for a snapshot that takes so many bytes there.
    pub(super) async fn have_room(
        &self,
        sha256: &str,
        size: impl Fn(&NodeName) -> u64,
    ) -> Result<(), RestoreError> {
        let said = self.ask("look for room", &self.targets, |_| words(["room", sha256])).await?;
        let full = |(host, said): (NodeName, String)| {
            let why = room::for_restore(&said, size(&host)).err()?;
            Some((host, why))
        };
        let full: Vec<(NodeName, String)> = said.into_iter().filter_map(full).collect();
        if full.is_empty() { Ok(()) } else { Err(RestoreError::NoRoom(full)) }
    }

    /// Brings the snapshot to every target that lacks it.
    ///
    /// # Errors
    /// Where it cannot be read here or written there.
    pub(super) async fn deliver(&self, snapshot: &Path, sha256: &str) -> Result<(), RestoreError> {
        let said = self.ask("look for the snapshot", &self.targets, |_| words(["has", sha256])).await?;
        let lacking: Vec<NodeName> =
            said.into_iter().filter(|(_, said)| said != "yes").map(|(host, _)| host).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let stage = self.events.stage(PHASE, "the snapshot travels", lacking.iter().cloned());
        let unreadable = |source| failed("read", snapshot, source);
        let mut file = std::fs::File::open(snapshot).map_err(unreadable)?;
        for number in 0.. {
            let mut piece = Vec::with_capacity(PIECE);
            file.by_ref().take(PIECE as u64).read_to_end(&mut piece).map_err(unreadable)?;
            if piece.is_empty() {
                break;
            }
            let path = format!("{FOLDER}/piece.{number:06}");
            let op = Op::Put(RemoteFile { path, mode: 0o600, data: Secret::new(piece) });
            if let Err(error) = self.run("receive the snapshot", &lacking, |_| op.clone()).await {
                // What cannot be used fills no disk, should that be why; a rerun sends all of it again.
                let _ = self.ask("take away what came", &lacking, |_| words(["room", sha256])).await;
                return Err(error);
            }
        }
        self.ask("receive the snapshot", &lacking, |_| words(["receive", sha256])).await?;
        stage.done(format!("snapshot delivered to {}, checksum verified", count(lacking.len(), "host")));
        Ok(())
    }

    /// Brings the snapshot of so many bytes that a host made here.
    pub(super) async fn fetch(&self, from: &NodeName, size: u64, to: &Path) -> Result<(), RestoreError> {
        let only = [from.clone()];
        let unwritable = |source| failed("write", to, source);
        let mut file = std::fs::File::create(to).map_err(unwritable)?;
        for number in 0..size.div_ceil(PIECE as u64) {
            let (source, piece) = (format!("if={FOLDER}/snapshot.db"), format!("bs={PIECE}"));
            let argv = ["dd", &source, &piece, &format!("skip={number}"), "count=1", "status=none"];
            let op = Op::Run(Cmd::new(argv));
            for (_, output) in self.run("send the snapshot", &only, |_| op.clone()).await? {
                std::io::Write::write_all(&mut file, &output.stdout).map_err(unwritable)?;
            }
        }
        file.sync_all().map_err(unwritable)
    }
}

fn failed(doing: &'static str, path: &Path, source: std::io::Error) -> RestoreError {
    RestoreError::File { doing, path: path.display().to_string(), source }
}
