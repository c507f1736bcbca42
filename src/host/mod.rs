//! The seam to a machine: run, hold, forward, and no domain words.
//!
//! What a caller wants done on one host is a list of [`Op`]s that travels together: one remote execution, run in
//! order, stopped at the first that fails. Real hosts are behind `ssh.rs`; what runs on
//! them is the text of scripts (`.sh`) beside those who send it.

use std::{fmt, net::SocketAddr, time::Duration};

use async_trait::async_trait;

use crate::{inventory::NodeName, secret::Secret};

/// Many hosts at once.
pub mod fleet;
/// What travels to a host and back, as bytes.
pub mod frame;
mod pack;
/// Real hosts.
pub mod ssh;
#[cfg(test)]
pub(crate) mod testing;
/// What a server shows of itself in a TLS handshake.
pub mod tls;

/// A program and its arguments; no shell sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cmd {
    /// Program first.
    pub argv: Vec<String>,
    /// What it reads; secrets travel here and never in `argv`.
    pub stdin: Secret,
    /// How long it may run before it is killed, with [`TIMED_OUT`].
    pub timeout: Duration,
}

impl Cmd {
    /// A command with empty input and a minute to run.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Self { argv, stdin: Secret::default(), timeout: Duration::from_secs(60) }
    }

    /// The same with input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Secret::new(bytes);
        self
    }

    /// The same with another time limit.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }
}

/// A file as it shall be on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Absolute path; missing parent folders are made (0755, or 0700 for a file of mode 0600).
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Its bytes; shown nowhere, since any file may hold a key.
    pub data: Secret,
}

/// A program text of ours that runs on the host under bash, with arguments.
///
/// Only constants: nothing is ever pasted into it, values arrive as `$1`, `$2`, …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script {
    /// Unique name, by which a fake host knows what to answer.
    pub name: &'static str,
    /// The text.
    pub text: &'static str,
}

impl Script {
    /// The text without comments and indentation, which is what travels to the host.
    pub(crate) fn code(&self) -> String {
        pack::cut(self.text)
    }

    /// The same, compressed.
    pub(crate) fn packed(&self) -> &'static [u8] {
        pack::packed(self.text)
    }
}

/// One thing to do on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Runs a command.
    Run(Cmd),
    /// Runs one of our scripts with arguments; the same answer as [`Op::Run`].
    Script(Script, Vec<String>, Duration),
    /// Reads a file; the answer's `status` is 1 where there is none.
    Read(String),
    /// Writes a file atomically: a temporary file beside it, fsync, mode and owner (root), then rename.
    Put(RemoteFile),
}

/// What came of one [`Op`]. A non-zero status is data, not an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Exit status; [`TIMED_OUT`] where the time limit struck.
    pub status: i32,
    /// Standard output, or a file's bytes.
    pub stdout: Vec<u8>,
    /// Standard error, the last 16 KiB.
    pub stderr: String,
    /// How long it took, its way there included: from the answer before it, or the beginning of its batch.
    pub elapsed: Duration,
}

impl Output {
    /// True for status 0.
    pub fn ok(&self) -> bool {
        self.status == 0
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// The exit status of what was killed once its time was over, as coreutils' `timeout` has it.
pub const TIMED_OUT: i32 = 124;

/// What an operation that is done again ends with where somebody else has been there meanwhile; it prints who.
pub const OVERTAKEN: i32 = 79;

/// Why a host could not be asked at all.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HostError {
    /// No connection, or ssh gave up before a session stood.
    #[error("could not connect to {host}: {at}{why}")]
    Connect {
        /// Which host.
        host: NodeName,
        /// What kind of failure; hints hang on it.
        kind: ConnectKind,
        /// Who was dialled.
        at: At,
        /// ssh's own words, in one line.
        why: String,
    },
    /// The connection broke while a command ran: it may or may not have had its effect.
    #[error("lost the connection to {host} while it was to {doing}: {why}")]
    Lost {
        /// Which host.
        host: NodeName,
        /// What was under way.
        doing: String,
        /// What was seen.
        why: String,
    },
    /// It is connected and hears us, and what it was asked does not come to its end.
    #[error("{host} was to {doing}, and hangs: {why}")]
    Hangs {
        /// Which host.
        host: NodeName,
        /// What was under way.
        doing: String,
        /// How long was waited, and how far it got.
        why: String,
    },
    /// This run was away from it, and another one was there meanwhile: what this one knows of it may no longer be so, and it does
    /// nothing there any more.
    #[error("this run was away from {host}, and another one came to it meanwhile: {why}")]
    Overtaken {
        /// Which host.
        host: NodeName,
        /// Who the other was.
        why: String,
    },
    /// Root rights were not given.
    #[error("could not become root on {host}: {why}")]
    Sudo {
        /// Which host.
        host: NodeName,
        /// sudo's words.
        why: String,
    },
}

impl HostError {
    /// The host it is about.
    pub fn host(&self) -> &NodeName {
        match self {
            Self::Connect { host, .. }
            | Self::Lost { host, .. }
            | Self::Hangs { host, .. }
            | Self::Overtaken { host, .. }
            | Self::Sudo { host, .. } => host,
        }
    }

