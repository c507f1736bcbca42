//! The script that pulls images, with a containerd that tells what it was asked for.

use super::{Place, said};
use crate::exec::scripts::PULL;

/// It has one image whole, of another the name alone, and one that is whole and not unpacked.
const CTR: &str = r#"
ctr() {
  shift 2
  case $1 in
  version) ;;
  images)
    case $2 in
    check)
      echo 'REF TYPE DIGEST STATUS SIZE UNPACKED'
      echo 'r/etcd:3 t sha256:1 complete (2/2) 9.0 MiB/9.0 MiB true'
      echo 'r/pause:3 t sha256:2 incomplete (1/2) 1.0 MiB/9.0 MiB false'
      echo 'r/dns:1 t sha256:3 complete (2/2) 9.0 MiB/9.0 MiB false' ;;
    *) shift; echo "$*" >> DONE ;;
    esac ;;
  esac
}
xargs() { shift; while read -r image; do "$@" "$image"; done; }
"#;

/// A host whose containerd was down when it was looked at, and a registry that is down now.
#[test]
fn what_is_there_whole_is_not_pulled() {
    let place = Place::new();
    let done = place.path("done").display().to_string();
    let text = format!("{}\n{}", CTR.replace("DONE", &done), PULL.text);
    let output = place.run(&text, &["pull", "r/etcd:3", "r/pause:3", "r/dns:1", "r/new:1"]);
    assert!(output.status.success(), "{}", said(&output));
    let done = place.text("done");
    let pulled: Vec<&str> =
        done.lines().filter_map(|line| line.strip_prefix("pull ")?.split(' ').next_back()).collect();
    assert_eq!(pulled, ["r/pause:3", "r/dns:1", "r/new:1"], "{done}");
}
