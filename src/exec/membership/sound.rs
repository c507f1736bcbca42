//! When the next member may be touched: all are well, and hold the same.

use tokio::time::{Instant, sleep};

use super::{Failed, PAUSE, Told};
use crate::{
    etcd::status::{Alike, EtcdReport, Hashes},
    exec::{Context, ask, wait::patiently},
};

/// Waits until all members are healthy, follow one leader and have equal hashes. Hashes hold up writes: they are asked for once
/// all else is well, and again only where no member is still at one.
pub(super) async fn sound(cx: &Context<'_>, told: Told<'_>) -> Result<(), Failed> {
    let look = async |hashes| {
        let mut report = ask::compared(cx.members, hashes).await;
        report.members.retain(|m| !cx.given_up().contains(&m.name));
        report
    };
    let well = async || {
        unwell(&look(Hashes::Unasked).await).map_or(Ok(()), |why| {
            told(format!("waiting for etcd: {why}"));
            Err(why)
        })
    };
    let mut begun = None;
    loop {
        patiently(cx.limit, &well).await.map_err(Failed::Why)?;
        let asked = Instant::now();
        let begun = *begun.get_or_insert(asked);
        let report = look(Hashes::Whole).await;
        let Some(why) = unwell(&report).or_else(|| unequal(&report)) else { return Ok(()) };
        let largest = report.members.iter().filter_map(|m| m.db_size).max().unwrap_or_default();
        let is_open = asked.elapsed() >= Hashes::limit(largest);
        if is_open || differ(&report) || begun.elapsed() >= cx.limit {
            return Err(Failed::Why(format!("{why}, for {} s", begun.elapsed().as_secs())));
        }
        told(format!("waiting for etcd: {why}"));
        sleep(PAUSE * 5).await;
    }
}

/// Who does not do its part.
fn unwell(report: &EtcdReport) -> Option<String> {
    if let Some((member, why)) = report.members.iter().find_map(|m| Some((m, m.error.as_ref()?))) {
        return Some(format!("{}: {why}", member.name));
    }
    if !report.serves {
        return Some("etcd has no quorum".into());
    }
    None
}

/// What tells that members do not hold the same, or leaves it open.
fn unequal(report: &EtcdReport) -> Option<String> {
    match Alike::of(report, &[]) {
        Alike::Equal => None,
        Alike::Open { apart, uncompared } if apart.is_empty() => {
            let untold = uncompared.iter().find(|m| m.hash.is_none());
            Some(match untold {
                Some(untold) => format!("{} does not tell the hash of its data", untold.name),
                None => "members do not have equal hashes yet".into(),
            })
        }
        _ => Some("members do not have equal hashes yet".into()),
    }
}

/// True where hashes of one compaction differ, which waiting does not mend.
pub(super) fn differ(report: &EtcdReport) -> bool {
    matches!(Alike::of(report, &[]), Alike::Odd(_) | Alike::Undecided(_))
}

#[cfg(test)]
mod tests;
