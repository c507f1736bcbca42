//! What a changed membership came to, and what is to be done about the inventory.

use super::Wish;
use crate::{
    etcd::status::EtcdReport,
    event::{Next, count},
    inventory::{Cluster, Node, Role},
};

/// How etcd is now, by what its members say: who has a vote and is not well can be lost by nobody a second time.
pub(super) fn came_to(report: &EtcdReport) -> String {
    let q = &report.quorum;
    if report.view.is_none() {
        return "the membership was changed; no member answers that could tell how etcd is now".to_owned();
    }
    let mut text = format!("etcd has {}", count(q.voters, "voting member"));
    if q.healthy < q.voters {
        text.push_str(&format!(", {} of them healthy", q.healthy));
    }
    text.push_str(&match (report.serves, q.can_lose) {
        (false, _) => "; it serves no writes".to_owned(),
        (true, 0) => ", can lose none".to_owned(),
        (true, n) => format!(", can lose {n}"),
    });
    text
}

/// What the inventory has to say from now on, so that `up` wants the same.
pub(super) fn next(inventory: &Cluster, target: &Cluster, wish: &Wish) -> Vec<Next> {
    let differs = |role: fn(&Node, &Node) -> bool| -> Vec<String> {
        let pairs = inventory.nodes.iter().zip(&target.nodes);
        pairs.filter(|(a, b)| role(a, b)).map(|(a, _)| a.name.to_string()).collect()
    };
    // Whoever has the role, is no member and was not named is still to join.
    let (gone, waiting): (Vec<_>, Vec<_>) = differs(|a, b| a.is(Role::Etcd) && !b.is(Role::Etcd))
        .into_iter()
        .partition(|host| wish.leave.iter().any(|left| left.as_str() == host));
    let come = differs(|a, b| !a.is(Role::Etcd) && b.is(Role::Etcd));
    let typed = &wish.inventory;
    let mut next = Vec::new();
    if !gone.is_empty() {
        let why = format!(
            "after taking the role etcd off {} in the inventory: else up adds it again",
            gone.join(", ")
        );
        next.push(Next::new(format!("rsadm plan{typed}"), why));
    }
    if !come.is_empty() {
        let why = format!(
            "after giving {} the role etcd in the inventory: else up removes it again",
            come.join(", ")
        );
        next.push(Next::new(format!("rsadm plan{typed}"), why));
    }
    for host in waiting {
        let why = format!("{host} has the role etcd in the inventory, and is no member yet");
        next.push(Next::new(format!("rsadm etcd add{typed} {host}"), why));
    }
    next.push(Next::new(format!("rsadm etcd status{typed}"), "shows every member"));
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::GateArgs, etcd::status::tests::Scene, inventory::NodeName, manifests::testing};

    #[test]
    fn what_can_be_lost_is_counted_by_who_is_well() {
        let silent = |scene: Scene, n| scene.silence(n, "no answer");
        for (scene, text) in [
            (Scene::new(3), "etcd has 3 voting members, can lose 1"),
            (Scene::new(1), "etcd has 1 voting member, can lose none"),
            (silent(Scene::new(4), 4), "etcd has 4 voting members, 3 of them healthy, can lose none"),
            (silent(Scene::new(5), 5), "etcd has 5 voting members, 4 of them healthy, can lose 1"),
            (
                silent(Scene::new(3).without_quorum(), 3),
                "etcd has 3 voting members, 0 of them healthy; it serves no writes",
            ),
            (
                (1..=3).fold(Scene::new(3).without_quorum(), silent),
                "the membership was changed; no member answers that could tell how etcd is now",
            ),
        ] {
            assert_eq!(came_to(&scene.report()), text);
        }
    }

    #[test]
    fn what_is_next_tells_those_that_left_from_those_that_are_still_to_join() {
        let inventory = testing::ha();
        let mut target = inventory.clone();
        target.nodes.iter_mut().filter(|n| n.name.as_str() != "m1").for_each(|n| {
            n.roles.retain(|role| *role != Role::Etcd);
        });
        for typed in ["", " prod.yaml", " 'my clusters/prod'", " -"] {
            let wish = Wish {
                command: format!("etcd remove{typed} m2"),
                inventory: typed.to_owned(),
                join: vec![],
                leave: vec![NodeName::new("m2")],
                gate: GateArgs::default(),
            };
            let said: Vec<String> = next(&inventory, &target, &wish).into_iter().map(|n| n.command).collect();
            let expected = ["plan", "etcd add", "etcd status"].map(|c| format!("rsadm {c}{typed}"));
            let [plan, add, status] = expected;
            assert_eq!(said, [plan, format!("{add} m3"), status]);
        }
    }
}
