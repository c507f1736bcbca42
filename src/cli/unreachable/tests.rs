//! What is told of hosts that cannot be used.

use super::*;
use crate::{inventory::load, ui::lines::Style};

const INVENTORY: &str = "
cluster_name: prod
kubernetes_version: v1.34.0
ssh: {user: ops, port: 2222, key_path: /keys/ops}
hosts:
  - {name: m1, address: 198.51.100.1, roles: [control-plane, etcd]}
  - {name: m2, address: 198.51.100.2, roles: [control-plane, etcd]}
  - {name: m3, address: m3.example.org, internal_address: 10.0.0.3, roles: [control-plane, etcd]}
";

fn connect(host: &str, kind: ConnectKind, why: &str) -> HostError {
    HostError::Connect { host: NodeName::new(host), kind, at: At::Host, why: why.into() }
}

/// The same where the jump host before it says so.
fn of_jump_host(host: &str, kind: ConnectKind, why: &str) -> HostError {
    HostError::Connect { host: NodeName::new(host), kind, at: At::JumpHost, why: why.into() }
}

fn shown(errors: &[HostError]) -> String {
    let cluster = load(INVENTORY, "inventory.yaml", None).unwrap().cluster;
    let error = CliError::unreachable(errors, &cluster, cluster.nodes.len());
    assert_eq!(error.kind(), Exit::Unreachable);
    error.text(Style { color: false })
}

#[test]
fn several_hosts_are_one_table_and_one_hint_per_remedy() {
    insta::assert_snapshot!(shown(&[
        connect(
            "m1",
            ConnectKind::Unreachable,
            "connect to host 198.51.100.1 port 2222:\nConnection refused"
        ),
        connect("m2", ConnectKind::UnknownHostKey, "Host key verification failed."),
        connect("m3", ConnectKind::UnknownHostKey, "Host key verification failed."),
    ]));
}

#[test]
fn the_way_on_without_a_host_is_told_where_a_majority_answers() {
    let cluster = load(INVENTORY, "inventory.yaml", None).unwrap().cluster;
    let off = |host: &str| connect(host, ConnectKind::Unreachable, "No route to host");
    let way = |errors: &[HostError]| way_without(errors, &cluster, " prod.yaml");
    insta::assert_snapshot!(way(&[off("m3")]).unwrap(), @"if m3 is gone for good: rsadm etcd remove prod.yaml m3; then its line out of the inventory, or that of its successor instead");
    let denied = || connect("m2", ConnectKind::Denied, "Permission denied (publickey).");
    for there in [vec![off("w1")], vec![denied()], vec![off("m2"), off("m3")], vec![off("m3"), denied()]] {
        assert_eq!(way(&there), None, "{there:?}");
    }
    let mut five = cluster.clone();
    five.nodes
        .extend(["m4", "m5"].map(|name| Node { name: NodeName::new(name), ..cluster.nodes[2].clone() }));
    let mut apart = cluster.clone();
    apart.nodes[2].roles = vec![Role::Etcd];
    let way = way_without(&[off("m3")], &apart, "");
    insta::assert_snapshot!(way.unwrap(), @"if m3 is gone for good: rsadm etcd replace m3 NEW_HOST, or rsadm etcd remove m3");
    let way = way_without(&[off("m1"), off("w1"), off("m4")], &five, "");
    insta::assert_snapshot!(way.unwrap(), @"those of m1, m4 that are gone for good, one after the other: rsadm etcd remove m1; then its line out of the inventory, or that of its successor instead");
}

/// The hosts behind it may all be well.
#[test]
fn a_jump_host_that_is_not_reached_is_what_is_tried() {
    for (bastion, command) in [
        ("{address: 127.0.0.9, port: 9}", "ssh -i /keys/ops -p 9 127.0.0.9"),
        ("{address: jump, user: j}", "ssh -i /keys/ops j@jump"),
        ("{address: 'fd00::1', port: 23}", "ssh -i /keys/ops -p 23 fd00::1"),
        ("{address: 'fd00::1'}", "ssh -i /keys/ops fd00::1"),
    ] {
        let text = INVENTORY.replace("port: 2222", &format!("bastion: {bastion}"));
        let cluster = load(&text, "inventory.yaml", None).unwrap().cluster;
        let why = "connect to host 127.0.0.9 port 9: Connection refused";
        let error = of_jump_host("m1", ConnectKind::Unreachable, why);
        assert_eq!(
            hints(std::slice::from_ref(&error), &cluster),
            [format!(
                "the jump host is not reached: is it on, and are address and port of ssh.bastion right in the \
                 inventory? try {command}"
            )]
        );
        assert_eq!(way_without(&[error], &cluster, ""), None);
    }
}

