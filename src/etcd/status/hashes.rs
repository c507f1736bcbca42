//! Whether members hold the same: hashes of all their data at one revision, asked for no more often than it takes.
//!
//! A hash goes through a member's whole database, runs on where nobody waits for its answer any longer, and lets no write
//! through meanwhile (etcd, `mvcc/kvstore.go`, `hashByRev`; 1.6 s for 2 GB were measured, etcd-io/etcd#8910).

use std::time::Duration;

use futures::future::join_all;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::{
    Answer, Gathered, Target,
    advice::{list, note, title},
    commands::Commands,
    report::{Advice, EtcdReport, MemberReport},
};
use crate::{
    etcd::{Alarm, EtcdError, KvHash},
    event::bytes,
};

/// Above this, writes would wait for a hash for more than about a second.
const QUICK: u64 = 1 << 30;
/// Above this, they would for more than about a tenth of one, which is too much of every other second.
const CHEAP: u64 = 100 << 20;
/// What the hash of a small database gets, where the next step waits for it.
const LEAST: Duration = Duration::from_secs(30);
/// Bytes a second that the slowest member hashes.
const SLOWEST: u64 = 100_000_000;

/// Whether a look asks for hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hashes {
    /// It does not: whoever only wants to know who serves.
    #[default]
    Unasked,
    /// It does where no write waits noticeably, however often that is: whoever looks again and again.
    Cheap,
    /// It does where no database is so large that writes would wait noticeably.
    Quick,
    /// It does, and waits as long as it takes: where what comes next is only right if all hold the same.
    Whole,
}

/// What came of comparing members' data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// All voters that are well told a hash.
    Compared,
    /// Nobody was asked.
    NotAsked,
    /// Nobody was asked, since a hash of so large a database would hold up writes.
    TooLarge,
    /// Some told none.
    Incomplete,
}

impl Hashes {
    /// How long the hash of a database of that size may take, where it is waited for.
    pub fn limit(largest: u64) -> Duration {
        LEAST + Duration::from_secs(largest / SLOWEST)
    }

    /// Whether such a look asks for them, where the largest database has that size.
    pub fn has(self, largest: u64) -> bool {
        match self {
            Self::Unasked => false,
            Self::Cheap => largest <= CHEAP,
            Self::Quick => largest <= QUICK,
            Self::Whole => true,
        }
    }
}

/// Asks for hashes what answered, each member once, and those again that have dropped all that one far below them has. `until` is
/// when a look that is in a hurry has to end. Where the alarm CORRUPT is on, no size keeps a look from asking.
pub async fn compare(targets: &[Target], gathered: &mut Gathered, wanted: Hashes, until: Instant) {
    // No write waits for a hash while none is taken, and only hashes tell whether the alarm names the right one.
    let is_corrupt = gathered.alarms.iter().flatten().any(|alarm| alarm.kind == Alarm::CORRUPT);
    let is_patient = wanted == Hashes::Whole;
    let wanted = if is_corrupt && wanted != Hashes::Unasked { Hashes::Whole } else { wanted };
    gathered.hashes = wanted;
    let answers = &gathered.answers;
    let sizes = answers.iter().filter_map(|a| Some(a.status.as_ref().ok()?.db_size));
    let largest = sizes.max().unwrap_or_default();
    let Some(revision) = common_revision(answers).filter(|_| wanted.has(largest)) else { return };
    let end = if is_patient { Instant::now() + Hashes::limit(largest) } else { until };
    let ask = |revision| join_all(targets.iter().zip(answers).map(move |(t, a)| hash(t, a, revision, end)));
    let mut hashes = ask(revision).await;
    let newest: Vec<Option<u64>> = hashes.iter().map(|h| Some(h.as_ref()?.as_ref().ok()?.newest)).collect();
    // They hold the same or not, whoever it is that has so little.
    let has_dropped =
        |hash: &Option<Result<KvHash, EtcdError>>| matches!(hash, Some(Err(error)) if error.is_compacted());
    let dropped = answers.iter().zip(&hashes).filter(|(_, hash)| has_dropped(hash));
    if let Some(revision) = dropped.filter_map(|(a, _)| Some(a.status.as_ref().ok()?.revision)).min() {
        hashes = ask(revision).await;
    }
    for ((answer, hash), newest) in gathered.answers.iter_mut().zip(hashes).zip(newest) {
        answer.hash = hash.and_then(Result::ok);
        answer.newest = answer.hash.map(|hash| hash.newest).or(newest);
    }
}

/// The newest revision that every answering voter has: at it, equal histories have equal hashes.
fn common_revision(answers: &[Answer]) -> Option<u64> {
    answers.iter().filter_map(|a| a.status.as_ref().ok()).filter(|s| !s.is_learner).map(|s| s.revision).min()
}

async fn hash(
    target: &Target,
    answer: &Answer,
    revision: u64,
    end: Instant,
) -> Option<Result<KvHash, EtcdError>> {
    let (api, status) = (target.api.as_ref().ok()?, answer.status.as_ref().ok()?);
    // A learner serves no hashes (etcd, `isRPCSupportedForLearner`).
    if status.is_learner || status.revision < revision {
        return None;
    }
    timeout_at(end, api.hash_kv(revision, end.saturating_duration_since(Instant::now()))).await.ok()
}

/// Voters that are well and told no hash.
fn untold(members: &[MemberReport]) -> impl Iterator<Item = &MemberReport> {
    members.iter().filter(|m| m.error.is_none() && !m.is_learner && m.hash.is_none())
}

fn largest(members: &[MemberReport]) -> u64 {
    members.iter().filter_map(|m| m.db_size).max().unwrap_or_default()
}

/// What came of it, by what the members told.
pub(super) fn comparison(wanted: Hashes, members: &[MemberReport]) -> Comparison {
    match wanted {
        Hashes::Unasked => Comparison::NotAsked,
        _ if untold(members).next().is_none() => Comparison::Compared,
        _ if wanted.has(largest(members)) => Comparison::Incomplete,
        Hashes::Cheap => Comparison::NotAsked,
        _ => Comparison::TooLarge,
    }
}

/// Says so where members' data should have been compared and was not: nobody may take it for equal.
pub(super) fn uncompared(report: &EtcdReport, commands: Commands<'_>) -> Option<Advice> {
    // One voter has nobody to be compared with; without a quorum other things come first.
    if report.quorum.voters < 2 || !report.serves {
        return None;
    }
    match report.comparison {
        Comparison::Compared | Comparison::NotAsked => None,
        Comparison::TooLarge => Some(note(format!(
            "whether members hold the same data was not compared: databases are up to {} large, and a hash of more than {} \
             holds up writes for longer than a second; at a quiet hour, this compares them:",
            bytes(largest(&report.members)),
            bytes(QUICK)
        ))
        .with(commands.compare())),
        Comparison::Incomplete => {
            let silent: Vec<String> = untold(&report.members).map(title).collect();
            let is_below = untold(&report.members).all(|m| m.newest.is_some());
            Some(note(format!(
                "the data of {} was not compared with that of the others: {}",
                list(&silent),
                match is_below {
                    true => "it has nothing so new that they still have it",
                    false => "no hash of it came in time",
                }
            )))
        }
    }
}
