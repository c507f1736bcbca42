//! Asks etcd's members how they are, and at the same time their hosts, which know more where a member is silent.
//!
//! Bounded as a whole: whoever asks in an emergency gets an answer, with what could not be found out named in it.

use std::{collections::BTreeMap, time::Duration};

use futures::future::{join_all, join3};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    ask,
    members::{Members, SshMembers},
};
use crate::{
    backup::agent::{Newest, State},
    etcd::status::{
        ApiServer, Backups, EtcdReport, Hashes, HostBackups, HostState, Known, Limits, Target, assess,
    },
    host::{HostError, Op, fleet::Fleet},
    inventory::{Cluster, Node, NodeName, Role},
    observe::etcd_host::{self, EtcdHost, Schedule},
};

/// How long one member, or one host, may take to be there at the least, and twice that where there is time: members answer
/// in milliseconds, and those of busy hosts are not dead.
const DIAL: Duration = Duration::from_secs(1);
/// What hashes get after the answers.
const HASHES: Duration = Duration::from_millis(600);
/// What answers get in any case: longer than the default election timeout, so that an election is not yet a lost quorum.
const LEAST: Duration = Duration::from_millis(1_200);

/// What a survey takes at the most, in milliseconds, that begins when its answer is due already: until it knows that a host hangs, and
/// then that members serve without a quorum.
pub const OVERTIME_MILLIS: u128 = DIAL.as_millis() * 3 / 2 + LEAST.as_millis();

/// What a survey needs to know beside the hosts.
pub struct Survey<'a> {
    /// What is wanted.
    pub cluster: &'a Cluster,
    /// The hosts that answered.
    pub fleet: &'a Fleet,
    /// Why the others did not.
    pub unreachable: &'a [HostError],
    /// See [`Known::inventory`].
    pub inventory: String,
    /// When the answer is due.
    pub due: Instant,
}

impl Survey<'_> {
    /// How etcd is, and as far as `hashes` goes whether members hold the same. Read only; comes back when it is due, whatever members and hosts do.
    pub async fn etcd(&self, hashes: Hashes, now: OffsetDateTime) -> EtcdReport {
        let patience = self.patience();
        let members = SshMembers::new(self.cluster, self.fleet).deadline(patience);
        let hosts = join_all(self.cluster.nodes.iter().map(|node| self.host(node, patience)));
        let (targets, hosts, old_clusters) =
            join3(self.targets(&members, patience), hosts, members.old_clusters()).await;
        let known = Known { old_clusters, ..self.known(hosts.into_iter().flatten().collect()) };
        assess(&ask::gather_all(&members, targets, hashes, DIAL, || self.limits()).await, &known, now)
    }

    fn patience(&self) -> Duration {
        let left = self.due.saturating_duration_since(Instant::now());
        // What comes after it has to fit in, too, and the way to a member.
        (left.saturating_sub(LEAST + HASHES) * 2 / 3).clamp(DIAL, DIAL * 2)
    }

    fn limits(&self) -> Limits {
        let left = self.due.saturating_duration_since(Instant::now());
        let answers = left.saturating_sub(HASHES).clamp(LEAST, Limits::default().answers);
        Limits { answers, total: answers + HASHES }
    }

    async fn targets(&self, members: &SshMembers<'_>, patience: Duration) -> Vec<Target> {
        let silent = || Err(format!("no answer within {:.1} s", patience.as_secs_f64()).into());
        join_all(self.cluster.with_role(Role::Etcd).map(|node| async move {
            let until = Instant::now() + patience * 3 / 2;
            let (api, served_not_after) = match self.absence(&node.name) {
                Some(why) => (Err(why.into()), None),
                // The dial bounds itself; this is for the way to it.
                None => timeout_at(until, members.dial_and_look(&node.name))
                    .await
                    .unwrap_or_else(|_| (silent(), None)),
            };
            // Of one that shows nothing at one port nothing is to be seen at the other.
            let peer_not_after = match served_not_after {
                Some(_) => {
                    let until = until.min(Instant::now() + DIAL);
                    timeout_at(until, members.look_at_peer_port(&node.name)).await.ok().flatten()
                }
                None => None,
            };
            let target = Target::of(node.name.to_string(), true, node.peer_url(), node.client_url(), api);
            Target { served_not_after, peer_not_after, ..target }
        }))
        .await
    }

    /// Why a host is not among those that can be asked.
    fn absence(&self, name: &NodeName) -> Option<String> {
        self.error(name).map(|error| format!("host {}", error.brief()))
    }

    fn error(&self, name: &NodeName) -> Option<&HostError> {
        self.unreachable.iter().find(|e| e.host() == name)
    }

    /// What a host says; `None` for those that neither run etcd nor an API server, and for those that said nothing.
    async fn host(&self, node: &Node, patience: Duration) -> Option<(NodeName, EtcdHost)> {
        if !node.is(Role::Etcd) && !node.is(Role::ControlPlane) {
            return None;
        }
        if let Some(why) = self.absence(&node.name) {
            let shut = self.error(&node.name).is_some_and(HostError::lets_nobody_in);
            let state = HostState::Unreachable { why, shut };
            let unknown = EtcdHost { state, etcd_servers: None, metrics: None, backup: Schedule::default() };
            return Some((node.name.clone(), unknown));
        }
        let host = self.fleet.host(&node.name)?;
        let ops = [Op::Script(etcd_host::SCRIPT, vec![], patience)];
        let outputs = timeout(patience * 3 / 2, host.run(&ops, false)).await.ok()?.ok()?;
        Some((node.name.clone(), etcd_host::parse(&outputs.first()?.text())?))
    }

    /// What the hosts that answered remember of scheduled snapshots.
    fn backups(&self, hosts: &BTreeMap<NodeName, EtcdHost>) -> Option<Backups> {
        let interval = self.cluster.etcd.backup.as_ref()?.interval.as_secs();
        let seen = hosts.iter().filter(|(_, host)| matches!(host.state, HostState::Seen(_)));
        let is_etcd = |name: &NodeName| self.cluster.node(name).is_some_and(|n| n.is(Role::Etcd));
        let hosts = seen.filter(|(name, _)| is_etcd(name));
        let hosts = hosts.map(|(name, host)| backups_of(name, host.backup.clone()));
        Some(Backups { interval, hosts: hosts.collect() })
    }

    fn known(&self, hosts: BTreeMap<NodeName, EtcdHost>) -> Known {
        let servers = |node: &Node| hosts.get(&node.name).and_then(|h| h.etcd_servers.clone());
        let api_server =
            |node: &Node| Some(ApiServer { name: node.name.to_string(), etcd_servers: servers(node)? });
        Known {
            cluster: self.cluster.name.clone(),
            inventory: self.inventory.clone(),
            old_clusters: vec![],
            backups: self.backups(&hosts),
            api_servers: self.cluster.with_role(Role::ControlPlane).filter_map(api_server).collect(),
            timing: (self.cluster.etcd.heartbeat_interval, self.cluster.etcd.election_timeout),
            metrics: hosts.iter().filter_map(|(n, h)| Some((n.to_string(), h.metrics.clone()?))).collect(),
            hosts: hosts.into_iter().map(|(name, host)| (name.to_string(), host.state)).collect(),
        }
    }
}

