//! Snapshots as files of this machine: written whole or not at all, readable by their owner alone, checked by reading.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tempfile::{NamedTempFile, TempPath};

use super::{
    BackupError, Broken, Digest,
    digest::Sum,
    manifest::{BUNDLE, MANIFEST, Manifest, PLAIN, name_for},
    structure::{Structure, inspect},
};
use crate::host::this_machine;

/// How much is read at once.
pub(super) const PIECE: usize = 1 << 20;

/// Begins the name of what is on its way.
pub const INCOMING: &str = ".rsadm-incoming-";

/// The beginning of a name for what this process is at: its host and its number, by which it is told whether it still is. A
/// folder may be that of several hosts.
pub fn begun(prefix: &str) -> String {
    format!("{prefix}{}@{}-", this_machine(), std::process::id())
}

/// Takes away what this process has begun in a folder and given no name, when it goes: whoever interrupts a command leaves no
/// snapshot there that nobody knows of, and that is not encrypted yet.
pub struct Begun(pub PathBuf);

impl Drop for Begun {
    fn drop(&mut self) {
        let Ok(listing) = fs::read_dir(&self.0) else { return };
        let own = begun(INCOMING);
        for entry in listing.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(&own)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// What a whole snapshot comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Bytes and sums.
    pub sum: Sum,
    /// What is in its database.
    pub structure: Structure,
}

/// A snapshot on its way into a folder: nobody sees it under its name before it is whole.
pub struct Incoming {
    file: NamedTempFile,
    digest: Digest,
}

impl Incoming {
    /// Begins one in a folder, which is made where it is missing.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn begin(folder: &Path) -> Result<Self, BackupError> {
        let failed = |what: &str| format!("{what} {}", folder.display());
        make_folder(folder).map_err(BackupError::io(failed("make the folder")))?;
        // tempfile makes it 0600.
        let file = tempfile::Builder::new().prefix(&begun(INCOMING)).tempfile_in(folder);
        Ok(Self {
            file: file.map_err(BackupError::io(failed("write into the folder")))?,
            digest: Digest::default(),
        })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// Where the disk takes no more; what was written goes when this value goes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.digest.update(bytes);
        let written = self.file.as_file_mut().write_all(bytes);
        let doing = || format!("write the snapshot into {}", folder_of(self.file.path()).display());
        written.map_err(|source| BackupError::Io { doing: doing(), source })
    }

    /// What has come is all: it is checked.
    ///
    /// # Errors
    /// Where it is not whole.
    pub fn finish(self) -> Result<Arrived, BackupError> {
        let path = self.file.path().to_owned();
        let sum = self.digest.finish();
        self.file
            .as_file()
            .sync_all()
            .map_err(BackupError::io(format!("write {} to disk", path.display())))?;
        let mut file = File::open(&path).map_err(BackupError::io(format!("read {}", path.display())))?;
        let broken = |source| BackupError::Broken { path: path.clone(), source };
        let structure = inspect(&mut file, sum.size).map_err(broken)?;
        if !sum.holds() {
            return Err(broken(Broken::Edited { found: sum.database, stated: sum.stated }));
        }
        Ok(Arrived { file: self.file.into_temp_path(), checked: Checked { sum, structure } })
    }
}

/// A whole snapshot that has no name yet.
pub struct Arrived {
    file: TempPath,
    /// What it comes to.
    pub checked: Checked,
}

impl Arrived {
    /// Where it is until it has a name.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// Gives it its name, with its manifest beside it: the manifest first, so that whoever sees the snapshot knows whose
    /// it is.
    ///
    /// # Errors
    /// Where there is a file of that name, or another's manifest, or the folder cannot be written.
    pub fn keep(self, path: &Path, manifest: &Manifest) -> Result<(), BackupError> {
        name(self.file, path, manifest)
    }
}

/// Gives a whole file its name, as [`Arrived::keep`] does.
///
/// # Errors
/// As there.
pub fn name(file: TempPath, path: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let failed = |source| BackupError::Io { doing: format!("name it {}", path.display()), source };
    let there = Some(path.to_owned()).filter(|path| path.exists()).or_else(|| manifest_of_another(path));
    if let Some(there) = there {
        let why = format!("{} exists already", there.display());
        return Err(failed(std::io::Error::new(std::io::ErrorKind::AlreadyExists, why)));
    }
    write(&manifest_path(path), manifest.to_json().as_bytes())?;
    file.persist_noclobber(path).map_err(|e| failed(e.error))?;
    sync_folder(path)
}

