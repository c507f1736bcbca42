//! Flags and fields that an inventory may not override, because rsadm's own work rests on them.
//!
//! Everything else may be laid over ours. The names are those of `--help` of etcd 3.6, Kubernetes 1.34 and later.

use serde_json::{Map, Value};

use super::problem::{Fault, quote};

/// What rsadm owns of one component.
pub(super) struct Owned {
    /// Names, or beginnings with `*` at the end, or endings with `*` at the start; with the reason.
    flags: &'static [(&'static [&'static str], &'static str)],
    /// Flags of those with a value that is rsadm's own, as lists of hardening have them.
    same: &'static [(&'static str, &'static str)],
    /// Fields of the configuration file, with the reason.
    fields: &'static [(&'static [&'static str], &'static str)],
}

const FILES: &str = "rsadm makes, mounts and renews these files";
const IDENTITY: &str = "it decides which cluster the member belongs to";
const PORTS: &str = "the other components and rsadm's probes look for it there";
const ASKING: &str = "who may ask a kubelet is told by its certificate and the API server";
const POD_LOGS: &str =
    "rsadm reads below /var/log/pods why etcd or an API server ends; for a disk of its own mount that there";
const SECTION: &str = "use the inventory's own key of that meaning";

/// etcd.
pub(super) const ETCD: Owned = Owned {
    flags: &[
        (
            &["name", "data-dir", "wal-dir", "initial-*", "discovery*", "force-new-cluster", "config-file"],
            IDENTITY,
        ),
        (&["listen-*", "advertise-client-urls"], PORTS),
        (
            &[
                "cert-file",
                "key-file",
                "*trusted-ca-file",
                "peer-cert-file",
                "peer-key-file",
                "client-cert-file",
                "client-key-file",
                "peer-client-cert-file",
                "peer-client-key-file",
                "*client-crl-file",
                "peer-crl-file",
            ],
            FILES,
        ),
        (
            &[
                "client-cert-auth",
                "peer-client-cert-auth",
                "auto-tls",
                "peer-auto-tls",
                "strict-reconfig-check",
            ],
            "without it anybody who reaches the port could read or break the cluster",
        ),
        (&["max-learners"], "members join one at a time, each as the only learner"),
        (
            &["heartbeat-interval", "election-timeout", "quota-backend-bytes", "auto-compaction-*"],
            "use etcd.heartbeat_interval, election_timeout, quota_backend_bytes or auto_compaction",
        ),
    ],
    same: &[],
    fields: &[],
};

/// kube-apiserver.
pub(super) const API_SERVER: Owned = Owned {
    flags: &[
        (&["etcd-servers*", "etcd-prefix", "storage-backend"], "it decides whose data the API serves"),
        (
            &[
                "etcd-cafile",
                "etcd-certfile",
                "etcd-keyfile",
                "client-ca-file",
                "tls-cert-file",
                "tls-private-key-file",
                "tls-sni-cert-key",
                "cert-dir",
                "kubelet-certificate-authority",
                "kubelet-client-*",
                "proxy-client-*",
                "requestheader-*",
                "service-account-key-file",
                "service-account-signing-key-file",
            ],
            FILES,
        ),
        (
            &[
                "encryption-provider-config",
                "audit-policy-file",
                "audit-log-path",
                "authentication-config",
                "admission-control-config-file",
            ],
            FILES,
        ),
        (
            &["anonymous-auth"],
            "probes ask without a name, and rsadm's file of authentication leaves them health endpoints only",
        ),
        (
            &["advertise-address", "bind-address", "secure-port"],
            "use api.port; the address is the host's internal_address",
        ),
        (&["service-cluster-ip-range"], "use network.service_subnet"),
        (&["enable-bootstrap-token-auth"], "joining nodes need it"),
        (
            &["oidc-*"],
            "use kube_apiserver.authentication.jwt: beside the file of authentication that rsadm gives it no API server takes this flag",
        ),
        (
            &["authorization-config"],
            "use authorization-mode, with Node and RBAC in it: beside that no API server takes this flag",
        ),
    ],
    same: &[],
    fields: &[],
};

