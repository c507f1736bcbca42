//! The checksum that etcd appends to a snapshot, checked while the bytes pass by: nothing is kept but its own 32.

use sha2::{Digest as _, Sha256};

use crate::hash::hex;

/// What is wrong with a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Shorter than any database.
    #[error("it has {0} bytes, and the smallest snapshot has 8224")]
    Short(u64),
    /// Some other file.
    #[error("it is no etcd database: neither of its first two pages is a page that bbolt starts with")]
    Foreign,
    /// The end is missing.
    #[error("it was cut off: its database has {wanted} bytes and a checksum, the file has {found} in all")]
    Truncated {
        /// Bytes of the database by its own account.
        wanted: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// The database of a member, copied.
    #[error(
        "it has no checksum: a database file copied from a member's data directory, and not taken with a snapshot"
    )]
    Raw,
    /// Bytes follow that do not belong to it.
    #[error("{0} bytes follow its checksum that do not belong to it")]
    Trailing(u64),
    /// Content and checksum do not agree.
    #[error(
        "it was changed after it was taken: the SHA-256 of its database is {found}, at its end stands {stated}"
    )]
    Edited {
        /// What the content adds up to.
        found: String,
        /// What etcd wrote at the end.
        stated: String,
    },
    /// Whole, perhaps, but not the file that its manifest tells of.
    #[error(
        "it is another file than its manifest tells of: its SHA-256 is {found}, and the manifest has {stated}"
    )]
    Another {
        /// What the file adds up to.
        found: String,
        /// What the manifest has.
        stated: String,
    },
    /// The tree inside does not hold together.
    #[error("its database is damaged: {0}")]
    Damaged(String),
}

/// Bytes of the checksum at the end.
pub const CHECKSUM: usize = 32;

/// Adds up a snapshot, whose last 32 bytes are the checksum of those before.
#[derive(Clone, Default)]
pub struct Digest {
    database: Sha256,
    /// The last bytes so far: the checksum, if no more come.
    tail: Vec<u8>,
    size: u64,
}

/// What a snapshot adds up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Bytes of the file, checksum included.
    pub size: u64,
    /// SHA-256 of the whole file, as `sha256sum` prints it.
    pub sha256: String,
    /// What the database adds up to.
    pub database: String,
    /// What stands at the end.
    pub stated: String,
}

impl Sum {
    /// True where content and checksum agree.
    pub fn holds(&self) -> bool {
        self.database == self.stated
    }
}

impl Digest {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        let keep = bytes.len().min(CHECKSUM);
        let (body, end) = bytes.split_at(bytes.len() - keep);
        let out = (self.tail.len() + keep).saturating_sub(CHECKSUM);
        self.database.update(&self.tail[..out]);
        self.tail.drain(..out);
        if !body.is_empty() {
            // A full checksum's worth follows, so nothing of the old tail is left.
            self.database.update(body);
        }
        self.tail.extend_from_slice(end);
    }

    /// What it all adds up to.
    pub fn finish(self) -> Sum {
        let mut whole = self.database.clone();
        whole.update(&self.tail);
        Sum {
            size: self.size,
            sha256: hex(&whole.finalize()),
            database: hex(&self.database.finalize()),
            stated: hex(&self.tail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    #[test]
    fn however_it_is_cut_into_pieces_it_adds_up_to_the_same() {
        for length in [0, 1, 31, 32, 33, 5000] {
            let bytes = snapshot(length);
            for piece in [1, 7, 31, 32, 33, 64, 4096, 10_000] {
                let mut digest = Digest::default();
                bytes.chunks(piece).for_each(|chunk| digest.update(chunk));
                let sum = digest.finish();
                assert!(sum.holds(), "{length} bytes in pieces of {piece}");
                assert_eq!(sum.sha256, hex(&Sha256::digest(&bytes)), "{length} in {piece}");
                assert_eq!(sum.size, bytes.len() as u64);
            }
        }
    }

    #[test]
    fn one_bit_is_enough() {
        let whole = snapshot(5000);
        for at in [0, 4999, 5000, 5031] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let mut digest = Digest::default();
            digest.update(&bytes);
            assert!(!digest.finish().holds(), "byte {at}");
        }
    }
}
