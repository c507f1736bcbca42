//! Real etcd members on loopback, with certificates made for the occasion.

use std::{
    env, fs,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rsadm::{etcd::client::Credentials, secret::Secret};
use tempfile::TempDir;
use time::OffsetDateTime;

/// Small, so that a test can fill it.
pub(crate) const QUOTA: u64 = 16 << 20;
/// How long the members' certificates last that they serve to clients.
pub(crate) const DAYS: i64 = 100;
/// The same of those that they serve to one another.
pub(crate) const PEER_DAYS: i64 = 50;

/// A certificate authority and what it has issued.
pub(crate) struct Authority {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let params = Self::params();
        let ca_pem = params.self_signed(&key).unwrap().pem();
        Self { ca_pem, issuer: Issuer::new(params, key) }
    }

    fn params() -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    /// Certificate and key for a member, or a client: etcd's own files serve as both.
    fn issue(&self, days: i64) -> (String, String) {
        let mut params =
            CertificateParams::new([own_ip().to_string(), "127.0.0.1".to_owned(), "localhost".to_owned()])
                .unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = OffsetDateTime::now_utc() + time::Duration::days(days);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// What a client of these members needs.
    pub(crate) fn client(&self) -> Credentials {
        let (certificate, key) = self.issue(DAYS);
        Credentials {
            ca: self.ca_pem.clone().into_bytes(),
            certificate: certificate.into_bytes(),
            key: Secret::new(key),
        }
    }
}

/// One member, running or not.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) peer_url: String,
    pub(crate) client_url: String,
    address: SocketAddr,
    peer_address: SocketAddr,
    process: Option<Child>,
}

/// Members that know one another; all end with this value.
pub(crate) struct Cluster {
    pub(crate) authority: Authority,
    pub(crate) members: Vec<Member>,
    folder: TempDir,
}

pub(crate) fn program(name: &str) -> PathBuf {
    let folder = env::var_os("RSADM_ETCD").expect(
        "RSADM_ETCD must name the folder that has etcd and etcdctl: tests/all builds them and sets it",
    );
    PathBuf::from(folder).join(name)
}

/// A loopback address that no other process has: made of the 22 bits that its ID may have at the most.
fn own_ip() -> IpAddr {
    let [_, high, middle, low] = process::id().to_be_bytes();
    [127, 64 | high, middle, low].into()
}

