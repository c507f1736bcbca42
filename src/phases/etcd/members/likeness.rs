//! What a member is started with in a cluster that somebody else built: as it was before it is made anew, and on a host that is
//! new to etcd as those that stay. The inventory of such a cluster names its hosts, and nothing of how its etcd is tuned; a
//! member with another election timeout, quota or address for its metrics would be one that nobody asked for.

use super::{address_of, has_etcd, is_listed};
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

/// Settings of others, and the flags among them that are left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::phases::etcd) struct Likeness {
    /// What the member is started with.
    pub(in crate::phases::etcd) settings: EtcdSettings,
    /// Flags that this etcd does not know, or that name a file that rsadm's manifest does not mount.
    left_out: Vec<String>,
}

/// The settings of a member on `node`; nothing where rsadm built the cluster: the inventory has them then.
pub(in crate::phases::etcd) fn of(p: &Planner<'_>, node: &Node) -> Option<Likeness> {
    let is_of_others = |n: &Node| {
        let facts = p.facts(&n.name);
        ownership::is_adopted(facts) && (has_etcd(facts) || is_listed(p, n))
    };
    let cluster_is = p.cluster.nodes.iter().any(is_of_others);
    let flags = |n: &Node| p.facts(&n.name).etcd_manifest.clone().filter(|flags| !flags.is_empty());
    let stays = |n: &&Node| {
        let url = n.peer_url();
        let votes = |m: &crate::observe::MemberFact| !m.learner && m.healthy && m.fate != Fate::Leaves;
        p.seen().membership.iter().flatten().any(|m| m.peer_url == url && votes(m))
    };
    if !cluster_is {
        return None;
    }
    let own = flags(node).map(|flags| (node, flags));
    let others = || {
        let members = p.cluster.with_role(Role::Etcd).filter(stays);
        members.filter_map(|n| Some((n, flags(n)?))).next()
    };
    let (whose, flags) = own.or_else(others)?;
    Some(like(&flags, whose, node, p.cluster.release.etcd.minor))
}

/// Tells what was left out.
pub(super) fn tell(p: &mut Planner<'_>, node: &Node, likeness: &Likeness) {
    for flag in &likeness.left_out {
        let text = format!(
            "its etcd starts without {flag}, which its manifest from before has, or that of the others"
        );
        let help = format!(
            "this etcd does not know it, or it names a file that the new manifest does not mount: where it is needed, add it \
             and its volume to {}",
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
        let (name, value) = words.split_once('=').unwrap_or((words, "true"));
        if is_members_own(name) {
            continue;
        }
        if is_out_of_reach(value, whose == node) {
            likeness.left_out.push(flag.to_owned());
            continue;
        }
        let value = match name {
            "listen-metrics-urls" => metrics(&urls(value, whose, node)),
            name if name.ends_with("-urls") => urls(value, whose, node).join(","),
            _ => value.to_owned(),
        };
        likeness.settings.insert(name.to_owned(), value);
    }
    likeness.settings.entry("listen-metrics-urls".to_owned()).or_insert_with(|| metrics(&[]));
    likeness.left_out.extend(unknown.into_iter().map(str::to_owned));
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
    let port = layout::ETCD_METRICS_PORT;
    let at = |url: &str, scheme: &str| {
        let hosts = ["127.0.0.1", "localhost", "0.0.0.0", "[::]"];
        hosts.iter().any(|host| url == format!("{scheme}://{host}:{port}"))
    };
    // With TLS the port is taken, and probes do not come through.
    let mut all: Vec<&str> = urls.iter().map(String::as_str).filter(|url| !at(url, "https")).collect();
    let probed = format!("http://127.0.0.1:{port}");
    if !all.iter().any(|url| at(url, "http")) {
        all.insert(0, &probed);
    }
    all.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::testing;

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
        (settings.filter(|flag| flag != "snapshot-count=10000").collect(), likeness.left_out)
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
            ("--listen-metrics-urls=https://0.0.0.0:2381\n", true, &[probed], &[]),
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
