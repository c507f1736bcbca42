//! What etcd's members say: all of them asked at once, or one of them dialled, wherever it runs.

use std::time::Duration;

use futures::future::{join, join_all};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout};

use super::members::{AWAY, MemberHost, Members, Tended};
use crate::{
    etcd::{
        EtcdApi, Member, Silence,
        client::DEADLINE,
        status::{
            EtcdReport, Gathered, Hashes, HostState, Known, Limits, MemberReport, Target, assess, compare,
            gather, strangers,
        },
        upkeep::Upkeep,
    },
    inventory::NodeName,
};

/// How long a member may take to be there: a cut-off one costs no more.
pub(super) const DIAL: Duration = DEADLINE;

/// How long those that are there may take: what follows from their silence is worse than the wait.
const LIMITS: Limits = Limits { answers: DEADLINE, total: Duration::from_secs(8) };

/// What the members say now, those too whose hosts left the inventory: they vote. Their data is not compared, so that
/// etcd may be asked again and again.
pub async fn report(members: &dyn Members) -> EtcdReport {
    compared(members, Hashes::Unasked).await
}

/// The same with a look at whether they hold the same data.
pub async fn compared(members: &dyn Members, hashes: Hashes) -> EtcdReport {
    let hosts = members.hosts();
    let dials = join_all(hosts.iter().map(|host| async move {
        let dialled = timeout(DIAL, members.dial(&host.name)).await;
        let api = dialled.unwrap_or_else(|_| Err(Silence::late("no answer")));
        Target::of(host.name.to_string(), true, host.peer_url.clone(), host.client_url.clone(), api)
    }));
    let (targets, old_clusters) = join(dials, members.old_clusters()).await;
    let away = |host: &MemberHost| {
        (host.name.to_string(), HostState::Unreachable { why: AWAY.to_owned(), shut: false })
    };
    let hosts = hosts.iter().filter(|host| !members.is_there(&host.name)).map(away).collect();
    let known = Known { old_clusters, hosts, ..Known::default() };
    let gathered = gather_all(members, targets, hashes, DIAL, || LIMITS).await;
    // No certificate was looked at, and no schedule asked after: nothing here goes by the time.
    assess(&gathered, &known, OffsetDateTime::UNIX_EPOCH)
}

/// Asks the targets, and then, where the member list has others too, all of them with those: hashes compare at one
/// revision. `limits` are asked for each time; a stranger may take `patience` to be there.
pub async fn gather_all(
    members: &dyn Members,
    mut targets: Vec<Target>,
    hashes: Hashes,
    patience: Duration,
    limits: impl Fn() -> Limits + Send,
) -> Gathered {
    let mut until = Instant::now() + limits().total;
    let mut gathered = gather(&targets, limits()).await;
    let started = |m: &Member| !m.name.is_empty() && !m.client_urls.is_empty();
    let strangers: Vec<Member> = strangers(&gathered).into_iter().filter(started).collect();
    if !strangers.is_empty() {
        targets.extend(join_all(strangers.into_iter().map(|m| stranger(members, m, patience))).await);
        until = Instant::now() + limits().total;
        gathered = gather(&targets, limits()).await;
    }
    compare(&targets, &mut gathered, hashes, until).await;
    gathered
}

async fn stranger(members: &dyn Members, member: Member, patience: Duration) -> Target {
    let url = member.client_urls.into_iter().next().unwrap_or_default();
    let dialled = timeout(patience, members.dial_stranger(&url)).await;
    let api = dialled.unwrap_or_else(|_| Err(Silence::late("no answer")));
    Target::of(member.name, false, member.peer_urls.into_iter().next().unwrap_or_default(), url, api)
}

/// A connection to a member of a report, whatever its name is and wherever it runs.
///
/// # Errors
/// See [`Silence`].
pub async fn dial(members: &dyn Members, member: &MemberReport) -> Result<Box<dyn EtcdApi>, Silence> {
    match way(&members.hosts(), member)? {
        Way::Host(name) => members.dial(&name).await,
        Way::Stranger(url) => members.dial_stranger(&url).await,
    }
}

/// The same to a member that can be asked to look after itself.
///
/// # Errors
/// See [`Silence`].
pub async fn tend(members: &dyn Tended, member: &MemberReport) -> Result<Box<dyn Upkeep>, Silence> {
    match way(&members.hosts(), member)? {
        Way::Host(name) => members.tend(&name).await,
        Way::Stranger(url) => members.tend_stranger(&url).await,
    }
}

/// The inventory's host that a member of a report runs on, whatever the member's own name is: by where others dial it,
/// or else by who answered as that member.
pub fn host_of(members: &dyn Members, member: &MemberReport) -> Option<NodeName> {
    match way(&members.hosts(), member) {
        Ok(Way::Host(host)) => Some(host),
        _ => member.node.as_deref().map(NodeName::new),
    }
}

/// How a member of a report is reached.
enum Way {
    Host(NodeName),
    Stranger(String),
}

fn way(hosts: &[MemberHost], member: &MemberReport) -> Result<Way, Silence> {
    let host = hosts.iter().find(|h| member.peer_urls.contains(&h.peer_url));
    match (host, member.client_urls.first()) {
        (Some(host), _) => Ok(Way::Host(host.name.clone())),
        (None, Some(url)) => Ok(Way::Stranger(url.clone())),
        (None, None) => Err("it tells nobody where clients reach it".into()),
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::{
        etcd::status::{Trouble, tests::Scene},
        inventory::Role,
        manifests::testing,
        plan::quorum::{Membership, Reach},
    };

    /// Two hosts, of which one cannot be reached; no member answers.
    struct OneAway;

    #[async_trait]
    impl Members for OneAway {
        fn hosts(&self) -> Vec<MemberHost> {
            testing::ha().with_role(Role::Etcd).take(2).map(MemberHost::of).collect()
        }

        async fn dial(&self, _: &NodeName) -> Result<Box<dyn EtcdApi>, Silence> {
            Err("no answer".into())
        }

        fn is_there(&self, host: &NodeName) -> bool {
            host.as_str() != "m2"
        }
    }

    /// Two hosts whose members take no notice.
    struct Hang;

    #[async_trait]
    impl Members for Hang {
        fn hosts(&self) -> Vec<MemberHost> {
            OneAway.hosts()
        }

        async fn dial(&self, _: &NodeName) -> Result<Box<dyn EtcdApi>, Silence> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_in_time_is_told_from_who_does_not_run() {
        let is_late = |m: &MemberReport| m.error.as_ref().is_some_and(Trouble::is_late);
        assert!(report(&Hang).await.members.iter().all(is_late));
        assert!(!report(&OneAway).await.members.iter().any(is_late));
    }

    #[tokio::test]
    async fn a_host_that_is_gone_is_told_from_a_member_that_is() {
        let report = report(&OneAway).await;
        let away = |m: &MemberReport| matches!(m.host, Some(HostState::Unreachable { .. }));
        let away: Vec<(&str, bool)> = report.members.iter().map(|m| (m.name.as_str(), away(m))).collect();
        assert_eq!(away, [("m1", false), ("m2", true)]);
        let mut asked = Scene::new(3).silence(2, "no answer").report();
        asked.members[1].host = report.members[1].host.clone();
        let away: Vec<bool> =
            Membership::from(&asked).voters.iter().map(|v| v.reach == Reach::Nobody).collect();
        assert_eq!(away, [false, true, false]);
    }
}
