//! kube-scheduler as a static pod: kubeadm's flags, and no profiling (CIS 1.4.1).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::{inventory::Cluster, layout};

use super::{
    flags,
    static_pod::{Health, Mount, StaticPod},
};

/// The scheduler, the same on every control plane.
pub fn scheduler_pod(cluster: &Cluster, revision: &str) -> Pod {
    let kubeconfig = layout::SCHEDULER_CONF.to_owned();
    let base = [
        ("authentication-kubeconfig", kubeconfig.clone()),
        ("authorization-kubeconfig", kubeconfig.clone()),
        ("bind-address", "127.0.0.1".to_owned()),
        ("kubeconfig", kubeconfig),
        ("leader-elect", "true".to_owned()),
        ("profiling", "false".to_owned()),
    ];
    let mut command = vec!["kube-scheduler".to_owned()];
    command.extend(flags(&base, &cluster.scheduler.extra_args));
    StaticPod {
        name: "kube-scheduler",
        tier: "control-plane",
        annotations: BTreeMap::new(),
        image: cluster.release.kubernetes_image("kube-scheduler"),
        command,
        revision,
        requests: &[("cpu", "100m")],
        mounts: vec![Mount::file("kubeconfig", layout::SCHEDULER_CONF)],
        health: Health {
            scheme: "HTTPS",
            host: "127.0.0.1".to_owned(),
            port: layout::SCHEDULER_PORT,
            live: "/livez",
            ready: Some("/readyz"),
        },
        capabilities: &[],
        user: None,
    }
    .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::{testing, to_yaml};

    #[test]
    fn golden() {
        let pod = scheduler_pod(&testing::single(), "0123abcd");
        testing::golden("single/kube-scheduler.yaml", &to_yaml("pod", &pod).unwrap());
    }
}
