//! One node that does everything, on a host that has a containerd of its administrator's, and what he does with a new
//! cluster: reading its state, taking his kubeconfig along, kubeadm on it, and a further node that kubeadm joins.

use std::{fs, os::unix::fs::PermissionsExt};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;

use crate::harness::{Check, Checks, Cluster, Fault, Footprint, Inventory, Lab, Outcome, eventually};

use super::steady;

const NODES: [&str; 1] = ["m1"];

/// The node that kubeadm joins; not in the inventory.
const GUEST: &str = "w3";

/// What `etcd status -o json` says of each member, whatever else it says.
const MEMBER_FIELDS: [&str; 15] = [
    "name",
    "id",
    "peer_urls",
    "client_urls",
    "version",
    "db_size",
    "db_size_in_use",
    "is_leader",
    "is_learner",
    "raft_term",
    "raft_index",
    "raft_applied_index",
    "healthy",
    "latency_ms",
    "alarms",
];

/// A containerd, how it was set up, and the containers that it had before rsadm came.
const THEIRS: &str = "systemctl is-enabled containerd; systemctl is-active containerd
    find /etc/containerd /etc/systemd/system -type f -name '*.toml' -o -name 'containerd.service*' -type f | sort | xargs sha256sum
    for namespace in default k8s.io; do ctr -n $namespace tasks ls | grep theirs; done";

/// A word to be found where it is not encrypted.
const PLAIN: &str = "a-word-in-plain-text";

struct Single<'a> {
    lab: &'a Lab,
    inventory: Inventory,
}

#[test]
fn single() {
    let lab = Lab::up("single", &["m1", "w3:10.77.0.23"]).unwrap();
    let mut checks = Checks::new("single");
    let inventory = Inventory::example("inventories/single.yaml");
    let (upstream, inventory) = (inventory.clone(), inventory.with("container_runtime.install", "existing"));
    let it = Single { lab: &lab, inventory };
    lab.on("m1", include_str!("../own-containerd")).and_then(Outcome::ok).unwrap();
    let theirs = it.what_is_theirs().unwrap();
    let bare = Footprint::of_what_is_left(&lab, &NODES).unwrap();
    checks.check("status before the first up says that nothing is built", || it.nothing_is_built());
    checks.must("up", || lab.rsadm_on("up", &it.inventory)?.ok()?.says("1 node Ready"));
    checks.must("the node is Ready", || it.cluster().are_ready(&NODES));
    checks.check("its containerd is the one that was there, and has the inventory's mirrors", || {
        it.runs_on_theirs()
    });
    checks.check("all pods of the system become Ready", || it.cluster().pods_become_ready("kube-system"));
    checks.check("a second up changes nothing and says so", || {
        steady::settles(&lab, &it.inventory)?;
        steady::second_up_changes_nothing(&lab, &it.inventory)
    });
    checks.check("kubeadm knows every certificate and complains of none", || {
        steady::kubeadm_lists(&lab, "m1", &steady::CERTIFICATES)
    });
    checks.check("status and etcd status tell it, to people and to programs", || it.tells_how_it_is());
    checks.check("kubectl works from the workstation with rsadm's kubeconfig", || it.administers_from_afar());
    checks.check("a Secret is encrypted in etcd", || it.encrypts_secrets());
    checks.check("the audit log tells who wrote the Secret, and not what", || it.audits_secrets());
    checks.check("a kubelet and etcd answer nobody without a certificate", || it.asks_for_certificates());
    checks.check("a kubelet may read its own node, and no Secret that is none of its pods'", || {
        it.restricts_nodes()
    });
    checks.check("a node that somebody deleted is registered again by up", || it.registers_again());
    checks.check("a plain kubeadm join brings another node", || it.joins_by_kubeadm());
    checks.check("an inventory that says nothing of the host's containerd displaces it with no up", || {
        let up = lab.rsadm_on("up", &upstream)?.exits(5)?;
        up.says("m1 has a containerd of its own, and the inventory says upstream")
    });
    checks.check(
        "reset by such a one leaves the host as it was, its containerd and that one's containers too",
        || {
            steady::reset_leaves_nothing(&lab, &upstream, &bare)?;
            let left = it.what_is_theirs()?;
            ensure!(left == theirs, "before:\n{theirs}\nnow:\n{left}");
            Ok(())
        },
    );
    checks.finish();
}

