//! A plain etcd cluster whose members come, go, die and are made anew, while a client writes the whole time.
//!
//! Rows of the fault matrix: 39 (the leader, the last member), 40 (the quorum lost), 44 (the alarm CORRUPT), 47 (a restore that
//! fails on one host), 49 (revisions after a restore), 52 (all members without power).

use crate::harness::{
    Check, Checks, Cluster, Fault, Inventory, Lab, Outcome, Processes, Writer, eventually, now, numbers_on,
    under_load,
};

use crate::scenarios::steady;

const NODES: [&str; 4] = ["e1:10.77.0.31", "e2:10.77.0.32", "e3:10.77.0.33", "e4:10.77.0.34"];

struct Members<'a> {
    lab: &'a Lab,
    all: Inventory,
}

#[test]
fn members() {
    let lab = Lab::up("members", &NODES).unwrap();
    let mut checks = Checks::new("members");
    let all = Inventory::load("tests/lab/inventories/lab-etcd-only.yaml")
        .with_hosts(&["e1", "e2", "e3", "e4"])
        .patient();
    let it = Members { lab: &lab, all };
    checks.must("one member", || it.on("up", &["e1"])?.ok()?.says("1 etcd member healthy"));
    checks.must("one grows to three under load", || it.grow());
    checks.check("row 39: the leader, which is the first host, is replaced on its own host", || it.anew());
    checks.check("a dead member is replaced by another host", || it.dead());
    checks.check("row 52: all members lose power; it takes no recovery", || it.power_cycle());
    checks.check("row 52: no member and no kubelet runs; up starts all of them together", || it.cold_start());
    checks.check("a member that is replaced takes its alarm NOSPACE along", || {
        it.alarm("e3", "NOSPACE", "etcd takes no writes")
    });
    checks.check(
        "row 44: the alarm CORRUPT is weighed against what members hold, and replace takes it back",
        || {
            it.alarm(
                "e2",
                "CORRUPT",
                "the alarm CORRUPT is on for e2, and by the hashes it holds what most do",
            )
        },
    );
    checks.check("row 49: after a restore all keys are there, with a higher revision", || it.restore());
    checks.check("row 47: a restore that fails on one host of three says so, and is rolled back", || {
        it.roll_back()
    });
    checks.check("no recovery beside members that only SSH does not reach", || it.out_of_reach());
    checks.check("survivors that are stopped are measured, and damaged data is none to begin from", || {
        it.measure()
    });
    checks.check("row 40: the data of all but one is gone: recovered on all three hosts, under load", || {
        it.lose_data()
    });
    checks
        .check("row 46: a survivor whose log is damaged gives what its database has, once asked to", || {
            it.take_the_database()
        });
    checks.check("a recovery that broke off is not gone on with once the lost members serve again", || {
        it.is_overtaken()
    });
    checks.check("members that come back while it recovers are not recovered beside", || it.come_back());
    checks.check("row 40: two of three lost: diagnosis, and recovery from the survivor", || it.recover());
    checks.check("row 39: the last member is not removed", || {
        it.rsadm("etcd remove {} e1")?.exits(5)?.says("no other member would be left")
    });
    checks.check(
        "two that missed the recovery come back as a quorum of the old cluster, and are healed",
        || it.old_ones_return(),
    );
    checks.finish();
}

