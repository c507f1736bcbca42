//! What a look at a snapshot found is remembered: in the manifest beside it, by which lists and removals go, and by the hosts
//! whose timers took it, by which `status` goes.

use std::path::Path;

use super::{refused, whence::keepers};
use crate::{
    backup::{BackupError, Check, Manifest, file},
    cli::{CliError, Context, InventoryArg},
    inventory::Cluster,
    layout,
};

/// What is told with the bad news.
pub(super) const REMEMBERED: &str =
    "its manifest says so from now on: it counts no more as a verified snapshot, for status and for prune";

/// Where the snapshot itself is at fault, its manifest remembers that.
pub(super) fn damage<T>(
    path: &Path,
    manifest: Option<&Manifest>,
    looked: Result<T, BackupError>,
) -> Result<T, CliError> {
    let error = match looked {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    match (error.damage(), manifest) {
        (Some(why), Some(manifest)) => {
            note(path, Some(manifest.clone()), Err(why))?;
            Err(CliError::from(error).hint(REMEMBERED))
        }
        (Some(_), None) => Err(error.into()),
        (None, _) => Err(refused(error)),
    }
}

/// The manifest remembers how far it was checked, and what was found.
pub(super) fn note(
    path: &Path,
    manifest: Option<Manifest>,
    look: Result<Check, String>,
) -> Result<(), CliError> {
    let Some(before) = manifest else { return Ok(()) };
    let after = before.clone().after(look);
    match after == before {
        true => Ok(()),
        false => Ok(file::write(&file::manifest_path(path), after.to_json().as_bytes())?),
    }
}

/// True for the folder or bucket that a schedule puts its snapshots into.
pub(super) fn is_scheduled(cluster: Option<&Cluster>, folder: &str) -> bool {
    let backup = cluster.and_then(|c| c.etcd.backup.as_ref());
    backup.is_some_and(|backup| backup.target.trim_end_matches('/') == folder)
}

/// Hosts remember which scheduled snapshot is their newest, and `status` goes by that; which of them took it, the name tells
/// them. Where they cannot be told, they find it in the manifest when their timers fire next.
pub(super) async fn tell_hosts(context: &Context, inventory: &InventoryArg, manifest: &Manifest) {
    let told = async {
        for keeper in keepers(context, inventory, None, layout::BACKUP_DIR).await? {
            keeper.note_newest(&manifest.file, manifest.damaged.is_some()).await?;
        }
        Ok::<(), CliError>(())
    };
    if let Err(error) = told.await {
        let text = format!("the hosts were not told: {}", error.message());
        context.ui.events().warn(text, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backup::{Broken, manifest::tests::sample},
        cli::Exit,
    };

    #[test]
    fn only_what_is_wrong_with_the_snapshot_itself_is_held_against_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(sample().file);
        let broken = || BackupError::Broken { path: path.clone(), source: Broken::Raw };
        let no_room = BackupError::Refused("e1 could not restore it: no space left on device".into());
        let mismatch = BackupError::Damaged("expected sha256 [1 2], got [3 4]".into());
        let io = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        for (error, damaged) in
            [(broken(), true), (no_room, false), (mismatch, true), (BackupError::io("read it")(io), false)]
        {
            let text = error.to_string();
            file::write(&file::manifest_path(&path), sample().to_json().as_bytes()).unwrap();
            let told = damage::<()>(&path, Some(&sample()), Err(error)).unwrap_err();
            let manifest = file::manifest_of(&path).unwrap();
            assert_eq!((manifest.is_verified(), manifest.damaged.is_some()), (!damaged, damaged), "{text}");
            assert_eq!(told.kind(), Exit::Refused, "{text}");
        }
        note(&path, file::manifest_of(&path), Ok(Check::Restored)).unwrap();
        assert_eq!(file::manifest_of(&path).unwrap(), sample().after(Ok(Check::Restored)));
    }
}
