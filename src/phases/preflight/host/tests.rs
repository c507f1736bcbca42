use std::net::IpAddr;

use super::*;
use crate::{
    inventory::{NetworkPlugin, NodeName, RuntimeInstall},
    layout,
    manifests::testing,
    observe::{
        Identity,
        facts::{FileFact, ProcessFact, ProgramFact},
        wal::Writer,
    },
    versions::Version,
};

const FOLDERS: [&str; 5] = ["/var/lib", "/usr", "/var/lib/etcd", "/var/lib/containerd", "/var/lib/kubelet"];

/// A disk with so much room and so much of it free, at these folders.
fn disk(facts: &mut Facts, folders: &[&str], free: u64, size: u64) {
    for folder in folders {
        facts.disk.insert((*folder).to_owned(), free);
        facts.disk_size.insert((*folder).to_owned(), size);
    }
}

/// A host on which there is nothing to find.
pub(super) fn well(node: &Node) -> Facts {
    let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect();
    Facts {
        hostname: node.name.to_string(),
        machine_id: "1".into(),
        arch: "x86_64".into(),
        kernel: "6.1.0-18-amd64".into(),
        cpus: 2,
        memory: 2000 * MIB,
        systemd: Some(252),
        os: "debian 12".into(),
        cgroup: 2,
        controllers: words(&["cpuset", "cpu", "io", "memory", "hugetlb", "pids"]),
        features: words(&["overlay"]),
        loadable: words(&["br_netfilter"]),
        disk: FOLDERS.map(|p| (p.to_owned(), (40 * MIB) << 10)).into(),
        disk_size: FOLDERS.map(|p| (p.to_owned(), (80 * MIB) << 10)).into(),
        addresses: vec![IpAddr::V4(node.internal_address)],
        ..Facts::default()
    }
}

fn found(host: &str, change: impl Fn(&mut Cluster, &mut Facts)) -> Vec<Verdict> {
    let mut cluster = testing::ha();
    let mut facts = well(testing::node(&cluster, host));
    change(&mut cluster, &mut facts);
    let node = cluster.node(&NodeName::new(host)).unwrap();
    let subject = Subject { cluster: &cluster, node, facts: &facts, remarks: true, built: false };
    CHECKS.iter().flat_map(|check| check(&subject)).collect()
}

fn file(facts: &mut Facts, path: &str) {
    facts.files.insert(path.into(), FileFact { mode: 0o600, owner: "0:0".into(), sha256: String::new() });
}

fn program(facts: &mut Facts, name: &str, url: &str) {
    facts.programs.insert(name.into(), ProgramFact { url: url.into(), kept: true });
}

type Change = fn(&mut Cluster, &mut Facts);