/// Where a snapshot's manifest is.
pub fn manifest_path(snapshot: &Path) -> PathBuf {
    let name = snapshot.file_name().unwrap_or_default().to_string_lossy();
    snapshot.with_file_name(name_for(&name))
}

/// The file that the manifest of a new snapshot of this name would take the place of, where somebody needs it: a bundle and a
/// snapshot of one name would have one manifest. One whose snapshot is gone tells of nothing.
pub fn manifest_of_another(snapshot: &Path) -> Option<PathBuf> {
    let path = manifest_path(snapshot);
    let text = match fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
        text => text.unwrap_or_default(),
    };
    // What is no manifest is somebody else's.
    let Ok(manifest) = Manifest::parse(&text) else { return Some(path) };
    let is_there = |name: &str| path.with_file_name(name).exists();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(MANIFEST).unwrap_or(&name);
    let is_told_of =
        is_there(&manifest.file) || [PLAIN, BUNDLE].iter().any(|end| is_there(&format!("{stem}{end}")));
    is_told_of.then_some(path)
}

/// A snapshot's manifest, where it has one that can be read. It is called what the file is called.
pub fn manifest_of(snapshot: &Path) -> Option<Manifest> {
    manifest_beside(snapshot).ok()?
}

/// The same for those to whom one that cannot be read is not as good as none: it may say that the snapshot is damaged.
///
/// # Errors
/// Where there is one, and it cannot be read.
pub fn manifest_beside(snapshot: &Path) -> Result<Option<Manifest>, BackupError> {
    let path = manifest_path(snapshot);
    let text = match fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(BackupError::io(format!("read {}", path.display())))?,
    };
    let refused = |why| BackupError::Refused(format!("{} is no manifest: {why}", path.display()));
    let manifest = Manifest::parse(&text).map_err(refused)?;
    let file = snapshot.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    Ok(Some(Manifest { file: file.unwrap_or(manifest.file), ..manifest }))
}

/// Refuses a file that is whole, but not the one that its manifest tells of.
///
/// # Errors
/// That it is another one.
pub fn is_told_of(path: &Path, manifest: Option<&Manifest>, sha256: &str) -> Result<(), BackupError> {
    match manifest {
        Some(manifest) if manifest.sha256 != sha256 => Err(BackupError::Broken {
            path: path.to_owned(),
            source: Broken::Another { found: sha256.to_owned(), stated: manifest.sha256.clone() },
        }),
        _ => Ok(()),
    }
}

/// Writes a small file atomically, for its owner alone.
///
/// # Errors
/// Where the folder cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), BackupError> {
    let failed = |source| BackupError::Io { doing: format!("write {}", path.display()), source };
    let mut file = NamedTempFile::new_in(folder_of(path)).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    sync_folder(path)
}

/// Reads a snapshot from end to end and checks it.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &Path) -> Result<Checked, BackupError> {
    let reading = || format!("read {}", path.display());
    let mut file = File::open(path).map_err(BackupError::io(reading()))?;
    let size = file.metadata().map_err(BackupError::io(reading()))?.len();
    let broken = |source| BackupError::Broken { path: path.to_owned(), source };
    let structure = inspect(&mut file, size).map_err(broken)?;
    let sum = sum(path)?;
    match sum.holds() {
        true => Ok(Checked { sum, structure }),
        false => Err(broken(Broken::Edited { found: sum.database, stated: sum.stated })),
    }
}

/// Adds a file up, a piece at a time.
///
/// # Errors
/// Where it cannot be read.
pub fn sum(path: &Path) -> Result<Sum, BackupError> {
    let reading = || format!("read {}", path.display());
    let mut file = File::open(path).map_err(BackupError::io(reading()))?;
    let (mut digest, mut piece) = (Digest::default(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece).map_err(BackupError::io(reading()))? {
            0 => return Ok(digest.finish()),
            n => digest.update(&piece[..n]),
        }
    }
}

