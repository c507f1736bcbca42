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
    /// Host and path of it upstream, which its URL ends with at every mirror.
    pub source: String,
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

impl Program {
    /// One of an upstream site, by host and path; its checksum is published at the second.
    fn of(cluster: &Cluster, name: &str, source: String, sums: &str) -> Self {
        Self {
            name: name.into(),
            url: cluster.artifacts.url(&source),
            checksum_url: cluster.artifacts.url(sums),
            source,
            target: format!("{}/{name}", layout::BIN_DIR),
            members: vec![],
        }
    }

    /// Whether a URL has it, wherever that mirror is.
    pub fn is_at(&self, url: &str) -> bool {
        url.strip_suffix(&self.source).is_some_and(|mirror| mirror.ends_with('/'))
    }
}

fn kubernetes(cluster: &Cluster, name: &str, arch: &str) -> Program {
    let version = cluster.release.kubernetes;
    let source = format!("dl.k8s.io/release/{version}/bin/linux/{arch}/{name}");
    let sums = format!("{source}.sha256");
    Program::of(cluster, name, source, &sums)
}

fn containerd(cluster: &Cluster, arch: &str) -> Program {
    let version = cluster.release.containerd;
    let number = version.to_string().trim_start_matches('v').to_owned();
    let folder = format!("github.com/containerd/containerd/releases/download/{version}");
    let source = format!("{folder}/containerd-{number}-linux-{arch}.tar.gz");
    let sums = format!("{source}.sha256sum");
    Program {
        target: layout::BIN_DIR.into(),
        members: ["bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr"].map(Into::into).into(),
        ..Program::of(cluster, "containerd", source, &sums)
    }
}

fn runc(cluster: &Cluster, arch: &str) -> Program {
    let folder = format!("github.com/opencontainers/runc/releases/download/{}", cluster.release.runc);
    Program::of(cluster, "runc", format!("{folder}/runc.{arch}"), &format!("{folder}/runc.sha256sum"))
}

fn cni_plugins(cluster: &Cluster, arch: &str) -> Program {
    let version = cluster.release.cni_plugins;
    let folder = format!("github.com/containernetworking/plugins/releases/download/{version}");
    let source = format!("{folder}/cni-plugins-linux-{arch}-{version}.tgz");
    let sums = format!("{source}.sha256");
    Program {
        target: layout::CNI_BIN_DIR.into(),
        members: ["bridge", "host-local", "loopback", "portmap", "bandwidth", "firewall"]
            .map(|m| format!("./{m}"))
            .into(),
        ..Program::of(cluster, "cni-plugins", source, &sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::testing;

    /// As the sites have them: no test runs on such a machine.
    #[test]
    fn what_a_host_of_arm_fetches() {
        let cluster = testing::single();
        let programs = programs_for(&cluster, &cluster.nodes[0], "aarch64");
        let urls = programs.iter().flat_map(|p| [p.url.as_str(), p.checksum_url.as_str()]);
        insta::assert_snapshot!(urls.collect::<Vec<_>>().join("\n"), @"
        https://github.com/containerd/containerd/releases/download/v2.4.2/containerd-2.4.2-linux-arm64.tar.gz
        https://github.com/containerd/containerd/releases/download/v2.4.2/containerd-2.4.2-linux-arm64.tar.gz.sha256sum
        https://github.com/opencontainers/runc/releases/download/v1.5.2/runc.arm64
        https://github.com/opencontainers/runc/releases/download/v1.5.2/runc.sha256sum
        https://dl.k8s.io/release/v1.37.2/bin/linux/arm64/kubelet
        https://dl.k8s.io/release/v1.37.2/bin/linux/arm64/kubelet.sha256
        https://github.com/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-arm64-v1.9.1.tgz
        https://github.com/containernetworking/plugins/releases/download/v1.9.1/cni-plugins-linux-arm64-v1.9.1.tgz.sha256
        https://dl.k8s.io/release/v1.37.2/bin/linux/arm64/kubectl
        https://dl.k8s.io/release/v1.37.2/bin/linux/arm64/kubectl.sha256
        ");
    }
}
