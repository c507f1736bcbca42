//! The kubelet's systemd unit: what kubeadm spreads over a unit, a drop-in and two environment files.

use std::collections::BTreeMap;

use crate::{
    inventory::{Cluster, Node, Role},
    layout,
};

use super::flags;

/// `kubelet.service` of any host, whether it is a node or only runs etcd.
///
/// `hostname` is what the host calls itself. The node is named after the inventory; where the two are equal, the kubelet
/// is not told (CIS 4.2.7).
pub fn kubelet_unit(cluster: &Cluster, node: &Node, hostname: &str) -> String {
    format!(
        "# Written by rsadm.
[Unit]
Description=kubelet: the Kubernetes node agent
Documentation=https://kubernetes.io/docs/
Wants=network-online.target
After=network-online.target containerd.service
# Never given up: a host that was without its disk or network for an hour comes back by itself.
StartLimitIntervalSec=0

[Service]
ExecStart={command}
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
",
        command = command(cluster, node, hostname),
    )
}

/// Our drop-in of that unit: with which files the kubelet was started and, once more, with which arguments. A kubelet
/// that came as a package of kubeadm's brought a drop-in `10-kubeadm.conf` with arguments of its own, which this one
/// sorts after and takes back.
pub fn kubelet_drop_in(cluster: &Cluster, node: &Node, hostname: &str, revision: &str) -> String {
    format!(
        "# Written by rsadm.
[Service]
Environment={variable}={revision}
ExecStart=
ExecStart={command}
",
        variable = layout::REVISION_VARIABLE,
        command = command(cluster, node, hostname),
    )
}

fn command(cluster: &Cluster, node: &Node, hostname: &str) -> String {
    let mut base = vec![("config", layout::KUBELET_CONFIG.to_owned())];
    if node.name.as_str() != hostname {
        base.push(("hostname-override", node.name.to_string()));
    }
    if node.is_kubernetes() {
        base.push(("kubeconfig", layout::KUBELET_CONF.to_owned()));
        base.push(("node-ip", node.internal_address.to_string()));
        let own = node.labels.iter().filter(|(key, _)| self_given(key));
        let own = own.map(|(key, value)| format!("{key}={value}"));
        let labels: Vec<_> = [format!("{}=", layout::NODE_LABEL)].into_iter().chain(own).collect();
        base.push(("node-labels", labels.join(",")));
    }
    let arguments: String = flags(&base, &cluster.kubelet.extra_args)
        .iter()
        .map(|flag| format!(" \\\n    {}", quoted(flag)))
        .collect();
    format!("{}/kubelet{arguments}", layout::BIN_DIR)
}

/// The labels that a kubelet may not give itself and that are therefore set through the API: those of its roles as
/// kubeadm sets them, and what the inventory adds under `kubernetes.io`.
pub fn labels_by_api(node: &Node) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> =
        node.labels.iter().filter(|(key, _)| !self_given(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    if node.is(Role::ControlPlane) {
        labels.entry("node-role.kubernetes.io/control-plane".to_owned()).or_default();
        // kubeadm sets it on every control plane; but one that runs workloads shall get their traffic.
        if !node.is(Role::Worker) {
            labels.entry("node.kubernetes.io/exclude-from-external-load-balancers".to_owned()).or_default();
        }
    }
    labels
}

/// True where the admission plugin NodeRestriction lets a kubelet set the label on its own node
/// (`plugin/pkg/admission/noderestriction`, `pkg/kubelet/apis/well_known_labels.go`).
fn self_given(key: &str) -> bool {
    const NAMES: [&str; 5] = [
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    ];
    let Some((prefix, _)) = key.split_once('/') else { return true };
    let under = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    if under("node.kubernetes.io") || under("kubelet.kubernetes.io") {
        return true;
    }
    NAMES.contains(&key) || !(under("kubernetes.io") || under("k8s.io"))
}

/// An argument as systemd reads it: quoted where a space, a quote or a backslash would split or change it; `%` and `$`
/// doubled, since both expand.
fn quoted(argument: &str) -> String {
    let expanded = argument.replace('%', "%%").replace('$', "$$");
    if !expanded.contains([' ', '\t', '"', '\'', '\\']) {
        return expanded;
    }
    format!("\"{}\"", expanded.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::testing;

    #[test]
    fn golden() {
        let ha = testing::ha();
        for (name, hostname) in [("m1", "m1"), ("w1", "ip-10-0-0-11")] {
            let unit = kubelet_unit(&ha, testing::node(&ha, name), hostname);
            testing::golden(&format!("ha/kubelet-{name}.service"), &unit);
            let drop_in = kubelet_drop_in(&ha, testing::node(&ha, name), hostname, "0123abcd");
            testing::golden(&format!("ha/kubelet-{name}-drop-in.conf"), &drop_in);
        }
        let external = testing::external_etcd();
        let unit = kubelet_unit(&external, testing::node(&external, "e1"), "e1");
        testing::golden("external-etcd/kubelet-e1.service", &unit);
    }

    #[test]
    fn labels_are_split_by_who_may_set_them() {
        let single = testing::single();
        let labels = labels_by_api(testing::node(&single, "m1"));
        assert!(labels.into_keys().eq(["node-role.kubernetes.io/control-plane"]));
        let ha = testing::ha();
        let keys = |name| labels_by_api(testing::node(&ha, name)).into_keys().collect::<Vec<_>>();
        assert_eq!(keys("w1"), ["node-role.kubernetes.io/gpu"]);
        assert_eq!(keys("w2"), Vec::<String>::new());
        assert_eq!(
            keys("m1"),
            [
                "node-role.kubernetes.io/control-plane",
                "node.kubernetes.io/exclude-from-external-load-balancers"
            ]
        );
        for (key, own) in [
            ("zone", true),
            ("example.org/rack", true),
            ("topology.kubernetes.io/zone", true),
            ("rack.node.kubernetes.io/x", true),
            ("kubernetes.io/role", false),
            ("node-role.kubernetes.io/gpu", false),
            ("node-restriction.kubernetes.io/x", false),
            ("x.k8s.io/y", false),
        ] {
            assert_eq!(self_given(key), own, "{key}");
        }
    }

    #[test]
    fn arguments_survive_systemd() {
        assert_eq!(quoted("--v=2"), "--v=2");
        assert_eq!(quoted("--a=b c"), "\"--a=b c\"");
        assert_eq!(quoted(r#"--a="%$\"#), r#""--a=\"%%$$\\""#);
    }
}
