//! A snapshot together with what a fresh cluster needs to read it: the authorities with their keys, the key of service
//! accounts, the key that encrypts secrets at rest, the inventory. An age file around a tar, so that `age --decrypt -i
//! KEY FILE | tar x` opens it where there is no rsadm; without age around it, it is never written.
//!
//! RKE's snapshots carried none of this, and clusters restored from them could not authenticate (rancher/rke#1286).

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    str::FromStr,
};

/// What opens a bundle: the secret half of an age key.
pub use age::x25519::Identity;
use age::{Decryptor, Encryptor, x25519};
use tar::{Archive, Builder, EntryType, Header};

use super::{BackupError, Manifest, file, room};
use crate::secret::Secret;

/// The snapshot's name inside.
const SNAPSHOT: &str = "snapshot.db";
/// The manifest's.
const MANIFEST: &str = "manifest.json";
/// The folder of what lies on hosts, by its path there.
const FILES: &str = "files";
/// Larger than any file of PKI or inventory.
const LARGEST: u64 = 16 << 20;

/// A file that travels with a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Its absolute path on a host, or a plain name such as `inventory.yaml`.
    pub path: String,
    /// Its bytes.
    pub data: Secret,
}

/// Whom a bundle is encrypted to.
#[derive(Clone)]
pub struct Recipient(x25519::Recipient);

impl FromStr for Recipient {
    type Err = String;

    /// Reads `age1…`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("AGE-SECRET-KEY-") {
            return Err(
                "this is the secret key, which decrypts; the recipient is its public half, age1…".into()
            );
        }
        let recipient = x25519::Recipient::from_str(text);
        recipient.map(Self).map_err(|why| format!("{text:?} is no age recipient (age1…): {why}"))
    }
}

impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The keys that open a bundle: the lines of an age identity file.
///
/// # Errors
/// Where there is none in it; the text is not repeated.
pub fn identities(text: &str) -> Result<Vec<Identity>, String> {
    let keys = text.lines().map(str::trim).filter(|line| line.starts_with("AGE-SECRET-KEY-"));
    let keys: Result<Vec<_>, _> = keys.map(x25519::Identity::from_str).collect();
    match keys.map_err(|why| format!("not an age identity: {why}"))? {
        keys if keys.is_empty() => Err("it has no line AGE-SECRET-KEY-…".into()),
        keys => Ok(keys),
    }
}

/// Writes a bundle around a snapshot; `manifest` is that of the snapshot inside.
///
/// # Errors
/// Where there is a file of that name, or the disk takes no more; nothing is left then.
pub fn write(
    path: &Path,
    recipients: &[Recipient],
    manifest: &Manifest,
    carried: &[Carried],
    snapshot: &Path,
) -> Result<(), BackupError> {
    let refused = |e: age::EncryptError| BackupError::Refused(format!("cannot encrypt: {e}"));
    let encryptor = Encryptor::with_recipients(recipients.iter().map(|r| &r.0 as &dyn age::Recipient));
    let encryptor = encryptor.map_err(refused)?;
    let file = file::create_private(path).map_err(BackupError::io(format!("write {}", path.display())))?;
    let written = fill(encryptor, &file, manifest, carried, snapshot).and_then(|()| file.sync_all());
    written.map_err(|source| {
        // Ours: it did not exist before.
        let _ = std::fs::remove_file(path);
        BackupError::Io { doing: format!("write {}", path.display()), source }
    })
}

fn fill(
    encryptor: Encryptor,
    file: &File,
    manifest: &Manifest,
    carried: &[Carried],
    snapshot: &Path,
) -> io::Result<()> {
    let mut tar = Builder::new(encryptor.wrap_output(BufWriter::with_capacity(1 << 20, file))?);
    let time = u64::try_from(manifest.taken_at.unix_timestamp()).unwrap_or(0);
    let mut add = |name: &str, size: u64, data: &mut dyn Read| {
        let mut head = Header::new_gnu();
        head.set_entry_type(EntryType::Regular);
        head.set_mode(0o600);
        head.set_size(size);
        head.set_mtime(time);
        tar.append_data(&mut head, name, data)
    };
    let text = manifest.to_json();
    add(MANIFEST, text.len() as u64, &mut text.as_bytes())?;
    for carried in carried {
        let name = format!("{FILES}/{}", carried.path.trim_start_matches('/'));
        add(&name, carried.data.expose().len() as u64, &mut carried.data.expose())?;
    }
    let snapshot = File::open(snapshot)?;
    add(SNAPSHOT, snapshot.metadata()?.len(), &mut BufReader::with_capacity(1 << 20, snapshot))?;
    tar.into_inner()?.finish()?.flush()
}

/// An opened bundle.
#[derive(Debug)]
pub struct Opened {
    /// Of the snapshot inside.
    pub manifest: Manifest,
    /// What travelled with it, in memory only.
    pub carried: Vec<Carried>,
    /// Where the snapshot is now.
    pub snapshot: PathBuf,
}

