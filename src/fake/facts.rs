//! A machine's answer to `observe/facts.sh`, line for line what the script prints.

use std::fmt::Write;

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{
    etcd::Data,
    files::{Entry, Files},
    machine::Machine,
    pods,
};
use crate::{
    layout,
    observe::{
        facts::{BRIDGE_FILTER, cgroups_in, network_in, quoted_after},
        parser::SCRIPT,
    },
};

/// The whole answer. `now` is the clock in nanoseconds; `etcd` is what its metrics say where it runs: how many members it
/// knows, and whether one of them leads.
pub(super) fn render(machine: &Machine, now: i128, etcd: Option<(usize, bool)>) -> String {
    let mut text = String::new();
    let mut f = |line: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    };
    f(format_args!("hostname {}", machine.hostname));
    f(format_args!("machine-id {}", crate::hash::sha256(machine.name.as_str().as_bytes())));
    f(format_args!("boot-id {}-{}", machine.name, machine.boots));
    f(format_args!(
        "arch {}\nkernel 6.1.0\nos debian 12\ntime {now}\ncpus 4\nmemory 8.2e+09\nswap 0",
        machine.arch
    ));
    f(format_args!("systemd 252\ncgroup 2\ncontrollers cpuset cpu io memory pids"));
    let is_loaded = machine.kernel.contains(BRIDGE_FILTER);
    let br_netfilter = if is_loaded { "feature" } else { "loadable" };
    f(format_args!("feature overlay\nloadable overlay\n{br_netfilter} {BRIDGE_FILTER}"));
    for folder in ["/var/lib", "/usr", "/var/lib/etcd", "/var/lib/containerd", "/var/lib/kubelet"] {
        f(format_args!("disk {folder} {} 99000000000", machine.free));
    }
    f(format_args!("address 127.0.0.1\naddress {}", machine.address));
    let ports = [
        ("etcd", &[layout::ETCD_CLIENT_PORT, layout::ETCD_PEER_PORT][..]),
        ("kube-apiserver", &[6443]),
        ("kube-controller-manager", &[layout::CONTROLLER_MANAGER_PORT]),
        ("kube-scheduler", &[layout::SCHEDULER_PORT]),
        ("kubelet", &[layout::KUBELET_PORT, layout::KUBELET_HEALTH_PORT]),
        ("haproxy", &[6443]),
    ];
    for (name, ports) in ports {
        for port in ports.iter().filter(|_| machine.process(name).is_some()) {
            f(format_args!("port {port} {}", comm(name)));
        }
    }
    if let Some(version) = containerd_version(machine) {
        f(format_args!("containerd {version}"));
    }
    for unit in ["kubelet", "containerd", "rsadm-network"] {
        let state = machine.units.get(unit).cloned().unwrap_or_default();
        let active = if state.process.is_some() { "active" } else { "inactive" };
        f(format_args!("unit {unit} {active} {}", if state.enabled { "enabled" } else { "disabled" }));
    }
    for (name, process) in machine.processes() {
        let revision = process.revision.as_deref().unwrap_or("-");
        let servers = pods::flag(&process.argv, "etcd-servers").unwrap_or_default();
        f(format_args!("process {} {revision} {servers}", comm(name)));
    }
    files(&machine.files, &mut f);
    certificates(&machine.files, &mut f);
    rest(machine, &mut f);
    if let Some((members, has_leader)) = etcd {
        if !has_leader {
            f(format_args!("etcd-leaderless"));
        }
        f(format_args!("etcd-members {members}"));
    }
    text.push_str("end\n");
    text
}

/// The first record of a log, in base64: of the kind that has the IDs of member and cluster (see `observe/wal.rs`).
fn head_of_log(data: &Data) -> String {
    let ids = [&[0x08][..], &varint(data.member), &[0x10], &varint(data.cluster)].concat();
    let record = [&[0x08, 0x01, 0x1a][..], &varint(ids.len() as u64), &ids].concat();
    BASE64_STANDARD.encode([&(record.len() as u64).to_le_bytes()[..], &record].concat())
}

/// A number as protobuf writes it.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A process's name as the kernel keeps it.
pub(super) fn comm(name: &str) -> &str {
    name.get(..15).unwrap_or(name)
}

