//! Where a command looks for snapshots: a folder of the workstation, a bucket, or the etcd hosts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    backup::{
        host::Keeper,
        place::{Entry, Place, credentials, sort},
    },
    cli::{
        CliError, Context, Exit, InventoryArg,
        naming::has_hosts,
        session::{Session, goes_on_without},
        shell::quoted,
    },
    event::Events,
    inventory::{Cluster, Node, NodeName, Role},
    layout,
};

/// Where snapshots are.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct FromArg {
    /// Where they are: a folder, HOST: or HOST:/FOLDER, hosts: for all etcd hosts, s3://…, gs://…, az://…
    /// [default: where the inventory's etcd.backup puts them, else this folder]
    #[arg(long, value_name = "WHERE")]
    pub(super) from: Option<String>,
}

/// One place, by the name that the operator would call it, and what to ask.
pub(super) struct Kept {
    /// Empty for a folder or a bucket, else the host.
    pub(super) host: String,
    pub(super) holder: Holder,
}

pub(super) enum Holder {
    Here(Place),
    There(Keeper),
}

impl Holder {
    pub(super) async fn list(&self) -> Result<Vec<Entry>, CliError> {
        match self {
            Self::Here(place) => Ok(place.list().await?),
            Self::There(keeper) => {
                let mut list = keeper.list().await?;
                sort(&mut list);
                Ok(list)
            }
        }
    }

    /// What the operator calls it, without the host.
    fn place(&self) -> String {
        match self {
            Self::Here(place) => place.to_string(),
            Self::There(keeper) => keeper.folder.clone(),
        }
    }

    pub(super) async fn remove(&self, file: &str) -> Result<(), CliError> {
        match self {
            Self::Here(place) => Ok(place.remove(file).await?),
            Self::There(keeper) => Ok(keeper.remove(file).await?),
        }
    }
}

/// Where was looked, in words: an answer that nothing is there is of no use without.
pub(super) fn looked_in(places: &[Kept]) -> String {
    let place = places.first().map(|kept| kept.holder.place()).unwrap_or_default();
    let hosts: Vec<&str> = places.iter().map(|kept| kept.host.as_str()).filter(|h| !h.is_empty()).collect();
    match (hosts.is_empty(), place.contains("://")) {
        (false, _) => format!("{place} on {}", hosts.join(", ")),
        (true, true) => place,
        (true, false) => format!("{place} on this machine"),
    }
}

/// What `--from` comes to.
enum Meant {
    Target(String),
    Hosts { only: Option<String>, folder: String },
}

/// Opens what is meant, and tells whose cluster's inventory said so; connects to hosts only where they are meant.
pub(super) async fn open(
    context: &Context,
    inventory: &InventoryArg,
    from: &FromArg,
) -> Result<(Vec<Kept>, Option<Cluster>), CliError> {
    let cluster = loaded(context, inventory, from)?;
    let kept = match meant(from.from.as_deref(), cluster.as_ref()) {
        Meant::Target(folder) if !folder.contains("://") && !Path::new(&folder).is_dir() => {
            if Path::new(&folder).exists() {
                return Err(CliError::new(
                    Exit::Usage,
                    format!("{folder} is a file, and --from takes a folder"),
                )
                .hint(format!(
                    "one snapshot is looked at by rsadm etcd snapshot verify {}",
                    quoted(&folder)
                )));
            }
            // An empty list would read as "no backups", where a disk is only not mounted.
            return Err(CliError::new(Exit::Usage, format!("there is no folder {folder} on this machine"))
                .hint(format!("one on a host is named HOST:{folder}")));
        }
        Meant::Target(target) => {
            let place = Place::open(&target, &settings(cluster.as_ref(), &target)?)?;
            vec![Kept { host: String::new(), holder: Holder::Here(place) }]
        }
        Meant::Hosts { only, folder } => {
            let kept =
                |keeper: Keeper| Kept { host: keeper.host.name().to_string(), holder: Holder::There(keeper) };
            let keepers = keepers(context, inventory, only.as_deref(), &folder).await?;
            keepers.into_iter().map(kept).collect()
        }
    };
    Ok((kept, cluster))
}

