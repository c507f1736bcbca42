//! What lies beside a snapshot: whose it is, when and from whom it was taken, and what it must add up to.

use crate::pki::authorities::Ca;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

/// The form of manifests that this version writes.
pub const FORMAT: u32 = 1;

/// How far a snapshot was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Its checksum holds, and the tree of its database was read.
    Checksum,
    /// Besides, etcdutl made a data directory of it.
    Restored,
}

/// What is known of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The snapshot's file name, in the same folder.
    pub file: String,
    /// The cluster's name in the inventory.
    pub cluster: String,
    /// etcd's ID of the cluster, hexadecimal.
    pub cluster_id: String,
    /// The host whose member gave it.
    pub member: String,
    /// That member's ID, hexadecimal.
    pub member_id: String,
    /// The newest revision in it.
    pub revision: u64,
    /// The member's etcd version, without a `v`.
    pub etcd: String,
    /// The cluster's Kubernetes version; `None` for etcd alone.
    pub kubernetes: Option<String>,
    /// When it was whole.
    #[serde(with = "time::serde::rfc3339")]
    pub taken_at: OffsetDateTime,
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// What of PKI a bundle carries beside the snapshot, by its path on a host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub carries: Vec<String>,
    /// True where it is encrypted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
    /// True where no quorum stood behind the member: what others had acknowledged may be missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_quorum: bool,
    /// What else than that was wrong with its member, where that makes it one of those: it was far behind, or another cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
    /// How far it was checked.
    #[serde(default)]
    pub check: Option<Check>,
    /// What was found wrong with it when it was looked at last; `None` where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<String>,
    /// True where that was so when it was taken, since its member's data was: no look at the file makes it good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_sick_member: bool,
}

/// Ends the name of a plain snapshot.
pub const PLAIN: &str = ".db";
/// Ends the name of an encrypted bundle.
pub const BUNDLE: &str = ".tar.age";
/// Ends the name of a manifest, in place of either.
pub const MANIFEST: &str = ".json";

/// Begins what the scheduled runs of earlier versions wrote as the damage of a snapshot, without [`Manifest::of_sick_member`].
const SICK: &str = "the alarm CORRUPT of its member";
/// Stands between what was wrong with the member and what a look at the file found besides.
const BESIDES: &str = "; besides, ";

const STAMP: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");

/// How the name of a snapshot begins, before its revision: sorts by time within a cluster. Two hosts may take one of the same
/// revision in the same second, and put both into one place.
pub fn stem(cluster: &str, taken_at: OffsetDateTime, member: &str) -> String {
    let stamp = taken_at.to_offset(time::UtcOffset::UTC).format(STAMP).unwrap_or_default();
    format!("{cluster}-{stamp}-{member}")
}

/// The manifest's name for a snapshot's.
pub fn name_for(file: &str) -> String {
    let stem = [PLAIN, BUNDLE].iter().find_map(|end| file.strip_suffix(end)).unwrap_or(file);
    format!("{stem}{MANIFEST}")
}

/// True for the name of a snapshot.
pub fn is_snapshot(file: &str) -> bool {
    !file.starts_with('.') && (file.ends_with(PLAIN) || file.ends_with(BUNDLE))
}

