//! A restore for a try, with the etcdutl of etcd itself, into a folder that is thrown away: the proof that a snapshot is
//! one that etcd takes.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::{BackupError, file};
use crate::layout;

/// Begins the name of a folder that is thrown away ([`file::begun`]).
pub const SCRATCH: &str = ".rsadm-trial-";

/// The etcdutl that an etcd host can run: that of the etcd that runs on this host, from its own container (it is linked
/// statically, and `/proc/PID/root` leads to it), or one on PATH.
pub fn etcdutl() -> Option<PathBuf> {
    of_running_etcd().or_else(on_path)
}

fn of_running_etcd() -> Option<PathBuf> {
    let program = |process: PathBuf| process.join("root/usr/local/bin/etcdutl");
    members(Path::new("/proc")).into_iter().map(program).find(|path| path.is_file())
}

/// The folders below `/proc` of the etcd that is this host's member: as `observe/processes.sh` tells it from what users run in
/// pods, by the host's network and by the cluster's data or port.
fn members(proc: &Path) -> Vec<PathBuf> {
    let network = |process: &Path| fs::metadata(process.join("ns/net")).map(|m| (m.dev(), m.ino())).ok();
    let own = network(&proc.join("self"));
    let is_etcd = |process: &Path| fs::read_to_string(process.join("comm")).is_ok_and(|c| c == "etcd\n");
    let port = format!(":{}", layout::ETCD_CLIENT_PORT);
    // What does not say where its data is and where it listens may be ours.
    let serves = |process: &Path| {
        fs::read_to_string(process.join("cmdline")).is_ok_and(|words| {
            let all = |flag: &str| words.split('\0').filter_map(|w| w.strip_prefix(flag)).collect::<Vec<_>>();
            let (data, urls) = (all("--data-dir="), all("--listen-client-urls="));
            data.is_empty()
                || urls.is_empty()
                || data.iter().any(|folder| folder.starts_with(layout::ETCD_DATA_DIR))
                || urls.iter().any(|urls| urls.contains(&port))
        })
    };
    let processes = fs::read_dir(proc).into_iter().flatten().flatten().map(|entry| entry.path());
    processes.filter(|p| is_etcd(p) && own.is_some() && network(p) == own && serves(p)).collect()
}

/// The etcdutl on PATH, for machines that run no member of ours.
pub fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("etcdutl")).find(|program| program.is_file())
}

/// Restores a snapshot into a scratch folder inside `folder`, which needs as much room as the snapshot.
///
/// # Errors
/// etcdutl's own words, where it does not take it.
pub fn restore(program: &Path, snapshot: &Path, folder: &Path) -> Result<(), BackupError> {
    let scratch = tempfile::Builder::new().prefix(&file::begun(SCRATCH)).tempdir_in(folder);
    let scratch = scratch.map_err(BackupError::io(format!("write into {}", folder.display())))?;
    let data = scratch.path().join("data");
    let mut command = Command::new(program);
    command
        .args(["snapshot", "restore"])
        .arg(snapshot)
        .arg("--data-dir")
        .arg(&data)
        .args(["--name", "trial"]);
    command.args(["--initial-cluster", "trial=http://localhost:2380"]);
    command.args(["--initial-advertise-peer-urls", "http://localhost:2380"]);
    let output = command.output().map_err(BackupError::io(format!("run {}", program.display())))?;
    if output.status.success() && data.join("member/snap/db").is_file() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last = words.lines().rev().find(|line| line.starts_with("Error")).or(words.lines().last());
    let said = last.unwrap_or("it says nothing").trim_start_matches("Error: ");
    let why = format!("etcdutl does not restore {}: {said}", snapshot.display());
    Err(match tells_of_damage(said, &[snapshot, folder]) {
        true => BackupError::Damaged(why),
        false => BackupError::Refused(why),
    })
}

/// Words of etcdutl for a snapshot that is not what was taken (etcd, `etcdutl/snapshot`, and bbolt's own), by which it is told
/// from a disk that is full or a tool that is missing.
const DAMAGE: [&str; 5] =
    ["expected sha256", "integrity check failed", "invalid database", "corrupt", "checksum"];

