//! What single values look like: durations, sizes, names, addresses, labels, taints, URLs.
//!
//! Each parser takes text and answers with the value or a [`Fault`]; none knows where the text stands.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipnet::Ipv4Net;

use super::{
    cluster::{NodeName, Taint},
    problem::{Fault, quote},
};

/// What durations look like.
pub(super) const DURATIONS: &str = "a number with its unit, at most a year: 100ms, 30s, 5m, 8h, 7d";

/// What sizes look like.
pub(super) const SIZES: &str = "a whole number with its unit: 8GiB, 512MiB";

/// `100ms`, `30s`, `5m`, `8h`, `7d`, or several in a row such as `1h30m`; `0` needs no unit. At most a year.
pub(super) fn duration(text: &str) -> Result<Duration, Fault> {
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
    let fault = || Fault::new(format!("{} is no duration", quote(text)), DURATIONS);
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    loop {
        let (number, after) = split_number(rest).ok_or_else(fault)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let millis = match &after[..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(fault()),
        };
        let part = number.checked_mul(millis).map(Duration::from_millis).ok_or_else(fault)?;
        total = total.checked_add(part).filter(|t| *t <= LONGEST).ok_or_else(fault)?;
        rest = &after[unit_end..];
        if rest.is_empty() {
            return Ok(total);
        }
    }
}

/// `8GiB`, `512MiB`, `2GB`: bytes.
pub(super) fn size(text: &str) -> Result<u64, Fault> {
    let fault = || no_size(text);
    let (number, unit) = split_number(text).ok_or_else(fault)?;
    let factor = match unit.trim_start() {
        "B" => 1,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(fault()),
    };
    number.checked_mul(factor).ok_or_else(fault)
}

/// Why text is no size.
pub(super) fn no_size(text: &str) -> Fault {
    Fault::new(format!("{} is no size", quote(text)), SIZES)
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// A DNS label (RFC 1123), as Kubernetes wants of node names that are their own host name.
pub(super) fn node_name(text: &str) -> Result<NodeName, Fault> {
    let help = "lower-case letters, digits and -, at most 63, letters or digits at both ends";
    if !is_dns_label(text) {
        return Err(Fault::new(format!("{} is no host name", quote(text)), help));
    }
    if text == "localhost" {
        return Err(Fault::new("localhost is every host's name for itself", "a name of its own"));
    }
    Ok(NodeName(text.to_owned()))
}

/// A cluster's name: it is part of file names and of kubeconfig contexts.
pub(super) fn cluster_name(text: &str) -> Result<String, Fault> {
    let help =
        "lower-case letters, digits and -, at most 63, letters or digits at both ends, for example prod-1";
    if is_dns_label(text) {
        Ok(text.to_owned())
    } else {
        Err(Fault::new(format!("{} is no cluster name", quote(text)), help))
    }
}

/// One or more DNS labels, as Kubernetes has it (RFC 1123 subdomain).
pub(super) fn dns_name(text: &str) -> Result<String, Fault> {
    if is_dns_name(text) {
        return Ok(text.to_owned());
    }
    let help = "lower-case letters, digits, - and dots, for example cluster.local";
    Err(Fault::new(format!("{} is no DNS name", quote(text)), help))
}

/// An address or a DNS name that can be dialled; names become lower-case.
pub(super) fn host(text: &str) -> Result<String, Fault> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let usable = !address.is_unspecified() && !address.is_multicast() && !is_broadcast(address);
        let fault = || Fault::new(format!("{address} cannot be dialled"), "the address of one host");
        return usable.then(|| address.to_string()).ok_or_else(fault);
    }
    let lower = text.to_ascii_lowercase();
    // 10.0.0.256 and 10.0.0 are no addresses, and no top-level domain is a number either.
    let looks_numeric = lower.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if is_dns_name(&lower) && !looks_numeric {
        return Ok(lower);
    }
    Err(Fault::new(
        format!("{} is neither an address nor a DNS name", quote(text)),
        "for example 10.0.0.1 or node1.example.org",
    ))
}

/// As [`host`], for a key that has others beside it for a user and a port.
pub(super) fn dialled(text: &str) -> Result<String, Fault> {
    host(text).map_err(|fault| match alone(text) {
        Some(help) => Fault { help, ..fault },
        None => fault,
    })
}

/// What ssh dials: as [`dialled`], or an alias of the operator's `~/.ssh/config`. Those keep their case, by which ssh's `Host` tells
/// them apart, and may have `_`.
pub(super) fn ssh_host(text: &str) -> Result<String, Fault> {
    // As ssh's own URLs and `-J` have an IPv6 address.
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let text = bare.filter(|bare| bare.parse::<Ipv6Addr>().is_ok()).unwrap_or(text);
    let is_name = text.parse::<IpAddr>().is_err() && host(&text.replace('_', "a")).is_ok();
    if is_name { Ok(text.to_owned()) } else { dialled(text) }
}

/// What to write for `https://NAME:6443` or `ops@NAME:22`.
fn alone(text: &str) -> Option<String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest).trim_end_matches('/');
    let (login, rest) = rest.split_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
    let (name, number) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, "")) => (v6, None),
        Some((v6, port)) => (v6, Some(port.strip_prefix(':')?)),
        None => rest.split_once(':').map_or((rest, None), |(name, number)| (name, Some(number))),
    };
    if host(name).is_err() || login.is_some_and(|l| user(l).is_err()) || number.is_some_and(|n| !is_port(n)) {
        return None;
    }
    let beside = [("user", login), ("port", number)];
    let beside = beside.iter().filter_map(|(key, value)| Some(format!("`{key}: {}`", (*value)?)));
    let beside: Vec<String> = beside.collect();
    Some(match beside.is_empty() {
        true => format!("{name} alone"),
        false => format!("{name} alone, and beside it {}", beside.join(" and ")),
    })
}

