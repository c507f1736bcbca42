//! kube-proxy, as kubeadm installs it (`phases/addons/proxy/manifests.go`), in nftables mode.
//!
//! Two daemon sets share a configuration, whose kubeconfig dials what is right on every node of ours: with node-local load
//! balancers, loopback. On nodes that `kubeadm join` added nothing listens there, so theirs dials what clients dial.
//!
//! nftables mode is stable since Kubernetes 1.33: rules change in proportion to what changed, not to what exists. A
//! change of the configuration rolls the pods, through a hash of it in their template.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet},
        core::v1::{
            Affinity, ConfigMap, ConfigMapVolumeSource, Container, EnvVar, EnvVarSource,
            HostPathVolumeSource, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
            ObjectFieldSelector, PodSpec, PodTemplateSpec, SecurityContext, Toleration, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{hash::hex, inventory::Cluster, layout};

use super::{
    Error,
    addon::{
        Documents, SYSTEM, Who, bound_role, cluster_binding, config_map, namespaced, pairs, rule,
        service_account,
    },
    bootstrap::JOINING_NODES,
    configuration, flags, to_yaml,
};

/// The name of the daemon set of nodes of the inventory; as the label `k8s-app`, what Kubernetes' tools know it by.
const OURS: &str = "kube-proxy";

/// The same of nodes that others joined.
const JOINED: &str = "kube-proxy-joined";

/// Where the pod has its ConfigMap.
const DIR: &str = "/var/lib/kube-proxy";

/// All objects of the add-on, as YAML documents.
pub fn kube_proxy(cluster: &Cluster) -> Result<String, Error> {
    let files = files(cluster)?;
    let mut documents = Documents::default();
    documents.add(&service_account("kube-proxy"))?;
    let account = Who::ServiceAccount("kube-proxy");
    documents.add(&cluster_binding("kubeadm:node-proxier", "system:node-proxier", account))?;
    // `kubeadm join` reads it.
    let read = rule("", &["configmaps"], &["kube-proxy"], &["get"]);
    let (role, binding) = bound_role(SYSTEM, "kube-proxy", read, &[Who::Group(JOINING_NODES)]);
    documents.add(&role)?;
    documents.add(&binding)?;
    let revision = revision(&files);
    documents.add(&files)?;
    documents.add(&daemon_set(cluster, OURS, &revision))?;
    documents.add(&daemon_set(cluster, JOINED, &revision))?;
    Ok(documents.into_yaml())
}

fn files(cluster: &Cluster) -> Result<ConfigMap, Error> {
    let metrics = format!("127.0.0.1:{}", layout::KUBE_PROXY_METRICS_PORT);
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": format!("{DIR}/kubeconfig.conf")},
        "clusterCIDR": cluster.network.pod_subnet.to_string(),
        "metricsBindAddress": metrics,
        "mode": "nftables",
    });
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default", "cluster": {
            "certificate-authority": "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
            "server": cluster.api_url_everywhere(),
        }}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "namespace": "default", "user": "default"}}],
        "current-context": "default",
        "users": [{"name": "default", "user": {"tokenFile": "/var/run/secrets/kubernetes.io/serviceaccount/token"}}],
    });
    let config = configuration(config, &cluster.kube_proxy.config);
    let mut map = config_map(
        SYSTEM,
        "kube-proxy",
        [
            ("config.conf", to_yaml("kube-proxy's configuration", &config)?),
            ("kubeconfig.conf", to_yaml("kube-proxy's kubeconfig", &kubeconfig)?),
        ],
    );
    map.metadata.labels = Some(pairs([("app", "kube-proxy")]));
    Ok(map)
}

/// The first half of a hash over the files.
fn revision(files: &ConfigMap) -> String {
    let mut hash = Sha256::new();
    for (name, text) in files.data.iter().flatten() {
        hash.update(name);
        hash.update([0]);
        hash.update(text);
        hash.update([0]);
    }
    hex(&hash.finalize()[..16])
}

fn daemon_set(cluster: &Cluster, name: &'static str, revision: &str) -> DaemonSet {
    let label = || Some(pairs([("k8s-app", name)]));
    let template = ObjectMeta {
        annotations: Some([("rsadm/configuration".to_owned(), revision.to_owned())].into()),
        labels: label(),
        ..ObjectMeta::default()
    };
    let spec = DaemonSetSpec {
        selector: LabelSelector { match_labels: label(), ..LabelSelector::default() },
        template: PodTemplateSpec { metadata: Some(template), spec: Some(pod_spec(cluster, name)) },
        update_strategy: Some(DaemonSetUpdateStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(RollingUpdateDaemonSet {
                max_unavailable: Some(IntOrString::Int(at_once(cluster))),
                ..RollingUpdateDaemonSet::default()
            }),
        }),
        ..DaemonSetSpec::default()
    };
    let metadata = ObjectMeta { labels: label(), ..namespaced(SYSTEM, name) };
    DaemonSet { metadata, spec: Some(spec), status: None }
}

