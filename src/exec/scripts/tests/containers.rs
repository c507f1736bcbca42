//! wipe.sh and remember.sh where other container tools are on the host.

use std::{fs, os::unix::net::UnixListener};

use super::{OTHERS, Place, said};

/// As iptables-save prints it: chains of kube-proxy, chains of CNI from before and from after, and one that they share.
const SAVED: &str = "\
*nat
:POSTROUTING ACCEPT [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-DN-theirs - [0:0]
:CNI-DN-ours - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A PREROUTING -m comment --comment \"a -j of words\" -j KUBE-SERVICES
-A POSTROUTING -s 10.9.0.0/24 -j MASQUERADE
-A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 80 -j CNI-DN-theirs
-A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 81 -j CNI-DN-ours
-A CNI-DN-theirs -p tcp -j DNAT --to-destination 10.9.0.2:80
-A CNI-DN-ours -p tcp -j DNAT --to-destination 10.244.0.2:81
-A KUBE-SERVICES -j CNI-DN-ours
COMMIT
";

#[test]
fn chains_of_other_container_tools_stay() {
    let own = "-D PREROUTING -m comment --comment \"a -j of words\" -j KUBE-SERVICES\n";
    let mixed =
        format!("{own}-D CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 81 -j CNI-DN-ours\n-F CNI-DN-ours\n");
    let all = format!(
        "-D PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n{own}-F CNI-HOSTPORT-DNAT\n"
    );
    let (theirs, another) = ("iptables nat CNI-HOSTPORT-DNAT\niptables nat CNI-DN-theirs\n", "ip6tables");
    // What is noted, and how what is printed begins and goes on to the end.
    let table = [
        (Some(theirs.to_owned()), mixed, "-F KUBE-SERVICES\n-X CNI-DN-ours\n-X KUBE-SERVICES\nCOMMIT\n"),
        (
            None,
            all.clone(),
            "-F CNI-DN-theirs\n-F CNI-DN-ours\n-F KUBE-SERVICES\n\
             -X CNI-HOSTPORT-DNAT\n-X CNI-DN-theirs\n-X CNI-DN-ours\n-X KUBE-SERVICES\nCOMMIT\n",
        ),
        (
            Some(theirs.replace("iptables", another)),
            all,
            "-F CNI-DN-theirs\n-F CNI-DN-ours\n-F KUBE-SERVICES\n\
             -X CNI-HOSTPORT-DNAT\n-X CNI-DN-theirs\n-X CNI-DN-ours\n-X KUBE-SERVICES\nCOMMIT\n",
        ),
    ];
    for (notes, begin, end) in table {
        let place = Place::new();
        place.put("saved", SAVED);
        if let Some(notes) = &notes {
            place.put("lib/rsadm/before/chains", notes);
        }
        let printed = place.wiped(&format!("kubernetes_rules iptables < {}", place.path("saved").display()));
        assert_eq!(printed, format!("*nat\n{begin}{end}"), "{notes:?}");
    }
}

#[test]
fn kube_proxy_takes_away_itself_what_no_program_of_the_host_can() {
    let (rules, others) = ("echo 'chain KUBE-SERVICES {'", "echo 'chain input {'");
    // Whether the host has iptables, and what its nft does.
    for (iptables, nft, is_asked) in [
        ("true", rules, false),
        ("false", rules, true),
        ("false", others, false),
        ("true", "return 139", true),
    ] {
        let place = Place::new();
        let said = place.wiped(&format!(
            "command() {{ {iptables}; }}\nnft() {{ {nft}; }}\ntimeout() {{ shift; \"$@\"; }}
            ctr() {{ case $* in *'images ls'*) echo registry.k8s.io/kube-proxy:v1 ;; *' run '*) echo \"$*\" >&3 ;; esac; }}
            kube_proxy_rules 3>&1; true"
        ));
        assert_eq!(said.contains("kube-proxy --cleanup"), is_asked, "{iptables}, {nft}: {said}");
    }
}

#[test]
fn rules_of_iptables_go_by_kube_proxys_own_where_the_host_has_none() {
    for (iptables, goes) in [("true", false), ("false", true)] {
        let place = Place::new();
        place.put("saved", SAVED);
        let (saved, done) =
            (place.path("saved").display().to_string(), place.path("done").display().to_string());
        place.wiped(&format!(
            "command() {{ {iptables}; }}\nnft() {{ echo 'chain KUBE-SERVICES {{'; }}\npgrep() {{ echo 7; }}\nkill() {{ :; }}
            chroot() {{ case $* in '/proc/7/root '*-save) cat {saved} ;; *-restore*) cat >> {done} ;; esac; }}
            kube_proxy_tables"
        ));
        assert_eq!(place.text("done").contains("-X KUBE-SERVICES\nCOMMIT\n"), goes, "{iptables}");
    }
}

/// A containerd with a container from before and two of a pod; it writes down what it is told.
const CTR: &str = r#"
timeout() { shift; "$@"; }
ctr() {
  case "$*" in
    *'containers ls -q' | *'tasks ls -q') printf '%s\n' theirs pod pod-too ;;
    *'sandboxes ls') printf '%s\n' 'SANDBOX ID' 'theirs x' 'pod x' ;;
    *'leases ls -q' | *'images ls -q') printf '%s\n' theirs pod pod-too ;;
    *version) ;;
    *) echo "$*" >> DONE ;;
  esac
}
"#;

