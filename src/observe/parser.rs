//! How a host is asked for its facts: one script, one pure parser.
//!
//! The script prints a fact a line. Lines of an unknown kind are skipped, so a noisy host cannot break a run; a report
//! without its closing line is refused, since half a picture is worse than none.

use super::{
    facts::{Facts, FileFact, KubeconfigFact, ProcessFact, ProgramFact, UnitFact},
    wal,
};
use crate::{host::Script, layout};

/// The script; it changes nothing.
pub const SCRIPT: Script = Script { name: "facts", text: include_str!("facts.sh") };

/// SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The report of a host is not whole, and what is missing in it would look as if it were missing there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// It broke off before its end.
    #[error("the host's report of facts broke off after {lines} lines")]
    Truncated {
        /// How many lines there were.
        lines: usize,
    },
    /// systemd tells of every unit that it is asked for, there or not.
    #[error("systemd told of no unit (systemctl show kubelet)")]
    NoUnits,
}

/// Reads what [`SCRIPT`] printed.
///
/// # Errors
/// See [`Incomplete`].
pub fn parse(text: &str) -> Result<Facts, Incomplete> {
    let mut facts = Facts::default();
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "end" {
            facts.containerd = facts.containerd.take().or_else(|| recorded(&facts, "containerd"));
            doubt_kubelet(&mut facts);
            return match facts.systemd.is_some() && facts.units.is_empty() {
                true => Err(Incomplete::NoUnits),
                false => Ok(facts),
            };
        }
        fact(&mut facts, word, rest.trim_end());
    }
    Err(Incomplete::Truncated { lines: text.lines().count() })
}

/// A kubelet that starts again and again is active for moments, too, and never comes so far that it listens for its own health:
/// on hosts that rsadm built, where nobody may move or close that port.
fn doubt_kubelet(facts: &mut Facts) {
    let listens = facts.begun.is_none() || facts.ports.contains_key(&layout::KUBELET_HEALTH_PORT);
    if let Some(unit) = facts.units.get_mut("kubelet") {
        unit.active &= listens;
    }
}

/// The version of a program that is as we installed it, which therefore was not asked.
fn recorded(facts: &Facts, program: &str) -> Option<String> {
    facts.programs.get(program).filter(|p| p.kept)?.version().map(Into::into)
}

/// Takes one fact over; a line that does not read as its kind is skipped like an unknown one.
fn fact(facts: &mut Facts, word: &str, rest: &str) -> Option<()> {
    let (first, others) = rest.split_once(' ').unwrap_or((rest, ""));
    match word {
        "hostname" => facts.hostname = rest.into(),
        "machine-id" => facts.machine_id = rest.into(),
        "product" => facts.product_uuid = rest.into(),
        "boot-id" => facts.boot_id = rest.into(),
        "arch" => facts.arch = rest.into(),
        "kernel" => facts.kernel = rest.into(),
        "os" => facts.os = rest.into(),
        "time" => facts.time = rest.parse().ok()?,
        "cpus" => facts.cpus = rest.parse().ok()?,
        "memory" => facts.memory = number(rest)?,
        "swap" => facts.swap = rest != "0",
        "systemd" => facts.systemd = rest.parse().ok(),
        "cgroup" => facts.cgroup = rest.parse().ok()?,
        "controllers" => facts.controllers = rest.split_whitespace().map(Into::into).collect(),
        "missing" => facts.missing.push(rest.into()),
        "feature" => facts.features.push(rest.into()),
        "loadable" => facts.loadable.push(rest.into()),
        "disk" => {
            let (free, size) = others.split_once(' ').unwrap_or((others, ""));
            facts.disk.insert(first.into(), free.parse().ok()?);
            facts.disk_size.insert(first.into(), size.parse().ok()?);
        }
        "address" => facts.addresses.push(rest.parse().ok()?),
        "port" => drop(facts.ports.insert(first.parse().ok()?, others.into())),
        "containerd" => facts.containerd = Some(rest.into()),
        "unit" => drop(facts.units.insert(first.into(), unit(others))),
        "process" => facts.processes.push(process(rest)?),
        "file" => file(facts, rest)?,
        "ours" => drop(facts.ours.insert(rest.into())),
        "placing" => drop(facts.placing.insert(rest.into())),
        "cert" => drop(facts.certs.insert(first.into(), others.into())),
        // Its file does not have all of it.
        "key" if others.is_empty() => drop(facts.files.remove(first)),
        "key" => drop(facts.keys.insert(first.into(), others.into())),
        "kubeconfig" => drop(facts.kubeconfigs.insert(first.into(), kubeconfig(others)?)),
        "etcd-flag" => {
            let flags = facts.etcd_manifest.get_or_insert_default();
            flags.push_str(&format!("--{rest}\n"));
            let folder = rest.strip_prefix("data-dir=").or(rest.strip_prefix("wal-dir="));
            elsewhere(facts, folder.unwrap_or(layout::ETCD_DATA_DIR));
        }
        "kept-flag" => {
            facts.etcd_kept.get_or_insert_default().push_str(&format!("--{rest}\n"));
        }
        "kept-image" => {}
        "etcd-image" => facts.etcd_image = Some(rest.into()),
        "etcd-folder" => elsewhere(facts, rest),
        "backup-target" => facts.backup_target = Some(rest.into()),
        "pod-subnet" => facts.pod_subnet = rest.parse().ok(),
        "pod-route" => drop(facts.pod_routes.insert(first.parse().ok()?, others.parse().ok()?)),
        "network" => {
            let value = others.trim_matches(['"', '\'']).to_owned();
            match first {
                cgroup if cgroup.starts_with("cgroup") => drop(facts.cgroups.insert(cgroup.into(), value)),
                "clusterDomain" => drop(facts.network.insert("cluster_domain".into(), value)),
                key => drop(facts.network.insert(key.into(), value)),
            }
        }
        "net" => drop(facts.settings.insert(format!("net.{}", first.replace('/', ".")), others.into())),
        "resolv-conf" => facts.resolv_conf = Some(rest.into()),
        "etcd-data" => {
            facts.etcd_data = true;
            facts.etcd_database = rest.parse().unwrap_or_default();
        }
        "etcd-writer" => facts.etcd_writer = wal::writer(rest),
        "etcd-leaderless" => facts.etcd_leaderless = true,
        "etcd-members" => facts.etcd_members = rest.parse().ok(),
        "restoring" => facts.restoring = Some(rest.into()),
        "begun" => facts.begun = Some(rest.into()),
        "identity" => facts.identity = serde_json::from_str(rest).ok(),
        "program" => program(facts, rest)?,
        "image" => facts.images.push(rest.into()),
        "images-untold" => facts.images_untold = true,
        _ => return None,
    }
    Some(())
}

