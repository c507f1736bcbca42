//! The one match from an [`Action`] to what is done on a host.

use std::{sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{Context, scripts};
use crate::{
    hash::sha256,
    host::{Cmd, Op, RemoteFile, Script},
    inventory::{Cluster, Node, NodeName},
    layout,
    manifests::{self, modules_config, sysctl_config},
    observe::Identity,
    pki::{
        authorities::Ca,
        files::{self, Server},
        leaf::Place,
        specs,
    },
    plan::{
        Action,
        action::{CA_MARK, REVISION_MARK, UnitVerb, bundle_hash, revision},
        shared::{Shared, Source},
    },
    secret::Secret,
};

const MINUTE: Duration = Duration::from_secs(60);

/// How long a host may take to fetch programs or images.
const FETCH: Duration = Duration::from_secs(30 * 60);

/// The operations of an action on a host.
///
/// # Errors
/// In words, where something it needs could not be made or read, and of what is done from the workstation.
pub async fn operations(cx: &Context<'_>, node: &Node, action: &Action) -> Result<Vec<Op>, String> {
    let limit = cx.limit;
    Ok(match action {
        Action::PutFile { path, mode, text, inputs } => {
            let text = match inputs.is_empty() {
                true => text.clone(),
                false => text.replace(REVISION_MARK, &known_revision(cx, node, inputs)?),
            };
            vec![put(path, *mode, text.into_bytes())]
        }
        Action::Folder { path, .. } if path == layout::ETCD_DATA_DIR => {
            vec![script(scripts::ETCD_DATA, [path.clone(), layout::ETCD_USER.into()], MINUTE)]
        }
        Action::Folder { path, mode } => {
            vec![Op::Run(Cmd::new([
                "install",
                "-d",
                "-o0",
                "-g0",
                "-m",
                &format!("{mode:o}"),
                path.as_str(),
            ]))]
        }
        Action::SnapshotFolder { path } => {
            vec![Op::Run(Cmd::new(["mkdir", "-p", "-m", "700", "--", path.as_str()]))]
        }
        Action::Mode { path, mode } => {
            vec![Op::Run(Cmd::new(["chmod", &format!("{mode:o}"), path.as_str()]))]
        }
        Action::PutShared { shared, source, secret } => {
            let keeper = match source {
                Source::Made => None,
                Source::From(host) => Some(cx.host(host)?),
            };
            cx.keyring.take(*shared, keeper.as_ref(), cx.now).await?.put(*secret)
        }
        Action::PutSecret { path, secret } => {
            vec![Op::Put(RemoteFile { path: path.clone(), mode: 0o600, data: secret.clone() })]
        }
        Action::PutAgent { sha256: wanted } => {
            let own = cx.cluster.agent.as_ref().map(|agent| agent.data.clone()).unwrap_or_default();
            let args = [wanted.clone(), layout::AGENT.to_owned()];
            vec![
                Op::Put(RemoteFile { path: layout::AGENT.to_owned(), mode: 0o755, data: own }),
                script(scripts::AGENT, args, MINUTE),
            ]
        }
        Action::PutCert { spec, server, .. } => certificate(cx, node, spec, server.as_deref()).await?,
        Action::PutKubeletConf { server } => {
            let ca = authority_text(cx, Ca::Cluster).await?;
            let server = Server { cluster: &cx.cluster.name, url: server, ca: &ca };
            vec![files::kubelet_conf(node, &server)]
        }
        Action::Remove { paths } => {
            let argv = ["rm", "-rf", "--"].map(String::from).into_iter().chain(paths.iter().cloned());
            // containerd looks no further than a folder that is there, whatever is in it (`_default` is another).
            let folders = paths.iter().filter(|path| path.starts_with(layout::CONTAINERD_HOSTS_DIR));
            let emptied = folders
                .filter_map(|path| path.rsplit_once('/'))
                .map(|(folder, _)| Op::Run(Cmd::new(["rmdir", "--ignore-fail-on-non-empty", "--", folder])));
            std::iter::once(Op::Run(Cmd::new(argv))).chain(emptied).collect()
        }
        Action::Install { program } => {
            let fixed = [&program.name, &program.url, &program.checksum_url, &program.target];
            vec![script(scripts::INSTALL, fixed.into_iter().chain(&program.members).cloned(), FETCH)]
        }
        Action::Pull { images } => vec![script(scripts::PULL, images.iter().cloned(), FETCH)],
        Action::Unit { unit, verb, inputs } => unit_operations(cx, node, unit, *verb, inputs)?,
        Action::Sysctl => {
            let pods = if cx.cluster.filters_bridges(node) { "pods" } else { "" };
            vec![script(scripts::SYSCTL, [modules_config(), sysctl_config(), pods.into()], MINUTE)]
        }
        Action::AwaitProcess { process, inputs } => {
            let args = [process.clone(), known_revision(cx, node, inputs)?, limit.as_secs().to_string()];
            vec![script(scripts::AWAIT_PROCESS, args, limit + MINUTE)]
        }
        Action::Keep { process, .. } => vec![script(scripts::KEEP, [process.clone(), cx.kept()], MINUTE)],
        // Those of runs that died too.
        Action::Commit => vec![Op::Run(Cmd::new(["rm", "-rf", "--", layout::KEPT_DIR]))],
        Action::AwaitServing { process, port } => {
            let limit = if process == "kube-apiserver" { cx.api_limit } else { limit };
            let args = [process.clone(), port.to_string(), limit.as_secs().to_string()];
            vec![script(scripts::AWAIT_SERVING, args, limit + MINUTE)]
        }
        Action::AwaitApi { url } => {
            let limit = cx.api_limit;
            vec![script(scripts::AWAIT_API, [url.clone(), limit.as_secs().to_string()], limit + MINUTE)]
        }
        Action::AwaitStopped { process } => {
            let args = [process.clone(), limit.as_secs().to_string()];
            vec![script(scripts::AWAIT_STOPPED, args, limit + MINUTE)]
        }
        Action::SetEtcdServers { servers, url } => {
            let limit = cx.api_limit;
            let args = [servers.join(","), url.clone(), limit.as_secs().to_string()];
            vec![script(scripts::SET_ETCD_SERVERS, args, limit + MINUTE)]
        }
        Action::SetEtcdImage { had, image, version, arguments } => {
            let fixed =
                [version.to_string(), layout::ETCD_METRICS_PORT.to_string(), limit.as_secs().to_string()];
            let image = [had, image].map(|image| format!("image: {image}"));
            let arguments =
                arguments.iter().flat_map(|(old, new)| [old.clone(), new.clone().unwrap_or_default()]);
            // Where it does not serve, the old one has as long.
            vec![script(
                scripts::SET_ETCD_IMAGE,
                fixed.into_iter().chain(image).chain(arguments),
                limit * 2 + MINUTE,
            )]
        }
        Action::SetManifestAside => {
            let args = [layout::ETCD_MANIFEST, layout::ETCD_MANIFEST_ASIDE].map(String::from);
            vec![script(scripts::MANIFEST_ASIDE, args, MINUTE)]
        }
        Action::SetAside => {
            let args = [layout::ETCD_DATA_DIR, layout::ASIDE_DIR].map(String::from);
            vec![script(scripts::SET_ASIDE, args, MINUTE)]
        }
        Action::AwaitEtcd { .. }
        | Action::HandOver { .. }
        | Action::AwaitSound
        | Action::AddLearner { .. }
        | Action::Promote { .. }
        | Action::RemoveMember { .. } => return Err(format!("no host can do this: {action}")),
        Action::Join { url } => {
            let args = [url.clone(), limit.as_secs().to_string(), node.name.to_string()];
            vec![script(scripts::JOIN, args, limit + MINUTE)]
        }
        Action::RecordIdentity { cluster } => {
            let id = format!("{:x}", cx.cluster_id().await?);
            let identity = cx.ledger().identity_of(cluster, id);
            vec![self::identity(&identity)]
        }
        Action::Apply { bundle, objects } => {
            // Recorded is the text that was planned, with the mark.
            let hash = bundle_hash(objects);
            let objects = match objects.contains(CA_MARK) {
                true => {
                    objects.replace(CA_MARK, &BASE64_STANDARD.encode(authority_text(cx, Ca::Cluster).await?))
                }
                false => objects.clone(),
            };
            apply(bundle, hash, &objects, limit)
        }
        Action::Mark { node, labels, taints, managed } => {
            let fixed = [node.to_string(), limit.as_secs().to_string(), managed.clone()];
            let args = fixed.into_iter().chain(labels.clone()).chain(["--".into()]).chain(taints.clone());
            // Once for the node, and once for what it is told.
            vec![script(scripts::MARK, args, limit * 2 + MINUTE * 2)]
        }
        Action::AwaitNodes { nodes } => {
            let args =
                std::iter::once(limit.as_secs().to_string()).chain(nodes.iter().map(ToString::to_string));
            vec![script(scripts::AWAIT_NODES, args, limit * 2 + MINUTE)]
        }
        Action::AwaitRollout { workloads, nodes } => {
            let nodes: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
            let fixed = [limit.as_secs().to_string(), nodes.join(",")];
            let args = fixed.into_iter().chain(workloads.iter().cloned());
            vec![script(scripts::ROLLOUT, args, limit * 2 + MINUTE)]
        }
        Action::Remember { cluster, runtime } => {
            vec![script(scripts::REMEMBER, remembered(cluster, *runtime), MINUTE * 5)]
        }
        Action::Wipe { cluster } => {
            let args = std::iter::once(cluster.clone())
                .chain(paths(layout::FOOTPRINT))
                .chain(["--".to_owned()])
                .chain(paths(layout::RUNTIME_FOOTPRINT));
            vec![script(scripts::WIPE, args, MINUTE * 10)]
        }
    })
}

fn paths(of: &'static [&'static str]) -> impl Iterator<Item = String> {
    of.iter().map(|path| (*path).to_owned())
}

