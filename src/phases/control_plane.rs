//! API server, controller manager and scheduler as static pods: all hosts at once when they first start, afterwards one
//! host at a time.

use std::net::Ipv4Addr;

use crate::{
    etcd::is_loopback,
    inventory::{Cluster, Node, Role},
    layout,
    manifests::{
        admission_configuration, api_server_pod, audit_policy, authentication_configuration,
        controller_manager_pod, etcd_servers, scheduler_pod,
    },
    phases::{etcd::members::address_of, prepare},
    pki::authorities::{self, Ca},
    plan::{
        Action, Mode, Planner, Refusal,
        action::{REVISION_MARK, text_input},
    },
};

/// The phase.
pub const PHASE: &str = "control-plane";

/// See the module.
///
/// # Errors
/// Never so far.
pub fn plan(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let nodes: Vec<&Node> = p.cluster.with_role(Role::ControlPlane).collect();
    let (up, down): (Vec<&Node>, Vec<&Node>) =
        nodes.iter().partition(|n| p.facts(&n.name).runs("kube-apiserver"));
    // Before anything is foreseen that answers.
    if p.seen().nodes.is_none() && !up.is_empty() {
        let text = "no API server answered: what Kubernetes has could not be compared, and counts as missing";
        p.notice(PHASE, None, text, "rsadm status tells which API servers are ready");
    }
    prepare::first_kubelet(p, PHASE, nodes.iter().copied());
    // etcd serves by now; that a host's part in its foundation is closed takes a moment on that host alone.
    p.stage_beside(PHASE, "API servers, controller managers and schedulers together");
    for node in &nodes {
        prepare::kubelet(p, node);
    }
    for node in down {
        components(p, node, false);
    }
    for node in up {
        p.stage(PHASE, format!("new settings on {}", node.name), Mode::OneByOne);
        components(p, node, true);
    }
    Ok(())
}

/// API servers know all members: those that know others are pointed at them, one host at a time. Of a control plane that
/// we did not build everything else stays as it is.
///
/// # Errors
/// Never so far.
pub fn follow_members(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let cluster = p.cluster;
    for node in cluster.with_role(Role::ControlPlane) {
        let facts = p.facts(&node.name);
        let Some(server) = facts.processes.iter().find(|s| s.name == "kube-apiserver") else { continue };
        let (found, ours) = (server.etcd_servers.clone(), facts.begun.is_some());
        let wanted = etcd_servers(cluster, node);
        let is_local = found.iter().all(|url| is_loopback(url));
        p.stage(PHASE, format!("etcd's members on {}", node.name), Mode::OneByOne);
        if found == wanted || (!ours && is_local && node.is(Role::Etcd)) {
            p.checked();
        } else if ours {
            components(p, node, true);
        } else {
            let url = node.api_url(cluster.api.port);
            p.push(&node.name, Action::SetEtcdServers { servers: wanted, url }, "");
        }
    }
    Ok(())
}

/// An API server that knows none of the members that stay and are `well` is pointed at them before another leaves, as it would
/// have no etcd until its turn comes in [`follow_members`]: kubeadm's know the member beside them alone, and ours those of a
/// former inventory, where a run died before that turn or was asked for etcd alone. Beside a member that is to `stay` one waits
/// for that, ill as it may be: with another it might not become ready either, which is no reason for nobody to leave.
pub(super) fn dial_others(
    p: &mut Planner<'_>,
    node: &Node,
    stay: &[Ipv4Addr],
    well: &[Ipv4Addr],
    others: &[String],
) {
    let facts = p.facts(&node.name);
    let Some(server) = facts.processes.iter().find(|s| s.name == "kube-apiserver") else { return };
    let ours = facts.begun.is_some();
    // A name may stand for anybody.
    let knows = |url: &String| match address_of(url) {
        _ if is_loopback(url) => stay.contains(&node.internal_address),
        Some(address) => well.contains(&address),
        None => true,
    };
    if server.etcd_servers.is_empty() || others.is_empty() || server.etcd_servers.iter().any(knows) {
        return;
    }
    if ours {
        return components(p, node, true);
    }
    let url = node.api_url(p.cluster.api.port);
    let action = Action::SetEtcdServers { servers: others.to_vec(), url };
    p.push(&node.name, action, "the members that it knows leave");
}

/// The files and pods of a control plane. Where they replace what serves, the old ones are kept until the new ones do.
fn components(p: &mut Planner<'_>, node: &Node, serves: bool) {
    let cluster = p.cluster;
    p.folder(node, layout::AUDIT_LOG_DIR, 0o700);
    for (path, text) in [
        (layout::AUDIT_POLICY, audit_policy()),
        (layout::AUTHENTICATION_CONFIG, authentication_configuration(cluster)),
        (layout::ADMISSION_CONFIG, admission_configuration()),
    ] {
        p.file(node, path, 0o600, prepare::text(text));
    }
    let pods = [
        (
            "kube-apiserver",
            cluster.api.port,
            api_server_pod(cluster, node, REVISION_MARK),
            api_server_inputs(),
        ),
        (
            "kube-controller-manager",
            layout::CONTROLLER_MANAGER_PORT,
            controller_manager_pod(cluster, REVISION_MARK),
            controller_manager_inputs(),
        ),
        (
            "kube-scheduler",
            layout::SCHEDULER_PORT,
            scheduler_pod(cluster, REVISION_MARK),
            vec![layout::SCHEDULER_CONF.to_owned()],
        ),
    ];
    let pods = pods.map(|(name, port, pod, inputs)| {
        let text = prepare::yaml(&pod);
        let inputs: Vec<String> = inputs.into_iter().chain([text_input(&text)]).collect();
        ((name, port), text, inputs)
    });
    match serves {
        true => replace(p, node, &pods),
        false => start(p, node, &pods),
    }
}

