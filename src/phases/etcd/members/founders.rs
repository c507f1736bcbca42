//! A foundation that never came to its end, and an inventory that has other members since: a member's data is of the
//! cluster that its founders make, and another list makes another cluster.

use crate::{
    inventory::{Cluster, Node, NodeName, Role},
    manifests::EtcdStart,
    observe::Observed,
    plan::Refusal,
};

/// A host of this cluster with the data of a foundation of which nothing is on record, and whose founders are not the
/// inventory's members.
pub(super) struct Begun<'c> {
    host: &'c Node,
    /// Founders that are no members in the inventory, and where they were to be dialled.
    gone: Vec<(NodeName, String)>,
    /// Members in the inventory that are no founders.
    come: Vec<NodeName>,
}

/// The first such host.
pub(super) fn others<'c>(cluster: &'c Cluster, seen: &Observed) -> Option<Begun<'c>> {
    cluster.nodes.iter().find_map(|host| {
        let ours = seen.hosts.get(&host.name).filter(|f| f.begun.as_ref() == Some(&cluster.name));
        let facts = ours.filter(|f| f.etcd_data && f.identity.is_none())?;
        let founders = EtcdStart::of_manifest(facts.etcd_manifest.as_deref()?)?.members;
        let wanted = || cluster.with_role(Role::Etcd);
        let founds = |n: &&Node| founders.iter().any(|(_, url)| *url == n.peer_url());
        let come: Vec<NodeName> = wanted().filter(|n| !founds(n)).map(|n| n.name.clone()).collect();
        let stays = |url: &str| wanted().any(|n| n.peer_url() == url);
        let gone: Vec<_> = founders.iter().filter(|(_, url)| !stays(url)).cloned().collect();
        (!gone.is_empty() || !come.is_empty()).then_some(Begun { host, gone, come })
    })
}

/// Where no quorum of them serves that could take others in.
pub(in crate::phases::etcd) fn refusal(cluster: &Cluster, seen: &Observed) -> Option<Refusal> {
    let begun = others(cluster, seen)?;
    if let Some((name, url)) = begun.gone.iter().find(|(name, _)| begun.come.contains(name)) {
        return Some(Refusal {
            rule: "other-founders",
            subject: format!("etcd is not founded by {name} at its present address"),
            why: format!(
                "{} has the data of a foundation with {name} at {url}, of which no quorum serves; founded at other addresses \
                 it would be another cluster",
                begun.host.name
            ),
            help: format!(
                "set internal_address of {name} back; or, where etcd never served at the old address, `rsadm reset` and \
                 `rsadm up` begin anew, and what etcd has is lost"
            ),
        });
    }
    let come: Vec<&str> = begun.come.iter().map(NodeName::as_str).collect();
    let gone: Vec<String> = begun.gone.iter().map(|(name, url)| format!("{name} at {url}")).collect();
    let (founded, mend) = match (&gone[..], &come[..]) {
        ([], come) => (format!("without {}", come.join(", ")), format!("take {} out of", come.join(", "))),
        (gone, []) => (format!("with {}", gone.join(", ")), format!("put {} back into", gone.join(", "))),
        (gone, come) => (
            format!("with {}, without {}", gone.join(", "), come.join(", ")),
            format!("put {} back into and take {} out of", gone.join(", "), come.join(", ")),
        ),
    };
    let then = match (&begun.gone[..], &come[..]) {
        ([(old, _)], [new]) if old.as_str() != *new => format!("`rsadm etcd replace {old} {new}`"),
        _ => "`rsadm up` with the inventory as it is now".to_owned(),
    };
    Some(Refusal {
        rule: "other-founders",
        subject: "etcd is not founded by the members of this inventory".into(),
        why: format!(
            "{} has the data of a foundation {founded}, of which no quorum serves; founded by others it would be another \
             cluster",
            begun.host.name
        ),
        help: format!(
            "{mend} the inventory, `rsadm up`, and then {then}; where that cannot be, `rsadm reset` and `rsadm up` \
             begin anew, and what etcd has is lost"
        ),
    })
}
