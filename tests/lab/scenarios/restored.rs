//! Kubernetes on an etcd that is restored and recovered while clients watch, and at last built again on bare hosts from
//! nothing but an encrypted bundle and its key.
//!
//! Rows of the fault matrix: 40 (the quorum lost for good), 47 (a restore that fails on one host), 48 (fresh hosts without the old keys), 49 (what watched the
//! old data finds out).

use std::{cell::RefCell, fs, process::Stdio};

use age::secrecy::ExposeSecret;

use crate::harness::{
    Check, Checks, Cluster, CommandLines, Fault, Inventory, Lab, Outcome, Secrets, eventually, items, text,
};

use super::steady;

const NODES: [&str; 3] = ["m1:10.77.0.11", "e2:10.77.0.32", "e3:10.77.0.33"];
const HOSTS: [&str; 3] = ["m1", "e2", "e3"];

/// What an API server has told may be of data that is not there any more: these are started anew by a restore. A kubelet and a
/// kube-proxy would go on otherwise; the others end where they have lost their lease, too.
const WATCHERS: [&str; 4] = ["kubelet", "kube-proxy", "kube-controller-manager", "kube-scheduler"];

struct Restored<'a> {
    lab: &'a Lab,
    inventory: Inventory,
    /// All that rsadm said, for the search for key material.
    said: RefCell<String>,
    secrets: RefCell<Secrets>,
}

#[test]
fn restored() {
    let lab = Lab::up("restored", &NODES).unwrap();
    let mut checks = Checks::new("restored");
    let inventory = Inventory::load("tests/lab/inventories/lab-external-etcd.yaml")
        .with_hosts(&HOSTS)
        .with("hosts.m1.roles", "[control-plane, etcd]");
    let it = Restored { lab: &lab, inventory, said: RefCell::default(), secrets: RefCell::default() };
    let command_lines = CommandLines::watch();
    checks.must("a control plane over three members", || it.rsadm("up")?.says("1 node Ready"));
    checks.must("objects are written and a bundle with the keys is taken", || it.bundle());
    checks.check("row 49: restored under watchers: they are told, and controllers work on", || it.restore());
    checks
        .check("row 47: one that fails on one host keeps API servers down, until it is rolled back", || {
            it.rolled_back()
        });
    checks
        .check("row 47: once its cause is mended the same restore goes on where it stopped", || it.goes_on());
    checks.check("two of three lost: recovered from the survivor, and controllers work on", || it.recover());
    checks.must("reset leaves bare hosts", || {
        lab.verb(&["up", "e2", "e3"])?.ok()?;
        it.rsadm("reset --yes").map(drop)
    });
    checks.check("row 48: bare hosts and a snapshot without keys: refused, nothing begun", || it.no_keys());
    checks.check(
        "a restore that broke off on bare hosts is not built over, and a reset takes its keys away",
        || it.breaks_off(),
    );
    checks.check("the bundle alone makes the cluster anew on bare hosts", || it.afresh());
    let seen = command_lines.end();
    checks.check(
        "no key material is in command lines, logs, messages, the bundle or files for everyone",
        || it.no_secret_shows(&seen?),
    );
    checks.finish();
}

