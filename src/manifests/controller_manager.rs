//! kube-controller-manager as a static pod: kubeadm's flags, no profiling (CIS 1.3.2), an explicit limit for finished
//! pods (CIS 1.3.1).
//!
//! It gives nodes their pod subnets only where a network plugin that was brought as manifests expects it. With the
//! plugin `bridge` rsadm does so itself, and what is written on the hosts decides.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::{
    inventory::{Cluster, NetworkPlugin},
    layout,
};

use super::{
    flags,
    static_pod::{Health, Mount, StaticPod},
};

/// The controller manager, the same on every control plane.
pub fn controller_manager_pod(cluster: &Cluster, revision: &str) -> Pod {
    let mut base = base_flags(cluster);
    if cluster.network.plugin == NetworkPlugin::Bridge {
        base.push(("allocate-node-cidrs", "false".to_owned()));
    } else {
        base.push(("allocate-node-cidrs", "true".to_owned()));
        base.push(("cluster-cidr", cluster.network.pod_subnet.to_string()));
        base.push(("service-cluster-ip-range", cluster.network.service_subnet.to_string()));
    }
    let mut command = vec!["kube-controller-manager".to_owned()];
    command.extend(flags(&base, &cluster.controller_manager.extra_args));
    StaticPod {
        name: "kube-controller-manager",
        tier: "control-plane",
        annotations: BTreeMap::new(),
        image: cluster.release.kubernetes_image("kube-controller-manager"),
        command,
        revision,
        requests: &[("cpu", "200m")],
        mounts: vec![
            Mount::authorities(),
            Mount::folder("k8s-certs", layout::PKI_DIR),
            Mount::file("kubeconfig", layout::CONTROLLER_MANAGER_CONF),
        ],
        health: Health {
            scheme: "HTTPS",
            host: "127.0.0.1".to_owned(),
            port: layout::CONTROLLER_MANAGER_PORT,
            live: "/healthz",
            ready: None,
        },
        capabilities: &[],
        user: None,
    }
    .build()
}

fn base_flags(cluster: &Cluster) -> Vec<(&'static str, String)> {
    let pki = |file: &str| format!("{}/{file}", layout::PKI_DIR);
    let kubeconfig = layout::CONTROLLER_MANAGER_CONF.to_owned();
    vec![
        ("authentication-kubeconfig", kubeconfig.clone()),
        ("authorization-kubeconfig", kubeconfig.clone()),
        ("bind-address", "127.0.0.1".to_owned()),
        ("client-ca-file", pki("ca.crt")),
        ("cluster-name", cluster.name.clone()),
        ("cluster-signing-cert-file", pki("ca.crt")),
        ("cluster-signing-key-file", pki("ca.key")),
        ("controllers", "*,bootstrapsigner,tokencleaner".to_owned()),
        // For each of its forty controllers it makes a service account and a token before the first of them works: five
        // seconds of a start, and of every change of leader, at the default of 20 requests a second.
        ("kube-api-burst", "200".to_owned()),
        ("kube-api-qps", "100".to_owned()),
        ("kubeconfig", kubeconfig),
        ("leader-elect", "true".to_owned()),
        ("profiling", "false".to_owned()),
        ("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
        ("root-ca-file", pki("ca.crt")),
        ("service-account-private-key-file", pki("sa.key")),
        // The default is 12500; each costs memory in every API server's watch cache.
        ("terminated-pod-gc-threshold", "1000".to_owned()),
        ("use-service-account-credentials", "true".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::{testing, to_yaml};

    #[test]
    fn golden() {
        for (cluster, path) in [
            (testing::single(), "single/kube-controller-manager.yaml"),
            (testing::external_etcd(), "external-etcd/kube-controller-manager.yaml"),
        ] {
            testing::golden(path, &to_yaml("pod", &controller_manager_pod(&cluster, "0123abcd")).unwrap());
        }
    }
}
