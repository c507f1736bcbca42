//! The scripts that note what a host has and that empty it, in bash: the latter a function at a time, on folders of its own.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use super::{REMEMBER, WIPE};

mod apply;
mod nodes;
mod processes;
mod tools;

/// A host's folders.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.put("mountinfo", "");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        let name = format!("bin/{name}");
        self.put(&name, text);
        fs::set_permissions(self.path(&name), Permissions::from_mode(0o755)).unwrap();
    }

    /// Says that something is mounted there.
    fn mount(&self, name: &str) {
        // That of a network is on a file.
        match name.starts_with("run/netns/") {
            true => self.put(name, ""),
            false => fs::create_dir_all(self.path(name)).unwrap(),
        }
        let path = self.path(name).display().to_string().replace(' ', r"\040");
        let line = format!("40 28 0:30 / {path} rw - nfs nas:/b rw\n");
        self.put("mountinfo", &(self.text("mountinfo") + &line));
    }

    /// Runs `commands` after the script's functions. Of those only such may be called as keep to places that [`Place::run`]
    /// moves and to programs that `commands` replaces. All others are for a host: `stop_units`, `end_containers`,
    /// `firewall`, `remove_files`, `put_back`, `etcd_user` and `settings` change the machine that the tests run on.
    fn wipe(&self, commands: &str) -> Output {
        let (functions, _) = WIPE.text.rsplit_once("\nmain\n").unwrap();
        self.run(&format!("{functions}\n{commands}\n"), &["wipe", "test", "no"])
    }

    /// The same where it must succeed; what it prints.
    fn wiped(&self, commands: &str) -> String {
        let output = self.wipe(commands);
        assert!(output.status.success(), "{commands}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What `unmount` unmounts.
    fn unmounted(&self) -> String {
        self.wiped(&format!("umount() {{ echo \"$1\" >> {}; }}\nunmount", self.path("done").display()));
        self.text("done")
    }

    /// What `remember.sh` notes of this folder.
    fn remember(&self, host: &str, folder: &str) {
        let folder = self.path(folder).display().to_string();
        let output =
            self.run(&format!("{host}\n{}", REMEMBER.text), &["remember", "test", &folder, "--", "--"]);
        assert!(output.status.success(), "{}", said(&output));
    }

    fn run(&self, text: &str, args: &[&str]) -> Output {
        let root = self.0.path().display();
        let text = text
            .replace("/var/lib/", &format!("{root}/lib/"))
            .replace("/run/", &format!("{root}/run/"))
            .replace("/etc/rsadm/", &format!("{root}/rsadm/"))
            .replace("/proc/self/mountinfo", &format!("{root}/mountinfo"));
        Command::new("bash").args(["-c", &text]).args(args).output().unwrap()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn is_there(&self, name: &str) -> bool {
        Path::new(&self.path(name)).exists()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn snapshots_stay_and_our_own_notes_go() {
    let place = Place::new();
    place.put("lib/rsadm/before/paths", "/etc\n");
    place.put("lib/rsadm/cluster.json", "{}");
    place.put("lib/rsadm/backups/one.db", "snapshot");
    place.mount("lib/rsadm/backups/nas");
    let output = place.wipe("finish");
    assert!(output.status.success(), "{}", said(&output));
    assert!(place.is_there("lib/rsadm/backups/one.db") && !place.is_there("lib/rsadm/before"));
    assert!(!place.is_there("lib/rsadm/cluster.json"));
}

#[test]
fn what_is_mounted_below_our_state_is_told_and_keeps_everything() {
    for mount in ["lib/rsadm/nas", "lib/rsadm/aside/nas", "lib/rsadm/backups-nas"] {
        let place = Place::new();
        place.put("lib/rsadm/before/paths", "/etc\n");
        place.mount(mount);
        place.mount("lib/rsadm/other");
        place.put(&format!("{mount}/theirs"), "snapshot");
        let output = place.wipe("finish");
        assert!(!output.status.success(), "{mount}");
        let state = place.path("lib/rsadm").display().to_string();
        let line = format!(
            "left on this host: {state}: mounted in it: {}, {state}/other\n",
            place.path(mount).display()
        );
        assert_eq!(said(&output), line);
        assert!(place.is_there(&format!("{mount}/theirs")), "{mount}");
        assert!(place.is_there("lib/rsadm/before"), "the notes are for the next reset, {mount}");
    }
}

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

/// Programs of a host with other container tools on it.
const OTHERS: &str = r#"
timeout() { shift; "$@"; }
nft() { :; }
systemctl() { :; }
ip6tables-save() { :; }
iptables-legacy-save() { :; }
ip6tables-legacy-save() { :; }
iptables-save() { printf '%s\n' '*nat' ':POSTROUTING ACCEPT [0:0]' ':CNI-theirs - [0:0]' ':DOCKER - [0:0]' COMMIT; }
ctr() {
  case "$*" in
    *'containers ls -q') echo theirs ;;
    *'sandboxes ls') printf '%s\n' 'SANDBOX ID' 'their-sandbox x' ;;
  esac
}
"#;

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

#[test]
fn what_a_link_leads_to_is_emptied_and_the_link_stays() {
    // Whether the link was there before, whether something is mounted there, and whether all of it goes.
    for (is_noted, is_mounted, goes) in [(true, false, true), (true, true, false), (false, false, false)] {
        let place = Place::new();
        let case = format!("noted {is_noted}, mounted {is_mounted}");
        place.put("data/etcd/theirs", "");
        fs::create_dir_all(place.path("lib")).unwrap();
        symlink(place.path("data/etcd"), place.path("lib/etcd")).unwrap();
        place.remember(OTHERS, "lib/etcd");
        if !is_noted {
            // As an older rsadm did.
            let link = place.path("lib/etcd").display().to_string();
            place.put("lib/rsadm/before/paths", &format!("{link}\n"));
        }
        place.put("data/etcd/member/snap/db", "data");
        if is_mounted {
            place.mount("data/etcd/member/disk");
        }
        let output = place.wipe(&format!(
            "clear_folder {0}/lib/etcd; printf '%s\\n' \"${{left[@]}}\"; finish",
            place.0.path().display()
        ));
        assert!(place.path("lib/etcd").is_symlink() && place.is_there("data/etcd/theirs"), "{case}");
        assert_eq!(place.is_there("data/etcd/member"), !goes, "{case}");
        let told = said(&output);
        assert_eq!(output.status.success(), goes, "{case}: {told}");
        assert_eq!(told.contains("lib/etcd: "), !goes, "{case}: {told}");
    }
}

#[test]
fn in_a_folder_that_was_there_what_came_goes() {
    let place = Place::new();
    place.put("lib/etcd/theirs", "");
    place.remember(OTHERS, "lib/etcd");
    place.put("lib/etcd/member/snap/db", "data");
    place.put("lib/kubelet/pods/a", "data");
    let root = place.0.path().display().to_string();
    let output =
        place.wipe(&format!("clear_folder {root}/lib/etcd; clear_folder {root}/lib/kubelet; finish"));
    assert!(output.status.success(), "{}", said(&output));
    assert!(place.is_there("lib/etcd/theirs") && !place.is_there("lib/etcd/member"));
    assert!(!place.is_there("lib/kubelet"));
}

#[test]
fn a_link_has_only_later_mounts_undone() {
    let place = Place::new();
    fs::create_dir_all(place.path("lib")).unwrap();
    place.mount("data/theirs");
    symlink(place.path("data"), place.path("lib/kubelet")).unwrap();
    place.remember(OTHERS, "lib/kubelet");
    place.mount("data/pods/a/volumes");
    let done = place.unmounted();
    assert!(done.contains("data/pods/a/volumes") && !done.contains("data/theirs"), "{done}");
}

#[test]
fn disks_from_before_stay_where_a_link_leads_to() {
    let place = Place::new();
    fs::create_dir_all(place.path("lib")).unwrap();
    // A name that find would take for a pattern.
    place.mount("data/their [1] disk");
    place.put("data/their [1] disk/old", "");
    symlink(place.path("data"), place.path("lib/kubelet")).unwrap();
    place.remember(OTHERS, "lib/kubelet");
    place.put("data/their [1] disk/new", "");
    place.put("data/pods/a/secret", "");
    place.wiped(&format!("clear_folder {}; finish", place.path("lib/kubelet").display()));
    assert!(!place.is_there("data/pods") && place.path("lib/kubelet").is_symlink());
    for name in ["old", "new"] {
        assert!(place.is_there(&format!("data/their [1] disk/{name}")), "{name}");
    }
}

#[test]
fn a_disk_from_before_in_a_folder_of_ours_stays_mounted_and_loses_what_came() {
    let place = Place::new();
    // What an earlier kubelet left mounted: others may write to it.
    let share = "lib/kubelet/pods/old/volumes/nas";
    for mount in ["lib/kubelet/pods", "lib/kubelet/my disk", share] {
        place.mount(mount);
        place.put(&format!("{mount}/theirs"), "");
    }
    place.remember(OTHERS, "lib/kubelet");
    for file in ["lib/kubelet/pods", "lib/kubelet/my disk", share] {
        place.put(&format!("{file}/new/secret"), "");
    }
    place.put("lib/kubelet/config.yaml", "");
    let noted = place.text("mountinfo");
    place.mount("lib/kubelet/pods/new/volumes/token");
    let token = place.path("lib/kubelet/pods/new/volumes/token").display().to_string();
    // Three times: one mount may lie on another.
    assert_eq!(place.unmounted(), format!("{token}\n").repeat(3));
    place.put("mountinfo", &noted);
    place.wiped(&format!("clear_folder {}; finish", place.path("lib/kubelet").display()));
    for (name, is_kept) in [
        ("lib/kubelet/config.yaml", false),
        ("lib/kubelet/pods/theirs", true),
        ("lib/kubelet/pods/new", false),
        ("lib/kubelet/my disk/theirs", true),
        ("lib/kubelet/my disk/new", false),
        ("lib/kubelet/pods/old/volumes/nas/theirs", true),
        ("lib/kubelet/pods/old/volumes/nas/new/secret", true),
    ] {
        assert_eq!(place.is_there(name), is_kept, "{name}");
    }
}

#[test]
fn the_notes_go_last() {
    let place = Place::new();
    place.put("lib/rsadm/before/paths", "/etc\n");
    place.put("lib/rsadm/installed/ctr", "");
    let rm = "#!/bin/sh\nfor f; do case $f in */installed) code=1 ;; *) /bin/rm -rf \"$f\" ;; esac; done\nexit ${code:-0}\n";
    place.program("rm", rm);
    let output = place.wipe(&format!("PATH={}:$PATH\nfinish", place.path("bin").display()));
    assert!(!output.status.success() && place.is_there("lib/rsadm/before/paths"), "{}", said(&output));
}

#[test]
fn no_route_outside_the_pod_subnet_goes() {
    let new = include_str!("../../../tests/manifests/single/network.sh");
    // What an older rsadm wrote: the number is BGP's.
    let old =
        "POD_SUBNET=10.244.0.0/16\nPROTOCOL=186\ndown() {\n    ip route flush proto \"$PROTOCOL\"\n}\ndown\n";
    // One that runs something that reads: not the rest of the script's own text.
    let reader =
        format!("down() {{ while read -r _; do ip route lost; done; }}\n\"$1\"\n{}", "#\n".repeat(1 << 13));
    let flushed = |words: &str| format!("-4 route flush root 10.244.0.0/16 {words}");
    let table = [
        (Some(new), vec![flushed("proto 173 metric 0"), flushed("proto 186 metric 0")]),
        (Some(old), vec![flushed("metric 0 proto 186")]),
        (Some(&*reader), vec![]),
        (None, vec![]),
    ];
    for (script, expected) in table {
        let place = Place::new();
        let (bin, done) = (place.path("bin").display().to_string(), place.path("done").display().to_string());
        for program in ["ip", "nft", "iptables"] {
            place.program(program, &format!("#!/bin/sh\necho \"$*\" >> {done}\n"));
        }
        if let Some(script) = script {
            place.put("rsadm/network.sh", script);
        }
        place.wiped(&format!("PATH={bin}:$PATH\nnetwork"));
        let done = place.text("done");
        let routes: Vec<&str> = done.lines().filter(|line| line.contains("route")).collect();
        assert_eq!(routes, expected, "{done}");
        assert!(done.contains("link delete cni0"), "{done}");
    }
}
