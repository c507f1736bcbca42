//! The script that empties a host, in bash, a function of it at a time and on folders of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use super::WIPE;

/// A host's folders.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.put("mountinfo", "");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// Says that something is mounted there.
    fn mount(&self, name: &str) {
        fs::create_dir_all(self.path(name)).unwrap();
        let line = format!("40 28 0:30 / {} rw - nfs nas:/b rw\n", self.path(name).display());
        self.put("mountinfo", &(fs::read_to_string(self.path("mountinfo")).unwrap() + &line));
    }

    /// Runs `commands` after the script's functions, of which none names a place outside.
    fn wipe(&self, commands: &str) -> Output {
        let (functions, _) = WIPE.text.rsplit_once("\nmain\n").unwrap();
        let root = self.0.path().display();
        let text = format!("{functions}\n{commands}\n")
            .replace("/var/lib/", &format!("{root}/lib/"))
            .replace("/proc/self/mountinfo", &format!("{root}/mountinfo"));
        Command::new("bash").args(["-c", &text, "wipe", "test", "no"]).output().unwrap()
    }

    fn is_there(&self, name: &str) -> bool {
        Path::new(&self.path(name)).exists()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn snapshots_stay_and_our_own_notes_go() {
    let place = Place::new();
    place.put("lib/rsadm/before/paths", "/etc\n");
    place.put("lib/rsadm/cluster.json", "{}");
    place.put("lib/rsadm/backups/one.db", "snapshot");
    place.mount("lib/rsadm/backups/nas");
    let output = place.wipe("finish");
    assert!(output.status.success(), "{}", said(&output));
    assert!(place.is_there("lib/rsadm/backups/one.db") && !place.is_there("lib/rsadm/before"));
    assert!(!place.is_there("lib/rsadm/cluster.json"));
}

#[test]
fn what_is_mounted_below_our_state_is_told_and_keeps_everything() {
    for mount in ["lib/rsadm/nas", "lib/rsadm/aside/nas", "lib/rsadm/backups-nas"] {
        let place = Place::new();
        place.put("lib/rsadm/before/paths", "/etc\n");
        place.mount(mount);
        place.put(&format!("{mount}/theirs"), "snapshot");
        let output = place.wipe("finish");
        assert!(!output.status.success(), "{mount}");
        assert!(said(&output).contains(mount), "{}", said(&output));
        assert!(place.is_there(&format!("{mount}/theirs")), "{mount}");
        assert!(place.is_there("lib/rsadm/before"), "the notes are for the next reset, {mount}");
    }
}
