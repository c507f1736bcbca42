//! etcd alone, no Kubernetes: three members that are founded in pieces, what `etcd status` says while they vanish one by
//! one, a member whose data is lost, and five members.
//!
//! Rows of the fault matrix: 22 (a full disk), 26 (a lost certificate), 31 (a member that never starts), 32 (a run that dies
//! once one of three has started), 56 (a reset that does not reach a host).

use std::fs;

use serde_json::Value;

use crate::harness::{
    Check, Checks, Cluster, Fault, Footprint, Inventory, Lab, Outcome, Processes, eventually,
};

use crate::scenarios::steady;

const THREE: [&str; 3] = ["e1", "e2", "e3"];
const FIVE: [&str; 5] = ["e1", "e2", "e3", "e4", "e5"];

/// Puts full disks below two folders; the running etcd keeps the ones it has. One certificate is missing then.
const FILL: &str = r#"
set -e
mkdir -p /root/full /var/lib/rsadm/backups
mount -t tmpfs -o size=64k full /root/full
cp -a /etc/kubernetes/pki/etcd/. /root/full/
mount --bind /root/full /etc/kubernetes/pki/etcd
rm /etc/kubernetes/pki/etcd/server.crt
mount -t tmpfs -o size=64k full /var/lib/rsadm/backups
for folder in /etc/kubernetes/pki/etcd /var/lib/rsadm/backups; do
  head -c 1M /dev/zero > $folder/filler 2> /dev/null || true
done
"#;

/// What was written meanwhile is kept, as if the disk had only been made larger.
const EMPTY: &str = r#"
set -e
umount /etc/kubernetes/pki/etcd
cp -a /root/full/. /etc/kubernetes/pki/etcd/
umount /root/full /var/lib/rsadm/backups
rmdir /root/full /var/lib/rsadm/backups
"#;

/// A kubelet that is started from now on sees no manifest: it answers, and starts no member.
const BLIND: &str = r"
set -e
mkdir -p /run/systemd/system/kubelet.service.d
printf '[Service]\nTemporaryFileSystem=/etc/kubernetes/manifests\n' > /run/systemd/system/kubelet.service.d/blind.conf
systemctl daemon-reload
";

const SEEING: &str =
    "rm -r /run/systemd/system/kubelet.service.d && systemctl daemon-reload && systemctl restart kubelet";

/// The first file of a member's log, by its number: another one under the same name has another.
const LOG: &str = "stat -c %i /var/lib/etcd/member/wal/0000000000000000-0000000000000000.wal";

struct EtcdOnly<'a> {
    lab: &'a Lab,
    inventory: Inventory,
}

