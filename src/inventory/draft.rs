//! The inventory's keys: from a document to values that are each valid by themselves.
//!
//! What cannot be read is reported and left out (or takes its default), so that `check.rs` can go on and report what
//! is wrong between the values too. One function a section, in the order of the inventory reference.

use std::{collections::BTreeMap, path::Path as FsPath, time::Duration};

use serde_json::{Map, Value};

use crate::versions::{self, ETCD_MINORS, Release, Version};

use super::{
    flags,
    hosts::{self, HostDraft, SshDraft},
    problem::{Fault, Findings, Path, quote},
    read::{Refused, Section, choice, choice_without, is_beyond, kind, number, of_text, owned, port, truth},
    settings::{
        Artifacts, Component, Etcd, KubeProxy, LoadBalancer, Runtime, RuntimeInstall, UpgradeStrategy,
    },
    syntax,
};

pub(super) use network::NetworkDraft;

mod authentication;
mod backup;
mod network;

/// An inventory of which every part is valid by itself, as far as it could be read.
pub(super) struct Draft {
    pub(super) name: Option<String>,
    pub(super) release: Option<Release>,
    pub(super) api: ApiDraft,
    pub(super) load_balancer: Option<LoadBalancer>,
    pub(super) hosts: Vec<HostDraft>,
    pub(super) etcd: Etcd,
    pub(super) times: Times,
    pub(super) network: NetworkDraft,
    pub(super) artifacts: Artifacts,
    pub(super) runtime: Runtime,
    pub(super) api_server: Component,
    pub(super) controller_manager: Component,
    pub(super) scheduler: Component,
    pub(super) kubelet: Component,
    pub(super) kube_proxy: KubeProxy,
    pub(super) upgrade_strategy: UpgradeStrategy,
}

/// etcd's, each missing where it could not be read, so that nothing is compared with it.
pub(super) struct Times {
    pub(super) heartbeat: Option<Duration>,
    pub(super) election: Option<Duration>,
}

/// `api`, before the hosts give its default.
pub(super) struct ApiDraft {
    pub(super) host: Option<String>,
    pub(super) port: u16,
    pub(super) alternative_names: Vec<String>,
}

/// Reads all sections; `home` is what `~` stands for.
pub(super) fn read(document: &Value, home: Option<&FsPath>, findings: &Findings) -> Draft {
    let top = Section::of(Path::default(), Some(document), findings);
    let name_help = "a short name such as prod; it is also typed to confirm what cannot be undone";
    let version_help = "the version to run, for example v1.37.2";
    // Keys are listed in this order where an unknown one is told.
    let name = top.required("cluster_name", name_help, of_text(syntax::cluster_name));
    let release = top.required("kubernetes_version", version_help, release);
    let api = api(top.section("api"));
    let load_balancer = load_balancer(top.section("load_balancer"));
    let hosts = hosts::read(&top, &SshDraft::of_section(top.section("ssh"), home), home);
    let (etcd, times) = etcd(top.section("etcd"), home);
    let draft = Draft {
        name,
        release,
        api,
        load_balancer,
        hosts,
        etcd,
        times,
        network: network::read(top.section("network"), home),
        artifacts: artifacts(top.section("artifacts")),
        runtime: runtime(top.section("container_runtime")),
        api_server: api_server(top.section("kube_apiserver")),
        controller_manager: process(top.section("kube_controller_manager"), &flags::CONTROLLER_MANAGER),
        scheduler: process(top.section("kube_scheduler"), &flags::SCHEDULER),
        kubelet: kubelet(top.section("kubelet")),
        kube_proxy: kube_proxy(top.section("kube_proxy")),
        upgrade_strategy: upgrade_strategy(top.section("upgrade_strategy")),
    };
    top.finish();
    let release = match (draft.release, draft.etcd.version) {
        (Some(release), Some(etcd)) => Some(release.with_etcd(etcd)),
        (release, _) => release,
    };
    Draft { release, ..draft }
}

fn release(value: &Value) -> Result<Release, Fault> {
    let newest = || {
        let all: Vec<String> = versions::known().iter().map(ToString::to_string).collect();
        format!("the newest of each minor version that rsadm knows: {}", all.join(", "))
    };
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if !is_beyond(value) => number.to_string(),
        other => return Err(Fault::new(format!("{}, not a version", kind(other)), newest())),
    };
    let Ok(version) = text.parse::<Version>() else {
        let meant = versions::known()
            .into_iter()
            .find(|v| text.trim_start_matches('v') == format!("{}.{}", v.major, v.minor));
        let help = meant.map_or_else(newest, |v| format!("did you mean {v}?"));
        return Err(Fault::new(format!("{} is no full version", quote(&text)), help));
    };
    versions::release(version)
        .ok_or_else(|| Fault::new(format!("rsadm does not know Kubernetes {version}"), newest()))
}