/// Its key and its users are its own: what helps there is no remedy for the host behind it.
#[test]
fn what_a_jump_host_refuses_is_put_right_there() {
    let refused = |bastion: &str, kind| {
        let text = INVENTORY.replace("port: 2222", &format!("known_hosts_path: /k, bastion: {bastion}"));
        let cluster = load(&text, "inventory.yaml", None).unwrap().cluster;
        hints(&[of_jump_host("m1", kind, "its words")], &cluster).concat()
    };
    let full = "{address: jump, port: 2022, user: j}";
    insta::assert_snapshot!([
        refused(full, ConnectKind::UnknownHostKey),
        refused(full, ConnectKind::ChangedHostKey),
        refused("{address: jump}", ConnectKind::ChangedHostKey),
        refused("{address: 'fd00::1', port: 23}", ConnectKind::ChangedHostKey),
        refused(full, ConnectKind::Denied),
        refused("{address: jump}", ConnectKind::Denied),
    ].join("\n"), @"
    connect once by hand and compare the fingerprint with the jump host's own: ssh -i /keys/ops -o UserKnownHostsFile=/k -p 2022 j@jump
    or trust unknown keys at first sight: ssh.host_key_check: accept-new in the inventory
    either the jump host was installed anew, or something else answers in its place; find out which first
    if it was installed anew: ssh-keygen -R '[jump]:2022' -f /k, then ssh -i /keys/ops -o UserKnownHostsFile=/k -p 2022 j@jump
    either the jump host was installed anew, or something else answers in its place; find out which first
    if it was installed anew: ssh-keygen -R jump -f /k, then ssh -i /keys/ops -o UserKnownHostsFile=/k jump
    either the jump host was installed anew, or something else answers in its place; find out which first
    if it was installed anew: ssh-keygen -R '[fd00::1]:23' -f /k, then ssh -i /keys/ops -o UserKnownHostsFile=/k -p 23 fd00::1
    the jump host accepts no key of yours for j; try ssh -i /keys/ops -o UserKnownHostsFile=/k -p 2022 j@jump
    check ssh.bastion.user and ssh.key_path in the inventory, and ssh-add -l where an agent holds the key
    the jump host accepts no key of yours; try ssh -i /keys/ops -o UserKnownHostsFile=/k jump
    check ssh.bastion.user and ssh.key_path in the inventory, and ssh-add -l where an agent holds the key
    ");
}

/// One that leads nowhere is well: the host behind it is off, as it would be without.
#[test]
fn a_host_that_the_jump_host_does_not_reach_may_be_gone() {
    let text = INVENTORY.replace("port: 2222", "bastion: {address: jump}");
    let cluster = load(&text, "inventory.yaml", None).unwrap().cluster;
    let told = |error: HostError| {
        let error = [error];
        (hints(&error, &cluster).concat(), way_without(&error, &cluster, "").is_some())
    };
    let host = |kind, why: &str| connect("m1", kind, &format!("the jump host could not reach it: {why}"));
    let prohibited = "it forwards no connection there: administratively prohibited";
    let seen = [
        told(host(ConnectKind::Unreachable, "No route to host")),
        told(host(ConnectKind::UnknownName, "Name or service not known")),
        told(of_jump_host("m1", ConnectKind::Forbids, prohibited)),
    ];
    assert_eq!(seen.each_ref().map(|(_, may_be_gone)| *may_be_gone), [true, true, false]);
    insta::assert_snapshot!(seen.map(|(hint, _)| hint).join("\n"), @"
    is it on, and are address, port and bastion right in the inventory? try ssh -J jump -i /keys/ops -p 22 ops@198.51.100.1
    is the name right in the inventory, and known to DNS or /etc/hosts where it is looked up? an IP address does as well
    in sshd_config on the jump host: AllowTcpForwarding yes, or local, and a PermitOpen that has 198.51.100.1:22, or none
    ");
}

/// Else the advice would be about a file that rsadm does not read.
#[test]
fn a_known_hosts_file_of_the_inventory_is_named() {
    let text = INVENTORY.replace("port: 2222", "known_hosts_path: '/my keys/known'");
    let cluster = load(&text, "inventory.yaml", None).unwrap().cluster;
    insta::assert_snapshot!(advice(Remedy::ChangedHostKey(At::Host), &cluster.nodes[0], ""), @"
    either the host was installed anew, or something else answers in its place; find out which first
    if it was installed anew: ssh-keygen -R 198.51.100.1 -f '/my keys/known', then ssh -i /keys/ops -o 'UserKnownHostsFile=/my keys/known' -p 22 ops@198.51.100.1
    ");
}

#[test]
fn each_kind_of_failure_has_its_remedy() {
    let m1 = || NodeName::new("m1");
    let sudo = |why: &str| HostError::Sudo { host: m1(), why: why.into() };
    let errors = [
        connect("m1", ConnectKind::UnknownHostKey, "no key known"),
        connect("m1", ConnectKind::ChangedHostKey, "another key known"),
        connect("m1", ConnectKind::Denied, "Permission denied (publickey)."),
        connect("m1", ConnectKind::Unreachable, "No route to host"),
        connect("m1", ConnectKind::Slow, "logged in, and sudo gave no shell within 14.0 s"),
        connect("m1", ConnectKind::Other, "Bad configuration option"),
        connect("m1", ConnectKind::UnknownName, "Could not resolve hostname m1: Name or service not known"),
        connect("m1", ConnectKind::NoSsh, "the ssh program is not installed on this machine"),
        HostError::Lost { host: m1(), doing: "start etcd".into(), why: "closed by remote host".into() },
        HostError::Hangs {
            host: m1(),
            doing: "look around".into(),
            why: "no answer within 30.0 s; the last that it told was `swap`".into(),
        },
        HostError::Lost {
            host: m1(),
            doing: "look around".into(),
            why: "rsadm: line 1: gzip: command not found".into(),
        },
        HostError::Lost {
            host: m1(),
            doing: "look around".into(),
            why: "no room in /run, where answers are kept meanwhile: df -h /run".into(),
        },
        sudo("env: 'sudo': No such file or directory"),
        sudo("a password is required"),
        sudo("sudo: sorry, you must have a tty to run sudo"),
        sudo("ops is not in the sudoers file."),
        sudo("Sorry, user ops is not allowed to execute '/usr/bin/bash' as root on m1."),
        sudo("Sorry, try again."),
        sudo("sudo: 1 incorrect password attempt"),
        HostError::Overtaken { host: m1(), why: "rsadm up by ann@desk (pid 17)".into() },
    ];
    let all: Vec<String> = errors.into_iter().map(|e| shown(&[e])).collect();
    insta::assert_snapshot!(all.join("\n"));
}
