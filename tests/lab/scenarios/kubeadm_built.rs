//! A cluster that the real kubeadm built, with an inventory that only names its hosts: every command that keeps etcd
//! alive, while a client writes the whole time.
//!
//! Rows of the fault matrix: 39 (the first host is not special), 40 and 49 (quorum lost, restored), 43 (NOSPACE), on an adopted
//! cluster. It begins with etcd 3.6, whose image is built by `lab build --etcd v3.6.14`.

use std::fs;

use age::secrecy::ExposeSecret;

use crate::harness::{
    Check, Checks, Cluster, Fault, Inventory, Lab, Outcome, Processes, Writer, eventually, items, text,
};

const NODES: [&str; 3] = ["m1:10.77.0.11", "m2:10.77.0.12", "m3:10.77.0.13"];
const HOSTS: [&str; 3] = ["m1", "m2", "m3"];
const OLD: &str = "v3.6.14";
const MANIFEST: &str = "/etc/kubernetes/manifests/etcd.yaml";

/// A host that has nothing of Kubernetes: what its kubelet takes on nodes of the lab, as `inventories/lab.yaml` has it.
const E4: &str = "{name: e4, address: 10.77.0.34, roles: [etcd]}";
const KUBELET: &str = "{failCgroupV1: false, cgroupDriver: cgroupfs, imageGCHighThresholdPercent: 100, \
    evictionHard: {memory.available: 100Mi, nodefs.available: 1Gi, imagefs.available: 1Gi}}";

struct KubeadmBuilt<'a> {
    lab: &'a Lab,
    inventory: Inventory,
    /// With another host for etcd.
    spare: Inventory,
}

#[test]
fn kubeadm_built() {
    let lab = Lab::up("kubeadm-built", &NODES).unwrap();
    let mut checks = Checks::new("kubeadm-built");
    let inventory = Inventory::load("tests/lab/inventories/lab-kubeadm.yaml");
    // Whoever watches goes by the other file.
    let spare = inventory.with_host(E4).with("kubelet.config", KUBELET).named("with-e4");
    let it = KubeadmBuilt { lab: &lab, inventory, spare };
    checks.must("the real kubeadm builds three control planes, with an older etcd", || {
        lab.verb(&["build", "--etcd", OLD])?.ok()?;
        let tag = format!("{}-0", OLD.trim_start_matches('v'));
        lab.script("kubeadm-cluster", &[&["--etcd", &tag], NODES.as_slice()].concat())?.ok().map(drop)
    });
    checks.must("etcd status finds three members well, without having built them", || {
        eventually(|| it.is_healthy())
    });
    checks.must("its objects are written and a snapshot is taken", || it.snapshot());
    it.looked_after(&mut checks);
    checks.check("a restore that was killed is rolled back", || {
        it.configmap("after")?;
        it.roll_back()
    });
    checks.check("a restore brings the snapshot's objects back, and no later ones", || it.restore());
    let recovered = checks
        .check("two of three lost: recovery from the survivor, and its API server serves", || it.recover());
    if recovered {
        checks.check("the two that missed it are told, and replaced as status says", || it.old_ones_return());
    }
    checks.finish();
}

