//! The quorum gate at work: asked just before a member may be lost, with what the members say at that moment.

use std::time::Duration;

use futures::future::{join, join_all};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Context, alike,
    members::{AWAY, MemberHost, Members, Tended},
};
use crate::{
    etcd::{
        EtcdApi, Member, Silence,
        status::{
            EtcdReport, Gathered, Hashes, HostState, Known, Limits, MemberReport, Target, Trouble, assess,
            compare, gather, strangers,
        },
        upkeep::Upkeep,
    },
    event::Events,
    inventory::{Cluster, NodeName},
    observe::{Fate, MemberFact, Observed},
    phases::{certs, etcd::members::is_in_question},
    plan::{
        Refusal,
        quorum::{Change, Membership, Outage, can_be_accepted, gate},
    },
};

/// How long a member may take to be there: a cut-off one costs no more.
const DIAL: Duration = Duration::from_secs(3);

/// How long a gate that says no is asked again: three of etcd's health intervals (etcd, `server.go`, `HealthInterval`).
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How long members may take to elect a leader, on slow machines and with the largest timeout that anybody sets.
const ELECTION: Duration = Duration::from_secs(15);

/// Where API servers keep what they keep; rsadm lets nobody change it.
const OBJECTS: &str = "/registry/";

/// Whether the member on a host may be restarted now, or get what may stop it; `outage` says which. How the members are.
///
/// # Errors
/// The reason why not, with the way out.
pub async fn may_restart(cx: &Context<'_>, host: &NodeName, outage: Outage) -> Result<EtcdReport, Refusal> {
    let change = Change::Restart { name: host.to_string(), outage };
    let (report, judged) = await_yes(cx.members, &change, cx.accept_quorum_loss, cx.limit).await;
    if accept(judged, cx.accept_quorum_loss, cx.events)? == Answer::Accepted {
        let sick = report.members.iter().filter(|m| m.error.is_some());
        cx.given_up().extend(sick.map(|m| m.name.clone()));
    }
    if outage == Outage::Stop {
        alike::before_a_restart(cx, host, &report).await?;
    }
    Ok(report)
}

/// Says so where no member can be spared at any time, and `who` of them are to be away while each `does` something.
pub(super) fn tell_outage(report: &EtcdReport, who: &[String], does: &str, events: &Events) {
    let votes = |name: &&String| report.members.iter().any(|m| m.name == **name && !m.is_learner);
    let voters: Vec<&str> = who.iter().filter(votes).map(String::as_str).collect();
    let text = match report.quorum.voters {
        1 => format!("it is the only voter: etcd serves nothing while it {does}"),
        2 => format!("both voters are needed: etcd takes no writes while one of them {does}"),
        _ => return,
    };
    // One that is down already costs nothing more.
    if report.serves && !voters.is_empty() && report.quorum.healthy == report.quorum.voters {
        events.warn(format!("{}: {text}", voters.join(" and ")), None);
    }
}

/// Asks the gate until it says yes or has said no for long enough: elections end, and the member that was restarted before
/// this one may still be catching up. What the members said last, and what follows from it.
pub(super) async fn await_yes(
    members: &dyn Members,
    change: &Change,
    accepts: bool,
    limit: Duration,
) -> (EtcdReport, Result<(), Refusal>) {
    let until = Instant::now() + PATIENCE.min(limit);
    loop {
        let judge = |report: &EtcdReport| gate(change, &Membership::from(report)).map(drop);
        let mut report = settled(members).await;
        let mut judged = judge(&report);
        // Only now: one whose data is another's counts for nothing.
        if judged.is_ok() {
            report = compared(members, Hashes::Cheap).await;
            judged = judge(&report);
        }
        match &judged {
            Err(refusal) if Instant::now() < until && !(accepts && can_be_accepted(refusal)) => {
                sleep(Duration::from_millis(500)).await;
            }
            _ => return (report, judged),
        }
    }
}

