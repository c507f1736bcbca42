//! Whose the hosts are: nothing is planned on a host of another cluster, whichever command and phases are wanted, nor on one
//! that is where the inventory has another. A wrong inventory, or one whose `cluster_name` was edited, is told before anything
//! else. And nothing is built on a host that somebody else built ([`strangers`]).

use crate::{
    inventory::{Cluster, Node, NodeName},
    layout,
    observe::{Facts, Observed, wal::Writer},
    phases::certs::certificate_of_der,
    plan::Refusal,
};

/// The rule that no host is of another cluster.
pub const RULE: &str = "another-cluster";

/// What a host of another cluster says, as it reads after the host's name; `None` where it is of this one or of none.
pub fn foreign(cluster: &Cluster, facts: &Facts) -> Option<String> {
    match (&facts.identity, &facts.begun) {
        (Some(of), _) if of.cluster != cluster.name => {
            Some(format!("belongs to the cluster {} (etcd cluster {})", of.cluster, of.etcd_cluster_id))
        }
        (_, Some(begun)) if *begun != cluster.name => Some(format!("was prepared for the cluster {begun}")),
        _ => None,
    }
}

/// True where rsadm has prepared the host. An [`Identity`](crate::observe::Identity) tells less: a host that kubeadm built
/// has one too, once its member was made anew or its data restored.
pub fn is_prepared(facts: &Facts) -> bool {
    let has = |path: &str| facts.files.contains_key(path);
    facts.begun.is_some() || has(layout::KUBELET_REVISION) || has(layout::CONTAINERD_REVISION)
}

/// What of somebody else's is on a host that rsadm has not prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger<'f> {
    /// etcd data that no record connects with a cluster of rsadm's, and who wrote it.
    Data(Option<&'f Writer>),
    /// A file of Kubernetes, or the manifest of a static pod.
    File(&'f str),
    /// A kubelet.
    Kubelet,
}

impl std::fmt::Display for Stranger<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Data(writer) => {
                write!(f, "has etcd data in {} that is not of this cluster", layout::ETCD_DATA_DIR)?;
                writer.map_or(Ok(()), |writer| write!(f, ": {writer}"))
            }
            Self::File(path) => write!(f, "has Kubernetes that rsadm did not put there: {path}"),
            Self::Kubelet => f.write_str("runs a kubelet that is not of this cluster"),
        }
    }
}

/// All that is on a host and that somebody else put there; it reads after the host's name.
pub fn strangers(facts: &Facts) -> Vec<Stranger<'_>> {
    if is_prepared(facts) {
        return vec![];
    }
    let is_foreign = |path: &&str| {
        path.starts_with(layout::MANIFESTS_DIR) && path.ends_with(".yaml") || *path == layout::KUBELET_CONF
    };
    let kubernetes = match facts.files.keys().map(String::as_str).find(is_foreign) {
        Some(path) => Some(Stranger::File(path)),
        None => facts.runs("kubelet").then_some(Stranger::Kubelet),
    };
    let data =
        (facts.etcd_data && facts.identity.is_none()).then_some(Stranger::Data(facts.etcd_writer.as_ref()));
    data.into_iter().chain(kubernetes).collect()
}

/// True where somebody else built a node of Kubernetes, whether its kubelet runs now or not: it stays as it is, and only its
/// etcd is looked after.
pub fn is_adopted(facts: &Facts) -> bool {
    strangers(facts).iter().any(|stranger| !matches!(stranger, Stranger::Data(_)))
}

/// What a refusal adds, and a finding, where the inventory has a schedule; nothing where it has none.
pub fn schedule_alone(cluster: &Cluster) -> &'static str {
    match cluster.etcd.backup {
        Some(_) => {
            "; the inventory's schedule of snapshots alone: rsadm up --only backups, which takes nothing over"
        }
        None => "",
    }
}

/// Whether rsadm may build on all hosts that were looked at; on nodes of somebody else's, too, where what is wanted stands
/// `beside` what they have. Preflight says it too, beside all else that it finds, and can be left out.
///
/// # Errors
/// Where somebody else built a host: kubeadm's kubelets, manifests and data are not taken over.
pub fn may_build(cluster: &Cluster, seen: &Observed, beside: bool) -> Result<(), Refusal> {
    let of_others: Vec<(&NodeName, String)> = cluster
        .nodes
        .iter()
        .filter_map(|n| Some((&n.name, seen.hosts.get(&n.name).filter(|f| !(beside && is_adopted(f)))?)))
        .filter_map(|(name, facts)| Some((name, strangers(facts).first()?.to_string())))
        .collect();
    if of_others.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = of_others.iter().map(|(host, _)| host.as_str()).collect();
    let lines: Vec<String> = of_others.iter().map(|(host, what)| format!("{host} {what}")).collect();
    Err(Refusal {
        rule: "not-ours",
        subject: format!("{} not built by rsadm", were(&names)),
        why: format!("{}\nnothing was changed on any host", lines.join("\n")),
        help: format!(
            "rsadm up takes over nobody else's hosts; the etcd of a cluster that kubeadm built is looked after by rsadm etcd \
             (status, add, remove, replace, defrag, snapshot, restore, recover, upgrade){}; a host that is to become part of \
             this cluster: `kubeadm reset` it first, which deletes what it has of its own",
            schedule_alone(cluster)
        ),
    })
}

