//! Where many snapshots are kept: a folder of this machine, or a bucket of S3, GCS or Azure. Both hold the same files,
//! so that one can be copied into the other with any tool.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use super::{
    BackupError, Manifest,
    file::manifest_path,
    manifest::{is_snapshot, name_for},
};

mod bucket;

pub use bucket::{Bucket, credentials};

/// What an [`Entry`] says that has none.
pub const NO_MANIFEST: &str = "no manifest beside it";

/// One snapshot as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its file name.
    pub file: String,
    /// Bytes that are there.
    pub size: u64,
    /// What lies beside it, or why that is of no use.
    pub manifest: Result<Manifest, String>,
}

impl Entry {
    /// An entry; a manifest that tells of another size is not this file's. The snapshot is called what it is called here: whoever
    /// renames or copies it does so with both.
    pub fn new(file: String, size: u64, manifest: Result<Manifest, String>) -> Self {
        let manifest = manifest.and_then(|m| match m.size == size {
            true => Ok(Manifest { file: file.clone(), ..m }),
            false => Err(format!("has {size} bytes where its manifest says {}", m.size)),
        });
        Self { file, size, manifest }
    }
}

/// The newest first; those without a manifest, whose time nobody knows, last. Times are in whole seconds: of one second's the one
/// that holds more comes first, so that the one taken last is not what its place has to spare.
pub fn sort(entries: &mut [Entry]) {
    entries.sort_by(|a, b| {
        let holds = |e: &Entry| e.manifest.as_ref().ok().map(|m| (m.taken_at, m.revision, m.carries.len()));
        holds(b).cmp(&holds(a)).then_with(|| a.file.cmp(&b.file))
    });
}

/// A place.
#[derive(Debug)]
pub enum Place {
    /// On this machine.
    Folder(PathBuf),
    /// In an object store.
    Bucket(Bucket),
}

impl fmt::Display for Place {
    /// A URL, or the folder by its whole path: `.` says little to whoever reads it elsewhere.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket(bucket) => bucket.fmt(f),
            Self::Folder(folder) => match folder.canonicalize() {
                Ok(whole) => whole.display().fmt(f),
                Err(_) => folder.display().fmt(f),
            },
        }
    }
}

impl Place {
    /// A place by what the operator calls it: a folder, or a URL with settings for it (see [`credentials`]).
    ///
    /// # Errors
    /// Where the URL or its settings are of no use.
    pub fn open(target: &str, settings: &BTreeMap<String, String>) -> Result<Self, BackupError> {
        match target.contains("://") {
            true => Bucket::open(target, settings).map(Self::Bucket),
            false => Ok(Self::Folder(PathBuf::from(target))),
        }
    }

    /// What is there, the newest first.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub async fn list(&self) -> Result<Vec<Entry>, BackupError> {
        let mut entries = match self {
            Self::Folder(folder) => folder_entries(folder)?,
            Self::Bucket(bucket) => bucket.list().await?,
        };
        sort(&mut entries);
        Ok(entries)
    }

    /// The snapshot of that name; `None` where there is none.
    ///
    /// # Errors
    /// Where that cannot be seen.
    pub async fn entry(&self, file: &str) -> Result<Option<Entry>, BackupError> {
        match self {
            Self::Folder(folder) => folder_entry(folder, file),
            Self::Bucket(bucket) => bucket.entry(file).await,
        }
    }

    /// Puts a snapshot of this machine there, its manifest after it: what has no manifest is not whole. Once `stop` is there,
    /// what was sent into a bucket is taken back.
    ///
    /// # Errors
    /// Where there is one of that name, or it cannot be written; a bucket is left without it, then.
    pub async fn put(
        &self,
        snapshot: &Path,
        manifest: &Manifest,
        stop: impl Future<Output = ()>,
    ) -> Result<(), BackupError> {
        match self {
            Self::Bucket(bucket) => bucket.put(snapshot, manifest, stop).await,
            Self::Folder(folder) => {
                let to = folder.join(&manifest.file);
                if to.exists() {
                    return Err(is_there_already(&manifest.file, self));
                }
                std::fs::rename(snapshot, &to)
                    .map_err(BackupError::io(format!("name it {}", to.display())))?;
                super::file::write(&manifest_path(&to), manifest.to_json().as_bytes())
            }
        }
    }

    /// Writes a snapshot's manifest anew.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub async fn describe(&self, manifest: &Manifest) -> Result<(), BackupError> {
        match self {
            Self::Bucket(bucket) => bucket.describe(manifest).await,
            Self::Folder(folder) => {
                super::file::write(&folder.join(name_for(&manifest.file)), manifest.to_json().as_bytes())
            }
        }
    }

    /// Removes a snapshot: its manifest first, so that what is left of an interrupted removal counts as nothing.
    ///
    /// # Errors
    /// Where it cannot be removed. One that is not there is fine.
    pub async fn remove(&self, file: &str) -> Result<(), BackupError> {
        let names = [name_for(file), file.to_owned()];
        match self {
            Self::Bucket(bucket) => bucket.remove(&names).await,
            Self::Folder(folder) => names.iter().map(|name| folder.join(name)).try_for_each(|path| {
                match std::fs::remove_file(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        Err(BackupError::Io { doing: format!("remove {}", path.display()), source: e })
                    }
                    _ => Ok(()),
                }
            }),
        }
    }

    /// A snapshot as a file of this machine: the file itself, or a copy fetched into `folder`.
    ///
    /// # Errors
    /// Where it cannot be fetched.
    pub async fn local(&self, file: &str, folder: &Path) -> Result<PathBuf, BackupError> {
        match self {
            Self::Folder(own) => Ok(own.join(file)),
            Self::Bucket(bucket) => bucket.fetch(file, folder).await,
        }
    }
}