#[test]
fn etcd_only() {
    let nodes = FIVE.iter().enumerate().map(|(n, name)| format!("{name}:10.77.0.{}", 31 + n));
    let nodes: Vec<String> = nodes.collect();
    let lab = Lab::up("etcd-only", &nodes.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let mut checks = Checks::new("etcd-only");
    let three = Inventory::example("inventories/etcd-only.yaml");
    let five = three
        .with_host("{name: e4, address: 10.77.0.34, roles: [etcd]}")
        .with_host("{name: e5, address: 10.77.0.35, roles: [etcd]}");
    let mut it = EtcdOnly { lab: &lab, inventory: three };
    let bare = Footprint::of_what_is_left(&lab, &FIVE).unwrap();
    it.build(&mut checks);
    it.vanish(&mut checks);
    checks.check(
        "row 56: reset goes on past a host without power, and the next one leaves all as they were",
        || it.reset(&bare),
    );
    checks.check("what another containerd has left is whole after a reset, and serves the next up", || {
        EtcdOnly { lab: &lab, inventory: five.with_hosts(&["e4"]) }.goes_on_with_a_containerds_folder()
    });
    it.inventory = five;
    checks.must("up, with five", || it.up(5));
    checks.check("five members can lose two, and not three", || it.loses_two_of_five());
    checks.check("up starts etcd that is down, and then takes out whom the inventory does not have", || {
        it.comes_back_as_three()
    });
    checks.finish();
}

impl EtcdOnly<'_> {
    fn cluster(&self) -> Cluster<'_> {
        Cluster::new(self.lab, "e1")
    }

    fn up(&self, members: usize) -> Check {
        let noun = if members == 1 { "member" } else { "members" };
        self.lab.rsadm_on("up", &self.inventory)?.ok()?.says(&format!("{members} etcd {noun} healthy"))
    }

    fn build(&self, checks: &mut Checks) {
        checks.check(
            "rows 31 and 32: a foundation breaks off twice; two of three serve, none is noted",
            || self.founds_in_pieces(),
        );
        checks.must("up, which founds the rest", || self.up(3));
        checks.check("the third has what the two took", || self.has_key("e3"));
        checks.check("three members follow one leader", || self.one_leader(&THREE));
        checks.check("no host runs anything of Kubernetes but the kubelet that runs etcd", || {
            self.no_kubernetes()
        });
        checks.check("a second up changes nothing and says so, and a key that was written is there", || {
            self.cluster().put("e1", "lab-test/key", "kept")?;
            steady::settles(self.lab, &self.inventory)?;
            steady::second_up_changes_nothing(self.lab, &self.inventory)?;
            self.has_key("e3")
        });
        checks.check("etcd status is content", || {
            let status = self.status(0, &["3 of 3 voters healthy; needs 2; can lose 1"])?;
            status.says_nothing_of("clients ")
        });
        checks.check(
            "members are asked with what another host has, where the first one's files are no use",
            || self.asks_with_others_files(),
        );
        checks.check("row 22: a disk that is full leaves no half file behind, and up heals it", || {
            self.full_disk()
        });
        checks.check("row 26: a certificate that is lost is issued again, and no other", || self.lost_leaf());
        checks.check("row 30: a key that anybody may read is told, and closed again", || self.open_key());
        checks.check("what is about Kubernetes is refused with the reason", || {
            self.lab.rsadm_on("kubeconfig", &self.inventory)?.exits(2)?.says("it has no Kubernetes API")
        });
    }

    /// rsadm dies once the first has started, and then a member never starts.
    fn founds_in_pieces(&self) -> Check {
        ["e2", "e3"].iter().try_for_each(|host| self.lab.on(host, BLIND)?.ok().map(drop))?;
        let up = self.lab.start_rsadm_on("up", &self.inventory)?;
        let first = eventually(|| {
            let is_told = "ls /etc/kubernetes/manifests/etcd.yaml";
            ["e2", "e3"].iter().try_for_each(|host| self.lab.on(host, is_told)?.ok().map(drop))?;
            self.lab.on("e1", LOG)?.text()
        });
        up.signal("KILL")?;
        up.end()?.exits(-1)?;
        let first = first?;
        ["e2", "e3"].iter().try_for_each(|host| self.lab.on(host, "! pidof etcd")?.ok().map(drop))?;
        self.lab.on("e2", SEEING)?.ok()?;
        // Two of three are there by then, so that it has the one to wait for that never starts.
        self.cluster().put("e1", "lab-test/key", "kept")?;
        let up = self.lab.rsadm_on("up --timeout 20s", &self.inventory);
        let served = self.serves_with_two();
        self.lab.on("e3", SEEING)?.ok()?;
        let up = up?.exits(6)?;
        println!("{}", up.stderr);
        up.says(" e3: ")?;
        up.says("1 step failed on e3")?;
        up.says("run the same command again")?;
        served?;
        let still = self.lab.on("e1", LOG)?.text()?;
        ensure!(still == first, "e1 began anew: its log was {first}, and is {still}");
        Ok(())
    }

    /// And no host is noted as one of a cluster that is founded.
    fn serves_with_two(&self) -> Check {
        self.cluster().put("e1", "lab-test/key", "kept")?;
        self.status(8, &["2 of 3 voters healthy; needs 2; can lose 0 more"])?;
        let is_not_noted = "! ls /var/lib/rsadm/cluster.json";
        THREE.iter().try_for_each(|host| self.lab.on(host, is_not_noted)?.ok().map(drop))
    }

    /// All that lies in the folder of etcd's keys, with its hash.
    fn keys(&self, host: &str) -> Result<Vec<String>, Fault> {
        let sums =
            self.lab.on(host, "cd /etc/kubernetes/pki/etcd && find . -type f | sort | xargs sha256sum")?;
        Ok(sums.text()?.lines().map(str::to_owned).collect())
    }

    /// The first host's authority is another's, or its client key is gone; its member, as all others, is well.
    fn asks_with_others_files(&self) -> Check {
        for damage in ["cp healthcheck-client.crt ca.crt", "rm healthcheck-client.key"] {
            let put = "cd /etc/kubernetes/pki/etcd && cp -a . /root/kept-etcd-pki";
            self.lab.on("e1", &format!("{put} && {damage}"))?.ok()?;
            let status = self.status(0, &["3 of 3 voters healthy; needs 2; can lose 1"]);
            let back = "cp -a /root/kept-etcd-pki/. /etc/kubernetes/pki/etcd && rm -r /root/kept-etcd-pki";
            self.lab.on("e1", back)?.ok()?;
            status?;
        }
        Ok(())
    }

    /// A folder on a disk of its own, which is full to the last byte, where a certificate and a snapshot are to go.
    fn full_disk(&self) -> Check {
        self.lab.on("e2", FILL)?.ok()?;
        let before = self.keys("e2")?;
        let up = self.lab.rsadm_on("up", &self.inventory);
        let save = self.lab.rsadm_on("etcd snapshot save {} --on-host --member e2", &self.inventory);
        let after = self.keys("e2")?;
        let snapshots = self.lab.on("e2", "find /var/lib/rsadm/backups -type f ! -name filler")?.text()?;
        self.lab.on("e2", "rm /etc/kubernetes/pki/etcd/filler")?.ok()?;
        let healed = self.lab.rsadm_on("up", &self.inventory);
        self.lab.on("e2", EMPTY)?.ok()?;
        let (up, save) = (up?.exits(6)?, save?.exits(6)?);
        println!("{}\n{}", up.all(), save.all());
        up.says("e2: ")?;
        up.says("a disk is full")?;
        save.says("e2 could not take a snapshot: no room in /var/lib/rsadm/backups: ")?;
        ensure!(before == after, "before: {before:#?}, after: {after:#?}");
        ensure!(snapshots.is_empty(), "left of the snapshot: {snapshots}");
        healed?.ok()?.says("1 certificate issued on 1 host")?;
        steady::settles(self.lab, &self.inventory)
    }

    fn lost_leaf(&self) -> Check {
        let before: Vec<_> = THREE.iter().map(|host| self.keys(host)).collect::<Result<_, _>>()?;
        let processes = Processes::of(self.lab, &THREE)?;
        self.lab.on("e2", "rm /etc/kubernetes/pki/etcd/server.crt")?.ok()?;
        let up = self.lab.rsadm_on("up", &self.inventory)?.ok()?;
        up.says("1 certificate issued on 1 host")?;
        for (host, before) in THREE.iter().zip(before) {
            let after = self.keys(host)?;
            let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
            let only_that = new.iter().all(|line| line.contains("/server."));
            ensure!(only_that && new.is_empty() == (*host != "e2"), "{host} has new: {new:?}");
        }
        let new = Processes::of(self.lab, &THREE)?.new_since(&processes);
        ensure!(new.is_empty(), "started anew: {new:?}");
        steady::settles(self.lab, &self.inventory)
    }

    fn open_key(&self) -> Check {
        let key = "/etc/kubernetes/pki/etcd/server.key";
        self.lab.on("e3", &format!("chmod 0644 {key}"))?.ok()?;
        let plan = self.lab.rsadm_on("plan", &self.inventory)?.exits(7)?;
        plan.says(&format!("set {key} to 0600 (is 0644)"))?;
        self.lab.rsadm_on("up", &self.inventory)?.ok()?;
        let mode = self.lab.on("e3", &format!("stat -c %a {key}"))?.text()?;
        ensure!(mode == "600", "{key} is {mode}");
        steady::settles(self.lab, &self.inventory)
    }

    /// One member fewer at a time; then all of them again. Somebody watches.
    fn vanish(&self, checks: &mut Checks) {
        let watch = self.lab.start_rsadm_on("etcd status --watch=500ms", &self.inventory);
        checks.must("e2 loses its power", || self.power_off("e2"));
        checks.check("etcd status names it and exits 8", || {
            self.status(8, &["2 of 3 voters healthy; needs 2; can lose 0 more", "e2"])?;
            eventually(|| self.lab.rsadm_on("status", &self.inventory)?.exits(8)?.says("e2"))
        });
        checks.must("e3 too", || self.power_off("e3"));
        checks.check("etcd status still answers, says that there is no quorum, and exits 9", || {
            let status = self.status(9, &["NO QUORUM: 1 of 3 voters answers"])?;
            println!("{}", status.stdout);
            eventually(|| {
                let status = self.lab.rsadm_on("etcd status -o json", &self.inventory)?.exits(9)?;
                let json: Value = serde_json::from_str(&status.stdout)?;
                ensure!(json["quorum"]["healthy"] == 0 && json["leader"].is_null(), "{json:#}");
                ensure!(json["view"]["from"] == "e1" && json["view"]["linearizable"] == false, "{json:#}");
                Ok(())
            })?;
            eventually(|| self.lab.rsadm_on("status", &self.inventory)?.exits(9)?.says("NO QUORUM"))
        });
        checks.must("both come back by themselves", || {
            self.lab.verb(&["up", "e2", "e3"])?.ok()?;
            self.one_leader(&THREE)?;
            self.status(0, &[])?;
            self.has_key("e2")
        });
        checks.check("who watched was told of each change, and ends as the last look does", || {
            let told = ["healthy: 3 of 3", "NO QUORUM: ", "e2 is well again", "e3 is well again"];
            watch?.interrupted_after(&told)?.ends_with_a_look().map(drop)
        });
        checks.check("a member whose data is lost founds no cluster of its own", || self.lost_data());
    }

    fn power_off(&self, host: &str) -> Check {
        self.lab.verb(&["poweroff", "--hard", host])?.ok()?;
        Ok(())
    }

    /// `etcd status`, as soon as it exits so and says that: whose login is late counts as away, and for a
    /// moment nobody may lead.
    fn status(&self, code: i32, words: &[&str]) -> Result<Outcome, Fault> {
        eventually(|| {
            let status = self.lab.rsadm_on("etcd status", &self.inventory)?.exits(code)?;
            words.iter().try_for_each(|words| status.says(words))?;
            Ok(status)
        })
    }

    /// Asked one after the other, so that they may elect another meanwhile.
    fn one_leader(&self, hosts: &[&str]) -> Check {
        eventually(|| {
            let mut seen = Vec::new();
            for host in hosts {
                let members = self.cluster().members(host)?;
                ensure!(members.len() == hosts.len(), "{host} knows {members:?}");
                seen.extend(members.iter().map(|m| (m.cluster, m.leader)));
            }
            seen.dedup();
            ensure!(seen.len() == 1 && seen[0].1 != 0, "clusters and leaders: {seen:?}");
            Ok(())
        })
    }

    fn no_kubernetes(&self) -> Check {
        for host in THREE {
            let found =
                self.lab.on(host, "ls /etc/kubernetes /etc/kubernetes/manifests; pgrep -a kube; ss -Hltn")?;
            ensure!(
                !found.stdout.contains("kube-") && !found.stdout.contains("admin.conf"),
                "{}",
                found.all()
            );
            ensure!(!found.stdout.contains(":10250 "), "its kubelet listens for others: {}", found.all());
        }
        Ok(())
    }

    fn has_key(&self, host: &str) -> Check {
        let get = "get lab-test/key --print-value-only";
        let value = eventually(|| self.cluster().etcdctl(host, get)?.text())?;
        ensure!(value == "kept", "{host} has {value:?}");
        Ok(())
    }

    /// As after a new disk: nothing of etcd's is there, all else is. Raft itself stops such a member at the first word of
    /// the leader, which knows what it once had.
    fn lost_data(&self) -> Check {
        let cluster = self.cluster().member("e1")?.cluster;
        // Who leads only since then knows nothing of that, and would give it all.
        eventually(|| self.lab.rsadm_on("etcd move-leader {} e1", &self.inventory)?.ok())?;
        self.power_off("e2")?;
        fs::remove_dir_all(self.lab.path("nodes/e2/var/etcd/member"))?;
        self.lab.verb(&["up", "e2"])?.ok()?;
        let words = "lastIndex(0)";
        self.status(8, &[words])?;
        self.status(8, &["2 of 3 voters healthy"])?;
        self.status(8, &["rsadm etcd replace"])?;
        // Long before its limit, and with the way out.
        let up = self.lab.rsadm_on("up --timeout 10m", &self.inventory)?.exits(6)?;
        println!("{}", up.stderr);
        up.says("e2: ")?;
        up.says(words)?;
        up.says("rsadm etcd replace /")?;
        up.says(".yaml e2, which sets what is there aside")?;
        ensure!(self.cluster().member("e2").is_err(), "e2 serves");
        for host in ["e1", "e3"] {
            eventually(|| {
                let now = self.cluster().member(host)?;
                ensure!(now.cluster == cluster && now.leader != 0, "{now:?} instead of cluster {cluster}");
                Ok(())
            })?;
        }
        self.has_key("e3")
    }

    fn reset(&self, bare: &Footprint) -> Check {
        self.power_off("e3")?;
        let reset = self.lab.rsadm_on("reset --yes", &self.inventory);
        let others = Footprint::of_what_is_left(self.lab, &["e1", "e2"]);
        self.lab.verb(&["up", "e3"])?.ok()?;
        let again = self.lab.rsadm_on("reset --yes", &self.inventory);
        let reset = reset?.exits(6)?;
        println!("{}", reset.stderr);
        reset.says("the reset is not complete")?;
        reset.says("e3 keeps what it has: ")?;
        ["e1", "e2"].iter().try_for_each(|host| reset.says_nothing_of(&format!("{host} keeps")))?;
        let mut left = bare.differences(&others?);
        left.retain(|line| ["e1 ", "e2 "].iter().any(|host| line.starts_with(host)));
        ensure!(left.is_empty(), "beside a host without power: {left:#?}");
        again?.ok()?;
        bare.is_still(&Footprint::of_what_is_left(self.lab, &FIVE)?)
    }

    /// As a package leaves its folder that was removed: its database and what that knows go on with ours, and stay.
    fn goes_on_with_a_containerds_folder(&self) -> Check {
        let reset = || self.lab.rsadm_on("reset --yes", &self.inventory)?.ok().map(drop);
        self.up(1)?;
        self.lab
            .on("e4", "systemctl stop kubelet containerd && cp -a /var/lib/containerd /root/left")?
            .ok()?;
        reset()?;
        self.lab.on("e4", "cp -a /root/left/. /var/lib/containerd && rm -r /root/left")?.ok()?;
        for _ in 0..2 {
            self.up(1)?;
            reset()?;
        }
        self.lab.on("e4", "find /var/lib/containerd -mindepth 1 -delete")?.ok().map(drop)
    }

    fn loses_two_of_five(&self) -> Check {
        self.one_leader(&FIVE)?;
        self.status(0, &["5 of 5 voters healthy; needs 3; can lose 2"])?;
        self.lab.verb(&["poweroff", "--hard", "e4", "e5"])?.ok()?;
        self.status(8, &["3 of 5 voters healthy; needs 3; can lose 0 more"])?;
        self.cluster().put("e1", "lab-test/key", "kept")?;
        self.has_key("e3")?;
        self.power_off("e3")?;
        self.status(9, &["NO QUORUM: 2 of 5 voters answer;"]).map(drop)
    }

    /// Who is a member only etcd can tell, and no member serves when `up` begins.
    fn comes_back_as_three(&self) -> Check {
        self.lab.verb(&["up", "e3"])?.ok()?;
        self.status(8, &["3 of 5 voters healthy"])?;
        for host in THREE {
            self.lab.on(host, "systemctl stop kubelet && pkill -KILL -x etcd")?.ok()?;
        }
        let up = self.lab.rsadm_on("up", &self.inventory.with_hosts(&THREE))?.ok()?;
        println!("{}", up.all());
        up.says("etcd does not tell who is a member now")?;
        self.one_leader(&THREE)?;
        self.has_key("e3")
    }
}
