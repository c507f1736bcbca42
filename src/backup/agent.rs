//! One snapshot by an etcd host itself, when its timer fires.
//!
//! Every host asks all members and finds out who of them does the work; the others note who does, and are done, but where
//! that one's snapshots have stopped coming ([`turn`]). What came of it stands in a state file, from which `status` tells how
//! old the newest verified snapshot is.

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use futures::{FutureExt, future::Shared};
use time::OffsetDateTime;

pub use self::state::{Newest, State};
use self::{
    ask::{Answer, ask_own, everybody_once_served, voters},
    ended::unless_ended,
    fresh::{fresh, is_first_of_boot},
    own::{lineage, look_for_newest, own_manifests},
    state::brief,
    sweep::sweep,
};
use super::{
    BackupError, Check, Manifest,
    bundle::{Carried, Recipient},
    choose::{Doubts, Voter, ranked},
    file, keys,
    place::{Place, credentials},
    room,
    take::{self, Source},
    trial, turn,
};
use crate::{
    etcd::{Alarm, EtcdApi, client::Credentials},
    layout,
    manifests::BackupConfig,
    secret::Secret,
};

mod alike;
mod ask;
mod ended;
mod fresh;
mod own;
mod state;
mod sweep;

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Took one; and why older ones were not removed, where they could not be.
    Taken(Box<Manifest>, Option<String>),
    /// Another host does.
    Elsewhere(String),
    /// The host has just started, and this one is young enough.
    Fresh(String),
}

/// Takes the snapshot if this host is the one that does, and notes what came of it. `stop` is there once somebody, such as
/// systemd after a time, wants the run to end.
///
/// # Errors
/// Why there is none; the state file says it too.
pub async fn run(stop: impl Future<Output = ()>) -> Result<Outcome, BackupError> {
    let (stop, started) = (stop.shared(), Instant::now());
    let state_file = Path::new(layout::BACKUP_STATE);
    let mut before: State =
        fs::read(state_file).ok().and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or_default();
    let (outcome, target) = match config() {
        Ok(config) => {
            let attempt = attempt(&config, &mut before, &stop);
            (unless_ended(attempt, &stop, started).await, Some(config.target))
        }
        Err(error) => (Err(error), None),
    };
    let state = before.after(&outcome, target.as_deref(), OffsetDateTime::now_utc());
    let text = serde_json::to_string(&state).unwrap_or_default() + "\n";
    let noted = file::write(state_file, text.as_bytes());
    // What failed first is the cause.
    let outcome = outcome?;
    noted.map(|()| outcome)
}

fn config() -> Result<BackupConfig, BackupError> {
    let text = fs::read(layout::BACKUP_CONFIG)
        .map_err(BackupError::io(format!("read {}", layout::BACKUP_CONFIG)))?;
    let path = || layout::BACKUP_CONFIG.to_owned();
    serde_json::from_slice(&text).map_err(|source| BackupError::Unreadable { path: path(), source })
}

async fn attempt(
    config: &BackupConfig,
    before: &mut State,
    stop: &Shared<impl Future<Output = ()>>,
) -> Result<Outcome, BackupError> {
    // Before anything is asked for what could not be kept.
    let recipients = config.recipient.iter().map(|r| r.parse::<Recipient>()).collect::<Result<Vec<_>, _>>();
    let recipients = recipients.map_err(BackupError::Refused)?;
    let place = settings(config).and_then(|settings| Place::open(&config.target, &settings));
    if let Ok(place) = &place {
        look_for_newest(config, place, before).await;
    }
    // Who fires for the first time steps in for nobody: others had no time yet to leave notes.
    let may_step_in = before.last_run != 0;
    let credentials = ask::credentials()?;
    let (answers, silence) = everybody_once_served(config, &credentials).await;
    let voters = voters(&answers);
    let ranked = ranked(&voters);
    let Some(first) = ranked.first() else {
        return Err(BackupError::Silent(silence));
    };
    let elsewhere = Outcome::Elsewhere(first.name.clone());
    let rank = ranked.iter().position(|v| v.name == config.host);
    let own = answers.iter().find(|a| a.name == config.host);
    let (Some(rank), Some(own)) = (rank, own) else { return Ok(elsewhere) };
    let (place, is_corrupt) = (place?, ranked[rank].is_corrupt);
    let manifest = match rank {
        0 => {
            // What cannot be stored is not read from etcd, whose disk it costs: a bucket that is down fails every host's runs.
            let (list, now) = (place.list().await?, OffsetDateTime::now_utc());
            let first = is_first_of_boot(before.last_run, now);
            if let Some(m) = fresh(config, own.status.cluster_id, &list, now).filter(|_| first) {
                return Ok(Outcome::Fresh(m.file.clone()));
            }
            let damaged = damaged(is_corrupt, config, &answers).await;
            work(config, &place, own, &recipients, damaged, stop.clone()).await?
        }
        _ if !may_step_in || !steps_in(config, &place, own, &ranked[..=rank]).await? => {
            return Ok(elsewhere);
        }
        _ => {
            // What keeps the first from its work may keep others from theirs, and never all of them begin at once.
            tokio::time::sleep(turn::pause(rank, config.interval)).await;
            let Some(own) = ask_own(config, &credentials).await else { return Ok(elsewhere) };
            if !steps_in(config, &place, &own, &ranked[..=rank]).await? {
                return Ok(elsewhere);
            }
            let damaged = damaged(is_corrupt, config, &answers).await;
            helps(&first.name, damaged.as_deref())?;
            work(config, &place, &own, &recipients, damaged, stop.clone()).await?
        }
    };
    // It is taken, whatever becomes of older ones.
    if manifest.is_verified() {
        leave_note(config, &credentials).await;
    }
    let unpruned = prune(config, own.status.cluster_id, &place).await.err().map(|error| brief(&error));
    Ok(Outcome::Taken(Box::new(manifest), unpruned))
}

