//! From what the members answered to what it means. Pure: the same answers give the same report.

use std::collections::BTreeMap;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Answer, Gathered, Level,
    advice::advise,
    alike::{Alike, acquitted, most_common},
    backup::{BackupReport, Backups},
    hashes::{Comparison, comparison},
    host::HostState,
    metrics::Metrics,
    report::{
        ApiServer, EtcdReport, Id, MemberReport, Millis, OrphanedAlarm, Quorum, Trouble, Verdict, View,
    },
    timing::Timing,
};
use crate::{
    etcd::{Alarm, Member, MemberStatus, Silence},
    pki::inspect::{days_left, ends_with_authority},
};

/// A voter this many entries behind does not count as healthy: at the same gap between committed and applied etcd
/// itself turns requests away (etcd, server/etcdserver/v3_server.go, `maxGapBetweenApplyAndCommitIndex`).
pub const LAG_LIMIT: u64 = 5_000;

/// What is known of a cluster beside what its members answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The inventory's name for it.
    pub cluster: String,
    /// What stands after a command that takes the inventory: a space and the file, or nothing for the default one.
    pub inventory: String,
    /// What the control planes are configured with; none for etcd alone.
    pub api_servers: Vec<ApiServer>,
    /// How hosts were found, by name.
    pub hosts: BTreeMap<String, HostState>,
    /// What hosts remember of scheduled snapshots; `None` without a schedule.
    pub backups: Option<Backups>,
    /// Clusters that a restore or a recovery put this one in the place of: their members are none of this one's.
    pub old_clusters: Vec<u64>,
    /// What members measured, by their hosts' names.
    pub metrics: BTreeMap<String, Metrics>,
    /// The heartbeat interval and the election timeout that members are started with.
    pub timing: Timing,
}

/// Judges what was gathered; `now` is the time against which certificates expire.
pub fn assess(gathered: &Gathered, known: &Known, now: OffsetDateTime) -> EtcdReport {
    let facts = Facts::of(gathered, known);
    let mut members = facts.rows(now);
    let compared = comparison(gathered.hashes, &members);
    acquit(&facts, &mut members);
    tell_odd(&mut members, compared);
    let voters = members.iter().filter(|m| facts.is_voter(m)).count();
    let healthy = members.iter().filter(|m| facts.is_voter(m) && m.healthy).count();
    let needs = voters / 2 + 1;
    let can_lose = if facts.serves { healthy.saturating_sub(needs) } else { 0 };
    let mut report = EtcdReport {
        cluster: known.cluster.clone(),
        verdict: Verdict::Healthy,
        cluster_id: facts.cluster_id.map(Id),
        leader: facts.leader.map(Id),
        revision: facts.newest,
        quorum: Quorum { voters, healthy, needs, can_lose },
        serves: facts.serves,
        view: facts.view.clone(),
        comparison: comparison(gathered.hashes, &members),
        members,
        alarms_known: facts.alarms_known,
        orphaned_alarms: facts.orphaned_alarms(),
        cluster_alarms: facts.alarms_of(Alarm::WHOLE_CLUSTER),
        api_servers: known.api_servers.clone(),
        backup: known.backups.as_ref().map(|b| BackupReport::of(b, now)),
        advice: Vec::new(),
    };
    report.advice = advise(&report, known);
    report.verdict = verdict(&report);
    report
}

/// Whose data is that of most is not sick for the alarm alone that is on for it.
fn acquit(facts: &Facts<'_>, members: &mut [MemberReport]) {
    let acquitted = acquitted(members);
    let is_acquitted = |m: &MemberReport| {
        m.error == Some(Trouble::Corrupt) && m.id.is_some_and(|id| acquitted.contains(&id))
    };
    for member in members.iter_mut().filter(|m| is_acquitted(m)) {
        let is_its = |a: &&Answer| a.status.as_ref().is_ok_and(|s| Some(Id(s.member_id)) == member.id);
        let answer = facts.answers.iter().find(is_its);
        member.error = answer.and_then(|a| facts.weakness(a, a.status.as_ref().ok()?));
        member.healthy = member.error.is_none();
    }
}

/// Whose data is not that of the others does not do its part, whatever else keeps it from that.
fn tell_odd(members: &mut [MemberReport], comparison: Comparison) {
    let Alike::Odd(odd) = Alike::among(members, comparison, &[]) else { return };
    let odd: Vec<Option<Id>> = odd.iter().map(|m| m.id).collect();
    let is_weak = |m: &MemberReport| {
        matches!(m.error, None | Some(Trouble::NoLeader | Trouble::Behind(_) | Trouble::NoReads(_)))
    };
    for member in members.iter_mut().filter(|m| odd.contains(&m.id) && is_weak(m)) {
        (member.error, member.healthy) = (Some(Trouble::Differs), false);
    }
}

