//! Arguments that a component does not know, on a running cluster: the roll-out stops at the first host, says what the
//! component said, and takes the change back there; the others are never touched. And `up` heals what others broke.
//!
//! Row 51 of the fault matrix (a bad flag on one of three control planes).

use crate::harness::{Check, Checks, Cluster, Fault, Inventory, Lab, Outcome, Processes, eventually};

use super::steady;

const NODES: [&str; 3] = ["m1", "m2", "m3"];

/// The key of the inventory, the component, and what of its own words has to be shown. The API server comes
/// last: who loses its lease with it is started anew ever later, and in its own turn has to be back within a
/// minute.
const BAD: [(&str, &str, &str); 4] = [
    ("kube_controller_manager", "kube-controller-manager", "unknown flag: --no-such-flag"),
    ("kube_scheduler", "kube-scheduler", "unknown flag: --no-such-flag"),
    ("etcd", "etcd", "flag provided but not defined: -no-such-flag"),
    ("kube_apiserver", "kube-apiserver", "unknown flag: --no-such-flag"),
];

/// Taken by the parser of arguments, and refused by the component after that.
const USELESS: (&str, &str) = ("kube_apiserver.extra_args", "{audit-log-mode: no-such-mode}");

struct Rollback<'a> {
    lab: &'a Lab,
    inventory: Inventory,
}

#[test]
fn rollback() {
    let lab = Lab::up("rollback", &NODES).unwrap();
    let mut checks = Checks::new("rollback");
    let inventory = Inventory::load("inventories/lab.yaml").with_hosts(&NODES).patient();
    let it = Rollback { lab: &lab, inventory };
    checks.must("up", || {
        lab.rsadm_on("up", &it.inventory)?.ok()?;
        Ok(())
    });
    for (key, component, words) in BAD {
        checks.check(&format!("row 51: an argument that {component} does not know is taken back"), || {
            let bad = it.inventory.with(&format!("{key}.extra_args"), "{no-such-flag: x}");
            it.is_taken_back(&bad, component)?.says(words)
        });
    }
    checks.check("row 51: a value that ends the API server is taken back", || {
        it.is_taken_back(&it.inventory.with(USELESS.0, USELESS.1), "kube-apiserver")?.says("no-such-mode")
    });
    checks.check("what no kubelet can use stops at the first one", || {
        it.stops_at_the_first_kubelet(
            &it.inventory.with("kubelet.extra_args", "{no-such-flag: x}"),
            "unknown flag",
        )?;
        it.stops_at_the_first_kubelet(&it.inventory.with("kubelet.config.maxPods", "many"), "maxPods")
    });
    checks.check("the corrected inventory converges", || {
        lab.rsadm_on("up", &it.good())?.ok()?;
        steady::settles(&lab, &it.good())?;
        Cluster::new(&lab, "m1").are_ready(&NODES)
    });
    let damage = [
        ("-n kube-system delete deployment coredns", "Deployment/coredns gone"),
        ("-n kube-system delete daemonset kube-proxy", "DaemonSet/kube-proxy gone"),
        (
            "-n kube-system patch deployment coredns --type json -p '[{\"op\":\"remove\",\"path\":\"/spec/template/spec/tolerations\"}]'",
            "changed in the cluster",
        ),
        ("delete clusterrolebinding system:coredns", "ClusterRoleBinding/system:coredns gone"),
    ];
    for (kubectl, words) in damage {
        checks
            .check(&format!("up heals what was done by kubectl {kubectl}"), || it.is_healed(kubectl, words));
    }
    checks.check("replicas and Corefile of CoreDNS stay as somebody else has set them", || it.are_kept());
    checks.check("what others add to the objects is no damage", || {
        let cluster = Cluster::new(&lab, "m1");
        eventually(|| {
            cluster.kubectl("-n kube-system label --overwrite deployment coredns team=dns")?.ok()?;
            cluster.kubectl("-n kube-system rollout restart daemonset kube-proxy")?.ok()
        })?;
        lab.rsadm_on("token create", &it.good())?.ok()?;
        steady::settles(&lab, &it.good())
    });
    checks.finish();
}

