//! Static pods: what a kubelet makes of a manifest, and when it starts something anew.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::{Container, Pod};

use super::files::Files;
use crate::{hash::sha256, layout::REVISION_VARIABLE};

/// A flag that no program knows.
pub(super) const UNKNOWN_FLAG: &str = "--no-such-flag";

/// The end of an image that no container starts with.
pub(super) const USELESS_IMAGE: &str = ".99-0";

/// What a manifest asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The pod's name.
    pub name: String,
    /// What the kubelet knows the pod by: `metadata.uid`, or a hash of the whole where there is none (kubelet,
    /// `config/common.go`, `applyDefaults`). Another identity is another pod.
    pub uid: String,
    /// Image: another one restarts the container within the same pod, as no other field does since 1.31 (kubelet,
    /// `container/helpers.go`, `pickFieldsToHash`).
    pub image: String,
    /// Program and flags.
    pub argv: Vec<String>,
    /// [`REVISION_VARIABLE`] of its environment.
    pub revision: Option<String>,
    /// Paths of the host that have to be there.
    pub mounts: Vec<String>,
}

/// Reads a manifest; `None` where the kubelet would not. The same few are read again and again, so they are kept.
pub(super) fn read(sha256: &str, manifest: &str) -> Option<Wanted> {
    static KNOWN: Mutex<BTreeMap<String, Option<Wanted>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(sha256.into()).or_insert_with(|| parse(manifest)).clone()
}

fn parse(manifest: &str) -> Option<Wanted> {
    let pod: Pod = serde_yaml::from_str(manifest).ok()?;
    let spec = pod.spec?;
    let container = spec.containers.first()?;
    let mounts =
        spec.volumes.unwrap_or_default().into_iter().filter_map(|v| v.host_path).map(|h| h.path).collect();
    Some(Wanted {
        name: pod.metadata.name?,
        uid: pod.metadata.uid.unwrap_or_else(|| sha256(manifest.as_bytes())),
        image: container.image.clone()?,
        argv: container.command.clone().unwrap_or_default(),
        revision: environment(container, REVISION_VARIABLE),
        mounts,
    })
}

fn environment(container: &Container, name: &str) -> Option<String> {
    container.env.iter().flatten().find(|e| e.name == name)?.value.clone()
}

impl Wanted {
    /// The value of a flag.
    pub(super) fn flag(&self, name: &str) -> Option<&str> {
        flag(&self.argv, name)
    }

    /// True where everything that the process opens when it starts is there, and it knows all of its flags.
    pub(super) fn can_start(&self, files: &Files) -> bool {
        if self.image.ends_with(USELESS_IMAGE) || self.argv.iter().any(|arg| arg.starts_with(UNKNOWN_FLAG)) {
            return false;
        }
        let opened = self.argv.iter().filter_map(|arg| arg.split_once('=')).map(|(_, value)| value);
        let opened = opened.filter(|value| value.starts_with("/etc/kubernetes/"));
        self.mounts
            .iter()
            .map(String::as_str)
            .chain(opened)
            .all(|path| path.starts_with("/etc/ssl/") || files.has(path))
    }
}

/// The value of `--name=value`.
pub(super) fn flag<'a>(argv: &'a [String], name: &str) -> Option<&'a str> {
    argv.iter().find_map(|arg| arg.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('='))
}