/// Where etcd has data or log, if that is not where rsadm puts it.
fn elsewhere(facts: &mut Facts, folder: &str) {
    if folder != layout::ETCD_DATA_DIR {
        facts.etcd_elsewhere = Some(folder.into());
    }
}

/// awk prints large numbers as `2.51e+10` on some systems.
fn number(text: &str) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a size in bytes, far below 2^53"
    )]
    text.parse().ok().or_else(|| text.parse::<f64>().ok().map(|n| n as u64))
}

fn unit(words: &str) -> UnitFact {
    let mut words = words.split(' ');
    UnitFact { active: words.next() == Some("active"), enabled: words.next() == Some("enabled") }
}

fn process(words: &str) -> Option<ProcessFact> {
    let mut words = words.split(' ');
    Some(ProcessFact {
        name: words.next()?.into(),
        revision: words.next().filter(|r| *r != "-").map(Into::into),
        etcd_servers: words
            .next()
            .unwrap_or("")
            .split(',')
            .filter(|s| !s.is_empty())
            .map(Into::into)
            .collect(),
    })
}

fn file(facts: &mut Facts, words: &str) -> Option<()> {
    let mut words = words.splitn(4, ' ');
    let mode = u32::from_str_radix(words.next()?, 8).ok()?;
    let fact = FileFact { mode, owner: words.next()?.into(), sha256: words.next()?.into() };
    let path = words.next()?.to_owned();
    if [layout::KUBERNETES_DIR, layout::PKI_DIR, layout::ETCD_PKI_DIR].contains(&path.as_str()) {
        if is_shut(&fact) {
            facts.shut.insert(path);
        }
    } else if fact.sha256 != EMPTY {
        facts.files.insert(path, fact);
    }
    Some(())
}

/// True where root's own containers, which may not go past modes, cannot read in a folder.
fn is_shut(folder: &FileFact) -> bool {
    let bits = match folder.owner.split_once(':') {
        Some(("0", _)) => folder.mode >> 6,
        Some((_, "0")) => folder.mode >> 3,
        _ => folder.mode,
    };
    bits & 0o5 != 0o5
}

fn kubeconfig(words: &str) -> Option<KubeconfigFact> {
    let mut words = words.split(' ');
    let server = words.next()?.into();
    let mut optional = || words.next().filter(|w| *w != "-").map(Into::into);
    Some(KubeconfigFact { server, ca: optional(), cert: optional() })
}

