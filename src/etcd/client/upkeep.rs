//! The calls of upkeep to the real etcd.

use std::{future::Future, time::Duration};

use async_trait::async_trait;
use etcd_client::{Client, CompactionOptions, DeleteOptions};

use super::{
    EtcdClient,
    failure::{COMPACTED, classify, says},
    unsigned, within,
};
use crate::etcd::{EtcdError, upkeep::Upkeep};

impl EtcdClient {
    /// Runs one call under a limit of its own.
    async fn call_for<T, F>(
        &self,
        limit: Duration,
        call: impl FnOnce(Client) -> F + Send,
    ) -> Result<T, EtcdError>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let call = call(self.client.clone());
        within(&self.endpoint, limit, async { call.await.map_err(|e| classify(&self.endpoint, &e)) }).await
    }
}

#[async_trait]
impl Upkeep for EtcdClient {
    async fn defragment(&self, limit: Duration) -> Result<(), EtcdError> {
        self.call_for(limit, |mut c| async move { c.defragment().await }).await.map(drop)
    }

    async fn compact(&self, revision: u64, limit: Duration) -> Result<bool, EtcdError> {
        let revision = i64::try_from(revision).unwrap_or(i64::MAX);
        let options = CompactionOptions::new().with_physical();
        let answer =
            self.call_for(limit, |mut c| async move { c.compact(revision, Some(options)).await }).await;
        match answer {
            Ok(_) => Ok(true),
            Err(error) if says(&error, COMPACTED) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn touch(&self) -> Result<(), EtcdError> {
        let lease = self.call(|mut c| async move { c.lease_grant(60, None).await }).await?;
        self.call(|mut c| async move { c.lease_revoke(lease.id()).await }).await.map(drop)
    }

    async fn put(&self, key: &str, value: &[u8]) -> Result<(), EtcdError> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.call(|mut c| async move { c.put(key, value, None).await }).await.map(drop)
    }

    async fn delete_prefix(&self, prefix: &str) -> Result<u64, EtcdError> {
        let prefix = prefix.to_owned();
        let options = DeleteOptions::new().with_prefix();
        let answer = self.call(|mut c| async move { c.delete(prefix, Some(options)).await }).await?;
        Ok(unsigned(answer.deleted()))
    }
}
