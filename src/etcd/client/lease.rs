//! Leases without keys, by which the programs on etcd hosts leave word for one another.

use etcd_client::LeaseGrantOptions;

use super::EtcdClient;
use crate::etcd::EtcdError;

impl EtcdClient {
    /// The IDs of all leases.
    ///
    /// # Errors
    /// See [`EtcdError`].
    pub async fn leases(&self) -> Result<Vec<i64>, EtcdError> {
        let answer = self.call("leases", |c| async move { c.lease_client().leases().await }).await?;
        Ok(answer.leases().iter().map(etcd_client::LeaseStatus::id).collect())
    }

    /// Grants one with this ID for so many seconds.
    ///
    /// # Errors
    /// See [`EtcdError`]; refused while an alarm is on.
    pub async fn grant(&self, id: i64, seconds: i64) -> Result<(), EtcdError> {
        let options = LeaseGrantOptions::new().with_id(id);
        self.call("lease_grant", |mut c| async move { c.lease_grant(seconds, Some(options)).await })
            .await
            .map(drop)
    }
}
