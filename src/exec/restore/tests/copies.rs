//! Copies of the data, over which an etcd of their own is started.

use std::{fs, os::unix::fs::symlink};

use super::Place;

/// etcd's program starts over the copy and writes to it: nothing of that may reach the data.
#[test]
fn a_copy_of_linked_data_is_a_copy() {
    let place = Place::linked(Some("old"));
    place.begun();
    fs::rename(place.path("etcd/member"), place.path("elsewhere")).unwrap_or_else(|_| {
        place.put("elsewhere/snap/db", "old");
        fs::remove_dir_all(place.path("etcd/member")).unwrap();
    });
    symlink(place.path("elsewhere"), place.path("etcd/member")).unwrap();
    fs::remove_file(place.path("rsadm/restore/snapshot.db")).unwrap();
    place.run(&["replay"], 0);
    let copy = fs::symlink_metadata(place.path("rsadm/restore/copy/member")).unwrap();
    assert!(copy.is_dir(), "it is a link to the data itself");
}

/// A member that ends again and again, which is what a recovery looks at most, may be started by its kubelet at any moment: how
/// far its data is can be told all the same, from a copy that was made while it did not run.
#[test]
fn data_is_measured_between_two_starts_of_its_etcd() {
    for (runs_at, told) in [
        ("none", "damaged it said nothing"),
        ("2", "damaged it said nothing"),
        ("2 | 4", "damaged it said nothing"),
        ("2 | 4 | 6", "unknown etcd was started anew while its data was copied, three times"),
    ] {
        let place = Place::new(Some("old"));
        place.put("asked", "");
        // Before a copy and after it, in turn; what the stub of an image has instead of etcd ends at once.
        let processes = format!(
            "processes() {{ echo >> {asked}; pids=(); case $(wc -l < {asked}) in {runs_at}) pids=(999999999) ;; esac; }}",
            asked = place.path("asked").display()
        );
        let output = place.run_where(&processes, &["measure", "5"], 0);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.lines().next(), Some(told), "{runs_at}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
