//! What a host says of its etcd, where a member's own silence explains nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// How a host that should run a member was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum HostState {
    /// There was no way to ask it.
    Unreachable {
        /// What was seen, in words that stand alone in a table cell.
        why: String,
        /// True where it answers and does not let rsadm in, so that its etcd may be well.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        shut: bool,
    },
    /// It was looked at.
    Seen(Process),
}

/// The etcd process of a host and what it takes to have one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Process {
    /// True where rsadm prepared the host; else kubeadm did, or somebody.
    pub prepared: bool,
    /// True where the kubelet, which runs it, is active.
    pub kubelet: bool,
    /// True where its static pod's manifest is in place.
    pub manifest: bool,
    /// True where there is data of a member.
    pub data: bool,
    /// The ID of the etcd cluster that the host last belonged to, by its own record.
    #[serde(skip)]
    pub data_of: Option<u64>,
    /// True where a process runs.
    pub running: bool,
    /// What it was started with, as far as anything follows from it: flags by their names.
    #[serde(skip)]
    pub flags: BTreeMap<String, String>,
    /// Bytes that are left on the disk of its data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<u64>,
    /// Where its data has a disk of its own by `/etc/fstab`, which is not mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmounted: Option<Box<str>>,
    /// Bytes of old data that was set aside, by its folder.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aside: BTreeMap<String, u64>,
    /// A restore or a recovery of etcd that has begun there and is not over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restoring: Option<Box<Restoring>>,
    /// A certificate of its that has ended, by the host's clock: the others turn it away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired: Option<Box<Expired>>,
    /// When the authority of its certificates ends, as far as the host tells.
    #[serde(skip)]
    pub authority_ends: Option<OffsetDateTime>,
    /// Where others dial those members whose data was not its own, as its last check of that told.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub differs: Box<[String]>,
    /// How often its container was started again; `None` where it never ran.
    pub restarts: Option<u32>,
    /// Its last complaint, or what it wrote last.
    pub last_words: Option<Words>,
}

impl Process {
    /// True where somebody else than rsadm built the host of a member: `rsadm up` and `rsadm certs` refuse to touch it.
    pub(super) fn is_of_others(&self) -> bool {
        !self.prepared && (self.manifest || self.data || self.running)
    }
}

/// A restore or a recovery of which something is left on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restoring {
    /// Its name.
    pub token: String,
    /// True where its data has taken the place of the old.
    pub placed: bool,
    /// True where it is over, and the host has not heard of its end, or still has to bring back what it had stopped.
    pub over: bool,
    /// True where it is over because it was rolled back.
    pub undone: bool,
}

impl Restoring {
    /// Reads `begun TOKEN`, `placed TOKEN`, `over TOKEN` and `undone TOKEN`.
    pub fn read(text: &str) -> Option<Self> {
        let (state, token) = text.split_once(' ')?;
        let (placed, undone) = (state != "begun", state == "undone");
        Some(Self { token: token.trim().to_owned(), placed, over: undone || state == "over", undone })
    }
}

/// A certificate that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expired {
    /// Its file in etcd's folder: `server.crt`, `peer.crt`.
    pub file: String,
    /// The day: `2026-11-22`.
    pub on: String,
    /// True where its authority has ended, too, so that nothing renews it.
    #[serde(skip)]
    pub with_authority: bool,
}

/// A line of its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Words {
    /// When, by the host's clock: `2026-11-22 14:02:11 UTC`.
    pub at: String,
    /// What, without the log's own dressing.
    pub text: String,
}

/// How much of a log line is shown.
const LONGEST: usize = 300;

impl Words {
    /// Reads a line of a container's log: a time, a stream, a tag, and then a line in JSON (etcd's own) or plain text
    /// (Go's panics).
    pub fn read(line: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Entry {
            msg: String,
            error: Option<String>,
        }
        let mut parts = line.splitn(4, ' ');
        let (at, _stream, _tag, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let text = match serde_json::from_str(text) {
            Ok(Entry { msg, error: Some(error) }) => format!("{msg}: {error}"),
            Ok(Entry { msg, error: None }) => msg,
            Err(_) => text.to_owned(),
        };
        let at = format!("{} {} UTC", at.get(..10)?, at.get(11..19)?);
        Some(Self { at, text: text.trim().chars().take(LONGEST).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_read_whoever_wrote_them() {
        let at = "2026-11-22T17:12:28.401349239Z stderr F ";
        for (line, text) in [
            (
                r#"{"level":"fatal","ts":"x","msg":"discovery failed","error":"no disk"}"#,
                "discovery failed: no disk",
            ),
            (r#"{"level":"info","msg":"ready to serve"}"#, "ready to serve"),
            ("panic: freepages: failed", "panic: freepages: failed"),
        ] {
            let words = Words::read(&format!("{at}{line}")).unwrap();
            assert_eq!((words.text.as_str(), words.at.as_str()), (text, "2026-11-22 17:12:28 UTC"));
        }
        for noise in ["", "one two", "täg täg täg täg"] {
            assert_eq!(Words::read(noise), None, "{noise:?}");
        }
    }
}
