//! `rsadm etcd snapshot verify`.

use std::path::{Path, PathBuf};

use super::{
    fetch::{identities, missing, no_folder},
    for_a_while, refused, remember,
    whence::{self, keepers},
};
use crate::{
    backup::{
        BackupError, Check, Manifest, bundle,
        file::{self, check, is_told_of},
        host::Keeper,
        manifest::BUNDLE,
        place::Place,
        room, trial,
    },
    cli::{CliError, Context, Exit, InventoryArg, naming::Takes},
    etcd::status::list,
    inventory::Cluster,
    layout,
};

mod answer;
#[cfg(test)]
mod tests;

use answer::{Verified, Whose, text};

/// Check a snapshot: its checksum, its database, and a restore for a try
#[derive(clap::Args, Debug)]
#[command(
    allow_missing_positional = true,
    after_help = "\
The restore for a try is etcdutl's, into a folder that is removed again: with the etcdutl on
PATH, else on an etcd host of the inventory, with that of its own etcd; where there is none, as
on new machines, the answer says so. A bundle is opened with --identity; without, only its bytes
are compared with its manifest. Cut off, changed, and copied database files are refused (5).

Examples:
  rsadm etcd snapshot verify prod-20261122T140511Z-m2-r48211.db
  rsadm etcd snapshot verify inventories/prod.yaml m2:prod-20261122T140511Z-m2-r48211.db
  rsadm etcd snapshot verify s3://backups/prod-20261122T140511Z-m2-r48211.tar.age --identity key.txt"
)]
pub(super) struct Args {
    #[command(flatten)]
    inventory: InventoryArg,

    /// A file, HOST:FILE, or the URL of an object
    #[arg(value_name = "SNAPSHOT")]
    snapshot: String,

    /// The file with the age key that opens a bundle
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

pub(super) async fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    Takes::Snapshot.after_inventory("etcd snapshot verify", &args.inventory, &[&args.snapshot])?;
    let it = Verifying { args, context };
    let verified = match &args.snapshot {
        url if url.contains("://") => it.object(url).await?,
        host if whence::is_host(host) && !Path::new(host).exists() => it.on_host(host).await?,
        path => it.file(Path::new(path), path).await?,
    };
    context.print(&verified, text)?;
    Ok(Exit::Done)
}

struct Verifying<'a> {
    args: &'a Args,
    context: &'a Context,
}