/// Opens a bundle: its snapshot goes into a folder (0600), its keys stay in memory.
///
/// # Errors
/// Where no key fits, it was changed or cut off (age notices either), or the folder has no room for it.
pub fn open(path: &Path, keys: &[x25519::Identity], folder: &Path) -> Result<Opened, BackupError> {
    let failed = |source| BackupError::Io { doing: format!("open the bundle {}", path.display()), source };
    let file = File::open(path).map_err(failed)?;
    // What is inside is no larger.
    room::check(folder, file.metadata().map_err(failed)?.len())?;
    let file = BufReader::new(file);
    let unreadable = |e: age::DecryptError| match e {
        age::DecryptError::NoMatchingKeys => {
            BackupError::Refused(format!("{} is encrypted to another recipient", path.display()))
        }
        other => BackupError::Refused(format!("{} cannot be decrypted: {other}", path.display())),
    };
    let decryptor = Decryptor::new_buffered(file).map_err(unreadable)?;
    let plain = decryptor.decrypt(keys.iter().map(|key| key as &dyn age::Identity)).map_err(unreadable)?;
    unpack(plain, folder).map_err(failed)
}

fn unpack(plain: impl Read, folder: &Path) -> io::Result<Opened> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let (mut manifest, mut carried, mut snapshot) = (None, Vec::new(), None);
    let mut tar = Archive::new(plain);
    for entry in tar.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        if name == SNAPSHOT {
            let path = folder.join(SNAPSHOT);
            io::copy(&mut entry, &mut file::create_private(&path)?)?;
            snapshot = Some(path);
            continue;
        }
        let mut data = Vec::new();
        entry.take(LARGEST).read_to_end(&mut data)?;
        match name.strip_prefix(FILES) {
            None if name == MANIFEST => manifest = Some(Manifest::parse(&data).map_err(|why| wrong(&why))?),
            Some(path) => carried.push(Carried { path: path_on_host(path), data: Secret::new(data) }),
            None => {}
        }
    }
    let snapshot = snapshot.ok_or_else(|| wrong("it holds no snapshot"))?;
    let manifest = manifest.ok_or_else(|| wrong("it holds no manifest"))?;
    Ok(Opened { manifest, carried, snapshot })
}

/// What has no folder was a plain name.
fn path_on_host(path: &str) -> String {
    let name = path.trim_start_matches('/');
    if name.contains('/') { format!("/{name}") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::{manifest::tests::sample, structure::tests::snapshot};

    struct Made {
        folder: tempfile::TempDir,
        key: x25519::Identity,
    }

    fn made() -> Made {
        let folder = tempfile::tempdir().unwrap();
        let key = x25519::Identity::generate();
        let plain = folder.path().join("plain.db");
        std::fs::write(&plain, snapshot(9)).unwrap();
        let file = |path: &str, text: &str| Carried { path: path.into(), data: Secret::new(text) };
        let carried = [
            file("/etc/kubernetes/pki/ca.key", "-----BEGIN CA"),
            file("inventory.yaml", "cluster_name: prod"),
        ];
        let to = key.to_public().to_string().parse::<Recipient>().unwrap();
        write(&folder.path().join("a.tar.age"), &[to], &sample(), &carried, &plain).unwrap();
        Made { folder, key }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let Made { folder, key } = made();
        let inside = tempfile::tempdir().unwrap();
        let opened = open(&folder.path().join("a.tar.age"), &[key], inside.path()).unwrap();
        assert_eq!(opened.manifest, sample());
        let paths: Vec<&str> = opened.carried.iter().map(|c| c.path.as_str()).collect();
        assert_eq!(paths, ["/etc/kubernetes/pki/ca.key", "inventory.yaml"]);
        assert_eq!(opened.carried[0].data.expose(), b"-----BEGIN CA");
        assert_eq!(std::fs::read(opened.snapshot).unwrap(), snapshot(9));
    }

    #[test]
    fn nothing_of_it_can_be_read_without_the_key() {
        let Made { folder, .. } = made();
        let path = folder.path().join("a.tar.age");
        let bytes = std::fs::read(&path).unwrap();
        for secret in ["BEGIN CA", "cluster_name", "ca.key"] {
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{secret}");
        }
        let other = x25519::Identity::generate();
        let error = open(&path, &[other], folder.path()).unwrap_err();
        assert!(error.to_string().ends_with("is encrypted to another recipient"), "{error}");
    }

    #[test]
    fn a_damaged_or_cut_bundle_is_refused() {
        let Made { folder, key } = made();
        let whole = std::fs::read(folder.path().join("a.tar.age")).unwrap();
        let mut flipped = whole.clone();
        let middle = whole.len() / 2;
        flipped[middle] ^= 1;
        for bytes in [&whole[..middle], &flipped[..]] {
            let path = folder.path().join("bad.tar.age");
            std::fs::write(&path, bytes).unwrap();
            let inside = tempfile::tempdir().unwrap();
            assert!(open(&path, std::slice::from_ref(&key), inside.path()).is_err());
        }
    }

    #[test]
    fn a_secret_key_is_no_recipient_and_is_not_repeated() {
        let error = "AGE-SECRET-KEY-1QQQQ".parse::<Recipient>().unwrap_err();
        assert!(!error.contains("QQQQ"), "{error}");
        assert!("age1nonsense".parse::<Recipient>().is_err());
        assert!(identities("# created: today\n").is_err());
    }
}
