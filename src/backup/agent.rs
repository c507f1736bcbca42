//! One snapshot by an etcd host itself, when its timer fires.
//!
//! Every host asks all members and finds out who of them does the work; the others note who does, and are done, but where
//! that one's snapshots have stopped coming ([`turn`]). What came of it stands in a state file, from which `status` tells how
//! old the newest verified snapshot is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use self::sweep::sweep;
use super::{
    BackupError, Check, Manifest,
    bundle::{Carried, Recipient},
    choose::{Voter, ranked},
    file, keys,
    place::{Entry, Place, credentials},
    room,
    take::{self, Source},
    trial, turn,
};
use crate::{
    etcd::{
        EtcdApi, MemberStatus,
        client::{Credentials, Dial, EtcdClient, dial},
        status::alarms_in,
    },
    host::Secret,
    layout,
    manifests::{BackupConfig, Peer},
};

mod sweep;

/// How long a member may take to answer: nobody waits for a timer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The alarm of a member whose data is not that of the others.
const CORRUPT: &str = "CORRUPT";

/// The alarm with which etcd takes no writes, and so no notes.
const NOSPACE: &str = "NOSPACE";

/// What a host remembers of its snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The newest one that was taken and checked by this host.
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
}

impl State {
    /// The same after a run. One that nobody can rely on takes no good one's place: how old that is has to be seen.
    fn after(self, outcome: &Result<Outcome, BackupError>, now: OffsetDateTime) -> Self {
        let unpruned = match outcome {
            Ok(Outcome::Taken(_, unpruned)) => unpruned.clone(),
            Ok(Outcome::Elsewhere(_)) => None,
            Err(_) => self.unpruned.clone(),
        };
        let (newest, error) = match outcome {
            Ok(Outcome::Taken(m, _)) if m.is_verified() => (Some(Newest::of(m)), None),
            Ok(Outcome::Taken(m, _)) => {
                let why = m.damaged.clone().unwrap_or_else(|| "no quorum stood behind its member".to_owned());
                (self.newest, Some(format!("{} was taken and does not count: {why}", m.file)))
            }
            Ok(Outcome::Elsewhere(_)) => (self.newest, None),
            Err(error) => (self.newest, Some(chain(error))),
        };
        Self { newest, last_run: now.unix_timestamp(), error, unpruned }
    }
}

impl Newest {
    fn of(m: &Manifest) -> Self {
        Self {
            taken_at: m.taken_at.unix_timestamp(),
            file: m.file.clone(),
            revision: m.revision,
            check: m.check.unwrap_or(Check::Checksum),
            damaged: m.damaged.is_some(),
        }
    }
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Took one; and why older ones were not removed, where they could not be.
    Taken(Box<Manifest>, Option<String>),
    /// Another host does.
    Elsewhere(String),
}

/// Takes the snapshot if this host is the one that does, and notes what came of it.
///
/// # Errors
/// Why there is none; the state file says it too.
pub async fn run() -> Result<Outcome, BackupError> {
    let state_file = Path::new(layout::BACKUP_STATE);
    let before: State =
        fs::read(state_file).ok().and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or_default();
    let outcome = attempt(before.last_run != 0).await;
    let state = before.after(&outcome, OffsetDateTime::now_utc());
    let text = serde_json::to_string(&state).unwrap_or_default() + "\n";
    file::write(state_file, text.as_bytes())?;
    outcome
}

/// Who fires for the first time steps in for nobody: others had no time yet to leave notes.
async fn attempt(may_step_in: bool) -> Result<Outcome, BackupError> {
    let text = fs::read(layout::BACKUP_CONFIG)
        .map_err(BackupError::io(format!("read {}", layout::BACKUP_CONFIG)))?;
    let config: BackupConfig = serde_json::from_slice(&text)
        .map_err(|e| BackupError::Refused(format!("{} is not as it must be: {e}", layout::BACKUP_CONFIG)))?;
    let credentials = etcd_credentials()?;
    let answers = everybody(&config, &credentials).await;
    let voters = voters(&answers);
    let ranked = ranked(&voters);
    let Some(first) = ranked.first() else {
        return Err(BackupError::Refused("no member of etcd answers".into()));
    };
    let elsewhere = Outcome::Elsewhere(first.name.clone());
    let rank = ranked.iter().position(|v| v.name == config.host);
    let own = answers.iter().find(|a| a.name == config.host);
    let (Some(rank), Some(own)) = (rank, own) else { return Ok(elsewhere) };
    let place = Place::open(&config.target, &settings(&config)?)?;
    let is_corrupt = ranked[rank].is_corrupt;
    let manifest = match rank {
        0 => work(&config, &place, own, is_corrupt).await?,
        _ if !may_step_in || !steps_in(&config, &place, own, &ranked[..=rank]).await? => {
            return Ok(elsewhere);
        }
        _ => {
            // What keeps the first from its work may keep others from theirs, and never all of them begin at once.
            tokio::time::sleep(turn::pause(rank, config.interval)).await;
            let Some(own) = ask_own(&config, &credentials).await else { return Ok(elsewhere) };
            if !steps_in(&config, &place, &own, &ranked[..=rank]).await? {
                return Ok(elsewhere);
            }
            work(&config, &place, &own, is_corrupt).await?
        }
    };
    // It is taken, whatever becomes of older ones.
    if manifest.is_verified() {
        leave_note(&config, &credentials).await;
    }
    let unpruned = prune(&config, &place).await.err().map(|error| chain(&error));
    Ok(Outcome::Taken(Box::new(manifest), unpruned))
}

