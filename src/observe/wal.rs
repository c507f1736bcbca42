//! Whose data lies in etcd's data folder, where no record tells: each file of the write-ahead log begins with the IDs of
//! the member and of its cluster (etcd, `server/storage/wal/wal.go` and `encoder.go`).

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

/// The member that wrote etcd's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// Its ID, hexadecimal.
    pub member: String,
    /// That of its cluster, hexadecimal.
    pub cluster: String,
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {} of the etcd cluster {}", self.member, self.cluster)
    }
}

/// The type of the record that has the IDs.
const METADATA: u64 = 1;

/// Reads the head of such a file, in base64; `None` where it is none.
pub fn writer(head: &str) -> Option<Writer> {
    let head = BASE64_STANDARD.decode(head).ok()?;
    let mut rest = head.as_slice();
    loop {
        let (record, others) = frame(rest)?;
        if number(record, 1)? == METADATA {
            let ids = bytes(record, 3)?;
            return Some(Writer {
                member: format!("{:x}", number(ids, 1)?),
                cluster: format!("{:x}", number(ids, 2)?),
            });
        }
        rest = others;
    }
}

/// The first record, and what follows it. Its length stands in 56 bits; the rest of that word is how many bytes fill the
/// record up to a multiple of eight, with the topmost bit set where any do.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<8>()?;
    let word = u64::from_le_bytes(*word);
    let filled = if word >> 63 == 1 { word >> 56 & 0x7 } else { 0 };
    let length = usize::try_from(word & 0x00ff_ffff_ffff_ffff).ok()?;
    let (record, rest) = rest.split_at_checked(length)?;
    Some((record, rest.get(usize::try_from(filled).ok()?..)?))
}

/// A field of a protobuf message that is a number.
fn number(message: &[u8], field: u64) -> Option<u64> {
    fields(message).find_map(|(key, value)| match value {
        Value::Number(number) if key == field => Some(number),
        _ => None,
    })
}

/// A field of a protobuf message that is bytes.
fn bytes(message: &[u8], field: u64) -> Option<&[u8]> {
    fields(message).find_map(|(key, value)| match value {
        Value::Bytes(bytes) if key == field => Some(bytes),
        _ => None,
    })
}

enum Value<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// The fields of a protobuf message up to the first of a kind that etcd has none of here.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || {
        let key = varint(&mut message)?;
        let value = varint(&mut message)?;
        match key & 7 {
            0 => Some((key >> 3, Value::Number(value))),
            2 => {
                let (bytes, rest) = message.split_at_checked(usize::try_from(value).ok()?)?;
                message = rest;
                Some((key >> 3, Value::Bytes(bytes)))
            }
            _ => None,
        }
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The first bytes that etcd 3.7 wrote into a log.
    pub(crate) const HEAD: &str =
        "BAAAAAAAAIQIBBAAAAAAACAAAAAAAAAACAEQu4HH/AUaFgjN0pGL0riBz44BELKY6vGUg4b8zQEOAAAAAAAAgg==";

    #[test]
    fn the_head_of_a_log_names_its_writer() {
        let wanted = Writer { member: "8e9e05c52164694d".into(), cluster: "cdf818194e3a8c32".into() };
        assert_eq!(writer(HEAD), Some(wanted));
    }

    #[test]
    fn anything_else_names_nobody() {
        let head = BASE64_STANDARD.decode(HEAD).unwrap();
        for n in 0..56 {
            assert_eq!(writer(&BASE64_STANDARD.encode(&head[..n])), None, "{n} bytes");
        }
        let noise = [vec![0xff; 96], vec![0; 96], b"data\n".to_vec()];
        assert!(noise.iter().all(|bytes| writer(&BASE64_STANDARD.encode(bytes)).is_none()));
        assert_eq!(writer("no base64"), None);
    }
}
