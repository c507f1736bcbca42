//! The commands that change what a plain etcd cluster is made of, killed after each of their steps and run again, while a
//! client writes the whole time.
//!
//! Rows of the fault matrix: 33 (a run that died while a member joined), 47 (a restore that broke off).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{
    Check, Checks, Cluster, Fault, Inventory, Lab, Outcome, Writer, eventually, now, text, under_load,
};

use crate::scenarios::steady;

const NODES: [&str; 4] = ["e1:10.77.0.31", "e2:10.77.0.32", "e3:10.77.0.33", "e4:10.77.0.34"];
const FOUR: [&str; 4] = ["e1", "e2", "e3", "e4"];
const THREE: [&str; 3] = ["e1", "e2", "e3"];

struct Killed<'a> {
    lab: &'a Lab,
    all: Inventory,
}

#[test]
fn killed() {
    let lab = Lab::up("killed", &NODES).unwrap();
    let mut checks = Checks::new("killed");
    let all = Inventory::load("tests/lab/inventories/lab-etcd-only.yaml").with_hosts(&FOUR).patient();
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

    /// Each is the other's undoing.
    fn come_and_go(&self) -> Check {
        self.changed("etcd add {} e4", &FOUR)?;
        self.changed("etcd remove {} e4", &THREE)
    }

    /// Two hosts have the place in turns.
    fn take_turns(&self) -> Check {
        self.changed("etcd replace {} e3 e4", &["e1", "e2", "e4"])?;
        self.changed("etcd replace {} e4 e3", &THREE)
    }

    /// A change of the membership under load, killed after each of its steps and run again, after which these have members.
    fn changed(&self, command: &str, then: &[&str]) -> Check {
        // The kubelet waits ever longer before it starts what ended a while ago, and forgets that with itself.
        self.lab.on("e3", "systemctl restart kubelet")?.ok()?;
        self.lab.on("e4", "systemctl restart kubelet")?.ok()?;
        let mut steps = Steps::default();
        under_load(
            self.lab,
            (&["e1", "e2"], then),
            || {
                while steps.kill_after_next(self.lab, command, &self.all)?.is_none() {
                    // Whatever was left undone, those that stay take writes.
                    eventually(|| self.cluster().etcdctl("e1", "put between 1")?.ok().map(drop))?;
                }
                Ok(())
            },
            || self.is_healthy(then),
        )?;
        steady::settles(self.lab, &self.all.with_hosts(then))?;
        let left =
            "! pidof etcd && [ ! -e /var/lib/etcd/member ] && [ ! -e /etc/kubernetes/manifests/etcd.yaml ]";
        let mut gone = FOUR.iter().filter(|host| !then.contains(host));
        gone.try_for_each(|host| self.lab.on(host, left)?.ok().map(drop))
    }

    /// Under load, killed after each of its steps and run again.
    fn restore(&self) -> Check {
        let file = self.lab.path("restored.db").display().to_string();
        self.cluster().put("e1", "kept", "snapshot")?;
        self.on(&format!("etcd snapshot save --to {file}"), &THREE)?.ok()?;
        self.cluster().put("e1", "kept", "later")?;
        let writer = Writer::start(self.lab, &self.cluster(), &THREE)?;
        let (command, three) = (format!("--yes etcd restore {{}} {file}"), self.all.with_hosts(&THREE));
        let (mut steps, mut killed, mut between) = (Steps::default(), now(), false);
        let last = loop {
            if let Some(last) = steps.kill_after_next(self.lab, &command, &three)? {
                break last;
            }
            // Acknowledged where etcd runs at this moment.
            (killed, between) = (now(), self.cluster().etcdctl("e1", "put between 1")?.code == 0);
        };
        let was_over = last.says("was over already").is_ok();
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
        steady::settles(self.lab, &three)
    }
}

/// Steps of a command after which it was killed.
#[derive(Default)]
struct Steps(BTreeSet<String>);

impl Steps {
    /// Starts the command and kills it as soon as it tells of a step that is none of these. What it told of in the same breath
    /// is one with it: those travel to a host together. Answers what it came to where it came to its end all the same.
    fn kill_after_next(
        &mut self,
        lab: &Lab,
        command: &str,
        inventory: &Inventory,
    ) -> Result<Option<Outcome>, Fault> {
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
        ensure!(outcome.code == 0 || last.is_some() && outcome.code == -1, "{}", outcome.all());
        self.0.extend(outcome.stderr.lines().filter_map(step_of));
        Ok((outcome.code == 0).then_some(outcome))
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
    // How a step goes on is no step; nor is what comes once a restore is over, where a next run would begin another one.
    let none = ["waiting for ", "tidying up", "what was left of one that is over"];
    let counts = event["phase"] != "connect" && !none.iter().any(|none| words.starts_with(none));
    counts.then(|| format!("{}: {words}", text(&event["phase"])))
}
