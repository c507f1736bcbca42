//! A node of another Debian release, made fit for rsadm by the script that Vagrant machines are provisioned with. It has nft and no
//! iptables, as Debian comes, and kube-proxy writes rules of iptables all the same.

use crate::harness::{Check, Checks, Cluster, Fault, Footprint, Inventory, Lab, Outcome, eventually, items};

use super::steady;

const NODES: [&str; 1] = ["m1"];

#[test]
fn trixie() {
    let lab = Lab::up("trixie", &["--suite", "trixie", "m1"]).unwrap();
    let mut checks = Checks::new("trixie");
    let inventory =
        Inventory::load("tests/lab/inventories/lab-single.yaml").with("kube_proxy.config.mode", "iptables");
    lab.on("m1", "rm /usr/sbin/xtables-*-multi").and_then(Outcome::ok).unwrap();
    let bare = Footprint::of_what_is_left(&lab, &NODES).unwrap();
    let cluster = Cluster::new(&lab, "m1");
    checks.check(
        "Vagrant's provisioning runs, and again, and changes nothing where nothing is missing",
        || {
            provision(&lab)?;
            provision(&lab)?;
            bare.is_still(&Footprint::of_what_is_left(&lab, &NODES)?)
        },
    );
    checks.check("preflight finds nothing in its way", || {
        lab.rsadm_on("preflight", &inventory)?.ok()?;
        Ok(())
    });
    checks.must("up", || lab.rsadm_on("up", &inventory)?.ok()?.says("1 node Ready"));
    checks.check("the node is Ready, and it is trixie", || {
        cluster.are_ready(&NODES)?;
        let node = cluster.json("get node m1")?;
        let os = &node["status"]["nodeInfo"]["osImage"];
        ensure!(os.as_str().is_some_and(|os| os.contains("trixie")), "the node runs {os}");
        Ok(())
    });
    checks.check("all pods of the system become Ready", || cluster.pods_become_ready("kube-system"));
    checks.check("kube-proxy's rules are those of iptables, which the host itself has not", || {
        lab.on("m1", "! command -v iptables-save && nft list ruleset")?.ok()?.says("jump KUBE-SERVICES")
    });
    checks.check("containerd is the one that up installed", || {
        lab.on("m1", "readlink /proc/$(pidof containerd)/exe")?.ok()?.says("/usr/local/bin/containerd")
    });
    checks.check("a second up changes nothing and says so", || {
        steady::settles(&lab, &inventory)?;
        steady::second_up_changes_nothing(&lab, &inventory)
    });
    // An older nft crashes beside the tables of kube-proxy.
    checks.check("rules that a firewall took along when it was loaded anew are back within moments", || {
        // By the number that the kernel gives each table: they may be back before one has looked whether they are gone.
        let table = || -> Result<String, Fault> {
            let listed = lab.on("m1", "nft -a list table ip rsadm")?.ok()?;
            listed.says("masquerade")?;
            let title = listed.stdout.lines().next().unwrap_or_default().to_owned();
            ensure!(title.contains("# handle "), "no number: {}", listed.all());
            Ok(title)
        };
        let before = table()?;
        lab.on("m1", "nft delete table ip rsadm")?.ok()?;
        eventually(|| {
            let now = table()?;
            ensure!(now != before, "that of before is still there: {now}");
            Ok(())
        })
    });
    checks.check("reset leaves the host as it was", || steady::reset_leaves_nothing(&lab, &inventory, &bare));
    checks.check(
        "without a plugin up waits for no network, brings none, and is content; so is its reset",
        || {
            has_no_network(&lab, &cluster, &inventory.with("network.plugin", "none"))?;
            steady::reset_leaves_nothing(&lab, &inventory, &bare)
        },
    );
    checks.finish();
}

/// What an operator's own network is put upon.
fn has_no_network(lab: &Lab, cluster: &Cluster<'_>, without: &Inventory) -> Check {
    lab.rsadm_on("up", without)?.ok()?.says("1 node joined (network.plugin: none)")?;
    let node = cluster.json("get node m1")?;
    let conditions = items(&node["status"]["conditions"]);
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    ensure!(ready.is_some_and(|ready| ready["status"] == "False"), "{conditions:?}");
    lab.on("m1", "! ls /etc/cni/net.d/* && ! ip link show type bridge | grep .")?.ok()?;
    eventually(|| {
        lab.rsadm_on("status", without)?.exits(8)?.says("not Ready: m1; with network.plugin: none")
    })?;
    steady::settles(lab, without)
}

fn provision(lab: &Lab) -> Check {
    lab.on("m1", include_str!("../../../vagrant/provision.sh"))?.ok()?;
    Ok(())
}