#[test]
fn containers_from_before_stay_in_the_namespace_of_kubernetes() {
    for (notes, keeps) in [(Some("theirs\n"), true), (Some(""), false), (None, false)] {
        let place = Place::new();
        if let Some(notes) = notes {
            place.put("lib/rsadm/before/containers", notes);
        }
        for kind in ["leases", "images"] {
            notes.iter().for_each(|notes| place.put(&format!("lib/rsadm/before/{kind}"), notes));
        }
        let done = place.path("done").display().to_string();
        place.wiped(&format!("{}\nforget_containers", CTR.replace("DONE", &done)));
        let done = place.text("done");
        for told in ["tasks kill -s KILL --all", "tasks rm -f", "containers rm", "sandboxes rm -f"] {
            let is_told = |id: &str| done.lines().any(|line| line == format!("-n k8s.io {told} {id}"));
            assert!(is_told("pod"), "{told}: {done}");
            assert_eq!(is_told("theirs"), !keeps, "{told}, noted {notes:?}: {done}");
        }
        let all = if keeps { "pod pod-too" } else { "theirs pod pod-too" };
        for told in ["leases rm --sync", "images rm --sync"] {
            let line = format!("-n k8s.io {told} {all}");
            assert!(done.lines().any(|l| l == line), "{told}, noted {notes:?}: {done}");
        }
    }
}

#[test]
fn mounts_and_networks_of_containers_from_before_stay() {
    const MOUNTS: [&str; 4] = [
        "run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/rootfs",
        "run/containerd/io.containerd.grpc.v1.cri/sandboxes/ID/shm",
        "lib/kubelet/pods/ID/volumes",
        "run/netns/cni-ID",
    ];
    for (is_noted, stay) in [(true, [true, true, false, true]), (false, [false; 4])] {
        let place = Place::new();
        for id in ["theirs", "pod"] {
            MOUNTS.iter().for_each(|mount| place.mount(&mount.replace("ID", id)));
        }
        if is_noted {
            place.put("lib/rsadm/before/containers", "theirs\n");
            place.put("lib/rsadm/before/netns", "cni-theirs\n");
        }
        let done = place.unmounted();
        let is_unmounted = |mount: &str| done.lines().any(|l| l == place.path(mount).display().to_string());
        for (mount, stays) in MOUNTS.iter().zip(stay) {
            assert!(is_unmounted(&mount.replace("ID", "pod")), "{mount}: {done}");
            assert_eq!(
                is_unmounted(&mount.replace("ID", "theirs")),
                !stays,
                "{mount}, noted {is_noted}: {done}"
            );
        }
    }
}

#[test]
fn what_other_container_tools_have_is_noted() {
    let place = Place::new();
    fs::create_dir_all(place.path("run/netns/cni-theirs")).unwrap();
    fs::create_dir_all(place.path("run/containerd")).unwrap();
    let _socket = UnixListener::bind(place.path("run/containerd/containerd.sock")).unwrap();
    place.remember(OTHERS, "kubernetes");
    let noted = |name: &str| place.text(&format!("lib/rsadm/before/{name}"));
    assert_eq!(noted("chains"), "iptables nat CNI-theirs\n");
    assert_eq!(noted("netns"), "cni-theirs\n");
    assert_eq!(noted("containers"), "theirs\ntheir-sandbox\n");
}

/// Else all that it has would be taken for ours, and go with a reset.
#[test]
fn a_containerd_that_does_not_tell_what_it_has_is_not_noted_as_empty() {
    let noted = |ctr: &str| {
        let place = Place::new();
        fs::create_dir_all(place.path("run/containerd")).unwrap();
        let _socket = UnixListener::bind(place.path("run/containerd/containerd.sock")).unwrap();
        let host = format!("{OTHERS}\nctr() {{ case \"$*\" in {ctr} esac; }}");
        (said(&place.try_to_remember(&host, "kubernetes")), place.is_there("lib/rsadm/before"))
    };
    let why = |call: &str| {
        format!("containerd does not tell what it has, so that this could not be noted: ctr {call}\n")
    };
    assert_eq!(noted("*'containers ls -q') return 124 ;;"), (why("containers ls: "), false));
    assert_eq!(
        noted("*'images ls -q') echo 'ctr: is busy' >&2; return 1 ;;"),
        (why("images ls: ctr: is busy"), false)
    );
    assert_eq!(noted("*'sandboxes ls') return 124 ;;"), (why("sandboxes ls"), false));
    // One that has no sandboxes, and one that is not there.
    assert_eq!(noted("*'sandboxes ls') return 3 ;;"), (String::new(), true));
    assert_eq!(noted("*) return 1 ;;"), (String::new(), true));
}

#[test]
fn a_containerd_that_does_not_tell_what_is_left_is_not_taken_for_empty() {
    let place = Place::new();
    let ctr =
        "ctr() { case \"$*\" in *version) ;; *) return 124 ;; esac; }\ntimeout() { shift; \"$@\"; }\nleft=()";
    let left = place.wiped(&format!("{ctr}\nforget_containers\nprintf '%s' \"${{left[*]}}\""));
    assert_eq!(left, "containers of Kubernetes: containerd does not answer");
}
