//! One snapshot by an etcd host itself, when its timer fires.
//!
//! Every host asks all members and finds out who of them does the work; the others note who does, and are done. What
//! came of it stands in a state file, from which `status` tells how old the newest verified snapshot is.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, time::Duration};

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    BackupError, Check, Manifest,
    bundle::{Carried, Recipient},
    choose::elected,
    file, keys,
    place::{Place, credentials},
    take::{self, Source},
    trial,
};
use crate::{
    etcd::{
        EtcdApi, MemberStatus,
        client::{Credentials, Dial, EtcdClient, dial},
    },
    host::Secret,
    layout,
    manifests::{BackupConfig, Peer},
};

/// How long a member may take to answer: nobody waits for a timer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a host remembers of its snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The newest one that was taken and checked by this host.
    pub newest: Option<Newest>,
    /// When the timer last fired, seconds since 1970.
    pub last_run: i64,
    /// Why the last run failed; `None` where it did not.
    pub error: Option<String>,
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

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Took one.
    Taken(Box<Manifest>),
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
    let outcome = attempt().await;
    let newest = match &outcome {
        Ok(Outcome::Taken(m)) => Some(Newest {
            taken_at: m.taken_at.unix_timestamp(),
            file: m.file.clone(),
            revision: m.revision,
            check: m.check.unwrap_or(Check::Checksum),
            damaged: m.damaged.is_some(),
        }),
        _ => before.newest,
    };
    let error = outcome.as_ref().err().map(chain);
    let state = State { newest, last_run: OffsetDateTime::now_utc().unix_timestamp(), error };
    let text = serde_json::to_string(&state).unwrap_or_default() + "\n";
    file::write(state_file, text.as_bytes())?;
    outcome
}

async fn attempt() -> Result<Outcome, BackupError> {
    let text = fs::read(layout::BACKUP_CONFIG)
        .map_err(BackupError::io(format!("read {}", layout::BACKUP_CONFIG)))?;
    let config: BackupConfig = serde_json::from_slice(&text)
        .map_err(|e| BackupError::Refused(format!("{} is not as it must be: {e}", layout::BACKUP_CONFIG)))?;
    let credentials = etcd_credentials()?;
    // Twice, where one is silent: on a busy host a silence is not yet an absence.
    let asked = join_all(config.members.iter().map(|peer| async {
        match ask(peer, &credentials).await {
            None => ask(peer, &credentials).await,
            answer => answer,
        }
    }))
    .await;
    let answers: Vec<&Answer> = asked.iter().flatten().collect();
    let is_leader = |a: &&&Answer| a.status.leader == a.status.member_id;
    let voters = answers.iter().filter(|a| !a.status.is_learner);
    let chosen = elected(voters.map(|a| (a.name.as_str(), is_leader(&a))));
    match chosen {
        None => Err(BackupError::Refused("no member of etcd answers".into())),
        Some(name) if name != config.host => Ok(Outcome::Elsewhere(name.to_owned())),
        Some(name) => {
            let own = answers.iter().find(|a| a.name == name);
            let own = own.ok_or_else(|| BackupError::Refused(format!("{name} is gone")))?;
            work(&config, own).await.map(|m| Outcome::Taken(Box::new(m)))
        }
    }
}

struct Answer {
    name: String,
    client: EtcdClient,
    status: MemberStatus,
    serves: bool,
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
    let serves = client.linearizable_read().await.is_ok();
    Some(Answer { name: peer.name.clone(), client, status, serves })
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

async fn work(config: &BackupConfig, own: &Answer) -> Result<Manifest, BackupError> {
    let place = Place::open(&config.target, &settings(config)?)?;
    let source = Source {
        cluster: config.cluster.clone(),
        member: config.host.clone(),
        status: own.status.clone(),
        kubernetes: config.kubernetes.clone(),
        without_quorum: !own.serves,
    };
    // Where a bucket is the target, it passes through here; what a killed run left goes first.
    let folder = match &place {
        Place::Folder(folder) => folder.clone(),
        Place::Bucket(_) => Path::new(layout::RSADM_DIR).join("backup-outgoing"),
    };
    sweep(&folder, matches!(place, Place::Bucket(_)));
    let arrived = take::receive(&own.client, &folder, &|_| ()).await?;
    let mut manifest = source.manifest(&arrived.checked, OffsetDateTime::now_utc());
    if let Some(program) = trial::etcdutl() {
        trial::restore(&program, arrived.path(), &folder)?;
        manifest.check = Some(Check::Restored);
    }
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
    prune(config, &place).await?;
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

/// Removes what a run that was killed has left.
fn sweep(folder: &Path, all: bool) {
    let Ok(listing) = fs::read_dir(folder) else { return };
    for entry in listing.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if all || name.starts_with(".rsadm-incoming-") || name.starts_with(".rsadm-trial-") {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

/// Only what is this cluster's goes: a bucket may hold several.
async fn prune(config: &BackupConfig, place: &Place) -> Result<(), BackupError> {
    let list = place.list().await?;
    let own = |m: &&Manifest| m.cluster == config.cluster;
    let known: Vec<&Manifest> = list.iter().filter_map(|e| e.manifest.as_ref().ok()).filter(own).collect();
    for i in config.retention.spare(&known, OffsetDateTime::now_utc()) {
        place.remove(&known[i].file).await?;
    }
    Ok(())
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
