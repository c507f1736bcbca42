//! Members that hold other data than the rest and run, so that etcd, which compares at its start, ends the others: the right
//! ones stay out, and there is no quorum.
//!
//! Row 44 of the fault matrix (flipped bits), where the wrong ones were first after a power cut.

use super::{FLIP, START, STOP};
use crate::harness::{Check, Checks, Cluster, Fault, Inventory, Lab, Outcome, eventually};

const NODES: [&str; 5] =
    ["e1:10.77.0.31", "e2:10.77.0.32", "e3:10.77.0.33", "e4:10.77.0.34", "e5:10.77.0.35"];
const FIVE: [&str; 5] = ["e1", "e2", "e3", "e4", "e5"];
const THREE: [&str; 3] = ["e1", "e2", "e3"];

struct KeptOut<'a> {
    lab: &'a Lab,
    all: Inventory,
}

#[test]
fn kept_out() {
    let lab = Lab::up("kept-out", &NODES).unwrap();
    let mut checks = Checks::new("kept-out");
    let all = Inventory::load("tests/lab/inventories/lab-etcd-only.yaml").with_hosts(&FIVE).patient();
    let it = KeptOut { lab: &lab, all };
    checks.must("three members", || it.on("up", &THREE)?.ok()?.says("3 etcd members healthy"));
    checks.check("row 44: a wrong one of three keeps the others out, and what status says heals it", || {
        it.one_of_three()
    });
    checks.must("five members", || it.on("up", &FIVE)?.ok()?.says("e5 is a voting member"));
    checks.check(
        "row 44: two wrong ones of five outvote nobody, and recover goes on from who is right",
        || it.two_of_five(),
    );
    checks.finish();
}

