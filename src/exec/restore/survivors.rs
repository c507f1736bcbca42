//! What is left of a cluster whose quorum is lost: who has data, how far the data of members is that do not run, and a
//! snapshot of the one that is chosen.

use std::{path::Path, time::Duration};

use serde::Deserialize;

use super::{PHASE, Restore, RestoreError, words};
use crate::{event::count, inventory::NodeName};

/// How long a copy may take to start. A survivor that takes longer is one of which nothing is known.
const MEASURED: Duration = Duration::from_secs(300);

/// How a host says that it did not stop etcd to copy its data, since that follows a leader.
pub const LED: &str = "etcd runs there and has a leader";

/// How far the data of a member is whose etcd does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measured {
    /// Its log can be replayed.
    Far(Far),
    /// etcd ends over it.
    Damaged {
        /// In etcd's words.
        why: String,
        /// The store revision of its database, where that alone is whole.
        revision: Option<u64>,
    },
    /// It was not tried: etcd runs there and follows a leader.
    Led,
    /// It could not be tried, and why.
    Unknown(String),
}

/// Raft's measure, and etcd's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Far {
    /// Raft term.
    pub raft_term: u64,
    /// Newest raft entry that it knows to be committed.
    pub raft_index: u64,
    /// Store revision.
    pub revision: u64,
    /// The hash of its key space at that revision, eight hexadecimal digits.
    pub hash: Option<String>,
    /// The revision of that hash, and the compaction that it starts from.
    pub hashed_at: Option<(u64, u64)>,
    /// Entries at the end of its log of which it does not know whether a quorum agreed on them: a member that begins anew drops
    /// them. `None` where it runs, and was asked.
    pub undecided: Option<u64>,
    /// How many members its cluster has, learners included, where its data was asked.
    pub members: Option<usize>,
}

/// Of a log.
pub fn entries(n: u64) -> String {
    if n == 1 { "1 entry".to_owned() } else { format!("{n} entries") }
}

