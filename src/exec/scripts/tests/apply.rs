//! The script that applies objects, with a kubectl that tells what it was given.

use super::{Place, said};
use crate::{exec::scripts::APPLY, manifests};

/// `get` tells of FOUND; what is applied goes to DONE. Meanwhile another run gives the same objects.
const KUBECTL: &str = r#"
kubectl() {
  case " $* " in
  *" get "*) printf 'FOUND' ;;
  *" -f - "*) cat > /dev/null; echo next > /run/rsadm-objects.yaml ;;
  *" apply "*) local n; for n; do [ "$last" != -f ] || cat "$n" > DONE; last=$n; done ;;
  esac
}
"#;

const DEPLOYMENT: &str = "apps/v1 Deployment kube-system coredns 1 map[f:spec:map[f:replicas:map[]]]\\n";
const CONFIG_MAP: &str = "v1 ConfigMap kube-system coredns 2 map[f:data:map[f:Corefile:map[]]]\\n";

/// What is applied of CoreDNS where the cluster has these objects.
fn applied(bundle: &str, found: &str) -> (String, String) {
    let place = Place::new();
    let text = manifests::coredns(&manifests::testing::ha(), true).unwrap();
    place.put("run/rsadm-objects.yaml", &text);
    let done = place.path("done").display().to_string();
    let file = place.path("run/rsadm-objects.yaml").display().to_string();
    let programs = KUBECTL.replace("FOUND", found).replace("DONE", &done);
    let output = place.run(&format!("{programs}\n{}", APPLY.text), &["apply", &file, bundle, "hash", "60"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(place.text("run/rsadm-objects.yaml"), "next\n");
    let left = std::fs::read_dir(place.path("run")).unwrap().count();
    assert_eq!(left, 1, "more is left than what is another's");
    (text, place.text("done"))
}

#[test]
fn what_operators_have_set_in_coredns_is_left_to_them() {
    let theirs = |line: &str| line.replace("f:replicas", "f:template").replace("f:Corefile", "f:Other");
    let both = format!("{DEPLOYMENT}{CONFIG_MAP}");
    for found in ["", &both] {
        let (all, applied) = applied("coredns", found);
        assert_eq!(applied, all, "{found}");
    }
    let (all, scaled) = applied("coredns", &format!("{}{CONFIG_MAP}", theirs(DEPLOYMENT)));
    assert_eq!(scaled, all.replace("  replicas: 2\n", ""));
    let (all, configured) = applied("coredns", &format!("{DEPLOYMENT}{}", theirs(CONFIG_MAP)));
    let (begin, end) = (
        all.find("data:\n  Corefile: |").unwrap(),
        all.find("metadata:\n  name: coredns\n  namespace: kube-system\n---\napiVersion: apps").unwrap(),
    );
    assert_eq!(configured, format!("{}{}", &all[..begin], &all[end..]));
    // Other bundles are applied as they are.
    let (all, other) = applied("flannel", &theirs(&both));
    assert_eq!(other, all);
}

/// Whatever else runs there has no way to it.
#[test]
fn a_url_is_given_to_kubectl_as_it_is() {
    let place = Place::new();
    place.put("run/x", "");
    let done = place.path("done").display().to_string();
    let kubectl = format!(
        r#"kubectl() {{ case " $* " in *" -f - "*) cat > /dev/null ;; *" apply "*) echo "$*" > {done} ;; esac; }}"#
    );
    let url = "https://example.org/network.yaml";
    let output = place.run(&format!("{kubectl}\n{}", APPLY.text), &["apply", url, "network-0", "hash", "60"]);
    assert!(output.status.success(), "{}", said(&output));
    let applied = place.text("done");
    assert!(applied.contains(&format!(" -f {url} ")), "{applied}");
}

/// What was applied is recorded also where the API server fails at that for a while; else the next run applies it once more.
#[test]
fn a_bundle_is_recorded_once_the_api_server_can_and_else_its_words_are_told() {
    const KUBECTL: &str = r#"
    sleep() { SECONDS=$((SECONDS+3)); }
    kubectl() {
      case " $* " in *" -f - "*) ;; *) return ;; esac
      echo "$(cat)" >> DONE
      [ $(cat DONE | wc -l) -ge FIRST ] || { echo 'Error from server: etcdserver: leader changed' >&2; return 1; }
    }
    "#;
    for (first, ok) in [("3", true), ("100", false)] {
        let place = Place::new();
        place.put("run/x", "");
        let done = place.path("done").display().to_string();
        let text = format!("{}\n{}", KUBECTL.replace("DONE", &done).replace("FIRST", first), APPLY.text);
        let output = place.run(&text, &["apply", "https://example.org/x.yaml", "x", "hash", "60"]);
        let words = if ok { "" } else { "Error from server: etcdserver: leader changed\n" };
        assert_eq!((output.status.success(), said(&output).as_str()), (ok, words));
        let recorded = place.text("done");
        assert!(recorded.lines().all(|line| line.contains(r#""data": {"x": "hash","#)), "{recorded}");
        assert!(recorded.lines().count() >= 3, "{recorded}");
    }
}
