//! The remote paths, units and ports that rsadm knows, and what hosts' schedules and clocks are granted. Scripts of hosts
//! name some of them again.
//!
//! Paths under `/etc/kubernetes` are kubeadm's (kubeadm, `constants.go`), so that its tools and its users' habits apply.

use std::time::Duration;

/// In the name of a recovery, before that of the survivor whose data it takes.
pub const RECOVERED: &str = "-recovered-from-";

/// kubeadm's folder.
pub const KUBERNETES_DIR: &str = "/etc/kubernetes";
/// Static pod manifests.
pub const MANIFESTS_DIR: &str = "/etc/kubernetes/manifests";
/// Manifests that are being replaced, by the same names, in a folder for each run; in memory.
pub const KEPT_DIR: &str = "/run/rsadm-kept";
/// etcd's static pod manifest.
pub const ETCD_MANIFEST: &str = "/etc/kubernetes/manifests/etcd.yaml";
/// The manifest of a member that kubeadm built, from before its upgrade: there until the new version serves (`set-etcd-image.sh`).
pub const ETCD_MANIFEST_BEFORE: &str = "/etc/kubernetes/rsadm-etcd.yaml";
/// That, and the sum of the manifest that it is from before.
pub const ETCD_MANIFEST_KEPT: [&str; 2] = [ETCD_MANIFEST_BEFORE, "/etc/kubernetes/rsadm-etcd.sum"];
/// The manifest of a member that somebody else built, from before rsadm made the member anew or took it out.
pub const ETCD_MANIFEST_ASIDE: &str = "/var/lib/rsadm/aside/etcd.yaml";
/// The cluster's certificates.
pub const PKI_DIR: &str = "/etc/kubernetes/pki";
/// etcd's certificates.
pub const ETCD_PKI_DIR: &str = "/etc/kubernetes/pki/etcd";
/// Who rsadm is to etcd: the CN of the client certificate that kubeadm keeps for such questions.
pub const ETCD_CLIENT_USER: &str = "kube-etcd-healthcheck-client";
/// What gives that user the role that most questions take where etcd's auth is on (since 3.5.28 and 3.6.9 how a member is, too).
pub const ETCD_CLIENT_GRANT: &str = "etcdctl user add kube-etcd-healthcheck-client --no-password && \
                                     etcdctl user grant-role kube-etcd-healthcheck-client root";
