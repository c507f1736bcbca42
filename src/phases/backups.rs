//! Snapshots on a schedule: our own program on every etcd host, and a timer that starts it. Every host has all of it, so
//! that any of them can do the work; which one does, they find out each time (`backup::choose::ranked`).
//!
//! It needs nothing that other phases bring, so it goes alone beside an etcd that kubeadm built.

use crate::{
    hash::sha256,
    inventory::{Backup, Node, Role},
    layout,
    manifests::{backup_config, backup_service, backup_timer, backup_timer_revision, is_elsewhere},
    plan::{
        Action, Mode, Planner, Refusal,
        action::{REVISION_MARK, UnitVerb},
    },
    secret::Secret,
};

/// The phase.
pub const PHASE: &str = "backups";

/// The timer's unit.
pub const TIMER: &str = "rsadm-backup.timer";

/// See the module.
///
/// # Errors
/// Where a reset would remove the snapshots; where a host is of another architecture than this rsadm, which could not run
/// there.
pub fn plan(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let cluster = p.cluster;
    let (nodes, others): (Vec<&Node>, Vec<&Node>) = cluster.nodes.iter().partition(|n| n.is(Role::Etcd));
    let Some(backup) = &cluster.etcd.backup else {
        p.stage(PHASE, "no schedule any more; what was taken stays", Mode::Parallel);
        nodes.into_iter().chain(others).for_each(|node| remove(p, node, "no longer in the inventory"));
        return Ok(());
    };
    if let Some(folder) = backup.removed_by_reset() {
        let subject = format!("scheduled snapshots would be kept in {}", backup.target);
        return Err(Refusal {
            subject,
            ..outlived(folder, "up --skip backups leaves the schedule as it is")
        });
    }
    p.stage(PHASE, "a timer on each etcd host", Mode::Parallel);
    for node in nodes {
        program(p, node)?;
        schedule(p, node, backup);
    }
    // They would fail for ever, and have the keys of the bucket.
    p.stage(PHASE, "no timer where no member is any more", Mode::Parallel);
    others.into_iter().for_each(|node| remove(p, node, "has the role etcd no more"));
    Ok(())
}

/// Why no reset and no schedule goes with snapshots in this folder; `or` is another way out than to keep them elsewhere.
pub(super) fn outlived(folder: &str, or: &str) -> Refusal {
    Refusal {
        rule: "backups-outlive-reset",
        subject: String::new(),
        why: format!(
            "a reset removes {folder} with all that is in it, and snapshots are there for afterwards"
        ),
        help: format!(
            "move the snapshots to {}, which it leaves, or elsewhere, and change etcd.backup.target; {or}",
            layout::BACKUP_DIR
        ),
    }
}

/// rsadm itself, by its hash: another version of it is another program.
fn program(p: &mut Planner<'_>, node: &Node) -> Result<(), Refusal> {
    let Some(agent) = &p.cluster.agent else { return Ok(()) };
    let arch = p.facts(&node.name).arch.clone();
    if !arch.is_empty() && arch != agent.arch {
        return Err(Refusal {
            rule: "agent-architecture",
            subject: format!("{} cannot run this rsadm", node.name),
            why: format!(
                "scheduled snapshots are taken by rsadm itself: it is for {}, the host is {arch}",
                agent.arch
            ),
            help: format!("run `up` with the rsadm for {arch}, or take etcd.backup out of the inventory"),
        });
    }
    let why = match p.facts(&node.name).programs.get(layout::AGENT_NAME) {
        None => "missing",
        Some(fact) if fact.url != format!("sha256:{}", agent.sha256) => "another version",
        Some(fact) if !fact.kept => "was changed on the host",
        Some(_) => {
            p.checked();
            return Ok(());
        }
    };
    p.push(&node.name, Action::PutAgent { sha256: agent.sha256.clone() }, why);
    Ok(())
}

fn schedule(p: &mut Planner<'_>, node: &Node, backup: &Backup) {
    let config =
        serde_json::to_string_pretty(&backup_config(p.cluster, node, backup)).unwrap_or_default() + "\n";
    folder(p, node, &backup.target);
    p.file(node, layout::BACKUP_CONFIG, 0o644, config);
    match p.cluster.backup_credentials.clone() {
        Some(secret) => credentials(p, node, secret),
        None => _ = p.no_file(node, layout::BACKUP_CREDENTIALS, "no longer used"),
    }
    p.file(node, layout::BACKUP_SERVICE, 0o644, backup_service(backup));
    p.file(node, layout::BACKUP_TIMER, 0o644, backup_timer(backup));
    let inputs = [layout::BACKUP_TIMER, layout::BACKUP_SERVICE].map(String::from);
    p.file_with_inputs(
        node,
        layout::BACKUP_TIMER_REVISION,
        0o644,
        backup_timer_revision(REVISION_MARK),
        &inputs,
    );
    p.unit(node, TIMER, &inputs);
}

