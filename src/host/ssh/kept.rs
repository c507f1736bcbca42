//! Connections that wait for the next run, for as long as `ssh.control_persist` says.
//!
//! One waits as the folder of its socket, in a folder that is its user's alone and outlives runs. Who takes it moves it away
//! first, so no two runs ever have the same. Its name stands for everything that would make another connection of it: whom it
//! leads to and how, what ssh's files and `known_hosts` hold, and through which network it goes, since another has other hosts
//! at the same addresses.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime},
};

use tokio::{net::lookup_host, process::Command, time::timeout};

use super::{
    config::{self, Files},
    link::Target,
};
use crate::hash::sha256;

/// What waited for so long is over: no connection may wait for more than ten minutes.
const OVER: Duration = Duration::from_secs(2 * 3600);

/// How long may be looked for what a connection is, which is time of those who wait for a login. A test looks at what comes of
/// it, however busy its computer is.
const SOON: Duration = Duration::from_millis(if cfg!(test) { 60_000 } else { 500 });

/// The settings of ssh that name files by which keys are judged, or shown.
const FILES: [&str; 5] =
    ["userknownhostsfile", "globalknownhostsfile", "revokedhostkeys", "identityfile", "certificatefile"];

/// The place where the connection to one host waits.
#[derive(Debug)]
pub(super) struct Place(PathBuf);

impl Place {
    /// That of a target whose ssh has this configuration, for those whose own folder is `dir`; `None` where its connections do
    /// not wait, or nowhere safe, or where it is not known soon what they are. To be asked before the login: what is known of
    /// keys then is what the connection stands for.
    pub(super) async fn of(target: &Target, files: &Files, dir: &Path) -> Option<Self> {
        if target.ssh.control_persist.is_zero() {
            return None;
        }
        let folder = folder_beside(dir).ok()?;
        let description = timeout(SOON, description(target, files, dir)).await.ok()??;
        Some(Self(folder.join(&sha256(description.as_bytes())[..24])))
    }

    /// Takes what waits there to the folder `dir`; where its socket is now.
    pub(super) fn take(&self, dir: &Path) -> Option<PathBuf> {
        let own = dir.join(self.0.file_name()?);
        fs::rename(&self.0, &own).ok()?;
        Some(own.join("master"))
    }

    /// Has the connection wait whose socket that is; false where another does already.
    pub(super) fn put(&self, socket: &Path) -> bool {
        let Some(own) = socket.parent() else { return false };
        // By it is told when it is over.
        let _ = File::open(own).and_then(|folder| folder.set_modified(SystemTime::now()));
        fs::rename(own, &self.0).is_ok()
    }
}

/// All that decides what a connection is: ssh's settings as it reads them itself, those for the jump host, the files that they
/// name, where the name of the host leads to, and the network. `None` where ssh does not tell, or goes through hosts of which
/// it does not. Of files their numbers, sizes and times are enough.
async fn description(target: &Target, files: &Files, dir: &Path) -> Option<String> {
    let Target { address, ssh, name: _, patience: _ } = target;
    let port = ssh.port.to_string();
    let mut own =
        [files.config.as_ref(), "-p".as_ref(), port.as_ref(), "-l".as_ref(), ssh.user.as_ref()].to_vec();
    own.extend(ssh.key_path.iter().flat_map(|key| [OsStr::new("-i"), key.as_os_str()]));
    let mut told = settings(&own, address, dir).await?;
    if of(&told, "proxyjump").any(|hops| hops != "none") {
        return None;
    }
    let through = of(&told, "proxycommand").any(|command| command != "none");
    let led = match of(&told, "hostname").next().filter(|_| !through) {
        Some(host) => lookup_host((host, ssh.port)).await.ok()?.collect(),
        None => BTreeSet::new(),
    };
    if let Some(bastion) = &ssh.bastion {
        let (user, host, port) = config::parts(bastion);
        let user = user.into_iter().flat_map(|user| ["-l", user]);
        let port = port.into_iter().flat_map(|port| ["-p", port]);
        let mut own: Vec<&OsStr> = vec![files.bastion_config.as_ref()];
        own.extend(user.chain(port).map(OsStr::new));
        told.extend(settings(&own, host, dir).await?);
    }
    let named = FILES.iter().flat_map(|key| of(&told, key)).flat_map(str::split_whitespace);
    let home = std::env::home_dir().unwrap_or_default();
    let named = named.map(|file| file.strip_prefix("~/").map_or_else(|| file.into(), |own| home.join(own)));
    // Whose names have spaces, of these.
    let named = named.chain(ssh.known_hosts_path.clone()).chain(ssh.key_path.clone());
    let named: Vec<_> = named.map(|path| (fs::metadata(&path).ok().map(|m| version_of(&m)), path)).collect();
    let network = fs::read_link("/proc/self/ns/net");
    Some(format!("{address} {ssh:?} {told:?} {named:?} {led:?} {network:?}"))
}