/// Members of the list that none of the answers is from: who asks by an inventory has not asked them yet.
pub fn strangers(gathered: &Gathered) -> Vec<Member> {
    let answers = &gathered.answers;
    let through_quorum = answers.iter().find_map(|a| a.quorum_list.as_deref().ok());
    let list = through_quorum.or_else(|| furthest_own_list(answers.iter()).map(|(_, members, _)| members));
    let unknown = |m: &&Member| !answers.iter().any(|a| belongs(m, a));
    list.unwrap_or_default().iter().filter(unknown).cloned().collect()
}

fn verdict(report: &EtcdReport) -> Verdict {
    let warned = report.advice.iter().any(|a| a.level == Level::Warning);
    match (report.serves, warned || report.members.iter().any(|m| !m.healthy)) {
        (false, _) => Verdict::NoQuorum,
        (true, true) => Verdict::Degraded,
        (true, false) => Verdict::Healthy,
    }
}

/// What the answers say together.
struct Facts<'g> {
    answers: &'g [Answer],
    hosts: &'g BTreeMap<String, HostState>,
    metrics: &'g BTreeMap<String, Metrics>,
    view: Option<View>,
    list: Option<&'g [Member]>,
    alarms: Vec<Alarm>,
    /// A quorum said which alarms are on, or at least a member.
    alarms_known: bool,
    /// A member served a linearizable read: a quorum stands, whatever we see of it.
    serves: bool,
    cluster_id: Option<u64>,
    leader: Option<u64>,
    furthest: u64,
    newest: Option<u64>,
}

impl<'g> Facts<'g> {
    fn of(gathered: &'g Gathered, known: &'g Known) -> Self {
        let answers = &gathered.answers;
        let is_old =
            |a: &&Answer| a.status.as_ref().is_ok_and(|s| known.old_clusters.contains(&s.cluster_id));
        let present: Vec<&Answer> = answers.iter().filter(|a| !is_old(a)).collect();
        let cluster = |a: &Answer| a.status.as_ref().ok().map(|s| s.cluster_id);
        // Of several that one which serves, however many members of others answer.
        let serving = present.iter().filter(|a| a.quorum_list.is_ok()).filter_map(|a| cluster(a));
        let cluster_id =
            most_common(serving).or_else(|| most_common(present.iter().filter_map(|a| cluster(a))));
        // Who served a read and was late to tell the rest is taken for one of it.
        let is_own = |a: &&Answer| cluster(a) == cluster_id || a.status.is_err() && a.quorum_list.is_ok();
        let own: Vec<&Answer> = present.iter().copied().filter(is_own).collect();
        let through_quorum = own.iter().find_map(|a| Some((*a, a.quorum_list.as_deref().ok()?, true)));
        let list = through_quorum.or_else(|| furthest_own_list(own.iter().copied()));
        let statuses = || own.iter().filter_map(|a| a.status.as_ref().ok());
        let serves = through_quorum.is_some();
        let alarms = gathered.alarms.clone();
        let alarms_known = alarms.is_some() || statuses().next().is_some();
        let alarms = alarms.unwrap_or_else(|| statuses().flat_map(|s| alarms_in(&s.errors)).collect());
        let leaders = statuses().filter(|s| serves && s.leader != 0);
        Self {
            answers,
            hosts: &known.hosts,
            metrics: &known.metrics,
            view: list.map(|(a, _, linearizable)| View { from: a.node.clone(), linearizable }),
            list: list.map(|(_, members, _)| members),
            alarms_known,
            serves,
            cluster_id,
            leader: leaders.max_by_key(|s| s.raft_term).map(|s| s.leader),
            furthest: statuses().map(|s| s.raft_index).max().unwrap_or(0),
            alarms,
            newest: statuses().map(|s| s.revision).max(),
        }
    }

    /// A host that is not in the list has no vote; where there is no list the inventory's hosts are all we know.
    fn is_voter(&self, row: &MemberReport) -> bool {
        !row.is_learner && (row.id.is_some() || self.list.is_none())
    }

    fn rows(&self, now: OffsetDateTime) -> Vec<MemberReport> {
        let list = self.list.unwrap_or_default();
        let of = |a: &Answer| list.iter().find(|m| belongs(m, a));
        let known = self.answers.iter().map(|a| self.row(Some(a), of(a), now));
        let strangers = list.iter().filter(|m| !self.answers.iter().any(|a| belongs(m, a)));
        known.chain(strangers.map(|m| self.row(None, Some(m), now))).collect()
    }