/// True where the last of these, which is this host, does the work of the first: the snapshots of all before it have stopped
/// coming. One that nobody can rely on helps nobody; and where an alarm is on nobody can leave a note, so that all would store one
/// each time, and push out those from before. What lies at the place tells of a snapshot as a note does, where all
/// hosts have one place.
///
/// # Errors
/// Where the place cannot be looked at: nobody's snapshots go there now.
async fn steps_in(
    config: &BackupConfig,
    place: &Place,
    own: &Answer,
    line: &[&Voter],
) -> Result<bool, BackupError> {
    if !own.serves || own.alarms.forbid_notes() || line.iter().any(|v| v.name == config.host && v.is_corrupt)
    {
        return Ok(false);
    }
    let names: Vec<&str> = line.iter().map(|v| v.name.as_str()).collect();
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let Ok(mut notes) = own.client.leases().await else { return Ok(false) };
    if !turn::is_due(&names, &config.host, &notes, now, config.interval) {
        return Ok(false);
    }
    let (list, lineage) = (place.list().await?, lineage(own.status.cluster_id));
    notes.extend(
        own_manifests(config, Some(&lineage), &list).into_iter().filter(|m| m.is_verified()).map(note),
    );
    Ok(turn::is_due(&names, &config.host, &notes, now, config.interval))
}

/// What a manifest says as a note would.
fn note(manifest: &Manifest) -> i64 {
    turn::note(&manifest.member, manifest.taken_at.unix_timestamp())
}

/// That this host took one, for those who would step in: where it cannot be left they take one too many.
async fn leave_note(config: &BackupConfig, credentials: &Credentials) {
    // Anew, since sending a large one to a bucket takes its time.
    let Some(own) = ask_own(config, credentials).await else { return };
    let note = turn::note(&config.host, OffsetDateTime::now_utc().unix_timestamp());
    let _ = own.client.grant(note, turn::lifetime(config.members.len(), config.interval)).await;
}

/// Why the data of the member on this host is not what the cluster can go on with. One that differs from the others leaves no
/// note of what it gives, so that the next in line steps in.
async fn damaged(is_corrupt: bool, config: &BackupConfig, answers: &[Answer]) -> Option<String> {
    if is_corrupt {
        return Some(format!("the alarm {} of its member, or of all, was on", Alarm::CORRUPT));
    }
    let voters = answers.iter().filter(|a| a.serves && !a.status.is_learner);
    let voters: Vec<(&str, &dyn EtcdApi)> =
        voters.map(|a| (a.name.as_str(), &a.client as &dyn EtcdApi)).collect();
    alike::doubt(&config.host, &voters, config.members.len()).await
}

/// Whether what a host has helps that steps in for the first in line, which stores its copy whatever is said of it: of those behind
/// it, none of which would leave a note, each would store one each time, and push out the good ones.
///
/// # Errors
/// Where others doubt it: nobody would hear otherwise that there are no snapshots any more.
fn helps(first: &str, damaged: Option<&str>) -> Result<(), BackupError> {
    damaged.map_or(Ok(()), |doubt| {
        Err(BackupError::Refused(format!(
            "{first}, whose turn it is, takes none, and here is none to rely on: {doubt}"
        )))
    })
}

