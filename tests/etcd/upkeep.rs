//! Upkeep of real members, as the commands do it: rows 43 and 45 of the fault matrix, without SSH in between.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rsadm::{
    etcd::{
        EtcdApi, Silence,
        client::{self, EtcdClient},
        upkeep::Upkeep,
    },
    event::{Event, Events},
    exec::{
        RunError,
        members::{MemberHost, Members, Tended},
        upkeep::{
            Tending,
            bench::{Load, bench},
            defrag::defragment,
            space::{compact, disarm, relieve},
        },
    },
    inventory::{self, NodeName},
};

use super::{cluster::Cluster, dial_to, serving};

/// The members of a cluster by the names of an inventory, which knows the first of them; and how many bytes are free on their
/// disks.
struct Local<'a>(&'a Cluster, usize, u64);

/// More than anybody needs.
const ROOMY: u64 = 1 << 40;

impl Local<'_> {
    async fn client(&self, host: &NodeName) -> Result<EtcdClient, Silence> {
        let known = &self.0.members[..self.1];
        let n = known.iter().position(|m| m.name == host.as_str()).ok_or("not in the inventory")?;
        self.nth(n).await
    }

    async fn stranger(&self, url: &str) -> Result<EtcdClient, Silence> {
        let n = self.0.members.iter().position(|m| m.client_url == url).ok_or("no route to host")?;
        self.nth(n).await
    }

    async fn nth(&self, n: usize) -> Result<EtcdClient, Silence> {
        let dialled = client::dial(&dial_to(self.0.client_address(n)), &self.0.authority.client()).await;
        Ok(dialled.client?)
    }
}

#[async_trait]
impl Members for Local<'_> {
    fn hosts(&self) -> Vec<MemberHost> {
        let host = |m: &super::cluster::Member| MemberHost {
            name: NodeName::new(m.name.as_str()),
            peer_url: m.peer_url.clone(),
            client_url: m.client_url.clone(),
        };
        self.0.members[..self.1].iter().map(host).collect()
    }

    async fn dial_stranger(&self, client_url: &str) -> Result<Box<dyn EtcdApi>, Silence> {
        Ok(Box::new(self.stranger(client_url).await?))
    }

    async fn dial(&self, host: &NodeName) -> Result<Box<dyn EtcdApi>, Silence> {
        Ok(Box::new(self.client(host).await?))
    }
}

#[async_trait]
impl Tended for Local<'_> {
    async fn tend_stranger(&self, client_url: &str) -> Result<Box<dyn Upkeep>, Silence> {
        Ok(Box::new(self.stranger(client_url).await?))
    }

    async fn tend(&self, host: &NodeName) -> Result<Box<dyn Upkeep>, Silence> {
        Ok(Box::new(self.client(host).await?))
    }

    async fn clear_and_measure(&self, _: &NodeName) -> Option<String> {
        Some(format!("/dev/test {ROOMY} 1 {} 1% /\n", self.2))
    }
}

/// The inventory of `n` members; their addresses are nobody's, since members are found by name and ID.
fn wanted(n: usize) -> inventory::Cluster {
    let host = |i| format!("  - {{name: m{i}, address: 192.0.2.{i}, roles: [etcd]}}\n");
    // No inventory has two etcd hosts; one that lacks a host of three may be left with them.
    let hosts: String = (1..=n | 1).map(host).collect();
    let text = format!("cluster_name: test\nkubernetes_version: v1.37.2\nhosts:\n{hosts}");
    let mut cluster = inventory::load(&text, "test", None).expect("an inventory").cluster;
    cluster.nodes.truncate(n);
    cluster
}

/// What was told, a line each.
fn recorder() -> (Events, Arc<std::sync::Mutex<Vec<String>>>) {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = told.clone();
    let events = Events::new(move |event| {
        if let Event::StageDone { phase, text, .. } = event {
            sink.lock().expect("nobody panics").push(format!("[{phase}] {text}"));
        }
    });
    (events, told)
}

