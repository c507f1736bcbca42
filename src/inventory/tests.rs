//! Whole files: the examples load, and every kind of mistake is a file of its own, with what is said of it beside it.

mod any_bytes;

use std::{fs, path::PathBuf, time::Duration};

use super::*;

const HOME: &str = "/home/ops";

fn repository(folder: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// The YAML files of a folder, in order; never none.
fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository(folder)).unwrap();
    let mut files: Vec<PathBuf> =
        entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} has no YAML file");
    files
}

fn load_here(text: &str) -> Result<Loaded, Problems> {
    load(text, "inventory.yaml", Some(FsPath::new(HOME)))
}

#[test]
fn every_example_loads_without_warnings() {
    for file in ["inventories", "tests/lab/inventories"].into_iter().flat_map(yaml_files) {
        let loaded = load_here(&fs::read_to_string(&file).unwrap());
        let loaded = loaded.unwrap_or_else(|p| panic!("{}: {p}", file.display()));
        assert_eq!(loaded.warnings, [], "{}", file.display());
    }
}

/// One is enough, by any of the ways that the warning names; a runtime of its own is a cluster of somebody else's.
#[test]
fn a_host_that_takes_pods_is_missed() {
    for (roles, more, is_warned) in [
        ("control-plane, etcd", "", true),
        ("control-plane, etcd", ", taints: []", false),
        ("control-plane, etcd", ", taints: []}, {name: m2, address: 10.0.0.2, roles: [control-plane]", false),
        ("control-plane, etcd", "}, {name: e2, address: 10.0.0.2, roles: [worker]", false),
        ("control-plane, etcd, worker", "", false),
        ("etcd", "", false),
        ("control-plane, etcd", "}]\ncontainer_runtime: {install: existing}\nnetwork: {plugin: none", false),
    ] {
        let end = if more.contains('\n') { "" } else { "]" };
        let text = format!(
            "cluster_name: prod\nkubernetes_version: v1.37.2\nhosts: [{{name: m1, address: 10.0.0.1, roles: [{roles}]{more}}}{end}"
        );
        let warnings = load_here(&text).unwrap_or_else(|p| panic!("{text}: {p}")).warnings;
        let is_told = warnings.iter().any(|w| w.message.starts_with("no host takes ordinary pods"));
        assert_eq!(is_told, is_warned, "{text}: {warnings:?}");
    }
}

/// What is taken down need not be a whole cluster.
#[test]
fn a_worker_alone_is_taken_down_and_else_nothing() {
    let text = "cluster_name: prod\nkubernetes_version: v1.37.2\nhosts: [{name: w1, address: 10.0.0.1, roles: [worker]}]";
    let part = load_part(text.as_bytes(), "inventory.yaml", None).unwrap();
    assert_eq!((part.cluster.nodes.len(), part.warnings), (1, vec![]));
    for load in [load_bytes, load_built] {
        let problems = load(text.as_bytes(), "inventory.yaml", None).unwrap_err().problems;
        let found: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(found, ["workers without a control plane", "no etcd member"]);
    }
}

#[test]
fn three_lines_are_a_cluster_and_the_rest_is_by_default() {
    let text = "cluster_name: prod\nkubernetes_version: v1.37.2\nhosts: [{name: m1, address: 10.0.0.1, roles: [master, etcd]}]";
    let cluster = load_here(text).unwrap().cluster;
    let ssh = Ssh {
        user: "root".into(),
        port: 22,
        key_path: None,
        known_hosts_path: None,
        become_root: false,
        host_key_check: HostKeyCheck::Strict,
        bastion: None,
        control_persist: Duration::ZERO,
    };
    assert_eq!(cluster.nodes[0].ssh, ssh);
    assert_eq!(cluster.nodes[0].internal_address.to_string(), "10.0.0.1");
    assert_eq!(cluster.nodes[0].taints[0].to_string(), "node-role.kubernetes.io/control-plane:NoSchedule");
    assert_eq!(cluster.api, Api { host: "10.0.0.1".into(), port: 6443, alternative_names: vec![] });
    assert_eq!(cluster.load_balancer, LoadBalancer::None);
    assert_eq!(cluster.etcd.quota_backend_bytes, 8 << 30);
    assert_eq!(cluster.network.dns_service_ip().to_string(), "10.96.0.10");
    assert_eq!(cluster.artifacts.url("dl.k8s.io/v1/kubelet"), "https://dl.k8s.io/v1/kubelet");
    assert_eq!(cluster.upgrade_strategy.max_unavailable_workers, 1);
}

