//! Row 28 of the fault matrix: certificates whose time is over, on a node that does everything and on three members of
//! etcd. Nobody trusts anybody any more, no API server answers, and `certs renew` mends it over SSH.
//!
//! The expired ones are real: issued more than a year ago by the cluster's own authorities, whose keys the test reads.

use base64::{Engine, prelude::BASE64_STANDARD};
use rsadm::{
    host::{Op, Secret},
    inventory,
    pki::{
        authorities::Ca,
        files::{self, Server},
        issue::{Authority, Issued},
        specs,
    },
};
use time::{Duration, OffsetDateTime};

use crate::harness::{Check, Checks, Cluster, Fault, Inventory, Lab, Outcome, eventually};

const MEMBERS: [&str; 3] = ["e1", "e2", "e3"];

/// A cluster of this lab and what is looked at in it.
struct Aged<'a> {
    lab: &'a Lab,
    inventory: Inventory,
}

#[test]
fn certificates() {
    let nodes = ["m1", "e1:10.77.0.31", "e2:10.77.0.32", "e3:10.77.0.33"];
    let lab = Lab::up("certificates", &nodes).unwrap();
    let mut checks = Checks::new("certificates");
    let five = Inventory::load("tests/lab/inventories/lab-etcd-only.yaml");
    let etcd = Aged { lab: &lab, inventory: five.with_hosts(&MEMBERS) };
    checks.must("up: three members", || etcd.rsadm("up")?.says("3 etcd members healthy"));
    checks.check("three members: status is content, and nothing needs to be renewed", || etcd.is_content());
    checks.check("row 28: members whose certificates have expired have no quorum, and are renewed", || {
        etcd.outlives_its_certificates()
    });
    checks.check("members whose certificates a clock that was ahead has issued are renewed", || {
        etcd.does_not_wait_for_its_certificates()
    });
    checks.check("what holds is renewed one member at a time", || etcd.renews_while_it_serves());
    let single = Inventory::load("tests/lab/inventories/lab-single.yaml");
    let single = Aged { lab: &lab, inventory: single };
    checks.must("up: one node", || single.rsadm("up")?.says("1 node Ready"));
    checks.check("one node: status is content", || single.is_content());
    checks.check("row 28: a node whose certificates have expired comes back", || single.node_comes_back());
    checks.finish();
}

