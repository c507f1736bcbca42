//! What a member is started with in a cluster that somebody else built: as it was before it is made anew, and on a host that is
//! new to etcd as those that stay. The inventory of such a cluster names its hosts, and nothing of how its etcd is tuned; a
//! member with another election timeout, quota or address for its metrics would be one that nobody asked for.

use super::{address_of, quota};
use crate::{
    inventory::{Node, Role},
    layout,
    manifests::{EtcdSettings, is_members_own},
    observe::Fate,
    phases::{
        etcd::{PHASE, upgrade},
        ownership,
    },
    plan::Planner,
};

/// Why a flag is left out.
const UNKNOWN: &str = "this etcd does not know it";
const OUT_OF_REACH: &str = "it names a file that the new manifest does not mount";
const UNCLEAR: &str = "it has no value, or one in a form that is not read here";
const ROTATES: &str = "etcd rotates no log but one in a file";
const PROBED: &str = "probes and rsadm ask for metrics there without TLS";

/// Flags of etcd that stand for `true` without a value (etcd, `server/etcdmain/config.go`).
const SWITCHES: [&str; 17] = [
    "auto-tls",
    "client-cert-auth",
    "enable-distributed-tracing",
    "enable-grpc-gateway",
    "enable-log-rotation",
    "enable-pprof",
    "force-new-cluster",
    "memory-mlock",
    "peer-auto-tls",
    "peer-client-cert-auth",
    "peer-skip-client-san-verification",
    "pre-vote",
    "socket-reuse-address",
    "socket-reuse-port",
    "strict-reconfig-check",
    "txn-mode-write-with-shared-buffer",
    "unsafe-no-fsync",
];

/// Settings of others, and the flags among them that are left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::phases::etcd) struct Likeness {
    /// What the member is started with.
    pub(in crate::phases::etcd) settings: EtcdSettings,
    /// Flags, and why they are.
    left_out: Vec<(String, &'static str)>,
}

/// The settings of a member on `node`; nothing where rsadm built the cluster: the inventory has them then.
pub(in crate::phases::etcd) fn of(p: &Planner<'_>, node: &Node) -> Option<Likeness> {
    // Wherever its members are by now.
    let cluster_is = p.cluster.nodes.iter().any(|n| ownership::is_adopted(p.facts(&n.name)));
    let some = |flags: &Option<String>| flags.clone().filter(|flags| !flags.is_empty());
    let flags = |n: &Node| some(&p.facts(&n.name).etcd_manifest);
    let stays = |n: &&Node| {
        let url = n.peer_url();
        let votes = |m: &crate::observe::MemberFact| !m.learner && m.healthy && m.fate != Fate::Leaves;
        p.seen().membership.iter().flatten().any(|m| m.peer_url == url && votes(m))
    };
    if !cluster_is {
        return None;
    }
    // A run may have died between the manifest from before and the one to come.
    let own = flags(node).or_else(|| some(&p.facts(&node.name).etcd_kept)).map(|flags| (node, flags));
    let others = || {
        let members = p.cluster.with_role(Role::Etcd).filter(stays);
        members.filter_map(|n| Some((n, flags(n)?))).next()
    };
    let (whose, flags) = own.or_else(others)?;
    let mut likeness = like(&flags, whose, node, p.cluster.release.etcd.minor);
    quota::raised(p, &mut likeness.settings);
    Some(likeness)
}

/// Tells what was left out.
pub(super) fn tell(p: &mut Planner<'_>, node: &Node, likeness: &Likeness) {
    for (flag, why) in &likeness.left_out {
        let text = format!(
            "its etcd starts without {flag}, which its manifest from before has, or that of the others"
        );
        let help = format!(
            "{why}: where it is needed, add it, or what takes its place, to {}",
            layout::ETCD_MANIFEST
        );
        p.notice(PHASE, Some(&node.name), text, help);
    }
}

