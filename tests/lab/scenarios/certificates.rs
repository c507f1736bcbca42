//! Row 28 of the fault matrix: certificates whose time is over, on a node that does everything and on three members of
//! etcd. Nobody trusts anybody any more, no API server answers, and `certs renew` mends it over SSH. Rows 37 (what holds is
//! not renewed while another member is away) and 60 (no key material shows).
//!
//! The expired ones are real: issued more than a year ago by the cluster's own authorities, whose keys the test reads.

use std::cell::RefCell;

use base64::{Engine, prelude::BASE64_STANDARD};
use rsadm::{
    host::Op,
    inventory,
    pki::{
        authorities::Ca,
        files::{self, Server},
        issue::{Authority, Issued},
        leaf::LeafSpec,
        specs,
    },
    secret::Secret,
};
use time::{Duration, OffsetDateTime};

use crate::harness::{
    Check, Checks, Cluster, CommandLines, Fault, Inventory, Lab, Outcome, Secrets, eventually,
};

use super::steady;

const MEMBERS: [&str; 3] = ["e1", "e2", "e3"];

/// A cluster of this lab and what is looked at in it.
struct Aged<'a> {
    lab: &'a Lab,
    inventory: Inventory,
    /// All that rsadm said, and the key material that must not be in it.
    said: RefCell<String>,
    secrets: RefCell<Secrets>,
}

#[test]
fn certificates() {
    let nodes = ["m1", "e1:10.77.0.31", "e2:10.77.0.32", "e3:10.77.0.33"];
    let lab = Lab::up("certificates", &nodes).unwrap();
    let mut checks = Checks::new("certificates");
    let five = Inventory::load("tests/lab/inventories/lab-etcd-only.yaml");
    let etcd = Aged::new(&lab, five.with_hosts(&MEMBERS));
    let command_lines = CommandLines::watch();
    checks.must("up: three members", || etcd.rsadm("up")?.says("3 etcd members healthy"));
    checks.check("three members: status is content, and nothing needs to be renewed", || etcd.is_content());
    checks.check("row 28: members whose certificates have expired have no quorum, and are renewed", || {
        etcd.outlives_its_certificates()
    });
    checks.check("members whose certificates a clock that was ahead has issued are renewed", || {
        etcd.does_not_wait_for_its_certificates()
    });
    checks.check("row 37: what holds is not renewed while another member is away", || {
        etcd.is_not_renewed_while_one_is_away()
    });
    checks.check("what holds is renewed one member at a time", || etcd.renews_while_it_serves());
    checks.check("a certificate for other members that ends before that for clients is told", || {
        etcd.tells_what_ends_first()
    });
    checks.check("keys that end early or are another certificate's are told, and issued anew", || {
        etcd.heals_its_keys()
    });
    let single = Inventory::load("tests/lab/inventories/lab-single.yaml");
    let single = Aged::new(&lab, single);
    checks.must("up: one node", || single.rsadm("up")?.says("1 node Ready"));
    checks.check("one node: status is content", || single.is_content());
    checks.check("row 28: a node whose certificates have expired comes back", || single.node_comes_back());
    checks.check("programs are told how things are, too, and get a token", || {
        etcd.tells_programs()?;
        single.tells_programs()?;
        single.gives_a_token()
    });
    let seen = command_lines.end();
    checks.check("row 60: no key material is in command lines, messages, logs or files for everyone", || {
        let seen = seen?;
        etcd.no_secret_shows(&seen)?;
        single.no_secret_shows(&seen)
    });
    checks.finish();
}

impl<'a> Aged<'a> {
    fn new(lab: &'a Lab, inventory: Inventory) -> Self {
        Self { lab, inventory, said: RefCell::default(), secrets: RefCell::default() }
    }

    fn run(&self, command: &str) -> Result<Outcome, Fault> {
        let outcome = self.lab.rsadm_on(command, &self.inventory)?;
        *self.said.borrow_mut() += &outcome.all();
        Ok(outcome)
    }

