//! Members whose hosts cannot be logged in to, or are not in the inventory: nobody stops them, so nothing may take their
//! place while they run.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

use super::{Restore, RestoreError};
use crate::exec::members::Members;

/// A member that no restore stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// What it is called.
    pub name: String,
    /// Where clients dial it.
    pub client_url: String,
}

/// How long a silent host's member may take to answer through another host; whoever is off says nothing at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which of them run all the same: they answer others, with a leader or without.
pub async fn who_runs(members: &dyn Members, absent: &[Absent]) -> Vec<String> {
    let asked = absent.iter().map(|Absent { name, client_url }| async move {
        let answers = async { members.dial_stranger(client_url).await.ok()?.status().await.ok() };
        timeout(PATIENCE, answers).await.ok().flatten().map(|_| name.clone())
    });
    join_all(asked).await.into_iter().flatten().collect()
}

impl Restore<'_> {
    /// Hosts that were off when it began may have been switched on since: a quorum of them takes writes again.
    ///
    /// # Errors
    /// Where one runs.
    pub(super) async fn nobody_is_back(&self) -> Result<(), RestoreError> {
        let back = who_runs(self.members, &self.absent).await;
        if back.is_empty() { Ok(()) } else { Err(RestoreError::Back(back)) }
    }
}