/// There, a port that nothing else is given: neither another member nor, as an ephemeral port would be, who dials
/// one that does not listen yet.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(10_000);
    (own_ip(), NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

impl Cluster {
    /// Starts `m1…mN` together, as a static cluster.
    pub(crate) fn start(n: usize) -> Self {
        let authority = Authority::new();
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("ca.crt"), &authority.ca_pem).unwrap();
        for (name, days) in [("tls", DAYS), ("peer", PEER_DAYS)] {
            let (certificate, key) = authority.issue(days);
            fs::write(folder.path().join(format!("{name}.crt")), certificate).unwrap();
            fs::write(folder.path().join(format!("{name}.key")), key).unwrap();
        }
        let mut cluster = Self { authority, members: Vec::new(), folder };
        cluster.members = (1..=n).map(|i| cluster.prepare(&format!("m{i}"))).collect();
        let all = cluster.initial_cluster(&cluster.members);
        for i in 0..n {
            cluster.members[i].process = Some(cluster.spawn(&cluster.members[i], &all, "new"));
        }
        cluster
    }

    /// Gives the authority another certificate, of the same key and name, which members read when they start.
    pub(crate) fn prolong_authority(&mut self) {
        let mut params = Authority::params();
        params.not_after = OffsetDateTime::now_utc() + time::Duration::days(3650);
        self.authority.ca_pem = params.self_signed(self.authority.issuer.key()).unwrap().pem();
        fs::write(self.folder.path().join("ca.crt"), &self.authority.ca_pem).unwrap();
    }

    /// A member with addresses of its own that does not run yet.
    pub(crate) fn prepare(&self, name: &str) -> Member {
        let (address, peer_address) = (free_address(), free_address());
        Member {
            name: name.to_owned(),
            peer_url: format!("https://{peer_address}"),
            client_url: format!("https://{address}"),
            address,
            peer_address,
            process: None,
        }
    }

    /// Starts a member that the others have been told of.
    pub(crate) fn join(&mut self, mut member: Member) {
        let all = self.initial_cluster(self.members.iter().chain([&member]));
        member.process = Some(self.spawn(&member, &all, "existing"));
        self.members.push(member);
    }

    pub(crate) fn client_address(&self, n: usize) -> SocketAddr {
        self.members[n].address
    }

    pub(crate) fn peer_address(&self, n: usize) -> SocketAddr {
        self.members[n].peer_address
    }

    /// What a member has written so far.
    pub(crate) fn log(&self, n: usize) -> String {
        fs::read_to_string(self.log_file(n)).unwrap()
    }

    fn log_file(&self, n: usize) -> PathBuf {
        self.folder.path().join(format!("{}.log", self.members[n].name))
    }

    pub(crate) fn kill(&mut self, n: usize) {
        if let Some(mut process) = self.members[n].process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub(crate) fn restart(&mut self, n: usize) {
        let all = self.initial_cluster(&self.members);
        self.members[n].process = Some(self.spawn(&self.members[n], &all, "existing"));
    }

    pub(crate) fn pause(&self, n: usize) {
        self.signal(n, "-STOP");
    }

    pub(crate) fn resume(&self, n: usize) {
        self.signal(n, "-CONT");
    }

    fn signal(&self, n: usize, signal: &str) {
        let id = self.members[n].process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Writes until the first member has no space left.
    pub(crate) fn fill(&self) {
        let value = "x".repeat(1 << 20);
        for i in 0..32 {
            let mut put = self.etcdctl(&["put", &format!("key{i}")]);
            let mut put = put.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            put.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
            let put = put.wait_with_output().unwrap();
            if String::from_utf8_lossy(&put.stderr).contains("database space exceeded") {
                return;
            }
        }
        panic!("the database never filled up");
    }

    /// Writes so many keys.
    pub(crate) fn write(&self, keys: usize) {
        for i in 0..keys {
            assert!(self.etcdctl(&["put", &format!("key{i}"), "value"]).status().unwrap().success());
        }
    }

    /// Compacts everything up to a revision, which is still there when this returns.
    pub(crate) fn compact(&self, revision: u64) {
        let args = ["compact", "--physical", &revision.to_string()];
        assert!(self.etcdctl(&args).status().unwrap().success());
    }

    /// A member's own database file.
    pub(crate) fn database(&self, n: usize) -> PathBuf {
        self.folder.path().join(format!("{}.data/member/snap/db", self.members[n].name))
    }

    /// What etcd writes where it is started alone with a copy of what a member has, until it serves.
    pub(crate) fn alone(&self, n: usize) -> String {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let (copy, log) = (file("copy"), file("copy.log"));
        let _ = fs::remove_dir_all(&copy);
        let data = file(&format!("{}.data", self.members[n].name));
        assert!(Command::new("cp").args(["-a", &data, &copy]).status().unwrap().success());
        let (client, peer) = (format!("http://{}", free_address()), format!("http://{}", free_address()));
        let mut command = Command::new(program("etcd"));
        command.args(["--name", "replay", "--force-new-cluster", "--data-dir", &copy]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.arg(format!("--initial-cluster=replay={peer}")).stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let begun = Instant::now();
        let (mut said, mut serves) = (String::new(), false);
        while !serves && begun.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(50));
            said = fs::read_to_string(&log).unwrap();
            serves = said.contains("ready to serve client requests");
        }
        let _ = process.kill();
        let _ = process.wait();
        assert!(serves, "{said}");
        said
    }

    /// A member's ID as etcdctl prints it.
    pub(crate) fn etcdctl_id(&self, n: usize) -> String {
        let output = self.etcdctl(&["member", "list"]).stdout(Stdio::piped()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|l| l.contains(&self.members[n].peer_url)).unwrap();
        line.split(',').next().unwrap().to_owned()
    }

    fn etcdctl(&self, args: &[&str]) -> Command {
        self.etcdctl_of(0, args)
    }

    /// Asks one member alone.
    pub(crate) fn etcdctl_of(&self, n: usize, args: &[&str]) -> Command {
        let mut command = Command::new(program("etcdctl"));
        let file = |name: &str| self.folder.path().join(name);
        command.arg("--endpoints").arg(&self.members[n].client_url);
        command
            .arg("--cacert")
            .arg(file("ca.crt"))
            .arg("--cert")
            .arg(file("tls.crt"))
            .arg("--key")
            .arg(file("tls.key"));
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn initial_cluster<'m>(&self, members: impl IntoIterator<Item = &'m Member>) -> String {
        members.into_iter().map(|m| format!("{}={}", m.name, m.peer_url)).collect::<Vec<_>>().join(",")
    }

    fn spawn(&self, member: &Member, initial_cluster: &str, state: &str) -> Child {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let log = fs::File::create(file(&format!("{}.log", member.name))).unwrap();
        let (certificate, key, ca) = (file("tls.crt"), file("tls.key"), file("ca.crt"));
        let flags = [
            ("name", member.name.as_str()),
            ("data-dir", &file(&format!("{}.data", member.name))),
            ("listen-client-urls", &member.client_url),
            ("advertise-client-urls", &member.client_url),
            ("listen-peer-urls", &member.peer_url),
            ("initial-advertise-peer-urls", &member.peer_url),
            ("initial-cluster", initial_cluster),
            ("initial-cluster-state", state),
            ("client-cert-auth", "true"),
            ("cert-file", &certificate),
            ("key-file", &key),
            ("trusted-ca-file", &ca),
            ("peer-client-cert-auth", "true"),
            ("peer-cert-file", &file("peer.crt")),
            ("peer-key-file", &file("peer.key")),
            ("peer-trusted-ca-file", &ca),
            ("quota-backend-bytes", &QUOTA.to_string()),
            // So that a machine that is busy with other tests holds no elections that none of these asked for.
            ("heartbeat-interval", "200"),
            ("election-timeout", "3000"),
        ]
        .map(|(flag, value)| format!("--{flag}={value}"));
        let mut command = Command::new(program("etcd"));
        command.args(flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().expect("etcd must start")
    }
}

impl Drop for Cluster {
    /// A test that fails shows why a member ended, which its clients cannot tell.
    #[expect(clippy::print_stderr, reason = "that is where a test tells")]
    fn drop(&mut self) {
        for n in (0..self.members.len()).filter(|_| thread::panicking()) {
            let log = fs::read_to_string(self.log_file(n)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{}: {}", self.members[n].name, lines[lines.len().saturating_sub(5)..].join("\n"));
        }
        (0..self.members.len()).for_each(|n| self.kill(n));
    }
}
