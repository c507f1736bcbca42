//! What a schedule of snapshots takes from the workstation: the credentials of its bucket, and rsadm itself.

use std::{env, fs, os::unix::fs::PermissionsExt, path::Path};

use crate::{
    backup::place::credentials,
    cli::{CliError, Exit, PhaseArgs, shell::quoted},
    hash::sha256,
    inventory::{Agent, Cluster, Loaded, Problem},
    phases::backups,
    secret::Secret,
};

/// Adds it to a cluster that has a schedule, where that is wanted of the command (as it is typed). No command needs it that does
/// something else: the certificates of a cluster that has stopped are renewed on a computer without the file, too.
pub(super) fn complete_for(command: &str, phases: &PhaseArgs, cluster: &mut Cluster) -> Result<(), CliError> {
    if !phases.wants(backups::PHASE) {
        return Ok(());
    }
    complete(cluster).map_err(|error| match phases.only.is_empty() && phases.skip.is_empty() {
        true => error.hint(format!("rsadm {command} --skip {} goes on without it", backups::PHASE)),
        false => error,
    })
}

/// Adds it to a cluster that has a schedule.
pub(super) fn complete(cluster: &mut Cluster) -> Result<(), CliError> {
    let Some(backup) = &cluster.etcd.backup else { return Ok(()) };
    let failed = |Unusable { why, help }| {
        let error = CliError::new(Exit::Inventory, format!("could not use etcd.backup.credentials: {why}"));
        help.into_iter().fold(error, CliError::hint)
    };
    cluster.backup_credentials = backup.credentials.as_deref().map(secret).transpose().map_err(failed)?;
    cluster.agent = Some(own()?);
    Ok(())
}

/// What would keep `up` from that, where the inventory is read: before any host is dialled, and by those who only look at the
/// file. One that is missing has its own warning.
pub(super) fn doubt(loaded: &Loaded) -> Option<Problem> {
    let file = loaded.cluster.etcd.backup.as_ref()?.credentials.as_deref()?;
    let (_, place) = loaded.files.iter().find(|(path, _)| path == file)?;
    let Unusable { why, help } = secret(file).err().filter(|_| file.exists())?;
    Some(Problem { message: why, help: help.or(place.help.clone()), ..place.clone() })
}

/// Why a file is no use, and what helps.
struct Unusable {
    why: String,
    help: Option<String>,
}

fn secret(file: &Path) -> Result<Secret, Unusable> {
    let failed = |why: String| Unusable { why: format!("{}: {why}", file.display()), help: None };
    let text = fs::read_to_string(file).map_err(|e| failed(e.to_string()))?;
    let mode = fs::metadata(file).map_err(|e| failed(e.to_string()))?.permissions().mode();
    if mode & 0o077 != 0 {
        let why = format!("others may read it (its mode is {:04o})", mode & 0o7777);
        return Err(Unusable { help: Some(format!("chmod 600 {}", quoted(file.display()))), ..failed(why) });
    }
    credentials(&text).map_err(failed)?;
    Ok(Secret::new(text))
}

/// The program that runs, which is then what the hosts run.
fn own() -> Result<Agent, CliError> {
    let failed = |e| CliError::new(Exit::Bug, e);
    // The link leads to the program that was started, also where a newer one has taken its place.
    let data = fs::read("/proc/self/exe").or_else(|_| fs::read(env::current_exe()?)).map_err(failed)?;
    Ok(Agent { sha256: sha256(&data), arch: env::consts::ARCH.to_owned(), data: Secret::new(data) })
}