impl Members<'_> {
    fn cluster(&self) -> Cluster<'_> {
        Cluster::new(self.lab, "e1")
    }

    fn rsadm(&self, command: &str) -> Result<Outcome, Fault> {
        self.lab.rsadm_on(command, &self.all)
    }

    /// With an inventory of these hosts alone.
    fn on(&self, command: &str, hosts: &[&str]) -> Result<Outcome, Fault> {
        self.lab.rsadm_on(command, &self.all.with_hosts(hosts))
    }

    /// Soon: whose login is late on a busy machine counts as away.
    fn is_healthy(&self, hosts: &[&str]) -> Check {
        eventually(|| self.on("etcd status", hosts)?.ok().map(drop))
    }

    fn settles(&self, hosts: &[&str]) -> Check {
        steady::settles(self.lab, &self.all.with_hosts(hosts))
    }

    /// See [`under_load`].
    fn under_load(&self, stay: &[&str], then: &[&str], work: impl FnOnce() -> Check) -> Check {
        under_load(self.lab, (stay, then), work, || self.is_healthy(then))
    }

    fn grow(&self) -> Check {
        let three = ["e1", "e2", "e3"];
        self.under_load(&["e1"], &three, || self.on("up", &three)?.ok()?.says("e3 is a voting member"))?;
        self.settles(&three)
    }

    fn anew(&self) -> Check {
        let three = ["e1", "e2", "e3"];
        eventually(|| self.on("etcd move-leader {} e1", &three)?.ok())?;
        self.under_load(&["e2", "e3"], &three, || {
            self.on("etcd replace {} e1", &three)?.ok()?.says("etcd has 3 voting members, can lose 1")
        })?;
        let aside = self
            .lab
            .on("e1", "find /var/lib/rsadm/aside /var/lib/etcd/aside -name member 2> /dev/null; true")?
            .text()?;
        ensure!(!aside.is_empty(), "the old data is not set aside");
        self.settles(&three)
    }

    /// etcd keeps it by the member's ID, and takes no writes for the sake of one that is gone.
    fn alarm(&self, host: &str, alarm: &str, words: &str) -> Check {
        let three = ["e1", "e2", "e3"];
        self.cluster().raise(alarm, host)?;
        let told = eventually(|| {
            let told = self.on("etcd status", &three)?.exits(8)?;
            told.says(words)?;
            Ok(told)
        })?;
        println!("{}", told.stdout);
        eventually(|| self.on("etcd alarm list", &three)?.exits(8)?.says(alarm))?;
        ensure!(self.cluster().etcdctl("e1", "put rsadm-lab-alarm 1")?.code != 0, "etcd takes writes");
        self.on(&format!("etcd replace {{}} {host}"), &three)?
            .ok()?
            .says("etcd has 3 voting members, can lose 1")?;
        eventually(|| self.on("etcd alarm list", &three)?.ok()?.says("no alarm is on"))?;
        self.cluster().put("e1", "rsadm-lab-alarm", "1")?;
        eventually(|| self.cluster().etcdctl("e1", "del rsadm-lab-alarm")?.ok())?;
        self.is_healthy(&three)
    }

    fn dead(&self) -> Check {
        self.under_load(&["e1", "e3"], &["e1", "e3", "e4"], || {
            self.lab.verb(&["poweroff", "--hard", "e2"])?.ok()?;
            eventually(|| self.on("etcd status", &["e1", "e2", "e3"])?.exits(8))?;
            self.rsadm("etcd replace {} e2 e4")?.ok()?.says("etcd has 3 voting members, can lose 1")
        })?;
        self.lab.verb(&["up", "e2"])?.ok()?;
        // What it still has of its old life does not come back to life, and it can join anew.
        self.on("up", &["e1", "e2", "e3", "e4"])?.ok()?.says("e2 is a voting member")?;
        self.rsadm("etcd remove {} e4")?.ok()?.says("etcd has 3 voting members")
    }

    fn power_cycle(&self) -> Check {
        let three = ["e1", "e2", "e3"];
        self.cluster().put("e1", "kept", "1")?;
        self.under_load(&three, &three, || {
            self.lab.verb(&["poweroff", "--hard", "e1", "e2", "e3"])?.ok()?;
            self.lab.verb(&["up", "e1", "e2", "e3"])?.ok()?;
            self.on("up", &three)?.ok()?;
            self.is_healthy(&three)?;
            self.on("etcd recover", &three)?.exits(5)?.says("there is nothing to recover from")
        })?;
        self.has("kept")
    }

    /// As after a stop of all, with nothing that would start them by itself (k0sctl#561).
    fn cold_start(&self) -> Check {
        let three = ["e1", "e2", "e3"];
        let stop =
            "systemctl disable --now kubelet && kill -9 $(pidof etcd); while pidof etcd; do sleep 0.1; done";
        self.under_load(&three, &three, || {
            three.iter().try_for_each(|host| self.lab.on(host, stop)?.ok().map(drop))?;
            // Whose login is late on a busy machine counts as away.
            let status = eventually(|| {
                let status = self.on("etcd status", &three)?.exits(9)?;
                status.says("this starts all that are stopped, together:").map(|()| status)
            })?;
            println!("{}", status.stdout);
            self.on("up", &three)?.ok()?;
            self.is_healthy(&three)
        })?;
        self.has("kept")
    }

    fn has(&self, key: &str) -> Check {
        let found =
            eventually(|| self.cluster().etcdctl("e1", &format!("get {key} --print-value-only"))?.ok())?;
        ensure!(found.stdout.trim() == "1", "{key} is {:?}", found.stdout.trim());
        Ok(())
    }

    fn snapshot(&self) -> Result<String, Fault> {
        let file = self.lab.path("restored.db").display().to_string();
        if !std::path::Path::new(&file).exists() {
            self.on(&format!("etcd snapshot save --to {file}"), &["e1", "e2", "e3"])?.ok()?;
        }
        Ok(file)
    }

    fn restore(&self) -> Check {
        let three = ["e1", "e2", "e3"];
        let writer = Writer::start(self.lab, &self.cluster(), &three)?;
        let before = now();
        let file = self.snapshot()?;
        self.cluster().put("e1", "after-the-snapshot", "1")?;
        self.on(&format!("--yes etcd restore {{}} {file}"), &three)?
            .ok()?
            .says("etcd restored on 3 hosts")?;
        let after = now();
        self.is_healthy(&three)?;
        // What it took between the snapshot and the restore is gone, as is said.
        let written = writer.end()?;
        for part in [written.until(before), written.since(after)] {
            three.iter().try_for_each(|host| part.is_all_on(&self.cluster(), host))?;
        }
        written.forget(&self.cluster(), "e1")?;
        self.has("kept")?;
        let after = eventually(|| self.cluster().etcdctl("e1", "get after-the-snapshot -w fields")?.ok())?;
        ensure!(!after.stdout.contains("after-the-snapshot\""), "a later write is there: {}", after.stdout);
        let revision =
            after.stdout.lines().find_map(|l| l.strip_prefix("\"Revision\" : ")?.parse::<u64>().ok());
        ensure!(revision.is_some_and(|r| r >= 100_000_000_000_000), "the revision is {revision:?}");
        self.settles(&three)
    }

    /// The others have their new data by then: what is mounted cannot be moved.
    fn roll_back(&self) -> Check {
        let three = ["e1", "e2", "e3"];
        let file = self.snapshot()?;
        self.cluster().put("e1", "newest", "1")?;
        let writer = Writer::start(self.lab, &self.cluster(), &three)?;
        self.lab.on("e2", "mount --bind /var/lib/etcd/member /var/lib/etcd/member")?.ok()?;
        let before = now();
        let restore = self.on(&format!("--yes etcd restore {{}} {file}"), &three)?.exits(6)?;
        println!("{}", restore.all());
        restore.says("failed on e2: ")?;
        restore.says("it goes on where it stopped; or: rsadm etcd restore /")?;
        self.lab.on("e2", "umount /var/lib/etcd/member")?.ok()?;
        self.on("etcd restore --rollback", &three)?.ok()?.says("rolled back")?;
        self.has_all_again((writer, before))?;
        self.has("newest")
    }

    /// Takes the manifests of members away and waits for their ends.
    fn stop(&self, hosts: &[&str]) -> Check {
        let stop = "mv /etc/kubernetes/manifests/etcd.yaml /root/; while pidof etcd; do sleep 0.1; done";
        hosts.iter().try_for_each(|host| self.lab.on(host, stop)?.ok().map(drop))
    }

    fn start(&self, hosts: &[&str]) -> Check {
        // A kubelet waits ever longer before it starts what ended a while ago, and forgets that with itself.
        let start = "mv /root/etcd.yaml /etc/kubernetes/manifests/; systemctl restart kubelet";
        hosts.iter().try_for_each(|host| self.lab.on(host, start)?.ok().map(drop))
    }

    /// Two of three serve, and only the one that does not can be logged in to.
    fn out_of_reach(&self) -> Check {
        let three = ["e1", "e2", "e3"];
        let ssh = |verb: &str| {
            let verb = format!("systemctl {verb} ssh.service");
            ["e2", "e3"].iter().try_for_each(|host| self.lab.on(host, &verb)?.ok().map(drop))
        };
        self.stop(&["e1"])?;
        ssh("stop")?;
        let refused = self.on("--yes etcd recover", &three);
        ssh("start")?;
        let refused = refused?.exits(5)?;
        println!("{}", refused.all());
        refused.says("etcd cannot be made anew beside e2, e3")
    }

    /// After [`out_of_reach`](Self::out_of_reach): nobody runs, one has its data, one has it damaged.
    fn measure(&self) -> Check {
        let three = ["e1", "e2", "e3"];
        let sums = "cd /var/lib/etcd/member && find . -type f -exec sha256sum {} + | sort";
        self.stop(&["e2", "e3"])?;
        self.lab
            .on("e2", "cp -a /var/lib/etcd/member /root/ && truncate -s 3000 /var/lib/etcd/member/snap/db")?
            .ok()?;
        self.lab.on("e3", "mv /var/lib/etcd/member /root/")?.ok()?;
        let before = self.lab.on("e1", sums)?.text()?;
        let diagnosis = eventually(|| self.on("etcd recover --diagnose", &three)?.exits(9))?;
        println!("{}", diagnosis.all());
        diagnosis.says("e1        stopped  ")?;
        diagnosis.says_nothing_of("e1        stopped  –")?;
        diagnosis.says("e2 cannot be started, its data is damaged: failed to open database")?;
        diagnosis.says("e1 is furthest")?;
        ensure!(self.lab.on("e1", sums)?.text()? == before, "measuring changed the data");
        for host in ["e1", "e2"] {
            self.lab.on(host, "! ls -d /var/lib/rsadm/measure 2>&1 && ! pidof etcd-replay")?.ok()?;
        }
        self.lab.on("e2", "rm -r /var/lib/etcd/member && mv /root/member /var/lib/etcd/")?.ok()?;
        self.lab.on("e3", "mv /root/member /var/lib/etcd/")?.ok()?;
        // What is there is more than a quorum again, though nobody runs.
        self.on("--yes etcd recover", &three)?.exits(5)?.says("3 of 3 members have their data")?;
        self.start(&three)?;
        self.is_healthy(&three)
    }

    /// A client that goes on writing to all three, and until when all that it was told is taken is on the first: a read there
    /// waits for that. Then these stop, and the other two lose what they have.
    fn writes_and_loses(&self, stopped: &[&str]) -> Result<(Writer, f64), Fault> {
        let writer = Writer::start(self.lab, &self.cluster(), &["e1", "e2", "e3"])?;
        eventually(|| {
            let n = numbers_on(&self.cluster(), "e1")?.len();
            ensure!(n > 20, "{n} keys so far");
            Ok(())
        })?;
        let before = now();
        eventually(|| self.cluster().etcdctl("e1", "get lab-test/1 --consistency=l")?.ok())?;
        self.stop(stopped)?;
        ["e2", "e3"].iter().try_for_each(|host| {
            self.lab.on(host, "rm -r /root/etcd.yaml /var/lib/etcd/member")?.ok().map(drop)
        })?;
        Ok((writer, before))
    }

    /// Called once what had to be done is done: what it took from then on is there, and what it took before.
    fn has_all_again(&self, (writer, before): (Writer, f64)) -> Check {
        let three = ["e1", "e2", "e3"];
        let after = now();
        self.is_healthy(&three)?;
        let written = writer.end()?;
        for part in [written.until(before), written.since(after)] {
            three.iter().try_for_each(|host| part.is_all_on(&self.cluster(), host))?;
        }
        written.forget(&self.cluster(), "e1")?;
        self.settles(&three)
    }

    /// Their hosts are there. Their manifests went with the data: with those, etcd starts on nothing and may be in sync again
    /// before anybody asks, since the survivor gets their votes.
    fn lose_data(&self) -> Check {
        let three = ["e1", "e2", "e3"];
        let load = self.writes_and_loses(&["e2", "e3"])?;
        let diagnosis = eventually(|| self.on("etcd recover --diagnose", &three)?.exits(9))?;
        println!("{}", diagnosis.all());
        diagnosis.says("e1 is furthest")?;
        self.on("--yes etcd recover", &three)?.ok()?.says("etcd restored on 3 hosts")?;
        self.has_all_again(load)
    }

    /// Of three, two have lost all, and etcd falls over what the third has.
    fn take_the_database(&self) -> Check {
        let three = ["e1", "e2", "e3"];
        let load = self.writes_and_loses(&three)?;
        // A letter of a key: a length that is damaged looks like a log that ends there, which etcd cuts off.
        let damage =
            "cd /var/lib/etcd/member/wal && for file in *.wal; do sed -i s/lab-test/lab-tast/ $file; done";
        self.lab.on("e1", damage)?.ok()?;
        let diagnosis = eventually(|| self.on("etcd recover --diagnose", &three)?.exits(9))?;
        println!("{}", diagnosis.all());
        diagnosis.says("e1 cannot be started, its data is damaged")?;
        diagnosis.says("The database of e1 alone is whole, up to revision")?;
        let refused = self.on("--yes etcd recover", &three)?.exits(5)?;
        refused.says("--from e1 begins from that database")?;
        let recovered = self.on("--yes etcd recover --from e1", &three)?.ok()?;
        recovered.says("etcd restored on 3 hosts")?;
        self.has_all_again(load)
    }

    /// Killed before its data is in place anywhere; what the members that are back take then must not be lost.
    fn is_overtaken(&self) -> Check {
        let three = ["e1", "e2", "e3"];
        self.lab.verb(&["poweroff", "--hard", "e2", "e3"])?.ok()?;
        eventually(|| self.on("etcd status", &three)?.exits(9))?;
        let mut recovery = self.lab.start_rsadm_on("--yes etcd recover", &self.all.with_hosts(&three))?;
        recovery.until_it_says("etcd stopped on 1 host")?;
        recovery.signal("KILL")?;
        recovery.end()?;
        self.lab.verb(&["up", "e2", "e3"])?.ok()?;
        eventually(|| {
            let status = self.on("etcd status", &three)?.exits(8)?;
            status.says("a recovery of etcd has begun on e1 and is not over; etcd serves without it")?;
            status.says(" --rollback")
        })?;
        self.cluster().put("e2", "overtaken", "1")?;
        let refused = self.on("--yes etcd recover", &three)?.exits(5)?;
        println!("{}", refused.all());
        refused.says("etcd has a quorum again")?;
        self.on("etcd restore --rollback", &three)?.ok()?.says("rolled back")?;
        self.is_healthy(&three)?;
        self.has("overtaken")?;
        self.settles(&three)
    }

    /// They serve with one another by the time when its data would take their place.
    fn come_back(&self) -> Check {
        let three = ["e1", "e2", "e3"];
        self.lab.verb(&["poweroff", "--hard", "e2", "e3"])?.ok()?;
        eventually(|| self.on("etcd status", &three)?.exits(9))?;
        let mut recovery = self.lab.start_rsadm_on("--yes etcd recover", &self.all.with_hosts(&three))?;
        recovery.until_it_says("etcd stopped on 1 host")?;
        recovery.signal("STOP")?;
        self.lab.verb(&["up", "e2", "e3"])?.ok()?;
        let written = eventually(|| self.cluster().etcdctl("e2", "put back-again 1")?.ok());
        recovery.signal("CONT")?;
        let refused = recovery.end()?;
        println!("{}", refused.all());
        written?;
        refused.exits(5)?.says("etcd runs again on e2, e3, with the old data, which may be written to")?;
        self.on("etcd restore --rollback", &three)?.ok()?.says("rolled back")?;
        self.is_healthy(&three)?;
        self.has("back-again")?;
        self.settles(&three)
    }

    /// With an inventory of the survivor alone it knows from its data that it was one of three, also where a run before that
    /// stopped it. What the survivor has is there afterwards, and whatever is acknowledged from then on.
    fn recover(&self) -> Check {
        let three = ["e1", "e2", "e3"];
        let writer = Writer::start(self.lab, &self.cluster(), &three)?;
        self.lab.verb(&["poweroff", "--hard", "e2", "e3"])?.ok()?;
        eventually(|| self.on("etcd status", &three)?.exits(9)?.says("rsadm etcd recover"))?;
        eventually(|| self.on("etcd recover --diagnose", &three)?.exits(9)?.says("e1 is furthest"))?;
        self.refuses_without_room()?;
        let survived = numbers_on(&self.cluster(), "e1")?;
        ensure!(!survived.is_empty(), "the survivor has none of the keys");
        let mut recovery = self.lab.start_rsadm_on("--yes etcd recover", &self.all.with_hosts(&["e1"]))?;
        recovery.until_it_says("etcd stopped on 1 host")?;
        recovery.signal("KILL")?;
        recovery.end()?;
        let recovered = self.on("--yes etcd recover", &["e1"])?.ok()?;
        recovered.says("1 of 3 members have data on hosts that answer")?;
        recovered.says("etcd restored on 1 host")?;
        let after = now();
        self.has("newest")?;
        self.is_healthy(&["e1"])?;
        let written = writer.end()?;
        written.since(after).is_all_on(&self.cluster(), "e1")?;
        let kept = numbers_on(&self.cluster(), "e1")?;
        let lost: Vec<u64> = survived.difference(&kept).copied().collect();
        ensure!(lost.is_empty(), "the survivor had these before: {lost:?}");
        written.forget(&self.cluster(), "e1")
    }

    /// Where the disk is too small for what a recovery writes, it says so before it stops the member that is left.
    fn refuses_without_room(&self) -> Check {
        let before = Processes::of(self.lab, &["e1"])?;
        let small = "cp -a /var/lib/rsadm /root/kept-rsadm && mount -t tmpfs -o size=64m none /var/lib/rsadm && \
                     cp -a /root/kept-rsadm/. /var/lib/rsadm";
        self.lab.on("e1", small)?.ok()?;
        let refused = self.on("--yes etcd recover", &["e1"]);
        self.lab.on("e1", "umount /var/lib/rsadm && rm -r /root/kept-rsadm")?.ok()?;
        let refused = refused?.exits(5)?;
        println!("{}", refused.stderr);
        refused.says("/var/lib/rsadm")?;
        refused.says("make room there")?;
        refused.says_nothing_of("etcd stopped")?;
        let new = Processes::of(self.lab, &["e1"])?.new_since(&before);
        ensure!(new.is_empty(), "started anew: {new:?}");
        Ok(())
    }

    /// They elect a leader among themselves at once; the one that was recovered is still the one to keep.
    fn old_ones_return(&self) -> Check {
        let three = ["e1", "e2", "e3"];
        self.lab.verb(&["up", "e2", "e3"])?.ok()?;
        eventually(|| {
            let status = self.on("etcd status", &three)?.exits(8)?;
            status.says("e2 missed a restore or a recovery")?;
            status.says("e3 missed a restore or a recovery")
        })?;
        let status = self.on("etcd status", &three)?;
        println!("{}", status.stdout);
        status.says_nothing_of("e1 missed a restore")?;
        let up = self.on("up", &three)?.exits(5)?;
        up.says("e2, e3 have the data of the old cluster")?;
        up.says(" e2 sets that data aside and makes each of them a member")?;
        for old in ["e2", "e3"] {
            // The two have a quorum of their own, which is asked about.
            self.on(&format!("--yes etcd replace {{}} {old}"), &three)?.ok()?;
        }
        self.is_healthy(&three)?;
        self.has("newest")?;
        self.settles(&three)
    }
}
