//! The bytes of inventory files. Some commands read theirs more than once, and what comes through a pipe (`-`, and
//! `<(sops -d prod.yaml)` of a shell) can be read once.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::cli::{CliError, Exit, InventoryArg, args::duration, shell::quoted};

/// What was read, by its path. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Inventories(Arc<Mutex<BTreeMap<PathBuf, Vec<u8>>>>);

impl Inventories {
    /// What is in a file now; of what is no file, what was read of it.
    ///
    /// # Errors
    /// Why it cannot be read, with the way out where one is known.
    pub(super) fn read(&self, arg: &InventoryArg) -> Result<Vec<u8>, CliError> {
        let is_no_file = || fs::metadata(&arg.inventory).is_ok_and(|it| !it.is_file());
        match arg.is_stdin() || is_no_file() {
            true => self.loaded(arg),
            false => self.anew(arg),
        }
    }

    /// What was read before.
    ///
    /// # Errors
    /// As [`Inventories::read`].
    pub(super) fn loaded(&self, arg: &InventoryArg) -> Result<Vec<u8>, CliError> {
        let known = self.known().get(&arg.inventory).cloned();
        known.map_or_else(|| self.anew(arg), Ok)
    }

    fn anew(&self, arg: &InventoryArg) -> Result<Vec<u8>, CliError> {
        let bytes = read(arg).map_err(|source| unreadable(&arg.file_name(), source))?;
        self.known().insert(arg.inventory.clone(), bytes.clone());
        Ok(bytes)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is longer is another file: 5,000 hosts, the most that Kubernetes supports, take a tenth of it.
const LONGEST: u64 = 4 << 20;

fn read(arg: &InventoryArg) -> io::Result<Vec<u8>> {
    match arg.is_stdin() {
        true => whole(io::stdin().lock()),
        false => whole(File::open(&arg.inventory)?),
    }
}

fn whole(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match source.take(LONGEST + 1).read_to_end(&mut bytes)? as u64 {
        ..=LONGEST => Ok(bytes),
        _ => Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 4 MiB, which is no inventory")),
    }
}

fn unreadable(file: &str, source: io::Error) -> CliError {
    let hint = place_of_inventory(source.kind(), file);
    let error = CliError::new(Exit::Inventory, Unreadable { file: file.to_owned(), source });
    hint.into_iter().fold(error, CliError::hint)
}

/// What was probably meant, where no inventory is.
fn place_of_inventory(kind: io::ErrorKind, file: &str) -> Option<String> {
    Some(match (kind, file) {
        (io::ErrorKind::NotFound, "inventory.yaml") => {
            "name the file after the command, or make one: rsadm init HOST… > inventory.yaml".to_owned()
        }
        (io::ErrorKind::NotFound, word) if duration(word).is_ok() => {
            format!("a time goes with its option, with =: --watch={word}")
        }
        // Most likely a host, which no inventory is to be made of.
        (io::ErrorKind::NotFound, word) if !word.contains(['.', '/']) => {
            "the first word after a command names the inventory file; hosts follow it, or go with an option: see --help"
                .to_owned()
        }
        (io::ErrorKind::NotFound, file) => {
            format!("is the path right? to make one: rsadm init HOST… > {}", quoted(file))
        }
        (io::ErrorKind::IsADirectory, folder) => {
            format!("name the file in it, such as {}", quoted(format!("{}/inventory.yaml", folder.trim_end_matches('/'))))
        }
        (io::ErrorKind::PermissionDenied, file) => {
            format!("whose it is, and who may read it: ls -l {}", quoted(file))
        }
        _ => return None,
    })
}

#[derive(Debug, thiserror::Error)]
#[error("could not read the inventory {file}")]
struct Unreadable {
    file: String,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use std::{process::Command, thread};

    use super::*;

    #[test]
    fn why_a_file_is_no_inventory_has_a_way_out() {
        for (kind, file, said) in [
            (io::ErrorKind::PermissionDenied, "my prod.yaml", "who may read it: ls -l 'my prod.yaml'"),
            (io::ErrorKind::IsADirectory, "prod/", "name the file in it, such as prod/inventory.yaml"),
            (io::ErrorKind::NotFound, "5s", "--watch=5s"),
            (io::ErrorKind::NotFound, "m1", "hosts follow it"),
        ] {
            assert!(place_of_inventory(kind, file).is_some_and(|hint| hint.contains(said)), "{file}");
        }
        assert_eq!(place_of_inventory(io::ErrorKind::FileTooLarge, "prod.yaml"), None);
    }

    /// As of `<(sops -d prod.yaml)`, which is gone once it was read.
    #[test]
    fn what_can_be_read_once_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let writer = thread::spawn({
            let path = path.clone();
            move || fs::write(path, "cluster_name: prod\n")
        });
        let (inventories, arg) = (Inventories::default(), InventoryArg { inventory: path });
        for _ in 0..2 {
            assert_eq!(inventories.clone().read(&arg).unwrap(), b"cluster_name: prod\n");
        }
        writer.join().unwrap().unwrap();
    }

    #[test]
    fn a_file_is_read_anew_and_what_was_loaded_stays() {
        let folder = tempfile::tempdir().unwrap();
        let arg = InventoryArg { inventory: folder.path().join("prod.yaml") };
        let inventories = Inventories::default();
        assert_eq!(inventories.loaded(&arg).unwrap_err().kind(), Exit::Inventory);
        fs::write(&arg.inventory, "one").unwrap();
        assert_eq!(inventories.read(&arg).unwrap(), b"one");
        fs::write(&arg.inventory, "two").unwrap();
        assert_eq!(inventories.loaded(&arg).unwrap(), b"one");
        assert_eq!(inventories.read(&arg).unwrap(), b"two");
        fs::remove_file(&arg.inventory).unwrap();
        assert_eq!(inventories.loaded(&arg).unwrap(), b"two");
    }
}
