//! From a login to a waiting root shell, past login scripts and sudo.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep_until, timeout},
};

use crate::{host::Script, line::one_line, secret::Secret};

/// The remote half.
const PROGRAM: Script = Script { name: "remote", text: include_str!("remote.sh") };

/// Says that it is there, then takes [`PROGRAM`] from standard input, past whatever sudo left unread. It is all that
/// `ps` and sudo's log show. Without single quotes or exclamation marks, so that any login shell hands it on as it is.
/// `PATH` is set before the first program is looked for: a user's own may lack it.
const LOADER: &str = concat!(
    r#"export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; "#,
    r#"printf "\n%s ready\n" "$1"; "#,
    r#"while read -r n; do [ "$n" = "$1" ] && break; done; "#,
    r#"read -r n && p=$(head -c "$n" | gzip -d) && eval "$p""#,
);

/// How long a shell may take to appear: PAM waits two seconds after a wrong password, directory services longer.
const OPENING: Duration = Duration::from_secs(30);

/// How long sudo may take to say its last words.
const PARTING: Duration = Duration::from_secs(5);

/// To a process.
pub(super) type Writer = Box<dyn AsyncWrite + Send + Unpin>;
/// From a process.
pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// The streams of a remote process.
pub(super) struct Streams {
    pub(super) stdin: Writer,
    pub(super) stdout: Reader,
    pub(super) stderr: Reader,
    /// Whatever must live as long as the process.
    pub(super) process: Box<dyn Send>,
}

/// How a shell is asked for.
pub(super) struct Invocation {
    /// What every line of the shell's own starts with.
    pub(super) nonce: String,
    become_root: bool,
    /// How long it may take to appear.
    limit: Duration,
}

impl Invocation {
    /// With a nonce of its own. It keeps our lines apart from a login shell's, not from an enemy's: who can write to
    /// the stream is root there already. `patience` is the operator's, where it is longer than ours.
    pub(super) fn new(become_root: bool, patience: Duration) -> Self {
        let nonce = format!("rsadm-{:016x}", RandomState::new().hash_one(become_root));
        Self { nonce, become_root, limit: OPENING.max(patience) }
    }

    /// The command line for the login shell. sudo prompts with the nonce, so the password is sent if and when it asks
    /// for one, and a second prompt is known for what it is. `-k`: no remembered password, each run is alike.
    pub(super) fn command(&self) -> String {
        let shell = format!("bash --norc --noprofile -c '{LOADER}' rsadm {}", self.nonce);
        if self.become_root {
            format!("env LC_ALL=C sudo -S -k -H -p '{}' -- {shell}", self.prompt())
        } else {
            shell
        }
    }

    fn prompt(&self) -> String {
        format!("{}-password:", self.nonce)
    }
}

/// Why there is no shell.
#[derive(Debug)]
pub(super) enum NoShell {
    /// sudo said no, in these words.
    Sudo(String),
    /// It ended before it began.
    Ended(String),
    /// It did not appear in time, and sudo asked for nothing: the host may be busy.
    Late(String),
}

/// What the loader is given: where it begins, how long it is, and the remote half.
pub(super) fn program(nonce: &str) -> Vec<u8> {
    let packed = PROGRAM.packed();
    [format!("{nonce}\n{}\n", packed.len()).as_bytes(), packed].concat()
}

/// Waits for the loader, answering sudo's prompt on the way, and gives it the remote half; how many bytes that were.
pub(super) async fn open(
    streams: &mut Streams,
    invocation: &Invocation,
    password: Option<&Secret>,
) -> Result<u64, NoShell> {
    let opening = Opening { invocation, password, said: Vec::new(), complained: Vec::new() };
    opening.run(streams).await?;
    let program = program(&invocation.nonce);
    streams.stdin.write_all(&program).await.map_err(|error| NoShell::Ended(error.to_string()))?;
    Ok(program.len() as u64)
}

/// The way from a started process to a loader that waits.
struct Opening<'a> {
    invocation: &'a Invocation,
    password: Option<&'a Secret>,
    said: Vec<u8>,
    complained: Vec<u8>,
}

