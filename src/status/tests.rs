//! A cluster that is well, spoiled in one way at a time.

use time::{Duration, macros::datetime};

use super::{host::components, *};
use crate::{
    etcd::status::tests::Scene as EtcdScene,
    inventory::{NetworkPlugin, Node, load},
    layout,
    observe::{
        Facts, FileFact, NodeFact,
        facts::{ProcessFact, ProgramFact, UnitFact},
    },
    pki::{authorities::Ca, issue::Authority, specs},
    plan::Plan,
};

const NOW: OffsetDateTime = datetime!(2026-11-22 14:05:10 UTC);

const INVENTORY: &str = "
cluster_name: prod
kubernetes_version: v1.37.2
hosts:
  - {name: m1, address: 10.0.0.1, roles: [control-plane, etcd]}
  - {name: m2, address: 10.0.0.2, roles: [control-plane, etcd]}
  - {name: m3, address: 10.0.0.3, roles: [control-plane, etcd]}
  - {name: w1, address: 10.0.0.9, roles: [worker]}
";

const ETCD_ONLY: &str = "
cluster_name: prod
kubernetes_version: v1.37.2
hosts:
  - {name: m1, address: 10.0.0.1, roles: [etcd]}
  - {name: m2, address: 10.0.0.2, roles: [etcd]}
  - {name: m3, address: 10.0.0.3, roles: [etcd]}
";

/// A cluster that is well; tests then spoil it.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) seen: Observed,
    pub(crate) unreachable: BTreeMap<NodeName, String>,
    pub(crate) etcd: EtcdScene,
    pub(crate) api: Vec<(NodeName, Answer)>,
    pub(crate) plan: Option<Result<Plan, Refusal>>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::of(INVENTORY)
    }

    pub(crate) fn etcd_only() -> Self {
        Self::of(ETCD_ONLY)
    }

    fn of(inventory: &str) -> Self {
        let cluster = load(inventory, "prod.yaml", None).unwrap().cluster;
        let node = || NodeFact { ready: true, ..NodeFact::default() };
        let workload = |name: &str, n| Workload { name: name.to_owned(), ready: n, wanted: n };
        let workloads = vec![workload("daemonset/kube-proxy", 4), workload("deployment/coredns", 2)];
        let seen = Observed {
            hosts: cluster.nodes.iter().map(|n| (n.name.clone(), facts(&cluster, n))).collect(),
            nodes: cluster
                .has_kubernetes()
                .then(|| cluster.nodes.iter().map(|n| (n.name.clone(), node())).collect()),
            ..Observed::default()
        };
        let api = cluster.with_role(Role::ControlPlane);
        let api = api.map(|n| (n.name.clone(), Ok(Some(workloads.clone())))).collect();
        let plan = Some(Ok(Plan { checked: 212, ..Plan::default() }));
        Self { etcd: EtcdScene::new(3), unreachable: BTreeMap::new(), cluster, seen, api, plan }
    }

    /// The host is off.
    pub(crate) fn off(mut self, name: &str) -> Self {
        let why = "not reached: no route to host";
        self.seen.hosts.remove(&NodeName::new(name));
        self.api.retain(|(n, _)| n.as_str() != name);
        self.unreachable.insert(NodeName::new(name), why.to_owned());
        self.plan = None;
        self
    }

    /// What the API server of a control plane lists.
    fn workloads(&mut self, at: usize) -> &mut Vec<Workload> {
        self.api[at].1.as_mut().unwrap().as_mut().unwrap()
    }

    pub(crate) fn facts(&mut self, name: &str) -> &mut Facts {
        self.seen.hosts.get_mut(&NodeName::new(name)).unwrap()
    }

    pub(crate) fn status(&self) -> ClusterStatus {
        assess(&Sources {
            cluster: &self.cluster,
            inventory: " prod.yaml",
            seen: &self.seen,
            unreachable: &self.unreachable,
            etcd: &self.etcd.report(),
            api: &self.api,
            plan: self.plan.as_ref(),
            now: NOW,
        })
    }
}

