//! What scripts call of a host's tools, whose versions are the host's own.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{Place, said};
use crate::{
    exec::scripts::{INSTALL, SYSCTL},
    observe::parser::SCRIPT,
};

/// SELinux's labels go along with what is moved.
#[test]
fn a_program_gets_the_label_of_its_place() {
    let place = Place::new();
    place.put("mirror/loopback", "#!/bin/sh\n");
    let sum = crate::hash::sha256(b"#!/bin/sh\n");
    place.put("mirror/loopback.sha256", &format!("{sum}  loopback\n"));
    let (mirror, log, target) = (place.path("mirror"), place.path("labelled"), place.path("bin/loopback"));
    let host = format!(
        "curl() {{ cp \"{}/${{@: -1}}\" \"${{@: -2:1}}\"; }}\nrestorecon() {{ ls \"$2\" >> {}; }}",
        mirror.display(),
        log.display()
    );
    let target = target.display().to_string();
    let args = ["install", "cni", "loopback", "loopback.sha256", target.as_str()];
    let output = place.run(&format!("{host}\n{}", INSTALL.text), &args);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(place.text("labelled"), format!("{target}\n"));
}

/// A mirror on loopback that gives out each of these in turn, a connection each, and counts; the last again and again.
struct Mirror {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Mirror {
    fn serve(sums: String, downloads: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/loopback", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        thread::spawn(move || {
            for mut connection in listener.incoming().map(Result::unwrap) {
                let mut head = [0; 4096];
                let length = connection.read(&mut head).unwrap();
                let wants_sums = String::from_utf8_lossy(&head[..length]).contains("/loopback.sha256 ");
                let body = match wants_sums {
                    true => sums.as_bytes(),
                    false => {
                        let turn = count.fetch_add(1, Ordering::SeqCst);
                        downloads.get(turn).or(downloads.last()).unwrap()
                    }
                };
                let length = body.len();
                write!(
                    connection,
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                )
                .unwrap();
                connection.write_all(body).unwrap();
            }
        });
        Self { url, asked }
    }

    /// What `install.sh` makes of it, as a host calls it.
    fn install_into(&self, place: &Place) -> Output {
        let (sums, target) = (format!("{}.sha256", self.url), place.path("bin/loopback"));
        let args = ["install", "cni", self.url.as_str(), sums.as_str(), target.to_str().unwrap()];
        place.run(&format!("export no_proxy='*'\n{}", INSTALL.text), &args)
    }
}

/// A containerd that its owner installs afterwards would else be ours, and go with a reset. Where a run before died something may be
/// in place.
#[test]
fn an_install_that_puts_nothing_in_place_leaves_no_note() {
    for noted in [false, true] {
        let place = Place::new();
        let mut elsewhere = b"\x7fELF".to_vec();
        elsewhere.resize(64, 0);
        if noted {
            place.put("lib/rsadm/placing/cni", "0 0 /usr/local/bin/loopback\n");
        }
        let sums = format!("{}  loopback\n", crate::hash::sha256(&elsewhere));
        let output = Mirror::serve(sums, vec![elsewhere]).install_into(&place);
        assert!(said(&output).contains("is for another kind of processor"), "{}", said(&output));
        assert_eq!(place.is_there("lib/rsadm/placing/cni"), noted);
    }
}

/// What the host's facts say with that word.
fn told(place: &Place, word: &str) -> Vec<String> {
    let folder = place.path("kubernetes").display().to_string();
    let output = place.run(&SCRIPT.text.replace("K=/etc/kubernetes ", &format!("K={folder} ")), &["facts"]);
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().filter(|line| line.starts_with(word)).map(str::to_owned).collect()
}

