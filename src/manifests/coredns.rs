//! CoreDNS, as kubeadm installs it (`phases/addons/dns/manifests.go`), spread for real.
//!
//! kubeadm prefers two hosts for the two replicas, and so both end on the first node that is ready, since that is the
//! only one when they are scheduled. Here two nodes are required, and a disruption budget keeps one replica when
//! several nodes are drained at once. A cluster of one node has one replica.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, HTTPGetAction,
            KeyToPath, NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm,
            PodAntiAffinity, PodSpec, PodTemplateSpec, PreferredSchedulingTerm, Probe, ResourceRequirements,
            SecurityContext, Service, ServicePort, ServiceSpec, Toleration, Volume, VolumeMount,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use crate::inventory::{Cluster, Taint};

use super::{
    Error,
    addon::{
        Documents, SYSTEM, Who, cluster_binding, cluster_role, config_map, namespaced, pairs, rule,
        service_account,
    },
    static_pod::quantity,
};

/// The label that Kubernetes' tools know cluster DNS by.
const LABEL: (&str, &str) = ("k8s-app", "kube-dns");

/// All objects of the add-on, as YAML documents. With `upstream`, names outside the cluster are asked of the resolvers
/// that its host has; CoreDNS does not start where there are none.
pub fn coredns(cluster: &Cluster, upstream: bool) -> Result<String, Error> {
    let mut documents = Documents::default();
    documents.add(&service_account("coredns"))?;
    let verbs = ["list", "watch"];
    let rules = vec![
        rule("", &["endpoints", "services", "pods", "namespaces"], &[], &verbs),
        rule("discovery.k8s.io", &["endpointslices"], &[], &verbs),
    ];
    documents.add(&cluster_role("system:coredns", rules))?;
    documents.add(&cluster_binding("system:coredns", "system:coredns", Who::ServiceAccount("coredns")))?;
    documents.add(&config_map(
        SYSTEM,
        "coredns",
        [("Corefile", corefile(&cluster.network.cluster_domain, upstream))],
    ))?;
    documents.add(&deployment(cluster))?;
    if coredns_replicas(cluster) > 1 {
        documents.add(&disruption_budget())?;
    }
    documents.add(&service(cluster))?;
    Ok(documents.into_yaml())
}

/// The server's configuration; it reads changes by itself.
fn corefile(domain: &str, upstream: bool) -> String {
    let forward = match upstream {
        true => "    forward . /etc/resolv.conf {\n       max_concurrent 1000\n    }\n",
        false => "",
    };
    format!(
        ".:53 {{
    errors
    health {{
       lameduck 5s
    }}
    ready
    kubernetes {domain} in-addr.arpa ip6.arpa {{
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }}
    prometheus :9153
{forward}    cache 30 {{
       disable success {domain}
       disable denial {domain}
    }}
    loop
    reload
    loadbalance
}}
"
    )
}

/// How many pods of it there are to be, each on a host of its own.
pub fn coredns_replicas(cluster: &Cluster) -> u8 {
    if cluster.kubernetes_nodes().count() > 1 { 2 } else { 1 }
}

fn deployment(cluster: &Cluster) -> Deployment {
    let spec = DeploymentSpec {
        replicas: Some(coredns_replicas(cluster).into()),
        selector: selector(),
        strategy: Some(DeploymentStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(RollingUpdateDeployment {
                max_unavailable: Some(IntOrString::Int(1)),
                ..RollingUpdateDeployment::default()
            }),
        }),
        template: PodTemplateSpec {
            metadata: Some(ObjectMeta { labels: Some(pairs([LABEL])), ..ObjectMeta::default() }),
            spec: Some(pod_spec(cluster)),
        },
        ..DeploymentSpec::default()
    };
    let metadata = ObjectMeta { labels: Some(pairs([LABEL])), ..namespaced(SYSTEM, "coredns") };
    Deployment { metadata, spec: Some(spec), status: None }
}

/// The taint of control planes, and of nodes that are kept for what a cluster cannot do without.
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
const CRITICAL: &str = "CriticalAddonsOnly";

/// Whether its pods may come to a node with this taint.
pub fn coredns_tolerates(taint: &Taint) -> bool {
    match taint.key.as_str() {
        CRITICAL => true,
        CONTROL_PLANE if taint.effect == "NoSchedule" => taint.value.is_empty(),
        _ => taint.effect == "PreferNoSchedule",
    }
}

fn pod_spec(cluster: &Cluster) -> PodSpec {
    let control_planes = Toleration {
        key: Some(CONTROL_PLANE.to_owned()),
        effect: Some("NoSchedule".to_owned()),
        ..Toleration::default()
    };
    let critical = Toleration {
        key: Some(CRITICAL.to_owned()),
        operator: Some("Exists".to_owned()),
        ..Toleration::default()
    };
    PodSpec {
        affinity: Some(one_per_host()),
        containers: vec![container(cluster)],
        dns_policy: Some("Default".to_owned()),
        node_selector: Some(pairs([("kubernetes.io/os", "linux")])),
        priority_class_name: Some("system-cluster-critical".to_owned()),
        service_account_name: Some("coredns".to_owned()),
        tolerations: Some(vec![critical, control_planes]),
        volumes: Some(vec![Volume {
            name: "config-volume".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: "coredns".to_owned(),
                items: Some(vec![KeyToPath {
                    key: "Corefile".to_owned(),
                    path: "Corefile".to_owned(),
                    ..KeyToPath::default()
                }]),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        }]),
        ..PodSpec::default()
    }
}

