//! Members that do not answer, by what their hosts say of them.

use super::*;
use crate::etcd::Cause;

/// `up` is refused there, and nothing but room, or a disk that takes something, is needed.
#[test]
fn a_disk_that_takes_nothing_is_told_and_no_command_that_does_not_help() {
    let full = "failed to commit tx: write /var/lib/etcd/member/snap/db: no space left on device";
    let read_only = "failed to open WAL: open /var/lib/etcd/member/wal/0.wal: read-only file system";
    let lost = || Scene::new(3).silence(1, "refused").silence(3, "refused").without_quorum();
    let scenes = [(Scene::new(3).silence(3, "refused"), &["m3"][..]), (lost(), &["m1", "m3"])];
    for (words, told) in
        [(full, "the disk of HOST is full"), (read_only, "/var/lib/etcd of HOST is read only")]
    {
        let last_words = Some(Words { at: "now".into(), text: words.to_owned() });
        let process =
            Process { kubelet: true, manifest: true, restarts: Some(3), last_words, ..Process::default() };
        for (scene, hosts) in &scenes {
            let Scene { gathered, known } = scene;
            let mut scene = Scene { gathered: gathered.clone(), known: known.clone() };
            for host in *hosts {
                scene.known.hosts.insert((*host).to_owned(), HostState::Seen(process.clone()));
            }
            let advice = scene.report().advice;
            for host in *hosts {
                let told = advice.iter().find(|a| a.text.contains(&told.replace("HOST", host))).expect(told);
                assert!(told.says.as_ref().unwrap().contains(words), "{told:?}");
            }
            let commands: Vec<_> = advice.iter().filter_map(|a| a.command.as_deref()).collect();
            assert!(!commands.iter().any(|c| c.starts_with("rsadm up")), "{commands:?}");
        }
    }
}

/// The kubelet waits before it starts etcd once more: who has made room by then has nothing left to do.
#[test]
fn room_that_was_made_is_not_asked_for_again() {
    let text = "failed to commit tx: write /var/lib/etcd/member/snap/db: no space left on device".to_owned();
    let told = |room: u64| {
        let last_words = Some(Words { at: "now".into(), text: text.clone() });
        let (kubelet, restarts) = (true, Some(3));
        let process = Process { kubelet, restarts, room: Some(room), last_words, ..Process::default() };
        let mut scene = Scene::new(3).silence(3, "refused");
        scene.known.hosts.insert("m3".to_owned(), HostState::Seen(process));
        scene.report().advice.remove(0).text
    };
    let (full, roomy) = (told(4 << 20), told(400 << 20));
    assert!(full.contains("is full, which ends its etcd: make room there, 64 MiB at the least"), "{full}");
    assert!(roomy.contains("was full, which ended its etcd, and has 400 MiB now"), "{roomy}");
}

/// Nothing takes it away by itself; while a restore can be rolled back it is what that would put back.
#[test]
fn old_data_is_told_where_its_room_is_wanted() {
    let aside = [("/var/lib/rsadm/aside".to_owned(), 3 << 30), ("/var/lib/etcd/aside".to_owned(), 4096)];
    let restoring = Box::new(Restoring { token: "t".into(), placed: true, over: false, undone: false });
    let full = Some(Words { at: "now".into(), text: "write: no space left on device".into() });
    for (running, restoring, told) in
        [(true, None, true), (false, None, true), (true, Some(restoring), false)]
    {
        let (last_words, restarts) = (full.clone().filter(|_| !running), Some(3));
        let aside = aside.clone().into();
        let process = Process {
            running,
            kubelet: true,
            room: Some(1 << 20),
            restarts,
            last_words,
            restoring,
            aside,
            ..Process::default()
        };
        let mut scene = if running { Scene::new(3) } else { Scene::new(3).silence(3, "refused") };
        scene.known.hosts.insert("m3".to_owned(), HostState::Seen(process));
        let advice = scene.report().advice;
        let names = "old data of members in /var/lib/rsadm/aside (3 GiB) may go once nobody wants it back, but not /var/lib/etcd/member";
        assert_eq!(advice.iter().any(|a| a.text.contains(names)), told, "{advice:?}");
        assert!(!advice.iter().any(|a| a.text.contains("/var/lib/etcd/aside")), "{advice:?}");
    }
}

