//! What `etcd recover` reads in the log of an etcd that is started alone with the data of a survivor.

use std::{fs, process::Command, time::Duration};

use rsadm::{
    etcd::{EtcdApi, upkeep::Upkeep},
    exec::scripts::RESTORE,
};

use super::{cluster::Cluster, serving};

/// What the script says of a member: how far it knows of what was agreed on, and how many entries it drops.
fn far(log: &str) -> (u64, u64) {
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("replay.log"), log).unwrap();
    let (functions, _) = RESTORE.text.split_once("\n# Once it is over").unwrap();
    let text = format!("{functions}\nctl() {{ :; }}\nwork={}\nfar\n", work.path().display());
    let said = Command::new("bash").args(["-c", &text, "restore", "far"]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let number = |word: &str| {
        let value = said.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{word}: {said}"))
    };
    (number("index"), number("undecided"))
}

/// They were killed, so that their logs may not say yet what they had applied.
#[tokio::test]
async fn how_far_a_survivor_is_and_what_it_drops_is_read_in_etcds_own_words() {
    let mut cluster = Cluster::start(3);
    let mut clients = serving(&cluster).await;
    cluster.write(3);
    // What they applied gets to their databases within 100 ms.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (mut leader, mut agreed) = (None, u64::MAX);
    for (n, client) in clients.iter_mut().enumerate() {
        let status = client.status().await.unwrap();
        leader = leader.or((status.leader == status.member_id).then_some(n));
        agreed = agreed.min(status.raft_applied_index);
    }
    let leader = leader.unwrap();
    (0..3).filter(|n| *n != leader).for_each(|n| cluster.pause(n));
    // At once, by who is connected: it leads no longer a moment later, and then has them in no log.
    let puts = tokio::join!(clients[leader].put("lost1", b"x"), clients[leader].put("lost2", b"x"));
    assert!(puts.0.is_err() && puts.1.is_err(), "one of three took a write: {puts:?}");
    (0..3).for_each(|n| cluster.kill(n));
    for n in 0..3 {
        let log = cluster.alone(n);
        let (index, undecided) = far(&log);
        assert!(index >= agreed, "m{}: {index}, and {agreed} was applied", n + 1);
        assert_eq!(undecided > 1, n == leader, "m{}: {undecided}", n + 1);
    }
}
