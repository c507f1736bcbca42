//! Members whose hosts cannot be logged in to, or are not in the inventory: nobody stops them, so nothing may take their
//! place while they run.

use std::{fmt, time::Duration};

use futures::future::{join, join_all};
use tokio::time::timeout;

use super::{Restore, RestoreError};
use crate::{
    etcd::{Cause, Silence},
    exec::members::Members,
};

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

/// One of them that is not known to be off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// What it is called.
    pub name: String,
    /// Why it is not known whether it runs; `None` where it has answered.
    pub unknown: Option<String>,
}

impl Running {
    /// `None` for a silence like that of a host that is off. Who is not let in, or led nowhere, has learnt nothing of it; other hosts
    /// may have `listened`, which takes neither, and found its port shut.
    fn of(name: &str, said: Result<(), Silence>, listened: Option<bool>) -> Option<Self> {
        let unknown = match (said, listened) {
            (Ok(()) | Err(Silence { cause: Cause::Denied, .. }), _) | (_, Some(true)) => None,
            (_, Some(false)) => return None,
            (Err(Silence { cause: Cause::Certificate { .. } | Cause::Forbidden, why }), None) => Some(why),
            (Err(Silence { cause: Cause::Late | Cause::Other, .. }), None) => return None,
        };
        Some(Self { name: name.to_owned(), unknown })
    }
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unknown {
            None => f.write_str(&self.name),
            Some(why) => write!(f, "{} (which may run: {why})", self.name),
        }
    }
}

/// Which of them run all the same, or may: they answer others, with a leader or without, or at least listen. What keeps a host
/// from letting anybody in may keep its member from answering, too.
pub async fn who_runs(members: &dyn Members, absent: &[Absent]) -> Vec<Running> {
    let asked = absent.iter().map(|Absent { name, client_url }| async move {
        let answers = async {
            let member = members.dial_stranger(client_url).await?;
            member.status().await.map(drop).map_err(Silence::from)
        };
        let answers = timeout(PATIENCE, answers);
        let (said, listened) = join(answers, timeout(PATIENCE, members.listens(client_url))).await;
        let said = said.unwrap_or_else(|_| Err(Silence::late("no answer")));
        Running::of(name, said, listened.ok().flatten())
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
    use crate::{etcd::EtcdApi, exec::members::MemberHost, inventory::NodeName};

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

        async fn listens(&self, client_url: &str) -> Option<bool> {
            Some(client_url == "https://10.0.0.2:2379")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_is_too_busy_to_answer_is_not_off() {
        let absent =
            [1, 2].map(|n| Absent { name: format!("m{n}"), client_url: format!("https://10.0.0.{n}:2379") });
        let running = who_runs(&Busy, &absent).await;
        assert_eq!(running.iter().map(Running::to_string).collect::<Vec<_>>(), ["m2"]);
    }

    /// A certificate that has expired, or an sshd that forwards nothing, says nothing of whether a quorum lives there.
    #[test]
    fn who_is_not_let_in_does_not_take_a_member_for_dead() {
        let silence = |cause| Err(Silence::of(cause, "why"));
        for (said, told) in [
            (Ok(()), Some("m2")),
            (silence(Cause::Denied), Some("m2")),
            (silence(Cause::Certificate { early: false }), Some("m2 (which may run: why)")),
            (silence(Cause::Forbidden), Some("m2 (which may run: why)")),
            (silence(Cause::Late), None),
            (silence(Cause::Other), None),
        ] {
            let off = Running::of("m2", said.clone(), Some(false));
            assert_eq!(off.is_some(), told == Some("m2"), "its port is shut: {said:?}");
            let running = Running::of("m2", said, None).map(|running| running.to_string());
            assert_eq!(running.as_deref(), told);
        }
    }
}
