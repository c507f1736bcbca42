//! Connections that wait for the next run, for as long as `ssh.control_persist` says.
//!
//! One waits as the folder of its socket, in a folder that is its user's alone and outlives runs. Who takes it moves it away
//! first, so no two runs ever have the same. Its name stands for everything that would make another connection of it: whom it
//! leads to and how, what ssh's files and `known_hosts` hold, and through which network it goes, since another has other hosts
//! at the same addresses.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::link::Target;
use crate::host::frame::checksum;

/// What waited for so long is over: no connection may wait for more than an hour.
const OVER: Duration = Duration::from_secs(2 * 3600);

/// The place where the connection to one host waits.
#[derive(Debug)]
pub(super) struct Place(PathBuf);

impl Place {
    /// That of a target, for those whose own folder is `dir`; `None` where its connections do not wait, or nowhere safe.
    pub(super) fn of(target: &Target, dir: &Path) -> Option<Self> {
        if target.ssh.control_persist.as_secs() == 0 {
            return None;
        }
        let folder = folder_beside(dir).ok()?;
        Some(Self(folder.join(&checksum(description(target).as_bytes())[..24])))
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
        let moved = fs::rename(own, &self.0).is_ok();
        // By it is told when it is over.
        let _ = File::open(&self.0).and_then(|folder| folder.set_modified(SystemTime::now()));
        moved
    }
}

/// All that decides what a connection is. Of files their numbers, sizes and times are enough, as nobody else writes them.
fn description(target: &Target) -> String {
    let Target { address, ssh, name: _, patience: _ } = target;
    let home = std::env::home_dir().unwrap_or_default();
    let known = match &ssh.known_hosts_path {
        Some(path) => vec![path.clone()],
        None => ["known_hosts", "known_hosts2"].map(|file| home.join(".ssh").join(file)).into(),
    };
    let files = [home.join(".ssh/config"), "/etc/ssh/ssh_config".into(), "/etc/ssh/ssh_known_hosts".into()];
    let files = files.into_iter().chain(known).chain(ssh.key_path.clone());
    let files = files.map(|path| (fs::metadata(&path).ok().map(|m| version_of(&m)), path));
    let network = fs::read_link("/proc/self/ns/net");
    format!("{address} {ssh:?} {:?} {network:?}", files.collect::<Vec<_>>())
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

    #[test]
    fn what_waits_is_taken_once_and_by_its_like_alone() {
        let base = tempfile::tempdir().unwrap();
        let (own, next) = (base.path().join("own"), base.path().join("next"));
        for dir in [&own, &next] {
            fs::create_dir_all(dir.join("c")).unwrap();
        }
        let mut target = target(base.path());
        let place = Place::of(&target, &own).unwrap();
        assert!(place.take(&next).is_none(), "nothing waits yet");
        for dir in [&own, &next] {
            fs::write(dir.join("c/master"), "").unwrap();
        }
        assert!(place.put(&own.join("c/master")));
        assert!(!place.put(&next.join("c/master")), "another waits");

        let others: [fn(&mut Target); 4] = [
            |t| t.address = "198.51.100.9".into(),
            |t| t.ssh.user = "other".into(),
            |t| t.ssh.become_root = !t.ssh.become_root,
            |t| fs::write(t.ssh.known_hosts_path.as_ref().unwrap(), "another key").unwrap(),
        ];
        for change in others {
            let mut other = target.clone();
            change(&mut other);
            assert!(Place::of(&other, &next).unwrap().take(&next).is_none(), "{other:?}");
        }
        fs::remove_file(base.path().join("known_hosts")).unwrap();
        let socket = Place::of(&target, &next).unwrap().take(&next).unwrap();
        assert!(socket.starts_with(&next) && socket.is_file());
        assert!(Place::of(&target, &next).unwrap().take(&own).is_none(), "nobody else has it");
        target.ssh.control_persist = Duration::ZERO;
        assert!(Place::of(&target, &next).is_none());
    }

    #[test]
    fn connections_wait_in_no_folder_that_others_may_enter() {
        let base = tempfile::tempdir().unwrap();
        let own = base.path().join("own");
        fs::create_dir(&own).unwrap();
        let folder = folder_beside(&own).unwrap();
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
        let base = tempfile::tempdir().unwrap();
        let own = base.path().join("own");
        fs::create_dir(&own).unwrap();
        let folder = folder_beside(&own).unwrap();
        for (name, age) in [("old", OVER * 2), ("new", OVER / 2)] {
            fs::create_dir(folder.join(name)).unwrap();
            File::open(folder.join(name)).unwrap().set_modified(SystemTime::now() - age).unwrap();
        }
        folder_beside(&own).unwrap();
        assert!(folder.join("new").exists() && !folder.join("old").exists());
    }
}
