//! What a host was found capable of by trying: how fast its disk takes what etcd writes, and whether its own `nft` can
//! live beside kube-proxy's rules.

use crate::{inventory::Cluster, versions::Version};

use super::Verdict;

/// etcd asks for 99 of 100 WAL syncs within this (etcd, `op-guide/hardware.md`).
const SYNC_LIMIT_MS: f64 = 10.0;

/// The newest nft that crashes at the tables of a newer kube-proxy (kubernetes#136786).
const CRASHING_NFT: Version = Version::new(1, 0, 6);

/// What trying gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probe {
    /// Mean time of a synced write where etcd's data will be, in milliseconds; `None` where it was not tried.
    pub sync_ms: Option<f64>,
    /// The host's own nft.
    pub nft: Option<Version>,
    /// The process that listens on ports to come, for as long as paths are tried.
    pub listener: Option<u32>,
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
                "listener" => probe.listener = value.parse().ok(),
                "deaf" => probe.deaf.extend(value.parse::<u16>()),
                _ => {}
            }
        }
        probe
    }

    /// What is worth a warning; nothing here refuses.
    pub fn verdicts(&self, cluster: &Cluster, is_node: bool) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        if let Some(ms) = self.sync_ms.filter(|ms| *ms > SYNC_LIMIT_MS) {
            verdicts.push(Verdict::warning(
                format!("a synced write takes {ms:.0} ms where etcd's data will be; etcd asks for {SYNC_LIMIT_MS:.0}"),
                "a faster disk for /var/lib/etcd, or etcd.heartbeat_interval and etcd.election_timeout five times as long",
            ));
        }
        let mode = cluster.kube_proxy.config.get("mode").and_then(|m| m.as_str()).unwrap_or("nftables");
        if let Some(nft) = self.nft.filter(|nft| is_node && mode == "nftables" && *nft <= CRASHING_NFT) {
            verdicts.push(Verdict::warning(
                format!("its nft {} crashes beside kube-proxy's tables", nft.to_string().trim_start_matches('v')),
                "should it have firewall rules of its own: a newer nftables, or kube_proxy.config.mode: iptables",
            ));
        }
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::testing;

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
        assert_eq!(probe.verdicts(&cluster, false), [], "no kube-proxy there");
        let mut iptables = testing::ha();
        iptables.kube_proxy.config.insert("mode".into(), "iptables".into());
        assert_eq!(probe.verdicts(&iptables, true), []);
    }
}