/// With a quorum and without: it is a key of the operator's, or a right, and no host that is off.
#[test]
fn a_host_that_lets_nobody_in_is_not_taken_for_one_that_is_off() {
    let why = "host not reached: ops@10.0.0.3: Permission denied (publickey)";
    let without = Scene::new(3).silence(1, "no answer").silence(3, why).without_quorum();
    for mut scene in [Scene::new(3).silence(3, why), without] {
        let shut = HostState::Unreachable { why: why.to_owned(), shut: true };
        scene.known.hosts.insert("m3".to_owned(), shut);
        let advice = scene.report().advice;
        let told = advice
            .iter()
            .find(|a| a.text.starts_with("m3 does not let rsadm in (not reached: ops@"))
            .unwrap();
        assert_eq!(told.command.as_deref(), Some("rsadm preflight prod.yaml"));
        assert!(!advice.iter().any(|a| a.text.contains("m3 cannot be reached")), "{advice:?}");
    }
}

/// `up` wants every host, and a kubelet needs no other.
#[test]
fn without_a_host_that_lets_nobody_in_the_others_kubelets_are_named() {
    let mut scene = Scene::new(3).silence(1, "no answer").silence(3, "not reached").without_quorum();
    let stopped = Process { prepared: true, manifest: true, data: true, ..Process::default() };
    let shut = HostState::Unreachable { why: "not reached".to_owned(), shut: true };
    scene.known.hosts.extend([("m1".to_owned(), HostState::Seen(stopped)), ("m3".to_owned(), shut)]);
    let advice = scene.report().advice;
    let told =
        advice.iter().any(|a| a.text.contains("; without those, on m1: systemctl enable --now kubelet"));
    assert!(told, "{advice:?}");
}

/// It runs, and what it complained of in an earlier life is not what is wrong.
#[test]
fn a_member_to_which_sshd_leads_nobody_is_not_taken_for_a_stuck_one() {
    let last_words = Some(Words { at: "then".into(), text: "no space left on device".into() });
    let process = Process { prepared: true, running: true, kubelet: true, last_words, ..Process::default() };
    let mut scene = Scene::new(3).silence(3, Silence::of(Cause::Forbidden, crate::exec::members::FORBIDDEN));
    scene.known.hosts.insert("m3".to_owned(), HostState::Seen(process));
    let told = scene.report().advice.remove(0);
    assert!(told.text.contains("runs, and nobody here can ask it: its host's sshd forwards"), "{told:?}");
    assert_eq!((told.says, told.command), (None, None));
}

