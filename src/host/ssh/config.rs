//! ssh's configuration for our connections, and the private folder it lies in.
//!
//! What the `openssh` crate's builder has no word for goes into a file of ours, and a second one serves the jump host,
//! which the builder's options do not reach. The first value that ssh finds for a setting counts: ours stand before the
//! operator's own files, except where the operator may know better.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use super::link::end;
use crate::inventory::{HostKeyCheck, Ssh};

/// Unix socket paths end at about 100 bytes, and some 60 come after the folder we make ours in.
const LONGEST_BASE: usize = 40;

/// Settled here, since a batch tool cannot work otherwise, and needed for the jump host as well.
///
/// A silent peer is given up after three intervals, 15 s (ssh counts the questions it asks in between: two). `UpdateHostKeys` would rewrite known_hosts from several connections at once.
/// `LogVerbose` adds one line to the log: the fingerprint of the key that the host offered. Older ssh does not know it; and the
/// operator's files, which follow, may name what this ssh does not know and say so themselves (`IgnoreUnknown UseKeychain`),
/// in vain behind ours. So nothing unknown is an error.
const SETTLED: &str = "\
IgnoreUnknown *
LogVerbose sshconnect.c:verify_host_key():*
LogLevel INFO
BatchMode yes
ServerAliveInterval 5
ServerAliveCountMax 2
TCPKeepAlive yes
UpdateHostKeys no
Compression no
ClearAllForwardings yes
ForwardAgent no
ForwardX11 no
PermitLocalCommand no
RemoteCommand none
RequestTTY no
";

/// How many seconds ssh waits for an address and for the server behind it to say a word, where the operator has not given them
/// more time.
const DIALLING: u64 = 10;

/// More is no time for ssh, which counts it in milliseconds of an `int`.
const LONGEST_DIALLING: u64 = 24 * 3600;

/// Left to the operator's files where they say something. The cipher is the fastest on any machine with AES
/// instructions: 437 MB in 1.0 s instead of 3.5 s.
const PROPOSED: &str = "\
Include ~/.ssh/config
Include /etc/ssh/ssh_config
Host *
Ciphers ^aes128-gcm@openssh.com
";

/// The configuration files for one host.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// For `ssh -F`.
    pub(super) config: PathBuf,
    /// The same for the jump host.
    pub(super) bastion_config: PathBuf,
    /// What the jump host's ssh says, which the log of the connection behind it lacks.
    pub(super) bastion_log: PathBuf,
}

impl Files {
    /// Writes them; `patience` is the operator's.
    pub(super) fn write(dir: &Path, host: &str, ssh: &Ssh, patience: Duration) -> io::Result<Self> {
        let files = Self {
            config: dir.join(format!("{host}.conf")),
            bastion_config: dir.join(format!("{host}-jump.conf")),
            bastion_log: dir.join(format!("{host}.jump")),
        };
        let mut text = common(ssh, patience);
        if let Some(bastion) = &ssh.bastion {
            fs::write(&files.bastion_config, bastion_config(ssh, patience))?;
            text = format!("{}{text}", proxy_command(bastion, &files.bastion_config, &files.bastion_log));
        }
        fs::write(&files.config, text + PROPOSED)?;
        // A reconnection must not read what was said the last time.
        match fs::remove_file(&files.bastion_log) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(files),
        }
    }
}

fn common(ssh: &Ssh, patience: Duration) -> String {
    let check = match ssh.host_key_check {
        HostKeyCheck::Strict => "yes",
        HostKeyCheck::AcceptNew => "accept-new",
    };
    // A second less than those who wait for ssh: it tells better what it waited for.
    let seconds = patience.as_secs().saturating_sub(1).clamp(DIALLING, LONGEST_DIALLING);
    let mut text = format!("{SETTLED}ConnectTimeout {seconds}\nStrictHostKeyChecking {check}\n");
    if let Some(path) = &ssh.known_hosts_path {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "UserKnownHostsFile {}", quoted(path));
    }
    text
}

/// The jump host gets the same key, after what the operator's files say of it.
fn bastion_config(ssh: &Ssh, patience: Duration) -> String {
    let key = ssh.key_path.as_deref().map(|path| format!("IdentityFile {}\n", quoted(path)));
    format!("{}{PROPOSED}{}", common(ssh, patience), key.unwrap_or_default())
}

/// What `ProxyJump` does, but with a log, and what asks rsadm to stop does not end it: unlike the connections that lead
/// through it, it stays in the process group that a terminal tells of Ctrl-C, and what runs on the hosts is to be finished.
/// Signals that ssh was started to ignore it goes on to ignore (OpenSSH, `clientloop.c`); the ssh that it serves ends it with
/// SIGHUP.
fn proxy_command(bastion: &str, config: &Path, log: &Path) -> String {
    let (user, host, port) = parts(bastion);
    let user = user.map(|user| format!("-l {user} ")).unwrap_or_default();
    let port = port.map(|port| format!("-p {port} ")).unwrap_or_default();
    let (config, log) = (quoted(config), quoted(log));
    let start = r#"sh -c 'trap "" INT TERM; exec "$@"' sh"#;
    format!("ProxyCommand {start} ssh -F {config} -E {log} -W [%h]:%p {user}{port}-- {host}\n")
}