async fn tending<T>(cluster: &Cluster, work: impl AsyncFnOnce(&Tending<'_>) -> T) -> (T, Vec<String>) {
    tending_with(cluster, (cluster.members.len(), ROOMY), work).await
}

/// The same where the inventory knows the first of the members only, and so many bytes are free on each disk.
async fn tending_with<T>(
    cluster: &Cluster,
    (known, free): (usize, u64),
    work: impl AsyncFnOnce(&Tending<'_>) -> T,
) -> (T, Vec<String>) {
    let (wanted, local, (events, told)) = (wanted(known), Local(cluster, known, free), recorder());
    let tending = Tending {
        cluster: &wanted,
        members: &local,
        events: &events,
        limit: Duration::from_secs(30),
        accept_quorum_loss: false,
        of_others: false,
        quotas: [].into(),
        stopping: &|| false,
    };
    let result = work(&tending).await;
    let told = told.lock().expect("nobody panics").clone();
    (result, told)
}

/// Ten keys, each written often: nearly all of the file is history.
async fn history(client: &EtcdClient) {
    for i in 0..60 {
        let (key, value) = (format!("key{}", i % 10), vec![b'x'; 100 << 10]);
        super::until(|| client.put(&key, &value)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_45_members_are_defragmented_one_by_one_and_the_leader_last() {
    let cluster = Cluster::start(3);
    let clients = serving(&cluster).await;
    history(&clients[0]).await;
    let leader = super::leader(&super::report(&cluster).await);
    let (result, told) = tending(&cluster, async |t| {
        let compacted = compact(t, 5).await.expect("compacts");
        assert!(compacted.changed && compacted.revision - compacted.compacted_to == 5, "{compacted:?}");
        let again = compact(t, 5).await.expect("compacts");
        assert!(!again.changed, "{again:?}");
        defragment(t, 20).await.expect("defragments")
    })
    .await;
    let order: Vec<&str> = result.members.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(order.len(), 3, "{told:#?}");
    assert_eq!(order[2], format!("m{}", leader + 1), "{told:#?}");
    assert!(result.members.iter().all(|m| m.db_size_after * 2 < m.db_size_before), "{result:#?}");
    assert!(told.iter().any(|line| line.starts_with("[leader]")), "{told:#?}");
    assert_ne!(super::leader(&super::report(&cluster).await), leader, "it handed leadership over");

    let (second, told) = tending(&cluster, async |t| defragment(t, 20).await.expect("looks")).await;
    assert!(second.members.is_empty() && second.left.len() == 3, "{second:#?}");
    assert_eq!(told.len(), 1, "nothing to gain, nothing done: {told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_for_a_copy_is_told_before_any_member_is_touched() {
    let cluster = Cluster::start(3);
    history(&serving(&cluster).await[0]).await;
    let (result, told) = tending_with(&cluster, (3, 100 << 20), async |t| defragment(t, 0).await).await;
    let Err(RunError::Refused(refusal)) = result else { panic!("{result:?}") };
    assert_eq!(refusal.rule, "no-room", "{refusal:?}");
    assert!(refusal.why.starts_with("m1: no room in /var/lib/etcd: 100 MiB free, and "), "{refusal:?}");
    assert!(refusal.help.contains("on m1: df -h /var/lib/etcd"), "{refusal:?}");
    assert_eq!(told.len(), 1, "looked, and nothing else: {told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_37_no_member_is_taken_away_where_one_is_away() {
    let mut cluster = Cluster::start(3);
    let clients = serving(&cluster).await;
    cluster.kill(0);
    super::until(|| clients[1].linearizable_read()).await;
    let (result, _) = tending(&cluster, async |t| defragment(t, 0).await).await;
    let Err(RunError::Refused(refusal)) = result else { panic!("{result:?}") };
    assert_eq!(refusal.rule, "quorum", "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_43_nospace_from_start_to_finish() {
    let cluster = Cluster::start(3);
    let clients = serving(&cluster).await;
    history(&clients[0]).await;
    let value = vec![b'y'; 1 << 17];
    super::until_full(|| clients[1].put("more", &value)).await;
    let (refused, _) = tending(&cluster, async |t| disarm(t, |_| true).await).await;
    let Err(RunError::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert!(refusal.help.contains("rsadm etcd defrag"), "{refusal:?}");

    let (relieved, told) = tending(&cluster, async |t| relieve(t).await.expect("makes room")).await;
    assert!(!relieved.disarmed.is_empty() && relieved.defragmented.members.len() == 3, "{told:#?}");
    for client in &clients {
        super::until(|| client.put("more", b"z")).await;
        assert_eq!(client.alarms().await, Ok(vec![]));
    }
}

/// A member whose host left the inventory is as full as the others, and may lead.
#[tokio::test(flavor = "multi_thread")]
async fn nospace_ends_with_a_leader_that_the_inventory_lacks() {
    let cluster = Cluster::start(3);
    let clients = serving(&cluster).await;
    let leader = super::leader(&super::report(&cluster).await);
    let m3 = clients[2].status().await.expect("a status").member_id;
    if leader != 2 {
        clients[leader].move_leader(m3).await.expect("m3 leads");
    }
    history(&clients[0]).await;
    let large = vec![b'y'; 1 << 17];
    super::until_full(|| clients[1].put("more", &large)).await;
    let (relieved, told) =
        tending_with(&cluster, (2, ROOMY), async |t| relieve(t).await.expect("makes room")).await;
    assert!(!relieved.disarmed.is_empty() && relieved.defragmented.members.len() == 3, "{told:#?}");
    super::until(|| clients[1].put("more", b"z")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_only_member_is_defragmented_too() {
    let cluster = Cluster::start(1);
    let client = serving(&cluster).await.remove(0);
    history(&client).await;
    let (result, _) = tending(&cluster, async |t| {
        compact(t, 0).await.expect("compacts");
        defragment(t, 20).await.expect("defragments")
    })
    .await;
    assert_eq!(result.members.len(), 1);
    assert_eq!(client.delete_prefix("key").await, Ok(10), "all that was written is there");
}

/// Whatever it measures: a full etcd takes no writes of anybody's.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_would_fill_etcd_is_refused_and_what_a_killed_one_left_goes() {
    let cluster = Cluster::start(1);
    let client = serving(&cluster).await.remove(0);
    client.put("/rsadm/bench/4711/9", b"left").await.expect("a write");
    client.put("/rsadm/other", b"theirs").await.expect("a write");
    let load = |rate| Load { duration: Duration::from_secs(2), rate, clients: 2, value_bytes: 1024 };
    let measure = async || std::collections::BTreeMap::new();
    let (refused, told) = tending(&cluster, async |t| bench(t, load(20_000), measure).await).await;
    let Err(RunError::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.rule, "no-room", "{refusal:?}");
    assert_eq!(client.has_keys("/rsadm/bench/").await, Ok(true), "nothing was touched: {told:#?}");
    let (full, _) = tending_with(&cluster, (1, 1 << 20), async |t| bench(t, load(50), measure).await).await;
    let Err(RunError::Refused(refusal)) = full else { panic!("{full:?}") };
    assert!(refusal.why.starts_with("m1: no room in /var/lib/etcd: 1 MiB free, and "), "{refusal:?}");
    let (measured, told) = tending(&cluster, async |t| bench(t, load(50), measure).await).await;
    assert!(measured.is_ok_and(|measured| measured.writes > 10), "{told:#?}");
    assert_eq!(client.has_keys("/rsadm/bench/").await, Ok(false));
    assert_eq!(client.has_keys("/rsadm/other").await, Ok(true));
}