/// The members that answer. Each is asked twice, where it is silent: on a busy host a silence is not yet an absence.
async fn everybody(config: &BackupConfig, credentials: &Credentials) -> Vec<Answer> {
    let asked = join_all(config.members.iter().map(|peer| async {
        match ask(peer, credentials).await {
            None => ask(peer, credentials).await,
            answer => answer,
        }
    }));
    asked.await.into_iter().flatten().collect()
}

/// Those of them that vote.
fn voters(answers: &[Answer]) -> Vec<Voter> {
    let corrupt: BTreeSet<u64> = answers.iter().flat_map(|a| &a.corrupt).copied().collect();
    let voter = |a: &Answer| Voter {
        name: a.name.clone(),
        is_leader: a.status.leader == a.status.member_id,
        serves: a.serves,
        is_corrupt: corrupt.contains(&a.status.member_id),
        applied: (a.status.raft_term, a.status.raft_applied_index),
    };
    answers.iter().filter(|a| !a.status.is_learner).map(voter).collect()
}

/// True where the last of these, which is this host, does the work of the first: the snapshots of all before it have stopped
/// coming. One that nobody can rely on helps nobody; and where etcd is full nobody can leave a note, so that all would store one
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
    if !own.serves || own.full || line.iter().any(|v| v.name == config.host && v.is_corrupt) {
        return Ok(false);
    }
    let names: Vec<&str> = line.iter().map(|v| v.name.as_str()).collect();
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let Ok(mut notes) = own.client.leases().await else { return Ok(false) };
    if !turn::is_due(&names, &config.host, &notes, now, config.interval) {
        return Ok(false);
    }
    notes.extend(
        own_manifests(config, &place.list().await?).into_iter().filter(|m| m.is_verified()).map(note),
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

async fn ask_own(config: &BackupConfig, credentials: &Credentials) -> Option<Answer> {
    ask(config.members.iter().find(|peer| peer.name == config.host)?, credentials).await
}

struct Answer {
    name: String,
    client: EtcdClient,
    status: MemberStatus,
    /// True where it has a leader and a quorum stands behind it.
    serves: bool,
    /// True where the alarm NOSPACE of any member is on.
    full: bool,
    /// IDs of members whose alarm CORRUPT is on, by what this one says.
    corrupt: Vec<u64>,
}

async fn ask(peer: &Peer, credentials: &Credentials) -> Option<Answer> {
    let wanted = Dial {
        endpoint: format!("{} ({}:{})", peer.name, peer.address, layout::ETCD_CLIENT_PORT),
        address: SocketAddr::from((peer.address, layout::ETCD_CLIENT_PORT)),
        server_name: peer.address.to_string(),
        deadline: PATIENCE,
    };
    let client = dial(&wanted, credentials).await.client.ok()?;
    let status = client.status().await.ok()?;
    let serves = status.leader != 0 && client.linearizable_read().await.is_ok();
    // A member's status names all alarms, those of others too, and needs no quorum.
    let alarms = alarms_in(&status.errors);
    let full = alarms.iter().any(|a| a.kind == NOSPACE);
    let corrupt = alarms.into_iter().filter(|a| a.kind == CORRUPT).map(|a| a.member_id).collect();
    Some(Answer { name: peer.name.clone(), client, status, serves, full, corrupt })
}

/// The certificate that kubeadm keeps for such questions on every etcd host.
fn etcd_credentials() -> Result<Credentials, BackupError> {
    let read = |name: &str| {
        let path = format!("{}/{name}", layout::ETCD_PKI_DIR);
        fs::read(&path).map_err(BackupError::io(format!("read {path}")))
    };
    Ok(Credentials {
        ca: read("ca.crt")?,
        certificate: read("healthcheck-client.crt")?,
        key: Secret::new(read("healthcheck-client.key")?),
    })
}

async fn work(
    config: &BackupConfig,
    place: &Place,
    own: &Answer,
    is_corrupt: bool,
) -> Result<Manifest, BackupError> {
    // What cannot be stored is not read from etcd, whose disk it costs: a bucket that is down fails every host's runs.
    place.list().await?;
    let source = Source {
        cluster: config.cluster.clone(),
        member: config.host.clone(),
        status: own.status.clone(),
        kubernetes: config.kubernetes.clone(),
        without_quorum: !own.serves,
    };
    // Where a bucket is the target, it passes through here; what a killed run left goes first.
    let folder = match place {
        Place::Folder(folder) => folder.clone(),
        Place::Bucket(_) => Path::new(layout::RSADM_DIR).join("backup-outgoing"),
    };
    sweep(&folder, matches!(place, Place::Bucket(_)));
    let needed = room::with_trial(own.status.db_size);
    let arrived = take::receive(&own.client, &folder, needed, &|_| ()).await?;
    let mut manifest = source.manifest(&arrived.checked, OffsetDateTime::now_utc());
    if let Some(program) = trial::etcdutl() {
        trial::restore(&program, arrived.path(), &folder)?;
        manifest.check = Some(Check::Restored);
    }
    // A copy is better than none, and nobody may take it for the cluster's data.
    manifest.damaged = is_corrupt.then(|| format!("the alarm {CORRUPT} of its member was on"));
    let recipients = config.recipient.iter().map(|r| r.parse::<Recipient>()).collect::<Result<Vec<_>, _>>();
    let recipients = recipients.map_err(BackupError::Refused)?;
    let carried = if recipients.is_empty() { vec![] } else { own_keys(config.kubernetes.is_some())? };
    let (path, manifest) = take::keep(arrived, manifest, None, &recipients, &carried)?;
    if matches!(place, Place::Bucket(_)) {
        let put = place.put(&path, &manifest).await;
        let _ = fs::remove_file(file::manifest_path(&path));
        let _ = fs::remove_file(&path);
        put?;
    }
    Ok(manifest)
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
async fn prune(config: &BackupConfig, place: &Place) -> Result<(), BackupError> {
    let list = place.list().await?;
    let known = own_manifests(config, &list);
    for i in config.retention.spare(&known, OffsetDateTime::now_utc()) {
        place.remove(&known[i].file).await?;
    }
    Ok(())
}

/// What of a list is this cluster's, in its order.
fn own_manifests<'a>(config: &BackupConfig, list: &'a [Entry]) -> Vec<&'a Manifest> {
    let known = list.iter().filter_map(|entry| entry.manifest.as_ref().ok());
    known.filter(|m| m.cluster == config.cluster).collect()
}