    fn alarms_of(&self, id: u64) -> Vec<String> {
        self.alarms.iter().filter(|a| a.member_id == id).map(|a| a.kind.clone()).collect()
    }

    /// Only a quorum knows who is no member any more.
    fn orphaned_alarms(&self) -> Vec<OrphanedAlarm> {
        let Some(list) = self.list.filter(|_| self.serves) else { return vec![] };
        let is_orphaned = |alarm: &&Alarm| {
            alarm.member_id != Alarm::WHOLE_CLUSTER && list.iter().all(|member| member.id != alarm.member_id)
        };
        let orphaned = self.alarms.iter().filter(is_orphaned);
        orphaned.map(|a| OrphanedAlarm { member_id: Id(a.member_id), alarm: a.kind.clone() }).collect()
    }

    fn row(&self, answer: Option<&Answer>, member: Option<&Member>, now: OffsetDateTime) -> MemberReport {
        let status = answer.and_then(|a| a.status.as_ref().ok());
        let id = member.map(|m| m.id);
        let error = self.trouble(answer, member);
        let not_after = answer.and_then(|a| a.served_not_after);
        let peer_not_after = answer.and_then(|a| a.peer_not_after);
        let rfc3339 = |time: OffsetDateTime| time.format(&Rfc3339).ok();
        let named = member.map(|m| m.name.as_str()).filter(|n| !n.is_empty());
        MemberReport {
            name: named.or(answer.map(|a| a.node.as_str())).unwrap_or_default().to_owned(),
            node: answer.filter(|a| a.in_inventory).map(|a| a.node.clone()),
            in_inventory: answer.is_some_and(|a| a.in_inventory),
            id: id.map(Id),
            peer_urls: member
                .map(|m| m.peer_urls.clone())
                .or(answer.map(|a| vec![a.peer_url.clone()]))
                .unwrap_or_default(),
            client_urls: client_urls(answer, member),
            version: status.map(|s| s.version.clone()),
            db_size: status.map(|s| s.db_size),
            db_size_in_use: status.map(|s| s.db_size_in_use),
            db_size_quota: status.map(|s| s.db_size_quota).filter(|q| *q > 0),
            is_leader: id.is_some() && id == self.leader,
            is_learner: member.is_some_and(|m| m.is_learner),
            follows: status.map(|s| s.leader).filter(|leader| *leader != 0).map(Id),
            raft_term: status.map(|s| s.raft_term),
            raft_index: status.map(|s| s.raft_index),
            raft_applied_index: status.map(|s| s.raft_applied_index),
            revision: status.map(|s| s.revision),
            newest: answer.and_then(|a| a.newest),
            lag: status.map(|s| self.furthest.saturating_sub(s.raft_applied_index)),
            hash: answer.and_then(|a| a.hash).map(|h| format!("{:08x}", h.hash)),
            hash_revision: answer.and_then(|a| a.hash).map(|h| h.revision),
            hash_compact_revision: answer.and_then(|a| a.hash).map(|h| h.compact_revision),
            reads: answer.is_some_and(|a| a.quorum_list.is_ok()),
            healthy: error.is_none(),
            latency_ms: answer.and_then(|a| a.latency).map(Millis::from),
            certificate_not_after: not_after.and_then(rfc3339),
            certificate_days: not_after.map(|t| days_left(t, now)),
            peer_certificate_not_after: peer_not_after.and_then(rfc3339),
            peer_certificate_days: peer_not_after.map(|t| days_left(t, now)),
            with_authority: not_after
                .into_iter()
                .chain(peer_not_after)
                .min()
                .zip(self.authority_ends(answer))
                .is_some_and(|(own, ca)| ends_with_authority(own, ca, now)),
            alarms: id.map_or_else(Vec::new, |id| self.alarms_of(id)),
            error,
            host: answer.and_then(|a| self.hosts.get(&a.node)).cloned(),
            metrics: answer.and_then(|a| self.metrics.get(&a.node)).map(|m| self.named(m)),
        }
    }

    /// When the authority of a member's certificates ends, as its host has it.
    fn authority_ends(&self, answer: Option<&Answer>) -> Option<OffsetDateTime> {
        match self.hosts.get(&answer?.node)? {
            HostState::Seen(process) => process.authority_ends,
            HostState::Unreachable { .. } => None,
        }
    }

