//! What hosts are at a moment, to be compared with another moment.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Fault, Lab};

/// A host that one can log in to may still boot; this waits for the end of that, whatever came of it.
const BOOTED: &str = "timeout 300 systemctl is-system-running --wait > /dev/null";

/// The whole of a host but for what moves by itself: logs, timers' stamps, /run.
const EVERYTHING: &str = "find / /var/lib/containerd /var/lib/kubelet /var/lib/etcd -xdev \\( -path /var/log \
    -o -path /var/lib/systemd -o -path /run -o -path '/tmp/systemd-private-*' -o -path '/var/tmp/systemd-private-*' \\) -prune -o";

/// Where only rsadm writes while a cluster runs; kubelet renews its own certificates.
const OURS: &str =
    "find /etc /usr/local /opt /var/lib/rsadm /var/lib/kubelet/config.yaml /var/lib/kubelet/pki";

/// Where rsadm writes: every file's type, mode, owner and content but for what is made anew by chance, which are keys,
/// certificates (also in kubeconfigs), revisions that are hashes over those, the cluster's ID, and when programs were placed.
const MADE: &str = r#"export LC_ALL=C
    list() { find /etc /usr/local /opt /var/lib/rsadm /var/lib/kubelet/config.yaml /var/lib/etcd -xdev -not -path '/var/lib/etcd/member/*' "$@"; }
    settled() { sed -E 's/(-data|secret): .*/\1:/; s/[\x27"]?\b[0-9a-f]{12,16}\b[\x27"]?/REVISION/g; s/^([0-9]+) [0-9]{10} (\/)/\1 TIME \2/' "$1"; }
    list -printf '%p %y %m %U:%G %l\n'
    list -type f -not -name '*.crt' -not -name '*.key' -not -name '*.pub' | while read -r file; do
        echo "$file $(settled "$file" | sha256sum)"
    done"#;

/// Files with the time of their last change of any kind and, where asked for, all else that a host is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Footprint(BTreeMap<String, BTreeSet<String>>);

impl Footprint {
    /// Everything on these hosts.
    pub fn of(lab: &Lab, hosts: &[&str]) -> Result<Self, Fault> {
        let all = format!("{BOOTED}\n{EVERYTHING} -printf '%p %C@\n'\n{}", include_str!("../footprint"));
        Self::take(lab, hosts, &all)
    }

    /// The same without times: what is there, whenever it was made.
    pub fn of_what_is_left(lab: &Lab, hosts: &[&str]) -> Result<Self, Fault> {
        Self::take(lab, hosts, &format!("{BOOTED}\n{}", include_str!("../footprint")))
    }

    /// What rsadm alone writes on running hosts.
    pub fn of_ours(lab: &Lab, hosts: &[&str]) -> Result<Self, Fault> {
        Self::take(lab, hosts, &format!("{OURS} -printf '%p %C@\n'"))
    }

    /// What rsadm makes of hosts, for comparison with what another run makes.
    pub fn of_what_was_made(lab: &Lab, hosts: &[&str]) -> Result<Self, Fault> {
        Self::take(lab, hosts, MADE)
    }

    fn take(lab: &Lab, hosts: &[&str], script: &str) -> Result<Self, Fault> {
        let one = |host: &&str| -> Result<_, Fault> {
            let outcome = lab.on(host, script)?;
            ensure!(outcome.stdout.len() > 1000, "no footprint of {host}: {}", outcome.stderr);
            // Debian's sudo notes in a user's home that it worked, and each login writes its greeting anew.
            let passing = |line: &&str| line.contains("/home/sec") || line.ends_with("/run/motd.dynamic.new");
            let lines = outcome.stdout.lines().filter(|line| !passing(line));
            Ok(((*host).to_owned(), lines.map(str::to_owned).collect()))
        };
        Ok(Self(hosts.iter().map(one).collect::<Result<_, _>>()?))
    }

    /// Passes where nothing differs, and tells what does.
    pub fn is_still(&self, now: &Self) -> Check {
        let differences = self.differences(now);
        ensure!(differences.is_empty(), "changed:\n{}", differences.join("\n"));
        Ok(())
    }

    /// Lines that only one of the two has.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let none = BTreeSet::new();
        let mut lines = Vec::new();
        for (host, before) in &self.0 {
            let after = now.0.get(host).unwrap_or(&none);
            lines.extend(before.difference(after).map(|line| format!("{host} - {line}")));
            lines.extend(after.difference(before).map(|line| format!("{host} + {line}")));
        }
        lines
    }
}

/// The processes of a cluster's programs on hosts: `(host, program, pid)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processes(BTreeSet<(String, String, u32)>);

impl Processes {
    /// On these hosts.
    pub fn of(lab: &Lab, hosts: &[&str]) -> Result<Self, Fault> {
        let mut found = BTreeSet::new();
        for host in hosts {
            for line in lab.on(host, "ps -eo pid=,comm=")?.ok()?.stdout.lines() {
                let (pid, program) = line.trim().split_once(' ').unwrap_or_default();
                if PROGRAMS.contains(&program) {
                    found.insert(((*host).to_owned(), program.to_owned(), pid.parse()?));
                }
            }
        }
        Ok(Self(found))
    }

    /// `host/program` of those that are not in `before`, sorted; without controller managers and schedulers.
    /// One that led, and whose API server restarts or is slow, loses its lease, ends, and is started anew by
    /// its kubelet when that has waited long enough: this tells nothing of what rsadm did.
    pub fn new_since(&self, before: &Self) -> Vec<String> {
        let of_others = |program: &str| !matches!(program, "kube-controller" | "kube-scheduler");
        let new = self.0.difference(&before.0).filter(|(_, program, _)| of_others(program));
        new.map(|(host, program, _)| format!("{host}/{program}")).collect()
    }
}

/// Names as the kernel keeps them, at most 15 characters.
const PROGRAMS: [&str; 9] = [
    "containerd",
    "kubelet",
    "etcd",
    "kube-apiserver",
    "kube-controller",
    "kube-scheduler",
    "kube-proxy",
    "haproxy",
    "coredns",
];
