//! etcd on hosts of its own: first as the example of it is shipped, with a haproxy on the worker, the network bridge and nftables, and
//! a host that loses its power in the middle of the first run. Then below what an operator brings himself: a load balancer, a
//! network plugin's manifests, and iptables for kube-proxy. Where keys are, the loss of an etcd host and of a control plane,
//! another etcd host in its place, and at last a member beside an API server instead of one on a host of its own.

use std::fs;

use crate::harness::{
    API_SERVES, Check, Checks, Cluster, Fault, Footprint, Inventory, Lab, Outcome, Probe, Processes, Writer,
    eventually, took_turns, under_load,
};

use super::{pods, steady};

const ETCD: [&str; 3] = ["e1", "e2", "e3"];
const CONTROL_PLANES: [&str; 2] = ["m1", "m2"];
const WORKER: &str = "w1";
const NODES: [&str; 3] = ["m1", "m2", "w1"];
const HOSTS: [&str; 7] =
    ["e1:10.77.0.31", "e2:10.77.0.32", "e3:10.77.0.33", "e4:10.77.0.34", "m1", "m2", "w1"];

/// Where clients and workers find an API server: `tests/lab/balancer`.
const BALANCER: &str = "https://10.77.0.1:6443";

/// The worker's kubelet, with its own identity, as `kubelet.conf` has it.
const AS_KUBELET: &str = "curl -fsS -m 10 --cacert /etc/kubernetes/pki/ca.crt \
    --cert /var/lib/kubelet/pki/kubelet-client-current.pem --key /var/lib/kubelet/pki/kubelet-client-current.pem \
    $(sed -n 's/^ *server: //p' /etc/kubernetes/kubelet.conf)/api/v1/nodes/w1";

/// Files with key material, as `MODE OWNER PATH`; the folders that hold most of it too.
const KEYS: &str = "grep -rlE 'PRIVATE KEY|client-key-data: |^ *secret: ' \
    /etc/kubernetes /etc/rsadm /var/lib/kubelet/pki /var/lib/rsadm 2> /dev/null | xargs stat -c '%a %U:%G %n'; \
    stat -c '%a %U:%G %n' /etc/kubernetes/pki /etc/kubernetes/pki/etcd 2> /dev/null; true";

/// What only control planes may have.
const OF_CONTROL_PLANES: [&str; 6] = [
    "/etc/kubernetes/pki/ca.key",
    "/etc/kubernetes/pki/front-proxy-ca.key",
    "/etc/kubernetes/pki/sa.key",
    "/etc/kubernetes/apiserver/encryption.yaml",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/super-admin.conf",
];

/// What only etcd hosts may have.
const OF_ETCD: &str = "/etc/kubernetes/pki/etcd/ca.key";

/// What kubeadm keeps an eye on where etcd is elsewhere.
const WITHOUT_ETCD: [&str; 9] = [
    "admin.conf",
    "apiserver",
    "apiserver-kubelet-client",
    "controller-manager.conf",
    "front-proxy-client",
    "scheduler.conf",
    "super-admin.conf",
    "ca",
    "front-proxy-ca",
];

/// A host more for etcd.
const E4: &str = "{name: e4, address: 10.77.0.34, roles: [etcd]}";

/// Where the hosts find the network plugin's manifests, at the lab's download site.
const PLUGIN: &str = "/lab/network.yaml";

struct External<'a> {
    lab: &'a Lab,
    /// As it is shipped, but for where lab nodes are.
    shipped: Inventory,
    /// With what an operator brings.
    inventory: Inventory,
    /// With a host more for etcd.
    spare: Inventory,
}

