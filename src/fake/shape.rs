//! A world without what is random in it, so that two worlds can be compared.

use std::collections::BTreeMap;

use super::{etcd::Data, files::Entry, machine::Machine, state::State};
use crate::layout;

/// Everything that lasts, line by line: files (with keys, certificates and hashes over them as marks), units, processes,
/// images, kernel settings, and what is in etcd.
pub fn shape(state: &State) -> BTreeMap<String, String> {
    let mut shape = BTreeMap::new();
    for machine in state.machines.values() {
        of_machine(machine, &mut shape);
    }
    for (name, node) in &state.kube.nodes {
        let mut taints = node.taints.clone();
        taints.sort();
        shape.insert(
            format!("node {name}"),
            format!("{} {:?} {taints:?} {}", node.ready, node.labels, node.managed),
        );
    }
    for name in state.kube.objects.keys() {
        shape.insert(format!("objects {name}"), String::new());
    }
    for (name, hash) in &state.kube.bundles {
        shape.insert(format!("bundle {name}"), hash.clone());
    }
    for member in &state.etcd.members {
        let kind = if member.learner { "learner" } else { "voter" };
        shape.insert(format!("member {} {}", member.name, member.peer_url), kind.into());
    }
    shape.insert(
        "etcd".into(),
        format!("founded {} times, quorum {}", state.etcd.founded, state.has_quorum()),
    );
    shape
}

fn of_machine(machine: &Machine, shape: &mut BTreeMap<String, String>) {
    let name = &machine.name;
    let mut add =
        |kind: &str, what: &str, value: String| drop(shape.insert(format!("{name} {kind} {what}"), value));
    // How often data was set aside depends on when a run was killed.
    let passing = |path: &str| path.starts_with("/run") || path.starts_with(layout::ASIDE_DIR);
    for (path, entry) in machine.files.all().filter(|(path, _)| !passing(path)) {
        match entry {
            Entry::File { mode, .. } if path == Data::PATH => add("file", path, format!("{mode:o}")),
            Entry::File { mode, data, .. } => {
                add("file", path, format!("{mode:o} {}", without_randomness(&String::from_utf8_lossy(data))));
            }
            Entry::Link { to } => add("link", path, to.clone()),
            Entry::Folder { mode } => add("folder", path, format!("{mode:o}")),
        }
    }
    for (unit, state) in &machine.units {
        add("unit", unit, format!("enabled {} active {}", state.enabled, state.process.is_some()));
    }
    for (process, found) in machine.processes() {
        // Read at a member's very first start only, so a later start with others makes no difference.
        let lasting = found.argv.iter().filter(|arg| !arg.starts_with("--initial-cluster"));
        add("process", process, lasting.cloned().collect::<Vec<_>>().join(" "));
    }
    for image in &machine.images {
        add("image", image, String::new());
    }
    for setting in &machine.kernel {
        add("kernel", setting, String::new());
    }
}

/// Keys, certificates and their base64 forms become their kind; hashes over them a mark.
fn without_randomness(text: &str) -> String {
    let mut lines = Vec::new();
    let mut in_pem = false;
    for line in text.lines() {
        if line.starts_with("-----BEGIN") {
            in_pem = true;
            lines.push(line.to_owned());
        } else if line.starts_with("-----END") {
            in_pem = false;
        } else if !in_pem {
            lines.push(without_hash(line));
        }
    }
    lines.join("\n")
}

fn without_hash(line: &str) -> String {
    let start = line.split_once("-data: ").or_else(|| line.split_once("secret: ")).map(|(start, _)| start);
    if let Some(start) = start {
        return format!("{start}: …");
    }
    line.split_inclusive([' ', '=', '-', '\'', '"'])
        .map(|word| {
            let bare = word.trim_end_matches([' ', '=', '-', '\'', '"']);
            // Without its leading zeros a number of 64 bits has fewer than 16 digits now and then.
            match (12..=16).contains(&bare.len()) && bare.bytes().all(|b| b.is_ascii_hexdigit()) {
                true => word.replace(bare, "#"),
                false => word.to_owned(),
            }
        })
        .collect()
}
