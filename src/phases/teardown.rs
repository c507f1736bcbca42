//! Hosts as they were before `up`.

use crate::{
    inventory::{Cluster, Node, Role},
    layout,
    observe::{Facts, Observed},
    phases::{backups::outlived, certs, ownership},
    pki::authorities::Ca,
    plan::{Action, Mode, Planner, Refusal, shared::Shared},
};

/// The name of the only phase.
pub const PHASE: &str = "reset";

/// Every host that rsadm has touched; the others are told.
///
/// # Errors
/// Where the snapshots of a host's schedule would go with it, or hosts are of two clusters. Whose hosts they are is asked before
/// every phase ([`super::ownership`]), by the cluster's name.
pub fn plan(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let cluster = p.cluster;
    of_one_cluster(p)?;
    p.stage(PHASE, "everything that rsadm put there", Mode::Parallel);
    for node in &cluster.nodes {
        let facts = p.facts(&node.name);
        if is_touched(facts) {
            keeps_snapshots(cluster, node)?;
            p.push(&node.name, Action::Wipe { cluster: cluster.name.clone() }, "");
        } else if p.seen().hosts.contains_key(&node.name) && (has_kubernetes(facts) || has_schedule(facts)) {
            let text = match has_kubernetes(facts) {
                true => "has Kubernetes files that rsadm did not put there; they were left alone",
                false => "has nothing of rsadm's but a schedule of snapshots, which was left alone",
            };
            let help = match has_schedule(facts) {
                true => {
                    "rsadm up --only backups, with no etcd.backup in the inventory, takes its schedule of snapshots away"
                }
                false => "kubeadm reset on the host, if they are of no use",
            };
            p.notice(PHASE, Some(&node.name), text, help);
        }
    }
    Ok(())
}

/// Clusters of one name differ in their authorities, and the name is all that the question asks for.
fn of_one_cluster(p: &Planner<'_>) -> Result<(), Refusal> {
    let mut touched = p.cluster.clone();
    touched.nodes.retain(|n| is_touched(p.facts(&n.name)));
    [Ca::Cluster, Ca::Etcd].into_iter().try_for_each(|ca| {
        let shared = Shared::Authority(ca);
        let Some(differs) = certs::differs(&touched, p.seen(), shared) else { return Ok(()) };
        let refusal = differs.refusal(shared);
        Err(Refusal {
            why: format!(
                "{}: those that have another one are of another cluster that is called {}, too, or of one that was here before; \
                 nothing was changed on any host",
                refusal.why, p.cluster.name
            ),
            // The many first would be refused where the few are members of the same etcd.
            help: format!(
                "take the hosts of the other one out of this inventory; where all are to be emptied: first `rsadm reset` with an \
                 inventory of {} alone, then with this one",
                differs.fewest()
            ),
            ..refusal
        })
    })
}

/// Snapshots are what is left of a cluster that is taken down.
fn keeps_snapshots(cluster: &Cluster, node: &Node) -> Result<(), Refusal> {
    let Some(backup) = cluster.etcd.backup.as_ref().filter(|_| node.is(Role::Etcd)) else { return Ok(()) };
    let Some(folder) = backup.removed_by_reset() else { return Ok(()) };
    let subject = format!("a reset of {} would remove the snapshots in {}", node.name, backup.target);
    Err(Refusal { subject, ..outlived(folder, "where they may go, take etcd.backup out of the inventory") })
}

/// True where anything is there that rsadm put there. Files alone do not tell: an existing containerd has some too. Nor
/// does a record or a program beside Kubernetes: a host that kubeadm built has one once rsadm has looked after its member. What
/// runs a schedule of snapshots is no such program: it may be all that rsadm has on a host, of which then nobody noted what else
/// was there.
fn is_touched(facts: &Facts) -> bool {
    let has_programs = facts.programs.keys().any(|name| name != layout::AGENT_NAME);
    let has_ours = facts.identity.is_some() || has_programs;
    ownership::is_prepared(facts) || has_ours && !has_kubernetes(facts)
}

fn has_schedule(facts: &Facts) -> bool {
    facts.programs.contains_key(layout::AGENT_NAME)
}

/// How many hosts keep a schedule of snapshots, since somebody else built them.
pub fn kept_schedules(seen: &Observed) -> usize {
    let keeps = |facts: &&Facts| has_schedule(facts) && !is_touched(facts);
    seen.hosts.values().filter(keeps).count()
}

fn has_kubernetes(facts: &Facts) -> bool {
    facts.etcd_data || facts.files.keys().any(|path| path.starts_with("/etc/kubernetes/"))
}
