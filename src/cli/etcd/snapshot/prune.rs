//! `rsadm etcd snapshot prune`.

use std::collections::BTreeMap;

use clap::ArgGroup;
use serde::Serialize;
use time::OffsetDateTime;

use super::whence::{self, FromArg};
use crate::{
    backup::{Manifest, place::Entry, retention::Retention},
    cli::{CliError, Context, Exit, InventoryArg, prompt::Word},
    event::count,
    layout::SKEW,
};

/// Remove old snapshots
#[derive(clap::Args, Debug)]
#[command(group(ArgGroup::new("what_stays").args(["keep", "older_than"]).required(true)))]
#[command(after_help = "\
The newest snapshot that was verified stays, whatever its age, and so does the newest of these that
carries the cluster's keys. Files without a manifest are somebody else's and stay, as do the
snapshots of other clusters than the inventory's, and those from the future. Clusters of one name
count for themselves where their IDs differ: a drill on other machines, and what was there before a
restore. Before it removes any it asks for the cluster's name, or for the word prune where there is
no inventory, unless --yes answers.

Examples:
  rsadm etcd snapshot prune --from /srv/backups --keep 14
  rsadm etcd snapshot prune inventories/prod.yaml --older-than 30d --dry-run")]
pub(super) struct Args {
    #[command(flatten)]
    inventory: InventoryArg,

    #[command(flatten)]
    from: FromArg,

    /// Keep the newest N of each place and cluster
    #[arg(long, value_name = "N")]
    keep: Option<u64>,

    /// Keep what is not older than this, such as 36h or 30d
    #[arg(long, value_name = "TIME", value_parser = days)]
    older_than: Option<Retention>,

