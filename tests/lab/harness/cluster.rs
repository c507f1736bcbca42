//! A cluster as its administrator sees it, through programs that are not rsadm's: kubectl and etcdctl.

use std::fs;

use serde_json::Value;

use super::{Check, Fault, Lab, Outcome, eventually};

/// A cluster, seen from one of its control planes.
#[derive(Clone, Copy)]
pub struct Cluster<'a> {
    lab: &'a Lab,
    control_plane: &'a str,
}

impl<'a> Cluster<'a> {
    /// Seen from that control plane.
    pub const fn new(lab: &'a Lab, control_plane: &'a str) -> Self {
        Self { lab, control_plane }
    }

    /// kubectl with these arguments, in the syntax of the shell; at that control plane's own API server.
    pub fn kubectl(&self, args: &str) -> Result<Outcome, Fault> {
        let server = format!("--server=https://{}:6443", self.control_plane);
        let script =
            format!("kubectl --kubeconfig /etc/kubernetes/admin.conf {server} --request-timeout=20s {args}");
        self.lab.on(self.control_plane, &script)
    }

    /// Applies YAML documents, as soon as the API takes them.
    pub fn apply(&self, objects: &str) -> Check {
        let apply = format!("apply -f - <<'OBJECTS'\n{objects}\nOBJECTS");
        eventually(|| self.kubectl(&apply)?.ok().map(drop))
    }

    /// Creates an object, by words of `kubectl create`, as soon as the API takes it.
    pub fn create(&self, object: &str) -> Check {
        let mut tried = false;
        eventually(|| {
            let made = self.kubectl(&format!("create {object}"))?;
            // By a try before, whose answer was lost.
            let is_there = tried && made.stderr.contains("(AlreadyExists)");
            tried = true;
            if is_there { Ok(()) } else { made.ok().map(drop) }
        })
    }

    /// What kubectl answers in JSON, as soon as it does: an API server may be busy with its etcd's election.
    pub fn json(&self, args: &str) -> Result<Value, Fault> {
        let answer = eventually(|| self.kubectl(&format!("{args} -o json"))?.ok())?;
        Ok(serde_json::from_str(&answer.stdout)?)
    }