/// A static pod: its name and port, its manifest, and what its process reads once.
type StaticPod = ((&'static str, u16), String, Vec<String>);

/// The API server first: the others have nothing to do without it, it could use the processors that they start on, and a
/// controller manager ends when it has waited 10 s (kube-controller-manager, `WaitForAPIServer`), to be tried again 10 s later.
fn start(p: &mut Planner<'_>, node: &Node, pods: &[StaticPod]) {
    let (server, others) = pods.split_at(1);
    if start_side_by_side(p, node, server) {
        await_api(p, node);
    }
    start_side_by_side(p, node, others);
}

fn start_side_by_side(p: &mut Planner<'_>, node: &Node, pods: &[StaticPod]) -> bool {
    let mut changed = false;
    for ((name, _), text, inputs) in pods {
        changed |= p.file_with_inputs(node, &layout::manifest_of(name), 0o600, text.as_str(), inputs);
    }
    for ((name, _), _, inputs) in pods {
        changed |= p.process(node, name, inputs);
    }
    changed
}

/// The API server first, and the others once it answers: a kubelet that has just started ends no static pod before it has
/// heard an API server (kubelet, `kubelet_pods.go`, `HandlePodCleanups`), and that of a control plane asks the one beside it.
/// Until then what comes next finds its port taken.
fn replace(p: &mut Planner<'_>, node: &Node, pods: &[StaticPod]) {
    let (server, others) = pods.split_at(1);
    let changed = replace_side_by_side(p, node, server);
    let asks = changed || others.iter().any(|((name, _), text, inputs)| p.replaces(node, name, text, inputs));
    if asks {
        await_api(p, node);
    }
    if replace_side_by_side(p, node, others) && !asks {
        await_api(p, node);
    }
    p.commit(node);
}

fn replace_side_by_side(p: &mut Planner<'_>, node: &Node, pods: &[StaticPod]) -> bool {
    let mut changed = false;
    let rewritten: Vec<bool> =
        pods.iter().map(|((name, _), text, inputs)| p.replaces(node, name, text, inputs)).collect();
    for (pod, text, inputs) in pods {
        changed |= p.replace_manifest(node, *pod, text.as_str(), inputs);
    }
    for ((pod, _, inputs), rewritten) in pods.iter().zip(rewritten) {
        changed |= p.replaced_process(node, *pod, inputs, rewritten);
    }
    changed
}

fn await_api(p: &mut Planner<'_>, node: &Node) {
    let url = node.api_url(p.cluster.api.port);
    p.push(&node.name, Action::AwaitApi { url }, "");
}

/// What an API server reads once. Serving and client certificates it reads anew when they change
/// (kube-apiserver, `dynamiccertificates`).
fn api_server_inputs() -> Vec<String> {
    let files = [
        layout::AUDIT_POLICY,
        layout::AUTHENTICATION_CONFIG,
        layout::ADMISSION_CONFIG,
        layout::ENCRYPTION_CONFIG,
    ];
    let keys = [authorities::service_account_key_path(), authorities::service_account_public_path()];
    Ca::ALL.map(Ca::cert_path).into_iter().chain(keys).chain(files.map(Into::into)).collect()
}

fn controller_manager_inputs() -> Vec<String> {
    vec![
        layout::CONTROLLER_MANAGER_CONF.to_owned(),
        Ca::Cluster.cert_path(),
        Ca::Cluster.key_path(),
        Ca::FrontProxy.cert_path(),
        authorities::service_account_key_path(),
    ]
}

/// Whom a kubeconfig on a control plane dials: an administrator's whatever clients dial, a component's (and the one for
/// emergencies) the API server beside it.
pub fn server_of(cluster: &Cluster, node: &Node, path: &str) -> String {
    match path {
        layout::ADMIN_CONF => format!("https://{}", cluster.api_endpoint()),
        _ => node.api_url(cluster.api.port),
    }
}

/// The host on which we run kubectl.
pub fn speaker(cluster: &Cluster) -> Option<&Node> {
    cluster.with_role(Role::ControlPlane).next()
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::{
        manifests::testing,
        observe::{Facts, Observed, facts::ProcessFact},
    };

    /// One that dials the member beside it is left alone, as kubeadm made it, and has no etcd once that one leaves; `localhost` is as
    /// good a word for it as 127.0.0.1.
    #[test]
    fn who_dials_the_member_beside_it_is_known_by_either_word() {
        let cluster = testing::ha();
        let servers = |url: &str| {
            let server = ProcessFact {
                name: "kube-apiserver".into(),
                revision: None,
                etcd_servers: vec![url.to_owned()],
            };
            let facts = Facts { processes: vec![server], ..Facts::default() };
            let hosts =
                cluster.with_role(Role::ControlPlane).map(|n| (n.name.clone(), facts.clone())).collect();
            Planner::new(&cluster, Observed { hosts, ..Observed::default() }, OffsetDateTime::UNIX_EPOCH)
        };
        let m1 = testing::node(&cluster, "m1");
        let others = ["https://10.0.0.2:2379".to_owned()];
        for (url, follows) in [
            ("https://127.0.0.1:2379", false),
            ("https://localhost:2379", false),
            ("https://10.9.9.9:2379", true),
        ] {
            let mut p = servers(url);
            follow_members(&mut p).unwrap();
            assert_eq!(p.finish().0.steps().count() > 0, follows, "{url}");
            let mut p = servers(url);
            p.stage(PHASE, "a member leaves", Mode::OneByOne);
            dial_others(&mut p, m1, &[], &[], &others);
            assert_eq!(p.finish().0.steps().count(), 1, "{url}");
        }
    }
}
