//! wipe.sh where a folder of ours is a link, or a disk was mounted there before.

use std::{fs, os::unix::fs::symlink};

use super::{OTHERS, Place, said};

#[test]
fn what_a_link_leads_to_is_emptied_and_the_link_stays() {
    // Whether the link was there before, whether something is mounted there, and whether all of it goes.
    for (is_noted, is_mounted, goes) in [(true, false, true), (true, true, false), (false, false, false)] {
        let place = Place::new();
        let case = format!("noted {is_noted}, mounted {is_mounted}");
        place.put("data/etcd/theirs", "");
        fs::create_dir_all(place.path("lib")).unwrap();
        symlink(place.path("data/etcd"), place.path("lib/etcd")).unwrap();
        place.remember(OTHERS, "lib/etcd");
        if !is_noted {
            // As an older rsadm did.
            let link = place.path("lib/etcd").display().to_string();
            place.put("lib/rsadm/before/paths", &format!("{link}\n"));
        }
        place.put("data/etcd/member/snap/db", "data");
        if is_mounted {
            place.mount("data/etcd/member/disk");
        }
        let output = place.wipe(&format!(
            "clear_folder {0}/lib/etcd; printf '%s\\n' \"${{left[@]}}\"; finish",
            place.0.path().display()
        ));
        assert!(place.path("lib/etcd").is_symlink() && place.is_there("data/etcd/theirs"), "{case}");
        assert_eq!(place.is_there("data/etcd/member"), !goes, "{case}");
        let told = said(&output);
        assert_eq!(output.status.success(), goes, "{case}: {told}");
        assert_eq!(told.contains("lib/etcd: "), !goes, "{case}: {told}");
    }
}

#[test]
fn in_a_folder_that_was_there_what_came_goes() {
    let place = Place::new();
    place.put("lib/etcd/theirs", "");
    place.remember(OTHERS, "lib/etcd");
    place.put("lib/etcd/member/snap/db", "data");
    place.put("lib/kubelet/pods/a", "data");
    let root = place.0.path().display().to_string();
    let output =
        place.wipe(&format!("clear_folder {root}/lib/etcd; clear_folder {root}/lib/kubelet; finish"));
    assert!(output.status.success(), "{}", said(&output));
    assert!(place.is_there("lib/etcd/theirs") && !place.is_there("lib/etcd/member"));
    assert!(!place.is_there("lib/kubelet"));
}

#[test]
fn a_link_has_only_later_mounts_undone() {
    let place = Place::new();
    fs::create_dir_all(place.path("lib")).unwrap();
    place.mount("data/theirs");
    symlink(place.path("data"), place.path("lib/kubelet")).unwrap();
    place.remember(OTHERS, "lib/kubelet");
    place.mount("data/pods/a/volumes");
    let done = place.unmounted();
    assert!(done.contains("data/pods/a/volumes") && !done.contains("data/theirs"), "{done}");
}

#[test]
fn disks_from_before_stay_where_a_link_leads_to() {
    let place = Place::new();
    fs::create_dir_all(place.path("lib")).unwrap();
    // A name that find would take for a pattern.
    place.mount("data/their [1] disk");
    place.put("data/their [1] disk/old", "");
    symlink(place.path("data"), place.path("lib/kubelet")).unwrap();
    place.remember(OTHERS, "lib/kubelet");
    place.put("data/their [1] disk/new", "");
    place.put("data/pods/a/secret", "");
    place.wiped(&format!("clear_folder {}; finish", place.path("lib/kubelet").display()));
    assert!(!place.is_there("data/pods") && place.path("lib/kubelet").is_symlink());
    for name in ["old", "new"] {
        assert!(place.is_there(&format!("data/their [1] disk/{name}")), "{name}");
    }
}

#[test]
fn a_disk_from_before_in_a_folder_of_ours_stays_mounted_and_loses_what_came() {
    let place = Place::new();
    // What an earlier kubelet left mounted: others may write to it.
    let share = "lib/kubelet/pods/old/volumes/nas";
    for mount in ["lib/kubelet/pods", "lib/kubelet/my disk", share] {
        place.mount(mount);
        place.put(&format!("{mount}/theirs"), "");
    }
    place.remember(OTHERS, "lib/kubelet");
    for file in ["lib/kubelet/pods", "lib/kubelet/my disk", share] {
        place.put(&format!("{file}/new/secret"), "");
    }
    place.put("lib/kubelet/config.yaml", "");
    let noted = place.text("mountinfo");
    place.mount("lib/kubelet/pods/new/volumes/token");
    let token = place.path("lib/kubelet/pods/new/volumes/token").display().to_string();
    // Three times: one mount may lie on another.
    assert_eq!(place.unmounted(), format!("{token}\n").repeat(3));
    place.put("mountinfo", &noted);
    place.wiped(&format!("clear_folder {}; finish", place.path("lib/kubelet").display()));
    for (name, is_kept) in [
        ("lib/kubelet/config.yaml", false),
        ("lib/kubelet/pods/theirs", true),
        ("lib/kubelet/pods/new", false),
        ("lib/kubelet/my disk/theirs", true),
        ("lib/kubelet/my disk/new", false),
        ("lib/kubelet/pods/old/volumes/nas/theirs", true),
        ("lib/kubelet/pods/old/volumes/nas/new/secret", true),
    ] {
        assert_eq!(place.is_there(name), is_kept, "{name}");
    }
}
