//! What a host says of its etcd, read; and the script itself, against hosts that are made up.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use super::*;
use crate::{
    backup::{
        Check,
        agent::{Newest, State},
        retention::Retention,
    },
    etcd::status::LEAST_ROOM,
    manifests::BackupConfig,
};

const RUNS: &str = "kubelet active\nmanifest\nrunning\nflag heartbeat-interval 250\netcd-servers https://10.0.0.1:2379,https://10.0.0.2:2379\n\
    restarts 0\nlast 2026-11-22T14:02:11.5Z stderr F {\"level\":\"info\",\"msg\":\"ready\"}\nend\n";
const DIED: &str = "kubelet active\nmanifest\nrestarts 4\n\
    last 2026-11-22T14:02:11.5Z stderr F main.main()\n\
    complaint 2026-11-22T14:02:11.4Z stderr F panic: freepages: failed to get all reachable pages\nend\n";

fn seen(text: &str) -> Process {
    match parse(text).unwrap().state {
        HostState::Seen(process) => process,
        HostState::Unreachable { why, .. } => panic!("{why}"),
    }
}

#[test]
fn a_certificate_that_has_ended_is_told_by_the_hosts_clock() {
    let now = time::macros::datetime!(2026-11-22 14:05:10 UTC);
    let authority = crate::pki::issue::Authority::make(crate::pki::authorities::Ca::Etcd, now).unwrap();
    let der: String = authority.files().cert.lines().filter(|line| !line.starts_with("---")).collect();
    let ends = inspect(&authority.files().cert).unwrap().not_after;
    for (clock, is_over) in [(ends - time::Duration::DAY, false), (ends + time::Duration::DAY, true)] {
        let text = format!("clock {}\ncert peer.crt {der}\nend\n", clock.unix_timestamp());
        let expired = seen(&text).expired.map(|e| (e.file, e.on));
        assert_eq!(expired, is_over.then(|| ("peer.crt".to_owned(), ends.date().to_string())));
    }
    assert_eq!(seen("clock 1\ncert peer.crt rubbish\nend\n").expired, None);
    // A certificate of an authority that has ended with it, and of one that has not.
    for (authority, with) in [(der.as_str(), true), ("rubbish", false)] {
        let clock = (ends + time::Duration::DAY).unix_timestamp();
        let process = seen(&format!("clock {clock}\ncert ca.crt {authority}\ncert peer.crt {der}\nend\n"));
        assert_eq!(process.authority_ends, with.then_some(ends));
        assert_eq!(process.expired.map(|e| (e.file, e.with_authority)), Some(("peer.crt".into(), with)));
    }
}

#[test]
fn a_host_with_a_running_member() {
    let process = seen(RUNS);
    assert!(process.kubelet && process.manifest && process.running);
    assert_eq!(process.last_words.unwrap().text, "ready");
    assert_eq!(process.flags, BTreeMap::from([("heartbeat-interval".to_owned(), "250".to_owned())]));
    let servers = parse(RUNS).unwrap().etcd_servers.unwrap();
    assert_eq!(servers, ["https://10.0.0.1:2379", "https://10.0.0.2:2379"]);
}

#[test]
fn whose_data_a_host_has_is_told_by_its_record() {
    let record = r#"{"cluster":"prod","etcd_cluster_id":"4dbcd25e8188d44b"}"#;
    assert_eq!(seen(&format!("identity {record}\nend\n")).data_of, Some(0x4dbc_d25e_8188_d44b));
    assert_eq!(seen("identity rubbish\nend\n").data_of, None);
}

#[test]
fn a_host_with_an_unfinished_restore() {
    let restoring =
        seen("kubelet active\nrestoring placed prod-17-recovered-from-m3\nend\n").restoring.unwrap();
    assert_eq!((restoring.placed, restoring.token.as_str()), (true, "prod-17-recovered-from-m3"));
    assert!(!seen("restoring begun prod-17-ab\nend\n").restoring.unwrap().placed);
}