/// True where etcdutl's last words are of the snapshot and not of what it was done with. Any word may stand in the name of a
/// file or a folder, so those are passed over: these, and all that have a slash.
pub(crate) fn tells_of_damage(said: &str, paths: &[&Path]) -> bool {
    let names = paths.iter().flat_map(|path| [Some(*path), path.parent()]).flatten();
    let names = names.map(|path| path.display().to_string()).filter(|name| name.len() > 1);
    let said = names.fold(said.to_owned(), |said, name| said.replace(&name, "/"));
    let words: Vec<&str> = said.split_whitespace().filter(|word| !word.contains('/')).collect();
    let said = words.join(" ");
    DAMAGE.iter().any(|words| said.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::parser;

    const PROCESSES: &str = include_str!("../observe/processes.sh");

    /// A `/proc` with these processes, the first as 101: name, network, arguments.
    fn proc(processes: &[(&str, &str, &str)]) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        let own = [("self", ("bash", "host", "bash"))];
        let numbered = processes.iter().enumerate().map(|(i, p)| ((101 + i).to_string(), *p));
        for (number, (name, network, arguments)) in
            own.into_iter().map(|(n, p)| (n.to_owned(), p)).chain(numbered)
        {
            let process = proc.path().join(number);
            fs::create_dir_all(process.join("ns")).unwrap();
            let network = proc.path().join(network);
            fs::write(&network, "").unwrap();
            std::os::unix::fs::symlink(network, process.join("ns/net")).unwrap();
            fs::write(process.join("comm"), format!("{name}\n")).unwrap();
            let words: String = arguments.split_whitespace().map(|word| format!("{word}\0")).collect();
            fs::write(process.join("cmdline"), words).unwrap();
            fs::write(process.join("environ"), "PATH=/\0RSADM_REVISION=ab12\0").unwrap();
        }
        proc
    }

    /// What a script says of such a host.
    fn said(proc: &Path, script: &str) -> String {
        let text = script.replace("/proc/", &format!("{}/", proc.display()));
        let output = Command::new("bash").args(["-c", &text]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Each script or function that looks for processes tells those of the host from what a pod of a user's may run.
    #[test]
    fn a_program_of_a_users_pod_is_not_taken_for_the_hosts() {
        let own = "etcd --data-dir=/var/lib/etcd --name=m1 --listen-client-urls=https://127.0.0.1:2379";
        let port = "etcd --data-dir=/data --listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379";
        let other = "etcd --data-dir=/data --listen-client-urls=http://127.0.0.1:12379 --initial-cluster=a=http://b:2379";
        for (processes, ours) in [
            (&[("etcd", "host", own)][..], &[101][..]),
            (&[("etcd", "pod", own)], &[]),
            (&[("etcd", "host", port)], &[101]),
            (&[("etcd", "host", "etcd --data-dir /var/lib/etcd --force-new-cluster")], &[101]),
            (
                &[("etcd", "host", "etcd --data-dir=/var/lib/etcd/ --listen-client-urls=http://127.0.0.1:1")],
                &[101],
            ),
            (&[("etcd", "host", "etcd --data-dir=/data")], &[101]),
            (&[("etcd", "host", "etcd --config-file=/etc/etcd/etcd.conf")], &[101]),
            (&[("etcd", "host", other)], &[]),
            (&[("etcd", "pod", own), ("etcd", "host", other), ("etcd", "host", own)], &[103]),
            (&[("etcd-replay", "host", own)], &[]),
            (&[("kube-apiserver", "pod", "kube-apiserver")], &[]),
            (&[("kube-apiserver", "pod", "x"), ("kube-apiserver", "host", "x")], &[102]),
            (&[("kube-controller", "host", "kube-controller-manager")], &[101]),
        ] {
            let proc = proc(processes);
            let names = ["etcd", "kube-apiserver", "kube-controller-manager"];
            let all =
                names.map(|name| format!("processes {name}; printf '%s\\n' \"${{pids[@]}}\"")).join("\n");
            let found = said(proc.path(), &format!("{PROCESSES}\n{all}"));
            let found: Vec<usize> = found.lines().filter_map(|line| line.parse().ok()).collect();
            assert_eq!(found, ours, "{processes:?}");

            let facts = parser::parse(&said(proc.path(), parser::SCRIPT.text)).unwrap();
            let seen: Vec<&str> = facts.processes.iter().map(|p| p.name.as_str()).collect();
            assert_eq!(seen, ours.iter().map(|n| processes[n - 101].0).collect::<Vec<_>>(), "{processes:?}");
            assert!(facts.processes.iter().all(|p| p.revision.as_deref() == Some("ab12")));

            let etcds = ours.iter().filter(|n| processes[*n - 101].0 == "etcd");
            let etcds: Vec<PathBuf> = etcds.map(|n| proc.path().join(n.to_string())).collect();
            assert_eq!(members(proc.path()), etcds, "{processes:?}");
        }
    }

    #[test]
    fn a_word_in_a_path_is_no_damage() {
        let full = "write /srv/corrupt/.rsadm-trial-e1@7-x/data/member/snap/db: no space left on device";
        for (said, snapshot, damaged) in [
            (full, "/srv/corrupt/prod.db", false),
            ("expected sha256 [1 2], got [3 4]", "/srv/corrupt/prod.db", true),
            ("snapshot file integrity check failed. /srv/a.db", "/srv/a.db", true),
            ("open corrupt.db: permission denied", "corrupt.db", false),
            ("open /mnt/a corrupt disk/a.db: no such file or directory", "/mnt/a corrupt disk/a.db", false),
            ("open /mnt/a corrupt disk/trial: no such file or directory", "/mnt/a corrupt disk/a.db", false),
            ("/srv/a.db: file is corrupt", "/srv/a.db", true),
            ("no space left on device", "/a.db", false),
        ] {
            assert_eq!(tells_of_damage(said, &[Path::new(snapshot)]), damaged, "{said}");
        }
    }

    /// What etcdutl says on a disk that fills up.
    #[test]
    fn a_full_disk_is_not_held_against_the_snapshot() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("corrupt");
        fs::create_dir(&folder).unwrap();
        let program = folder.join("etcdutl");
        let restored = |words: &str| {
            fs::write(&program, format!("#!/bin/sh\necho \"Error: {words}\" >&2\nexit 1\n")).unwrap();
            fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
            restore(&program, &folder.join("a.db"), &folder).unwrap_err()
        };
        let full = restored("write $6/member/snap/db: no space left on device");
        assert_eq!(full.damage(), None, "{full}");
        let edited = restored("expected sha256 [1 2], got [3 4]");
        let said =
            format!("etcdutl does not restore {}/a.db: expected sha256 [1 2], got [3 4]", folder.display());
        assert_eq!(edited.damage(), Some(said));
    }

    #[test]
    fn a_member_counts_until_it_has_let_go_of_its_files() {
        let proc = proc(&[("etcd", "host", "")]);
        assert_eq!(
            said(proc.path(), &format!("{PROCESSES}\nprocesses etcd; echo \"${{pids[@]}}\"")),
            "101\n"
        );
        assert_eq!(members(proc.path()).len(), 1);
    }
}