/// Whether all hosts that were looked at are of this cluster or of none, each in its place, and no restore is under way there.
///
/// # Errors
/// Where a host is of another, or is another host than the inventory has at its address; where a restore is not over, unless
/// [`Observed::despite_restore`] was said.
pub fn check(cluster: &Cluster, seen: &Observed) -> Result<(), Refusal> {
    let of_others: Vec<(&NodeName, String)> = cluster
        .nodes
        .iter()
        .filter_map(|n| Some((&n.name, foreign(cluster, seen.hosts.get(&n.name)?)?)))
        .collect();
    if of_others.is_empty() {
        each_in_its_place(cluster, seen)?;
        return no_restore_is_under_way(cluster, seen);
    }
    let names: Vec<&str> = of_others.iter().map(|(host, _)| host.as_str()).collect();
    let lines: Vec<String> = of_others.iter().map(|(host, whose)| format!("{host} {whose}")).collect();
    Err(Refusal {
        rule: RULE,
        subject: format!("this inventory is of the cluster {}, and {} not", cluster.name, are(&names)),
        why: format!("{}\nnothing was changed on any host", lines.join("\n")),
        help: "use the inventory of that cluster, or put its name back as cluster_name; a host that is to move: reset it \
               with the inventory of its own cluster first, which deletes what it has of that, or take it out of this one"
            .into(),
    })
}

/// Whether no host is where the inventory has another of its hosts: under each other's names, two hosts would get each
/// other's certificates, kubelets and members. A host whose name is no longer in the inventory was renamed.
fn each_in_its_place(cluster: &Cluster, seen: &Observed) -> Result<(), Refusal> {
    let found = |n: &'_ Node| Some(built_as(cluster, n, seen.hosts.get(&n.name)?)?.name.clone());
    let moved: Vec<(&Node, NodeName)> = cluster.nodes.iter().filter_map(|n| Some((n, found(n)?))).collect();
    if moved.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = moved.iter().map(|(node, _)| node.name.as_str()).collect();
    let lines: Vec<String> = moved
        .iter()
        .map(|(node, built)| {
            format!(
                "at {}, the address of {}, is the host that was built as {built}",
                node.address, node.name
            )
        })
        .collect();
    let (it, own) = if names.len() == 1 { ("it", "its own name") } else { ("them", "their own names") };
    Err(Refusal {
        rule: "host-moved",
        subject: format!("not every address in this inventory is that of its host: {}", names.join(", ")),
        why: format!("{}\nnothing was changed on any host", lines.join("\n")),
        help: format!(
            "put address and internal_address of {} back, or give the hosts their own addresses again; a host that is to serve under another's name: first \
             `rsadm reset` with an inventory that has {it} alone, under {own}, which deletes what {it} has",
            names.join(" and ")
        ),
    })
}

/// The other host of the inventory that a host was built as, by the certificates that name it. One that names the host itself
/// among them shows that it is, and that the others are files which somebody copied.
pub fn built_as<'c>(cluster: &'c Cluster, node: &Node, facts: &Facts) -> Option<&'c Node> {
    if !is_prepared(facts) {
        return None;
    }
    let named: Vec<String> = certified_names(facts).collect();
    if named.iter().any(|name| name == node.name.as_str()) {
        return None;
    }
    cluster.nodes.iter().find(|other| named.iter().any(|name| name == other.name.as_str()))
}

/// The names of hosts in a host's own certificates.
pub fn certified_names(facts: &Facts) -> impl Iterator<Item = String> {
    let of_member = ["server", "peer"].map(|name| format!("{}/{name}.crt", layout::ETCD_PKI_DIR));
    let of_node = [layout::KUBELET_CLIENT_CURRENT, layout::KUBELET_SERVING_CERT].map(String::from);
    of_node.into_iter().chain(of_member).filter_map(|path| {
        let subject = certificate_of_der(facts.certs.get(&path)?)?.common_name;
        Some(subject.strip_prefix("system:node:").unwrap_or(&subject).to_owned())
    })
}

