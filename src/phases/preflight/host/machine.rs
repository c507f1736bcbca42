//! The machine and its system: what it is, and how large.

use std::net::IpAddr;

use super::{MIB, Subject};
use crate::{inventory::Role, phases::preflight::Verdict};

pub(super) fn architecture(s: &Subject<'_>) -> Vec<Verdict> {
    match s.facts.arch.as_str() {
        "x86_64" | "aarch64" => vec![],
        arch => vec![Verdict::error(format!("is a {arch}"), "use a host of x86_64 or aarch64")],
    }
}

/// What the tests run on. `ID VERSION_ID` of `/etc/os-release`.
const TESTED: [&str; 2] = ["debian 12", "debian 13"];

pub(super) fn system(s: &Subject<'_>) -> Vec<Verdict> {
    if !s.remarks || TESTED.contains(&s.facts.os.as_str()) {
        return vec![];
    }
    let text = format!("runs {}, on which rsadm is untested", s.facts.os);
    vec![Verdict::warning(text, format!("nothing speaks against it; tests run on {}", TESTED.join(" and ")))]
}

pub(super) fn systemd(s: &Subject<'_>) -> Vec<Verdict> {
    match s.facts.systemd {
        None => vec![Verdict::error("does not run systemd", "use a host whose PID 1 is systemd")],
        Some(version) if version < 244 => {
            vec![Verdict::warning(format!("runs systemd {version}"), "newer kubelets expect 244 or later")]
        }
        Some(_) => vec![],
    }
}

pub(super) fn address(s: &Subject<'_>) -> Vec<Verdict> {
    let wanted = s.node.internal_address;
    if s.facts.addresses.contains(&IpAddr::V4(wanted)) {
        return vec![];
    }
    let have: Vec<String> = s
        .facts
        .addresses
        .iter()
        .filter(|a| a.is_ipv4() && !a.is_loopback())
        .map(ToString::to_string)
        .collect();
    vec![Verdict::error(
        format!("does not have the address {wanted} (it has {})", have.join(", ")),
        "set hosts[].internal_address to an address of the host",
    )]
}

pub(super) fn memory(s: &Subject<'_>) -> Vec<Verdict> {
    let (least, wise) = match s.node.is(Role::ControlPlane) {
        true => (1000 * MIB, 1700 * MIB),
        false => (400 * MIB, 900 * MIB),
    };
    let text = format!("has {} MiB of memory", s.facts.memory / MIB);
    match s.facts.memory {
        have if have < least => vec![Verdict::error(text, format!("{} MiB at least", least / MIB))],
        have if have < wise => {
            vec![Verdict::warning(text, format!("{} MiB and more are advised", wise / MIB))]
        }
        _ => vec![],
    }
}

/// kubeadm asks for two on control planes (`preflight/checks.go`).
pub(super) fn processors(s: &Subject<'_>) -> Vec<Verdict> {
    match s.facts.cpus {
        1 if s.node.is(Role::ControlPlane) => {
            vec![Verdict::warning("has one processor", "2 and more are advised for a control plane")]
        }
        _ => vec![],
    }
}
