//! Hosts that somebody else than rsadm built.

use super::*;

/// rsadm refuses to touch what kubeadm built, save members of etcd.
#[test]
fn of_hosts_that_kubeadm_built_nothing_is_advised_that_is_refused_there() {
    let expired =
        Some(Box::new(Expired { file: "peer.crt".into(), on: "2026-11-22".into(), with_authority: false }));
    let off = Process { manifest: true, data: true, restarts: Some(0), ..Process::default() };
    let scenes = [
        (off.clone(), "the kubelet of m3 does not run", Some("systemctl enable --now kubelet")),
        (
            Process { kubelet: true, manifest: false, ..off.clone() },
            "m3 has no manifest of etcd",
            Some("rsadm etcd replace prod.yaml m3"),
        ),
        (
            Process { kubelet: true, data: false, restarts: None, ..off.clone() },
            "etcd never ran on m3",
            Some("rsadm etcd replace prod.yaml m3"),
        ),
        (
            Process { running: true, ..off.clone() },
            "etcd on m3 is stuck",
            Some("systemctl enable --now kubelet"),
        ),
        (
            Process { kubelet: true, expired, ..off.clone() },
            "the certificate peer.crt",
            Some("kubeadm certs renew all"),
        ),
    ];
    for (process, text, command) in &scenes {
        let well = Process { kubelet: true, manifest: true, data: true, running: true, ..Process::default() };
        let mut serving = Scene::new(3).silence(3, "refused");
        let mut without = Scene::new(3).silence(2, "refused").silence(3, "refused").without_quorum();
        for scene in [&mut serving, &mut without] {
            scene.known.api_servers[0].etcd_servers.truncate(1);
            scene.known.hosts.insert("m1".to_owned(), HostState::Seen(well.clone()));
            scene.known.hosts.insert("m2".to_owned(), HostState::Seen(off.clone()));
            scene.known.hosts.insert("m3".to_owned(), HostState::Seen(process.clone()));
        }
        let told = serving.report().advice;
        let of_it = told.iter().find(|a| a.text.contains(text)).expect(text);
        assert_eq!(of_it.command.as_deref(), *command, "{text}");
        let lost = without.report().advice;
        for advice in told.iter().chain(&lost) {
            let words = format!("{} {}", advice.text, advice.command.as_deref().unwrap_or_default());
            assert!(!words.contains("rsadm up") && !words.contains("rsadm certs"), "{words}");
            assert_eq!(advice.text.ends_with(':'), advice.command.is_some(), "{words}");
        }
        let off = lost.iter().find(|a| a.text.starts_with("the kubelet of m2 does not run"));
        assert_eq!(off.unwrap().command.as_deref(), Some("systemctl enable --now kubelet"));
    }
}

/// Slow disks and full databases of members that are well: `up` is refused there, which would set what is wanting.
#[test]
fn what_measures_find_wanting_is_set_where_it_is_set() {
    let slow = "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.2\"} 0\n\
                etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 1000\n\
                etcd_server_leader_changes_seen_total 1\n";
    let told = |prepared: bool, heartbeat: &str| {
        let flags = [("heartbeat-interval".to_owned(), heartbeat.to_owned())].into();
        let process =
            Process { prepared, manifest: true, running: true, kubelet: true, flags, ..Process::default() };
        let mut scene = Scene::new(3);
        (scene.status(1).db_size, scene.status(1).db_size_quota) = (90, 100);
        scene.known.timing = (Duration::from_millis(100), Duration::from_secs(1));
        scene.known.metrics.insert("m2".to_owned(), Metrics::read(slow.lines(), 0).unwrap());
        for host in ["m1", "m2", "m3"] {
            scene.known.hosts.insert(host.to_owned(), HostState::Seen(process.clone()));
        }
        scene.report().advice.into_iter().map(|a| a.text).collect::<Vec<_>>().join("\n")
    };
    let (ours, theirs, mended) = (told(true, "100"), told(false, "100"), told(false, "500"));
    assert!(
        ours.contains("etcd.quota_backend_bytes") && ours.contains("in the inventory, then rsadm up"),
        "{ours}"
    );
    let manifest = "/etc/kubernetes/manifests/etcd.yaml";
    for words in [
        format!("(--quota-backend-bytes in {manifest})"),
        format!(
            "--heartbeat-interval=300 and --election-timeout=3000 in {manifest}, one host after the other"
        ),
    ] {
        assert!(theirs.contains(&words), "{theirs}");
    }
    for told in [theirs, mended.clone()] {
        assert!(
            !told.contains("rsadm up") && !told.contains("etcd.quota") && !told.contains("inventory"),
            "{told}"
        );
    }
    assert!(
        mended.contains("the disk of m2 is slow") && !mended.contains("--heartbeat-interval"),
        "{mended}"
    );
}
