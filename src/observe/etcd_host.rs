//! What a host says of the etcd that should run on it: asked where a member's own silence explains nothing.
//!
//! Far cheaper than all facts, since `rsadm etcd status` has to answer while a cluster is in trouble.

use time::OffsetDateTime;

use super::Identity;
use crate::{
    etcd::status::{Expired, HostState, Metrics, Process, Restoring, Words},
    host::Script,
    pki::inspect::inspect,
};

/// The script; it changes nothing.
pub const SCRIPT: Script =
    Script { name: "etcd-host", text: concat!(include_str!("processes.sh"), include_str!("etcd_host.sh")) };

/// One host's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdHost {
    /// The state of its etcd.
    pub state: HostState,
    /// `--etcd-servers` of the API server that runs there; `None` where none does.
    pub etcd_servers: Option<Vec<String>>,
    /// What its member measured; `None` where it did not say.
    pub metrics: Option<Metrics>,
    /// What it says of scheduled snapshots.
    pub backup: Schedule,
}

/// What a host says of scheduled snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// What it remembers of them: its state file, as one line of JSON.
    pub state: Option<String>,
    /// Since when it has its present schedule, seconds since 1970.
    pub since: Option<i64>,
    /// Where they go by that: a folder, or the URL of a bucket.
    pub target: Option<String>,
    /// True where the newest that it remembers is not in that folder.
    pub gone: bool,
    /// For how many seconds a run has been under way; `None` where none is.
    pub runs: Option<i64>,
}

/// Reads what [`SCRIPT`] printed; `None` where it broke off.
pub fn parse(text: &str) -> Option<EtcdHost> {
    let mut process = Process::default();
    let mut etcd_servers = None;
    let mut complaint = None;
    let (mut clock, mut metrics, mut certs, mut differs) = (0, Vec::new(), Vec::new(), Vec::new());
    let mut backup = Schedule::default();
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "prepared" => process.prepared = true,
            "kubelet" => process.kubelet = rest.trim() == "active",
            "manifest" => process.manifest = true,
            "data" => process.data = true,
            "identity" => process.data_of = cluster_of(rest),
            "running" => process.running = true,
            "flag" => {
                process.flags.extend(rest.split_once(' ').map(|(name, value)| (name.into(), value.into())));
            }
            "room" => process.room = rest.parse().ok(),
            "unmounted" => process.unmounted = Some(rest.into()),
            "aside" => {
                process
                    .aside
                    .extend(rest.split_once(' ').and_then(|(n, at)| Some((at.into(), n.parse().ok()?))));
            }
            "restoring" => process.restoring = Restoring::read(rest).map(Box::new),
            "restarts" => process.restarts = rest.parse().ok(),
            "etcd-servers" => etcd_servers = Some(urls(rest)),
            "last" => process.last_words = Words::read(rest),
            "backup" => backup.state = Some(rest.to_owned()),
            "backup-since" => backup.since = rest.parse().ok(),
            "backup-to" => backup.target = Some(rest.to_owned()).filter(|target| !target.is_empty()),
            "backup-runs" => backup.runs = rest.parse().ok(),
            "backup-gone" => backup.gone = true,
            "differs" => differs.push(rest.to_owned()),
            "complaint" => complaint = Words::read(rest),
            "cert" => certs.extend(rest.split_once(' ')),
            "clock" => clock = rest.parse().unwrap_or(0),
            "metric" => metrics.push(rest),
            "end" => {
                process.last_words = complaint.or(process.last_words);
                process.differs = differs.into();
                let (authorities, own): (Vec<_>, Vec<_>) =
                    certs.into_iter().partition(|(name, _)| *name == CA);
                process.authority_ends = authorities.first().and_then(|(_, der)| end(der));
                let authority_ends = process.authority_ends;
                process.expired = own
                    .into_iter()
                    .find_map(|(name, der)| expired(name, der, clock, authority_ends))
                    .map(Box::new);
                let metrics = Metrics::read(metrics.into_iter(), clock);
                let state = HostState::Seen(process);
                return Some(EtcdHost { state, etcd_servers, metrics, backup });
            }
            _ => {}
        }
    }
    None
}

/// The etcd cluster of a host's record.
fn cluster_of(record: &str) -> Option<u64> {
    let identity: Identity = serde_json::from_str(record).ok()?;
    u64::from_str_radix(&identity.etcd_cluster_id, 16).ok()
}

/// The authority's file among those of certificates.
const CA: &str = "ca.crt";

/// The file and the day on which its certificate ended, where it has.
fn expired(name: &str, der: &str, clock: u64, authority_ends: Option<OffsetDateTime>) -> Option<Expired> {
    let not_after = end(der)?;
    let has_ended = |end: OffsetDateTime| end.unix_timestamp() < clock.cast_signed();
    has_ended(not_after).then(|| Expired {
        file: name.to_owned(),
        on: not_after.date().to_string(),
        with_authority: authority_ends.is_some_and(has_ended),
    })
}

/// When a certificate ends.
fn end(der: &str) -> Option<OffsetDateTime> {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n");
    Some(inspect(&pem).ok()?.not_after)
}

fn urls(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