/// Their processes are there: nothing is to be started.
#[test]
fn members_that_run_and_are_late_are_told_as_busy_and_expired_ones_as_such() {
    let process =
        Process { prepared: true, kubelet: true, manifest: true, running: true, ..Process::default() };
    let mut scene = Scene::new(3).silence(1, "late").silence(2, "late").silence(3, "late").without_quorum();
    for host in ["m1", "m2", "m3"] {
        scene.known.hosts.insert(host.to_owned(), HostState::Seen(process.clone()));
    }
    let advice = scene.report().advice;
    let said = |words: &str| advice.iter().any(|a| a.text.contains(words));
    assert!(said("etcd runs on m1, m2 and m3 and does not answer in time"), "{advice:?}");
    assert!(!said("start etcd on"), "{advice:?}");
    let mut starting = Scene::new(3).silence(3, "connection refused");
    let waits = Process { running: false, data: true, ..process.clone() };
    starting.known.hosts.insert("m3".to_owned(), HostState::Seen(waits));
    let told = starting.report().advice.remove(0);
    assert!(told.text.starts_with("etcd on m3 is not started yet") && told.command.is_none(), "{told:?}");
    let mut bare = Scene::new(3).silence(3, "connection refused");
    bare.known.hosts.insert("m3".to_owned(), HostState::Seen(Process::default()));
    let told = bare.report().advice.remove(0);
    assert_eq!(told.command.as_deref(), Some("rsadm etcd remove prod.yaml m3"), "{told:?}");
    let why = "it has no certificate with its key that it can use (InternalError)";
    let untrusted = Cause::Certificate { early: false };
    let mut keyless = Scene::new(3).silence(3, Silence::of(untrusted, why));
    keyless.known.hosts.insert("m3".to_owned(), HostState::Seen(process.clone()));
    let told = keyless.report().advice.remove(0);
    assert_eq!(told.text, format!("etcd on m3 runs, and {why}; this tells what its certificates are like:"));
    assert_eq!(told.command.as_deref(), Some("rsadm certs status prod.yaml"));
    let expired =
        Some(Box::new(Expired { file: "peer.crt".into(), on: "2026-11-22".into(), with_authority: false }));
    let mut scene = Scene::new(3).silence(3, "late");
    scene.known.hosts.insert("m3".to_owned(), HostState::Seen(Process { expired, ..process.clone() }));
    let advice = scene.report().advice.remove(0);
    assert_eq!(
        advice.text,
        "the certificate peer.crt of etcd on m3 has expired on 2026-11-22; this renews it:"
    );
    assert_eq!(advice.command.as_deref(), Some("rsadm certs renew prod.yaml"));
    let expired =
        Some(Box::new(Expired { file: "peer.crt".into(), on: "2026-11-22".into(), with_authority: true }));
    scene.known.hosts.insert("m3".to_owned(), HostState::Seen(Process { expired, ..process }));
    let advice = scene.report().advice.remove(0);
    assert!(advice.text.ends_with("has expired on 2026-11-22, and its authority with it; this tells more:"));
    assert_eq!(advice.command.as_deref(), Some("rsadm certs status prod.yaml"));
}

#[test]
fn a_restore_that_is_not_over_is_told_with_the_ways_out() {
    let restoring = |placed: bool, token: &str| {
        let restoring = Restoring { token: token.to_owned(), placed, over: false, undone: false };
        let restoring = Some(Box::new(restoring));
        HostState::Seen(Process { restoring, kubelet: true, ..Process::default() })
    };
    let told = |mut scene: Scene, state: HostState| {
        scene.known.hosts.insert("m3".to_owned(), state);
        scene.report().advice.remove(0)
    };
    let recovery = "prod-17-recovered-from-m3";
    let silent = || Scene::new(3).silence(3, "no answer");
    let alone = || Scene::new(3).silence(1, "no route").silence(2, "no route").without_quorum();
    for (scene, placed, token, words) in [
        (
            silent(),
            false,
            recovery,
            "a recovery of etcd has begun on m3 and is not over; etcd serves without it",
        ),
        // Its data is in place there, and the others go on with theirs: it was rolled back without that host, or they are back.
        (silent(), true, recovery, "is not over; etcd serves without it"),
        (alone(), false, recovery, "is not over: rsadm etcd recover prod.yaml goes on with it"),
        (alone(), false, "prod-17-ab", "rsadm etcd restore prod.yaml with the same snapshot goes on with it"),
    ] {
        let advice = told(scene, restoring(placed, token));
        assert!(advice.text.contains(words), "{}", advice.text);
        assert_eq!(advice.command.as_deref(), Some("rsadm etcd restore prod.yaml --rollback"));
    }
    // Over on one host is over on all, and the same again is what is left to do.
    let mut scene = Scene::new(3);
    for (host, over) in [("m2", true), ("m3", false)] {
        let HostState::Seen(mut process) = restoring(true, "prod-17-ab") else { unreachable!() };
        process.restoring.as_mut().unwrap().over = over;
        scene.known.hosts.insert(host.to_owned(), HostState::Seen(process));
    }
    let advice = scene.report().advice.remove(0);
    assert!(
        advice.text.starts_with("a restore of etcd is over, and on m2 and m3 something still waits"),
        "{}",
        advice.text
    );
    assert!(
        advice.command.is_none()
            && advice.text.contains("rsadm etcd restore prod.yaml with the same snapshot")
    );
    let mut scene = Scene::new(3);
    let HostState::Seen(mut process) = restoring(true, "prod-17-ab") else { unreachable!() };
    process.restoring = Restoring::read("undone prod-17-ab").map(Box::new);
    scene.known.hosts.insert("m2".to_owned(), HostState::Seen(process));
    let advice = scene.report().advice.remove(0);
    assert!(advice.text.starts_with("a restore of etcd was rolled back, and on m2"), "{}", advice.text);
    assert_eq!(advice.command.as_deref(), Some("rsadm etcd restore prod.yaml --rollback"));
    // Those that are back while it is under way may be the ones to keep.
    let mut scene = silent();
    scene.answer(2).status.as_mut().unwrap().cluster_id = 7;
    scene.known.old_clusters = vec![7];
    scene.known.hosts.insert("m3".to_owned(), restoring(true, recovery));
    let advice = scene.report().advice;
    assert!(advice[0].text.contains("is not over"), "{advice:?}");
    assert!(advice[1].text.starts_with("m2 serves the data from before it"), "{advice:?}");
    assert!(!advice.iter().any(|a| a.command.as_ref().is_some_and(|c| c.contains("replace"))), "{advice:?}");
    // What it has stopped is not told to be started with `up`, which is refused.
    let mut scene = silent();
    scene.known.hosts.insert("m3".to_owned(), restoring(false, recovery));
    let commands: Vec<String> = scene.report().advice.into_iter().filter_map(|a| a.command).collect();
    assert_eq!(commands, ["rsadm etcd restore prod.yaml --rollback"]);
}

