//! Snapshots of etcd: what one is, how it is checked, carried, kept and thrown away.
//!
//! A snapshot is the file that `etcdctl snapshot save` writes, byte for byte: the database as one member had it, then the
//! SHA-256 that etcd itself appends. Beside it lies a [`Manifest`] that says whose it is. `digest` and `structure` look
//! at the bytes, `file` writes and reads them on this machine, `bundle` wraps them together with the keys that a fresh
//! cluster needs, `place` keeps many of them, `retention` says which may go, and `agent` does all of it on an etcd host
//! when its timer fires.

use std::{io, path::PathBuf, time::Duration};

use crate::{host::HostError, inventory::NodeName};

/// What the timer of an etcd host starts.
pub mod agent;
/// A snapshot with the keys of its cluster, encrypted.
pub mod bundle;
/// Which member is asked.
pub mod choose;
/// The checksum at the end.
pub mod digest;
/// Snapshots as files of this machine.
pub mod file;
/// Snapshots on etcd hosts.
pub mod host;
/// The keys that a bundle carries.
pub mod keys;
/// What lies beside a snapshot.
pub mod manifest;
/// Where snapshots are kept: a folder, a bucket.
pub mod place;
/// Which may go.
pub mod retention;
/// Whether there is room for one.
pub mod room;
/// What is in the database.
pub mod structure;
/// From a member to a file.
pub mod take;
/// Restoring for a try.
pub mod trial;
/// Who steps in for whom.
pub mod turn;
/// What stands in its data.
pub mod words;

pub use digest::{Broken, Digest};
pub use file::Checked;
pub use manifest::{Check, Manifest};

/// Why something with a snapshot did not come about.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The operating system said no.
    #[error("could not {doing}")]
    Io {
        /// What was to be done, to which file.
        doing: String,
        /// Its words.
        #[source]
        source: io::Error,
    },
    /// The file is not a whole, unchanged snapshot.
    #[error("{} is no usable snapshot", path.display())]
    Broken {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Broken,
    },
    /// etcd's own tools find it broken.
    #[error("{0}")]
    Damaged(String),
    /// It was taken in another way than was to be expected.
    #[error("{0}")]
    Refused(String),
    /// The keys that a bundle is to carry are not what it needs.
    #[error("{0}")]
    Keys(String),
    /// A disk has no room for it.
    #[error("{0}")]
    NoRoom(String),
    /// A host could not be asked.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A host was asked, and did not do it.
    #[error("{host} could not {doing}: {why}")]
    Step {
        /// Which host.
        host: NodeName,
        /// What it was to do.
        doing: String,
        /// What it says.
        why: String,
    },
    /// A file of ours is not what it was written as.
    #[error("{path} is not as it must be")]
    Unreadable {
        /// Which file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Somebody ended the run, or its limit did.
    #[error(
        "the run was ended after {}: it took longer than its limit (TimeoutStartSec of rsadm-backup.service), or somebody stopped it",
        crate::event::span(after.as_secs().cast_signed())
    )]
    Ended {
        /// How long it was under way.
        after: Duration,
        /// How what was under way failed for that; `None` where it did not end.
        #[source]
        source: Option<Box<BackupError>>,
    },
    /// A thread of this program ended before its work.
    #[error("could not {doing}")]
    Task {
        /// What it was at.
        doing: &'static str,
        /// How it ended.
        #[source]
        source: tokio::task::JoinError,
    },
    /// No member answers; how the last that was asked failed.
    #[error("no member of etcd answers")]
    Silent(#[source] Option<crate::etcd::EtcdError>),
    /// etcd did not give one.
    #[error("the snapshot broke off")]
    Etcd(#[from] crate::etcd::EtcdError),
    /// The object store did not do as asked.
    #[error("could not {doing}")]
    Store {
        /// What was to be done.
        doing: String,
        /// Its words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl BackupError {
    /// True where a disk of this machine has no room, or had none in the middle of it.
    pub fn is_full(&self) -> bool {
        match self {
            Self::NoRoom(_) => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }

    /// What is wrong with the snapshot itself, where that is what the error tells.
    pub fn damage(&self) -> Option<String> {
        match self {
            Self::Broken { source, .. } => Some(source.to_string()),
            Self::Damaged(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// A thread that ended before its work.
    pub(crate) fn task(doing: &'static str) -> impl FnOnce(tokio::task::JoinError) -> Self {
        move |source| Self::Task { doing, source }
    }

    /// A failure of the operating system at something.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing: doing.into(), source }
    }
}
