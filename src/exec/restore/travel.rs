//! How a snapshot travels: from here to the hosts, and from a survivor to here, in pieces, so that memory stays small.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use super::{PHASE, Restore, RestoreError, hosts::words};
use crate::{
    event::count,
    host::{Cmd, Op, RemoteFile, Secret},
    inventory::NodeName,
};

/// What travels at once.
const PIECE: usize = 16 << 20;

/// Where the pieces wait.
const FOLDER: &str = "/var/lib/rsadm/restore";

impl Restore<'_> {
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
        let mut file = File::open(snapshot).map_err(|why| unreadable(snapshot, why))?;
        for number in 0.. {
            let mut piece = Vec::with_capacity(PIECE);
            let read = Read::by_ref(&mut file).take(PIECE as u64).read_to_end(&mut piece);
            read.map_err(|why| unreadable(snapshot, why))?;
            if piece.is_empty() {
                break;
            }
            let path = format!("{FOLDER}/piece.{number:06}");
            let op = Op::Put(RemoteFile { path, mode: 0o600, data: Secret::new(piece) });
            self.run("receive the snapshot", &lacking, |_| op.clone()).await?;
        }
        self.ask("receive the snapshot", &lacking, |_| words(["receive", sha256])).await?;
        stage.done(format!("snapshot delivered to {}, checksum verified", count(lacking.len(), "host")));
        Ok(())
    }

    /// Brings the snapshot of `size` bytes that a host has made to `to`, here.
    ///
    /// # Errors
    /// Where it cannot be read there or written here.
    pub(super) async fn fetch(&self, from: &NodeName, size: u64, to: &Path) -> Result<(), RestoreError> {
        let mut file = File::create(to).map_err(|why| unreadable(to, why))?;
        for number in 0..size.div_ceil(PIECE as u64) {
            let (source, piece) = (format!("if={FOLDER}/snapshot.db"), format!("bs={PIECE}"));
            let argv = ["dd", &source, &piece, &format!("skip={number}"), "count=1", "status=none"];
            let op = Op::Run(Cmd::new(argv));
            for (_, output) in self.run("send the snapshot", &[from.clone()], |_| op.clone()).await? {
                file.write_all(&output.stdout).map_err(|why| unreadable(to, why))?;
            }
        }
        file.sync_all().map_err(|why| unreadable(to, why))
    }
}

fn unreadable(path: &Path, source: io::Error) -> RestoreError {
    RestoreError::Unreadable { path: path.display().to_string(), source }
}
