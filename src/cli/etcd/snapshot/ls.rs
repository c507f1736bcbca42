//! `rsadm etcd snapshot ls`.

use std::collections::BTreeMap;

use serde::Serialize;
use time::OffsetDateTime;

use super::whence::{self, FromArg};
use crate::{
    backup::{Check, Manifest, place::Entry},
    cli::{CliError, Context, Exit, InventoryArg},
    event::bytes,
};

/// List snapshots, the newest first
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rsadm etcd snapshot ls --from /srv/backups
  rsadm etcd snapshot ls inventories/prod.yaml --from hosts:
  rsadm etcd snapshot ls --from s3://backups/prod -o json | jq '.[0].revision'")]
pub(super) struct Args {
    #[command(flatten)]
    inventory: InventoryArg,

    #[command(flatten)]
    from: FromArg,
}

/// One line.
#[derive(Serialize)]
struct Row {
    file: String,
    /// Which host has it; not there for a folder or a bucket.
    #[serde(skip_serializing_if = "String::is_empty")]
    host: String,
    size: u64,
    /// What is wrong with it, as far as a list can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(flatten)]
    manifest: Option<Manifest>,
}

impl Row {
    fn new(host: &str, entry: Entry) -> Self {
        let (manifest, problem) = match entry.manifest {
            Ok(manifest) => (Some(manifest), None),
            Err(why) => (None, Some(why)),
        };
        Self { file: entry.file, host: host.to_owned(), size: entry.size, problem, manifest }
    }
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let mut rows = Vec::new();
    // Its default need not be there: whoever looks at a folder of snapshots may have no cluster at hand.
    let without = args.from.from.is_none() && args.inventory.is_missing_default();
    let from = if without { FromArg { from: Some(".".to_owned()) } } else { args.from.clone() };
    let (places, _) = whence::open(context, &args.inventory, &from).await?;
    let looked_in = whence::looked_in(&places);
    let by_default = args.from.from.is_none() && places.iter().all(|kept| kept.host.is_empty());
    for kept in places {
        rows.extend(kept.holder.list().await?.into_iter().map(|entry| Row::new(&kept.host, entry)));
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.manifest.as_ref().map(|m| m.taken_at)));
    let now = OffsetDateTime::now_utc();
    let elsewhere = match rows.is_empty() && by_default {
        true if without => "  rsadm etcd snapshot ls INVENTORY:  looks where its cluster's are\n".to_owned(),
        true => format!(
            "  rsadm etcd snapshot ls{} --from hosts:  looks on the etcd hosts\n",
            args.inventory.as_typed()
        ),
        false => String::new(),
    };
    context.print(&rows, |rows| text(rows, &looked_in, now) + &elsewhere)?;
    Ok(Exit::Done)
}

fn text(rows: &[Row], looked_in: &str, now: OffsetDateTime) -> String {
    match rows {
        [] => format!("no snapshots in {looked_in}\n"),
        rows => format!("snapshots in {looked_in}\n\n{}", table(rows, now)),
    }
}

fn table(rows: &[Row], now: OffsetDateTime) -> String {
    let has_hosts = rows.iter().any(|r| !r.host.is_empty());
    let shown = [has_hosts, true, have_several_ids(rows), true, true, true, true, true];
    let mut lines = vec![
        ["HOST", "SNAPSHOT", "OF ETCD", "AGE", "REVISION", "SIZE", "ETCD", "CHECKED"].map(str::to_owned),
    ];
    lines.extend(rows.iter().map(|row| cells(row, now)));
    let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    let line = |cells: &[String; 8]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let padded = padded.zip(shown).filter(|(_, shown)| *shown).map(|(cell, _)| cell);
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}

/// True where a name alone does not tell whose snapshots these are: it was restored, built anew, or is another cluster's too.
fn have_several_ids(rows: &[Row]) -> bool {
    let mut ids = BTreeMap::new();
    let mut known = rows.iter().filter_map(|row| row.manifest.as_ref());
    known.any(|m| ids.entry(&m.cluster).or_insert(&m.cluster_id) != &&m.cluster_id)
}

