//! `(cluster, node) → typed object → text`: every file and every Kubernetes object that rsadm brings, one file a
//! component.
//!
//! All of it is pure: equal input gives equal bytes, so "is this file as wanted?" is a comparison of text, and the
//! golden files under `tests/manifests/` show what a user gets. Kubernetes objects are `k8s-openapi` structs; what it
//! lacks (configuration files of components) are JSON values, which the user's own fields are laid over. Flags, paths,
//! names and probes follow kubeadm 1.37 (`cmd/kubeadm/app/phases`); where we differ, the file says why.

mod addon;
mod api_files;
mod api_server;
mod backup;
mod bootstrap;
mod containerd;
mod controller_manager;
mod coredns;
mod difference;
mod etcd;
mod haproxy;
mod kube_proxy;
mod kubeadm;
mod kubelet;
mod kubelet_unit;
mod network;
mod network_script;
mod scheduler;
mod static_pod;

#[cfg(test)]
mod cis;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use thiserror::Error;

pub use api_files::{
    admission_configuration, audit_policy, authentication_configuration, encryption_configuration,
};
pub use api_server::{api_server_pod, etcd_servers};
pub use backup::{
    BackupConfig, Peer, backup_config, backup_service, backup_timer, backup_timer_revision, is_elsewhere,
};
pub use bootstrap::{BootstrapToken, bootstrap_token};
pub use containerd::{containerd_config, containerd_unit, registry_hosts};
pub use controller_manager::controller_manager_pod;
pub use coredns::{coredns, coredns_replicas, coredns_tolerates};
pub use difference::difference;
pub use etcd::{EtcdSettings, EtcdStart, InitialState, etcd_pod, flag_in, is_members_own};
pub use haproxy::{haproxy_config, haproxy_pod};
pub use kube_proxy::kube_proxy;
pub use kubeadm::kubeadm;
pub use kubelet::{kubelet_config, kubelet_instance_config, standalone_kubelet_config};
pub use kubelet_unit::{kubelet_drop_in, kubelet_unit, labels_by_api};
pub use network::{NodeSubnets, cni_config, modules_config, sysctl_config};
pub use network_script::{Route, Routes, network_script, network_unit, routes_of_script, routes_to_nodes};
pub use scheduler::scheduler_pod;

/// A value that could not be written as YAML: our bug, since no input can lead to it.
#[derive(Debug, Error)]
#[error("write {what} as YAML")]
pub struct Error {
    what: &'static str,
    #[source]
    source: serde_yaml::Error,
}

/// The value as one YAML document, keys in stable order.
///
/// `what` names it in the error, which only a map with keys that are no strings could cause.
pub fn to_yaml(what: &'static str, value: &impl Serialize) -> Result<String, Error> {
    serde_yaml::to_string(value).map_err(|source| Error { what, source })
}

/// Whether a text is such a value in YAML.
pub fn is_yaml_of<T: DeserializeOwned>(text: &str) -> bool {
    serde_yaml::from_str::<T>(text).is_ok()
}

/// Flags that are lists, and entries of ours without which a cluster does not hold: nodes could change one another, `kubeadm join`
/// would not work. Of gates all are such: without ours etcd does not notice that a member has other data.
const LISTS: [(&str, Option<&[&str]>); 3] = [
    ("controllers", Some(&["bootstrapsigner", "tokencleaner"])),
    ("enable-admission-plugins", Some(&["NodeRestriction"])),
    ("feature-gates", None),
];

/// `--key=value` for every flag, sorted; what the user gave (`extra`) wins over ours, but for what [`LISTS`] keeps of a list.
fn flags(base: &[(&str, String)], extra: &BTreeMap<String, String>) -> Vec<String> {
    let mut all: BTreeMap<&str, String> = base.iter().map(|(key, value)| (*key, value.clone())).collect();
    for (key, value) in extra {
        let list = LISTS.iter().find(|(flag, _)| flag == key).zip(all.get(key.as_str()));
        let value = match list {
            Some(((_, needed), ours)) => joined(ours, *needed, value),
            None => value.clone(),
        };
        all.insert(key, value);
    }
    all.iter().map(|(key, value)| format!("--{key}={value}")).collect()
}

