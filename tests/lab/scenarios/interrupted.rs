//! Runs that do not come to their end, and what must hold anyway: the next run goes on from what it finds, and ends where
//! an undisturbed one ends.

use std::{fs, process::Command, thread, time::Duration};

use crate::harness::{
    Check, Checks, Cluster, CommandLines, Fault, Footprint, Inventory, Lab, Outcome, Secrets, eventually, run,
};

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
const KILLS: u32 = 12;

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
    checks.must("rows 7 and 32: up, killed at twelve moments, ends as if nothing had been", || it.killed());
    checks.check("its members and nodes are those of one cluster", || it.is_whole());
    let killed = it.shape();
    checks.must("its key material is known", || it.secrets.add(it.lab, &NODES));
    checks.check("an authority that is lost is not made anew", || it.lost_authority());
    checks.must("reset leaves the hosts as they were", || {
        it.run("reset --yes")?.ok()?;
        bare.is_still(&Footprint::of_what_is_left(&lab, &NODES)?)
    });
    checks.check("a second Ctrl-C ends a run at once", || it.stopped_at_once());
    checks.check("a second operator is refused, and told who is at it", || it.two_operators());
    checks.check("Ctrl-C ends a run in order, and the next one goes on", || it.stopped_in_order());
    checks.check("an undisturbed run makes what the killed ones made", || {
        it.run("up -vv")?.ok()?;
        let (killed, undisturbed) = (killed?, it.shape()?);
        ensure!(killed == undisturbed, "killed:\n{killed}\nundisturbed:\n{undisturbed}");
        Ok(())
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

    /// Each run is given a little longer than the one before, so that every part of the way has its turn.
    fn killed(&mut self) -> Check {
        for n in 0..KILLS {
            let mut up = self.lab.start_rsadm_on("up -vv", &self.inventory)?;
            up.until_it_says("[connect]")?;
            thread::sleep(Duration::from_millis(u64::from(400 + 300 * n)));
            // It may have come to its end.
            let _ = up.signal("KILL");
            let outcome = up.end()?;
            ensure!(outcome.code == -1 || outcome.code == 0, "run {n} failed: {}", outcome.all());
            self.is_unlocked()?;
            self.said += &outcome.all();
            let last =
                outcome.stderr.lines().rfind(|line| line.starts_with('[')).unwrap_or_default().to_owned();
            println!("    killed after: {last}");
        }
        self.run("up -vv")?.ok()?;
        self.run("plan")?.ok()?;
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
        eventually(|| cluster.are_ready(&NODES))?;
        ensure!(cluster.members("m1")?.len() == 1, "members: {:?}", cluster.members("m1")?);
        cluster.pods_become_ready("kube-system")
    }

    /// Which files there are, of what type, mode and owner, for comparison with another run's.
    fn shape(&self) -> Result<String, Fault> {
        let list = "find /etc /usr/local /opt /var/lib/rsadm /var/lib/kubelet/config.yaml /var/lib/etcd -xdev \
            -not -path '/var/lib/etcd/member/*' -printf '%p %y %m %U:%G\\n' | sort";
        NODES.iter().map(|host| Ok(format!("{host}\n{}\n", self.lab.on(host, list)?.ok()?.stdout))).collect()
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

    fn two_operators(&mut self) -> Check {
        let mut first = self.lab.start_rsadm_on("up", &self.inventory)?;
        first.until_it_says("[binaries]")?;
        let second = self.lab.rsadm_on("up", &self.inventory);
        first.signal("INT")?;
        let first = first.end()?;
        self.said += &first.all();
        let second = second?.exits(5)?;
        second.says("is locked by another run")?;
        second.says("rsadm up ")?;
        second.says("(pid ")
    }

    fn stopped_in_order(&mut self) -> Check {
        let mut up = self.lab.start_rsadm_on("up", &self.inventory)?;
        up.until_it_says("[connect]")?;
        thread::sleep(Duration::from_secs(2));
        up.signal("INT")?;
        let stopped = up.end()?.exits(130)?;
        stopped.says("stopped as asked")?;
        stopped.says("not begun")?;
        Ok(())
    }

    /// While hosts wait for a download that does not come: the first is for finishing that.
    fn stopped_at_once(&mut self) -> Check {
        let stopped = self.with_faults(&format!("{KUBELET} stall\n"), |it| {
            let mut up = it.lab.start_rsadm_on("up", &it.inventory)?;
            up.until_it_says("[connect]")?;
            eventually(|| it.lab.on("w1", "pgrep -f 'curl .*amd64/kubelet$'")?.ok())?;
            up.signal("INT")?;
            up.until_it_says("is being finished, nothing new is started")?;
            up.signal("INT")?;
            up.end()
        })?;
        for host in NODES {
            self.lab.on(host, "pkill -x curl; true")?.ok()?;
        }
        self.is_unlocked()?;
        self.said += &stopped.all();
        let stopped = stopped.exits(130)?;
        stopped.says("steps that were under way on hosts may be half done")?;
        stopped.says_nothing_of("not begun")
    }

    fn no_secret_shows(&mut self, command_lines: &str) -> Check {
        self.secrets.add(self.lab, &NODES)?;
        self.secrets.are_not_in("command lines", command_lines)?;
        self.secrets.are_not_in("what rsadm says", &self.said)?;
        NODES.iter().try_for_each(|host| self.secrets.are_not_shown_on(self.lab, host))
    }
}