impl KeptOut<'_> {
    /// With an inventory of these hosts alone.
    fn on(&self, command: &str, hosts: &[&str]) -> Result<Outcome, Fault> {
        self.lab.rsadm_on(command, &self.all.with_hosts(hosts))
    }

    fn is_healthy(&self, hosts: &[&str]) -> Check {
        eventually(|| self.on("etcd status", hosts)?.ok().map(drop))
    }

    /// All lose their power but for etcd's data, in which these then have another value; and they are the first to be back.
    fn spoil(&self, wrong: &[&str], hosts: &[&str]) -> Check {
        let mark = "marked".repeat(50);
        Cluster::new(self.lab, hosts[0]).put(hosts[0], "lab-mark", &mark)?;
        for host in hosts {
            self.lab.on(host, STOP)?.ok()?;
        }
        for host in wrong {
            self.lab.on(host, FLIP)?.ok()?;
            self.lab.on(host, START)?.ok()?;
        }
        eventually(|| wrong.iter().try_for_each(|host| self.lab.on(host, "pidof etcd")?.ok().map(drop)))
    }

    /// What `status` says once it knows who keeps whom out, and that there is no quorum.
    fn tells_of(&self, hosts: &[&str], who: &str) -> Result<Outcome, Fault> {
        let told = eventually(|| {
            let told = self.on("etcd status", hosts)?.exits(9)?;
            told.says(who)?;
            Ok(told)
        })?;
        println!("{}", told.stdout);
        Ok(told)
    }

    /// The value that was written, by the account of each member.
    fn is_right_on(&self, hosts: &[&str]) -> Check {
        hosts.iter().try_for_each(|host| {
            let get = "get lab-mark --print-value-only --consistency=s";
            let mark = Cluster::new(self.lab, host).etcdctl(host, get)?.text()?;
            ensure!(mark == "marked".repeat(50), "{host} has {mark}");
            Ok(())
        })
    }

    fn one_of_three(&self) -> Check {
        self.spoil(&["e3"], &THREE)?;
        self.lab.on("e1", START)?.ok()?;
        self.lab.on("e2", START)?.ok()?;
        let told = self.tells_of(&THREE, "etcd does not start on e1 and e2 beside e3")?;
        told.says(
            "Without e3 a quorum is left: end etcd on e3 (mv /etc/kubernetes/manifests/etcd.yaml /root/;",
        )?;
        // Kubelets try again now and then to start those that are kept out, and what starts while it is measured is unknown.
        let diagnosis = eventually(|| {
            let diagnosis = self.on("etcd recover --diagnose", &THREE)?.exits(9)?;
            diagnosis.says(
                "e3 holds other data at one revision than e1 and e2, who are more than half of all 3 members",
            )?;
            Ok(diagnosis)
        })?;
        println!("{}", diagnosis.stdout);
        // Nothing else that writes goes on.
        self.on("etcd recover --yes", &THREE)?.exits(5)?.says("started again they are a quorum")?;
        self.on("etcd replace {} e3", &THREE)?.exits(5)?.says("no quorum answers")?;
        // As `status` says.
        self.lab.on("e3", "mv /etc/kubernetes/manifests/etcd.yaml /root/; pkill -x etcd")?.ok()?;
        self.lab.on("e1", "systemctl restart kubelet")?.ok()?;
        self.lab.on("e2", "systemctl restart kubelet")?.ok()?;
        eventually(|| self.on("etcd status --compare", &THREE)?.exits(8)?.says("2 of 3 voters healthy"))?;
        self.on("etcd replace {} e3", &THREE)?.ok()?.says("etcd has 3 voting members, can lose 1")?;
        self.is_healthy(&THREE)?;
        self.is_right_on(&THREE)
    }

    fn two_of_five(&self) -> Check {
        let (wrong, right) = (["e4", "e5"], ["e3", "e4", "e5"]);
        self.spoil(&wrong, &FIVE)?;
        self.lab.on("e3", START)?.ok()?;
        self.lab.verb(&["poweroff", "--hard", "e1", "e2"])?.ok()?;
        let told = self.tells_of(&FIVE, "etcd does not start on e3 beside e4 and e5")?;
        told.says("without e4 and e5 too few are left for a quorum")?;
        told.says_nothing_of("etcd replace")?;
        // Two that agree are no majority of five.
        let refused = eventually(|| {
            let refused = self.on("etcd recover --yes", &FIVE)?;
            // Refused is it at each try.
            let is_told = refused.code != 5 || refused.says("nothing here tells whose is right").is_ok();
            ensure!(is_told, "refused otherwise: {}", refused.all());
            Ok(refused)
        })?;
        println!("{}", refused.stderr);
        let refused = refused.exits(5)?;
        refused.says("nothing here tells whose is right")?;
        refused.says("nothing was recovered")?;
        let recovered = self.on("etcd recover --from e3 --yes", &FIVE)?.ok()?;
        println!("{}", recovered.stderr);
        recovered.says("restored on 3 hosts; old data set aside there")?;
        recovered.says("e1, e2 do not answer and have the old data")?;
        eventually(|| self.on("etcd status", &right)?.says("3 of 3 voters healthy"))?;
        self.is_right_on(&right)?;
        // Those that missed it have no member that runs: nothing but what is on their disks tells that it is of old.
        self.lab.verb(&["reboot", "--hard", "e1", "e2"])?.ok()?;
        eventually(|| {
            let told = self.on("etcd status", &FIVE)?.exits(8)?;
            told.says("e1 missed a restore or a recovery and has the old data")?;
            told.says("e2 missed a restore or a recovery and has the old data")?;
            told.says("rsadm etcd replace ")
        })?;
        self.on("up", &FIVE)?.exits(5)?.says("e1, e2 have the data of the old cluster")?;
        // With the one's, it sets the other's data aside, too.
        self.on("etcd replace {} e1", &FIVE)?.ok()?;
        self.on("up", &FIVE)?.ok()?.says("e2 is a voting member")?;
        self.is_healthy(&FIVE)?;
        self.is_right_on(&FIVE)
    }
}