fn containerd_version(machine: &Machine) -> Option<String> {
    let url = machine.files.text(&format!("{}/containerd", layout::INSTALLED));
    let ours = url.and_then(|record| {
        Some(record.lines().next()?.split("/download/").nth(1)?.split('/').next()?.to_owned())
    });
    ours.or_else(|| machine.own_containerd.clone())
}

fn files(files: &Files, f: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    let kubernetes = [layout::KUBERNETES_DIR, layout::PKI_DIR, layout::ETCD_PKI_DIR, layout::MANIFESTS_DIR];
    for path in kubernetes.into_iter().chain([layout::ETCD_DATA_DIR, layout::AUDIT_LOG_DIR]) {
        if let Some(Entry::Folder { mode }) = files.resolve(path) {
            f(format_args!("file {mode:o} {} folder {path}", layout::owner_of(path)));
        }
    }
    for root in roots() {
        for (path, entry) in files.below(&root) {
            let mode = match entry {
                Entry::File { mode, .. } => *mode,
                Entry::Link { .. } => 0o777,
                Entry::Folder { .. } => continue,
            };
            if let Some(sha) = files.sha256(path) {
                f(format_args!("file {mode:o} 0:0 {sha} {path}"));
            }
        }
    }
}

/// Where the script looks for files, from the script itself.
fn roots() -> Vec<String> {
    // Variables of one letter that stand for folders, such as K=/etc/kubernetes.
    let mut text = SCRIPT.text.to_owned();
    let folders = SCRIPT.text.split_whitespace().filter_map(|word| word.split_once("=/"));
    for (name, path) in folders.filter(|(name, _)| name.len() == 1) {
        text = text
            .replace(&format!("${name}/"), &format!("/{path}/"))
            .replace(&format!("${name} "), &format!("/{path} "));
    }
    let after = text.split("<(find -L ").nth(1).unwrap_or_default();
    let words = after.split_whitespace().take_while(|word| *word != "-type");
    words.filter(|word| word.starts_with('/')).flat_map(expanded).collect()
}

/// What bash makes of `a{b,c}d`.
fn expanded(word: &str) -> Vec<String> {
    let braces = word.split_once('{').and_then(|(head, rest)| Some((head, rest.split_once('}')?)));
    let Some((head, (choices, tail))) = braces else { return vec![word.to_owned()] };
    choices.split(',').flat_map(|choice| expanded(&format!("{head}{choice}{tail}"))).collect()
}

fn certificates(files: &Files, f: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    for (path, entry) in files.all() {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let wanted = path.ends_with(".crt") && [layout::PKI_DIR, layout::ETCD_PKI_DIR].contains(&folder);
        if matches!(entry, Entry::File { .. }) && (wanted || path == layout::KUBELET_SERVING_CERT) {
            f(format_args!("cert {path} {}", base64_of(&files.text(path).unwrap_or_default())));
        }
        let kubelets = path == layout::KUBELET_SERVING_KEY;
        if path.ends_with(".key") && [layout::PKI_DIR, layout::ETCD_PKI_DIR].contains(&folder) || kubelets {
            let text = files.text(path).unwrap_or_default();
            let body = base64_of(&text);
            let is_whole = |head: &str, length: usize| body.len() == length && body.starts_with(head);
            if body.is_empty() || !text.contains("-----END ") {
                f(format_args!("key {path} "));
            } else if is_whole("MHcCAQE", 164) || is_whole("MIGHAgEAMBM", 184) {
                f(format_args!("key {path} {}", &body[body.len() - 88..]));
            }
        }
        if path.ends_with(".conf") && folder == layout::KUBERNETES_DIR {
            f(format_args!("kubeconfig {path} {}", kubeconfig(&files.text(path).unwrap_or_default())));
        }
    }
    if let Some(text) = files.text(layout::KUBELET_CLIENT_CURRENT) {
        let block = text.split("-----END CERT").next().unwrap_or_default();
        let block = block.split("BEGIN CERTIFICATE-----").nth(1).unwrap_or_default();
        f(format_args!("cert {} {}", layout::KUBELET_CLIENT_CURRENT, base64_of(block)));
    }
}

