//! `rsadm etcd restore`.

use std::path::{Path, PathBuf};

use super::{
    fit::Opened,
    recovery::{Ground, scratch},
    snapshot::{fetch, refused, whence},
};
use crate::{
    backup::{BackupError, Checked, Manifest, bundle, file, manifest},
    cli::{CliError, Context, Exit, InventoryArg, naming::Takes, shell::quoted},
    inventory::Cluster,
    observe::Observed,
    phases::etcd::upgrade::other_version,
};

/// Make etcd anew from a snapshot, on the same hosts or on fresh ones
#[derive(clap::Args, Debug)]
#[command(
    override_usage = "rsadm etcd restore [OPTIONS] [INVENTORY] <SNAPSHOT>\n       \
                      rsadm etcd restore [OPTIONS] --rollback [INVENTORY]",
    after_help = "\
All that was written since the snapshot is lost, so it asks for the cluster's name first, or takes
--yes. Before anything is stopped, the snapshot is verified, and each host must have room for it
twice. API servers are stopped until all members agree; old data is set aside on every host, not
deleted. Run again after a failure, it goes on where it stopped; with --rollback it puts the old
data back. Once all members agree it is over: then a rerun only tidies up, and what was written
since stays.

Fresh hosts need a bundle (etcd snapshot save --with-pki), which carries the cluster's keys. Where
some are neither in it nor on a host, nothing is begun: new ones could read nothing.

Examples:
  rsadm etcd restore inventories/prod.yaml prod-20261122T140211Z.db
  rsadm etcd restore prod.tar.age --identity ~/.age/key.txt
  rsadm etcd restore --rollback"
)]
pub(in crate::cli) struct Args {
    /// A file, HOST:FILE, or the URL of an object; a bundle too; an inventory file may stand before
    #[arg(value_name = "SNAPSHOT", num_args = 0..=2)]
    pub(in crate::cli) files: Vec<PathBuf>,

    /// The file with the age key that opens a bundle
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) identity: Option<PathBuf>,

    /// Put back what was there before an unfinished restore or recovery
    #[arg(long)]
    pub(in crate::cli) rollback: bool,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let default = PathBuf::from("./inventory.yaml");
    let (inventory, snapshot) = match (&args.files[..], args.rollback) {
        ([], true) => (default, None),
        ([word], true) if is_snapshot(word) => return Err(takes_none(word, default)),
        ([inventory], true) => (inventory.clone(), None),
        ([snapshot], false) => (default, Some(snapshot)),
        ([inventory, snapshot], false) => (inventory.clone(), Some(snapshot)),
        ([inventory, second, ..], true) => return Err(takes_none(second, inventory.clone())),
        _ => {
            return Err(CliError::new(Exit::Usage, "a restore takes one snapshot")
                .hint("rsadm etcd snapshot ls shows those that there are"));
        }
    };
    let inventory = InventoryArg { inventory };
    let Some(snapshot) = snapshot else {
        let command = format!("etcd restore{} --rollback", inventory.as_typed());
        return Ground::open(context, &inventory, &command).await?.roll_back().await;
    };
    Takes::Snapshot.after_inventory("etcd restore", &inventory, &[snapshot.to_string_lossy()])?;
    let scratch = scratch()?;
    let fetched = fetch::here(context, &inventory, snapshot, scratch.path()).await?;
    let opened = open(&fetched, args.identity.as_deref(), scratch.path())?;
    let checked = checked(&opened)?;
    let sha256 = &checked.sum.sha256;
    let key = args.identity.as_ref().map(|file| format!(" --identity {}", quoted(file.display())));
    let key = key.unwrap_or_default();
    let command = format!("etcd restore{} {}{key}", inventory.as_typed(), quoted(snapshot.display()));
    let ground = Ground::open(context, &inventory, &command).await?;
    if ground.tidy_up().await?.last_over().is_some_and(|token| token.contains(&sha256[..12])) {
        return ground.was_over();
    }
    ground.everybody_is_there()?;
    let targets = ground.targets().await?;
    let manifest = opened.manifest.as_ref();
    ground.is_its_own(manifest.map(|m| m.cluster.as_str()))?;
    ground.nobody_else_serves().await?;
    let seen = ground.session.observe().await?;
    ground.can_serve_together(&seen)?;
    ground.can_be_started(&seen).await?;
    ground.fits(&opened, &checked, &seen).await?;
    ground.has_room(&opened.snapshot, sha256).await?;
    let question = format!(
        "This replaces all data of etcd in the cluster {} by that of {}{}.\n\
         What was written since is lost. The old data is set aside on every host.{}",
        ground.session.cluster.name,
        snapshot.display(),
        manifest.map_or_else(|| UNKNOWN.to_owned(), about),
        goes_on_as(&ground.session.cluster, &seen).map(|text| format!("\n{text}")).unwrap_or_default(),
    );
    ground.confirm(&question, sha256).await?;
    ground.prepare(&opened.carried, sha256).await?;
    // Bare hosts have programs by now.
    ground.can_take_data(&ground.session.observe().await?)?;
    let of = manifest.map(|m| m.cluster_id.clone());
    ground.restore(&opened.snapshot, sha256, of, targets).await
}

