//! Hosts on which a restore breaks off, or that miss how it ends.

use std::fs;

use super::{PLACE, Place, killed_everywhere};

/// Between file systems a move is a copy, which a full disk ends half-way, and of a manifest there may be no other.
#[test]
fn a_manifest_is_whole_wherever_its_move_breaks_off() {
    const FULL: &str = r#"cp() { local to="${@: -1}"; [ ! -d "$to" ] || to=$to/${2##*/}; echo part > "$to"; return 1; }
mv() { [ "${1#-}" = "$1" ] && set -- -f "$@"; cp "$2" "$3" || { case $2 in */.rsadm-*) command mv "$@" ;; *) return 1 ;; esac; }; }"#;
    let (live, waiting) = ("kubernetes/manifests/etcd.yaml", "rsadm/restore/manifests/etcd.yaml");
    let place = Place::new(Some("old"));
    place.begun();
    let whole = place.text(live);
    assert!(!place.run_where(FULL, &["fence", "etcd"], 0).status.success());
    assert_eq!((place.text(live), place.text(waiting)), (whole.clone(), None));
    place.succeed(&["fence", "etcd"]);
    assert!(!place.run_where(FULL, &["unfence", "etcd"], 0).status.success());
    assert_eq!((place.text(live), place.text(waiting)), (None, whole.clone()));
    for verb in [["unfence", "etcd"], ["fence", "etcd"]] {
        for kill in 1.. {
            let done = place.run(&verb, kill).status.success();
            assert!([place.text(live), place.text(waiting)].contains(&whole), "{verb:?}, {kill}");
            if done {
                break;
            }
        }
    }
}

/// Or the data that was restored would start beside that from before on other hosts.
#[test]
fn without_the_old_data_nothing_is_rolled_back() {
    let place = Place::new(Some("old"));
    place.begun();
    place.succeed(&PLACE);
    fs::rename(place.path("rsadm/aside"), place.path("unmounted")).unwrap();
    let refused = place.run(&["roll-back"], 0);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the old data is not at "), "{refused:?}");
    assert_eq!(place.text("etcd/member/snap/db").as_deref(), Some("new"));
    assert!(place.succeed(&["under-way"]).contains("placed"));
    fs::rename(place.path("unmounted"), place.path("rsadm/aside")).unwrap();
    place.succeed(&["roll-back"]);
    assert_eq!(place.text("etcd/member/snap/db").as_deref(), Some("old"));
}

#[test]
fn a_host_that_missed_that_a_restore_was_rolled_back_does_so_itself() {
    let placed = || {
        let place = Place::new(Some("old"));
        place.begun();
        place.succeed(&["fence", "etcd"]);
        place.succeed(&PLACE);
        place
    };
    killed_everywhere(&["undo"], placed, |place, kill| {
        assert_eq!(place.text("etcd/member/snap/db").as_deref(), Some("old"), "{kill}");
        assert!(place.path("kubernetes/manifests/etcd.yaml").exists(), "{kill}");
        assert_eq!(place.aside(), ["new"], "{kill}");
    });
    // Whose data had taken writes already, by what it knew, and was fenced since.
    let place = placed();
    place.succeed(&["over", "test-1"]);
    place.succeed(&["undo"]);
    assert_eq!(place.text("etcd/member/snap/db").as_deref(), Some("old"));
    // Its old data is gone: it is left off, and its manifest stays.
    let place = placed();
    fs::remove_dir_all(place.path("rsadm/aside")).unwrap();
    assert_eq!(place.succeed(&["undo"]), "");
    assert!(!place.path("kubernetes/manifests/etcd.yaml").exists());
    assert!(place.path("rsadm/restore/manifests/etcd.yaml").exists());
    let place = placed();
    place.succeed(&["ended", "test-1", "undone"]);
    assert_eq!(place.succeed(&["under-way"]), "token test-1\nplaced\nended test-1 undone\n");
}

/// It is of the old cluster again where it was when the restore began, and where the restore never came.
#[test]
fn whose_a_host_is_is_put_back_with_its_data() {
    let identity = "rsadm/cluster.json";
    for (before, begins, after) in
        [(Some("old"), true, Some("old")), (None, true, None), (Some("own"), false, Some("own"))]
    {
        let place = Place::new(Some("data"));
        before.iter().for_each(|text| place.put(identity, text));
        if begins {
            place.succeed(&["begin", "test-1", "e1"]);
            place.put("rsadm/restore/snapshot.db", "snapshot");
            place.put(identity, "restored");
        }
        place.succeed(&["roll-back"]);
        assert_eq!(place.text(identity).as_deref(), after, "{before:?} {begins}");
    }
}

/// Of a control plane that kubeadm built nobody else has the API server's manifest.
#[test]
fn manifests_that_wait_outlive_a_restore_whose_end_was_missed() {
    let place = Place::new(Some("old"));
    place.begun();
    place.put("kubernetes/manifests/kube-apiserver.yaml", "api");
    for name in ["kube-apiserver", "etcd"] {
        place.succeed(&["fence", name]);
    }
    let etcd = place.text("rsadm/restore/manifests/etcd.yaml");
    let kept = "rsadm/aside/manifests-test-1/etcd.yaml";
    assert_eq!(place.succeed(&["end"]).trim(), place.path(kept).display().to_string());
    assert_eq!(place.text(kept), etcd);
    assert_eq!(place.text("kubernetes/manifests/kube-apiserver.yaml").as_deref(), Some("api"));
    assert!(!place.path("kubernetes/manifests/etcd.yaml").exists() && !place.path("rsadm/restore").exists());
    // It stays where it is, where there is no room for it elsewhere.
    let place = Place::new(Some("old"));
    place.begun();
    place.succeed(&["fence", "etcd"]);
    place.put("rsadm/aside", "in the way");
    assert!(!place.run(&["end"], 0).status.success());
    assert!(place.path("rsadm/restore/manifests/etcd.yaml").exists());
}

/// As a power cut leaves it.
#[test]
fn a_snapshot_in_part_is_delivered_anew() {
    let place = Place::new(None);
    place.put("rsadm/restore/snapshot.db", "sho");
    place.put("rsadm/restore/piece.000000", "short");
    place.succeed(&["receive", &crate::hash::sha256(b"short")]);
    assert_eq!(place.text("rsadm/restore/snapshot.db").as_deref(), Some("short"));
}
