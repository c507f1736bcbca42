//! What scripts call of a host's tools, whose versions are the host's own.

use std::{fs, path::Path};

use super::{Place, said};
use crate::exec::scripts::INSTALL;

/// What came after bash 4.4, coreutils 8.30 and systemd 244, and what does the same on all.
const TOO_NEW: [(&str, &str); 6] = [
    ("EPOCHSECONDS", "bash 5.0: $(date +%s)"),
    ("wait -p", "bash 5.1"),
    ("SRANDOM", "bash 5.1"),
    ("systemctl show -P", "systemd 246: systemctl show --value -p"),
    ("--no-copy", "coreutils 9.5"),
    ("--exchange", "coreutils 9.5"),
];

fn scripts_in(folder: &Path, all: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap().flatten().map(|e| e.path()) {
        match entry.extension() {
            None if entry.is_dir() => scripts_in(&entry, all),
            Some(kind) if kind == "sh" => {
                all.push((entry.display().to_string(), fs::read_to_string(&entry).unwrap()));
            }
            _ => {}
        }
    }
}

#[test]
fn scripts_call_nothing_that_is_newer_than_hosts_may_be() {
    let mut all = Vec::new();
    scripts_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    assert!(all.len() > 30, "{} scripts", all.len());
    for (name, text) in all {
        for (word, instead) in TOO_NEW {
            assert!(!text.contains(word), "{name} has {word}, which is of {instead}");
        }
        // Of bash 5.0, and empty before.
        assert!(!text.contains("EPOCHREALTIME") || text.contains("${v:-$(date"), "{name}");
    }
}

/// SELinux's labels go along with what is moved.
#[test]
fn a_program_gets_the_label_of_its_place() {
    let place = Place::new();
    place.put("mirror/loopback", "#!/bin/sh\n");
    let sum = crate::plan::sha256(b"#!/bin/sh\n");
    place.put("mirror/loopback.sha256", &format!("{sum}  loopback\n"));
    let (mirror, log, target) = (place.path("mirror"), place.path("labelled"), place.path("bin/loopback"));
    let host = format!(
        "curl() {{ cp \"{}/${{@: -1}}\" \"${{@: -2:1}}\"; }}\nrestorecon() {{ ls \"$2\" >> {}; }}",
        mirror.display(),
        log.display()
    );
    let target = target.display().to_string();
    let args = ["install", "cni", "loopback", "loopback.sha256", target.as_str()];
    let output = place.run(&format!("{host}\n{}", INSTALL.text), &args);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(place.text("labelled"), format!("{target}\n"));
}
