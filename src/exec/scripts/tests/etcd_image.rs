//! The script that gives a member of kubeadm's another image, with a member that tells its version by its manifest.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::PathBuf,
    process::{Command, Output},
};

use super::{Place, said};
use crate::{exec::scripts::SET_ETCD_IMAGE, hash::sha256, observe::parser::SCRIPT};

const MANIFEST: &str = "kubernetes/manifests/etcd.yaml";
const KEPT: &str = "kubernetes/rsadm-etcd.yaml";
const SUM: &str = "kubernetes/rsadm-etcd.sum";

/// As somebody left it who edited what kubeadm wrote.
const OLD: &str = r#"metadata:
  name: etcd
spec:
  containers:
  - image: r/backup:1
    name: etcd-backup
  - command:
    - etcd
    - --discovery-user=me:secret
    - "--experimental-max-learners=2" # for a while
    - --gone
    - --name=m1
    image: 'r/etcd:3.6.14-0'  # "pinned"
    name: etcd
    volumeMounts:
    - mountPath: /x
      name: etcd
  initContainers:
  - image: r/other:1
    name: first
"#;

const NEW: &str = r#"metadata:
  name: etcd
spec:
  containers:
  - image: r/backup:1
    name: etcd-backup
  - command:
    - etcd
    - --discovery-user=me:secret
    - --max-learners=2 # for a while
    - --name=m1
    image: r/etcd:3.7.0-0  # "pinned"
    name: etcd
    volumeMounts:
    - mountPath: /x
      name: etcd
  initContainers:
  - image: r/other:1
    name: first
"#;

/// The version of a member with that manifest, where it serves.
type Serves = fn(&str) -> Option<&'static str>;

const WELL: Serves = |manifest| match manifest.contains("3.7.0") {
    true => (!manifest.contains("--gone")).then_some("3.7.0"),
    false => Some("3.6.14"),
};

const ONLY_OLD: Serves = |manifest| manifest.contains("3.6.14").then_some("3.6.14");

/// Answers as the member whose manifest is there; its port.
fn member(manifest: PathBuf, serves: Serves) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut question = [0; 64];
            let _ = stream.read(&mut question);
            if let Some(version) = serves(&std::fs::read_to_string(&manifest).unwrap_or_default()) {
                let _ = writeln!(stream, "\r\netcd_server_version{{server_version=\"{version}\"}} 1");
            }
        }
    });
    port
}

/// Takes 3.6.14 to 3.7.0, where the manifest has that image.
fn upgrade(place: &Place, had: &str, serves: Serves) -> Output {
    // A shell counts whole seconds, the first of which may be over at once.
    upgrade_within(if serves(NEW).is_some() { "60" } else { "2" }, place, had, serves)
}

fn upgrade_within(limit: &str, place: &Place, had: &str, serves: Serves) -> Output {
    let port = member(place.path(MANIFEST), serves).to_string();
    let text = SET_ETCD_IMAGE
        .text
        .replace("/etc/kubernetes/", &format!("{}/", place.path("kubernetes").display()))
        .replace("/var/log/", &format!("{}/", place.path("log").display()));
    let image = format!("image: {had}");
    let fixed = ["set-etcd-image", "v3.7.0", &port, limit, &image, "image: r/etcd:3.7.0-0"];
    // As the plan has it: of what the manifest has.
    let manifest = place.text(MANIFEST);
    let arguments = [["--experimental-max-learners=2", "--max-learners=2"], ["--gone", ""]];
    let arguments = arguments.into_iter().filter(|[old, _]| manifest.contains(old)).flatten();
    place.run(&text, &fixed.into_iter().chain(arguments).collect::<Vec<_>>())
}

/// A host with that manifest, and with one that was kept from before it.
fn host(manifest: &str, kept: Option<&str>) -> Place {
    let place = Place::new();
    place.put(MANIFEST, manifest);
    if let Some(text) = kept {
        place.put(KEPT, text);
        place.put(SUM, &format!("{}  -\n", sha256(manifest.as_bytes())));
    }
    place
}

