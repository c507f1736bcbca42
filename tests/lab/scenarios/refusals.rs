//! What must be refused before anything is changed: hosts that cannot be used, and hosts that cannot carry a cluster.

use std::{fs, process::Command};

use crate::harness::{Check, Checks, Fault, Footprint, Inventory, Lab, eventually};

const NODES: [&str; 5] = ["m1", "m2", "m3", "w1", "w2"];

/// What the password of sudo is taken from.
const PASSWORD: &str = "RSADM_SUDO_PASSWORD";

/// The first bytes of a real etcd's log, in base64.
const LOG: &str = "BAAAAAAAAIQIBBAAAAAAACAAAAAAAAAACAEQu4HH/AUaFgjN0pGL0riBz44BELKY6vGUg4b8zQEOAAAAAAAAgg==";

struct Refusals<'a> {
    lab: &'a Lab,
    inventory: Inventory,
}

#[test]
fn refusals() {
    let lab = Lab::up("refusals", &NODES).unwrap();
    let mut checks = Checks::new("refusals");
    let it = Refusals { lab: &lab, inventory: Inventory::load("inventories/lab.yaml") };
    let before = Footprint::of(&lab, &NODES).unwrap();
    checks.check("all hosts that cannot be used are told in one table", || it.unusable_hosts());
    checks.check("one wrong sudo password is tried once a host, and never shown", || it.wrong_password());
    checks.check("the right sudo password is taken", || it.right_password());
    checks.check("no host was changed by all that", || before.is_still(&Footprint::of(&lab, &NODES)?));
    checks.check("rows 13, 17 and 21: all findings of all hosts are told at once", || it.findings());
    checks.check("row 19: another cluster's data is refused, told by name, and untouched", || {
        it.foreign_data()
    });
    checks.check("a containerd that is too old is refused with the remedy", || it.old_containerd());
    checks.check(
        "without the faults there is nothing to refuse, and nameservers are told that are no pod's",
        || it.nameservers(),
    );
    checks.finish();
}

