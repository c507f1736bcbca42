//! Whether a host's disks have the room that its roles need, and etcd's disk the room that its quota promises.

use super::{MIB, Subject};
use crate::{inventory::Role, layout, phases::preflight::Verdict};

const IMAGES: &str = layout::CONTAINERD_DIR;
const PODS: &str = layout::KUBELET_DIR;

/// What a host has to have room for: the folder, the least in MiB, and what for; where two are on one disk the larger
/// stands for both, so it comes first. The second number is for hosts that have their programs, or their member.
fn needs(s: &Subject<'_>) -> Vec<(&'static str, u64, &'static str)> {
    let first = s.facts.programs.is_empty();
    let least = |first: bool, before: u64, after: u64| if first { before } else { after };
    let mut needs = vec![(IMAGES, least(first, 2048, 256), "images")];
    if s.node.is(Role::Etcd) {
        // Two files of its log, made in full size beforehand, and the database beside them.
        let need = least(!s.facts.etcd_data, 512, 128);
        needs.push((layout::ETCD_DATA_DIR, need, "etcd's log and database"));
    }
    needs.push(("/var/lib", least(first, 512, 128), "the programs' archives"));
    needs.push(("/usr", least(first, 512, 64), "programs"));
    needs.push((PODS, least(first, 128, 64), "files of pods"));
    needs
}

pub(super) fn space(s: &Subject<'_>) -> Vec<Verdict> {
    let mut told: Vec<&str> = Vec::new();
    let mut verdicts = Vec::new();
    for (folder, need, what) in needs(s) {
        let Some(free) = s.facts.disk.get(folder).map(|free| free / MIB) else { continue };
        if free >= need || told.iter().any(|other| is_one_disk(s, other, folder)) {
            continue;
        }
        told.push(folder);
        let text = format!("has {free} MiB free below {folder}");
        verdicts.push(Verdict::error(text, format!("{need} MiB are needed for {what}")));
    }
    verdicts
}

/// What all certificates and keys of a host take, many times over.
const CERTIFICATES: u64 = 4;

/// A certificate is taken away before its key is replaced, so that there never are two that do not fit: the new one has to
/// find room.
pub(super) fn room(s: &Subject<'_>) -> Vec<Verdict> {
    let free = |folder: &&str| s.facts.disk.get(*folder).map(|free| free / MIB);
    let full =
        ["/usr", "/var/lib"].into_iter().find(|folder| free(folder).is_some_and(|free| free < CERTIFICATES));
    let verdict = full.map(|folder| {
        Verdict::error(format!("has no room below {folder}"), "make some: new certificates have to find room")
    });
    verdict.into_iter().collect()
}

/// As far as numbers tell.
fn is_one_disk(s: &Subject<'_>, one: &str, other: &str) -> bool {
    let numbers = |folder| (s.facts.disk.get(folder), s.facts.disk_size.get(folder));
    numbers(one) == numbers(other)
}

/// The kubelet's own thresholds: below 10 % (15 % for images) it takes the node out of service as soon as it starts, and
/// the add-ons never come up.
pub(super) fn pressure(s: &Subject<'_>) -> Vec<Verdict> {
    if s.cluster.kubelet.config.contains_key("evictionHard") || !s.node.is_kubernetes() {
        return vec![];
    }
    let low = |folder: &'static str, least: u64| {
        let (free, size) = (s.facts.disk.get(folder)?, s.facts.disk_size.get(folder)?);
        (free * 100 < size * least).then(|| (folder, least, free * 100 / size.max(&1)))
    };
    let pods = low(PODS, 10).filter(|_| !is_one_disk(s, PODS, IMAGES));
    let all = [low(IMAGES, 15), pods].into_iter().flatten();
    all.map(|(folder, least, percent)| {
        let text = format!(
            "has {percent} % of the disk below {folder} free, and the kubelet evicts pods from {least} % down"
        );
        Verdict::error(text, "free some, or set kubelet.config.evictionHard")
    })
    .collect()
}

/// etcd may grow to its quota, and a copy of it lies beside it while it is defragmented or sent by the leader. Most never
/// come near, so this is a remark.
pub(super) fn etcd_room(s: &Subject<'_>) -> Vec<Verdict> {
    let Some(free) = s.facts.disk.get(layout::ETCD_DATA_DIR).filter(|_| s.remarks) else { return vec![] };
    let quota = s.cluster.etcd.quota_backend_bytes;
    let database = s.facts.etcd_database;
    let need = quota.saturating_sub(database).saturating_add(quota);
    // With less than the database takes, etcd would take no writes.
    let least = if database < MIB { String::new() } else { format!(", well above {} MiB", database / MIB) };
    if !s.node.is(Role::Etcd) || *free >= need {
        return vec![];
    }
    vec![Verdict::warning(
        format!(
            "has {} MiB free below {}; etcd's database may grow to {} MiB, and a copy of it takes as much again",
            free / MIB,
            layout::ETCD_DATA_DIR,
            quota / MIB
        ),
        format!("{} MiB free are advised, or a smaller etcd.quota_backend_bytes{least}", need / MIB),
    )]
}
