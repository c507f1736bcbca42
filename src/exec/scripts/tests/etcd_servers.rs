//! The script that points an API server of kubeadm's at other members, with a process in the API server's place.

use std::process::{Command, Stdio};

use super::{Place, said};
use crate::exec::scripts::SET_ETCD_SERVERS;

const MANIFEST: &str = "kubernetes/manifests/kube-apiserver.yaml";

#[test]
fn an_api_server_that_became_ready_at_the_last_moment_keeps_its_members() {
    // Whether it is ready, and what its manifest has then.
    for (ready, ok, servers) in [("true", true, "https://b"), ("false", false, "https://a")] {
        let place = Place::new();
        place.put(MANIFEST, "    - --etcd-servers=https://a\n");
        let mut server = Command::new("bash");
        server.args(["-c", "read -r x", "x", "--etcd-servers=https://b"]);
        let mut server = server.stdin(Stdio::piped()).spawn().unwrap();
        let (_, own) = SET_ETCD_SERVERS.text.rsplit_once("# set-etcd-servers.sh ").unwrap();
        let own = own.replace("/etc/kubernetes/", &format!("{}/", place.path("kubernetes").display()));
        let text = format!("processes() {{ pids=({}); }}\nkubectl() {{ {ready}; }}\n# {own}", server.id());
        let output = place.run(&text, &["set-etcd-servers", "https://b", "https://10.0.0.1:6443", "0"]);
        server.kill().unwrap();
        server.wait().unwrap();
        assert_eq!(output.status.success(), ok, "{}", said(&output));
        assert_eq!(place.text(MANIFEST), format!("    - --etcd-servers={servers}\n"));
        assert_eq!(std::fs::read_dir(place.path("kubernetes")).unwrap().count(), 1, "a copy is left");
    }
}
