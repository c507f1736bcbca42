//! What kubeadm and its users expect to find in the API, so that `kubeadm join` of a worker and the documentation's
//! commands work: kubeadm's ConfigMaps and the rights to read them (`phases/uploadconfig`, `phases/kubelet`,
//! `phases/bootstraptoken/clusterinfo`).

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Map, Value, json};

use crate::{
    inventory::{Cluster, Component, Role},
    layout,
};

use super::{
    Error,
    addon::{Documents, SYSTEM, Who, bound_role, config_map, rule},
    bootstrap::{self, JOINING_NODES},
    configuration, kubelet, to_yaml,
};

/// The namespace that everybody may read.
const PUBLIC: &str = "kube-public";

/// All of kubeadm's objects, as YAML documents. `ca_pem` is the certificate of the cluster's CA.
pub fn kubeadm(cluster: &Cluster, ca_pem: &str) -> Result<String, Error> {
    let mut documents = Documents::default();
    bootstrap::add_rights(&mut documents)?;
    let nodes = [Who::Group(JOINING_NODES), Who::Group("system:nodes")];
    documents.add(&kubeadm_config(cluster)?)?;
    add_reader(&mut documents, SYSTEM, "kubeadm:nodes-kubeadm-config", "kubeadm-config", &nodes)?;
    documents.add(&kubelet_config(cluster)?)?;
    add_reader(&mut documents, SYSTEM, "kubeadm:kubelet-config", "kubelet-config", &nodes)?;
    documents.add(&cluster_info(cluster, ca_pem)?)?;
    let anybody = [Who::User("system:anonymous")];
    add_reader(&mut documents, PUBLIC, "kubeadm:bootstrap-signer-clusterinfo", "cluster-info", &anybody)?;
    Ok(documents.into_yaml())
}

fn add_reader(
    documents: &mut Documents,
    namespace: &str,
    name: &str,
    config_map: &str,
    who: &[Who],
) -> Result<(), Error> {
    let (role, binding) =
        bound_role(namespace, name, rule("", &["configmaps"], &[config_map], &["get"]), who);
    documents.add(&role)?;
    documents.add(&binding)
}

/// `kubeadm-config`: the cluster as kubeadm would describe it, but for `controlPlaneEndpoint`. Without that kubeadm joins no
/// control plane (`cmd/join.go`, `checkIfReadyForAdditionalControlPlane`): it would make its etcd a member, and its API server
/// could not read what ours encrypt.
fn kubeadm_config(cluster: &Cluster) -> Result<ConfigMap, Error> {
    let description = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "apiServer": api_server(cluster),
        "certificatesDir": layout::PKI_DIR,
        "clusterName": cluster.name,
        "controllerManager": arguments(&cluster.controller_manager),
        "dns": {},
        "encryptionAlgorithm": "ECDSA-P256",
        "etcd": etcd(cluster),
        "imageRepository": "registry.k8s.io",
        "kubernetesVersion": cluster.release.kubernetes,
        "networking": {
            "dnsDomain": cluster.network.cluster_domain,
            "podSubnet": cluster.network.pod_subnet.to_string(),
            "serviceSubnet": cluster.network.service_subnet.to_string(),
        },
        "proxy": {},
        "scheduler": arguments(&cluster.scheduler),
    });
    let text = to_yaml("kubeadm's configuration", &description)?;
    Ok(config_map(SYSTEM, "kubeadm-config", [("ClusterConfiguration", text)]))
}

fn api_server(cluster: &Cluster) -> Map<String, Value> {
    let mut fields = arguments(&cluster.api_server);
    if !cluster.api.alternative_names.is_empty() {
        fields.insert("certSANs".to_owned(), json!(cluster.api.alternative_names));
    }
    fields
}

/// The inventory's flags; ours are not kubeadm's to know.
fn arguments(component: &Component) -> Map<String, Value> {
    if component.extra_args.is_empty() {
        return Map::new();
    }
    let list: Vec<_> =
        component.extra_args.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    Map::from_iter([("extraArgs".to_owned(), list.into())])
}

/// Local where every control plane has a member, external otherwise.
fn etcd(cluster: &Cluster) -> Value {
    if cluster.with_role(Role::ControlPlane).all(|node| node.is(Role::Etcd)) {
        return json!({"local": {"dataDir": layout::ETCD_DATA_DIR}});
    }
    json!({"external": {
        "endpoints": cluster.etcd_urls(),
        "caFile": format!("{}/ca.crt", layout::ETCD_PKI_DIR),
        "certFile": format!("{}/apiserver-etcd-client.crt", layout::PKI_DIR),
        "keyFile": format!("{}/apiserver-etcd-client.key", layout::PKI_DIR),
    }})
}

/// `kubelet-config`, for nodes that kubeadm joins.
///
/// Nobody made them a serving certificate, so their kubelets request one, which an administrator approves; one that a
/// kubelet signs itself would never be accepted by our API servers.
fn kubelet_config(cluster: &Cluster) -> Result<ConfigMap, Error> {
    let mut fields = kubelet::shared_config(cluster);
    fields.insert("serverTLSBootstrap".to_owned(), true.into());
    let fields = configuration(Value::Object(fields), &cluster.kubelet.config);
    Ok(config_map(SYSTEM, "kubelet-config", [("kubelet", to_yaml("the kubelets' configuration", &fields)?)]))
}

/// `cluster-info`: where the cluster is, to be verified with a token. The controller manager signs it for every token.
fn cluster_info(cluster: &Cluster, ca_pem: &str) -> Result<ConfigMap, Error> {
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "", "cluster": {
            "certificate-authority-data": STANDARD.encode(ca_pem),
            "server": format!("https://{}", cluster.api_endpoint()),
        }}],
    });
    Ok(config_map(PUBLIC, "cluster-info", [("kubeconfig", to_yaml("the cluster's address", &kubeconfig)?)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::testing;

    /// Not a certificate: none belongs into the repository.
    const CA: &str = "-----BEGIN CERTIFICATE-----\n";

    #[test]
    fn golden() {
        let mut cluster = testing::ha();
        cluster.api_server.extra_args.insert("event-ttl".to_owned(), "2h".to_owned());
        testing::golden("ha/kubeadm.yaml", &kubeadm(&cluster, CA).unwrap());
        let external = kubeadm_config(&testing::external_etcd()).unwrap();
        testing::golden("external-etcd/kubeadm-config.yaml", &to_yaml("config map", &external).unwrap());
    }
}
