//! Survivors with data of more than one etcd cluster, as where a host missed a restore that nobody recorded: their numbers do
//! not compare, since each cluster counts from a beginning of its own, and they are no quorum together.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Diagnosis, Survivor,
    choice::{Asked, no},
};
use crate::{etcd::status::list, plan::Refusal};

impl Diagnosis {
    /// That survivors are of several clusters, of none of which it is recorded that another took its place.
    pub(in crate::cli::etcd) fn of_several(&self) -> Option<String> {
        let mut hosts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for survivor in self.survivors.iter().filter(|s| s.old_cluster.is_none()) {
            if let Some(cluster) = survivor.cluster() {
                hosts.entry(cluster).or_default().push(&survivor.host);
            }
        }
        let told = |(cluster, hosts): (&&str, &Vec<&str>)| format!("{cluster} on {}", list(hosts));
        let told: Vec<String> = hosts.iter().map(told).collect();
        (hosts.len() > 1).then(|| {
            format!(
                "survivors have data of different etcd clusters ({}), as where one was restored or made anew while a host was \
                 away: their numbers do not compare, they are no quorum together, and nothing here tells which cluster took \
                 writes last",
                told.join("; ")
            )
        })
    }

    /// The same as a reason to choose nobody.
    pub(super) fn nobody_is_weighed(&self, asked: Asked<'_>) -> Option<Refusal> {
        let why = self.of_several().filter(|_| asked.from.is_none())?;
        let inventory = asked.inventory;
        let help = match asked.begun {
            Some(begun) => self.goes_on(asked, begun),
            None => format!(
                "rsadm etcd recover{inventory} --from HOST begins from the one that you know to be of the cluster that served \
                 last, and sets aside what the others have; rsadm etcd snapshot ls{inventory} may show of which cluster the \
                 newest snapshots are"
            ),
        };
        Some(no(why, help))
    }

    /// Whether a table needs a column for it.
    pub(super) fn shows_clusters(&self) -> bool {
        self.survivors.iter().filter_map(Survivor::cluster).collect::<BTreeSet<_>>().len() > 1
    }
}
