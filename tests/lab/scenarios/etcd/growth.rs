//! A plain etcd cluster that grows and shrinks by its inventory, rolls, is cut in two, and takes in a member that never
//! starts, while a client writes the whole time.
//!
//! Rows of the fault matrix: 33 (a learner whose host reboots before it starts), 34 (a learner that never starts is taken
//! back), 36 (another learner has the turn), 37 (no member is restarted while another is away), 38 (a member flaps), 39 (the
//! leader leaves).

use std::thread;

use serde_json::Value;

use crate::harness::{
    Check, Checks, Cluster, Fault, Inventory, Lab, Outcome, Processes, eventually, items, under_load,
};

use crate::scenarios::steady;

const NODES: [&str; 5] =
    ["e1:10.77.0.31", "e2:10.77.0.32", "e3:10.77.0.33", "e4:10.77.0.34", "e5:10.77.0.35"];
const FIVE: [&str; 5] = ["e1", "e2", "e3", "e4", "e5"];
const THREE: [&str; 3] = ["e1", "e2", "e3"];

/// The members that a rule tells no longer hear this one, and it hears none of them; clients and SSH reach it as before.
fn cut(whom: &str) -> String {
    format!(
        "nft -f - <<'RULES'
table inet part {{
    chain in {{ type filter hook input priority 0; {whom} tcp dport 2380 drop; {whom} tcp sport 2380 drop; }}
    chain out {{ type filter hook output priority 0; {whom} tcp dport 2380 drop; {whom} tcp sport 2380 drop; }}
}}
RULES"
    )
}

struct Growth<'a> {
    lab: &'a Lab,
    all: Inventory,
}

#[test]
fn growth() {
    let lab = Lab::up("growth", &NODES).unwrap();
    let mut checks = Checks::new("growth");
    let all = Inventory::load("tests/lab/inventories/lab-etcd-only.yaml").patient();
    let it = Growth { lab: &lab, all };
    checks.must("one member", || it.up(&["e1"])?.says("1 etcd member healthy"));
    checks.must("one grows to three and to five by up, under load", || it.grow());
    checks.check("row 39: five become three by remove and by up, the leader hands over and leaves", || {
        it.shrink()
    });
    checks.check("row 6: a connection that is cut in the middle is made anew, and the run goes on", || {
        it.cut_off()
    });
    checks.check("all are restarted one after another, under load", || it.roll());
    checks.check("row 37: cut in two and one: it serves, says where to look, and rolls nobody", || it.part());
    checks.check(
        "two followers that do not reach each other are told, and their leader is not restarted",
        || it.part_two(),
    );
    checks.check("row 38: while another member is away, nobody is replaced", || it.flaps());
    checks.check("row 34: a learner that never starts is taken back, and its log is told", || {
        it.never_starts()
    });
    checks.check("row 36: another learner has the turn, and is waited for", || it.queues());
    checks.check("row 33: a learner's host reboots before it starts; the next run takes it up", || {
        it.learner_reboots()
    });
    checks.check("nothing is pending, and etcd is well", || {
        steady::settles(&lab, &it.rolled(&FIVE))?;
        it.is_healthy(&FIVE)
    });
    checks.finish();
}

