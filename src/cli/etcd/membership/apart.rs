//! Members of another etcd cluster that serve it with a quorum, as where most missed a recovery that was begun without them:
//! what clients have written there since is in no other data.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    etcd::status::{EtcdReport, Trouble, list},
    inventory::NodeName,
};

/// Such members by the ID of their cluster, each by its host.
#[derive(Debug, Default)]
pub(super) struct Apart(BTreeMap<u64, Vec<NodeName>>);

impl Apart {
    pub(super) fn of(report: &EtcdReport) -> Self {
        let mut apart: BTreeMap<u64, Vec<NodeName>> = BTreeMap::new();
        for member in report.members.iter().filter(|m| m.reads) {
            if let (Some(Trouble::OtherCluster(id)), Some(host)) = (&member.error, &member.node) {
                apart.entry(*id).or_default().push(NodeName::new(host.as_str()));
            }
        }
        Self(apart)
    }

    /// What is asked before the etcd of these hosts stops and its data is set aside; `None` where none of them serves.
    pub(super) fn question(&self, cleared: &BTreeSet<&NodeName>, inventory: &str) -> Option<String> {
        let lines: Vec<String> = self
            .0
            .iter()
            .filter_map(|(id, hosts)| {
                let hosts: Vec<&str> =
                    hosts.iter().filter(|host| cleared.contains(host)).map(NodeName::as_str).collect();
                let first = hosts.first()?;
                let verb = if hosts.len() == 1 { "serves" } else { "serve" };
                Some(format!(
                    "{} {verb} another etcd cluster ({id:x}) with a quorum of its own: clients may have written to it until now, \
                     and what they wrote there is in no other data.\n\
                     This stops it and sets its data aside, which is not deleted. What it has can be kept first:\n  \
                     rsadm etcd snapshot save{inventory} --member {first}",
                    list(&hosts)
                ))
            })
            .collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::status::tests::Scene;

    /// Two of three had been cut off when a recovery began without them, and went on.
    #[test]
    fn a_cluster_that_serves_is_not_set_aside_without_a_question() {
        let mut scene = Scene::new(3);
        scene.known.old_clusters = vec![0xbad];
        for n in [2, 3] {
            scene.status(n).cluster_id = 0xbad;
        }
        let hosts = ["m1", "m2", "m3"].map(NodeName::new);
        let asked = |scene: &Scene, cleared: &[usize]| {
            let cleared = cleared.iter().map(|n| &hosts[n - 1]).collect();
            Apart::of(&scene.report()).question(&cleared, " prod.yaml")
        };
        let text = asked(&scene, &[1, 2, 3]).unwrap();
        assert!(text.starts_with("m2 and m3 serve another etcd cluster (bad) with a quorum"), "{text}");
        assert!(text.ends_with("rsadm etcd snapshot save prod.yaml --member m2"), "{text}");
        assert!(asked(&scene, &[3]).unwrap().starts_with("m3 serves another"));
        assert_eq!(asked(&scene, &[1]), None);
        for n in [2, 3] {
            scene.answer(n).quorum_list = Err("no answer within 2.0 s".into());
        }
        assert_eq!(asked(&scene, &[2, 3]), None, "it has no quorum");
    }
}
