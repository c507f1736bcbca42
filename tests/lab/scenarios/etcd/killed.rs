//! The commands that change what a plain etcd cluster is made of, killed after each of their steps and run again, while a
//! client writes the whole time.
//!
//! Rows of the fault matrix: 33 (a run that died while a member joined), 47 (a restore that broke off).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{
    Check, Checks, Cluster, Fault, Inventory, Lab, Outcome, Writer, eventually, now, text, under_load,
};

const NODES: [&str; 4] = ["e1:10.77.0.31", "e2:10.77.0.32", "e3:10.77.0.33", "e4:10.77.0.34"];
const FOUR: [&str; 4] = ["e1", "e2", "e3", "e4"];
const THREE: [&str; 3] = ["e1", "e2", "e3"];

struct Killed<'a> {
    lab: &'a Lab,
    all: Inventory,
}

#[test]
fn killed() {
    let lab = Lab::of_etcd("killed", &NODES).unwrap();
    let mut checks = Checks::new("killed");
    let all = Inventory::load("tests/lab/inventories/lab-etcd-only.yaml").with_hosts(&FOUR);
    let it = Killed { lab: &lab, all };
    // What prepares a host is killed in `interrupted`; here all hosts are prepared.
    checks.must("three members, and a host that had one", || {
        it.on("up", &FOUR)?.ok()?.says("4 etcd members healthy")?;
        it.on("up", &THREE)?.ok()?.says("e4 is no longer a member")
    });
    checks.check("row 33: add and remove, killed after each step, end where others do", || it.come_and_go());
    checks.check("row 33: so does replace", || it.take_turns());
    checks.check("row 47: so does restore, and what is written once it is over stays", || it.restore());
    checks.finish();
}

impl Killed<'_> {
    fn cluster(&self) -> Cluster<'_> {
        Cluster::new(self.lab, "e1")
    }

    /// With an inventory of these hosts alone.
    fn on(&self, command: &str, hosts: &[&str]) -> Result<Outcome, Fault> {
        self.lab.rsadm_on(command, &self.all.with_hosts(hosts))
    }

    /// Soon: whose login is late on a busy machine counts as away.
    fn is_healthy(&self, hosts: &[&str]) -> Check {
        eventually(|| self.on("etcd status", hosts)?.ok().map(drop))
    }

    /// Each is the other's undoing, so that they take turns, until neither tells of a step after which it was not killed.
    fn come_and_go(&self) -> Check {
        let (mut adding, mut removing) = (Steps::default(), Steps::default());
        loop {
            let added = self.changed(&mut adding, "etcd add {} e4", &FOUR)?;
            let removed = self.changed(&mut removing, "etcd remove {} e4", &THREE)?;
            if !added && !removed {
                return Ok(());
            }
        }
    }

    /// Two hosts have the place in turns.
    fn take_turns(&self) -> Check {
        let mut replacing = Steps::default();
        loop {
            let there = self.changed(&mut replacing, "etcd replace {} e3 e4", &["e1", "e2", "e4"])?;
            let back = self.changed(&mut replacing, "etcd replace {} e4 e3", &THREE)?;
            if !there && !back {
                return Ok(());
            }
        }
    }

    /// A change of the membership under load, killed and run again, after which these have members. False where it came to
    /// its end.
    fn changed(&self, steps: &mut Steps, command: &str, then: &[&str]) -> Result<bool, Fault> {
        let mut was_killed = false;
        // The kubelet waits ever longer before it starts what ended a while ago, and forgets that with itself.
        self.lab.on("e3", "systemctl restart kubelet")?.ok()?;
        self.lab.on("e4", "systemctl restart kubelet")?.ok()?;
        under_load(
            self.lab,
            (&["e1", "e2"], then),
            || {
                was_killed = steps.kill_after_next(self.lab, command, &self.all)?;
                self.lab.rsadm_on(command, &self.all)?.ok().map(drop)
            },
            || self.is_healthy(then),
        )?;
        self.on("plan", then)?.ok()?.says("in sync: ")?;
        let left =
            "! pidof etcd && [ ! -e /var/lib/etcd/member ] && [ ! -e /etc/kubernetes/manifests/etcd.yaml ]";
        let gone = FOUR.iter().filter(|host| !then.contains(host));
        gone.map(|host| self.lab.on(host, left)?.ok()).collect::<Result<Vec<_>, _>>()?;
        Ok(was_killed)
    }

    fn restore(&self) -> Check {
        let file = self.lab.path("restored.db").display().to_string();
        self.cluster().etcdctl("e1", "put kept snapshot")?.ok()?;
        self.on(&format!("etcd snapshot save --to {file}"), &THREE)?.ok()?;
        let mut steps = Steps::default();
        while self.restored(&mut steps, &format!("--yes etcd restore {{}} {file}"))? {}
        Ok(())
    }

    /// A restore under load, killed and run again. False where it came to its end.
    fn restored(&self, steps: &mut Steps, command: &str) -> Result<bool, Fault> {
        self.cluster().etcdctl("e1", "put kept later")?.ok()?;
        let writer = Writer::start(self.lab, &self.cluster(), &THREE)?;
        let was_killed = steps.kill_after_next(self.lab, command, &self.all.with_hosts(&THREE))?;
        // Acknowledged where etcd runs at this moment.
        let (killed, between) = (now(), self.cluster().etcdctl("e1", "put between 1")?.code == 0);
        let again = self.on(command, &THREE)?.ok()?;
        let was_over = again.says("was over already").is_ok();
        let over = if was_over { killed } else { now() };
        let written = writer.end()?;
        self.is_healthy(&THREE)?;
        let since = written.since(over);
        for host in THREE {
            since.is_all_on(&self.cluster(), host)?;
            let get = |key: &str| {
                self.cluster().etcdctl(host, &format!("get {key} --print-value-only --consistency=s"))?.text()
            };
            let kept = get("kept")?;
            ensure!(kept == "snapshot", "{host} has {kept:?}, not what the snapshot had");
            ensure!(
                !was_over || !between || get("between")? == "1",
                "{host} lost what came after the restore"
            );
        }
        written.forget(&self.cluster(), "e1")?;
        self.on("plan", &THREE)?.ok()?.says("in sync: ")?;
        Ok(was_killed)
    }
}

