//! A member's snapshot as it arrives, piece by piece: whoever takes it in decides how much is held in memory.

use std::time::Duration;

use etcd_client::SnapshotStreaming;

use super::{EtcdClient, classify, within};
use crate::etcd::EtcdError;

/// How long a member may be silent in the middle: etcd reads on from its disk without waiting for anybody, but a disk
/// may be slow and a link full.
const SILENCE: Duration = Duration::from_secs(60);

/// A snapshot on its way: the database, then etcd's checksum of it.
#[derive(Debug)]
pub struct SnapshotStream {
    endpoint: String,
    stream: SnapshotStreaming,
}

impl EtcdClient {
    /// Begins a snapshot. It takes no quorum.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn snapshot(&self) -> Result<SnapshotStream, EtcdError> {
        let stream = self.call("snapshot", |mut c| async move { c.snapshot().await }).await?;
        Ok(SnapshotStream { endpoint: self.endpoint.clone(), stream })
    }
}

impl SnapshotStream {
    /// The next piece; `None` after the last.
    ///
    /// # Errors
    /// Where the member, or the way to it, is gone.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, EtcdError> {
        let message = async { self.stream.message().await.map_err(|e| classify(&self.endpoint, &e)) };
        let piece = within(&self.endpoint, SILENCE, message).await?;
        Ok(piece.map(|piece| piece.blob().to_vec()))
    }
}