    /// What happened, in words that stand alone in a table cell beside the host's name.
    pub fn brief(&self) -> String {
        match self {
            // ssh's own words are a dozen lines.
            Self::Connect { kind: ConnectKind::ChangedHostKey, at, .. } => {
                format!("not reached: {at}its host key has changed")
            }
            Self::Connect { at, why, .. } => format!("not reached: {at}{why}"),
            Self::Lost { why, .. } => format!("lost: {why}"),
            Self::Hangs { why, .. } => format!("hangs: {why}"),
            Self::Overtaken { why, .. } => format!("another run came meanwhile: {why}"),
            Self::Sudo { why, .. } => format!("no root rights: {why}"),
        }
    }

    /// True where the host is there, and it is a key or a right of ours that is wrong: what runs on it may be well.
    pub fn lets_nobody_in(&self) -> bool {
        match self {
            Self::Connect { kind, at, .. } => {
                use ConnectKind::{ChangedHostKey, Denied, UnknownHostKey};
                // Behind a jump host that lets nobody in, it may be anything.
                matches!(kind, UnknownHostKey | ChangedHostKey | Denied) && *at == At::Host
            }
            Self::Sudo { .. } => true,
            Self::Lost { .. } | Self::Hangs { .. } | Self::Overtaken { .. } => false,
        }
    }
}

/// Whose ssh server it was that a connection did not get past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// The host's own.
    Host,
    /// That of the jump host before it.
    JumpHost,
}

impl fmt::Display for At {
    /// What stands before ssh's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => Ok(()),
            Self::JumpHost => f.write_str("jump host: "),
        }
    }
}

/// Kinds of connection failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectKind {
    /// The host key is in no known_hosts file.
    UnknownHostKey,
    /// The host key is not the one in known_hosts.
    ChangedHostKey,
    /// The key (or user) was refused.
    Denied,
    /// There is no ssh to run on this machine.
    NoSsh,
    /// No resolver knows the name: ours, or the jump host's.
    UnknownName,
    /// No answer, refused, no route.
    Unreachable,
    /// The jump host's settings forbid what a jump host is for.
    Forbids,
    /// It did not get to a root shell in the time that all hosts have.
    Slow,
    /// Anything else.
    Other,
}

/// A local port that leads to an address as seen from the host, for as long as the value lives.
#[async_trait]
pub trait Forward: Send + Sync {
    /// Where to dial on the workstation.
    fn local(&self) -> SocketAddr;
    /// False once the connection is gone that it goes through, and it leads nowhere any more.
    async fn leads(&self) -> bool;
    /// True where it was dialled and the host did not lead there, because its settings do not let it.
    async fn is_forbidden(&self) -> bool {
        false
    }
}

/// What the machine that this runs on calls itself.
pub fn this_machine() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// What is done of an operation once more on another connection, by what it answered.
pub type Again<'a> = dyn Fn(&Output) -> Op + Sync + 'a;

/// A machine.
#[async_trait]
pub trait Host: Send + Sync {
    /// Its name in the inventory.
    fn name(&self) -> &NodeName;

    /// Does the operations in order, as root, in one remote execution, and stops after the first whose status is not 0
    /// (so the answer may be shorter than the list; its last entry is then the failed one). With `keep_going` all run.
    ///
    /// # Errors
    /// Where the host could not be asked or its answer did not come back.
    async fn run(&self, ops: &[Op], keep_going: bool) -> Result<Vec<Output>, HostError>;

    /// Does an operation whose effect ends with the connection, such as a lock. Where the connection has to be replaced, `again`
    /// of what it answered is done before anything else.
    ///
    /// # Errors
    /// As in [`run`](Self::run); and from then on `run` fails where it could not be done again, and for good where it ended
    /// with [`OVERTAKEN`].
    async fn hold(&self, op: Op, _again: &Again<'_>) -> Result<Output, HostError> {
        Ok(self.run(&[op], false).await?.pop().unwrap_or_default())
    }

    /// Opens a local port that leads to `to` as seen from the host.
    ///
    /// # Errors
    /// Where the connection is gone or forwarding is not allowed.
    async fn forward(&self, to: SocketAddr) -> Result<Box<dyn Forward>, HostError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lets_nobody_in_is_there() {
        let connect = |kind, at, why: &str| {
            let host = NodeName::new("e3");
            HostError::Connect { host, kind, at, why: why.into() }
        };
        for (error, shut, brief) in [
            (
                connect(ConnectKind::Denied, At::Host, "Permission denied"),
                true,
                "not reached: Permission denied",
            ),
            (connect(ConnectKind::Denied, At::JumpHost, "denied"), false, "not reached: jump host: denied"),
            (
                connect(
                    ConnectKind::ChangedHostKey,
                    At::Host,
                    "The fingerprint for the ED25519 key; Offending key",
                ),
                true,
                "not reached: its host key has changed",
            ),
            (
                connect(ConnectKind::ChangedHostKey, At::JumpHost, "The fingerprint"),
                false,
                "not reached: jump host: its host key has changed",
            ),
            (connect(ConnectKind::Slow, At::Host, "no login"), false, "not reached: no login"),
            (
                HostError::Sudo { host: NodeName::new("e3"), why: "a password is required".into() },
                true,
                "no root rights: a password is required",
            ),
        ] {
            assert_eq!((error.lets_nobody_in(), error.brief().as_str()), (shut, brief));
        }
    }
}
