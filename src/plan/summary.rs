//! The plan in words: what a step does, what a stage came to.

use std::{collections::BTreeSet, fmt};

use super::{Action, Stage, action::UnitVerb, shared::Source};
use crate::event::count;

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutFile { path, .. } => write!(f, "write {path}"),
            Self::PutShared { shared, source: Source::Made, secret: true } => {
                write!(f, "make and keep the {shared}")
            }
            Self::PutShared { shared, secret: true, .. } => write!(f, "keep the {shared}"),
            Self::PutShared { shared, .. } => write!(f, "trust the {shared}"),
            Self::PutSecret { path, .. } => write!(f, "write {path}"),
            Self::PutAgent { .. } => write!(f, "install rsadm as {}", crate::layout::AGENT),
            Self::PutCert { spec, .. } => write!(f, "issue {spec}"),
            Self::PutKubeletConf { server } => write!(f, "write kubelet.conf for {server}"),
            Self::Folder { path, mode } => write!(f, "make {path} ({mode:04o})"),
            Self::SnapshotFolder { path } => write!(f, "make {path} for snapshots, where there is none"),
            Self::Mode { path, mode } => write!(f, "set {path} to {mode:04o}"),
            Self::Remove { paths } => write!(f, "remove {}", paths.join(", ")),
            Self::Install { program } => write!(f, "install {} from {}", program.name, program.url),
            Self::Pull { images } => write!(f, "pull {}", images.join(", ")),
            Self::Unit { unit, verb: UnitVerb::Start, .. } => write!(f, "start {unit}"),
            Self::Unit { unit, verb: UnitVerb::Restart, .. } => write!(f, "restart {unit}"),
            Self::Unit { unit, verb: UnitVerb::Disable, .. } => write!(f, "stop {unit}"),
            Self::Sysctl => f.write_str("apply kernel settings"),
            Self::AwaitProcess { process, .. } => write!(f, "wait until {process} runs"),
            Self::Keep { process, .. } => {
                write!(f, "keep the manifest of {process}, should the new one not serve")
            }
            Self::Commit => f.write_str("go on with what serves, and keep no manifest from before"),
            Self::AwaitServing { process, port } => write!(f, "wait until {process} listens on port {port}"),
            Self::AwaitApi { url } => write!(f, "wait until the API server at {url} is ready"),
            Self::Join { url } => write!(f, "have the kubelet register at {url}"),
            Self::AwaitEtcd { members } => match members.as_slice() {
                [(only, _)] => write!(f, "wait until {only} leads"),
                members => write!(f, "wait until {} members agree on a leader", members.len()),
            },
            Self::AddLearner { member, .. } => write!(f, "add {member} to etcd, without a vote"),
            Self::Promote { member, .. } => write!(f, "give {member} its vote once it is in sync"),
            Self::RemoveMember { member, .. } => write!(f, "remove {member} from etcd"),
            Self::SetEtcdServers { servers, .. } => {
                write!(f, "point the API server at {}", servers.join(", "))
            }
            Self::SetEtcdImage { image, arguments, .. } => {
                write!(f, "change {}: image {image}", crate::layout::ETCD_MANIFEST)?;
                arguments.iter().try_for_each(|(old, new)| match new {
                    Some(new) => write!(f, ", {old} → {new}"),
                    None => write!(f, ", without {old}"),
                })
            }
            Self::HandOver { member } => write!(f, "let another member lead, if {member} does"),
            Self::AwaitSound => f.write_str("wait until all members are healthy and hold the same data"),
            Self::AwaitStopped { process } => write!(f, "wait until {process} has stopped"),
            Self::SetManifestAside => {
                let (manifest, kept) = (crate::layout::ETCD_MANIFEST, crate::layout::ETCD_MANIFEST_ASIDE);
                write!(f, "take {manifest} away, and keep it as {kept} unless rsadm wrote it")
            }
            Self::SetAside => f.write_str("set etcd's old data aside"),
            Self::RecordIdentity { cluster } => write!(f, "record that the host belongs to {cluster}"),
            Self::Apply { bundle, .. } => write!(f, "apply {bundle}"),
            Self::Mark { node, labels, taints, .. } => {
                let all: Vec<&str> = labels.iter().chain(taints).map(String::as_str).collect();
                write!(
                    f,
                    "mark node {node}: {}",
                    if all.is_empty() { "as ours".into() } else { all.join(", ") }
                )
            }
            Self::AwaitNodes { nodes } => {
                let names: Vec<&str> = nodes.iter().map(crate::inventory::NodeName::as_str).collect();
                write!(f, "wait until {} Ready", are(&names))
            }
            Self::AwaitRollout { workloads, nodes } => {
                let names: Vec<&str> = nodes.iter().map(crate::inventory::NodeName::as_str).collect();
                let place =
                    if names.is_empty() { String::new() } else { format!(" on {}", names.join(", ")) };
                write!(f, "wait until {} rolled out{place}", are(workloads))
            }
            Self::Remember { .. } => f.write_str("note what is there, for a reset"),
            Self::Wipe { .. } => f.write_str("remove everything that rsadm put there"),
        }
    }
}

