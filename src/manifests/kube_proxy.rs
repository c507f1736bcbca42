//! kube-proxy, as kubeadm installs it (`phases/addons/proxy/manifests.go`), in nftables mode.
//!
//! nftables mode is stable since Kubernetes 1.33: rules change in proportion to what changed, not to what exists. A
//! change of the configuration rolls the pods, through a hash of it in their template.

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet},
        core::v1::{
            ConfigMap, ConfigMapVolumeSource, Container, EnvVar, EnvVarSource, HostPathVolumeSource,
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

use crate::{inventory::Cluster, layout};

use super::{
    Error,
    addon::{
        Documents, SYSTEM, Who, bound_role, cluster_binding, config_map, namespaced, pairs, rule,
        service_account,
    },
    bootstrap::JOINING_NODES,
    configuration, flags, to_yaml,
};

/// The label that Kubernetes' tools know it by.
const LABEL: (&str, &str) = ("k8s-app", "kube-proxy");

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
    documents.add(&daemon_set(cluster, revision))?;
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
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn daemon_set(cluster: &Cluster, revision: String) -> DaemonSet {
    let template = ObjectMeta {
        annotations: Some([("rsadm/configuration".to_owned(), revision)].into()),
        labels: Some(pairs([LABEL])),
        ..ObjectMeta::default()
    };
    let spec = DaemonSetSpec {
        selector: LabelSelector { match_labels: Some(pairs([LABEL])), ..LabelSelector::default() },
        template: PodTemplateSpec { metadata: Some(template), spec: Some(pod_spec(cluster)) },
        update_strategy: Some(DaemonSetUpdateStrategy {
            type_: Some("RollingUpdate".to_owned()),
            // A node without kube-proxy keeps the rules it has; one by one would take an hour for 100 nodes.
            rolling_update: Some(RollingUpdateDaemonSet {
                max_unavailable: Some(IntOrString::String("10%".to_owned())),
                ..RollingUpdateDaemonSet::default()
            }),
        }),
        ..DaemonSetSpec::default()
    };
    let metadata = ObjectMeta { labels: Some(pairs([LABEL])), ..namespaced(SYSTEM, "kube-proxy") };
    DaemonSet { metadata, spec: Some(spec), status: None }
}

fn pod_spec(cluster: &Cluster) -> PodSpec {
    let host_path = |path: &str, kind: Option<&str>| {
        Some(HostPathVolumeSource { path: path.to_owned(), type_: kind.map(str::to_owned) })
    };
    PodSpec {
        containers: vec![container(cluster)],
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

fn container(cluster: &Cluster) -> Container {
    let base = [
        ("config", format!("{DIR}/config.conf")),
        ("hostname-override", "$(NODE_NAME)".to_owned()),
        // The file says the same, and wins; auditors read the command line (CIS 4.3.1).
        ("metrics-bind-address", format!("127.0.0.1:{}", layout::KUBE_PROXY_METRICS_PORT)),
    ];
    let mut command = vec!["/usr/local/bin/kube-proxy".to_owned()];
    command.extend(flags(&base, &cluster.kube_proxy.extra_args));
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
