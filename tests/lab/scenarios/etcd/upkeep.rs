//! A plain etcd cluster that is full, slow, paused, cut in two and damaged, while a client writes the whole time.
//!
//! Rows of the fault matrix: 43 (NOSPACE), 44 (flipped bits), 45 (defragmenting under load), 58 (a slow disk), 59 (a paused
//! leader), and a partition into 2 and 1.

use std::collections::BTreeSet;

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{FLIP, START, STOP};
use crate::harness::{
    Check, Checks, Cluster, Fault, Inventory, Lab, Outcome, Processes, Skipped, eventually, items, under_load,
};
use crate::scenarios::steady;

const NODES: [&str; 3] = ["e1:10.77.0.31", "e2:10.77.0.32", "e3:10.77.0.33"];
const HOSTS: [&str; 3] = ["e1", "e2", "e3"];

/// Bytes of a value that fills the database: a little less than etcd takes in one request.
const VALUE: usize = 1_400_000;

struct Upkeep<'a> {
    lab: &'a Lab,
    inventory: Inventory,
}

#[test]
fn upkeep() {
    let lab = Lab::up_on_disk("upkeep", &NODES).unwrap();
    let mut checks = Checks::new("upkeep");
    let inventory = Inventory::load("tests/lab/inventories/lab-etcd-only.yaml").with_hosts(&HOSTS);
    let it = Upkeep { lab: &lab, inventory };
    checks.check("row 58: preflight tells of a slow disk", || it.slow_disk_to_come());
    let small = it.inventory.with("etcd.quota_backend_bytes", "64MiB");
    checks.must("up", || lab.rsadm_on("up", &small)?.ok()?.says("3 etcd members healthy"));
    checks.must("all is well", || eventually(|| it.is_healthy()));
    checks.check("row 43: from NOSPACE back to writes", || it.run_full(&small));
    checks.must("a quota that is larger", || it.rsadm("up")?.says("3 etcd members healthy"));
    checks.check("row 45: 500 MB are defragmented under load, one member at a time", || it.defragment());
    checks.check("row 58: a slow disk is told with what helps, and nobody is called dead", || it.slow_disk());
    checks.check("row 59: a paused leader is replaced, and status says so", || it.pause_leader());
    checks.check("settings go past a stuck member only with the cluster's name", || {
        it.roll_past_a_stuck_member()
    });
    checks.check("a member cut off from two: status says so, and etcd serves", || it.cut_one());
    checks.check("row 44: flipped bits are found, and replace gives the member the others' data", || {
        it.flip_bits()
    });
    checks.check(
        "a disk without room for a copy is told, and what a broken defragmentation left is gone",
        || it.lacks_room(),
    );
    checks.finish();
}