/// A folder elsewhere than ours is made once, when the host first hears of it: whoever has a disk mounted there has it gone
/// while that is not mounted, and one that is made then would lie on another disk.
fn folder(p: &mut Planner<'_>, node: &Node, target: &str) {
    if is_elsewhere(target) && p.facts(&node.name).backup_target.as_deref() != Some(target) {
        p.push(&node.name, Action::SnapshotFolder { path: target.into() }, "new");
    }
}

fn credentials(p: &mut Planner<'_>, node: &Node, secret: Secret) {
    let wanted = sha256(secret.expose());
    let path = layout::BACKUP_CREDENTIALS;
    let why = match p.facts(&node.name).files.get(path) {
        None => "missing",
        Some(f) if f.sha256 != wanted => "differs",
        Some(f) if f.mode != 0o600 => "has another mode",
        Some(_) => return p.checked(),
    };
    p.push(&node.name, Action::PutSecret { path: path.into(), secret }, why);
}

fn remove(p: &mut Planner<'_>, node: &Node, why: &str) {
    let facts = p.facts(&node.name);
    if facts.units.get(TIMER).is_some_and(|u| u.active || u.enabled) {
        let disable = Action::Unit { unit: TIMER.into(), verb: UnitVerb::Disable, inputs: vec![] };
        p.push(&node.name, disable, why);
    }
    // With the folder that was made for it.
    if p.facts(&node.name).files.contains_key(layout::BACKUP_TIMER_REVISION) {
        let paths = vec![layout::BACKUP_TIMER_DIR.to_owned()];
        p.push(&node.name, Action::Remove { paths }, why);
    }
    let files =
        [layout::BACKUP_TIMER, layout::BACKUP_SERVICE, layout::BACKUP_CREDENTIALS, layout::BACKUP_CONFIG];
    for path in files {
        p.no_file(node, path, why);
    }
    if p.facts(&node.name).programs.contains_key(layout::AGENT_NAME) {
        let paths = [layout::AGENT, layout::AGENT_RECORD].map(String::from).into();
        p.push(&node.name, Action::Remove { paths }, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inventory::{Agent, Cluster, NodeName, load},
        observe::Observed,
        phases::{Aim, Phase, RESET, Table, plan as plan_table},
        plan::Plan,
    };

    const ALONE: &Table = &Table { aim: Aim::Build, phases: &[Phase { name: PHASE, about: "", plan }] };

    fn cluster(backup: &str) -> Cluster {
        let text = format!(
            "cluster_name: prod\nkubernetes_version: v1.37.2\nhosts:\n  - {{name: e1, address: 192.0.2.1, roles: [etcd]}}\n  \
             - {{name: w1, address: 192.0.2.2, roles: [control-plane]}}\netcd: {{backup: {backup}}}\n"
        );
        let mut cluster = load(&text, "inventory.yaml", None).unwrap().cluster;
        cluster.agent =
            Some(Agent { sha256: "ab".repeat(32), arch: "x86_64".into(), data: Secret::new("program") });
        cluster
    }

    fn planned(cluster: &Cluster, seen: Observed) -> (Plan, Observed) {
        plan_table(ALONE, cluster, seen, time::OffsetDateTime::UNIX_EPOCH, |_| true).unwrap()
    }

    fn steps(plan: &Plan) -> Vec<String> {
        let work = plan.stages.iter().flat_map(|s| &s.work);
        work.flat_map(|w| w.steps.iter().map(|s| format!("{}: {}", w.host, s.action))).collect()
    }

    #[test]
    fn set_up_once_changed_where_needed_and_taken_away() {
        let mut cluster = cluster("{interval: 6h, target: 's3://b/prod'}");
        cluster.backup_credentials = Some(Secret::new("AWS_ACCESS_KEY_ID=key-of-the-bucket"));
        let (plan, seen) = planned(&cluster, Observed::default());
        assert_eq!(
            steps(&plan),
            [
                "e1: install rsadm as /usr/local/libexec/rsadm-agent",
                "e1: write /etc/rsadm/backup.json",
                "e1: write /etc/rsadm/backup.credentials",
                "e1: write /etc/systemd/system/rsadm-backup.service",
                "e1: write /etc/systemd/system/rsadm-backup.timer",
                "e1: write /etc/systemd/system/rsadm-backup.timer.d/10-rsadm.conf",
                "e1: start rsadm-backup.timer",
            ]
        );
        let shown = serde_json::to_string(&plan).unwrap() + &format!("{plan:?}");
        assert!(!shown.contains("key-of-the-bucket"), "{shown}");
        let (again, seen) = planned(&cluster, seen);
        assert_eq!(steps(&again), Vec::<String>::new());
        let hourly = self::cluster("{interval: 1h, target: 's3://b/prod'}");
        let (changed, seen) = planned(&hourly, seen);
        assert!(
            steps(&changed).contains(&"e1: restart rsadm-backup.timer".to_owned()),
            "{:?}",
            steps(&changed)
        );
        assert!(steps(&changed).contains(&"e1: remove /etc/rsadm/backup.credentials".to_owned()));
        let (gone, seen) = planned(&self::cluster("null"), seen);
        assert_eq!(steps(&gone)[0], "e1: stop rsadm-backup.timer");
        assert_eq!(steps(&planned(&self::cluster("null"), seen).0), Vec::<String>::new());
    }

    /// Its timer would fail for ever, and the keys of the bucket lie there.
    #[test]
    fn a_host_that_gives_up_the_role_loses_its_schedule() {
        let mut cluster = cluster("{interval: 6h, target: 's3://b/prod'}");
        cluster.backup_credentials = Some(Secret::new("AWS_ACCESS_KEY_ID=key-of-the-bucket"));
        let (_, seen) = planned(&cluster, Observed::default());
        let roles = [Role::ControlPlane, Role::Etcd];
        for (node, role) in cluster.nodes.iter_mut().zip(roles) {
            node.roles = vec![role];
        }
        let (plan, seen) = planned(&cluster, seen);
        let of_e1: Vec<String> = steps(&plan).into_iter().filter(|s| s.starts_with("e1: ")).collect();
        assert_eq!(of_e1[0], "e1: stop rsadm-backup.timer");
        assert!(of_e1.contains(&"e1: remove /etc/rsadm/backup.credentials".to_owned()), "{of_e1:?}");
        assert_eq!(steps(&planned(&cluster, seen).0), Vec::<String>::new());
    }

    #[test]
    fn a_folder_elsewhere_is_made_when_a_host_first_hears_of_it_and_never_again() {
        let makes = |target: &str, interval: &str, seen: Observed| {
            let cluster = cluster(&format!("{{interval: {interval}, target: {target}}}"));
            let (plan, seen) = planned(&cluster, seen);
            let made = steps(&plan).into_iter().find(|step| step.contains("for snapshots"));
            (made.map(|step| step.replace(" for snapshots, where there is none", "")), seen)
        };
        let (made, seen) = makes("/mnt/nas/etcd", "6h", Observed::default());
        assert_eq!(made.as_deref(), Some("e1: make /mnt/nas/etcd"));
        let (made, seen) = makes("/mnt/nas/etcd", "1h", seen);
        assert_eq!(made, None, "it may be that nothing is mounted there now");
        let (made, seen) = makes("/var/lib/rsadm/backups", "1h", seen);
        assert_eq!(made, None);
        assert_eq!(makes("/mnt/nas/etcd", "1h", seen.clone()).0.as_deref(), Some("e1: make /mnt/nas/etcd"));
        assert_eq!(makes("'s3://b/prod'", "1h", seen).0, None);
    }

    #[test]
    fn neither_a_schedule_nor_a_reset_goes_with_snapshots_that_a_reset_removes() {
        let seen_of = |backup| planned(&cluster(backup), Observed::default()).1;
        let there = seen_of("{interval: 6h, target: /srv/backups}");
        let mut prepared = Observed::default();
        prepared.hosts.entry(NodeName::new("e1")).or_default().begun = Some("prod".into());
        for (backup, removed) in [
            ("{interval: 6h, target: /var/lib/etcd/b}", Some("/var/lib/etcd")),
            ("{interval: 6h, target: /var/lib/rsadm/backups}", None),
            ("null", None),
        ] {
            for (table, seen, refuses) in [
                (ALONE, Observed::default(), true),
                (ALONE, there.clone(), true),
                (RESET, prepared.clone(), true),
                // Nothing is taken down.
                (RESET, Observed::default(), false),
            ] {
                let now = time::OffsetDateTime::UNIX_EPOCH;
                let refusal = plan_table(table, &cluster(backup), seen, now, |_| true).err();
                let told = refusal.as_ref().map(|r| (r.rule, r.why.contains(removed.unwrap_or_default())));
                let expected = removed.filter(|_| refuses).map(|_| ("backups-outlive-reset", true));
                assert_eq!(told, expected, "{backup}: {refusal:?}");
            }
        }
    }

    #[test]
    fn another_architecture_is_refused() {
        let cluster = cluster("{interval: 6h, target: /srv/backups}");
        let mut seen = Observed::default();
        seen.hosts.entry(NodeName::new("e1")).or_default().arch = "aarch64".into();
        let refusal =
            plan_table(ALONE, &cluster, seen, time::OffsetDateTime::UNIX_EPOCH, |_| true).err().unwrap();
        assert_eq!(refusal.rule, "agent-architecture");
    }
}