/// A name for a certificate: as [`host`], or a wildcard name.
pub(super) fn alternative_name(text: &str) -> Result<String, Fault> {
    match text.strip_prefix("*.") {
        Some(rest) if rest.parse::<IpAddr>().is_err() => Ok(format!("*.{}", host(rest)?)),
        _ => host(text),
    }
}

/// An IPv4 address that other hosts can dial.
pub(super) fn internal_address(text: &str) -> Result<Ipv4Addr, Fault> {
    let help = "the IPv4 address by which the other hosts reach this one, for example 10.0.0.1";
    let Ok(address) = text.parse::<Ipv4Addr>() else {
        return Err(Fault::new(format!("{} is no IPv4 address", quote(text)), help));
    };
    match unusable(address) {
        Some(why) => Err(Fault::new(format!("{address} {why}"), help)),
        None => Ok(address),
    }
}

/// Why other hosts cannot dial an address.
pub(super) fn unusable(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_loopback() {
        return Some("is the loopback address, which is another host on each host");
    }
    if address.is_link_local() {
        return Some("is a link-local address, which changes");
    }
    let is_host = !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast();
    (!is_host).then_some("is not the address of a host")
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}

/// A subnet whose address is its first.
pub(super) fn subnet(text: &str) -> Result<Ipv4Net, Fault> {
    let Ok(net) = text.parse::<Ipv4Net>() else {
        let help = "an IPv4 network with its prefix length, for example 10.244.0.0/16";
        return Err(Fault::new(format!("{} is no subnet", quote(text)), help));
    };
    if net.addr() != net.network() {
        return Err(Fault::new(
            format!("{net} is an address inside a subnet"),
            format!("did you mean {}?", net.trunc()),
        ));
    }
    Ok(net)
}

/// A login name; in particular nothing that ssh could take for an option.
pub(super) fn user(text: &str) -> Result<String, Fault> {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_next = |c: char| c.is_ascii_alphanumeric() || "_.-$@\\".contains(c);
    if text.starts_with(is_first) && text.chars().all(is_next) && text.len() <= 256 {
        return Ok(text.to_owned());
    }
    Err(Fault::new(format!("{} is no user name", quote(text)), "a login name, for example ops"))
}

/// The key of a label or taint: `[prefix/]name` (Kubernetes, `IsQualifiedName`).
pub(super) fn qualified_name(text: &str) -> Result<(), Fault> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(p, n)| (Some(p), n));
    if !name.is_empty() && is_label_text(name) && prefix.is_none_or(is_dns_name) {
        return Ok(());
    }
    let help = "letters, digits, - _ and dots, at most 63, after an optional DNS name and /, for example example.org/zone";
    Err(Fault::new(format!("{} is no key of a label or taint", quote(text)), help))
}

/// The value of a label or taint: empty, or at most 63 characters (Kubernetes, `IsValidLabelValue`).
pub(super) fn label_value(text: &str) -> Result<(), Fault> {
    if is_label_text(text) {
        return Ok(());
    }
    let help = "letters, digits, - _ and dots, at most 63, letters or digits at both ends, or nothing";
    Err(Fault::new(format!("{} is no value of a label or taint", quote(text)), help))
}

/// `key[=value]:Effect`.
pub(super) fn taint(text: &str) -> Result<Taint, Fault> {
    const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let Some((rest, effect)) = text.rsplit_once(':') else {
        return Err(Fault::new(
            format!("{} is no taint", quote(text)),
            "key=value:Effect, for example gpu=true:NoSchedule",
        ));
    };
    if !EFFECTS.contains(&effect) {
        let help = format!("one of {}", EFFECTS.join(", "));
        return Err(Fault::new(format!("unknown effect {}", quote(effect)), help));
    }
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    qualified_name(key)?;
    label_value(value)?;
    Ok(Taint { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
}

/// An `http` or `https` URL without its closing slash.
pub(super) fn url(text: &str) -> Result<String, Fault> {
    let fault = |why: &str| {
        Fault::new(format!("{} {why}", quote(text)), "for example https://mirror.example.org/k8s")
    };
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let rest = rest.ok_or_else(|| fault("is no http or https URL"))?;
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        // They would be seen in process lists and logs of every host.
        return Err(Fault::new("a URL with a user or password", "a mirror that needs none"));
    }
    if rest.contains(|c: char| c.is_whitespace() || c.is_control() || "?#\"'\\`$".contains(c)) {
        return Err(fault("has characters that a base URL cannot have"));
    }
    if !is_authority(authority) {
        return Err(fault("names no host"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// `host` or `host:port`.
pub(super) fn is_authority(text: &str) -> bool {
    if let Some((v6, port)) = text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        return v6.parse::<Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    match text.split_once(':') {
        Some((name, port)) => host(name).is_ok() && is_port(port),
        None => host(text).is_ok(),
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|p| p > 0)
}

fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

fn is_dns_label(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_label_text(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_end = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || (text.len() <= 63
            && text.chars().all(is_inner)
            && text.starts_with(is_end)
            && text.ends_with(is_end))
}

#[cfg(test)]
mod tests;
