//! The real implementation of `Host` against a real sshd on a loopback port, and in the lab.
//!
//! Needs `/usr/sbin/sshd`, bash and root (as files are to be root's); says so and passes where they are missing.
#![cfg(test)]

mod batches;
mod breaking;
mod connecting;
mod files;
mod locking;
mod sshd;
#[cfg(feature = "lab")]
mod sudo;
mod waiting;
