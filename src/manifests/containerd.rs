//! containerd: its configuration, its mirrors, and its unit where we install it.
//!
//! Only what Kubernetes needs differs from containerd's defaults. containerd 2 renamed the CRI plugin's tables (config
//! version 3), so the version on the host decides which names are written.

use crate::{inventory::Cluster, layout, versions::Version};

/// `config.toml`, for the containerd on the host. Read once.
pub fn containerd_config(cluster: &Cluster, version: Version) -> String {
    let pause = cluster.release.pause_image();
    let mirrors = layout::CONTAINERD_HOSTS_DIR;
    let runtime_settings = runtime_settings(cluster);
    let bin_dir = match version >= Version::new(2, 1, 0) {
        true => format!("bin_dirs = ['{}']", layout::CNI_BIN_DIR),
        false => format!("bin_dir = '{}'", layout::CNI_BIN_DIR),
    };
    let conf_dir = layout::CNI_CONF_DIR;
    if version < Version::new(2, 0, 0) {
        let cri = "plugins.'io.containerd.grpc.v1.cri'";
        return format!(
            "# Written by rsadm.
version = 2

[{cri}]
sandbox_image = '{pause}'
restrict_oom_score_adj = {restrict}

[{cri}.registry]
config_path = '{mirrors}'

[{cri}.cni]
{bin_dir}
conf_dir = '{conf_dir}'

{runtime_settings}",
            restrict = cluster.runtime.restrict_oom_score_adj,
            runtime_settings = runtime_settings.replace("CRI", cri),
        );
    }
    let runtime = "plugins.'io.containerd.cri.v1.runtime'";
    format!(
        "# Written by rsadm.
version = 3

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{pause}'

[plugins.'io.containerd.cri.v1.images'.registry]
config_path = '{mirrors}'

[{runtime}]
restrict_oom_score_adj = {restrict}

[{runtime}.cni]
{bin_dir}
conf_dir = '{conf_dir}'

{runtime_settings}",
        restrict = cluster.runtime.restrict_oom_score_adj,
        runtime_settings = runtime_settings.replace("CRI", runtime),
    )
}

/// runc, with the cgroup driver that the kubelet has: two managers of one cgroup tree get in each other's way.
fn runtime_settings(cluster: &Cluster) -> String {
    let driver = cluster.kubelet.config.get("cgroupDriver").and_then(|driver| driver.as_str());
    let systemd = driver.unwrap_or("systemd") == "systemd";
    format!(
        "[CRI.containerd]
default_runtime_name = 'runc'

[CRI.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'

[CRI.containerd.runtimes.runc.options]
SystemdCgroup = {systemd}
"
    )
}

/// A `hosts.toml` (path, text) for every mirrored registry. Read at every pull.
///
/// The registry itself stays the last resort. A mirror URL that names the API's root itself (`…/v2/…`, as pull-through
/// projects of Harbor do) is taken as it is.
pub fn registry_hosts(cluster: &Cluster) -> Vec<(String, String)> {
    cluster
        .artifacts
        .registry_mirrors
        .iter()
        .map(|(registry, mirror)| {
            let server = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
            let override_path =
                if format!("{mirror}/").contains("/v2/") { "override_path = true\n" } else { "" };
            let text = format!(
                "# Written by rsadm.
server = 'https://{server}'

[host.'{mirror}']
capabilities = ['pull', 'resolve']
{override_path}"
            );
            (format!("{}/{registry}/hosts.toml", layout::CONTAINERD_HOSTS_DIR), text)
        })
        .collect()
}

/// `containerd.service`, where we install containerd: upstream's settings.
///
/// `KillMode=process` lets containers outlive a restart, `Delegate` leaves their cgroups alone.
pub fn containerd_unit() -> String {
    format!(
        "# Written by rsadm.
[Unit]
Description=containerd container runtime
Documentation=https://containerd.io
After=network.target dbus.service

[Service]
Type=notify
ExecStartPre=-/sbin/modprobe overlay
ExecStart={}/containerd
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
",
        layout::BIN_DIR
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifests::testing;

    #[test]
    fn golden() {
        let mut cluster = testing::ha();
        let version = |major, minor| Version::new(major, minor, 0);
        testing::golden("ha/containerd.toml", &containerd_config(&cluster, version(2, 4)));
        testing::golden("ha/containerd.service", &containerd_unit());
        cluster.kubelet.config.insert("cgroupDriver".to_owned(), json!("cgroupfs"));
        cluster.runtime.restrict_oom_score_adj = true;
        testing::golden("ha/containerd-1.7-cgroupfs.toml", &containerd_config(&cluster, version(1, 7)));
    }

    #[test]
    fn containerd_2_0_knows_one_plugin_folder() {
        let text = containerd_config(&testing::ha(), Version::new(2, 0, 5));
        assert!(text.contains("version = 3\n") && text.contains("\nbin_dir = '/opt/cni/bin'\n"), "{text}");
    }

    #[test]
    fn every_mirror_has_a_file() {
        let mut cluster = testing::ha();
        assert_eq!(registry_hosts(&cluster), []);
        cluster.artifacts.registry_mirrors = [
            ("docker.io", "https://harbor.example.org/v2/hub"),
            ("registry.k8s.io", "http://10.0.0.200:5000"),
        ]
        .map(|(registry, mirror)| (registry.to_owned(), mirror.to_owned()))
        .into();
        let files = registry_hosts(&cluster);
        assert_eq!(files[0].0, "/etc/containerd/certs.d/docker.io/hosts.toml");
        testing::golden("ha/hosts-docker.io.toml", &files[0].1);
        testing::golden("ha/hosts-registry.k8s.io.toml", &files[1].1);
    }
}
