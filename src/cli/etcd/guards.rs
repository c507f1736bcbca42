//! What has to be so before etcd's old data makes room for other data: nobody is left who would go on with it.

pub(super) mod led;
mod strangers;

use std::sync::PoisonError;

use super::recovery::{Ground, UnderWay};
use crate::{
    cli::{CliError, Exit},
    etcd::status::{EtcdReport, MemberReport, Verdict},
    exec::{
        ask,
        restore::{Running, who_runs},
    },
    host::HostError,
    inventory::{Cluster, Node, NodeName, Role},
    layout,
    observe::{Facts, Observed},
    phases::{certs, ownership::may_build, settled},
    plan::{Refusal, quorum::Membership},
};

impl Ground<'_> {
    /// An API server that cannot be stopped would go on writing, and a member that cannot be stopped goes on serving
    /// the old data.
    pub(super) fn everybody_is_there(&self) -> Result<(), CliError> {
        let matters = |host: &NodeName| {
            self.session.cluster.node(host).is_some_and(|n| n.is(Role::Etcd) || n.is(Role::ControlPlane))
        };
        let missing: Vec<&HostError> = self.silent.iter().filter(|e| matters(e.host())).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = missing.iter().map(|e| e.host().as_str()).collect();
        let why: Vec<String> = missing.iter().map(|e| format!("{}: {}", e.host(), e.brief())).collect();
        Err(Refusal {
            rule: "everybody-fenced",
            subject: format!("etcd cannot be restored without {}", names.join(", ")),
            why: format!("{}; it would go on with the old data", why.join("; ")),
            help: "switch it off for good and take it out of the inventory, or make it reachable".into(),
        }
        .into())
    }

    /// A snapshot of another cluster would take the place of this one's objects, whose secrets and nodes it does not know.
    pub(super) fn is_its_own(&self, snapshot: Option<&str>) -> Result<(), CliError> {
        let own = &self.session.cluster.name;
        match snapshot.filter(|cluster| cluster != own) {
            None => Ok(()),
            Some(other) => Err(Refusal {
                rule: "own-snapshot",
                subject: format!("the snapshot is of the cluster {other}"),
                why: format!("the inventory's is {own}, and with it all its data would become that of {other}"),
                help: format!(
                    "choose a snapshot of {own} (rsadm etcd snapshot ls{}); other hosts that shall become {other} take \
                     an inventory with cluster_name: {other}",
                    self.inventory
                ),
            }
            .into()),
        }
    }

    /// There is something to recover from.
    pub(super) fn has_no_quorum(
        &self,
        report: &EtcdReport,
        under_way: Option<&UnderWay>,
    ) -> Result<(), CliError> {
        let inventory = &self.inventory;
        let (text, help) = match (report.verdict, under_way) {
            (Verdict::NoQuorum, _) if Membership::from(report).denied => (
                "etcd's auth keeps from rsadm's client certificate how its members are".to_owned(),
                format!("as etcd's root, give its user the role root: {}", layout::ETCD_CLIENT_GRANT),
            ),
            (Verdict::NoQuorum, _) if Membership::from(report).is_led() => (
                "etcd answers too slowly to tell: a quorum of its members follows one leader".to_owned(),
                format!(
                    "look at the load of the hosts and at their disks (rsadm etcd status{inventory}), then run this again"
                ),
            ),
            (Verdict::NoQuorum, _) => return Ok(()),
            (_, None) => (
                "etcd has a quorum: there is nothing to recover from".to_owned(),
                heals_one(report, inventory),
            ),
            (_, Some(UnderWay { survivor, .. })) => (
                format!(
                    "etcd has a quorum again: what it took since would be lost by the recovery from {survivor} that has begun"
                ),
                format!(
                    "rsadm etcd restore{inventory} --rollback ends that, and starts the members that it stopped"
                ),
            ),
        };
        Err(CliError::new(Exit::Refused, text).hint(help))
    }

    /// And nobody hears a quorum that is not seen from here.
    pub(super) fn nobody_is_led(&self, report: &EtcdReport) -> Result<(), CliError> {
        Ok(led::nobody_is(report)?)
    }

    /// Hosts that a recovery was begun without have the old cluster's data, and may have served with it since.
    pub(super) async fn nobody_is_back(&self, begun: &UnderWay) -> Result<(), CliError> {
        let members = self.session.members();
        let restore = self.restore_to(&members, self.etcd_hosts());
        let said = restore.diagnose().await.map_err(|e| self.failed(e))?;
        let has_data = |said: &str| said.lines().any(|line| line == "data");
        let back = said.iter().filter(|(host, said)| !begun.hosts.contains(host) && has_data(said));
        let names: Vec<&str> = back.map(|(host, _)| host.as_str()).collect();
        if names.is_empty() {
            return Ok(());
        }
        let (names, (has, it)) =
            (names.join(", "), if names.len() == 1 { ("has", "it") } else { ("have", "them") });
        Err(Refusal {
            rule: "old-members-back",
            subject: format!("the recovery from {} does not go on beside {names}", begun.survivor),
            why: format!(
                "{names} did not answer when it began, and {has} data of the old cluster, which may have been written to \
                 since; nothing was stopped or changed"
            ),
            help: format!(
                "rsadm etcd restore{} --rollback puts the old data back everywhere, and the old members serve again; or \
                 switch {it} off to go on without what only {names} {has}",
                self.inventory
            ),
        }
        .into())
    }

    /// A member at a host that the inventory does not have for etcd is fenced by nobody, and neither is one on a host that
    /// cannot be logged in to.
    pub(super) async fn nobody_else_serves(&self) -> Result<(), CliError> {
        let members = self.session.members();
        let report = ask::report(&members).await;
        strangers::runs_none(&report, &self.session.cluster, &self.inventory)?;
        *self.strangers.lock().unwrap_or_else(PoisonError::into_inner) = strangers::all(&report);
        Ok(runs_out_of_reach(&who_runs(&members, &self.absent()).await)?)
    }

    /// Members that are signed by different authorities do not come to terms; an API server that is not stopped, since its host
    /// is no control plane of the inventory, goes on writing, and a member goes on with the old data.
    pub(super) fn can_serve_together(&self, seen: &Observed) -> Result<(), CliError> {
        let cluster = &self.session.cluster;
        certs::agree(cluster, seen)?;
        strangers::none_is_built(cluster, seen)?;
        Ok(serves_as_nothing_else(cluster, seen)?)
    }

    /// A host that has no manifest of etcd gets one as `up` gives it, and `up` builds nothing beside hosts that somebody else
    /// built. Told before anything makes room; of a restore under way manifests wait elsewhere, and this was asked before.
    pub(super) async fn can_be_started(&self, seen: &Observed) -> Result<(), CliError> {
        let targets = self.etcd_hosts();
        // What lacks is built as `up` builds it, after all else was done.
        if targets.iter().any(|host| lacks_manifest(seen, host)) {
            settled::version(&self.session.cluster, seen)?;
        }
        if self.standing().await?.under_way.is_some() {
            return Ok(());
        }
        looks_where_data_is_put(seen, &targets)?;
        Ok(gets_its_manifest(&self.session.cluster, seen.clone(), &targets)?)
    }

    /// New data is made with etcd's programs out of the image that a host has: a recovery brings none along, and what a restore
    /// brings to bare hosts it leaves alone where somebody else's kubelet runs. Told before anything makes room.
    pub(super) fn can_take_data(&self, seen: &Observed) -> Result<(), CliError> {
        Ok(has_programs(seen, &self.etcd_hosts())?)
    }

    /// etcd hosts that cannot be logged in to.
    pub(super) fn silent_etcd_hosts(&self) -> Vec<&Node> {
        let nodes = self.silent.iter().filter_map(|e| self.session.cluster.node(e.host()));
        nodes.filter(|n| n.is(Role::Etcd)).collect()
    }

    /// API servers that are not stopped meanwhile, and not told to look anew.
    pub(super) fn control_planes_elsewhere(&self) -> Option<String> {
        let nodes = self.silent.iter().filter_map(|e| self.session.cluster.node(e.host()));
        let names: Vec<&str> = nodes.filter(|n| n.is(Role::ControlPlane)).map(|n| n.name.as_str()).collect();
        (!names.is_empty()).then(|| {
            format!(
                "The API server of {} cannot be stopped meanwhile: restart the kubelet there once it can be reached, so \
                 that all who watched look anew.",
                names.join(", ")
            )
        })
    }

    /// Members that do not answer still have the old cluster, and would go on with it.
    pub(super) fn old_cluster_elsewhere(&self) -> Option<String> {
        let names: Vec<&str> = self.silent_etcd_hosts().iter().map(|n| n.name.as_str()).collect();
        (!names.is_empty()).then(|| {
            format!(
                "{} {} not answer and {} the old data. Keep {} switched off, or cut off from the others, until the \
                 folder {} there was moved away: else the old cluster comes back beside the new one.",
                names.join(", "),
                if names.len() == 1 { "does" } else { "do" },
                if names.len() == 1 { "has" } else { "have" },
                if names.len() == 1 { "it" } else { "them" },
                layout::ETCD_DATA_DIR
            )
        })
    }
}

