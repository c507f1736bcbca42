//! Hosts that cannot be used, all in one table, with what an operator can do about each kind of failure.

use std::{collections::BTreeMap, fmt};

use serde_json::json;

use crate::{
    cli::{error::CliError, exit::Exit, prompt::SUDO_PASSWORD_VARIABLE, shell::quoted},
    event::count,
    host::{ConnectKind, HostError},
    inventory::{Cluster, Node, NodeName, Role, Ssh},
    plan::quorum::quorum,
    ui::{
        lines::one_line,
        text::{indent, table},
    },
};

impl CliError {
    /// At least one of the `asked` hosts could not be used. The cluster gives the ssh commands that hints name.
    pub fn unreachable(errors: &[HostError], cluster: &Cluster, asked: usize) -> Self {
        let hosts: Vec<_> = errors.iter().map(|e| json!({"host": e.host(), "message": reason(e)})).collect();
        let error = Unreachable { errors: errors.to_vec(), asked };
        let error = Self::new(Exit::Unreachable, error).detail("hosts", json!(hosts));
        hints(errors, cluster).into_iter().fold(error, Self::hint)
    }
}

#[derive(Debug)]
struct Unreachable {
    errors: Vec<HostError>,
    asked: usize,
}

impl std::error::Error for Unreachable {}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.errors.as_slice() {
            return write!(f, "{}", one_line(&only.to_string()));
        }
        let rows: Vec<[String; 2]> =
            self.errors.iter().map(|e| [e.host().to_string(), one_line(&reason(e))]).collect();
        let table = indent(&table(&rows), 2);
        write!(f, "{}\n{}", unusable(rows.len(), self.asked), table.trim_end())
    }
}

/// How many cannot be used, of those that were asked: not all commands need every host of the inventory.
pub(super) fn unusable(hosts: usize, asked: usize) -> String {
    format!("{hosts} of {} cannot be used", count(asked, "host"))
}

/// What happened, without the host's name, which stands beside it.
fn reason(error: &HostError) -> String {
    match error {
        HostError::Connect { why, .. } => format!("could not connect: {why}"),
        HostError::Lost { doing, why, .. } => format!("lost the connection while it was to {doing}: {why}"),
        HostError::Hangs { doing, why, .. } => format!("was to {doing}, and hangs: {why}"),
        HostError::Overtaken { why, .. } => format!("another run came to it meanwhile: {why}"),
        HostError::Sudo { why, .. } => format!("could not become root: {why}"),
    }
}

/// What `host::ssh` says where there is no ssh to run.
const NO_SSH: &str = "the ssh program is not installed";
/// ssh's word for an address that no resolver knows, ours or the jump host's (OpenSSH, `sshconnect.c`).
const UNKNOWN_NAME: &str = "Could not resolve hostname";
/// The jump host's sshd has the resolver's own word.
const UNKNOWN_TO_JUMP_HOST: &str = "could not reach it: Name or service not known";

/// sshd's word where its settings forbid what a jump host is for (OpenSSH, `channels.c`).
const PROHIBITED: &str = "administratively prohibited";

/// What `host::ssh` puts before what the jump host's ssh says.
const JUMP_HOST: &str = "jump host: ";

/// Failures that have one remedy, in the order in which remedies are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Remedy {
    ChangedHostKey,
    UnknownHostKey,
    Denied,
    Sudo,
    NoSsh,
    UnknownName,
    JumpHost,
    Forwarding,
    Unreachable,
    Slow,
    Other,
    Hangs,
    Lost,
    Overtaken,
}

