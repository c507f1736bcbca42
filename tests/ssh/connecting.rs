//! The ways in, and what is said where there is none.

use std::{net::TcpListener, time::Duration};

use rsadm::{
    exec::forwarding,
    host::{
        ConnectKind, Host,
        fleet::Fleet,
        ssh::{Options, SshHost},
    },
    inventory::{Node, NodeName},
};

use crate::sshd::{Sshd, keygen, ok, options, refused, run};

#[tokio::test]
async fn host_keys_are_judged_before_anything_is_said() {
    let Some(sshd) = Sshd::start() else { return };
    let fingerprint = sshd.fingerprint();
    sshd.trust("");
    let (kind, why) = refused(sshd.connect().await);
    assert_eq!(kind, ConnectKind::UnknownHostKey, "{why}");
    assert!(why.contains(&fingerprint), "{why} lacks {fingerprint}");

    sshd.trust(&std::fs::read_to_string(sshd.path("user_key.pub")).unwrap());
    let (kind, why) = refused(sshd.connect().await);
    assert_eq!(kind, ConnectKind::ChangedHostKey, "{why}");
    assert!(why.contains(&fingerprint) && why.contains("known_hosts:1"), "{why}");

    sshd.trust("");
    let mut node = sshd.node();
    node.ssh.host_key_check = rsadm::inventory::HostKeyCheck::AcceptNew;
    let host = SshHost::connect(&node, &options()).await.unwrap();
    assert!(host.new_keys().len() == 1 && host.new_keys()[0].contains(&fingerprint), "{:?}", host.new_keys());
    let host = sshd.connect().await.expect("the key was not kept");
    assert!(host.new_keys().is_empty(), "{:?}", host.new_keys());
}

#[tokio::test]
async fn what_stands_in_the_way_is_told_in_sshs_words() {
    let Some(mut sshd) = Sshd::start() else { return };
    let mut node = sshd.node();
    keygen(&sshd.path("stranger"));
    node.ssh.key_path = Some(sshd.path("stranger"));
    let (kind, why) = refused(SshHost::connect(&node, &options()).await);
    assert_eq!(kind, ConnectKind::Denied, "{why}");
    assert!(why.contains("Permission denied (publickey"), "{why}");

    node.address = "nosuch.invalid".into();
    let (kind, why) = refused(SshHost::connect(&node, &options()).await);
    assert_eq!(kind, ConnectKind::UnknownName, "{why}");

    sshd.stop();
    let (kind, why) = refused(sshd.connect().await);
    assert_eq!(kind, ConnectKind::Unreachable, "{why}");
    assert!(why.contains("Connection refused"), "{why}");
}

#[tokio::test]
async fn a_jump_host_leads_on_and_its_own_troubles_are_told() {
    let (Some(sshd), Some(bastion)) = (Sshd::start(), Sshd::start()) else { return };
    std::fs::copy(sshd.path("authorized_keys"), bastion.path("authorized_keys")).unwrap();
    let mut node = sshd.node();
    node.ssh.bastion = Some(format!("root@127.0.0.1:{}", bastion.port));
    let (kind, why) = refused(SshHost::connect(&node, &options()).await);
    assert_eq!(kind, ConnectKind::UnknownHostKey, "{why}");
    assert!(why.starts_with("jump host:") && why.contains(&bastion.fingerprint()), "{why}");

    let both = [&bastion, &sshd].map(|server| std::fs::read_to_string(server.path("known_hosts")).unwrap());
    std::fs::write(sshd.path("known_hosts"), both.concat()).unwrap();
    let host = SshHost::connect(&node, &options()).await.unwrap();
    assert_eq!(ok(&host, &[run(&["echo", "hello"])]).await[0].text(), "hello\n");
}

