//! What ssh logs in to, and how an operator types that: a host, or the jump host before it.

use crate::{
    cli::shell::quoted,
    host::At,
    inventory::{Node, Ssh},
};

/// One of the two, as the inventory has it.
pub(super) struct Door<'a> {
    /// How it is called beside others.
    pub(super) what: &'static str,
    /// Who logs in; nobody where ssh's own configuration says.
    pub(super) user: Option<&'a str>,
    /// The key of the inventory that names them.
    pub(super) user_key: &'static str,
    address: &'a str,
    port: Option<u16>,
    jump: Option<&'a str>,
    ssh: &'a Ssh,
}

impl<'a> Door<'a> {
    pub(super) fn of(node: &'a Node, at: At) -> Self {
        match at {
            At::Host => Self::host(node),
            At::JumpHost => Self::jump_host(&node.ssh),
        }
    }

    fn host(node: &'a Node) -> Self {
        let ssh = &node.ssh;
        Self {
            what: "host",
            user: Some(&ssh.user),
            user_key: "ssh.user",
            address: &node.address,
            port: Some(ssh.port),
            jump: ssh.bastion.as_deref(),
            ssh,
        }
    }

    /// Of a jump host the inventory has `[user@]address[:port]`.
    fn jump_host(ssh: &'a Ssh) -> Self {
        let bastion = ssh.bastion.as_deref().unwrap_or_default();
        let (user, rest) =
            bastion.rsplit_once('@').map_or((None, bastion), |(user, rest)| (Some(user), rest));
        let split = rest.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (address, port) = match split.filter(|(host, _)| !host.contains(':') || host.ends_with(']')) {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        };
        let address = address.trim_matches(['[', ']']);
        let what = "jump host";
        Self { what, user, user_key: "ssh.bastion.user", address, port, jump: None, ssh }
    }

    /// What an operator types to get where rsadm could not. The port is named where rsadm names it, 22 as well: the
    /// operator's `~/.ssh/config` may have another.
    pub(super) fn command(&self) -> String {
        let jump = self.jump.map(|jump| format!(" -J {jump}")).unwrap_or_default();
        let port = self.port.map(|port| format!(" -p {port}")).unwrap_or_default();
        let user = self.user.map(|user| format!("{user}@")).unwrap_or_default();
        format!("ssh{jump}{}{port} {user}{}", self.files(), self.address)
    }

    /// How ssh writes it into known_hosts, and into which file where that is not its own.
    pub(super) fn known_hosts_entry(&self) -> String {
        let name = match self.port {
            None | Some(22) => self.address.to_owned(),
            Some(port) => quoted(format!("[{}]:{port}", self.address)),
        };
        match &self.ssh.known_hosts_path {
            None => name,
            Some(file) => format!("{name} -f {}", quoted(file.display())),
        }
    }

    /// What both ssh and the jump host's are given.
    fn files(&self) -> String {
        let Ssh { key_path, known_hosts_path, .. } = self.ssh;
        let key = key_path.as_ref().map(|key| format!(" -i {}", quoted(key.display())));
        let known = known_hosts_path
            .as_ref()
            .map(|file| format!(" -o {}", quoted(format!("UserKnownHostsFile={}", file.display()))));
        key.unwrap_or_default() + &known.unwrap_or_default()
    }
}
