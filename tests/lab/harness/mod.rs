//! What scenarios are made of: a lab, inventories, programs' outcomes, and checks.

mod checks;
mod cluster;
mod inventory;
mod lab;
mod outcome;
mod probe;
mod secrets;
mod share;
mod state;
mod writer;

pub use self::{
    checks::{Check, Checks, Fault, Skipped, eventually},
    cluster::{Cluster, items, text},
    inventory::Inventory,
    lab::{Lab, Running, run},
    outcome::Outcome,
    probe::{API_SERVES, Probe, now, took_turns},
    secrets::{CommandLines, Secrets},
    state::{Footprint, Processes},
    writer::{Writer, numbers_on, under_load},
};