/// Arguments of `remember.sh`: places, programs, kernel settings.
fn remembered(cluster: &str, runtime: bool) -> impl Iterator<Item = String> {
    let programs = layout::PROGRAMS.iter().map(|name| format!("{}/{name}", layout::BIN_DIR));
    let settings = manifests::sysctl_config();
    let settings: Vec<String> = settings
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(key, _)| key.trim_start_matches('-').to_owned())
        .chain(layout::KUBE_PROXY_SETTINGS.iter().map(|key| (*key).to_owned()))
        .collect();
    std::iter::once(cluster.to_owned())
        .chain(paths(layout::FOOTPRINT))
        .chain(paths(if runtime { layout::RUNTIME_FOOTPRINT } else { &[] }))
        .chain(["--".to_owned()])
        .chain(programs)
        .chain(["--".to_owned()])
        .chain(settings)
}

/// Writes down on a host to which cluster it belongs.
pub(super) fn identity(identity: &Identity) -> Op {
    let text = serde_json::to_string(identity).unwrap_or_default();
    put(layout::IDENTITY, 0o644, format!("{text}\n").into_bytes())
}

fn put(path: &str, mode: u32, data: Vec<u8>) -> Op {
    Op::Put(RemoteFile { path: path.into(), mode, data: Secret::new(data) })
}

