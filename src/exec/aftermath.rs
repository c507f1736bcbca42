//! What follows a step that failed: manifests go back, the host says what explains it, and the operator is told what was
//! done before, what was not begun, and what still serves.

use std::{ops::Range, time::Duration};

use futures::{FutureExt, future::join_all};
use tokio::time::timeout;

use super::{Context, causes, scripts};
use crate::{
    event::Failure,
    host::{Host, Op, fleet::Fleet},
    inventory::{NodeName, Role},
    observe::api,
    plan::{
        Action, HostWork, Plan,
        standing::{self, Serves},
    },
    until::until,
};

/// How long the manifests from before may take to serve again at the least; else as long as the new ones had.
const BACK: Duration = Duration::from_secs(60);

/// How long a member may take for one answer.
const ANSWER: Duration = Duration::from_secs(3);

/// How long what ran before may take until it says that it serves. What serves without a pause may answer late right after
/// manifests went back: then an API server that starts has its host's processors.
const SERVING: Duration = Duration::from_secs(15);

/// Between two such questions.
const PAUSE: Duration = Duration::from_millis(500);

/// Fills in what is known only once a step of a host's work has failed.
pub(super) async fn of_host(cx: &Context<'_>, work: &HostWork, step: Option<&Action>, failure: &mut Failure) {
    let culprit = failure.host.clone().unwrap_or_else(|| work.host.clone());
    explain(cx.fleet, &culprit, container(step), failure).await;
    if let Some(host) = cx.fleet.host(&work.host) {
        failure.state = put_back(host.as_ref(), BACK.max(cx.limit), cx.kept(), kept(work)).await;
    }
}

/// The container that a step is about, whose log alone tells then; `None` where it may be any.
fn container(action: Option<&Action>) -> Option<&str> {
    match action? {
        Action::AwaitProcess { process, .. } | Action::AwaitServing { process, .. } => Some(process),
        Action::AwaitApi { .. } => Some("kube-apiserver"),
        Action::AwaitEtcd { .. } | Action::Promote { .. } | Action::AwaitSound => Some("etcd"),
        _ => None,
    }
}

/// What the host says about a failure, of one container's log or of all; nothing where it cannot be asked any more.
async fn collect(host: &dyn Host, container: Option<&str>) -> Vec<String> {
    let args = container.into_iter().map(str::to_owned).collect();
    tell(host, Op::Script(scripts::COLLECT, args, Duration::from_secs(15))).await
}

/// Fills in what a host says about a failure there, and what that comes from.
pub(super) async fn explain(fleet: &Fleet, host: &NodeName, container: Option<&str>, failure: &mut Failure) {
    if let Some(host) = fleet.host(host) {
        failure.collected = collect(host.as_ref(), container).await;
    }
    if let Some(cause) = causes::likely(failure.cause.as_deref().unwrap_or_default(), &failure.collected) {
        failure.likely = Some(cause.why.to_owned());
        failure.next = cause.next.replace("HOST", host.as_str());
    }
}

/// What the work keeps: names and ports in turn. All of it, since where a connection was lost nobody knows which step of a
/// batch the host came to; what it has in the run's own folder tells.
fn kept(work: &HostWork) -> Vec<String> {
    let kept = work.steps.iter().filter_map(|step| match &step.action {
        Action::Keep { process, port } => Some([process.clone(), port.to_string()]),
        _ => None,
    });
    kept.flatten().collect()
}

/// Puts manifests back that were kept, where what replaced them does not serve; what became of that.
async fn put_back(host: &dyn Host, limit: Duration, folder: String, kept: Vec<String>) -> Vec<String> {
    if kept.is_empty() {
        return vec![];
    }
    let args = [limit.as_secs().to_string(), folder].into_iter().chain(kept).collect();
    tell(host, Op::Script(scripts::PUT_BACK, args, limit * 2)).await
}

async fn tell(host: &dyn Host, op: Op) -> Vec<String> {
    let Ok(outputs) = host.run(&[op], true).await else { return vec![] };
    outputs.first().map(|o| o.text().lines().map(str::to_owned).collect()).unwrap_or_default()
}

/// Tells with the last of the failures of some stages how things are: what this run did before them, what it did not
/// begin, and what serves.
pub(super) async fn of_run(cx: &Context<'_>, plan: &Plan, stages: Range<usize>, failures: &mut [Failure]) {
    let failed: Vec<NodeName> = failures.iter().filter_map(|f| f.host.clone()).collect();
    // What failed does not, most often, and has been waited for.
    let all_serve = |found: &[Vec<(NodeName, Serves)>; 2]| {
        found.iter().flatten().all(|(name, serves)| *serves != Serves::No || failed.contains(name))
    };
    let [etcd, servers] = until(SERVING, PAUSE, async || serving(cx).await, all_serve).await;
    if let Some(last) = failures.last_mut() {
        last.state.extend(standing::state(plan, stages, &failed, &etcd, &servers));
    }
}

/// Whether each answers now of those that served at any time so far: members of etcd, and API servers.
async fn serving(cx: &Context<'_>) -> [Vec<(NodeName, Serves)>; 2] {
    let ran =
        |name: &NodeName, process: &str| cx.ledger().hosts.get(name).is_some_and(|facts| facts.runs(process));
    // A member that is to leave serves until then.
    let etcd = cx.cluster.nodes.iter().filter(|n| ran(&n.name, "etcd"));
    let etcd = join_all(etcd.map(|node| async move {
        let asked = async { cx.members.dial(&node.name).await.ok()?.status().await.ok() };
        let status = timeout(ANSWER, asked).await.ok().flatten();
        verdict(cx, &node.name, status.is_some_and(|s| s.leader != 0)).await
    }));
    let servers = async {
        let answers = match cx.cluster.with_role(Role::ControlPlane).any(|n| ran(&n.name, "kube-apiserver")) {
            true => api::ready(cx.cluster, cx.fleet).await,
            false => vec![],
        };
        let answers = answers.iter().map(|(name, answer)| verdict(cx, name, answer.is_ok()));
        join_all(answers).await
    };
    let (etcd, servers) = futures::join!(etcd, servers.boxed());
    [etcd, servers]
}

/// Of what does not answer, only its host can tell that it does not serve: where that cannot be reached either, nobody knows.
async fn verdict(cx: &Context<'_>, name: &NodeName, answers: bool) -> (NodeName, Serves) {
    let is_there = async {
        let Some(host) = cx.fleet.host(name) else { return false };
        matches!(timeout(ANSWER, host.run(&[], false)).await, Ok(Ok(_)))
    };
    let serves = match answers {
        true => Serves::Yes,
        false if is_there.await => Serves::No,
        false => Serves::Unknown,
    };
    (name.clone(), serves)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside other containers of a host nobody is told whose log it was.
    #[test]
    fn of_a_member_that_does_not_come_up_its_own_log_is_told() {
        let (member, peer_url) = (NodeName::new("m4"), "https://10.0.0.4:2380".to_owned());
        for (action, container) in [
            (Action::Promote { member, peer_url }, Some("etcd")),
            (Action::AwaitSound, Some("etcd")),
            (Action::AwaitApi { url: String::new() }, Some("kube-apiserver")),
            (Action::Sysctl, None),
        ] {
            assert_eq!(super::container(Some(&action)), container, "{action}");
        }
        assert_eq!(super::container(None), None);
    }
}
