//! The kubelet's configuration file: kubeadm's defaults, CIS 4.2, and the inventory's own fields on top.
//!
//! The serving certificate is ours, signed by the cluster's CA, so that API servers can verify it; the client
//! certificate the kubelet rotates itself. A host that only runs etcd has a kubelet without a cluster: nobody to ask
//! who may do what, so it opens no port at all.

use serde_json::{Map, Value, json};

use crate::{
    inventory::{Cluster, Node, Role},
    layout,
    versions::Version,
};

use super::{CIPHER_SUITES, Error, configuration, to_yaml};

/// The file of a node.
///
/// `resolv_conf` is the resolver file for pods where it is not `/etc/resolv.conf`: with systemd-resolved,
/// `/run/systemd/resolve/resolv.conf`, since its stub on loopback means something else inside a pod; empty where the host
/// has none, since without the file that it is told of a kubelet starts no pod (kubernetes#103110).
pub fn kubelet_config(cluster: &Cluster, node: &Node, resolv_conf: Option<&str>) -> Result<String, Error> {
    let mut fields = shared_config(cluster);
    fields.extend(local_fields(resolv_conf));
    fields.insert("tlsCertFile".to_owned(), layout::KUBELET_SERVING_CERT.into());
    fields.insert("tlsPrivateKeyFile".to_owned(), layout::KUBELET_SERVING_KEY.into());
    if node.is(Role::ControlPlane) || node.is(Role::Etcd) {
        fields.extend(quick_restarts(cluster));
    }
    // Only read when the node registers; later changes are the API's.
    if !node.taints.is_empty() {
        let taints = node.taints.iter().map(|t| json!({"key": t.key, "value": t.value, "effect": t.effect}));
        fields.insert("registerWithTaints".to_owned(), taints.collect());
    }
    to_yaml("the kubelet's configuration", &configuration(Value::Object(fields), &cluster.kubelet.config))
}

/// The node's own part of it, as kubeadm writes and reads it (`WriteInstanceConfigToDisk`): not for the kubelet.
pub fn kubelet_instance_config() -> String {
    format!("containerRuntimeEndpoint: \"{}\"\n", layout::CONTAINERD_SOCKET)
}

/// The file of a host that only runs etcd.
pub fn standalone_kubelet_config(cluster: &Cluster, resolv_conf: Option<&str>) -> Result<String, Error> {
    let mut fields = common_fields();
    fields.extend(local_fields(resolv_conf));
    fields.extend(quick_restarts(cluster));
    // No API server to ask for either, and no port that would need them.
    fields.insert(
        "authentication".to_owned(),
        json!({"anonymous": {"enabled": false}, "webhook": {"enabled": false}}),
    );
    fields.insert("authorization".to_owned(), json!({"mode": "AlwaysAllow"}));
    fields.insert("enableServer".to_owned(), false.into());
    to_yaml("the kubelet's configuration", &configuration(Value::Object(fields), &cluster.kubelet.config))
}

/// What is the same on every node, also on those that `kubeadm join` makes from the ConfigMap `kubelet-config`.
pub(super) fn shared_config(cluster: &Cluster) -> Map<String, Value> {
    let mut fields = common_fields();
    let cluster_fields = json!({
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": format!("{}/ca.crt", layout::PKI_DIR)},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [cluster.network.dns_service_ip()],
        "clusterDomain": cluster.network.cluster_domain,
        "rotateCertificates": true,
        "tlsCipherSuites": CIPHER_SUITES,
        "tlsMinVersion": "VersionTLS12",
    });
    fields.extend(configuration(cluster_fields, &Map::new()));
    fields
}

fn common_fields() -> Map<String, Value> {
    let fields = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
        "eventRecordQPS": 50,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": layout::KUBELET_HEALTH_PORT,
        // A fresh node pulls five images before it is ready; the default is one after the other.
        "maxParallelImagePulls": 4,
        // A fork bomb stays in its pod.
        "podPidsLimit": 4096,
        "readOnlyPort": 0,
        "seccompDefault": true,
        // A node that shuts down stops its pods first, the critical ones last: endpoints are withdrawn and etcd hands
        // its leadership over, instead of all of it being found out by timeouts.
        "shutdownGracePeriod": "30s",
        "shutdownGracePeriodCriticalPods": "10s",
        "staticPodPath": layout::MANIFESTS_DIR,
        "streamingConnectionIdleTimeout": "4h0m0s",
    });
    configuration(fields, &Map::new())
}

/// At most 30 s between two starts of a crashing container, on hosts whose containers are the cluster: an API server
/// that could not start without etcd shall not keep the API away for five minutes after etcd is back.
///
/// Kubelets know the field since 1.32 and accept it, by a feature gate that is on, since 1.35.
fn quick_restarts(cluster: &Cluster) -> Map<String, Value> {
    if cluster.release.kubernetes < Version::new(1, 35, 0) {
        return Map::new();
    }
    configuration(json!({"crashLoopBackOff": {"maxContainerRestartPeriod": "30s"}}), &Map::new())
}

/// What is this host's own, and has no place in the ConfigMap.
fn local_fields(resolv_conf: Option<&str>) -> Map<String, Value> {
    let mut fields =
        configuration(json!({"containerRuntimeEndpoint": layout::CONTAINERD_SOCKET}), &Map::new());
    if let Some(path) = resolv_conf {
        fields.insert("resolvConf".to_owned(), path.into());
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifests::testing, versions::release};

    #[test]
    fn golden() {
        let single = testing::single();
        let config = kubelet_config(&single, testing::node(&single, "m1"), None).unwrap();
        testing::golden("single/kubelet-config.yaml", &config);

        let ha = testing::ha();
        let stub = Some("/run/systemd/resolve/resolv.conf");
        testing::golden(
            "ha/kubelet-config-w1.yaml",
            &kubelet_config(&ha, testing::node(&ha, "w1"), stub).unwrap(),
        );

        let config = standalone_kubelet_config(&testing::external_etcd(), None).unwrap();
        testing::golden("external-etcd/kubelet-config-e1.yaml", &config);
    }

    #[test]
    fn only_control_planes_and_members_restart_quickly_and_only_where_the_kubelet_can() {
        let mut cluster = testing::ha();
        let quick = |cluster: &Cluster, name: &str| {
            let yaml = kubelet_config(cluster, testing::node(cluster, name), None).unwrap();
            yaml.contains("maxContainerRestartPeriod: 30s\n")
        };
        assert!(quick(&cluster, "m1") && !quick(&cluster, "w1"));
        cluster.release = release(Version::new(1, 34, 4)).unwrap();
        assert!(!quick(&cluster, "m1"));
    }

    #[test]
    fn a_host_without_a_resolver_file_is_told_to_ask_for_none() {
        let single = testing::single();
        let config = kubelet_config(&single, testing::node(&single, "m1"), Some("")).unwrap();
        assert!(config.contains("resolvConf: ''\n"), "{config}");
    }

    #[test]
    fn the_inventorys_fields_win() {
        let mut cluster = testing::single();
        cluster.kubelet.config = configuration(
            json!({"cgroupDriver": "cgroupfs", "failCgroupV1": false, "authentication": {"webhook": {"cacheTTL": "1m"}}}),
            &Map::new(),
        );
        let yaml = kubelet_config(&cluster, testing::node(&cluster, "m1"), None).unwrap();
        for line in
            ["cgroupDriver: cgroupfs\n", "failCgroupV1: false\n", "cacheTTL: 1m\n", "clientCAFile: /etc"]
        {
            assert!(yaml.contains(line), "{line} is not in\n{yaml}");
        }
    }
}
