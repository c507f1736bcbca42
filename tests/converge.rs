//! Convergence, for every goal, in a world in memory: what a plan predicts is what comes true, a second run plans
//! nothing, and a run that dies at any effect is healed by the next.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at what should not be; clippy only knows test functions, not their helpers"
)]

use std::collections::BTreeSet;

use rsadm::{
    fake::{State, World},
    inventory::{Cluster, NodeName},
    phases::UP,
};

use self::harness::{block_on, in_sync, observe, succeed};

#[path = "converge/addons.rs"]
mod addons;
#[path = "converge/adopted.rs"]
mod adopted;
#[path = "converge/certificates.rs"]
mod certificates;
#[path = "converge/changes.rs"]
mod changes;
#[path = "converge/clocks.rs"]
mod clocks;
#[path = "converge/doubt.rs"]
mod doubt;
#[path = "converge/exchange.rs"]
mod exchange;
#[path = "converge/faults.rs"]
mod faults;
#[path = "converge/founding.rs"]
mod founding;
#[path = "converge/guards.rs"]
mod guards;
#[path = "converge/harness.rs"]
mod harness;
#[path = "converge/members.rs"]
mod members;
#[path = "converge/moves.rs"]
mod moves;
#[path = "converge/namesakes.rs"]
mod namesakes;
#[path = "converge/observed.rs"]
mod observed;
#[path = "converge/patience.rs"]
mod patience;
#[path = "converge/prediction.rs"]
mod prediction;
#[path = "converge/prolonged.rs"]
mod prolonged;
#[path = "converge/renewal.rs"]
mod renewal;
#[path = "converge/reset.rs"]
mod reset;
#[path = "converge/restore.rs"]
mod restore;
#[path = "converge/rollback.rs"]
mod rollback;
#[path = "converge/settled.rs"]
mod settled;
#[path = "converge/situations.rs"]
mod situations;
#[path = "converge/upgrade.rs"]
mod upgrade;

#[test]
fn up_does_what_it_predicts_and_then_rests() {
    for (name, cluster) in harness::topologies() {
        block_on(async {
            let world = World::new(State::new(&cluster));
            let run = succeed(&world, &cluster, UP).await;
            world.inner().state.settle();
            let seen = observe(&world, &cluster).await;
            assert_eq!(prediction::differences(&run.predicted, &seen), Vec::<String>::new(), "{name}");
            in_sync(&world, &cluster, UP).await;
            assert_eq!(world.state().violations, Vec::<String>::new(), "{name}");
        });
    }
}

#[test]
fn a_killed_up_heals_ha() {
    let cluster = harness::ha();
    let undisturbed = faults::undisturbed(&cluster, State::new(&cluster), UP);
    faults::heals_from_every_kill("ha", &cluster, &undisturbed, UP);
}

#[test]
fn a_killed_up_heals_single() {
    let cluster = harness::single();
    let undisturbed = faults::undisturbed(&cluster, State::new(&cluster), UP);
    faults::heals_from_every_kill("single", &cluster, &undisturbed, UP);
}

#[test]
fn a_killed_up_heals_external_etcd() {
    let cluster = harness::external_etcd();
    let undisturbed = faults::undisturbed(&cluster, State::new(&cluster), UP);
    faults::heals_from_every_kill("external-etcd", &cluster, &undisturbed, UP);
}

#[test]
fn a_killed_up_heals_etcd_only() {
    let cluster = harness::etcd_only();
    let undisturbed = faults::undisturbed(&cluster, State::new(&cluster), UP);
    faults::heals_from_every_kill("etcd-only", &cluster, &undisturbed, UP);
    faults::heals_from_lost_connections("etcd-only", &cluster, &undisturbed, UP, 1);
}