/// Files that only API servers read: audit policy, encryption and authentication configuration, admission.
pub const API_SERVER_DIR: &str = "/etc/kubernetes/apiserver";
/// The key that encrypts secrets at rest.
pub const ENCRYPTION_CONFIG: &str = "/etc/kubernetes/apiserver/encryption.yaml";
/// What the API server writes to the audit log.
pub const AUDIT_POLICY: &str = "/etc/kubernetes/apiserver/audit-policy.yaml";
/// Who may ask anonymously, and what.
pub const AUTHENTICATION_CONFIG: &str = "/etc/kubernetes/apiserver/authentication.yaml";
/// Admission plugins' configuration.
pub const ADMISSION_CONFIG: &str = "/etc/kubernetes/apiserver/admission.yaml";
/// The audit log's folder on a control-plane host.
pub const AUDIT_LOG_DIR: &str = "/var/log/kubernetes/audit";
/// Kubeconfig of the cluster's administrators.
pub const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";
/// Kubeconfig past all authorization (`system:masters`), for emergencies.
pub const SUPER_ADMIN_CONF: &str = "/etc/kubernetes/super-admin.conf";
/// Kubeconfig of the controller manager.
pub const CONTROLLER_MANAGER_CONF: &str = "/etc/kubernetes/controller-manager.conf";
/// Kubeconfig of the scheduler.
pub const SCHEDULER_CONF: &str = "/etc/kubernetes/scheduler.conf";
/// Kubeconfig of the kubelet; names the rotating client certificate.
pub const KUBELET_CONF: &str = "/etc/kubernetes/kubelet.conf";
/// haproxy's configuration on workers.
pub const HAPROXY_CONFIG: &str = "/etc/kubernetes/haproxy/haproxy.cfg";
/// etcd's data.
pub const ETCD_DATA_DIR: &str = "/var/lib/etcd";
/// The system user that etcd's data folder belongs to, as CIS 1.1.12 wants it; made where a host has none.
pub const ETCD_USER: &str = "etcd";
/// kubelet's state.
pub const KUBELET_DIR: &str = "/var/lib/kubelet";
/// containerd's images and containers.
pub const CONTAINERD_DIR: &str = "/var/lib/containerd";
/// Where units of this host are.
pub const SYSTEMD_DIR: &str = "/etc/systemd/system";
/// kubelet's configuration, where kubeadm has it.
pub const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
/// What is a node's own in it, for kubeadm: it takes the container runtime's socket from there and complains without it.
pub const KUBELET_INSTANCE_CONFIG: &str = "/var/lib/kubelet/instance-config.yaml";
/// kubelet's certificates.
pub const KUBELET_PKI_DIR: &str = "/var/lib/kubelet/pki";
/// The kubelet's current client certificate and key: a link that kubelet turns when it rotates.
pub const KUBELET_CLIENT_CURRENT: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";
/// The kubelet's serving certificate, which we issue.
pub const KUBELET_SERVING_CERT: &str = "/var/lib/kubelet/pki/kubelet.crt";
/// Its key.
pub const KUBELET_SERVING_KEY: &str = "/var/lib/kubelet/pki/kubelet.key";
/// kubelet's unit.
pub const KUBELET_UNIT: &str = "/etc/systemd/system/kubelet.service";
/// The host's own trusted certificates, for what control planes dial outside the cluster.
pub const HOST_CERTIFICATES_DIR: &str = "/etc/ssl/certs";
/// Programs.
pub const BIN_DIR: &str = "/usr/local/bin";
/// CNI plugins.
pub const CNI_BIN_DIR: &str = "/opt/cni/bin";
/// CNI configuration.
pub const CNI_CONF_DIR: &str = "/etc/cni/net.d";
/// Our CNI configuration (plugin `bridge`).
pub const CNI_CONFIG: &str = "/etc/cni/net.d/10-rsadm.conflist";
/// containerd's configuration.
pub const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";
/// Per-registry host files.
pub const CONTAINERD_HOSTS_DIR: &str = "/etc/containerd/certs.d";
/// containerd's unit when we install it.
pub const CONTAINERD_UNIT: &str = "/etc/systemd/system/containerd.service";
/// containerd's socket.
pub const CONTAINERD_SOCKET: &str = "unix:///run/containerd/containerd.sock";
/// Kernel settings for pods and services.
pub const SYSCTL_CONFIG: &str = "/etc/sysctl.d/90-rsadm.conf";
/// Kernel modules to load at boot, where the kernel has modules.
pub const MODULES_CONFIG: &str = "/etc/modules-load.d/rsadm.conf";
/// Pod routes and masquerading (plugin `bridge`), run at each boot.
pub const NETWORK_UNIT: &str = "/etc/systemd/system/rsadm-network.service";
/// With which files containerd was started; a drop-in of its unit, ours or the distribution's.
pub const CONTAINERD_REVISION: &str = "/etc/systemd/system/containerd.service.d/10-rsadm.conf";
/// With which files the kubelet was started.
pub const KUBELET_REVISION: &str = "/etc/systemd/system/kubelet.service.d/10-rsadm.conf";
/// With which files the pod network was set up.
pub const NETWORK_REVISION: &str = "/etc/systemd/system/rsadm-network.service.d/10-rsadm.conf";
/// What that unit runs.
pub const NETWORK_SCRIPT: &str = "/etc/rsadm/network.sh";
/// Our configuration on a host.
pub const RSADM_CONF_DIR: &str = "/etc/rsadm";
/// Our state on a host: the lock, the record of installed programs, the cluster's identity.
pub const RSADM_DIR: &str = "/var/lib/rsadm";
/// Held with `flock` while a run changes this host.
pub const LOCK: &str = "/run/rsadm-lock/lock";
/// Which cluster this host belongs to: its name and etcd's cluster ID.
pub const IDENTITY: &str = "/var/lib/rsadm/cluster.json";
/// Installed programs, a file each: its URL, then one `size mtime path` line for each file that it put in place, so that a no-op
/// run need not hash 400 MB.
pub const INSTALLED: &str = "/var/lib/rsadm/installed";
/// What was on the host before the first change, for `reset`; with the name of the cluster that it was prepared for.
pub const BEFORE_DIR: &str = "/var/lib/rsadm/before";
/// Files and folders in which everything that appears after `up` is the cluster's, and goes with it. What others share,
/// such as `/etc/sysctl.d`, is named file by file.
pub const FOOTPRINT: &[&str] = &[
    KUBERNETES_DIR,
    ETCD_DATA_DIR,
    KUBELET_DIR,
    "/var/lib/cni",
    "/var/log/kubernetes",
    "/var/log/pods",
    "/var/log/containers",
    "/usr/libexec/kubernetes",
    CNI_CONF_DIR,
    CNI_BIN_DIR,
    RSADM_CONF_DIR,
    // Of the kubelet, so that a shutdown waits for pods; of kubectl, which our scripts call.
    "/etc/systemd/logind.conf.d/99-kubelet.conf",
    "/root/.kube/cache",
    KUBELET_UNIT,
    KUBELET_REVISION,
    NETWORK_UNIT,
    NETWORK_REVISION,
    BACKUP_SERVICE,
    BACKUP_TIMER,
    BACKUP_TIMER_REVISION,
    CONTAINERD_REVISION,
    SYSCTL_CONFIG,
    MODULES_CONFIG,
];
/// The same of a containerd that we install.
pub const RUNTIME_FOOTPRINT: &[&str] =
    &["/etc/containerd", "/opt/containerd", CONTAINERD_DIR, "/run/containerd", "/run/nri", CONTAINERD_UNIT];
