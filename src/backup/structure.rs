//! What is in a snapshot's database: a bbolt file, read as far as the revision that it holds.
//!
//! etcd sends no revision along with a snapshot, and what the member said a moment before is only a lower bound. So the
//! file is asked: the last key of the bucket `key` is the newest revision (etcd, `server/storage/mvcc/revision.go`),
//! unless that was compacted away (`scheduledCompactRev` in the bucket `meta`). The way there passes both meta pages
//! and the inner pages of the tree, which a file that is none does not have. The layout is bbolt's `page.go` and
//! `bucket.go`; numbers are little-endian, as on every machine that etcd is built for.

use std::io::{self, Read, Seek, SeekFrom};

use super::digest::{Broken, CHECKSUM};

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Page header: id 8, flags 2, count 2, overflow 4.
const HEADER: usize = 16;
/// Meta: magic 4, version 4, page size 4, flags 4, root 16, freelist 8, high-water mark 8, transaction 8, checksum 8.
const META: usize = 64;
/// An element of a branch page and of a leaf page.
const ELEMENT: usize = 16;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
/// The value of a leaf element is a bucket.
const BUCKET: u32 = 0x01;
/// More than any tree of the largest database has.
const DEPTH: usize = 32;
/// More than any run of pages that holds one value (etcd's largest request has 1.5 MiB) or one branch.
const OVERFLOW: u32 = 1 << 14;

/// What a snapshot's database says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Bytes of the database: what the file has before its checksum.
    pub database: u64,
    /// The newest revision in it.
    pub revision: u64,
    /// The version that its members had agreed on, such as `3.7.0`: no etcd of an older minor version starts with it. Of a
    /// member that runs a newer one in the middle of an upgrade it is still the old. `None` where it says none.
    pub etcd: Option<String>,
}

/// Looks into a snapshot of `size` bytes, checksum included.
///
/// # Errors
/// What is wrong with it; a file that cannot be read counts as damaged.
pub fn inspect(file: &mut (impl Read + Seek), size: u64) -> Result<Structure, Broken> {
    let meta = meta(file, size)?;
    let database = meta.pages * u64::from(meta.page_size);
    let checksum = CHECKSUM as u64;
    match size {
        size if size == database + checksum => {}
        // Live files are grown ahead of what is used, in whole pages.
        size if size >= database && size % 512 == 0 => return Err(Broken::Raw),
        size if size < database + checksum => {
            return Err(Broken::Truncated { wanted: database, found: size });
        }
        size => return Err(Broken::Trailing(size - database - checksum)),
    }
    let mut tree = Tree { file, page_size: meta.page_size, pages: meta.pages };
    let damaged = |e: io::Error| Broken::Damaged(e.to_string());
    let revision = tree.revision(meta.root).map_err(damaged)?;
    let etcd = tree.agreed(meta.root).map_err(damaged)?;
    Ok(Structure { database, revision, etcd })
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    page_size: u32,
    root: u64,
    /// The high-water mark: how many pages there are.
    pages: u64,
    transaction: u64,
}

/// The newer of the two meta pages that are whole.
fn meta(file: &mut (impl Read + Seek), size: u64) -> Result<Meta, Broken> {
    let mut head = [0; HEADER + META];
    let mut at = |offset: u64| -> Option<Meta> {
        file.seek(SeekFrom::Start(offset)).ok()?;
        file.read_exact(&mut head).ok()?;
        parse_meta(&head[HEADER..])
    };
    let first = at(0);
    // Where the first is damaged, the second is where pages of the usual sizes put it.
    let sizes = first.map_or(vec![4096, 8192, 16_384, 65_536], |m| vec![u64::from(m.page_size)]);
    let second = sizes.into_iter().find_map(&mut at);
    let newest = first.into_iter().chain(second).max_by_key(|m| m.transaction);
    newest.ok_or(if size < 2 * 4096 { Broken::Short(size) } else { Broken::Foreign })
}

fn parse_meta(bytes: &[u8]) -> Option<Meta> {
    let stated = u64_at(bytes, 56)?;
    let whole = u32_at(bytes, 0)? == MAGIC && u32_at(bytes, 4)? == VERSION && fnv(bytes.get(..56)?) == stated;
    let page_size = u32_at(bytes, 8)?;
    let usable = whole && page_size.is_power_of_two() && (512..=1 << 20).contains(&page_size);
    let (root, pages, transaction) = (u64_at(bytes, 16)?, u64_at(bytes, 40)?, u64_at(bytes, 48)?);
    (usable && pages < 1 << 40).then_some(Meta { page_size, root, pages, transaction })
}

/// FNV-1a with 64 bits, which bbolt sums its meta pages with.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

struct Tree<'a, F> {
    file: &'a mut F,
    page_size: u32,
    pages: u64,
}

/// A page, or a bucket so small that it stands in its parent's leaf.
struct Page {
    bytes: Vec<u8>,
    flags: u16,
    count: usize,
}

/// Where in a leaf: the last element, or the one with this key.
enum Wanted<'k> {
    Last,
    Key(&'k [u8]),
}

type Element = (u32, Vec<u8>, Vec<u8>);