fn script(script: Script, args: impl IntoIterator<Item = String>, limit: Duration) -> Op {
    Op::Script(script, args.into_iter().collect(), limit)
}

/// The revision of files as they are on the host by now.
fn known_revision(cx: &Context<'_>, node: &Node, inputs: &[String]) -> Result<String, String> {
    let seen = cx.ledger();
    let facts = seen.hosts.get(&node.name).ok_or("nothing is known of the host")?;
    revision(facts, inputs).ok_or_else(|| {
        let missing: Vec<&str> = inputs
            .iter()
            .filter(|i| i.starts_with('/') && !facts.files.contains_key(*i))
            .map(String::as_str)
            .collect();
        format!("files that it reads are not there: {}", missing.join(", "))
    })
}

fn unit_operations(
    cx: &Context<'_>,
    node: &Node,
    unit: &str,
    verb: UnitVerb,
    inputs: &[String],
) -> Result<Vec<Op>, String> {
    let word = match verb {
        UnitVerb::Start => "start",
        UnitVerb::Restart => "restart",
        UnitVerb::Disable => "disable",
    };
    let mut args = vec![word.to_owned(), unit.to_owned()];
    if !inputs.is_empty() && verb != UnitVerb::Disable {
        args.push(known_revision(cx, node, inputs)?);
    }
    // What systemd takes to restart it, as long for it to serve (`unit.sh`), and what lies around that.
    Ok(vec![script(scripts::UNIT, args, MINUTE * 4)])
}

