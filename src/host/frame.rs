//! The two formats between this program and the shell it keeps on a host, as pure functions.
//!
//! Requests carry everything by length, so no value is ever quoted for a shell. Answers are found by a nonce, so
//! whatever a login shell prints before or between them is passed over. `ssh/remote.sh` is the other side.

use std::borrow::Cow;

use super::{Cmd, Op, Output, RemoteFile, Script, pack};
use crate::{hash::sha256, layout};

/// From here on, data is cheaper to copy for `head` than for bash.
const SHORT: usize = 64 << 10;

/// What is sent where there is nothing to do; it has no answer.
pub const PING: &[u8] = b"ping 0 0 0 0\n";

/// What a batch sends, piece by piece; files and inputs are lent, not copied.
pub type Request<'a> = Vec<Cow<'a, [u8]>>;

/// Writes a batch of operations as the remote shell reads them. `sums` are the files' [`checksum`]s, in order.
pub fn request<'a>(ops: &'a [Op], keep_going: bool, sums: &'a [String]) -> Request<'a> {
    let mut sums = sums.iter();
    let mut out = vec![Cow::Owned(format!("batch {} 0 0 0\n", u8::from(keep_going)).into_bytes())];
    for (index, op) in ops.iter().enumerate() {
        let parts = Parts::of(op, &mut sums);
        out.push(Cow::Owned(parts.head(index)));
        if !parts.data.is_empty() {
            out.push(Cow::Borrowed(parts.data));
        }
    }
    out.push(Cow::Owned(b"end 0 0 0 0\n".to_vec()));
    out
}

/// How many bytes that makes.
pub fn size(ops: &[Op]) -> usize {
    let sums = vec![sha256(&[]); ops.len()];
    request(ops, false, &sums).iter().map(|piece| piece.len()).sum()
}

/// One operation taken apart.
struct Parts<'a> {
    verb: &'static str,
    /// In seconds, as `timeout` reads it.
    limit: String,
    words: Vec<Cow<'a, str>>,
    data: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(op: &'a Op, sums: &mut impl Iterator<Item = &'a String>) -> Self {
        let parts = match op {
            Op::Run(cmd) => Self::of_run(cmd),
            Op::Script(script, args, limit) => Self::of_script(script, args, seconds(*limit)),
            Op::Read(path) => Self::untimed("read", vec![path.as_str().into()], &[]),
            Op::Put(file) => Self::of_put(file, sums.next().map_or("", String::as_str)),
        };
        match parts.words.iter().position(|word| word.contains('\0')) {
            None => parts,
            Some(at) => Self::refusal(format!("word {at} of the operation holds a NUL byte")),
        }
    }

    fn of_run(cmd: &'a Cmd) -> Self {
        let argv = cmd.argv.iter().map(|arg| arg.as_str().into());
        let (limit, input) = (seconds(cmd.timeout), cmd.stdin.expose());
        match short_text(input) {
            Some("") | None => Self { verb: "run", limit, words: argv.collect(), data: input },
            Some(text) => {
                let words = std::iter::once(text.into()).chain(argv).collect();
                Self { verb: "feed", limit, words, data: &[] }
            }
        }
    }

    fn of_script(script: &Script, args: &'a [String], limit: String) -> Self {
        let args = args.iter().map(|arg| arg.as_str().into());
        let name = [script.name.replace('/', "-").into()];
        let code = script.code();
        match pack::is_long(&code) {
            true => Self {
                verb: "packed",
                limit,
                words: name.into_iter().chain(args).collect(),
                data: script.packed(),
            },
            false => {
                let words = name.into_iter().chain([code.into()]).chain(args).collect();
                Self { verb: "script", limit, words, data: &[] }
            }
        }
    }

    fn of_put(file: &'a RemoteFile, sum: &'a str) -> Self {
        if !file.path.starts_with('/') || file.path.ends_with('/') {
            return Self::refusal(format!("{:?} is not the absolute path of a file", file.path));
        }
        let folder_mode = if file.mode & 0o077 == 0 { "0700" } else { "0755" };
        let mut words: Vec<Cow<'a, str>> = vec![
            file.path.as_str().into(),
            format!("{:04o}", file.mode & 0o7777).into(),
            sum.into(),
            folder_mode.into(),
            layout::PKI_DIR.into(),
        ];
        let data = file.data.expose();
        match short_text(data) {
            Some(text) => {
                words.push(text.into());
                Self::untimed("put", words, &[])
            }
            None => Self::untimed("put", words, data),
        }
    }

    fn untimed(verb: &'static str, words: Vec<Cow<'a, str>>, data: &'a [u8]) -> Self {
        Self { verb, limit: "0".into(), words, data }
    }

    /// An operation that the host cannot be asked for answers in its place, so that order and stopping stay the same.
    fn refusal(why: String) -> Self {
        Self::untimed("refuse", vec!["2".into(), why.into()], &[])
    }

    fn head(&self, index: usize) -> Vec<u8> {
        let Self { verb, limit, words, data } = self;
        let mut head = format!("{verb} {index} {limit} {} {}\n", data.len(), words.len());
        for word in words {
            head.push_str(&format!("{}\n{word}", word.len()));
        }
        head.into_bytes()
    }
}