#[test]
fn external() {
    let lab = Lab::up("external", &HOSTS).unwrap();
    let mut checks = Checks::new("external");
    let shipped = Inventory::example("inventories/external-etcd.yaml").with("api.host", "10.77.0.11");
    let inventory = shipped
        .with("api.host", "10.77.0.1")
        .with("load_balancer.type", "external")
        .with("network.plugin", "manifests")
        .with("network.manifests", &format!("[\"http://10.77.0.1:8080{PLUGIN}\"]"))
        .with("kube_proxy.config.mode", "iptables")
        .patient();
    let spare = inventory.with_host(E4);
    let it = External { lab: &lab, shipped, inventory, spare };
    let bare = Footprint::of_what_is_left(&lab, &it.spare.all_hosts()).unwrap();
    let site = format!("{PLUGIN} file:{}/tests/lab/network.yaml\n", env!("CARGO_MANIFEST_DIR"));
    fs::write(lab.path("mirror-faults"), site).unwrap();
    lab.script("balancer", &CONTROL_PLANES).and_then(Outcome::ok).unwrap();
    it.build_as_shipped(&mut checks);
    checks.must("reset leaves bare hosts for what an operator brings", || {
        steady::reset_leaves_nothing(&lab, &it.shipped.with_host(E4), &bare)
    });
    it.build(&mut checks);
    checks.check("workers and clients dial the operator's balancer, and no host has one of ours", || {
        it.dials_the_balancer()
    });
    checks.check("the network is the operator's, and kube-proxy writes rules of iptables", || {
        it.has_the_operators_network()
    });
    checks
        .check("keys are where they are needed, and their owner's alone", || it.keys_are_where_they_belong());
    checks.check("kubeadm knows every certificate of a control plane, and complains of none", || {
        steady::kubeadm_lists(&lab, "m2", &WITHOUT_ETCD)
    });
    checks.check("etcd status tells whom the API servers dial", || {
        eventually(|| {
            let status = lab.rsadm_on("etcd status", &it.inventory)?.ok()?;
            status.says("3 of 3 voters healthy; needs 2; can lose 1")?;
            status.says("API servers m1 m2 each dial e1 e2 e3")
        })
    });
    checks.check("pods answer each other across nodes, by Service and DNS name", || {
        pods::start(&it.cluster(), ["m2", WORKER])
    });
    checks.check("without e1 both API servers take writes", || it.loses_an_etcd_host());
    checks.check("without m1, too, the balancer leads clients and workers to m2", || {
        it.loses_a_control_plane()
    });
    checks.check("both come back by themselves", || it.has_power_again());
    checks.check("another host takes e1's place under load, and the API servers follow in turn", || {
        it.replaces_an_etcd_host()
    });
    checks.check("up moves a member to a control plane under load, API servers in turn", || {
        it.moves_to_a_control_plane()
    });
    checks.check("there it is replaced, leads and gives back room, and no API server starts anew", || {
        it.keeps_a_member_beside_an_api_server()
    });
    checks.check("reset leaves the hosts as they were, once the operator's routes are gone", || {
        NODES.iter().try_for_each(|node| lab.on(node, "ip route flush proto 77")?.ok().map(drop))?;
        let all = it.spare.with("hosts.m2.roles", "[control-plane, etcd]");
        steady::reset_leaves_nothing(&lab, &all, &bare)
    });
    checks.finish();
}