fn remedy(error: &HostError) -> Remedy {
    match error {
        HostError::Connect { why, .. } if why.contains(NO_SSH) => Remedy::NoSsh,
        HostError::Connect { why, .. }
            if why.contains(UNKNOWN_NAME) || why.contains(UNKNOWN_TO_JUMP_HOST) =>
        {
            Remedy::UnknownName
        }
        HostError::Connect { kind: ConnectKind::UnknownHostKey, .. } => Remedy::UnknownHostKey,
        HostError::Connect { kind: ConnectKind::ChangedHostKey, .. } => Remedy::ChangedHostKey,
        HostError::Connect { kind: ConnectKind::Denied, .. } => Remedy::Denied,
        HostError::Connect { kind: ConnectKind::Unreachable, why, .. } if why.starts_with(JUMP_HOST) => {
            Remedy::JumpHost
        }
        HostError::Connect { kind: ConnectKind::Unreachable, .. } => Remedy::Unreachable,
        HostError::Connect { kind: ConnectKind::Slow, .. } => Remedy::Slow,
        HostError::Connect { kind: ConnectKind::Other, why, .. } if why.contains(PROHIBITED) => {
            Remedy::Forwarding
        }
        HostError::Connect { kind: ConnectKind::Other, .. } => Remedy::Other,
        HostError::Hangs { .. } => Remedy::Hangs,
        HostError::Lost { .. } => Remedy::Lost,
        HostError::Overtaken { .. } => Remedy::Overtaken,
        HostError::Sudo { .. } => Remedy::Sudo,
    }
}

/// One hint per remedy, which names its hosts and shows the command for the first of them.
fn hints(errors: &[HostError], cluster: &Cluster) -> Vec<String> {
    let mut groups: BTreeMap<Remedy, Vec<&NodeName>> = BTreeMap::new();
    for error in errors {
        groups.entry(remedy(error)).or_default().push(error.host());
    }
    groups
        .into_iter()
        .filter_map(|(remedy, hosts)| {
            let example = cluster.node(hosts.first()?)?;
            let names: Vec<&str> = hosts.iter().map(|h| h.as_str()).collect();
            Some(match errors.len() {
                1 => advice(remedy, example, ""),
                _ => {
                    let whose = format!("for {}: ", example.name);
                    let whose = if hosts.len() == 1 { "" } else { &whose };
                    format!("{}: {}", names.join(", "), advice(remedy, example, whose))
                }
            })
        })
        .collect()
}

/// How to go on for good without hosts of etcd's that give no answer, where those that do are a majority. `inventory` is
/// as it has to be typed.
pub(super) fn way_without(errors: &[HostError], cluster: &Cluster, inventory: &str) -> Option<String> {
    let members: Vec<&NodeName> = cluster.with_role(Role::Etcd).map(|n| &n.name).collect();
    let missing = errors.iter().filter(|e| members.contains(&e.host()));
    let (gone, missing): (Vec<&HostError>, usize) =
        (missing.clone().filter(|e| may_be_gone(e)).collect(), missing.count());
    let first = gone.first()?.host();
    if members.len() - missing < quorum(members.len()) {
        return None;
    }
    let names: Vec<&str> = gone.iter().map(|e| e.host().as_str()).collect();
    let which = match names[..] {
        [only] => format!("if {only} is gone for good"),
        _ => format!("those of {} that are gone for good, one after the other", names.join(", ")),
    };
    Some(format!(
        "{which}: rsadm etcd replace{inventory} {first} NEW_HOST, or rsadm etcd remove{inventory} {first}"
    ))
}

/// Whoever answers and only lets nobody in is there.
fn may_be_gone(error: &HostError) -> bool {
    matches!(remedy(error), Remedy::UnknownName | Remedy::Unreachable | Remedy::Slow)
}