fn api(section: Section<'_>) -> ApiDraft {
    let api = ApiDraft {
        host: section.optional("host", of_text(syntax::dialled)),
        port: section.optional("port", port).unwrap_or(6443),
        alternative_names: section
            .list("alternative_names", of_text(syntax::alternative_name))
            .unwrap_or_default(),
    };
    section.finish();
    api
}

fn load_balancer(section: Section<'_>) -> Option<LoadBalancer> {
    const WORDS: &[(&str, LoadBalancer)] = &[
        ("node-local", LoadBalancer::NodeLocal),
        ("external", LoadBalancer::External),
        ("none", LoadBalancer::None),
    ];
    const REFUSED: &[Refused] =
        &[("vip", "is not supported yet", "node-local, or external in front of your own address")];
    let kind = section.optional("type", choice_without(WORDS, REFUSED));
    section.finish();
    kind
}

fn etcd(section: Section<'_>, home: Option<&FsPath>) -> (Etcd, Times) {
    let (heartbeat, election) = (Duration::from_millis(100), Duration::from_millis(1000));
    let time = |key, default| match section.has(key) {
        true => section.optional(key, duration),
        false => Some(default),
    };
    let times = Times {
        heartbeat: time("heartbeat_interval", heartbeat),
        election: time("election_timeout", election),
    };
    let etcd = Etcd {
        version: section.optional("version", etcd_version),
        heartbeat_interval: times.heartbeat.unwrap_or(heartbeat),
        election_timeout: times.election.unwrap_or(election),
        quota_backend_bytes: section.optional("quota_backend_bytes", size).unwrap_or(8 << 30),
        auto_compaction: section
            .optional("auto_compaction", duration)
            .unwrap_or(Duration::from_secs(8 * 3600)),
        extra_args: extra_args(&section, &flags::ETCD),
        backup: section.has("backup").then(|| backup::read(section.section("backup"), home)).flatten(),
    };
    section.finish();
    (etcd, times)
}

fn etcd_version(value: &Value) -> Result<Version, Fault> {
    // The newest of each minor version that a Kubernetes of ours comes with.
    let brought = |minor: u16| {
        let all = versions::known().into_iter().filter_map(|v| Some(versions::release(v)?.etcd));
        all.filter(|v| v.minor == minor).max()
    };
    let help = || {
        let (first, last) = (*ETCD_MINORS.start(), *ETCD_MINORS.end());
        let all: Vec<String> = ETCD_MINORS.filter_map(brought).map(|v| v.to_string()).collect();
        format!("a full version of etcd 3.{first} to 3.{last}, for example {}", all.join(" or "))
    };
    let text = match value {
        Value::Number(number) if !is_beyond(value) => number.to_string(),
        _ => owned(value)?,
    };
    let meant = |text: &str| {
        let minor = text.trim_start_matches('v').strip_prefix("3.")?.parse().ok()?;
        brought(minor).map(|v| format!("did you mean {v}?"))
    };
    match text.parse::<Version>() {
        Ok(version) if version.major == 3 && ETCD_MINORS.contains(&version.minor) => Ok(version),
        Ok(version) => Err(Fault::new(format!("rsadm does not know etcd {version}"), help())),
        Err(()) => {
            let help = meant(&text).unwrap_or_else(help);
            Err(Fault::new(format!("{} is no full version", quote(&text)), help))
        }
    }
}

/// A size with its unit, or bytes.
fn size(value: &Value) -> Result<u64, Fault> {
    match value {
        Value::Number(_) if is_beyond(value) => Err(Fault::new(kind(value), syntax::SIZES)),
        Value::Number(number) => number.as_u64().ok_or_else(|| syntax::no_size(&number.to_string())),
        _ => of_text(syntax::size)(value),
    }
}

/// A duration with its unit, or 0.
pub(super) fn duration(value: &Value) -> Result<Duration, Fault> {
    match value {
        Value::Number(_) if is_beyond(value) => Err(Fault::new(kind(value), syntax::DURATIONS)),
        Value::Number(number) => syntax::duration(&number.to_string()),
        _ => of_text(syntax::duration)(value),
    }
}