fn base64_of(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

fn kubeconfig(text: &str) -> String {
    let field = |name: &str| {
        let mut words = text.lines().map(str::split_whitespace);
        words
            .find_map(|mut w| (w.next() == Some(name)).then(|| w.next().unwrap_or("-").to_owned()))
            .unwrap_or("-".into())
    };
    [field("server:"), field("certificate-authority-data:"), field("client-certificate-data:")].join(" ")
}

fn rest(machine: &Machine, f: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    let files = &machine.files;
    let manifest = files.text(layout::ETCD_MANIFEST).unwrap_or_default();
    for flag in manifest.lines().filter_map(|l| l.trim_start().strip_prefix("- --")) {
        f(format_args!("etcd-flag {flag}"));
    }
    let kept = files.text(layout::ETCD_MANIFEST_ASIDE).unwrap_or_default();
    for flag in kept.lines().filter_map(|l| l.trim_start().strip_prefix("- --")) {
        f(format_args!("kept-flag {flag}"));
    }
    if let Some(image) = manifest.lines().find_map(|l| l.trim_start().strip_prefix("image: ")) {
        f(format_args!("etcd-image {image}"));
    }
    if let Some(config) = files.text(layout::CNI_CONFIG) {
        let subnet = quoted_after("\"subnet\": ", &config).unwrap_or_default();
        f(format_args!("pod-subnet {subnet}"));
    }
    let script = files.text(layout::NETWORK_SCRIPT).unwrap_or_default();
    for (subnet, address) in crate::manifests::routes_of_script(&script) {
        f(format_args!("pod-route {subnet} {address}"));
    }
    for (path, _) in files.below(layout::CONTAINERD_HOSTS_DIR).chain(files.below(layout::CONTAINERD_UNIT)) {
        if files.text(path).is_some_and(|text| text.starts_with("# Written by rsadm")) {
            f(format_args!("ours {path}"));
        }
    }
    let manifests = ["kube-apiserver", "kube-controller-manager"].map(layout::manifest_of);
    let places = [layout::NETWORK_SCRIPT, layout::KUBELET_CONFIG];
    for path in places.into_iter().chain(manifests.iter().map(String::as_str)) {
        for (key, value) in network_in(path, &files.text(path).unwrap_or_default()) {
            f(format_args!("network {key} {value}"));
        }
    }
    for (key, value) in cgroups_in(&files.text(layout::KUBELET_CONFIG).unwrap_or_default()) {
        f(format_args!("network {key} {value}"));
    }
    let backup = files.text(layout::BACKUP_CONFIG).unwrap_or_default();
    if let Some(target) = quoted_after("\"made\": ", &backup) {
        f(format_args!("backup-target {target}"));
    }
    if let Some(data) = machine.etcd_data() {
        f(format_args!("etcd-data 16384"));
        if !files.has(layout::IDENTITY) {
            f(format_args!("etcd-writer {}", head_of_log(&data)));
        }
    }
    for (setting, line) in [
        ("ipv4/ip_forward", "net.ipv4.ip_forward = 1"),
        ("bridge/bridge-nf-call-iptables", "-net.bridge.bridge-nf-call-iptables = 1"),
    ] {
        if setting.starts_with("bridge/") && !machine.kernel.contains(BRIDGE_FILTER) {
            continue;
        }
        f(format_args!("net {setting} {}", u8::from(machine.kernel.contains(line))));
    }
    let waits = files.below(super::restore::WAITING).any(|(path, _)| path.ends_with(".yaml"));
    let over = files.has(super::restore::OVER) && !waits;
    if let Some(token) = files.text(super::restore::TOKEN).filter(|_| !over) {
        f(format_args!("restoring {}", token.trim_end()));
    }
    if let Some(cluster) = files.text(super::scripts::BEFORE) {
        f(format_args!("begun {}", cluster.trim_end()));
    }
    if let Some(identity) = files.text(layout::IDENTITY) {
        f(format_args!("identity {}", identity.trim_end()));
    }
    for (path, _) in files.below(layout::INSTALLED) {
        let Some(record) = files.text(path) else { continue };
        let mut lines = record.lines();
        let url = lines.next().unwrap_or_default();
        let kept = lines.filter_map(|l| l.split_once(' ')).all(|(sha, file)| files.sha256(file) == Some(sha));
        let name = path.rsplit('/').next().unwrap_or_default();
        f(format_args!("program {name} {} {url}", if kept { "kept" } else { "changed" }));
    }
    if machine.has_containerd() {
        machine.images.iter().for_each(|image| f(format_args!("image {image}")));
    }
}
