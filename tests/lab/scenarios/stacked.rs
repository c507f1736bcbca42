//! Stacked high availability, from bare hosts through every everyday change to the loss of any control plane, and back to
//! bare hosts. `lab demo` is run on the cluster that `up` has built: how it boots nodes and what it compiles is not tried here.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{
    API_SERVES, Check, Checks, Cluster, Fault, Footprint, Inventory, Lab, Probe, Processes, Writer,
    eventually, items, text, took_turns,
};

use super::{pods, steady};

const CONTROL_PLANES: [&str; 3] = ["m1", "m2", "m3"];
const NODES: [&str; 5] = ["m1", "m2", "m3", "w1", "w2"];

/// kubelet's own identity through the worker's haproxy: three tries, as every client of Kubernetes retries.
const THROUGH_HAPROXY: &str = "for try in 1 2 3; do curl -fsS -m 10 --cacert /etc/kubernetes/pki/ca.crt \
    --cert /var/lib/kubelet/pki/kubelet-client-current.pem --key /var/lib/kubelet/pki/kubelet-client-current.pem \
    https://127.0.0.1:6443/api/v1/nodes/w1 && return 0; sleep 0.5; done; return 1";

struct Stacked<'a> {
    lab: &'a Lab,
    inventory: Inventory,
}

#[test]
fn stacked() {
    let lab = Lab::up("stacked", &NODES).unwrap();
    let mut checks = Checks::new("stacked");
    let mut it = Stacked { lab: &lab, inventory: Inventory::load("inventories/lab.yaml") };
    let bare = Footprint::of_what_is_left(&lab, &NODES).unwrap();
    it.build(&mut checks);
    it.serve(&mut checks);
    it.change(&mut checks);
    it.lose(&mut checks);
    let newcomer = it.grow(&mut checks);
    it.end(&mut checks, &[bare, newcomer]);
    checks.finish();
}

