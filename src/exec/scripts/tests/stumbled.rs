//! What the logs of a static pod say of the container that its manifest has brought.

use std::process::Command;

use super::Place;
use crate::exec::scripts::AWAIT_SERVING;

/// What is told of a scheduler whose manifest was written a minute ago, by logs (their file and text) in the folder of a pod
/// that has just been changed.
fn told(logs: &[(&str, String)]) -> String {
    let place = Place::new();
    let manifest = place.path("kube-scheduler.yaml").display().to_string();
    place.put("kube-scheduler.yaml", "");
    assert!(Command::new("touch").args(["-d", "1 minute ago", &manifest]).status().unwrap().success());
    for (file, text) in logs {
        place.put(&format!("log/pods/kube-system_kube-scheduler-m1_0/kube-scheduler/{file}"), text);
    }
    let (functions, _) = AWAIT_SERVING.text.rsplit_once("# await-serving.sh ").unwrap();
    let functions = functions.replace("/var/log/", &format!("{}/", place.path("log").display()));
    let text = format!(
        "{functions}\nmanifest_of() {{ echo {manifest}; }}\nstumbled kube-scheduler 2 && echo \"$said\""
    );
    String::from_utf8(place.run(&text, &[]).stdout).unwrap()
}

/// A line of a container, written then.
fn line(when: &str, words: &str) -> String {
    let at = Command::new("date").args(["-d", when, "+%Y-%m-%dT%H:%M:%S.%N%:z"]).output().unwrap().stdout;
    format!("{} stderr F {words}\n", String::from_utf8(at).unwrap().trim())
}

#[test]
fn a_container_that_ends_again_and_again_is_told() {
    let last = ("2.log", line("10 seconds ago", "cannot listen"));
    let said = "kube-scheduler was started 2 times and ended each time; it said last: cannot listen\n";
    // That of the one before goes once this one has ended, too.
    assert_eq!(told(std::slice::from_ref(&last)), said);
    assert_eq!(told(&[("1.log", line("30 seconds ago", "cannot listen")), last]), said);
    assert_eq!(told(&[("1.log", line("30 seconds ago", "cannot listen"))]), "");
    let flag = line("10 seconds ago", "Error: unknown flag: --x");
    assert_eq!(told(&[("0.log", flag)]), "kube-scheduler says: Error: unknown flag: --x\n");
}

/// The kubelet that ends it takes the log of the one before away, so that its folder has just been changed. (It was started
/// anew twice, as by two starts of the host; or it has a flag that the new one has no more.)
#[test]
fn the_log_of_the_container_before_says_nothing_of_this_one() {
    let well = line("2 hours ago", "started") + &line("5 seconds ago", "ends, as it was told to");
    assert_eq!(told(&[("2.log", well)]), "");
    let flag = line("2 hours ago", "Error: unknown flag: --x");
    assert_eq!(told(&[("2.log", flag)]), "");
}
