//! Members whose hosts cannot be logged in to, or are not in the inventory: nobody stops them, so nothing may take their
//! place while they run.

use std::time::Duration;

use futures::future::{join, join_all};
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
const PATIENCE: Duration = Duration::from_secs(30);

/// Which of them run all the same: they answer others, with a leader or without, or at least listen. What keeps a host from
/// letting anybody in may keep its member from answering, too.
pub async fn who_runs(members: &dyn Members, absent: &[Absent]) -> Vec<String> {
    let asked = absent.iter().map(|Absent { name, client_url }| async move {
        let answers = async { members.dial_stranger(client_url).await.ok()?.status().await.ok() };
        let answers = timeout(PATIENCE, answers);
        let (answers, listens) = join(answers, timeout(PATIENCE, members.listens(client_url))).await;
        let runs = answers.is_ok_and(|status| status.is_some()) || listens.unwrap_or(false);
        runs.then(|| name.clone())
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::{
        etcd::{EtcdApi, Silence},
        exec::members::MemberHost,
        inventory::NodeName,
    };

    /// Members of which none answers, and one listens.
    struct Busy;

    #[async_trait]
    impl Members for Busy {
        fn hosts(&self) -> Vec<MemberHost> {
            vec![]
        }

        async fn dial(&self, _: &NodeName) -> Result<Box<dyn EtcdApi>, Silence> {
            std::future::pending().await
        }

        async fn dial_stranger(&self, _: &str) -> Result<Box<dyn EtcdApi>, Silence> {
            std::future::pending().await
        }

        async fn listens(&self, client_url: &str) -> bool {
            client_url == "https://10.0.0.2:2379"
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_is_too_busy_to_answer_is_not_off() {
        let absent =
            [1, 2].map(|n| Absent { name: format!("m{n}"), client_url: format!("https://10.0.0.{n}:2379") });
        assert_eq!(who_runs(&Busy, &absent).await, ["m2"]);
    }
}