impl<F: Read + Seek> Tree<'_, F> {
    fn revision(&mut self, root: u64) -> io::Result<u64> {
        let keys = self.bucket(root, b"key")?.ok_or_else(|| wrong("it has no bucket `key`"))?;
        let newest = match self.descend(keys, &Wanted::Last)? {
            Some((_, key, _)) => big_endian(&key).ok_or_else(|| wrong("its last key is no revision"))?,
            None => 0,
        };
        let compacted = match self.bucket(root, b"meta")? {
            None => None,
            Some(meta) => self.descend(meta, &Wanted::Key(b"scheduledCompactRev"))?,
        };
        // A cluster that nobody has written to is at 1.
        Ok(newest.max(compacted.and_then(|(_, _, value)| big_endian(&value)).unwrap_or(0)).max(1))
    }

    /// What etcd keeps of the version of its cluster (`server/storage/schema/cluster.go`).
    fn agreed(&mut self, root: u64) -> io::Result<Option<String>> {
        let Some(cluster) = self.bucket(root, b"cluster")? else { return Ok(None) };
        let found = self.descend(cluster, &Wanted::Key(b"clusterVersion"))?;
        Ok(found.and_then(|(_, _, value)| String::from_utf8(value).ok()))
    }

    fn bucket(&mut self, root: u64, name: &[u8]) -> io::Result<Option<Page>> {
        let page = self.page(root)?;
        let Some((flags, _, value)) = self.descend(page, &Wanted::Key(name))? else { return Ok(None) };
        let root = u64_at(&value, 0).filter(|_| flags & BUCKET != 0);
        match root.ok_or_else(|| wrong("a bucket is none"))? {
            // Its only page follows its head.
            0 => Page::parse(value.get(16..).unwrap_or_default().to_vec()).map(Some),
            root => self.page(root).map(Some),
        }
    }

    fn page(&mut self, id: u64) -> io::Result<Page> {
        if id >= self.pages {
            return Err(wrong(&format!("page {id} is beyond its {} pages", self.pages)));
        }
        let size = u64::from(self.page_size);
        self.file.seek(SeekFrom::Start(id * size))?;
        let mut bytes = vec![0; self.page_size as usize];
        self.file.read_exact(&mut bytes)?;
        if u64_at(&bytes, 0) != Some(id) {
            return Err(wrong(&format!("page {id} says that it is another")));
        }
        let overflow =
            u32_at(&bytes, 12).filter(|n| *n <= OVERFLOW).ok_or_else(|| wrong("a page without an end"))?;
        let start = bytes.len();
        bytes.resize(start + overflow as usize * self.page_size as usize, 0);
        self.file.read_exact(&mut bytes[start..])?;
        Page::parse(bytes)
    }

    /// From a page down to the wanted element.
    fn descend(&mut self, mut page: Page, wanted: &Wanted<'_>) -> io::Result<Option<Element>> {
        for _ in 0..DEPTH {
            if page.flags & LEAF != 0 {
                return page.leaf(wanted);
            }
            if page.flags & BRANCH == 0 {
                return Err(wrong("a page of its tree is of another kind"));
            }
            let child = page.child(wanted)?;
            page = self.page(child)?;
        }
        Err(wrong("its tree has no end"))
    }
}

impl Page {
    fn parse(bytes: Vec<u8>) -> io::Result<Self> {
        let number = |at: usize| bytes.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        match (number(8), number(10)) {
            (Some(flags), Some(count)) => Ok(Self { flags, count: usize::from(count), bytes }),
            _ => Err(wrong("a page without a head")),
        }
    }

    /// The child that has the wanted key, if any has.
    fn child(&self, wanted: &Wanted<'_>) -> io::Result<u64> {
        let mut found = None;
        for i in 0..self.count {
            let at = HEADER + i * ELEMENT;
            let (key, child) = (self.slice(at, 0, 4)?, u64_at(&self.bytes, at + 8));
            match wanted {
                Wanted::Key(name) if i > 0 && key > *name => break,
                _ => found = child,
            }
        }
        found.ok_or_else(|| wrong("a branch without children"))
    }

    fn leaf(&self, wanted: &Wanted<'_>) -> io::Result<Option<Element>> {
        let elements = match wanted {
            Wanted::Last => self.count.saturating_sub(1)..self.count,
            Wanted::Key(_) => 0..self.count,
        };
        for i in elements {
            let at = HEADER + i * ELEMENT;
            let key = self.slice(at, 4, 8)?;
            if matches!(wanted, Wanted::Key(name) if key != *name) {
                continue;
            }
            let flags = u32_at(&self.bytes, at).ok_or_else(|| wrong("a leaf that is cut off"))?;
            let key_length = u32_at(&self.bytes, at + 8).unwrap_or(0) as usize;
            let start = at + u32_at(&self.bytes, at + 4).unwrap_or(0) as usize + key_length;
            let length = u32_at(&self.bytes, at + 12).unwrap_or(0) as usize;
            let value =
                self.bytes.get(start..start + length).ok_or_else(|| wrong("a value beyond its page"))?;
            return Ok(Some((flags, key.to_vec(), value.to_vec())));
        }
        Ok(None)
    }

    /// The key of the element at `at`, whose position and length stand so far behind that.
    fn slice(&self, at: usize, position: usize, length: usize) -> io::Result<&[u8]> {
        let number = |offset| u32_at(&self.bytes, at + offset).map(|n| n as usize);
        let range = number(position).zip(number(length));
        range
            .and_then(|(position, length)| self.bytes.get(at + position..at + position + length))
            .ok_or_else(|| wrong("a key beyond its page"))
    }
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Revisions are written so that they sort as bytes.
fn big_endian(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod tests;
