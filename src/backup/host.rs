//! Snapshots that are kept on an etcd host: taken, listed and tried there, with the etcdctl and etcdutl out of the
//! container of the etcd that runs there, so that no host needs tools of its own.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::io::AsyncReadExt;

use super::{
    BackupError, Manifest,
    agent::{Newest, State},
    file,
    place::{Entry, NO_MANIFEST},
    room,
    trial::tells_of_damage,
};
use crate::{
    host::{Cmd, Host, Op, Output, RemoteFile, Script, TIMED_OUT},
    layout,
    secret::Secret,
};

const SAVE: Script = Script {
    name: "snapshot-save",
    text: concat!(include_str!("../observe/processes.sh"), include_str!("host/save.sh")),
};
const LIST: Script = Script { name: "snapshot-list", text: include_str!("host/list.sh") };
const TRY: Script = Script {
    name: "snapshot-try",
    text: concat!(include_str!("../observe/processes.sh"), include_str!("host/try.sh")),
};

/// How long a host may work on a large snapshot.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// How much travels to a host at once.
const PIECE: usize = 4 << 20;

/// A host that keeps snapshots.
#[derive(Clone)]
pub struct Keeper {
    /// The host.
    pub host: Arc<dyn Host>,
    /// Its folder.
    pub folder: String,
}

/// What [`Keeper::save`] made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Its name.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// The newest revision in it.
    pub revision: u64,
}

impl Keeper {
    /// Has the member on this host write a snapshot into the folder; its name begins with `stem`. `endpoint` is the
    /// member's client URL, `size` that of its database.
    ///
    /// # Errors
    /// Where there is no room for it and its trial, or etcdctl's own words; nothing is left then.
    pub async fn save(&self, stem: &str, endpoint: &str, size: u64) -> Result<Saved, BackupError> {
        let make = Cmd::new(["mkdir", "-p", "-m", "700", "--", &self.folder].map(String::from));
        self.ask(&[Op::Run(make)], "make the folder for a snapshot").await?;
        self.has_room(&self.folder, room::with_trial(size), "take a snapshot").await?;
        let text = self.run(SAVE, &[&self.folder, stem, endpoint], "take a snapshot").await?;
        let mut words = text.split_whitespace();
        let saved = (|| {
            Some(Saved {
                file: words.next()?.to_owned(),
                size: words.next()?.parse().ok()?,
                sha256: words.next()?.to_owned(),
                revision: words.next()?.parse().ok()?,
            })
        })();
        saved.ok_or_else(|| self.refused("take a snapshot", &format!("it answered {text:?}")))
    }

    /// What is in the folder, in no order.
    ///
    /// # Errors
    /// Where the host could not be asked.
    pub async fn list(&self) -> Result<Vec<Entry>, BackupError> {
        Ok(entries(&self.run(LIST, &[&self.folder], "list its snapshots").await?))
    }

    /// Brings a file of the folder into a folder of this machine, its manifest beside it. Answers where it is.
    ///
    /// # Errors
    /// Where it could not be read there or written here, or is not the one that its manifest tells of.
    pub async fn fetch(&self, entry: &Entry, into: &Path) -> Result<PathBuf, BackupError> {
        let (from, to) = (format!("if={}/{}", self.folder, entry.file), into.join(&entry.file));
        let writing = || format!("write {}", to.display());
        room::check(into, entry.size)?;
        let mut file = file::create_private(&to).map_err(BackupError::io(writing()))?;
        for number in 0..entry.size.div_ceil(PIECE as u64) {
            let (piece, skip) = (format!("bs={PIECE}"), format!("skip={number}"));
            let argv = ["dd", &from, &piece, &skip, "count=1", "iflag=fullblock", "status=none"];
            let cmd = Cmd::new(argv.map(String::from)).timeout(LIMIT);
            let output = self.ask(&[Op::Run(cmd)], &format!("send {}", entry.file)).await?;
            file.write_all(&output.stdout).map_err(BackupError::io(writing()))?;
        }
        let manifest = match &entry.manifest {
            Ok(manifest) => manifest,
            Err(why) if why == NO_MANIFEST => return Ok(to),
            Err(why) => return Err(self.refused(&format!("send {}", entry.file), why)),
        };
        file::is_told_of(&to, Some(manifest), &file::sum(&to)?.sha256)?;
        file::write(&file::manifest_path(&to), manifest.to_json().as_bytes())?;
        Ok(to)
    }

