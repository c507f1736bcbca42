//! The calls of upkeep to the real etcd.

use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{CompactionOptions, DeleteOptions};

use super::{EtcdClient, unsigned};
use crate::etcd::{EtcdError, upkeep::Upkeep};

#[async_trait]
impl Upkeep for EtcdClient {
    async fn defragment(&self, limit: Duration) -> Result<(), EtcdError> {
        self.call_for("defragment", limit, |mut c| async move { c.defragment().await }).await.map(drop)
    }

    async fn compact(&self, revision: u64, limit: Duration) -> Result<bool, EtcdError> {
        let revision = i64::try_from(revision).unwrap_or(i64::MAX);
        let options = CompactionOptions::new().with_physical();
        let answer = self
            .call_for("compact", limit, |mut c| async move { c.compact(revision, Some(options)).await })
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(error) if error.is_compacted() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn touch(&self) -> Result<(), EtcdError> {
        let lease = self.call("lease_grant", |mut c| async move { c.lease_grant(60, None).await }).await?;
        self.call("lease_revoke", |mut c| async move { c.lease_revoke(lease.id()).await }).await.map(drop)
    }

    async fn put(&self, key: &str, value: &[u8]) -> Result<(), EtcdError> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.call("put", |mut c| async move { c.put(key, value, None).await }).await.map(drop)
    }

    async fn delete_prefix(&self, prefix: &str) -> Result<u64, EtcdError> {
        let prefix = prefix.to_owned();
        let options = DeleteOptions::new().with_prefix();
        let answer =
            self.call("delete", |mut c| async move { c.delete(prefix, Some(options)).await }).await?;
        Ok(unsigned(answer.deleted()))
    }
}