#[test]
fn a_note_counts_where_a_file_that_it_names_is_there() {
    let place = Place::new();
    let file = place.path("bin/containerd").display().to_string();
    place.put("lib/rsadm/placing/containerd", &format!("0 0 {file}\n0 0 {file}-shim\n"));
    for (is_there, wanted) in [(false, vec![]), (true, vec!["placing containerd".to_owned()])] {
        if is_there {
            place.put("bin/containerd", "");
        }
        assert_eq!(told(&place, "placing"), wanted);
        let ours = place.wipe("containerd_is_ours").status.success();
        assert!(ours || !is_there);
    }
    std::fs::remove_file(place.path("bin/containerd")).unwrap();
    // The machine that the tests run on may have rsadm's own unit.
    let systemd = std::fs::read_to_string("/etc/systemd/system/containerd.service").unwrap_or_default();
    assert!(systemd.starts_with("# Written by rsadm") || !place.wipe("containerd_is_ours").status.success());
}

/// As a file has them whose operator would have two authorities trusted: read as one, they would be none, and all that the first has signed
/// would be issued anew.
#[test]
fn of_several_certificates_in_a_file_the_first_counts() {
    let place = Place::new();
    let pem = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    place.put("kubernetes/pki/etcd/ca.crt", &(pem("QUJD\nRA==") + &pem("WFla")));
    place.put("kubernetes/pki/apiserver.crt", &pem("WFla"));
    let [ca, own] = ["pki/etcd/ca.crt", "pki/apiserver.crt"].map(|file| {
        let path = place.path("kubernetes").join(file);
        told(&place, &format!("cert {} ", path.display())).join("; ").rsplit(' ').next().map(str::to_owned)
    });
    assert_eq!((ca.as_deref(), own.as_deref()), (Some("QUJDRA=="), Some("WFla")));
}

/// An ingress' own, in the host's network, is none that the host's kubelet dials.
#[test]
fn only_the_haproxy_that_is_ours_is_told() {
    let place = Place::new();
    place.program("haproxy", "#!/bin/sh\nread -r end\n");
    let start = |config: &str| {
        let mut haproxy = Command::new(place.path("bin/haproxy"));
        let haproxy = haproxy.args(["-f", config]).env("RSADM_REVISION", config.rsplit('/').next().unwrap());
        haproxy.stdin(Stdio::piped()).spawn().unwrap()
    };
    let mut started =
        [start("/etc/kubernetes/haproxy/ours-of-a-test"), start("/etc/haproxy/theirs-of-a-test")];
    // It has its name once it runs.
    while !started
        .iter()
        .all(|p| std::fs::read_to_string(format!("/proc/{}/comm", p.id())).unwrap() == "haproxy\n")
    {
        thread::yield_now();
    }
    let told = told(&place, "process haproxy ");
    started.iter_mut().for_each(|p| p.kill().and_then(|()| p.wait().map(drop)).unwrap());
    let of_test: Vec<&String> = told.iter().filter(|line| line.ends_with("-of-a-test")).collect();
    assert_eq!(of_test, ["process haproxy ours-of-a-test"]);
}

/// As a host that lost its power while it fetched has them, by this name and by the one before it; what another process is at stays.
#[test]
fn downloads_of_runs_that_were_killed_go() {
    let place = Place::new();
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let [gone, own] = [ended.id(), std::process::id()].map(|pid| format!("lib/rsadm/fetch.{pid}.Ab12Cd"));
    for folder in ["lib/rsadm/fetch.Ab12Cd", &gone, &own] {
        place.put(&format!("{folder}/kubelet"), "half of it");
    }
    let good = b"#!/bin/sh\n".to_vec();
    let mirror = Mirror::serve(format!("{}  loopback\n", crate::hash::sha256(&good)), vec![good]);
    let output = mirror.install_into(&place);
    assert!(output.status.success(), "{}", said(&output));
    let left = std::fs::read_dir(place.path("lib/rsadm")).unwrap().map(|e| e.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("fetch.")).collect();
    assert_eq!(left, [own.trim_start_matches("lib/rsadm/")], "its own, too");
}

