//! etcd from 3.6 to 3.7 while a client writes the whole time, with a node that dies on the way, and a run.
//!
//! Rows of the fault matrix: 41 (an upgrade that was interrupted goes on where it stopped), 37 (no member is touched
//! while another is away). The image of 3.6 is built by `lab build --etcd v3.6.14`.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Check, Checks, Fault, Inventory, Lab, Processes, eventually, items, text, under_load};

use crate::scenarios::steady;

const NODES: [&str; 3] = ["e1:10.77.0.31", "e2:10.77.0.32", "e3:10.77.0.33"];
const HOSTS: [&str; 3] = ["e1", "e2", "e3"];
const OLD: &str = "v3.6.14";

struct Upgrade<'a> {
    lab: &'a Lab,
    old: Inventory,
    new: Inventory,
}

#[test]
fn etcd_upgrade() {
    let lab = Lab::up("etcd-upgrade", &NODES).unwrap();
    let mut checks = Checks::new("etcd-upgrade");
    let new = Inventory::load("tests/lab/inventories/lab-etcd-only.yaml").with_hosts(&HOSTS).patient();
    let it = Upgrade { lab: &lab, old: new.with("etcd.version", OLD), new };
    checks.must("the image of the old version is there", || it.build());
    checks.must("up with etcd 3.6", || {
        it.lab.rsadm_on("up", &it.old)?.ok()?;
        it.versions(&["3.6.14"; 3])
    });
    checks.check("up does not upgrade, and says what does", || {
        it.lab.rsadm_on("up", &it.new)?.exits(5)?.says("rsadm etcd upgrade")
    });
    checks.check("the plan is told, and nothing is changed", || {
        it.lab.rsadm_on("etcd upgrade --plan", &it.new)?.exits(7)?.says("hold the same data")?;
        it.versions(&["3.6.14"; 3])
    });
    checks.check("while a host is off nothing begins", || it.one_away());
    checks.check("row 37: no member is touched while another is away", || it.one_hangs());
    checks.check("a version that does not run is taken back at the first member", || it.is_taken_back());
    checks.check(
        "row 41: under load, a member's host dies, then the run: on with that member, and to the end",
        || it.upgrade(),
    );
    checks.check("a snapshot of the old version is there", || {
        it.lab.rsadm_on("etcd snapshot ls {} --from hosts:", &it.new)?.ok()?.says("3.6.14")
    });
    checks.check("a second run has nothing to do, and so has up", || {
        it.lab.rsadm_on("etcd upgrade", &it.new)?.ok()?.says("nothing to upgrade")?;
        steady::settles(&lab, &it.new)
    });
    checks.check("there is no way back", || {
        let refused = it.lab.rsadm_on("etcd upgrade", &it.old)?.exits(5)?;
        refused.says("an older one does not read")?;
        refused.says("yaml HOST` makes that member")
    });
    checks.finish();
}