/// Each finding by what brings it about: the host, the change, and how the error (`!`) or warning (`?`) begins.
const CASES: &[(&str, Change, &str)] = &[
    ("m1", |_, f| f.arch = "riscv64".into(), "!is a riscv64"),
    ("m1", |_, f| f.systemd = None, "!does not run systemd"),
    ("m1", |_, f| f.systemd = Some(241), "?runs systemd 241"),
    ("m1", |_, f| f.addresses.clear(), "!does not have the address 10.0.0.1"),
    (
        "m1",
        |_, f| {
            f.cgroup = 1;
            f.controllers = ["cpuset", "cpu", "memory", "pids"].map(String::from).into();
        },
        "!has cgroup v1",
    ),
    (
        "m1",
        |c, f| {
            f.cgroup = 1;
            f.controllers = ["cpuset", "cpu", "pids"].map(String::from).into();
            c.kubelet.config.insert("failCgroupV1".into(), false.into());
        },
        "!its cgroup controller memory is off",
    ),
    // As a Raspberry Pi boots.
    ("w1", |_, f| f.controllers.retain(|c| c != "memory"), "!its cgroup controller memory is off"),
    ("m1", |_, f| f.os = "ubuntu 24.04".into(), "?runs ubuntu 24.04, on which rsadm is untested"),
    ("w1", |_, f| f.features.clear(), "!its kernel has no overlay"),
    ("w1", |_, f| f.loadable.clear(), "!its kernel has no br_netfilter"),
    ("w1", |_, f| f.kernel = "5.10.0-28-amd64".into(), "!has kernel 5.10.0-28-amd64"),
    ("m1", |_, f| f.memory = 900 * MIB, "!has 900 MiB of memory"),
    ("m1", |_, f| f.memory = 1500 * MIB, "?has 1500 MiB of memory"),
    ("w1", |_, f| f.memory = 300 * MIB, "!has 300 MiB of memory"),
    ("m1", |_, f| f.cpus = 1, "?has one processor"),
    (
        "w1",
        |_, f| {
            f.disk.insert("/usr".into(), 100 * MIB);
        },
        "!has 100 MiB free below /usr",
    ),
    (
        "w1",
        |_, f| disk(f, &FOLDERS, (14 * MIB) << 10, (100 * MIB) << 10),
        "!has 14 % of the disk below /var/lib/containerd free",
    ),
    (
        "w1",
        |_, f| disk(f, &["/var/lib/kubelet"], (9 * MIB) << 10, (100 * MIB) << 10),
        "!has 9 % of the disk below /var/lib/kubelet free",
    ),
    // One disk, one finding.
    (
        "m1",
        |c, f| {
            c.etcd.quota_backend_bytes = 64 * MIB;
            disk(f, &FOLDERS, 300 * MIB, 1000 * MIB);
        },
        "!has 300 MiB free below /var/lib/containerd",
    ),
    (
        "m1",
        |c, f| {
            c.etcd.quota_backend_bytes = 64 * MIB;
            disk(f, &["/var/lib/etcd"], 300 * MIB, 1000 * MIB);
        },
        "!has 300 MiB free below /var/lib/etcd",
    ),
    // Row 21 of the fault matrix.
    (
        "m1",
        |_, f| disk(f, &["/var/lib/etcd"], 16000 * MIB, 20000 * MIB),
        "?has 16000 MiB free below /var/lib/etcd; etcd's database may grow to 8192 MiB",
    ),
    ("w1", |_, f| f.swap = true, "!swap is on"),
    ("w1", |_, f| f.missing = ["tar", "awk"].map(String::from).into(), "!lacks tar, awk"),
    ("w1", |_, f| f.missing = ["curl", "wget"].map(String::from).into(), "!has neither curl nor wget"),
    ("w1", |_, f| f.missing = ["nft", "iptables"].map(String::from).into(), "!has neither nft nor iptables"),
    (
        "w1",
        |c, f| {
            f.missing = ["nft", "iptables"].map(String::from).into();
            c.network.plugin = NetworkPlugin::Manifests(vec![]);
        },
        "?has neither nft nor iptables",
    ),
    ("w1", |c, _| c.runtime.install = RuntimeInstall::Existing, "!has no containerd"),
    (
        "w1",
        |c, f| {
            c.runtime.install = RuntimeInstall::Existing;
            f.containerd = Some("1.6.20~ds1".into());
        },
        "!has containerd 1.6.20",
    ),
    (
        "w1",
        |c, f| {
            c.runtime.install = RuntimeInstall::Existing;
            c.release.min_containerd = Version::new(1, 6, 0);
            f.containerd = Some("1.7.13".into());
        },
        "?has containerd 1.7.13, of which the kubelet may remove the pause image",
    ),
    ("w1", |_, f| f.containerd = Some("v2.0.5".into()), "!has containerd v2.0.5, which ours would displace"),
    (
        "w1",
        |_, f| program(f, "kubelet", "https://dl.k8s.io/release/v1.36.1/bin/linux/amd64/kubelet"),
        "!has Kubernetes v1.36.1",
    ),
    (
        "m1",
        |c, f| {
            f.begun = Some(c.name.clone());
            f.identity = Some(Identity {
                cluster: c.name.clone(),
                etcd_cluster_id: "ab".into(),
                ..Identity::default()
            });
            f.etcd_image = Some("registry.k8s.io/etcd:3.6.8-0".into());
        },
        "!has etcd v3.6.8",
    ),
    (
        "w1",
        |_, f| {
            f.identity = Some(Identity {
                cluster: "other".into(),
                etcd_cluster_id: "ab".into(),
                ..Identity::default()
            });
        },
        "!belongs to the cluster other",
    ),
    ("w1", |_, f| f.begun = Some("other".into()), "!was prepared for the cluster other"),
    ("m1", |_, f| f.etcd_data = true, "!has etcd data in /var/lib/etcd that is not of this cluster"),
    (
        "m1",
        |_, f| {
            f.etcd_data = true;
            f.etcd_writer = Some(Writer { member: "ab".into(), cluster: "cd".into() });
        },
        "!has etcd data in /var/lib/etcd that is not of this cluster: member ab of the etcd cluster cd",
    ),
    (
        "m1",
        |_, f| file(f, "/etc/kubernetes/manifests/kube-apiserver.yaml"),
        "!has Kubernetes that rsadm did not put there: /etc/kubernetes/manifests",
    ),
    (
        "w1",
        |_, f| file(f, "/etc/kubernetes/kubelet.conf"),
        "!has Kubernetes that rsadm did not put there: /etc/kubernetes/kubelet.conf",
    ),
    (
        "w1",
        |_, f| f.processes.push(ProcessFact { name: "kubelet".into(), revision: None, etcd_servers: vec![] }),
        "!runs a kubelet that is not of this cluster",
    ),
    (
        "m1",
        |_, f| {
            f.ports.insert(2380, "nginx".into());
        },
        "!port 2380 is taken by nginx",
    ),
    (
        "m1",
        |_, f| {
            f.ports.insert(6443, "haproxy".into());
        },
        "!port 6443 is taken by haproxy",
    ),
    (
        "w1",
        |_, f| {
            f.ports.insert(6443, "haproxy".into());
        },
        "?port 6443 is taken by a haproxy of the host's own",
    ),
    (
        "w1",
        |_, f| {
            f.ports.insert(10250, "-".into());
        },
        "!port 10250 is taken by a program that does not show",
    ),
];