impl Opening<'_> {
    async fn run(mut self, streams: &mut Streams) -> Result<(), NoShell> {
        let ready = format!("\n{} ready\n", self.invocation.nonce);
        let limit = self.invocation.limit;
        let until = Instant::now() + limit;
        let mut prompts = 0;
        let mut stderr_open = true;
        loop {
            tokio::select! {
                read = streams.stdout.read_buf(&mut self.said) => match read {
                    Ok(1..) if contains(&self.said, &ready) => return Ok(()),
                    Ok(1..) => {}
                    _ => return Err(self.refused(streams).await),
                },
                read = streams.stderr.read_buf(&mut self.complained), if stderr_open => {
                    stderr_open = matches!(read, Ok(1..));
                }
                () = sleep_until(until) => {
                    // It may ask in words of its own (sudoers, `passprompt_override`).
                    let is_silent = self.complained.is_empty() && self.said.is_empty();
                    let late = format!("\nno shell after {} s", limit.as_secs());
                    self.complained.extend_from_slice(late.as_bytes());
                    return Err(if is_silent { NoShell::Late(self.words()) } else { self.failure() });
                }
            }
            let asked = self.prompts();
            match self.password {
                _ if asked == prompts => {}
                Some(password) if asked == 1 => send_line(streams, password).await,
                // Asked again, or asked for what we do not have: no further try, which could lock the account.
                _ => return Err(self.refused(streams).await),
            }
            prompts = asked;
        }
    }

    fn prompts(&self) -> usize {
        String::from_utf8_lossy(&self.complained).matches(&self.invocation.prompt()).count()
    }

    /// Ends the input and hears the rest.
    async fn refused(mut self, streams: &mut Streams) -> NoShell {
        streams.stdin = Box::new(tokio::io::sink());
        let rest = streams.stderr.read_to_end(&mut self.complained);
        // Whether it ends or not: what was said by then has to do.
        let _ = timeout(PARTING, rest).await;
        if self.password.is_none() && self.prompts() > 0 {
            return NoShell::Sudo("a password is required and none was given".into());
        }
        self.failure()
    }

    fn failure(self) -> NoShell {
        let become_root = self.invocation.become_root;
        if become_root { NoShell::Sudo(self.words()) } else { NoShell::Ended(self.words()) }
    }

    fn words(self) -> String {
        let complaint = String::from_utf8_lossy(&self.complained).replace(&self.invocation.prompt(), "\n");
        let mut why = one_line(&complaint, "; ");
        if why.is_empty() {
            why = one_line(&String::from_utf8_lossy(&self.said), "; ");
        }
        why
    }
}