/// What ssh says of how it would connect to a host, a setting a line, but for what is this run's own affair: the folder of its
/// configuration, and how long a login may take.
async fn settings(arguments: &[&OsStr], host: &str, dir: &Path) -> Option<Vec<String>> {
    let mut ask = Command::new("ssh");
    ask.arg("-GF").args(arguments).arg("--").arg(host).stdin(Stdio::null()).kill_on_drop(true);
    let told = ask.output().await.ok().filter(|told| told.status.success())?;
    let told = String::from_utf8_lossy(&told.stdout).replace(&*dir.to_string_lossy(), "");
    Some(told.lines().filter(|line| !line.starts_with("connecttimeout ")).map(str::to_owned).collect())
}

/// The values of a setting.
fn of<'t>(told: &'t [String], key: &'t str) -> impl Iterator<Item = &'t str> {
    told.iter().filter_map(move |line| line.strip_prefix(key)?.strip_prefix(' '))
}

/// What changes with every change of a file.
fn version_of(file: &fs::Metadata) -> (u64, u64, i64, i64) {
    (file.ino(), file.len(), file.ctime(), file.ctime_nsec())
}

/// The folder where connections wait, beside a run's own, which is this user's; nobody else may enter it. What waited there for
/// too long is removed.
fn folder_beside(dir: &Path) -> io::Result<PathBuf> {
    let user = fs::metadata(dir)?.uid();
    let folder = dir.with_file_name(format!("rsadm-ssh-{user}"));
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // In a folder that all may write to, anybody may have made it, or a link of that name.
    let found = fs::symlink_metadata(&folder)?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    for entry in fs::read_dir(&folder)?.flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > OVER) {
            // Tidiness: what cannot be removed does no harm.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::manifests::testing;

    /// A target whose known hosts are in a folder, with connections that wait.
    fn target(dir: &Path) -> Target {
        let node = testing::ha().nodes[0].clone();
        let mut ssh = node.ssh;
        ssh.control_persist = Duration::from_secs(60);
        ssh.known_hosts_path = Some(dir.join("known_hosts"));
        Target { name: node.name, address: node.address, ssh, patience: Duration::ZERO }
    }

    /// The place of a target, for a run with that folder.
    async fn place(target: &Target, dir: &Path) -> Option<Place> {
        let files = Files::write(dir, target.name.as_str(), &target.ssh, target.patience).unwrap();
        Place::of(target, &files, dir).await
    }

    #[tokio::test]
    async fn what_waits_is_taken_once_and_by_its_like_alone() {
        if Command::new("ssh").arg("-V").output().await.is_err() {
            return eprintln!("skipped: no ssh here");
        }
        let base = tempfile::tempdir().unwrap();
        let (own, next) = (base.path().join("own"), base.path().join("next"));
        for dir in [&own, &next] {
            fs::create_dir_all(dir.join("c")).unwrap();
            fs::write(dir.join("c/master"), "").unwrap();
        }
        let mut target = target(base.path());
        target.ssh.bastion = Some("ops@198.51.100.7".into());
        let first = place(&target, &own).await.unwrap();
        assert!(first.take(&next).is_none(), "nothing waits yet");
        assert!(first.put(&own.join("c/master")));
        assert!(!first.put(&next.join("c/master")), "another waits");

        let others: [fn(&mut Target); 5] = [
            |t| t.address = "198.51.100.9".into(),
            |t| t.ssh.user = "other".into(),
            |t| t.ssh.become_root = !t.ssh.become_root,
            |t| t.ssh.bastion = None,
            |t| fs::write(t.ssh.known_hosts_path.as_ref().unwrap(), "another key").unwrap(),
        ];
        for change in others {
            let mut other = target.clone();
            change(&mut other);
            assert!(place(&other, &next).await.unwrap().take(&next).is_none(), "{other:?}");
        }
        fs::remove_file(base.path().join("known_hosts")).unwrap();
        // A login may take longer than the last time.
        target.patience = Duration::from_secs(60);
        let again = place(&target, &next).await.unwrap();
        let socket = again.take(&next).unwrap();
        assert!(socket.starts_with(&next) && socket.is_file());
        assert!(again.take(&own).is_none(), "nobody else has it");
        target.ssh.control_persist = Duration::ZERO;
        assert!(place(&target, &next).await.is_none());
    }

    /// A run's own folder, and the one where connections wait beside it, for as long as the first value lives.
    fn folders() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let base = tempfile::tempdir().unwrap();
        let own = base.path().join("own");
        fs::create_dir(&own).unwrap();
        let folder = folder_beside(&own).unwrap();
        (base, own, folder)
    }

    #[test]
    fn connections_wait_in_no_folder_that_others_may_enter() {
        let (_base, own, folder) = folders();
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
        folder_beside(&own).unwrap_err();
        fs::remove_dir(&folder).unwrap();
        symlink(&own, &folder).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
        folder_beside(&own).unwrap_err();
    }

    #[test]
    fn what_waited_too_long_is_removed() {
        let (_base, own, folder) = folders();
        for (name, age) in [("old", OVER * 2), ("new", OVER / 2)] {
            fs::create_dir(folder.join(name)).unwrap();
            File::open(folder.join(name)).unwrap().set_modified(SystemTime::now() - age).unwrap();
        }
        folder_beside(&own).unwrap();
        assert!(folder.join("new").exists() && !folder.join("old").exists());
    }
}
