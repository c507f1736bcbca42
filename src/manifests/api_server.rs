//! kube-apiserver as a static pod.
//!
//! kubeadm's flags (`phases/controlplane/manifests.go`), and what CIS 1.2 asks beyond them: no profiling, an audit log,
//! encryption at rest, verified kubelets, short-lived service account tokens, strong ciphers. Four more differences:
//!
//! - It knows every etcd member, the local one first: kubeadm's knows the local one only, and a control plane is lost
//!   with its member.
//! - `/livez` leaves etcd out: restarting an API server brings no quorum back, and kubelet's back-off would keep the API
//!   away for up to five more minutes once it is.
//! - With more than one control plane, a server that stops says so at `/readyz` and serves on for three seconds, which
//!   the load balancers need to notice; and one connection request in a thousand is told to go elsewhere, so that load
//!   returns to a server that was away.
//! - `externalIPs` of services are refused: any user who may create one could take over traffic (CVE-2020-8554), and
//!   Kubernetes 1.36 deprecates them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::{
    inventory::{Cluster, Node, Role},
    layout,
};

use super::{
    CIPHER_SUITES, flags,
    static_pod::{Health, Mount, StaticPod},
};

/// Admission plugins beyond those that are on by default.
const ADMISSION_PLUGINS: [&str; 3] = ["NodeRestriction", "EventRateLimit", "DenyServiceExternalIPs"];

/// The API server of `node`.
pub fn api_server_pod(cluster: &Cluster, node: &Node, revision: &str) -> Pod {
    let mut base = kubeadm_flags(cluster, node);
    base.extend(hardening_flags(&cluster.api_server.extra_args));
    if cluster.with_role(Role::ControlPlane).count() > 1 {
        base.push(("goaway-chance", "0.001".to_owned()));
        base.push(("shutdown-delay-duration", "3s".to_owned()));
        base.push(("shutdown-send-retry-after", "true".to_owned()));
    }
    let mut command = vec!["kube-apiserver".to_owned()];
    command.extend(flags(&base, &cluster.api_server.extra_args));
    let endpoint = (
        "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint".to_owned(),
        format!("{}:{}", node.internal_address, cluster.api.port),
    );
    StaticPod {
        name: "kube-apiserver",
        tier: "control-plane",
        annotations: BTreeMap::from([endpoint]),
        image: cluster.release.kubernetes_image("kube-apiserver"),
        command,
        revision,
        requests: &[("cpu", "250m")],
        mounts: vec![
            Mount::authorities(),
            Mount::folder("k8s-certs", layout::PKI_DIR),
            Mount::folder("configuration", layout::API_SERVER_DIR),
            Mount::writable_folder("audit-log", layout::AUDIT_LOG_DIR),
        ],
        health: Health {
            scheme: "HTTPS",
            host: node.internal_address.to_string(),
            port: cluster.api.port,
            live: "/livez?exclude=etcd",
            ready: Some("/readyz"),
        },
        // The program carries it as a file capability, and without it cannot even be executed.
        capabilities: &["NET_BIND_SERVICE"],
        user: None,
    }
    .build()
}

/// What kubeadm passes, except that `--etcd-servers` names all members.
fn kubeadm_flags(cluster: &Cluster, node: &Node) -> Vec<(&'static str, String)> {
    let pki = |file: &str| format!("{}/{file}", layout::PKI_DIR);
    vec![
        ("advertise-address", node.internal_address.to_string()),
        ("allow-privileged", "true".to_owned()),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("client-ca-file", pki("ca.crt")),
        ("enable-bootstrap-token-auth", "true".to_owned()),
        ("etcd-cafile", pki("etcd/ca.crt")),
        ("etcd-certfile", pki("apiserver-etcd-client.crt")),
        ("etcd-keyfile", pki("apiserver-etcd-client.key")),
        ("etcd-servers", etcd_servers(cluster, node).join(",")),
        ("kubelet-client-certificate", pki("apiserver-kubelet-client.crt")),
        ("kubelet-client-key", pki("apiserver-kubelet-client.key")),
        ("kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname".to_owned()),
        ("proxy-client-cert-file", pki("front-proxy-client.crt")),
        ("proxy-client-key-file", pki("front-proxy-client.key")),
        ("requestheader-allowed-names", "front-proxy-client".to_owned()),
        ("requestheader-client-ca-file", pki("front-proxy-ca.crt")),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
        ("requestheader-group-headers", "X-Remote-Group".to_owned()),
        ("requestheader-username-headers", "X-Remote-User".to_owned()),
        ("secure-port", cluster.api.port.to_string()),
        (
            "service-account-issuer",
            format!("https://kubernetes.default.svc.{}", cluster.network.cluster_domain),
        ),
        ("service-account-key-file", pki("sa.pub")),
        ("service-account-signing-key-file", pki("sa.key")),
        ("service-cluster-ip-range", cluster.network.service_subnet.to_string()),
        ("tls-cert-file", pki("apiserver.crt")),
        ("tls-private-key-file", pki("apiserver.key")),
    ]
}

