//! Certificates: what they shall be, what they are, and how they are made.
//!
//! [`authorities`] and [`specs`] are the tables, pure ([`leaf`] is their type). [`inspect`] reads a certificate, [`verdict`] judges it against its
//! line of the table, [`issue`] signs what is missing, [`files`] says how the result lies on a host. Keys are made in
//! memory and leave only as [`Secret`](crate::secret::Secret).

pub mod authorities;
pub mod files;
pub mod inspect;
pub mod issue;
pub mod kubeconfig;
pub mod leaf;
mod pem;
pub mod specs;
pub mod verdict;

#[cfg(test)]
mod tests;
