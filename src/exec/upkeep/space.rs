//! Room in etcd's database: dropping history, and the way out of NOSPACE, the alarm after which etcd takes no writes.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use tokio::sync::Mutex;

use super::{
    Tending,
    defrag::{Defragmented, defragment},
    failed,
};
use crate::{
    etcd::{
        Alarm,
        status::{Alike, EtcdReport, Id, MemberReport, same},
    },
    event::{bytes, count},
    exec::{RunError, wait::patiently},
    layout,
    plan::Refusal,
};

/// From this share of its quota on a member would raise its alarm again with one of the next writes.
const FULL_PERCENT: u64 = 98;

/// How long members may go on dropping history after a compaction before that is taken as it is.
const SETTLED: Duration = Duration::from_secs(60);
/// How often in a row nobody's use may have fallen.
const QUIET_ROUNDS: u32 = 3;

/// What came of a compaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// The newest revision.
    pub revision: u64,
    /// The oldest one whose state can still be read.
    pub compacted_to: u64,
    /// False where all before it was gone already.
    pub changed: bool,
}

/// The way out of NOSPACE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Relieved {
    /// First history went.
    pub compacted: Compacted,
    /// Then the room that it took.
    pub defragmented: Defragmented,
    /// Then the alarms, by the names of their members.
    pub disarmed: Vec<String>,
}

/// Drops all history but the newest `keep` revisions, on all members, and waits until it is gone from their databases.
///
/// # Errors
/// Where etcd has no quorum or does not do it.
pub async fn compact(t: &Tending<'_>, keep: u64) -> Result<Compacted, RunError> {
    let stage = t.events.stage("compact", "history", []);
    let report = t.serving().await?;
    let revision = report.revision.unwrap_or(0);
    let compacted_to = revision.saturating_sub(keep);
    let member = super::speaker(&report, |m| m.is_leader);
    let (Some(member), true) = (member, compacted_to > 0) else {
        stage.done(format!("nothing to drop: the newest revision is {revision}"));
        return Ok(Compacted { revision, compacted_to, changed: false });
    };
    let api = t.tend(&stage, member, "compact").await?;
    let limit = t.limit_for(member.db_size.unwrap_or(0));
    let answer = api.compact(compacted_to, limit).await;
    let changed = answer.map_err(|e| failed(&stage, &member.name, "compact", e.into_why()))?;
    if changed {
        settle(t).await;
    }
    stage.done(match changed {
        true => format!("history before revision {compacted_to} dropped, {} kept", revision - compacted_to),
        false => format!("history before revision {compacted_to} was dropped before"),
    });
    Ok(Compacted { revision, compacted_to, changed })
}

/// The answer to a compaction is that of one member; the others drop the same history by themselves. So they are asked
/// until nobody's use falls any more.
async fn settle(t: &Tending<'_>) {
    let quiet = Mutex::new((0, BTreeMap::new()));
    let settled = || async {
        t.recount(&t.report().await).await;
        let report = t.report().await;
        let used = report.members.iter().filter_map(|m| Some((m.name.clone(), m.db_size_in_use?))).collect();
        let mut quiet = quiet.lock().await;
        let falls =
            |(name, now): (&String, &u64)| quiet.1.get(name).is_some_and(|before| now + now / 100 < *before);
        let slow =
            BTreeMap::<String, u64>::iter(&used).find(|member| falls(*member)).map(|(name, _)| name.clone());
        let rounds = if slow.is_none() { quiet.0 + 1 } else { 0 };
        *quiet = (rounds, used);
        match slow {
            Some(slow) => Err(format!("{slow} still drops history")),
            None if rounds < QUIET_ROUNDS => Err("members still drop history".to_owned()),
            None => Ok(()),
        }
    };
    if let Err(why) = patiently(SETTLED, settled).await {
        t.events.warn(format!("{why}: defragmented now, it gains less than it could"), None);
    }
}

/// From NOSPACE to a cluster that takes writes: history goes, every member is defragmented, the alarms are taken back.
///
/// # Errors
/// As the parts; and where the data itself fills the quota, with the ways out.
pub async fn relieve(t: &Tending<'_>) -> Result<Relieved, RunError> {
    let compacted = compact(t, 0).await?;
    // A compaction whose answer did not come in time may be under way still.
    if !compacted.changed {
        settle(t).await;
    }
    let defragmented = defragment(t, 0).await?;
    let disarmed = disarm(t, |alarm| alarm.kind == Alarm::NOSPACE).await?;
    Ok(Relieved { compacted, defragmented, disarmed })
}

