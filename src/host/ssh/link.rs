//! One SSH connection, and the only file that knows the `openssh` crate.
//!
//! The crate runs the system's `ssh` as a multiplexing master, so keys, agents, `~/.ssh/config` and hardware tokens
//! work as they do by hand.

use std::{
    hash::{BuildHasher, RandomState},
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    num::NonZeroUsize,
    path::Path,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use openssh::{ControlPersist, Error, ForwardType, KnownHosts, Session, SessionBuilder, Socket, Stdio};
use tokio::time::{sleep, timeout};

use super::{
    config::{ControlDir, Files},
    failure::{self, Failure},
    kept::Place,
    opening::Streams,
};
use crate::{
    host::{ConnectKind, Forward},
    inventory::{HostKeyCheck, NodeName, Ssh},
};

/// Everything up to a session: TCP, keys, login, and the same for a jump host before it.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection outlives a killed rsadm where none waits for the next one.
const IDLE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(59);

/// How long the other end of a connection that waited may take to answer: it may be gone, which ssh notices after 15 s.
const SPRY: Duration = Duration::from_secs(1);

/// Whom to dial, and how.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) name: NodeName,
    pub(super) address: String,
    pub(super) ssh: Ssh,
    /// As [`Options::patience`](super::Options).
    pub(super) patience: Duration,
}

/// A connection that stood when last looked at. Dropping it ends it, or has it wait for the next run.
#[derive(Debug)]
pub(super) struct Link {
    session: Arc<Session>,
    /// Where it is to wait.
    place: Option<Place>,
    /// See [`Self::waited`].
    waited: bool,
    /// Nothing was heard from its other end since it waited.
    unproven: AtomicBool,
    /// See [`Self::spoil`].
    spoiled: AtomicBool,
    /// Local ports that lead through it, or may.
    ports: Arc<AtomicUsize>,
    /// How much ssh had said before.
    said: usize,
    /// See [`Self::new_keys`].
    new_keys: Vec<String>,
    /// Outlives the session, whose socket is in it.
    _dir: Arc<ControlDir>,
}

impl Link {
    /// [`Link::open`], again where the server turned us away for having too many at its door (`MaxStartups`).
    pub(super) async fn open_patiently(target: &Target, dir: &Arc<ControlDir>) -> Result<Self, Failure> {
        for pause in [200, 400, 800, 1600, 3200] {
            match Self::open(target, dir).await {
                Err(failure) if failure.is_busy() => sleep(jittered(pause)).await,
                result => return result,
            }
        }
        Self::open(target, dir).await
    }

    fn of(session: Session, waited: bool, place: Option<Place>, dir: &Arc<ControlDir>) -> Self {
        // What earlier runs heard is none of ours.
        let said = if waited { log(&session).len() } else { 0 };
        let (session, _dir) = (Arc::new(session), Arc::clone(dir));
        let (unproven, spoiled, ports) = (waited.into(), false.into(), Arc::default());
        Self { session, place, waited, unproven, spoiled, ports, said, new_keys: vec![], _dir }
    }

    /// True where an earlier run made it.
    pub(super) fn waited(&self) -> bool {
        self.waited
    }

    /// Keys of the host, and of the jump host before it, that it trusted at first sight.
    pub(super) fn new_keys(&self) -> &[String] {
        &self.new_keys
    }

    /// For one that is not to wait again: it leads nowhere, or the host judged by what was so when it was made, such as its
    /// sshd's settings or the groups of the user, and would go on to.
    pub(super) fn spoil(&self) {
        self.spoiled.store(true, Relaxed);
    }

    /// Takes what waited, or connects and logs in; never asks anybody anything.
    async fn open(target: &Target, dir: &Arc<ControlDir>) -> Result<Self, Failure> {
        let other = |why: String| Failure::new(ConnectKind::Other, why);
        let files = Files::write(dir.path(), target.name.as_str(), &target.ssh, target.patience);
        let files =
            files.map_err(|error| other(format!("ssh's configuration could not be written: {error}")))?;
        let mut place = Place::of(target, &files, dir.path()).await;
        if let Some(socket) = place.as_ref().and_then(|place| place.take(dir.path())) {
            let mut link = Self::of(Session::resume_mux(socket.into(), None), true, place, dir);
            if link.is_alive().await {
                return Ok(link);
            }
            // Its successor's.
            place = link.place.take();
        }
        let builder = builder(&target.ssh, dir.path(), &files.config);
        let address = target.address.clone();
        // A task of its own: a caller who loses interest must not leave an ssh behind that nobody ends.
        let connecting = tokio::spawn(async move { builder.connect_mux(address).await });
        let limit = LOGIN_TIMEOUT.max(target.patience);
        match timeout(limit, connecting).await {
            Ok(Ok(Ok(session))) => {
                let own = failure::trusted(&log(&session)).map(str::to_owned);
                let bastion = std::fs::read_to_string(&files.bastion_log).unwrap_or_default();
                let bastion = failure::trusted(&bastion).map(|key| format!("its jump host {key}"));
                let mut link = Self::of(session, false, place, dir);
                link.new_keys = bastion.into_iter().chain(own).collect();
                Ok(link)
            }
            Ok(Ok(Err(error))) => Err(refusal(&error, &files.bastion_log)),
            Ok(Err(error)) => Err(other(error.to_string())),
            Err(_) => {
                let why = format!("no login within {} s", limit.as_secs());
                Err(Failure::new(ConnectKind::Unreachable, why))
            }
        }
    }