impl Refusals<'_> {
    /// Each host in a way of its own.
    fn unusable_hosts(&self) -> Check {
        let known_hosts = self.lab.path("home/.ssh/known_hosts");
        let saved = fs::read_to_string(&known_hosts)?;
        let other_key = self.new_public_key()?;
        let lines = saved.lines().filter_map(|line| match line.split(',').next() {
            Some("10.77.0.11") => None,
            Some("10.77.0.12") => Some(format!("10.77.0.12 {other_key}")),
            _ => Some(line.to_owned()),
        });
        fs::write(&known_hosts, lines.collect::<Vec<_>>().join("\n") + "\n")?;
        let inventory = self
            .inventory
            .with("hosts.m3.address", "10.77.0.99")
            .with("hosts.m3.internal_address", "10.77.0.13")
            .with("hosts.w1.user", "nobody")
            .with("hosts.w2.user", "sec");
        let outcomes = ["plan", "up"].map(|command| self.lab.rsadm_on(command, &inventory));
        fs::write(&known_hosts, saved)?;
        for outcome in outcomes {
            let outcome = outcome?.exits(4)?;
            for (host, what) in [
                ("m1", "host key is known"),
                ("m2", "Offending"),
                ("m3", "No route to host"),
                ("w1", "Permission denied"),
                ("w2", "could not become root"),
            ] {
                let line =
                    outcome.stderr.lines().find(|line| line.trim().starts_with(host)).unwrap_or_default();
                ensure!(line.contains(what), "{host} is not told as {what:?}: {}", outcome.all());
            }
            outcome.says("5 of 5 hosts cannot be used")?;
        }
        Ok(())
    }

    fn new_public_key(&self) -> Result<String, Fault> {
        let file = self.lab.path("other-key");
        let status =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&file).status()?;
        ensure!(status.success(), "ssh-keygen failed");
        let key = fs::read_to_string(file.with_extension("pub"))?;
        Ok(key.split(' ').take(2).collect::<Vec<_>>().join(" "))
    }

    fn wrong_password(&self) -> Check {
        let inventory = self.inventory.with("ssh.user", "sec");
        let outcome = self.lab.rsadm_with((PASSWORD, "wrong-password"), "plan", &inventory)?.exits(4)?;
        outcome.says("5 of 5 hosts cannot be used")?;
        outcome.says_nothing_of("wrong-password")?;
        for host in NODES {
            // The journal has it a moment later.
            let tries = eventually(|| {
                let told = "journalctl -o cat -t sudo | grep 'sec : .*incorrect password'";
                self.lab.on(host, told)?.text()
            })?;
            let once = tries.lines().count() == 1 && tries.contains("sec : 1 incorrect password");
            ensure!(once, "tried again on {host}: {tries}");
        }
        Ok(())
    }

    fn right_password(&self) -> Check {
        let inventory = self.inventory.with("ssh.user", "sec");
        let password = fs::read_to_string(self.lab.path("sudo-password"))?;
        let outcome = self.lab.rsadm_with((PASSWORD, password.trim()), "plan", &inventory)?.exits(7)?;
        outcome.says_nothing_of(password.trim())
    }

    /// A fault of its own on each host; none of them changes what `up` would have to undo.
    fn findings(&self) -> Check {
        let listen = "systemd-run --quiet --unit=squatter socat TCP-LISTEN:2379,fork,reuseaddr EXEC:true; \
            until ss -ltn | grep -q :2379; do sleep 0.1; done";
        self.lab.on("m1", listen)?.ok()?;
        self.lab.on("m2", "hostname w2")?.ok()?;
        self.lab
            .on(
                "m3",
                "cp /etc/machine-id /root/machine-id; tr 0-9a-f 1-9a-f0 < /root/machine-id > /etc/machine-id",
            )?
            .ok()?;
        let twin = self.lab.on("m3", "cat /etc/machine-id")?.text()?;
        self.lab
            .on("w1", &format!("cp /etc/machine-id /root/machine-id; echo {twin} > /etc/machine-id"))?
            .ok()?;
        self.lab.on("w2", "mount -t tmpfs -o size=48m,noexec full /usr/local")?.ok()?;
        self.lab.on("w1", "mount -t tmpfs -o ro,size=1m shut /opt")?.ok()?;
        self.lab.on("m2", "mount -t tmpfs -o nr_inodes=20 few /var/lib/containerd")?.ok()?;
        self.lab.on("w2", "mv /usr/bin/flock /root/flock")?.ok()?;
        let (looked, locked) =
            (self.lab.rsadm_on("plan", &self.inventory), self.lab.rsadm_on("preflight", &self.inventory));
        self.lab.on("w2", "mv /root/flock /usr/bin/flock")?.ok()?;
        let outcomes = ["preflight", "up"].map(|command| self.lab.rsadm_on(command, &self.inventory));
        for (host, folder) in [("w2", "/usr/local"), ("w1", "/opt"), ("m2", "/var/lib/containerd")] {
            self.lab.on(host, &format!("umount {folder}"))?.ok()?;
        }
        self.lab.on("m1", "systemctl stop squatter")?.ok()?;
        self.lab.on("m2", "hostname m2")?.ok()?;
        for host in ["m3", "w1"] {
            self.lab.on(host, "cat /root/machine-id > /etc/machine-id; rm /root/machine-id")?.ok()?;
        }
        looked?.exits(5)?.says("w2: lacks flock")?;
        // Which takes locks before it looks.
        let locked = locked?.exits(5)?;
        locked.says("the lock of w2 could not be taken")?;
        locked.says("it has no flock")?;
        for outcome in outcomes {
            let outcome = outcome?.exits(5)?;
            outcome.says("port 2379 is taken by socat")?;
            outcome.says("has the host name of m2: w2")?;
            outcome.says("has the machine-id")?;
            outcome.says("MiB free below /usr")?;
            outcome.says("runs no program in /usr/local/bin: Permission denied")?;
            outcome.says("takes no file in /opt/cni/bin: Read-only file system")?;
            outcome.says("inodes free below /var/lib/containerd")?;
        }
        Ok(())
    }

    fn foreign_data(&self) -> Check {
        let make = "mkdir -p -m 700 /var/lib/etcd/member/wal; base64 -d > /var/lib/etcd/member/wal/0.wal";
        self.lab.on("m2", &format!("{make} <<< {LOG}"))?.ok()?;
        let record = r#"mkdir /var/lib/rsadm; echo '{"cluster":"other","etcd_cluster_id":"7c1f0d2a"}' > /var/lib/rsadm/cluster.json"#;
        self.lab.on("m3", record)?.ok()?;
        // Without times: the disk's write latency is measured with a file that comes and goes.
        let before = Footprint::of_what_is_left(self.lab, &NODES)?;
        let up = self.lab.rsadm_on("up", &self.inventory)?.exits(5)?;
        before.is_still(&Footprint::of_what_is_left(self.lab, &NODES)?)?;
        let kept = self
            .lab
            .on("m2", "base64 -w0 /var/lib/etcd/member/wal/0.wal; rm -r /var/lib/etcd/member")?
            .text()?;
        ensure!(kept == LOG, "the data is now {kept:?}");
        self.lab.on("m3", "rm -r /var/lib/rsadm")?.ok()?;
        up.says("m2: has etcd data")?;
        up.says("member 8e9e05c52164694d of the etcd cluster cdf818194e3a8c32")?;
        up.says("m3: belongs to the cluster other (etcd cluster 7c1f0d2a)")
    }

    fn old_containerd(&self) -> Check {
        self.lab.verb(&["poweroff", "w2"])?.ok()?;
        self.lab.verb(&["add", "--with-containerd", "c1:10.77.0.32"])?.ok()?;
        let inventory = Inventory::load("inventories/lab.yaml")
            .with("hosts.w2.address", "10.77.0.32")
            .with("hosts.w2.name", "c1")
            .with("container_runtime.install", "existing");
        let up = self.lab.rsadm_on("up", &inventory)?.exits(5)?;
        self.lab.verb(&["up", "w2"])?.ok()?;
        up.says("c1: has containerd 1.6.")?;
        up.says("m1, m2, m3, w1: has no containerd")?;
        up.says(
            "install a newer one; or remove it from the host, and set container_runtime.install: upstream",
        )
    }

    /// The lab's hosts have none; one on loopback would be the pod itself.
    fn nameservers(&self) -> Check {
        self.lab.on("m1", "printf 'nameserver %s\\n' 127.0.0.1 10.77.0.1 > /etc/resolv.conf")?.ok()?;
        self.lab.on("m2", "echo nameserver 127.0.0.1 > /etc/resolv.conf")?.ok()?;
        let plan = self.lab.rsadm_on("plan", &self.inventory);
        for host in ["m1", "m2"] {
            self.lab.on(host, ": > /etc/resolv.conf")?.ok()?;
        }
        plan?.exits(7)?.says("m2, m3, w1, w2 without a nameserver that pods can ask")
    }
}