/// A file that nobody else can read, and that did not exist.
///
/// # Errors
/// The operating system's.
pub(crate) fn create_private(path: &Path) -> std::io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes a new name last through a power cut.
fn sync_folder(path: &Path) -> Result<(), BackupError> {
    let folder = folder_of(path);
    let synced = File::open(folder).and_then(|f| f.sync_all());
    synced.map_err(BackupError::io(format!("write {} to disk", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{manifest::tests::sample, structure::tests::snapshot};

    fn files(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_interrupted_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Incoming::begin(folder.path()).unwrap().file.into_temp_path().keep().unwrap();
        let other = folder.path().join(".rsadm-incoming-elsewhere@1-a");
        for path in [&other, &folder.path().join("a.db"), &folder.path().join(begun(INCOMING) + "bundle")] {
            fs::write(path, "").unwrap();
        }
        drop(Begun(folder.path().to_owned()));
        assert!(!kept.exists());
        assert_eq!(files(folder.path()), [".rsadm-incoming-elsewhere@1-a", "a.db"]);
    }

    #[test]
    fn a_whole_snapshot_gets_its_name_and_its_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("new");
        let mut incoming = Incoming::begin(&place).unwrap();
        snapshot(48_211).chunks(1000).for_each(|piece| incoming.write(piece).unwrap());
        let arrived = incoming.finish().unwrap();
        assert_eq!(arrived.checked.structure.revision, 48_211);
        let (path, checked) = (place.join("a.db"), arrived.checked.clone());
        arrived.keep(&path, &sample()).unwrap();
        assert_eq!(files(&place), ["a.db", "a.json"]);
        for file in ["a.db", "a.json"] {
            assert_eq!(fs::metadata(place.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
        }
        assert_eq!(check(&path).unwrap(), checked);
        assert_eq!(manifest_of(&path), Some(Manifest { file: "a.db".into(), ..sample() }));
    }

    #[test]
    fn half_a_snapshot_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let whole = snapshot(9);
        let mut edited = whole.clone();
        edited[6 * 4096 + 100] ^= 1;
        for (bytes, says) in
            [(&whole[..20_000], "it was cut off"), (&edited[..], "it was changed after it was taken")]
        {
            let mut incoming = Incoming::begin(folder.path()).unwrap();
            incoming.write(bytes).unwrap();
            let error = incoming.finish().err().unwrap();
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert!(source.starts_with(says), "{source}");
            assert!(files(folder.path()).is_empty(), "{:?}", files(folder.path()));
        }
    }

    /// Row 22 of the fault matrix: a device that is always full takes the place of a full disk.
    #[test]
    fn a_full_disk_is_told_with_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut incoming = Incoming::begin(folder.path()).unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        *incoming.file.as_file_mut() = full;
        let error = incoming.write(&[0; 100_000]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("could not write the snapshot into {}", folder.path().display())
        );
        drop(incoming);
        assert!(files(folder.path()).is_empty());
    }

    #[test]
    fn another_snapshot_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        fs::write(&path, "older").unwrap();
        let mut incoming = Incoming::begin(folder.path()).unwrap();
        incoming.write(&snapshot(9)).unwrap();
        assert!(incoming.finish().unwrap().keep(&path, &sample()).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"older");
        fs::remove_file(&path).unwrap();
        let of = |file: &str| Manifest { file: file.into(), ..sample() }.to_json();
        for (text, beside, is_kept) in [
            ("{\"name\": \"of something else\"}", None, true),
            (&*of("a.tar.age"), Some("a.tar.age"), true),
            (&of("renamed.db"), Some("renamed.db"), true),
            (&of("renamed.db"), Some("a.tar.age"), true),
            (&of("a.tar.age"), None, false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let (path, manifest) = (folder.path().join("a.db"), folder.path().join("a.json"));
            fs::write(&manifest, text).unwrap();
            beside.into_iter().for_each(|name| fs::write(folder.path().join(name), "older").unwrap());
            let mut incoming = Incoming::begin(folder.path()).unwrap();
            incoming.write(&snapshot(9)).unwrap();
            let kept = incoming.finish().unwrap().keep(&path, &sample());
            assert_eq!(kept.is_err(), is_kept, "{text} {beside:?}");
            assert_eq!(path.exists(), !is_kept);
            assert_eq!(fs::read(&manifest).unwrap() == text.as_bytes(), is_kept);
        }
    }
}