impl Rollback<'_> {
    fn good(&self) -> Inventory {
        self.inventory.with("kube_apiserver.extra_args", "{event-ttl: 2h}")
    }

    /// Add-ons are as `up` made them, whatever somebody did to them.
    fn is_healed(&self, kubectl: &str, words: &str) -> Check {
        let cluster = Cluster::new(self.lab, "m1");
        // Where the answer to a try was lost the next one is refused: the plan tells that it is done.
        eventually(|| {
            let done = cluster.kubectl(kubectl)?;
            let told = self.lab.rsadm_on("plan", &self.good())?.exits(7).and_then(|plan| plan.says(words));
            told.map_err(|fault| format!("{}{fault}", done.all()).into())
        })?;
        let up = self.lab.rsadm_on("up", &self.good())?.ok()?;
        up.says("deployment/coredns rolled out")?;
        // A pod that was Ready then may be late with an answer to its kubelet on a busy machine.
        cluster.pods_become_ready("kube-system")?;
        let deployment = cluster.json("get deployment -n kube-system coredns")?;
        ensure!(deployment["status"]["updatedReplicas"] == 2, "CoreDNS: {}", deployment["status"]);
        steady::settles(self.lab, &self.good())
    }

    /// What is left to the operator of the add-ons; and is rsadm's again where the object is deleted.
    fn are_kept(&self) -> Check {
        let cluster = Cluster::new(self.lab, "m1");
        let corefile = || -> Result<String, Fault> {
            let map = cluster.json("get configmap -n kube-system coredns")?;
            Ok(map["data"]["Corefile"].as_str().unwrap_or_default().to_owned())
        };
        let ours = corefile()?;
        let theirs = ours.replace("cache 30", "cache 31");
        let patch = serde_json::json!({"data": {"Corefile": theirs}});
        let corefile_of = format!("-n kube-system patch configmap coredns --type merge -p '{patch}'");
        eventually(|| {
            cluster.kubectl("-n kube-system scale deployment coredns --replicas=3")?.ok()?;
            cluster.kubectl(&corefile_of)?.ok()
        })?;
        let up = self.lab.rsadm_on("up", &self.good())?.ok()?;
        up.says("replicas was set by somebody else")?;
        up.says("Corefile was changed by somebody else")?;
        let deployment = cluster.json("get deployment -n kube-system coredns")?;
        ensure!(deployment["spec"]["replicas"] == 3, "CoreDNS: {}", deployment["spec"]);
        ensure!(corefile()? == theirs && theirs != ours, "the Corefile: {}", corefile()?);
        steady::settles(self.lab, &self.good())?;
        eventually(|| cluster.kubectl("-n kube-system delete --ignore-not-found configmap coredns")?.ok())?;
        self.lab.rsadm_on("up", &self.good())?.ok()?;
        ensure!(corefile()? == ours, "the Corefile: {}", corefile()?);
        eventually(|| cluster.kubectl("-n kube-system scale deployment coredns --replicas=2")?.ok())?;
        steady::settles(self.lab, &self.good())
    }

    /// `up` fails on m1, which then is as before; what it said.
    fn is_taken_back(&self, bad: &Inventory, component: &str) -> Result<Outcome, Fault> {
        let before = Processes::of(self.lab, &NODES)?;
        let manifests = self.manifests()?;
        let up = self.lab.rsadm_on("up", bad)?.exits(6)?;
        println!("{}", up.stderr);
        up.says("m1: ")?;
        up.says(&format!("{component} has its manifest from before again, and serves"))?;
        up.says("untouched: m2 m3")?;
        up.says("serving now: etcd on m1 m2 m3, API server on m1 m2 m3")?;
        up.says("extra_args")?;
        ensure!(self.manifests()? == manifests, "manifests are not as they were");
        let new = Processes::of(self.lab, &["m2", "m3"])?.new_since(&before);
        ensure!(new.is_empty(), "started anew: {new:?}");
        Cluster::new(self.lab, "m1").are_ready(&NODES)?;
        eventually(|| {
            let members = Cluster::new(self.lab, "m1").members("m1")?;
            ensure!(members.len() == 3, "m1 knows {members:?}");
            Ok(())
        })?;
        steady::settles(self.lab, &self.inventory)?;
        Ok(up)
    }

    /// The kubelet of m1 is down, said with its words; those of the others go on as they were.
    fn stops_at_the_first_kubelet(&self, bad: &Inventory, words: &str) -> Check {
        let others = ["m2", "m3"];
        let before = Processes::of(self.lab, &others)?;
        let up = self.lab.rsadm_on("up", bad)?.exits(6)?;
        println!("{}", up.stderr);
        up.says("m1: ")?;
        up.says("kubelet does not run with its new files")?;
        up.says(words)?;
        let new = Processes::of(self.lab, &others)?.new_since(&before);
        ensure!(new.is_empty(), "started anew: {new:?}");
        Ok(())
    }

    fn manifests(&self) -> Result<Vec<String>, Fault> {
        NODES
            .iter()
            .map(|host| {
                self.lab
                    .on(host, "sha256sum /etc/kubernetes/manifests/*; ls -a /etc/kubernetes/manifests")?
                    .text()
            })
            .collect()
    }
}
