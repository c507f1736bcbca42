//! Whose containerd a host has. Ours put over another's would displace all that runs in it, and go with a reset; another's
//! cannot take the place of ours, which goes on running unseen. So who moves empties the host first.

use crate::{
    inventory::{Cluster, Node, RuntimeInstall},
    layout,
    observe::{Facts, Observed},
    plan::Refusal,
};

/// The rule that hosts keep the container runtime that they were built with.
const RULE: &str = "settled-runtime";

/// Whether those of the hosts that rsadm has prepared have the containerd that the inventory wants.
///
/// # Errors
/// Where one has another's and ours is wanted, or the other way round.
pub fn check<'n>(
    nodes: impl IntoIterator<Item = &'n Node>,
    cluster: &Cluster,
    seen: &Observed,
) -> Result<(), Refusal> {
    let wanted = cluster.runtime.install;
    let facts = |host| seen.hosts.get(host).filter(|facts| facts.begun.is_some());
    let hosts: Vec<&str> = nodes
        .into_iter()
        .filter(|node| facts(&node.name).and_then(installed).is_some_and(|has| has != wanted))
        .map(|node| node.name.as_str())
        .collect();
    if hosts.is_empty() {
        return Ok(());
    }
    let (has, set, says) = match wanted {
        RuntimeInstall::Upstream => ("a containerd of its own", "existing", "upstream"),
        RuntimeInstall::Existing => ("the containerd that rsadm installed", "upstream", "existing"),
    };
    let have = if hosts.len() == 1 { "has" } else { "have" };
    Err(Refusal {
        rule: RULE,
        subject: "container_runtime.install of hosts that are built cannot change".to_owned(),
        why: format!(
            "{} {have} {has}, and the inventory says {says}\nnothing was changed on any host",
            hosts.join(", ")
        ),
        help: format!(
            "set it back: container_runtime.install: {set}; a host that shall have another one is emptied first: `rsadm reset` with \
             an inventory of that host alone"
        ),
    })
}

/// By what is there; `None` where no containerd is.
fn installed(facts: &Facts) -> Option<RuntimeInstall> {
    if facts.has_our_containerd() {
        return Some(RuntimeInstall::Upstream);
    }
    let has_one = facts.containerd.is_some() || facts.files.contains_key(layout::CONTAINERD_REVISION);
    has_one.then_some(RuntimeInstall::Existing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifests::testing,
        observe::{FileFact, facts::ProgramFact},
    };

    #[test]
    fn hosts_keep_the_containerd_that_they_were_built_with() {
        let program = ProgramFact { url: "https://github.com/containerd".into(), kept: true };
        let drop_in = FileFact { mode: 0o644, owner: "root:root".into(), sha256: String::new() };
        let begun = Facts { begun: Some("prod".into()), ..Facts::default() };
        let theirs =
            Facts { files: [(layout::CONTAINERD_REVISION.to_owned(), drop_in)].into(), ..begun.clone() };
        let ours = Facts { programs: [("containerd".to_owned(), program)].into(), ..theirs.clone() };
        let foreign = Facts { begun: None, ..theirs.clone() };
        // Of a run that noted what is there and died, of one that died while it placed ours, and with lost records.
        let noted = Facts { containerd: Some("2.1.4".into()), ..begun.clone() };
        let placing = Facts { placing: ["containerd".to_owned()].into(), ..noted.clone() };
        let unrecorded = Facts { ours: [layout::CONTAINERD_UNIT.to_owned()].into(), ..theirs.clone() };
        let (upstream, existing) = (RuntimeInstall::Upstream, RuntimeInstall::Existing);
        let cases = [
            (upstream, &ours, None),
            (existing, &theirs, None),
            (upstream, &begun, None),
            (existing, &foreign, None),
            (upstream, &placing, None),
            (upstream, &unrecorded, None),
            (existing, &noted, None),
            (upstream, &noted, Some("m1 has a containerd of its own, and the inventory says upstream")),
            (upstream, &theirs, Some("m1 has a containerd of its own, and the inventory says upstream")),
            (
                existing,
                &ours,
                Some("m1 has the containerd that rsadm installed, and the inventory says existing"),
            ),
        ];
        for (wanted, facts, why) in cases {
            let mut cluster = testing::ha();
            cluster.runtime.install = wanted;
            let seen = Observed {
                hosts: [(cluster.nodes[0].name.clone(), facts.clone())].into(),
                ..Observed::default()
            };
            let refusal = check(&cluster.nodes, &cluster, &seen).err();
            assert_eq!(refusal.as_ref().and_then(|r| r.why.lines().next()), why, "{wanted:?}");
        }
    }
}
