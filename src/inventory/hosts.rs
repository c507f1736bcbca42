//! `hosts` and `ssh`: each host by itself, with the cluster's SSH settings filled in.
//!
//! Every key of `ssh` may stand on a host too, and then holds for that host.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path as FsPath, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::{
    cluster::{Node, NodeName, Role, Taint},
    draft::{duration, file_of, file_path},
    problem::{Fault, Path, quote},
    read::{Field, Section, choice, of_text, port, text, truth},
    settings::{HostKeyCheck, Ssh},
    syntax,
};

/// One host as far as it could be read. What is missing here has been reported already.
pub(super) struct HostDraft {
    pub(super) path: Path,
    pub(super) name: Option<NodeName>,
    pub(super) address: Option<String>,
    pub(super) internal_address: Option<Ipv4Addr>,
    pub(super) ssh: Ssh,
    /// False where the host's own port could not be read, so that the address alone says nothing.
    pub(super) is_port_known: bool,
    /// Where the file says ssh's port: on the host, or for all; `None` where it does not.
    pub(super) port_key: Option<Path>,
    /// `None` where an entry could not be read, so that nothing is concluded from the rest.
    pub(super) roles: Option<Vec<Role>>,
    pub(super) labels: BTreeMap<String, String>,
    /// `None` where the inventory has no list.
    pub(super) taints: Option<Vec<Taint>>,
}

impl HostDraft {
    /// True where the role is known to be among the host's.
    pub(super) fn is(&self, role: Role) -> bool {
        self.roles.as_ref().is_some_and(|roles| roles.contains(&role))
    }

    /// The name for messages, or the path where there is none.
    pub(super) fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.path.to_string(), ToString::to_string)
    }

    /// The node, where everything could be read.
    pub(super) fn finish(self) -> Option<Node> {
        let roles = self.roles?;
        let taints = self.taints.unwrap_or_else(|| default_taints(&roles));
        Some(Node {
            name: self.name?,
            address: self.address?,
            internal_address: self.internal_address?,
            ssh: self.ssh,
            roles,
            labels: self.labels,
            taints,
        })
    }
}

/// kubeadm's: a control plane that is no worker takes no ordinary pods.
fn default_taints(roles: &[Role]) -> Vec<Taint> {
    if !roles.contains(&Role::ControlPlane) || roles.contains(&Role::Worker) {
        return Vec::new();
    }
    let key = "node-role.kubernetes.io/control-plane".to_owned();
    vec![Taint { key, value: String::new(), effect: "NoSchedule".to_owned() }]
}

/// SSH settings of which some may be missing.
#[derive(Clone, Default)]
pub(super) struct SshDraft {
    user: Option<String>,
    port: Option<u16>,
    key_path: Option<PathBuf>,
    known_hosts_path: Option<PathBuf>,
    become_root: Option<bool>,
    host_key_check: Option<HostKeyCheck>,
    bastion: Option<String>,
    control_persist: Option<Duration>,
}

impl SshDraft {
    /// The section `ssh`.
    pub(super) fn of_section(section: Section<'_>, home: Option<&FsPath>) -> Self {
        let ssh = Self::read(&section, home);
        section.finish();
        ssh
    }

    fn read(section: &Section<'_>, home: Option<&FsPath>) -> Self {
        const NO_KEY: &str = "ssh-keygen makes one; without key_path ssh's own keys and agent are used";
        const CHECKS: &[(&str, HostKeyCheck)] =
            &[("strict", HostKeyCheck::Strict), ("accept-new", HostKeyCheck::AcceptNew)];
        Self {
            user: section.optional("user", of_text(syntax::user)),
            port: section.optional("port", port),
            key_path: file_of(section, "key_path", home, NO_KEY),
            known_hosts_path: section.optional("known_hosts_path", file_path(home)),
            become_root: section.optional("become", truth),
            host_key_check: section.optional("host_key_check", choice(CHECKS)),
            bastion: section.has("bastion").then(|| bastion(section.section("bastion"))).flatten(),
            control_persist: section.optional("control_persist", idle_time),
        }
    }

    /// These settings laid over the cluster's, the rest by default.
    fn over(self, base: &Self) -> Ssh {
        let base = base.clone();
        let user = self.user.or(base.user).unwrap_or_else(|| "root".to_owned());
        Ssh {
            port: self.port.or(base.port).unwrap_or(22),
            key_path: self.key_path.or(base.key_path),
            known_hosts_path: self.known_hosts_path.or(base.known_hosts_path),
            become_root: self.become_root.or(base.become_root).unwrap_or(user != "root"),
            host_key_check: self.host_key_check.or(base.host_key_check).unwrap_or(HostKeyCheck::Strict),
            bastion: self.bastion.or(base.bastion),
            control_persist: self.control_persist.or(base.control_persist).unwrap_or_default(),
            user,
        }
    }
}

/// For how long a connection may be open that nobody uses, and that whoever becomes its user may use.
fn idle_time(value: &Value) -> Result<Duration, Fault> {
    let (shortest, longest) = (Duration::from_secs(10), Duration::from_secs(600));
    match duration(value)? {
        time if time.is_zero() || (shortest..=longest).contains(&time) => Ok(time),
        _ => {
            let help = "0, or 10s to 10m: 60s spares the next command its logins, 0 ends connections with each command";
            Err(Fault::new("connections wait for no such time", help))
        }
    }
}