fn are<S: AsRef<str>>(names: &[S]) -> String {
    let list: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    format!("{} {}", list.join(", "), if names.len() == 1 { "is" } else { "are" })
}

/// What a stage came to, for the line that closes it.
pub fn outcome(stage: &Stage) -> String {
    let parts = match (awaited(stage), made(stage)) {
        (Some(text), _) | (None, Some(text)) => vec![text],
        (None, None) => set_up(stage),
    };
    match parts.is_empty() {
        true => format!("{}: done on {}", stage.title, count(stage.work.len(), "host")),
        false => parts.join("; "),
    }
}

/// What the stage waited for, where that is the sum of it.
fn awaited(stage: &Stage) -> Option<String> {
    let text = actions(stage).find_map(|(_, action)| match action {
        Action::AwaitEtcd { members } if stage.gated => {
            Some(format!("{}; {} healthy", stage.title, count(members.len(), "member")))
        }
        Action::AwaitEtcd { members } => Some(format!("{} healthy", count(members.len(), "member"))),
        Action::AwaitSound => Some(format!("{}; members healthy, same data", stage.title)),
        Action::Promote { member, .. } => Some(format!("{member} is a voting member")),
        Action::RemoveMember { member, .. } => Some(format!("{member} is no longer a member")),
        Action::AwaitNodes { nodes } => Some(format!("{} Ready", count(nodes.len(), "node"))),
        Action::AwaitRollout { workloads, .. } => Some(format!("{} rolled out", workloads.join(", "))),
        _ => None,
    });
    text.or_else(|| {
        let (hosts, _) = told(stage, |a| matches!(a, Action::AwaitApi { .. }).then_some(vec![]));
        let plural = if hosts.len() == 1 { "" } else { "s" };
        (!hosts.is_empty()).then(|| format!("API server{plural} {} ready", hosts.join(" ")))
    })
}

/// What was made or fetched, where that is the sum of it.
fn made(stage: &Stage) -> Option<String> {
    let number = |is: fn(&Action) -> bool| actions(stage).filter(|(_, a)| is(a)).count();
    let ((installed, programs), (pulled, images)) = (told(stage, programs), told(stage, images));
    // Other hosts of the stage may have had something else done, such as a route.
    let (text, hosts) = match [number(is_certificate), number(is_shared), number(is_wipe)] {
        [0, 0, 0] if !programs.is_empty() => (programs.join(", "), installed.len()),
        [0, 0, 0] if !images.is_empty() => (count(images.len(), "image"), pulled.len()),
        [0, 0, 0] => return None,
        [0, 0, _] => return Some(format!("{} as before", count(stage.work.len(), "host"))),
        [0, n, _] => (format!("{} in place", count(n, "authority file")), stage.work.len()),
        [n, ..] => (format!("{} issued", count(n, "certificate")), stage.work.len()),
    };
    Some(format!("{text} on {}", count(hosts, "host")))
}

/// What else was done, side by side.
fn set_up(stage: &Stage) -> Vec<String> {
    let (hosts, running) = told(stage, running);
    let (_, bundles) =
        told(stage, |a| if let Action::Apply { bundle, .. } = a { Some(vec![bundle]) } else { None });
    let number = |is: fn(&Action) -> bool| actions(stage).filter(|(_, a)| is(a)).count();
    let (nodes, members) = (number(is_mark), number(is_identity));
    [
        (hosts.len(), format!("{} running on {}", running.join(", "), count(hosts.len(), "host"))),
        (bundles.len(), format!("{} applied", bundles.join(", "))),
        (nodes, format!("labels and taints of {}", count(nodes, "node"))),
        (members, format!("{} bound to this cluster", count(members, "member"))),
    ]
    .into_iter()
    .filter_map(|(n, text)| (n > 0).then_some(text))
    .collect()
}

fn actions(stage: &Stage) -> impl Iterator<Item = (&str, &Action)> {
    stage.work.iter().flat_map(|w| w.steps.iter().map(|s| (w.host.as_str(), &s.action)))
}

