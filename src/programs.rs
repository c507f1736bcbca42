//! Programs that a host fetches: where from, how their checksum is published, and where they go.

use serde::Serialize;

use crate::{
    inventory::{Cluster, Node, Role, RuntimeInstall},
    layout,
};

/// One program, or one archive of programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Its name; also of the record on the host.
    pub name: String,
    /// The file.
    pub url: String,
    /// The published checksum: a bare SHA-256, or lines `SHA-256  FILE`.
    pub checksum_url: String,
    /// For a single file, its path. For an archive, the folder its members go to.
    pub target: String,
    /// Which members of the archive, by their path in it; empty for a single file.
    pub members: Vec<String>,
}

/// What a node runs, and no more. `arch` is as `uname -m` says it.
pub fn programs_for(cluster: &Cluster, node: &Node, arch: &str) -> Vec<Program> {
    let arch = go_arch(arch);
    let mut programs = Vec::new();
    if cluster.runtime.install == RuntimeInstall::Upstream {
        programs.push(containerd(cluster, arch));
        programs.push(runc(cluster, arch));
    }
    programs.push(kubernetes(cluster, "kubelet", arch));
    if node.is_kubernetes() {
        programs.push(cni_plugins(cluster, arch));
    }
    if node.is(Role::ControlPlane) {
        programs.push(kubernetes(cluster, "kubectl", arch));
    }
    programs
}

/// Go's name of a machine, as upstream files use it.
pub fn go_arch(machine: &str) -> &'static str {
    match machine {
        "aarch64" | "arm64" => "arm64",
        _ => "amd64",
    }
}

fn kubernetes(cluster: &Cluster, name: &str, arch: &str) -> Program {
    let version = cluster.release.kubernetes;
    let url = cluster.artifacts.url("dl.k8s.io", &format!("release/{version}/bin/linux/{arch}/{name}"));
    Program {
        name: name.into(),
        checksum_url: format!("{url}.sha256"),
        url,
        target: format!("{}/{name}", layout::BIN_DIR),
        members: vec![],
    }
}

fn containerd(cluster: &Cluster, arch: &str) -> Program {
    let version = cluster.release.containerd;
    let number = version.to_string().trim_start_matches('v').to_owned();
    let path =
        format!("containerd/containerd/releases/download/{version}/containerd-{number}-linux-{arch}.tar.gz");
    let url = cluster.artifacts.url("github.com", &path);
    Program {
        name: "containerd".into(),
        checksum_url: format!("{url}.sha256sum"),
        url,
        target: layout::BIN_DIR.into(),
        members: ["bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr"].map(Into::into).into(),
    }
}

fn runc(cluster: &Cluster, arch: &str) -> Program {
    let folder = format!("opencontainers/runc/releases/download/{}", cluster.release.runc);
    Program {
        name: "runc".into(),
        url: cluster.artifacts.url("github.com", &format!("{folder}/runc.{arch}")),
        checksum_url: cluster.artifacts.url("github.com", &format!("{folder}/runc.sha256sum")),
        target: format!("{}/runc", layout::BIN_DIR),
        members: vec![],
    }
}

fn cni_plugins(cluster: &Cluster, arch: &str) -> Program {
    let version = cluster.release.cni_plugins;
    let path = format!(
        "containernetworking/plugins/releases/download/{version}/cni-plugins-linux-{arch}-{version}.tgz"
    );
    let url = cluster.artifacts.url("github.com", &path);
    Program {
        name: "cni-plugins".into(),
        checksum_url: format!("{url}.sha256"),
        url,
        target: layout::CNI_BIN_DIR.into(),
        members: ["bridge", "host-local", "loopback", "portmap", "bandwidth", "firewall"]
            .map(|m| format!("./{m}"))
            .into(),
    }
}