fn artifacts(section: Section<'_>) -> Artifacts {
    /// Who downloads: each host, or the workstation, which cannot yet.
    const DELIVERY: &[(&str, ())] = &[("direct", ())];
    const REFUSED: &[Refused] = &[(
        "push",
        "is not supported yet",
        "direct, with a mirror that the hosts reach as artifacts.base_url",
    )];
    section.optional("delivery", choice_without(DELIVERY, REFUSED));
    let mut artifacts = Artifacts {
        base_url: section.optional("base_url", of_text(syntax::url)),
        registry_mirrors: section.entries("registry_mirrors", registry_mirror),
    };
    for mirror in artifacts.registry_mirrors.values_mut() {
        mirror.truncate(mirror.trim_end_matches('/').len());
    }
    section.finish();
    artifacts
}

fn registry_mirror(registry: &str, mirror: &str) -> Result<(), Fault> {
    if !syntax::is_authority(registry) {
        let help = "the host of an upstream registry, for example registry.k8s.io";
        return Err(Fault::new(format!("{} is no registry", quote(registry)), help));
    }
    syntax::url(mirror).map(|_| ())
}

fn runtime(section: Section<'_>) -> Runtime {
    const INSTALL: &[(&str, RuntimeInstall)] =
        &[("upstream", RuntimeInstall::Upstream), ("existing", RuntimeInstall::Existing)];
    let runtime = Runtime {
        install: section.optional("install", choice(INSTALL)).unwrap_or(RuntimeInstall::Upstream),
        restrict_oom_score_adj: section.optional("restrict_oom_score_adj", truth).unwrap_or(false),
    };
    section.finish();
    runtime
}

fn api_server(section: Section<'_>) -> Component {
    let component = Component {
        extra_args: extra_args(&section, &flags::API_SERVER),
        config: authentication::read(section.section("authentication")),
    };
    section.finish();
    component
}

/// A component that has no configuration file of the operator's.
fn process(section: Section<'_>, owned: &flags::Owned) -> Component {
    let component = Component { extra_args: extra_args(&section, owned), config: Map::new() };
    section.finish();
    component
}

fn kubelet(section: Section<'_>) -> Component {
    let component = Component {
        extra_args: extra_args(&section, &flags::KUBELET),
        config: config(&section, &flags::KUBELET),
    };
    section.finish_but(&[], "; fields of KubeletConfiguration belong under `config`");
    component
}

fn kube_proxy(section: Section<'_>) -> KubeProxy {
    let kube_proxy = KubeProxy {
        enabled: section.optional("enabled", truth).unwrap_or(true),
        config: config(&section, &flags::KUBE_PROXY),
    };
    section.finish_but(&[], "; fields of KubeProxyConfiguration belong under `config`");
    kube_proxy
}

fn extra_args(section: &Section<'_>, owned: &flags::Owned) -> BTreeMap<String, String> {
    section.entries("extra_args", |flag, value| flags::judge(owned, flag, value))
}

fn config(section: &Section<'_>, owned: &flags::Owned) -> Map<String, Value> {
    let config = section.object("config");
    let path = section.path.key("config");
    for (field, why) in owned.refused_fields(&config) {
        section.findings.key(&path.key(field), "rsadm sets this field itself", why);
    }
    config
}

fn upgrade_strategy(section: Section<'_>) -> UpgradeStrategy {
    let workers = section.optional("max_unavailable_workers", number(1..=10_000)).unwrap_or(1);
    let drain = section.section("drain");
    let time = |key, seconds| drain.optional(key, duration).unwrap_or(Duration::from_secs(seconds));
    let strategy = UpgradeStrategy {
        max_unavailable_workers: usize::try_from(workers).unwrap_or(usize::MAX),
        drain_timeout: time("timeout", 300),
        drain_grace_period: time("grace_period", 30),
    };
    drain.finish();
    section.finish();
    strategy
}

/// A file of the operator's machine that a key names, and what helps where it is missing.
pub(super) fn file_of(
    section: &Section<'_>,
    key: &'static str,
    home: Option<&FsPath>,
    help: &'static str,
) -> Option<std::path::PathBuf> {
    let path = section.optional(key, file_path(home))?;
    section.findings.file(&section.path.key(key), &path, help);
    Some(path)
}

/// A file's path with `~` expanded.
pub(super) fn file_path(home: Option<&FsPath>) -> impl Fn(&Value) -> Result<std::path::PathBuf, Fault> {
    move |value| {
        let text = owned(value)?;
        let Some(rest) = text.strip_prefix('~') else { return Ok(text.into()) };
        let Some(rest) = rest.strip_prefix('/') else {
            return Err(Fault::new(format!("{} is no path", quote(&text)), "~/FILE, or the whole path"));
        };
        match home {
            Some(home) => Ok(home.join(rest)),
            None => Err(Fault::new("~ has no meaning here: HOME is not set", "write the whole path")),
        }
    }
}
