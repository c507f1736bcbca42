//! A quota that the database has outgrown. etcd counts the database's whole file, free pages too (etcd,
//! `server/storage/quota.go`): the first member that starts with less than that raises NOSPACE at its next write, and none of
//! them takes writes any more. The quorum gate sees nothing of it, since all are there.

use std::collections::BTreeMap;

use super::{is_listed, likeness};
use crate::{
    etcd::DEFAULT_QUOTA,
    event::bytes,
    inventory::{Cluster, Node, NodeName, Role},
    manifests::{EtcdSettings, flag_in},
    observe::{Facts, Observed},
    plan::{Planner, Refusal},
};

/// The database may take this many of a hundred parts of a new quota: it grows while the members are rolled.
const PERCENT: u64 = 90;

const FLAG: &str = "quota-backend-bytes";

/// Whether none of these hosts gets a quota that its member would raise the alarm with. One that is not smaller than what members
/// have makes nothing worse.
///
/// # Errors
/// Where it is smaller, and the database fills it.
pub(in crate::phases::etcd) fn holds_the_database(p: &Planner<'_>, nodes: &[&Node]) -> Result<(), Refusal> {
    let to_come = |node: &&Node| match likeness::of(p, node) {
        Some(likeness) => quota_of(likeness.settings.get(FLAG).map(String::as_str)),
        None => p.cluster.etcd.quota_backend_bytes,
    };
    let Some(wanted) = nodes.iter().map(to_come).min() else { return Ok(()) };
    let members = || members(p).map(|n| (n, p.facts(&n.name)));
    let quotas = members().filter_map(|(n, facts)| Some((n, quota_in(facts.etcd_manifest.as_deref()?))));
    let larger: Vec<(&Node, u64)> = quotas.filter(|(_, quota)| *quota > wanted).collect();
    let Some((fullest, database)) =
        members().map(|(n, facts)| (n, facts.etcd_database)).max_by_key(|(_, size)| *size)
    else {
        return Ok(());
    };
    let fits = wanted / 100 * PERCENT;
    let Some(had) = larger.iter().map(|(_, quota)| *quota).max().filter(|_| database > fits) else {
        return Ok(());
    };
    let names: Vec<&str> = larger.iter().map(|(n, _)| n.name.as_str()).collect();
    let have = if names.len() == 1 { "has" } else { "have" };
    Err(Refusal {
        rule: "quota",
        subject: format!("etcd gets no quota of {}", bytes(wanted)),
        why: format!(
            "{} {have} {}, and the database of {} takes {}: a member that starts with the smaller quota raises the alarm NOSPACE, \
             and all of etcd takes no writes",
            names.join(", "),
            bytes(had),
            fullest.name,
            bytes(database)
        ),
        help: format!(
            "set etcd.quota_backend_bytes: {}; or first `rsadm etcd compact` and `rsadm etcd defrag`, until the database takes \
             less than {}",
            setting(had),
            bytes(fits)
        ),
    })
}

fn members<'p>(p: &'p Planner<'_>) -> impl Iterator<Item = &'p Node> {
    p.cluster.nodes.iter().filter(|n| match p.seen().membership {
        Some(_) => is_listed(p, n),
        None => n.is(Role::Etcd),
    })
}

/// Settings of others with no smaller quota than members have: their database may have outgrown what one had before.
pub(super) fn raised(p: &Planner<'_>, settings: &mut EtcdSettings) {
    let manifests = members(p).filter_map(|n| p.facts(&n.name).etcd_manifest.as_deref());
    let largest = manifests.map(quota_in).max().unwrap_or_default();
    if largest > quota_of(settings.get(FLAG).map(String::as_str)) {
        let setting = if largest == u64::MAX { "-1".to_owned() } else { largest.to_string() };
        settings.insert(FLAG.to_owned(), setting);
    }
}

