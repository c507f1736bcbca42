//! The plugin `bridge`: each node's CNI configuration, and the kernel settings that any pod network needs.
//!
//! Each node has a bridge with a /24 of its own, from which the reference plugins give pods their addresses. Which
//! node has which /24 is not in the inventory and does not follow from its order, which changes when a host leaves: it
//! is what the hosts have, plus a free one for each new host.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;
use serde_json::json;

use crate::inventory::NodeName;

/// Which node has which part of the pod subnet.
pub type NodeSubnets = BTreeMap<NodeName, Ipv4Net>;

/// The bridge that pods of a node hang on. Not `cni0`: a leftover of another plugin would have another address.
pub(super) const BRIDGE: &str = "rsadm0";

/// The CNI configuration of the node that has `subnet`; JSON. Read at every change.
pub fn cni_config(subnet: Ipv4Net) -> String {
    let config = json!({
        "cniVersion": "1.0.0",
        "name": "rsadm",
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": true,
                // A pod reaches itself through its own service.
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": subnet.to_string()}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    format!("{config:#}\n")
}

/// Kernel settings of a Kubernetes node, for `sysctl.d`.
///
/// The first three make a node a router whose bridged traffic is seen by service rules; the rest are what the kubelet
/// wants and otherwise sets itself (`pkg/kubelet/cm`, `protectKernelDefaults`), and room for the file watches of many
/// pods. A leading `-` means: a kernel or container that does not let it be set is no error.
pub fn sysctl_config() -> String {
    "# Written by rsadm.
net.ipv4.ip_forward = 1
-net.bridge.bridge-nf-call-iptables = 1
-net.bridge.bridge-nf-call-ip6tables = 1

-kernel.keys.root_maxbytes = 25000000
-kernel.keys.root_maxkeys = 1000000
-kernel.panic = 10
-kernel.panic_on_oops = 1
-vm.overcommit_memory = 1
-vm.panic_on_oom = 0

-fs.inotify.max_user_instances = 8192
-fs.inotify.max_user_watches = 524288
"
    .to_owned()
}

/// Kernel modules of a Kubernetes node, for `modules-load.d`.
pub fn modules_config() -> String {
    "# Written by rsadm.\noverlay\nbr_netfilter\n".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::testing;

    #[test]
    fn golden() {
        let subnets = testing::subnets(&testing::ha());
        testing::golden("ha/cni-m2.conflist", &cni_config(subnets[&NodeName::new("m2")]));
        testing::golden("ha/sysctl.conf", &sysctl_config());
        testing::golden("ha/modules.conf", &modules_config());
    }
}