    /// Names of the nodes that are Ready, sorted.
    pub fn ready_nodes(&self) -> Result<Vec<String>, Fault> {
        let nodes = self.json("get nodes")?;
        let ready = |node: &&Value| {
            items(&node["status"]["conditions"]).iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        let mut names: Vec<String> =
            items(&nodes["items"]).iter().filter(ready).map(|n| text(&n["metadata"]["name"])).collect();
        names.sort();
        Ok(names)
    }

    /// Waits until just these nodes are Ready: a kubelet that renews its lease late is told as not Ready for a moment.
    pub fn are_ready(&self, nodes: &[&str]) -> Check {
        eventually(|| {
            let found = self.ready_nodes()?;
            ensure!(found == nodes, "Ready are {found:?} instead of {nodes:?}");
            Ok(())
        })
    }

    /// Waits until every pod of a namespace is Ready.
    pub fn pods_become_ready(&self, namespace: &str) -> Check {
        eventually(|| {
            let pods = self.json(&format!("get pods -n {namespace}"))?;
            let pods = items(&pods["items"]);
            let ready = |pod: &Value| {
                items(&pod["status"]["conditions"])
                    .iter()
                    .any(|c| c["type"] == "Ready" && c["status"] == "True")
            };
            let late: Vec<String> =
                pods.iter().filter(|p| !ready(p)).map(|p| text(&p["metadata"]["name"])).collect();
            ensure!(!pods.is_empty(), "no pods in {namespace}");
            ensure!(late.is_empty(), "not Ready in {namespace}: {late:?}");
            Ok(())
        })
    }

    /// A program in a pod, through the API server and the kubelet.
    pub fn in_pod(&self, namespace: &str, pod: &str, command: &str) -> Result<Outcome, Fault> {
        self.kubectl(&format!("exec -n {namespace} {pod} -- {command}"))
    }

    /// etcdctl in the etcd pod of a host, which needs no API server: the container is found by its process.
    pub fn etcdctl(&self, host: &str, args: &str) -> Result<Outcome, Fault> {
        self.lab.on(host, &format!("{ETCDCTL} {PATIENT} {args}"))
    }

    /// A write that is what a check begins with: an election at that moment is answered to it by an error.
    pub fn put(&self, host: &str, key: &str, value: &str) -> Check {
        eventually(|| self.etcdctl(host, &format!("put {key} {value}"))?.ok().map(drop))
    }

    /// Raises an alarm for the member on a host, as etcd itself does where a database reaches its quota (NOSPACE), or where data
    /// is not that of the others (CORRUPT); etcdctl has no word for it.
    pub fn raise(&self, alarm: &str, host: &str) -> Check {
        let id = self.member(host)?.id;
        let alarm = format!(r#"{{"action":"ACTIVATE","memberID":"{id}","alarm":"{alarm}"}}"#);
        let curl = "cd /etc/kubernetes/pki/etcd && \
            curl -fsS --cacert ca.crt --cert healthcheck-client.crt --key healthcheck-client.key";
        let raise = format!("{curl} -d '{alarm}' https://127.0.0.1:2379/v3/maintenance/alarm");
        self.lab.on(self.control_plane, &raise)?.ok().map(drop)
    }

    /// etcdctl for the operator's shell, with a client certificate, over these hosts' members.
    pub fn workstation_etcdctl(&self, hosts: &[&str]) -> Result<String, Fault> {
        let folder = self.lab.path("home/etcd");
        fs::create_dir_all(&folder)?;
        for (file, name) in [("ca.crt", "ca.crt"), ("server.crt", "client.crt"), ("server.key", "client.key")]
        {
            let text = self
                .lab
                .on(self.control_plane, &format!("cat /etc/kubernetes/pki/etcd/{file}"))?
                .ok()?
                .stdout;
            fs::write(folder.join(name), text)?;
        }
        let endpoints: Vec<String> = hosts.iter().map(|host| format!("https://{host}:2379")).collect();
        let (folder, program) = (folder.display(), Lab::etcd_programs()?);
        Ok(format!(
            "{program}/etcdctl {PATIENT} --endpoints={} --cacert={folder}/ca.crt --cert={folder}/client.crt \
             --key={folder}/client.key",
            endpoints.join(",")
        ))
    }

    /// Every member of the list that a host's member has, as that member's own endpoint tells it, as soon as all answer.
    pub fn members(&self, host: &str) -> Result<Vec<Member>, Fault> {
        eventually(|| self.endpoints(host, "--cluster"))
    }

    /// A host's own member.
    pub fn member(&self, host: &str) -> Result<Member, Fault> {
        self.endpoints(host, "")?.pop().ok_or_else(|| format!("{host} has no member").into())
    }

    /// Runs what takes the leader out of etcd. One of those who stay was asked to lead by then, says its log: without that an
    /// election would follow, and nobody could write meanwhile.
    pub fn hands_over_first(&self, stay: &[&str], work: impl FnOnce() -> Check) -> Check {
        let log = |host: &str| self.lab.on(host, "cat /var/log/pods/kube-system_etcd-*/etcd/*.log")?.text();
        let before =
            stay.iter().map(|host| Ok(log(host)?.lines().count())).collect::<Result<Vec<_>, Fault>>()?;
        work()?;
        for (host, seen) in stay.iter().zip(before) {
            let log = log(host)?;
            let first = |words: &str| log.lines().skip(seen).position(|line| line.contains(words));
            let (asked, removed) = (first("received MsgTimeoutNow"), first(r#""removed member""#));
            if asked.is_some_and(|asked| removed.is_some_and(|removed| asked < removed)) {
                return Ok(());
            }
        }
        Err(format!("none of {stay:?} was asked to lead before the leader left").into())
    }

    fn endpoints(&self, host: &str, which: &str) -> Result<Vec<Member>, Fault> {
        let status = self.etcdctl(host, &format!("endpoint status {which} -w json"))?.ok()?;
        let status: Value = serde_json::from_str(&status.stdout)?;
        Ok(items(&status).iter().map(Member::read).collect())
    }
}

/// Runs the etcdctl of the etcd image with that container's root, so that no host needs one of its own.
const ETCDCTL: &str = "nsenter --target $(pidof etcd) --root --wd -- \
    /usr/local/bin/etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt \
    --cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key";

/// How long an answer may take, as clients of Kubernetes bear: an election in between, or a machine that is busy with other
/// labs, fails nothing.
const PATIENT: &str = "--command-timeout=20s --dial-timeout=10s";

/// A member of etcd by its own account.
#[derive(Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it was asked.
    pub endpoint: String,
    /// Its ID.
    pub id: u64,
    /// Whom it follows.
    pub leader: u64,
    /// The cluster it belongs to.
    pub cluster: u64,
}

impl Member {
    fn read(status: &Value) -> Self {
        let header = &status["Status"]["header"];
        Self {
            endpoint: text(&status["Endpoint"]),
            id: header["member_id"].as_u64().unwrap_or_default(),
            leader: status["Status"]["leader"].as_u64().unwrap_or_default(),
            cluster: header["cluster_id"].as_u64().unwrap_or_default(),
        }
    }
}

/// The elements of a JSON list; none where it is something else.
pub fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A JSON string; empty where it is something else.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