impl Verifying<'_> {
    /// The inventory's, which a look at a file or a bucket can do without where none is named.
    fn cluster(&self) -> Result<Option<Cluster>, CliError> {
        match self.args.inventory.is_missing_default() {
            true => Ok(None),
            false => Ok(Some(self.context.load(&self.args.inventory)?.cluster)),
        }
    }

    /// The same for a file, which can be looked at beside an inventory that is wrong, too, unless that one is named.
    fn cluster_of_file(&self) -> Result<Option<Cluster>, CliError> {
        match self.cluster() {
            Err(_) if self.args.inventory.as_typed().is_empty() => Ok(None),
            cluster => cluster,
        }
    }

    async fn object(&self, url: &str) -> Result<Verified, CliError> {
        let (folder, name) = url.rsplit_once('/').unwrap_or_default();
        let cluster = self.cluster()?;
        let place = Place::open(folder, &whence::settings(cluster.as_ref(), folder)?)?;
        let scratch = scratch()?;
        let local = place.local(name, scratch.path()).await.map_err(for_a_while)?;
        let before = file::manifest_of(&local);
        let verified = self.look_into(&local, url).await;
        if let Some(manifest) = changed(&local, before.as_ref()) {
            place.describe(&manifest).await?;
            if remember::is_scheduled(cluster.as_ref(), folder) {
                remember::tell_hosts(self.context, &self.args.inventory, &manifest).await;
            }
        }
        let mut verified = verified?;
        verified.done.insert(0, "fetched".into());
        Ok(verified)
    }

    async fn file(&self, path: &Path, shown: &str) -> Result<Verified, CliError> {
        if !path.exists() {
            return Err(missing(path, &self.args.inventory));
        }
        no_folder(path)?;
        let cluster = self.cluster_of_file()?;
        let before = file::manifest_of(path);
        let verified = self.look_into(path, shown).await;
        // A folder that hosts share may be mounted here, too. A copy elsewhere says nothing of what it is a copy of.
        let folder = path.canonicalize().ok().and_then(|path| Some(path.parent()?.display().to_string()));
        if let Some(manifest) = changed(path, before.as_ref())
            && let Some(folder) = folder
            && remember::is_scheduled(cluster.as_ref(), &folder)
        {
            remember::tell_hosts(self.context, &self.args.inventory, &manifest).await;
        }
        verified
    }

    async fn look_into(&self, path: &Path, shown: &str) -> Result<Verified, CliError> {
        // One that cannot be read may say that the snapshot is damaged, or another cluster's.
        let manifest = file::manifest_beside(path).map_err(|error| {
            refused(error)
                .hint("take that file away where you know of which cluster the snapshot is, and of when")
        })?;
        let mut found = Verified {
            snapshot: shown.to_owned(),
            check: Check::Checksum,
            revision: None,
            size: 0,
            whose: manifest.as_ref().map(Whose::of),
            done: vec![],
            left: vec![],
        };
        if path.to_string_lossy().ends_with(BUNDLE) {
            return self.bundle(path, manifest, found).await;
        }
        let (own, its) = (path.to_owned(), manifest.clone());
        let checked = tokio::task::spawn_blocking(move || {
            check(&own).and_then(|c| is_told_of(&own, its.as_ref(), &c.sum.sha256).map(|()| c))
        });
        let checked = checked.await.map_err(|e| CliError::new(Exit::Bug, e))?;
        let checked = remember::damage(path, manifest.as_ref(), checked)?;
        found.revision = Some(checked.structure.revision);
        found.size = checked.sum.size;
        found.done.push("the SHA-256 that etcd wrote at its end holds".into());
        match &manifest {
            Some(_) => found.done.push("it is the file that its manifest tells of".into()),
            None => found.left.push("no manifest lies beside it: whose it is, is not known".into()),
        }
        let tried = self.trial(path, &mut found).await?;
        remember::damage(path, manifest.as_ref(), tried)?;
        remember::note(path, manifest, Ok(found.check))?;
        Ok(found)
    }

    /// The bytes by the manifest; what is inside only where there is a key.
    async fn bundle(
        &self,
        path: &Path,
        manifest: Option<Manifest>,
        mut found: Verified,
    ) -> Result<Verified, CliError> {
        let sum = file::sum(path)?;
        found.size = sum.size;
        if let Some(manifest) = &manifest {
            remember::damage(path, Some(manifest), is_told_of(path, Some(manifest), &sum.sha256))?;
            found.revision = Some(manifest.revision);
            found.done.push("it is the file that its manifest tells of".into());
        }
        let Some(identity) = &self.args.identity else {
            if manifest.is_none() {
                let text = format!(
                    "{} has no manifest beside it, so only its key tells whether it is whole",
                    path.display()
                );
                return Err(CliError::new(Exit::Usage, text)
                    .hint("--identity FILE names the age identity that opens it"));
            }
            found.left.push("what is inside was not looked at: --identity FILE opens it".into());
            return Ok(found);
        };
        let keys = identities(identity)?;
        let scratch = scratch()?;
        let opened = bundle::open(path, &keys, scratch.path()).map_err(refused)?;
        let inside = remember::damage(path, manifest.as_ref(), check(&opened.snapshot))?;
        found.revision = Some(inside.structure.revision);
        found.whose.get_or_insert(Whose::of(&opened.manifest));
        found.done.push(format!("it opens, and carries {} files beside the snapshot", opened.carried.len()));
        found.done.push("the SHA-256 that etcd wrote at the snapshot's end holds".into());
        let tried = self.trial(&opened.snapshot, &mut found).await?;
        remember::damage(path, manifest.as_ref(), tried)?;
        remember::note(path, manifest, Ok(found.check))?;
        found.has_keys(path, &opened)?;
        Ok(found)
    }

    /// Restores here, or on an etcd host; what came of it, where it could be tried.
    async fn trial(&self, path: &Path, found: &mut Verified) -> Result<Result<(), BackupError>, CliError> {
        if let Some(program) = trial::on_path() {
            let (own, by) = (path.to_owned(), program.display().to_string());
            let size = std::fs::metadata(path).map_or(0, |file| file.len());
            let tried = tokio::task::spawn_blocking(move || {
                let folder = std::env::temp_dir();
                room::check(&folder, room::of_trial(size))?;
                trial::restore(&program, &own, &folder)
            });
            let tried = tried.await.map_err(|e| CliError::new(Exit::Bug, e))?;
            return Ok(tried.map(|()| found.restored(format!("{by} restored it for a try"))));
        }
        if self.args.inventory.is_missing_default() {
            found.left.push(
                "not restored for a try: no etcdutl on PATH, and no inventory that names an etcd host".into(),
            );
            return Ok(Ok(()));
        }
        let keepers = keepers(self.context, &self.args.inventory, None, layout::BACKUP_DIR).await?;
        Ok(try_there(&keepers, path, found).await)
    }

    async fn on_host(&self, text: &str) -> Result<Verified, CliError> {
        let (host, path) = text.split_once(':').unwrap_or_default();
        let (folder, file) = path.rsplit_once('/').unwrap_or((layout::BACKUP_DIR, path));
        let keepers = keepers(self.context, &self.args.inventory, Some(host), folder).await?;
        let keeper: &Keeper =
            keepers.first().ok_or_else(|| CliError::new(Exit::Usage, format!("no host {host}")))?;
        let entry = keeper.list().await?.into_iter().find(|e| e.file == file);
        let entry = entry.ok_or_else(|| {
            CliError::new(Exit::Usage, format!("{host} has no {folder}/{file}"))
                .hint(format!("rsadm etcd snapshot ls --from {host}:"))
        })?;
        let manifest =
            entry.manifest.clone().map_err(|why| CliError::new(Exit::Refused, format!("{file}: {why}")))?;
        if manifest.encrypted {
            let text = "an encrypted bundle is opened here, where its key is: copy it here first";
            return Err(CliError::new(Exit::Usage, text));
        }
        let looked = async {
            let path = PathBuf::from(format!("{folder}/{file}"));
            is_told_of(&path, Some(&manifest), &keeper.sha256(file).await?)?;
            keeper.verify(file).await
        };
        let (look, error) = match looked.await {
            Ok(_) => (Ok(Check::Restored), None),
            Err(error) => match error.damage() {
                Some(why) => (Err(why), Some(error)),
                None => return Err(refused(error)),
            },
        };
        let manifest = manifest.after(look);
        keeper.describe(&manifest).await?;
        keeper.note_newest(file, manifest.damaged.is_some()).await?;
        // In a folder that hosts share it may be another's.
        if self.cluster()?.is_some_and(|cluster| cluster.etcd.backup.is_some()) {
            remember::tell_hosts(self.context, &self.args.inventory, &manifest).await;
        }
        if let Some(error) = error {
            return Err(CliError::new(Exit::Refused, error).hint(remember::REMEMBERED));
        }
        Ok(Verified {
            snapshot: text.to_owned(),
            check: Check::Restored,
            revision: Some(manifest.revision),
            size: entry.size,
            whose: Some(Whose::of(&manifest)),
            done: vec![
                "it is the file that its manifest tells of".into(),
                format!("etcdutl found its checksum right and restored it for a try on {host}"),
            ],
            left: vec![],
        })
    }
}

/// Restores on the first of these hosts that has an etcdutl. New machines have none, and a bundle for them may be whole.
async fn try_there(keepers: &[Keeper], path: &Path, found: &mut Verified) -> Result<(), BackupError> {
    for keeper in keepers {
        if keeper.try_here(path).await?.is_some() {
            found.restored(format!("etcdutl restored it for a try on {}", keeper.host.name()));
            return Ok(());
        }
    }
    let hosts: Vec<String> = keepers.iter().map(|keeper| keeper.host.name().to_string()).collect();
    let hosts = list(&hosts);
    found.left.push(format!("not restored for a try: no etcdutl on PATH, and none on {hosts}"));
    Ok(())
}

/// The manifest beside a snapshot, where a look has changed it.
fn changed(path: &Path, before: Option<&Manifest>) -> Option<Manifest> {
    file::manifest_of(path).filter(|after| Some(after) != before)
}

/// A folder that goes when this ends.
fn scratch() -> Result<tempfile::TempDir, CliError> {
    tempfile::Builder::new().prefix("rsadm-verify-").tempdir().map_err(|e| CliError::new(Exit::StepFailed, e))
}
