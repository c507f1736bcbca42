//! Whose the hosts are: nothing is planned on a host of another cluster, whichever command and phases are wanted. A wrong
//! inventory, or one whose `cluster_name` was edited, is told before anything else.

use crate::{
    inventory::{Cluster, NodeName},
    observe::{Facts, Observed},
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

/// Whether all hosts that were looked at are of this cluster or of none, and no restore is under way there.
///
/// # Errors
/// Where a host is of another; where a restore is not over, unless [`Observed::despite_restore`] was said.
pub fn check(cluster: &Cluster, seen: &Observed) -> Result<(), Refusal> {
    let of_others: Vec<(&NodeName, String)> = cluster
        .nodes
        .iter()
        .filter_map(|n| Some((&n.name, foreign(cluster, seen.hosts.get(&n.name)?)?)))
        .collect();
    if of_others.is_empty() {
        return no_restore_is_under_way(cluster, seen);
    }
    let names: Vec<&str> = of_others.iter().map(|(host, _)| host.as_str()).collect();
    let lines: Vec<String> = of_others.iter().map(|(host, whose)| format!("{host} {whose}")).collect();
    Err(Refusal {
        rule: RULE,
        subject: format!("this inventory is of the cluster {}, and {} not", cluster.name, are(&names)),
        why: format!("{}\nnothing was changed on any host", lines.join("\n")),
        help: "use the inventory of that cluster, or put its name back as cluster_name; a host that is to move: reset it \
               with the inventory of its own cluster first, or take it out of this one"
            .into(),
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
        help: "run the same rsadm etcd restore or recover again, it goes on where it stopped; or put the old data back: \
               rsadm etcd restore --rollback"
            .into(),
    })
}

fn are(names: &[&str]) -> String {
    match names {
        [one] => format!("{one} is"),
        all => format!("{} are", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifests::testing, observe::Identity};

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

    fn identity(cluster: &str) -> Identity {
        Identity { cluster: cluster.into(), etcd_cluster_id: "ab".into(), replaces: vec![] }
    }
}