/// A failure to write shows as the process's end a moment later, with its words.
async fn send_line(streams: &mut Streams, secret: &Secret) {
    let line = [secret.expose(), b"\n"].concat();
    let _ = streams.stdin.write_all(&line).await;
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    /// The far ends of a process's streams.
    struct Far {
        stdin: DuplexStream,
        stdout: DuplexStream,
        stderr: DuplexStream,
    }

    fn process() -> (Streams, Far) {
        let [(stdin, far_in), (stdout, far_out), (stderr, far_err)] = [(); 3].map(|()| duplex(1 << 16));
        let streams = Streams {
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            process: Box::new(()),
        };
        (streams, Far { stdin: far_in, stdout: far_out, stderr: far_err })
    }

    fn invocation(patience: Duration) -> Invocation {
        Invocation { nonce: "N".into(), ..Invocation::new(true, patience) }
    }

    /// What a client with this password does and writes when sudo and the loader say these things.
    async fn meet(
        password: Option<&str>,
        sudo_says: &[&str],
        stdout: &str,
    ) -> (Result<u64, NoShell>, Vec<u8>) {
        let invocation = invocation(Duration::ZERO);
        let password = password.map(Secret::new);
        let (mut streams, mut far) = process();
        let client = async {
            let opened = open(&mut streams, &invocation, password.as_ref()).await;
            drop(streams);
            opened
        };
        let server = async {
            let mut heard = Vec::new();
            for says in sudo_says {
                far.stderr.write_all(says.as_bytes()).await.unwrap();
                if password.is_some() && heard.is_empty() {
                    let mut byte = [0];
                    while !heard.ends_with(b"\n") && far.stdin.read(&mut byte).await.unwrap() == 1 {
                        heard.push(byte[0]);
                    }
                }
            }
            far.stdout.write_all(stdout.as_bytes()).await.unwrap();
            drop((far.stderr, far.stdout));
            far.stdin.read_to_end(&mut heard).await.unwrap();
            heard
        };
        tokio::join!(client, server)
    }

    fn sent(password: &str) -> Vec<u8> {
        [password.as_bytes(), &program("N")].concat()
    }

    #[tokio::test]
    async fn the_password_is_sent_when_sudo_asks_and_only_then() {
        let cases: [(Option<&str>, &[&str], &str, &str); 4] = [
            (None, &[], "\nN ready\n", ""),
            (None, &["sudo: unable to resolve host m1\n"], "Welcome\nN\n\nN ready\n", ""),
            (Some("pw"), &["N-password:"], "\nN ready\n", "pw\n"),
            (Some("pw"), &["We trust you have received…\n\nN-password:"], "motd\n\nN ready\n", "pw\n"),
        ];
        for (password, sudo_says, stdout, line) in cases {
            let (opened, heard) = meet(password, sudo_says, stdout).await;
            assert!(matches!(opened, Ok(bytes) if bytes as usize == program("N").len()), "{opened:?}");
            assert_eq!(heard, sent(line));
        }
    }

    #[tokio::test]
    async fn sudos_refusal_is_told_and_not_answered_again() {
        let cases: [(Option<&str>, &[&str], &str, &str); 4] = [
            (Some("pw"), &["N-password:", "Sorry, try again.\nN-password:"], "Sorry, try again.", "pw\n"),
            (
                Some("pw"),
                &["N-password:", "m is not in the sudoers file.\n"],
                "m is not in the sudoers file.",
                "pw\n",
            ),
            (None, &["N-password:"], "a password is required and none was given", ""),
            (
                None,
                &["env: 'sudo': No such file or directory\n"],
                "env: 'sudo': No such file or directory",
                "",
            ),
        ];
        for (password, sudo_says, expected, line) in cases {
            let (opened, heard) = meet(password, sudo_says, "").await;
            assert!(
                matches!(&opened, Err(NoShell::Sudo(why)) if why == expected),
                "{opened:?} {sudo_says:?}"
            );
            assert_eq!(heard, line.as_bytes());
        }
    }

    /// As where PAM asks a directory service that is away.
    #[tokio::test(start_paused = true)]
    async fn a_shell_has_as_long_as_the_operator_gives_it() {
        for (patience, seconds) in [(2, 30), (90, 90)] {
            let invocation = invocation(Duration::from_secs(patience));
            let (mut streams, _far) = process();
            let begun = Instant::now();
            let opened = open(&mut streams, &invocation, None).await;
            let said = format!("no shell after {seconds} s");
            assert!(matches!(&opened, Err(NoShell::Late(why)) if *why == said), "{opened:?}");
            assert_eq!(begun.elapsed(), Duration::from_secs(seconds));
        }
    }

    /// One that was given a password and then says nothing more may count that as a wrong one.
    #[tokio::test(start_paused = true)]
    async fn a_sudo_that_hangs_over_a_password_is_not_asked_again() {
        let invocation = invocation(Duration::ZERO);
        let (mut streams, mut far) = process();
        far.stderr.write_all(b"N-password:").await.unwrap();
        let opened = open(&mut streams, &invocation, Some(&Secret::new("pw"))).await;
        assert!(
            matches!(&opened, Err(NoShell::Sudo(why)) if why.contains("no shell after 30 s")),
            "{opened:?}"
        );
    }

    #[test]
    fn the_command_line_survives_any_login_shell() {
        let command = invocation(Duration::ZERO).command();
        assert_eq!(command.matches('\'').count(), 4, "{command}");
        assert!(!command.contains(['!', '\n']), "{command}");
    }
}
