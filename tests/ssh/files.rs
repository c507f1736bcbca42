//! Files, whole or not at all, and payloads of any size.

use rsadm::host::{Cmd, Host, Op, Output};

use crate::sshd::{Sshd, ok, put, run};

#[tokio::test]
async fn files_are_written_whole_with_their_modes() {
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.connect().await.unwrap();
    let dir = sshd.path("host");
    let at = |name: &str| dir.join(name).display().to_string();
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let done = ok(
        &host,
        &[
            put(&at("etc/open"), 0o644, b"first"),
            put(&at("etc/open"), 0o755, &every_byte),
            put(&at("pki/deep/key"), 0o600, b""),
            put(&at("odd name\n'\"$(id)/f"), 0o640, b"x"),
            Op::Read(at("etc/open")),
            Op::Read(at("pki/deep/key")),
            run(&[
                "stat",
                "-c",
                "%a %U:%G %n",
                &at("etc/open"),
                &at("pki/deep/key"),
                &at("pki/deep"),
                &at("pki"),
            ]),
            run(&["find", &at(""), "-name", ".rsadm*"]),
        ],
    )
    .await;
    assert!(done.iter().all(Output::ok), "{done:?}");
    assert_eq!(done[4].stdout, every_byte);
    assert_eq!(done[5].stdout, b"");
    let expected = [
        format!("755 root:root {}", at("etc/open")),
        format!("600 root:root {}", at("pki/deep/key")),
        format!("700 root:root {}", at("pki/deep")),
        format!("755 root:root {}", at("pki")),
    ];
    assert_eq!(done[6].text().lines().collect::<Vec<_>>(), expected);
    assert_eq!(done[7].text(), "");
    let missing = host.run(&[Op::Read(at("nowhere"))], false).await.unwrap();
    assert_eq!(missing[0].status, 1);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_leaves_the_old_one_and_the_stream_in_step() {
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.connect().await.unwrap();
    let small = sshd.path("small");
    let at = |name: &str| small.join(name).display().to_string();
    std::fs::create_dir(&small).unwrap();
    let mount = ok(&host, &[run(&["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", &at("")])]).await;
    if !mount[0].ok() {
        return eprintln!("skipped: no tmpfs here: {}", mount[0].stderr);
    }
    let too_much = vec![b'x'; 1 << 20];
    let ops = [
        put(&at("f"), 0o600, b"old"),
        put(&at("f"), 0o600, &too_much),
        put(&at("d/"), 0o600, b"a folder's name"),
        put("relative", 0o600, b"no"),
        run(&["echo", "in step"]),
        Op::Read(at("f")),
        run(&["ls", "-A", &at("")]),
    ];
    let done = host.run(&ops, true).await.unwrap();
    let _ = host.run(&[run(&["umount", &at("")])], false).await;
    assert_eq!(done.len(), ops.len());
    assert_eq!(done[1].status, 1);
    assert!(done[1].stderr.contains("No space left on device"), "{}", done[1].stderr);
    assert!(done[2].stderr.contains("is not the absolute path of a file"), "{}", done[2].stderr);
    assert!(done[3].stderr.contains("is not the absolute path of a file"), "{}", done[3].stderr);
    assert_eq!(done[4].text(), "in step\n");
    assert_eq!(done[5].stdout, b"old");
    assert_eq!(done[6].text(), "f\n");
}

#[tokio::test]
async fn large_payloads_arrive_as_they_were_and_are_passed_over_after_a_failure() {
    let Some(sshd) = Sshd::start() else { return };
    let host = sshd.connect().await.unwrap();
    let path = sshd.path("big").display().to_string();
    let big: Vec<u8> = (0..20u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let done = ok(
        &host,
        &[
            put(&path, 0o600, &big),
            Op::Run(Cmd::new(["cmp", "-", &path]).stdin(big.clone())),
            Op::Run(Cmd::new(["true"]).stdin(big.clone())),
            Op::Read(path.clone()),
        ],
    )
    .await;
    assert_eq!(done.iter().map(|o| o.status).collect::<Vec<_>>(), [0; 4], "{}", done[1].stderr);
    assert!(done[3].stdout == big);
    assert!(host.traffic().bytes > 3 * big.len() as u64);
    let passed_over = host.run(&[run(&["false"]), put(&path, 0o600, &big)], false).await.unwrap();
    assert_eq!(passed_over.len(), 1);
    assert_eq!(ok(&host, &[run(&["echo", "still in step"])]).await[0].text(), "still in step\n");
}
