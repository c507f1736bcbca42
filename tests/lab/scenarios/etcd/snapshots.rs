//! Snapshots of a running etcd: taken under load, checked, damaged, thrown away; taken by the hosts themselves, into a
//! folder and into a bucket, which fails them in two ways; and from the last member that lives.
//!
//! Rows of the fault matrix: 40 (the quorum lost: what the survivor gives), 46 (damaged files), 48 (the keys go along).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use serde_json::Value;

use crate::harness::{
    Check, Checks, Cluster, Fault, Inventory, Lab, Outcome, Probe, Processes, eventually, now,
};

use crate::scenarios::steady;

const NODES: [&str; 3] = ["e1", "e2", "e3"];
const KEY: &str = "lab/load-";
const BUCKET: &str = "s3://lab-bucket/etcd";

/// What the bucket's server takes, and nothing else.
const SECRET: &str = "lab-secret-of-the-bucket";

/// Where hosts keep theirs.
const FOLDER: &str = "/var/lib/rsadm/backups";

struct Snapshots<'a> {
    lab: &'a Lab,
    inventory: Inventory,
    /// Where the operator keeps them.
    folder: PathBuf,
}

#[test]
fn snapshots() {
    let nodes: Vec<String> = NODES.iter().zip(31..).map(|(name, n)| format!("{name}:10.77.0.{n}")).collect();
    let lab = Lab::up("snapshots", &nodes.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let mut checks = Checks::new("snapshots");
    let inventory = Inventory::load("tests/lab/inventories/lab-etcd-only.yaml").with_hosts(&NODES);
    let mut it = Snapshots { lab: &lab, inventory, folder: lab.path("home/snapshots") };
    checks.must("up", || it.rsadm("up", &[])?.ok().map(drop));
    checks.must("a snapshot under load has every write up to its revision", || it.under_load());
    checks.check("kept on a host, listed and verified there", || it.on_host());
    checks.must("up with a schedule, and then nothing is pending", || it.scheduled());
    checks.check("the timer fires on every host, and one of them takes the snapshot", || it.fired());
    // The time until that counts as late is used for what the schedule has no part in.
    let stopped = it.stop_timers();
    checks.check("it is restored for a try on an etcd host, and its manifest remembers", || it.verified());
    checks.check("row 46: cut off, changed, and copied database files are refused with the reason", || {
        it.damaged()
    });
    checks.check("prune keeps the newest verified one", || it.pruned());
    checks.check("row 48: a bundle carries the keys, and opens with the key alone", || it.bundle());
    checks.check(
        "once two intervals brought none, status tells how old the newest is, and up heals it",
        || stopped.and_then(|()| it.late()),
    );
    checks.check("a disk without room: status says what failed, and the next one heals it", || it.failing());
    checks.check("a host whose own disk is full: another steps in, and status tells", || it.stepped_in());
    checks.check("with that host down, another takes over", || it.taken_over());
    let server = S3::start(&lab);
    checks.check("bundles into a bucket, with credentials that only root can read", || it.sent_to_a_bucket());
    checks.check("a bucket from which nothing may be removed: taken all the same, and status tells", || {
        it.kept_in_a_bucket()
    });
    checks.check(
        "a bucket that is down: etcd is not read for it, status tells, and the next one heals it",
        || it.lost_a_bucket(server?),
    );
    checks.check("the schedule taken out leaves nothing on the hosts", || it.taken_out());
    checks.check("row 40: without a quorum, the survivor gives one, and it is said so", || it.survivor());
    checks.finish();
}

impl Snapshots<'_> {
    /// `rsadm WORDS… INVENTORY MORE…`.
    fn rsadm(&self, words: &str, more: &[&str]) -> Result<Outcome, Fault> {
        self.lab.rsadm_on(&[&[words, "{}"][..], more].concat().join(" "), &self.inventory)
    }

    fn json(&self, words: &str, more: &[&str]) -> Result<Value, Fault> {
        Ok(serde_json::from_str(&self.rsadm(words, &[more, &["-o", "json"]].concat())?.ok()?.stdout)?)
    }

    fn etcdctl(&self) -> Result<String, Fault> {
        Cluster::new(self.lab, "e1").workstation_etcdctl(&NODES)
    }

    /// A command line of the operator's shell.
    fn shell(&self, line: &str) -> Result<String, Fault> {
        self.lab.on_workstation(&["bash", "-c", line])?.text()
    }

    /// The newest of the operator's own, and its manifest.
    fn newest(&self) -> Result<(PathBuf, Value), Fault> {
        let list = self.json("etcd snapshot ls", &["--from", &self.folder.display().to_string()])?;
        let file = list[0]["file"].as_str().ok_or("none is listed")?;
        Ok((self.folder.join(file), list[0].clone()))
    }

    /// Keys and their revisions, as they were at the snapshot's: in the live cluster, and in what is restored from it.
    fn under_load(&self) -> Check {
        let etcdctl = self.etcdctl()?;
        self.shell(&format!("head -c 900000 /dev/urandom | base64 -w0 > {0}; for i in $(seq 30); do for try in 1 2 3; do {etcdctl} put lab/bulk-$i < {0} >/dev/null && continue 2; done; exit 1; done",
            self.lab.path("home/bulk").display()))?;
        let put = format!("{etcdctl} put {KEY}$n v");
        let load = Probe::on_workstation(self.lab, &put)?;
        eventually(|| {
            let n: u64 = self.count(&etcdctl)?;
            ensure!(n > 20, "{n} keys so far");
            Ok(())
        })?;
        let before = now();
        let saved = self.json("etcd snapshot save", &["--to", &format!("{}/", self.folder.display())]);
        let written = load.end()?;
        let saved = saved?;
        let (path, revision) = (saved["path"].as_str().ok_or("no path")?, &saved["revision"]);
        let live = self.shell(&format!(
            "{etcdctl} get {KEY} --prefix --rev={revision} --keys-only | sed /^$/d | sort"
        ))?;
        let restored = self.restored(Path::new(path))?;
        ensure!(live == restored, "live:\n{live}\nrestored:\n{restored}");
        let has: BTreeSet<&str> = restored.lines().collect();
        // An election in between is answered to a write by an error.
        let acknowledged: Vec<String> = written
            .until(before)
            .all
            .iter()
            .filter(|w| w.good)
            .map(|w| format!("{KEY}{}", w.number))
            .collect();
        let lost: Vec<&String> = acknowledged.iter().filter(|key| !has.contains(key.as_str())).collect();
        ensure!(
            !acknowledged.is_empty() && lost.is_empty(),
            "acknowledged before it, and not in it: {lost:?}"
        );
        println!("    revision {revision}: {} keys, {} before it began", has.len(), acknowledged.len());
        Ok(())
    }

    fn count(&self, etcdctl: &str) -> Result<u64, Fault> {
        Ok(self.shell(&format!("{etcdctl} get {KEY} --prefix --keys-only | grep -c . || true"))?.parse()?)
    }

    /// The keys that etcd serves from a snapshot.
    fn restored(&self, snapshot: &Path) -> Result<String, Fault> {
        let (programs, data) = (Lab::etcd_programs()?, self.lab.path("home/restored"));
        let (snapshot, data) = (snapshot.display(), data.display());
        self.shell(&format!(
            "set -e; rm -rf {data}; {programs}/etcdutl snapshot restore {snapshot} --data-dir {data} 2>/dev/null
             {programs}/etcd --data-dir {data} --listen-client-urls http://127.0.0.1:13379 \
               --advertise-client-urls http://127.0.0.1:13379 --listen-peer-urls http://127.0.0.1:13380 2>/dev/null & pid=$!
             for i in $(seq 100); do {programs}/etcdctl --endpoints=127.0.0.1:13379 endpoint health >/dev/null 2>&1 && break; sleep 0.2; done
             {programs}/etcdctl --endpoints=127.0.0.1:13379 get {KEY} --prefix --keys-only | sed /^$/d | sort
             kill $pid; wait $pid || true"
        ))
    }

    fn verified(&self) -> Check {
        let (path, _) = self.newest()?;
        let verify = self.rsadm("etcd snapshot verify", &[&path.display().to_string()])?.ok()?;
        verify.says("the SHA-256 that etcd wrote at its end holds")?;
        verify.says("etcdutl restored it for a try on e1")?;
        let left = self.lab.on("e1", "ls -A /var/lib/rsadm | grep trial")?;
        ensure!(left.code != 0, "left on e1: {}", left.all());
        ensure!(self.newest()?.1["check"] == "restored", "{:#}", self.newest()?.1);
        Ok(())
    }

    fn damaged(&self) -> Check {
        let whole = fs::read(self.newest()?.0)?;
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        let cases = [
            ("cut", whole[..middle].to_vec(), "it was cut off"),
            ("flipped", flipped, "it was changed after it was taken"),
            ("raw", whole[..whole.len() - 32].to_vec(), "it has no checksum"),
            ("text", b"hello".to_vec(), "it has 5 bytes"),
        ];
        for (name, bytes, says) in cases {
            let path = self.lab.path(&format!("home/{name}.db"));
            fs::write(&path, bytes)?;
            self.rsadm("etcd snapshot verify", &[&path.display().to_string()])?.exits(5)?.says(says)?;
            let before = Processes::of(self.lab, &NODES)?;
            self.rsadm("--yes etcd restore", &[&path.display().to_string()])?.exits(5)?.says(says)?;
            let new = Processes::of(self.lab, &NODES)?.new_since(&before);
            ensure!(new.is_empty(), "started anew: {new:?}");
        }
        Ok(())
    }

    fn pruned(&self) -> Check {
        let folder = self.folder.display().to_string();
        self.rsadm("etcd snapshot save", &["--to", &folder])?.ok()?;
        let from = ["--from", folder.as_str(), "--keep", "1"];
        self.rsadm("etcd snapshot prune", &[&from[..], &["--dry-run"]].concat())?
            .ok()?
            .says("would remove")?;
        ensure!(self.json("etcd snapshot ls", &from[..2])?.as_array().map(Vec::len) == Some(2), "it removed");
        self.rsadm("etcd snapshot prune", &[&from[..], &["--yes"]].concat())?.ok()?;
        let files = fs::read_dir(&self.folder)?.count();
        ensure!(files == 2, "{files} files are left, not a snapshot and its manifest");
        Ok(())
    }

    fn on_host(&self) -> Check {
        let saved = self.json("etcd snapshot save", &["--on-host", "--member", "e2"])?;
        let path = saved["path"].as_str().ok_or("no path")?;
        let file = path.rsplit('/').next().unwrap_or_default();
        let list = self.rsadm("etcd snapshot ls", &["--from", "e2:"])?.ok()?;
        list.says(file)?;
        list.says("restored for a try")?;
        self.rsadm("etcd snapshot verify", &[&format!("e2:{file}")])?.ok()?.says("is good")?;
        self.lab
            .on(
                "e2",
                &format!(
                    "printf '\\377' | dd of=/var/lib/rsadm/backups/{file} bs=1 seek=100000 conv=notrunc status=none"
                ),
            )?
            .ok()?;
        self.rsadm("etcd snapshot verify", &[&format!("e2:{file}")])?
            .exits(5)?
            .says("it is another file than its manifest tells of")?;
        self.rsadm("etcd snapshot ls", &["--from", "e2:"])?.ok()?.says("DAMAGED")?;
        self.rsadm("etcd snapshot prune", &["--from", "e2:", "--keep", "0", "--yes"])?.ok()?;
        self.rsadm("etcd snapshot ls", &["--from", "e2:"])?.ok()?.says("no snapshots")?;
        Ok(())
    }

    /// A new key: the file that has it, and to whom bundles are to be encrypted.
    fn key(&self) -> Result<(String, String), Fault> {
        use age::secrecy::ExposeSecret;
        let key = age::x25519::Identity::generate();
        let file = self.lab.path("home/key.txt");
        fs::write(&file, format!("{}\n", key.to_string().expose_secret()))?;
        Ok((file.display().to_string(), key.to_public().to_string()))
    }

    fn bundle(&self) -> Check {
        let (key, to) = self.key()?;
        let folder = format!("{}/", self.lab.path("home/bundles").display());
        self.rsadm("etcd snapshot save", &["--to", &folder, "--with-pki"])?.exits(2)?.says("--recipient")?;
        let saved = self.json("etcd snapshot save", &["--to", &folder, "--with-pki", "--recipient", &to])?;
        ensure!(saved["carries"].to_string().contains("/etc/kubernetes/pki/etcd/ca.key"), "{saved:#}");
        let path = saved["path"].as_str().ok_or("no path")?;
        self.rsadm("etcd snapshot verify", &[path])?.ok()?.says("was not looked at")?;
        let opened = self.rsadm("etcd snapshot verify", &[path, "--identity", &key])?.ok()?;
        opened.says("it opens, and carries 3 files")?;
        opened.says("restored it for a try")
    }

    fn scheduled(&mut self) -> Check {
        let backup = "{interval: 1m, retention: 3, target: /var/lib/rsadm/backups}";
        self.inventory = self.inventory.with("etcd.backup", backup);
        self.rsadm("up", &[])?.ok()?;
        steady::settles(self.lab, &self.inventory)
    }

    /// Of which host the newest scheduled snapshot is, and when it was taken.
    fn newest_scheduled(&self) -> Result<(String, String), Fault> {
        let list = self.json("etcd snapshot ls", &[])?;
        let text = |key: &str| list[0][key].as_str().map(str::to_owned).ok_or("no snapshot yet");
        ensure!(list[0]["check"] == "restored", "it was not restored for a try: {list:#}");
        Ok((text("member")?, text("taken_at")?))
    }

    fn fired(&self) -> Check {
        for node in NODES {
            eventually(|| {
                let (host, _) = self.newest_scheduled()?;
                let journal =
                    self.lab.on(node, "journalctl -u rsadm-backup.service -o cat --no-pager")?.text()?;
                ensure!(journal.contains("Finished"), "{node} has done nothing: {journal}");
                // Another may have done it too, where the leader changed between two firings.
                let worked = journal.contains(": revision");
                let is_fine = worked || (node != host && journal.contains("takes the snapshot"));
                ensure!(is_fine, "{node}, with {host} at work: {journal}");
                Ok(())
            })?;
        }
        // Two seconds for a login are little on a machine that has much else to do; and another host may have
        // taken a newer one.
        eventually(|| {
            let (host, _) = self.newest_scheduled()?;
            let status = self.rsadm("etcd status", &[])?.ok()?;
            status.says("backup   newest verified")?;
            status.says(&format!("by {host} (every 60 s)"))
        })
    }

    fn stop_timers(&self) -> Check {
        let stop = "systemctl stop rsadm-backup.timer";
        NODES.iter().try_for_each(|node| self.lab.on(node, stop)?.ok().map(drop))
    }

    fn late(&self) -> Check {
        let (_, before) = eventually(|| self.newest_scheduled())?;
        let status = eventually(|| {
            let status = self.rsadm("etcd status", &[])?.exits(8)?;
            status.says("the newest verified snapshot is ")?;
            status.says(" old, and one is due every 60 s")?;
            Ok(status)
        })?;
        println!("{}", status.stdout);
        self.rsadm("up", &[])?.ok()?;
        eventually(|| {
            let (_, taken_at) = self.newest_scheduled()?;
            ensure!(taken_at > before, "none is newer than that of {before}");
            self.rsadm("etcd status", &[])?.ok()?.says_nothing_of("one is due every")
        })
    }

    /// Runs what the timer starts, on every host, whatever comes of it.
    fn fire(&self) -> Check {
        NODES.iter().try_for_each(|node| self.lab.on(node, "systemctl start rsadm-backup.service").map(drop))
    }

    /// Puts a full disk where a host keeps its snapshots.
    fn fill(&self, node: &str) -> Check {
        let mount = format!("mkdir -p -m 700 {FOLDER}; mount -t tmpfs -o size=64k full {FOLDER}");
        self.lab.on(node, &mount)?.ok().map(drop)
    }

    /// Takes it away again, as soon as no run of the timer is in it.
    fn empty(&self, node: &str) -> Check {
        let script = format!("timeout 60 bash -c 'until umount {FOLDER}; do sleep 0.2; done'");
        self.lab.on(node, &script)?.ok().map(drop)
    }

    fn failing(&self) -> Check {
        NODES.iter().try_for_each(|node| self.fill(node))?;
        let failed = eventually(|| {
            self.fire()?;
            let status = self.rsadm("etcd status", &[])?;
            status.says("the last scheduled snapshot failed")?;
            Ok(status)
        });
        NODES.iter().try_for_each(|node| self.empty(node))?;
        let failed = failed?;
        println!("{}", failed.stdout);
        failed.says(&format!("no room in {FOLDER}: "))?;
        eventually(|| {
            self.fire()?;
            self.rsadm("etcd status", &[])?.ok()?.says_nothing_of("the last scheduled snapshot failed")
        })
    }

    fn stepped_in(&self) -> Check {
        let (host, before) = eventually(|| self.newest_scheduled())?;
        self.fill(&host)?;
        let taken = eventually(|| {
            self.fire()?;
            let (other, taken_at) = self.newest_scheduled()?;
            ensure!(other != host && taken_at > before, "the newest is {other}'s, of {taken_at}");
            self.rsadm("etcd status", &[])?
                .says("a host fails to take scheduled snapshots, and another stepped in")?;
            Ok(other)
        });
        self.empty(&host)?;
        println!("    {host} failed, {} stepped in", taken?);
        Ok(())
    }

    fn taken_over(&self) -> Check {
        let (host, before) = eventually(|| self.newest_scheduled())?;
        self.lab.verb(&["poweroff", "--hard", &host])?.ok()?;
        let taken = eventually(|| {
            let (other, taken_at) = self.newest_scheduled()?;
            ensure!(other != host && taken_at > before, "the newest is {other}'s, of {taken_at}");
            Ok(other)
        });
        self.lab.verb(&["up", &host])?.ok()?;
        println!("    {host} went, {} took over", taken?);
        eventually(|| self.rsadm("etcd status", &[])?.ok().map(drop))
    }

    /// Of etcd's hosts alone, which have its authority and no inventory.
    fn sent_to_a_bucket(&mut self) -> Check {
        let (key, to) = self.key()?;
        let file = self.lab.path("home/s3.env");
        fs::write(&file, format!("AWS_ACCESS_KEY_ID=lab\nAWS_SECRET_ACCESS_KEY={SECRET}\n"))?;
        self.shell(&format!("chmod 644 {}", file.display()))?;
        let bucket = format!(
            "{{interval: 1m, retention: 2, target: '{BUCKET}', endpoint: 'http://10.77.0.1:5557', region: us-east-1, credentials: {}, recipient: {to}}}",
            file.display()
        );
        self.inventory = self.inventory.with("etcd.backup", &bucket);
        self.rsadm("up", &[])?.exits(3)?.says("others may read it")?;
        self.shell(&format!("chmod 600 {}", file.display()))?;
        self.rsadm("up", &[])?.ok()?.says_nothing_of(SECRET)?;
        steady::settles(self.lab, &self.inventory)?;
        let list = eventually(|| {
            self.fire()?;
            let list = self.json("etcd snapshot ls", &["--from", BUCKET])?;
            ensure!(list[0]["check"] == "restored", "{list:#}");
            Ok(list)
        })?;
        let url = format!("{BUCKET}/{}", list[0]["file"].as_str().unwrap_or_default());
        self.rsadm("etcd snapshot verify", &[&url])?.ok()?.says("was not looked at")?;
        let opened = self.rsadm("etcd snapshot verify", &[&url, "--identity", &key])?.ok()?;
        opened.says("it opens, and carries 2 files")?;
        opened.says("restored it for a try")?;
        for node in NODES {
            let mode = self.lab.on(node, "stat -c %a /etc/rsadm/backup.credentials")?.text()?;
            ensure!(mode == "600", "{node} has it with mode {mode}");
            let shown =
                self.lab.on(node, &format!("journalctl --no-pager -o cat | grep {SECRET} | wc -l"))?;
            ensure!(shown.text()? == "0", "{node} has it in its journal");
        }
        Ok(())
    }

    /// More than the inventory wants to keep.
    fn kept_in_a_bucket(&self) -> Check {
        let locked = self.lab.path("home/locked");
        fs::write(&locked, "")?;
        eventually(|| {
            self.fire()?;
            let list = self.json("etcd snapshot ls", &["--from", BUCKET])?;
            ensure!(list.as_array().is_some_and(|all| all.len() > 3), "{list:#}");
            let status = self.rsadm("etcd status", &[])?;
            status.says("a scheduled snapshot was taken, and older ones could not be removed")?;
            status.says("nothing may be removed")
        })?;
        fs::remove_file(&locked)?;
        eventually(|| {
            self.fire()?;
            let list = self.json("etcd snapshot ls", &["--from", BUCKET])?;
            ensure!(list.as_array().is_some_and(|all| all.len() == 2), "{list:#}");
            self.rsadm("etcd status", &[])?.ok()?.says_nothing_of("could not be removed")
        })
    }

    /// How often the members were asked for all that they have.
    fn reads(&self) -> Result<Vec<String>, Fault> {
        let started = r#"grpc_server_started_total{grpc_method="Snapshot""#;
        let ask = format!("curl -fsS http://127.0.0.1:2381/metrics | grep -F '{started}'");
        NODES.iter().map(|node| self.lab.on(node, &ask)?.text()).collect()
    }

    fn lost_a_bucket(&self, server: S3) -> Check {
        drop(server);
        // Who was at work when it went is waited for.
        self.fire()?;
        let before = self.reads()?;
        eventually(|| {
            self.fire()?;
            let status = self.rsadm("etcd status", &[])?;
            status.says("the last scheduled snapshot failed")?;
            status.says(&format!("could not list {BUCKET}"))
        })?;
        let after = self.reads()?;
        ensure!(before == after, "etcd was read: {before:?}, then {after:?}");
        let _server = S3::start(self.lab)?;
        eventually(|| {
            self.fire()?;
            self.rsadm("etcd status", &[])?.ok()?.says_nothing_of("the last scheduled snapshot failed")
        })?;
        ensure!(before != self.reads()?, "the count of what was read does not count: {before:?}");
        Ok(())
    }

    fn taken_out(&mut self) -> Check {
        self.inventory = self.inventory.with("etcd.backup", "null");
        self.rsadm("up", &[])?.ok()?;
        let left = self.lab.on("e1", "ls -d /etc/rsadm/* /etc/systemd/system/rsadm-* | grep backup")?;
        ensure!(left.code != 0, "left after the schedule was taken out: {}", left.all());
        steady::settles(self.lab, &self.inventory)
    }

    fn survivor(&self) -> Check {
        self.lab.verb(&["poweroff", "--hard", "e1", "e2"])?.ok()?;
        let folder = self.lab.path("home/last");
        let saved = eventually(|| {
            let saved =
                self.rsadm("etcd snapshot save", &["--to", &format!("{}/", folder.display())])?.ok()?;
            saved.says("etcd has no quorum: this will be what one survivor has")?;
            Ok(saved)
        })?;
        saved.says("from e3")?;
        let list = self.rsadm("etcd snapshot ls", &["--from", &folder.display().to_string()])?.ok()?;
        list.says("taken without a quorum")
    }
}

/// A server that speaks S3, where the hosts reach it. While there is a file `locked` in the operator's home, nothing may be
/// removed.
struct S3(Child);

impl S3 {
    fn start(lab: &Lab) -> Result<Self, Fault> {
        let (program, locked) =
            (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/bucket"), lab.path("home/locked"));
        let (key, locked) = (format!("lab:{SECRET}"), locked.display().to_string());
        let mut command =
            lab.workstation(&[program, "serve", "10.77.0.1", "5557", "lab-bucket", &key, &locked]);
        let server = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        eventually(|| {
            lab.on_workstation(&["curl", "-fsS", "http://10.77.0.1:5557/uploads"])?.ok().map(drop)
        })?;
        Ok(server)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
