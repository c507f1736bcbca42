//! The scripts that have a node register and mark it, with programs that write down what they are told.

use std::{net::TcpListener, process::Output};

use super::{Place, said};
use crate::{
    exec::scripts::{AWAIT_NODES, JOIN, MARK, ROLLOUT},
    host::Script,
};

/// Runs a script after functions in place of programs, which write to DONE.
fn run(place: &Place, script: Script, programs: &str, args: &[&str]) -> Output {
    let done = place.path("done").display().to_string();
    let args: Vec<&str> = std::iter::once(script.name).chain(args.iter().copied()).collect();
    place.run(&format!("{}\n{}", programs.replace("DONE", &done), script.text), &args)
}

/// An API server that answers as in CASES, which are patterns of the end of what is asked for; it has no other objects.
const API: &str = r#"
systemctl() { echo "systemctl $*" >> DONE; }
sleep() { echo slept >> DONE; }
curl() {
  local url=${!#} asked code=000
  asked=$(cat DONE 2>/dev/null | grep -c '^asked')
  echo "asked $url" >> DONE
  case "$asked $url" in
    CASES) code=200 ;;
    '1 '*/nodes/w1) [ CUT = no ] || return 52 ;;
    */readyz) echo 'curl: (22) The requested URL returned error: 500' >&2 ;;
  esac
  [[ " $* " != *" -w "* ]] || printf $code
  [ $code = 200 ] || return 22
}
"#;

/// With these cases; and whether the second question is cut off, as by a balancer that finds a better server.
fn api(cases: &str, cut: bool) -> String {
    API.replace("CASES", cases).replace("CUT", if cut { "yes" } else { "no" })
}

const URL: &str = "https://10.0.0.1:6443";
const RESTART: &str = "systemctl try-restart kubelet";

#[test]
fn only_a_kubelet_that_is_not_registered_starts_anew_and_once() {
    let (node, csi) = ("api/v1/nodes/w1", "apis/storage.k8s.io/v1/csinodes/w1");
    // What the server has, and what is done after it has been asked whether it is ready.
    let table = [
        ("*/readyz | */nodes/w1 | */csinodes/w1", vec![node, csi]),
        ("*/readyz | */csinodes/w1", vec![node, RESTART]),
        ("*/readyz | */nodes/w1", vec![node, csi, RESTART]),
        ("*/readyz", vec![node, RESTART]),
    ];
    for (cases, expected) in table {
        let place = Place::new();
        let output = run(&place, JOIN, &api(cases, false), &[URL, "60", "w1"]);
        assert!(output.status.success(), "{cases}: {}", said(&output));
        let done = place.text("done").replace(&format!("asked {URL}/"), "");
        let done: Vec<&str> = done.lines().collect();
        assert_eq!(done, [vec!["readyz"], expected].concat(), "{cases}");
    }
}

#[test]
fn a_kubelet_starts_anew_when_the_api_server_is_ready_and_not_before() {
    let place = Place::new();
    // The third question is the first that is answered.
    let output = run(&place, JOIN, &api("'2 '*/readyz", false), &[URL, "60", "w1"]);
    assert!(output.status.success(), "{}", said(&output));
    let asked = format!("asked {URL}/readyz\n");
    let node = format!("asked {URL}/api/v1/nodes/w1\n");
    assert_eq!(place.text("done"), format!("{asked}slept\n{asked}slept\n{asked}{node}{RESTART}\n"));
}

#[test]
fn a_question_that_is_cut_off_is_no_answer() {
    let place = Place::new();
    let has_all = "'0 '*/readyz | '2 '*/nodes/w1 | */csinodes/w1";
    let output = run(&place, JOIN, &api(has_all, true), &[URL, "60", "w1"]);
    assert!(output.status.success(), "{}", said(&output));
    let done = place.text("done").replace(&format!("asked {URL}/"), "");
    assert_eq!(done, "readyz\napi/v1/nodes/w1\nslept\napi/v1/nodes/w1\napis/storage.k8s.io/v1/csinodes/w1\n");
}

