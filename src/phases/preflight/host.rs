//! What one host says of itself, judged by what its roles need: a table of checks.

use super::Verdict;
use crate::{
    inventory::{Cluster, Node},
    observe::Facts,
};

mod disk;
mod kernel;
mod machine;
mod present;
mod programs;
#[cfg(test)]
mod tests;

const MIB: u64 = 1 << 20;

/// A host and what is wanted of it.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The whole.
    pub cluster: &'a Cluster,
    /// Its part in it.
    pub node: &'a Node,
    /// What it says.
    pub facts: &'a Facts,
    /// Whether it is told what need not be changed: once, where the host is new, and whoever asks.
    pub remarks: bool,
    /// Whether rsadm has prepared any of the hosts, so that the inventory cannot say otherwise whose containerd they have.
    pub built: bool,
}

/// What a check has to say; nothing where all is well.
pub type Check = fn(&Subject<'_>) -> Vec<Verdict>;

/// All checks, in the order in which a host's findings are shown.
pub const CHECKS: &[Check] = &[
    machine::architecture,
    machine::system,
    machine::systemd,
    machine::address,
    kernel::cgroups,
    kernel::features,
    kernel::version,
    machine::memory,
    machine::processors,
    disk::space,
    disk::pressure,
    disk::etcd_room,
    kernel::swap,
    programs::tools,
    programs::download,
    programs::packet_filter,
    programs::runtime,
    present::version,
    present::other_cluster,
    present::strangers,
    present::ports,
];

/// What new certificates of a host that serves stand or fall with: whose it is, what runs there, whether its kubelet starts
/// again, and whether the new ones find room.
pub const GRAVE: &[Check] = &[
    machine::address,
    present::kubernetes_version,
    present::other_cluster,
    present::strangers,
    kernel::kubelet_starts,
    disk::room,
];