impl Upgrade<'_> {
    fn build(&self) -> Check {
        self.lab.verb(&["build", "--etcd", OLD])?.ok()?;
        Ok(())
    }

    /// What the members run, sorted.
    fn running(&self) -> Result<Vec<String>, Fault> {
        let status = self.lab.rsadm_on("etcd status -o json", &self.new)?.stdout;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        let mut found: Vec<String> = items(&status["members"]).iter().map(|m| text(&m["version"])).collect();
        found.sort();
        Ok(found)
    }

    /// Passes as soon as they run these: whose login is late tells nothing.
    fn versions(&self, wanted: &[&str]) -> Check {
        eventually(|| {
            let found = self.running()?;
            ensure!(found == wanted, "members run {found:?} instead of {wanted:?}");
            Ok(())
        })
    }

    /// Its host is off: no command begins without it.
    fn one_away(&self) -> Check {
        self.lab.verb(&["cut", "e2"])?.ok()?;
        let refused = self.lab.rsadm_on("etcd upgrade", &self.new);
        self.lab.verb(&["heal", "e2"])?.ok()?;
        refused?.exits(4)?.says("if e2 is gone for good: rsadm etcd replace ")?;
        self.versions(&["3.6.14"; 3])?;
        eventually(|| self.lab.rsadm_on("etcd status", &self.old)?.ok().map(drop))
    }

    /// Its host is there. The sick one is the first, and the others wait until it is well, which here it does not become.
    fn one_hangs(&self) -> Check {
        let others = ["e1", "e3"];
        let before = Processes::of(self.lab, &others)?;
        self.lab.on("e2", "pkill -STOP -x 'etcd|kubelet'")?.ok()?;
        let failed = self.lab.rsadm_on("--timeout 10s etcd upgrade", &self.new);
        self.lab.on("e2", "pkill -CONT -x 'etcd|kubelet'")?.ok()?;
        let failed = failed?.exits(6)?;
        println!("{}", failed.stderr);
        failed.says("serving now: etcd on e1 e3")?;
        let new = Processes::of(self.lab, &others)?.new_since(&before);
        ensure!(new.is_empty(), "started anew: {new:?}");
        self.versions(&["3.6.14"; 3])?;
        eventually(|| self.lab.rsadm_on("etcd status", &self.old)?.ok().map(drop))
    }

    /// The new version, with a flag that it does not know.
    fn is_taken_back(&self) -> Check {
        let bad = self.new.with("etcd.extra_args", "{no-such-flag: x}");
        let failed = self.lab.rsadm_on("etcd upgrade", &bad)?.exits(6)?;
        println!("{}", failed.stderr);
        failed.says("flag provided but not defined: -no-such-flag")?;
        failed.says("etcd has its manifest from before again, and serves")?;
        failed.says("serving now: etcd on e1 e2 e3")?;
        self.versions(&["3.6.14"; 3])?;
        steady::settles(self.lab, &self.old)
    }

    fn upgrade(&self) -> Check {
        under_load(
            self.lab,
            (&HOSTS, &HOSTS),
            || {
                let dead = self.host_dies()?;
                self.killed_and_ended(dead)
            },
            || {
                self.versions(&["3.7.0"; 3])?;
                self.lab.rsadm_on("etcd status", &self.new)?.ok().map(drop)
            },
        )
    }

    /// The first whose manifest names the new version loses its power there and then; the others keep theirs.
    fn host_dies(&self) -> Result<&'static str, Fault> {
        let running = self.lab.start_rsadm_on("etcd upgrade", &self.new)?;
        let named = |host: &&&str| {
            let grep = self.lab.on(host, "grep -q etcd:3.7 /etc/kubernetes/manifests/etcd.yaml");
            grep.is_ok_and(|grep| grep.code == 0)
        };
        // Without a pause that grows: by the next turn two are new.
        let begun = Instant::now();
        let dead = loop {
            if let Some(host) = HOSTS.iter().find(named) {
                break Ok(*host);
            }
            if begun.elapsed() > Duration::from_secs(600) {
                break Err(Fault::from("no manifest is new in ten minutes"));
            }
            thread::sleep(Duration::from_millis(100));
        };
        // Stopped, rsadm does not begin with the next, should this one be through before it is off.
        let off = dead.as_ref().map(|host| {
            running.signal("STOP")?;
            let off = self.lab.verb(&["poweroff", "--hard", host]);
            running.signal("CONT")?;
            off
        });
        let ended = running.end()?.exits(6)?;
        println!("{}", ended.stderr);
        if let Ok(off) = off {
            off?.ok()?;
        }
        let dead = dead?;
        ended.says(&format!("{dead}: "))?;
        for other in HOSTS.iter().filter(|host| **host != dead) {
            let manifest = self.lab.on(other, "cat /etc/kubernetes/manifests/etcd.yaml")?.ok()?;
            manifest.says_nothing_of("etcd:3.7")?;
        }
        self.lab.verb(&["up", dead])?.ok()?;
        Ok(dead)
    }

    /// Begins with the one that died, where it is not through by itself; a run that is killed after one member, and the next.
    fn killed_and_ended(&self, dead: &str) -> Check {
        let through = "members healthy, same data";
        let mut first = self.lab.start_rsadm_on("etcd upgrade", &self.new)?;
        first.until_it_says(through)?;
        first.signal("KILL")?;
        let first = first.end()?;
        eventually(|| {
            let found = self.running()?;
            ensure!(found.contains(&"3.6.14".to_owned()), "it was over already: {found:?}");
            Ok(())
        })?;
        let second = self.lab.rsadm_on("etcd upgrade", &self.new)?.ok()?;
        println!("{}{}", first.stderr, second.stderr);
        let turns = [&first, &second].map(|run| run.stderr.lines().filter(|line| line.contains(through)));
        let turns: Vec<&str> = turns.into_iter().flatten().collect();
        let late = turns.iter().skip(1).any(|turn| turn.contains(&format!("on {dead};")));
        ensure!(!late, "{dead} had its turn after another: {turns:#?}");
        second.says("etcd v3.7.0 on 3 members")
    }
}
