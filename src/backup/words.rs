//! Whether words stand in a file of any size.

use std::{fs::File, io::Read, path::Path};

use super::{BackupError, file::PIECE};

/// Of which of these groups a word stands anywhere in a file.
///
/// # Errors
/// Where it cannot be read.
pub fn mentions<const N: usize>(path: &Path, groups: [&[&str]; N]) -> Result<[bool; N], BackupError> {
    let reading = || format!("read {}", path.display());
    let mut file = File::open(path).map_err(BackupError::io(reading()))?;
    let overlap = groups.iter().flat_map(|words| *words).map(|word| word.len()).max().unwrap_or(1) - 1;
    let (mut found, mut piece, mut kept) = ([false; N], vec![0; PIECE + overlap], 0);
    loop {
        let read = file.read(&mut piece[kept..]).map_err(BackupError::io(reading()))?;
        let end = kept + read;
        let stands = |word: &&str| {
            let word = word.as_bytes();
            // The first byte by itself, so that gigabytes take seconds.
            let is_word = |here: &[u8]| here.first() == word.first() && here == word;
            piece[..end].windows(word.len()).any(is_word)
        };
        for (found, words) in found.iter_mut().zip(groups) {
            *found = *found || words.iter().any(stands);
        }
        if read == 0 || found == [true; N] {
            return Ok(found);
        }
        // A word may stand across two pieces.
        let rest = end.saturating_sub(overlap);
        piece.copy_within(rest..end, 0);
        kept = end - rest;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_word_is_found_wherever_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let words: [&[&str]; 2] = [&["/registry/"], &["k8s:enc:kms:v", "k8s:enc:"]];
        for (at, word, found) in [
            (0, "", [false, false]),
            (0, "/registry/", [true, false]),
            (PIECE - 3, "k8s:enc:", [false, true]),
            (PIECE + 5, "/registry/", [true, false]),
            (2 * PIECE - 8, "/registry/k8s:enc:", [true, true]),
            (3 * PIECE - 10, "/registry/", [true, false]),
        ] {
            let mut bytes = vec![b'/'; 3 * PIECE];
            bytes[at..at + word.len()].copy_from_slice(word.as_bytes());
            fs::write(&path, bytes).unwrap();
            assert_eq!(mentions(&path, words).unwrap(), found, "{word} at {at}");
        }
    }
}
