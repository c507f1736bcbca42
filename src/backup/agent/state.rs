//! What a host remembers of its snapshots, in a state file from which `status` tells how old the newest verified one is.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Outcome;
use crate::{
    backup::{BackupError, Check, Manifest, place::Entry},
    line::chain,
    manifests::BackupConfig,
};

/// What a host remembers of its snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The newest one that was taken and checked by this host; where it went, and there is a newer one of another host beside
    /// where it was, that one.
    pub newest: Option<Newest>,
    /// When the timer last fired, seconds since 1970.
    pub last_run: i64,
    /// Why the last run failed; `None` where it did not.
    pub error: Option<String>,
    /// Why the last one that took a snapshot did not remove older ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpruned: Option<String>,
}

/// The newest snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    /// When, seconds since 1970.
    pub taken_at: i64,
    /// Its name.
    pub file: String,
    /// The newest revision in it.
    pub revision: u64,
    /// How far it was checked.
    pub check: Check,
    /// True where a later look found it damaged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub damaged: bool,
    /// True where a later look did not find it where it was put.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// Where it was put: what the schedule's target was. `None` for those of before that was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Which other host took it; `None` for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl State {
    /// The same after a run. One that nobody can rely on takes no good one's place: how old that is has to be seen.
    pub(super) fn after(
        self,
        outcome: &Result<Outcome, BackupError>,
        target: Option<&str>,
        now: OffsetDateTime,
    ) -> Self {
        let unpruned = match outcome {
            Ok(Outcome::Taken(_, unpruned)) => unpruned.clone(),
            Ok(Outcome::Elsewhere(_)) => None,
            Ok(Outcome::Fresh(_)) | Err(_) => self.unpruned.clone(),
        };
        let (newest, error) = match outcome {
            Ok(Outcome::Taken(m, _)) if m.is_verified() => (Some(Newest::of(m, target)), None),
            Ok(Outcome::Taken(m, _)) => {
                let why = m.damaged.clone().or_else(|| m.may_lack()).unwrap_or_default();
                (self.newest, Some(format!("{} was taken and does not count: {why}", m.file)))
            }
            Ok(Outcome::Elsewhere(_) | Outcome::Fresh(_)) => (self.newest, None),
            Err(error) => (self.newest, Some(brief(error))),
        };
        Self { newest, last_run: now.unix_timestamp(), error, unpruned }
    }
}

impl Newest {
    /// True where it was put there.
    pub(super) fn is_at(&self, target: &str) -> bool {
        self.target.as_deref().is_none_or(|own| own == target)
    }

    /// What lies there under its name now. What an operator's command found, on whatever machine, stands in the manifest.
    pub(super) fn found(&mut self, entry: Option<&Entry>) {
        self.gone = entry.is_none();
        if let Some(Ok(manifest)) = entry.map(|entry| &entry.manifest) {
            self.damaged = manifest.damaged.is_some();
        }
    }

    /// One that lies at the place of the schedule, whoever took it.
    pub(super) fn of_place(m: &Manifest, config: &BackupConfig) -> Self {
        let by = Some(m.member.clone()).filter(|member| *member != config.host);
        Self { by, ..Self::of(m, Some(&config.target)) }
    }

    fn of(m: &Manifest, target: Option<&str>) -> Self {
        Self {
            taken_at: m.taken_at.unix_timestamp(),
            file: m.file.clone(),
            revision: m.revision,
            check: m.check.unwrap_or(Check::Checksum),
            damaged: m.damaged.is_some(),
            gone: false,
            target: target.map(str::to_owned),
            by: None,
        }
    }
}

/// An error with its causes, no longer than anybody reads: the last cause, at its end, is what says most.
pub(super) fn brief(error: &BackupError) -> String {
    end_of(&chain(error), 500)
}

/// The last characters of a text, with a sign where it has more.
fn end_of(text: &str, most: usize) -> String {
    match text.chars().count().checked_sub(most) {
        None | Some(0) => text.to_owned(),
        Some(more) => format!("…{}", text.chars().skip(more + 1).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::manifest::tests::sample;

    #[test]
    fn a_long_error_keeps_its_end() {
        let long = "GET ".repeat(200) + "operation timed out";
        let said = brief(&BackupError::Refused(long));
        assert_eq!(said.chars().count(), 500);
        assert!(said.starts_with('…') && said.ends_with("GET operation timed out"), "{said}");
        assert_eq!(["é", "éé", "ééé", "éééé"].map(|text| end_of(text, 3)), ["é", "éé", "ééé", "…éé"]);
    }

    #[test]
    fn a_later_look_at_the_newest_counts() {
        let (good, damaged) = (sample(), sample().after(Err("it was cut off".into())));
        let mut newest = Newest::of(&good, Some("s3://b/prod"));
        assert!(newest.is_at("s3://b/prod") && !newest.is_at("/mnt/nas"));
        assert!(Newest { target: None, ..newest.clone() }.is_at("/mnt/nas"), "of before that was noted");
        let entry = |m: &Manifest| Entry::new(m.file.clone(), m.size, Ok(m.clone()));
        let bare = Entry { manifest: Err("no manifest beside it".into()), ..entry(&good) };
        for (entry, is_gone, is_damaged) in [
            (Some(entry(&good)), false, false),
            (None, true, false),
            (Some(entry(&damaged)), false, true),
            (Some(bare), false, true),
            (Some(entry(&good)), false, false),
        ] {
            newest.found(entry.as_ref());
            assert_eq!((newest.gone, newest.damaged), (is_gone, is_damaged), "{entry:?}");
        }
    }

    #[test]
    fn what_nobody_can_rely_on_takes_no_good_ones_place() {
        let good = sample();
        let (now, nas) = (good.taken_at, Some("/mnt/nas"));
        let taken = |m: &Manifest| Ok(Outcome::Taken(Box::new(m.clone()), None));
        let state = State::default().after(&taken(&good), nas, now);
        assert_eq!((state.newest.clone(), state.error.clone()), (Some(Newest::of(&good, nas)), None));
        for (worse, why) in [
            (Manifest { without_quorum: true, ..sample() }, "no quorum stood behind its member"),
            (Manifest { damaged: Some("it was cut off".into()), ..sample() }, "it was cut off"),
        ] {
            let after = state.clone().after(&taken(&worse), Some("s3://b"), now + time::Duration::hours(9));
            assert_eq!(after.newest, state.newest);
            assert_eq!(after.last_run - state.last_run, 9 * 3600);
            assert!(after.error.as_ref().unwrap().ends_with(why), "{:?}", after.error);
        }
        let full =
            state.clone().after(&Ok(Outcome::Taken(Box::new(good.clone()), Some("locked".into()))), nas, now);
        assert_eq!(
            full,
            State { unpruned: Some("locked".into()), ..state.clone() },
            "it is taken all the same"
        );
        let booted = full.clone().after(&Ok(Outcome::Fresh("a.db".into())), nas, now);
        assert_eq!(booted, full, "nothing was done about older ones");
        assert_eq!(full.after(&Ok(Outcome::Elsewhere("m1".into())), nas, now), state);
        let elsewhere = state.clone().after(&Ok(Outcome::Elsewhere("m1".into())), nas, now);
        assert_eq!(elsewhere, state);
    }
}
