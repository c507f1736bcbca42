//! What a running member is asked to do to itself so that it stays well: beside [`EtcdApi`], which phases use, so that
//! only the commands of upkeep can ask for what takes a member away for a while.

use std::time::Duration;

use async_trait::async_trait;

use super::{EtcdApi, EtcdError};

/// The calls of upkeep, to one endpoint.
#[async_trait]
pub trait Upkeep: EtcdApi {
    /// Writes the member's database anew without the room that nothing uses. The member serves nothing meanwhile, and
    /// goes on by itself where nobody waits for its answer any longer.
    ///
    /// # Errors
    /// See [`EtcdError`]; [`EtcdError::Late`] after `limit`.
    async fn defragment(&self, limit: Duration) -> Result<(), EtcdError>;
    /// Drops the history before a revision on all members, and comes back once this member's is gone from its
    /// database. False where that was done before.
    ///
    /// # Errors
    /// See [`EtcdError`]; [`EtcdError::Late`] after `limit`.
    async fn compact(&self, revision: u64, limit: Duration) -> Result<bool, EtcdError>;
    /// Writes something to every member's database that no client sees: a lease, and its end. What a member no longer
    /// uses it counts only once it has committed something more.
    ///
    /// # Errors
    /// See [`EtcdError`]; refused while the alarm NOSPACE is on.
    async fn touch(&self) -> Result<(), EtcdError>;
    /// Writes a key.
    ///
    /// # Errors
    /// See [`EtcdError`].
    async fn put(&self, key: &str, value: &[u8]) -> Result<(), EtcdError>;
    /// Deletes all keys that begin so; how many there were.
    ///
    /// # Errors
    /// See [`EtcdError`].
    async fn delete_prefix(&self, prefix: &str) -> Result<u64, EtcdError>;
}