async fn work(
    config: &BackupConfig,
    place: &Place,
    own: &Answer,
    recipients: &[Recipient],
    damaged: Option<String>,
    stop: impl Future<Output = ()>,
) -> Result<Manifest, BackupError> {
    let source = Source {
        cluster: config.cluster.clone(),
        member: config.host.clone(),
        status: own.status.clone(),
        kubernetes: config.kubernetes.clone(),
        // A copy is better than none, and nobody may take one of a sick member for the cluster's data.
        doubts: Doubts { without_quorum: !own.serves, why: None, damaged },
    };
    // Where a bucket is the target, it passes through here; what a killed run left goes first.
    let folder = match place {
        Place::Folder(folder) => folder.clone(),
        Place::Bucket(_) => Path::new(layout::RSADM_DIR).join("backup-outgoing"),
    };
    if let Some(folder) = &config.made {
        is_there(Path::new(folder))?;
    }
    sweep(&folder, matches!(place, Place::Bucket(_)));
    // What commands of operators have left, whose connection was lost.
    [layout::RSADM_DIR, layout::BACKUP_DIR].iter().for_each(|folder| sweep(Path::new(folder), false));
    let needed = room::with_trial(own.status.db_size);
    if matches!(place, Place::Folder(_)) && room::check(&folder, needed).is_err() {
        // Older ones that may go are what it is full of, maybe: after a retention was made shorter, or the data grew.
        let _ = prune(config, own.status.cluster_id, place).await;
    }
    let arrived = take::receive(&own.client, &folder, needed, &|_| ()).await?;
    let mut manifest = source.manifest(&arrived.checked, OffsetDateTime::now_utc());
    if let Some(program) = trial::etcdutl() {
        trial::restore(&program, arrived.path(), &folder)?;
        manifest.check = Some(Check::Restored);
    }
    let carried = if recipients.is_empty() { vec![] } else { own_keys(config.kubernetes.is_some())? };
    let (path, manifest) = take::keep(arrived, manifest, None, recipients, &carried)?;
    if matches!(place, Place::Bucket(_)) {
        let put = place.put(&path, &manifest, stop).await;
        let _ = fs::remove_file(file::manifest_path(&path));
        let _ = fs::remove_file(&path);
        put?;
    }
    Ok(manifest)
}

/// A folder elsewhere was made by `up`, once. Where it is gone, something is not mounted most likely: one that is made in its
/// place would fill the disk below, and nobody would look for snapshots there.
fn is_there(folder: &Path) -> Result<(), BackupError> {
    if folder.is_dir() {
        return Ok(());
    }
    let folder = folder.display();
    Err(BackupError::Refused(format!(
        "there is no folder {folder} on this host: mount what it lies on, or make it (mkdir -p -m 700 {folder})"
    )))
}

/// What the bucket takes, secrets included.
fn settings(config: &BackupConfig) -> Result<BTreeMap<String, String>, BackupError> {
    let mut settings = config.settings.clone();
    if let Ok(text) = fs::read_to_string(layout::BACKUP_CREDENTIALS) {
        let refused = |why| BackupError::Refused(format!("{}: {why}", layout::BACKUP_CREDENTIALS));
        settings.extend(credentials(&text).map_err(refused)?);
    }
    Ok(settings)
}

/// The cluster's keys as far as this host has them: all of them where it is a control plane too.
fn own_keys(kubernetes: bool) -> Result<Vec<Carried>, BackupError> {
    let mut carried = Vec::new();
    for path in keys::wanted(kubernetes).into_iter().flat_map(|(paths, _)| paths) {
        match fs::read(&path) {
            Ok(data) => carried.push(Carried { path, data: Secret::new(data) }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(BackupError::Io { doing: format!("read {path}"), source }),
        }
    }
    Ok(carried)
}

/// Only what is this cluster's goes: a bucket may hold several.
async fn prune(config: &BackupConfig, cluster_id: u64, place: &Place) -> Result<(), BackupError> {
    let list = place.list().await?;
    let known = own_manifests(config, Some(&lineage(cluster_id)), &list);
    let (least, now) = (config.retention.in_intervals(config.interval), OffsetDateTime::now_utc());
    // What its restores took the place of is of the same line.
    for i in config.retention.spare(&known, |_| (), least, now) {
        place.remove(&known[i].file).await?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::backup::retention::Retention;

    pub(crate) fn sample_config() -> BackupConfig {
        BackupConfig {
            cluster: "prod".into(),
            kubernetes: None,
            host: "e1".into(),
            members: vec![],
            interval: 3600,
            retention: Retention::Count(1),
            target: "s3://bucket/prod".into(),
            made: None,
            settings: BTreeMap::new(),
            recipient: None,
        }
    }

    #[test]
    fn who_steps_in_stores_nothing_that_others_doubt_and_says_so() {
        assert!(helps("e1", None).is_ok());
        let refused = helps("e1", Some("of e2: its data differs from the others' (hash)")).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "e1, whose turn it is, takes none, and here is none to rely on: of e2: its data differs from the others' (hash)"
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_made_in_no_other_place() {
        let there = tempfile::tempdir().unwrap();
        let gone = there.path().join("etcd");
        let error = is_there(&gone).unwrap_err().to_string();
        assert!(error.contains(&format!("no folder {} on this host: mount", gone.display())), "{error}");
        assert!(!gone.exists());
        is_there(there.path()).unwrap();
    }
}