/// Files that ended early or do not fit: `up` issues them anew where rsadm built the host.
#[test]
fn a_member_that_cannot_use_its_own_certificates_is_told_with_what_issues_them() {
    for (words, is_theirs) in [
        ("tls: failed to find any PEM data in key input", true),
        ("tls: private key does not match public key", true),
        ("open /etc/kubernetes/pki/etcd/server.key: no such file or directory", true),
        ("listen tcp 10.0.0.3:2380: bind: address already in use", false),
    ] {
        for prepared in [true, false] {
            let last_words = Some(Words { at: "now".into(), text: words.into() });
            let process = Process {
                kubelet: true,
                manifest: true,
                data: true,
                restarts: Some(2),
                prepared,
                last_words,
                ..Process::default()
            };
            let mut scene = Scene::new(3).silence(3, "connection refused");
            scene.known.hosts.insert("m3".to_owned(), HostState::Seen(process));
            let told = scene.report().advice.remove(0);
            assert!(told.says.as_ref().unwrap().contains(words), "{told:?}");
            let issues = told.text.contains("this issues anew what is of no use");
            assert_eq!(issues, is_theirs && prepared, "{told:?}");
            assert_eq!(told.command.as_deref(), issues.then_some("rsadm up prod.yaml"), "{told:?}");
        }
    }
}

/// As with `nofail`, after a boot without that disk: it may have begun anew in the folder below.
#[test]
fn a_member_that_runs_beside_its_disk_is_told() {
    for (running, told) in [(true, true), (false, false)] {
        let process = Process { running, unmounted: Some("/var/lib/etcd".into()), ..Process::default() };
        let mut scene = Scene::new(3);
        scene.known.hosts.insert("m3".to_owned(), HostState::Seen(process));
        let report = scene.report();
        let is_it =
            |a: &Advice| a.text.starts_with("etcd on m3 runs beside its disk: /etc/fstab of m3 has one for");
        assert_eq!(report.advice.iter().any(is_it), told, "{:?}", report.advice);
    }
}