#[test]
fn a_complaint_says_more_than_the_last_line_of_a_trace() {
    let process = seen(DIED);
    assert_eq!((process.running, process.restarts), (false, Some(4)));
    let words = process.last_words.unwrap();
    assert_eq!(words.text, "panic: freepages: failed to get all reachable pages");
    assert_eq!(words.at, "2026-11-22 14:02:11 UTC");
}

#[test]
fn what_it_remembers_of_snapshots() {
    let text = "kubelet active\nbackup-since 1700000000\nbackup-to /mnt/nas\nbackup-gone\nbackup-runs 720\nbackup {\"newest\":{\"taken_at\":1700000100,\
        \"file\":\"a.db\",\"revision\":7,\"check\":\"restored\"},\"last_run\":1700000100,\"error\":null}\nend\n";
    let host = parse(text).unwrap();
    let Schedule { state, since, target, gone, runs } = host.backup;
    let state: State = serde_json::from_str(&state.unwrap()).unwrap();
    let newest = state.newest.unwrap();
    assert_eq!((newest.file.as_str(), newest.revision, newest.target), ("a.db", 7, None));
    assert_eq!((since, target.as_deref(), gone), (Some(1_700_000_000), Some("/mnt/nas"), true));
    assert_eq!(runs, Some(720));
    assert_eq!(parse("backup-to \nend\n").unwrap().backup, Schedule::default());
}

/// The script itself, with words of systemd's in the orders that it may have them in.
#[test]
fn a_run_that_is_under_way_is_told() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("backup.json"), "{\n}\n").unwrap();
    let since = "ExecMainStartTimestampMonotonic=1000000";
    for (state, runs) in [
        (format!("ActiveState=activating\\n{since}\\n"), true),
        (format!("{since}\\nActiveState=deactivating\\n"), true),
        (format!("{since}\\nActiveState=inactive\\n"), false),
        ("ActiveState=activating\\nExecMainStartTimestampMonotonic=0\\n".to_owned(), false),
        (String::new(), false),
    ] {
        let text = SCRIPT.text.replace("/etc/rsadm/", &format!("{}/", host.path().display()));
        let text = format!("systemctl() {{ [ $1 = is-active ] || printf '{state}'; }}\n{text}");
        let said = Command::new("bash").args(["-c", &text]).output().unwrap().stdout;
        let told = parse(&String::from_utf8_lossy(&said)).unwrap().backup.runs;
        assert_eq!(told.is_some_and(|seconds| seconds > 1), runs, "{state} {told:?}");
    }
}

/// The script itself, with a folder of ours for the host's.
#[test]
fn a_snapshot_that_is_not_there_any_more_is_told() {
    let host = tempfile::tempdir().unwrap();
    let at = |path: &str| format!("{}{path}", host.path().display());
    let look = |target: &str, newest: Option<&str>| {
        let config = BackupConfig {
            cluster: "prod".into(),
            kubernetes: None,
            host: "e1".into(),
            members: vec![],
            interval: 3600,
            retention: Retention::Count(3),
            target: target.into(),
            made: Some(target.into()),
            settings: [("target".into(), "x".into())].into(),
            recipient: None,
        };
        let newest = newest.map(|file| Newest {
            taken_at: 1,
            file: file.into(),
            revision: 1,
            check: Check::Checksum,
            damaged: false,
            gone: false,
            target: None,
            by: None,
        });
        let state = State { newest, error: Some("\"file\":\"gone.db\"".into()), ..State::default() };
        fs::write(at("/backup.json"), serde_json::to_string_pretty(&config).unwrap() + "\n").unwrap();
        fs::write(at("/backup-state.json"), serde_json::to_string(&state).unwrap() + "\n").unwrap();
        let text = SCRIPT.text.replace("/etc/rsadm/", &at("/")).replace("/var/lib/rsadm/", &at("/"));
        let said = Command::new("bash").args(["-c", &text]).output().unwrap().stdout;
        let told = parse(&String::from_utf8_lossy(&said)).unwrap().backup;
        let remembered = told.state.map(|line| serde_json::from_str(&line).unwrap());
        assert_eq!((told.target.as_deref(), remembered), (Some(target), Some(state)));
        told.gone
    };
    fs::write(at("/a.db"), "").unwrap();
    let folder = at("");
    for (target, newest, gone) in [
        (folder.as_str(), Some("a.db"), false),
        (&folder, Some("b.db"), true),
        (&at("/unmounted"), Some("a.db"), true),
        (&folder, None, false),
        ("s3://bucket/prod", Some("b.db"), false),
    ] {
        assert_eq!(look(target, newest), gone, "{target} {newest:?}");
    }
}