/// Nothing that is kept is written over.
fn is_there_already(file: &str, place: &impl fmt::Display) -> BackupError {
    BackupError::Refused(format!("{file} is in {place} already, and is kept"))
}

/// A folder that is not there holds none.
fn folder_entries(folder: &Path) -> Result<Vec<Entry>, BackupError> {
    let listing = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        other => other.map_err(BackupError::io(format!("list {}", folder.display())))?,
    };
    let names = listing.flatten().filter_map(|file| file.file_name().into_string().ok());
    let entry = |name: String| folder_entry(folder, &name).ok().flatten();
    Ok(names.filter(|name| is_snapshot(name)).filter_map(entry).collect())
}

fn folder_entry(folder: &Path, file: &str) -> Result<Option<Entry>, BackupError> {
    let path = folder.join(file);
    let there = match std::fs::metadata(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        there => there.map_err(BackupError::io(format!("look at {}", path.display())))?,
    };
    if !there.is_file() {
        return Ok(None);
    }
    let manifest = match std::fs::read(manifest_path(&path)) {
        Ok(bytes) => Manifest::parse(&bytes),
        Err(_) => Err(NO_MANIFEST.to_owned()),
    };
    Ok(Some(Entry::new(file.to_owned(), there.len(), manifest)))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::backup::{manifest::tests::sample, structure::tests::snapshot};

    #[tokio::test]
    async fn a_folder_lists_puts_and_removes() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Folder(folder.path().join("kept"));
        assert_eq!(place.list().await.unwrap(), []);
        std::fs::create_dir(folder.path().join("kept")).unwrap();
        let bytes = snapshot(9);
        for (hour, name) in [(1, "b.db"), (2, "a.db")] {
            let from = folder.path().join("incoming");
            std::fs::write(&from, &bytes).unwrap();
            let taken_at = sample().taken_at + std::time::Duration::from_secs(hour * 3600);
            let manifest = Manifest { file: name.into(), size: bytes.len() as u64, taken_at, ..sample() };
            place.put(&from, &manifest, pending()).await.unwrap();
        }
        let from = folder.path().join("again");
        std::fs::write(&from, "another").unwrap();
        let again = place
            .put(&from, &Manifest { file: "a.db".into(), ..sample() }, pending())
            .await
            .unwrap_err()
            .to_string();
        assert!(again.starts_with("a.db is in ") && again.ends_with(" already, and is kept"), "{again}");
        std::fs::write(folder.path().join("kept/foreign.db"), "x").unwrap();
        std::fs::write(folder.path().join("kept/notes.txt"), "x").unwrap();
        let names = |list: &[Entry]| list.iter().map(|e| e.file.clone()).collect::<Vec<_>>();
        let list = place.list().await.unwrap();
        assert_eq!(names(&list), ["a.db", "b.db", "foreign.db"]);
        assert_eq!(list[2].manifest, Err(NO_MANIFEST.into()));
        place.remove("a.db").await.unwrap();
        place.remove("a.db").await.unwrap();
        assert_eq!(names(&place.list().await.unwrap()), ["b.db", "foreign.db"]);
        std::fs::write(folder.path().join("kept/b.db"), &bytes[..100]).unwrap();
        let says = place.list().await.unwrap()[0].manifest.clone().unwrap_err();
        assert!(says.starts_with("has 100 bytes where its manifest says"), "{says}");
    }

    /// Two that are taken one after the other may bear the same second, and the second one often the same revision.
    #[test]
    fn of_one_second_the_one_that_holds_more_is_the_newest() {
        let of = |file: &str, revision, carries: &[&str]| {
            let carries = carries.iter().map(|&path| path.to_owned()).collect();
            let m = Manifest { file: file.into(), revision, carries, ..sample() };
            Entry::new(file.into(), m.size, Ok(m))
        };
        let mut list =
            [of("a.db", 7, &[]), of("b.tar.age", 7, &["ca.key"]), of("c.db", 8, &[]), of("d.db", 7, &[])];
        sort(&mut list);
        assert_eq!(list.map(|e| e.file), ["c.db", "b.tar.age", "a.db", "d.db"]);
    }
}