/// The kubelet would start again what somebody stops, and on another port nobody would notice it.
#[test]
fn a_static_pod_of_a_former_role_is_told_from_a_program_to_stop() {
    let file = || FileFact { mode: 0o600, owner: "root:root".into(), sha256: "ab".into() };
    for (host, process, listens, words) in [
        ("m1", None, true, "port 6443 is taken by haproxy"),
        ("m1", Some("haproxy"), true, "was built as a worker and has its haproxy still"),
        (
            "w1",
            Some("kube-apiserver"),
            false,
            "was built as a control plane and has its kube-apiserver still",
        ),
    ] {
        let verdicts = found(host, |_, f| {
            f.begun = Some("prod".into());
            if listens {
                f.ports.insert(6443, "haproxy".into());
            }
            f.files.extend(process.map(|name| (layout::manifest_of(name), file())));
        });
        let [Verdict::Error(text, help)] = &verdicts[..] else { panic!("{verdicts:?}") };
        assert_eq!(text, words);
        assert_eq!(help.starts_with(&format!("give {host} the role back")), process.is_some(), "{help}");
    }
}

#[test]
fn each_check_finds_what_it_is_for_and_nothing_else() {
    for (i, (host, change, wanted)) in CASES.iter().enumerate() {
        let said: Vec<String> = found(host, change)
            .into_iter()
            .map(|verdict| match verdict {
                Verdict::Error(text, help) => {
                    assert!(!help.is_empty());
                    format!("!{text}")
                }
                Verdict::Warning(text, help) => {
                    assert!(!help.is_empty());
                    format!("?{text}")
                }
            })
            .collect();
        assert!(
            said.len() == 1 && said[0].starts_with(wanted),
            "case {i}: wanted {wanted:?}, found {said:?}"
        );
    }
}