/// Takes back those alarms that are over, and refuses for those that are not; the names of their members.
///
/// # Errors
/// Where a member is still full or corrupt, or etcd does not do it.
pub async fn disarm(t: &Tending<'_>, wants: impl Fn(&Alarm) -> bool) -> Result<Vec<String>, RunError> {
    let stage = t.events.stage("alarm", "disarm", []);
    let mut report = t.serving().await?;
    let Some(first) = super::speaker(&report, |_| false).cloned() else { return Ok(vec![]) };
    let api = t.tend(&stage, &first, "disarm").await?;
    let told = |why: String| failed(&stage, &first.name, "disarm", why);
    let alarms: Vec<Alarm> =
        api.alarms().await.map_err(|e| told(e.into_why()))?.into_iter().filter(wants).collect();
    // Of all alarms this alone goes by what members hold.
    if alarms.iter().any(|alarm| alarm.kind == Alarm::CORRUPT) {
        report = t.compared().await;
    }
    let mut names = Vec::new();
    for alarm in &alarms {
        let member = report.members.iter().find(|m| m.id == Some(Id(alarm.member_id)));
        let reason = match (member, alarm.member_id) {
            (Some(member), _) => lasting(&alarm.kind, member, &report, Quota::of(t)),
            (None, Alarm::WHOLE_CLUSTER) => divided(&alarm.kind, &report),
            // Its member is gone.
            (None, _) => None,
        };
        if let Some(reason) = reason {
            return Err(RunError::Refused(reason));
        }
        names.push(match (member, alarm.member_id) {
            (Some(member), _) => member.name.clone(),
            (None, Alarm::WHOLE_CLUSTER) => "all members".to_owned(),
            (None, id) => Id(id).to_string(),
        });
    }
    for alarm in &alarms {
        api.disarm(alarm).await.map_err(|e| told(e.into_why()))?;
    }
    if alarms.is_empty() {
        stage.done("no alarm is on");
        return Ok(names);
    }
    let left = api.alarms().await.map_err(|e| told(e.into_why()))?;
    if let Some(back) = left.iter().find(|a| alarms.contains(a)) {
        return Err(told(format!("the alarm {} is on again", back.kind)));
    }
    stage.done(format!("{} of {} taken back", count(alarms.len(), "alarm"), names.join(", ")));
    Ok(names)
}

/// The quota of members that do not say theirs, and what raises it.
#[derive(Clone, Copy)]
struct Quota {
    bytes: u64,
    of_others: bool,
}

impl Quota {
    fn of(t: &Tending<'_>) -> Self {
        Self { bytes: t.usual_quota(), of_others: t.of_others }
    }

    fn raise(self) -> String {
        match self.of_others {
            false => "raise etcd.quota_backend_bytes and run rsadm up".to_owned(),
            true => {
                format!("raise --quota-backend-bytes in {}, one host after the other", layout::ETCD_MANIFEST)
            }
        }
    }
}

/// Why taking the alarm back now would mend nothing.
fn lasting(kind: &str, member: &MemberReport, report: &EtcdReport, quota: Quota) -> Option<Refusal> {
    let name = &member.name;
    let refusal = |rule, why: String, help: String| {
        let subject = format!("the alarm {kind} of {name} stays");
        Some(Refusal { rule, subject, why, help })
    };
    match kind {
        Alarm::NOSPACE => {
            let (size, limit) = (member.db_size?, member.db_size_quota.unwrap_or(quota.bytes));
            if size.saturating_mul(100) / limit.max(1) < FULL_PERCENT {
                return None;
            }
            let gain = size.saturating_sub(member.db_size_in_use.unwrap_or(size));
            let why = format!(
                "its database has {} of {}, so the next writes would raise it again",
                bytes(size),
                bytes(limit)
            );
            match gain.saturating_mul(100) / size.max(1) {
                0..=5 => refusal(
                    "still-full",
                    format!("{why}; nearly all of it is data"),
                    format!("delete keys that nobody needs, or {}; then rsadm etcd defrag", quota.raise()),
                ),
                _ => {
                    let help = "rsadm etcd defrag makes room, and then takes the alarm back";
                    refusal("still-full", why, help.to_owned())
                }
            }
        }
        _ if agrees(member, report) => None,
        _ => {
            let why =
                "its data is not known to be that of the others, and taking the alarm back would hide it";
            // The alarm may have named the one that is right.
            let alike = Alike::of(report, &[]);
            let odd = if let Alike::Odd(odd) = &alike { odd.clone() } else { vec![] };
            let help = match odd.iter().find(|m| m.id == member.id).or(odd.first()) {
                Some(odd) => {
                    let host = odd.node.as_ref().unwrap_or(&odd.name);
                    format!("rsadm etcd replace {host} gives it the others' data")
                }
                None => "rsadm etcd status --compare shows what each holds, and what to do".to_owned(),
            };
            refusal("still-corrupt", why.to_owned(), help)
        }
    }
}