#[test]
fn a_host_overrides_the_cluster() {
    let text = "
cluster_name: prod
kubernetes_version: 1.37.2
ssh: {user: ops, port: 2200, key_path: ~/key, bastion: {address: Jump_1, user: j, port: 23}}
artifacts: {base_url: http://mirror:8080/, registry_mirrors: {docker.io: http://mirror:5000/}}
hosts:
  - {name: m1, address: 10.0.0.1, roles: [control-plane, etcd], taints: []}
  - {name: m2, address: Prod_M2, internal_address: 10.0.0.2, roles: [control-plane], user: root, port: 22, key_path: /k, bastion: {address: fd00::1}}
  - {name: m3, address: 10.0.0.3, roles: [controlplane, worker], become: true, user: root}
";
    let cluster = load_here(text).unwrap().cluster;
    let ssh: Vec<&Ssh> = cluster.nodes.iter().map(|n| &n.ssh).collect();
    let summary: Vec<_> = ssh.iter().map(|s| (s.user.as_str(), s.port, s.become_root)).collect();
    assert_eq!(summary, [("ops", 2200, true), ("root", 22, false), ("root", 2200, true)]);
    let bastions: Vec<_> = ssh.iter().map(|s| s.bastion.as_deref().unwrap_or_default()).collect();
    assert_eq!(bastions, ["j@Jump_1:23", "[fd00::1]", "j@Jump_1:23"]);
    assert_eq!(cluster.nodes[1].address, "Prod_M2", "an alias is told apart by its case");
    assert_eq!(ssh[0].key_path.as_deref(), Some(FsPath::new("/home/ops/key")));
    assert!(cluster.nodes.iter().all(|n| n.taints.is_empty() == (n.name.as_str() != "m2")));
    assert_eq!(cluster.load_balancer, LoadBalancer::NodeLocal);
    assert_eq!(cluster.artifacts.url("dl.k8s.io/kubelet"), "http://mirror:8080/dl.k8s.io/kubelet");
    assert_eq!(cluster.artifacts.registry_mirrors["docker.io"], "http://mirror:5000");
}

#[test]
fn anchors_and_five_thousand_hosts_load() {
    let mut text = String::from(
        "cluster_name: big\nkubernetes_version: v1.37.2\nnetwork: {pod_subnet: 100.64.0.0/11}\nhosts:\n",
    );
    text += "  - {name: m, address: 10.0.0.1, roles: [control-plane, etcd], labels: &labels {zone: a}}\n";
    for i in 0..5_000 {
        text += &format!(
            "  - {{name: w{i}, address: 10.1.{}.{}, roles: [worker], labels: *labels}}\n",
            i / 250,
            i % 250 + 1
        );
    }
    let cluster = load_here(&text).unwrap().cluster;
    assert_eq!(cluster.nodes.len(), 5_001);
    assert!(cluster.nodes.iter().all(|n| n.labels["zone"] == "a"));
}

/// Compares what a file of a folder comes to with the `.txt` beside it; `UPDATE_EXPECTED=1` writes those.
fn check_folder(folder: &str, outcome: impl Fn(Result<Loaded, Problems>) -> String) {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut wrong = String::new();
    for file in yaml_files(folder) {
        let expected_file = file.with_extension("txt");
        let loaded = load_bytes(&fs::read(&file).unwrap(), "inventory.yaml", Some(FsPath::new(HOME)));
        let actual = format!("{}\n", outcome(loaded));
        if update {
            fs::write(&expected_file, &actual).unwrap();
        }
        let expected = fs::read_to_string(&expected_file).unwrap_or_default();
        if actual != expected {
            wrong += &format!("{}\nexpected:\n{expected}actual:\n{actual}\n", file.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn bad_files_say_all_that_is_wrong() {
    check_folder("tests/inventories/bad", |loaded| match loaded {
        Ok(_) => panic!("a file of tests/inventories/bad loads"),
        Err(problems) => problems.to_string(),
    });
}

#[test]
fn unwise_files_load_with_warnings() {
    check_folder("tests/inventories/unwise", |loaded| match loaded {
        Ok(loaded) => table(&loaded.with_missing(|file| !file.starts_with("/nowhere")).warnings),
        Err(problems) => panic!("{problems}"),
    });
}

#[test]
fn every_problem_has_a_remedy() {
    for file in yaml_files("tests/inventories/bad") {
        let problems = load_bytes(&fs::read(&file).unwrap(), "inventory.yaml", None).unwrap_err();
        for problem in problems.problems {
            assert!(problem.help.is_some(), "{}: {problem}", file.display());
        }
    }
}