/// Whether the database may have come to a member's quota, as far as hosts tell: whether etcd takes writes is then worth asking.
pub fn may_be_full(cluster: &Cluster, seen: &Observed) -> bool {
    let members = cluster.with_role(Role::Etcd).filter_map(|node| seen.hosts.get(&node.name));
    members
        .filter_map(|facts| Some((facts.etcd_database, quota_in(facts.etcd_manifest.as_deref()?))))
        .any(|(database, quota)| database > quota / 100 * PERCENT)
}

/// The cluster with no smaller quota than its members have: a restore comes to its end whatever its data takes, and `up`
/// tells afterwards what does not fit, once that can be mended.
pub fn with_their_quota(cluster: &Cluster, seen: &Observed) -> Cluster {
    let manifest = |node: &Node| seen.hosts.get(&node.name)?.etcd_manifest.as_deref();
    let largest = cluster.with_role(Role::Etcd).filter_map(manifest).map(quota_in).max().unwrap_or_default();
    let mut cluster = cluster.clone();
    let quota = &mut cluster.etcd.quota_backend_bytes;
    // etcd reads it as a signed number.
    *quota = largest.min(i64::MAX.unsigned_abs()).max(*quota);
    cluster
}

/// The quotas that members are started with, by their hosts.
pub fn quotas(seen: &Observed) -> BTreeMap<NodeName, u64> {
    let quota = |facts: &Facts| Some(quota_in(facts.etcd_manifest.as_deref()?));
    seen.hosts.iter().filter_map(|(host, facts)| Some((host.clone(), quota(facts)?))).collect()
}

/// The quota that a member is started with.
fn quota_in(manifest: &str) -> u64 {
    quota_of(flag_in(manifest, FLAG))
}

fn quota_of(setting: Option<&str>) -> u64 {
    match setting.map(str::parse::<i64>) {
        Some(Ok(quota)) if quota < 0 => u64::MAX,
        Some(Ok(quota)) if quota > 0 => quota.unsigned_abs(),
        _ => DEFAULT_QUOTA,
    }
}