fn program(facts: &mut Facts, words: &str) -> Option<()> {
    let mut words = words.splitn(3, ' ');
    let name = words.next()?.to_owned();
    let kept = words.next()? == "kept";
    facts.programs.insert(name, ProgramFact { kept, url: words.next()?.into() });
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etcd_that_has_its_data_elsewhere_is_known() {
        let said = |text: &str| parse(text).unwrap().etcd_elsewhere;
        assert_eq!(said("etcd-folder /var/lib/etcd\nend\n"), None);
        assert_eq!(said("etcd-folder /var/lib/etcd\netcd-folder /wal\nend\n").as_deref(), Some("/wal"));
        assert_eq!(said("etcd-folder /data\nend\n").as_deref(), Some("/data"));
    }

    /// As while systemd is started anew: else all of them would be started once more.
    #[test]
    fn units_of_which_systemd_tells_nothing_do_not_count_as_missing() {
        assert_eq!(parse("systemd 252\nprocess kubelet a -\nend\n"), Err(Incomplete::NoUnits));
        assert!(parse("systemd 252\nunit kubelet inactive \nend\n").is_ok());
        assert!(parse("end\n").is_ok(), "without systemd");
    }

    #[test]
    fn a_kubelet_of_ours_that_only_starts_again_and_again_is_not_active() {
        let active = |lines: &str| {
            parse(&format!("{lines}unit kubelet active enabled\nend\n")).unwrap().units["kubelet"].active
        };
        let (ours, listens) = ("begun lab\n", "port 10248 kubelet\n");
        assert!(!active(ours) && active(&format!("{ours}{listens}")));
        assert!(active(""), "kubeadm's may have no such port");
        let stopped = parse(&format!("{ours}{listens}unit kubelet inactive enabled\nend\n")).unwrap();
        assert!(!stopped.units["kubelet"].active);
    }

    #[test]
    fn what_the_kubelets_file_says_is_told_by_its_own_keys() {
        let said = "network clusterDomain cluster.local\nnetwork cgroupDriver systemd\nnetwork cgroupRoot \"/x\"\nend\n";
        let facts = parse(said).unwrap();
        let [driver, root, domain] =
            [("cgroupDriver", "systemd"), ("cgroupRoot", "/x"), ("cluster_domain", "cluster.local")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!((facts.network, &facts.cgroups), ([domain].into(), &[driver, root].into()));
        let text = "cgroupDriver: systemd\ncgroupRoot: \"/x\"\nclusterDomain: cluster.local\n";
        assert_eq!(super::super::facts::cgroups_in(text), facts.cgroups);
    }

    #[test]
    fn a_host_without_a_nameserver_has_no_file_for_pods() {
        let file = |lines: &str| parse(&format!("{lines}end\n")).unwrap().resolv_conf;
        assert_eq!(file("feature resolver\n"), None);
        assert_eq!(file("feature resolver\nresolv-conf /run/x\n").as_deref(), Some("/run/x"));
        assert_eq!(file("resolv-conf\n").as_deref(), Some(""));
    }

    #[test]
    fn settings_have_the_names_of_sysctl() {
        let facts = parse("net ipv4/ip_forward 1\nnet bridge/bridge-nf-call-iptables 0\nend\n").unwrap();
        let [forward, bridge] = [("ipv4.ip_forward", "1"), ("bridge.bridge-nf-call-iptables", "0")]
            .map(|(key, value)| (format!("net.{key}"), value.to_owned()));
        assert_eq!(facts.settings, [forward, bridge].into());
        let wanted = crate::manifests::sysctl_config();
        assert!(facts.settings.keys().all(|key| super::super::facts::setting_in(&wanted, key) == Some("1")));
    }

    #[test]
    fn a_file_without_a_byte_is_none() {
        let sha = crate::hash::sha256(b"");
        let facts =
            parse(&format!("file 600 0:0 {sha} /a\nfile 600 0:0 {} /b\nend\n", sha.replace('e', "f")));
        assert_eq!(facts.unwrap().files.into_keys().collect::<Vec<_>>(), ["/b"]);
    }

    #[test]
    fn folders_that_root_alone_cannot_use_are_shut() {
        let lines = "file 755 0:0 folder /etc/kubernetes\nfile 0 0:0 folder /etc/kubernetes/pki\n\
                     file 700 1:1 folder /etc/kubernetes/pki/etcd\nfile 700 0:0 folder /etc/kubernetes/manifests\nend\n";
        let facts = parse(lines).unwrap();
        let shut: Vec<_> = facts.shut.into_iter().collect();
        assert_eq!(shut, ["/etc/kubernetes/pki", "/etc/kubernetes/pki/etcd"]);
        assert_eq!(facts.files.into_keys().collect::<Vec<_>>(), ["/etc/kubernetes/manifests"]);
    }

    #[test]
    fn a_key_of_which_a_part_is_there_is_none() {
        let lines = "file 600 0:0 aa /a.key\nfile 600 0:0 bb /b.key\nkey /a.key \nkey /b.key AAAA\nend\n";
        let facts = parse(lines).unwrap();
        assert_eq!(facts.files.into_keys().collect::<Vec<_>>(), ["/b.key"]);
        assert_eq!(facts.keys.into_keys().collect::<Vec<_>>(), ["/b.key"]);
    }

    #[test]
    fn what_we_installed_and_nobody_touched_needs_not_be_asked_its_version() {
        let record = |state| {
            let url = "https://mirror/containerd/containerd/releases/download/v2.4.2/containerd-2.4.2-linux-amd64.tar.gz";
            format!("program containerd {state} {url}\n")
        };
        for (lines, expected) in [
            (record("kept"), Some("v2.4.2")),
            (record("changed"), None),
            (record("changed") + "containerd v2.0.5\n", Some("v2.0.5")),
            ("containerd 1.6.20~ds1\n".to_owned(), Some("1.6.20~ds1")),
            (String::new(), None),
        ] {
            assert_eq!(parse(&(lines.clone() + "end\n")).unwrap().containerd.as_deref(), expected, "{lines}");
        }
    }
}
