//! What a schedule of snapshots takes from the workstation: the credentials of its bucket, and rsadm itself.

use std::{env, fs, os::unix::fs::PermissionsExt, path::Path};

use crate::{
    backup::{bundle::Recipient, place::credentials},
    cli::{CliError, Exit, shell::quoted},
    host::Secret,
    inventory::{Agent, Cluster},
    plan::sha256,
};

/// Adds it to a cluster that has a schedule.
pub(super) fn complete(cluster: &mut Cluster) -> Result<(), CliError> {
    let Some(backup) = &cluster.etcd.backup else { return Ok(()) };
    if let Some(recipient) = &backup.recipient {
        let read = recipient.parse::<Recipient>();
        read.map_err(|why| CliError::new(Exit::Inventory, format!("etcd.backup.recipient: {why}")))?;
    }
    cluster.backup_credentials = backup.credentials.as_deref().map(secret).transpose()?;
    cluster.agent = Some(own()?);
    Ok(())
}

fn secret(file: &Path) -> Result<Secret, CliError> {
    let failed = |why: String| {
        CliError::new(
            Exit::Inventory,
            format!("could not use etcd.backup.credentials: {}: {why}", file.display()),
        )
    };
    let text = fs::read_to_string(file).map_err(|e| failed(e.to_string()))?;
    let mode = fs::metadata(file).map_err(|e| failed(e.to_string()))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(failed(format!("others may read it (its mode is {:04o})", mode & 0o7777))
            .hint(format!("chmod 600 {}", quoted(file.display()))));
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
