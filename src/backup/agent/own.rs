//! What lies at a place of what is this host's cluster's: which may go, and whether the newest is still there.

use std::fs;

use time::OffsetDateTime;

use super::{Newest, State};
use crate::{
    backup::{
        Manifest,
        place::{Entry, Place},
    },
    layout::{self, SKEW},
    manifests::BackupConfig,
    observe::{Identity, facts::RESTORED},
};

/// Whether the newest that this host remembers is still where it was put, and whole as far as anybody has looked: `status` goes
/// by what is remembered. Where the place does not answer nothing new is known.
pub(super) async fn look_for_newest(config: &BackupConfig, place: &Place, state: &mut State) {
    let newest = state.newest.as_mut().filter(|newest| newest.is_at(&config.target));
    let Some(newest) = newest else { return };
    let Ok(entry) = place.entry(&newest.file).await else { return };
    newest.found(entry.as_ref());
    if entry.is_none() {
        follow(config, place, newest).await;
    }
}

/// Of a place that is several hosts' the retention of others removes what this one took, once theirs are newer.
async fn follow(config: &BackupConfig, place: &Place, newest: &mut Newest) {
    let Ok(list) = place.list().await else { return };
    // No member was asked yet of which cluster it is.
    let lineage = identity().filter(|identity| identity.etcd_cluster_id != RESTORED);
    let lineage = lineage.map(|i| [i.etcd_cluster_id].into_iter().chain(i.replaces).collect::<Vec<_>>());
    let latest = OffsetDateTime::now_utc() + SKEW;
    let own = own_manifests(config, lineage.as_deref(), &list).into_iter();
    let mut newer = own.filter(|m| m.taken_at.unix_timestamp() > newest.taken_at && m.taken_at <= latest);
    if let Some(manifest) = newer.find(|m| m.is_verified()) {
        *newest = Newest::of_place(manifest, config);
    }
}

/// The IDs of the cluster whose member this is and, as far as this host knows, of those that it took the place of.
pub(super) fn lineage(cluster_id: u64) -> Vec<String> {
    let replaces = identity().map(|identity| identity.replaces).unwrap_or_default();
    [format!("{cluster_id:x}")].into_iter().chain(replaces).collect()
}

fn identity() -> Option<Identity> {
    fs::read(layout::IDENTITY).ok().and_then(|text| serde_json::from_slice(&text).ok())
}

