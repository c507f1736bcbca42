//! What the tests share: operations in few words, and a real sshd with keys of its own on a free loopback port.
//! It ends with the value that stands for it.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use rsadm::{
    host::{
        Cmd, ConnectKind, Host, HostError, Op, Output, RemoteFile,
        ssh::{ControlDir, Options, SshHost},
    },
    inventory::{HostKeyCheck, Node, NodeName, Role, Ssh},
    secret::Secret,
};

/// A server and what a client needs to reach it.
pub(crate) struct Sshd {
    dir: tempfile::TempDir,
    child: Child,
    /// Where it listens.
    pub(crate) port: u16,
}

impl Sshd {
    /// Starts one, or says why there is none.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with further lines for its configuration.
    pub(crate) fn start_with(settings: &[&str]) -> Option<Self> {
        let root =
            std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        if !Path::new("/usr/sbin/sshd").exists() || !root {
            eprintln!("skipped: needs /usr/sbin/sshd and root");
            return None;
        }
        std::fs::create_dir_all("/run/sshd").unwrap();
        let dir = tempfile::tempdir().unwrap();
        for key in ["host_key", "user_key"] {
            keygen(&dir.path().join(key));
        }
        std::fs::copy(dir.path().join("user_key.pub"), dir.path().join("authorized_keys")).unwrap();
        let port = free_port();
        let mut config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host_key\nAuthorizedKeysFile {0}/authorized_keys\n\
             StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n",
            dir.path().display()
        );
        config.extend(settings.iter().map(|line| format!("{line}\n")));
        std::fs::write(dir.path().join("sshd_config"), config).unwrap();
        let sshd = Self { child: spawn(dir.path()), dir, port };
        sshd.trust_own();
        Some(sshd)
    }

    /// Ends the server; sessions live on, as with any sshd.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A file of this server's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes known_hosts hold this public key and no other; an empty text makes the file empty.
    pub(crate) fn trust(&self, key: &str) {
        let line = if key.is_empty() { String::new() } else { format!("[127.0.0.1]:{} {key}", self.port) };
        std::fs::write(self.path("known_hosts"), line).unwrap();
    }

    /// Makes known_hosts hold its own key.
    pub(crate) fn trust_own(&self) {
        self.trust(&std::fs::read_to_string(self.path("host_key.pub")).unwrap());
    }

    /// `SHA256:…` of its host key.
    pub(crate) fn fingerprint(&self) -> String {
        let shown = Command::new("ssh-keygen").arg("-lf").arg(self.path("host_key.pub")).output().unwrap();
        String::from_utf8(shown.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
    }

    /// A host of an inventory that is this server.
    pub(crate) fn node(&self) -> Node {
        let mut node = node_at("127.0.0.1", self.port);
        node.ssh.key_path = Some(self.path("user_key"));
        node.ssh.known_hosts_path = Some(self.path("known_hosts"));
        node
    }

    /// Connects as the inventory says.
    pub(crate) async fn connect(&self) -> Result<SshHost, HostError> {
        SshHost::connect(&self.node(), &options()).await
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A host m1 that root logs in to, with ssh's own keys and known hosts.
pub(crate) fn node_at(address: &str, port: u16) -> Node {
    Node {
        name: NodeName::new("m1"),
        address: address.into(),
        internal_address: std::net::Ipv4Addr::LOCALHOST,
        ssh: Ssh {
            user: "root".into(),
            port,
            key_path: None,
            known_hosts_path: None,
            become_root: false,
            host_key_check: HostKeyCheck::Strict,
            bastion: None,
            control_persist: std::time::Duration::ZERO,
        },
        roles: vec![Role::Etcd],
        labels: Default::default(),
        taints: Vec::new(),
    }
}

/// With a control folder of its own and no password.
pub(crate) fn options() -> Options {
    let control_dir = Arc::new(ControlDir::create().unwrap());
    Options { control_dir, sudo_password: None, patience: Duration::ZERO }
}

/// A command.
pub(crate) fn run(argv: &[&str]) -> Op {
    Op::Run(Cmd::new(argv.iter().copied()))
}

/// A line of bash that finds the number of its connection's own sshd process: an ancestor of the remote shell.
pub(crate) const FIND_SSHD: &str =
    "pid=$PPID; while [ \"$(cat /proc/$pid/comm)\" != sshd ]; do pid=$(ps -o ppid= $pid | tr -d ' '); done";

/// A line of bash.
pub(crate) fn sh(text: &str) -> Op {
    run(&["bash", "-c", text])
}

/// A file.
pub(crate) fn put(path: &str, mode: u32, data: &[u8]) -> Op {
    Op::Put(RemoteFile { path: path.into(), mode, data: Secret::new(data) })
}

/// The outputs of a batch that the host could be asked for.
pub(crate) async fn ok(host: &SshHost, ops: &[Op]) -> Vec<Output> {
    host.run(ops, false).await.unwrap()
}

/// Why there was no connection.
pub(crate) fn refused(result: Result<SshHost, HostError>) -> (ConnectKind, String) {
    match result {
        Err(HostError::Connect { kind, at, why, .. }) => (kind, format!("{at}{why}")),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it connected"),
    }
}

/// One that nothing else is given before a server listens there: neither another server of these tests nor, as an ephemeral port
/// would be, who dials.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + 100 * u16::try_from(std::process::id() % 200).unwrap();
    let mut ports = std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed) % 100).take(100);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port of a hundred")
}

/// Makes a key pair.
pub(crate) fn keygen(path: &Path) {
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status().unwrap();
    assert!(made.success());
}

/// Starts sshd in the foreground and waits until it listens.
fn spawn(dir: &Path) -> Child {
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let mut command = Command::new("/usr/sbin/sshd");
    command.arg("-D").arg("-e").arg("-f").arg(dir.join("sshd_config"));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    for _ in 0..1500 {
        if std::fs::read_to_string(dir.join("log")).unwrap().contains("Server listening") {
            return child;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().and_then(|()| child.wait()).unwrap();
    panic!("sshd does not listen: {}", std::fs::read_to_string(dir.join("log")).unwrap());
}
