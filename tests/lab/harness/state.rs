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
            let listed = lab.on(host, "ps -eo pid=,ppid=,comm=")?.ok()?.stdout;
            found.extend(programs(&listed).into_iter().map(|(name, pid)| ((*host).to_owned(), name, pid)));
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

/// Those that are ours, of lines with a process's number, its parent's and its name. None of them starts one of its own name: a
/// child that has it has only just been made, and becomes another program once it has a processor.
fn programs(listed: &str) -> Vec<(String, u32)> {
    let all: BTreeMap<u32, (u32, &str)> = listed
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, (words.next()?.parse().ok()?, words.next()?)))
        })
        .collect();
    let is_child = |parent: &u32, name: &str| all.get(parent).is_some_and(|(_, other)| *other == name);
    let ours = all.iter().filter(|(_, (parent, name))| PROGRAMS.contains(name) && !is_child(parent, name));
    ours.map(|(pid, (_, name))| ((*name).to_owned(), *pid)).collect()
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

#[test]
fn a_child_that_is_not_yet_another_program_is_none_of_ours() {
    let listed = "      1       0 systemd\n    123       1 containerd\n    124     123 containerd\n    \
        125     123 containerd-shim\n    126     125 kube-proxy\n    127     126 kube-proxy\n";
    assert_eq!(programs(listed), [("containerd".to_owned(), 123), ("kube-proxy".to_owned(), 126)]);
}