impl KubeadmBuilt<'_> {
    fn cluster(&self) -> Cluster<'_> {
        Cluster::new(self.lab, "m1")
    }

    fn rsadm(&self, command: &str) -> Result<Outcome, Fault> {
        let done = self.lab.rsadm_on(command, &self.inventory)?;
        println!("{}", done.all());
        Ok(done)
    }

    fn with_e4(&self, command: &str) -> Result<Outcome, Fault> {
        let done = self.lab.rsadm_on(command, &self.spare)?;
        println!("{}", done.all());
        Ok(done)
    }

    fn is_healthy(&self) -> Check {
        self.lab.rsadm_on("etcd status", &self.inventory)?.ok()?.says("3 of 3 voters healthy")
    }

    /// What does not take etcd away, and then what does, all under one writer.
    fn looked_after(&self, checks: &mut Checks) {
        let mut writer = None;
        checks.must("a client begins to write", || {
            writer = Some(Writer::start(self.lab, &self.cluster(), &HOSTS)?);
            Ok(())
        });
        checks.check("etcd 3.6 becomes 3.7, and of kubeadm's manifests nothing else", || self.upgrade());
        checks.check("members, leadership, alarms, history, space and a measurement", || it_is_kept(self));
        checks.check("row 43: NOSPACE is told, and taken back, alone or by a defragmentation", || {
            self.is_full()
        });
        checks.check("snapshots in a folder, with the keys, and on a host", || self.keeps_snapshots());
        checks.check("a schedule beside it fires, and goes again", || self.schedule());
        let watch = self.lab.start_rsadm_on("etcd status --watch=500ms", &self.inventory);
        checks.check("a member leaves, its API server dials the others, and it joins again", || {
            self.rsadm("etcd remove {} m3")?.ok()?.says("etcd has 2 voting members")?;
            self.dials("m3", "https://10.77.0.11:2379,https://10.77.0.12:2379")?;
            self.rsadm("etcd add {} m3")?.ok()?.says("etcd has 3 voting members, can lose 1")
        });
        checks.check("a host that is new to etcd takes the place of one that is off", || self.replace_off());
        checks.check("which takes it back, and no other API server has started anew", || self.take_back());
        checks.check("row 39: the first host lost its data, and its member is replaced there", || {
            self.replace_lost()
        });
        checks.check("who watched was told of what came and went", || {
            let told = [
                "healthy: 3 of 3 voters healthy, can lose 1",
                "m3 is well again",
                "e4 is a member now",
                "e4 is no member any more",
                "m1 is well again",
            ];
            watch?.interrupted_after(&told)?.ends_with_a_look().map(drop)
        });
        checks.check("every acknowledged write is on every member", || {
            let written = writer.take().ok_or("no writer")?.end()?;
            eventually(|| self.is_healthy())?;
            HOSTS.iter().try_for_each(|host| written.is_all_on(&self.cluster(), host))?;
            written.forget(&self.cluster(), "m2")
        });
    }

    /// Image and the dropped flag; all else of each manifest is as kubeadm wrote it.
    fn upgrade(&self) -> Check {
        let manifest =
            |host: &str| Ok::<_, Fault>(self.lab.on(host, &format!("cat {MANIFEST}"))?.ok()?.stdout);
        let had = HOSTS.map(manifest);
        self.rsadm("etcd upgrade --plan")?.exits(7)?.says("image registry.k8s.io/etcd:3.7.0-0")?;
        let upgraded = self.rsadm("etcd upgrade")?.ok()?;
        upgraded.says("etcd v3.7.0 on 3 members")?;
        upgraded.says("etcd.local.imageTag: 3.7.0-0, and of etcd.local.extraArgs those that")?;
        let status = eventually(|| Ok(self.rsadm("etcd status -o json")?.ok()?.stdout))?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        let versions: Vec<String> = items(&status["members"]).iter().map(|m| text(&m["version"])).collect();
        ensure!(versions == ["3.7.0"; 3], "members run {versions:?}");
        for (host, had) in HOSTS.iter().zip(had) {
            let wanted: String = had?
                .replace("etcd:3.6.14-0", "etcd:3.7.0-0")
                .replace("    - --experimental-compact-hash-check-enabled=true\n", "")
                .replace("InitialCorruptCheck=true", "InitialCorruptCheck=true,CompactHashCheck=true");
            let has = manifest(host)?;
            ensure!(has == wanted, "{host} has another manifest than it should:\n{has}\n{wanted}");
        }
        self.rsadm("etcd upgrade")?.ok()?.says("nothing to upgrade")
    }

    /// Files that are there because of rsadm, and since when everything else of the host runs.
    fn scheduled_files(&self, host: &str) -> Result<String, Fault> {
        let files = "ls -d /etc/rsadm/* /etc/systemd/system/rsadm-* /usr/local/libexec/rsadm-agent";
        Ok(self.lab.on(host, &format!("{files} 2>/dev/null; true"))?.stdout)
    }

    /// Also what the run may not change: whose the host is, and what runs there.
    fn kubeadms(&self) -> Result<Vec<String>, Fault> {
        let script = "find /etc/kubernetes /etc/containerd /var/lib/kubelet/config.yaml -type f -printf '%p %T@\n' | sort; \
            systemctl show -p ExecMainPID kubelet containerd; ls /var/lib/rsadm/before 2>&1; true";
        HOSTS.iter().map(|host| self.lab.on(host, script)?.text()).collect()
    }

    fn schedule(&self) -> Check {
        let backup = "{interval: 1m, retention: 3, target: /var/lib/rsadm/backups}";
        let scheduled = self.inventory.with("etcd.backup", backup);
        let before = self.kubeadms()?;
        self.lab.rsadm_on("up", &scheduled)?.exits(5)?.says("--only backups, which takes nothing over")?;
        let up = "up --only backups";
        println!("{}", self.lab.rsadm_on(up, &scheduled)?.ok()?.all());
        self.lab.rsadm_on(up, &scheduled)?.ok()?.says("nothing to change")?;
        eventually(|| {
            let status = self.lab.rsadm_on("etcd status", &scheduled)?.ok()?;
            status.says("backup   newest verified")?;
            status.says("(every 60 s)")
        })?;
        // Another may have taken one too, where the leader changed between two firings; and they do not fire as one.
        let journal = "journalctl -u rsadm-backup.service -o cat --no-pager";
        eventually(|| {
            let told: Result<Vec<String>, Fault> =
                HOSTS.iter().map(|h| self.lab.on(h, journal)?.text()).collect();
            let told = told?;
            ensure!(told.iter().any(|words| words.contains(": revision")), "nobody took one: {told:?}");
            ensure!(told.iter().any(|words| words.contains("takes the snapshot")), "each took one: {told:?}");
            Ok(())
        })?;
        ensure!(
            self.kubeadms()? == before,
            "changed beside the schedule: {before:#?}\n{:#?}",
            self.kubeadms()?
        );
        let reset = self.rsadm("--yes reset")?.ok()?;
        reset.says("--only backups, with no etcd.backup in the inventory")?;
        reset.says("but for the schedule of snapshots on 3 hosts")?;
        self.rsadm(up)?.ok()?;
        for host in HOSTS {
            let left = self.scheduled_files(host)?;
            ensure!(left.is_empty(), "{host} still has {left}");
        }
        self.rsadm(up)?.ok()?.says("nothing to change")
    }

    /// Its certificates, its programs and its static pod come with it; what kubeadm built stays as it is.
    fn replace_off(&self) -> Check {
        self.lab.verb(&["poweroff", "--hard", "m3"])?.ok()?;
        self.lab.verb(&["add", "e4:10.77.0.34"])?.ok()?;
        self.lab.on("e4", include_str!("../own-containerd"))?.ok()?;
        eventually(|| {
            let status = self.lab.rsadm_on("etcd status", &self.inventory)?.exits(8)?;
            status.says("2 of 3 voters healthy; needs 2; can lose 0 more")
        })?;
        self.with_e4("etcd replace {} m3 e4")?.ok()?.says("etcd has 3 voting members, can lose 1")?;
        self.lab.on("e4", &format!("ls /etc/kubernetes/pki/etcd/server.crt {MANIFEST}"))?.ok()?;
        self.is_tuned("e4")?;
        ["m1", "m2"].iter().try_for_each(|host| self.dials(host, "https://127.0.0.1:2379"))
    }

    /// What m3 still has of its old life does not come back to life. That its data is of this etcd its log alone tells.
    fn take_back(&self) -> Check {
        let before = Processes::of(self.lab, &["m1", "m2"])?;
        self.lab.verb(&["up", "m3"])?.ok()?;
        self.lab.on("m3", "rm /var/lib/rsadm/cluster.json")?.ok()?;
        // Its etcd, which has just started, may not say yet that it has no leader.
        eventually(|| self.with_e4("etcd replace {} e4 m3")?.ok())?
            .says("etcd has 3 voting members, can lose 1")?;
        self.lab.on("e4", "! pidof etcd")?.ok()?;
        self.is_tuned("m3")?;
        self.lab.on("m3", "! grep RSADM_REVISION /var/lib/rsadm/aside/etcd.yaml")?.ok()?;
        self.dials("m3", "https://127.0.0.1:2379,https://10.77.0.11:2379,https://10.77.0.12:2379")?;
        ["m1", "m2"].iter().try_for_each(|host| self.dials(host, "https://127.0.0.1:2379"))?;
        let new = Processes::of(self.lab, &["m1", "m2"])?.new_since(&before);
        ensure!(new.is_empty(), "started anew: {new:?}");
        Ok(())
    }

    /// By a leader that remembers what m1 once had: a new one would send all of it, since what kubeadm wrote lets m1 found its
    /// cluster anew, with the same IDs.
    fn replace_lost(&self) -> Check {
        eventually(|| {
            self.rsadm("etcd move-leader {} m2")?.ok()?;
            self.lab.on("m1", "rm -rf /var/lib/etcd/member; pkill -KILL -x etcd; true")?.ok()?;
            let told = eventually(|| {
                let told = self.lab.rsadm_on("etcd status", &self.inventory)?;
                let is_told = told.code == 8 && told.says("rsadm etcd replace").is_ok();
                ensure!(is_told || told.code == 0, "{}", told.all());
                Ok(told)
            })?;
            // Where it is well, another leads after all: once more then.
            told.exits(8)
        })?;
        self.rsadm("etcd replace {} m1")?.ok()?.says("etcd has 3 voting members, can lose 1")?;
        self.is_tuned("m1")
    }

    /// As kubeadm was told to, and the inventory was not.
    fn is_tuned(&self, host: &str) -> Check {
        let flags = self.lab.on(host, "tr '\\0' '\\n' < /proc/$(pidof etcd)/cmdline")?.ok()?;
        ["--heartbeat-interval=200", "--election-timeout=2000"].iter().try_for_each(|flag| flags.says(flag))
    }

    /// Of a quota that nobody wants to fill here: the alarm itself is etcd's own, and so is what it keeps from writing.
    fn is_full(&self) -> Check {
        let raise = || -> Check {
            self.cluster().raise("NOSPACE", "m2")?;
            let refused = self.cluster().etcdctl("m1", "put rsadm-lab-full 1")?;
            ensure!(refused.code != 0, "a full etcd took a write");
            eventually(|| self.rsadm("etcd alarm list")?.exits(8)?.says("NOSPACE"))
        };
        raise()?;
        eventually(|| self.rsadm("etcd status")?.exits(8)?.says("etcd takes no writes"))?;
        self.rsadm("etcd alarm disarm")?.ok()?.says("1 alarm taken back")?;
        raise()?;
        self.rsadm("etcd defrag")?.ok()?.says("etcd takes writes again")?;
        self.rsadm("etcd alarm list")?.ok()?.says("no alarm is on")
    }

    fn dials(&self, host: &str, servers: &str) -> Check {
        let manifest =
            self.lab.on(host, "grep etcd-servers /etc/kubernetes/manifests/kube-apiserver.yaml")?.text()?;
        ensure!(manifest.trim() == format!("- --etcd-servers={servers}"), "{host} has {manifest}");
        Ok(())
    }

    fn file(&self) -> String {
        self.lab.path("adopted.db").display().to_string()
    }

    fn snapshot(&self) -> Check {
        self.configmap("before")?;
        self.rsadm(&format!("etcd snapshot save --to {}", self.file()))?.ok()?;
        self.rsadm(&format!("etcd snapshot verify {{}} {}", self.file()))?.ok()?.says("restored it for a try")
    }

    fn keeps_snapshots(&self) -> Check {
        let folder = self.lab.path("kept").display().to_string();
        let save = format!("etcd snapshot save --to {folder}/");
        self.rsadm(&save)?.ok()?;
        let key = age::x25519::Identity::generate();
        let identity = self.lab.path("key.txt");
        fs::write(&identity, format!("{}\n", key.to_string().expose_secret()))?;
        let save = format!("{save} --with-pki --recipient {}", key.to_public());
        self.rsadm(&save)?.ok()?.says("encrypted; carries")?;
        let mut files = fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path()));
        let bundle =
            files.find(|path| path.extension().is_some_and(|end| end == "age")).ok_or("no bundle")?;
        let identity = format!("--identity {}", identity.display());
        let verify = format!("etcd snapshot verify {{}} {} {identity}", bundle.display());
        let verified = self.rsadm(&verify)?.ok()?;
        verified.says("it opens, and carries")?;
        verified.says("restored it for a try")?;
        let list = self.rsadm(&format!("etcd snapshot ls {{}} --from {folder}"))?.ok()?;
        ensure!(list.stdout.matches("adopted-").count() == 2, "listed: {}", list.stdout);
        let prune = format!("etcd snapshot prune {{}} --from {folder} --keep 1 --yes");
        self.rsadm(&prune)?.ok()?.says("1 snapshot removed, 1 kept")?;
        self.rsadm("etcd snapshot save --on-host --member m2")?.ok()?;
        self.rsadm("etcd snapshot ls {} --from m2:")?.ok()?.says("restored for a try")?;
        let prune = "etcd snapshot prune {} --from hosts: --keep 0 --yes";
        // The older one is of before the upgrade.
        self.rsadm(prune)?.ok()?.says("1 snapshot removed, 1 kept")
    }

    fn configmap(&self, name: &str) -> Check {
        self.cluster().create(&format!("configmap {name} --from-literal=a=1"))
    }

    /// The names of ConfigMaps as each control plane's own API server has them.
    fn configmaps(&self, host: &str) -> Result<String, Fault> {
        eventually(|| Cluster::new(self.lab, host).kubectl("get configmaps -o name")?.text())
    }

    /// What was there serves on, as if no restore had begun.
    fn roll_back(&self) -> Check {
        let restore = format!("--yes etcd restore {{}} {}", self.file());
        let mut restore = self.lab.start_rsadm_on(&restore, &self.inventory)?;
        restore.until_it_says("etcd stopped on 3 hosts")?;
        restore.signal("KILL")?;
        println!("{}", restore.end()?.stderr);
        // Nobody writes while members may disagree.
        HOSTS.iter().try_for_each(|host| self.lab.on(host, "! pidof kube-apiserver")?.ok().map(drop))?;
        self.rsadm("etcd restore --rollback")?.ok()?.says("rolled back")?;
        eventually(|| self.is_healthy())?;
        for host in HOSTS {
            let names = self.configmaps(host)?;
            ensure!(names.contains("configmap/after"), "{host} has {names}");
        }
        Ok(())
    }

    fn restore(&self) -> Check {
        let restored = self.rsadm(&format!("--yes etcd restore {{}} {}", self.file()))?.ok()?;
        restored.says("etcd restored on 3 hosts")?;
        eventually(|| self.is_healthy())?;
        for host in HOSTS {
            let names = self.configmaps(host)?;
            ensure!(names.contains("configmap/before"), "{host} has {names}");
            ensure!(!names.contains("configmap/after"), "{host} has a later one: {names}");
        }
        // Which has recorded whose the data is.
        self.rsadm("etcd upgrade")?.ok()?.says("nothing to upgrade")?;
        self.configmap("new")
    }

    fn recover(&self) -> Check {
        self.lab.verb(&["poweroff", "--hard", "m2", "m3"])?.ok()?;
        eventually(|| self.lab.rsadm_on("etcd status", &self.inventory)?.exits(9))?;
        eventually(|| self.rsadm("etcd recover --diagnose")?.exits(9)?.says("m1 is furthest"))?;
        self.rsadm("--yes etcd recover")?.ok()?.says("etcd restored on 1 host")?;
        let names = self.configmaps("m1")?;
        ensure!(names.contains("configmap/new"), "m1 has {names}");
        self.configmap("newest")
    }

    /// They serve the old data with one another by then. What the recovered one took is on all of them afterwards.
    fn old_ones_return(&self) -> Check {
        self.lab.verb(&["up", "m2", "m3"])?.ok()?;
        let told = eventually(|| {
            let told = self.lab.rsadm_on("etcd status", &self.inventory)?.exits(8)?;
            for old in ["m2", "m3"] {
                told.says(&format!("{old} missed a restore or a recovery"))?;
                told.says(&format!(".yaml {old}"))?;
            }
            told.says("rsadm etcd replace ")?;
            Ok(told)
        })?;
        println!("{}", told.stdout);
        for old in ["m2", "m3"] {
            // The two have a quorum of their own, which is asked about.
            self.rsadm(&format!("--yes etcd replace {{}} {old}"))?.ok()?;
        }
        eventually(|| self.is_healthy())?;
        // An API server that has watched the old data finds out a moment later.
        HOSTS.iter().try_for_each(|host| {
            eventually(|| {
                let names = self.configmaps(host)?;
                ensure!(names.contains("configmap/newest"), "{host} has {names}");
                Ok(())
            })
        })
    }
}

/// Everything that leaves the membership as it is.
fn it_is_kept(it: &KubeadmBuilt<'_>) -> Check {
    it.rsadm("etcd members")?.ok()?.says("https://10.77.0.13:2380")?;
    eventually(|| it.rsadm("etcd move-leader {} m2")?.ok()?.says("m2 leads"))?;
    it.rsadm("etcd alarm disarm")?.ok()?.says("no alarm is on")?;
    it.rsadm("etcd compact --keep 10")?.ok()?.says("10 kept")?;
    it.rsadm("etcd defrag --min-gain 0")?.ok()?.says("3 members defragmented")?;
    let bench = it.rsadm("etcd bench --duration 2s")?.ok()?;
    bench.says("99%")?;
    bench.says_nothing_of("rsadm up")
}