impl Manifest {
    /// Reads one.
    ///
    /// # Errors
    /// In words, where it is none that this version knows.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| format!("not a manifest: {e}"))?;
        match manifest.format {
            FORMAT => {
                let is_sick = manifest.damaged.as_ref().is_some_and(|why| why.starts_with(SICK));
                Ok(Self { of_sick_member: manifest.of_sick_member || is_sick, ..manifest })
            }
            other => Err(format!("a manifest of form {other}; this rsadm knows {FORMAT}")),
        }
    }

    /// Whose it is: the cluster's name, and its ID, which tells those of one name apart.
    pub fn built(&self) -> (&str, &str) {
        (&self.cluster, &self.cluster_id)
    }

    /// True for what a restore can rely on: it was checked, found damaged by no later look, and is what a quorum had.
    pub fn is_verified(&self) -> bool {
        self.check.is_some() && self.is_good()
    }

    /// True where nothing is known against it, checked or not.
    pub fn is_good(&self) -> bool {
        self.damaged.is_none() && !self.without_quorum
    }

    /// Why it is not known to have all that was acknowledged; `None` where nothing says so.
    pub fn may_lack(&self) -> Option<String> {
        let why = || self.doubt.clone().unwrap_or_else(|| "no quorum stood behind its member".to_owned());
        self.without_quorum.then(why)
    }

    /// True for a bundle of a cluster with Kubernetes whose keys are not in it: it was taken by an etcd host that has etcd's
    /// alone.
    pub fn has_etcds_keys_alone(&self) -> bool {
        self.kubernetes.is_some() && !self.carries.is_empty() && !self.has_the_clusters_keys()
    }

    /// True for a bundle that fresh hosts of a cluster with Kubernetes can be made from.
    pub fn has_the_clusters_keys(&self) -> bool {
        self.carries.contains(&Ca::Cluster.key_path())
    }

    /// The same after a look that found it good so far, or damaged.
    #[must_use]
    pub fn after(self, look: Result<Check, String>) -> Self {
        let of_member = self.damaged.as_deref().filter(|_| self.of_sick_member);
        let of_member = of_member.map(|why| why.split(BESIDES).next().unwrap_or(why).to_owned());
        match look {
            Ok(check) => Self { check: self.check.max(Some(check)), damaged: of_member, ..self },
            Err(why) => {
                let why = of_member.map_or(why.clone(), |member| format!("{member}{BESIDES}{why}"));
                Self { damaged: Some(why), ..self }
            }
        }
    }

    /// As it is written.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Manifest {
        Manifest {
            format: FORMAT,
            file: "prod-20261122T140511Z-m2-r48211.db".into(),
            cluster: "prod".into(),
            cluster_id: "7c1f0d2ab94e13aa".into(),
            member: "m2".into(),
            member_id: "8e9e05c52164694d".into(),
            revision: 48_211,
            etcd: "3.6.16".into(),
            kubernetes: Some("v1.37.2".into()),
            taken_at: time::macros::datetime!(2026-11-22 14:05:11 UTC),
            size: 8224,
            sha256: "00".repeat(32),
            carries: vec![],
            encrypted: false,
            without_quorum: false,
            doubt: None,
            check: Some(Check::Checksum),
            damaged: None,
            of_sick_member: false,
        }
    }

    #[test]
    fn the_last_look_counts() {
        let mut manifest = sample();
        for (look, verified, check) in [
            (Ok(Check::Restored), true, Check::Restored),
            (Err("it was cut off".to_owned()), false, Check::Restored),
            (Ok(Check::Checksum), true, Check::Restored),
        ] {
            manifest = manifest.after(look.clone());
            assert_eq!((manifest.is_verified(), manifest.check), (verified, Some(check)), "{look:?}");
        }
        assert!(!Manifest { check: None, ..sample() }.is_verified());
        assert!(!Manifest { without_quorum: true, ..sample() }.is_verified(), "of a member that was cut off");
    }

    #[test]
    fn no_look_at_the_file_makes_a_sick_members_snapshot_good() {
        let earlier = "the alarm CORRUPT of its member was on";
        let text = Manifest { damaged: Some(earlier.into()), ..sample() }.to_json();
        assert!(!text.contains("of_sick_member"), "as a version before that field wrote it");
        let sick = Manifest { damaged: Some("corrupt".into()), of_sick_member: true, ..sample() };
        for (sick, reason) in [(sick, "corrupt"), (Manifest::parse(text.as_bytes()).unwrap(), earlier)] {
            let whole = sick.clone().after(Ok(Check::Restored));
            assert_eq!((whole.is_verified(), whole.damaged.as_deref()), (false, Some(reason)));
            let cut = |manifest: Manifest| manifest.after(Err("it was cut off".into()));
            let twice = cut(cut(whole));
            assert_eq!(twice.damaged, Some(format!("{reason}; besides, it was cut off")));
            let again = twice.after(Ok(Check::Checksum));
            assert_eq!((again.is_verified(), again.damaged.as_deref()), (false, Some(reason)));
        }
    }

    #[test]
    fn a_bundle_tells_whether_it_has_all_keys() {
        let with = |paths: &[String]| Manifest { carries: paths.to_vec(), ..sample() };
        let (etcd, all) = (Ca::Etcd.key_path(), [Ca::Etcd.key_path(), Ca::Cluster.key_path()]);
        assert!(with(std::slice::from_ref(&etcd)).has_etcds_keys_alone());
        assert!(!with(&all).has_etcds_keys_alone() && !sample().has_etcds_keys_alone());
        assert!(
            !Manifest { kubernetes: None, ..with(&[etcd]) }.has_etcds_keys_alone(),
            "etcd is all there is"
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        let manifest = sample();
        assert_eq!(Manifest::parse(manifest.to_json().as_bytes()).as_ref(), Ok(&manifest));
        assert!(Manifest::parse(b"{}").unwrap_err().starts_with("not a manifest"));
        let newer = Manifest { format: 2, ..manifest };
        assert_eq!(
            Manifest::parse(newer.to_json().as_bytes()).unwrap_err(),
            "a manifest of form 2; this rsadm knows 1"
        );
    }

    #[test]
    fn names() {
        let manifest = sample();
        let stem = stem(&manifest.cluster, manifest.taken_at, &manifest.member);
        assert_eq!(format!("{stem}-r{}{PLAIN}", manifest.revision), manifest.file);
        assert_eq!(name_for(&manifest.file), "prod-20261122T140511Z-m2-r48211.json");
        assert_eq!(name_for("a.tar.age"), "a.json");
        assert!(
            is_snapshot("a.db")
                && is_snapshot("a.tar.age")
                && !is_snapshot(".a.db")
                && !is_snapshot("a.json")
        );
    }
}