#[test]
fn an_api_server_that_is_never_ready_is_told_and_no_kubelet_starts_anew() {
    let place = Place::new();
    let output = run(&place, JOIN, &api("nothing", false), &[URL, "0", "w1"]);
    assert!(!output.status.success());
    assert_eq!(
        said(&output),
        format!(
            "no API server is ready at {URL}, which the kubelet dials, after 0 s: \
             curl: (22) The requested URL returned error: 500\n"
        )
    );
    assert_eq!(place.text("done"), format!("asked {URL}/readyz\n"));
}

#[test]
fn without_curl_a_kubelet_starts_anew_when_something_listens_and_not_before() {
    const NO_CURL: &str = r#"
systemctl() { echo "systemctl $*" >> DONE; }
command() { [ "$*" != '-v curl' ]; }
"#;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hp = listener.local_addr().unwrap().to_string();
    let url = format!("https://{hp}");
    let place = Place::new();
    let output = run(&place, JOIN, NO_CURL, &[&url, "60", "w1"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(place.text("done"), format!("{RESTART}\n"));

    drop(listener);
    let place = Place::new();
    let output = run(&place, JOIN, NO_CURL, &[&url, "0", "w1"]);
    assert!(!output.status.success());
    assert_eq!(
        said(&output),
        format!(
            "no API server is ready at {url}, which the kubelet dials, after 0 s: nothing listens on {hp}\n"
        )
    );
    assert_eq!(place.text("done"), "");
}

/// A node with the taints of its kubelet; it has none but them to take away, and where BROKEN it takes none away. Time flies.
const KUBECTL: &str = r#"
sleep() { SECONDS=$((SECONDS+3)); }
kubectl() {
  shift 4
  case $1 in
    wait)
      [ "$3" = node/w1 ] || { echo "error: timed out waiting for the condition on $3" >&2; return 1; }
      printf '%s\n' there=1:NoSchedule bare:NoExecute
      return ;;
  esac
  echo "$*" >> DONE
  case "$* " in
    *BROKEN*) echo 'error: the server is not there' >&2; return 1 ;;
    *' bare:NoExecute- ') ;;
    *'- ') echo 'error: taint "gone" not found' >&2; return 1 ;;
  esac
}
"#;
const PATCH: &str = r#"patch node w1 --type merge -p {"metadata":{"labels":{LABELS},"annotations":{"rsadm/managed":"ours"}}}"#;