impl Restored<'_> {
    fn cluster(&self) -> Cluster<'_> {
        Cluster::new(self.lab, "m1")
    }

    fn run(&self, command: &str) -> Result<Outcome, Fault> {
        let done = self.lab.rsadm_on(command, &self.inventory)?;
        self.said.borrow_mut().push_str(&done.all());
        Ok(done)
    }

    fn rsadm(&self, command: &str) -> Result<Outcome, Fault> {
        let done = self.run(command)?.ok()?;
        println!("{}", done.all());
        Ok(done)
    }

    fn path(&self, name: &str) -> String {
        self.lab.path(name).display().to_string()
    }

    fn secret(&self, name: &str) -> Check {
        self.cluster().create(&format!("secret generic {name} --from-literal=of={name}"))
    }

    /// It is there, and can be decrypted.
    fn has_secret(&self, name: &str) -> Check {
        let value = eventually(|| {
            self.cluster().kubectl(&format!("get secret {name} -o jsonpath={{.data.of}}"))?.text()
        })?;
        let decoded = self.lab.on("m1", &format!("echo {value} | base64 -d"))?.text()?;
        ensure!(decoded == name, "secret {name} holds {decoded:?}");
        Ok(())
    }

    fn has_no_secret(&self, name: &str) -> Check {
        let answer = eventually(|| {
            let answer = self.cluster().kubectl(&format!("get secret {name}"))?;
            ensure!(answer.code == 0 || answer.stderr.contains("NotFound"), "{}", answer.all());
            Ok(answer)
        })?;
        ensure!(answer.code != 0, "it is there: {}", answer.all());
        Ok(())
    }

    /// Controller manager, scheduler and kubelet: a pod that is deleted comes back under another name and becomes Ready.
    fn controllers_work(&self) -> Check {
        let pods = || -> Result<Vec<String>, Fault> {
            let pods = self.cluster().json("-n kube-system get pods -l k8s-app=kube-dns")?;
            Ok(items(&pods["items"]).iter().map(|pod| text(&pod["metadata"]["name"])).collect())
        };
        let before = eventually(pods)?;
        let delete = "-n kube-system delete pod -l k8s-app=kube-dns --wait=false";
        eventually(|| self.cluster().kubectl(delete)?.ok())?;
        eventually(|| {
            let now = pods()?;
            ensure!(!now.iter().any(|pod| before.contains(pod)), "{now:?}, before {before:?}");
            self.cluster()
                .kubectl("-n kube-system rollout status deployment/coredns --timeout=1s")?
                .ok()
                .map(drop)
        })
    }

    fn revision(&self) -> Result<u64, Fault> {
        let answer = self.cluster().etcdctl("m1", "get x -w json")?.ok()?.stdout;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        Ok(answer["header"]["revision"].as_u64().ok_or("no revision")?)
    }

    fn bundle(&self) -> Check {
        self.secret("before")?;
        let key = age::x25519::Identity::generate();
        let text = format!("{}\n", key.to_string().expose_secret());
        self.secrets.borrow_mut().add_from(&text)?;
        self.secrets.borrow_mut().add(self.lab, &HOSTS)?;
        fs::write(self.lab.path("key.txt"), text)?;
        let save = format!(
            "-o json etcd snapshot save --to {} --with-pki --recipient {}",
            self.path("bundle.tar.age"),
            key.to_public()
        );
        self.rsadm(&save)?;
        self.rsadm(&format!("etcd snapshot save --to {}", self.path("plain.db")))?;
        self.secret("after")
    }

    /// Whoever watches through an API server is cut off and lists anew, and who would go on from an old revision is told
    /// that it is gone, instead of seeing time run backwards.
    fn restore(&self) -> Check {
        let told = self.path("watch");
        let kubectl = "kubectl --kubeconfig /etc/kubernetes/admin.conf get secrets -o name --watch";
        let mut watcher = self.lab.command();
        watcher.args(["root", "m1", "bash", "-c", &format!("while :; do {kubectl}; sleep 0.2; done")]);
        let mut watcher = watcher.stdout(fs::File::create(&told)?).stderr(Stdio::null()).spawn()?;
        let processes = eventually(|| self.watchers())?;
        let done = self.restored_under_watch(&told);
        watcher.kill()?;
        watcher.wait()?;
        done?;
        self.watch_anew(&processes)?;
        self.controllers_work()?;
        steady::settles_by(|| self.run("plan"))
    }

    fn restored_under_watch(&self, told: &str) -> Check {
        let sees = |name: &str| {
            eventually(|| {
                let seen = fs::read_to_string(told)?;
                ensure!(seen.lines().any(|line| line == format!("secret/{name}")), "the watcher saw {seen}");
                Ok(())
            })
        };
        sees("after")?;
        let old = self.revision()?;
        let command = format!(
            "--yes -o json etcd restore {{}} {} --identity {}",
            self.path("bundle.tar.age"),
            self.path("key.txt")
        );
        self.rsadm(&command)?.says("etcd restored on 3 hosts")?;
        let new = self.revision()?;
        ensure!(new > old + 1_000_000_000, "revision {new} after {old}");
        let resumed = format!("watch --rev={old} --prefix /registry/secrets");
        self.cluster().etcdctl("m1", &resumed)?.says("required revision has been compacted")?;
        self.has_secret("before")?;
        self.has_no_secret("after")?;
        self.secret("new")?;
        sees("new")
    }

    /// The processes of m1 that go by what an API server has told them.
    fn watchers(&self) -> Result<Vec<String>, Fault> {
        WATCHERS.iter().map(|name| self.lab.on("m1", &format!("pidof {name}"))?.text()).collect()
    }

    /// None of those goes on by what it was told of the old data: each is another process by now.
    fn watch_anew(&self, before: &[String]) -> Check {
        eventually(|| {
            let now = self.watchers()?;
            let same = WATCHERS.iter().zip(before).zip(&now).filter(|((_, before), now)| before == now);
            let same: Vec<&str> = same.map(|((name, _), _)| *name).collect();
            ensure!(same.is_empty(), "these are the processes of before: {same:?}");
            Ok(())
        })
    }

    /// Breaks off on e2, where what is mounted cannot be moved: the others have their new data by then.
    fn fails_on_e2(&self) -> Check {
        self.lab.on("e2", "mount --bind /var/lib/etcd/member /var/lib/etcd/member")?.ok()?;
        let failed = self.run(&self.of_the_bundle())?.exits(6)?;
        println!("{}", failed.all());
        failed.says("failed on e2: ")?;
        let server = self.lab.on("m1", "pidof kube-apiserver")?;
        ensure!(server.code != 0, "an API server runs while members disagree: {}", server.all());
        self.lab.on("e2", "umount /var/lib/etcd/member")?.ok().map(drop)
    }

    /// The data that the others had by then stays in its place.
    fn goes_on(&self) -> Check {
        self.secret("lost")?;
        self.fails_on_e2()?;
        let placed = || -> Result<Vec<String>, Fault> {
            let folder = "stat -c '%i of %W' /var/lib/etcd/member";
            ["m1", "e3"].iter().map(|host| self.lab.on(host, folder)?.text()).collect()
        };
        let before = placed()?;
        self.rsadm(&self.of_the_bundle())?.says("etcd restored on 3 hosts")?;
        let after = placed()?;
        ensure!(before == after, "placed anew: {before:?}, then {after:?}");
        self.has_secret("before")?;
        self.has_no_secret("lost")?;
        self.secret("new")?;
        steady::settles_by(|| self.run("plan"))
    }

    fn rolled_back(&self) -> Check {
        self.secret("later")?;
        self.fails_on_e2()?;
        self.rsadm("etcd restore --rollback")?.says("rolled back")?;
        self.has_secret("later")?;
        self.controllers_work()?;
        steady::settles_by(|| self.run("plan"))
    }

    /// The survivor starts anew while there is no quorum: its etcd serves nothing, and its kubelet, which has not seen an API
    /// server since, ends no static pod whose manifest is gone.
    fn recover(&self) -> Check {
        self.lab.verb(&["poweroff", "--hard", "e2", "e3"])?.ok()?;
        eventually(|| self.run("etcd status")?.exits(9))?;
        self.lab.verb(&["reboot", "--hard", "m1"])?.ok()?;
        eventually(|| self.lab.on("m1", "pidof etcd kubelet")?.ok().map(drop))?;
        self.rsadm("--yes etcd recover")?.says("etcd restored on 1 host")?;
        self.has_secret("new")?;
        self.secret("newest")?;
        fs::write(self.lab.path("revision"), self.revision()?.to_string())?;
        self.controllers_work()
    }

    fn no_keys(&self) -> Check {
        let refused = self.run(&format!("--yes etcd restore {{}} {}", self.path("plain.db")))?.exits(5)?;
        println!("{}", refused.all());
        refused.says("it does not carry all keys that its data needs, and no host has them")?;
        refused.says("/etc/kubernetes/pki/sa.key, /etc/kubernetes/apiserver/encryption.yaml")
    }

    fn of_the_bundle(&self) -> String {
        format!("--yes etcd restore {{}} {} --identity {}", self.path("bundle.tar.age"), self.path("key.txt"))
    }

    /// Between the bundle's keys and its data, where `up` would found a cluster without any.
    fn breaks_off(&self) -> Check {
        let mut restore = self.lab.start_rsadm_on(&self.of_the_bundle(), &self.inventory)?;
        restore.until_it_says("certificates issued")?;
        restore.signal("KILL")?;
        self.said.borrow_mut().push_str(&restore.end()?.all());
        let up = eventually(|| {
            let up = self.run("up")?.exits(5)?;
            up.says("a restore")?;
            Ok(up)
        })?;
        println!("{}", up.all());
        let back = self.run("etcd restore --rollback")?.exits(5)?;
        println!("{}", back.all());
        back.says("there is nothing to put back: these hosts were bare")?;
        self.rsadm("reset --yes")?;
        HOSTS.iter().try_for_each(|host| {
            let left = self.lab.on(host, "find /etc/kubernetes /var/lib/rsadm -type f 2> /dev/null; true")?;
            let left = left.text()?;
            ensure!(left.is_empty(), "left on {host}: {left}");
            Ok(())
        })
    }

    fn afresh(&self) -> Check {
        self.rsadm(&self.of_the_bundle())?.says("etcd restored on 3 hosts")?;
        self.rsadm("up")?.says("1 node Ready")?;
        // Of the same snapshot, when no host knows of the first time any more.
        let (old, new) = (fs::read_to_string(self.lab.path("revision"))?.parse::<u64>()?, self.revision()?);
        ensure!(new > old, "revision {new} after {old}");
        self.has_secret("before")?;
        self.has_no_secret("after")?;
        self.controllers_work()?;
        steady::settles_by(|| self.run("plan"))
    }

    fn no_secret_shows(&self, command_lines: &str) -> Check {
        let mut secrets = self.secrets.take();
        secrets.add(self.lab, &HOSTS)?;
        secrets.are_not_in("command lines", command_lines)?;
        secrets.are_not_in("what rsadm says", &self.said.borrow())?;
        secrets.are_not_in("what rsadm keeps of its failures", &self.lab.evidence()?)?;
        secrets
            .are_not_in("the bundle", &String::from_utf8_lossy(&fs::read(self.path("bundle.tar.age"))?))?;
        HOSTS.iter().try_for_each(|host| secrets.are_not_shown_on(self.lab, host))
    }
}
