//! The seam: operations as the executor sends them, each effect counted, and the place where a fault strikes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use async_trait::async_trait;

use super::{World, machine::Machine, state::State};
use crate::{
    host::{At, Cmd, ConnectKind, Forward, Host, HostError, Op, Output, RemoteFile},
    inventory::NodeName,
};

/// How many ticks a script waits at most.
const PATIENCE: usize = 150;

/// One connection to a machine of a world; a lock taken through it ends with it.
pub struct FakeHost {
    pub(super) world: Arc<World>,
    pub(super) name: NodeName,
    lost: AtomicBool,
    has_shell: AtomicBool,
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        self.world.inner().state.machine(&self.name).lock = None;
    }
}

impl FakeHost {
    pub(super) fn new(world: Arc<World>, name: NodeName) -> Self {
        Self { world, name, lost: AtomicBool::new(false), has_shell: AtomicBool::new(false) }
    }

    /// Asks the machine something, which takes a tick.
    pub(super) fn look<T>(&self, ask: impl FnOnce(&mut State, &NodeName) -> T) -> T {
        let mut inner = self.world.inner();
        inner.state.tick();
        ask(&mut inner.state, &self.name)
    }

    /// Asks until there is an answer, or patience is over.
    pub(super) async fn until(&self, mut ask: impl FnMut(&State, &Machine) -> Result<(), String>) -> Output {
        let mut why = String::new();
        for _ in 0..PATIENCE {
            let answer = self.look(|state, name| match state.machines.get(name) {
                Some(machine) => ask(state, machine),
                None => Err("no such machine".into()),
            });
            match answer {
                Ok(()) => return Output::default(),
                Err(wrong) => why = wrong,
            }
            tokio::task::yield_now().await;
        }
        failed(why)
    }

    /// Changes the machine: one effect, before or after which the connection may be lost.
    pub(super) async fn effect<T>(
        &self,
        doing: &str,
        change: impl FnOnce(&mut State, &NodeName) -> T,
    ) -> Result<T, HostError> {
        let struck = self.world.inner().count(&self.name, doing);
        if struck == Some(super::When::Before) {
            self.strike(doing)?;
        }
        let result = {
            let mut inner = self.world.inner();
            let had_data = inner.state.machine(&self.name).etcd_data().is_some();
            let result = change(&mut inner.state, &self.name);
            let meant = doing.starts_with("wipe") || doing == "set data aside";
            inner.state.judge(&self.name, had_data, meant);
            inner.state.tick();
            inner.keep_snapshot();
            result
        };
        if struck == Some(super::When::After) {
            self.strike(doing)?;
        }
        tokio::task::yield_now().await;
        Ok(result)
    }

    /// The fault: this connection breaks.
    fn strike(&self, doing: &str) -> Result<(), HostError> {
        self.lost.store(!self.world.is_cut(), Relaxed);
        Err(self.gone(doing))
    }

    fn gone(&self, doing: &str) -> HostError {
        HostError::Lost { host: self.name.clone(), doing: doing.into(), why: "connection reset".into() }
    }

    async fn perform(&self, op: &Op) -> Result<Output, HostError> {
        match op {
            Op::Read(path) => Ok(self.look(|state, name| match state.machine(name).files.read(path) {
                Some(data) => Output { stdout: data.to_vec(), ..Output::default() },
                None => failed(format!("{path}: no such file")),
            })),
            Op::Put(file) => self.put(file).await,
            Op::Run(cmd) => self.command(cmd).await,
            Op::Script(script, args, _) => self.script(script.name, args).await,
        }
    }

    async fn put(&self, file: &RemoteFile) -> Result<Output, HostError> {
        self.effect(&format!("write {}", file.path), |state, name| {
            state.machine(name).files.put(&file.path, file.mode, file.data.expose());
            if file.path.ends_with("ca.crt") {
                let sha = crate::hash::sha256(file.data.expose());
                state.authority_put(&file.path, &sha);
            }
        })
        .await?;
        self.world.inner().secrets.take(&file.path, file.data.expose());
        Ok(Output::default())
    }

    async fn command(&self, cmd: &Cmd) -> Result<Output, HostError> {
        let argv: Vec<&str> = cmd.argv.iter().map(String::as_str).collect();
        let doing = argv.join(" ");
        let mode = |text: &str| u32::from_str_radix(text, 8).unwrap_or(0o777);
        match argv[..] {
            ["rm", "-rf", "--", ref paths @ ..] | ["rm", "-f", ref paths @ ..] => {
                self.effect(&doing, |state, name| {
                    paths.iter().for_each(|p| state.machine(name).files.remove(p));
                })
                .await?;
            }
            // Folders in which nothing is are not in this world.
            ["rmdir", "--ignore-fail-on-non-empty", "--", ..] => {}
            ["install", "-d", "-o0", "-g0", "-m", bits, path] => {
                self.effect(&doing, |state, name| state.machine(name).files.folder(path, mode(bits))).await?;
            }
            ["mkdir", "-p", "-m", bits, "--", path] => {
                self.effect(&doing, |state, name| {
                    let files = &mut state.machine(name).files;
                    if !files.has(path) {
                        files.folder(path, mode(bits));
                    }
                })
                .await?;
            }
            ["chmod", bits, path] => {
                let there = self
                    .effect(&doing, |state, name| state.machine(name).files.chmod(path, mode(bits)))
                    .await?;
                if !there {
                    return Ok(failed(format!("chmod: cannot access '{path}'")));
                }
            }
            ["ln", "-sfn", to, path] => {
                self.effect(&doing, |state, name| state.machine(name).files.link(path, to)).await?;
            }
            _ => return Ok(Output { status: 127, ..failed(format!("this world knows no `{doing}`")) }),
        }
        Ok(Output::default())
    }
}

/// A failure with these words.
pub(super) fn failed(why: impl Into<String>) -> Output {
    Output { status: 1, stderr: why.into(), ..Output::default() }
}

#[async_trait]
impl Host for FakeHost {
    fn name(&self) -> &NodeName {
        &self.name
    }

    async fn run(&self, ops: &[Op], keep_going: bool) -> Result<Vec<Output>, HostError> {
        if self.lost.load(Relaxed) {
            return Err(self.gone("go on"));
        }
        if !self.has_shell.swap(true, Relaxed) {
            self.world.inner().open(&self.name);
        }
        self.world.inner().batch(&self.name, ops);
        let mut outputs = Vec::new();
        for op in ops {
            if self.world.inner().state.machine(&self.name).off {
                let why = "no route to host".into();
                return Err(HostError::Connect {
                    host: self.name.clone(),
                    kind: ConnectKind::Unreachable,
                    at: At::Host,
                    why,
                });
            }
            let output = self.perform(op).await?;
            let ok = output.ok();
            outputs.push(output);
            if !ok && !keep_going {
                break;
            }
        }
        Ok(outputs)
    }

    async fn forward(&self, to: SocketAddr) -> Result<Box<dyn Forward>, HostError> {
        Ok(Box::new(FakeForward(to)))
    }
}

/// Leads nowhere: members of a world are asked through [`FakeMembers`](super::FakeMembers).
struct FakeForward(SocketAddr);

#[async_trait]
impl Forward for FakeForward {
    fn local(&self) -> SocketAddr {
        self.0
    }

    async fn leads(&self) -> bool {
        true
    }
}