/// User, host and port of `[user@]address[:port]`.
pub(super) fn parts(bastion: &str) -> (Option<&str>, &str, Option<&str>) {
    let (user, address) =
        bastion.rsplit_once('@').map_or((None, bastion), |(user, address)| (Some(user), address));
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    (user, host.trim_matches(['[', ']']), port)
}

/// A path as ssh's configuration reads it: in quotes for spaces, `%` doubled since it introduces a token.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

/// The folder of control sockets and configuration files: 0700, one per process, removed when the last connection is.
#[derive(Debug)]
pub struct ControlDir {
    dir: TempDir,
    /// Locked for as long as the process lives, by which others know that it does: a number of a process says nothing to those
    /// in containers of their own that share the folder around it.
    _alive: File,
}

impl ControlDir {
    /// Makes one, and removes those of processes that were killed.
    ///
    /// # Errors
    /// Where no folder can be made anywhere.
    pub fn create() -> io::Result<Self> {
        Self::create_in(&bases())
    }

    /// The first that takes it: `XDG_RUNTIME_DIR` may be another user's, after `su`, and a temporary folder read-only.
    fn create_in(bases: &[PathBuf]) -> io::Result<Self> {
        let prefix = format!("rsadm-{}-", std::process::id());
        let mut tried = Vec::new();
        for base in bases {
            sweep(base);
            match Self::make(base, &prefix) {
                Ok(dir) => return Ok(dir),
                Err(error) => tried.push(format!("{}: {}", base.display(), error.kind())),
            }
        }
        Err(io::Error::other(format!("no folder for ssh's sockets could be made; {}", tried.join("; "))))
    }

