//! `rsadm etcd snapshot prune`.

use serde::Serialize;
use time::OffsetDateTime;

use super::whence::{self, FromArg};
use crate::{
    backup::{Manifest, retention::Retention},
    cli::{CliError, Context, Exit, InventoryArg},
    event::count,
};

/// Remove old snapshots
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The newest snapshot that was verified stays, whatever its age. Files without a manifest are
somebody else's and stay, as do the snapshots of other clusters than the inventory's, and those
from the future.

Examples:
  rsadm etcd snapshot prune --from /srv/backups --keep 14
  rsadm etcd snapshot prune inventories/prod.yaml --older-than 30d --dry-run")]
pub(super) struct Args {
    #[command(flatten)]
    inventory: InventoryArg,

    #[command(flatten)]
    from: FromArg,

    /// Keep the newest N of each place
    #[arg(long, value_name = "N", required_unless_present = "older_than", conflicts_with = "older_than")]
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
    dry_run: bool,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let retention = args.older_than.or(args.keep.map(Retention::Count));
    let retention = retention.ok_or_else(|| CliError::new(Exit::Usage, "give --keep or --older-than"))?;
    let (places, cluster) = whence::open(context, &args.inventory, &args.from).await?;
    // Without an inventory each cluster's are looked at for themselves; with one, only its own.
    let cluster = cluster.map(|c| c.name);
    let (mut going, mut kept) = (Vec::new(), 0);
    for place in &places {
        let list = place.holder.list().await?;
        let own = |m: &&Manifest| cluster.as_ref().is_none_or(|name| m.cluster == *name);
        let known: Vec<&Manifest> =
            list.iter().filter_map(|e| e.manifest.as_ref().ok()).filter(own).collect();
        let spare = retention.spare(&known, OffsetDateTime::now_utc());
        kept += list.len() - spare.len();
        going.extend(spare.into_iter().map(|i| (place, known[i].file.clone())));
    }
    let names: Vec<String> = going.iter().map(|(place, file)| named(&place.host, file)).collect();
    if !args.dry_run && !going.is_empty() {
        let cluster = cluster.as_deref().unwrap_or("prune");
        let what = format!("{} will be removed:\n  {}", count(names.len(), "snapshot"), names.join("\n  "));
        context.confirm(&what, cluster)?;
        for (place, file) in &going {
            place.holder.remove(file).await?;
        }
    }
    context.print(&Pruned { removed: names, kept, dry_run: args.dry_run }, text)?;
    Ok(Exit::Done)
}

fn named(host: &str, file: &str) -> String {
    if host.is_empty() { file.to_owned() } else { format!("{host}:{file}") }
}

fn text(pruned: &Pruned) -> String {
    let verb = if pruned.dry_run { "would remove" } else { "removed" };
    let lines: String = pruned.removed.iter().map(|file| format!("{verb} {file}\n")).collect();
    format!(
        "{lines}{}, {} kept\n",
        count(pruned.removed.len(), "snapshot") + " " + if pruned.dry_run { "to go" } else { "removed" },
        pruned.kept
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_may_be_in_days() {
        assert_eq!(days("30d"), Ok(Retention::Seconds(2_592_000)));
        assert_eq!(days("36h"), Ok(Retention::Seconds(129_600)));
        assert!(days("d").is_err() && days("-1d").is_err() && days("1.5d").is_err());
    }
}
