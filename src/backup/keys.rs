//! What a cluster's data is useless without: its authorities, the keys of its service accounts, the key that encrypts
//! secrets at rest. Read from the hosts that keep them, into memory.

use std::sync::Arc;

use super::BackupError;
use crate::{
    host::{Host, Op, Secret},
    layout,
    pki::authorities::{Ca, service_account_key_path, service_account_public_path},
};

/// Paths on hosts that belong together, and whether a restore needs them.
pub fn wanted(kubernetes: bool) -> Vec<(Vec<String>, bool)> {
    let pair = |ca: Ca| vec![ca.cert_path(), ca.key_path()];
    let mut wanted = vec![(pair(Ca::Etcd), true)];
    if kubernetes {
        wanted.push((pair(Ca::Cluster), true));
        wanted.push((pair(Ca::FrontProxy), true));
        wanted.push((vec![service_account_public_path(), service_account_key_path()], true));
        // A cluster that kubeadm built encrypts nothing.
        wanted.push((vec![layout::ENCRYPTION_CONFIG.to_owned()], false));
    }
    wanted
}

/// The file from the first host that has it.
///
/// # Errors
/// Where a host could not be asked.
pub async fn read(hosts: &[Arc<dyn Host>], path: &str) -> Result<Option<Secret>, BackupError> {
    for host in hosts {
        let outputs = host.run(&[Op::Read(path.to_owned())], false).await?;
        if let Some(output) = outputs.into_iter().next().filter(crate::host::Output::ok) {
            return Ok(Some(Secret::new(output.stdout)));
        }
    }
    Ok(None)
}
