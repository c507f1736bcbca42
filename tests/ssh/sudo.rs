//! The root shell on real Debian hosts, where sudo asks for a password or does not.
//!
//! Run as an operator of the lab:
//! `RSADM_LAB_STATE=$(tests/lab/lab path) tests/lab/lab workstation cargo test --features lab --test ssh sudo::`.

use std::{path::PathBuf, time::Instant};

use rsadm::{
    host::{
        Cmd, Host, HostError, Op,
        ssh::{Options, SshHost},
    },
    inventory::Node,
    secret::Secret,
};

use crate::sshd::{self, ok, options, put, run, sh};

mod lab {
    use super::*;

    pub(crate) fn state(name: &str) -> PathBuf {
        PathBuf::from(std::env::var_os("RSADM_LAB_STATE").expect("RSADM_LAB_STATE")).join(name)
    }

    /// m1, or the node at `RSADM_LAB_ADDRESS`, as this user reaches it.
    pub(crate) fn node(user: &str) -> Node {
        let address = std::env::var("RSADM_LAB_ADDRESS").unwrap_or_else(|_| "10.77.0.11".into());
        let mut node = sshd::node_at(&address, 22);
        node.ssh.user = user.into();
        node.ssh.key_path = Some(state("home/.ssh/id_ed25519"));
        node.ssh.known_hosts_path = Some(state("home/.ssh/known_hosts"));
        node.ssh.become_root = user != "root";
        node
    }

    pub(crate) async fn connect(user: &str, password: Option<&[u8]>) -> SshHost {
        let options = Options { sudo_password: password.map(Secret::new), ..options() };
        SshHost::connect(&node(user), &options).await.unwrap()
    }

    pub(crate) fn password() -> Vec<u8> {
        let text = std::fs::read_to_string(state("sudo-password")).unwrap();
        text.trim().into()
    }
}

#[tokio::test]
async fn whoever_may_becomes_root_and_no_argument_tells_the_password() {
    for (user, password) in
        [("root", None), ("ops", None), ("ops", Some(lab::password())), ("sec", Some(lab::password()))]
    {
        let host = lab::connect(user, password.as_deref()).await;
        let shown = Op::Run(
            Cmd::new([
                "bash",
                "-c",
                "grep -l -F -f /dev/stdin /proc/[0-9]*/cmdline /proc/[0-9]*/environ; true",
            ])
            .stdin(lab::password()),
        );
        let done = ok(&host, &[run(&["id", "-un"]), sh("echo $HOME"), shown]).await;
        assert_eq!(
            (done[0].text().trim(), done[1].text().trim(), done[2].text().as_str()),
            ("root", "/root", "")
        );
    }
}

#[tokio::test]
async fn a_wrong_or_missing_password_is_told_and_never_tried_again() {
    let missing = "a password is required and none was given";
    for (password, expected) in [(Some("wrong".as_bytes()), "Sorry, try again"), (None, missing)] {
        let watch = lab::connect("root", None).await;
        let failures =
            sh("journalctl -q --no-pager | grep -c 'pam_unix(sudo:auth): authentication failure'; true");
        let before = ok(&watch, std::slice::from_ref(&failures)).await[0].text();
        let host = lab::connect("sec", password).await;
        for _ in 0..3 {
            let error = host.run(&[run(&["id"])], false).await.unwrap_err();
            assert!(matches!(&error, HostError::Sudo { why, .. } if why.contains(expected)), "{error}");
        }
        assert_eq!(host.traffic().executions, 1);
        let count = |text: &str| text.trim().parse::<u32>().unwrap();
        let (mut new, wanted) = (0, u32::from(password.is_some()));
        // The journal has it a moment later.
        for _ in 0..100 {
            new = count(&ok(&watch, std::slice::from_ref(&failures)).await[0].text()) - count(&before);
            if new >= wanted {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert_eq!(new, wanted);
    }
}

#[tokio::test]
async fn a_hundred_megabytes_go_through_sudo_and_back() {
    let host = lab::connect("ops", None).await;
    let big: Vec<u8> = (0..100u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let began = Instant::now();
    let done = ok(&host, &[put("/var/tmp/rsadm-big", 0o600, &big)]).await;
    eprintln!("sent in {:?}", began.elapsed());
    assert!(done[0].ok(), "{}", done[0].stderr);
    let ops = [Op::Read("/var/tmp/rsadm-big".into()), run(&["rm", "/var/tmp/rsadm-big"])];
    let done = ok(&host, &ops).await;
    assert!(done[0].stdout == big && done[1].ok());
}

#[tokio::test]
async fn every_byte_arrives_as_a_word_as_input_and_in_a_file() {
    let host = lab::connect("ops", None).await;
    let bytes: Vec<u8> = (0..=255).collect();
    let text: String = (1..=127u8).map(char::from).chain("é€𝄞\n".chars()).collect();
    let file = "/var/tmp/rsadm bytes";
    let done = ok(
        &host,
        &[
            run(&["printf", "%s|", &text, "", " a  b ", "-n"]),
            Op::Run(Cmd::new(["cat"]).stdin(bytes.clone())),
            Op::Run(Cmd::new(["cat"]).stdin(text.clone())),
            put(file, 0o640, &bytes),
            Op::Read(file.into()),
            put(file, 0o640, text.as_bytes()),
            Op::Read(file.into()),
            run(&["stat", "-c", "%a %U:%G", file]),
            run(&["rm", file]),
        ],
    )
    .await;
    assert_eq!(done[0].text(), format!("{text}|| a  b |-n|"));
    assert_eq!((&done[1].stdout, &done[4].stdout), (&bytes, &bytes));
    assert_eq!((done[2].text(), done[6].text()), (text.clone(), text));
    assert_eq!(done[7].text(), "640 root:root\n");
}

#[tokio::test]
async fn a_forwarded_port_reaches_what_only_the_host_sees() {
    use tokio::io::AsyncReadExt;
    let host = lab::connect("ops", None).await;
    let forward = host.forward("127.0.0.1:22".parse().unwrap()).await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(forward.local()).await.unwrap();
    let mut banner = [0; 8];
    stream.read_exact(&mut banner).await.unwrap();
    assert_eq!(&banner, b"SSH-2.0-");
}
