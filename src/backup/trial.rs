//! A restore for a try, with the etcdutl of etcd itself, into a folder that is thrown away: the proof that a snapshot is
//! one that etcd takes.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::BackupError;

/// Begins the name of a folder that is thrown away; the number of the process follows.
pub const SCRATCH: &str = ".rsadm-trial-";

/// The etcdutl that an etcd host can run: that of the etcd that runs on this host, from its own container (it is linked
/// statically, and `/proc/PID/root` leads to it), or one on PATH.
pub fn etcdutl() -> Option<PathBuf> {
    of_running_etcd().or_else(on_path)
}

fn of_running_etcd() -> Option<PathBuf> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    let is_etcd =
        |process: &PathBuf| std::fs::read_to_string(process.join("comm")).is_ok_and(|c| c == "etcd\n");
    let program = |process: PathBuf| process.join("root/usr/local/bin/etcdutl");
    processes.filter(is_etcd).map(program).find(|path| path.is_file())
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
    let prefix = format!("{SCRATCH}{}-", std::process::id());
    let scratch = tempfile::Builder::new().prefix(&prefix).tempdir_in(folder);
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
    Err(BackupError::by_etcdutl(format!(
        "etcdutl does not restore {}: {}",
        snapshot.display(),
        last.unwrap_or("it says nothing").trim_start_matches("Error: ")
    )))
}