    /// The SHA-256 of a file of the folder, hexadecimal.
    ///
    /// # Errors
    /// Where the host could not read it.
    pub async fn sha256(&self, file: &str) -> Result<String, BackupError> {
        let argv = ["sha256sum", "--", &format!("{}/{file}", self.folder)].map(String::from);
        let sum = self.ask(&[Op::Run(Cmd::new(argv).timeout(LIMIT))], &format!("read {file}")).await?.text();
        Ok(sum.split(' ').next().unwrap_or_default().to_owned())
    }

    /// Checks a file of the folder and restores it for a try: what etcdutl says of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn verify(&self, file: &str) -> Result<String, BackupError> {
        let (path, doing) = (format!("{}/{file}", self.folder), format!("restore {file} for a try"));
        let size = Cmd::new(["stat", "-c", "%s", "--", &path].map(String::from));
        let size = self.ask(&[Op::Run(size)], &doing).await?.text();
        self.has_room(&self.folder, room::of_trial(size.trim().parse().unwrap_or(0)), &doing).await?;
        self.run(TRY, &[&path, "keep"], &doing).await.map_err(|e| told(e, &path))
    }

    /// Sends a file of this machine there, restores it for a try, and removes it again: what etcdutl says of it, or `None`
    /// where the host has no etcdutl.
    ///
    /// # Errors
    /// What is wrong with it, or with the way there.
    pub async fn try_here(&self, local: &Path) -> Result<Option<String>, BackupError> {
        let doing = "restore the snapshot for a try";
        let folder = self.run(TRY, &["scratch"], doing).await?.trim().to_owned();
        if folder.is_empty() {
            return Ok(None);
        }
        let path = format!("{folder}/snapshot.db");
        let sent = self.send(local, &path).await;
        let tried = match sent {
            Ok(()) => self.run(TRY, &[&path, "remove"], doing).await.map_err(|e| told(e, &path)),
            Err(e) => Err(e),
        };
        if tried.is_err() {
            let _ = self.host.run(&[Op::Run(Cmd::new(["rm", "-rf", "--", &folder]))], true).await;
        }
        tried.map(Some)
    }

    /// Writes a snapshot's manifest beside it.
    ///
    /// # Errors
    /// Where the host did not.
    pub async fn describe(&self, manifest: &Manifest) -> Result<(), BackupError> {
        let path = format!("{}/{}", self.folder, super::manifest::name_for(&manifest.file));
        let file = RemoteFile { path, mode: 0o600, data: Secret::new(manifest.to_json()) };
        self.ask(&[Op::Put(file)], "write a manifest").await.map(drop)
    }

    /// Has the host remember of the snapshot that its timer took last whether it was found damaged, so that `status` does not
    /// rely on it; nothing where that is another one.
    ///
    /// # Errors
    /// Where the host could not be asked.
    pub async fn note_newest(&self, file: &str, damaged: bool) -> Result<(), BackupError> {
        let state = self.host.run(&[Op::Read(layout::BACKUP_STATE.to_owned())], true).await?;
        let state = state.first().filter(|o| o.ok()).and_then(|o| serde_json::from_slice(&o.stdout).ok());
        let Some(state): Option<State> = state else { return Ok(()) };
        let Some(newest) = state.newest.filter(|n| n.file == file && n.damaged != damaged) else {
            return Ok(());
        };
        let state = State { newest: Some(Newest { damaged, ..newest }), ..state };
        let text = serde_json::to_string(&state).unwrap_or_default() + "\n";
        let put = RemoteFile { path: layout::BACKUP_STATE.to_owned(), mode: 0o600, data: Secret::new(text) };
        self.ask(&[Op::Put(put)], "remember what was found").await.map(drop)
    }

    /// Removes a snapshot and its manifest.
    ///
    /// # Errors
    /// Where the host did not.
    pub async fn remove(&self, file: &str) -> Result<(), BackupError> {
        let path = |name: &str| format!("{}/{name}", self.folder);
        let argv = ["rm", "-f", "--", &path(&super::manifest::name_for(file)), &path(file)].map(String::from);
        self.ask(&[Op::Run(Cmd::new(argv))], "remove a snapshot").await.map(drop)
    }

    async fn send(&self, local: &Path, path: &str) -> Result<(), BackupError> {
        let (reading, doing) = (|| format!("read {}", local.display()), "take the snapshot for a try");
        let size = std::fs::metadata(local).map_err(BackupError::io(reading()))?.len();
        let folder = path.rsplit_once('/').map_or(path, |(folder, _)| folder);
        self.has_room(folder, room::with_trial(size), doing).await?;
        let mut file = tokio::fs::File::open(local).await.map_err(BackupError::io(reading()))?;
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            (&mut file)
                .take(PIECE as u64)
                .read_to_end(&mut piece)
                .await
                .map_err(BackupError::io(reading()))?;
            if piece.is_empty() {
                return Ok(());
            }
            // Standard input carries it; dd adds it to what is there.
            let argv = ["dd", "oflag=append", "conv=notrunc", "status=none", &format!("of={path}")]
                .map(String::from);
            let cmd = Cmd::new(argv).stdin(piece).timeout(LIMIT);
            self.ask(&[Op::Run(cmd)], doing).await?;
        }
    }

    /// Nothing is begun that would fill a disk of the host's.
    async fn has_room(&self, folder: &str, needed: u64, doing: &str) -> Result<(), BackupError> {
        let question = Op::Run(Cmd::new(room::question(folder)));
        let answers = self.host.run(&[question], true).await?;
        let answer = answers.first().map(Output::text).unwrap_or_default();
        room::suffices(&answer, folder, needed).map_err(|why| self.refused(doing, &why))
    }

    async fn run(&self, script: Script, args: &[&str], doing: &str) -> Result<String, BackupError> {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Ok(self.ask(&[Op::Script(script, args, LIMIT)], doing).await?.text())
    }

    async fn ask(&self, ops: &[Op], doing: &str) -> Result<Output, BackupError> {
        let outputs = self.host.run(ops, false).await?;
        match outputs.into_iter().last() {
            Some(output) if output.ok() => Ok(output),
            Some(output) if output.status == TIMED_OUT => Err(self.refused(doing, "it ran out of time")),
            Some(output) => Err(self.refused(doing, output.stderr.trim())),
            None => Err(self.refused(doing, "it answered nothing")),
        }
    }

    fn refused(&self, doing: &str, why: &str) -> BackupError {
        BackupError::Step { host: self.host.name().clone(), doing: doing.to_owned(), why: why.to_owned() }
    }
}