/// What to do where a member is ill and the others go on without it: by its name where it is the only one.
fn heals_one(report: &EtcdReport, inventory: &str) -> String {
    let is_ill = |m: &&MemberReport| !m.healthy && m.id.is_some() && m.in_inventory && !m.name.is_empty();
    let ill: Vec<&str> = report.members.iter().filter(is_ill).map(|m| m.name.as_str()).collect();
    let heals = match ill.as_slice() {
        [] => "HOST heals a single one".to_owned(),
        [one] => format!("{one} heals {one}"),
        several => format!("HOST heals a single one of {}", several.join(", ")),
    };
    format!("rsadm etcd status{inventory} shows every member; rsadm etcd replace{inventory} {heals}")
}

/// Members that answer others while nobody can log in to their hosts would go on with the old data, and may even serve. Where it is
/// not known whether they run, it is not known that they do not.
fn runs_out_of_reach(running: &[Running]) -> Result<(), Refusal> {
    if running.is_empty() {
        return Ok(());
    }
    let (unknown, known): (Vec<&Running>, Vec<&Running>) = running.iter().partition(|r| r.unknown.is_some());
    let list = |running: &[&Running]| running.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", ");
    if known.is_empty() {
        let names = list(&unknown);
        let why = unknown.iter().filter_map(|r| Some(format!("{}: {}", r.name, r.unknown.as_ref()?)));
        let why: Vec<String> = why.collect();
        return Err(Refusal {
            rule: "everybody-fenced",
            subject: format!("etcd cannot be made anew while it is not known whether {names} may run"),
            why: format!(
                "nobody can log in there, and what the other hosts were told when they dialled is no proof that etcd is off: {}; \
                 where it runs it goes on with the old data, and may have a quorum; nothing was stopped or changed",
                why.join("; ")
            ),
            help: format!(
                "mend what is said (for certificates: rsadm certs renew, or kubeadm certs renew all where kubeadm built), or make \
                 {names} reachable over SSH, then run this again"
            ),
        });
    }
    let names = list(&known);
    let its = if known.len() == 1 { "its host" } else { "their hosts" };
    Err(Refusal {
        rule: "everybody-fenced",
        subject: format!("etcd cannot be made anew beside {names}"),
        why: format!(
            "etcd runs there and answers the other hosts, and {its} cannot be logged in to: it would go on with the old \
             data beside the new; nothing was stopped or changed"
        ),
        help: format!("make {names} reachable over SSH, then look again; or switch it off for good"),
    })
}