/// Steps of a command after which it was killed.
#[derive(Default)]
struct Steps(BTreeSet<String>);

impl Steps {
    /// Starts the command and kills it as soon as it tells of a step that is none of these. What it told of in the same breath
    /// is one with it: those travel to a host together. False where it came to its end.
    fn kill_after_next(&mut self, lab: &Lab, command: &str, inventory: &Inventory) -> Result<bool, Fault> {
        let mut running = lab.start_rsadm_on(&format!("-o json {command}"), inventory)?;
        let mut last = None;
        while let Some(line) = running.line()? {
            last = step_of(&line).filter(|step| !self.0.contains(step));
            if last.is_some() {
                running.signal("KILL")?;
                break;
            }
        }
        let outcome = running.end()?;
        println!("    {command}: {}", last.as_deref().unwrap_or("came to its end"));
        // After its last step it may come to its end.
        ensure!(outcome.code == 0 || last.is_some() && outcome.code == -1, "{}", outcome.all());
        self.0.extend(outcome.stderr.lines().filter_map(step_of));
        Ok(last.is_some())
    }
}

/// What is begun or done on hosts, by an event; on whichever host it is, and whatever numbers are new each time.
fn step_of(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line).ok()?;
    let words = match event["event"].as_str()? {
        "stage_started" => text(&event["title"]),
        "step_started" | "stage_done" => text(&event["text"]),
        _ => return None,
    };
    let words = FOUR.iter().fold(words, |words, host| words.replace(host, "HOST"));
    let is_new_each_time = |word: &&str| word.len() > 5 && word.contains(|c: char| c.is_ascii_digit());
    let words: Vec<&str> = words.split(' ').filter(|word| !is_new_each_time(word)).collect();
    let words = words.join(" ");
    // How a step goes on is no step.
    let counts = event["phase"] != "connect" && !words.starts_with("waiting for ");
    counts.then(|| format!("{}: {words}", text(&event["phase"])))
}