/// An element of what `etcdctl endpoint status -w json` and `endpoint hashkv -w json` print.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Endpoint {
    status: Status,
    #[serde(rename = "HashKV")]
    hash_kv: Hash,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    header: Header,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Header {
    revision: u64,
    raft_term: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Hash {
    hash: Option<u32>,
    /// -1 where nothing was compacted yet.
    compact_revision: Option<i64>,
    /// Of which revision it is; etcd before 3.6 does not tell.
    hash_revision: Option<u64>,
    header: Header,
}

/// What `etcdutl snapshot status -w json` prints.
#[derive(Deserialize)]
struct Database {
    revision: u64,
}

impl Measured {
    /// How many members there are by it.
    #[must_use]
    pub fn members(&self) -> Option<usize> {
        match self {
            Self::Far(far) => far.members,
            Self::Damaged { .. } | Self::Led | Self::Unknown(_) => None,
        }
    }

    /// Reads what a host said.
    fn of(said: &str) -> Self {
        let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let endpoint = |text: &str| serde_json::from_str::<Vec<Endpoint>>(text).ok()?.pop();
        let far = || {
            let header = endpoint(field("status")?)?.status.header;
            let hash = field("hash").and_then(endpoint).map(|e| e.hash_kv);
            // A copy that stands alone may let leases end meanwhile.
            let hashed_at = hash.as_ref().and_then(|h| {
                let compacted = u64::try_from(h.compact_revision?).unwrap_or_default();
                Some((h.hash_revision.unwrap_or(h.header.revision), compacted))
            });
            Some(Far {
                // The election that the copy won alone is none of the cluster's.
                raft_term: header.raft_term.checked_sub(1)?,
                raft_index: field("index")?.parse().ok()?,
                revision: header.revision,
                hash: hash.and_then(|h| h.hash).map(|h| format!("{h:08x}")),
                hashed_at,
                undecided: field("undecided").and_then(|n| n.parse().ok()),
                members: field("members").and_then(|n| n.parse().ok()),
            })
        };
        match (field("damaged"), field("unknown")) {
            (Some(why), _) => {
                let database = field("database").and_then(|text| serde_json::from_str::<Database>(text).ok());
                Self::Damaged { why: why.to_owned(), revision: database.map(|d| d.revision) }
            }
            (_, Some(LED)) => Self::Led,
            (_, Some(why)) => Self::Unknown(why.to_owned()),
            _ => far().map_or_else(|| Self::Unknown(format!("the host answered {said:?}")), Self::Far),
        }
    }
}

impl Restore<'_> {
    /// What the targets have, a word a line: `data`, `running`.
    ///
    /// # Errors
    /// Hosts that did not answer.
    pub async fn diagnose(&self) -> Result<Vec<(NodeName, String)>, RestoreError> {
        self.ask("look at etcd's data", &self.targets, |_| words(["diagnose"])).await
    }

    /// How far members are that do not run: a copy of the data of each is started alone, and thrown away.
    ///
    /// # Errors
    /// Hosts that did not answer.
    pub async fn measure(&self, stopped: &[NodeName]) -> Result<Vec<(NodeName, Measured)>, RestoreError> {
        let title = format!("a copy of the data of {} is started alone", count(stopped.len(), "member"));
        let stage = self.events.stage(PHASE, title, stopped.iter().cloned());
        let seconds = MEASURED.as_secs().to_string();
        let said = self.ask("measure etcd's data", stopped, |_| words(["measure", &seconds])).await?;
        let measured: Vec<_> = said.into_iter().map(|(host, said)| (host, Measured::of(&said))).collect();
        stage.done(format!(
            "data of {} measured, each on a copy that was started alone",
            count(stopped.len(), "member")
        ));
        Ok(measured)
    }

    /// Nothing is stopped where there would be no room then to replay the log of a survivor, or for what comes of it.
    ///
    /// # Errors
    /// Hosts without the room; a host that does not answer.
    pub async fn has_room_to_replay(&self, survivor: &NodeName) -> Result<(), RestoreError> {
        let only = [survivor.clone()];
        let said = self.ask("look at the size of etcd's data", &only, |_| words(["sizes"])).await?;
        let size = |n: usize| said.first().and_then(|(_, said)| said.lines().nth(n)?.parse().ok());
        let (database, all): (u64, u64) = (size(0).unwrap_or(0), size(1).unwrap_or(0));
        // It replays on a copy of all of it; the others get the database. No snapshot of it is anywhere yet.
        self.have_room("none", |host| if host == survivor { all.max(database) } else { database }).await
    }

    /// Makes a snapshot of what one survivor has, and brings that here: of its data with the log replayed, or, `by_database`,
    /// of its database as it is. The answer is its checksum.
    ///
    /// # Errors
    /// Where it could not be made, or not be fetched.
    pub async fn replay(
        &self,
        survivor: &NodeName,
        by_database: bool,
        to: &Path,
    ) -> Result<String, RestoreError> {
        let only = [survivor.clone()];
        let (title, doing, done, verb) = match by_database {
            false => ("log is replayed alone", "replay its log", "log replayed into", words(["replay"])),
            true => {
                ("database is copied", "copy its database", "database made", words(["replay", "database"]))
            }
        };
        let stage = self.events.stage(PHASE, format!("{survivor}'s {title}"), only.clone());
        let said = self.ask(doing, &only, |_| verb.clone()).await?;
        let said = said.into_iter().map(|(_, said)| said).next().unwrap_or_default();
        let mut lines = said.lines();
        let sha256 = lines.next().unwrap_or_default().trim().to_owned();
        let size: u64 = lines.next().and_then(|size| size.trim().parse().ok()).unwrap_or_default();
        let undecided = lines.find_map(|line| line.strip_prefix("undecided ")?.parse().ok());
        self.fetch(survivor, size, to).await?;
        let without = undecided.filter(|n| *n > 0).map(|n| format!(", without {} at its end", entries(n)));
        let text = format!("{survivor}'s {done} a snapshot of {size} bytes{}", without.unwrap_or_default());
        stage.done(text);
        Ok(sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of etcd 3.7.3.
    const SAID: &str = r#"undecided 6
index 13
members 3
status [{"Endpoint":"https://127.0.0.1:12379","Status":{"header":{"cluster_id":10051333104847645073,"member_id":10101787052884330775,"revision":6,"raft_term":3},"version":"3.7.3","dbSize":32768,"leader":10101787052884330775,"raftIndex":17,"raftTerm":3,"raftAppliedIndex":17,"dbSizeInUse":24576}}]
hash [{"Endpoint":"https://127.0.0.1:12379","HashKV":{"header":{"cluster_id":10051333104847645073,"member_id":10101787052884330775,"revision":6,"raft_term":3},"hash":3065152303,"compact_revision":-1,"hash_revision":6}}]"#;

    #[test]
    fn a_copy_that_started_tells_how_far_the_data_was() {
        let far = Far {
            raft_term: 2,
            raft_index: 13,
            revision: 6,
            hash: Some("b6b2832f".into()),
            hashed_at: Some((6, 0)),
            undecided: Some(6),
            members: Some(3),
        };
        assert_eq!(Measured::of(SAID), Measured::Far(far.clone()));
        let without_hash = SAID.split_once("\nhash").map(|(start, _)| start).unwrap_or_default();
        assert_eq!(Measured::of(without_hash), Measured::Far(Far { hash: None, hashed_at: None, ..far }));
        let damaged = "damaged discovery failed: walpb: crc mismatch";
        let why = "discovery failed: walpb: crc mismatch".to_owned();
        for (database, revision) in [
            ("", None),
            ("\ndatabase ", None),
            (
                r#"
database {"hash":1,"revision":500,"totalKey":9,"totalSize":20480,"version":"3.6"}"#,
                Some(500),
            ),
        ] {
            let said = format!("{damaged}{database}");
            assert_eq!(Measured::of(&said), Measured::Damaged { why: why.clone(), revision });
        }
        assert!(crate::exec::scripts::RESTORE.text.contains(LED));
        assert_eq!(Measured::of(&format!("unknown {LED}\n")), Measured::Led);
        assert_eq!(Measured::of("unknown no room"), Measured::Unknown("no room".into()));
        assert!(matches!(Measured::of("index \nstatus []"), Measured::Unknown(_)));
    }
}