/// Whether every API server that runs is a control plane's, which a restore stops.
fn serves_as_nothing_else(cluster: &Cluster, seen: &Observed) -> Result<(), Refusal> {
    let runs = |n: &&Node| seen.hosts.get(&n.name).is_some_and(|f| f.runs("kube-apiserver"));
    let others: Vec<&str> = cluster
        .nodes
        .iter()
        .filter(|n| !n.is(Role::ControlPlane))
        .filter(runs)
        .map(|n| n.name.as_str())
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    let names = others.join(", ");
    Err(Refusal {
        rule: "everybody-fenced",
        subject: format!("etcd cannot be made anew beside the API server of {names}"),
        why: format!(
            "one runs there, and {names} has not the role control-plane in the inventory: nobody would stop it, and it would \
             go on writing"
        ),
        help: format!(
            "give {names} the role control-plane for now, then run this again; nothing was stopped or changed"
        ),
    })
}

/// Whether the etcd of each of the hosts would find data that is put where rsadm puts it. kubeadm's `etcd.local.dataDir` can
/// name another folder: it would go on with the old data, and all would seem well.
fn looks_where_data_is_put(seen: &Observed, targets: &[NodeName]) -> Result<(), Refusal> {
    let elsewhere =
        targets.iter().find_map(|host| Some((host, seen.hosts.get(host)?.etcd_elsewhere.as_ref()?)));
    let Some((host, folder)) = elsewhere else { return Ok(()) };
    Err(Refusal {
        rule: "other-folder",
        subject: format!(
            "etcd on {host} has its data or log at {folder}, and rsadm puts data at {}",
            layout::ETCD_DATA_DIR
        ),
        why: "it would start again with what it has".to_owned(),
        help: format!(
            "replace the members one after the other, `rsadm etcd replace` (new ones have {}), as long as they have a \
             quorum; else restore by hand: etcdutl snapshot restore --data-dir {folder}",
            layout::ETCD_DATA_DIR
        ),
    })
}