/// True for a word that is meant as a snapshot, which no inventory is called.
fn is_snapshot(word: &Path) -> bool {
    let text = word.to_string_lossy();
    manifest::is_snapshot(&text) || text.contains("://") || whence::is_host(&text)
}

fn takes_none(snapshot: &Path, inventory: PathBuf) -> CliError {
    let text = format!("--rollback takes no snapshot, and {} is one", snapshot.display());
    // It is not read for this, so nobody else adds it.
    let inventory = InventoryArg { inventory }.as_typed();
    CliError::new(Exit::Usage, text)
        .hint(format!("it puts back what each host had before: rsadm etcd restore{inventory} --rollback"))
}

fn open(path: &Path, identity: Option<&Path>, scratch: &Path) -> Result<Opened, CliError> {
    let inventory = |error: String| CliError::new(Exit::Usage, error);
    let bundled = path.is_file() && path.to_string_lossy().ends_with(".age");
    if !bundled {
        let manifest = file::manifest_beside(path).map_err(without_manifest)?;
        return Ok(Opened { snapshot: path.to_owned(), carried: vec![], manifest });
    }
    let Some(identity) = identity else {
        return Err(inventory(format!("{} is encrypted", path.display()))
            .hint("name the file with the age key: --identity FILE"));
    };
    let keys = fetch::identities(identity)?;
    let opened = bundle::open(path, &keys, scratch).map_err(refused)?;
    Ok(Opened {
        snapshot: opened.snapshot,
        carried: opened.carried.into_iter().map(|c| (c.path, c.data)).collect(),
        // What a later look found stands beside the bundle.
        manifest: Some(Manifest {
            damaged: opened.manifest.damaged.clone().or(file::manifest_of(path).and_then(|m| m.damaged)),
            ..opened.manifest
        }),
    })
}

/// A restore brings data, and leaves etcd as its hosts have it.
fn goes_on_as(cluster: &Cluster, seen: &Observed) -> Option<String> {
    let found = seen.hosts.values().find_map(|facts| other_version(cluster, facts))?;
    Some(format!(
        "Members go on with etcd {found}, which their hosts have; the inventory says {}.",
        cluster.release.etcd
    ))
}

fn about(manifest: &Manifest) -> String {
    let (date, time) = (manifest.taken_at.date(), manifest.taken_at.time());
    format!(" (of {date} {:02}:{:02} UTC, revision {})", time.hour(), time.minute(), manifest.revision)
}

/// Stands for what a manifest tells.
const UNKNOWN: &str = ", which has no manifest beside it: of which cluster it is, and of when, nobody knows";

/// Its own checksum is the one thing a snapshot cannot do without; and what its manifest tells has to be told of it.
fn checked(opened: &Opened) -> Result<Checked, CliError> {
    let refused =
        |e| CliError::new(Exit::Refused, e).hint("nothing was stopped or changed; choose another snapshot");
    let checked = file::check(&opened.snapshot).map_err(refused)?;
    file::is_told_of(&opened.snapshot, opened.manifest.as_ref(), &checked.sum.sha256)
        .map_err(without_manifest)?;
    Ok(checked)
}

/// Where the file beside a snapshot is not its manifest.
fn without_manifest(error: BackupError) -> CliError {
    CliError::new(Exit::Refused, error).hint(
        "nothing was stopped or changed; choose another snapshot, or take that file away where you know of which cluster this \
         one is",
    )
}
