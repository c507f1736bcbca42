//! Alarms of members that are none any more. etcd keeps an alarm by the ID of the member that raised it, also once that was removed
//! or its data was restored into another cluster, and takes no writes as long as it is on (etcd, `apply.go`, `ErrNoSpace` and
//! `ErrCorrupt`).

use super::{gate, members::Members};
use crate::{
    etcd::{
        Alarm,
        status::{EtcdReport, MemberReport, OrphanedAlarm},
    },
    event::Events,
};

/// Takes back the alarms in the report whose members are gone; tells where that did not work.
pub(super) async fn disarm(members: &dyn Members, report: &EtcdReport, events: &Events) {
    for OrphanedAlarm { member_id, alarm } in &report.orphaned_alarms {
        if let Err(why) =
            take_back(members, report, Alarm { member_id: member_id.0, kind: alarm.clone() }).await
        {
            let text =
                format!("the alarm {alarm} of member {member_id} is still on, which is none any more: {why}");
            events.warn(text, Some("rsadm etcd alarm disarm takes it back".to_owned()));
        }
    }
}

async fn take_back(members: &dyn Members, report: &EtcdReport, alarm: Alarm) -> Result<(), String> {
    let usable = |m: &&MemberReport| m.error.is_none() && !m.is_learner;
    let member = report.members.iter().find(usable).ok_or("no voting member is well")?;
    gate::dial(members, member).await?.disarm(&alarm).await.map_err(|e| e.to_string())
}