impl External<'_> {
    fn cluster(&self) -> Cluster<'_> {
        Cluster::new(self.lab, "m1")
    }

    fn build_as_shipped(&self, checks: &mut Checks) {
        checks.check(
            "row 31: a host that loses its power during up is told with the step, the cause and what to do",
            || self.loses_power_midway(),
        );
        checks.must("with the power back, up goes on and builds the rest", || {
            self.lab.verb(&["up", "e2"])?.ok()?;
            self.lab.rsadm_on("up", &self.shipped)?.ok()?.says("3 nodes Ready")
        });
        checks.check("as it is shipped pods answer each other, by bridge and nftables", || {
            self.cluster().are_ready(&NODES)?;
            // As kube-proxy says: the nft of this Debian crashes beside its tables.
            let network =
                self.lab.on(WORKER, "curl -sS http://127.0.0.1:10249/proxyMode; ip -br link")?.ok()?;
            ["nftables", "rsadm0"].iter().try_for_each(|ours| network.says(ours))?;
            pods::start(&self.cluster(), ["m2", WORKER])
        });
        checks.check("the worker dials a haproxy of its own", || {
            self.lab.on(WORKER, AS_KUBELET)?.ok()?;
            self.lab.on(WORKER, "grep server: /etc/kubernetes/kubelet.conf")?.ok()?.says("127.0.0.1")?;
            self.lab.on(WORKER, "pidof haproxy")?.ok().map(drop)
        });
    }

    fn build(&self, checks: &mut Checks) {
        checks.must("up, with what an operator brings", || {
            self.lab.rsadm_on("up", &self.inventory)?.ok()?.says("3 nodes Ready")
        });
        checks.must("its nodes are the control planes and the worker", || self.cluster().are_ready(&NODES));
        checks
            .check("all pods of the system become Ready", || self.cluster().pods_become_ready("kube-system"));
        checks.check("a second up changes nothing and says so", || {
            steady::settles(self.lab, &self.inventory)?;
            steady::second_up_changes_nothing(self.lab, &self.inventory)
        });
    }

    /// While images travel and etcd starts, which hosts do beside one another.
    fn loses_power_midway(&self) -> Check {
        let mut up = self.lab.start_rsadm_on("up", &self.shipped)?;
        up.until_it_says("[certificates]")?;
        self.lab.verb(&["poweroff", "--hard", "e2"])?.ok()?;
        let up = up.end()?.exits(6)?;
        println!("{}", up.stderr);
        up.says(" e2: ")?;
        up.says("cause: ")?;
        up.says("1 step failed on e2")?;
        up.says("run the same command again")?;
        // What was under way on the others went on; nothing is recorded as done that is not.
        let plan = eventually(|| {
            let plan = self.lab.rsadm_on("plan", &self.shipped)?.exits(4)?;
            plan.says("e2")?;
            Ok(plan)
        })?;
        println!("{}", plan.stderr);
        ["e1", "e3"].iter().try_for_each(|host| {
            self.lab.on(host, "test -s /etc/kubernetes/pki/etcd/server.crt")?.ok().map(drop)
        })
    }

    /// kubectl at the operator's, by the kubeconfig that rsadm gave him.
    fn by_the_operator(&self, args: &[&str]) -> Result<Outcome, Fault> {
        let file = self.lab.path("home/kubeconfig").display().to_string();
        self.lab
            .on_workstation(&[&["kubectl", "--request-timeout=10s", "--kubeconfig", &file], args].concat())
    }

    fn dials_the_balancer(&self) -> Check {
        let file = self.lab.path("home/kubeconfig").display().to_string();
        self.lab.rsadm_on(&format!("kubeconfig --to {file}"), &self.inventory)?.ok()?;
        self.by_the_operator(&["config", "view"])?.ok()?.says(BALANCER)?;
        self.by_the_operator(&["get", "nodes"])?.ok()?.says(WORKER)?;
        self.lab.on(WORKER, AS_KUBELET)?.ok()?;
        self.lab.on(WORKER, "grep server: /etc/kubernetes/kubelet.conf")?.ok()?.says(BALANCER)?;
        let dialled = self.lab.on(WORKER, "ss -tnpH state established dport = :6443")?.text()?;
        let elsewhere = dialled.lines().find(|line| !line.contains("10.77.0.1:6443"));
        ensure!(elsewhere.is_none() && dialled.contains("kubelet"), "{WORKER} dials:\n{dialled}");
        self.lab
            .on(WORKER, "! pgrep -l haproxy && ! ls /etc/kubernetes/manifests/haproxy.yaml")?
            .ok()
            .map(drop)
    }

    fn has_the_operators_network(&self) -> Check {
        NODES.iter().try_for_each(|node| {
            let files = self.lab.on(node, "ls /etc/cni/net.d")?.text()?;
            ensure!(files == "10-lab.conflist", "{node} has {files}");
            let rules = self.lab.on(node, "iptables-save -t nat; nft list tables; ip -br link")?.ok()?;
            rules.says("-j KUBE-SERVICES")?;
            ["table ip kube-proxy", "table ip rsadm", "rsadm0"]
                .iter()
                .try_for_each(|o| rules.says_nothing_of(o))
        })
    }

    fn keys_are_where_they_belong(&self) -> Check {
        for host in self.inventory.all_hosts() {
            let files = self.keys_of(host)?;
            let has = |path: &str| files.iter().any(|(_, p)| p == path);
            for path in OF_CONTROL_PLANES {
                ensure!(has(path) == CONTROL_PLANES.contains(&host), "{host} and {path}: {files:?}");
            }
            ensure!(has(OF_ETCD) == ETCD.contains(&host), "{host} and {OF_ETCD}: {files:?}");
            for (mode, path) in &files {
                let wanted = if has_extension(path) { "600 root:root" } else { "700 root:root" };
                ensure!(mode == wanted, "{path} of {host} is {mode}");
            }
        }
        let worker = self.keys_of(WORKER)?;
        ensure!(!worker.iter().any(|(_, path)| path.ends_with("/ca.key")), "{WORKER} has {worker:?}");
        self.no_host_but_control_planes_has_the_encryption_key()
    }

    fn keys_of(&self, host: &str) -> Result<Vec<(String, String)>, Fault> {
        let listed = self.lab.on(host, KEYS)?.ok()?.stdout;
        let files: Vec<(String, String)> = listed
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(mode, path)| (mode.to_owned(), path.to_owned()))
            .collect();
        ensure!(!files.is_empty(), "no key material on {host}");
        Ok(files)
    }

    fn no_host_but_control_planes_has_the_encryption_key(&self) -> Check {
        let script = "sed -n 's/^ *secret: *//p' /etc/kubernetes/apiserver/encryption.yaml";
        let key = self.lab.on("m1", script)?.text()?;
        ensure!(key.len() > 40 && self.lab.on("m2", script)?.text()? == key, "m1 and m2 have different keys");
        for host in self.inventory.all_hosts() {
            let script =
                format!("grep -rlsF -D skip {key} /etc /var/lib/kubelet /var/lib/rsadm /run /usr/local");
            let found = self.lab.on(host, &script)?.stdout;
            ensure!(found.is_empty() != CONTROL_PLANES.contains(&host), "{host} has it in {found:?}");
        }
        Ok(())
    }

    fn loses_an_etcd_host(&self) -> Check {
        self.lab.verb(&["poweroff", "--hard", "e1"])?.ok()?;
        for host in CONTROL_PLANES {
            Cluster::new(self.lab, host).create(&format!("configmap without-e1-{host}"))?;
        }
        eventually(|| self.lab.rsadm_on("status", &self.inventory)?.exits(8)?.says("e1"))
    }

    fn loses_a_control_plane(&self) -> Check {
        self.lab.verb(&["poweroff", "--hard", "m1"])?.ok()?;
        let write = ["annotate", "--overwrite", "node", WORKER, "lab-test/without=m1"];
        eventually(|| self.by_the_operator(&write)?.ok())?;
        eventually(|| self.lab.on(WORKER, AS_KUBELET)?.ok()?.says("\"name\": \"w1\""))?;
        // The worker hears of a pod and of a Service that are new.
        pods::another(&Cluster::new(self.lab, "m2"), WORKER)
    }

    fn has_power_again(&self) -> Check {
        self.lab.verb(&["up", "e1", "m1"])?.ok()?;
        eventually(|| self.lab.rsadm_on("etcd status", &self.inventory)?.ok())?;
        eventually(|| self.lab.rsadm_on("status", &self.inventory)?.ok())?;
        Ok(())
    }

    /// While a client writes at the members that stay, membership changes, and the API servers dial the others, one after the
    /// other; then each of those `then` has all that was written.
    fn in_turn(
        &self,
        (stay, then): (&[&str], &[&str]),
        change: impl FnOnce() -> Result<Outcome, Fault>,
    ) -> Result<Outcome, Fault> {
        let etcd = Cluster::new(self.lab, stay[0]);
        let writer = Writer::start(self.lab, &etcd, stay)?;
        let servers = CONTROL_PLANES.map(|host| Probe::on(self.lab, host, API_SERVES));
        let changed = change();
        let servers = servers.into_iter().map(|probe| probe?.end()).collect::<Result<Vec<_>, _>>()?;
        let written = writer.end()?;
        let changed = changed?.ok()?;
        println!("{}", changed.stderr);
        took_turns(&servers)?;
        then.iter().try_for_each(|host| written.is_all_on(&etcd, host))?;
        written.forget(&etcd, then[0])?;
        Ok(changed)
    }

    /// What a control plane's API server was started with.
    fn dialled(&self, host: &str) -> Result<Outcome, Fault> {
        self.lab.on(host, "tr '\\0' '\\n' < /proc/$(pidof kube-apiserver)/cmdline")?.ok()
    }

    fn replaces_an_etcd_host(&self) -> Check {
        let replaced = self.in_turn((&["e2", "e3"], &["e2", "e3", "e4"]), || {
            self.lab.rsadm_on("etcd replace {} e1 e4", &self.spare)
        })?;
        replaced.says("etcd has 3 voting members")?;
        for host in CONTROL_PLANES {
            let dialled = self.dialled(host)?;
            dialled.says("10.77.0.34:2379")?;
            dialled.says_nothing_of("10.77.0.31")?;
        }
        let without = self.spare.with_hosts(&["e2", "e3", "e4", "m1", "m2", WORKER]);
        eventually(|| self.lab.rsadm_on("etcd status", &without)?.ok())?.says("API servers m1 m2 each dial")
    }

    /// An inventory that was edited: m2 has the role too, and e2 is gone from it.
    fn moved(&self) -> Inventory {
        let hosts = self.spare.with_hosts(&["e3", "e4", "m1", "m2", WORKER]);
        hosts.with("hosts.m2.roles", "[control-plane, etcd]")
    }

    fn moves_to_a_control_plane(&self) -> Check {
        let moved = self.moved();
        self.in_turn((&["e3", "e4"], &["e3", "e4", "m2"]), || self.lab.rsadm_on("up", &moved))?
            .says("m2 is a voting member")?;
        for (host, own) in [("m1", "https://10.77.0.12:2379"), ("m2", "https://127.0.0.1:2379")] {
            let dialled = self.dialled(host)?;
            dialled.says(own)?;
            dialled.says_nothing_of("10.77.0.32")?;
        }
        eventually(|| self.lab.rsadm_on("etcd status", &moved)?.ok())?
            .says("3 of 3 voters healthy; needs 2; can lose 1")?;
        // kubeadm's configuration names the members, too.
        steady::settles(self.lab, &moved)
    }

    /// Each API server knows the others, too.
    fn keeps_a_member_beside_an_api_server(&self) -> Check {
        let moved = self.moved();
        let before = Processes::of(self.lab, &CONTROL_PLANES)?;
        let rsadm = |command: &str| self.lab.rsadm_on(command, &moved)?.ok();
        let work = || -> Check {
            rsadm("etcd replace {} m2")?.says("etcd has 3 voting members, can lose 1")?;
            eventually(|| rsadm("etcd move-leader {} m2")?.says("m2 leads"))?;
            rsadm("etcd defrag --min-gain 0")?.says("3 members defragmented")
        };
        let then = ["e3", "e4", "m2"];
        under_load(self.lab, (&["e3", "e4"], &then), work, || rsadm("etcd status").map(drop))?;
        let new = Processes::of(self.lab, &CONTROL_PLANES)?.new_since(&before);
        ensure!(new == ["m2/etcd"], "started anew: {new:?}");
        steady::settles(self.lab, &moved)
    }
}

/// True for the files of the list; the rest are folders.
fn has_extension(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.contains('.'))
}