/// A module that is not loaded is no failure where no pod is to be, nor where the kernel has none: preflight tells of that.
/// Nor is a setting that only others than this host see. The words are those of what did not work.
#[test]
fn rules_that_see_no_traffic_of_bridges_are_a_failure_where_there_are_pods() {
    const FAILED: &str = "modprobe: ERROR: could not insert br_netfilter";
    for (rules, module, modprobe, pods, told) in [
        (Some("1"), "true", FAILED, "pods", None),
        (Some("0"), "true", FAILED, "pods", Some("pods: read-only")),
        (None, "true", FAILED, "pods", Some(FAILED)),
        (None, "true", "", "pods", Some("pods: modprobe loaded nothing")),
        (None, "true", FAILED, "", None),
        (None, "false", FAILED, "pods", None),
        (None, "loaded", FAILED, "pods", None),
    ] {
        let place = Place::new();
        place.put("sys/net/ipv4/ip_forward", "1\n");
        if let Some(rules) = rules {
            place.put("sys/net/bridge/bridge-nf-call-iptables", &format!("{rules}\n"));
        }
        let modinfo = if module == "loaded" {
            place.put("module/br_netfilter/initstate", "live\n");
            "true"
        } else {
            module
        };
        let host = format!(
            "modprobe() {{ case $1 in overlay) echo 'no overlay' ;; *) echo -n '{modprobe}' ;; esac; }}\n\
             modinfo() {{ {modinfo}; }}\nsysctl() {{ echo read-only; }}\n"
        );
        let text = SYSCTL.text.replace("/proc/sys/", &format!("{}/", place.path("sys").display()));
        let text = text.replace("/sys/module/", &format!("{}/", place.path("module").display()));
        let output = place.run(&format!("{host}{text}"), &["sysctl", "overlay\nbr_netfilter", "", pods]);
        let found = said(&output);
        assert_eq!(!output.status.success(), told.is_some(), "{rules:?} {module} {pods:?}: {found}");
        assert!(
            told.is_none_or(|told| found.trim_end().ends_with(told) && !found.contains("overlay")),
            "{found}"
        );
    }
}

/// Row 23 of the fault matrix: what arrived with another checksum is fetched once more, and no more than that; nothing but the
/// right bytes is ever in place.
#[test]
fn row_23_a_flipped_bit_is_fetched_again_once() {
    let good = b"#!/bin/sh\nexit 0\n".to_vec();
    let mut flipped = good.clone();
    flipped[12] ^= 1;
    let sums = format!("{}  loopback\n", crate::hash::sha256(&good));
    let place = Place::new();
    let mirror = Mirror::serve(sums.clone(), vec![flipped.clone(), good.clone()]);
    let output = mirror.install_into(&place);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(mirror.asked.load(Ordering::SeqCst), 2);
    assert_eq!(place.text("bin/loopback").as_bytes(), good);

    let place = Place::new();
    let mirror = Mirror::serve(sums, vec![flipped.clone()]);
    let output = mirror.install_into(&place);
    let told = format!("checksum of {} is {}, not ", mirror.url, crate::hash::sha256(&flipped));
    assert!(!output.status.success() && said(&output).contains(&told), "{}", said(&output));
    assert_eq!(mirror.asked.load(Ordering::SeqCst), 2, "tried on");
    assert!(!place.is_there("bin/loopback") && !place.is_there("lib/rsadm/installed/cni"));
}

/// A containerd that is late has not no images; where it is down, or an image is broken, what it told is all.
#[test]
fn a_containerd_that_is_late_is_told_from_one_that_has_no_images() {
    for (status, told_untold) in [(0, false), (1, false), (124, true)] {
        let place = Place::new();
        place.put("run/containerd/x", "");
        let _socket =
            std::os::unix::net::UnixListener::bind(place.path("run/containerd/containerd.sock")).unwrap();
        place.program("timeout", &format!("#!/bin/sh\ncase $* in *' images check '*) echo 'r/etcd:3 t sha256:1 complete (2/2) 9.0 MiB/9.0 MiB true'; exit {status} ;; esac\nshift; exec \"$@\"\n"));
        let text = format!("PATH={}:$PATH\n{}", place.path("bin").display(), SCRIPT.text);
        let output = place.run(&text, &["facts"]);
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let images: Vec<&str> = lines.lines().filter(|line| line.starts_with("image")).collect();
        let wanted: &[&str] =
            if told_untold { &["image r/etcd:3", "images-untold"] } else { &["image r/etcd:3"] };
        assert_eq!(images, wanted, "{status}");
    }
}
