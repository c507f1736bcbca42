//! Waiting for etcd: a question that answers what is still wrong until nothing is. The only file that knows `backoff`.

use std::{fmt::Display, time::Duration};

use backoff::{ExponentialBackoff, future::retry};
use futures::future::join_all;
use tokio::{sync::Mutex, time::Instant};

use super::{Context, scripts};
use crate::{
    etcd::MemberStatus,
    host::Op,
    inventory::{NodeName, Role},
};

/// What is still wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Lack {
    /// The host whose member it is, where it is one: it has the explanation.
    pub host: Option<NodeName>,
    /// In words that name the member.
    pub why: String,
}

impl Lack {
    fn of(host: &NodeName, why: impl Display) -> Self {
        Self { host: Some(host.clone()), why: format!("{host}: {why}") }
    }
}

/// Asks until all members serve with one leader and one cluster ID. `told` hears what is still wrong.
///
/// # Errors
/// What was still wrong when the time was over.
pub async fn etcd(
    cx: &Context<'_>,
    members: &[(NodeName, String)],
    told: &(dyn Fn(String) + Sync),
) -> Result<(), Lack> {
    let begun = Instant::now();
    let looked = Mutex::new(begun);
    let hopeless = Mutex::new(false);
    let outcome = retry(policy(cx.limit), || async {
        let Err(lack) = agreement(cx, members).await else { return Ok(()) };
        told(format!("waiting for etcd: {lack}"));
        if looked.lock().await.elapsed() < LOOK {
            return Err(backoff::Error::transient(lack));
        }
        *looked.lock().await = Instant::now();
        match lost_data(cx, &lack, begun.elapsed()).await {
            None => Err(backoff::Error::transient(lack)),
            Some(why) => {
                *hopeless.lock().await = true;
                Err(backoff::Error::permanent(Lack { why, ..lack }))
            }
        }
    })
    .await;
    let waited = |why: &Lack| format!("{why}, for {} s", cx.limit.as_secs());
    let hopeless = *hopeless.lock().await;
    outcome.map_err(|lack| if hopeless { lack } else { Lack { why: waited(&lack), ..lack } })
}

/// Between two looks at the host of a member that is not well.
const LOOK: Duration = Duration::from_secs(3);

/// What the host of a member says where its etcd ended, since we wait, because of its data: waiting longer mends nothing.
async fn lost_data(cx: &Context<'_>, lack: &Lack, waited: Duration) -> Option<String> {
    let name = lack.host.as_ref()?;
    let host = cx.fleet.host(name)?;
    let op = Op::Script(scripts::LOST_DATA, vec![waited.as_secs().to_string()], Duration::from_secs(5));
    let outputs = host.run(&[op], false).await.ok()?;
    let said = outputs.first()?.text();
    let said = said.trim();
    (!said.is_empty()).then(|| format!("{name}: {said}"))
}

/// Elections take a tenth of a second when all is well: the first questions follow one another quickly.
fn policy(limit: Duration) -> ExponentialBackoff {
    ExponentialBackoff {
        initial_interval: Duration::from_millis(50),
        max_interval: Duration::from_millis(500),
        multiplier: 1.3,
        max_elapsed_time: Some(limit),
        ..ExponentialBackoff::default()
    }
}

/// Asks again and again until the answer is good.
///
/// # Errors
/// The last answer, once the limit is over.
pub async fn patiently<T, E: Display, F>(limit: Duration, mut ask: impl FnMut() -> F) -> Result<T, String>
where
    F: Future<Output = Result<T, E>>,
{
    retry(policy(limit), || {
        let answer = ask();
        async { answer.await.map_err(backoff::Error::transient) }
    })
    .await
    .map_err(|why| format!("{why}, for {} s", limit.as_secs()))
}

async fn agreement(cx: &Context<'_>, members: &[(NodeName, String)]) -> Result<(), Lack> {
    let given_up = cx.given_up().clone();
    let members: Vec<&(NodeName, String)> =
        members.iter().filter(|(name, _)| !given_up.contains(name.as_str())).collect();
    let answers = join_all(
        members
            .iter()
            .map(|(name, _)| async move { status(cx, name).await.map_err(|why| Lack::of(name, why)) }),
    )
    .await;
    let statuses: Vec<MemberStatus> = answers.into_iter().collect::<Result<_, _>>()?;
    let (Some(first), Some((name, _))) = (statuses.first(), members.first()) else { return Ok(()) };
    if let Some((_, (lost, _))) = statuses.iter().zip(&members).find(|(s, _)| s.leader == 0) {
        return Err(Lack::of(lost, "knows no leader"));
    }
    if let Some((status, (other, _))) =
        statuses.iter().zip(&members).find(|(s, _)| s.cluster_id != first.cluster_id)
    {
        let why = format!("is in cluster {:x}, {name} in {:x}", status.cluster_id, first.cluster_id);
        return Err(Lack::of(other, why));
    }
    let api = cx.members.dial(name).await.map_err(|why| Lack::of(name, why))?;
    let live = api.members(true).await.map_err(|e| Lack::of(name, e))?;
    match live.iter().find(|m| m.name.is_empty()) {
        Some(unstarted) => {
            let why = format!("the member at {} has not started", unstarted.peer_urls.join(", "));
            Err(Lack { host: None, why })
        }
        None => Ok(()),
    }
}

async fn status(cx: &Context<'_>, name: &NodeName) -> Result<MemberStatus, String> {
    let api = cx.members.dial(name).await?;
    api.status().await.map_err(|e| e.to_string())
}

/// The cluster ID that the members say.
///
/// # Errors
/// In words, where none of them answers.
pub async fn cluster_id(cx: &Context<'_>) -> Result<u64, String> {
    let mut why = "the inventory has no etcd host".to_owned();
    for node in cx.cluster.with_role(Role::Etcd) {
        match status(cx, &node.name).await {
            Ok(status) => return Ok(status.cluster_id),
            Err(e) => why = e,
        }
    }
    Err(why)
}
