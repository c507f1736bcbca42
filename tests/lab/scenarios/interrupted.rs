//! Runs that do not come to their end, and what must hold anyway: the next run goes on from what it finds, and ends where
//! an undisturbed one ends.

use std::{env, fs, process::Command};

use time::{OffsetDateTime, PrimitiveDateTime, macros::format_description};

use crate::harness::{
    Check, Checks, Cluster, CommandLines, Fault, Footprint, Inventory, Lab, Outcome, Running, Secrets,
    eventually, run,
};

use super::steady;

const NODES: [&str; 2] = ["m1", "w1"];

/// A program that every host fetches, by its path on the mirror.
const KUBELET: &str = "/dl.k8s.io/release/v1.37.2/bin/linux/amd64/kubelet";

/// w1 no longer hears m1 at that port.
const CLOSED: &str = "nft -f - <<'RULES'
table inet closed {
    chain in { type filter hook input priority 0; ip saddr 10.77.0.11 tcp dport 10250 drop; }
}
RULES";

/// How often a first run is killed.
const KILLS: usize = 12;

/// How a host shows that it is through with a step, in the order of the plan. More than there are kills: a host still does
/// what has reached it.
const STEPS: [(&str, &str); 29] = [
    ("w1", "[ -e /var/lib/rsadm/before ]"),
    ("m1", "[ -e /usr/local/bin/containerd ]"),
    ("w1", "[ -e /usr/local/bin/kubelet ]"),
    ("m1", "[ -e /opt/cni/bin/bridge ]"),
    ("m1", "[ -e /usr/local/bin/kubectl ]"),
    ("w1", "[ -e /etc/containerd/config.toml ]"),
    ("m1", "[ -S /run/containerd/containerd.sock ]"),
    ("w1", "[ -S /run/containerd/containerd.sock ]"),
    ("m1", "[ -e /etc/cni/net.d/10-rsadm.conflist ]"),
    ("m1", "systemctl is-active rsadm-network"),
    ("w1", "systemctl is-active rsadm-network"),
    ("m1", "[ -e /etc/kubernetes/pki/etcd/ca.key ]"),
    ("m1", "[ -e /etc/kubernetes/pki/apiserver.crt ]"),
    ("m1", "[ -e /etc/kubernetes/kubelet.conf ]"),
    ("w1", "[ -e /etc/kubernetes/kubelet.conf ]"),
    ("m1", "ctr -n k8s.io images ls -q | grep -q /pause:"),
    ("w1", "ctr -n k8s.io images ls -q | grep -q /kube-proxy:"),
    ("m1", "[ -e /etc/kubernetes/manifests/etcd.yaml ]"),
    ("m1", "systemctl is-active kubelet"),
    ("m1", "pidof etcd"),
    ("m1", "[ -e /etc/kubernetes/manifests/kube-apiserver.yaml ]"),
    ("m1", "pidof kube-apiserver"),
    ("w1", "[ -e /var/lib/kubelet/config.yaml ]"),
    ("w1", "systemctl is-active kubelet"),
    ("m1", "kubectl --kubeconfig /etc/kubernetes/admin.conf get -n kube-system configmap kubeadm-config"),
    ("m1", "kubectl --kubeconfig /etc/kubernetes/admin.conf get -n kube-system daemonset kube-proxy"),
    ("m1", "kubectl --kubeconfig /etc/kubernetes/admin.conf get node w1"),
    ("w1", "pidof kube-proxy"),
    ("m1", "kubectl --kubeconfig /etc/kubernetes/admin.conf get -n kube-system deployment coredns"),
];

/// A plugin, a driver and a file that somebody put on the hosts.
const FOREIGN: &str = "mkdir -p /opt/cni/bin /usr/libexec/kubernetes/kubelet-plugins/volume/exec/acme~disk /etc/cni/net.d
    echo plugin > /opt/cni/bin/acme; echo driver > /usr/libexec/kubernetes/kubelet-plugins/volume/exec/acme~disk/disk
    ln -s /opt/cni/bin/acme /etc/cni/net.d/acme";

struct Interrupted<'a> {
    lab: &'a Lab,
    inventory: Inventory,
    /// All that rsadm said, for the search for key material.
    said: String,
    secrets: Secrets,
}