/// kube-controller-manager.
pub(super) const CONTROLLER_MANAGER: Owned = Owned {
    flags: &[
        (
            &[
                "*kubeconfig",
                "client-ca-file",
                "root-ca-file",
                "cluster-signing-cert-file",
                "cluster-signing-key-file",
                "service-account-private-key-file",
                "requestheader-*",
                "tls-cert-file",
                "tls-private-key-file",
                "cert-dir",
            ],
            FILES,
        ),
        (&["cluster-cidr", "allocate-node-cidrs", "node-cidr-mask-size*"], "use network.pod_subnet"),
        (&["service-cluster-ip-range"], "use network.service_subnet"),
        (&["cluster-name"], "use cluster_name"),
        (&["secure-port"], PORTS),
        (&["leader-elect"], "two active controller managers would undo each other's work"),
    ],
    same: &[],
    fields: &[],
};

/// kube-scheduler.
pub(super) const SCHEDULER: Owned = Owned {
    flags: &[
        (
            &[
                "*kubeconfig",
                "config",
                "client-ca-file",
                "requestheader-*",
                "tls-cert-file",
                "tls-private-key-file",
                "cert-dir",
            ],
            FILES,
        ),
        (&["secure-port"], PORTS),
        (&["leader-elect"], "two active schedulers would undo each other's work"),
    ],
    same: &[],
    fields: &[],
};

/// kubelet.
pub(super) const KUBELET: Owned = Owned {
    flags: &[
        (
            &[
                "*kubeconfig",
                "config",
                "config-dir",
                "cert-dir",
                "client-ca-file",
                "tls-cert-file",
                "tls-private-key-file",
                "root-dir",
                "pod-manifest-path",
            ],
            FILES,
        ),
        (&["hostname-override", "node-ip"], "use the host's name and internal_address"),
        (&["node-labels"], "use the host's labels"),
        (&["register-with-taints"], "use the host's taints"),
        (&["cluster-dns", "cluster-domain"], SECTION),
        (&["container-runtime-endpoint"], "use container_runtime"),
        (&["address", "port", "healthz-port", "healthz-bind-address"], PORTS),
        (&["anonymous-auth", "authentication-token-webhook*", "authorization-*"], ASKING),
        (&["rotate-certificates", "rotate-server-certificates", "manifest-url*"], FILES),
    ],
    same: &[
        ("anonymous-auth", "false"),
        ("authentication-token-webhook", "true"),
        ("authorization-mode", "Webhook"),
        ("rotate-certificates", "true"),
    ],
    fields: &[
        (&["apiVersion", "kind"], "leave the key out"),
        (
            &[
                "authentication",
                "authorization",
                "tlsCertFile",
                "tlsPrivateKeyFile",
                "rotateCertificates",
                "serverTLSBootstrap",
            ],
            FILES,
        ),
        (&["staticPodPath", "staticPodURL"], FILES),
        (&["podLogsDir"], POD_LOGS),
        (&["clusterDNS", "clusterDomain"], "use network.service_subnet and network.cluster_domain"),
        (&["containerRuntimeEndpoint"], "use container_runtime"),
        (&["registerWithTaints"], "use the host's taints"),
        (&["port", "healthzPort", "healthzBindAddress", "address"], PORTS),
    ],
};

/// kube-proxy.
pub(super) const KUBE_PROXY: Owned = Owned {
    flags: &[],
    same: &[],
    fields: &[
        (&["apiVersion", "kind"], "leave the key out"),
        (&["clientConnection", "hostnameOverride"], FILES),
        (&["clusterCIDR"], "use network.pod_subnet"),
    ],
};

impl Owned {
    /// The fields of a configuration that rsadm owns, with the reason.
    pub(super) fn refused_fields<'c>(
        &self,
        config: &'c Map<String, Value>,
    ) -> impl Iterator<Item = (&'c str, &'static str)> {
        config.keys().filter_map(|key| Some((key.as_str(), reason(self.fields, key)?)))
    }
}

/// A flag, which of its values no cluster may have, and why.
type Harmful = (&'static str, fn(&str) -> bool, &'static str);

