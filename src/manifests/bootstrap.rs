//! What `kubeadm init` leaves in the API so that new nodes can come by themselves: rights of bootstrap tokens and of
//! nodes, and the tokens (`phases/bootstraptoken`).

use k8s_openapi::api::core::v1::Secret as KubernetesSecret;

use crate::secret::Secret;

use super::{
    Error,
    addon::{Documents, SYSTEM, Who, cluster_binding, cluster_role, namespaced, rule},
    to_yaml,
};

/// The group of those who come with a bootstrap token, kubeadm's.
pub(super) const JOINING_NODES: &str = "system:bootstrappers:kubeadm:default-node-token";

/// A token that lets nodes join until it expires.
#[derive(Clone, Debug)]
pub struct BootstrapToken {
    /// Its public half: six characters of `[a-z0-9]`.
    pub id: String,
    /// Its secret half: sixteen of the same.
    pub secret: Secret,
    /// When it ends, in RFC 3339; the controller manager then removes it.
    pub expiration: String,
    /// What it is for.
    pub description: String,
}

/// The token as a Kubernetes secret, in YAML, for `kubectl apply -f -`.
pub fn bootstrap_token(token: &BootstrapToken) -> Result<Secret, Error> {
    let secret = String::from_utf8_lossy(token.secret.expose()).into_owned();
    let data = [
        ("auth-extra-groups", JOINING_NODES.to_owned()),
        ("description", token.description.clone()),
        ("expiration", token.expiration.clone()),
        ("token-id", token.id.clone()),
        ("token-secret", secret),
        ("usage-bootstrap-authentication", "true".to_owned()),
        ("usage-bootstrap-signing", "true".to_owned()),
    ];
    let object = KubernetesSecret {
        metadata: namespaced(SYSTEM, &format!("bootstrap-token-{}", token.id)),
        string_data: Some(data.map(|(key, value)| (key.to_owned(), value)).into()),
        type_: Some("bootstrap.kubernetes.io/token".to_owned()),
        ..KubernetesSecret::default()
    };
    to_yaml("a bootstrap token", &object).map(Secret::new)
}

/// Adds the rights: who may ask for a certificate, and whose request is signed without asking.
pub(super) fn add_rights(documents: &mut Documents) -> Result<(), Error> {
    let rules = vec![rule("", &["nodes"], &[], &["get"])];
    documents.add(&cluster_role("kubeadm:get-nodes", rules))?;
    let joining = Who::Group(JOINING_NODES);
    let requests = "system:certificates.k8s.io:certificatesigningrequests";
    for (name, role, who) in [
        ("kubeadm:cluster-admins", "cluster-admin", Who::Group("kubeadm:cluster-admins")),
        ("kubeadm:get-nodes", "kubeadm:get-nodes", joining),
        ("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", joining),
        ("kubeadm:node-autoapprove-bootstrap", &format!("{requests}:nodeclient"), joining),
        (
            "kubeadm:node-autoapprove-certificate-rotation",
            &format!("{requests}:selfnodeclient"),
            Who::Group("system:nodes"),
        ),
        (
            "kubeadm:apiserver-kubelet-client",
            "system:kubelet-api-admin",
            Who::User("kube-apiserver-kubelet-client"),
        ),
    ] {
        documents.add(&cluster_binding(name, role, who))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_whole_in_the_object_and_nowhere_else() {
        let token = BootstrapToken {
            id: "abcdef".to_owned(),
            secret: Secret::new("0123456789abcdef"),
            expiration: "2030-01-01T00:00:00Z".to_owned(),
            description: "for one worker".to_owned(),
        };
        let object = bootstrap_token(&token).unwrap();
        let yaml = String::from_utf8(object.expose().to_vec()).unwrap();
        for line in
            ["name: bootstrap-token-abcdef\n", "token-secret: 0123456789abcdef\n", "token-id: abcdef\n"]
        {
            assert!(yaml.contains(line), "{line} is not in\n{yaml}");
        }
        assert!(!format!("{token:?} {object:?} {object}").contains("0123456789abcdef"));
    }
}
