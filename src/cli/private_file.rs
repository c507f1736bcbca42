//! Files that commands write where the operator wants them: whole or not at all, and readable by their owner alone.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{CliError, Exit};

/// Tries the nearest folder that is there, before anybody is dialled, and leaves nothing in it. A device or a pipe is nothing to
/// put another file in place of, least of all one that root shares with all others, such as `/dev/null`.
pub(super) fn can_be_written(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if !found.is_file() => {
            return Err(io::Error::other("it is no regular file"));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let whole = std::path::absolute(end_of(path))?;
    match whole.ancestors().skip(1).find(|folder| folder.exists()) {
        Some(folder) => tempfile::tempfile_in(folder).map(drop),
        None => Ok(()),
    }
}

/// For the operator, which file it was.
pub(super) fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> CliError {
    move |source| CliError::new(Exit::StepFailed, Unwritable { path: path.to_owned(), source })
}

/// As many links as the kernel follows (`MAXSYMLINKS`).
const LINKS: usize = 40;

/// Where a path leads over links, also where nothing is there yet, as before a disk is mounted.
fn end_of(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let Ok(to) = fs::read_link(&path) else { break };
        path.set_file_name("");
        path.push(to);
    }
    path
}

/// Replaces the file at once or not at all; readable by its owner alone from the first byte. A link stays one.
pub(super) fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let path = end_of(path);
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let private = fs::Permissions::from_mode(0o600);
    let mut file = tempfile::Builder::new().prefix(".rsadm-").permissions(private).tempfile_in(folder)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[error("could not write {}", path.display())]
struct Unwritable {
    path: PathBuf,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_private_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config");
        for text in ["first, and longer", "second"] {
            write(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "old").unwrap();
        for (link, to) in [("link", "file"), ("two", "link"), ("dangling", "later/file")] {
            std::os::unix::fs::symlink(to, path(link)).unwrap();
            can_be_written(&path(link)).unwrap();
            write(&path(link), link.as_bytes()).unwrap();
            assert!(fs::symlink_metadata(path(link)).unwrap().is_symlink(), "{link}");
            assert_eq!(fs::read_to_string(path(link)).unwrap(), link);
        }
        assert_eq!(fs::read_to_string(path("file")).unwrap(), "two");
    }

    #[test]
    fn only_a_regular_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let _listener = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        std::os::unix::fs::symlink("loop", path("loop")).unwrap();
        let device = path("device");
        std::os::unix::fs::symlink("/dev/null", &device).unwrap();
        for (path, said) in [
            (path("socket"), "is no regular file"),
            (device, "is no regular file"),
            ("/dev/null".into(), "is no regular file"),
            (folder.path().to_owned(), "is a directory"),
            (path("loop"), "symbolic link"),
        ] {
            let error = can_be_written(&path).unwrap_err().to_string();
            assert!(error.contains(said), "{}: {error}", path.display());
        }
    }
}
