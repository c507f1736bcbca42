//! Secrets in memory for the length of a run: authorities, the service account pair, the encryption key.
//!
//! Each is read once from a host that keeps it, or made where the plan says so, and given only to hosts that the plan
//! names. Nothing of it is written on the workstation.

use std::{collections::BTreeMap, sync::Arc};

use time::OffsetDateTime;
use tokio::sync::Mutex;

use crate::{
    host::{Host, Op, RemoteFile},
    line::chain,
    pki::{
        authorities::{Ca, Holding},
        files,
        issue::{self, Authority, Issued, Keys},
    },
    plan::shared::Shared,
    secret::Secret,
};

/// What was read or made so far.
#[derive(Default)]
pub struct Keyring(Mutex<BTreeMap<Shared, Arc<Material>>>);

/// One secret.
pub enum Material {
    /// An authority that can sign.
    Authority(Box<Authority>),
    /// The service account pair.
    ServiceAccounts(Keys),
    /// The encryption configuration, whole.
    Encryption(Secret),
}

impl Keyring {
    /// The secret: from memory, else from `keeper`, else made.
    ///
    /// # Errors
    /// In words, where the keeper could not be asked or what it has is unfit.
    pub async fn take(
        &self,
        shared: Shared,
        keeper: Option<&Arc<dyn Host>>,
        now: OffsetDateTime,
    ) -> Result<Arc<Material>, String> {
        let mut ring = self.0.lock().await;
        if let Some(material) = ring.get(&shared) {
            return Ok(material.clone());
        }
        let material = Arc::new(match keeper {
            Some(host) => read(shared, host.as_ref()).await?,
            None => make(shared, now)?,
        });
        ring.insert(shared, material.clone());
        Ok(material)
    }
}

impl Material {
    /// The operations that give a host this secret, or with `secret: false` only its public part.
    pub fn put(&self, secret: bool) -> Vec<Op> {
        match self {
            Self::Authority(authority) => {
                files::authority(Holding { ca: authority.ca(), key: secret }, authority.files())
            }
            Self::ServiceAccounts(keys) => files::service_account(keys),
            Self::Encryption(text) => vec![Op::Put(RemoteFile {
                path: crate::layout::ENCRYPTION_CONFIG.into(),
                mode: 0o600,
                data: text.clone(),
            })],
        }
    }

    /// The authority, where it is one.
    pub fn authority(&self) -> Option<&Authority> {
        match self {
            Self::Authority(authority) => Some(authority),
            Self::ServiceAccounts(_) | Self::Encryption(_) => None,
        }
    }
}

fn make(shared: Shared, now: OffsetDateTime) -> Result<Material, String> {
    match shared {
        Shared::Authority(ca) => {
            Authority::make(ca, now).map(|a| Material::Authority(Box::new(a))).map_err(|e| chain(&e))
        }
        Shared::ServiceAccounts => {
            issue::service_account_keys().map(Material::ServiceAccounts).map_err(|e| chain(&e))
        }
        Shared::Encryption => encryption_key().map(Material::Encryption),
    }
}

/// A new key of 32 bytes, as secretbox wants it.
fn encryption_key() -> Result<Secret, String> {
    let mut key = [0u8; 32];
    getrandom::fill(&mut key).map_err(|e| format!("no randomness: {e}"))?;
    crate::manifests::encryption_configuration(&Secret::new(key)).map_err(|e| chain(&e))
}

async fn read(shared: Shared, host: &dyn Host) -> Result<Material, String> {
    let paths: Vec<String> = std::iter::once(shared.secret_path()).chain(shared.public_path()).collect();
    let ops: Vec<Op> = paths.iter().cloned().map(Op::Read).collect();
    let outputs = host.run(&ops, false).await.map_err(|e| e.to_string())?;
    let mut texts = Vec::new();
    for (path, output) in paths.iter().zip(&outputs) {
        if !output.ok() {
            return Err(format!("could not read {path} on {}: {}", host.name(), output.stderr.trim()));
        }
        texts.push(output.stdout.clone());
    }
    let mut texts = texts.into_iter();
    let secret = Secret::new(texts.next().unwrap_or_default());
    let public = String::from_utf8_lossy(&texts.next().unwrap_or_default()).into_owned();
    match shared {
        Shared::Authority(ca) => load(ca, Issued { cert: public, key: secret })
            .map_err(|why| format!("{} on {}: {why}", paths.join(" and "), host.name())),
        Shared::ServiceAccounts => Ok(Material::ServiceAccounts(Keys { public, private: secret })),
        Shared::Encryption => Ok(Material::Encryption(secret)),
    }
}

fn load(ca: Ca, files: Issued) -> Result<Material, String> {
    Authority::load(ca, files).map(|a| Material::Authority(Box::new(a))).map_err(|e| chain(&e))
}
