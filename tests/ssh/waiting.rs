//! Connections that wait for the next run.

use std::{process::Command, sync::Arc, time::Duration};

use rsadm::{
    host::{Host, ssh::SshHost},
    inventory::Node,
};

use crate::sshd::{FIND_SSHD, Sshd, ok, options, run, sh};

fn patient(sshd: &Sshd) -> Node {
    let mut node = sshd.node();
    node.ssh.control_persist = Duration::from_secs(60);
    node
}

/// A run of its own: it does one thing, and ends; how many connections it made, and the process that served it.
async fn a_run(node: &Node) -> (u64, u32) {
    let options = options();
    let host = SshHost::connect(node, &options).await.unwrap();
    let served = served_by(&host).await;
    (host.traffic().connections, served)
}

/// The host, by a connection that waited. On a busy computer what waits may not be found soon enough: that run logs in, and the
/// next one finds it.
async fn without_login(node: &Node) -> SshHost {
    for _ in 0..30 {
        // Nobody may listen any more.
        let host = SshHost::connect(node, &options()).await;
        if let Some(host) = host.ok().filter(|host| host.traffic().connections == 0) {
            return host;
        }
    }
    panic!("nothing waits");
}

/// The process that serves it.
async fn served_by(host: &SshHost) -> u32 {
    ok(host, &[sh(&format!("{FIND_SSHD}; echo $pid"))]).await[0].text().trim().parse().unwrap()
}

#[tokio::test]
async fn the_next_run_need_not_log_in() {
    let Some(mut sshd) = Sshd::start() else { return };
    let node = patient(&sshd);
    let mut logged_in = vec![];
    let waited = loop {
        let (made, served) = a_run(&node).await;
        if made == 0 {
            break served;
        }
        logged_in.push(served);
        assert!(logged_in.len() < 30, "nothing waits");
    };
    assert!(logged_in.contains(&waited));

    // Two at once: one takes what waits, the other makes its own, of which one waits afterwards.
    let mut made = 2;
    for _ in 0..30 {
        let (one, other) = tokio::join!(a_run(&node), a_run(&node));
        made = one.0 + other.0;
        if made == 1 {
            break;
        }
    }
    assert_eq!(made, 1);
    drop(without_login(&node).await);

    // Whoever is not to wait takes none that does.
    assert_eq!(a_run(&sshd.node()).await.0, 1);
    // Keys that are known otherwise are judged anew, whether that changed while it waited or while it was in use.
    let host = SshHost::connect(&node, &options()).await.unwrap();
    sshd.trust("");
    drop(host);
    assert!(SshHost::connect(&node, &options()).await.is_err(), "nobody vouches for its key any more");
    sshd.trust_own();
    assert_eq!(a_run(&node).await.0, 1);
    sshd.trust("");
    let refused = SshHost::connect(&node, &options()).await;
    assert!(refused.is_err(), "nobody vouches for its key any more");
    sshd.trust_own();
    assert_eq!(a_run(&node).await.0, 1);
    sshd.stop();
    drop(without_login(&node).await);
}

#[tokio::test]
async fn one_that_died_while_it_waited_is_replaced() {
    let Some(sshd) = Sshd::start() else { return };
    let node = patient(&sshd);
    for signal in ["-KILL", "-STOP"] {
        let (_, pid) = a_run(&node).await;
        assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
        let (made, other) = a_run(&node).await;
        assert!(made == 1 && other != pid, "after {signal}");
        // It may be gone by now.
        let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_ports_are_closed_waits() {
    let Some(sshd) = Sshd::start() else { return };
    let node = patient(&sshd);
    let mut made = 1;
    for _ in 0..30 {
        let host = SshHost::connect(&node, &options()).await.unwrap();
        ok(&host, &[run(&["true"])]).await;
        made = host.traffic().connections;
        let ports = [(); 3].map(|()| host.forward(([127, 0, 0, 1], sshd.port).into()));
        drop(futures::future::join_all(ports).await);
        if made == 0 {
            break;
        }
    }
    assert_eq!(made, 0, "no connection whose ports were closed waited");
}

/// Its end would be a way to a member for everybody on this computer, for as long as it waits.
#[tokio::test]
async fn one_through_which_a_port_leads_does_not_wait() {
    let Some(sshd) = Sshd::start() else { return };
    let node = patient(&sshd);
    for waited in [false, true] {
        let host = match waited {
            true => {
                assert_eq!(a_run(&node).await.0, 1);
                without_login(&node).await
            }
            false => SshHost::connect(&node, &options()).await.unwrap(),
        };
        let host = Arc::new(host);
        ok(&host, &[run(&["true"])]).await;
        let forward = host.forward(([127, 0, 0, 1], sshd.port).into()).await.unwrap();
        let local = forward.local();
        drop(host);
        std::mem::forget(forward);
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while waited && std::net::TcpStream::connect(local).is_ok() {
            assert!(std::time::Instant::now() < until, "the port leads on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // It is another connection, whatever became of the one with the port.
        assert_eq!(a_run(&node).await.0, 1);
        drop(without_login(&node).await);
        // For the next round nothing waits.
        sshd.trust_own();
    }
}

/// sshd judges by what was so when the connection was made; who has mended it would be refused again and again.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_refused_something_does_not_wait() {
    let Some(sshd) = Sshd::start_with(&["AllowTcpForwarding no"]) else { return };
    let node = patient(&sshd);
    let host = SshHost::connect(&node, &options()).await.unwrap();
    ok(&host, &[run(&["true"])]).await;
    let forward = host.forward(([127, 0, 0, 1], sshd.port).into()).await.unwrap();
    // The port is open on this side, and leads nowhere.
    let dialled = tokio::net::TcpStream::connect(forward.local()).await;
    while !forward.is_forbidden().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop((dialled, forward, host));
    assert_eq!(a_run(&node).await.0, 1);
    drop(without_login(&node).await);
}