/// What one host remembers, as far as it is so: of another target than the present one's nobody looks after what lies there.
fn backups_of(name: &NodeName, told: Schedule) -> HostBackups {
    let Schedule { state, since, target, gone, runs } = told;
    let state: State = state.and_then(|line| serde_json::from_str(&line).ok()).unwrap_or_default();
    let is_elsewhere = |of: &str| target.as_deref().is_some_and(|target| of != target);
    let newest = state.newest.filter(|n| !n.target.as_deref().is_some_and(is_elsewhere));
    // Of a bucket the host's own run looked, of a folder this look did.
    let gone = gone || newest.as_ref().is_some_and(|n| n.gone);
    let entry = |n: &Newest| (n.taken_at, n.file.clone());
    HostBackups {
        host: name.to_string(),
        since,
        damaged: newest.as_ref().filter(|n| n.damaged).map(entry),
        newest: newest.as_ref().filter(|n| !n.damaged && !gone).map(entry),
        by: newest.as_ref().and_then(|n| n.by.clone()),
        gone: newest.as_ref().filter(|n| !n.damaged && gone).map(|n| {
            let folder = target.as_deref().unwrap_or_default();
            (n.taken_at, format!("{folder}/{}", n.file))
        }),
        runs,
        last_run: state.last_run,
        error: state.error,
        unpruned: state.unpruned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::Check;

    #[test]
    fn only_what_is_still_at_the_present_target_counts() {
        let newest = |target: Option<&str>, damaged| Newest {
            taken_at: 7,
            file: "a.db".into(),
            revision: 1,
            check: Check::Restored,
            damaged,
            gone: false,
            target: target.map(str::to_owned),
            by: None,
        };
        let is = |file: &str| Some((7, file.to_owned()));
        // Of hosts whose target is `/nas`, or that told none: the newest, the one that is gone, the damaged one.
        for (told, newest, gone, expected) in [
            (Some("/nas"), newest(Some("/nas"), false), false, (is("a.db"), None, None)),
            (Some("/nas"), newest(None, false), false, (is("a.db"), None, None)),
            (None, newest(Some("/nas"), false), false, (is("a.db"), None, None)),
            (Some("/nas"), newest(Some("/nas"), false), true, (None, is("/nas/a.db"), None)),
            (Some("/nas"), newest(Some("/old"), false), true, (None, None, None)),
            (Some("/nas"), newest(Some("s3://b"), true), false, (None, None, None)),
            (Some("/nas"), newest(Some("/nas"), true), false, (None, None, is("a.db"))),
            (
                Some("s3://b"),
                Newest { gone: true, ..newest(Some("s3://b"), false) },
                false,
                (None, is("s3://b/a.db"), None),
            ),
        ] {
            let what = format!("{told:?} {newest:?} {gone}");
            let state = serde_json::to_string(&State { newest: Some(newest), ..State::default() }).ok();
            let schedule = Schedule { state, since: None, target: told.map(str::to_owned), gone, runs: None };
            let of = backups_of(&NodeName::new("e1"), schedule);
            assert_eq!((of.newest, of.gone, of.damaged), expected, "{what}");
        }
        let half = Schedule { state: Some("{".into()), ..Schedule::default() };
        let nothing = HostBackups { host: "e1".into(), ..HostBackups::default() };
        assert_eq!(backups_of(&NodeName::new("e1"), half), nothing);
    }
}