#[test]
fn image_and_arguments_are_changed_whatever_stands_around_them() {
    let by_hand = OLD.replace("3.6.14", "3.7.0");
    for (about, manifest, had, kept) in [
        ("as it was", OLD, "r/etcd:3.6.14-0", None),
        ("with an image by hand", &by_hand, "r/etcd:3.7.0-0", None),
        ("of a run that was killed before", OLD, "r/etcd:3.6.14-0", Some("of an older run")),
    ] {
        let place = host(manifest, kept);
        let output = upgrade(&place, had, WELL);
        assert!(output.status.success(), "{about}: {}", said(&output));
        let wanted = if had.contains("3.7.0") {
            NEW.replace("r/etcd:3.7.0-0", "'r/etcd:3.7.0-0'")
        } else {
            NEW.to_owned()
        };
        assert_eq!(place.text(MANIFEST), wanted, "{about}");
        assert!(!place.is_there(KEPT), "{about}");
    }
    let place = host(OLD, None);
    let output = upgrade(&place, "r/etcd:3.6.15-0", WELL);
    assert!(said(&output).ends_with("has no image: r/etcd:3.6.15-0\n"), "{}", said(&output));
    assert_eq!(place.text(MANIFEST), OLD);
}

/// Of the last member the version of the cluster may have risen meanwhile, and the one from before would not start.
#[test]
fn a_member_that_came_up_at_the_last_moment_keeps_its_new_version() {
    let place = host(OLD, None);
    let output = upgrade_within("0", &place, "r/etcd:3.6.14-0", WELL);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(place.text(MANIFEST), NEW);
}

/// The host tells of a flag whose value is on the next line, too; what takes another's place may be such a one.
#[test]
fn a_manifest_with_a_value_on_its_own_line_stays_as_it_is() {
    let manifest = OLD.replace("    - --gone\n", "    - --feature-gates\n    - A=true\n");
    let place = host(&manifest, None);
    assert!(told_of(&manifest).contains(&"flag feature-gates=A=true".to_owned()));
    let text =
        SET_ETCD_IMAGE.text.replace("/etc/kubernetes/", &format!("{}/", place.path("kubernetes").display()));
    let arguments =
        ["--experimental-max-learners=2", "", "--feature-gates=A=true", "--feature-gates=A=true,B=true"];
    let fixed = ["set-etcd-image", "v3.7.0", "1", "2", "image: r/etcd:3.6.14-0", "image: r/etcd:3.7.0-0"];
    let output = place.run(&text, &[&fixed[..], &arguments].concat());
    let told = "does not have --feature-gates=A=true on one line: write it there so, and run the same command again\n";
    assert!(!output.status.success() && said(&output).ends_with(told), "{}", said(&output));
    assert_eq!(place.text(MANIFEST), manifest);
    assert!(!place.is_there(KEPT) && !place.is_there(SUM));
}

#[test]
fn the_manifest_from_before_comes_back_also_that_of_a_run_that_was_killed() {
    const NEVER: Serves = |_| None;
    let serves =
        "etcd does not run as 3.7.0 after 2 s; etcd has its manifest from before again, and serves\n";
    let is_back = serves.replace(", and serves", "");
    for (about, manifest, kept, member, told) in [
        ("at once", OLD, None, ONLY_OLD, serves),
        ("it was down before", OLD, None, NEVER, is_back.as_str()),
        ("killed behind the manifest", NEW, Some(OLD), ONLY_OLD, serves),
    ] {
        let place = host(manifest, kept);
        let had = if manifest == OLD { "r/etcd:3.6.14-0" } else { "r/etcd:3.7.0-0" };
        let output = upgrade(&place, had, member);
        assert_eq!((output.status.code(), said(&output).as_str()), (Some(1), told), "{about}");
        assert_eq!(place.text(MANIFEST), OLD, "{about}");
        assert!(!place.is_there(KEPT) && !place.is_there(SUM), "{about}");
    }
}