/// The settings among the flags of a member, a line each, as one on `node` has them.
fn like(flags: &str, whose: &Node, node: &Node, minor: u16) -> Likeness {
    let mut likeness = Likeness::default();
    let (mut arguments, unknown): (Vec<&str>, Vec<&str>) =
        flags.lines().partition(|flag| upgrade::successors([*flag].into_iter(), minor).is_ok());
    // Each is known, or has a successor, by itself; gates are joined.
    let replaced = upgrade::successors(arguments.iter().copied(), minor).unwrap_or_default();
    arguments.retain(|argument| replaced.iter().all(|(old, _)| old != argument));
    let settings = arguments.into_iter().chain(replaced.iter().filter_map(|(_, new)| new.as_deref()));
    for flag in settings {
        let words = flag.trim_start_matches('-');
        let (name, value) = match words.split_once('=') {
            Some(both) => both,
            None if SWITCHES.contains(&words) => (words, "true"),
            None => (words, ""),
        };
        if is_members_own(name) {
            continue;
        }
        // The quotes of JSON are gone by now.
        let is_unclear = value.is_empty() || value.contains('{');
        let out = is_unclear.then_some(UNCLEAR);
        if let Some(why) = out.or_else(|| is_out_of_reach(value, whose == node).then_some(OUT_OF_REACH)) {
            likeness.left_out.push((flag.to_owned(), why));
            continue;
        }
        let value = match name {
            "listen-metrics-urls" => {
                let urls = urls(value, whose, node);
                let gone = urls.iter().filter(|url| is_probed(url, "https"));
                likeness.left_out.extend(gone.map(|url| (format!("--{name}={url}"), PROBED)));
                metrics(&urls)
            }
            name if name.ends_with("-urls") => urls(value, whose, node).join(","),
            _ => value.to_owned(),
        };
        likeness.settings.insert(name.to_owned(), value);
    }
    likeness.settings.entry("listen-metrics-urls".to_owned()).or_insert_with(|| metrics(&[]));
    // It ends at once where it is to rotate what goes to its error stream (etcd, `setupLogRotation`).
    if likeness.left_out.iter().any(|(flag, _)| flag.trim_start_matches('-').starts_with("log-outputs=")) {
        for name in ["enable-log-rotation", "log-rotation-config-json"] {
            let gone = likeness.settings.remove(name);
            likeness.left_out.extend(gone.map(|value| (format!("--{name}={value}"), ROTATES)));
        }
    }
    likeness.left_out.extend(unknown.into_iter().map(|flag| (flag.to_owned(), UNKNOWN)));
    likeness
}

/// Whether it names a file that is not in a folder which the member has, or that another host may not have.
fn is_out_of_reach(value: &str, is_own: bool) -> bool {
    let folders = [layout::ETCD_PKI_DIR, layout::ETCD_DATA_DIR];
    let within = |path: &str| folders.iter().any(|folder| path.starts_with(&format!("{folder}/")));
    let mut paths = value.split([',', '=']).filter(|part| part.starts_with('/'));
    paths.any(|path| !is_own || !within(path))
}

/// The same URLs at the host of another node, where they name the one's address.
fn urls(value: &str, whose: &Node, node: &Node) -> Vec<String> {
    let (from, to) = (whose.internal_address, node.internal_address);
    let moved = |url: &str| match address_of(url) {
        Some(address) if address == from => url.replacen(&from.to_string(), &to.to_string(), 1),
        _ => url.to_owned(),
    };
    value.split(',').map(moved).collect()
}

/// Where the member has its metrics: there, and where the pod's probes and rsadm ask for them.
fn metrics(urls: &[String]) -> String {
    // With TLS the port is taken, and probes do not come through.
    let mut all: Vec<&str> = urls.iter().map(String::as_str).filter(|url| !is_probed(url, "https")).collect();
    let probed = format!("http://127.0.0.1:{}", layout::ETCD_METRICS_PORT);
    if !all.iter().any(|url| is_probed(url, "http")) {
        all.insert(0, &probed);
    }
    all.join(",")
}