impl Growth<'_> {
    fn cluster(&self) -> Cluster<'_> {
        Cluster::new(self.lab, "e1")
    }

    /// With an inventory of these hosts alone.
    fn on(&self, command: &str, hosts: &[&str]) -> Result<Outcome, Fault> {
        self.lab.rsadm_on(command, &self.all.with_hosts(hosts))
    }

    fn up(&self, hosts: &[&str]) -> Result<Outcome, Fault> {
        let up = self.on("up", hosts)?.ok()?;
        println!("{}", up.stderr);
        Ok(up)
    }

    /// Soon: whose login is late on a busy machine counts as away.
    fn is_healthy(&self, hosts: &[&str]) -> Check {
        eventually(|| self.on("etcd status", hosts)?.ok().map(drop))
    }

    fn settles(&self, hosts: &[&str]) -> Check {
        steady::settles(self.lab, &self.all.with_hosts(hosts))
    }

    /// Asked again where an election came between.
    fn leads(&self, host: &str, hosts: &[&str]) -> Check {
        eventually(|| self.on(&format!("etcd move-leader {{}} {host}"), hosts)?.ok().map(drop))
    }

    /// See [`under_load`].
    fn under_load(&self, stay: &[&str], then: &[&str], work: impl FnOnce() -> Check) -> Check {
        under_load(self.lab, (stay, then), work, || self.is_healthy(then))
    }

    fn grow(&self) -> Check {
        self.under_load(&["e1"], &FIVE, || {
            self.up(&THREE)?.says("e3 is a voting member")?;
            self.up(&FIVE)?.says("e5 is a voting member")
        })?;
        self.settles(&FIVE)
    }

    /// First all five are asked, though two of their hosts are not in the inventory any more.
    fn shrink(&self) -> Check {
        let four = ["e1", "e2", "e3", "e4"];
        self.leads("e5", &FIVE)?;
        self.under_load(&THREE, &THREE, || {
            let status = eventually(|| {
                let status = self.on("etcd status", &THREE)?.exits(8)?;
                status.says("5 of 5 voters healthy; needs 3; can lose 2")?;
                status.says("the inventory has no etcd host there")?;
                Ok(status)
            })?;
            println!("{}", status.stdout);
            // Who leads may have changed by itself since.
            self.cluster().hands_over_first(&four, || {
                self.leads("e5", &FIVE)?;
                self.on("etcd remove {} e5", &FIVE)?.ok()?.says("etcd has 4 voting members")
            })?;
            self.cluster().hands_over_first(&THREE, || {
                self.leads("e4", &four)?;
                self.up(&THREE)?.says("e4 is no longer a member")
            })
        })?;
        self.settles(&THREE)?;
        let members = self.listed()?;
        ensure!(members.len() == 3, "members: {members:?}");
        Ok(())
    }

    /// While the second of three gets other settings.
    fn cut_off(&self) -> Check {
        let other = self.all.with_hosts(&THREE).with("etcd.extra_args", "{snapshot-count: '6000'}");
        self.under_load(&THREE, &THREE, || {
            // What waits for its new process has begun by then, and is not over a moment later.
            let manifest = "/etc/kubernetes/manifests/etcd.yaml";
            let written =
                format!("timeout 300 bash -c 'until grep -q count=6000 {manifest}; do sleep 0.05; done'");
            let script = format!("{written} && pkill -KILL -f '^sshd: ops'");
            let kill = || self.lab.on("e2", &script).and_then(Outcome::ok).map_err(|fault| fault.to_string());
            let (up, killed) = thread::scope(|scope| {
                // There already when its moment comes.
                let killed = scope.spawn(kill);
                (self.lab.rsadm_on("up -v", &other), killed.join())
            });
            let up = up?;
            println!("{}", up.all());
            killed.map_err(|_| "who was to cut it off panicked")??;
            up.says("new settings on e1; 3 members healthy")?;
            up.ok()?.says("it answers again: looks at all hosts anew, and goes on from what is there")
        })?;
        steady::settles(self.lab, &other)
    }

    fn roll(&self) -> Check {
        let before = Processes::of(self.lab, &THREE)?;
        self.under_load(&THREE, &THREE, || {
            let up = self.lab.rsadm_on("up", &self.rolled(&THREE))?.ok()?;
            println!("{}", up.stderr);
            THREE.iter().try_for_each(|host| up.says(&format!("new settings on {host}; 3 members healthy")))
        })?;
        let new = Processes::of(self.lab, &THREE)?.new_since(&before);
        ensure!(new == THREE.map(|host| format!("{host}/etcd")), "started anew: {new:?}");
        Ok(())
    }

    /// An inventory that takes a restart of every member.
    fn rolled(&self, hosts: &[&str]) -> Inventory {
        self.all.with_hosts(hosts).with("etcd.extra_args", "{snapshot-count: '5000'}")
    }

    fn part(&self) -> Check {
        self.under_load(&["e1", "e2"], &THREE, || {
            self.leads("e3", &THREE)?;
            self.lab.on("e3", &cut(""))?.ok()?;
            let status = eventually(|| {
                let status = self.on("etcd status", &THREE)?.exits(8)?;
                status.says("2 of 3 voters healthy; needs 2; can lose 0 more")?;
                status.says(
                    "e3 is cut off from the other members: look at the network between them, port 2380",
                )?;
                Ok(status)
            });
            let goes_on = self.writes_go_on();
            // Where nothing is to do it is told beside.
            let planned = eventually(|| {
                let planned = self.lab.rsadm_on("plan", &self.rolled(&THREE))?.ok()?;
                planned.says("in sync: ")?;
                planned.says("warning e3: its etcd runs and knows no leader")
            });
            // By the first inventory again, which would restart all three.
            let rolled = self.on("up", &THREE);
            self.lab.on("e3", "nft delete table inet part")?.ok()?;
            goes_on?;
            planned?;
            println!("{}", status?.stdout);
            let rolled = rolled?.exits(5)?;
            println!("{}", rolled.all());
            rolled.says("would leave 1 healthy of 3 voters, and 2 are needed")?;
            rolled.says("mend the network between e3 and the other members, port 2380 (rsadm preflight /")
        })
    }

    /// All three serve, and without their leader the other two would be no quorum: it is not restarted.
    fn part_two(&self) -> Check {
        self.under_load(&THREE, &THREE, || {
            self.leads("e1", &THREE)?;
            let pair = "ip saddr { 10.77.0.32, 10.77.0.33 } ip daddr { 10.77.0.32, 10.77.0.33 }";
            self.lab.on("e3", &cut(pair))?.ok()?;
            let status = eventually(|| {
                let status = self.on("etcd status", &THREE)?.exits(8)?;
                status
                    .says("e2 and e3 do not reach each other: look at the network between them, port 2380")?;
                status.says("3 of 3 voters healthy")
            });
            let rolled = self.on("up", &THREE);
            let defragmented = self.on("etcd defrag {} --min-gain 0", &THREE);
            let replaced = self.on("etcd replace {} e3", &THREE);
            self.lab.on("e3", "nft delete table inet part")?.ok()?;
            status?;
            let rolled = rolled?.exits(5)?;
            println!("{}", rolled.all());
            for refused in [rolled, defragmented?.exits(5)?] {
                refused.says("e1 cannot be spared as etcd's leader")?;
                refused.says("port 2380 (rsadm preflight ")?;
            }
            // Nobody leaves for the sake of a member that would not be let in.
            let replaced = replaced?.exits(5)?;
            println!("{}", replaced.all());
            replaced
                .says("e2: its port 2380 (etcd, between members) cannot be reached from e3: no answer")?;
            replaced.says("nothing was changed")
        })?;
        steady::settles(self.lab, &self.rolled(&THREE))
    }

    /// The client's writes are acknowledged by those two that are left.
    fn writes_go_on(&self) -> Check {
        let keys = || -> Result<usize, Fault> {
            let keys = self.cluster().etcdctl("e1", "get --prefix lab-test/ --keys-only")?.ok()?.stdout;
            Ok(keys.lines().filter(|key| !key.is_empty()).count())
        };
        let before = eventually(keys)?;
        eventually(|| {
            let now = keys()?;
            ensure!(now > before + 2, "{now} keys, {before} before");
            Ok(())
        })
    }

    /// It is waited for, in case it only restarts, and then told what would be left.
    fn flaps(&self) -> Check {
        self.lab.on("e3", "pkill -STOP -x etcd")?.ok()?;
        let replaced = self.on("etcd replace {} e1", &THREE);
        self.lab.on("e3", "pkill -CONT -x etcd || true")?.ok()?;
        let replaced = replaced?.exits(5)?;
        println!("{}", replaced.all());
        replaced.says("would leave 1 healthy of 2 voters, and 2 are needed")?;
        replaced.says("e3 is not healthy")?;
        self.is_healthy(&THREE)?;
        let members = self.cluster().members("e1")?;
        ensure!(members.len() == 3, "members: {members:?}");
        Ok(())
    }

    fn never_starts(&self) -> Check {
        let four = ["e1", "e2", "e3", "e4"];
        let wrong = self.all.with_hosts(&four).with("etcd.extra_args", "{no-such-flag: x}");
        self.under_load(&THREE, &THREE, || {
            let add = self.lab.rsadm_on("--timeout 60s etcd add {} e4", &wrong)?.exits(6)?;
            println!("{}", add.all());
            add.says("the learner was removed again, and the other members are as they were")?;
            add.says("no-such-flag")?;
            let members = self.listed()?;
            ensure!(members.len() == 3, "members: {members:?}");
            Ok(())
        })
    }

    /// A learner at an address that nobody has, as a `kubeadm join` elsewhere would have it for a while.
    fn queues(&self) -> Check {
        let four = ["e1", "e2", "e3", "e4"];
        self.under_load(&THREE, &four, || {
            let ghost = "member add ghost --learner --peer-urls=https://10.77.0.99:2380";
            // Which etcd refuses for some seconds after members were away from one another.
            let added = eventually(|| self.cluster().etcdctl("e1", &format!("{ghost} -w json"))?.ok())?;
            let added: serde_json::Value = serde_json::from_str(&added.stdout)?;
            let id = added["member"]["ID"].as_u64().ok_or("the ghost has no ID")?;
            let mut add = self.lab.start_rsadm_on("etcd add {} e4", &self.rolled(&four))?;
            add.until_it_says("waits for its turn")?;
            self.cluster().etcdctl("e1", &format!("member remove {id:x}"))?.ok()?;
            let add = add.end()?.ok()?;
            println!("{}", add.all());
            add.says("etcd has 4 voting members")
        })
    }
    /// Its kubelet is stuck, so that etcd lists a learner which nobody has started, when both rsadm and the host die.
    fn learner_reboots(&self) -> Check {
        self.under_load(&THREE, &FIVE, || {
            self.lab.on("e5", "pkill -STOP -x kubelet")?.ok()?;
            let add = self.lab.start_rsadm_on("etcd add {} e5", &self.rolled(&FIVE))?;
            let learner = eventually(|| self.unstarted_learner());
            add.signal("KILL")?;
            add.end()?;
            let learner = learner?;
            self.lab.verb(&["poweroff", "--hard", "e5"])?.ok()?;
            ensure!(self.unstarted_learner()? == learner, "the learner went with its host");
            let status = eventually(|| {
                let status = self.on("etcd status", &FIVE)?.exits(8)?;
                status.says("is a learner that was added and never started: this goes on with it:")?;
                Ok(status)
            })?;
            println!("{}", status.stdout);
            self.lab.verb(&["up", "e5"])?.ok()?;
            let add = self.lab.rsadm_on("etcd add {} e5", &self.rolled(&FIVE))?.ok()?;
            println!("{}", add.all());
            add.says("etcd has 5 voting members")?;
            let members = self.listed()?;
            let same = members.iter().any(|m| m["ID"] == learner && m["name"] == "e5");
            ensure!(members.len() == 5 && same, "learner {learner} became one of {members:#?}");
            Ok(())
        })
    }

    /// etcd's own list, with those that were never started.
    fn listed(&self) -> Result<Vec<Value>, Fault> {
        let list = self.cluster().etcdctl("e1", "member list -w json")?.ok()?.stdout;
        let list: Value = serde_json::from_str(&list)?;
        Ok(items(&list["members"]).to_vec())
    }

    /// The ID of the learner at e5's address.
    fn unstarted_learner(&self) -> Result<Value, Fault> {
        let members = self.listed()?;
        let at_e5 = |m: &&Value| m["peerURLs"][0] == "https://10.77.0.35:2380";
        let member = members.iter().find(at_e5).ok_or("nobody is listed at e5's address")?;
        let unstarted = member["isLearner"] == true && member["name"].as_str().unwrap_or_default().is_empty();
        ensure!(unstarted, "e5 has started: {member:#}");
        Ok(member["ID"].clone())
    }
}