#[test]
fn a_node_is_told_only_what_it_has_not() {
    let patch = |labels: &str| PATCH.replace("LABELS", labels);
    // Labels and taints, and what kubectl is told.
    let table = [
        (vec![], vec![], vec![patch("")]),
        (vec!["a=1", "gone-", "b="], vec![], vec![patch(r#""a":"1","gone":null,"b":"""#)]),
        (vec![], vec!["there=1:NoSchedule", "bare:NoExecute"], vec![patch("")]),
        (
            vec!["a=1"],
            vec!["there=1:NoSchedule", "there=2:NoSchedule", "new:NoExecute"],
            vec![
                "taint node w1 --overwrite there=2:NoSchedule new:NoExecute".to_owned(),
                patch(r#""a":"1""#),
            ],
        ),
        (
            vec![],
            vec!["bare:NoExecute-", "gone:NoSchedule-"],
            vec![
                "taint node w1 bare:NoExecute-".to_owned(),
                "taint node w1 gone:NoSchedule-".to_owned(),
                patch(""),
            ],
        ),
    ];
    for (labels, taints, expected) in table {
        let place = Place::new();
        let args = [vec!["w1", "60", "ours"], labels, vec!["--"], taints].concat();
        let output = run(&place, MARK, KUBECTL, &args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        assert_eq!(place.text("done").lines().collect::<Vec<_>>(), expected, "{args:?}");
    }
}

/// Where no API server told of the node when it was planned, nobody knew what was ours.
#[test]
fn what_was_ours_and_is_no_more_is_taken_back() {
    let was = "'ours zone,ours,bare:NoExecute,there=0:NoSchedule,gone:NoSchedule'";
    let kubectl = KUBECTL.replace("bare:NoExecute\n", &format!("bare:NoExecute {was}\n"));
    for (managed, labels, taints) in [
        ("ours", r#""zone":null"#, "taint node w1 bare:NoExecute-\n"),
        ("ours,zone,bare=2:NoExecute", "", ""),
    ] {
        let place = Place::new();
        let output = run(&place, MARK, &kubectl, &["w1", "60", managed, "--"]);
        assert!(output.status.success(), "{}", said(&output));
        let patch = PATCH.replace("LABELS", labels).replace(r#""ours"}"#, &format!("\"{managed}\"}}"));
        assert_eq!(place.text("done"), format!("{taints}{patch}\n"), "{managed}");
    }
}

#[test]
fn nothing_is_taken_for_done_where_a_node_does_not_come_or_a_taint_fails() {
    // The node, a taint, what the operator reads, and what kubectl was told.
    let table = [
        ("w2", "new:NoExecute", "error: timed out waiting for the condition on node/w2\n", ""),
        ("w1", "BROKEN:NoExecute-", "error: the server is not there\n", "taint node w1 BROKEN:NoExecute-\n"),
        (
            "w1",
            "BROKEN:NoExecute",
            "error: the server is not there\n",
            "taint node w1 --overwrite BROKEN:NoExecute\n",
        ),
    ];
    for (node, taint, words, told) in table {
        let place = Place::new();
        let output = run(&place, MARK, KUBECTL, &[node, "60", "ours", "a=1", "--", taint]);
        assert!(!output.status.success(), "{node} {taint}");
        assert_eq!(said(&output), words, "{node} {taint}");
        // It was asked again in vain, and nothing else.
        let done = place.text("done");
        assert_eq!(done, told.repeat(done.lines().count()), "{node} {taint}");
        assert_eq!(done.lines().count() > 1, !told.is_empty(), "{node} {taint}");
    }
}

/// An API server that fails at some calls, as a busy one does while etcd elects a leader.
const BUSY: &str = r#"
sleep() { :; }
busy() {
  local calls
  echo call >> DONE.calls
  calls=$(cat DONE.calls | wc -l)
  case $calls in 1 | 3 | 5 | 8) echo 'Error from server: etcdserver: request timed out' >&2; return 1 ;; esac
}
"#;

#[test]
fn what_a_busy_api_server_fails_at_is_asked_for_again() {
    let place = Place::new();
    let kubectl = format!("{BUSY}{KUBECTL}").replace("  shift 4", "  busy || return\n  shift 4");
    let args = ["w1", "60", "ours", "a=1", "--", "new:NoExecute", "bare:NoExecute-", "gone:NoSchedule-"];
    let output = run(&place, MARK, &kubectl, &args);
    assert!(output.status.success(), "{}", said(&output));
    let patch = PATCH.replace("LABELS", r#""a":"1""#);
    let told = "taint node w1 --overwrite new:NoExecute\ntaint node w1 bare:NoExecute-\ntaint node w1 gone:NoSchedule-";
    assert_eq!(place.text("done"), format!("{told}\n{patch}\n"));

    let kubectl = format!("{BUSY}kubectl() {{ busy && echo \"$*\" >> DONE; }}");
    let (nodes, rollout) = (["60", "m1", "w1"], ["60", "", "deployment/coredns"]);
    for (script, args, told) in
        [(AWAIT_NODES, nodes, "=Ready node/m1 node/w1"), (ROLLOUT, rollout, "status deployment/coredns")]
    {
        let place = Place::new();
        let output = run(&place, script, &kubectl, &args);
        assert!(output.status.success(), "{}: {}", script.name, said(&output));
        assert!(place.text("done").contains(told), "{}: {}", script.name, place.text("done"));
    }
}

#[test]
fn what_kubectl_said_last_is_told_once_the_time_is_over() {
    let kubectl = "sleep() { SECONDS=$((SECONDS+3)); }\nkubectl() { echo 'Error from server: no leader' >&2; return 1; }";
    let last = "Error from server: no leader\n";
    let late = format!("deployment/coredns is not rolled out after 60 s: {last}");
    for (script, args, words) in
        [(AWAIT_NODES, ["60", "m1", "w1"], last), (ROLLOUT, ["60", "", "deployment/coredns"], &late)]
    {
        let output = run(&Place::new(), script, kubectl, &args);
        assert!(!output.status.success() && said(&output).starts_with(words), "{}", said(&output));
    }
}
