//! Whether an API server says that it is ready, asked on its own host.

use std::time::Duration;

use futures::future::join_all;
use serde::Serialize;

use crate::{
    host::{Op, Script, TIMED_OUT, fleet::Fleet},
    inventory::{Cluster, NodeName, Role},
};

const SCRIPT: Script = Script { name: "api-ready", text: include_str!("api_ready.sh") };

/// The script's last word, after a whole list.
const LISTED: &str = "listed";

/// How long one may take.
const LIMIT: Duration = Duration::from_secs(5);

/// A control plane's answer: what it lists where its API server is ready, `None` where it did not get to that; else what is wrong,
/// in a few words.
pub type Answer = Result<Option<Vec<Workload>>, String>;

/// A deployment or daemon set of `kube-system`: cluster DNS, kube-proxy, what an operator put beside them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// `kind/name`, lower case.
    pub name: String,
    /// Pods that are ready.
    pub ready: usize,
    /// Pods that there should be; on nodes that the inventory does not name, a daemon set need have none.
    pub wanted: usize,
}

/// Asks the API server of every connected control plane.
pub async fn ready(cluster: &Cluster, fleet: &Fleet) -> Vec<(NodeName, Answer)> {
    let asked =
        cluster.with_role(Role::ControlPlane).filter_map(|node| Some((node, fleet.host(&node.name)?)));
    join_all(asked.map(|(node, host)| async move {
        let url = node.api_url(cluster.api.port);
        let outputs = host.run(&[Op::Script(SCRIPT, vec![url], LIMIT)], false).await;
        let answer = match &outputs {
            Ok(outputs) => outputs.first().map(|o| read(cluster, o.status, &o.text())),
            Err(error) => Some(Err(error.brief())),
        };
        (node.name.clone(), answer.unwrap_or_else(|| Err("no answer".into())))
    }))
    .await
}

/// Reads what the script printed: `kubectl`'s own words, or the list of checks with `[-]` before those that failed.
fn read(cluster: &Cluster, status: i32, said: &str) -> Answer {
    if status == 0 {
        let mut all: Vec<Workload> = said.lines().filter_map(workload).collect();
        for name in said.lines().filter_map(|line| late_elsewhere(cluster, line)) {
            if let Some(workload) = all.iter_mut().find(|w| w.name == name && w.wanted > w.ready) {
                workload.wanted -= 1;
            }
        }
        return Ok(said.lines().any(|line| line == LISTED).then_some(all));
    }
    let failed: Vec<&str> =
        said.split("[-]").skip(1).filter_map(|rest| rest.split_whitespace().next()).collect();
    Err(match (failed.is_empty(), status) {
        (false, _) => format!("not ready: {}", failed.join(", ")),
        (true, TIMED_OUT) => format!("no answer within {} s", LIMIT.as_secs()),
        (true, _) => {
            let line = said.lines().map(str::trim).rfind(|l| !l.is_empty()).unwrap_or("no answer");
            line.chars().take(160).collect()
        }
    })
}

fn workload(line: &str) -> Option<Workload> {
    let mut words = line.strip_prefix("workload ")?.split_whitespace();
    let name = words.next()?.to_lowercase();
    Some(Workload { name, ready: words.next()?.parse().ok()?, wanted: words.next()?.parse().ok()? })
}

/// The daemon set of a pod that is not ready on a node outside the inventory: one that was switched off and left it is
/// nobody's fault.
fn late_elsewhere(cluster: &Cluster, line: &str) -> Option<String> {
    let (name, node) = line.strip_prefix("late ")?.split_once(' ')?;
    (node != "-" && cluster.node(&NodeName::new(node)).is_none()).then(|| name.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::testing;

    #[test]
    fn failed_checks_are_named_and_other_words_kept() {
        let checks = "Error from server (InternalError): an error on the server (\"[+]ping ok\\n[-]etcd failed: reason \
                      withheld\\n[-]poststarthook/rbac failed\\nreadyz check failed\")";
        let listed = "ok\nworkload Deployment/coredns 1 2\nworkload DaemonSet/odd\nlisted\n";
        let (late, away) = (
            "workload DaemonSet/x 2 4\nlate DaemonSet/x w1\nlate DaemonSet/x gone\nlisted\n",
            "workload DaemonSet/x 4 4\nlate DaemonSet/x gone\nlate DaemonSet/x -\nlisted\n",
        );
        let coredns = Workload { name: "deployment/coredns".to_owned(), ready: 1, wanted: 2 };
        let x = |ready, wanted| Workload { name: "daemonset/x".to_owned(), ready, wanted };
        for (status, said, wanted) in [
            (0, "ok\n", Ok(None)),
            (0, "ok\nworkload Deployment/coredns 1 2\n", Ok(None)),
            (0, "ok\nlisted\n", Ok(Some(vec![]))),
            (0, listed, Ok(Some(vec![coredns]))),
            (0, late, Ok(Some(vec![x(2, 3)]))),
            (0, away, Ok(Some(vec![x(4, 4)]))),
            (1, checks, Err("not ready: etcd, poststarthook/rbac".to_owned())),
            (1, "nothing listens on 10.0.0.1:6443\n", Err("nothing listens on 10.0.0.1:6443".to_owned())),
            (TIMED_OUT, "", Err("no answer within 5 s".to_owned())),
            (1, "", Err("no answer".to_owned())),
        ] {
            assert_eq!(read(&testing::ha(), status, said), wanted, "{said}");
        }
    }
}
