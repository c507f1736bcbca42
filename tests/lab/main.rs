//! rsadm on real nodes: Debian with systemd and sshd, real etcd and Kubernetes, in labs that `tests/lab/lab` boots.
//!
//! Each test is a scenario: one lab, booted once, and many checks on it in an order that makes sense. Every check is
//! told with its time and can fail by itself; a scenario goes through to its end and then tells all that failed.
//! As many run beside one another as the machine carries (`harness/share.rs`) and there are test threads. As root:
//!
//! ```text
//! cargo test --features lab --test lab -- --nocapture [SCENARIO]
//! ```
//!
//! `LAB_KEEP=1` leaves the lab up and uses it again the next time, which helps while one writes a check; `LAB_SHOW=1` prints
//! all that rsadm says.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test may stop at what should not be, tells how far it is, and has no users"
)]

/// Ends a check with a fault unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+).into());
        }
    };
}

mod harness;
mod scenarios;