fn facts(cluster: &Cluster, node: &Node) -> Facts {
    let process = |name: &str| ProcessFact {
        name: name.chars().take(15).collect(),
        revision: None,
        etcd_servers: Vec::new(),
    };
    let kubelet = "http://mirror/dl.k8s.io/release/v1.37.2/bin/linux/amd64/kubelet".to_owned();
    Facts {
        os: "debian 12".to_owned(),
        kernel: "6.1.0-40-amd64".to_owned(),
        containerd: Some("v2.4.2".to_owned()),
        begun: Some(cluster.name.clone()),
        units: ["containerd", "kubelet", "rsadm-network"]
            .map(|u| (u.to_owned(), UnitFact { active: true, enabled: true }))
            .into(),
        processes: components(cluster, node)
            .into_iter()
            .chain(["kubelet", "containerd"])
            .map(process)
            .collect(),
        programs: [("kubelet".to_owned(), ProgramFact { kept: true, url: kubelet })].into(),
        ..Facts::default()
    }
}

/// The verdict, each host's problems, the advice.
fn summary(status: &ClusterStatus) -> String {
    let mut lines = vec![format!("{:?}", status.verdict)];
    lines.extend(
        status
            .hosts
            .iter()
            .filter(|h| !h.problems.is_empty())
            .map(|h| format!("{}: {}", h.name, h.problems.join("; "))),
    );
    lines.extend(status.advice.iter().map(|a| match &a.command {
        Some(command) => format!("{:?}: {} → {command}", a.level, a.text),
        None => format!("{:?}: {}", a.level, a.text),
    }));
    lines.join("\n")
}

#[test]
fn healthy() {
    assert_eq!(summary(&Scene::new().status()), "Healthy");
    assert_eq!(summary(&Scene::etcd_only().status()), "Healthy");
}

/// An operator's own authority beside rsadm's files is none of its business, and what ends with its authority is not renewed.
#[test]
fn only_what_can_be_renewed_is_told_to_be() {
    let make = |days: i64| Authority::make(Ca::Etcd, NOW - Duration::days(3650 - days)).unwrap();
    let der = |pem: &str| pem.lines().filter(|l| !l.starts_with('-')).collect::<String>();
    for (authority, age, days, told) in [
        (3000_i64, 0, 365, "Healthy"),
        (
            3000,
            345 * 24,
            20,
            "Degraded\nWarning: /etc/kubernetes/pki/etcd/server.crt on m1 expires in 20 days; this renews what ends soon: \
             → rsadm certs renew prod.yaml",
        ),
        (
            20,
            0,
            20,
            "Degraded\nWarning: the etcd CA ends in 20 days, and with it all that it signed; this tells more: → rsadm certs status \
             prod.yaml",
        ),
        (
            170,
            0,
            170,
            "Degraded\nWarning: the etcd CA ends in 170 days, and with it all that it signed; this tells more: → rsadm certs status \
             prod.yaml",
        ),
        (
            -1,
            366 * 24,
            -1,
            "Degraded\nWarning: the etcd CA has expired, and nothing can be renewed with it; this tells more: → rsadm certs status \
             prod.yaml",
        ),
        // Within the first day after its end.
        (
            3000,
            365 * 24 + 1,
            -1,
            "Degraded\nWarning: /etc/kubernetes/pki/etcd/server.crt on m1 has expired; this renews what ends soon: → rsadm certs \
             renew prod.yaml",
        ),
    ] {
        let mut scene = Scene::etcd_only();
        let spec = specs::spec_for(&scene.cluster, &scene.cluster.nodes[0], "etcd-server").unwrap();
        let authority = make(authority);
        let issued = authority.issue(&spec, NOW - Duration::hours(age)).unwrap();
        let certs = &mut scene.facts("m1").certs;
        certs.insert(format!("{}/oidc-ca.crt", layout::PKI_DIR), der(&make(12).files().cert));
        certs.insert(Ca::Etcd.cert_path(), der(&authority.files().cert));
        certs.insert(spec.place.cert_path().to_owned(), der(&issued.cert));
        let status = scene.status();
        assert_eq!(
            (status.first_expiry.as_ref().map(|e| e.days), summary(&status).as_str()),
            (Some(days), told)
        );
    }
}