/// `[user@]address[:port]`, as ssh's `-J` takes it.
fn bastion(section: Section<'_>) -> Option<String> {
    let user = section.optional("user", of_text(syntax::user));
    let port = section.optional("port", port);
    let help = "the address of the jump host";
    let address = section.required("address", help, of_text(syntax::ssh_host));
    section.finish();
    let address = address?;
    let address = if address.contains(':') { format!("[{address}]") } else { address };
    let user = user.map(|u| format!("{u}@")).unwrap_or_default();
    let port = port.map(|p| format!(":{p}")).unwrap_or_default();
    Some(format!("{user}{address}{port}"))
}

/// All hosts, in the order of the file.
pub(super) fn read(top: &Section<'_>, ssh: &SshDraft, home: Option<&FsPath>) -> Vec<HostDraft> {
    let help = "a list of hosts; `rsadm init HOST…` prints a file to start from";
    let Some(hosts) = top.required("hosts", help, |_| Ok(())).and_then(|()| top.field("hosts")) else {
        return Vec::new();
    };
    let items = hosts.items_else("each host begins with `- name:`");
    if hosts.value.as_array().is_some_and(Vec::is_empty) {
        top.findings.error(&hosts.path, "no host", help);
    }
    items.iter().map(|item| host(item, ssh, home)).collect()
}

fn host(item: &Field<'_>, base: &SshDraft, home: Option<&FsPath>) -> HostDraft {
    let section = item.section();
    let name_help = "the host's name, for example m1; it names its Kubernetes node and etcd member";
    let name = section.required("name", name_help, of_text(syntax::node_name));
    let address_help = "the address or DNS name that ssh dials";
    let address = section.required("address", address_help, of_text(syntax::ssh_host));
    let internal_address = internal_address(&section, address.as_deref());
    let ssh = SshDraft::read(&section, home);
    let host = HostDraft {
        path: item.path.clone(),
        name,
        internal_address,
        address,
        is_port_known: ssh.port.is_some() || !section.has("port"),
        ssh: ssh.over(base),
        port_key: match (section.has("port"), base.port) {
            (true, _) => Some(item.path.key("port")),
            (false, Some(_)) => Some(Path::default().key("ssh").key("port")),
            (false, None) => None,
        },
        roles: roles(&section),
        labels: section.entries("labels", label),
        taints: section.list("taints", of_text(syntax::taint)),
    };
    section.finish_but(&[("ssh", "write its keys directly on the host: `user: root`, `port: 2222`")], "");
    check_root(item, &host.ssh);
    host
}

fn check_root(item: &Field<'_>, ssh: &Ssh) {
    if ssh.become_root || ssh.user == "root" {
        return;
    }
    let has = |key| item.value.get(key).is_some();
    let path = match (has("become"), has("user")) {
        (true, _) => item.path.key("become"),
        (_, true) => item.path.key("user"),
        _ => Path::default().key("ssh").key("become"),
    };
    let message = format!("user {} without sudo", quote(&ssh.user));
    item.findings().error(&path, message, "become: true, or user: root; what rsadm does needs root");
}

fn internal_address(section: &Section<'_>, address: Option<&str>) -> Option<Ipv4Addr> {
    if section.has("internal_address") {
        return section.optional("internal_address", of_text(syntax::internal_address));
    }
    // Without a readable address there is nothing to conclude from.
    let address = address?;
    let path = section.path.key("address");
    let help = "add internal_address: the IPv4 address by which the other hosts reach this one";
    let Ok(v4) = address.parse::<Ipv4Addr>() else {
        let message = format!("{address} is no IPv4 address, so it cannot be the internal one");
        match section.is_empty("internal_address") {
            // As `init` leaves it.
            true => section.findings.key(
                &section.path.key("internal_address"),
                format!("empty, and {message}"),
                "the IPv4 address by which the other hosts reach this one, for example 10.0.0.1",
            ),
            false => section.findings.error(&path, message, help),
        }
        return None;
    };
    match syntax::unusable(v4) {
        Some(why) => {
            section.findings.error(&path, format!("{v4} {why}"), help);
            None
        }
        None => Some(v4),
    }
}

fn roles(section: &Section<'_>) -> Option<Vec<Role>> {
    let help = "a list of control-plane, etcd, worker";
    section.required("roles", help, |_| Ok(()))?;
    let items = section.field("roles")?.items();
    let mut roles = Vec::new();
    let mut is_whole = true;
    for item in &items {
        match item.parse(role) {
            Some(role) if roles.contains(&role) => {
                item.findings().error(&item.path, "the role is already in the list", "remove one of the two");
            }
            Some(role) => roles.push(role),
            None => is_whole = false,
        }
    }
    if items.is_empty() {
        let path = section.path.key("roles");
        if section.field("roles").is_some_and(|f| f.value.is_array()) {
            section.findings.error(&path, "no role", help);
        }
        return None;
    }
    is_whole.then_some(roles)
}

fn role(value: &Value) -> Result<Role, Fault> {
    let help = "one of control-plane, etcd, worker";
    match text(value).map_err(|fault| Fault { help: help.into(), ..fault })? {
        "control-plane" | "controlplane" | "master" => Ok(Role::ControlPlane),
        "etcd" => Ok(Role::Etcd),
        "worker" => Ok(Role::Worker),
        word => Err(Fault::new(format!("unknown role {}", quote(word)), help)),
    }
}

fn label(key: &str, value: &str) -> Result<(), Fault> {
    const KUBELETS: [&str; 3] = ["kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch"];
    if KUBELETS.contains(&key) {
        return Err(Fault::new("the kubelet sets this label itself", "remove it"));
    }
    if key == "node-role.kubernetes.io/control-plane" {
        return Err(Fault::new("the role control-plane brings this label", "remove it, or add the role"));
    }
    syntax::qualified_name(key)?;
    syntax::label_value(value)
}