/// The inventory, which a folder or a bucket can do without where none is named.
fn loaded(context: &Context, arg: &InventoryArg, from: &FromArg) -> Result<Option<Cluster>, CliError> {
    let needless = from.from.as_ref().is_some_and(|f| !is_host(f));
    if arg.inventory.is_dir() {
        let folder = quoted(arg.inventory.display());
        return Err(CliError::new(Exit::Usage, format!("{folder} is a folder, and the inventory a file"))
            .hint(format!("snapshots in a folder: --from {folder}")));
    }
    match needless && arg.is_missing_default() {
        true => Ok(None),
        false => Ok(Some(context.load(arg)?.cluster)),
    }
}

/// `HOST:` and `HOST:/FOLDER`, as scp has it; a URL has slashes after its colon and is none.
pub(in crate::cli::etcd) fn is_host(text: &str) -> bool {
    !text.contains("://")
        && text.split_once(':').is_some_and(|(host, _)| !host.is_empty() && !host.contains('/'))
}

fn meant(from: Option<&str>, cluster: Option<&Cluster>) -> Meant {
    let scheduled = cluster.and_then(|c| c.etcd.backup.as_ref()).map(|b| b.target.clone());
    match (from, scheduled) {
        (Some(from), _) if is_host(from) => {
            let (host, folder) = from.split_once(':').unwrap_or_default();
            let folder = if folder.is_empty() { layout::BACKUP_DIR } else { folder };
            Meant::Hosts { only: (host != "hosts").then(|| host.to_owned()), folder: folder.to_owned() }
        }
        (Some(from), _) => Meant::Target(from.to_owned()),
        (None, Some(target)) if target.contains("://") => Meant::Target(target),
        (None, Some(folder)) => Meant::Hosts { only: None, folder },
        (None, None) => Meant::Target(".".to_owned()),
    }
}

/// Settings of a bucket: those of the inventory where it is the inventory's, else the environment's.
pub(super) fn settings(
    cluster: Option<&Cluster>,
    target: &str,
) -> Result<BTreeMap<String, String>, CliError> {
    let Some(backup) = cluster.and_then(|c| c.etcd.backup.as_ref()).filter(|b| target.starts_with(&b.target))
    else {
        return Ok(BTreeMap::new());
    };
    let mut settings = backup.settings();
    if let Some(file) = &backup.credentials {
        settings.extend(read_credentials(file)?);
    }
    Ok(settings)
}

fn read_credentials(file: &PathBuf) -> Result<BTreeMap<String, String>, CliError> {
    let failed = |why: String| {
        CliError::new(
            Exit::Inventory,
            format!("could not read etcd.backup.credentials: {}: {why}", file.display()),
        )
    };
    let text = std::fs::read_to_string(file).map_err(|e| failed(e.to_string()))?;
    credentials(&text).map_err(failed)
}

/// The etcd hosts that answer, or the one that was named.
pub(super) async fn keepers(
    context: &Context,
    inventory: &InventoryArg,
    only: Option<&str>,
    folder: &str,
) -> Result<Vec<Keeper>, CliError> {
    let wants = |n: &Node| n.is(Role::Etcd) && only.is_none_or(|only| n.name.as_str() == only);
    let cluster = context.load(inventory)?.cluster;
    if let Some(only) = only {
        has_hosts(&cluster, [&NodeName::new(only)], Some(Role::Etcd))?;
    }
    let (session, silent) = Session::connect(context, cluster, Events::none(), wants, None).await?;
    let hosts = session.fleet.hosts();
    if hosts.is_empty() {
        return Err(session.not_begun(&silent));
    }
    goes_on_without(&context.ui.events(), &silent);
    Ok(hosts.iter().map(|host| Keeper { host: host.clone(), folder: folder.to_owned() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_written_as_scp_has_them() {
        for (text, expected) in [
            ("e1:", true),
            ("hosts:", true),
            ("e1:/var/lib/x", true),
            ("s3://bucket/x", false),
            ("./a:b", false),
            ("backups", false),
        ] {
            assert_eq!(is_host(text), expected, "{text}");
        }
    }
}
