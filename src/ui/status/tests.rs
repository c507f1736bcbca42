//! The whole text, as an operator sees it.

use super::*;
use crate::{observe::Facts, status::tests::Scene};

fn text(scene: &Scene) -> String {
    render(&scene.status())
}

#[test]
fn healthy() {
    insta::assert_snapshot!(text(&Scene::new()), @"
    prod  Kubernetes v1.37.2  healthy

    HOST  ADDRESS   ROLES               NODE   API    KUBELET  CONTAINERD  OS         KERNEL          CERT  CHANGES  PROBLEMS
    m1    10.0.0.1  control-plane,etcd  Ready  ready  v1.37.2  v2.4.2      debian 12  6.1.0-40-amd64  –     0
    m2    10.0.0.2  control-plane,etcd  Ready  ready  v1.37.2  v2.4.2      debian 12  6.1.0-40-amd64  –     0
    m3    10.0.0.3  control-plane,etcd  Ready  ready  v1.37.2  v2.4.2      debian 12  6.1.0-40-amd64  –     0
    w1    10.0.0.9  worker              Ready  –      v1.37.2  v2.4.2      debian 12  6.1.0-40-amd64  –     0

    etcd     3 of 3 voters healthy, leader m2; can lose 1
    API      3 of 3 servers ready; clients dial https://10.0.0.1:6443
    nodes    4 of 4 Ready
    addons   kube-proxy 4/4, coredns 2/2
    changes  in sync: 212 things checked
    ");
}

#[test]
fn one_control_plane_off() {
    let mut scene = Scene::new().off("m3");
    scene.etcd = scene.etcd.silence(3, "host not reached: no route to host");
    insta::assert_snapshot!(text(&scene), @"
    prod  Kubernetes v1.37.2  DEGRADED

    HOST  ADDRESS   ROLES               NODE   API    KUBELET  CONTAINERD  OS         KERNEL          CERT  CHANGES  PROBLEMS
    m1    10.0.0.1  control-plane,etcd  Ready  ready  v1.37.2  v2.4.2      debian 12  6.1.0-40-amd64  –     –
    m2    10.0.0.2  control-plane,etcd  Ready  ready  v1.37.2  v2.4.2      debian 12  6.1.0-40-amd64  –     –
    m3    10.0.0.3  control-plane,etcd  Ready  –      –        –           –          –               –     –        not reached: no route to host
    w1    10.0.0.9  worker              Ready  –      v1.37.2  v2.4.2      debian 12  6.1.0-40-amd64  –     –

    etcd     2 of 3 voters healthy, leader m2; can lose no more
    API      2 of 3 servers ready; clients dial https://10.0.0.1:6443
    nodes    4 of 4 Ready
    addons   kube-proxy 4/4, coredns 2/2
    changes  not known without m3

    m3 does not answer (host not reached: no route to host)
    etcd survives no further failure: do not restart m1 and m2 until m3 is healthy
    ");
}

#[test]
fn no_quorum() {
    let mut scene = Scene::new().off("m2").off("m3");
    scene.etcd = scene.etcd.silence(2, "host not reached").silence(3, "host not reached").without_quorum();
    scene.seen.nodes = None;
    scene.api[0].1 = Err("not ready: etcd".to_owned());
    insta::assert_snapshot!(text(&scene), @"
    prod  Kubernetes v1.37.2  NO QUORUM: etcd serves no writes, and the API nothing that is not cached

    HOST  ADDRESS   ROLES               NODE  API   KUBELET  CONTAINERD  OS         KERNEL          CERT  CHANGES  PROBLEMS
    m1    10.0.0.1  control-plane,etcd  –     down  v1.37.2  v2.4.2      debian 12  6.1.0-40-amd64  –     –        API server: not ready: etcd
    m2    10.0.0.2  control-plane,etcd  –     –     –        –           –          –               –     –        not reached: no route to host
    m3    10.0.0.3  control-plane,etcd  –     –     –        –           –          –               –     –        not reached: no route to host
    w1    10.0.0.9  worker              –     –     v1.37.2  v2.4.2      debian 12  6.1.0-40-amd64  –     –

    etcd     0 of 3 voters healthy; serves no writes
    API      0 of 3 servers ready; clients dial https://10.0.0.1:6443
    nodes    not known: no API server lists them
    changes  not known without m2, m3

    m2 does not answer (host not reached)
    m3 does not answer (host not reached)
    start etcd on m2 and m3 again; this starts all that are stopped, together:
      rsadm up prod.yaml
    until then delete no data directory: it takes one of them to get the quorum back
    ");
}

#[test]
fn etcd_only() {
    insta::assert_snapshot!(text(&Scene::etcd_only()), @"
    prod  healthy

    HOST  ADDRESS   ROLES  KUBELET  CONTAINERD  OS         KERNEL          CERT  CHANGES  PROBLEMS
    m1    10.0.0.1  etcd   v1.37.2  v2.4.2      debian 12  6.1.0-40-amd64  –     0
    m2    10.0.0.2  etcd   v1.37.2  v2.4.2      debian 12  6.1.0-40-amd64  –     0
    m3    10.0.0.3  etcd   v1.37.2  v2.4.2      debian 12  6.1.0-40-amd64  –     0

    etcd     3 of 3 voters healthy, leader m2; can lose 1
    changes  in sync: 212 things checked
    ");
}

#[test]
fn before_the_first_up() {
    let mut scene = Scene::new();
    scene.seen.hosts.values_mut().for_each(|f| *f = Facts { os: "debian 12".to_owned(), ..Facts::default() });
    scene.seen.nodes = None;
    scene.api.clear();
    scene.etcd =
        [1, 2, 3].into_iter().fold(scene.etcd, |etcd, n| etcd.silence(n, "has no etcd certificates"));
    insta::assert_snapshot!(text(&scene), @"
    prod  Kubernetes v1.37.2  not built

    HOST  ADDRESS   ROLES               NODE  API  KUBELET  CONTAINERD  OS         KERNEL  CERT  CHANGES  PROBLEMS
    m1    10.0.0.1  control-plane,etcd  –     –    –        –           debian 12          –     0        nothing of the cluster is on it
    m2    10.0.0.2  control-plane,etcd  –     –    –        –           debian 12          –     0        nothing of the cluster is on it
    m3    10.0.0.3  control-plane,etcd  –     –    –        –           debian 12          –     0        nothing of the cluster is on it
    w1    10.0.0.9  worker              –     –    –        –           debian 12          –     0        nothing of the cluster is on it

    etcd     0 of 3 voters healthy; serves no writes
    API      0 of 3 servers ready; clients dial https://10.0.0.1:6443
    nodes    not known: no API server lists them
    changes  in sync: 212 things checked

    nothing is built yet; this does it:
      rsadm up prod.yaml
    ");
}
