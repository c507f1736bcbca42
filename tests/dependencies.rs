//! What `.deny.toml` says of licences, bans and sources holds for every crate that is compiled, asked of cargo alone: cargo-deny
//! takes long to install, and is not there where this runs. What it knows besides, advisories, changes without us and is looked up
//! by hand.

#![expect(
    clippy::unwrap_used,
    reason = "a test may stop at what should not be; clippy does not know its helpers"
)]

use std::{
    collections::BTreeSet, fs, iter::Peekable, path::Path, process::Command, str::SplitAsciiWhitespace,
};

use serde_json::Value;

/// A file of this repository.
fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The lines of a section of `.deny.toml`, without comments.
fn section(name: &str) -> String {
    let text = file(".deny.toml");
    let head = format!("[{name}]");
    let lines =
        text.lines().skip_while(|line| *line != head).skip(1).take_while(|line| !line.starts_with('['));
    lines.filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n")
}

/// The lines of a list in it, one entry each.
fn list<'s>(section: &'s str, key: &str) -> Vec<&'s str> {
    let (_, rest) = section.split_once(&format!("{key} = [\n")).unwrap();
    rest.split_once("\n]").unwrap().0.lines().collect()
}

/// What stands between the first pair of quotes.
fn quoted(line: &str) -> &str {
    line.split('"').nth(1).unwrap()
}

/// Licences that a crate may have.
fn allowed(section: &str) -> BTreeSet<&str> {
    list(section, "allow").into_iter().map(quoted).collect()
}

/// Crates that nothing may bring.
fn banned(section: &str) -> BTreeSet<&str> {
    list(section, "deny").into_iter().map(|line| quoted(line.split_once("crate = ").unwrap().1)).collect()
}

/// All packages that this machine compiles for any feature or test: what is for other systems alone was never downloaded, and this
/// may ask nobody.
fn packages() -> Vec<Value> {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let asked = Command::new(cargo)
        .args(["metadata", "--locked", "--offline", "--all-features", "--format-version=1"])
        .args(["--filter-platform", &host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let told: Value = serde_json::from_slice(&asked.stdout).unwrap();
    told["packages"].as_array().unwrap().clone()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

#[test]
fn licences_are_among_those_allowed() {
    let section = section("licenses");
    let allowed = allowed(&section);
    assert!(allowed.contains("MIT") && allowed.contains("Zlib"), "{allowed:?}");
    let packages = packages();
    assert!(packages.len() > 200, "{} packages", packages.len());
    let wrong = packages.iter().filter_map(|package| match package["license"].as_str() {
        Some(licence) if is_allowed(licence, &allowed) => None,
        licence => Some(format!("{}: {}", name(package), licence.unwrap_or("it tells none"))),
    });
    assert_eq!(wrong.collect::<Vec<_>>(), Vec::<String>::new());
}

/// Of all systems, whatever this one is: the lock file names them all.
#[test]
fn no_crate_is_banned_and_all_come_from_one_registry() {
    let section = section("bans");
    let banned = banned(&section);
    assert!(banned.contains("openssl-sys") && banned.contains("aws-lc-sys"), "{banned:?}");
    let lock = file("Cargo.lock");
    let value = |package: &'_ str, key: &str| -> Option<String> {
        package.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).map(|v| quoted(v).to_owned())
    };
    let (mut wrong, mut seen, mut registry) = (Vec::new(), 0, None);
    for package in lock.split("[[package]]\n").skip(1) {
        let (name, source) = (value(package, "name").unwrap(), value(package, "source"));
        seen += 1;
        if banned.contains(name.as_str()) {
            wrong.push(format!("{name} is banned"));
        }
        // Only we ourselves are a folder here.
        if name == env!("CARGO_PKG_NAME") {
            continue;
        }
        let source = source.unwrap_or_else(|| "a folder".to_owned());
        if !source.starts_with("registry+") || *registry.get_or_insert_with(|| source.clone()) != source {
            wrong.push(format!("{name} comes from {source}"));
        }
    }
    assert!(seen > 200, "{seen} packages");
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn no_dependency_is_wanted_in_any_version() {
    assert!(section("bans").contains("wildcards = \"deny\""));
    let packages = packages();
    let own = packages.iter().find(|package| name(package) == env!("CARGO_PKG_NAME")).unwrap();
    let wanted = own["dependencies"].as_array().unwrap();
    let any = wanted.iter().filter(|d| d["req"] == "*").map(name);
    assert!(wanted.len() > 30, "{} dependencies", wanted.len());
    assert_eq!(any.collect::<Vec<_>>(), [""; 0]);
}

/// Whether an expression of SPDX, or one with `/` as it was before, leaves a choice of which all parts are allowed.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let words = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = words.split_ascii_whitespace().peekable();
    either(&mut words, allowed) && words.next().is_none()
}

type Words<'w> = Peekable<SplitAsciiWhitespace<'w>>;

fn either(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    let mut any = both(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        any |= both(words, allowed);
    }
    any
}

fn both(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    let mut all = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        all &= one(words, allowed);
    }
    all
}

/// A licence, with its exception where it has one, or an expression in brackets.
fn one(words: &mut Words<'_>, allowed: &BTreeSet<&str>) -> bool {
    let Some(word) = words.next() else { return false };
    if word == "(" {
        let inner = either(words, allowed);
        return words.next() == Some(")") && inner;
    }
    match words.next_if_eq(&"WITH").and_then(|_| words.next()) {
        Some(exception) => allowed.contains(format!("{word} WITH {exception}").as_str()),
        None => allowed.contains(word),
    }
}

#[test]
fn licences_are_read_as_spdx_means_them() {
    let allowed = BTreeSet::from(["MIT", "ISC", "Apache-2.0"]);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("GPL-2.0 OR MIT", true),
        ("MIT/GPL-2.0", true),
        ("MIT AND GPL-2.0", false),
        ("GPL-2.0 OR MIT AND ISC", true),
        ("MIT OR ISC AND GPL-2.0", true),
        ("(GPL-2.0 OR MIT) AND GPL-3.0", false),
        ("(GPL-2.0 OR MIT) AND (ISC)", true),
        ("Apache-2.0 WITH LLVM-exception", false),
        ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true),
        ("MIT ISC", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression:?}");
    }
}