    /// Whether ssh still runs and answers. It learns of a dead network after 15 s.
    pub(super) async fn is_alive(&self) -> bool {
        // Nobody has answered at the other end of the one that did not even let a channel be opened.
        !(self.unproven.load(Relaxed) && self.spoiled.load(Relaxed)) && stands(&self.session).await
    }

    /// What ssh said last.
    pub(super) fn last_words(&self) -> Option<String> {
        let log = log(&self.session);
        Some(failure::words(log.get(self.said..).unwrap_or_default())).filter(|words| !words.is_empty())
    }

    /// Starts a command line under the login shell.
    pub(super) async fn start(&self, command: &str) -> Result<Streams, String> {
        let mut command = Arc::clone(&self.session).arc_raw_command(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // It comes back once the other end has opened a channel. One that waited may lead nowhere, or to an sshd that has as
        // many sessions through it as it lets be, of a run that was killed: another will do.
        let mut child = match self.unproven.load(Relaxed) {
            true => match timeout(SPRY, command.spawn()).await {
                Ok(Ok(child)) => child,
                _ => {
                    self.spoil();
                    return Err("nobody answers at the other end of a connection that waited".to_owned());
                }
            },
            false => command.spawn().await.map_err(|error| words(&error))?,
        };
        self.unproven.store(false, Relaxed);
        let streams = (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let (Some(stdin), Some(stdout), Some(stderr)) = streams else { return Err("no streams".into()) };
        Ok(Streams {
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            process: Box::new(child),
        })
    }

    /// Listens on a free local port. Another program can take the port between our choice and ssh's use of it, so a
    /// few are tried.
    pub(super) async fn forward(&self, to: SocketAddr) -> Result<PortForward, String> {
        let mut last = String::new();
        for _ in 0..3 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
            let local = free.map_err(|error| error.to_string())?;
            let (session, ports) = (Arc::clone(&self.session), Arc::clone(&self.ports));
            // Before, for who loses interest meanwhile does not know whether it is open.
            ports.fetch_add(1, Relaxed);
            let asked = session.request_port_forward(ForwardType::Local, socket(local), socket(to));
            match asked.await {
                Ok(()) => {
                    let said = log(&session).len();
                    return Ok(PortForward { local, to, said, session, ports });
                }
                Err(error) => {
                    ports.fetch_sub(1, Relaxed);
                    last = words(&error);
                }
            }
        }
        Err(last)
    }
}

impl Drop for Link {
    /// Has it wait where it may and nobody uses it any more, not even a forwarded port; else its last user ends it.
    fn drop(&mut self) {
        // Those that are being closed are so in a moment.
        let mut patience = if self.place.is_some() && !self.spoiled.load(Relaxed) { 50 } else { 0 };
        while self.ports.load(Relaxed) > 0 && patience > 0 {
            std::thread::sleep(Duration::from_millis(1));
            patience -= 1;
        }
        let socket = self.session.control_socket().to_owned();
        let nothing = Arc::new(Session::resume_mux(Path::new("").into(), None));
        let session = Arc::try_unwrap(std::mem::replace(&mut self.session, nothing));
        let forbids = |session: &Session| log(session).get(self.said..).is_some_and(failure::forbids);
        let may_wait = !self.spoiled.load(Relaxed) && self.ports.load(Relaxed) == 0;
        let place = self.place.take().filter(|_| may_wait);
        match (session, place) {
            (Ok(session), Some(place)) if !forbids(&session) && place.put(&socket) => drop(session.detach()),
            _ if self.waited => end(&socket),
            _ => {}
        }
    }
}

/// Ends a connection that the crate did not make, and so does not end. One that does not even hear of it in a second is left to
/// end by itself.
pub(super) fn end(socket: &Path) {
    let mut ssh = process::Command::new("ssh");
    ssh.args(["-F", "none", "-O", "exit", "-S"]).arg(socket).arg("host");
    ssh.stdin(process::Stdio::null()).stdout(process::Stdio::null()).stderr(process::Stdio::null());
    let Ok(mut asking) = ssh.spawn() else { return };
    for _ in 0..200 {
        if !matches!(asking.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // It may have come to its end by now.
    let _ = asking.kill();
}

/// What ssh said so far.
fn log(session: &Session) -> String {
    let file = session.control_socket().with_file_name("log");
    std::fs::read_to_string(file).unwrap_or_default()
}

async fn stands(session: &Session) -> bool {
    matches!(timeout(Duration::from_secs(5), session.check()).await, Ok(Ok(())))
}

fn builder(ssh: &Ssh, dir: &Path, config: &Path) -> SessionBuilder {
    let mut builder = SessionBuilder::default();
    builder
        .user(ssh.user.clone())
        .port(ssh.port)
        .control_directory(dir)
        .control_persist(ControlPersist::IdleFor(idle(ssh)))
        .config_file(config)
        .known_hosts_check(match ssh.host_key_check {
            HostKeyCheck::Strict => KnownHosts::Strict,
            HostKeyCheck::AcceptNew => KnownHosts::Add,
        });
    if let Some(key) = &ssh.key_path {
        builder.keyfile(key);
    }
    builder
}

fn idle(ssh: &Ssh) -> NonZeroUsize {
    usize::try_from(ssh.control_persist.as_secs()).ok().and_then(NonZeroUsize::new).unwrap_or(IDLE)
}

/// Between one and two times so many milliseconds, so that those turned away together do not return together.
fn jittered(millis: u64) -> Duration {
    Duration::from_millis(millis + RandomState::new().hash_one(millis) % millis)
}

/// Where a jump host stands between, ssh only says that something closed the connection; the log of the jump host's
/// own ssh knows better.
fn refusal(error: &Error, bastion_log: &Path) -> Failure {
    if lacks_ssh(error) {
        return Failure::new(ConnectKind::NoSsh, words(error));
    }
    let failure = failure::read(&words(error));
    let bastion = std::fs::read_to_string(bastion_log).unwrap_or_default();
    if failure.kind != ConnectKind::Other || failure::words(&bastion).is_empty() {
        return failure;
    }
    failure::read_jump(&bastion)
}

/// Bare, as ssh's multiplexing protocol wants it; the crate's own conversion puts IPv6 in brackets.
fn socket(address: SocketAddr) -> Socket<'static> {
    Socket::new(address.ip().to_string(), address.port())
}

/// The crate's error with its causes, which hold ssh's own words.
fn words(error: &Error) -> String {
    let Error::Connect(cause) = error else {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        return text;
    };
    match cause.kind() {
        _ if lacks_ssh(error) => "the ssh program is not installed on this machine".into(),
        // Its words are in a file of the control folder.
        ErrorKind::NotFound => "ssh failed, and the folder with what it said is gone".into(),
        _ => cause.to_string(),
    }
}

/// True where there is no ssh to run.
fn lacks_ssh(error: &Error) -> bool {
    matches!(error, Error::Connect(cause) if cause.kind() == ErrorKind::NotFound) && !is_ssh_here()
}

fn is_ssh_here() -> bool {
    std::process::Command::new("ssh").arg("-V").output().is_ok()
}

/// A port that is listened on until this is dropped.
#[derive(Debug)]
pub(super) struct PortForward {
    local: SocketAddr,
    to: SocketAddr,
    /// How much ssh had said by then.
    said: usize,
    session: Arc<Session>,
    ports: Arc<AtomicUsize>,
}

#[async_trait]
impl Forward for PortForward {
    fn local(&self) -> SocketAddr {
        self.local
    }

    async fn leads(&self) -> bool {
        stands(&self.session).await
    }

    async fn is_forbidden(&self) -> bool {
        log(&self.session).get(self.said..).is_some_and(failure::forbids)
    }
}

impl Drop for PortForward {
    /// In the background, since it takes a word with ssh; without a runtime the end of the connection ends it.
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (session, ports) = (Arc::clone(&self.session), Arc::clone(&self.ports));
        let (local, to) = (socket(self.local), socket(self.to));
        runtime.spawn(async move {
            // If the connection is gone, so is the port.
            let closed = session.close_port_forward(ForwardType::Local, local, to).await;
            drop(session);
            if closed.is_ok() {
                ports.fetch_sub(1, Relaxed);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As where somebody tidied up among temporary files.
    #[test]
    fn an_ssh_whose_words_are_gone_is_none_that_is_missing() {
        let said = words(&Error::Connect(ErrorKind::NotFound.into()));
        assert_eq!(said.contains("is not installed"), !is_ssh_here(), "{said}");
    }
}
