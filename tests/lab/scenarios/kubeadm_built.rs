//! A cluster that the real kubeadm built, with an inventory that only names its hosts: every command that keeps etcd
//! alive, while a client writes the whole time.
//!
//! Rows of the fault matrix: 39 (the first host is not special), 40 and 49 (quorum lost, restored), on an adopted cluster.

use crate::harness::{Check, Checks, Cluster, Fault, Inventory, Lab, Outcome, Writer, eventually};

const NODES: [&str; 3] = ["m1:10.77.0.11", "m2:10.77.0.12", "m3:10.77.0.13"];
const HOSTS: [&str; 3] = ["m1", "m2", "m3"];

struct KubeadmBuilt<'a> {
    lab: &'a Lab,
    inventory: Inventory,
}

#[test]
fn kubeadm_built() {
    let lab = Lab::up("kubeadm-built", &NODES).unwrap();
    let mut checks = Checks::new("kubeadm-built");
    let inventory = Inventory::load("tests/lab/inventories/lab-kubeadm.yaml");
    let it = KubeadmBuilt { lab: &lab, inventory };
    checks.must("the real kubeadm builds three control planes", || {
        lab.script("kubeadm-cluster", &NODES)?.ok().map(drop)
    });
    checks.must("etcd status finds three members well, without having built them", || {
        eventually(|| it.is_healthy())
    });
    checks.must("its objects are written and a snapshot is taken", || it.snapshot());
    it.looked_after(&mut checks);
    checks.check("a restore brings the snapshot's objects back, and no later ones", || it.restore());
    checks.check("two of three lost: recovery from the survivor, and its API server serves", || it.recover());
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
        checks.check("members, leadership, alarms, history, space and a measurement", || it_is_kept(self));
        checks.check("snapshots in a folder, with the keys, and on a host", || self.keeps_snapshots());
        checks.check("a member leaves, and its API server dials the others", || {
            self.rsadm("etcd remove {} m3")?.ok()?.says("etcd has 2 voting members")?;
            self.dials("m3", "https://10.77.0.11:2379,https://10.77.0.12:2379")
        });
        checks.check("row 39: it joins again in the place of the first host's", || {
            self.rsadm("etcd replace {} m1 m3")?.ok()?.says("etcd has 2 voting members")?;
            self.dials("m1", "https://10.77.0.12:2379,https://10.77.0.13:2379")
        });
        checks.check("which joins again too", || {
            self.rsadm("etcd add {} m1")?.ok()?.says("etcd has 3 voting members, can lose 1")
        });
        checks.check("every acknowledged write is on every member", || {
            let written = writer.take().ok_or("no writer")?.end()?;
            eventually(|| self.is_healthy())?;
            HOSTS.iter().try_for_each(|host| written.is_all_on(&self.cluster(), host))?;
            written.forget(&self.cluster(), "m2")
        });
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
        let key = age::x25519::Identity::generate().to_public();
        self.rsadm(&format!("{save} --with-pki --recipient {key}"))?.ok()?.says("encrypted; carries")?;
        let list = self.rsadm(&format!("etcd snapshot ls {{}} --from {folder}"))?.ok()?;
        ensure!(list.stdout.matches("adopted-").count() == 2, "listed: {}", list.stdout);
        let prune = format!("etcd snapshot prune {{}} --from {folder} --keep 1 --yes");
        self.rsadm(&prune)?.ok()?.says("1 snapshot removed, 1 kept")?;
        self.rsadm("etcd snapshot save --on-host --member m2")?.ok()?;
        self.rsadm("etcd snapshot ls {} --from m2:")?.ok()?.says("restored for a try")?;
        let prune = "etcd snapshot prune {} --from hosts: --keep 0 --yes";
        self.rsadm(prune)?.ok()?.says("0 snapshots removed, 1 kept")
    }

    fn configmap(&self, name: &str) -> Check {
        self.cluster().create(&format!("configmap {name} --from-literal=a=1"))
    }

    /// The names of ConfigMaps as each control plane's own API server has them.
    fn configmaps(&self, host: &str) -> Result<String, Fault> {
        eventually(|| Cluster::new(self.lab, host).kubectl("get configmaps -o name")?.text())
    }

    fn restore(&self) -> Check {
        self.configmap("after")?;
        let restored = self.rsadm(&format!("--yes etcd restore {{}} {}", self.file()))?.ok()?;
        restored.says("etcd restored on 3 hosts")?;
        eventually(|| self.is_healthy())?;
        for host in HOSTS {
            let names = self.configmaps(host)?;
            ensure!(names.contains("configmap/before"), "{host} has {names}");
            ensure!(!names.contains("configmap/after"), "{host} has a later one: {names}");
        }
        // Which has recorded whose the data is.
        self.is_not_upgraded()?;
        self.configmap("new")
    }

    /// What kubeadm built it also upgrades.
    fn is_not_upgraded(&self) -> Check {
        self.rsadm("etcd upgrade")?.exits(5)?.says("rsadm did not build this member")
    }

    fn recover(&self) -> Check {
        self.lab.verb(&["poweroff", "--hard", "m2", "m3"])?.ok()?;
        eventually(|| self.lab.rsadm_on("etcd status", &self.inventory)?.exits(9))?;
        self.rsadm("etcd recover --diagnose")?.exits(9)?.says("m1 is furthest")?;
        self.rsadm("--yes etcd recover")?.ok()?.says("etcd restored on 1 host")?;
        let names = self.configmaps("m1")?;
        ensure!(names.contains("configmap/new"), "m1 has {names}");
        self.configmap("newest")
    }
}

/// Everything that leaves the membership as it is.
fn it_is_kept(it: &KubeadmBuilt<'_>) -> Check {
    it.rsadm("etcd members")?.ok()?.says("https://10.77.0.13:2380")?;
    it.rsadm("etcd move-leader {} m2")?.ok()?.says("m2 leads")?;
    it.rsadm("etcd alarm list")?.ok()?.says("no alarm is on")?;
    it.rsadm("etcd alarm disarm")?.ok()?.says("no alarm is on")?;
    it.rsadm("etcd compact --keep 10")?.ok()?.says("10 kept")?;
    it.rsadm("etcd defrag --min-gain 0")?.ok()?.says("3 members defragmented")?;
    it.is_not_upgraded()?;
    it.rsadm("etcd bench --duration 2s")?.ok()?.says("99%")
}