impl Aged<'_> {
    fn rsadm(&self, command: &str) -> Result<Outcome, Fault> {
        let outcome = self.lab.rsadm_on(command, &self.inventory)?.ok()?;
        println!("{}{}", outcome.stdout, outcome.stderr);
        Ok(outcome)
    }

    fn status(&self, exit: i32) -> Result<Outcome, Fault> {
        let status = self.lab.rsadm_on("certs status", &self.inventory)?.exits(exit)?;
        println!("{}", status.stdout);
        Ok(status)
    }

    fn is_content(&self) -> Check {
        let status = self.status(0)?;
        status.says("this one")?;
        status.says_nothing_of("another")?;
        self.rsadm("certs renew")?.says("nothing to renew")
    }

    fn outlives_its_certificates(&self) -> Check {
        self.age(400)?;
        let told = eventually(|| {
            let told = self.lab.rsadm_on("etcd status", &self.inventory)?.exits(9)?;
            told.says("rsadm certs renew")?;
            Ok(told)
        })?;
        println!("{}", told.stdout);
        let status = self.status(8)?;
        status.says("9 certificates, 9 MISSING OR EXPIRED")?;
        status.says("rsadm certs renew")?;
        self.rsadm("certs renew")?.says("9 certificates renewed")?;
        self.is_well()
    }

    /// They begin tomorrow. That nobody accepts them until then must not be taken for a cluster that is lost.
    fn does_not_wait_for_its_certificates(&self) -> Check {
        self.age(-1)?;
        let told = eventually(|| {
            let told = self.lab.rsadm_on("etcd status", &self.inventory)?.exits(9)?;
            told.says("have not begun")?;
            Ok(told)
        })?;
        println!("{}", told.stdout);
        self.status(8)?.says("9 certificates, 9 MISSING, EXPIRED OR NOT BEGUN")?;
        self.rsadm("certs renew")?.says("9 certificates renewed")?;
        self.is_well()
    }

    /// Under the gate; a member's certificates are seen to be served before the next member's turn.
    fn renews_while_it_serves(&self) -> Check {
        let ids = self.pods()?;
        let renewed = self.rsadm("certs renew --all")?;
        renewed.says("9 certificates renewed")?;
        renewed.says("6 certificates served as issued")?;
        ensure!(
            self.pods()? == ids,
            "members were started anew, which read their certificates by themselves"
        );
        self.is_well()
    }

    fn node_comes_back(&self) -> Check {
        self.age(400)?;
        // Whatever is dialled anew finds out; what is connected goes on. As in a crash: an API server that is asked to end
        // first waits for answers of etcd, and listens all that time.
        self.lab.on("m1", "pkill -x etcd; pkill -KILL -x kube-apiserver; true")?;
        let down = || -> Check {
            let answer = Cluster::new(self.lab, "m1").kubectl("get --raw /readyz")?;
            ensure!(answer.code != 0, "the API server still answers");
            Ok(())
        };
        eventually(down)?;
        let status = self.status(8)?;
        status.says("13 certificates, 13 MISSING OR EXPIRED")?;
        self.rsadm("certs renew")?.says("13 certificates renewed")?;
        eventually(|| Cluster::new(self.lab, "m1").are_ready(&["m1"]))?;
        self.is_well()
    }

    fn is_well(&self) -> Check {
        self.status(0)?.says_nothing_of("another")?;
        eventually(|| self.lab.rsadm_on("etcd status", &self.inventory)?.ok())?;
        self.lab.rsadm_on("plan", &self.inventory)?.ok()?;
        Ok(())
    }

    /// Processes of members, by which a restart shows.
    fn pods(&self) -> Result<Vec<String>, Fault> {
        MEMBERS.iter().map(|host| self.lab.on(host, "pidof etcd")?.text()).collect()
    }

    /// Puts certificates in place of all that were issued so many days ago.
    fn age(&self, days: i64) -> Check {
        let file = self.inventory.save(&self.lab.path(""))?;
        let loaded = inventory::load_bytes(&std::fs::read(&file)?, &file, Some(&self.lab.path("home")))
            .map_err(|e| e.to_string())?;
        let (cluster, then) = (loaded.cluster, OffsetDateTime::now_utc() - Duration::days(days));
        for node in &cluster.nodes {
            for spec in specs::specs_for(&cluster, node) {
                let authority = self.authority(node.name.as_str(), spec.ca)?;
                let issued = authority.issue(&spec, then).map_err(|e| e.to_string())?;
                let url = format!("https://{}:{}", node.internal_address, cluster.api.port);
                let server = Server { cluster: &cluster.name, url: &url, ca: &authority.files().cert };
                for op in files::leaf(&spec, &issued, &server) {
                    self.put(node.name.as_str(), &op)?;
                }
            }
        }
        Ok(())
    }

    fn authority(&self, host: &str, ca: Ca) -> Result<Authority, Fault> {
        let read = |path: String| self.lab.on(host, &format!("cat {path}"))?.ok();
        let (cert, key) = (read(ca.cert_path())?.stdout, read(ca.key_path())?.stdout);
        Ok(Authority::load(ca, Issued { cert, key: Secret::new(key) }).map_err(|e| e.to_string())?)
    }

    fn put(&self, host: &str, op: &Op) -> Check {
        let script = match op {
            Op::Put(file) => {
                let (data, path) = (BASE64_STANDARD.encode(file.data.expose()), &file.path);
                format!("base64 -d <<< {data} > {path} && chmod {:o} {path}", file.mode)
            }
            Op::Run(command) => command.argv.join(" "),
            Op::Read(_) | Op::Script(..) => return Err("a certificate takes no such operation".into()),
        };
        self.lab.on(host, &script)?.ok()?;
        Ok(())
    }
}