/// Data that can travel as a word, which saves the host some processes.
fn short_text(data: &[u8]) -> Option<&str> {
    let short = data.len() <= SHORT && !data.contains(&0);
    std::str::from_utf8(data).ok().filter(|_| short)
}

/// `timeout` takes zero for "no limit", which nobody can mean here.
fn seconds(limit: std::time::Duration) -> String {
    format!("{:.3}", limit.as_secs_f64().max(0.001))
}

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// What came of the operation at `index` of the batch.
    Reply {
        /// Place in the batch, from zero.
        index: usize,
        /// The outcome.
        output: Output,
    },
    /// No more replies belong to the batch.
    End,
}

/// Something wrote into the middle of an answer: a job that a login script left running, as a rule. The bytes are
/// not shown, since an answer may hold a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its answer is garbled (does a login script leave something running that prints?)")]
pub struct Garbled;

/// Finds the answers in what a shell prints.
#[derive(Debug)]
pub struct Frames {
    /// The nonce and a space, which start each line of ours.
    mark: Vec<u8>,
    buffer: Vec<u8>,
    /// The header already seen, while its body is still on the way.
    head: Option<Head>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    index: usize,
    status: i32,
    out: usize,
    err: usize,
}

impl Frames {
    /// For a shell that marks its answers with this nonce.
    pub fn new(nonce: &str) -> Self {
        Self { mark: format!("{nonce} ").into_bytes(), buffer: Vec::new(), head: None }
    }

    /// Takes in what arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole answer, if it is there.
    ///
    /// # Errors
    /// Where an answer of ours is not as it must be; the stream is of no use afterwards.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Garbled> {
        if self.head.is_none() {
            let Some(line) = self.line_of_ours() else { return Ok(None) };
            if line == "end" {
                return Ok(Some(Frame::End));
            }
            self.head = Some(Head::parse(&line).ok_or(Garbled)?);
        }
        self.body()
    }

    /// The rest of the next line that starts with the mark; what stands before it is noise and dropped.
    fn line_of_ours(&mut self) -> Option<String> {
        let Some(start) = find(&self.buffer, &self.mark) else {
            let noise = self.buffer.len().saturating_sub(self.mark.len() - 1);
            self.buffer.drain(..noise);
            return None;
        };
        self.buffer.drain(..start);
        let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
        let line = String::from_utf8_lossy(&self.buffer[self.mark.len()..end]).into_owned();
        self.buffer.drain(..=end);
        Some(line)
    }

    fn body(&mut self) -> Result<Option<Frame>, Garbled> {
        let Some(Head { index, status, out, err }) = self.head else { return Ok(None) };
        let trailer = [self.mark.as_slice(), b".\n"].concat();
        let length = out + err + trailer.len();
        if self.buffer.len() < length {
            return Ok(None);
        }
        let rest = self.buffer.split_off(length);
        let mut stdout = std::mem::replace(&mut self.buffer, rest);
        if !stdout.ends_with(&trailer) {
            return Err(Garbled);
        }
        self.head = None;
        let stderr = String::from_utf8_lossy(&stdout[out..out + err]).into_owned();
        stdout.truncate(out);
        Ok(Some(Frame::Reply { index, output: Output { status, stdout, stderr, ..Output::default() } }))
    }
}

impl Head {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let head = Self {
            index: words.next()?.parse().ok()?,
            status: words.next()?.parse().ok()?,
            out: words.next()?.parse().ok()?,
            err: words.next()?.parse().ok()?,
        };
        // Sizes that cannot be added up are noise as well.
        head.out.checked_add(head.err)?.checked_add(line.len())?;
        words.next().is_none().then_some(head)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests;
