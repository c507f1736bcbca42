//! Real hosts: one SSH connection each for a whole run, and on it one root shell that does every batch.
//!
//! A process per command costs 11 ms over a standing connection and 200 ms over a new one; a line to a shell that is
//! already there costs next to nothing. From the outside in: `link.rs` connects, `opening.rs` gets to a root shell,
//! `shell.rs` moves batches, [`frame`](super::frame) is the format, `remote.sh` the other end.

mod config;
mod failure;
mod kept;
mod link;
mod opening;
mod shell;
#[cfg(test)]
mod tests;

use std::{
    fmt::Display,
    net::SocketAddr,
    sync::{
        Arc, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::Mutex;

pub use config::ControlDir;
use failure::Failure;
use link::{Link, Target};
use opening::{Invocation, NoShell};
use shell::{Interrupted, Shell};

use super::{Again, ConnectKind, Forward, Host, HostError, OVERTAKEN, Op, Output};
use crate::{
    inventory::{Node, NodeName},
    log,
    secret::Secret,
};

/// What all hosts of a run share.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where control sockets lie.
    pub control_dir: Arc<ControlDir>,
    /// For hosts whose sudo asks; sent only when it does, and once.
    pub sudo_password: Option<Secret>,
    /// How long the operator lets a login take, and a shell after it, where that is longer than their own limits; else nothing.
    pub patience: Duration,
}

/// What went to a host so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// SSH connections that came to stand.
    pub connections: u64,
    /// Remote processes started through them: shells.
    pub executions: u64,
    /// Batches sent.
    pub batches: u64,
    /// Bytes sent: how shells are started, what they run, and batches.
    pub bytes: u64,
}

/// How many bytes a root shell costs before its first batch, at the most.
pub fn opening_size() -> usize {
    let invocation = Invocation::new(true, Duration::ZERO);
    invocation.command().len() + opening::program(&invocation.nonce).len()
}

/// A host behind SSH.
pub struct SshHost {
    target: Target,
    options: Options,
    /// Held for a batch: one at a time goes through the shell.
    shell: Arc<Mutex<Slot>>,
    /// What has to be done again first in each new shell.
    held: std::sync::Mutex<Vec<Op>>,
    /// Held for moments, so that forwarding need not wait for a batch.
    link: Mutex<Option<Arc<Link>>>,
    /// See [`Self::new_keys`].
    new_keys: Vec<String>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    executions: AtomicU64,
    batches: AtomicU64,
    bytes: AtomicU64,
}

/// How often a shell that waits is told that we are still here. It gives up after four times as long (`remote.sh`): sshd
/// itself notices only after hours that a workstation was shut or lost its network, and with the shell lives the lock.
const AWAKE: Duration = Duration::from_secs(20);

/// Tells the shell so for as long as it is anybody's.
async fn keep_awake(shell: Weak<Mutex<Slot>>) {
    loop {
        tokio::time::sleep(AWAKE).await;
        let Some(shell) = shell.upgrade() else { return };
        // While a batch has it, there is traffic anyway.
        if let Ok(mut slot) = shell.try_lock()
            && let Slot::Open(shell) = &mut *slot
        {
            shell.ping().await;
        }
    }
}

/// What became of the shell.
enum Slot {
    /// Not asked for yet, or lost.
    Closed,
    /// Waits for a batch.
    Open(Shell),
    /// sudo refused, in these words. It is not asked again: accounts get locked after a few wrong passwords.
    Refused(String),
}

