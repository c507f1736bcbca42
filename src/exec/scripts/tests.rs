//! The scripts that note what a host has and that empty it, in bash: the latter a function at a time, on folders of its own.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use super::{REMEMBER, WIPE};

mod apply;
mod containers;
mod etcd_image;
mod etcd_servers;
mod images;
mod leader;
mod links;
mod lock;
mod lost_data;
mod manifest_aside;
mod nodes;
mod probe;
mod processes;
mod stumbled;
mod tools;

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
        let (functions, _) = WIPE.text.rsplit_once("\nmain \"$@\"\n").unwrap();
        self.run(&format!("{functions}\n{commands}\n"), &["wipe", "test"])
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
        let output = self.try_to_remember(host, folder);
        assert!(output.status.success(), "{}", said(&output));
    }

    fn try_to_remember(&self, host: &str, folder: &str) -> Output {
        let folder = self.path(folder).display().to_string();
        self.run(&format!("{host}\n{}", REMEMBER.text), &["remember", "test", &folder, "--", "--"])
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

#[test]
fn pods_ends_go_with_the_bridge_of_whatever_plugin_and_stay_with_one_from_before() {
    for (links, is_ours) in [("eth0\n", true), ("eth0\ncni0\n", false)] {
        let place = Place::new();
        place.put("lib/rsadm/before/links", links);
        let ip = "ip() { case $* in *'master cni0'*) echo '7: veth1@if2: <UP>' ;; *'link delete'*) echo \"$*\" >&3 ;; esac; }";
        let said = place.wiped(&format!("{ip}\nnetwork 3>&1"));
        assert_eq!(
            said.contains("link delete veth1\nlink delete rsadm0\nlink delete cni0\n"),
            is_ours,
            "{said}"
        );
        assert_eq!(said.contains("veth1") || said.contains("cni0"), is_ours, "{said}");
    }
}
