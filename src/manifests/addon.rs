//! What the objects that are applied through the API have in common.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Serialize;

use super::{Error, to_yaml};

/// The namespace of the system's own objects.
pub(super) const SYSTEM: &str = "kube-system";

/// Objects of different kinds as one stream of YAML documents, in the order in which they are added.
#[derive(Default)]
pub(super) struct Documents(String);

impl Documents {
    /// Adds an object.
    pub(super) fn add(&mut self, object: &impl Serialize) -> Result<(), Error> {
        self.0.push_str("---\n");
        self.0.push_str(&to_yaml("a Kubernetes object", object)?);
        Ok(())
    }

    /// The stream.
    pub(super) fn into_yaml(self) -> String {
        self.0
    }
}

/// Metadata of an object in a namespace.
pub(super) fn namespaced(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { namespace: Some(namespace.to_owned()), ..global(name) }
}

/// Metadata of an object without one.
pub(super) fn global(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

/// A map of text to text, as labels and selectors are.
pub(super) fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// A service account of the system.
pub(super) fn service_account(name: &str) -> ServiceAccount {
    ServiceAccount { metadata: namespaced(SYSTEM, name), ..ServiceAccount::default() }
}

/// A ConfigMap with these files.
pub(super) fn config_map<const N: usize>(
    namespace: &str,
    name: &str,
    files: [(&str, String); N],
) -> ConfigMap {
    ConfigMap {
        metadata: namespaced(namespace, name),
        data: Some(files.map(|(name, text)| (name.to_owned(), text)).into()),
        ..ConfigMap::default()
    }
}

/// Permission to do `verbs` with `resources`, or only with those of the given names.
pub(super) fn rule(group: &str, resources: &[&str], names: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |list: &[&str]| list.iter().map(|&item| item.to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        resource_names: (!names.is_empty()).then(|| owned(names)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

/// Who gets a role.
#[derive(Clone, Copy)]
pub(super) enum Who {
    /// A group.
    Group(&'static str),
    /// A user.
    User(&'static str),
    /// A service account of the system.
    ServiceAccount(&'static str),
}

impl Who {
    fn subject(self) -> Subject {
        let (kind, name) = match self {
            Self::Group(name) => ("Group", name),
            Self::User(name) => ("User", name),
            Self::ServiceAccount(name) => ("ServiceAccount", name),
        };
        let account = matches!(self, Self::ServiceAccount(_));
        Subject {
            api_group: (!account).then(|| RBAC.to_owned()),
            kind: kind.to_owned(),
            name: name.to_owned(),
            namespace: account.then(|| SYSTEM.to_owned()),
        }
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

/// A role in a namespace, and its binding of the same name.
pub(super) fn bound_role(namespace: &str, name: &str, rule: PolicyRule, who: &[Who]) -> (Role, RoleBinding) {
    let role = Role { metadata: namespaced(namespace, name), rules: Some(vec![rule]) };
    let binding = RoleBinding {
        metadata: namespaced(namespace, name),
        role_ref: role_ref("Role", name),
        subjects: Some(who.iter().map(|who| who.subject()).collect()),
    };
    (role, binding)
}

/// A role for the whole cluster.
pub(super) fn cluster_role(name: &str, rules: Vec<PolicyRule>) -> ClusterRole {
    ClusterRole { metadata: global(name), rules: Some(rules), aggregation_rule: None }
}

/// The binding of a role for the whole cluster.
pub(super) fn cluster_binding(name: &str, role: &str, who: Who) -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: global(name),
        role_ref: role_ref("ClusterRole", role),
        subjects: Some(vec![who.subject()]),
    }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: RBAC.to_owned(), kind: kind.to_owned(), name: name.to_owned() }
}