/// The terminal tells every process of the group of Ctrl-C, and the jump host's ssh is one of them.
#[tokio::test]
async fn what_asks_rsadm_to_stop_does_not_end_the_way_through_a_jump_host() {
    let (Some(sshd), Some(bastion)) = (Sshd::start(), Sshd::start()) else { return };
    std::fs::copy(sshd.path("authorized_keys"), bastion.path("authorized_keys")).unwrap();
    let both = [&bastion, &sshd].map(|server| std::fs::read_to_string(server.path("known_hosts")).unwrap());
    std::fs::write(sshd.path("known_hosts"), both.concat()).unwrap();
    let mut node = sshd.node();
    node.ssh.bastion = Some(format!("root@127.0.0.1:{}", bastion.port));
    let options = options();
    let config = options.control_dir.path().join("m1-jump.conf").display().to_string();
    let host = SshHost::connect(&node, &options).await.unwrap();
    for signal in ["-INT", "-TERM"] {
        let told = std::process::Command::new("pkill").args([signal, "-f", &config]).status().unwrap();
        assert!(told.success(), "no process has {config}");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(ok(&host, &[run(&["echo", "hello"])]).await[0].text(), "hello\n");
    }
    assert_eq!(host.traffic().connections, 1);
    drop((host, options));
    for _ in 0..3000 {
        let left = std::process::Command::new("pgrep").args(["-f", &config]).output().unwrap();
        if left.stdout.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the jump host's ssh stays");
}

#[tokio::test]
async fn a_dead_host_is_told_from_a_dead_jump_host() {
    let (Some(mut sshd), Some(bastion)) = (Sshd::start(), Sshd::start()) else { return };
    let Some(strict) = Sshd::start_with(&["AllowTcpForwarding no"]) else { return };
    let servers = [&bastion, &strict, &sshd];
    let known = servers.map(|server| std::fs::read_to_string(server.path("known_hosts")).unwrap());
    std::fs::write(sshd.path("known_hosts"), known.concat()).unwrap();
    sshd.stop();
    for (jump, kind, why) in [
        (&bastion, ConnectKind::Unreachable, "the jump host could not reach it: Connection refused"),
        (
            &strict,
            ConnectKind::Forbids,
            "jump host: it forwards no connection there: administratively prohibited",
        ),
    ] {
        std::fs::copy(sshd.path("authorized_keys"), jump.path("authorized_keys")).unwrap();
        let mut node = sshd.node();
        node.ssh.bastion = Some(format!("root@127.0.0.1:{}", jump.port));
        let seen = refused(SshHost::connect(&node, &options()).await);
        assert_eq!(seen, (kind, why.to_owned()));
    }
}

#[tokio::test]
async fn a_server_with_too_many_at_its_door_is_asked_again() {
    let Some(sshd) = Sshd::start_with(&["MaxStartups 2"]) else { return };
    let nodes = ["m1", "m2", "m3", "m4", "m5"].map(|name| Node { name: NodeName::new(name), ..sshd.node() });
    let options = options();
    let hosts = futures::future::join_all(nodes.iter().map(|node| SshHost::connect(node, &options))).await;
    for host in hosts {
        host.unwrap();
    }
}

/// ssh promises the port all the same, and nothing comes of dialling it.
#[tokio::test]
async fn a_server_that_forwards_nothing_is_known() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let local = "AllowTcpForwarding local";
    for setting in ["AllowTcpForwarding no", "DisableForwarding yes", "PermitOpen 127.0.0.1:1", local] {
        let Some(sshd) = Sshd::start_with(&[setting]) else { return };
        let host = sshd.connect().await.unwrap();
        for to in [closed, listener.local_addr().unwrap()] {
            assert_eq!(forwarding::forbids(&host, to).await, setting != local, "{setting} {to}");
        }
    }
}

#[tokio::test]
async fn a_forwarded_port_leads_to_where_the_host_sees_it() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.connect().await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let forward = host.forward(listener.local_addr().unwrap()).await.unwrap();
    let local = forward.local();
    let mut near = tokio::net::TcpStream::connect(local).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    near.write_all(b"ping").await.unwrap();
    let mut heard = [0; 4];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"ping");
    drop((near, far, forward));
    for _ in 0..1500 {
        if tokio::net::TcpStream::connect(local).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{local} is still open");
}

#[tokio::test]
async fn a_port_that_takes_calls_and_says_nothing_is_given_up() {
    let Some(sshd) = Sshd::start() else { return };
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut node = sshd.node();
    node.ssh.port = silent.local_addr().unwrap().port();
    let (kind, why) = refused(SshHost::connect(&node, &options()).await);
    assert_eq!(kind, ConnectKind::Unreachable, "{why}");
    assert!(why.contains("timed out"), "{why}");
}

#[tokio::test]
async fn all_hosts_have_one_time_limit_and_those_that_answer_are_there_by_then() {
    let Some(sshd) = Sshd::start() else { return };
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut nodes = ["dumb", "mute", "m1"].map(|name| Node { name: NodeName::new(name), ..sshd.node() });
    for node in &mut nodes[..2] {
        node.ssh.port = silent.local_addr().unwrap().port();
    }
    // Else ssh itself gives up before.
    let options = Options { patience: Duration::from_secs(60), ..options() };
    let limit = Duration::from_secs(20);
    let (fleet, errors) = Fleet::connect(&nodes.iter().collect::<Vec<_>>(), 1, &options, limit).await;
    assert_eq!(fleet.hosts().iter().map(|h| h.name().as_str()).collect::<Vec<_>>(), ["m1"], "{errors:?}");
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["dumb", "mute"].map(|m| format!("could not connect to {m}: no login within 20.0 s")));
}