/// `whose` stands before a command that is one host's, where the advice is for several.
fn advice(remedy: Remedy, node: &Node, whose: &str) -> String {
    let command = ssh_command(node);
    let ssh = format!("{whose}{command}");
    let user = &node.ssh.user;
    match remedy {
        Remedy::UnknownHostKey => format!(
            "connect once by hand and compare the fingerprint with the host's own: {ssh}\n\
             or trust unknown keys at first sight: ssh.host_key_check: accept-new in the inventory"
        ),
        Remedy::ChangedHostKey => format!(
            "either the host was installed anew, or something else answers in its place; find out which first\n\
             if it was installed anew: {whose}ssh-keygen -R {}, then {command}",
            known_hosts_entry(node)
        ),
        Remedy::Denied => format!(
            "the host accepts no key of yours for {user}; try {ssh}\n\
             check ssh.user and ssh.key_path in the inventory, and ssh-add -l where an agent holds the key"
        ),
        Remedy::Sudo => format!(
            "let {user} use sudo without a password, or give it: --ask-sudo-password or {SUDO_PASSWORD_VARIABLE}"
        ),
        Remedy::NoSsh => "install OpenSSH's client here; the hosts' own is of no use for that".to_owned(),
        Remedy::UnknownName => {
            "is the name right in the inventory, and known to DNS or /etc/hosts where it is looked up? \
                                an IP address does as well"
                .to_owned()
        }
        Remedy::JumpHost => format!(
            "the jump host is not reached: is it on, and are address and port of ssh.bastion right in the inventory? \
             try {whose}{}",
            ssh_to_bastion(node)
        ),
        Remedy::Forwarding => format!(
            "in sshd_config on the jump host: AllowTcpForwarding yes, or local, and a PermitOpen that has {}:{}, or none",
            node.address, node.ssh.port
        ),
        Remedy::Unreachable => {
            format!("is it on, and are address, port and bastion right in the inventory? try {ssh}")
        }
        Remedy::Slow => format!(
            "is it on, and are address, port and bastion right in the inventory? try {ssh}\n\
             where it, or its sudo, is only slow: --timeout 1m"
        ),
        Remedy::Other => format!("see what ssh says: {}", ssh.replacen("ssh", "ssh -v", 1)),
        Remedy::Hangs => format!(
            "a disk, systemd or containerd that gives no answer would do that: {ssh}, then dmesg, df, systemctl, ctr version\n\
             run the same command again afterwards: it goes on from what it finds"
        ),
        Remedy::Lost => "run the same command again: it goes on from what it finds".to_owned(),
        Remedy::Overtaken => "this run was away: its computer slept, or it was stopped; run the same command again once the other is \
             over: it looks at the hosts anew"
            .to_owned(),
    }
}

/// What an operator types to get where rsadm could not.
fn ssh_command(node: &Node) -> String {
    let Ssh { user, port, bastion, .. } = &node.ssh;
    let jump = bastion.as_ref().map(|bastion| format!(" -J {bastion}")).unwrap_or_default();
    let port = if *port == 22 { String::new() } else { format!(" -p {port}") };
    format!("ssh{jump}{}{port} {user}@{}", files(&node.ssh), node.address)
}

/// What both ssh and the jump host's are given.
fn files(Ssh { key_path, known_hosts_path, .. }: &Ssh) -> String {
    let key = key_path.as_ref().map(|key| format!(" -i {}", quoted(key.display())));
    let known = known_hosts_path
        .as_ref()
        .map(|file| format!(" -o {}", quoted(format!("UserKnownHostsFile={}", file.display()))));
    key.unwrap_or_default() + &known.unwrap_or_default()
}

/// The same for the jump host alone, which is `[user@]address[:port]`.
fn ssh_to_bastion(node: &Node) -> String {
    let bastion = node.ssh.bastion.as_deref().unwrap_or_default();
    let is_number = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let (host, port) = match bastion.rsplit_once(':').filter(|(_, port)| is_number(port)) {
        Some((host, port)) => (host, format!(" -p {port}")),
        None => (bastion, String::new()),
    };
    format!("ssh{}{port} {}", files(&node.ssh), host.replace(['[', ']'], ""))
}

