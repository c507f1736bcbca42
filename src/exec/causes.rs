//! From what a host said to what is likely wrong and what to do about it: a table, read from top to bottom.
//!
//! A step's own words are looked through first. In what was collected beside them much fails for a moment and heals, such
//! as connections, so there only words count that have one meaning wherever they stand.

/// What is likely wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Cause {
    /// In words.
    pub why: &'static str,
    /// What to do next; `HOST` stands for the host's name.
    pub next: &'static str,
    /// All of one of these, in lower case, is what tells it.
    signs: &'static [&'static [&'static str]],
    /// True where the signs have one meaning wherever they stand.
    sure: bool,
}

const fn sure(signs: &'static [&'static [&'static str]], why: &'static str, next: &'static str) -> Cause {
    Cause { why, next, signs, sure: true }
}

const fn said(signs: &'static [&'static [&'static str]], why: &'static str, next: &'static str) -> Cause {
    Cause { why, next, signs, sure: false }
}

const CAUSES: &[Cause] = &[
    sure(
        &[
            &["unknown flag"],
            &["unknown shorthand flag"],
            &["flag provided but not defined"],
            &["unrecognized feature gate"],
            &["invalid argument \"", " for \"--"],
            &["invalid value \"", " for flag -"],
        ],
        "an argument that this version does not know: it is in an extra_args of the inventory, or in a manifest of kubeadm's",
        "correct it there, then run the same command again",
    ),
    sure(
        &[&["failed to load kubelet config file"], &["failed to validate kubelet configuration"]],
        "the kubelet cannot use its configuration: it comes from kubelet.config of the inventory",
        "correct kubelet.config in the inventory, then run the same command again",
    ),
    sure(
        &[&["another one came to it meanwhile"]],
        "this run was away, its computer asleep or itself stopped, and what it had planned is of before",
        "run the same command again once the other is over: it looks at the hosts anew",
    ),
    sure(
        &[&["permanently removed"]],
        "the member was removed from the cluster, and its data directory is of no use any more",
        "rsadm etcd replace HOST makes it a member again, or take its role etcd out of the inventory",
    ),
    sure(
        &[&["no space left on device"], &[" 100% /"], &["disk quota exceeded"]],
        "a disk is full",
        "on HOST: df -h /etc /var/lib /var/lib/etcd /usr, and df -i of the same; make room, then run the same command again",
    ),
    sure(
        &[&["cannot access socket", "containerd.sock"]],
        "containerd runs and its socket is gone",
        "on HOST: systemctl restart containerd; then run the same command again",
    ),
    said(
        &[&["received fatal alert: internalerror"]],
        "a member cannot read its certificates: their folder was deleted and made anew, and its container still has the old one",
        "on its host: pkill -x etcd; the kubelet starts it again with the new folder. Then run the same command again",
    ),
    sure(
        &[&["database space exceeded"], &["alarm:nospace"]],
        "etcd's database has reached its quota",
        "rsadm etcd status",
    ),
    // Containers and kubelets meet it where nothing is wrong.
    said(
        &[&["read-only file system"]],
        "the disk was mounted read-only, as Linux does after an error of the disk",
        "on HOST: dmesg | tail -n 30",
    ),
    sure(
        &[&["exec format error"], &["is for another kind of processor"]],
        "a program for another kind of processor",
        "on HOST: uname -m; see whether artifacts.base_url has programs for it",
    ),
    said(
        &[&[" is not v", "; it says: "], &["cannot run on this host"]],
        "the place that programs come from has something else under that name",
        "see what artifacts.base_url has at that URL, then run the same command again",
    ),
    sure(
        &[&["address already in use"]],
        "another program listens on that port",
        "on HOST: ss -ltnp; end that program, then run the same command again",
    ),
    // A client that was forgotten fills the log of an API server that is well.
    said(
        &[
            &["certificate has expired or is not yet valid"],
            &["certificate is not yet valid"],
            &["certificate has expired"],
        ],
        "the clocks of two hosts differ, or a certificate is past its end",
        "rsadm preflight compares the clocks, this computer's too; rsadm certs status tells which has ended or not begun, and \
         rsadm certs renew replaces it",
    ),
    said(
        &[&["signed by unknown authority"]],
        "certificates of two clusters have been mixed up",
        "rsadm plan tells which files differ from this cluster's",
    ),
    // It has what the others lost.
    sure(
        &[&["conflict with committed entry"]],
        "etcd's data on this host is ahead of that of the others, which have lost what a quorum had agreed on",
        "rsadm etcd status tells more; do not replace HOST before a copy of /var/lib/etcd there is kept",
    ),
    // Its check does not tell whose is wrong.
    sure(
        &[&["found data inconsistency with peers"]],
        "etcd's data on this host is not that of another member, and one of the two is wrong",
        "rsadm etcd status tells what the members that run hold, and whom to replace; this one only where they hold the same",
    ),
    sure(
        &[
            &["out of range [lastindex("],
            &["panic: freepages"],
            &["walpb: crc mismatch"],
            &["wal: crc mismatch"],
            &["checksum error"],
            &["has already been bootstrapped"],
            &["database snapshot file"],
            &["database file (", "of the backend is missing"],
            &["database file (", "does not match with snapshot"],
        ],
        "etcd's data on this host is lost, damaged, or another cluster's; if a disk is only not mounted, mount it",
        "rsadm etcd replace HOST, which sets what is there aside and gives it the data of the others",
    ),
    sure(
        &[
            &["failed to pull image"],
            &["errimagepull"],
            &["imagepullbackoff"],
            &["failed to resolve reference"],
        ],
        "the registry cannot be reached from this host, or does not have that image",
        "on HOST: ctr -n k8s.io images pull --hosts-dir /etc/containerd/certs.d IMAGE; see artifacts.registry_mirrors",
    ),
    sure(
        &[&["cannot allocate memory"], &["out of memory"], &["oom-kill"]],
        "the host has too little memory",
        "on HOST: free -m; dmesg | grep -i oom",
    ),
    sure(
        &[&["too many open files"], &["inotify_init", "failed"]],
        "a limit of the kernel is reached",
        "on HOST: sysctl fs.file-nr fs.inotify",
    ),
    sure(
        &[&["running with swap on is not supported"]],
        "swap is on",
        "on HOST: swapoff -a, and take it out of /etc/fstab",
    ),
    sure(
        &[&["\"command failed\" err="]],
        "the component refuses its arguments or its files: an extra_args of the inventory, if that was changed",
        "correct the inventory, then run the same command again",
    ),
    said(
        &[&["could not resolve host"], &["name resolution"], &["no such host"]],
        "the host cannot resolve that name",
        "on HOST: cat /etc/resolv.conf; or set artifacts.base_url to a mirror by its address",
    ),
    // A member that is well says it too, of one that dials it.
    said(
        &[&["cluster id mismatch"]],
        "etcd's data on this host is another cluster's",
        "rsadm etcd status, which tells whose member has to be replaced",
    ),
    said(
        &[&["no api server is ready at"], &["the api server at", " is not ready"]],
        "the API server, or the load balancer before it, does not serve",
        "rsadm status",
    ),
    said(
        &[&["checksum"], &["sha-256"]],
        "what was downloaded is not what was published: a proxy or a mirror has changed it, or it was cut",
        "look at the file at that URL, then run the same command again",
    ),
    said(
        &[&["could not fetch"]],
        "the host cannot reach the place that programs come from",
        "on HOST: curl -I that URL; see artifacts.base_url",
    ),
    said(
        &[&[":2379", "connection refused"], &["etcdserver: request timed out"], &["etcdserver: no leader"]],
        "etcd does not serve",
        "rsadm etcd status",
    ),
    said(
        &[&[":6443", "connection refused"], &["connection to the server", "was refused"]],
        "the API server does not serve",
        "rsadm status",
    ),
    said(
        &[&["permission denied"], &["operation not permitted"]],
        "a policy of the host forbids it: SELinux, AppArmor, a noexec mount",
        "on HOST: journalctl -k | grep -iE 'denied|avc' | tail",
    ),
    // After all that modprobe itself may say of it.
    said(
        &[&["could not load br_netfilter"]],
        "something of the host keeps that module of the kernel from being loaded, as hardening does",
        "on HOST: modprobe -c | grep br_netfilter; take the install or blacklist line away, then run the same command again",
    ),
];

/// What the words of a failed step, or else what was collected, most likely come from.
pub fn likely(words: &str, collected: &[String]) -> Option<&'static Cause> {
    let in_line = |line: &str, cause: &Cause| {
        let line = line.to_lowercase();
        cause.signs.iter().any(|sign| sign.iter().all(|word| line.contains(word)))
    };
    // A learner that was taken back was removed by this very run: what it says of that is no cause.
    let taken_back = words.contains("was removed again");
    let collected = || collected.iter().filter(|line| !(taken_back && line.contains("permanently removed")));
    CAUSES.iter().find(|cause| words.lines().any(|line| in_line(line, cause))).or_else(|| {
        CAUSES.iter().filter(|cause| cause.sure).find(|cause| collected().any(|line| in_line(line, cause)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words as programs wrote them, and part of the cause.
    const SEEN: &[(&str, &str)] = &[
        (
            "this run was away from m1, and another one came to it meanwhile: rsadm up by ann@desk (pid 17)",
            "of before",
        ),
        ("kube-apiserver says: Error: unknown flag: --no-such-flag", "extra_args"),
        ("etcd says: flag provided but not defined: -no-such-flag", "extra_args"),
        ("invalid argument \"x\" for \"--v\" flag: strconv.ParseInt", "extra_args"),
        (
            "failed to load kubelet config file, path: /var/lib/kubelet/config.yaml, error: json: cannot unmarshal string",
            "kubelet.config",
        ),
        ("the member has been permanently removed from the cluster", "was removed"),
        ("install: cannot create regular file: No space left on device", "disk is full"),
        ("/dev/sda1        40G   40G     0 100% /var/lib", "disk is full"),
        (
            "ctr: cannot access socket /run/containerd/containerd.sock: stat /run/containerd/containerd.sock: no such file",
            "socket is gone",
        ),
        ("etcdserver: mvcc: database space exceeded", "quota"),
        ("m2: received fatal alert: InternalError", "cannot read its certificates"),
        ("mv: cannot move: Read-only file system", "read-only"),
        ("/usr/local/bin/kubelet: cannot execute binary file: Exec format error", "processor"),
        ("kubelet of http://10.77.0.1/kubelet is not v1.37.2; it says: Kubernetes v1.30.0", "something else"),
        ("listen tcp 10.0.0.1:2380: bind: address already in use", "listens"),
        (
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time",
            "clocks",
        ),
        ("x509: certificate signed by unknown authority", "mixed up"),
        ("panic: entry 96 conflict with committed entry [committed(100)]", "ahead of that of the others"),
        ("request sent was ignored (cluster ID mismatch: peer[1]=2, local=3)", "another cluster's"),
        (
            "no API server is ready at https://10.0.0.100:6443, which the kubelet dials, after 120 s: curl: (7) Failed to connect",
            "load balancer",
        ),
        ("etcd says: tocommit(41) is out of range [lastIndex(0)]; its data is lost or damaged", "lost"),
        ("panic: freepages: failed to get all reachable pages", "damaged"),
        (
            "etcd says: found data inconsistency with peers; its data is not that of another member",
            "one of the two",
        ),
        ("ctr: failed to resolve reference \"registry.k8s.io/pause:3.10\"", "registry"),
        ("fork: Cannot allocate memory", "memory"),
        ("failed to run Kubelet: running with swap on is not supported", "swap"),
        (
            "E1122 run.go:72] \"command failed\" err=\"invalid audit log mode no-such-mode\"",
            "refuses its arguments",
        ),
        ("curl: (6) Could not resolve host: dl.k8s.io", "resolve"),
        ("the checksum of kubelet is another one than published", "downloaded"),
        ("dial tcp 127.0.0.1:2379: connect: connection refused", "etcd does not serve"),
        ("The connection to the server 10.0.0.1:6443 was refused", "API server does not serve"),
        ("mkdir: cannot create directory: Permission denied", "policy"),
        ("inotify_init: Too many open files", "limit"),
        ("could not fetch http://10.77.0.1:8080/x: curl: (28) timed out", "cannot reach"),
        (
            "could not load br_netfilter, by which services answer pods: modprobe loaded nothing",
            "keeps that module",
        ),
        (
            "could not load br_netfilter, by which services answer pods: modprobe: ERROR: could not insert 'br_netfilter': \
             Operation not permitted",
            "policy",
        ),
    ];

    #[test]
    fn words_lead_to_their_cause() {
        for (words, part) in SEEN {
            let why = likely(words, &[]).map(|c| c.why);
            assert!(why.is_some_and(|why| why.contains(part)), "{words}: {why:?}");
        }
        // Whose connection it is stands beside it.
        for words in [
            "kube-scheduler did not start with its new files within 120 s",
            "e1: connection refused, for 120 s",
        ] {
            assert_eq!(likely(words, &[]), None, "{words}");
        }
    }

    #[test]
    fn all_that_etcd_says_of_lost_data_leads_to_its_data() {
        for words in crate::etcd::status::LOST_LINES {
            let why = likely(words, &[]).map(|c| c.why);
            assert!(
                why.is_some_and(|why| why.starts_with("etcd's data on this host is ")),
                "{words}: {why:?}"
            );
        }
    }

    #[test]
    fn a_steps_own_words_go_first_and_passing_troubles_do_not_count() {
        let log = ["== /var/log/pods/x", "stderr F no space left on device", "connection refused"]
            .map(str::to_owned);
        assert_eq!(
            likely("address already in use", &log).unwrap().why,
            "another program listens on that port"
        );
        assert_eq!(likely("it ended", &log).unwrap().why, "a disk is full");
        assert_eq!(likely("it ended", &log[2..]), None);
    }

    #[test]
    fn every_cause_is_reached_by_words_that_were_seen() {
        let never: Vec<&str> = CAUSES
            .iter()
            .filter(|c| !SEEN.iter().any(|(words, _)| likely(words, &[]) == Some(c)))
            .map(|c| c.why)
            .collect();
        assert_eq!(never, Vec::<&str>::new());
    }

    #[test]
    fn that_a_learner_was_taken_back_is_no_cause_of_it() {
        let log = ["the member has been permanently removed from the cluster".to_owned()];
        assert!(likely("exit status 1", &log).is_some());
        assert_eq!(likely("silent for 3.0 s, for 134 s; the learner was removed again", &log), None);
    }
}
