//! Members whose hosts cannot be logged in to: nobody stops them, so nothing may take their place while they run.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

use crate::{
    exec::members::Members,
    inventory::{Node, NodeName},
};

/// How long a silent host's member may take to answer through another host; whoever is off says nothing at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which of these etcd hosts, silent over SSH, run a member all the same: it answers others, with a leader or without.
pub async fn who_runs(members: &dyn Members, silent: &[&Node]) -> Vec<NodeName> {
    let asked = silent.iter().map(|node| async move {
        let url = node.client_url();
        let answers = async { members.dial_stranger(&url).await.ok()?.status().await.ok() };
        timeout(PATIENCE, answers).await.ok().flatten().map(|_| node.name.clone())
    });
    join_all(asked).await.into_iter().flatten().collect()
}