    /// Metrics with members' names in place of their IDs; of members that are gone nothing is told.
    fn named(&self, metrics: &Metrics) -> Metrics {
        let name = |id: &str| {
            let id = u64::from_str_radix(id, 16).ok()?;
            self.list.unwrap_or_default().iter().find(|m| m.id == id).map(|m| m.name.clone())
        };
        let at = |ip: &str| {
            let has = |m: &&Member| m.peer_urls.iter().any(|url| url.contains(&format!("//{ip}:")));
            self.list.unwrap_or_default().iter().find(has).map(|m| m.name.clone())
        };
        let round_trips = &metrics.round_trips;
        Metrics {
            round_trips: round_trips.iter().filter_map(|(id, t)| Some((name(id)?, t.clone()))).collect(),
            heard: metrics.heard.iter().filter_map(|(ip, ago)| Some((at(ip)?, *ago))).collect(),
            ..metrics.clone()
        }
    }

    /// The first reason why a member does not do its part.
    fn trouble(&self, answer: Option<&Answer>, member: Option<&Member>) -> Option<Trouble> {
        if member.is_some_and(|m| m.name.is_empty()) {
            return Some(Trouble::Unstarted);
        }
        let Some(answer) = answer else { return Some(Trouble::NotInInventory) };
        let status = match &answer.status {
            Ok(status) => status,
            Err(why) => return Some(Trouble::Silent(self.silence(answer, why))),
        };
        if Some(status.cluster_id) != self.cluster_id {
            return Some(Trouble::OtherCluster(status.cluster_id));
        }
        if member.is_none() && self.list.is_some() {
            return Some(Trouble::NotAMember);
        }
        if member.is_some_and(|m| m.id != status.member_id) {
            return Some(Trouble::OtherMember(status.member_id));
        }
        self.corruption(status).or_else(|| self.weakness(answer, status))
    }

    /// Why a member says nothing: its host knows better than a forwarded port, whose far end is out of sight.
    fn silence(&self, answer: &Answer, why: &Silence) -> Silence {
        match self.hosts.get(&answer.node) {
            Some(HostState::Seen(process)) if !process.running => "etcd does not run".into(),
            _ => why.clone(),
        }
    }

    fn corruption(&self, status: &MemberStatus) -> Option<Trouble> {
        let corrupt = |a: &Alarm| a.member_id == status.member_id && a.kind == Alarm::CORRUPT;
        self.alarms.iter().any(corrupt).then_some(Trouble::Corrupt)
    }

    fn weakness(&self, answer: &Answer, status: &MemberStatus) -> Option<Trouble> {
        if status.leader == 0 {
            return Some(Trouble::NoLeader);
        }
        let lag = self.furthest.saturating_sub(status.raft_applied_index);
        if lag > LAG_LIMIT {
            return Some(Trouble::Behind(lag));
        }
        match &answer.quorum_list {
            Err(why) if !status.is_learner => Some(Trouble::NoReads(why.to_string())),
            _ => None,
        }
    }
}

/// Members are known by where they are dialled: names may be missing, and IDs change with every re-creation.
fn belongs(member: &Member, answer: &Answer) -> bool {
    let id = answer.status.as_ref().ok().map(|s| s.member_id);
    member.peer_urls.contains(&answer.peer_url) || id == Some(member.id)
}

fn client_urls(answer: Option<&Answer>, member: Option<&Member>) -> Vec<String> {
    match (member, answer) {
        (Some(m), _) if !m.client_urls.is_empty() => m.client_urls.clone(),
        (_, Some(a)) => vec![a.client_url.clone()],
        _ => Vec::new(),
    }
}

/// Without a quorum: the list of the member that knows most.
fn furthest_own_list<'a>(
    answers: impl Iterator<Item = &'a Answer>,
) -> Option<(&'a Answer, &'a [Member], bool)> {
    let own = |a: &'_ Answer| a.status.as_ref().map_or(0, |s| s.raft_applied_index);
    let answer = answers.filter(|a| a.own_list.is_some()).max_by_key(|a| own(a))?;
    Some((answer, answer.own_list.as_deref()?, false))
}

/// Alarms as a member's status has them, in protobuf's text form: `memberID:1234 alarm:NOSPACE`. That form leaves out what is
/// zero, so one without a member is the whole cluster's.
pub fn alarms_in(errors: &[String]) -> Vec<Alarm> {
    let field =
        |e: &str, name: &str| e.split_whitespace().find_map(|w| Some(w.strip_prefix(name)?.to_owned()));
    let alarm = |e: &String| {
        let kind = field(e, "alarm:")?;
        let member_id = field(e, "memberID:").map_or(Some(Alarm::WHOLE_CLUSTER), |id| id.parse().ok())?;
        Some(Alarm { member_id, kind })
    };
    errors.iter().filter_map(alarm).collect()
}
