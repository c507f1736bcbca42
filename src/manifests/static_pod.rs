//! What all static pods have in common, so that each component's file only says what is its own.
//!
//! As kubeadm builds them (`util/staticpod/utils.go`, `phases/controlplane/manifests.go`), with three differences. Each
//! container drops every Linux capability that it does not need. The startup probe asks every second instead of every
//! ten, with the same four minutes in all: a component that is up is seen to be up. And a `hostPath` of ours must exist:
//! kubelet making an empty one (`DirectoryOrCreate`) would hide that it is missing. kubeadm also mounts
//! folders that links in `/etc/ssl/certs` lead to on other systems, such as `/etc/pki/ca-trust`, where a host has them; here a
//! server that a component calls needs its authority named, as `certificateAuthority` of a JWT issuer.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, ContainerPort, EnvVar, HTTPGetAction, HostPathVolumeSource, Pod,
        PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile, SecurityContext, Volume,
        VolumeMount,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use crate::layout;

/// The name of the port that probes ask, kubeadm's.
const PROBE_PORT: &str = "probe-port";

/// The priority of `system-node-critical`. A kubelet without an API server cannot look it up.
const NODE_CRITICAL: i32 = 2_000_001_000;

/// One static pod of one container.
pub(super) struct StaticPod<'a> {
    /// Of the pod, its container, and the `component` label.
    pub(super) name: &'static str,
    /// The `tier` label.
    pub(super) tier: &'static str,
    /// kubeadm's annotations, which its tools read.
    pub(super) annotations: BTreeMap<String, String>,
    /// The image.
    pub(super) image: String,
    /// Program and flags.
    pub(super) command: Vec<String>,
    /// Hash of what the process reads only once ([`layout::REVISION_VARIABLE`]).
    pub(super) revision: &'a str,
    /// Requested resources.
    pub(super) requests: &'static [(&'static str, &'static str)],
    /// What from the host it sees.
    pub(super) mounts: Vec<Mount>,
    /// How its health is asked for.
    pub(super) health: Health,
    /// Linux capabilities it needs.
    pub(super) capabilities: &'static [&'static str],
    /// The user it runs as, where that is not root.
    pub(super) user: Option<i64>,
}

/// Where and how a component tells its health.
pub(super) struct Health {
    /// `HTTP` or `HTTPS`.
    pub(super) scheme: &'static str,
    /// The address it listens on.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
    /// Not answered with 200 for 80 s: restarted.
    pub(super) live: &'static str,
    /// Not answered with 200: not ready.
    pub(super) ready: Option<&'static str>,
}

/// A file or folder of the host inside a pod, at the same path.
pub(super) struct Mount {
    name: &'static str,
    path: &'static str,
    kind: &'static str,
    read_only: bool,
}

impl Mount {
    /// A folder that must exist, for reading.
    pub(super) const fn folder(name: &'static str, path: &'static str) -> Self {
        Self { name, path, kind: "Directory", read_only: true }
    }

    /// The authorities that the host trusts. Hosts without any may lack the folder, which kubeadm makes there, too: a component
    /// needs none of them to serve.
    pub(super) const fn authorities() -> Self {
        let (name, path) = ("ca-certs", layout::HOST_CERTIFICATES_DIR);
        Self { name, path, kind: "DirectoryOrCreate", read_only: true }
    }

    /// A folder that must exist, for writing.
    pub(super) const fn writable_folder(name: &'static str, path: &'static str) -> Self {
        Self { name, path, kind: "Directory", read_only: false }
    }

    /// A file that must exist, for reading. Replaced atomically, it is seen anew by the next container only.
    pub(super) const fn file(name: &'static str, path: &'static str) -> Self {
        Self { name, path, kind: "File", read_only: true }
    }
}

impl StaticPod<'_> {
    /// The pod.
    pub(super) fn build(self) -> Pod {
        let labels = [("component", self.name), ("tier", self.tier)];
        let metadata = ObjectMeta {
            name: Some(self.name.to_owned()),
            namespace: Some("kube-system".to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            annotations: (!self.annotations.is_empty()).then(|| self.annotations.clone()),
            ..ObjectMeta::default()
        };
        let spec = PodSpec {
            volumes: Some(self.mounts.iter().map(volume).collect()),
            containers: vec![self.container()],
            host_network: Some(true),
            priority: Some(NODE_CRITICAL),
            priority_class_name: Some("system-node-critical".to_owned()),
            security_context: Some(PodSecurityContext {
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            ..PodSpec::default()
        };
        Pod { metadata, spec: Some(spec), status: None }
    }

    fn container(self) -> Container {
        let health = &self.health;
        Container {
            name: self.name.to_owned(),
            image: Some(self.image),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            command: Some(self.command),
            env: Some(vec![EnvVar {
                name: layout::REVISION_VARIABLE.to_owned(),
                value: Some(self.revision.to_owned()),
                ..EnvVar::default()
            }]),
            ports: Some(vec![ContainerPort {
                name: Some(PROBE_PORT.to_owned()),
                container_port: i32::from(health.port),
                protocol: Some("TCP".to_owned()),
                ..ContainerPort::default()
            }]),
            startup_probe: Some(Probe { failure_threshold: Some(240), ..health.probe(health.live, 1) }),
            liveness_probe: Some(Probe { failure_threshold: Some(8), ..health.probe(health.live, 10) }),
            readiness_probe: health.ready.map(|path| health.probe(path, 1)),
            resources: Some(ResourceRequirements {
                requests: Some(self.requests.iter().map(|(k, v)| ((*k).to_owned(), quantity(v))).collect()),
                ..ResourceRequirements::default()
            }),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                capabilities: Some(Capabilities {
                    add: (!self.capabilities.is_empty())
                        .then(|| self.capabilities.iter().map(|&c| c.to_owned()).collect()),
                    drop: Some(vec!["ALL".to_owned()]),
                }),
                read_only_root_filesystem: Some(true),
                run_as_user: self.user,
                ..SecurityContext::default()
            }),
            volume_mounts: Some(self.mounts.iter().map(volume_mount).collect()),
            ..Container::default()
        }
    }
}

impl Health {
    fn probe(&self, path: &str, period_seconds: i32) -> Probe {
        Probe {
            failure_threshold: Some(3),
            period_seconds: Some(period_seconds),
            timeout_seconds: Some(15),
            http_get: Some(HTTPGetAction {
                host: Some(self.host.clone()),
                path: Some(path.to_owned()),
                port: IntOrString::String(PROBE_PORT.to_owned()),
                scheme: Some(self.scheme.to_owned()),
                ..HTTPGetAction::default()
            }),
            ..Probe::default()
        }
    }
}

/// A resource quantity such as `100m`.
pub(super) fn quantity(text: &str) -> Quantity {
    Quantity(text.to_owned())
}

fn volume(mount: &Mount) -> Volume {
    Volume {
        name: mount.name.to_owned(),
        host_path: Some(HostPathVolumeSource {
            path: mount.path.to_owned(),
            type_: Some(mount.kind.to_owned()),
        }),
        ..Volume::default()
    }
}

fn volume_mount(mount: &Mount) -> VolumeMount {
    VolumeMount {
        name: mount.name.to_owned(),
        mount_path: mount.path.to_owned(),
        read_only: mount.read_only.then_some(true),
        ..VolumeMount::default()
    }
}