/// Whether it has the port on loopback that probes ask.
fn is_probed(url: &str, scheme: &str) -> bool {
    let (hosts, port) = (["127.0.0.1", "localhost", "0.0.0.0", "[::]"], layout::ETCD_METRICS_PORT);
    hosts.iter().any(|host| url == format!("{scheme}://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::{
        manifests::testing,
        observe::{Facts, Observed, facts::ProcessFact},
    };

    const KUBEADM: &str = "--advertise-client-urls=https://10.0.0.1:2379\n--cert-file=/etc/kubernetes/pki/etcd/server.crt\n\
        --data-dir=/var/lib/etcd\n--name=m1\n--initial-cluster=m1=https://10.0.0.1:2380\n--snapshot-count=10000\n";

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn told(flags: &str, own: bool) -> (Vec<String>, Vec<String>) {
        let cluster = testing::ha();
        let (m1, m2) = (testing::node(&cluster, "m1"), testing::node(&cluster, "m2"));
        let flags = format!("{KUBEADM}{}", flags.replace("M1", &m1.internal_address.to_string()));
        let likeness = like(&flags, m1, if own { m1 } else { m2 }, 7);
        let address = if own { m1 } else { m2 }.internal_address.to_string();
        let settings =
            likeness.settings.iter().map(|(flag, value)| format!("{flag}={value}").replace(&address, "HERE"));
        let left_out = likeness.left_out.into_iter().map(|(flag, _)| flag).collect();
        (settings.filter(|flag| flag != "snapshot-count=10000").collect(), left_out)
    }

    /// Where kubeadm's own members are all gone, and where a run died between two manifests.
    #[test]
    fn a_member_of_ours_keeps_its_flags_beside_hosts_of_kubeadms() {
        let cluster = testing::external_etcd();
        let (name, revision, etcd_servers) = ("kubelet".to_owned(), None, vec![]);
        let kubeadms =
            Facts { processes: vec![ProcessFact { name, revision, etcd_servers }], ..Facts::default() };
        let flags = || Some(format!("{KUBEADM}--heartbeat-interval=500\n"));
        let ours = Facts { begun: Some(cluster.name.clone()), etcd_manifest: flags(), ..Facts::default() };
        let between = Facts { etcd_kept: flags(), ..kubeadms.clone() };
        let heartbeat = |of_e1: &Facts, beside: &Facts| {
            let facts = |node: &Node| match node.name.as_str() {
                "e1" => of_e1.clone(),
                _ => beside.clone(),
            };
            let hosts = cluster.nodes.iter().map(|n| (n.name.clone(), facts(n))).collect();
            let seen = Observed { hosts, ..Observed::default() };
            let p = Planner::new(&cluster, seen, OffsetDateTime::UNIX_EPOCH);
            of(&p, testing::node(&cluster, "e1"))?.settings.remove("heartbeat-interval")
        };
        assert_eq!(heartbeat(&ours, &kubeadms).as_deref(), Some("500"));
        assert_eq!(heartbeat(&between, &kubeadms).as_deref(), Some("500"));
        assert_eq!(heartbeat(&ours, &Facts::default()), None, "the inventory has it");
    }

    #[test]
    fn a_member_is_tuned_as_it_was_and_as_the_others_are() {
        let probed = "listen-metrics-urls=http://127.0.0.1:2381";
        for (flags, own, wanted, left_out) in [
            ("", false, &[probed][..], &[][..]),
            (
                "--heartbeat-interval=500\n--election-timeout=5000\n--quota-backend-bytes=4294967296\n--max-request-bytes=9\n",
                false,
                &[
                    "election-timeout=5000",
                    "heartbeat-interval=500",
                    probed,
                    "max-request-bytes=9",
                    "quota-backend-bytes=4294967296",
                ],
                &[],
            ),
            (
                "--listen-metrics-urls=http://0.0.0.0:2381\n",
                true,
                &["listen-metrics-urls=http://0.0.0.0:2381"],
                &[],
            ),
            (
                "--listen-metrics-urls=http://127.0.0.1:2381,http://M1:2381\n",
                false,
                &["listen-metrics-urls=http://127.0.0.1:2381,http://HERE:2381"],
                &[],
            ),
            (
                "--listen-metrics-urls=http://M1:2381\n",
                true,
                &["listen-metrics-urls=http://127.0.0.1:2381,http://HERE:2381"],
                &[],
            ),
            (
                "--listen-metrics-urls=https://0.0.0.0:2381\n",
                true,
                &[probed],
                &["--listen-metrics-urls=https://0.0.0.0:2381"],
            ),
            (
                "--log-outputs=/var/log/etcd.log\n--enable-log-rotation=true\n--log-rotation-config-json={maxsize:100}\n",
                true,
                &[probed],
                &[
                    "--log-outputs=/var/log/etcd.log",
                    "--log-rotation-config-json={maxsize:100}",
                    "--enable-log-rotation=true",
                ],
            ),
            ("--heartbeat-interval\n", true, &[probed], &["--heartbeat-interval"]),
            // What an older etcd called otherwise, and what none knows any more.
            (
                "--experimental-initial-corrupt-check=true\n--enable-v2=true\n--pre-vote\n",
                true,
                &["feature-gates=InitialCorruptCheck=true", probed, "pre-vote=true"],
                &["--enable-v2=true"],
            ),
            (
                "--log-outputs=/var/log/etcd.log\n--auth-token=jwt,pub-key=/etc/kubernetes/pki/etcd/a.pub\n",
                true,
                &["auth-token=jwt,pub-key=/etc/kubernetes/pki/etcd/a.pub", probed],
                &["--log-outputs=/var/log/etcd.log"],
            ),
            (
                "--auth-token=jwt,pub-key=/etc/kubernetes/pki/etcd/a.pub\n",
                false,
                &[probed],
                &["--auth-token=jwt,pub-key=/etc/kubernetes/pki/etcd/a.pub"],
            ),
            ("--force-new-cluster=true\n", true, &[probed], &[]),
        ] {
            let (settings, out) = told(flags, own);
            assert_eq!((settings, out), (strings(wanted), strings(left_out)), "{flags}");
        }
    }
}
