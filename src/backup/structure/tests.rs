use std::io::Cursor;

use sha2::{Digest as _, Sha256};

use super::*;

const PAGE: usize = 4096;

/// A page with its elements laid out behind its head; in a branch the value is the child's page.
fn page(id: u64, flags: u16, elements: &[(u32, &[u8], Vec<u8>)]) -> Vec<u8> {
    let mut page = vec![0; PAGE];
    page[..8].copy_from_slice(&id.to_le_bytes());
    page[8..10].copy_from_slice(&flags.to_le_bytes());
    page[10..12].copy_from_slice(&u16::try_from(elements.len()).unwrap().to_le_bytes());
    let mut end = HEADER + elements.len() * ELEMENT;
    for (i, (kind, key, value)) in elements.iter().enumerate() {
        let at = HEADER + i * ELEMENT;
        let number = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
        let position = number(end - at);
        let words = match flags {
            BRANCH => {
                page[at + 8..at + 16].copy_from_slice(value);
                vec![position, number(key.len())]
            }
            _ => vec![kind.to_le_bytes(), position, number(key.len()), number(value.len())],
        };
        for (word, bytes) in words.iter().enumerate() {
            page[at + word * 4..at + word * 4 + 4].copy_from_slice(bytes);
        }
        page[end..end + key.len()].copy_from_slice(key);
        end += key.len();
        if flags == LEAF {
            page[end..end + value.len()].copy_from_slice(value);
            end += value.len();
        }
    }
    page
}

fn meta_page(id: u64, root: u64, pages: u64, transaction: u64) -> Vec<u8> {
    let mut meta = [MAGIC.to_le_bytes(), VERSION.to_le_bytes(), 4096u32.to_le_bytes(), [0; 4]].concat();
    for number in [root, 0, 2, pages, transaction] {
        meta.extend_from_slice(&number.to_le_bytes());
    }
    meta.extend_from_slice(&fnv(&meta).to_le_bytes());
    let mut page = page(id, 4, &[]);
    page[HEADER..HEADER + META].copy_from_slice(&meta);
    page
}

fn bucket(root: u64) -> Vec<u8> {
    [root.to_le_bytes(), [0; 8]].concat()
}

fn revision(n: u64) -> Vec<u8> {
    [&n.to_be_bytes()[..], b"_", &[0; 8]].concat()
}

/// A database whose keys are at these revisions, in two leaves below a branch, and which was compacted at another.
fn database(revisions: &[u64], compacted: u64) -> Vec<u8> {
    let keys: Vec<Vec<u8>> = revisions.iter().map(|r| revision(*r)).collect();
    let elements: Vec<(u32, &[u8], Vec<u8>)> = keys.iter().map(|k| (0, k.as_slice(), vec![1; 9])).collect();
    let (first, last) = elements.split_at(elements.len() / 2);
    // `meta` is so small that it stands in its parent.
    let inline = page(0, LEAF, &[(0, b"scheduledCompactRev", revision(compacted))])[..256].to_vec();
    let meta = [bucket(0), inline].concat();
    let agreed = page(0, LEAF, &[(0, b"clusterVersion", b"3.6.0".to_vec())])[..256].to_vec();
    let cluster = [bucket(0), agreed].concat();
    let zero = revision(0);
    let first_key = first.first().map_or(zero.as_slice(), |e| e.1);
    let last_key = last.first().map_or(zero.as_slice(), |e| e.1);
    [
        meta_page(0, 3, 7, 6),
        meta_page(1, 99, 99, 5),
        page(2, 0x10, &[]),
        page(3, LEAF, &[(BUCKET, b"cluster", cluster), (BUCKET, b"key", bucket(4)), (BUCKET, b"meta", meta)]),
        page(
            4,
            BRANCH,
            &[(0, first_key, 5u64.to_le_bytes().to_vec()), (0, last_key, 6u64.to_le_bytes().to_vec())],
        ),
        page(5, LEAF, first),
        page(6, LEAF, last),
    ]
    .concat()
}

/// A snapshot that holds this revision.
pub(crate) fn snapshot(newest: u64) -> Vec<u8> {
    let mut bytes = database(&[2, 3, newest], 1);
    let sum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

fn seen(bytes: &[u8]) -> Result<Structure, Broken> {
    inspect(&mut Cursor::new(bytes), bytes.len() as u64)
}

#[test]
fn the_newest_revision_is_the_last_key_or_the_compaction() {
    for (revisions, compacted, expected) in
        [(&[2, 3, 48_211][..], 1, 48_211), (&[2, 3, 4], 9, 9), (&[2], 0, 2)]
    {
        let mut bytes = database(revisions, compacted);
        bytes.extend_from_slice(&[0; 32]);
        let (database, etcd) = (7 * 4096, Some("3.6.0".into()));
        assert_eq!(seen(&bytes), Ok(Structure { database, revision: expected, etcd }), "{revisions:?}");
    }
}

#[test]
fn what_is_no_whole_snapshot_is_told_by_its_kind() {
    let whole = snapshot(9);
    let cut = |n: usize| whole[..whole.len() - n].to_vec();
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let size = whole.len() as u64;
    assert_eq!(seen(&cut(32)), Err(Broken::Raw), "the database alone");
    assert_eq!(seen(&[cut(32), vec![0; 8192]].concat()), Err(Broken::Raw), "a live file, grown ahead");
    let database = size - 32;
    for n in [1, 31, 33, 4096, 20_000] {
        let found = size - n as u64;
        assert_eq!(seen(&cut(n)), Err(Broken::Truncated { wanted: database, found }), "{n} bytes short");
    }
    assert_eq!(seen(&[whole.clone(), vec![0; 3]].concat()), Err(Broken::Trailing(3)));
    assert_eq!(seen(b"hello"), Err(Broken::Short(5)));
    assert_eq!(seen(&vec![7; 10_000]), Err(Broken::Foreign));
    // One meta page is enough, but the other names pages that this file does not have.
    assert!(matches!(seen(&with(20, 1)), Err(Broken::Truncated { .. })), "the newer meta page is damaged");
    assert!(matches!(seen(&with(4 * PAGE, 1)), Err(Broken::Damaged(_))), "a page says that it is another");
    assert!(matches!(seen(&with(4 * PAGE + 8, 0x10)), Err(Broken::Damaged(_))), "a page of another kind");
}

proptest::proptest! {
    /// Any byte anywhere may be wrong: an answer comes, whatever it is.
    #[test]
    fn damage_never_ends_the_program(at in 0usize..7 * PAGE, byte: u8) {
        let mut bytes = snapshot(9);
        bytes[at] = byte;
        let _ = seen(&bytes);
    }
}