/// Why an alarm that is nobody's stays: not all members are known to hold the same.
fn divided(kind: &str, report: &EtcdReport) -> Option<Refusal> {
    let odd = report.members.iter().find(|m| m.id.is_some() && !agrees(m, report))?;
    Some(Refusal {
        rule: "still-corrupt",
        subject: format!("the alarm {kind} of all members stays"),
        why: format!(
            "the data of {} is not known to be that of the others, and taking the alarm back would hide it",
            odd.name
        ),
        help: "rsadm etcd status shows their hashes; rsadm etcd replace gives a member the others' data, and rsadm etcd restore \
               makes all anew from a snapshot"
            .to_owned(),
    })
}

/// True where the member holds the same data as all with whom it compares, and there are such.
fn agrees(member: &MemberReport, report: &EtcdReport) -> bool {
    let others = report.members.iter().filter(|other| other.id.is_some() && other.id != member.id);
    let told: Vec<bool> = others.filter_map(|other| same(member, other)).collect();
    !told.is_empty() && told.into_iter().all(|is_same| is_same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::status::tests::{Scene, id};

    fn full_at(size: u64, in_use: u64, quota: u64) -> EtcdReport {
        let mut scene = Scene::new(3);
        let status = scene.status(1);
        (status.db_size, status.db_size_in_use, status.db_size_quota) = (size, in_use, quota);
        scene.report()
    }

    const ANY: Quota = Quota { bytes: 0, of_others: false };

    #[test]
    fn an_alarm_that_would_come_back_stays() {
        for (size, in_use, limit, inventory, way_out) in [
            (99, 10, 100, 0, Some("rsadm etcd defrag makes room")),
            (99, 98, 100, 0, Some("delete keys")),
            (97, 97, 100, 0, None),
            // etcd before 3.6 does not say its quota: the inventory's counts.
            (99, 10, 0, 100, Some("rsadm etcd defrag")),
            (99, 10, 0, 1000, None),
        ] {
            let report = full_at(size, in_use, limit);
            let quota = Quota { bytes: inventory, of_others: false };
            let help = lasting("NOSPACE", &report.members[0], &report, quota).map(|r| r.help);
            assert_eq!(help.is_some(), way_out.is_some(), "{size} of {limit}: {help:?}");
            assert!(help.is_none_or(|h| h.starts_with(way_out.unwrap())), "{size} of {limit}");
        }
    }

    /// On hosts of others `up` is refused.
    #[test]
    fn a_quota_is_raised_where_it_is_set() {
        let report = full_at(99, 98, 100);
        for (of_others, way_out) in [
            (false, "or raise etcd.quota_backend_bytes and run rsadm up; then"),
            (true, "or raise --quota-backend-bytes in /etc/kubernetes/manifests/etcd.yaml, one host after"),
        ] {
            let full = lasting("NOSPACE", &report.members[0], &report, Quota { of_others, ..ANY }).unwrap();
            assert!(full.help.contains(way_out), "{}", full.help);
        }
    }

    #[test]
    fn corruption_is_not_hidden_and_what_is_healed_can_be_taken_back() {
        let mut scene = Scene::new(3);
        scene.gathered.alarms = Some(vec![Alarm { member_id: id(1), kind: "CORRUPT".into() }]);
        let healed = scene.report();
        assert_eq!(lasting("CORRUPT", &healed.members[0], &healed, ANY), None);
        scene.answer(1).hash.as_mut().unwrap().hash += 1;
        let sick = scene.report();
        assert!(lasting("CORRUPT", &sick.members[0], &sick, ANY).unwrap().help.contains("replace m1"));
        assert!(divided("CORRUPT", &healed).is_none() && divided("CORRUPT", &sick).is_some());
        // The one that etcd has named is right, and the leader wrong.
        scene.answer(1).hash.as_mut().unwrap().hash -= 1;
        scene.answer(2).hash.as_mut().unwrap().hash = 7;
        let named = scene.report();
        assert!(lasting("CORRUPT", &named.members[0], &named, ANY).unwrap().help.contains("replace m2"));
        scene.answer(2).hash = scene.answer(3).hash;
        scene.answer(1).hash = None;
        let unknown = scene.report();
        assert!(divided("CORRUPT", &unknown).is_some());
        assert!(lasting("CORRUPT", &unknown.members[0], &unknown, ANY).is_some());
        // Hashes are of what all have.
        let mut lacks = Scene::new(3);
        (lacks.status(1).revision, lacks.answer(1).newest) = (30_000, Some(30_000));
        lacks.gathered.alarms = scene.gathered.alarms;
        let lacking = lacks.report();
        assert!(divided("CORRUPT", &lacking).is_some());
        assert!(lasting("CORRUPT", &lacking.members[0], &lacking, ANY).is_some());
    }
}