impl SshHost {
    /// Connects and logs in. The shell is opened by the first batch.
    ///
    /// # Errors
    /// [`HostError::Connect`] where there is no way in.
    pub async fn connect(node: &Node, options: &Options) -> Result<Self, HostError> {
        let target = Target {
            name: node.name.clone(),
            address: node.address.clone(),
            ssh: node.ssh.clone(),
            patience: options.patience,
        };
        let mut host = Self {
            target,
            options: options.clone(),
            shell: Arc::new(Mutex::new(Slot::Closed)),
            held: std::sync::Mutex::default(),
            link: Mutex::new(None),
            new_keys: vec![],
            counters: Counters::default(),
        };
        let waited = {
            let link = host.link().await?;
            host.new_keys = link.new_keys().to_vec();
            link.waited()
        };
        if waited {
            // Only a shell shows whether anybody is at its other end. Until then nobody has logged in.
            let mut slot = host.shell.lock().await;
            let shell = host.take_shell(&mut slot).await?;
            *slot = Slot::Open(shell);
        }
        tokio::spawn(keep_awake(Arc::downgrade(&host.shell)));
        Ok(host)
    }

    /// Keys that the login trusted at first sight, by `host_key_check: accept-new`: `ssh-ed25519 SHA256:…`.
    pub fn new_keys(&self) -> &[String] {
        &self.new_keys
    }

    /// What went to it so far.
    pub fn traffic(&self) -> Traffic {
        let Counters { connections, executions, batches, bytes } = &self.counters;
        Traffic {
            connections: connections.load(Relaxed),
            executions: executions.load(Relaxed),
            batches: batches.load(Relaxed),
            bytes: bytes.load(Relaxed),
        }
    }

    /// The standing connection, or a new one where it broke.
    async fn link(&self) -> Result<Arc<Link>, HostError> {
        let mut slot = self.link.lock().await;
        if let Some(link) = &*slot
            && link.is_alive().await
        {
            return Ok(Arc::clone(link));
        }
        *slot = None;
        let begun = Instant::now();
        let connected = Link::open_patiently(&self.target, &self.options.control_dir).await;
        let connected = connected.map_err(|failure| self.no_connection(failure));
        log::connection(
            &self.target.name,
            begun.elapsed(),
            connected.as_ref().err().map(|e| e as &dyn Display),
        );
        let link = Arc::new(connected?);
        if !link.waited() {
            self.counters.connections.fetch_add(1, Relaxed);
        }
        *slot = Some(Arc::clone(&link));
        Ok(link)
    }

    fn no_connection(&self, Failure { kind, at, why }: Failure) -> HostError {
        HostError::Connect { host: self.target.name.clone(), kind, at, why }
    }

    /// A shell, on a new connection if the one that seemed to stand turns out to be dead.
    async fn open_shell(&self) -> Result<Shell, HostError> {
        let link = self.link().await?;
        match self.open_shell_on(&link).await {
            Err(error) if link.is_alive().await => Err(error),
            Err(_) => self.open_shell_on(&*self.link().await?).await,
            opened => opened,
        }
    }

    async fn open_shell_on(&self, link: &Link) -> Result<Shell, HostError> {
        let no_shell = |why| self.no_connection(Failure::new(ConnectKind::Other, format!("no shell: {why}")));
        let invocation = Invocation::new(self.target.ssh.become_root, self.target.patience);
        let streams = link.start(&invocation.command()).await.map_err(no_shell)?;
        self.counters.executions.fetch_add(1, Relaxed);
        let password = self.options.sudo_password.as_ref();
        let opened = Shell::open(streams, &invocation, password, &self.counters.bytes).await;
        opened.map_err(|none| {
            link.spoil();
            match none {
                NoShell::Sudo(why) => HostError::Sudo { host: self.target.name.clone(), why },
                NoShell::Ended(why) => no_shell(why),
                NoShell::Late(why) => self.no_connection(Failure::new(ConnectKind::Slow, why)),
            }
        })
    }

    /// The waiting shell, or a new one.
    async fn take_shell(&self, slot: &mut Slot) -> Result<Shell, HostError> {
        match std::mem::replace(slot, Slot::Closed) {
            Slot::Open(mut shell) => {
                if shell.is_alive() {
                    return Ok(shell);
                }
            }
            Slot::Closed => {}
            Slot::Refused(why) => {
                *slot = Slot::Refused(why.clone());
                return Err(HostError::Sudo { host: self.target.name.clone(), why });
            }
        }
        let opened = self.open_shell().await;
        if let Err(HostError::Sudo { why, .. }) = &opened {
            *slot = Slot::Refused(why.clone());
        }
        self.hold_again(opened?).await
    }

