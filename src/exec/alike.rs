//! Whether members hold the same, asked before the first of them is started anew: beside one whose data is another's a member that
//! is right does not start (etcd, `corrupt.go`, `InitialCheck`), with no version and no settings.

use std::sync::atomic::Ordering;

use time::OffsetDateTime;

use super::{Context, gate, members::Members};
use crate::{
    etcd::status::{Comparison, EtcdReport, Hashes, Id, Trouble, undecided},
    plan::Refusal,
};

/// Before an upgrade, which there is no way back from: all of it is compared, however long writes wait for that.
///
/// # Errors
/// Where members hold different data.
pub async fn before_an_upgrade(members: &dyn Members, now: OffsetDateTime) -> Result<(), Refusal> {
    hold_the_same(&gate::compared(members, Hashes::Whole, now).await)
}

/// Before a member is stopped, by how they were found just now. Once in a run that stops one, what is too large to be compared
/// each time is compared as well, where writes do not wait noticeably for it.
///
/// # Errors
/// Where members hold different data.
pub(super) async fn before_a_restart(cx: &Context<'_>, report: &EtcdReport) -> Result<(), Refusal> {
    let is_first = !cx.compared.swap(true, Ordering::Relaxed);
    if is_first && report.comparison != Comparison::Compared {
        return hold_the_same(&gate::compared(cx.members, Hashes::Quick, cx.now).await);
    }
    hold_the_same(report)
}

fn hold_the_same(report: &EtcdReport) -> Result<(), Refusal> {
    const SUBJECT: &str = "no member of etcd is started anew";
    let Some(odd) = report.members.iter().find(|m| m.error == Some(Trouble::Differs)) else {
        return is_decided(report, None, SUBJECT);
    };
    Err(Refusal {
        rule: "data-differs",
        subject: SUBJECT.into(),
        why: format!(
            "the data of {} is not that of the others, and etcd starts no member beside one that differs",
            odd.name
        ),
        help: format!(
            "rsadm etcd replace {} gives it theirs; then run this again",
            odd.node.as_deref().unwrap_or(&odd.name)
        ),
    })
}

/// Whether it is known whose data is right, without that of a member that leaves.
///
/// # Errors
/// Where members hold different data, and no majority of them the same.
pub(super) fn is_decided(report: &EtcdReport, leaving: Option<Id>, subject: &str) -> Result<(), Refusal> {
    let apart: Vec<&str> = undecided(report, leaving).into_iter().map(|m| m.name.as_str()).collect();
    if apart.is_empty() {
        return Ok(());
    }
    Err(Refusal {
        rule: "data-differs",
        subject: subject.into(),
        why: format!("{} hold different data, and no majority tells whose is right", apart.join(" and ")),
        help: "rsadm etcd status tells more: where etcd stops on another host, that one may be right, and its log names whom it \
               differs from (found different hash values from remote peer); rsadm etcd remove HOST takes out the one of them \
               that you know to be wrong"
            .into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::status::tests::Scene;

    #[test]
    fn no_member_is_started_anew_beside_one_that_differs() {
        let with = |n: usize, odd: &[usize]| {
            let mut scene = Scene::new(n);
            odd.iter().for_each(|n| scene.answer(*n).hash.as_mut().unwrap().hash = 7);
            scene.report()
        };
        for (report, why) in [
            (with(3, &[]), None),
            (with(3, &[3]), Some("the data of m3 is not that of the others")),
            (with(5, &[5]), Some("the data of m5 is not that of the others")),
            (with(2, &[2]), Some("m1 and m2 hold different data, and no majority")),
        ] {
            let said = hold_the_same(&report).err().map(|refusal| refusal.why);
            assert_eq!(said.is_some(), why.is_some(), "{said:?}");
            assert!(said.unwrap_or_default().starts_with(why.unwrap_or_default()));
        }
    }
}