/// As it stands in an inventory, which takes 100 GiB at the most.
fn setting(quota: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let quota = quota.min(100 << 30);
    let whole = UNITS.into_iter().find(|(unit, _)| quota.is_multiple_of(*unit));
    whole.map_or_else(|| quota.to_string(), |(unit, name)| format!("{}{name}", quota / unit))
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::{
        manifests::testing,
        observe::{Facts, facts::ProcessFact},
    };

    const GIB: u64 = 1 << 30;

    /// Members that have these quotas, and a database of so many bytes.
    fn seen(cluster: &Cluster, flags: [&str; 3], database: u64) -> Observed {
        let nodes = cluster.with_role(Role::Etcd).zip(flags);
        let hosts = nodes.map(|(node, flag)| {
            let manifest = format!("--name={}\n{flag}\n", node.name);
            let facts = Facts {
                etcd_manifest: Some(manifest),
                etcd_data: true,
                etcd_database: database,
                ..Facts::default()
            };
            (node.name.clone(), facts)
        });
        Observed { hosts: hosts.collect(), ..Observed::default() }
    }

    /// What is said there.
    fn said(cluster: &Cluster, flags: [&str; 3], database: u64) -> Option<Refusal> {
        let seen = seen(cluster, flags, database);
        let nodes: Vec<&Node> = cluster.with_role(Role::Etcd).collect();
        holds_the_database(&Planner::new(cluster, seen, OffsetDateTime::UNIX_EPOCH), &nodes).err()
    }

    #[test]
    fn a_quota_is_not_lowered_below_the_database() {
        let mut cluster = testing::ha();
        let (eight, sixteen) = ("--quota-backend-bytes=8589934592", "--quota-backend-bytes=17179869184");
        let unlimited = "--quota-backend-bytes=-1";
        for (flags, database, refused) in [
            ([sixteen; 3], 9 * GIB, true),
            ([sixteen; 3], 8 * GIB - 1, true),
            ([sixteen; 3], 7 * GIB, false),
            ([unlimited; 3], 9 * GIB, true),
            // One was rolled before somebody noticed.
            ([eight, sixteen, sixteen], 9 * GIB, true),
            // They have it, full as they are, or less.
            ([eight; 3], 8 * GIB, false),
            ([""; 3], 9 * GIB, false),
        ] {
            assert_eq!(said(&cluster, flags, database).is_some(), refused, "{flags:?} {database}");
        }
        let refusal = said(&cluster, [eight, sixteen, sixteen], 9 * GIB).unwrap();
        assert!(refusal.why.starts_with("m2, m3 have 16 GiB, and the database of m"), "{refusal}");
        assert!(
            refusal.help.starts_with("set etcd.quota_backend_bytes: 16GiB; or first"),
            "{}",
            refusal.help
        );
        // In the middle of a restore, which has no way back to the larger one.
        let kept = with_their_quota(&cluster, &seen(&cluster, [eight, sixteen, ""], 9 * GIB));
        assert_eq!(kept.etcd.quota_backend_bytes, 16 * GIB);
        assert_eq!(said(&kept, [eight, sixteen, sixteen], 9 * GIB), None);
        let kept = with_their_quota(&cluster, &seen(&cluster, [unlimited; 3], 9 * GIB));
        assert_eq!(said(&kept, [unlimited; 3], 9 * GIB), None);
        assert_eq!(kept.etcd.quota_backend_bytes.to_string().parse::<i64>(), Ok(i64::MAX));
        let kept = with_their_quota(&cluster, &seen(&cluster, [""; 3], GIB));
        assert_eq!(kept.etcd.quota_backend_bytes, 8 * GIB);
        // More than there is now, if less than would be wise.
        cluster.etcd.quota_backend_bytes = 17 * GIB;
        assert_eq!(said(&cluster, [sixteen; 3], 16 * GIB), None);
    }

    /// m1 is made anew in a cluster that kubeadm built.
    #[test]
    fn a_member_that_is_made_anew_gets_no_smaller_quota_than_the_others_have() {
        let cluster = testing::ha();
        let (eight, sixteen) = ("--quota-backend-bytes=8589934592", "--quota-backend-bytes=17179869184");
        let unlimited = "--quota-backend-bytes=-1";
        for (flags, database, quota) in [
            (["", eight, eight], 3 * GIB, Some("8589934592")),
            ([sixteen; 3], 15 * GIB / 2, Some("17179869184")),
            ([eight, sixteen, eight], 9 * GIB, Some("17179869184")),
            ([eight, unlimited, ""], 9 * GIB, Some("-1")),
            ([""; 3], GIB, None),
        ] {
            let mut seen = seen(&cluster, flags, database);
            for facts in seen.hosts.values_mut() {
                let (name, revision, etcd_servers) = ("kubelet".to_owned(), None, vec![]);
                facts.processes.push(ProcessFact { name, revision, etcd_servers });
            }
            let p = Planner::new(&cluster, seen, OffsetDateTime::UNIX_EPOCH);
            let m1 = testing::node(&cluster, "m1");
            let settings = likeness::of(&p, m1).unwrap().settings;
            assert_eq!(settings.get(FLAG).map(String::as_str), quota, "{flags:?}");
            assert_eq!(holds_the_database(&p, &[m1]), Ok(()), "{flags:?}");
        }
    }

    #[test]
    fn etcd_is_asked_whether_it_is_full_only_where_it_may_be() {
        let cluster = testing::ha();
        for (flag, database, full) in
            [("", GIB, false), ("", 2 * GIB, true), ("--quota-backend-bytes=-1", 9 * GIB, false)]
        {
            assert_eq!(
                may_be_full(&cluster, &seen(&cluster, [flag; 3], database)),
                full,
                "{flag} {database}"
            );
        }
    }

    #[test]
    fn a_quota_is_told_as_an_inventory_takes_it() {
        for (quota, text) in
            [(16 * GIB, "16GiB"), (GIB / 2, "512MiB"), (1_500_000_001, "1500000001"), (u64::MAX, "100GiB")]
        {
            assert_eq!(setting(quota), text);
        }
    }
}