#[test]
fn interrupted() {
    let lab = Lab::up("interrupted", &NODES).unwrap();
    let mut checks = Checks::new("interrupted");
    let inventory = Inventory::load("inventories/lab.yaml").with_hosts(&NODES);
    let mut it = Interrupted { lab: &lab, inventory, said: String::new(), secrets: Secrets::default() };
    // What others have in folders that rsadm uses as well is still there after a reset.
    for node in NODES {
        lab.on(node, FOREIGN).and_then(Outcome::ok).unwrap();
    }
    let bare = Footprint::of_what_is_left(&lab, &NODES).unwrap();
    let command_lines = CommandLines::watch();
    checks.check("a port that is closed between two hosts is named with both", || it.closed_port());
    checks.check("row 23: a corrupt download is refused on the host and named", || it.corrupt_download());
    checks.check("row 23: so is one that is cut", || it.cut_download());
    checks.check("row 24: a program for another kind of processor is refused before it is in place", || {
        it.other_processor()
    });
    checks.check("row 24: so is one of another version", || it.other_version());
    checks.must("row 7: up, killed at twelve moments, ends as if nothing had been", || it.killed());
    checks.check("its members and nodes are those of one cluster", || it.is_whole());
    let killed = Footprint::of_what_was_made(&lab, &NODES);
    checks.must("its key material is known", || it.secrets.add(it.lab, &NODES));
    checks.check("an authority that is lost is not made anew", || it.lost_authority());
    checks.must("reset leaves the hosts as they were", || {
        it.run("reset --yes")?.ok()?;
        bare.is_still(&Footprint::of_what_is_left(&lab, &NODES)?)
    });
    checks.check(
        "rows 11 and 12: a second operator is refused, told who is at it, and changes nothing; a second Ctrl-C ends a run at once",
        || it.stopped_at_once(),
    );
    checks.check("Ctrl-C ends a run in order, and the next one goes on", || it.stopped_in_order());
    checks.check(
        "row 12: a run that was stopped for longer than its locks live goes on over no other's",
        || it.stopped_for_long(),
    );
    checks.check("an undisturbed run makes what the killed ones made", || {
        let up = lab.rsadm_with(("RSADM_LOG", "trace"), "up -vv", &it.inventory)?;
        it.said += &up.all();
        up.ok()?.says("rsadm::host: batch")?;
        killed?.is_still(&Footprint::of_what_was_made(&lab, &NODES)?)
    });
    let seen = command_lines.end();
    checks.check("no key material is in command lines, logs, messages or files for everyone", || {
        it.no_secret_shows(&seen?)
    });
    checks.finish();
}

