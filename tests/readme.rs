//! The README tells the truth: its inventories load, and its tables name every key of the inventory, every command and
//! every exit code, and none that is not there.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use rsadm::inventory;

#[path = "commands/list.rs"]
mod list;

use list::commands;

const README: &str = include_str!("../README.md");

/// The fenced blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let start = format!("```{language}\n");
    README.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// The text below a heading, up to the next of the same level.
fn section(heading: &str) -> &'static str {
    let rest = README.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    rest.split("\n## ").next().unwrap()
}

/// What stands in backticks in the first column of the tables in `text`.
fn first_column(text: &'static str) -> Vec<&'static str> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn inventories_load() {
    let blocks = blocks("yaml");
    assert!(!blocks.is_empty());
    for block in blocks {
        let loaded = inventory::load(block, "README.md", None).unwrap_or_else(|e| panic!("{e}\n{block}"));
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }
}

/// A word that no key resembles, so that the loader answers with all the keys it knows there.
const NO_KEY: &str = "zzqqxxjj";

/// The keys that the loader knows at a place, or none where it takes no mapping or one of the operator's own words.
fn known_keys(text: &str) -> Vec<String> {
    let problems = inventory::load(text, "probe", None).unwrap_err().problems;
    let unknown = problems.iter().find(|p| p.path.ends_with(NO_KEY) && p.message == "unknown key");
    let help = unknown.and_then(|p| p.help.as_deref()).unwrap_or_default();
    // What more there is to say of them stands behind.
    let (keys, _) = help.split_once("; ").unwrap_or((help, ""));
    keys.strip_prefix("one of ")
        .unwrap_or_default()
        .split(", ")
        .filter(|k| !k.is_empty())
        .map(Into::into)
        .collect()
}

/// Every key of the inventory, section by section, as the loader itself has them.
fn schema() -> BTreeMap<String, BTreeSet<String>> {
    let mut schema = BTreeMap::new();
    let mut waiting = vec![(String::new(), format!("{NO_KEY}: 1"))];
    while let Some((path, probe)) = waiting.pop() {
        let keys = known_keys(&probe);
        for key in &keys {
            let inner = probe.replace(&format!("{NO_KEY}: 1"), &format!("{key}: {{{NO_KEY}: 1}}"));
            waiting.push((format!("{path}{key}."), inner));
        }
        if path.is_empty() {
            waiting.push(("hosts[].".into(), format!("hosts: [{{{NO_KEY}: 1}}]")));
        }
        if !keys.is_empty() {
            schema.insert(path, keys.into_iter().collect());
        }
    }
    schema
}

#[test]
fn every_key_of_the_inventory_is_explained_and_no_other() {
    let schema = schema();
    for path in ["", "ssh.", "ssh.bastion.", "hosts[].", "etcd.", "upgrade_strategy.drain."] {
        assert!(schema.contains_key(path), "the loader did not tell its keys at {path:?}: {schema:#?}");
    }
    let told: BTreeSet<&str> = section("The inventory").split('`').skip(1).step_by(2).collect();
    let mut all = BTreeSet::new();
    for (path, keys) in &schema {
        for key in keys {
            let name = format!("{path}{key}");
            all.insert(name.clone());
            // Keys of `ssh` on a host and those of mappings that share a row have shorter names there.
            let section = path.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
            let short = format!("{section}.{key}");
            let on_host = name.replacen("hosts[].", "ssh.", 1);
            let is_told = [&name, &short, &on_host, &on_host.replacen("ssh.bastion.", "bastion.", 1)];
            let same = name.ends_with(".extra_args") && name.starts_with("kube_");
            assert!(
                same || is_told.iter().any(|n| told.contains(n.as_str())),
                "the README does not explain {name}"
            );
        }
    }
    for name in first_column(section("The inventory")) {
        assert!(all.contains(name), "the README explains {name}, which is no key");
    }
}

fn help(args: &[&str]) -> String {
    let run = Command::new(env!("CARGO_BIN_EXE_rsadm")).args(args).arg("--help").output().unwrap();
    String::from_utf8(run.stdout).unwrap()
}

#[test]
fn every_command_is_listed_and_no_other() {
    let mut all = BTreeSet::new();
    let top = help(&[]);
    for command in commands(&top) {
        let own = help(&[command]);
        match commands(&own).as_slice() {
            [] => _ = all.insert(format!("rsadm {command}")),
            inner => inner.iter().for_each(|i| match commands(&help(&[command, i])).as_slice() {
                [] => _ = all.insert(format!("rsadm {command} {i}")),
                innermost => all.extend(innermost.iter().map(|n| format!("rsadm {command} {i} {n}"))),
            }),
        }
    }
    let listed: BTreeSet<String> = first_column(section("Commands"))
        .into_iter()
        .filter(|c| c.starts_with("rsadm "))
        .map(|c| {
            c.split(' ').filter(|w| w.chars().any(|c| c.is_ascii_lowercase())).collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(listed, all);
}

#[test]
fn every_exit_code_is_listed_and_no_other() {
    let codes = |text: &str, strip: &str| -> BTreeSet<u8> {
        text.lines().filter_map(|l| l.strip_prefix(strip)?.split_whitespace().next()?.parse().ok()).collect()
    };
    let top = help(&[]);
    let told = top.split("Exit status:").nth(1).unwrap();
    assert_eq!(codes(section("Commands"), "| "), codes(told, "  "));
}

#[test]
fn files_that_it_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let links = README.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    for link in links.filter(|l| !l.starts_with("http") && !l.starts_with('#')) {
        assert!(root.join(link).exists(), "{link} is not there");
    }
    for anchor in README.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        let headings =
            README.lines().filter(|l| l.starts_with("##")).map(|l| l.trim_start_matches('#').trim());
        let anchor_of =
            |heading: &str| heading.to_lowercase().replace([':', '\'', ','], "").replace(' ', "-");
        assert!(headings.map(anchor_of).any(|h| h == anchor), "#{anchor}");
    }
}
