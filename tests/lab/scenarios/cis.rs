//! The automated checks of the CIS Kubernetes Benchmark v1.12 on real nodes: all 65 pass, `up` mends what was spoiled,
//! and a reset takes the user away that one of them wants. One node has the drop-in of a kubeadm package.

use std::collections::BTreeMap;

use super::steady;
use crate::harness::{Check, Checks, Fault, Footprint, Inventory, Lab, eventually};

const NODES: [&str; 2] = ["m1", "w1"];

/// How many there are: 47 of the control plane, 6 of etcd, 12 of a node.
const ALL: usize = 65;

/// What somebody does to a host behind rsadm's back, and the checks that then fail.
const SPOILED: [(&str, &str, &[&str]); 2] = [
    (
        "m1",
        "chmod 644 /etc/kubernetes/manifests/kube-scheduler.yaml; chown root:root /var/lib/etcd",
        &["1.1.12", "1.1.5"],
    ),
    ("w1", "chmod 644 /etc/systemd/system/kubelet.service", &["4.1.1"]),
];

/// As the package of kubeadm brings it, with a kubelet of its own.
const KUBEADM_DROP_IN: &str = "mkdir -p /usr/lib/systemd/system/kubelet.service.d && \
    printf '[Service]\\nEnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env\\nExecStart=\\nExecStart=/usr/bin/kubelet $KUBELET_KUBEADM_ARGS\\n' \
    > /usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf";

struct Cis<'a> {
    lab: &'a Lab,
    inventory: Inventory,
}

#[test]
fn cis() {
    let lab = Lab::up("cis", &NODES).unwrap();
    let mut checks = Checks::new("cis");
    let it = Cis { lab: &lab, inventory: Inventory::load("inventories/lab.yaml").with_hosts(&NODES) };
    lab.on("w1", KUBEADM_DROP_IN).unwrap().ok().unwrap();
    let bare = Footprint::of_what_is_left(&lab, &NODES).unwrap();
    checks.must("up", || {
        lab.rsadm_on("up", &it.inventory)?.ok()?;
        Ok(())
    });
    checks.check("our kubelet runs, although a package of kubeadm's has a drop-in", || {
        let shown = lab
            .on("w1", "systemctl show -P ExecStart kubelet; systemctl show -P DropInPaths kubelet")?
            .ok()?;
        shown.says("10-kubeadm.conf")?;
        shown.says("path=/usr/local/bin/kubelet")
    });
    checks.check("all automated checks of CIS 1.12 pass", || it.all_pass());
    checks.check("what was spoiled fails its check, and up mends it", || it.spoiled_and_mended());
    checks.check("a second up changes nothing", || {
        steady::settles(&lab, &it.inventory)?;
        lab.rsadm_on("up", &it.inventory)?.ok()?.says("nothing to change")
    });
    checks.check("reset leaves no user behind, nor anything else", || {
        lab.rsadm_on("reset --yes", &it.inventory)?.ok()?;
        bare.is_still(&Footprint::of_what_is_left(&lab, &NODES)?)
    });
    checks.finish();
}

/// What a check found, by its number.
type Findings = BTreeMap<String, (bool, String)>;

impl Cis<'_> {
    fn findings(&self, host: &str) -> Result<Findings, Fault> {
        let parts = if host == "m1" { "control-plane etcd node" } else { "node" };
        let told = self.lab.on(host, &format!("set -- {parts}\n{}", include_str!("../cis")))?.ok()?;
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            let (number, result) = (words.next()?, words.next()?);
            Some((number.to_owned(), (result == "pass", line.to_owned())))
        };
        Ok(told.stdout.lines().filter_map(line).collect())
    }

    /// Of components that run: one that lost its lease is being started anew.
    fn all_pass(&self) -> Check {
        eventually(|| {
            let mut numbers = Vec::new();
            let mut failed = Vec::new();
            for host in NODES {
                let findings = self.findings(host)?;
                failed.extend(
                    findings.values().filter(|(pass, _)| !pass).map(|(_, line)| format!("{host}: {line}")),
                );
                numbers.extend(findings.into_keys());
            }
            numbers.sort();
            numbers.dedup();
            ensure!(numbers.len() == ALL, "{} checks were made instead of {ALL}", numbers.len());
            ensure!(failed.is_empty(), "failed:\n{}", failed.join("\n"));
            Ok(())
        })
    }

    fn spoiled_and_mended(&self) -> Check {
        for (host, spoil, numbers) in SPOILED {
            self.lab.on(host, spoil)?.ok()?;
            eventually(|| {
                let findings = self.findings(host)?;
                let failed: Vec<&String> =
                    findings.iter().filter(|(_, (pass, _))| !pass).map(|(n, _)| n).collect();
                ensure!(failed == numbers, "after {spoil} on {host} these fail: {failed:?}");
                Ok(())
            })?;
        }
        self.lab.rsadm_on("up", &self.inventory)?.ok()?;
        self.all_pass()
    }
}