    fn make(base: &Path, prefix: &str) -> io::Result<Self> {
        let private = fs::Permissions::from_mode(0o700);
        let dir = tempfile::Builder::new().prefix(prefix).permissions(private).tempdir_in(base)?;
        let alive = File::open(dir.path())?;
        // Where there are no locks, nobody gets one to sweep it either.
        let _ = alive.try_lock();
        Ok(Self { dir, _alive: alive })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// The user's runtime folder and the temporary one, if a socket's path still fits below them, and what every system has.
fn bases() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let fits = |path: &PathBuf| path.is_absolute() && path.is_dir() && path.as_os_str().len() <= LONGEST_BASE;
    let mut bases: Vec<_> = runtime.into_iter().chain([std::env::temp_dir()]).filter(fits).collect();
    bases.push("/tmp".into());
    bases.dedup();
    bases
}

/// How old a folder is that is swept: one that was just made is not locked yet.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// Removes this user's folders of processes that are gone, and ends their connections, which would end by themselves only after
/// they have been idle for a while. What others made is not even opened: in a folder that all may write to, that could be
/// anything.
fn sweep(base: &Path) {
    let (Ok(entries), Ok(own)) = (fs::read_dir(base), fs::metadata("/proc/self")) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid =
            name.to_str().and_then(|name| name.strip_prefix("rsadm-")?.split_once('-')).map(|(pid, _)| pid);
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        // Of the entry itself, where it is a link.
        let is_own = entry.metadata().is_ok_and(|it| it.is_dir() && it.uid() == own.uid());
        if is_own && is_left(&entry.path(), pid) {
            let sockets = fs::read_dir(entry.path()).into_iter().flatten().flatten();
            // Without its socket nobody could.
            sockets.map(|it| it.path().join("master")).filter(|it| is_socket(it)).for_each(|it| end(&it));
            // Tidiness: what cannot be removed does no harm.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket())
}

/// True for a folder that no process has any more. One with other numbers for processes, in a container, is told by its lock;
/// an rsadm of before there were locks by its number.
fn is_left(folder: &Path, pid: u32) -> bool {
    let Ok(folder) = File::open(folder) else { return false };
    let changed = folder.metadata().and_then(|it| it.modified()).ok();
    let is_old = changed.and_then(|at| at.elapsed().ok()).is_some_and(|age| age >= SETTLED_AFTER);
    is_old && !Path::new(&format!("/proc/{pid}")).exists() && folder.try_lock().is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::manifests::testing;

    #[test]
    fn jump_hosts_are_read_as_ssh_reads_them() {
        let cases = [
            ("jump", "-- jump"),
            ("ops@jump", "-l ops -- jump"),
            ("ops@jump:2222", "-l ops -p 2222 -- jump"),
            ("[fd00::1]:2222", "-p 2222 -- fd00::1"),
            ("[fd00::1]", "-- fd00::1"),
            ("fd00::1", "-- fd00::1"),
            ("o@corp@jump", "-l o@corp -- jump"),
        ];
        for (bastion, expected) in cases {
            let line = proxy_command(bastion, Path::new("/c d"), Path::new("/l%"));
            let start = r#"sh -c 'trap "" INT TERM; exec "$@"' sh"#;
            let expected =
                format!("ProxyCommand {start} ssh -F \"/c d\" -E \"/l%%\" -W [%h]:%p {expected}\n");
            assert_eq!(line, expected, "{bastion}");
        }
    }

    #[test]
    fn ssh_dials_as_long_as_the_operator_lets_it() {
        let dir = tempfile::tempdir().unwrap();
        let ssh = Ssh { bastion: Some("jump".into()), ..testing::ha().nodes[0].ssh.clone() };
        for (patience, seconds) in [(0, 10), (5, 10), (40, 39), (u64::MAX / 1000, 24 * 3600)] {
            Files::write(dir.path(), "m1", &ssh, Duration::from_secs(patience)).unwrap();
            for file in ["m1.conf", "m1-jump.conf"] {
                let text = fs::read_to_string(dir.path().join(file)).unwrap();
                let line = format!("ConnectTimeout {seconds}");
                assert_eq!(text.lines().find(|l| l.starts_with("ConnectTimeout")), Some(&*line), "{file}");
            }
        }
    }

    /// As ssh of another machine may need it in the operator's file, which stands behind ours. Ours have no slip that would go unseen.
    #[test]
    fn what_this_ssh_does_not_know_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let ours = SETTLED.replacen("IgnoreUnknown *", "IgnoreUnknown LogVerbose", 1);
        for text in [format!("{SETTLED}Host *\nIgnoreUnknown UseKeychain\nUseKeychain yes\n"), ours] {
            fs::write(dir.path().join("conf"), &text).unwrap();
            let asked =
                std::process::Command::new("ssh").arg("-GF").arg(dir.path().join("conf")).arg("m1").output();
            let Ok(output) = asked else { return eprintln!("skipped: no ssh here") };
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(output.status.success() && said.contains("batchmode yes"), "{text}: {said}");
        }
    }

    #[test]
    fn a_control_folder_is_private_and_goes() {
        let dir = ControlDir::create().unwrap();
        let path = dir.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_takes_none_is_passed_over() {
        let base = tempfile::tempdir().unwrap();
        let (file, gone) = (base.path().join("file"), base.path().join("gone"));
        fs::write(&file, "").unwrap();
        let dir = ControlDir::create_in(&[file.clone(), gone.clone(), base.path().into()]).unwrap();
        assert_eq!(dir.path().parent(), Some(base.path()));
        let error = ControlDir::create_in(&[file.clone(), gone.clone()]).unwrap_err().to_string();
        let expected = format!(
            "no folder for ssh's sockets could be made; {}: not a directory; {}: entity not found",
            file.display(),
            gone.display()
        );
        assert_eq!(error, expected);
    }

    #[test]
    fn folders_of_dead_processes_are_swept_and_no_others() {
        let base = tempfile::tempdir().unwrap();
        let live = ControlDir::create_in(&[base.path().into()]).unwrap();
        let live = live.path().file_name().unwrap().to_str().unwrap();
        // Of an rsadm from before there were locks.
        let own = format!("rsadm-{}-x", std::process::id());
        let names = [&own, "rsadm-999999999-x", "rsadm-notes", "other-999999999-x", "rsadm-999999999-new"];
        for name in names.into_iter().chain(["rsadm-999999999-held"]) {
            fs::create_dir(base.path().join(name)).unwrap();
        }
        // Of a process in a container: its number is none here.
        let held = File::open(base.path().join("rsadm-999999999-held")).unwrap();
        held.try_lock().unwrap();
        // By others, in a folder that all may write to.
        std::os::unix::fs::symlink(base.path().join("rsadm-notes"), base.path().join("rsadm-999999999-link"))
            .unwrap();
        let fifo = base.path().join("rsadm-999999999-fifo");
        assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        let old =
            [live, &own, "rsadm-999999999-x", "rsadm-notes", "other-999999999-x", "rsadm-999999999-held"];
        for name in old {
            File::open(base.path().join(name)).unwrap().set_modified(hour_ago).unwrap();
        }
        sweep(base.path());
        let mut left: Vec<_> = fs::read_dir(base.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        let mut expected = vec![live, &own, "other-999999999-x", "rsadm-notes"];
        expected.extend(["rsadm-999999999-new", "rsadm-999999999-held"]);
        expected.extend(["rsadm-999999999-link", "rsadm-999999999-fifo"]);
        expected.sort_unstable();
        assert_eq!(left, expected);
    }
}
