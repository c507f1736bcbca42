//! The files that only API servers read, in [`layout::API_SERVER_DIR`]: what is audited, how secrets are encrypted, who
//! may ask anonymously, and the limits of admission.
//!
//! [`layout::API_SERVER_DIR`]: crate::layout::API_SERVER_DIR

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{inventory::Cluster, secret::Secret};

use super::{Error, to_yaml};

/// Groups of this API server's own, as audit rules name them.
const WORKLOADS: [&str; 6] =
    ["", "apps", "batch", "networking.k8s.io", "policy", "rbac.authorization.k8s.io"];

/// The audit policy: who changed what, in full where it explains a change, and never the contents of a secret.
///
/// The first rule that matches decides. What machines repeat every few seconds (leases, health, watches of the
/// system's own components, events) is left out, since it would push out what matters within hours.
pub fn audit_policy() -> Result<String, Error> {
    let system =
        ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy"];
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "omitManagedFields": true,
        "rules": [
            {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi*"]},
            {"level": "None", "resources": [{"group": "", "resources": ["events"]}, {"group": "events.k8s.io"}]},
            {"level": "None", "users": system, "verbs": ["get", "list", "watch"]},
            {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"],
             "verbs": ["get", "list", "watch"]},
            {"level": "None", "verbs": ["get", "update"],
             "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
            {"level": "None", "userGroups": ["system:nodes"], "verbs": ["patch", "update"],
             "resources": [{"group": "", "resources": ["nodes/status", "pods/status"]}]},
            {"level": "Metadata", "resources": secret_resources()},
            {"level": "RequestResponse", "verbs": ["create", "update", "patch", "delete", "deletecollection"],
             "resources": [{"group": "rbac.authorization.k8s.io"}, {"group": "admissionregistration.k8s.io"}]},
            {"level": "Request", "verbs": ["create", "update", "patch", "delete", "deletecollection"],
             "resources": WORKLOADS.map(|group| json!({"group": group}))},
            {"level": "Metadata"},
        ],
    });
    to_yaml("the audit policy", &policy)
}

/// What carries secrets in its body, or may: only that it was asked is written.
fn secret_resources() -> Value {
    json!([
        {"group": "", "resources": ["secrets", "configmaps", "serviceaccounts/token"]},
        {"group": "authentication.k8s.io", "resources": ["tokenreviews"]},
        {"group": "certificates.k8s.io", "resources": ["certificatesigningrequests"]},
    ])
}

/// Encryption of secrets in etcd with secretbox (XSalsa20 and Poly1305, from a key of 32 random bytes).
///
/// `identity` comes last, so that what was written before the encryption can still be read.
pub fn encryption_configuration(key: &Secret) -> Result<Secret, Error> {
    let key = STANDARD.encode(key.expose());
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{
            "resources": ["secrets"],
            "providers": [{"secretbox": {"keys": [{"name": "key1", "secret": key}]}}, {"identity": {}}],
        }],
    });
    to_yaml("the encryption configuration", &configuration).map(Secret::new)
}

/// Who may ask without a name: probes and load balancers for health, and `kubeadm join` for the ConfigMap that it
/// verifies with its token (RBAC opens that one alone); and whose tokens the operator wants to be taken.
pub fn authentication_configuration(cluster: &Cluster) -> Result<String, Error> {
    let paths = ["/livez", "/readyz", "/healthz", "/api/v1/namespaces/kube-public/configmaps/cluster-info"];
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "anonymous": {"enabled": true, "conditions": paths.map(|path| json!({"path": path}))},
    });
    let fields = super::configuration(configuration, &cluster.api_server.config);
    to_yaml("the authentication configuration", &fields)
}

/// Limits of admission: events may not flood etcd (CIS 1.2.9). Far above what a busy cluster sends.
pub fn admission_configuration() -> Result<String, Error> {
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{
            "name": "EventRateLimit",
            "configuration": {
                "apiVersion": "eventratelimit.admission.k8s.io/v1alpha1",
                "kind": "Configuration",
                "limits": [
                    {"type": "Server", "qps": 1000, "burst": 10000},
                    {"type": "Namespace", "qps": 200, "burst": 2000, "cacheSize": 2000},
                ],
            },
        }],
    });
    to_yaml("the admission configuration", &configuration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::testing;

    #[test]
    fn golden() {
        testing::golden("api-server/audit-policy.yaml", &audit_policy().unwrap());
        let mut cluster = testing::single();
        testing::golden("api-server/authentication.yaml", &authentication_configuration(&cluster).unwrap());
        let jwt = json!([{
            "issuer": {"url": "https://login.example.org", "audiences": ["kubernetes"]},
            "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}},
        }]);
        cluster.api_server.config.insert("jwt".to_owned(), jwt);
        testing::golden(
            "api-server/authentication-jwt.yaml",
            &authentication_configuration(&cluster).unwrap(),
        );
        testing::golden("api-server/admission.yaml", &admission_configuration().unwrap());
    }

    #[test]
    fn the_encryption_key_is_in_the_file_and_not_in_its_debug_output() {
        let file = encryption_configuration(&Secret::new([7; 32])).unwrap();
        let text = String::from_utf8(file.expose().to_vec()).unwrap();
        let key = STANDARD.encode([7; 32]);
        assert!(text.contains(&format!("secret: {key}\n")), "{text}");
        assert!(text.find("secretbox") < text.find("identity"), "{text}");
        assert_eq!(format!("{file:?}"), "[redacted]");
    }
}