/// How ssh writes the host into known_hosts, and into which file where that is not its own.
fn known_hosts_entry(node: &Node) -> String {
    let name = match node.ssh.port {
        22 => node.address.clone(),
        port => quoted(format!("[{}]:{port}", node.address)),
    };
    match &node.ssh.known_hosts_path {
        None => name,
        Some(file) => format!("{name} -f {}", quoted(file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inventory::load, ui::lines::Style};

    const INVENTORY: &str = "
cluster_name: prod
kubernetes_version: v1.34.0
ssh: {user: ops, port: 2222, key_path: /keys/ops}
hosts:
  - {name: m1, address: 198.51.100.1, roles: [control-plane, etcd]}
  - {name: m2, address: 198.51.100.2, roles: [control-plane, etcd]}
  - {name: m3, address: m3.example.org, internal_address: 10.0.0.3, roles: [control-plane, etcd]}
";

    fn connect(host: &str, kind: ConnectKind, why: &str) -> HostError {
        HostError::Connect { host: NodeName::new(host), kind, why: why.into() }
    }

    fn shown(errors: &[HostError]) -> String {
        let cluster = load(INVENTORY, "inventory.yaml", None).unwrap().cluster;
        let error = CliError::unreachable(errors, &cluster, cluster.nodes.len());
        assert_eq!(error.kind(), Exit::Unreachable);
        error.text(Style { color: false })
    }

    #[test]
    fn several_hosts_are_one_table_and_one_hint_per_remedy() {
        insta::assert_snapshot!(shown(&[
            connect(
                "m1",
                ConnectKind::Unreachable,
                "connect to host 198.51.100.1 port 2222:\nConnection refused"
            ),
            connect("m2", ConnectKind::UnknownHostKey, "Host key verification failed."),
            connect("m3", ConnectKind::UnknownHostKey, "Host key verification failed."),
        ]));
    }

    #[test]
    fn the_way_on_without_a_host_is_told_where_a_majority_answers() {
        let cluster = load(INVENTORY, "inventory.yaml", None).unwrap().cluster;
        let off = |host: &str| connect(host, ConnectKind::Unreachable, "No route to host");
        let way = |errors: &[HostError]| way_without(errors, &cluster, " prod.yaml");
        insta::assert_snapshot!(way(&[off("m3")]).unwrap(), @"if m3 is gone for good: rsadm etcd replace prod.yaml m3 NEW_HOST, or rsadm etcd remove prod.yaml m3");
        let denied = || connect("m2", ConnectKind::Denied, "Permission denied (publickey).");
        for there in [vec![off("w1")], vec![denied()], vec![off("m2"), off("m3")], vec![off("m3"), denied()]]
        {
            assert_eq!(way(&there), None, "{there:?}");
        }
        let mut five = cluster.clone();
        five.nodes
            .extend(["m4", "m5"].map(|name| Node { name: NodeName::new(name), ..cluster.nodes[2].clone() }));
        let way = way_without(&[off("m1"), off("w1"), off("m4")], &five, "");
        insta::assert_snapshot!(way.unwrap(), @"those of m1, m4 that are gone for good, one after the other: rsadm etcd replace m1 NEW_HOST, or rsadm etcd remove m1");
    }

    /// The hosts behind it may all be well.
    #[test]
    fn a_jump_host_that_is_not_reached_is_what_is_tried() {
        for (bastion, command) in [
            ("{address: 127.0.0.9, port: 9}", "ssh -i /keys/ops -p 9 127.0.0.9"),
            ("{address: jump, user: j}", "ssh -i /keys/ops j@jump"),
            ("{address: 'fd00::1', port: 23}", "ssh -i /keys/ops -p 23 fd00::1"),
            ("{address: 'fd00::1'}", "ssh -i /keys/ops fd00::1"),
        ] {
            let text = INVENTORY.replace("port: 2222", &format!("bastion: {bastion}"));
            let cluster = load(&text, "inventory.yaml", None).unwrap().cluster;
            let why = "jump host: connect to host 127.0.0.9 port 9: Connection refused";
            let error = connect("m1", ConnectKind::Unreachable, why);
            assert_eq!(
                hints(std::slice::from_ref(&error), &cluster),
                [format!(
                    "the jump host is not reached: is it on, and are address and port of ssh.bastion right in the \
                     inventory? try {command}"
                )]
            );
            assert_eq!(way_without(&[error], &cluster, ""), None);
        }
    }

    /// One that leads nowhere is well: the host behind it is off, as it would be without.
    #[test]
    fn a_host_that_the_jump_host_does_not_reach_may_be_gone() {
        let text = INVENTORY.replace("port: 2222", "bastion: {address: jump}");
        let cluster = load(&text, "inventory.yaml", None).unwrap().cluster;
        let told = |kind, why: &str| {
            let error = [connect("m1", kind, why)];
            (hints(&error, &cluster).concat(), way_without(&error, &cluster, "").is_some())
        };
        let prohibited = "jump host: it forwards no connection there: administratively prohibited";
        let seen = [
            told(ConnectKind::Unreachable, "the jump host could not reach it: No route to host"),
            told(ConnectKind::Unreachable, "the jump host could not reach it: Name or service not known"),
            told(ConnectKind::Other, prohibited),
        ];
        assert_eq!(seen.each_ref().map(|(_, may_be_gone)| *may_be_gone), [true, true, false]);
        insta::assert_snapshot!(seen.map(|(hint, _)| hint).join("\n"), @"
        is it on, and are address, port and bastion right in the inventory? try ssh -J jump -i /keys/ops ops@198.51.100.1
        is the name right in the inventory, and known to DNS or /etc/hosts where it is looked up? an IP address does as well
        in sshd_config on the jump host: AllowTcpForwarding yes, or local, and a PermitOpen that has 198.51.100.1:22, or none
        ");
    }

    /// Else the advice would be about a file that rsadm does not read.
    #[test]
    fn a_known_hosts_file_of_the_inventory_is_named() {
        let text = INVENTORY.replace("port: 2222", "known_hosts_path: '/my keys/known'");
        let cluster = load(&text, "inventory.yaml", None).unwrap().cluster;
        insta::assert_snapshot!(advice(Remedy::ChangedHostKey, &cluster.nodes[0], ""), @"
        either the host was installed anew, or something else answers in its place; find out which first
        if it was installed anew: ssh-keygen -R 198.51.100.1 -f '/my keys/known', then ssh -i /keys/ops -o 'UserKnownHostsFile=/my keys/known' ops@198.51.100.1
        ");
    }

    #[test]
    fn each_kind_of_failure_has_its_remedy() {
        let m1 = || NodeName::new("m1");
        let errors = [
            connect("m1", ConnectKind::UnknownHostKey, "no key known"),
            connect("m1", ConnectKind::ChangedHostKey, "another key known"),
            connect("m1", ConnectKind::Denied, "Permission denied (publickey)."),
            connect("m1", ConnectKind::Unreachable, "No route to host"),
            connect("m1", ConnectKind::Slow, "logged in, and sudo gave no shell within 14.0 s"),
            connect("m1", ConnectKind::Other, "Bad configuration option"),
            connect(
                "m1",
                ConnectKind::Unreachable,
                "Could not resolve hostname m1: Name or service not known",
            ),
            connect("m1", ConnectKind::Other, "the ssh program is not installed on this machine"),
            HostError::Lost { host: m1(), doing: "start etcd".into(), why: "closed by remote host".into() },
            HostError::Hangs {
                host: m1(),
                doing: "look around".into(),
                why: "no answer within 30.0 s; the last that it told was `swap`".into(),
            },
            HostError::Sudo { host: m1(), why: "a password is required".into() },
            HostError::Overtaken { host: m1(), why: "rsadm up by ann@desk (pid 17)".into() },
        ];
        let all: Vec<String> = errors.into_iter().map(|e| shown(&[e])).collect();
        insta::assert_snapshot!(all.join("\n"));
    }
}