/// Whether a restore began on a host and is not over: manifests wait out of the kubelet's sight, and a command that wrote
/// them again would let the old data serve, and take writes that the restore then sets aside.
fn no_restore_is_under_way(cluster: &Cluster, seen: &Observed) -> Result<(), Refusal> {
    let restoring = |name: &&NodeName| seen.hosts.get(*name).is_some_and(|f| f.restoring.is_some());
    let names: Vec<&str> =
        cluster.nodes.iter().map(|n| &n.name).filter(restoring).map(NodeName::as_str).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Refusal {
        rule: "unfinished-restore",
        subject: "a restore of etcd has not come to its end".into(),
        why: format!("{} in the midst of it; the old data must not serve beside the restored", are(&names)),
        help: "run the same rsadm etcd restore or recover again, it goes on where it stopped; or rsadm etcd restore --rollback, which \
               puts the old data back, or tidies up where the others have ended it"
            .into(),
    })
}

fn are(names: &[&str]) -> String {
    match names {
        [one] => format!("{one} is"),
        all => format!("{} are", all.join(", ")),
    }
}

fn were(names: &[&str]) -> String {
    match names {
        [one] => format!("{one} was"),
        all => format!("{} were", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifests::testing,
        observe::{FileFact, Identity, facts::ProcessFact},
    };

    type Facet = fn(&mut Facts);

    #[test]
    fn a_host_of_another_cluster_is_told_with_its_name() {
        let cluster = testing::ha();
        let cases: [(Facet, Option<&str>); 5] = [
            (|_| {}, None),
            (|f| f.begun = Some("prod".into()), None),
            (|f| f.identity = Some(identity("prod")), None),
            (|f| f.begun = Some("other".into()), Some("m1 was prepared for the cluster other")),
            (
                |f| {
                    f.begun = Some("prod".into());
                    f.identity = Some(identity("other"));
                },
                Some("m1 belongs to the cluster other (etcd cluster ab)"),
            ),
        ];
        for (facet, wanted) in cases {
            let mut seen = Observed::default();
            let mut facts = Facts::default();
            facet(&mut facts);
            seen.hosts.insert(NodeName::new("m1"), facts);
            let why = check(&cluster, &seen).err().map(|r| r.why);
            assert_eq!(why.as_deref().and_then(|w| w.lines().next()), wanted);
        }
    }

    #[test]
    fn an_unfinished_restore_comes_first() {
        let cluster = testing::ha();
        let facts = Facts { restoring: Some("prod-1-abc".into()), ..Facts::default() };
        let seen = Observed { hosts: [(NodeName::new("m2"), facts)].into(), ..Observed::default() };
        let refusal = check(&cluster, &seen).unwrap_err();
        assert_eq!(refusal.rule, "unfinished-restore");
        assert!(refusal.why.starts_with("m2 is in the midst of it"), "{refusal}");
        assert_eq!(check(&cluster, &seen.despite_restore()), Ok(()));
    }

    /// What kubeadm built stays kubeadm's, also after a restore or a replacement has recorded whose its data is.
    #[test]
    fn nothing_is_built_on_a_host_that_somebody_else_built() {
        let cluster = testing::ha();
        let file = |f: &mut Facts, path: &str| {
            let fact = FileFact { mode: 0o600, owner: "0:0".into(), sha256: String::new() };
            f.files.insert(path.into(), fact);
        };
        let cases: [(Facet, Option<&str>); 8] = [
            (|_| {}, None),
            (|f| f.etcd_data = true, Some("m1 has etcd data in /var/lib/etcd")),
            (|f| (f.etcd_data, f.identity) = (true, Some(identity("prod"))), None),
            (|f| (f.etcd_data, f.begun) = (true, Some("prod".into())), None),
            (
                |f| {
                    f.processes.push(ProcessFact {
                        name: "kubelet".into(),
                        revision: None,
                        etcd_servers: vec![],
                    });
                },
                Some("m1 runs a kubelet"),
            ),
            (
                |f| f.etcd_manifest = Some(String::new()),
                Some("m1 has Kubernetes that rsadm did not put there"),
            ),
            (
                |f| (f.etcd_manifest, f.identity) = (Some(String::new()), Some(identity("prod"))),
                Some("m1 has Kubernetes that rsadm did not put there"),
            ),
            (|f| (f.etcd_manifest, f.begun) = (Some(String::new()), Some("prod".into())), None),
        ];
        for (i, (facet, wanted)) in cases.into_iter().enumerate() {
            let mut facts = Facts::default();
            facet(&mut facts);
            if facts.etcd_manifest.is_some() {
                file(&mut facts, layout::ETCD_MANIFEST);
            }
            let seen = Observed { hosts: [(NodeName::new("m1"), facts)].into(), ..Observed::default() };
            let refusal = may_build(&cluster, &seen, false).err();
            let said = refusal.as_ref().is_none_or(|r| r.why.starts_with(wanted.unwrap_or("nothing")));
            assert!(said && refusal.is_some() == wanted.is_some(), "case {i}: {refusal:?}");
        }
    }

    fn identity(cluster: &str) -> Identity {
        Identity { cluster: cluster.into(), etcd_cluster_id: "ab".into(), ..Identity::default() }
    }
}
