//! Alarms of members that are none any more. etcd keeps an alarm by the ID of the member that raised it, also once that was removed
//! or its data was restored into another cluster, and takes no writes as long as it is on (etcd, `apply.go`, `ErrNoSpace` and
//! `ErrCorrupt`).

use super::{members::Members, membership::voter};
use crate::{
    etcd::{
        Alarm,
        status::{EtcdReport, OrphanedAlarm},
    },
    event::Events,
};

/// Takes back the alarms in the report whose members are gone; tells where that did not work.
pub(super) async fn disarm(members: &dyn Members, report: &EtcdReport, events: &Events) {
    let of = |orphan: &OrphanedAlarm| Alarm { member_id: orphan.member_id.0, kind: orphan.alarm.clone() };
    take_back(members, report, report.orphaned_alarms.iter().map(of).collect(), events).await;
}

/// The same once all members have begun with the same data: those of the cluster as a whole, too.
pub(super) async fn disarm_restored(members: &dyn Members, report: &EtcdReport, events: &Events) {
    disarm(members, report, events).await;
    let of = |kind: &String| Alarm { member_id: Alarm::WHOLE_CLUSTER, kind: kind.clone() };
    take_back(members, report, report.cluster_alarms.iter().map(of).collect(), events).await;
}

async fn take_back(members: &dyn Members, report: &EtcdReport, alarms: Vec<Alarm>, events: &Events) {
    for alarm in alarms {
        let disarmed =
            async { voter(members, report, None).await?.disarm(&alarm).await.map_err(|e| e.to_string()) };
        if let Err(why) = disarmed.await {
            let text = format!("an alarm {} from before this is still on: {why}", alarm.kind);
            events.warn(text, Some("rsadm etcd alarm disarm takes it back".to_owned()));
        }
    }
}
