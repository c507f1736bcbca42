//! What a host was found capable of by trying: whether folders take files and let programs run, how fast its disk takes what
//! etcd writes, and whether its own `nft` can live beside kube-proxy's rules.

use crate::{
    inventory::{Cluster, Network, NetworkPlugin, Node, Role},
    layout,
    observe::Facts,
    versions::Version,
};

use super::Verdict;

/// etcd asks for 99 of 100 WAL syncs within this (etcd, `op-guide/hardware.md`).
const SYNC_LIMIT_MS: f64 = 10.0;

/// The newest nft that crashes at the tables of a newer kube-proxy (kubernetes#136786).
const CRASHING_NFT: Version = Version::new(1, 0, 6);

/// The kubelet's own thresholds `nodefs.inodesFree` and `imagefs.inodesFree`, in percent: with less it takes its node out of
/// service.
const KUBELET_INODES: u64 = 5;

/// What rsadm's own files, etcd's image and a member take at least.
const LEAST_INODES: u64 = 200;

/// Folders that a host has to have of its own, or where they can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// They take files.
    pub files: Vec<&'static str>,
    /// They take programs, which can run there.
    pub programs: Vec<&'static str>,
}

impl Places {
    /// By its roles. Where rsadm put programs already none may have to be put, and where a kubelet runs, whoever brought it, what
    /// it needs is there.
    pub fn of(node: &Node, facts: Option<&Facts>) -> Self {
        let runs = facts.is_some_and(|f| f.runs("kubelet"));
        let mut files = vec![layout::KUBERNETES_DIR, layout::RSADM_DIR];
        if !runs {
            files.extend([layout::SYSTEMD_DIR, layout::KUBELET_DIR, layout::CONTAINERD_DIR]);
        }
        if node.is(Role::Etcd) {
            files.push(layout::ETCD_DATA_DIR);
        }
        let mut programs = Vec::new();
        if !runs && facts.is_none_or(|f| f.programs.is_empty()) {
            programs.push(layout::BIN_DIR);
            programs.extend(node.is_kubernetes().then_some(layout::CNI_BIN_DIR));
        }
        Self { files, programs }
    }
}

/// What trying gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probe {
    /// Folders that take no file, and why.
    pub closed: Vec<(String, String)>,
    /// Folders in which no program runs, and why.
    pub inert: Vec<(String, String)>,
    /// Folders, the inodes that are free there, and all of them.
    pub inodes: Vec<(String, u64, u64)>,
    /// Mean time of a synced write where etcd's data will be, in milliseconds; `None` where it was not tried.
    pub sync_ms: Option<f64>,
    /// The host's own nft.
    pub nft: Option<Version>,
    /// The process that listens on ports to come, for as long as paths are tried.
    pub listener: Option<u32>,
    /// Whether firewalld runs, which rejects what its zones do not know.
    pub firewalld: bool,
    /// Chains of nftables, by family, table and name, that drop what is forwarded unless one of their rules accepts it.
    pub drops: Vec<String>,
    /// Ports that could not be listened on.
    pub deaf: Vec<u16>,
}

impl Probe {
    /// Reads what `probe.sh` printed, a word and its value a line.
    pub fn parse(text: &str) -> Self {
        let mut probe = Self::default();
        for (word, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            match word {
                "sync-ms" => probe.sync_ms = value.parse().ok(),
                "nft" => probe.nft = value.parse().ok(),
                "firewalld" => probe.firewalld = value == "active",
                "drops" => probe.drops.push(value.into()),
                "listener" => probe.listener = value.parse().ok(),
                "deaf" => probe.deaf.extend(value.parse::<u16>()),
                "closed" => probe.closed.extend(place(value)),
                "inert" => probe.inert.extend(place(value)),
                "inodes" => probe.inodes.extend(inodes(value)),
                _ => {}
            }
        }
        probe
    }

