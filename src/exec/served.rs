//! What members, API servers and kubelets serve, seen through their own hosts.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use tokio::time::timeout;

use crate::{
    host::{Host, fleet::Fleet, tls},
    inventory::{Cluster, Node, NodeName},
    layout,
    pki::{
        inspect::{CertInfo, inspect_der},
        specs,
    },
};

/// How long a server may take; those on a busy host take tenths of a second.
const PATIENCE: Duration = Duration::from_secs(3);

/// The certificates that were seen, or why not, by host and name in the table of `pki::specs`.
pub type Served = BTreeMap<(NodeName, &'static str), Result<CertInfo, String>>;

/// Where a certificate of the table is served; `None` for those that only clients show.
pub fn port(cluster: &Cluster, name: &str) -> Option<u16> {
    match name {
        "apiserver" => Some(cluster.api.port),
        "etcd-server" => Some(layout::ETCD_CLIENT_PORT),
        "etcd-peer" => Some(layout::ETCD_PEER_PORT),
        "kubelet-server" => Some(layout::KUBELET_PORT),
        _ => None,
    }
}

/// Looks at everything that is served on the hosts that are connected. Changes nothing.
pub async fn look(cluster: &Cluster, fleet: &Fleet) -> Served {
    let looks = cluster.nodes.iter().filter_map(|node| Some((node, fleet.host(&node.name)?))).flat_map(
        |(node, host)| {
            let specs = specs::specs_for(cluster, node).into_iter();
            let ports = specs.filter_map(|spec| Some((spec.name, port(cluster, spec.name)?)));
            ports.map(move |(name, port)| async move {
                ((node.name.clone(), name), one(host.as_ref(), node, port).await)
            })
        },
    );
    join_all(looks).await.into_iter().collect()
}

async fn one(host: &dyn Host, node: &Node, port: u16) -> Result<CertInfo, String> {
    let look = async {
        let forward = host.forward((node.internal_address, port).into()).await.map_err(|e| e.to_string())?;
        tls::served(forward.local(), &node.internal_address.to_string(), PATIENCE).await
    };
    let silent = || format!("no answer within {} s", PATIENCE.as_secs());
    let der = timeout(PATIENCE * 2, look).await.map_err(|_| silent())??;
    inspect_der(&der).map_err(|e| e.to_string())
}
