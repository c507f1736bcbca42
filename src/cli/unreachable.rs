//! Hosts that cannot be used, all in one table, with what an operator can do about each kind of failure.

use std::{collections::BTreeMap, fmt};

use serde_json::json;

use crate::{
    cli::{error::CliError, exit::Exit, prompt::SUDO_PASSWORD_VARIABLE},
    event::count,
    host::{At, ConnectKind, HostError},
    inventory::{Cluster, Node, NodeName, Role},
    plan::quorum::quorum,
    ui::{
        lines::one_line,
        text::{indent, table},
    },
};

use door::Door;

mod door;

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
        HostError::Connect { at, why, .. } => format!("could not connect: {at}{why}"),
        HostError::Lost { doing, why, .. } => format!("lost the connection while it was to {doing}: {why}"),
        HostError::Hangs { doing, why, .. } => format!("was to {doing}, and hangs: {why}"),
        HostError::Overtaken { why, .. } => format!("another run came to it meanwhile: {why}"),
        HostError::Sudo { why, .. } => format!("could not become root: {why}"),
    }
}

/// How `remote.sh` begins where it cannot keep answers.
const NO_ROOM: &str = "no room in ";

/// bash's word where nothing can unpack what runs on the host.
const NO_GZIP: &str = "gzip: command not found";

/// Failures that have one remedy, in the order in which remedies are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Remedy {
    ChangedHostKey(At),
    UnknownHostKey(At),
    Denied(At),
    NoSudo,
    SudoTerminal,
    SudoRule,
    SudoPassword,
    Sudo,
    NoSsh,
    UnknownName,
    JumpHost,
    Forwarding,
    Unreachable,
    Slow,
    Other,
    Hangs,
    NoRoom,
    NoGzip,
    Lost,
    Overtaken,
}

/// Part of sudo's words (`sudo.c`, `logging.c`, `auth/sudo_auth.c`) → what helps. The first that is found counts.
const SUDO: &[(&str, Remedy)] = &[
    // Not sudo's, but of what was to start it, in the host's own language.
    ("env: ", Remedy::NoSudo),
    ("must have a tty", Remedy::SudoTerminal),
    ("not in the sudoers", Remedy::SudoRule),
    ("not allowed to", Remedy::SudoRule),
    ("may not run", Remedy::SudoRule),
    ("try again", Remedy::SudoPassword),
    ("incorrect password", Remedy::SudoPassword),
];

fn remedy(error: &HostError) -> Remedy {
    match error {
        HostError::Connect { kind, at, .. } => of_connection(*kind, *at),
        HostError::Hangs { .. } => Remedy::Hangs,
        HostError::Lost { why, .. } if why.contains(NO_ROOM) => Remedy::NoRoom,
        HostError::Lost { why, .. } if why.contains(NO_GZIP) => Remedy::NoGzip,
        HostError::Lost { .. } => Remedy::Lost,
        HostError::Overtaken { .. } => Remedy::Overtaken,
        HostError::Sudo { why, .. } => {
            SUDO.iter().find(|(part, _)| why.contains(part)).map_or(Remedy::Sudo, |(_, remedy)| *remedy)
        }
    }
}

fn of_connection(kind: ConnectKind, at: At) -> Remedy {
    match (kind, at) {
        (ConnectKind::UnknownHostKey, _) => Remedy::UnknownHostKey(at),
        (ConnectKind::ChangedHostKey, _) => Remedy::ChangedHostKey(at),
        (ConnectKind::Denied, _) => Remedy::Denied(at),
        (ConnectKind::NoSsh, _) => Remedy::NoSsh,
        (ConnectKind::UnknownName, _) => Remedy::UnknownName,
        (ConnectKind::Unreachable, At::JumpHost) => Remedy::JumpHost,
        (ConnectKind::Unreachable, At::Host) => Remedy::Unreachable,
        (ConnectKind::Forbids, _) => Remedy::Forwarding,
        (ConnectKind::Slow, _) => Remedy::Slow,
        (ConnectKind::Other, _) => Remedy::Other,
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
    let remove = format!("rsadm etcd remove{inventory} {first}");
    Some(match cluster.node(first).is_some_and(Node::is_kubernetes) {
        // A bare host becomes a node first, and `up` wants every host of the file.
        true => {
            format!("{which}: {remove}; then its line out of the inventory, or that of its successor instead")
        }
        false => format!("{which}: rsadm etcd replace{inventory} {first} NEW_HOST, or {remove}"),
    })
}

/// Whoever answers and only lets nobody in is there.
fn may_be_gone(error: &HostError) -> bool {
    matches!(remedy(error), Remedy::UnknownName | Remedy::Unreachable | Remedy::Slow)
}

/// `whose` stands before a command that is one host's, where the advice is for several.
fn advice(remedy: Remedy, node: &Node, whose: &str) -> String {
    let ssh = format!("{whose}{}", Door::of(node, At::Host).command());
    let user = &node.ssh.user;
    match remedy {
        Remedy::UnknownHostKey(at) => {
            let door = Door::of(node, at);
            format!(
                "connect once by hand and compare the fingerprint with the {}'s own: {whose}{}\n\
                 or trust unknown keys at first sight: ssh.host_key_check: accept-new in the inventory",
                door.what,
                door.command()
            )
        }
        Remedy::ChangedHostKey(at) => {
            let door = Door::of(node, at);
            format!(
                "either the {} was installed anew, or something else answers in its place; find out which first\n\
                 if it was installed anew: {whose}ssh-keygen -R {}, then {}",
                door.what,
                door.known_hosts_entry(),
                door.command()
            )
        }
        Remedy::Denied(at) => {
            let door = Door::of(node, at);
            let whom = door.user.map(|user| format!(" for {user}")).unwrap_or_default();
            format!(
                "the {} accepts no key of yours{whom}; try {whose}{}\n\
                 check {} and ssh.key_path in the inventory, and ssh-add -l where an agent holds the key",
                door.what,
                door.command(),
                door.user_key
            )
        }
        Remedy::NoSudo => "install sudo there, or log in as root: ssh.user: root in the inventory".to_owned(),
        Remedy::SudoTerminal => format!("in sudoers there (visudo): Defaults:{user} !requiretty"),
        Remedy::SudoRule => format!(
            "let {user} run anything there, in its sudoers (visudo): {user} ALL=(ALL) NOPASSWD: ALL, or the same without \
             NOPASSWD: and with --ask-sudo-password here"
        ),
        Remedy::SudoPassword => format!(
            "the password was not accepted: give the one that {user} has there, by --ask-sudo-password or \
             {SUDO_PASSWORD_VARIABLE}"
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
            Door::of(node, At::JumpHost).command()
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
        Remedy::NoRoom => format!(
            "make room there: {ssh}, then df -h /run /tmp, df -i /run /tmp\n\
             run the same command again afterwards: it goes on from what it finds"
        ),
        Remedy::NoGzip => format!("install gzip there: {ssh}"),
        Remedy::Lost => "run the same command again: it goes on from what it finds".to_owned(),
        Remedy::Overtaken => "this run was away: its computer slept, or it was stopped; run the same command again once the other is \
             over: it looks at the hosts anew"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