/// True where a host has no manifest of etcd for its kubelet to start.
pub(super) fn lacks_manifest(seen: &Observed, host: &NodeName) -> bool {
    seen.hosts.get(host).is_none_or(|facts| facts.etcd_manifest.is_none())
}

/// Whether each of the hosts that shall run etcd has its manifest, or can be given one.
fn gets_its_manifest(cluster: &Cluster, mut seen: Observed, targets: &[NodeName]) -> Result<(), Refusal> {
    let lacks = |host: &&NodeName| lacks_manifest(&seen, host);
    let lacking: Vec<&str> = targets.iter().filter(lacks).map(NodeName::as_str).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let names = lacking.join(", ");
    // Old data there makes room, whosever it is; elsewhere it stays, and says whose a host is.
    let make_room = |(host, facts): (&NodeName, &mut Facts)| facts.etcd_data &= !targets.contains(host);
    seen.hosts.iter_mut().for_each(make_room);
    may_build(cluster, &seen, false).map_err(|refusal| Refusal {
        subject: format!("etcd cannot be made anew with {names}"),
        why: format!(
            "there is no {} there, and rsadm writes one only where it built all hosts: {}",
            layout::ETCD_MANIFEST,
            refusal.why
        ),
        help: format!(
            "put that file back there; or take the role etcd of {names} out of the inventory meanwhile, and let it join \
             afterwards: rsadm etcd add {}",
            lacking.join(" ")
        ),
        ..refusal
    })?;
    // Of any host, as `up` asks it where it builds.
    settled::nodes::roles(cluster, &seen)
}

/// Whether each of the hosts that shall get data has an image of etcd. One that was too busy to tell is asked again when it needs it.
fn has_programs(seen: &Observed, targets: &[NodeName]) -> Result<(), Refusal> {
    let is_etcds = |image: &String| image.contains("/etcd:");
    let has = |f: &Facts| f.images_untold || f.images.iter().any(is_etcds);
    let lacks = |host: &&NodeName| !seen.hosts.get(*host).is_some_and(has);
    let lacking: Vec<&str> = targets.iter().filter(lacks).map(NodeName::as_str).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let names = lacking.join(", ");
    Err(Refusal {
        rule: "etcd-image",
        subject: format!("{names} cannot take etcd's data"),
        why: "containerd does not run there, or has no image of etcd, which has the programs for it".into(),
        help: format!(
            "start containerd there; where the host is bare, take the role etcd of {names} out of the inventory, and let it \
             join once the recovery is over: rsadm etcd add {}",
            lacking.join(" ")
        ),
    })
}

#[cfg(test)]
mod tests;