/// An error with its causes, in one line.
fn chain(error: &BackupError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text.lines().collect::<Vec<_>>().join(" ").chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::manifest::tests::sample;

    #[test]
    fn what_nobody_can_rely_on_takes_no_good_ones_place() {
        let good = sample();
        let now = good.taken_at;
        let taken = |m: &Manifest| Ok(Outcome::Taken(Box::new(m.clone()), None));
        let state = State::default().after(&taken(&good), now);
        assert_eq!((state.newest.clone(), state.error.clone()), (Some(Newest::of(&good)), None));
        for (worse, why) in [
            (Manifest { without_quorum: true, ..sample() }, "no quorum stood behind its member"),
            (Manifest { damaged: Some("it was cut off".into()), ..sample() }, "it was cut off"),
        ] {
            let after = state.clone().after(&taken(&worse), now + time::Duration::hours(9));
            assert_eq!(after.newest, state.newest);
            assert_eq!(after.last_run - state.last_run, 9 * 3600);
            assert!(after.error.as_ref().unwrap().ends_with(why), "{:?}", after.error);
        }
        let full =
            state.clone().after(&Ok(Outcome::Taken(Box::new(good.clone()), Some("locked".into()))), now);
        assert_eq!(
            full,
            State { unpruned: Some("locked".into()), ..state.clone() },
            "it is taken all the same"
        );
        assert_eq!(full.after(&Ok(Outcome::Elsewhere("m1".into())), now), state);
        let elsewhere = state.clone().after(&Ok(Outcome::Elsewhere("m1".into())), now);
        assert_eq!(elsewhere, state);
    }
}