#[test]
fn a_changed_inventory_changes_only_what_it_needs() {
    let before = harness::ha();
    let built = block_on(harness::built(&before)).state();
    let wrong: Vec<String> =
        changes::CHANGES.iter().flat_map(|change| changed(&before, &built, change)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn changed(before: &Cluster, built: &State, change: &changes::Change) -> Vec<String> {
    let (cluster, start) = change.apply(before, built);
    block_on(async {
        let world = World::new(start);
        let run = match harness::try_to(&world, &cluster, UP).await {
            Ok(run) => run,
            Err(why) => return vec![format!("{}: {why}", change.name)],
        };
        let mut wrong = Vec::new();
        let phases: BTreeSet<&str> = run.plan.stages.iter().map(|s| s.phase).collect();
        if phases != change.phases.iter().copied().collect() {
            wrong.push(format!("{}: work in {phases:?}:\n{}", change.name, harness::words(&run.plan)));
        }
        world.inner().state.settle();
        let differences = prediction::differences(&run.predicted, &observe(&world, &cluster).await);
        wrong.extend(differences.into_iter().map(|d| format!("{}: {d}", change.name)));
        let left = harness::plan(&world, &cluster, UP).await;
        if !left.is_empty() {
            wrong.push(format!("{}: planned again:\n{}", change.name, harness::words(&left)));
        }
        wrong.extend(world.state().violations.iter().map(|v| format!("{}: {v}", change.name)));
        wrong
    })
}

#[test]
fn labels_and_taints_restart_nobody() {
    let before = harness::ha();
    let built = block_on(harness::built(&before)).state();
    for change in changes::CHANGES.iter().filter(|c| c.name.contains("label") || c.name.contains("taint")) {
        let (cluster, start) = change.apply(&before, &built);
        let world = World::new(start.clone());
        block_on(succeed(&world, &cluster, UP));
        let state = world.state();
        for (name, machine) in &start.machines {
            let processes = |m: &rsadm::fake::Machine| {
                m.processes().map(|(n, p)| (n.to_owned(), p.since)).collect::<Vec<_>>()
            };
            assert_eq!(processes(machine), processes(&state.machines[name]), "{}: {name}", change.name);
        }
        let text = |path| state.machines[&NodeName::new("w1")].files.text(path).unwrap();
        let unit = text(rsadm::layout::KUBELET_UNIT);
        assert_eq!(
            unit.contains("zone=a"),
            change.name == "a label",
            "for a node that registers anew: {unit}"
        );
    }
}

#[test]
fn the_membership_of_etcd_follows_the_inventory() {
    let wrong: Vec<String> = membership_changes()
        .into_iter()
        .flat_map(|(before, built, changes)| {
            changes.iter().flat_map(|change| changed(&before, &built, change)).collect::<Vec<_>>()
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_killed_change_of_membership_heals() {
    for (before, built, changes) in membership_changes() {
        for change in changes {
            let (cluster, start) = change.apply(&before, &built);
            let undisturbed = faults::undisturbed(&cluster, start, UP);
            faults::heals_from_every_kill(change.name, &cluster, &undisturbed, UP);
        }
    }
}

/// etcd did what it was asked, and the answer never came (kubeadm#3317): the run goes on by what the member list says.
#[test]
fn row_35_a_lost_answer_to_a_change_of_membership_is_seen_as_done() {
    for (before, built, changes) in membership_changes() {
        for change in changes {
            let (cluster, start) = change.apply(&before, &built);
            let undisturbed = faults::undisturbed(&cluster, start, UP);
            let answers = faults::goes_on_without_an_answer(change.name, &cluster, &undisturbed, UP);
            assert!(answers > 0, "{}: no call changed the membership", change.name);
        }
    }
}

fn membership_changes() -> [(Cluster, State, &'static [changes::Change]); 2] {
    [(harness::etcd_only(), changes::MEMBERSHIP), (harness::ha(), changes::STACKED_MEMBERSHIP)].map(
        |(before, changes)| {
            let built = block_on(harness::built(&before)).state();
            (before, built, changes)
        },
    )
}

#[test]
fn a_killed_change_heals() {
    let before = harness::ha();
    let built = block_on(harness::built(&before)).state();
    for change in changes::CHANGES {
        let (cluster, start) = change.apply(&before, &built);
        let undisturbed = faults::undisturbed(&cluster, start, UP);
        faults::heals_from_every_kill(change.name, &cluster, &undisturbed, UP);
    }
}

#[test]
fn lost_connections_heal() {
    let cluster = harness::ha();
    let undisturbed = faults::undisturbed(&cluster, State::new(&cluster), UP);
    faults::heals_from_lost_connections("ha", &cluster, &undisturbed, UP, 13);
}

#[test]
fn no_secret_is_shown() {
    for (name, cluster) in harness::topologies() {
        block_on(async {
            let world = World::new(State::new(&cluster));
            world.transcribe();
            let run = succeed(&world, &cluster, UP).await;
            let inner = world.inner();
            let shown = [
                ("an operation", inner.transcript.clone().unwrap_or_default().join("\n")),
                ("an effect", inner.state.log.join("\n")),
                ("an event", format!("{:?}", run.events)),
                ("an event's JSON", serde_json::to_string(&run.events).unwrap()),
                ("the plan", harness::words(&run.plan)),
                ("the plan's Debug", format!("{:?}", run.plan)),
                ("the plan's JSON", serde_json::to_string(&run.plan).unwrap()),
            ];
            assert!(inner.secrets.len() > 3 && !shown[0].1.is_empty(), "{name}: nothing to look for");
            for (what, text) in &shown {
                assert_eq!(inner.secrets.in_text(text), None, "{name}: {what} shows a secret");
                assert!(!text.contains("PRIVATE KEY"), "{name}: {what} shows a private key");
            }
        });
    }
}

/// Batches of one shell are one execution on a real host (`host::ssh::Traffic`); here each batch counts.
#[test]
fn a_host_is_asked_seldom() {
    for (name, cluster) in harness::topologies() {
        block_on(async {
            let world = World::new(State::new(&cluster));
            succeed(&world, &cluster, UP).await;
            let first = std::mem::take(&mut world.inner().traffic);
            let most = first.values().map(|t| t.batches).max().unwrap();
            in_sync(&world, &cluster, UP).await;
            for (host, traffic) in &world.inner().traffic {
                assert_eq!(traffic.batches, 1, "{name}: {host} in a run with nothing to do");
                assert!(
                    traffic.bytes < 8192,
                    "{name}: {host} was sent {} bytes with nothing to do",
                    traffic.bytes
                );
            }
            // All travel in one execution (scenario `stacked`); each is a round trip.
            assert!(most <= 16, "{name}: {most} batches for one host in a first run");
        });
    }
}