/// What CIS 1.2 asks beyond kubeadm. A plugin of ours that the user disables is not enabled: no API server starts with
/// one that is both (apiserver, `AdmissionOptions.Validate`).
fn hardening_flags(extra: &BTreeMap<String, String>) -> Vec<(&'static str, String)> {
    let disabled = extra.get("disable-admission-plugins").map(String::as_str).unwrap_or_default();
    let plugins =
        ADMISSION_PLUGINS.into_iter().filter(|ours| !disabled.split(',').any(|d| d.trim() == *ours));
    let plugins = plugins.collect::<Vec<_>>().join(",");
    vec![
        ("admission-control-config-file", layout::ADMISSION_CONFIG.to_owned()),
        ("audit-log-maxage", "30".to_owned()),
        ("audit-log-maxbackup", "10".to_owned()),
        ("audit-log-maxsize", "100".to_owned()),
        ("audit-log-path", format!("{}/audit.log", layout::AUDIT_LOG_DIR)),
        ("audit-policy-file", layout::AUDIT_POLICY.to_owned()),
        // Says who may ask anonymously, and is therefore mutually exclusive with `--anonymous-auth`.
        ("authentication-config", layout::AUTHENTICATION_CONFIG.to_owned()),
        ("enable-admission-plugins", plugins),
        ("encryption-provider-config", layout::ENCRYPTION_CONFIG.to_owned()),
        // A new key takes effect without a restart, as a rotation in three steps needs.
        ("encryption-provider-config-automatic-reload", "true".to_owned()),
        ("kubelet-certificate-authority", format!("{}/ca.crt", layout::PKI_DIR)),
        ("profiling", "false".to_owned()),
        ("service-account-extend-token-expiration", "false".to_owned()),
        ("tls-cipher-suites", CIPHER_SUITES.join(",")),
        ("tls-min-version", "VersionTLS12".to_owned()),
    ]
}

/// All members; the own one first and through loopback, so that it is asked even when the network is away.
pub fn etcd_servers(cluster: &Cluster, node: &Node) -> Vec<String> {
    let own = node.is(Role::Etcd).then(|| format!("https://127.0.0.1:{}", layout::ETCD_CLIENT_PORT));
    let others =
        cluster.with_role(Role::Etcd).filter(|member| member.name != node.name).map(Node::client_url);
    own.into_iter().chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::{testing, to_yaml};

    #[test]
    fn golden() {
        for (cluster, name, path) in [
            (testing::single(), "m1", "single/kube-apiserver.yaml"),
            (testing::ha(), "m2", "ha/kube-apiserver-m2.yaml"),
            (testing::external_etcd(), "c1", "external-etcd/kube-apiserver-c1.yaml"),
        ] {
            let pod = api_server_pod(&cluster, testing::node(&cluster, name), "0123abcd");
            testing::golden(path, &to_yaml("pod", &pod).unwrap());
        }
    }

    #[test]
    fn plugins_are_added_and_those_that_are_disabled_are_left_out() {
        let mut cluster = testing::single();
        let plugins = |cluster: &Cluster| {
            let pod = api_server_pod(cluster, testing::node(cluster, "m1"), "x");
            let command = pod.spec.unwrap().containers[0].command.clone().unwrap();
            let flag = command.iter().find_map(|arg| arg.strip_prefix("--enable-admission-plugins="));
            flag.unwrap().to_owned()
        };
        let mut set = |flag: &str, value: &str| {
            cluster.api_server.extra_args.insert(flag.to_owned(), value.to_owned());
            plugins(&cluster)
        };
        assert_eq!(set("enable-admission-plugins", "AlwaysPullImages"), "NodeRestriction,AlwaysPullImages");
        assert_eq!(
            set("disable-admission-plugins", "DefaultIngressClass,DenyServiceExternalIPs"),
            "NodeRestriction,AlwaysPullImages"
        );
    }

    #[test]
    fn every_member_is_known_the_own_one_first() {
        let cluster = testing::ha();
        let servers = etcd_servers(&cluster, testing::node(&cluster, "m2")).join(",");
        assert_eq!(servers, "https://127.0.0.1:2379,https://10.0.0.1:2379,https://10.0.0.3:2379");
        let cluster = testing::external_etcd();
        let servers = etcd_servers(&cluster, testing::node(&cluster, "c1")).join(",");
        assert_eq!(servers, "https://10.0.0.21:2379,https://10.0.0.22:2379,https://10.0.0.23:2379");
    }
}