    /// What is wrong, and what is worth a warning.
    pub fn verdicts(&self, cluster: &Cluster, is_node: bool) -> Vec<Verdict> {
        let mut verdicts = self.places();
        let evicts = is_node && !cluster.kubelet.config.contains_key("evictionHard");
        verdicts.extend(self.few_inodes(evicts));
        if let Some(ms) = self.sync_ms.filter(|ms| *ms > SYNC_LIMIT_MS) {
            verdicts.push(Verdict::warning(
                format!("a synced write takes {ms:.0} ms where etcd's data will be; etcd asks for {SYNC_LIMIT_MS:.0}"),
                "a faster disk for /var/lib/etcd, or etcd.heartbeat_interval and etcd.election_timeout five times as long",
            ));
        }
        if !self.deaf.is_empty() {
            let ports = self.deaf.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
            verdicts.push(Verdict::warning(
                format!("nothing could listen there yet on {ports}: whether other hosts reach these ports was not tried"),
                "see yourself that firewalls let them through; rsadm listens with systemd-socket-activate, if the host has it",
            ));
        }
        let rules = is_node && cluster.kube_proxy.uses_nftables();
        if let Some(nft) = self.nft.filter(|nft| rules && *nft <= CRASHING_NFT) {
            verdicts.push(Verdict::warning(
                format!("its nft {} crashes beside kube-proxy's tables", nft.to_string().trim_start_matches('v')),
                "should it have firewall rules of its own: a newer nftables, or kube_proxy.config.mode: iptables",
            ));
        }
        if is_node && cluster.network.plugin == NetworkPlugin::Bridge {
            verdicts.extend(self.forwarding(&cluster.network));
        }
        verdicts
    }

    fn places(&self) -> Vec<Verdict> {
        let closed = self.closed.iter().map(|(folder, why)| {
            Verdict::error(
                format!("takes no file in {folder}: {why}"),
                format!("what rsadm puts there has to last: make {folder} writable, or a mount of its own"),
            )
        });
        let inert = self.inert.iter().map(|(folder, why)| {
            let help = format!("mount what holds {folder} without noexec, or allow programs there");
            Verdict::error(format!("runs no program in {folder}: {why}"), help)
        });
        closed.chain(inert).collect()
    }

    /// One for each file system that has too few, as far as numbers tell.
    fn few_inodes(&self, evicts: bool) -> Vec<Verdict> {
        let mut told: Vec<(u64, u64)> = Vec::new();
        let mut verdicts = Vec::new();
        for (folder, free, all) in &self.inodes {
            let low = evicts && free.saturating_mul(100) < all.saturating_mul(KUBELET_INODES);
            if !(low || *free < LEAST_INODES) || told.contains(&(*free, *all)) {
                continue;
            }
            told.push((*free, *all));
            let why = match low {
                true => format!(", and the kubelet evicts pods from {KUBELET_INODES} % down"),
                false => String::new(),
            };
            verdicts.push(Verdict::error(
                format!("has {free} of {all} inodes free below {folder}{why}"),
                format!("remove small files there (df -i {folder}), or use a file system with more inodes"),
            ));
        }
        verdicts
    }

    /// Nodes are Ready behind these all the same, and pods on different ones do not reach each other.
    fn forwarding(&self, network: &Network) -> impl Iterator<Item = Verdict> {
        let (pods, services) = (network.pod_subnet, network.service_subnet);
        let firewalld = self.firewalld.then(|| {
            let help = format!(
                "firewall-cmd --permanent --zone=trusted --add-source={pods} --add-source={services} --add-interface=rsadm0, \
                 then firewall-cmd --reload"
            );
            Verdict::warning("firewalld runs, which rejects packets from and to pods that it was not told of", help)
        });
        let drops = self.drops.iter().map(move |chain| {
            let help = format!(
                "unless it has such rules: nft insert rule {chain} ip saddr {pods} accept, the same with daddr, and both \
                 where its rules are kept, such as /etc/nftables.conf"
            );
            Verdict::warning(format!("its nft chain {chain} drops what no rule accepts, packets of pods, too"), help)
        });
        firewalld.into_iter().chain(drops)
    }
}

/// `FOLDER WHY`.
fn place(text: &str) -> Option<(String, String)> {
    text.split_once(' ').map(|(folder, why)| (folder.to_owned(), why.to_owned()))
}