/// What the others lost is on its disk alone, and it would be set aside.
#[test]
fn a_member_that_has_what_the_others_lost_is_not_to_be_replaced_yet() {
    let text = "panic: entry 96 conflict with committed entry [committed(100)]".to_owned();
    let last_words = Some(Words { at: "now".into(), text: text.clone() });
    let (kubelet, manifest, data, restarts) = (true, true, true, Some(3));
    let process = Process { kubelet, manifest, data, restarts, last_words, ..Process::default() };
    let mut scene = Scene::new(3).silence(3, "connection refused");
    scene.known.hosts.insert("m3".to_owned(), HostState::Seen(process));
    let told = scene.report().advice.remove(0);
    assert!(
        told.text.starts_with("etcd stops on m3: it knows of writes that a quorum had agreed on"),
        "{told:?}"
    );
    assert_eq!((told.command, told.says.unwrap().contains(&text)), (None, true));
}

/// It runs, and its next write may be its last.
#[test]
fn a_disk_that_is_all_but_full_is_told_before_etcd_ends() {
    for (left, told) in [(0, true), (64 << 20, false)] {
        let process = Process { running: true, room: Some(left), ..Process::default() };
        let mut scene = Scene::new(3);
        scene.known.hosts.insert("m3".to_owned(), HostState::Seen(process));
        let advice = scene.report().advice;
        assert_eq!(
            advice.iter().any(|a| a.text.starts_with("the disk of m3 has 0 B left")),
            told,
            "{advice:?}"
        );
    }
}

/// Nothing that starts members mends it.
#[test]
fn without_a_quorum_a_member_with_damaged_data_is_none_to_start() {
    let stopped = Process { kubelet: true, manifest: true, data: true, prepared: true, ..Process::default() };
    let last_words = Some(Words { at: "now".into(), text: "walpb: crc mismatch".into() });
    let damaged = Process { restarts: Some(3), last_words, ..stopped.clone() };
    let mut scene =
        Scene::new(3).silence(1, "refused").silence(2, "refused").silence(3, "refused").without_quorum();
    for (host, process) in [("m1", &damaged), ("m2", &stopped), ("m3", &stopped)] {
        scene.known.hosts.insert(host.to_owned(), HostState::Seen(process.clone()));
    }
    let advice = scene.report().advice;
    let about = |words: &str| advice.iter().find(|a| a.text.starts_with(words)).expect(words);
    let shows = about("etcd cannot start on m1 with the data that is there");
    assert_eq!(shows.command.as_deref(), Some("rsadm etcd recover prod.yaml --diagnose"));
    assert_eq!(about("start etcd on m2 and m3 again").command.as_deref(), Some("rsadm up prod.yaml"));
}

/// With a quorum and without: a host that is gone for good is waited for by nobody.
#[test]
fn the_way_on_without_hosts_that_are_gone_is_named() {
    let away = |mut scene: Scene, hosts: &[&str]| {
        let gone = HostState::Unreachable { why: "not reached".to_owned(), shut: false };
        scene.known.hosts.extend(hosts.iter().map(|host| ((*host).to_owned(), gone.clone())));
        scene.report().advice.into_iter().find(|a| a.text.contains("cannot be reached over SSH")).unwrap()
    };
    let serves = away(Scene::new(3).silence(3, "no route"), &["m3"]);
    assert!(serves.text.contains("rsadm etcd replace prod.yaml m3 NEW_HOST gives its place"), "{serves:?}");
    assert_eq!(serves.command.as_deref(), Some("rsadm etcd remove prod.yaml m3"));
    let silent = || Scene::new(3).silence(2, "no route").silence(3, "no route").without_quorum();
    let most = away(silent(), &["m2", "m3"]);
    assert!(most.text.contains("If they are gone for good, this shows what is left"), "{most:?}");
    assert_eq!(most.command.as_deref(), Some("rsadm etcd recover prod.yaml --diagnose"));
    // Of the others a quorum may come.
    assert_eq!(away(silent(), &["m3"]).command, None);
}