/// One that the database fills would stop all writes.
#[test]
fn no_smaller_quota_is_advised_than_the_database_takes() {
    for (database, advised) in [
        (3000, "13384 MiB free are advised, or a smaller etcd.quota_backend_bytes, well above 3000 MiB"),
        (0, "16384 MiB free are advised, or a smaller etcd.quota_backend_bytes"),
    ] {
        let verdicts = found("m1", |_, f| {
            f.etcd_database = database * MIB;
            disk(f, &["/var/lib/etcd"], 9000 * MIB, 20000 * MIB);
        });
        let [Verdict::Warning(_, help)] = &verdicts[..] else { panic!("{verdicts:?}") };
        assert_eq!(help, advised);
    }
}

#[test]
fn what_is_as_it_should_be_is_passed_over() {
    let fine: &[(&str, Change)] = &[
        ("m1", |_, _| {}),
        ("w1", |_, _| {}),
        // What a preflight that was killed left: before it is called, and after.
        ("m1", |_, f| {
            f.ports.extend([(6443, "sleep".into()), (2380, "systemd-socket-".into())]);
        }),
        // Its own programs listen there.
        ("m1", |_, f| {
            f.ports.extend([
                (6443, "kube-apiserver".into()),
                (2379, "etcd".into()),
                (10257, "kube-controller".into()),
            ]);
        }),
        ("w1", |_, f| {
            f.ports.extend([(6443, "haproxy".into()), (10250, "kubelet".into())]);
            f.processes.push(ProcessFact { name: "haproxy".into(), revision: None, etcd_servers: vec![] });
        }),
        // A port that only control planes need.
        ("w1", |_, f| f.ports.extend([(2379, "nginx".into())])),
        // An interrupted run of this cluster, before etcd first served.
        ("m1", |c, f| {
            f.begun = Some(c.name.clone());
            f.etcd_data = true;
            file(f, "/etc/kubernetes/manifests/etcd.yaml");
            f.containerd = Some("2.4.2".into());
        }),
        ("w1", |c, f| {
            f.swap = true;
            c.kubelet.config.insert("failSwapOn".into(), false.into());
        }),
        ("w1", |c, f| {
            f.kernel = "5.4.0".into();
            c.kube_proxy.config.insert("mode".into(), "iptables".into());
        }),
        ("w1", |c, f| {
            c.runtime.install = RuntimeInstall::Existing;
            f.containerd = Some("v2.0.5".into());
        }),
        ("w1", |c, f| {
            disk(f, &FOLDERS, 1 << 40, 1 << 50);
            c.kubelet.config.insert("evictionHard".into(), serde_json::json!({}));
        }),
    ];
    for (i, (host, change)) in fine.iter().enumerate() {
        assert_eq!(found(host, change), [], "case {i}");
    }
}

/// At each run they would be a nuisance.
#[test]
fn remarks_are_made_once_and_to_who_asks() {
    let cluster = testing::single();
    let node = &cluster.nodes[0];
    let mut facts = Facts { os: "ubuntu 24.04".into(), ..well(node) };
    disk(&mut facts, &["/var/lib/etcd"], 4000 * MIB, 20000 * MIB);
    let remarks =
        |facts: &Facts, all| crate::phases::preflight::inspect(&cluster, |_| facts, all).warnings.len();
    assert_eq!(remarks(&facts, false), 2);
    facts.begun = Some(cluster.name.clone());
    facts.processes.push(ProcessFact { name: "kubelet".into(), revision: None, etcd_servers: vec![] });
    assert_eq!((remarks(&facts, false), remarks(&facts, true)), (0, 2));
}