    /// A new shell, once it does what the one before it did for as long as it lived.
    async fn hold_again(&self, mut shell: Shell) -> Result<Shell, HostError> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if held.is_empty() {
            return Ok(shell);
        }
        match shell.batch(&held, false, &self.counters.bytes).await {
            Ok(outputs) => match outputs.iter().find(|output| !output.ok()) {
                None => Ok(shell),
                Some(overtaken) if overtaken.status == OVERTAKEN => Err(HostError::Overtaken {
                    host: self.target.name.clone(),
                    why: overtaken.text().trim().to_owned(),
                }),
                Some(refused) => Err(HostError::Lost {
                    host: self.target.name.clone(),
                    doing: "go on under its lock".into(),
                    why: format!("{}{}", refused.text(), refused.stderr).trim().to_owned(),
                }),
            },
            Err(interrupted) => Err(self.lost(&held, interrupted).await),
        }
    }

    /// Names what a batch was at when it broke off, and asks ssh for the reason if it was the connection.
    async fn lost(&self, ops: &[Op], Interrupted { done, why }: Interrupted) -> HostError {
        let link = self.link.lock().await.clone();
        let why = match link {
            Some(link) if !link.is_alive().await => link.last_words().unwrap_or(why),
            _ => why,
        };
        let doing = ops.get(done).map_or_else(|| "finish".into(), describe);
        HostError::Lost { host: self.target.name.clone(), doing, why }
    }
}

#[async_trait]
impl Host for SshHost {
    fn name(&self) -> &NodeName {
        &self.target.name
    }

    async fn run(&self, ops: &[Op], keep_going: bool) -> Result<Vec<Output>, HostError> {
        let mut slot = self.shell.lock().await;
        // Taken out: if this future is dropped on the way, the shell goes with it and the next batch gets another.
        let mut shell = self.take_shell(&mut slot).await?;
        self.counters.batches.fetch_add(1, Relaxed);
        let (begun, before) = (Instant::now(), self.counters.bytes.load(Relaxed));
        let outputs = match shell.batch(ops, keep_going, &self.counters.bytes).await {
            Ok(outputs) => {
                *slot = Slot::Open(shell);
                Ok(outputs)
            }
            Err(interrupted) => {
                drop(shell);
                Err(self.lost(ops, interrupted).await)
            }
        };
        // The slot is still ours, so that no other batch was counted meanwhile.
        let sent = self.counters.bytes.load(Relaxed) - before;
        let ended = outputs.as_ref().map(|all| all.last().map_or(0, |last| last.status));
        log::batch(self.name(), ops.len(), sent, begun.elapsed(), ended.map_err(|e| e as &dyn Display));
        outputs
    }

    async fn hold(&self, op: Op, again: &Again<'_>) -> Result<Output, HostError> {
        let output = self.run(&[op], false).await?.pop().unwrap_or_default();
        if output.ok() {
            self.held.lock().unwrap_or_else(PoisonError::into_inner).push(again(&output));
        }
        Ok(output)
    }

    async fn forward(&self, to: SocketAddr) -> Result<Box<dyn Forward>, HostError> {
        let link = self.link().await?;
        match link.forward(to).await {
            Ok(forward) => Ok(Box::new(forward)),
            Err(why) => {
                let doing = format!("forward a port to {to}");
                Err(HostError::Lost { host: self.target.name.clone(), doing, why })
            }
        }
    }
}

/// An operation in a few words; arguments hold no secrets, by the rule of [`Cmd`](super::Cmd).
fn describe(op: &Op) -> String {
    match op {
        Op::Run(cmd) => format!("run `{}`", cmd.argv.join(" ").chars().take(120).collect::<String>()),
        Op::Script(script, ..) => format!("run the script {}", script.name),
        Op::Read(path) => format!("read {path}"),
        Op::Put(file) => format!("write {}", file.path),
    }
}
