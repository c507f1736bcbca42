//! What a control plane tells of bundles, with a kubectl that does not get an answer to all that it asks.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use super::NODES_SCRIPT;

/// The cluster has a bundle of two objects; what is asked of these ends as in ANSWERS.
const KUBECTL: &str = r#"#!/bin/bash
case " $* " in
*' get nodes,'*) printf 'node m1 True \nbundle x ab12\nbundle x.objects v1 ConfigMap kube-system a;example.org/v1 Thing - b\nbundle x.sum 12\n' ;;
*) cat >/dev/null; ANSWERS ;;
esac
"#;

const FIRST: &str = "echo 'v1 ConfigMap kube-system a 1 map[]'";

/// What is told of the bundle's damage.
fn damage(answers: &str) -> String {
    let place = tempfile::tempdir().unwrap();
    let kubectl = place.path().join("kubectl");
    fs::write(&kubectl, KUBECTL.replace("ANSWERS", answers)).unwrap();
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", place.path().display(), std::env::var("PATH").unwrap());
    let args = ["-c", NODES_SCRIPT.text, "nodes", "https://10.0.0.1:6443", "9"];
    let output = Command::new("bash").args(args).env("PATH", path).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.starts_with("node m1 True") && told.ends_with("\nend\n"), "{told}");
    told.lines().filter(|line| line.starts_with("damaged ")).collect()
}

#[test]
fn what_could_not_be_asked_for_is_not_gone() {
    let gone = "damaged x Thing/b gone";
    let no_kind = r#"echo 'resource mapping not found for name: "b" namespace: "" from "STDIN": no matches for kind "Thing" in version "example.org/v1"
ensure CRDs are installed first' >&2; exit 1"#;
    let late = "echo 'Error from server (Timeout): etcdserver: request timed out' >&2; exit 1";
    let both = no_kind.replace("; exit 1", &format!("; {late}"));
    for (about, answers, told) in [
        ("both", "echo 'example.org/v1 Thing - b 2 map[]'", "damaged x changed in the cluster"),
        ("the other is gone", "true", gone),
        ("its kind is gone", no_kind, gone),
        ("the other was not answered", late, ""),
        ("one was not answered, and a kind is gone", &both, ""),
        ("kubectl was ended", "exit 124", ""),
    ] {
        assert_eq!(damage(&format!("{FIRST}; {answers}")), told, "{about}");
    }
}
