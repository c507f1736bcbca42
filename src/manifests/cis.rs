//! The automated checks of the CIS Kubernetes Benchmark v1.12 that flags and configuration files decide.

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::{
    InitialState, api_server_pod, controller_manager_pod, etcd_pod, from_yaml, kubelet_config, scheduler_pod,
    testing,
};

/// A check of a flag: number, flag, what it must be.
type Check = (&'static str, &'static str, Wanted);

enum Wanted {
    Is(&'static str),
    Has(&'static str),
    Set,
    Unset,
}

use Wanted::{Has, Is, Set, Unset};

fn failures(pod: &Pod, checks: &[Check]) -> Vec<&'static str> {
    let command = pod.spec.as_ref().unwrap().containers[0].command.clone().unwrap();
    let value = |flag: &str| command.iter().find_map(|arg| arg.strip_prefix(&format!("--{flag}=")));
    let fails = |(_, flag, wanted): &&Check| match (wanted, value(flag)) {
        (Is(wanted), is) => is != Some(wanted),
        (Has(wanted), is) => !is.is_some_and(|is| is.split(',').any(|item| item == *wanted)),
        (Set, is) => is.is_none(),
        (Unset, is) => is.is_some(),
    };
    checks.iter().filter(fails).map(|(number, ..)| *number).collect()
}

#[test]
fn control_plane_and_etcd_pass() {
    let cluster = testing::ha();
    let node = testing::node(&cluster, "m1");
    let api_server = [
        ("1.2.1", "anonymous-auth", Unset),
        ("1.2.2", "token-auth-file", Unset),
        ("1.2.3", "enable-admission-plugins", Has("DenyServiceExternalIPs")),
        ("1.2.4", "kubelet-client-certificate", Set),
        ("1.2.4", "kubelet-client-key", Set),
        ("1.2.5", "kubelet-certificate-authority", Set),
        ("1.2.6 to 1.2.8", "authorization-mode", Is("Node,RBAC")),
        ("1.2.9", "enable-admission-plugins", Has("EventRateLimit")),
        ("1.2.12, 1.2.13", "disable-admission-plugins", Unset),
        ("1.2.14", "enable-admission-plugins", Has("NodeRestriction")),
        ("1.2.15", "profiling", Is("false")),
        ("1.2.16", "audit-log-path", Set),
        ("1.2.17", "audit-log-maxage", Is("30")),
        ("1.2.18", "audit-log-maxbackup", Is("10")),
        ("1.2.19", "audit-log-maxsize", Is("100")),
        ("1.2.21", "service-account-lookup", Unset),
        ("1.2.22", "service-account-key-file", Set),
        ("1.2.23", "etcd-certfile", Set),
        ("1.2.23", "etcd-keyfile", Set),
        ("1.2.24", "tls-cert-file", Set),
        ("1.2.24", "tls-private-key-file", Set),
        ("1.2.25", "client-ca-file", Set),
        ("1.2.26", "etcd-cafile", Set),
        ("1.2.27", "encryption-provider-config", Set),
        ("1.2.29", "tls-cipher-suites", Set),
        ("1.2.30", "service-account-extend-token-expiration", Is("false")),
        ("3.2.1", "audit-policy-file", Set),
    ];
    assert_eq!(failures(&api_server_pod(&cluster, node, "x"), &api_server), Vec::<&str>::new());

    let controller_manager = [
        ("1.3.1", "terminated-pod-gc-threshold", Set),
        ("1.3.2", "profiling", Is("false")),
        ("1.3.3", "use-service-account-credentials", Is("true")),
        ("1.3.4", "service-account-private-key-file", Set),
        ("1.3.5", "root-ca-file", Set),
        ("1.3.6", "feature-gates", Unset),
        ("1.3.7", "bind-address", Is("127.0.0.1")),
    ];
    assert_eq!(failures(&controller_manager_pod(&cluster, "x"), &controller_manager), Vec::<&str>::new());

    let scheduler = [("1.4.1", "profiling", Is("false")), ("1.4.2", "bind-address", Is("127.0.0.1"))];
    assert_eq!(failures(&scheduler_pod(&cluster, "x"), &scheduler), Vec::<&str>::new());

    let etcd = [
        ("2.1", "cert-file", Is("/etc/kubernetes/pki/etcd/server.crt")),
        ("2.1", "key-file", Is("/etc/kubernetes/pki/etcd/server.key")),
        ("2.2", "client-cert-auth", Is("true")),
        ("2.3", "auto-tls", Unset),
        ("2.4", "peer-cert-file", Set),
        ("2.4", "peer-key-file", Set),
        ("2.5", "peer-client-cert-auth", Is("true")),
        ("2.6", "peer-auto-tls", Unset),
        ("2.7", "trusted-ca-file", Is("/etc/kubernetes/pki/etcd/ca.crt")),
    ];
    let pod = etcd_pod(&cluster, node, &testing::etcd_start(&cluster, InitialState::New), "x", None);
    assert_eq!(failures(&pod, &etcd), Vec::<&str>::new());
    assert_eq!(failures(&pod, &[("a check that fails", "no-such-flag", Set)]), ["a check that fails"]);
}

#[test]
fn kubelet_passes() {
    let cluster = testing::ha();
    let yaml = kubelet_config(&cluster, testing::node(&cluster, "w2"), None).unwrap();
    let config = from_yaml(&yaml);
    for (number, path, wanted) in [
        ("4.2.1", "/authentication/anonymous/enabled", Value::from(false)),
        ("4.2.2", "/authorization/mode", "Webhook".into()),
        ("4.2.3", "/authentication/x509/clientCAFile", "/etc/kubernetes/pki/ca.crt".into()),
        ("4.2.4", "/readOnlyPort", 0.into()),
        ("4.2.5", "/streamingConnectionIdleTimeout", "4h0m0s".into()),
        ("4.2.9", "/tlsCertFile", "/var/lib/kubelet/pki/kubelet.crt".into()),
        ("4.2.9", "/tlsPrivateKeyFile", "/var/lib/kubelet/pki/kubelet.key".into()),
        ("4.2.10", "/rotateCertificates", true.into()),
        ("4.2.13", "/podPidsLimit", 4096.into()),
        ("4.2.14", "/seccompDefault", true.into()),
    ] {
        assert_eq!(config.pointer(path), Some(&wanted), "CIS {number}");
    }
    assert!(config["tlsCipherSuites"].as_array().is_some_and(|suites| !suites.is_empty()), "CIS 4.2.12");
    assert_eq!(config.get("makeIPTablesUtilChains"), None, "CIS 4.2.6");
}
