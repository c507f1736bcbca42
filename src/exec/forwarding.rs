//! Whether hosts let etcd be asked: through a port that their sshd forwards. ssh itself promises one without asking, and is told
//! no only once somebody dials it.

use std::{net::SocketAddr, time::Duration};

use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use crate::{
    host::{Host, fleet::Fleet},
    inventory::{Node, NodeName},
    layout,
    phases::preflight::{Findings, paths},
};

/// How long an answer may take: whoever forwards leads to somebody who says nothing before he is asked.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tries each of these hosts, with the very port that etcd will be asked at.
pub(super) async fn findings<'a>(fleet: &Fleet, nodes: impl Iterator<Item = &'a Node>) -> Findings {
    let nodes: Vec<&Node> = nodes.collect();
    let names: Vec<NodeName> = nodes.iter().map(|n| n.name.clone()).collect();
    let address = |host: &dyn Host| nodes.iter().find(|n| n.name == *host.name()).map(|n| n.internal_address);
    let answers = fleet.for_each(&names, |host| {
        let to = address(&*host).map(|address| SocketAddr::from((address, layout::ETCD_CLIENT_PORT)));
        async move {
            match to {
                Some(to) => Ok(forbids(&*host, to).await),
                None => Ok(false),
            }
        }
    });
    let mut findings = Findings::default();
    for (name, forbidden) in answers.await {
        findings.take(&name, matches!(forbidden, Ok(true)).then(paths::no_forwarding));
    }
    findings
}

/// True where a host's sshd is known to lead nobody to an address. What else may be wrong with the connection shows elsewhere.
pub async fn forbids(host: &dyn Host, to: SocketAddr) -> bool {
    let Ok(forward) = host.forward(to).await else { return false };
    let Ok(Ok(mut stream)) = timeout(PATIENCE, TcpStream::connect(forward.local())).await else {
        return false;
    };
    // ssh says why before it ends the connection.
    let _ = timeout(PATIENCE, stream.read(&mut [0])).await;
    forward.is_forbidden().await
}
