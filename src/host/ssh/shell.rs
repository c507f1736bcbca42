//! The one long-lived root shell on a host, and how a batch goes through it. It knows no SSH, only byte streams.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use futures::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use super::opening::{self, Invocation, NoShell, Reader, Streams, Writer};
use crate::{
    hash::sha256,
    host::{
        Op, Output,
        frame::{self, Frame, Frames},
    },
    line::one_line,
    secret::Secret,
};

/// How long nothing at all may move, beyond what the slowest operation of a batch may take by itself.
const STALL: Duration = Duration::from_secs(60);

/// The limit taken for what has none of its own: a file written and synced on a slow disk.
const UNTIMED: Duration = Duration::from_secs(300);

/// No limit is taken for longer than this; sums of time must stay within what a clock can say.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// From this size on, a checksum takes long enough to be noticed elsewhere.
const LARGE: usize = 1 << 20;

/// How much of a shell's standard error is remembered.
const TAIL: usize = 4096;

/// A batch that did not come to its end.
#[derive(Debug)]
pub(super) struct Interrupted {
    /// How many operations had answered.
    pub(super) done: usize,
    /// What was seen.
    pub(super) why: String,
}

/// A shell that waits for batches.
pub(super) struct Shell {
    stdin: Writer,
    stdout: Reader,
    frames: Frames,
    /// Reads standard error to its end and gives back the last of it.
    stderr: JoinHandle<String>,
    _process: Box<dyn Send>,
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.stderr.abort();
    }
}

impl Shell {
    /// Makes a shell of a process that was started with the invocation's command line, and counts what that takes.
    pub(super) async fn open(
        mut streams: Streams,
        invocation: &Invocation,
        password: Option<&Secret>,
        sent: &AtomicU64,
    ) -> Result<Self, NoShell> {
        let opening = opening::open(&mut streams, invocation, password).await?;
        sent.fetch_add(opening + invocation.command().len() as u64, Relaxed);
        Ok(Self {
            stdin: streams.stdin,
            stdout: streams.stdout,
            frames: Frames::new(&invocation.nonce),
            stderr: tokio::spawn(last_words(streams.stderr)),
            _process: streams.process,
        })
    }

    /// False where it is known to have ended while nobody used it.
    pub(super) fn is_alive(&mut self) -> bool {
        let mut byte = [0];
        match self.stdout.read(&mut byte).now_or_never() {
            None => true,
            Some(Ok(1)) => {
                self.frames.feed(&byte);
                true
            }
            Some(_) => false,
        }
    }

    /// Tells the shell that we are still here. What goes wrong is found out by the next batch.
    pub(super) async fn ping(&mut self) {
        let _ = timeout(Duration::from_secs(5), self.stdin.write_all(frame::PING)).await;
    }

    /// Sends a batch and collects its answers at the same time. After an error, or when this future was dropped, the
    /// stream is somewhere in the middle and the shell must not be used again.
    pub(super) async fn batch(
        &mut self,
        ops: &[Op],
        keep_going: bool,
        sent: &AtomicU64,
    ) -> Result<Vec<Output>, Interrupted> {
        let sums = checksums(ops).await;
        let request = frame::request(ops, keep_going, &sums);
        let mut pieces = request.iter().map(|piece| &**piece);
        let mut piece = pieces.next().unwrap_or_default();
        let mut answers = Vec::with_capacity(ops.len());
        let mut buffer = Vec::with_capacity(64 << 10);
        let mut answered = Instant::now();
        let patience = STALL + ops.iter().map(limit).max().unwrap_or_default().min(LONGEST);
        loop {
            let interrupted = |why| Interrupted { done: answers.len(), why };
            buffer.clear();
            tokio::select! {
                wrote = self.stdin.write(piece), if !piece.is_empty() => match wrote {
                    Ok(count) => {
                        sent.fetch_add(count as u64, Relaxed);
                        piece = &piece[count..];
                        if piece.is_empty() {
                            piece = pieces.next().unwrap_or_default();
                        }
                    }
                    // It is gone; what it still said is worth reading up to its end.
                    Err(_) => piece = &[],
                },
                read = self.stdout.read_buf(&mut buffer) => match read {
                    Ok(0) => return Err(Interrupted { done: answers.len(), why: self.parting().await }),
                    Ok(_) => self.frames.feed(&buffer),
                    Err(error) => return Err(interrupted(error.to_string())),
                },
                () = sleep_until(Instant::now() + patience) => {
                    return Err(interrupted(format!("nothing moved for {} s", patience.as_secs())));
                }
            }
            while let Some(frame) = self
                .frames
                .next_frame()
                .map_err(|garbled| Interrupted { done: answers.len(), why: garbled.to_string() })?
            {
                match frame {
                    Frame::Reply { output, .. } => {
                        let elapsed = answered.elapsed();
                        answered += elapsed;
                        answers.push(Output { elapsed, ..output });
                    }
                    Frame::End => return Ok(answers),
                }
            }
        }
    }

    /// Why a shell ended, as far as it said.
    async fn parting(&mut self) -> String {
        match timeout(Duration::from_secs(1), &mut self.stderr).await {
            Ok(Ok(words)) if !words.is_empty() => words,
            _ => "the remote shell ended".into(),
        }
    }
}

/// Of all files in a batch. Large ones are summed on a thread of their own, as other hosts' batches must not wait.
async fn checksums(ops: &[Op]) -> Vec<String> {
    let mut sums = Vec::new();
    for op in ops {
        let Op::Put(file) = op else { continue };
        let data = file.data.clone();
        let small = data.expose().len() < LARGE;
        let elsewhere = match small {
            true => None,
            false => tokio::task::spawn_blocking(move || sha256(data.expose())).await.ok(),
        };
        sums.push(elsewhere.unwrap_or_else(|| sha256(file.data.expose())));
    }
    sums
}

/// The time that an operation may take.
fn limit(op: &Op) -> Duration {
    match op {
        Op::Run(cmd) => cmd.timeout,
        Op::Script(_, _, limit) => *limit,
        Op::Read(_) | Op::Put(_) => UNTIMED,
    }
}

async fn last_words(mut stderr: Reader) -> String {
    let mut tail = Vec::with_capacity(2 * TAIL);
    while let Ok(1..) = stderr.read_buf(&mut tail).await {
        tail.drain(..tail.len().saturating_sub(TAIL));
    }
    one_line(&String::from_utf8_lossy(&tail), "; ")
}