    fn rsadm(&self, command: &str) -> Result<Outcome, Fault> {
        let outcome = self.run(command)?.ok()?;
        println!("{}{}", outcome.stdout, outcome.stderr);
        Ok(outcome)
    }

    /// `certs status`, as soon as it exits so and says that: what a host has that is late counts as missing.
    fn status(&self, exit: i32, words: &[&str]) -> Result<Outcome, Fault> {
        let status = eventually(|| {
            let status = self.run("certs status")?.exits(exit)?;
            words.iter().try_for_each(|words| status.says(words))?;
            Ok(status)
        })?;
        println!("{}", status.stdout);
        Ok(status)
    }

    fn is_content(&self) -> Check {
        self.status(0, &["this one"])?.says_nothing_of("another")?;
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
        self.status(8, &["9 certificates, 9 MISSING OR EXPIRED", "rsadm certs renew"])?;
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
        self.status(8, &["9 certificates, 9 MISSING, EXPIRED OR NOT BEGUN"])?;
        self.rsadm("certs renew")?.says("9 certificates renewed")?;
        self.is_well()
    }

    /// Under the gate; a member's certificates are seen to be served before the next member's turn.
    fn renews_while_it_serves(&self) -> Check {
        let ids = self.pods()?;
        let renewed = self.renews_in_json("certs renew --all")?;
        renewed.says("9 certificates renewed")?;
        renewed.says("6 certificates served as issued")?;
        ensure!(
            self.pods()? == ids,
            "members were started anew, which read their certificates by themselves"
        );
        self.is_well()
    }

    /// Its host is there, so that it is the gate that refuses.
    fn is_not_renewed_while_one_is_away(&self) -> Check {
        let others =
            || -> Result<_, Fault> { Ok((self.pods()?[..2].to_vec(), self.certificates_of_members()?)) };
        let before = others()?;
        self.lab.on("e3", "pkill -STOP -x etcd")?.ok()?;
        let refused = self.run("certs renew --all");
        self.lab.on("e3", "pkill -CONT -x etcd || true")?.ok()?;
        let refused = refused?.exits(5)?;
        println!("{}", refused.stderr);
        refused.says("would leave 1 healthy of 3 voters, and 2 are needed")?;
        refused.says("rsadm etcd replace /")?;
        refused.says("yaml e3 where rsadm etcd status")?;
        refused.says("names that; the last way out is --accept-quorum-loss")?;
        ensure!(others()? == before, "a member was touched");
        eventually(|| self.run("etcd status")?.ok().map(drop))
    }

    /// As where those for clients alone were renewed.
    fn tells_what_ends_first(&self) -> Check {
        self.age_those(350, |host, spec| host == "e2" && spec.name == "etcd-peer")?;
        let told = eventually(|| {
            let told = self.run("etcd status")?.exits(8)?;
            told.says("the certificate that e2 serves to other members will expire within 30 days")?;
            Ok(told)
        })?;
        println!("{}", told.stdout);
        self.rsadm("certs renew")?.says("1 certificate renewed")?;
        eventually(|| self.run("etcd status")?.ok().map(drop))
    }

    /// One was cut short, as by a full disk, and one was copied over another. Members read both with each connection.
    fn heals_its_keys(&self) -> Check {
        self.lab.on("e2", "truncate -s 100 /etc/kubernetes/pki/etcd/server.key")?.ok()?;
        self.lab.on("e3", "cd /etc/kubernetes/pki/etcd && cp server.key peer.key")?.ok()?;
        let told = eventually(|| {
            let told = self.run("etcd status")?.exits(8)?;
            told.says("it has no certificate with its key that it can use")?;
            told.says("rsadm certs status")?;
            Ok(told)
        })?;
        println!("{}", told.stdout);
        self.status(8, &["9 certificates, 2 MISSING"])?;
        let healed = self.rsadm("up")?;
        healed.says("2 certificates issued on 2 hosts")?;
        self.is_well()
    }

