//! The script itself, in bash, on folders of its own: killed before every command of it, it is run again.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use super::scripts;

mod copies;
mod missed;

/// A host's folders, and the disk that etcd's is a link to, if it is.
struct Place(TempDir, Option<TempDir>);

/// What the script is given instead of programs of a host: nothing is written through, and there are two images of etcd.
const HOST: &str = r#"
sync() { :; }
runs() { return 1; }
pkill() { return 1; }
ctr() {
  case "$*" in
  *'images ls'*) printf '%s\n' registry.k8s.io/etcd:3.6.6-0 registry.k8s.io/etcd:3.7.0-0 registry.k8s.io/pause:3.10 ;;
  *'images mount'*)
    mkdir -p "$6/usr/local/bin"
    for p in etcd etcdctl etcdutl; do echo "$5" > "$6/usr/local/bin/$p"; chmod 755 "$6/usr/local/bin/$p"; done ;;
  *unmount*) rm -rf "${@: -1}"/usr ;;
  esac
}
"#;

const ETCDUTL: &str = r#"#!/bin/bash
while [ "$1" != --data-dir ]; do shift; done
mkdir -p "$2/member/snap" && echo new > "$2/member/snap/db"
"#;

impl Place {
    fn new(data: Option<&str>) -> Self {
        Self::on(None, data)
    }

    /// etcd's folder is a link to another disk.
    fn linked(data: Option<&str>) -> Self {
        Self::on(Some(tempfile::tempdir_in("/dev/shm").unwrap()), data)
    }

