//! The node-local load balancer: haproxy on each worker's loopback, over all control planes.
//!
//! It has no state, no election and no address that moves: each worker fails over by itself. A control plane whose
//! `/readyz` fails twice, one second apart, is left, and connections to it are closed, so that kubelet and kube-proxy
//! reconnect at once instead of waiting for their own timeouts. TLS passes through untouched, so haproxy holds no key and
//! the client verifies the API server itself; the health check alone does not verify it.
//!
//! Where none is ready, all are tried, one after the other: an API server serves seconds before all that `/readyz` waits for is done, nodes that are
//! new need no more, and one that is half well is better than none.

use std::{collections::BTreeMap, fmt::Write};

use k8s_openapi::api::core::v1::Pod;

use crate::{
    inventory::{Cluster, Role},
    layout,
};

use super::static_pod::{Health, Mount, StaticPod};

/// The user of the official image, which needs no rights at all.
const HAPROXY_USER: i64 = 99;

/// The pod, the same on every worker.
pub fn haproxy_pod(cluster: &Cluster, revision: &str) -> Pod {
    // Ports below 1024 are root's.
    let privileged_port = cluster.api.port < 1024;
    StaticPod {
        name: "haproxy",
        tier: "node",
        annotations: BTreeMap::new(),
        image: cluster.release.haproxy_image(),
        command: ["haproxy", "-db", "-f", layout::HAPROXY_CONFIG].map(str::to_owned).into(),
        revision,
        requests: &[("cpu", "25m"), ("memory", "32Mi")],
        mounts: vec![Mount::file("configuration", layout::HAPROXY_CONFIG)],
        health: Health {
            scheme: "HTTP",
            host: "127.0.0.1".to_owned(),
            port: layout::HAPROXY_HEALTH_PORT,
            live: "/healthz",
            ready: Some("/healthz"),
        },
        capabilities: if privileged_port { &["NET_BIND_SERVICE"] } else { &[] },
        user: (!privileged_port).then_some(HAPROXY_USER),
    }
    .build()
}

/// Its configuration, the same on every worker. Read once.
pub fn haproxy_config(cluster: &Cluster) -> String {
    let port = cluster.api.port;
    let mut text = format!(
        "# Written by rsadm.
global
    log stdout format raw local0 notice
    maxconn 2000

defaults
    mode tcp
    log global
    option dontlognull
    option clitcpka
    option srvtcpka
    # Each try goes to another one.
    option redispatch 1
    retries {retries}
    timeout connect 2s
    timeout check 2s
    # Watches are quiet for minutes; the API server ends each within the hour.
    timeout client 1h
    timeout server 1h

frontend health
    mode http
    bind 127.0.0.1:{health}
    monitor-uri /healthz

frontend api
    bind 127.0.0.1:{port}
    default_backend control-planes

backend control-planes
    balance roundrobin
    option httpchk GET /readyz
    http-check expect status 200
    default-server check check-ssl verify none inter 1s fall 2 rise 1 on-marked-down shutdown-sessions on-marked-up shutdown-backup-sessions
    # For when none is ready: their connections end once one is.
    option allbackups
",
        health = layout::HAPROXY_HEALTH_PORT,
        retries = cluster.with_role(Role::ControlPlane).count().max(3),
    );
    for node in cluster.with_role(Role::ControlPlane) {
        let (name, address) = (&node.name, node.internal_address);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    server {name} {address}:{port}");
        // No node has such a name.
        let _ = writeln!(text, "    server {name}:unready {address}:{port} no-check backup");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::{testing, to_yaml};

    #[test]
    fn golden() {
        let cluster = testing::ha();
        testing::golden("ha/haproxy.yaml", &to_yaml("pod", &haproxy_pod(&cluster, "0123abcd")).unwrap());
        testing::golden("ha/haproxy.cfg", &haproxy_config(&cluster));
    }
}