    /// What members serve and dial one another with.
    fn certificates_of_members(&self) -> Result<Vec<String>, Fault> {
        let read = "cat /etc/kubernetes/pki/etcd/server.crt /etc/kubernetes/pki/etcd/peer.crt";
        MEMBERS.iter().map(|host| self.lab.on(host, read)?.text()).collect()
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
        self.status(8, &["13 certificates, 13 MISSING OR EXPIRED"])?;
        self.renews_in_json("certs renew")?.says("13 certificates renewed")?;
        Cluster::new(self.lab, "m1").are_ready(&["m1"])?;
        self.is_well()
    }

    fn is_well(&self) -> Check {
        self.keep_secrets()?;
        self.status(0, &[])?.says_nothing_of("another")?;
        eventually(|| self.lab.rsadm_on("etcd status", &self.inventory)?.ok())?;
        steady::settles(self.lab, &self.inventory)
    }

    /// As programs have it, with all that there is to tell.
    fn renews_in_json(&self, command: &str) -> Result<Outcome, Fault> {
        self.keep_secrets()?;
        let renewed = self.rsadm(&format!("{command} -o json -vv"))?;
        for line in renewed.stderr.lines() {
            serde_json::from_str::<serde_json::Value>(line)?;
        }
        Ok(renewed)
    }

    fn tells_programs(&self) -> Check {
        for command in ["certs status", "etcd status", "plan"] {
            let told = eventually(|| self.rsadm(&format!("{command} -o json")))?;
            serde_json::from_str::<serde_json::Value>(&told.stdout)?;
        }
        Ok(())
    }

    /// Whoever has it joins the cluster: it is shown to the one who asked, and nowhere else.
    fn gives_a_token(&self) -> Check {
        let made =
            self.lab.rsadm_with(("RSADM_LOG", "trace"), "token create -o json", &self.inventory)?.ok()?;
        *self.said.borrow_mut() += &made.stderr;
        let made: serde_json::Value = serde_json::from_str(&made.stdout)?;
        let (_, secret) = made["token"].as_str().and_then(|t| t.split_once('.')).ok_or("it is no token")?;
        self.secrets.borrow_mut().add_from(&format!("secret: {secret}"))
    }

    /// That of now, beside that of before.
    fn keep_secrets(&self) -> Check {
        self.secrets.borrow_mut().add(self.lab, &self.inventory.all_hosts())
    }

    fn no_secret_shows(&self, command_lines: &str) -> Check {
        self.keep_secrets()?;
        let hosts = self.inventory.all_hosts();
        self.secrets.borrow().show_nowhere(self.lab, &hosts, &self.said.borrow(), command_lines)
    }

    /// Processes of members, by which a restart shows.
    fn pods(&self) -> Result<Vec<String>, Fault> {
        MEMBERS.iter().map(|host| self.lab.on(host, "pidof etcd")?.text()).collect()
    }

    /// Puts certificates in place of all that were issued so many days ago.
    fn age(&self, days: i64) -> Check {
        self.age_those(days, |_, _| true)
    }

    /// The same of some, by their hosts and specifications.
    fn age_those(&self, days: i64, wants: impl Fn(&str, &LeafSpec) -> bool) -> Check {
        let file = self.inventory.save(&self.lab.path(""))?;
        let loaded = inventory::load_bytes(&std::fs::read(&file)?, &file, Some(&self.lab.path("home")))
            .map_err(|e| e.to_string())?;
        let (cluster, then) = (loaded.cluster, OffsetDateTime::now_utc() - Duration::days(days));
        for node in &cluster.nodes {
            for spec in specs::specs_for(&cluster, node).into_iter().filter(|s| wants(node.name.as_str(), s))
            {
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