/// Months later, on what kubeadm has written since; and where a second version is tried after one that never served.
#[test]
fn what_was_kept_goes_back_over_no_other_manifest_and_gives_way_to_none_that_never_served() {
    let later = NEW.replace("name=m1", "name=m2");
    let place = host(NEW, Some(OLD));
    place.put(MANIFEST, &later);
    let output = upgrade(&place, "r/etcd:3.7.0-0", |_| None);
    assert_eq!(said(&output), "etcd does not run as 3.7.0 after 2 s\n");
    assert_eq!(place.text(MANIFEST), later);
    let never_served = NEW.replace("3.7.0", "3.6.99");
    let place = host(&never_served, Some(OLD));
    let output = upgrade(&place, "r/etcd:3.6.99-0", ONLY_OLD);
    assert!(!output.status.success());
    assert_eq!(place.text(MANIFEST), OLD);
}

#[test]
fn what_a_killed_run_kept_goes_once_the_new_version_serves() {
    let place = host(NEW, Some(OLD));
    let output = upgrade(&place, "r/etcd:3.7.0-0", WELL);
    assert!(output.status.success(), "{}", said(&output));
    assert!(place.text(MANIFEST) == NEW && !place.is_there(KEPT));
}

/// What the host tells of etcd, where its manifest is this.
fn told_of(manifest: &str) -> Vec<String> {
    let place = host(manifest, None);
    let folder = place.path("kubernetes").display().to_string();
    let script = SCRIPT.text.replace("K=/etc/kubernetes ", &format!("K={folder} "));
    let out = Command::new("bash").args(["-c", &script]).output().unwrap();
    let told = String::from_utf8(out.stdout).unwrap();
    let of_etcd = told.lines().filter_map(|line| line.strip_prefix("etcd-"));
    of_etcd.filter(|l| l.starts_with("flag ") || l.starts_with("image ")).map(str::to_owned).collect()
}

#[test]
fn flags_are_those_of_the_container_etcd_however_they_are_written() {
    let beside = "    name: etcd-backup\n    args:\n    - --web.listen=:9\n";
    let flags = "    - --heartbeat-interval\n    # as before\n    - \"500\"\n    - --auth-password\n    - secret\n    - -pre-vote\n";
    let probe = "    livenessProbe:\n      exec:\n        command:\n        - etcdctl\n        - --endpoints=x\n    name: etcd\n    volume";
    let manifest = OLD
        .replace("    name: etcd-backup\n", beside)
        .replace("    - --gone\n", flags)
        .replace("    name: etcd\n    volume", probe);
    let of_etcd =
        ["flag experimental-max-learners=2", "flag heartbeat-interval=500", "flag pre-vote", "flag name=m1"];
    let image = "image r/etcd:3.6.14-0";
    assert_eq!(told_of(&manifest), [&of_etcd[..], &[image]].concat());
    // Under another name it is etcd's manifest all the same.
    let all = told_of(&OLD.replace("    name: etcd\n", "    name: db\n"));
    assert_eq!(all, ["flag experimental-max-learners=2", "flag gone", "flag name=m1"]);
    let deeper = "spec:\n  containers:\n    - name: etcd\n      args:\n        - --name=m1\n      ports:\n        - name: x\n";
    assert_eq!(told_of(deeper), ["flag name=m1"]);
}

/// The script changes what the host has told, so both have to read it alike.
#[test]
fn the_host_tells_of_the_container_etcd_and_no_secret() {
    let told = told_of(OLD);
    assert_eq!(
        told,
        ["flag experimental-max-learners=2", "flag gone", "flag name=m1", "image r/etcd:3.6.14-0"]
    );
}
