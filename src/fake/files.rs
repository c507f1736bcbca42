//! A file system in memory: files, folders, symbolic links, their permission bits. Everything is root's.

use std::{collections::BTreeMap, sync::Arc};

use crate::hash::sha256;

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file.
    File {
        /// Permission bits.
        mode: u32,
        /// Its bytes.
        data: Arc<[u8]>,
        /// Their SHA-256, hexadecimal.
        sha256: Arc<str>,
    },
    /// A folder.
    Folder {
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link to an absolute path.
    Link {
        /// That path.
        to: String,
    },
}

/// All files of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<String, Entry>);

impl Files {
    /// Writes a file; missing folders above it are made as [`RemoteFile`](crate::host::RemoteFile) says.
    pub fn put(&mut self, path: &str, mode: u32, data: &[u8]) {
        let folder_mode = if mode & 0o077 == 0 { 0o700 } else { 0o755 };
        self.parents(path, folder_mode);
        let sha256 = sha256(data).into();
        self.0.insert(path.into(), Entry::File { mode, data: data.into(), sha256 });
    }

    /// Makes a folder, or sets the mode of one.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.parents(path, 0o755);
        self.0.insert(path.into(), Entry::Folder { mode });
    }

    /// Makes a symbolic link, or turns one.
    pub fn link(&mut self, path: &str, to: &str) {
        self.0.insert(path.into(), Entry::Link { to: to.into() });
    }

    fn parents(&mut self, path: &str, mode: u32) {
        let Some((parent, _)) = path.rsplit_once('/') else { return };
        if parent.is_empty() || self.0.contains_key(parent) {
            return;
        }
        self.parents(parent, 0o755);
        self.0.insert(parent.into(), Entry::Folder { mode });
    }

    /// Sets permission bits; false where there is nothing.
    pub fn chmod(&mut self, path: &str, wanted: u32) -> bool {
        match self.0.get_mut(path) {
            Some(Entry::File { mode, .. } | Entry::Folder { mode }) => *mode = wanted,
            Some(Entry::Link { .. }) | None => return false,
        }
        true
    }

    /// Removes a path and all below it.
    pub fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.0.retain(|file, _| file != path && !file.starts_with(&below));
    }

    /// A file's bytes, links followed.
    pub fn read(&self, path: &str) -> Option<&[u8]> {
        match self.resolve(path)? {
            Entry::File { data, .. } => Some(data),
            Entry::Folder { .. } | Entry::Link { .. } => None,
        }
    }

    /// The same as text.
    pub fn text(&self, path: &str) -> Option<String> {
        self.read(path).map(|data| String::from_utf8_lossy(data).into_owned())
    }

    /// The SHA-256 of a file, links followed.
    pub fn sha256(&self, path: &str) -> Option<&str> {
        match self.resolve(path)? {
            Entry::File { sha256, .. } => Some(sha256),
            Entry::Folder { .. } | Entry::Link { .. } => None,
        }
    }

    /// True where something is there, links followed.
    pub fn has(&self, path: &str) -> bool {
        self.resolve(path).is_some()
    }

    /// What a path leads to.
    pub fn resolve(&self, path: &str) -> Option<&Entry> {
        match self.0.get(path)? {
            Entry::Link { to } if to != path => self.resolve(to),
            entry => Some(entry),
        }
    }

    /// The path itself and everything below it.
    pub fn below<'a>(&'a self, root: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        let inside = move |path: &str| {
            path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0
            .range(root.to_owned()..)
            .take_while(move |(path, _)| path.starts_with(root))
            .filter_map(move |(path, entry)| inside(path).then_some((path.as_str(), entry)))
    }

    /// Everything.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_str(), entry))
    }
}
