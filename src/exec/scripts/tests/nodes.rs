//! The scripts that have a node register and mark it, with programs that write down what they are told.

use std::{net::TcpListener, process::Output};

use super::{Place, said};
use crate::{
    exec::scripts::{JOIN, MARK},
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

/// A node with the taints of its kubelet; it has none but them to take away, and where BROKEN it takes none away.
const KUBECTL: &str = r#"
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
        assert_eq!((said(&output).as_str(), place.text("done").as_str()), (words, told), "{node} {taint}");
    }
}
