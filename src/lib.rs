//! rsadm: highly available Kubernetes and etcd from one inventory file, over plain SSH.
//!
//! `inventory.yaml` → [`inventory::Cluster`] (what is wanted) + [`observe::Observed`] (what is there) →
//! [`plan::Plan`] (pure data) → [`exec`] (the only effects) → [`report::Report`]. Every command is a prefix or a
//! variation of this line.

pub mod hash;
pub mod inventory;
pub mod layout;
pub mod line;
pub mod log;
pub mod programs;
pub mod secret;
pub mod until;
pub mod versions;

pub mod manifests;
pub mod pki;

pub mod observe;
pub mod phases;
pub mod plan;

pub mod backup;
pub mod etcd;
pub mod exec;
pub mod host;

pub mod event;
pub mod report;
pub mod status;
pub mod ui;

pub mod cli;

#[doc(hidden)]
pub mod fake;