fn cells(row: &Row, now: OffsetDateTime) -> [String; 8] {
    let m = row.manifest.as_ref();
    let known = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    let state = match (m, &row.problem) {
        (_, Some(problem)) => problem.clone(),
        (Some(Manifest { damaged: Some(why), .. }), _) => format!("DAMAGED: {why}"),
        (Some(m), _) => {
            let quorum = m.without_quorum.then(|| m.doubt.as_deref().unwrap_or("taken without a quorum"));
            let keys = m.has_etcds_keys_alone().then_some("with etcd's keys alone");
            [Some(checked(m)), keys, quorum].into_iter().flatten().collect::<Vec<_>>().join("; ")
        }
        (None, None) => String::new(),
    };
    [
        row.host.clone(),
        row.file.clone(),
        known(m.map(|m| m.cluster_id.clone())),
        known(m.map(|m| age(now - m.taken_at))),
        known(m.map(|m| m.revision.to_string())),
        bytes(row.size),
        known(m.map(|m| m.etcd.clone())),
        state,
    ]
}

fn checked(manifest: &Manifest) -> &'static str {
    match (manifest.check, manifest.encrypted) {
        (None, _) => "no",
        (Some(Check::Checksum), false) => "checksum",
        (Some(Check::Checksum), true) => "checksum; encrypted",
        (Some(Check::Restored), false) => "restored for a try",
        (Some(Check::Restored), true) => "restored for a try; encrypted",
    }
}

/// In the largest unit that is not zero, and the next: `3 h 12 min`.
pub(super) fn age(age: time::Duration) -> String {
    let seconds = age.whole_seconds().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::manifest::tests::sample;

    #[test]
    fn the_table() {
        let manifest = sample();
        let now = manifest.taken_at + std::time::Duration::from_secs(3 * 3600 + 12 * 60);
        let row = |host: &str, manifest: Result<Manifest, String>| {
            Row::new(host, Entry { file: "prod-20261122T140511Z-r48211.db".into(), size: 8224, manifest })
        };
        let rows = [
            row("m1", Ok(Manifest { check: Some(Check::Restored), ..manifest.clone() })),
            row("m2", Ok(Manifest { encrypted: true, without_quorum: true, ..manifest })),
            row("m3", Err("no manifest beside it".into())),
            row(
                "m5",
                Ok(Manifest {
                    encrypted: true,
                    carries: vec!["/etc/kubernetes/pki/etcd/ca.key".into()],
                    ..sample()
                }),
            ),
            row("m4", Ok(sample().after(Err("it was cut off".into())))),
        ];
        let on_hosts = "/var/lib/rsadm/backups on m1, m2, m3, m4";
        insta::assert_snapshot!(text(&rows, on_hosts, now), @"
        snapshots in /var/lib/rsadm/backups on m1, m2, m3, m4

        HOST  SNAPSHOT                         AGE         REVISION  SIZE   ETCD    CHECKED
        m1    prod-20261122T140511Z-r48211.db  3 h 12 min  48211     8 KiB  3.6.16  restored for a try
        m2    prod-20261122T140511Z-r48211.db  3 h 12 min  48211     8 KiB  3.6.16  checksum; encrypted; taken without a quorum
        m3    prod-20261122T140511Z-r48211.db  –           –         8 KiB  –       no manifest beside it
        m5    prod-20261122T140511Z-r48211.db  3 h 12 min  48211     8 KiB  3.6.16  checksum; encrypted; with etcd's keys alone
        m4    prod-20261122T140511Z-r48211.db  3 h 12 min  48211     8 KiB  3.6.16  DAMAGED: it was cut off
        ");
        let other = Manifest { cluster_id: "4be1fcd8192a3e5d".into(), ..sample() };
        insta::assert_snapshot!(table(&[row("", Ok(sample())), row("", Ok(other))], now), @"
        SNAPSHOT                         OF ETCD           AGE         REVISION  SIZE   ETCD    CHECKED
        prod-20261122T140511Z-r48211.db  7c1f0d2ab94e13aa  3 h 12 min  48211     8 KiB  3.6.16  checksum
        prod-20261122T140511Z-r48211.db  4be1fcd8192a3e5d  3 h 12 min  48211     8 KiB  3.6.16  checksum
        ");
        assert_eq!(text(&[], on_hosts, now), format!("no snapshots in {on_hosts}\n"));
    }

    #[test]
    fn ages() {
        for (seconds, text) in
            [(5, "5 s"), (65, "1 min"), (7260, "2 h 1 min"), (90_000, "1 d 1 h"), (-5, "0 s")]
        {
            assert_eq!(age(time::Duration::seconds(seconds)), text);
        }
    }
}
