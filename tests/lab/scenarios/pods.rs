//! Two pods that answer each other across nodes: the proof that network, services and DNS work.

use crate::harness::{Check, Cluster, Fault, eventually};

/// Where they run.
const NAMESPACE: &str = "lab-test";

/// One pod on each of the two nodes, with a web server that tells its name, and a Service for each.
pub fn start(cluster: &Cluster<'_>, nodes: [&str; 2]) -> Check {
    let mut objects = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}\n");
    for (n, node) in nodes.iter().enumerate() {
        objects += &pod(n, node);
    }
    cluster.apply(&objects)?;
    cluster.pods_become_ready(NAMESPACE)?;
    // kube-proxy hears of a Service's endpoints a moment after the pods are Ready.
    eventually(|| answer_each_other(cluster))
}

/// A third one, on that node, and the first answer each other.
pub fn another(cluster: &Cluster<'_>, node: &str) -> Check {
    cluster.apply(&pod(2, node))?;
    cluster.pods_become_ready(NAMESPACE)?;
    eventually(|| {
        for (from, to) in [(2, 0), (0, 2)] {
            let answer = ask(cluster, from, &format!("web-{to}"))?;
            ensure!(answer == format!("web-{to}"), "web-{from} asks web-{to} and hears {answer:?}");
        }
        Ok(())
    })
}

fn pod(n: usize, node: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: web-{n}, namespace: {NAMESPACE}, labels: {{web: \"{n}\"}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: docker.io/library/busybox:1.37
    command: [sh, -c, \"mkdir /tmp/www; echo web-{n} > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www\"]
    readinessProbe: {{tcpSocket: {{port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web-{n}, namespace: {NAMESPACE}}}
spec: {{selector: {{web: \"{n}\"}}, ports: [{{port: 80, targetPort: 8080}}]}}
"
    )
}

/// Each asks the other by the full and by the short name of its Service.
pub fn answer_each_other(cluster: &Cluster<'_>) -> Check {
    for (from, to) in [(0, 1), (1, 0)] {
        for name in [format!("web-{to}"), format!("web-{to}.{NAMESPACE}.svc.cluster.local")] {
            let answer = ask(cluster, from, &name)?;
            ensure!(answer == format!("web-{to}"), "web-{from} asks {name} and hears {answer:?}");
        }
    }
    Ok(())
}

fn ask(cluster: &Cluster<'_>, from: usize, name: &str) -> Result<String, Fault> {
    cluster.in_pod(NAMESPACE, &format!("web-{from}"), &format!("wget -qO- -T 10 http://{name}/"))?.text()
}