/// `FOLDER FREE ALL`.
fn inodes(text: &str) -> Option<(String, u64, u64)> {
    let [folder, free, all] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
    Some((folder.to_owned(), free.parse().ok()?, all.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifests::testing,
        observe::facts::{ProcessFact, ProgramFact},
    };

    fn errors(text: &str, is_node: bool) -> Vec<String> {
        let verdicts = Probe::parse(text).verdicts(&testing::ha(), is_node);
        let text = |v| if let Verdict::Error(text, _) = v { Some(text) } else { None };
        verdicts.into_iter().filter_map(text).collect()
    }

    #[test]
    fn folders_that_take_nothing_and_disks_without_inodes_are_errors() {
        let said = errors(
            "closed /etc/kubernetes Read-only file system\ninert /opt/cni/bin Permission denied\n",
            true,
        );
        let words = [
            "takes no file in /etc/kubernetes: Read-only file system",
            "runs no program in /opt/cni/bin: Permission denied",
        ];
        assert_eq!(said, words);
        let one_disk = "inodes /etc/kubernetes 40 1000\ninodes /var/lib/etcd 40 1000\n";
        assert_eq!(errors(one_disk, true).len(), 1);
        assert_eq!(errors("inodes /var/lib/etcd 4900 100000\n", true).len(), 1, "its kubelet evicts");
        assert_eq!(errors("inodes /var/lib/etcd 4900 100000\n", false).len(), 0, "no pods there");
        assert_eq!(errors("inodes /var/lib/etcd 5000 100000\n", true).len(), 0);
        assert_eq!(errors("inodes /var/lib/etcd -\nclosed\n", true).len(), 0, "noise");
    }

    #[test]
    fn a_host_that_has_its_programs_may_keep_them_from_being_written() {
        let cluster = testing::ha();
        let m1 = testing::node(&cluster, "m1");
        assert_eq!(Places::of(m1, None).programs, ["/usr/local/bin", "/opt/cni/bin"]);
        let mut facts = Facts::default();
        facts.programs.insert("kubelet".into(), ProgramFact { kept: false, url: String::new() });
        assert_eq!(Places::of(m1, Some(&facts)).programs, Vec::<&str>::new());
        let w1 = testing::node(&cluster, "w1");
        assert!(!Places::of(w1, None).files.contains(&"/var/lib/etcd"));
        let kubelet = ProcessFact { name: "kubelet".into(), revision: None, etcd_servers: vec![] };
        let theirs = Facts { processes: vec![kubelet], ..Facts::default() };
        let of_member =
            Places { files: vec!["/etc/kubernetes", "/var/lib/rsadm", "/var/lib/etcd"], programs: vec![] };
        assert_eq!(Places::of(m1, Some(&theirs)), of_member, "kubeadm's, which becomes a member");
    }

    #[test]
    fn answers_are_read_and_judged() {
        let cluster = testing::ha();
        for (text, warnings) in [
            ("", 0),
            ("sync-ms 9.9\nnft v1.1.3\nlistener 77\n", 0),
            ("sync-ms 10.4\n", 1),
            ("nft 1.0.6\n", 1),
            ("nft 1.0.7\n", 0),
            ("sync-ms much\nnft what\nnoise\n", 0),
        ] {
            assert_eq!(Probe::parse(text).verdicts(&cluster, true).len(), warnings, "{text:?}");
        }
        let probe = Probe::parse("listener 77\ndeaf 2379\ndeaf 2380\nnft 1.0.6\n");
        assert_eq!((probe.listener, &probe.deaf[..]), (Some(77), &[2379, 2380][..]));
        let told = probe.verdicts(&testing::ha(), false);
        assert!(
            matches!(&told[..], [Verdict::Warning(text, _)] if text.contains("on 2379, 2380: ")),
            "{told:?}"
        );
        let probe = Probe { deaf: vec![], ..probe };
        assert_eq!(probe.verdicts(&cluster, false), [], "no kube-proxy there");
        let mut iptables = testing::ha();
        iptables.kube_proxy.config.insert("mode".into(), "iptables".into());
        assert_eq!(probe.verdicts(&iptables, true), []);
    }

    #[test]
    fn firewalls_that_let_no_pod_through_are_told_where_ours_is_the_network() {
        let probe = Probe::parse("firewalld active\ndrops inet filter forward\n");
        let mut cluster = testing::ha();
        let told = probe.verdicts(&cluster, true);
        let [Verdict::Warning(_, zones), Verdict::Warning(chain, _)] = &told[..] else { panic!("{told:?}") };
        assert!(zones.contains("--add-source=10.244.0.0/16 --add-source=10.96.0.0/12"), "{zones}");
        assert!(chain.starts_with("its nft chain inet filter forward drops"), "{chain}");
        assert_eq!(probe.verdicts(&cluster, false), [], "no pods there");
        cluster.network.plugin = NetworkPlugin::None;
        assert_eq!(probe.verdicts(&cluster, true), []);
    }
}