/// The objects travel as a file, since they may be large; the script removes it. A URL is for the host to fetch.
fn apply(bundle: &str, hash: String, objects: &str, limit: Duration) -> Vec<Op> {
    let path = match objects.starts_with("http") {
        true => objects.to_owned(),
        false => format!("/run/rsadm-{bundle}.yaml"),
    };
    let args = [path.clone(), bundle.to_owned(), hash, limit.as_secs().to_string()];
    let file = (path != objects).then(|| put(&path, 0o600, objects.as_bytes().to_vec()));
    // The last try of either part may begin just before its end.
    file.into_iter().chain([script(scripts::APPLY, args, limit * 2 + MINUTE * 3)]).collect()
}

/// Issues and puts. The old certificate goes first: should the run die between key and certificate, the certificate is
/// missing and is made anew, instead of lying beside a key that is not its own.
async fn certificate(
    cx: &Context<'_>,
    node: &Node,
    name: &str,
    server: Option<&str>,
) -> Result<Vec<Op>, String> {
    let spec =
        specs::spec_for(cx.cluster, node, name).ok_or_else(|| format!("{name} is not in the table"))?;
    let material = take_authority(cx, spec.ca).await?;
    let issued = material.authority().ok_or_else(|| unfit(spec.ca))?.issue(&spec, cx.now);
    let issued = issued.map_err(|e| crate::line::chain(&e))?;
    let ca = match spec.place {
        Place::Kubeconfig { .. } => authority_text(cx, Ca::Cluster).await?,
        Place::Pair { .. } | Place::Bundle { .. } => String::new(),
    };
    let server = Server { cluster: &cx.cluster.name, url: server.unwrap_or_default(), ca: &ca };
    let mut ops = Vec::new();
    if let Place::Pair { cert, .. } = &spec.place {
        ops.push(Op::Run(Cmd::new(["rm", "-f", cert.as_str()])));
    }
    ops.extend(files::leaf(&spec, &issued, &server));
    Ok(ops)
}

async fn authority_text(cx: &Context<'_>, ca: Ca) -> Result<String, String> {
    let material = take_authority(cx, ca).await?;
    Ok(material.authority().ok_or_else(|| unfit(ca))?.files().cert.clone())
}

fn unfit(ca: Ca) -> String {
    format!("what hosts keep as the {ca} is no authority")
}

/// The authority from memory, or from a host that keeps it. Only the plan may have one made.
async fn take_authority(cx: &Context<'_>, ca: Ca) -> Result<Arc<super::keyring::Material>, String> {
    let shared = Shared::Authority(ca);
    let keeper = {
        let seen = cx.ledger();
        seen.hosts.iter().find(|(_, facts)| shared.is_on(facts)).map(|(name, _)| name.clone())
    };
    let host = cx.host(&keeper.ok_or_else(|| format!("no host has the {ca}'s key"))?)?;
    cx.keyring.take(shared, Some(&host), cx.now).await
}

/// What a host's files are after these operations, for revisions of what reads them.
pub fn record(cx: &Context<'_>, node: &Node, action: &Action, ops: &[Op]) {
    let mut seen = cx.ledger();
    action.predict(&node.name, &mut seen);
    let Some(facts) = seen.hosts.get_mut(&node.name) else { return };
    for op in ops {
        if let Op::Put(file) = op {
            let sha = sha256(file.data.expose());
            if let Some(fact) = facts.files.get_mut(&file.path) {
                fact.sha256 = sha;
            }
        }
    }
}

/// The host of a name.
///
/// # Errors
/// Where the inventory has none of that name.
pub fn node<'a>(cluster: &'a Cluster, name: &crate::inventory::NodeName) -> Result<&'a Node, String> {
    cluster.node(name).ok_or_else(|| format!("{name} is not in the inventory"))
}