    /// Tell what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

fn days(text: &str) -> Result<Retention, String> {
    crate::cli::args::age(text).map(Retention::age)
}

#[derive(Serialize)]
struct Pruned {
    removed: Vec<String>,
    kept: usize,
    /// Of these, how many stay whatever was given, by why.
    kept_because: BTreeMap<&'static str, usize>,
    dry_run: bool,
}

/// Why snapshots stay whatever was given, each for one reason; `known` are the cluster's, with a manifest, the newest first.
fn reasons(list: &[Entry], known: &[&Manifest], now: OffsetDateTime) -> [(&'static str, usize); 5] {
    let bare = list.iter().filter(|entry| entry.manifest.is_err()).count();
    let future = known.iter().filter(|m| m.taken_at > now + SKEW).count();
    // One from the future is told as that, and the newest before it stays, too.
    let verified: Vec<_> = known.iter().filter(|m| m.is_verified() && m.taken_at <= now + SKEW).collect();
    let newest = |is_such: fn(&Manifest) -> bool| {
        let mut newest = BTreeMap::new();
        for m in verified.iter().filter(|m| is_such(m)) {
            newest.entry(m.built()).or_insert(&m.file);
        }
        newest
    };
    let (newest_of, mut with_keys) = (newest(|_| true), newest(Manifest::has_the_clusters_keys));
    with_keys.retain(|cluster, file| newest_of.get(cluster) != Some(file));
    [
        ("without a manifest that fits", bare),
        ("of another cluster", list.len() - bare - known.len()),
        ("from the future", future),
        ("the newest that was verified", newest_of.len()),
        ("the newest of these with the cluster's keys", with_keys.len()),
    ]
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let retention = args.older_than.or(args.keep.map(Retention::Count));
    let retention = retention.ok_or_else(|| CliError::new(Exit::Usage, "give --keep or --older-than"))?;
    let (places, cluster) = whence::open(context, &args.inventory, &args.from).await?;
    // Without an inventory each cluster's are looked at for themselves; with one, only its own.
    let cluster = cluster.map(|c| c.name);
    let (mut going, mut kept, now) = (Vec::new(), 0, OffsetDateTime::now_utc());
    let mut kept_because = BTreeMap::new();
    for place in &places {
        let list = place.holder.list().await?;
        let own = |m: &&Manifest| cluster.as_ref().is_none_or(|name| m.cluster == *name);
        let known: Vec<&Manifest> =
            list.iter().filter_map(|e| e.manifest.as_ref().ok()).filter(own).collect();
        let spare = retention.spare(&known, Manifest::built, 0, now);
        for (why, how_many) in reasons(&list, &known, now).into_iter().filter(|(_, n)| *n > 0) {
            *kept_because.entry(why).or_default() += how_many;
        }
        kept += list.len() - spare.len();
        going.extend(spare.into_iter().map(|i| (place, known[i].file.clone())));
    }
    let names: Vec<String> = going.iter().map(|(place, file)| named(&place.host, file)).collect();
    if !args.dry_run && !going.is_empty() {
        let word = cluster.as_deref().map_or(Word::Doing("prune"), Word::Cluster);
        let what = format!("{} will be removed:\n  {}", count(names.len(), "snapshot"), names.join("\n  "));
        context.confirm_by(&what, word)?;
        for (place, file) in &going {
            place.holder.remove(file).await?;
        }
    }
    context.print(&Pruned { removed: names, kept, kept_because, dry_run: args.dry_run }, text)?;
    Ok(Exit::Done)
}

fn named(host: &str, file: &str) -> String {
    if host.is_empty() { file.to_owned() } else { format!("{host}:{file}") }
}

fn text(pruned: &Pruned) -> String {
    let verb = if pruned.dry_run { "would remove" } else { "removed" };
    let lines: String = pruned.removed.iter().map(|file| format!("{verb} {file}\n")).collect();
    let because: Vec<String> = pruned.kept_because.iter().map(|(why, n)| format!("{n} {why}")).collect();
    // Who sees some go knows what was asked for.
    let because = match pruned.removed.is_empty() && !because.is_empty() {
        true => format!("; whatever is given stay: {}", because.join(", ")),
        false => String::new(),
    };
    format!(
        "{lines}{}, {} kept{because}\n",
        count(pruned.removed.len(), "snapshot") + " " + if pruned.dry_run { "to go" } else { "removed" },
        pruned.kept
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backup::{Check, manifest::tests::sample},
        pki::authorities::Ca,
    };

    #[test]
    fn what_stays_in_any_case_is_told_with_its_reason() {
        let now = sample().taken_at;
        let entry = |manifest| Entry { file: String::new(), size: 0, manifest };
        let of = |cluster: &str, check| Manifest { cluster: cluster.into(), check, ..sample() };
        let future =
            Manifest { taken_at: now + std::time::Duration::from_secs(3600), check: None, ..sample() };
        let list = [
            entry(Ok(future)),
            entry(Ok(of("prod", Some(Check::Checksum)))),
            entry(Ok(of("prod", Some(Check::Checksum)))),
            entry(Ok(of("test", None))),
            entry(Err("no manifest beside it".into())),
        ];
        let known: Vec<&Manifest> =
            list.iter().filter_map(|e| e.manifest.as_ref().ok()).filter(|m| m.cluster == "prod").collect();
        assert_eq!(reasons(&list, &known, now).map(|(_, n)| n), [1, 1, 1, 1, 0]);
        let kept_because = reasons(&list, &known, now).into_iter().filter(|(_, n)| *n > 0).collect();
        let pruned = Pruned { removed: vec![], kept: 5, kept_because, dry_run: false };
        assert_eq!(
            text(&pruned),
            "0 snapshots removed, 5 kept; whatever is given stay: 1 from the future, 1 of another cluster, \
             1 the newest that was verified, 1 without a manifest that fits\n"
        );
    }

    #[test]
    fn the_newest_that_carries_the_keys_too_is_told_once() {
        let now = sample().taken_at;
        let keys = vec![Ca::Cluster.key_path()];
        let plain = Manifest { file: "plain.db".into(), ..sample() };
        let bundle = Manifest { file: "bundle.tar.age".into(), carries: keys, ..sample() };
        let future = Manifest { taken_at: now + std::time::Duration::from_secs(3600), ..bundle.clone() };
        for (known, counts) in [
            (vec![&bundle, &plain], [0, 0, 0, 1, 0]),
            (vec![&plain, &bundle], [0, 0, 0, 1, 1]),
            (vec![&future, &plain], [0, 0, 1, 1, 0]),
        ] {
            let list: Vec<Entry> =
                known.iter().map(|m| Entry::new(m.file.clone(), m.size, Ok((*m).clone()))).collect();
            assert_eq!(reasons(&list, &known, now).map(|(_, n)| n), counts);
        }
    }

    #[test]
    fn ages_may_be_in_days() {
        assert_eq!(days("30d"), Ok(Retention::Seconds(2_592_000)));
        assert_eq!(days("36h"), Ok(Retention::Seconds(129_600)));
        assert!(days("d").is_err() && days("-1d").is_err() && days("1.5d").is_err());
    }
}
