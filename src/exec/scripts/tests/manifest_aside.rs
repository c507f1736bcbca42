//! The script that takes the manifest of a member away.

use super::{Place, said};
use crate::exec::scripts::MANIFEST_ASIDE;

#[test]
fn what_somebody_else_wrote_is_kept_and_what_rsadm_wrote_is_not() {
    let place = Place::new();
    let [manifest, kept] =
        ["etcd.yaml", "aside/kept.yaml"].map(|path| place.path(path).display().to_string());
    let run = || {
        let output = place.run(MANIFEST_ASIDE.text, &["manifest-aside", &manifest, &kept]);
        assert!(output.status.success(), "{}", said(&output));
        assert!(!place.path("etcd.yaml").exists());
        std::fs::read_dir(place.path("aside")).map_or(0, Iterator::count)
    };
    assert_eq!(run(), 0, "there was none");
    place.put("etcd.yaml", "- name: RSADM_REVISION\n");
    assert_eq!(run(), 0);
    place.put("etcd.yaml", "theirs\n");
    assert_eq!((run(), place.text("aside/kept.yaml").as_str()), (1, "theirs\n"));
    // Nor does one that rsadm has written since take its place.
    place.put("etcd.yaml", "- name: RSADM_REVISION\n");
    assert_eq!((run(), place.text("aside/kept.yaml").as_str()), (1, "theirs\n"));
}