impl Upkeep<'_> {
    fn cluster(&self) -> Cluster<'_> {
        Cluster::new(self.lab, "e1")
    }

    fn rsadm(&self, command: &str) -> Result<Outcome, Fault> {
        self.lab.rsadm_on(command, &self.inventory)?.ok()
    }

    fn status(&self, exit: i32) -> Result<Outcome, Fault> {
        let status = self.lab.rsadm_on("etcd status", &self.inventory)?.exits(exit)?;
        println!("{}", status.stdout);
        Ok(status)
    }

    fn is_healthy(&self) -> Check {
        self.lab.rsadm_on("etcd status", &self.inventory)?.ok()?;
        Ok(())
    }

    /// See [`under_load`]; at last all members hold the same data.
    fn under_load(&self, work: impl FnOnce() -> Check) -> Check {
        under_load(self.lab, (&HOSTS, &HOSTS), work, || {
            self.is_healthy()?;
            self.holds_the_same()
        })
    }

    /// What etcd itself says of all data at one revision, member by member.
    fn holds_the_same(&self) -> Check {
        let hashes = self.cluster().etcdctl("e1", "endpoint hashkv --cluster -w json")?.ok()?.stdout;
        let hashes: serde_json::Value = serde_json::from_str(&hashes)?;
        let data = |member: &serde_json::Value| {
            let hash = &member["HashKV"];
            format!("{} since {} at {}", hash["hash"], hash["compact_revision"], hash["header"]["revision"])
        };
        let different: BTreeSet<String> = items(&hashes).iter().map(data).collect();
        ensure!(items(&hashes).len() == HOSTS.len() && different.len() == 1, "hashes: {hashes:#}");
        Ok(())
    }

    /// Overwrites one key so many times, all but the last of it history. One program does it, by etcd's HTTP: an etcdctl for
    /// each write would take longer than etcd. With further options of curl's.
    fn fill(&self, times: usize, options: &str) -> Result<Outcome, Fault> {
        // Makes sure that the certificate is there.
        self.cluster().workstation_etcdctl(&HOSTS)?;
        let (key, folder) = (BASE64_STANDARD.encode("filler"), self.lab.path("home/etcd"));
        let script = format!(
            "set -e -o pipefail; cd {}
             {{ printf '{{\"key\":\"{key}\",\"value\":\"'; head -c {VALUE} /dev/zero | base64 -w0; printf '\"}}'; }} > body
             curl -fsS {options} --fail-early --parallel --parallel-max 4 --max-time 30 -o /dev/null \
               --data @body \
               --cacert ca.crt --cert client.crt --key client.key 'https://e1:2379/v3/kv/put#[1-{times}]'",
            folder.display()
        );
        self.lab.on_workstation(&["bash", "-c", &script])
    }

    fn db_size(&self, host: &str) -> Result<u64, Fault> {
        let size = self.lab.on(host, "stat -c %s /var/lib/etcd/member/snap/db")?.text()?;
        Ok(size.parse()?)
    }

    fn defragment(&self) -> Check {
        // An election or a slow disk is no reason to give up.
        self.fill(400, "--retry 5 --retry-all-errors")?.ok()?;
        // Who follows may be behind for a moment.
        for host in HOSTS {
            eventually(|| {
                let size = self.db_size(host)?;
                ensure!(size > 500_000_000, "{host} has {size} bytes");
                Ok(())
            })?;
        }
        self.under_load(|| {
            self.rsadm("etcd compact --keep 10")?.says("10 kept")?;
            let defrag = self.rsadm("etcd defrag")?;
            println!("{}", defrag.stderr);
            // An election meanwhile may have given the lead to one that was through, and then nobody hands it over.
            if defrag.says("leads, before it").is_err() {
                eventually(|| self.rsadm("etcd defrag --min-gain 0")?.says("leads, before it"))?;
            }
            defrag.says("3 members defragmented")
        })?;
        for host in HOSTS {
            let size = self.db_size(host)?;
            ensure!(size < 100_000_000, "{host} still has {size} bytes");
        }
        self.rsadm("etcd defrag")?.says("nothing to defragment")
    }

    fn run_full(&self, small: &Inventory) -> Check {
        self.under_load(|| {
            // Full is not dead: nobody ends it for that. (What its probes ask is in its manifest, tests/manifests/ha/etcd-m2.yaml:
            // they would take longer than it is full here.)
            let before = Processes::of(self.lab, &HOSTS)?;
            eventually(|| {
                let full = self.fill(90, "")?;
                ensure!(full.code != 0, "it never filled up");
                // A write ends it, too, that an election came between.
                self.lab.rsadm_on("etcd alarm list", small)?.exits(8)?.says("NOSPACE")
            })?;
            eventually(|| self.status(8)?.says("rsadm etcd defrag"))?;
            self.lab.rsadm_on("etcd alarm disarm", small)?.exits(5)?.says("rsadm etcd defrag")?;
            let refused = self.cluster().etcdctl("e2", "put lab-test/x x")?;
            ensure!(refused.code != 0, "a full etcd took a write");
            let defrag = self.lab.rsadm_on("etcd defrag", small)?.ok()?;
            println!("{}", defrag.stderr);
            defrag.says("etcd takes writes again")?;
            let new = Processes::of(self.lab, &HOSTS)?.new_since(&before);
            ensure!(new.is_empty(), "started anew: {new:?}");
            self.cluster().put("e2", "lab-test/x", "x")?;
            eventually(|| self.lab.rsadm_on("etcd alarm list", small)?.ok()?.says("no alarm is on"))
        })
    }

    /// The host of the leader, and one that follows.
    fn leader(&self) -> Result<(&'static str, &'static str), Fault> {
        let leader = eventually(|| {
            let text = self.lab.rsadm_on("etcd status -o json", &self.inventory)?.stdout;
            let report: serde_json::Value = serde_json::from_str(&text)?;
            let members = items(&report["members"]);
            let leads = |host: &&&str| members.iter().any(|m| m["is_leader"] == true && m["name"] == **host);
            Ok(*HOSTS.iter().find(leads).ok_or("nobody leads")?)
        })?;
        let other = *HOSTS.iter().find(|host| **host != leader).ok_or("nobody follows")?;
        Ok((leader, other))
    }

    /// What is done while who writes there takes most of a second to make a write safe.
    fn on_slow_disk<T>(
        &self,
        who: &str,
        host: &str,
        work: impl FnOnce() -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if !self.lab.slow_disk(who, host, 20)? {
            return Err(Skipped("this kernel throttles no disk").into());
        }
        let done = work();
        self.lab.slow_disk(who, host, 0)?;
        done
    }

    /// Before its etcd runs, which no trial of the disk disturbs.
    fn slow_disk_to_come(&self) -> Check {
        let slow = "e1";
        let tried =
            self.on_slow_disk("login", slow, || self.lab.rsadm_on("preflight", &self.inventory)?.ok())?;
        println!("{}", tried.all());
        let told = format!("{slow}: a synced write takes ");
        let told = tried.stderr.lines().find_map(|line| line.split_once(&told)?.1.split(' ').next());
        ensure!(
            told.is_some_and(|ms| ms.parse::<u32>().is_ok_and(|ms| ms >= 40)),
            "{slow} takes {told:?} ms"
        );
        Ok(())
    }

    /// The disk of one that follows.
    fn slow_disk(&self) -> Check {
        let (_, slow) = self.leader()?;
        self.on_slow_disk("etcd", slow, || self.under_slow_disk(slow))?;
        eventually(|| self.is_healthy())
    }

    fn under_slow_disk(&self, slow: &str) -> Check {
        self.under_load(|| {
            eventually(|| {
                // Whatever a lab's disk is like: this one is slower than a heartbeat, and that is told.
                let status = self.lab.rsadm_on("etcd status", &self.inventory)?.ok()?;
                status.says(&format!("the disk of {slow} is slow: "))?;
                status.says(
                    "longer than the heartbeat (100ms): until that is mended set etcd.heartbeat_interval",
                )?;
                status.says("3 of 3 voters healthy; needs 2; can lose 1")?;
                println!("{}", status.stdout);
                Ok(())
            })
        })
    }

    fn pause_leader(&self) -> Check {
        let (leader, other) = self.leader()?;
        self.under_load(|| {
            self.lab.on(leader, "pkill -STOP -x etcd")?.ok()?;
            let told = eventually(|| {
                Cluster::new(self.lab, other).etcdctl(other, "put lab-test/paused x")?.ok()?;
                let status = self.status(8)?;
                status.says(&format!("etcd on {leader} starts, stops or is stuck"))?;
                status.says("2 of 3 voters healthy; needs 2; can lose 0 more")
            });
            self.lab.on(leader, "pkill -CONT -x etcd || true")?.ok()?;
            told?;
            eventually(|| self.is_healthy())
        })
    }

    /// The last in the order of the roll-out, so that the others go before it; its own turn is what frees it.
    fn roll_past_a_stuck_member(&self) -> Check {
        let stuck = "e3";
        let other = self.inventory.with("etcd.quota_backend_bytes", "3GiB");
        let stop = || self.lab.on(stuck, "pkill -STOP -x etcd")?.ok();
        stop()?;
        let refused = self.lab.rsadm_on("up --yes", &other)?;
        let accepted = refused.code == 5;
        let accepted = accepted.then(|| {
            // Its kubelet may have found it dead meanwhile, and started another.
            eventually(stop)?;
            self.lab.rsadm_on("up --accept-quorum-loss=lab-etcd", &other)
        });
        self.lab.on(stuck, "pkill -CONT -x etcd || true")?.ok()?;
        refused.exits(5)?.says("the last way out is --accept-quorum-loss")?;
        let accepted = accepted.ok_or("it was not refused")??.ok()?;
        println!("{}", accepted.stderr);
        accepted.says("the loss of the quorum was accepted")?;
        accepted.says(&format!("but for {stuck}, which was not well before"))?;
        eventually(|| self.is_healthy())?;
        steady::settles(self.lab, &other)?;
        self.rsadm("up")?;
        Ok(())
    }

    fn cut_one(&self) -> Check {
        let (leader, _) = self.leader()?;
        self.under_load(|| {
            self.lab.verb(&["cut", leader])?.ok()?;
            let status = eventually(|| self.status(8)?.says(&format!("{leader} cannot be reached over SSH")));
            let refused = self.lab.rsadm_on("etcd defrag --min-gain 0", &self.inventory);
            let unasked = self.lab.rsadm_on("etcd defrag --yes --accept-quorum-loss {}", &self.inventory);
            let accepted =
                self.lab.rsadm_on("etcd defrag --min-gain 0 --accept-quorum-loss=lab-etcd", &self.inventory);
            self.lab.verb(&["heal", leader])?.ok()?;
            status?;
            let refused = refused?.exits(5)?;
            refused.says("would leave 1 healthy of 3 voters, and 2 are needed")?;
            refused.says(&format!("make the host of {leader} reachable again"))?;
            refused.says("the last way out is --accept-quorum-loss")?;
            unasked?.exits(2)?.says("--accept-quorum-loss=lab-etcd confirms without a question")?;
            let accepted = accepted?.ok()?;
            println!("{}", accepted.stderr);
            accepted.says("the loss of the quorum was accepted")?;
            accepted.says("2 members defragmented")?;
            eventually(|| self.is_healthy())
        })
    }

    /// In a value, so that the file itself stays whole: only the data differs.
    fn flip_bits(&self) -> Check {
        self.cluster().put("e1", "lab-mark", &"marked".repeat(50))?;
        let (_, victim) = self.leader()?;
        self.under_load(|| {
            for script in [STOP, FLIP, START] {
                self.lab.on(victim, script)?.ok()?;
            }
            let status = eventually(|| {
                let status = self.lab.rsadm_on("etcd status", &self.inventory)?.exits(8)?;
                status.says("etcd stops on")?;
                status.says("rsadm etcd replace ")?;
                status.says(&format!(".yaml {victim}"))?;
                Ok(status)
            })?;
            println!("{}", status.stdout);
            status.says("inconsistency")?;
            let replaced = self.rsadm(&format!("etcd replace {{}} {victim}"))?;
            println!("{}", replaced.stderr);
            replaced.says("etcd has 3 voting members, can lose 1")
        })?;
        let mark =
            self.cluster().etcdctl(victim, "get lab-mark --print-value-only --consistency=s")?.text()?;
        ensure!(mark == "marked".repeat(50), "{victim} has {mark}");
        let aside = self
            .lab
            .on(victim, "find /var/lib/rsadm/aside /var/lib/etcd/aside -name db 2> /dev/null; true")?;
        ensure!(!aside.text()?.is_empty(), "the damaged data is not set aside");
        steady::settles(self.lab, &self.inventory)
    }

    /// What a defragmentation writes has an etcd that has it open. The next file of a log takes 64 MB, and is told before.
    fn lacks_room(&self) -> Check {
        let snap = "/var/lib/etcd/member/snap";
        self.lab.on("e3", SMALL)?.ok()?;
        self.lab.on("e2", &format!("head -c 1M /dev/zero > {snap}/db.tmp.1"))?.ok()?;
        let serves = || -> Check {
            let told = self.lab.rsadm_on("etcd status", &self.inventory)?.exits(8)?;
            told.says("3 of 3 voters healthy")?;
            told.says("the disk of e3 has ")
        };
        eventually(serves)?;
        let refused = self.lab.rsadm_on("etcd defrag --min-gain 0", &self.inventory)?.exits(5)?;
        println!("{}", refused.stderr);
        refused.says("no member is defragmented")?;
        refused.says("e3: no room in /var/lib/etcd: ")?;
        refused.says_nothing_of("e2: no room")?;
        self.lab.on("e2", &format!("! ls {snap}/db.tmp.*"))?.ok()?;
        eventually(serves)
    }
}

/// Moves a member's data to a disk that has 100 MiB beside it.
const SMALL: &str = r#"
set -e
mv /etc/kubernetes/manifests/etcd.yaml /root/etcd.yaml
while pidof etcd > /dev/null; do sleep 0.2; done
mkdir /root/small
size=$(($(du -sm /var/lib/etcd/member | cut -f 1) + 100))
mount -t tmpfs -o "size=${size}m,mode=700" small /root/small
chown --reference=/var/lib/etcd /root/small
cp -a /var/lib/etcd/member /root/small
mount --bind /root/small /var/lib/etcd
mv /root/etcd.yaml /etc/kubernetes/manifests/etcd.yaml
"#;