/// What the members say once no election is under way. Where there is no quorum to lose a restart costs nothing, and a
/// recovery is allowed, so that a quorum is lost is only believed when it lasts: for seconds after a leader fell silent all
/// look as if it were.
pub async fn settled(members: &dyn Members) -> EtcdReport {
    let until = Instant::now() + ELECTION;
    loop {
        let report = report(members).await;
        if !may_be_electing(&report) || Instant::now() >= until {
            return report;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// True where members answer, and no quorum of them serves.
fn may_be_electing(report: &EtcdReport) -> bool {
    !report.serves && report.members.iter().any(|m| m.version.is_some())
}

/// What the gate said where it lets a change through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The quorum stays.
    Safe,
    /// It may be lost, and the operator accepted that.
    Accepted,
}

/// Asks the gate. Where it says no for the quorum's sake alone and the operator `accepts` its loss, tells that and goes on.
///
/// # Errors
/// The reason why not, with the way out.
pub fn ask(change: &Change, report: &EtcdReport, accepts: bool, events: &Events) -> Result<Answer, Refusal> {
    accept(gate(change, &Membership::from(report)).map(drop), accepts, events)
}

/// What follows from the gate's judgement.
pub(super) fn accept(judged: Result<(), Refusal>, accepts: bool, events: &Events) -> Result<Answer, Refusal> {
    match judged {
        Ok(()) => Ok(Answer::Safe),
        Err(refusal) if accepts && can_be_accepted(&refusal) => {
            let help = "rsadm etcd status shows how etcd comes out of it".to_owned();
            let Refusal { subject, why, .. } = refusal;
            events.warn(format!("the loss of the quorum was accepted: {subject}; {why}"), Some(help));
            Ok(Answer::Accepted)
        }
        Err(refusal) => Err(refusal),
    }
}

/// Looks up etcd's membership where it is in question, and whether Kubernetes has data in it where that
/// decides if an authority is new. Both stay unknown where no quorum tells. Members are asked unless what they said is `known`.
pub async fn look_up(
    cluster: &Cluster,
    members: &dyn Members,
    seen: &mut Observed,
    known: Option<&EtcdReport>,
) {
    if is_in_question(cluster, seen) {
        seen.membership = match known {
            Some(report) => membership(report),
            None => membership(&report(members).await),
        };
    }
    if certs::depends_on_objects(cluster, seen) {
        seen.has_objects = has_objects(members).await;
    }
}

/// Whether etcd has objects of Kubernetes, from the first member that knows.
async fn has_objects(members: &dyn Members) -> Option<bool> {
    for host in members.hosts() {
        let Ok(Ok(api)) = timeout(DIAL, members.dial(&host.name)).await else { continue };
        if let Ok(answer) = api.has_keys(OBJECTS).await {
            return Some(answer);
        }
    }
    None
}

/// The membership that a report found; `None` where no quorum stands behind it.
pub fn membership(report: &EtcdReport) -> Option<Vec<MemberFact>> {
    report.view.as_ref().filter(|view| view.linearizable)?;
    let started = |m: &MemberReport| m.error != Some(Trouble::Unstarted);
    let fact = |m: &MemberReport| MemberFact {
        name: if started(m) { m.name.clone() } else { String::new() },
        peer_url: m.peer_urls.first().cloned().unwrap_or_default(),
        learner: m.is_learner,
        healthy: m.error.is_none(),
        version: m.version.clone(),
        fate: Fate::default(),
    };
    Some(report.members.iter().filter(|m| m.id.is_some()).map(fact).collect())
}

/// What the members say now, those too whose hosts left the inventory: they vote. Their data is not compared, so that etcd
/// may be asked again and again.
pub async fn report(members: &dyn Members) -> EtcdReport {
    compared(members, Hashes::Unasked).await
}

/// The same with a look at whether they hold the same data.
pub async fn compared(members: &dyn Members, hashes: Hashes) -> EtcdReport {
    let hosts = members.hosts();
    let dials = join_all(hosts.iter().map(|host| async move {
        let dialled = timeout(DIAL, members.dial(&host.name)).await;
        Target {
            node: host.name.to_string(),
            in_inventory: true,
            peer_url: host.peer_url.clone(),
            client_url: host.client_url.clone(),
            api: dialled.unwrap_or_else(|_| Err("no answer".into())),
            served_not_after: None,
            peer_not_after: None,
        }
    }));
    let (targets, old_clusters) = join(dials, members.old_clusters()).await;
    let away = |host: &MemberHost| {
        (host.name.to_string(), HostState::Unreachable { why: AWAY.to_owned(), shut: false })
    };
    let hosts = hosts.iter().filter(|host| !members.is_there(&host.name)).map(away).collect();
    let known = Known { old_clusters, hosts, ..Known::default() };
    let gathered = gather_all(members, targets, hashes, DIAL, Limits::default).await;
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
    Target {
        node: member.name,
        in_inventory: false,
        peer_url: member.peer_urls.into_iter().next().unwrap_or_default(),
        client_url: url,
        api: dialled.unwrap_or_else(|_| Err("no answer".into())),
        served_not_after: None,
        peer_not_after: None,
    }
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

/// The inventory's host that a member of a report runs on, whatever the member's own name is: by where others dial it, or else by
/// who answered as that member.
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
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;

    use super::*;
    use crate::{
        etcd::status::{Id, tests::Scene},
        event::Event,
        inventory::Role,
        manifests::testing,
        plan::quorum::Reach,
    };

    #[test]
    fn an_election_is_no_lost_quorum() {
        assert!(!may_be_electing(&Scene::new(3).report()));
        assert!(!may_be_electing(&Scene::new(3).silence(1, "no answer").report()));
        assert!(may_be_electing(&Scene::new(3).without_quorum().report()));
        let nobody = (1..=3).fold(Scene::new(3).without_quorum(), |s, n| s.silence(n, "refused"));
        assert!(!may_be_electing(&nobody.report()), "nobody is there to elect anybody");
    }

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

    #[test]
    fn consent_goes_past_the_quorum_alone_and_is_told() {
        let stop = Change::Restart { name: "m1".into(), outage: Outage::Stop };
        let Some(Id(id)) = Scene::new(1).report().members[0].id else { panic!("it has an ID") };
        let last = Change::Remove { id };
        for (change, report, accepts, answer, told) in [
            (&stop, Scene::new(3).report(), true, Ok(Answer::Safe), false),
            (&stop, Scene::new(3).silence(3, "no answer").report(), false, Err("quorum"), false),
            (&stop, Scene::new(3).silence(3, "no answer").report(), true, Ok(Answer::Accepted), true),
            (&last, Scene::new(1).report(), true, Err("last-member"), false),
        ] {
            let warnings = Arc::new(Mutex::new(Vec::new()));
            let sink = warnings.clone();
            let events = Events::new(move |event| {
                if let Event::Warning { text, .. } = event {
                    sink.lock().unwrap().push(text);
                }
            });
            let said = ask(change, &report, accepts, &events).map_err(|refusal| refusal.rule);
            assert_eq!(said, answer, "{change:?}, accepts: {accepts}");
            let warnings = warnings.lock().unwrap();
            assert_eq!(
                warnings.iter().any(|w| w.contains("accepted") && w.contains("m3")),
                told,
                "{warnings:?}"
            );
        }
    }
}