/// The script itself, with a folder of ours for the host's, and words of ours for what it asks of disks: how much is left, on
/// which disk each folder is, and what is in it.
#[test]
fn old_data_is_told_by_its_size_where_it_takes_the_room_that_is_lacking() {
    const SAME: &str = "echo 7";
    const OTHER: &str = "echo \"$3\"";
    const SAYS: &str = "printf '2097152\\t%s\\n' \"${@: -1}\"";
    let host = tempfile::tempdir().unwrap();
    let at = |path: &str| host.path().join(path);
    let text = SCRIPT.text.replace("/var/lib/", &format!("{}/", host.path().display()));
    let aside = at("etcd/aside").display().to_string();
    let look = |left: u64, disk: &str, du: &str| {
        let says = format!(
            "df() {{ printf 'x\\nx x x {left}\\n'; }}\nstat() {{ {disk}; }}\ntimeout() {{ {du}; }}\n"
        );
        let begun = Instant::now();
        let said = Command::new("bash").args(["-c", &format!("{says}{text}")]).output().unwrap().stdout;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(15), "{du} holds it up for {took:?}");
        seen(&String::from_utf8_lossy(&said)).aside
    };
    fs::create_dir_all(at("etcd/member/wal")).unwrap();
    fs::create_dir_all(&aside).unwrap();
    let told = BTreeMap::from([(at("rsadm/aside").display().to_string(), 2 << 20), (aside, 2 << 20)]);
    assert_eq!(look(LEAST_ROOM - 1, SAME, SAYS), told);
    for (left, disk, du) in [
        (LEAST_ROOM, SAME, SAYS),
        (LEAST_ROOM - 1, OTHER, SAYS),
        (LEAST_ROOM - 1, SAME, "sleep 30"),
        (LEAST_ROOM - 1, SAME, "false"),
    ] {
        assert_eq!(look(left, disk, du), BTreeMap::new(), "{left} {disk} {du}");
    }
}

/// The script itself, with a folder of ours for the host's, and words of etcd 3.7 itself.
#[test]
fn whom_a_member_differs_from_is_told_by_its_last_check() {
    let host = tempfile::tempdir().unwrap();
    let logs = host.path().join("kube-system_etcd-m1_0/etcd");
    fs::create_dir_all(&logs).unwrap();
    let differs = |peers: &str| {
        format!(
            "2026-11-30T09:14:39Z stderr F {{\"level\":\"warn\",\"msg\":\"found different hash values from remote peer\",\
             \"local-member-id\":\"d8812d7cd4d463e\",\"remote-peer-id\":\"0\",\"remote-peer-endpoints\":[{peers}],\
             \"remote-peer-revision\":31}}\n"
        )
    };
    let ended = "2026-11-30T09:14:39Z stderr F {\"level\":\"fatal\",\"msg\":\"discovery failed\",\
                 \"error\":\"d8812d7cd4d463e found data inconsistency with peers\"}\n";
    let (second, third) =
        (differs("\"https://10.0.0.2:2380\""), differs("\"https://10.0.0.3:2380\", \"https://[::3]:2380\""));
    let look = |lives: &[String]| {
        for (n, life) in lives.iter().enumerate() {
            let file = fs::File::create(logs.join(format!("{n}.log"))).unwrap();
            (&file).write_all(life.as_bytes()).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(n as u64)).unwrap();
        }
        let text = SCRIPT.text.replace("/var/log/pods/", &format!("{}/", host.path().display()));
        let said = Command::new("bash").args(["-c", &text]).output().unwrap().stdout;
        let process = seen(&String::from_utf8_lossy(&said));
        let words = process.last_words.map(|words| words.text).unwrap_or_default();
        (process.differs.join(" "), words.contains("found data inconsistency"))
    };
    let both = format!("{second}{ended}");
    for (lives, told) in [
        (vec![both.clone(), format!("{third}{ended}")], "https://10.0.0.3:2380 https://[::3]:2380"),
        (
            vec![format!("{third}{ended}"), format!("{third}{both}")],
            "https://10.0.0.2:2380 https://10.0.0.3:2380 https://[::3]:2380",
        ),
        // One that has just begun has not come to it.
        (
            vec![both.clone(), "2026-11-30T09:15:39Z stderr F {\"msg\":\"Running\"}\n".to_owned()],
            "https://10.0.0.2:2380",
        ),
    ] {
        assert_eq!(look(&lives), (told.to_owned(), true), "{lives:?}");
    }
    let other = "2026-11-30T09:15:39Z stderr F panic: freepages: failed\n".to_owned();
    assert_eq!(look(&[both, other]), (String::new(), false), "it ends over something else");
}

