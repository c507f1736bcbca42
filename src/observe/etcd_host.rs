//! What a host says of the etcd that should run on it: asked where a member's own silence explains nothing.
//!
//! Far cheaper than all facts, since `rsadm etcd status` has to answer while a cluster is in trouble.

use crate::{
    backup::agent::State,
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
    /// What it remembers of scheduled snapshots.
    pub backup: Option<State>,
    /// Since when it has its present schedule, seconds since 1970.
    pub backup_since: Option<i64>,
}

/// Reads what [`SCRIPT`] printed; `None` where it broke off.
pub fn parse(text: &str) -> Option<EtcdHost> {
    let mut process = Process::default();
    let mut etcd_servers = None;
    let mut complaint = None;
    let (mut clock, mut metrics, mut certs) = (0, Vec::new(), Vec::new());
    let (mut backup, mut backup_since) = (None, None);
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "prepared" => process.prepared = true,
            "kubelet" => process.kubelet = rest.trim() == "active",
            "manifest" => process.manifest = true,
            "data" => process.data = true,
            "running" => process.running = true,
            "restoring" => process.restoring = Restoring::read(rest),
            "restarts" => process.restarts = rest.parse().ok(),
            "etcd-servers" => etcd_servers = Some(urls(rest)),
            "last" => process.last_words = Words::read(rest),
            "backup" => backup = serde_json::from_str(rest).ok(),
            "backup-since" => backup_since = rest.parse().ok(),
            "complaint" => complaint = Words::read(rest),
            "cert" => certs.extend(rest.split_once(' ')),
            "clock" => clock = rest.parse().unwrap_or(0),
            "metric" => metrics.push(rest),
            "end" => {
                process.last_words = complaint.or(process.last_words);
                process.expired = certs.into_iter().find_map(|(name, der)| expired(name, der, clock));
                let metrics = Metrics::read(metrics.into_iter(), clock);
                let state = HostState::Seen(process);
                return Some(EtcdHost { state, etcd_servers, metrics, backup, backup_since });
            }
            _ => {}
        }
    }
    None
}

/// The file and the day on which its certificate ended, where it has.
fn expired(name: &str, der: &str, clock: u64) -> Option<Expired> {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{der}\n-----END CERTIFICATE-----\n");
    let not_after = inspect(&pem).ok()?.not_after;
    (not_after.unix_timestamp() < clock.cast_signed())
        .then(|| Expired { file: name.to_owned(), on: not_after.date().to_string() })
}

fn urls(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: &str = "kubelet active\nmanifest\nrunning\netcd-servers https://10.0.0.1:2379,https://10.0.0.2:2379\n\
        restarts 0\nlast 2026-11-22T14:02:11.5Z stderr F {\"level\":\"info\",\"msg\":\"ready\"}\nend\n";
    const DIED: &str = "kubelet active\nmanifest\nrestarts 4\n\
        last 2026-11-22T14:02:11.5Z stderr F main.main()\n\
        complaint 2026-11-22T14:02:11.4Z stderr F panic: freepages: failed to get all reachable pages\nend\n";

    fn seen(text: &str) -> Process {
        match parse(text).unwrap().state {
            HostState::Seen(process) => process,
            HostState::Unreachable { why } => panic!("{why}"),
        }
    }

    #[test]
    fn a_certificate_that_has_ended_is_told_by_the_hosts_clock() {
        let now = time::macros::datetime!(2026-11-22 14:05:10 UTC);
        let authority = crate::pki::issue::Authority::make(crate::pki::authorities::Ca::Etcd, now).unwrap();
        let der: String = authority.files().cert.lines().filter(|line| !line.starts_with("---")).collect();
        let ends = inspect(&authority.files().cert).unwrap().not_after;
        for (clock, is_over) in [(ends - time::Duration::DAY, false), (ends + time::Duration::DAY, true)] {
            let text = format!("clock {}\ncert peer.crt {der}\nend\n", clock.unix_timestamp());
            let expired = seen(&text).expired.map(|e| (e.file, e.on));
            assert_eq!(expired, is_over.then(|| ("peer.crt".to_owned(), ends.date().to_string())));
        }
        assert_eq!(seen("clock 1\ncert peer.crt rubbish\nend\n").expired, None);
    }

    #[test]
    fn a_host_with_a_running_member() {
        let process = seen(RUNS);
        assert!(process.kubelet && process.manifest && process.running);
        assert_eq!(process.last_words.unwrap().text, "ready");
        let servers = parse(RUNS).unwrap().etcd_servers.unwrap();
        assert_eq!(servers, ["https://10.0.0.1:2379", "https://10.0.0.2:2379"]);
    }

    #[test]
    fn a_host_with_an_unfinished_restore() {
        let restoring =
            seen("kubelet active\nrestoring placed prod-17-recovered-from-m3\nend\n").restoring.unwrap();
        assert_eq!((restoring.placed, restoring.token.as_str()), (true, "prod-17-recovered-from-m3"));
        assert!(!seen("restoring begun prod-17-ab\nend\n").restoring.unwrap().placed);
    }

    #[test]
    fn a_complaint_says_more_than_the_last_line_of_a_trace() {
        let process = seen(DIED);
        assert_eq!((process.running, process.restarts), (false, Some(4)));
        let words = process.last_words.unwrap();
        assert_eq!(words.text, "panic: freepages: failed to get all reachable pages");
        assert_eq!(words.at, "2026-11-22 14:02:11 UTC");
    }

    #[test]
    fn what_it_remembers_of_snapshots() {
        let text = "kubelet active\nbackup-since 1700000000\nbackup {\"newest\":{\"taken_at\":1700000100,\
            \"file\":\"a.db\",\"revision\":7,\"check\":\"restored\"},\"last_run\":1700000100,\"error\":null}\nend\n";
        let host = parse(text).unwrap();
        let newest = host.backup.unwrap().newest.unwrap();
        assert_eq!(
            (newest.file.as_str(), newest.revision, host.backup_since),
            ("a.db", 7, Some(1_700_000_000))
        );
        assert_eq!(parse("backup {\nend\n").unwrap().backup, None);
    }

    #[test]
    fn nothing_installed_and_half_an_answer() {
        assert_eq!(seen("kubelet inactive\nend\n"), Process::default());
        assert_eq!(parse("kubelet active\nmanifest\n"), None);
    }
}