/// True where a list has this entry.
fn has(list: &str, entry: &str) -> bool {
    list.split(',').any(|e| e.trim() == entry)
}

/// True where a list of gates has this one, and not as on, in one of the words that Go has for that.
fn switches_off(gates: &str, gate: &str) -> bool {
    let mut set = gates.split(',').filter_map(|entry| entry.trim().split_once('='));
    set.any(|(name, value)| name == gate && !["1", "t", "T", "true", "True", "TRUE"].contains(&value))
}

/// Of flags that are otherwise the operator's.
const HARMFUL: [Harmful; 6] = [
    ("unsafe-no-fsync", |v| v != "false", "writes that were acknowledged would be lost with the power"),
    (
        "feature-gates",
        |v| switches_off(v, "InitialCorruptCheck") || switches_off(v, "CompactHashCheck"),
        "leave InitialCorruptCheck and CompactHashCheck on: without them nobody notices that members have different data",
    ),
    ("authorization-mode", |v| has(v, "AlwaysAllow"), "whoever can log in could do everything"),
    (
        "authorization-mode",
        |v| !(has(v, "Node") && has(v, "RBAC")),
        "Node and RBAC have to be in it, as in Node,RBAC,Webhook: without them no kubelet and no component may do its work",
    ),
    (
        "disable-admission-plugins",
        |v| has(v, "NodeRestriction"),
        "leave NodeRestriction out: without it each node could change all others",
    ),
    (
        "tls-min-version",
        |v| !(v.starts_with("VersionTLS1") || ["TLS1.2", "TLS1.3"].contains(&v)),
        "VersionTLS12 or VersionTLS13; of etcd TLS1.2 or TLS1.3",
    ),
];

/// Whether a flag may be laid over ours.
pub(super) fn judge(owned: &Owned, flag: &str, value: &str) -> Result<(), Fault> {
    if let Some(bare) = flag.strip_prefix("--") {
        return Err(Fault::new(
            format!("{} begins with dashes", quote(flag)),
            format!("write {}", quote(bare)),
        ));
    }
    let is_flag = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !flag.starts_with(|c: char| c.is_ascii_lowercase()) || !flag.chars().all(is_flag) {
        let help = "lower-case letters, digits and -, as in the component's --help";
        return Err(Fault::new(format!("{} is no flag", quote(flag)), help));
    }
    if owned.same.contains(&(flag, value)) {
        return Ok(());
    }
    if let Some(why) = reason(owned.flags, flag) {
        return Err(Fault::new(format!("--{flag} is rsadm's to set"), why));
    }
    if let Some((.., why)) = HARMFUL.iter().find(|(name, harms, _)| *name == flag && harms(value)) {
        return Err(Fault::new(format!("{} is nothing for --{flag}", quote(value)), *why));
    }
    if value.len() > 4096 {
        return Err(Fault::new("more than 4096 characters", "a flag's value is short"));
    }
    Ok(())
}

fn reason(table: &[(&[&str], &'static str)], name: &str) -> Option<&'static str> {
    let matches = |pattern: &str| match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
        (Some(start), _) => name.starts_with(start),
        (_, Some(end)) => name.ends_with(end),
        _ => pattern == name,
    };
    table.iter().find(|(patterns, _)| patterns.iter().any(|p| matches(p))).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_logs_of_pods_lie_is_told_with_its_reason() {
        let config = Map::from_iter([("podLogsDir".to_owned(), "/logs".into())]);
        let told: Vec<_> = KUBELET.refused_fields(&config).collect();
        assert!(matches!(&told[..], [("podLogsDir", why)] if why.contains("/var/log/pods")), "{told:?}");
    }

    /// Lists of hardening have them, and nothing would change.
    #[test]
    fn a_flag_with_the_value_that_is_ours_is_no_fault() {
        for (flag, ours, other) in
            [("anonymous-auth", "false", "true"), ("authorization-mode", "Webhook", "AlwaysAllow")]
        {
            assert!(judge(&KUBELET, flag, ours).is_ok());
            assert!(judge(&KUBELET, flag, other).is_err());
        }
        assert!(judge(&API_SERVER, "anonymous-auth", "false").is_err(), "its probes ask without a name");
    }
}