impl Single<'_> {
    fn cluster(&self) -> Cluster<'_> {
        Cluster::new(self.lab, "m1")
    }

    fn json(&self, command: &str) -> Result<Value, Fault> {
        Ok(serde_json::from_str(&self.lab.rsadm_on(command, &self.inventory)?.ok()?.stdout)?)
    }

    fn nothing_is_built(&self) -> Check {
        let status = self.lab.rsadm_on("status", &self.inventory)?;
        status.says("not built")?;
        status.says("rsadm up ")
    }

    /// The containerd of the administrator, his settings for it, and his containers with their processes.
    fn what_is_theirs(&self) -> Result<String, Fault> {
        self.lab.on("m1", THEIRS)?.text()
    }

    fn runs_on_theirs(&self) -> Check {
        let said = self.lab.on("m1", "systemctl cat containerd; containerd config dump")?.ok()?;
        said.says("Description=containerd, by the administrator")?;
        said.says("/etc/containerd/certs.d")
    }

    fn tells_how_it_is(&self) -> Check {
        eventually(|| {
            let status = self.lab.rsadm_on("status", &self.inventory)?.ok()?;
            let parts = ["healthy", "1 of 1 voters healthy, leader m1", "1 of 1 servers ready", "in sync: "];
            parts.iter().try_for_each(|part| status.says(part))
        })?;
        let status = eventually(|| self.json("status -o json"))?;
        ensure!(status["verdict"] == "healthy" && status["changes"]["pending"] == 0, "{status:#}");
        eventually(|| {
            self.lab.rsadm_on("etcd status", &self.inventory)?.ok()?.says("1 of 1 voters healthy")
        })?;
        let etcd = eventually(|| self.json("etcd status -o json"))?;
        ensure!(etcd["quorum"]["voters"] == 1 && etcd["quorum"]["healthy"] == 1, "{etcd:#}");
        ensure!(etcd["quorum"]["can_lose"] == 0, "{etcd:#}");
        let member = &etcd["members"][0];
        for field in MEMBER_FIELDS {
            ensure!(!member[field].is_null(), "members[0].{field} is missing: {etcd:#}");
        }
        ensure!(member["error"].is_null() && member.get("error").is_some(), "members[0].error: {etcd:#}");
        let known = self.cluster().members("m1")?;
        let [known] = known.as_slice() else { return Err(format!("etcdctl lists {known:?}").into()) };
        for (said, is) in
            [(&etcd["cluster_id"], known.cluster), (&etcd["leader"], known.leader), (&member["id"], known.id)]
        {
            ensure!(*said == format!("{is:x}"), "{said} instead of {is:x}: {etcd:#}");
        }
        Ok(())
    }

    fn administers_from_afar(&self) -> Check {
        let file = self.lab.path("home/kubeconfig").display().to_string();
        self.lab.rsadm_on(&format!("kubeconfig --to {file}"), &self.inventory)?.ok()?;
        let mode = fs::metadata(&file)?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "the kubeconfig has mode {mode:o}");
        let get = ["kubectl", "--kubeconfig", &file, "auth", "can-i", "*", "*", "--all-namespaces"];
        let answer = self.lab.on_workstation(&get)?.text()?;
        ensure!(answer == "yes", "the administrator may everything? {answer}");
        self.lab.on_workstation(&["kubectl", "--kubeconfig", &file, "get", "nodes"])?.ok()?.says("m1")
    }

    /// A ConfigMap is what the same word looks like in etcd where it is not encrypted.
    fn encrypts_secrets(&self) -> Check {
        let cluster = self.cluster();
        for kind in ["secret generic", "configmap"] {
            cluster.create(&format!("{kind} at-rest --from-literal=word={PLAIN}"))?;
        }
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let open = self.stored("configmaps/default/at-rest")?;
        ensure!(shown(&open).contains(PLAIN), "the ConfigMap is not in etcd: {}", shown(&open));
        let closed = self.stored("secrets/default/at-rest")?;
        ensure!(!shown(&closed).contains(PLAIN), "the Secret is in etcd in plain text");
        ensure!(closed.starts_with(b"k8s:enc:secretbox:v1:"), "it begins otherwise: {}", shown(&closed));
        Ok(())
    }

    /// After [`encrypts_secrets`](Self::encrypts_secrets). A write is told once it has been answered.
    fn audits_secrets(&self) -> Check {
        let log = eventually(|| {
            let log = self.lab.on("m1", "cat /var/log/kubernetes/audit/audit.log")?.ok()?;
            let of_secret = |line: &str| -> Option<Value> {
                let event: Value = serde_json::from_str(line).ok()?;
                let object = &event["objectRef"];
                let is_it = object["resource"] == "secrets" && object["name"] == "at-rest";
                (is_it && event["verb"] == "create").then_some(event)
            };
            let told = log.stdout.lines().find_map(of_secret).ok_or("nobody wrote it")?;
            ensure!(told["user"]["username"] == "kubernetes-admin", "{told:#}");
            Ok(log)
        })?;
        let shown = [PLAIN.to_owned(), BASE64_STANDARD.encode(PLAIN)];
        let shown = log.stdout.lines().find(|line| shown.iter().any(|value| line.contains(value)));
        ensure!(shown.is_none(), "the audit log has the Secret's value: {shown:?}");
        Ok(())
    }

    /// Each does answer who has one.
    fn asks_for_certificates(&self) -> Check {
        let status = "curl -sk -m 10 -o /dev/null -w '%{http_code}'";
        let pki = "/etc/kubernetes/pki";
        let client =
            format!("--cert {pki}/apiserver-kubelet-client.crt --key {pki}/apiserver-kubelet-client.key");
        for (identity, wanted) in [("", "401"), (client.as_str(), "200")] {
            let ask = format!("{status} {identity} https://127.0.0.1:10250/pods");
            // It asks the API server in turn, whether somebody may.
            eventually(|| {
                let answer = self.lab.on("m1", &ask)?.text()?;
                ensure!(answer == wanted, "the kubelet answers {identity:?} with {answer}");
                Ok(())
            })?;
        }
        let (ask, member) = ("curl --http1.1 -fsSk -m 10", "https://127.0.0.1:2379/version");
        let client =
            format!("--cert {pki}/etcd/healthcheck-client.crt --key {pki}/etcd/healthcheck-client.key");
        self.lab.on("m1", &format!("{ask} {client} {member}"))?.ok()?.says("etcdserver")?;
        // By an alert of TLS, with or after the handshake: no HTTP is heard.
        let refused = self.lab.on("m1", &format!("{ask} {member}"))?;
        ensure!(
            matches!(refused.code, 35 | 55 | 56),
            "etcd is asked without a certificate: {}",
            refused.all()
        );
        Ok(())
    }

    /// By the node authorizer, with the kubelet's own identity.
    fn restricts_nodes(&self) -> Check {
        let kubelet = "/var/lib/kubelet/pki/kubelet-client-current.pem";
        let ask = format!(
            "curl -s -m 20 -o /dev/null -w '%{{http_code}}' --cacert /etc/kubernetes/pki/ca.crt --cert {kubelet} --key {kubelet} \
             https://127.0.0.1:6443/api/v1"
        );
        for (what, wanted) in [("nodes/m1", "200"), ("namespaces/default/secrets/at-rest", "403")] {
            eventually(|| {
                let answer = self.lab.on("m1", &format!("{ask}/{what}"))?.text()?;
                ensure!(answer == wanted, "{what} is answered with {answer}");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The bytes that etcd keeps of an object.
    fn stored(&self, key: &str) -> Result<Vec<u8>, Fault> {
        let said = self.cluster().etcdctl("m1", &format!("get /registry/{key} -w json"))?.ok()?;
        let said: Value = serde_json::from_str(&said.stdout)?;
        Ok(BASE64_STANDARD.decode(said["kvs"][0]["value"].as_str().ok_or("no such key")?)?)
    }

    /// A kubelet registers once; until it is started anew its node stays away.
    fn registers_again(&self) -> Check {
        eventually(|| self.cluster().kubectl("delete --ignore-not-found node m1")?.ok())?;
        self.lab.rsadm_on("up", &self.inventory)?.ok()?.says("1 node Ready")?;
        self.cluster().are_ready(&NODES)?;
        eventually(|| self.cluster().pods_become_ready("kube-system"))?;
        steady::settles(self.lab, &self.inventory)
    }

    fn joins_by_kubeadm(&self) -> Check {
        self.lab.script("kubeadm-node", &[GUEST])?.ok()?;
        let join = steady::join_command(self.lab, &self.inventory, GUEST)?;
        // Its etcd would be a member before its API server met what it cannot read.
        let control_plane = self.lab.verb(&["ssh", GUEST, &format!("{join} --control-plane")])?;
        control_plane.says("stable controlPlaneEndpoint address")?;
        self.lab.verb(&["ssh", GUEST, &join])?.ok()?.says("This node has joined the cluster")?;
        let node = self.cluster().json(&format!("get node {GUEST}"))?;
        ensure!(node["status"]["nodeInfo"]["kubeletVersion"] == "v1.37.2", "{node:#}");
        let up = self.lab.rsadm_on("up", &self.inventory)?.ok()?;
        up.says(&format!("{GUEST}: is a node of the cluster and not in the inventory"))
    }
}