/// Their list, and before it what is needed of ours. An entry is told by its name: `X`, `-X` and `X=true` are about the same.
fn joined(ours: &str, needed: Option<&[&str]>, theirs: &str) -> String {
    let name = |entry: &str| entry.trim_start_matches('-').split('=').next().map(str::to_owned);
    let theirs: Vec<&str> = theirs.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
    let kept = ours.split(',').filter(|own| needed.is_none_or(|needed| needed.contains(own)));
    let kept = kept.filter(|own| !theirs.iter().any(|entry| name(entry) == name(own)));
    kept.chain(theirs.iter().copied()).collect::<Vec<_>>().join(",")
}

/// Lays `over` over `base`: objects are merged key by key, everything else is replaced, `null` removes.
fn merge(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (_, Value::Null) => {
                base.remove(key);
            }
            (Some(Value::Object(inner)), Value::Object(over)) => merge(inner, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The fields of a JSON object that was written with `json!`, with the user's laid over.
fn configuration(base: Value, over: &Map<String, Value>) -> Map<String, Value> {
    let mut fields = match base {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    merge(&mut fields, over);
    fields
}

/// The cipher suites of TLS 1.2 that CIS 1.2.29 and 4.2.12 accept, strongest kinds only; TLS 1.3 has its own.
const CIPHER_SUITES: [&str; 6] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// One YAML document as a value; `None` where the text is none.
fn read_yaml(text: &str) -> Option<Value> {
    serde_yaml::from_str(text).ok()
}

/// The same of what was written here.
#[cfg(test)]
fn from_yaml(text: &str) -> Value {
    read_yaml(text).unwrap()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn flags_are_sorted_and_the_users_win() {
        let extra = BTreeMap::from([("v".to_owned(), "4".to_owned()), ("a".to_owned(), "mine".to_owned())]);
        let base = [("z", "1".to_owned()), ("a", "ours".to_owned())];
        assert_eq!(flags(&base, &extra), ["--a=mine", "--v=4", "--z=1"]);
    }

    #[test]
    fn lists_keep_what_the_cluster_needs() {
        for (flag, ours, theirs, both) in [
            ("controllers", "*,bootstrapsigner", "*, -x", "bootstrapsigner,*,-x"),
            ("controllers", "*,bootstrapsigner", "-bootstrapsigner", "-bootstrapsigner"),
            ("feature-gates", "A=true,B=true", "B=false,C=true", "A=true,B=false,C=true"),
            ("enable-admission-plugins", "NodeRestriction,EventRateLimit", "", "NodeRestriction"),
            ("tls-cipher-suites", "A,B", "C", "C"),
        ] {
            let extra = BTreeMap::from([(flag.to_owned(), theirs.to_owned())]);
            assert_eq!(flags(&[(flag, ours.to_owned())], &extra), [format!("--{flag}={both}")]);
        }
    }

    #[test]
    fn configuration_is_merged_deeply() {
        let base = json!({"keep": 1, "deep": {"keep": 1, "change": 1}, "list": [1, 2], "drop": 1});
        let over = configuration(
            json!({"deep": {"change": 2, "add": 3}, "list": [9], "new": {"a": 1}}),
            &Map::new(),
        );
        let mut merged = configuration(base, &over);
        merge(&mut merged, &Map::from_iter([("drop".to_owned(), Value::Null)]));
        let wanted =
            json!({"keep": 1, "deep": {"keep": 1, "change": 2, "add": 3}, "list": [9], "new": {"a": 1}});
        assert_eq!(Value::Object(merged), wanted);
    }
}