/// Never two on one host, and rather on workers than on control planes.
fn one_per_host() -> Affinity {
    let worker = NodeSelectorRequirement {
        key: "node-role.kubernetes.io/control-plane".to_owned(),
        operator: "DoesNotExist".to_owned(),
        values: None,
    };
    Affinity {
        node_affinity: Some(NodeAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![PreferredSchedulingTerm {
                preference: NodeSelectorTerm {
                    match_expressions: Some(vec![worker]),
                    ..NodeSelectorTerm::default()
                },
                weight: 100,
            }]),
            ..NodeAffinity::default()
        }),
        pod_anti_affinity: Some(PodAntiAffinity {
            required_during_scheduling_ignored_during_execution: Some(vec![PodAffinityTerm {
                label_selector: Some(selector()),
                topology_key: "kubernetes.io/hostname".to_owned(),
                ..PodAffinityTerm::default()
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn container(cluster: &Cluster) -> Container {
    Container {
        name: "coredns".to_owned(),
        image: Some(cluster.release.coredns_image()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(vec!["-conf".to_owned(), "/etc/coredns/Corefile".to_owned()]),
        ports: Some(vec![
            port("dns", 53, "UDP"),
            port("dns-tcp", 53, "TCP"),
            port("metrics", 9153, "TCP"),
            port("liveness-probe", 8080, "TCP"),
            port("readiness-probe", 8181, "TCP"),
        ]),
        liveness_probe: Some(Probe {
            failure_threshold: Some(5),
            initial_delay_seconds: Some(60),
            timeout_seconds: Some(5),
            ..probe("/health", "liveness-probe")
        }),
        // Every second, as with our static pods: at kubelet's ten, DNS stays away for up to ten seconds after it is up.
        readiness_probe: Some(Probe { period_seconds: Some(1), ..probe("/ready", "readiness-probe") }),
        resources: Some(ResourceRequirements {
            limits: Some([("memory".to_owned(), quantity("170Mi"))].into()),
            requests: Some(
                [("cpu", "100m"), ("memory", "70Mi")].map(|(k, v)| (k.to_owned(), quantity(v))).into(),
            ),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                add: Some(vec!["NET_BIND_SERVICE".to_owned()]),
                drop: Some(vec!["ALL".to_owned()]),
            }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![VolumeMount {
            name: "config-volume".to_owned(),
            mount_path: "/etc/coredns".to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

fn disruption_budget() -> PodDisruptionBudget {
    let spec = PodDisruptionBudgetSpec {
        max_unavailable: Some(IntOrString::Int(1)),
        selector: Some(selector()),
        ..PodDisruptionBudgetSpec::default()
    };
    PodDisruptionBudget { metadata: namespaced(SYSTEM, "coredns"), spec: Some(spec), status: None }
}

fn service(cluster: &Cluster) -> Service {
    let service_port = |name: &str, port: i32, protocol: &str| ServicePort {
        name: Some(name.to_owned()),
        port,
        protocol: Some(protocol.to_owned()),
        target_port: Some(IntOrString::Int(port)),
        ..ServicePort::default()
    };
    let metadata = ObjectMeta {
        annotations: Some(pairs([("prometheus.io/port", "9153"), ("prometheus.io/scrape", "true")])),
        labels: Some(pairs([
            LABEL,
            ("kubernetes.io/cluster-service", "true"),
            ("kubernetes.io/name", "CoreDNS"),
        ])),
        ..namespaced(SYSTEM, "kube-dns")
    };
    let spec = ServiceSpec {
        cluster_ip: Some(cluster.network.dns_service_ip().to_string()),
        ports: Some(vec![
            service_port("dns", 53, "UDP"),
            service_port("dns-tcp", 53, "TCP"),
            service_port("metrics", 9153, "TCP"),
        ]),
        selector: Some(pairs([LABEL])),
        ..ServiceSpec::default()
    };
    Service { metadata, spec: Some(spec), status: None }
}

fn selector() -> LabelSelector {
    LabelSelector { match_labels: Some(pairs([LABEL])), ..LabelSelector::default() }
}

fn port(name: &str, port: i32, protocol: &str) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some(protocol.to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, port: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(port.to_owned()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::testing;

    #[test]
    fn golden() {
        testing::golden("single/coredns.yaml", &coredns(&testing::single(), true).unwrap());
        testing::golden("ha/coredns.yaml", &coredns(&testing::ha(), true).unwrap());
    }
}