/// The hosts with actions of a kind, in their order, and what those are about, each once and sorted.
fn told<'a>(
    stage: &'a Stage,
    items: impl Fn(&'a Action) -> Option<Vec<&'a String>>,
) -> (Vec<&'a str>, Vec<&'a str>) {
    let (mut hosts, mut all) = (Vec::new(), BTreeSet::new());
    for (host, action) in actions(stage) {
        if let Some(items) = items(action) {
            if hosts.last() != Some(&host) {
                hosts.push(host);
            }
            all.extend(items.into_iter().map(String::as_str));
        }
    }
    (hosts, all.into_iter().collect())
}

fn programs(action: &Action) -> Option<Vec<&String>> {
    if let Action::Install { program } = action { Some(vec![&program.name]) } else { None }
}

fn images(action: &Action) -> Option<Vec<&String>> {
    if let Action::Pull { images } = action { Some(images.iter().collect()) } else { None }
}

fn running(action: &Action) -> Option<Vec<&String>> {
    match action {
        Action::AwaitProcess { process, .. } => Some(vec![process]),
        Action::Unit { unit, verb: UnitVerb::Start | UnitVerb::Restart, .. } => Some(vec![unit]),
        _ => None,
    }
}

fn is_certificate(action: &Action) -> bool {
    matches!(action, Action::PutCert { .. })
}

fn is_shared(action: &Action) -> bool {
    matches!(action, Action::PutShared { .. })
}

fn is_wipe(action: &Action) -> bool {
    matches!(action, Action::Wipe { .. })
}

fn is_mark(action: &Action) -> bool {
    matches!(action, Action::Mark { .. })
}

fn is_identity(action: &Action) -> bool {
    matches!(action, Action::RecordIdentity { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inventory::NodeName,
        plan::{HostWork, Mode, Step},
        programs::Program,
    };

    fn stage(work: &[(&str, &[Action])]) -> Stage {
        let step = |action: &Action| Step::new(action.clone(), "");
        let work = work.iter().map(|(host, actions)| HostWork {
            host: NodeName::new(*host),
            steps: actions.iter().map(step).collect(),
        });
        Stage {
            phase: "x",
            title: "x".into(),
            mode: Mode::Parallel,
            gated: false,
            beside: false,
            work: work.collect(),
        }
    }

    #[test]
    fn a_stage_is_summed_up() {
        let kubelet = Action::Unit { unit: "kubelet".into(), verb: UnitVerb::Start, inputs: vec![] };
        let again = kubelet.clone();
        let etcd = Action::AwaitProcess { process: "etcd".into(), inputs: vec![] };
        let identity = Action::RecordIdentity { cluster: "prod".into() };
        let apply = Action::Apply { bundle: "kube-proxy".into(), objects: String::new() };
        let mark = |node: &str| Action::Mark {
            node: NodeName::new(node),
            labels: vec![],
            taints: vec![],
            managed: String::new(),
        };
        let api = |host: &str| Action::AwaitApi { url: format!("https://{host}:6443") };
        let file = Action::Folder { path: "/etc/kubernetes".into(), mode: 0o755 };
        type Work<'a> = &'a [(&'a str, &'a [Action])];
        let program = Program {
            name: "kubelet".into(),
            url: String::new(),
            source: String::new(),
            checksum_url: String::new(),
            target: String::new(),
            members: vec![],
        };
        let install = Action::Install { program };
        let cases: [(Work<'_>, &str); 7] = [
            (&[("m1", std::slice::from_ref(&file)), ("w1", &[install])], "kubelet on 1 host"),
            (
                &[("m1", &[kubelet.clone(), etcd.clone()]), ("m2", &[etcd])],
                "etcd, kubelet running on 2 hosts",
            ),
            (
                &[("m1", std::slice::from_ref(&identity)), ("m2", std::slice::from_ref(&identity))],
                "2 members bound to this cluster",
            ),
            (
                &[("m1", &[apply]), ("w1", std::slice::from_ref(&again))],
                "kubelet running on 1 host; kube-proxy applied",
            ),
            (&[("m1", &[mark("m1"), mark("w1")])], "labels and taints of 2 nodes"),
            (&[("m1", &[kubelet, api("m1")]), ("m2", &[api("m2")])], "API servers m1 m2 ready"),
            (&[("m1", std::slice::from_ref(&file))], "x: done on 1 host"),
        ];
        for (work, text) in cases {
            assert_eq!(outcome(&stage(work)), text);
        }
    }
}