/// Kernel settings that kube-proxy changes, beside those of our own file.
pub const KUBE_PROXY_SETTINGS: &[&str] = &[
    "net.ipv4.conf.all.route_localnet",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
];
/// Programs that we install and that may have been there before.
pub const PROGRAMS: &[&str] = &["kubelet", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr", "runc"];
/// Snapshots that are kept on an etcd host. `reset` leaves them.
pub const BACKUP_DIR: &str = "/var/lib/rsadm/backups";
/// What this host remembers of the snapshots that it took.
pub const BACKUP_STATE: &str = "/var/lib/rsadm/backup-state.json";
/// rsadm itself on an etcd host, for what its timer starts.
pub const AGENT: &str = "/usr/local/libexec/rsadm-agent";
/// The name under which it is recorded.
pub const AGENT_NAME: &str = "rsadm-agent";
/// That record.
pub const AGENT_RECORD: &str = "/var/lib/rsadm/installed/rsadm-agent";
/// When, where to, what stays.
pub const BACKUP_CONFIG: &str = "/etc/rsadm/backup.json";
/// Credentials of the bucket.
pub const BACKUP_CREDENTIALS: &str = "/etc/rsadm/backup.credentials";
/// Takes one snapshot.
pub const BACKUP_SERVICE: &str = "/etc/systemd/system/rsadm-backup.service";
/// Starts that.
pub const BACKUP_TIMER: &str = "/etc/systemd/system/rsadm-backup.timer";
/// Drop-ins of the timer: one of ours.
pub const BACKUP_TIMER_DIR: &str = "/etc/systemd/system/rsadm-backup.timer.d";
/// With which files the timer was loaded.
pub const BACKUP_TIMER_REVISION: &str = "/etc/systemd/system/rsadm-backup.timer.d/10-rsadm.conf";
/// What a scheduled run may take at the least, however short the interval is: a large database needs it.
pub const BACKUP_RUN_AT_LEAST: Duration = Duration::from_secs(15 * 60);
/// How much the clocks of two hosts may differ without a word: what preflight allows, and some.
pub const SKEW: Duration = Duration::from_secs(5 * 60);
/// Names of restores of etcd that are over, one a line: a host that missed the end is told by it.
pub const ENDED_RESTORES: &str = "/var/lib/rsadm/restores.ended";
/// Old data directories, set aside.
pub const ASIDE_DIR: &str = "/var/lib/rsadm/aside";

/// etcd's client port.
pub const ETCD_CLIENT_PORT: u16 = 2379;
/// etcd's peer port.
pub const ETCD_PEER_PORT: u16 = 2380;
/// etcd's metrics and health port, on loopback.
pub const ETCD_METRICS_PORT: u16 = 2381;
/// kubelet's port.
pub const KUBELET_PORT: u16 = 10250;
/// kubelet's health port, on loopback.
pub const KUBELET_HEALTH_PORT: u16 = 10248;
/// kube-controller-manager's port, on loopback.
pub const CONTROLLER_MANAGER_PORT: u16 = 10257;
/// kube-scheduler's port, on loopback.
pub const SCHEDULER_PORT: u16 = 10259;
/// kube-proxy's metrics port, on loopback.
pub const KUBE_PROXY_METRICS_PORT: u16 = 10249;
/// haproxy's health port on workers, on loopback.
pub const HAPROXY_HEALTH_PORT: u16 = 8404;

/// The environment variable that tells, from a live process, with which inputs it was started.
///
/// Its value is a hash over the certificates and files that the process reads once. A run compares it with what the
/// files on disk add up to, so a restart is never lost when a run dies between writing a file and restarting.
pub const REVISION_VARIABLE: &str = "RSADM_REVISION";

/// Whose a path is, as facts tell it: etcd's data folder is its system user's, by name; all else is root's, by number.
pub fn owner_of(path: &str) -> &'static str {
    if path == ETCD_DATA_DIR { "etcd:etcd" } else { "0:0" }
}

/// The label of every node of an inventory, by which kube-proxy tells them from those that `kubeadm join` added.
pub const NODE_LABEL: &str = "rsadm/node";

/// The manifest of a static pod by its name.
pub fn manifest_of(process: &str) -> String {
    format!("{MANIFESTS_DIR}/{process}.yaml")
}