impl Stacked<'_> {
    fn cluster(&self) -> Cluster<'_> {
        Cluster::new(self.lab, "m1")
    }

    /// From bare hosts to a cluster, and no further.
    fn build(&self, checks: &mut Checks) {
        checks.must("plan tells what is pending and touches no host", || self.plan_touches_nothing());
        let before = self.asked();
        checks.must("up", || self.lab.rsadm_on("up", &self.inventory)?.ok()?.says("5 nodes Ready after "));
        checks.check("up took one connection and one execution on each host", || {
            self.asked_no_more(1, &before?)
        });
        checks.must("five nodes are Ready", || self.cluster().are_ready(&NODES));
        checks.check("three etcd members follow one leader", || self.one_leader());
        checks
            .check("all pods of the system become Ready", || self.cluster().pods_become_ready("kube-system"));
        checks.check("CoreDNS is on two hosts", || self.dns_is_on_two_hosts());
        checks.check("kubeadm knows every certificate of a control plane, and complains of none", || {
            steady::kubeadm_lists(self.lab, "m2", &steady::CERTIFICATES)
        });
        checks.check("lab demo goes through, and shows a cluster that is well", || self.demo());
        checks.check("plan has nothing to do", || self.settles(&self.inventory));
        // The first of these leaves the connections; and a busy machine takes longer than a minute for what lies between two.
        checks.check("a second up changes nothing and says so, and need not even log in", || {
            let patient = self.inventory.with("ssh.control_persist", "10m");
            eventually(|| {
                let before = self.asked()?;
                steady::second_up_changes_nothing(self.lab, &patient)?;
                self.asked_no_more(0, &before)
            })
        });
    }

    /// What the cluster is for.
    fn serve(&self, checks: &mut Checks) {
        checks.must("pods on both workers run", || pods::start(&self.cluster(), ["w1", "w2"]));
        checks.check("a pod answers one on the other worker, by Service and DNS name", || {
            eventually(|| pods::answer_each_other(&self.cluster()))
        });
    }

    fn dns_is_on_two_hosts(&self) -> Check {
        let pods = self.cluster().json("get pods -n kube-system -l k8s-app=kube-dns")?;
        let hosts: BTreeSet<String> = [0, 1].map(|n| pods["items"][n]["spec"]["nodeName"].to_string()).into();
        ensure!(hosts.len() == 2, "CoreDNS runs on {hosts:?} alone");
        Ok(())
    }

    fn plan_touches_nothing(&self) -> Check {
        let before = Footprint::of(self.lab, &NODES)?;
        let plan = self.lab.rsadm_on("plan", &self.inventory)?.exits(7)?;
        before.is_still(&Footprint::of(self.lab, &NODES)?)?;
        plan.says("Nothing was changed")
    }

    /// On nodes that are up already, which it leaves alone. It goes through at once: it is run again only where a login was late, which
    /// ends it, or where it says itself that not all was well at that moment.
    fn demo(&self) -> Check {
        let demo = eventually(|| {
            let demo = self.lab.verb(&["demo"])?;
            ensure!(demo.code != 4, "a host was late: {}", demo.all());
            let shows_all = demo.code != 0 || demo.says("not all is well yet").is_err();
            ensure!(shows_all, "not all was well: {}", demo.all());
            Ok(demo)
        })?;
        let demo = demo.ok()?;
        println!("{}{}", demo.stderr, demo.stdout);
        demo.says("3 of 3 voters healthy; needs 2; can lose 1")?;
        demo.says("3 of 3 servers ready")?;
        let lines = || demo.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        for node in NODES {
            let is_ready = |words: &Vec<&str>| words.starts_with(&[&format!("node/{node}"), "Ready"]);
            ensure!(lines().any(|words| is_ready(&words)), "{node} is not Ready: {}", demo.all());
        }
        // A kubelet may tell of static pods a moment later.
        for program in ["kube-proxy-", "coredns-"] {
            let pod = format!("pod/{program}");
            let runs =
                |words: &Vec<&str>| words.iter().any(|w| w.starts_with(&pod)) && words.contains(&"Running");
            ensure!(lines().any(|words| runs(&words)), "no {program} runs: {}", demo.all());
        }
        Ok(())
    }

    /// How many logins, by sshd's account, and executions, by that of sudo, each host has seen.
    fn asked(&self) -> Result<Vec<(usize, usize)>, Fault> {
        let log = |node: &&str| -> Result<(usize, usize), Fault> {
            let log = self.lab.on(node, "journalctl --no-pager -o cat -t sshd -t sudo")?.text()?;
            let count = |words: &str| log.lines().filter(|line| line.contains(words)).count();
            Ok((count("Accepted publickey for ops"), count("COMMAND=")))
        };
        NODES.iter().map(log).collect()
    }

    /// A run took one execution on every host, and so many logins at the most: none where the last run's connection waits. Where that
    /// was there, and too slow to answer, its execution is one beside that of the login.
    fn asked_no_more(&self, most: usize, before: &[(usize, usize)]) -> Check {
        for ((node, (logins, executions)), after) in NODES.iter().zip(before).zip(self.asked()?) {
            let asked = (after.0 - logins, after.1 - executions);
            let asks_no_more = asked.0 <= most && (1..=1 + asked.0).contains(&asked.1);
            ensure!(asks_no_more, "{node}: {asked:?} logins and executions instead of {most} and one");
        }
        Ok(())
    }

    fn one_leader(&self) -> Check {
        // They are asked one after the other, and may elect another meanwhile.
        eventually(|| {
            let mut seen = BTreeSet::new();
            for host in CONTROL_PLANES {
                let members = self.cluster().members(host)?;
                ensure!(members.len() == 3, "{host} knows {members:?}");
                seen.extend(members.iter().map(|m| (m.cluster, m.leader)));
            }
            ensure!(seen.len() == 1, "clusters and leaders: {seen:?}");
            Ok(())
        })
    }

    fn settles(&self, inventory: &Inventory) -> Check {
        steady::settles(self.lab, inventory)
    }

    /// Everyday changes of the inventory; each does what it needs and no more.
    fn change(&mut self, checks: &mut Checks) {
        checks.check(
            "a label and a taint are set, and taken back with the inventory, and nothing restarts",
            || self.labels_and_taints(),
        );
        let changed = self
            .inventory
            .with("kube_apiserver.extra_args", "{event-ttl: 2h}")
            .with("api.alternative_names", "[k8s.lab.example, 10.77.0.200]");
        checks.check(
            "row 27: an argument, a name and an address roll the API servers one by one, and the API keeps serving",
            || self.roll_api_servers(&changed),
        );
        // From here on members leave, and hosts: on a machine with other labs two members of two would take a late heartbeat for a
        // leader that is gone, and the API servers that then ask again and again would keep the next one late.
        let changed = changed.with("etcd.extra_args", "{max-request-bytes: \"2097152\"}").patient();
        checks.check("an argument rolls etcd one by one, and no acknowledged write is lost", || {
            self.roll_etcd(&changed)
        });
        self.inventory = changed;
        checks.check(
            "a control plane's member leaves and comes back by name, and the API servers take turns",
            || self.takes_a_member_out_and_back(),
        );
        checks.check("a host that left the inventory is named, not dropped, and its pods answer", || {
            self.leave_worker()
        });
        checks.check("back in the inventory it is a node as before", || {
            self.lab.rsadm_on("up", &self.inventory)?.ok()?;
            eventually(|| pods::answer_each_other(&self.cluster()))?;
            self.settles(&self.inventory)
        });
    }

    fn labels_and_taints(&self) -> Check {
        let before = Processes::of(self.lab, &NODES)?;
        let changed = self
            .inventory
            .with("hosts.w1.labels", "{zone: a}")
            .with("hosts.w1.taints", "[\"gpu=true:PreferNoSchedule\"]");
        self.lab.rsadm_on("up", &changed)?.ok()?;
        let node = self.cluster().json("get node w1")?;
        ensure!(node["metadata"]["labels"]["zone"] == "a", "labels: {}", node["metadata"]["labels"]);
        let taints = || -> Result<Vec<Value>, Fault> {
            let node = self.cluster().json("get node w1")?;
            // Kubernetes' own come and go with a kubelet whose lease is late.
            let ours = |taint: &&Value| !text(&taint["key"]).starts_with("node.kubernetes.io/");
            Ok(items(&node["spec"]["taints"]).iter().filter(ours).cloned().collect())
        };
        let found = taints()?;
        ensure!(found.len() == 1 && found[0]["key"] == "gpu", "taints: {found:?}");
        self.settles(&changed)?;
        let changed = changed.with("hosts.w1.taints", "[\"gpu=false:PreferNoSchedule\"]");
        self.lab.rsadm_on("up", &changed)?.ok()?;
        let found = taints()?;
        ensure!(found.len() == 1 && found[0]["value"] == "false", "taints: {found:?}");
        self.lab.rsadm_on("up", &self.inventory)?.ok()?;
        let node = self.cluster().json("get node w1")?;
        ensure!(node["metadata"]["labels"]["zone"].is_null(), "labels: {}", node["metadata"]["labels"]);
        let found = taints()?;
        ensure!(found.is_empty(), "taints: {found:?}");
        let new = Processes::of(self.lab, &NODES)?.new_since(&before);
        ensure!(new.is_empty(), "started anew: {new:?}");
        Ok(())
    }

    fn roll_api_servers(&self, changed: &Inventory) -> Check {
        let before = Processes::of(self.lab, &NODES)?;
        let client = Probe::on(self.lab, "w1", THROUGH_HAPROXY)?;
        let servers = CONTROL_PLANES.map(|host| Probe::on(self.lab, host, API_SERVES));
        let up = self.lab.rsadm_on("up", changed);
        let client = client.end()?;
        let servers = servers.into_iter().map(|probe| probe?.end()).collect::<Result<Vec<_>, _>>()?;
        up?.ok()?;
        client.were_all_good()?;
        took_turns(&servers)?;
        let new = Processes::of(self.lab, &NODES)?.new_since(&before);
        ensure!(new == CONTROL_PLANES.map(|h| format!("{h}/kube-apiserver")), "started anew: {new:?}");
        for host in CONTROL_PLANES {
            self.lab
                .on(host, "tr '\\0' '\\n' < /proc/$(pidof kube-apiserver)/cmdline")?
                .ok()?
                .says("--event-ttl=2h")?;
            for name in ["k8s.lab.example", "10.77.0.200"] {
                let by_name =
                    "curl -fsS -m 10 --cacert /etc/kubernetes/pki/ca.crt --connect-to ::127.0.0.1:6443";
                let answer = self.lab.on(host, &format!("{by_name} https://{name}:6443/readyz"))?.text()?;
                ensure!(answer == "ok", "{host} answers as {name}: {answer}");
            }
        }
        self.settles(changed)
    }

    fn roll_etcd(&self, changed: &Inventory) -> Check {
        let before = Processes::of(self.lab, &NODES)?;
        let writer = Writer::start(self.lab, &self.cluster(), &CONTROL_PLANES)?;
        let members = CONTROL_PLANES
            .map(|host| Probe::on(self.lab, host, "curl -fsS -m 10 http://127.0.0.1:2381/livez"));
        let up = self.lab.rsadm_on("up", changed);
        let written = writer.end()?;
        let members = members.into_iter().map(|probe| probe?.end()).collect::<Result<Vec<_>, _>>()?;
        up?.ok()?;
        took_turns(&members)?;
        let new = Processes::of(self.lab, &NODES)?.new_since(&before);
        ensure!(new == CONTROL_PLANES.map(|h| format!("{h}/etcd")), "started anew: {new:?}");
        CONTROL_PLANES.iter().try_for_each(|host| written.is_all_on(&self.cluster(), host))?;
        written.forget(&self.cluster(), "m1")?;
        self.one_leader()?;
        self.settles(changed)
    }

    fn takes_a_member_out_and_back(&self) -> Check {
        let stay = ["m1", "m2"];
        let writer = Writer::start(self.lab, &self.cluster(), &stay)?;
        let servers = CONTROL_PLANES.map(|host| Probe::on(self.lab, host, API_SERVES));
        let change = |command: &str| self.lab.rsadm_on(command, &self.inventory)?.ok();
        let changed = change("etcd remove {} m3").and_then(|left| Ok((left, change("etcd add {} m3")?)));
        let servers = servers.into_iter().map(|probe| probe?.end()).collect::<Result<Vec<_>, _>>()?;
        let written = writer.end()?;
        let (left, back) = changed?;
        println!("{}{}", left.stderr, back.stderr);
        left.says("etcd has 2 voting members, can lose none")?;
        back.says("etcd has 3 voting members, can lose 1")?;
        took_turns(&servers)?;
        CONTROL_PLANES.iter().try_for_each(|host| written.is_all_on(&self.cluster(), host))?;
        written.forget(&self.cluster(), "m1")?;
        self.settles(&self.inventory)
    }

    fn leave_worker(&self) -> Check {
        let smaller = self.inventory.with_hosts(&["m1", "m2", "m3", "w1"]);
        let up = self.lab.rsadm_on("up", &smaller)?.ok()?;
        self.cluster().are_ready(&NODES)?;
        eventually(|| pods::answer_each_other(&self.cluster()))?;
        up.says("w2")
    }

    /// Any control plane may die.
    fn lose(&self, checks: &mut Checks) {
        for (lost, other) in [("m1", "m2"), ("m2", "m3"), ("m3", "m1")] {
            checks.must(&format!("{lost} loses its power"), || {
                self.lab.verb(&["poweroff", "--hard", lost])?.ok()?;
                Ok(())
            });
            self.serves_without(checks, lost, other);
            checks.must(&format!("{lost} comes back by itself"), || {
                self.lab.verb(&["up", lost])?.ok()?;
                self.one_leader()?;
                Cluster::new(self.lab, other).are_ready(&NODES)?;
                eventually(|| self.settles(&self.inventory))
            });
        }
        checks.check("a worker comes back from a reboot, and so do its pods", || {
            self.lab.verb(&["reboot", "w1"])?.ok()?;
            self.cluster().are_ready(&NODES)?;
            eventually(|| pods::answer_each_other(&self.cluster()))?;
            self.settles(&self.inventory)
        });
        checks.check(
            "row 52: all control planes lose their power at once, and come back with all they had",
            || self.lose_all(),
        );
    }

    /// `up` is not asked to wait until they are well: it comes as soon as the hosts can be reached.
    fn lose_all(&self) -> Check {
        self.cluster().create("configmap before-the-dark --from-literal=word=kept")?;
        self.lab.verb(&[&["poweroff", "--hard"], &CONTROL_PLANES[..]].concat())?.ok()?;
        self.lab.verb(&[&["up"], &CONTROL_PLANES[..]].concat())?.ok()?;
        let up = self.lab.rsadm_on("up", &self.inventory)?.ok()?;
        println!("{}", up.stderr);
        eventually(|| {
            self.lab.rsadm_on("etcd status", &self.inventory)?.ok()?.says("3 of 3 voters healthy")
        })?;
        self.one_leader()?;
        for (object, kept) in [("before-the-dark", "kept"), ("without-m1", "")] {
            let found = self.cluster().json(&format!("get configmap {object}"))?;
            ensure!(found["data"]["word"].as_str().unwrap_or_default() == kept, "{found:#}");
        }
        self.cluster().are_ready(&NODES)?;
        eventually(|| pods::answer_each_other(&self.cluster()))?;
        self.settles(&self.inventory)
    }

    fn serves_without(&self, checks: &mut Checks, lost: &str, other: &str) {
        let cluster = Cluster::new(self.lab, other);
        checks.check(&format!("without {lost}: the API answers through a worker's haproxy"), || {
            eventually(|| {
                self.lab.on("w1", &format!("ask() {{ {THROUGH_HAPROXY}; }}; ask > /dev/null"))?.ok()
            })?;
            Ok(())
        });
        checks.check(&format!("without {lost}: etcd takes writes"), || {
            eventually(|| cluster.etcdctl(other, "put lab-test/lost x")?.ok())?;
            Ok(())
        });
        checks.check(&format!("without {lost}: the API takes writes"), || {
            cluster.create(&format!("configmap without-{lost}"))
        });
        checks.check(&format!("without {lost}: names resolve and pods answer across workers"), || {
            eventually(|| pods::answer_each_other(&cluster))
        });
        checks.check(&format!("without {lost}: up names it and changes nothing"), || {
            let processes = Processes::of(self.lab, &[other, "w1"])?;
            let up = self.lab.rsadm_on("up", &self.inventory)?.exits(4)?;
            up.says(&format!("if {lost} is gone for good: rsadm etcd remove "))?;
            let new = Processes::of(self.lab, &[other, "w1"])?.new_since(&processes);
            ensure!(new.is_empty(), "started anew: {new:?}");
            Ok(())
        });
    }

    /// More nodes, by kubeadm and by the inventory; and one that is gone for good without a word.
    fn grow(&self, checks: &mut Checks) -> Footprint {
        let other = self.inventory.with("hosts.w2.address", "10.77.0.23").with("hosts.w2.name", "w3");
        let mut bare = Footprint::default();
        checks.must("two more hosts", || {
            self.lab.verb(&["add", "w3:10.77.0.23", "w4:10.77.0.24"])?.ok()?;
            bare = Footprint::of_what_is_left(self.lab, &["w3"])?;
            Ok(())
        });
        checks.check("a plain kubeadm join brings a sixth node, and Services work from it", || {
            self.join_by_kubeadm("w4")
        });
        checks.check("a fresh worker joins by up and answers, and the others' processes stay", || {
            let before = Processes::of(self.lab, &NODES)?;
            self.lab.rsadm_on("up", &other)?.ok()?.says("w2: is a node of the cluster and not in")?;
            let new = Processes::of(self.lab, &NODES)?.new_since(&before);
            ensure!(new.is_empty(), "started anew: {new:?}");
            pods::another(&self.cluster(), "w3")?;
            self.settles(&other)
        });
        checks.check(
            "a changed argument rolls kube-proxy, whatever nodes are not ours or switched off",
            || {
                self.lab.verb(&["poweroff", "--hard", "w2"])?.ok()?;
                let changed = other.with("kube_proxy.config.nftables", "{syncPeriod: 40s}");
                self.lab.rsadm_on("up", &changed)?.ok()?.says("5 nodes Ready")?;
                self.settles(&changed)
            },
        );
        bare
    }

    /// After all that has been, on hosts that lost their power and on one that came later; what kubeadm joined is not ours.
    fn end(&self, checks: &mut Checks, bare: &[Footprint]) {
        checks.check("reset leaves all hosts as they were before up", || {
            self.lab.verb(&["up", "w2"])?.ok()?;
            let all = self.inventory.with_host("{name: w3, address: 10.77.0.23, roles: [worker]}");
            self.lab.rsadm_on("reset --yes", &all)?.ok()?;
            let left = Footprint::of_what_is_left(self.lab, &all.all_hosts())?;
            bare.iter().try_for_each(|bare| bare.is_still(&left))
        });
    }

    /// The plugin `bridge` gives it no pod network; what runs in the host's own does.
    fn join_by_kubeadm(&self, guest: &str) -> Check {
        self.lab.script("kubeadm-node", &[guest])?.ok()?;
        let join = steady::join_command(self.lab, &self.inventory, guest)?;
        self.lab.verb(&["ssh", guest, &join])?.ok()?.says("This node has joined the cluster")?;
        eventually(|| {
            let pods = self.cluster().json("get pods -n kube-system -l k8s-app=kube-proxy-joined")?;
            let [node, ready] = ["/items/0/spec/nodeName", "/items/0/status/containerStatuses/0/ready"]
                .map(|place| pods.pointer(place).cloned().unwrap_or_default());
            ensure!(node == guest && ready == true, "kube-proxy on {node} is ready: {ready}");
            Ok(())
        })?;
        eventually(|| self.lab.on(guest, "curl -fsSk -m 5 https://10.96.0.1/readyz")?.ok())?;
        // As README says: the control planes verify kubelets, and nobody signs for those of others unasked.
        eventually(|| {
            let serving = "--field-selector spec.signerName=kubernetes.io/kubelet-serving";
            let requests = self.cluster().kubectl(&format!("get csr -o name {serving}"))?.ok()?.stdout;
            let names: Vec<&str> = requests.split_whitespace().collect();
            self.cluster().kubectl(&format!("certificate approve {}", names.join(" ")))?.ok()
        })?;
        let logs = "-n kube-system logs --tail 1 -l k8s-app=kube-proxy-joined";
        eventually(|| self.cluster().kubectl(logs)?.ok())?;
        // How many pods of a DaemonSet are ready is counted a moment after the pod is.
        eventually(|| {
            let status = self.lab.rsadm_on("status", &self.inventory)?.ok()?;
            status.says(&format!("node {guest} is not in"))
        })
    }
}