/// The script itself, with words of etcd 3.7 itself.
#[test]
fn why_a_member_panics_is_told_with_its_error() {
    let host = tempfile::tempdir().unwrap();
    let logs = host.path().join("kube-system_etcd-m1_0/etcd");
    fs::create_dir_all(&logs).unwrap();
    let at = "2026-11-30T09:14:39Z stderr F ";
    let entry = r#"{"level":"panic","msg":"failed to open database","path":"/d","error":"checksum error""#;
    let entry = format!(r#"{entry},"stacktrace":"{}"}}"#, r"backend.newBackend\n\t".repeat(200));
    let log = format!("{at}{entry}\n{at}panic: failed to open database\n{at}\n{at}goroutine 1 [running]:\n");
    fs::write(logs.join("0.log"), log).unwrap();
    let text = SCRIPT.text.replace("/var/log/pods/", &format!("{}/", host.path().display()));
    let said = Command::new("bash").args(["-c", &text]).output().unwrap().stdout;
    let words = seen(&String::from_utf8_lossy(&said)).last_words.unwrap();
    assert_eq!(words.text, "failed to open database: checksum error");
}

/// The script itself, with tables of ours for the host's.
#[test]
fn a_disk_of_etcds_that_is_not_mounted_is_told() {
    let host = tempfile::tempdir().unwrap();
    let at = |name: &str| host.path().join(name);
    let text = SCRIPT
        .text
        .replace("/etc/fstab", &at("fstab").display().to_string())
        .replace("/proc/mounts", &at("mounts").display().to_string());
    let disk = "UUID=7 /var/lib/etcd ext4 defaults,nofail 0 2\n";
    for (fstab, mounts, told) in [
        (disk, "/dev/sda1 / ext4 rw 0 0\n", Some("/var/lib/etcd")),
        (disk, "/dev/sda1 / ext4 rw 0 0\n/dev/sdb /var/lib/etcd ext4 rw 0 0\n", None),
        ("/dev/sdb /var/lib/etcd/ ext4 nofail 0 2\n", "", Some("/var/lib/etcd")),
        ("#/dev/sdb /var/lib/etcd ext4 nofail 0 2\n/dev/sda1 / ext4 rw 0 0\n", "", None),
        ("/dev/sdb /var/lib/etcd ext4 noauto 0 2\n", "", None),
        ("# /etc/fstab\n\n", "", None),
    ] {
        fs::write(at("fstab"), fstab).unwrap();
        fs::write(at("mounts"), mounts).unwrap();
        let said = Command::new("bash").args(["-c", &text]).output().unwrap().stdout;
        assert_eq!(seen(&String::from_utf8_lossy(&said)).unmounted.as_deref(), told, "{fstab} {mounts}");
    }
}

#[test]
fn nothing_installed_and_half_an_answer() {
    assert_eq!(seen("kubelet inactive\nend\n"), Process::default());
    assert_eq!(parse("kubelet active\nmanifest\n"), None);
}
