//! A snapshot by any name that `snapshot ls` shows, as a file of this machine: for commands that read it here.

use std::path::{Path, PathBuf};

use super::{
    for_a_while,
    whence::{self, keepers},
};
use crate::{
    backup::{bundle, place::Place},
    cli::{CliError, Context, Exit, InventoryArg, shell::quoted},
    layout,
};

/// The file itself, or a copy in `scratch` with its manifest beside it, of `HOST:FILE` or of the URL of an object.
pub(in crate::cli::etcd) async fn here(
    context: &Context,
    inventory: &InventoryArg,
    snapshot: &Path,
    scratch: &Path,
) -> Result<PathBuf, CliError> {
    if snapshot.exists() {
        return no_folder(snapshot).map(|()| snapshot.to_owned());
    }
    match snapshot.to_str().unwrap_or_default() {
        url if url.contains("://") => {
            let (folder, name) = url.rsplit_once('/').unwrap_or_default();
            let cluster = context.load(inventory)?.cluster;
            let place = Place::open(folder, &whence::settings(Some(&cluster), folder)?)?;
            place.local(name, scratch).await.map_err(for_a_while)
        }
        kept if whence::is_host(kept) => of_host(context, inventory, kept, scratch).await,
        _ => Err(missing(snapshot, inventory)),
    }
}

/// A folder of snapshots is none.
pub(super) fn no_folder(snapshot: &Path) -> Result<(), CliError> {
    match snapshot.is_dir() {
        false => Ok(()),
        true => {
            let folder = snapshot.display();
            Err(CliError::new(Exit::Usage, format!("{folder} is a folder, and a snapshot a file"))
                .hint(format!("rsadm etcd snapshot ls --from {} shows those in it", quoted(folder))))
        }
    }
}

/// The age keys of a file that opens bundles.
pub(in crate::cli::etcd) fn identities(file: &Path) -> Result<Vec<bundle::Identity>, CliError> {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string());
    text.and_then(|text| bundle::identities(&text)).map_err(|why| {
        CliError::new(Exit::Usage, format!("--identity {}: {why}", file.display()))
            .hint("it is the file that age-keygen wrote, with the secret half of the key that the bundle was encrypted to")
    })
}

/// There is no such file here, which is no reason to ask any host.
pub(super) fn missing(snapshot: &Path, inventory: &InventoryArg) -> CliError {
    let text = format!("there is no file {} on this machine", snapshot.display());
    // The inventory may not have been read yet.
    let typed = inventory.as_typed();
    CliError::new(Exit::Usage, text).hint(format!(
        "rsadm etcd snapshot ls{typed} shows those that there are; one of a host is named HOST:FILE, one of a bucket by its URL"
    ))
}

async fn of_host(
    context: &Context,
    inventory: &InventoryArg,
    kept: &str,
    scratch: &Path,
) -> Result<PathBuf, CliError> {
    let (host, path) = kept.split_once(':').unwrap_or_default();
    let (folder, file) = path.rsplit_once('/').unwrap_or((layout::BACKUP_DIR, path));
    let keepers = keepers(context, inventory, Some(host), folder).await?;
    let keeper = keepers.first().ok_or_else(|| CliError::new(Exit::Usage, format!("no host {host}")))?;
    let Some(entry) = keeper.list().await?.into_iter().find(|e| e.file == file) else {
        return Err(CliError::new(Exit::Usage, format!("{host} has no {folder}/{file}"))
            .hint(format!("rsadm etcd snapshot ls{} --from {host}:{folder}", inventory.as_typed())));
    };
    keeper.fetch(&entry, scratch).await.map_err(for_a_while)
}