/// What a host tells of a try is what its etcdutl said.
fn told(error: BackupError, path: &str) -> BackupError {
    match &error {
        BackupError::Step { why, .. }
            if tells_of_damage(why.lines().last().unwrap_or_default(), &[Path::new(path)]) =>
        {
            BackupError::Damaged(error.to_string())
        }
        _ => error,
    }
}

/// Reads what `list.sh` printed: a line `file SIZE NAME`, then the manifest's own lines, each behind a `|`.
fn entries(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((size, name)) = line.strip_prefix("file ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        let mut manifest = String::new();
        while let Some(line) = lines.next_if(|line| line.starts_with('|')) {
            manifest.push_str(&line[1..]);
            manifest.push('\n');
        }
        let manifest = match manifest.is_empty() {
            true => Err(NO_MANIFEST.to_owned()),
            false => Manifest::parse(manifest.as_bytes()),
        };
        entries.push(Entry::new(name.to_owned(), size.parse().unwrap_or(0), manifest));
    }
    entries
}

#[cfg(test)]
mod save_tests;
#[cfg(test)]
mod try_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backup::manifest::tests::sample,
        host::{Forward, HostError},
        inventory::NodeName,
    };

    /// This machine as a host.
    struct Here(NodeName);

    #[async_trait::async_trait]
    impl Host for Here {
        fn name(&self) -> &NodeName {
            &self.0
        }

        async fn run(&self, ops: &[Op], _: bool) -> Result<Vec<Output>, HostError> {
            let run = |op: &Op| {
                let Op::Run(cmd) = op else { panic!("only commands: {op:?}") };
                let done = std::process::Command::new(&cmd.argv[0]).args(&cmd.argv[1..]).output().unwrap();
                Output { status: done.status.code().unwrap(), stdout: done.stdout, ..Output::default() }
            };
            Ok(ops.iter().map(run).collect())
        }

        async fn forward(&self, _: std::net::SocketAddr) -> Result<Box<dyn Forward>, HostError> {
            panic!("nothing is forwarded")
        }
    }

    #[tokio::test]
    async fn a_snapshot_of_a_host_is_fetched_whole_or_not_at_all() {
        let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let keeper =
            Keeper { host: Arc::new(Here(NodeName::new("m1"))), folder: there.path().display().to_string() };
        let bytes: Vec<u8> = (0..PIECE * 2 + 77).map(|i| (i % 251) as u8).collect();
        std::fs::write(there.path().join("a.db"), &bytes).unwrap();
        let (size, sha256) = (bytes.len() as u64, crate::hash::sha256(&bytes));
        let manifest = Manifest { file: "a.db".into(), size, sha256, ..sample() };
        let entry = Entry::new("a.db".into(), size, Ok(manifest.clone()));
        let path = keeper.fetch(&entry, here.path()).await.unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
        assert_eq!(file::manifest_of(&path), Some(manifest));

        std::fs::remove_file(&path).unwrap();
        std::fs::write(there.path().join("a.db"), &bytes[1..]).unwrap();
        let broken = keeper.fetch(&entry, here.path()).await.unwrap_err();
        assert!(matches!(broken, BackupError::Broken { .. }), "{broken:?}");
    }

    /// Before anything is written: of its scripts this host runs none.
    #[tokio::test]
    async fn no_snapshot_and_no_trial_is_begun_that_would_fill_the_hosts_disk() {
        let there = tempfile::tempdir().unwrap();
        let folder = there.path().join("backups").display().to_string();
        let keeper = Keeper { host: Arc::new(Here(NodeName::new("m1"))), folder: folder.clone() };
        let full = keeper.save("prod", "https://10.0.0.1:2379", 1 << 60).await.unwrap_err().to_string();
        assert!(full.starts_with(&format!("m1 could not take a snapshot: no room in {folder}: ")), "{full}");
        let sparse = std::fs::File::create(format!("{folder}/a.db")).unwrap();
        sparse.set_len(1 << 43).unwrap();
        let full = keeper.verify("a.db").await.unwrap_err().to_string();
        assert!(
            full.starts_with(&format!("m1 could not restore a.db for a try: no room in {folder}: ")),
            "{full}"
        );
        let local = Path::new(&folder).join("a.db");
        let full = keeper.send(&local, &format!("{folder}/b.db")).await.unwrap_err().to_string();
        assert!(full.contains("no room in") && !Path::new(&folder).join("b.db").exists(), "{full}");
    }

    #[test]
    fn what_a_host_says_of_a_try_is_judged_without_the_paths_in_it() {
        let step = |why: &str| BackupError::Step {
            host: NodeName::new("m1"),
            doing: "restore corrupt.db for a try".into(),
            why: why.into(),
        };
        let path = "/srv/corrupt/corrupt.db";
        let full = told(step("Error: write /srv/corrupt/.rsadm-trial-x/data: no space left on device"), path);
        assert!(matches!(full, BackupError::Step { .. }), "{full:?}");
        let edited = told(step("Error: expected sha256 [1 2], got [3 4]"), path);
        assert!(
            edited.damage().is_some_and(|why| why.starts_with("m1 could not restore corrupt.db")),
            "{edited:?}"
        );
    }

    #[test]
    fn a_hosts_list_is_read() {
        let json = sample().to_json().lines().map(|l| format!("|{l}\n")).collect::<String>();
        let text = format!("noise\nfile 8224 {}\n{json}file 12 other.db\n", sample().file);
        let list = entries(&text);
        assert_eq!(list[0].manifest, Ok(sample()));
        assert_eq!((list[1].file.as_str(), list[1].size, list[1].manifest.is_err()), ("other.db", 12, true));
        assert_eq!(list.len(), 2);
    }
}
