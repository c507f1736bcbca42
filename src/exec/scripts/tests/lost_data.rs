//! lost-data.sh, by what etcd writes.

use std::process::Command;

use super::Place;
use crate::{etcd::status::LOST_LINES, exec::scripts};

#[test]
fn all_that_etcd_says_of_lost_data_is_told() {
    for (words, told) in
        LOST_LINES.map(|words| (words, true)).into_iter().chain([("address already in use", false)])
    {
        let place = Place::new();
        place.put("kubernetes/manifests/etcd.yaml", "");
        // Written after the manifest, by the clock of the files.
        let manifest = place.path("kubernetes/manifests/etcd.yaml");
        assert!(Command::new("touch").args(["-d", "1 minute ago"]).arg(manifest).status().unwrap().success());
        place.put("log/pods/kube-system_etcd-m1_0/etcd/0.log", &format!("T stderr F {words}\n"));
        let text = scripts::LOST_DATA
            .text
            .replace("/var/log/", &format!("{}/", place.path("log").display()))
            .replace("/etc/kubernetes/", &format!("{}/", place.path("kubernetes").display()));
        let output = Command::new("bash").args(["-c", &text, "lost-data", "60"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.contains("etcd says: "), told, "{words}: {said}");
    }
}
