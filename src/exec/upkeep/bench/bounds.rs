//! Whether etcd bears what a load leaves: keys are written over and over, and etcd keeps what each of them was until somebody
//! compacts it. A database that comes to its quota takes no writes of anybody's any more.

use futures::future::join_all;

use super::Load;
use crate::{
    backup::room,
    etcd::status::{EtcdReport, MemberReport},
    event::bytes,
    exec::{RunError, ask, upkeep::Tending},
    inventory::NodeName,
    plan::Refusal,
};

/// The database may take this many of a hundred parts of its quota afterwards.
const PERCENT: u64 = 80;

impl Load {
    /// Bytes that so many writes add to a database, with what etcd stores beside a value.
    fn leaves(&self, writes: u64) -> u64 {
        let value = u64::try_from(self.value_bytes).unwrap_or(u64::MAX);
        writes.saturating_mul(value.saturating_mul(3) / 2)
    }

    fn writes(&self) -> u64 {
        let millis = u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX);
        u64::from(self.rate).saturating_mul(millis) / 1000
    }
}

/// Whether what the load leaves fits the quota and the disk of each member.
///
/// # Errors
/// Where it does not, before anything is written.
pub(super) async fn fits(t: &Tending<'_>, report: &EtcdReport, load: &Load) -> Result<(), RunError> {
    quota(report, load, t.usual_quota()).map_err(RunError::Refused)?;
    let asked = join_all(report.members.iter().map(|member| async {
        let host = ask::host_of(t.members, member)?;
        let answer = t.members.clear_and_measure(&host).await?;
        let why = room::beside_etcd(&answer, load.leaves(load.writes()), "what the load leaves").err()?;
        Some((host, why))
    }));
    let full: Vec<(NodeName, String)> = asked.await.into_iter().flatten().collect();
    match full.is_empty() {
        true => Ok(()),
        false => Err(RunError::Refused(refused(
            load,
            full.iter().map(|(name, why)| format!("{name}: {why}")).collect::<Vec<_>>().join("; "),
            "make room there, or put less on it: --rate and --duration".to_owned(),
        ))),
    }
}

fn quota(report: &EtcdReport, load: &Load, usual: u64) -> Result<(), Refusal> {
    let members = report.members.iter().filter_map(|m| Some((m, m.db_size?)));
    // Room that the file has and nothing uses is filled first.
    let left = |m: &MemberReport, size: u64| {
        let (quota, used) = (m.db_size_quota.unwrap_or(usual), m.db_size_in_use.unwrap_or(size));
        let most = quota / 100 * PERCENT;
        if size > most { 0 } else { most - used.min(most) }
    };
    let Some((fullest, size)) = members.min_by_key(|(m, size)| left(m, *size)) else { return Ok(()) };
    let (room, leaves) = (left(fullest, size), load.leaves(load.writes()));
    if leaves <= room {
        return Ok(());
    }
    let quota = fullest.db_size_quota.unwrap_or(usual);
    let writes = room / load.leaves(1).max(1);
    let rate =
        writes.saturating_mul(1000) / u64::try_from(load.duration.as_millis().max(1)).unwrap_or(u64::MAX);
    let help = match rate {
        0 => "rsadm etcd compact and rsadm etcd defrag make room, or a larger quota does".to_owned(),
        rate => format!("--rate {rate} for as long, or as many a second for a shorter --duration"),
    };
    let why = format!(
        "it leaves up to {} of history until that is compacted, and the database of {} has {} for it: it takes {} \
         of a quota of {}, of which {}% stay free for clients",
        bytes(leaves),
        fullest.name,
        bytes(room),
        bytes(size),
        bytes(quota),
        100 - PERCENT
    );
    Err(refused(load, why, help))
}

fn refused(load: &Load, why: String, help: String) -> Refusal {
    let subject =
        format!("no load of {} writes a second for {} s is put on etcd", load.rate, load.duration.as_secs());
    Refusal { rule: "no-room", subject, why, help }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::etcd::{DEFAULT_QUOTA, status::tests::Scene};

    fn load(rate: u32, seconds: u64) -> Load {
        Load { duration: Duration::from_secs(seconds), rate, clients: 8, value_bytes: 1024 }
    }

    /// What is said where m2 has such a quota, and a database of that size of which so much is used.
    fn said((quota, size, used): (u64, u64, u64), load: &Load) -> Option<Refusal> {
        let mut report = Scene::new(3).report();
        let m2 = &mut report.members[1];
        (m2.db_size_quota, m2.db_size, m2.db_size_in_use) =
            (Some(quota).filter(|q| *q > 0), Some(size), Some(used));
        super::quota(&report, load, DEFAULT_QUOTA).err()
    }

    #[test]
    fn a_load_leaves_clients_their_room() {
        const GIB: u64 = 1 << 30;
        const MIB: u64 = 1 << 20;
        for (database, load, refused) in [
            ((2 * GIB, 20 * MIB, 20 * MIB), load(200, 10), false),
            ((2 * GIB, 20 * MIB, 20 * MIB), load(200, 300), false),
            ((2 * GIB, 20 * MIB, 20 * MIB), load(20_000, 300), true),
            // As kubeadm's members have it, and say nothing of it.
            ((0, 20 * MIB, 20 * MIB), load(20_000, 300), true),
            // Turned off (`--quota-backend-bytes=-1`).
            ((0, 20 * MIB, 20 * MIB), load(5000, 300), true),
            ((u64::MAX, 20 * MIB, 20 * MIB), load(5000, 300), false),
            ((2 * GIB, 1600 * MIB, 1600 * MIB), load(10_000, 10), true),
            // Free pages are filled before the file grows, but not where it is too large already.
            ((2 * GIB, 1600 * MIB, 100 * MIB), load(10_000, 10), false),
            ((2 * GIB, 1700 * MIB, 100 * MIB), load(200, 10), true),
        ] {
            assert_eq!(said(database, &load).is_some(), refused, "{database:?} {load:?}");
        }
        let refusal = said((2 * GIB, 20 * MIB, 20 * MIB), &load(20_000, 300)).unwrap();
        assert!(refusal.why.starts_with("it leaves up to 8.5 GiB of history"), "{}", refusal.why);
        assert!(refusal.why.contains("the database of m2 has 1.5 GiB for it"), "{}", refusal.why);
        let rate = refusal.help.strip_prefix("--rate ").and_then(|help| help.split(' ').next()?.parse().ok());
        assert_eq!(said((2 * GIB, 20 * MIB, 20 * MIB), &load(rate.unwrap(), 300)), None, "{}", refusal.help);
        let refusal = said((2 * GIB, 1700 * MIB, 100 * MIB), &load(200, 10)).unwrap();
        assert!(refusal.help.starts_with("rsadm etcd compact"), "{}", refusal.help);
    }
}