    fn on(disk: Option<TempDir>, data: Option<&str>) -> Self {
        let place = Self(tempfile::tempdir().unwrap(), disk);
        place.1.iter().for_each(|disk| symlink(disk.path(), place.path("etcd")).unwrap());
        place.put("etcd/keep", "");
        place.put(
            "kubernetes/manifests/etcd.yaml",
            "  - image: registry.k8s.io/etcd:3.6.6-0\n    name: etcd\n",
        );
        if let Some(data) = data {
            place.put("etcd/member/snap/db", data);
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn text(&self, name: &str) -> Option<String> {
        Some(fs::read_to_string(self.path(name)).ok()?.trim_end().to_owned())
    }

    /// A restore under way, with its snapshot delivered.
    fn begun(&self) {
        self.put("rsadm/restore/token", "test-1\n");
        self.put("rsadm/restore/snapshot.db", "snapshot");
        // Written by another process: what this one has open for writing, children of other tests may have too, for a moment in
        // which nobody can start it.
        self.put("rsadm/restore/tools/text", ETCDUTL);
        let [text, program] =
            ["text", "etcdutl"].map(|name| self.path(&format!("rsadm/restore/tools/{name}")));
        let made = Command::new("install").args(["-m", "755"]).args([&text, &program]).status().unwrap();
        assert!(made.success());
        fs::remove_file(text).unwrap();
    }

    /// Runs a verb; the shell dies before the command of that number.
    fn run(&self, verb: &[&str], kill: usize) -> Output {
        self.run_where("", verb, kill)
    }

    /// The same on a host with functions in place of more of its programs.
    fn run_where(&self, more: &str, verb: &[&str], kill: usize) -> Output {
        let (functions, verbs) = scripts::RESTORE.text.split_once("\n# Once it is over").unwrap();
        let dies = format!("set -T; n=0; trap 'n=$((n + 1)); [ $n != {kill} ] || kill -9 $$ $BASHPID' DEBUG");
        let root = self.0.path().display();
        let text = format!("{functions}\n{HOST}\n{more}\n{dies}\n#{verbs}")
            .replace("/var/lib/", &format!("{root}/"))
            .replace("/etc/kubernetes", &format!("{root}/kubernetes"));
        Command::new("bash").args(["-c", &text, "restore"]).args(verb).output().unwrap()
    }

    fn succeed(&self, verb: &[&str]) -> String {
        let output = self.run(verb, 0);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{verb:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// How many bytes the restore has.
    fn size(&self) -> u64 {
        let files = fs::read_dir(self.path("rsadm/restore")).unwrap().flatten();
        files.map(|file| file.metadata().unwrap()).filter(fs::Metadata::is_file).map(|m| m.len()).sum()
    }

    /// Databases that lie aside, but for folders that a killed run made and left.
    fn set_aside(&self) -> Vec<PathBuf> {
        let places = ["rsadm/aside", "etcd/aside"].map(|place| fs::read_dir(self.path(place)));
        let folders = places.into_iter().flatten().flatten().flatten();
        folders.map(|f| f.path().join("member/snap/db")).filter(|db| db.exists()).collect()
    }

    fn aside(&self) -> Vec<String> {
        let text = |db: PathBuf| fs::read_to_string(db).unwrap().trim_end().to_owned();
        let mut all: Vec<String> = self.set_aside().into_iter().map(text).collect();
        all.sort();
        all
    }

    /// Which file it is: another one once it was copied.
    fn file(&self, name: &str) -> (u64, u64) {
        let file = fs::metadata(self.path(name)).unwrap();
        (file.dev(), file.ino())
    }
}

const PLACE: [&str; 6] = ["place", "e1", "https://10.0.0.1:2380", "e1=https://10.0.0.1:2380", "test-1", "1"];

/// Kills a verb before each of its commands, and has it run again.
fn killed_everywhere(verb: &[&str], start: impl Fn() -> Place, ends_well: impl Fn(&Place, usize)) {
    for kill in 1.. {
        let place = start();
        let whole = place.run(verb, kill).status.success();
        place.succeed(verb);
        ends_well(&place, kill);
        if whole {
            assert!(kill > 10, "{verb:?} was killed {kill} times only");
            return;
        }
    }
}

#[test]
fn data_takes_the_place_of_other_data_or_of_none_wherever_it_was_killed() {
    for old in [Some("old"), None] {
        let start = || {
            let place = Place::new(old);
            place.begun();
            place
        };
        killed_everywhere(&PLACE, start, |place, kill| {
            assert_eq!(place.text("etcd/member/snap/db").as_deref(), Some("new"), "{old:?}, {kill}");
            assert_eq!(place.aside(), Vec::from_iter(old), "{old:?}, {kill}");
        });
    }
}

/// Data that is copied is there in part, should that break off, and a rerun takes the part for the whole.
#[test]
fn data_behind_a_link_to_another_disk_is_moved_and_never_copied() {
    const DB: &str = "etcd/member/snap/db";
    let old = std::cell::Cell::new((0, 0));
    let start = || {
        let place = Place::linked(Some("old"));
        place.begun();
        old.set(place.file(DB));
        place
    };
    killed_everywhere(&PLACE, start, |place, kill| {
        assert_eq!(place.text(DB).as_deref(), Some("new"), "{kill}");
        let aside: Vec<_> = place.set_aside().iter().map(|db| place.file(db.to_str().unwrap())).collect();
        assert_eq!(aside, [old.get()], "{kill}");
        assert!(!place.path("etcd/rsadm-new").exists(), "{kill}");
    });
    let placed = || {
        let place = start();
        place.succeed(&PLACE);
        place
    };
    killed_everywhere(&["roll-back"], placed, |place, kill| {
        assert_eq!(place.file(DB), old.get(), "{kill}");
        assert_eq!(place.aside(), ["new"], "{kill}");
    });
}

/// A recovery looks for room before it stops anything.
#[test]
fn data_tells_its_size_and_none_takes_nothing() {
    let place = Place::new(Some("database"));
    place.put("etcd/member/wal/0.wal", &"w".repeat(5000));
    let said = place.succeed(&["sizes"]);
    let sizes: Vec<u64> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(sizes[0], 8);
    assert!(sizes[1] >= 5008, "{said}");
    assert_eq!(Place::new(None).succeed(&["sizes"]).trim(), "0");
}

/// Whatever was there of a delivery that broke off, the next one is whole; and never is there more than one copy and a piece.
#[test]
fn a_snapshot_is_put_together_within_the_room_of_one() {
    let pieces = ["1111", "2222", "3333", "44"];
    let sha256 = crate::hash::sha256(pieces.concat().as_bytes());
    let deliver = |place: &Place| {
        assert!(place.succeed(&["room", &sha256]).starts_with("nothing\nFilesystem "));
        assert_eq!(place.size(), 0, "something is left of the delivery before");
        for (i, piece) in pieces.iter().enumerate() {
            place.put(&format!("rsadm/restore/piece.{i:06}"), piece);
        }
    };
    for kill in 1.. {
        let place = Place::new(None);
        place.put("rsadm/restore/new", "");
        deliver(&place);
        let whole = place.run(&["receive", &sha256], kill).status.success();
        assert!(place.size() <= 14 + 4, "killed before {kill}: {} bytes", place.size());
        if place.text("rsadm/restore/snapshot.db").is_none() {
            deliver(&place);
            place.succeed(&["receive", &sha256]);
        }
        assert_eq!(place.text("rsadm/restore/snapshot.db"), Some(pieces.concat()), "{kill}");
        assert!(place.succeed(&["room", &sha256]).starts_with("delivered\n"));
        if whole {
            assert!(kill > 10, "killed {kill} times only");
            return;
        }
    }
}

/// Row 23: bytes that were turned on the way are in no place from which etcd would read them, and the next delivery begins anew.
#[test]
fn row_23_a_snapshot_that_arrives_with_other_bytes_is_not_put_in_place() {
    let pieces = ["1111", "2222", "3333"];
    let sha256 = crate::hash::sha256(pieces.concat().as_bytes());
    let deliver = |place: &Place, pieces: &[&str]| {
        for (i, piece) in pieces.iter().enumerate() {
            place.put(&format!("rsadm/restore/piece.{i:06}"), piece);
        }
    };
    for arrived in [["1111", "2322", "3333"], ["1111", "222", "3333"], ["2222", "1111", "3333"]] {
        for had in [None, Some("of another restore")] {
            let place = Place::new(Some("old"));
            place.begun();
            fs::remove_file(place.path("rsadm/restore/snapshot.db")).unwrap();
            had.iter().for_each(|text| place.put("rsadm/restore/snapshot.db", text));
            deliver(&place, &arrived);
            let refused = place.run(&["receive", &sha256], 0);
            let said = String::from_utf8_lossy(&refused.stderr);
            assert!(!refused.status.success(), "{arrived:?}: taken");
            assert!(said.contains("the snapshot arrived with another checksum"), "{arrived:?}: {said}");
            assert!(!place.path("rsadm/restore/snapshot.db").exists(), "{arrived:?}: it is in place");
            let room = place.succeed(&["room", &sha256]);
            assert!(room.starts_with("nothing\n"), "{arrived:?}: {room}");
            assert_eq!(place.succeed(&["has", &sha256]).trim(), "no", "{arrived:?}");
            assert_eq!(place.text("etcd/member/snap/db").as_deref(), Some("old"), "{arrived:?}");
            deliver(&place, &pieces);
            place.succeed(&["receive", &sha256]);
            assert_eq!(place.text("rsadm/restore/snapshot.db"), Some(pieces.concat()), "{arrived:?}");
        }
    }
}

#[test]
fn old_data_comes_back_wherever_it_was_killed() {
    for old in [Some("old"), None] {
        let start = || {
            let place = Place::new(old);
            place.begun();
            place.succeed(&PLACE);
            place
        };
        killed_everywhere(&["roll-back"], start, |place, kill| {
            assert_eq!(place.text("etcd/member/snap/db").as_deref(), old, "{old:?}, {kill}");
            assert_eq!(place.aside(), ["new"], "{old:?}, {kill}");
        });
    }
}

#[test]
fn what_is_over_is_only_tidied_up() {
    let place = Place::new(Some("old"));
    place.begun();
    place.succeed(&PLACE);
    place.put("rsadm/restore/manifests/kube-apiserver.yaml", "");
    place.succeed(&["over", "test-2"]);
    assert_eq!(place.succeed(&["under-way"]), "token test-1\nplaced\n");
    place.succeed(&["over", "test-1"]);
    place.succeed(&["over", "test-1"]);
    assert_eq!(place.succeed(&["under-way"]), "token test-1\nplaced\nover\nended test-1\n");
    for verb in [&["begin", "test-1"][..], &["fence", "etcd"], &PLACE, &["roll-back"]] {
        let refused = place.run(verb, 0);
        assert!(String::from_utf8_lossy(&refused.stderr).contains("only tidied up"), "{verb:?}");
    }
    assert_eq!(place.succeed(&["settle"]), "here\n");
    killed_everywhere_to_its_end(&place);
    assert_eq!(place.succeed(&["under-way"]), "ended test-1\n");
    assert_eq!(place.text("etcd/member/snap/db").as_deref(), Some("new"));
}

/// At no moment is a part of it left that looks like a restore under way.
fn killed_everywhere_to_its_end(place: &Place) {
    for kill in 1.. {
        let whole = place.run(&["end"], kill).status.success();
        let said = place.succeed(&["under-way"]);
        assert!(
            ["token test-1\nplaced\nover\nended test-1\n", "ended test-1\n"].contains(&said.as_str()),
            "{said}"
        );
        if whole {
            return;
        }
    }
}

#[test]
fn old_data_that_missed_the_end_is_not_started() {
    for (put, starts) in [(Some("restore/placed"), true), (None, false)] {
        let place = Place::new(Some("old"));
        place.begun();
        for name in ["etcd", "kube-apiserver"] {
            place.put(&format!("rsadm/restore/manifests/{name}.yaml"), "");
        }
        fs::remove_file(place.path("kubernetes/manifests/etcd.yaml")).unwrap();
        put.iter().for_each(|name| place.put(&format!("rsadm/{name}"), ""));
        assert_eq!(place.succeed(&["settle"]), if starts { "here\n" } else { "" });
        assert_eq!(place.path("kubernetes/manifests/etcd.yaml").exists(), starts);
    }
    // A control plane without a member has nothing that could be old.
    let place = Place::new(None);
    place.begun();
    fs::remove_file(place.path("kubernetes/manifests/etcd.yaml")).unwrap();
    place.put("rsadm/restore/manifests/kube-apiserver.yaml", "");
    assert_eq!(place.succeed(&["settle"]), "here\n");
}

#[test]
fn tools_are_those_of_the_member_that_runs_here() {
    for (manifest, image) in
        [("kubernetes/manifests", "3.6.6-0"), ("rsadm/restore/manifests", "3.6.6-0"), ("", "3.7.0-0")]
    {
        let place = Place::new(Some("old"));
        place.begun();
        fs::remove_dir_all(place.path("rsadm/restore/tools")).unwrap();
        let named = fs::read_to_string(place.path("kubernetes/manifests/etcd.yaml")).unwrap();
        fs::remove_file(place.path("kubernetes/manifests/etcd.yaml")).unwrap();
        if !manifest.is_empty() {
            place.put(&format!("{manifest}/etcd.yaml"), &named);
        }
        // It is no program, so placing fails, with its tools in place.
        place.run(&PLACE, 0);
        let tool = place.text("rsadm/restore/tools/etcdutl");
        assert_eq!(tool, Some(format!("registry.k8s.io/etcd:{image}")), "{manifest}");
        assert!(!has_images(&place.path("rsadm/restore")), "an image is left open");
    }
}

fn has_images(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().flatten().any(|e| e.file_name().to_string_lossy().starts_with("image."))
}