/// On one host what no renewal helps ends before what one does.
#[test]
fn what_can_be_renewed_is_told_beside_what_ends_with_its_authority() {
    let mut scene = Scene::new();
    let node = scene.cluster.nodes[0].clone();
    for (ca, days, name, age) in [(Ca::Etcd, 10, "etcd-server", 0), (Ca::Cluster, 3000, "apiserver", 345)] {
        let authority = Authority::make(ca, NOW - Duration::days(3650 - days)).unwrap();
        let spec = specs::spec_for(&scene.cluster, &node, name).unwrap();
        let issued = authority.issue(&spec, NOW - Duration::days(age)).unwrap();
        let der = |pem: &str| pem.lines().filter(|l| !l.starts_with('-')).collect::<String>();
        let certs = &mut scene.facts("m1").certs;
        certs.insert(ca.cert_path(), der(&authority.files().cert));
        certs.insert(spec.place.cert_path().to_owned(), der(&issued.cert));
    }
    let status = scene.status();
    assert_eq!(status.first_expiry.as_ref().map(|e| e.days), Some(10));
    let renewals =
        status.advice.iter().filter(|a| a.command.as_deref() == Some("rsadm certs renew prod.yaml"));
    assert_eq!(
        renewals.map(|a| a.text.as_str()).collect::<Vec<_>>(),
        ["/etc/kubernetes/pki/apiserver.crt on m1 expires in 20 days; this renews what ends soon:"]
    );
}