/// What of a list is this cluster's, in its order. A name tells one inventory's from another's; a drill on other machines or
/// a cluster that was built anew has the same, and its own ID, which counts where the lineage is known.
pub(super) fn own_manifests<'a>(
    config: &BackupConfig,
    lineage: Option<&[String]>,
    list: &'a [Entry],
) -> Vec<&'a Manifest> {
    let known = list.iter().filter_map(|entry| entry.manifest.as_ref().ok());
    let is_own = |m: &Manifest| lineage.is_none_or(|lineage| lineage.contains(&m.cluster_id));
    known.filter(|m| m.cluster == config.cluster && is_own(m)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::backup::{
        agent::{Outcome, tests::sample_config},
        file,
        manifest::tests::sample,
    };

    #[tokio::test]
    async fn what_is_gone_or_was_found_damaged_is_remembered_at_the_next_firing() {
        let folder = tempfile::tempdir().unwrap();
        let config = BackupConfig { target: folder.path().display().to_string(), ..sample_config() };
        let place = Place::open(&config.target, &BTreeMap::new()).unwrap();
        let path = folder.path().join(sample().file);
        let manifest = Manifest { size: 3, ..sample() };
        let outcome = Ok(Outcome::Taken(Box::new(manifest.clone()), None));
        let mut state = State::default().after(&outcome, Some(&config.target), manifest.taken_at);
        let look = async |state: &mut State| {
            look_for_newest(&config, &place, state).await;
            let newest = state.newest.as_ref().unwrap();
            (newest.gone, newest.damaged)
        };
        assert_eq!(look(&mut state).await, (true, false));
        fs::write(&path, "abc").unwrap();
        let damaged = manifest.clone().after(Err("it was cut off".into()));
        fs::write(file::manifest_path(&path), damaged.to_json()).unwrap();
        assert_eq!(look(&mut state).await, (false, true));
        state.newest.as_mut().unwrap().target = Some("s3://bucket/prod".into());
        fs::remove_file(&path).unwrap();
        assert_eq!(look(&mut state).await, (false, true), "of another target nothing is known here");
    }

    #[test]
    fn another_cluster_of_the_same_name_keeps_its_snapshots() {
        let config = sample_config();
        let of = |cluster: &str, id: &str, hours: u64| {
            let taken_at = sample().taken_at - std::time::Duration::from_secs(hours * 3600);
            let (file, id) = (format!("{id}-{hours}.db"), id.to_owned());
            let manifest = Manifest { cluster: cluster.into(), cluster_id: id, file, taken_at, ..sample() };
            Entry::new(manifest.file.clone(), manifest.size, Ok(manifest))
        };
        let list = [
            of(&config.cluster, "a", 1),
            of(&config.cluster, "b", 2),
            of(&config.cluster, "before", 3),
            of("other", "a", 4),
            Entry::new("bare.db".into(), 7, Err("no manifest beside it".into())),
        ];
        let own = |lineage: &[&str]| -> Vec<String> {
            let lineage: Vec<String> = lineage.iter().map(|id| (*id).to_owned()).collect();
            own_manifests(&config, Some(&lineage), &list).into_iter().map(|m| m.file.clone()).collect()
        };
        assert_eq!(own(&["a", "before"]), ["a-1.db", "before-3.db"]);
        assert_eq!(own(&["b"]), ["b-2.db"]);
        assert_eq!(own(&["c"]), Vec::<String>::new());
        assert_eq!(own_manifests(&config, None, &list).len(), 3, "by its name alone");
    }
    /// In a bucket, or in a folder that hosts share.
    #[tokio::test]
    async fn what_the_retention_of_another_host_removed_is_not_told_as_gone() {
        let folder = tempfile::tempdir().unwrap();
        let config = BackupConfig { target: folder.path().display().to_string(), ..sample_config() };
        let place = Place::open(&config.target, &BTreeMap::new()).unwrap();
        let (hour, now) = (time::Duration::hours(1), OffsetDateTime::now_utc());
        let own = Manifest { taken_at: now - hour * 9, ..sample() };
        let of = |manifest: Manifest| Manifest { size: 3, member: "e2".into(), ..manifest };
        let newer = || Manifest { file: "newer.db".into(), taken_at: own.taken_at + hour, ..sample() };
        for (what, other, followed) in [
            ("another host's newer one", newer(), true),
            ("an older one", Manifest { taken_at: own.taken_at - hour, ..newer() }, false),
            ("one that nobody can rely on", Manifest { without_quorum: true, ..newer() }, false),
            ("one of a clock that is ahead", Manifest { taken_at: now + hour, ..newer() }, false),
            ("another cluster's", Manifest { cluster: "test".into(), ..newer() }, false),
        ] {
            let other = of(other);
            fs::write(folder.path().join(&other.file), "abc").unwrap();
            place.describe(&other).await.unwrap();
            let outcome = Ok(Outcome::Taken(Box::new(own.clone()), None));
            let mut state = State::default().after(&outcome, Some(&config.target), own.taken_at);
            look_for_newest(&config, &place, &mut state).await;
            let newest = state.newest.unwrap();
            assert_eq!(newest.gone, !followed, "{what}");
            let (file, by) = if followed { (&other.file, Some("e2")) } else { (&own.file, None) };
            assert_eq!((&newest.file, newest.by.as_deref()), (file, by), "{what}");
        }
    }
}