impl Interrupted<'_> {
    fn run(&mut self, command: &str) -> Result<Outcome, Fault> {
        let outcome = self.lab.rsadm_on(command, &self.inventory)?;
        self.said += &outcome.all();
        Ok(outcome)
    }

    fn closed_port(&mut self) -> Check {
        self.lab.on("w1", CLOSED)?.ok()?;
        let preflight = self.run("preflight");
        self.lab.on("w1", "nft delete table inet closed")?.ok()?;
        let preflight = preflight?.exits(5)?;
        preflight.says("preflight found 1 fault")?;
        preflight.says("w1: its port 10250 (kubelet) cannot be reached from m1: no answer")
    }

    fn corrupt_download(&mut self) -> Check {
        self.refused_from(&format!("{KUBELET} corrupt\n"), "checksum")
    }

    /// The connection ends half-way, at each try.
    fn cut_download(&mut self) -> Check {
        self.refused_from(
            &format!("{KUBELET} cut\n"),
            &format!("could not fetch http://10.77.0.1:8080{KUBELET}"),
        )
    }

    /// With a checksum that holds: somebody filled a mirror with the wrong folder.
    fn other_processor(&mut self) -> Check {
        let mut program = fs::read(env!("CARGO_BIN_EXE_rsadm"))?;
        program.truncate(1 << 20);
        // The field that names the processor: that of arm64 where this is none, and else that of amd64.
        program[18] = if program[18] == 183 { 62 } else { 183 };
        self.refused_kubelet(&program, "is for another kind of processor than this host's")
    }

    /// The same with a folder of another version.
    fn other_version(&mut self) -> Check {
        let program = "#!/bin/sh\necho Kubernetes v1.30.0\n";
        self.refused_kubelet(program.as_bytes(), "is not v1.37.2; it says: Kubernetes v1.30.0")
    }

    /// Such a kubelet, with its own checksum, is refused in these words.
    fn refused_kubelet(&mut self, program: &[u8], words: &str) -> Check {
        let file = self.lab.path("kubelet");
        fs::write(&file, program)?;
        let sums = self.lab.path("kubelet.sha256");
        let sum = run(Command::new("sha256sum").arg(&file), "sha256sum")?.ok()?.stdout;
        fs::write(&sums, sum.split(' ').next().unwrap_or_default())?;
        let faults = format!("{KUBELET} file:{}\n{KUBELET}.sha256 file:{}\n", file.display(), sums.display());
        self.refused_from(&faults, words)
    }

    /// From a mirror with these faults no kubelet gets into place, and each host says why.
    fn refused_from(&mut self, faults: &str, words: &str) -> Check {
        let up = self.with_faults(faults, |it| it.run("up"))?.exits(6)?;
        for host in NODES {
            let found = self.lab.on(host, "ls /usr/local/bin/kubelet*")?;
            ensure!(found.code != 0, "in place on {host}: {}", found.stdout);
            up.says(&format!("{host}: "))?;
        }
        up.says(words)
    }

    /// Has the mirror do this to downloads meanwhile.
    fn with_faults<T>(
        &mut self,
        faults: &str,
        work: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let file = self.lab.path("mirror-faults");
        fs::write(&file, faults)?;
        let done = work(self);
        fs::remove_file(file)?;
        done
    }

    /// Each run is killed as soon as a host has done the next step of [`STEPS`] that none has done before. Every other run is
    /// followed at once by the next, which a dead holder of the locks must not stop.
    fn killed(&mut self) -> Check {
        let mut steps = STEPS.iter();
        for n in 0..KILLS {
            let not_done =
                |(host, step): &&(&str, &str)| self.lab.on(host, step).is_ok_and(|done| done.code != 0);
            let (host, step) = steps.find(not_done).ok_or("too few steps for so many kills")?;
            let mut up = self.lab.start_rsadm_on("up -vv", &self.inventory)?;
            up.until_it_says("[connect]")?;
            let done = self.lab.on(host, &format!("timeout 300 bash -c 'until {step}; do sleep 0.01; done'"));
            up.signal("KILL")?;
            let outcome = up.end()?;
            self.said += &outcome.all();
            done?.ok().map_err(|fault| format!("{fault}{}", outcome.all()))?;
            ensure!(outcome.code == -1, "run {n} was at its end: {}", outcome.all());
            println!("    killed after {host} had: {step}");
            if n % 2 == 0 {
                self.is_unlocked()?;
            }
        }
        self.run("up -vv")?.ok()?;
        steady::settles_by(|| self.run("plan"))?;
        for host in NODES {
            let litter = self.lab.on(host, "find / -xdev -name '.rsadm*' -not -path '/proc/*'")?.text()?;
            ensure!(litter.is_empty(), "left on {host}: {litter}");
        }
        Ok(())
    }

    /// What hosts were at when their run was killed they do to its end, and are locked until then.
    fn is_unlocked(&self) -> Check {
        for host in NODES {
            eventually(|| self.lab.on(host, "[ ! -e /run/rsadm-lock ]")?.ok())?;
        }
        Ok(())
    }

    fn is_whole(&self) -> Check {
        let cluster = Cluster::new(self.lab, "m1");
        cluster.are_ready(&NODES)?;
        ensure!(cluster.members("m1")?.len() == 1, "members: {:?}", cluster.members("m1")?);
        cluster.pods_become_ready("kube-system")
    }

    fn lost_authority(&mut self) -> Check {
        self.lab.on("m1", "mkdir /root/kept; mv /etc/kubernetes/pki/etcd/ca.* /root/kept/")?.ok()?;
        let up = self.run("up");
        let made = self.lab.on("m1", "ls /etc/kubernetes/pki/etcd/ca.key")?;
        self.lab.on("m1", "mv /root/kept/ca.* /etc/kubernetes/pki/etcd/; rmdir /root/kept")?.ok()?;
        ensure!(made.code != 0, "a new authority was made: {}", up?.all());
        up?.exits(5)?.says("etcd CA")?;
        self.run("plan")?.ok()?;
        Ok(())
    }

    /// While nothing moves on the hosts, since the first run waits for a download there.
    fn second_is_refused(&mut self, first: &Running) -> Check {
        let before = Footprint::of_ours(self.lab, &NODES)?;
        let second = self.run("up")?.exits(5)?;
        let mut changed = before.differences(&Footprint::of_ours(self.lab, &NODES)?);
        // The first run's download, which may be tried again meanwhile.
        changed.retain(|line| !line.contains("/var/lib/rsadm/fetch."));
        ensure!(changed.is_empty(), "changed: {changed:#?}");
        second.says("is locked by another run")?;
        let user = env::var("USER").or_else(|_| env::var("LOGNAME")).unwrap_or_else(|_| "somebody".into());
        let computer = fs::read_to_string("/proc/sys/kernel/hostname")?;
        let file = self.inventory.save(&self.lab.path(""))?;
        let holder = format!("rsadm up {file} by {user}@{} (pid {}) since ", computer.trim(), first.pid());
        let (_, since) =
            second.stderr.split_once(&holder).ok_or_else(|| format!("{holder}? {}", second.all()))?;
        let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
        let since = PrimitiveDateTime::parse(since.lines().next().unwrap_or_default(), format)?.assume_utc();
        ensure!(since <= OffsetDateTime::now_utc(), "since {since}");
        Ok(())
    }

    fn stopped_in_order(&mut self) -> Check {
        let mut up = self.lab.start_rsadm_on("up -vv", &self.inventory)?;
        up.until_it_says("[binaries]")?;
        up.signal("INT")?;
        let stopped = up.end()?;
        self.said += &stopped.all();
        let stopped = stopped.exits(130)?;
        stopped.says("stopped as asked")?;
        stopped.says("not begun")?;
        Ok(())
    }

    /// As by Ctrl-Z, or where a laptop sleeps. Its plan is of bare hosts, with authorities that it would make.
    fn stopped_for_long(&mut self) -> Check {
        let mut first = self.lab.start_rsadm_on("up -vv", &self.inventory)?;
        // Before that it would only have lost its connections, with nothing begun.
        first.until_it_says("[preflight]")?;
        for host in NODES {
            eventually(|| self.lab.on(host, "[ -e /run/rsadm-lock ]")?.ok())?;
        }
        first.signal("STOP")?;
        let second = self.is_unlocked().and_then(|()| self.run("up -vv"));
        first.signal("CONT")?;
        let first = first.end()?;
        self.said += &first.all();
        second?.ok()?;
        ensure!(first.code != 0, "it went on: {}", first.all());
        first.says("another one came to it meanwhile")?;
        steady::settles_by(|| self.run("plan"))
    }

    /// While hosts wait for a download that does not come: the first is for finishing that.
    fn stopped_at_once(&mut self) -> Check {
        let (second, stopped) = self.with_faults(&format!("{KUBELET} stall\n"), |it| {
            let mut up = it.lab.start_rsadm_on("up", &it.inventory)?;
            up.until_it_says("[connect]")?;
            for host in NODES {
                eventually(|| it.lab.on(host, "pgrep -f 'curl .*amd64/kubelet$'")?.ok())?;
            }
            let second = it.second_is_refused(&up);
            up.signal("INT")?;
            up.until_it_says("is being finished, nothing new is started")?;
            up.signal("INT")?;
            Ok((second, up.end()?))
        })?;
        for host in NODES {
            self.lab.on(host, "pkill -x curl; true")?.ok()?;
        }
        self.is_unlocked()?;
        self.said += &stopped.all();
        second?;
        let stopped = stopped.exits(130)?;
        stopped.says("steps that were under way on hosts may be half done")?;
        stopped.says_nothing_of("not begun")
    }

    fn no_secret_shows(&mut self, command_lines: &str) -> Check {
        self.secrets.add(self.lab, &NODES)?;
        let observed = self.lab.path("home/observed.yaml");
        self.run(&format!("plan --observed {}", observed.display()))?.ok()?;
        let kept = self.lab.evidence()?;
        ensure!(kept.contains("== "), "nothing is kept of the runs that failed: {kept}");
        self.secrets.are_not_in("what plan --observed writes", &fs::read_to_string(observed)?)?;
        self.secrets.show_nowhere(self.lab, &NODES, &self.said, command_lines)
    }
}