/// How many nodes may be without kube-proxy: they keep the rules they have. One by one would take an hour for 100 nodes, and
/// never ends where a node is switched off, which counts for as long as somebody does not delete it.
fn at_once(cluster: &Cluster) -> i32 {
    i32::try_from(cluster.kubernetes_nodes().count().div_ceil(10)).unwrap_or(i32::MAX).max(2)
}

/// Only nodes of the inventory bear the label.
fn affinity(name: &str) -> Affinity {
    let operator = if name == OURS { "Exists" } else { "DoesNotExist" };
    let term = NodeSelectorRequirement {
        key: layout::NODE_LABEL.to_owned(),
        operator: operator.to_owned(),
        values: None,
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![term]), ..NodeSelectorTerm::default() };
    let node_affinity = NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(NodeSelector {
            node_selector_terms: vec![term],
        }),
        ..NodeAffinity::default()
    };
    Affinity { node_affinity: Some(node_affinity), ..Affinity::default() }
}

fn pod_spec(cluster: &Cluster, name: &str) -> PodSpec {
    let host_path = |path: &str, kind: Option<&str>| {
        Some(HostPathVolumeSource { path: path.to_owned(), type_: kind.map(str::to_owned) })
    };
    PodSpec {
        affinity: Some(affinity(name)),
        containers: vec![container(cluster, name)],
        host_network: Some(true),
        node_selector: Some(pairs([("kubernetes.io/os", "linux")])),
        priority_class_name: Some("system-node-critical".to_owned()),
        service_account_name: Some("kube-proxy".to_owned()),
        tolerations: Some(vec![Toleration { operator: Some("Exists".to_owned()), ..Toleration::default() }]),
        volumes: Some(vec![
            Volume {
                name: "kube-proxy".to_owned(),
                config_map: Some(ConfigMapVolumeSource {
                    name: "kube-proxy".to_owned(),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            },
            Volume {
                name: "xtables-lock".to_owned(),
                host_path: host_path("/run/xtables.lock", Some("FileOrCreate")),
                ..Volume::default()
            },
            Volume {
                name: "lib-modules".to_owned(),
                host_path: host_path("/lib/modules", None),
                ..Volume::default()
            },
        ]),
        ..PodSpec::default()
    }
}

fn container(cluster: &Cluster, name: &str) -> Container {
    let mut base = vec![
        ("config", format!("{DIR}/config.conf")),
        ("hostname-override", "$(NODE_NAME)".to_owned()),
        // The file says the same, and wins; auditors read the command line (CIS 4.3.1).
        ("metrics-bind-address", format!("127.0.0.1:{}", layout::KUBE_PROXY_METRICS_PORT)),
    ];
    if name == JOINED {
        // Laid over the kubeconfig's address, also where a configuration file is given.
        base.push(("master", format!("https://{}", cluster.api_endpoint())));
    }
    let mut command = vec!["/usr/local/bin/kube-proxy".to_owned()];
    command.extend(flags(&base, &BTreeMap::new()));
    let mount = |name: &str, path: &str, read_only: Option<bool>| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        ..VolumeMount::default()
    };
    Container {
        name: "kube-proxy".to_owned(),
        image: Some(cluster.release.kubernetes_image("kube-proxy")),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(command),
        env: Some(vec![EnvVar {
            name: "NODE_NAME".to_owned(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path: "spec.nodeName".to_owned(),
                    ..ObjectFieldSelector::default()
                }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        }]),
        security_context: Some(SecurityContext { privileged: Some(true), ..SecurityContext::default() }),
        volume_mounts: Some(vec![
            mount("kube-proxy", DIR, None),
            mount("xtables-lock", "/run/xtables.lock", None),
            mount("lib-modules", "/lib/modules", Some(true)),
        ]),
        ..Container::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::manifests::testing;

    #[test]
    fn golden() {
        testing::golden("single/kube-proxy.yaml", &kube_proxy(&testing::single()).unwrap());
        testing::golden("ha/kube-proxy.yaml", &kube_proxy(&testing::ha()).unwrap());
    }

    #[test]
    fn a_changed_configuration_rolls_the_pods() {
        let before = testing::ha();
        let mut after = testing::ha();
        after.kube_proxy.config =
            configuration(json!({"conntrack": {"maxPerCore": 0, "min": 0}}), &Map::new());
        let (before, after) = (files(&before).unwrap(), files(&after).unwrap());
        assert!(after.data.as_ref().unwrap()["config.conf"].contains("maxPerCore: 0\n"));
        assert_ne!(revision(&before), revision(&after));
        assert_eq!(revision(&before).len(), 32);
    }
}