#[test]
fn a_stopped_component_and_a_sick_api_server() {
    let mut scene = Scene::new();
    scene.facts("w1").processes.retain(|p| p.name != "haproxy");
    scene.facts("m1").units.remove("kubelet");
    scene.api[2].1 = Err("not ready: etcd".to_owned());
    insta::assert_snapshot!(summary(&scene.status()), @r"
    Degraded
    m1: kubelet does not run
    m3: API server: not ready: etcd
    w1: haproxy does not run
    Warning: what should run on m1, w1 and does not, this starts: → rsadm up prod.yaml
    Warning: the API server of m3 runs and is not ready; if it stays so, this tries every port between hosts: → rsadm preflight prod.yaml
    ");
}

#[test]
fn addons_that_are_not_ready_and_nodes_that_nobody_named() {
    let mut scene = Scene::new();
    scene.workloads(0)[1].ready = 0;
    let ours =
        NodeFact { labels: [(layout::NODE_LABEL.to_owned(), String::new())].into(), ..NodeFact::default() };
    scene.seen.nodes.as_mut().unwrap().insert(NodeName::new("w7"), ours);
    scene.seen.nodes.as_mut().unwrap().insert(NodeName::new("w8"), NodeFact::default());
    scene.seen.nodes.as_mut().unwrap().get_mut(&NodeName::new("w1")).unwrap().ready = false;
    insta::assert_snapshot!(summary(&scene.status()), @r"
    Degraded
    w1: node is not Ready
    Warning: not Ready though the kubelet runs: w1; this tells more: → kubectl describe node w1
    Warning: 0 of 2 pods of deployment/coredns are ready; this tells more: → kubectl -n kube-system describe deployment/coredns
    Note: node w7 is not in the inventory; name it there, or take it out of the cluster: → kubectl drain w7 --ignore-daemonsets && kubectl delete node w7
    Note: node w8 is not in the inventory, and rsadm did not build it: it may stay; this takes it out of the cluster, before `kubeadm reset` there: → kubectl drain w8 --ignore-daemonsets && kubectl delete node w8
    ");
}

#[test]
fn addons_that_are_gone_or_switched_off() {
    let mut scene = Scene::new();
    scene.workloads(0).remove(0);
    scene.workloads(0)[0] = Workload { name: "deployment/coredns".to_owned(), ready: 0, wanted: 0 };
    insta::assert_snapshot!(summary(&scene.status()), @"
    Degraded
    Warning: daemonset/kube-proxy, which every cluster needs, is not in kube-system; this makes it anew: → rsadm up prod.yaml
    Warning: deployment/coredns, which every cluster needs, is scaled to no pods; this gives it two: → kubectl -n kube-system scale deployment/coredns --replicas 2
    ");
    // What kubeadm built may do without, and so may what has no network yet.
    scene.cluster.network.plugin = NetworkPlugin::None;
    assert_eq!(summary(&scene.status()), "Healthy");
    scene.seen.nodes.as_mut().unwrap().get_mut(&NodeName::new("w1")).unwrap().ready = false;
    insta::assert_snapshot!(summary(&scene.status()), @"
    Degraded
    Warning: not Ready: w1; with network.plugin: none nodes, and CoreDNS with them, wait for the network plugin that you apply
    ");
    // Where a plugin has been applied, the reason is another.
    let file = FileFact { mode: 0o644, owner: "root:root".into(), sha256: String::new() };
    scene.facts("w1").files.insert("/etc/cni/net.d/05-cilium.conflist".into(), file);
    insta::assert_snapshot!(summary(&scene.status()), @"
    Degraded
    w1: node is not Ready
    Warning: not Ready though the kubelet runs: w1; this tells more: → kubectl describe node w1
    ");
    scene.facts("w1").files.remove("/etc/cni/net.d/05-cilium.conflist");
    scene.seen.nodes.as_mut().unwrap().get_mut(&NodeName::new("w1")).unwrap().ready = true;
    scene.cluster.network.plugin = NetworkPlugin::Bridge;
    scene.seen.hosts.values_mut().for_each(|facts| facts.begun = None);
    assert_eq!(summary(&scene.status()), "Healthy");
}

#[test]
fn a_pod_network_that_was_stopped() {
    let mut scene = Scene::new();
    scene.facts("w1").units.get_mut("rsadm-network").unwrap().active = false;
    insta::assert_snapshot!(summary(&scene.status()), @"
    Degraded
    w1: rsadm-network does not run
    Warning: what should run on w1 and does not, this starts: → rsadm up prod.yaml
    ");
    scene.cluster.network.plugin = NetworkPlugin::None;
    assert_eq!(summary(&scene.status()), "Healthy");
}

/// The first API server that lists is believed, and silence is no good news.
#[test]
fn what_no_api_server_lists() {
    let mut scene = Scene::new();
    scene.api[0].1 = Ok(None);
    assert_eq!(summary(&scene.status()), "Healthy");
    scene.api.iter_mut().for_each(|(_, answer)| *answer = Ok(None));
    scene.seen.nodes = None;
    insta::assert_snapshot!(summary(&scene.status()), @"
    Degraded
    Warning: an API server is ready, and none listed nodes in time; this waits for longer: → kubectl get nodes
    Warning: an API server is ready, and none listed what runs in kube-system in time; this waits for longer: → kubectl -n kube-system get deployments,daemonsets
    ");
}

#[test]
fn a_plan_that_refuses_is_said_and_one_that_cannot_be_made_too() {
    let refusal = Refusal {
        rule: "preflight",
        subject: "1 finding".to_owned(),
        why: "\n  w1: swap is on\n      swapoff -a".to_owned(),
        help: "nothing was changed".to_owned(),
    };
    let scene = Scene { plan: Some(Err(refusal)), ..Scene::new() };
    insta::assert_snapshot!(summary(&scene.status()), @"
    Degraded
    Warning: up would refuse: 1 finding: w1: swap is on
          swapoff -a
      nothing was changed
    ");
    assert_eq!(scene.status().changes.unknown.as_deref(), Some("up would refuse: 1 finding"));
    assert_eq!(scene.status().verdict, Verdict::Degraded);
    assert_eq!(Scene::new().off("w1").status().changes.unknown.as_deref(), Some("not known without w1"));
}

/// Of a member's host etcd's advice tells, and here it is well.
#[test]
fn a_host_that_is_off_is_told_with_what_helps() {
    insta::assert_snapshot!(summary(&Scene::new().off("w1").status()), @"
    Degraded
    w1: not reached: no route to host
    Warning: w1 cannot be reached over SSH: is the host up? once it is, what runs there goes on by itself; where it is gone for good: kubectl delete node w1, and take it out of the inventory
    ");
    assert!(Scene::new().off("m3").status().advice.is_empty());
}

#[test]
fn hosts_before_the_first_up() {
    let mut scene = Scene::new();
    for facts in scene.seen.hosts.values_mut() {
        *facts = Facts::default();
    }
    scene.seen.nodes = None;
    let status = scene.status();
    assert!(!status.built);
    assert_eq!(status.advice[0].command.as_deref(), Some("rsadm up prod.yaml"));
}
