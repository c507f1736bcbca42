//! How the plan of `up` grows with its hosts: in its steps, in its bytes, and in the work that it takes, counted.
//!
//! The plugin `bridge` gives every node a route to every other, which is a square that nobody can avoid; beside those
//! routes nothing may grow like it.

use std::net::Ipv4Addr;

use time::OffsetDateTime;

use super::{UP, plan};
use crate::{
    fake::{State, World},
    inventory::{Cluster, NodeName, comparing::comparisons},
    layout,
    manifests::{routes_of_script, testing},
    observe::{NodeFact, Observed, gather},
    plan::{Action, Plan},
};

/// What grows.
#[derive(Debug)]
struct Size {
    steps: usize,
    /// Of the plan as JSON, without the scripts that have the routes.
    bytes: usize,
    routes: usize,
    comparisons: usize,
}

#[tokio::test]
async fn a_first_plan_grows_with_its_hosts_and_no_faster() {
    let sizes = sizes(|_, _| {}).await;
    grows_with_hosts(&sizes);
    assert_eq!(sizes.map(|s| s.routes), SIZES.map(|hosts| hosts * (hosts - 1)));
}

/// All hosts have their parts of the pod subnet, and the API knows the nodes.
#[tokio::test]
async fn so_does_that_of_a_cluster_that_is_there() {
    let sizes = sizes(|cluster, seen| {
        for (n, node) in (0..).zip(&cluster.nodes) {
            let facts = seen.hosts.get_mut(&node.name).unwrap();
            facts.pod_subnet = Some(cluster.network.node_subnet(n));
        }
        let fact = NodeFact { ready: true, ..NodeFact::default() };
        seen.nodes = Some(cluster.nodes.iter().map(|n| (n.name.clone(), fact.clone())).collect());
    });
    grows_with_hosts(&sizes.await);
}

/// How many hosts.
const SIZES: [usize; 3] = [250, 500, 1000];

/// The second step of [`SIZES`] is twice as large as the first, so what grows with hosts grows twice as much, and a square
/// four times. Finding a host in a map takes some comparisons more for each doubling, which makes 2.36 of that two; one
/// search through all hosts for each host would make 2.5 of it.
fn grows_with_hosts(sizes: &[Size; 3]) {
    let growth = |of: fn(&Size) -> usize| {
        let [a, b, c] = [&sizes[0], &sizes[1], &sizes[2]].map(of);
        (c - b) as f64 / (b - a) as f64
    };
    assert_eq!(growth(|s| s.steps), 2.0, "steps for {SIZES:?} hosts: {sizes:?}");
    assert!((1.9..2.1).contains(&growth(|s| s.bytes)), "bytes for {SIZES:?} hosts: {sizes:?}");
    assert!((1.9..2.45).contains(&growth(|s| s.comparisons)), "comparisons for {SIZES:?} hosts: {sizes:?}");
}

async fn sizes(change: impl Fn(&Cluster, &mut Observed)) -> [Size; 3] {
    let change = &change;
    let [a, b, c] = SIZES.map(|hosts| async move {
        let cluster = workers(hosts);
        let world = World::new(State::new(&cluster));
        let mut seen = gather(&cluster, &world.fleet(&cluster)).await.unwrap();
        change(&cluster, &mut seen);
        size(&cluster, seen)
    });
    [a.await, b.await, c.await]
}

fn size(cluster: &Cluster, seen: Observed) -> Size {
    let planned = || plan(UP, cluster, seen, OffsetDateTime::now_utc(), |_| true).unwrap().0;
    let (plan, comparisons) = comparisons(planned);
    let json = |text: &str| serde_json::to_string(text).unwrap().len();
    let scripts: Vec<&str> = scripts(&plan).collect();
    Size {
        steps: plan.steps().count(),
        bytes: serde_json::to_string(&plan).unwrap().len() - scripts.iter().map(|s| json(s)).sum::<usize>(),
        routes: scripts.iter().map(|s| routes_of_script(s).len()).sum(),
        comparisons,
    }
}

fn scripts(plan: &Plan) -> impl Iterator<Item = &str> {
    plan.steps().filter_map(|(_, step)| match &step.action {
        Action::PutFile { path, text, .. } if path == layout::NETWORK_SCRIPT => Some(text.as_str()),
        _ => None,
    })
}

/// Three control planes, and workers until there are so many hosts.
fn workers(hosts: usize) -> Cluster {
    let mut cluster = testing::ha();
    cluster.network.pod_subnet = "100.64.0.0/10".parse().unwrap();
    let worker = cluster.nodes.pop().unwrap();
    for n in cluster.nodes.len()..hosts {
        let mut node = worker.clone();
        node.name = NodeName::new(format!("n{n}"));
        node.internal_address = Ipv4Addr::from(0x0a4e_0000 + u32::try_from(n).unwrap());
        node.address = node.internal_address.to_string();
        cluster.nodes.push(node);
    }
    cluster
}
