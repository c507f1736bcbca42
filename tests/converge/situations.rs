//! What a run finds that nobody planned: lost disks, lost power, other people's files.

use std::collections::BTreeMap;

use rsadm::{
    fake::{State, World},
    inventory::{Cluster, NetworkPlugin, Node, NodeName, Role},
    layout,
    observe::{NodeFact, Observed},
    phases::{self, UP},
    pki::authorities::Ca,
    plan::Action,
};
use time::OffsetDateTime;

use crate::{
    faults,
    harness::{self, block_on, in_sync, run, succeed},
};

/// `up` says no, for this rule's reason, and has changed nothing.
fn refused(cluster: &Cluster, start: State, words: &str) {
    let world = World::new(start);
    match block_on(run(&world, cluster, UP)) {
        Ok(run) => panic!("not refused, although {words}; planned:\n{}", harness::words(&run.plan)),
        Err(why) => assert!(why.contains(words), "{why}"),
    }
    assert_eq!(world.effects(), 0, "changed something before it said: {words}");
}

/// Files and processes are as wanted, and its peers may not hear it: nothing that `up` does would help.
#[test]
fn a_member_that_knows_no_leader_is_told_where_nothing_is_to_do() {
    let cluster = harness::ha();
    let mut seen = block_on(harness::observe(&World::new(harness::standing(&cluster)), &cluster));
    let m2 = NodeName::new("m2");
    seen.hosts.get_mut(&m2).unwrap().etcd_leaderless = true;
    let (plan, _) = phases::plan(UP, &cluster, seen, OffsetDateTime::now_utc(), |_| true).unwrap();
    assert!(plan.is_empty(), "{}", harness::words(&plan));
    let told: Vec<_> = plan.notices.iter().filter(|n| n.text.contains("knows no leader")).collect();
    assert_eq!(told.iter().map(|n| n.host.as_ref()).collect::<Vec<_>>(), [Some(&m2)]);
}

/// The same host under another name is not to be emptied for the sake of the old one; and where nobody tells what there is,
/// nothing of it is known to be missing.
#[test]
fn nodes_that_nobody_named_and_answers_that_did_not_come_are_told() {
    let cluster = harness::ha();
    let seen = block_on(harness::observe(&World::new(harness::standing(&cluster)), &cluster));
    let w1 = cluster.node(&NodeName::new("w1")).unwrap().internal_address;
    let help = |seen: &Observed, text: &str| {
        let planned = phases::plan(UP, &cluster, seen.clone(), OffsetDateTime::now_utc(), |_| true);
        let (plan, _) = planned.unwrap();
        plan.notices.into_iter().find(|n| n.text.contains(text)).map(|n| n.help).unwrap_or_default()
    };
    for (address, labels, words) in [
        (Some(w1), vec![], "it is w1 now"),
        (None, vec![layout::NODE_LABEL], "`rsadm reset` with an inventory of that host"),
        (None, vec![], "`kubeadm reset` there"),
    ] {
        let mut seen = seen.clone();
        let labels = labels.into_iter().map(|label| (label.to_owned(), String::new())).collect();
        let node = NodeFact { address, labels, ..NodeFact::default() };
        seen.nodes.as_mut().unwrap().insert(NodeName::new("old"), node);
        let help = help(&seen, "is a node of the cluster and not in the inventory");
        assert!(help.contains(words), "{address:?}: {help}");
    }
    let silent = Observed { nodes: None, ..seen.clone() };
    assert!(help(&silent, "no API server answered").contains("rsadm status"));
    assert_eq!(help(&seen, "no API server answered"), "");
}

#[test]
fn a_member_that_lost_its_data_founds_nothing() {
    let cluster = harness::ha();
    let mut state = harness::standing(&cluster);
    state.disaster = true;
    let now = state.clock;
    let machine = state.machine(&NodeName::new("m2"));
    machine.power_off();
    machine.files.remove(layout::ETCD_DATA_DIR);
    machine.power_on(now);
    refused(&cluster, state, "m2 is a member of etcd and has no etcd data");
}

/// It has to be a node again before it is a member, so its old member has to go first.
#[test]
fn a_member_whose_host_is_bare_is_taken_out_before_it_is_built_again() {
    let cluster = harness::ha();
    let mut state = harness::standing(&cluster);
    state.disaster = true;
    let bare = State::new(&cluster).machines.remove(&NodeName::new("m2")).unwrap();
    state.machines.insert(NodeName::new("m2"), bare);
    refused(&cluster, state, "if the host was made anew, rsadm etcd remove m2 takes its old member out");
}

/// By the same names and addresses; its snapshots are not the old one's to prune, and its members no members of the old.
#[test]
fn a_cluster_that_is_built_anew_is_another() {
    let cluster = harness::etcd_only();
    let ids = || {
        let state = harness::standing(&cluster);
        let identity = |n: &Node| state.machines[&n.name].files.text(layout::IDENTITY).unwrap();
        let ids: Vec<String> = cluster.nodes.iter().map(identity).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        ids[0].clone()
    };
    assert_ne!(ids(), ids());
}

#[test]
fn a_lost_authority_is_not_made_again_beside_data() {
    let cluster = harness::ha();
    for ca in Ca::ALL {
        let mut state = harness::standing(&cluster);
        for machine in state.machines.values_mut() {
            machine.files.remove(&ca.key_path());
            machine.files.remove(&ca.cert_path());
        }
        refused(&cluster, state, "would lock the cluster out of its own data");
    }
}

/// A kubelet registers once.
#[test]
fn a_node_that_somebody_deleted_is_registered_again() {
    let cluster = harness::ha();
    for lost in ["m2", "w1"] {
        let mut state = harness::standing(&cluster);
        state.kube.nodes.remove(&NodeName::new(lost));
        let undisturbed = faults::undisturbed(&cluster, state, UP);
        faults::heals_from_every_kill("a deleted node", &cluster, &undisturbed, UP);
    }
}

/// It marks itself, as soon as its API server serves; one that is not to be started in this run could wait for that for ever.
#[test]
fn a_control_plane_whose_api_server_is_down_is_marked_through_another() {
    let cluster = harness::ha();
    let m2 = NodeName::new("m2");
    for (is_down, speaker) in [(false, "m2"), (true, "m1")] {
        let mut state = harness::standing(&cluster);
        state.kube.nodes.get_mut(&m2).unwrap().managed.clear();
        if is_down {
            state.machine(&m2).files.remove(&layout::manifest_of("kube-apiserver"));
            state.settle();
        }
        let seen = block_on(harness::observe(&World::new(state), &cluster));
        let planned = phases::plan(UP, &cluster, seen, OffsetDateTime::now_utc(), |name| name == "workers");
        let (plan, _) = planned.unwrap();
        let marks = |a: &Action| matches!(a, Action::Mark { node, .. } if *node == m2);
        let by: Vec<&str> =
            plan.steps().filter(|(_, s)| marks(&s.action)).map(|(host, _)| host.as_str()).collect();
        assert_eq!(by, [speaker], "{}", harness::words(&plan));
    }
}

/// The hosts of etcd alone, with control planes on hosts of their own or on the same ones.
fn grown(stacked: bool) -> Cluster {
    let (mut etcd, external) = (harness::etcd_only(), harness::external_etcd());
    match stacked {
        true => etcd.nodes.iter_mut().for_each(|n| n.roles.push(Role::ControlPlane)),
        false => etcd.nodes.extend(external.nodes.iter().filter(|n| n.is_kubernetes()).cloned()),
    }
    let mut cluster = Cluster { name: etcd.name.clone(), nodes: etcd.nodes, ..external };
    let first = cluster.nodes.iter().find(|n| n.is(Role::ControlPlane)).unwrap().address.clone();
    cluster.api.host = first;
    cluster
}

#[test]
fn etcd_alone_becomes_a_cluster_with_control_planes() {
    for stacked in [false, true] {
        let cluster = grown(stacked);
        let mut state = harness::standing(&harness::etcd_only());
        state.meet(&cluster);
        let mut undisturbed = faults::undisturbed(&cluster, state, UP);
        undisturbed.moments = undisturbed.moments.into_iter().step_by(29).collect();
        faults::heals_from_every_kill("etcd and then Kubernetes", &cluster, &undisturbed, UP);
    }
}

#[test]
fn control_planes_that_were_lost_with_their_authority_are_not_made_anew() {
    let cluster = harness::external_etcd();
    for answers in [true, false] {
        let mut state = harness::standing(&cluster);
        state.disaster = true;
        for node in cluster.kubernetes_nodes() {
            state.machines.remove(&node.name);
        }
        state.meet(&cluster);
        if !answers {
            for node in cluster.with_role(Role::Etcd) {
                state.machine(&node.name).stop("kubelet");
                state.machine(&node.name).kill_pods();
            }
        }
        refused(&cluster, state, "would lock the cluster out of its own data");
    }
}

/// Not even where etcd is empty: a worker that is left trusts the authority that was lost.
#[test]
fn a_node_that_is_left_speaks_for_its_authority() {
    let mut state = harness::standing(&harness::etcd_only());
    let cluster = grown(false);
    let mut worker = harness::standing(&harness::external_etcd()).machine(&NodeName::new("w1")).clone();
    for ca in Ca::ALL {
        worker.files.remove(&ca.cert_path());
    }
    worker.files.put(&format!("{}/cluster", layout::BEFORE_DIR), 0o600, cluster.name.as_bytes());
    state.meet(&cluster);
    state.machines.insert(NodeName::new("w1"), worker);
    refused(&cluster, state, "w1 has the credentials of a node");
}

#[test]
fn an_authority_that_one_host_lost_comes_from_the_others() {
    let cluster = harness::ha();
    let mut state = harness::standing(&cluster);
    let wanted = state.machine(&NodeName::new("m2")).files.sha256(&Ca::Etcd.cert_path()).map(str::to_owned);
    let files = &mut state.machine(&NodeName::new("m1")).files;
    files.remove(&Ca::Etcd.key_path());
    files.remove(&Ca::Etcd.cert_path());
    let world = World::new(state);
    block_on(async {
        succeed(&world, &cluster, UP).await;
        in_sync(&world, &cluster, UP).await;
    });
    let mut state = world.state();
    assert_eq!(state.machine(&NodeName::new("m1")).files.sha256(&Ca::Etcd.cert_path()), wanted.as_deref());
    assert_eq!(state.violations, Vec::<String>::new());
}

#[test]
fn another_clusters_host_is_left_alone() {
    let cluster = harness::ha();
    let mut other = cluster.clone();
    other.name = "other".into();
    let mut state = State::new(&cluster);
    let stranger = harness::standing(&other).machine(&NodeName::new("w1")).clone();
    state.machines.insert(NodeName::new("w1"), stranger);
    // A worker carries no record of its cluster; its certificates tell.
    let world = World::new(state);
    let outcome = block_on(run(&world, &cluster, UP));
    assert!(outcome.is_err() && world.effects() == 0, "took over a node of another cluster");
}

#[test]
fn static_pods_of_somebody_else_stop_up() {
    let cluster = harness::single();
    let mut state = State::new(&cluster);
    let files = &mut state.machine(&cluster.nodes[0].name).files;
    files.put("/etc/kubernetes/manifests/kube-apiserver.yaml", 0o600, b"kind: Pod\n");
    refused(&cluster, state, "has Kubernetes that rsadm did not put there");
}

#[test]
fn a_cluster_that_lost_all_power_comes_back() {
    let cluster = harness::ha();
    let mut state = harness::standing(&cluster);
    state.disaster = true;
    state.machines.values_mut().for_each(rsadm::fake::Machine::power_off);
    let now = state.clock;
    state.machines.values_mut().for_each(|m| m.power_on(now));
    let world = World::new(state);
    block_on(async {
        succeed(&world, &cluster, UP).await;
        in_sync(&world, &cluster, UP).await;
    });
    assert_eq!(world.state().etcd.founded, 1);
}

/// Until members serve nobody knows who is one, so that who shall leave does so in a second round.
#[test]
fn etcd_that_is_down_starts_before_it_is_asked_who_shall_leave() {
    let five = harness::load("tests/lab/inventories/lab-etcd-only.yaml");
    let mut state = harness::standing(&five);
    for machine in state.machines.values_mut() {
        machine.stop("kubelet");
        machine.kill_pods();
    }
    let (three, world) = (harness::etcd_only(), World::new(state));
    block_on(async {
        let seen = harness::observe(&world, &three).await;
        assert!(phases::etcd::members::is_untold(&three, &seen));
        let first = succeed(&world, &three, UP).await;
        let said = |text: &str| first.plan.notices.iter().any(|notice| notice.text.contains(text));
        assert!(said("etcd does not tell who is a member now"), "{:?}", first.plan.notices);
        assert_eq!(world.state().etcd.members.len(), 5);
        let seen = harness::observe(&world, &three).await;
        assert!(!phases::etcd::members::is_untold(&three, &seen), "etcd was not waited for");
        succeed(&world, &three, UP).await;
        in_sync(&world, &three, UP).await;
    });
    assert_eq!(world.state().etcd.members.len(), 3);
}

#[test]
fn power_lost_in_the_middle_of_a_first_run_heals() {
    let cluster = harness::ha();
    let undisturbed = faults::undisturbed(&cluster, State::new(&cluster), UP);
    for (n, moment) in undisturbed.moments.iter().enumerate().step_by(17) {
        let mut state = moment.clone();
        state.hang_up();
        state.disaster = true;
        let now = state.clock;
        let count = state.machines.len();
        let machine = state.machines.values_mut().nth(n % count).unwrap();
        machine.power_off();
        machine.power_on(now);
        let healed = faults::heals(&cluster, World::new(state), &undisturbed, UP);
        assert_eq!(healed, Ok(()), "after effect {n}");
    }
}

#[test]
fn a_download_that_fails_changes_nothing_later() {
    let cluster = harness::single();
    let undisturbed = faults::undisturbed(&cluster, State::new(&cluster), UP);
    let mut state = State::new(&cluster);
    let kubelet = rsadm::programs::programs_for(&cluster, &cluster.nodes[0], "x86_64");
    state.unavailable = kubelet.iter().filter(|p| p.name == "kubelet").map(|p| p.url.clone()).collect();
    let world = World::new(state);
    let first = block_on(run(&world, &cluster, UP)).unwrap();
    assert!(first.result.is_err(), "the failed download was not noticed");
    let mut state = world.state();
    state.unavailable.clear();
    assert_eq!(faults::heals(&cluster, World::new(state), &undisturbed, UP), Ok(()));
}

/// The routes of w1, as its network script has them.
fn routes_of_w1(state: &mut State) -> rsadm::manifests::Routes {
    let script = state.machine(&NodeName::new("w1")).files.text(layout::NETWORK_SCRIPT).unwrap();
    rsadm::manifests::routes_of_script(&script)
}

#[test]
fn a_node_that_left_the_inventory_keeps_its_pods_reachable_until_it_is_deleted() {
    let all = harness::ha();
    let mut less = all.clone();
    less.nodes.retain(|n| n.name.as_str() != "w2");
    let mut other = less.clone();
    let mut w3 = all.nodes[4].clone();
    (w3.name, w3.internal_address) = (NodeName::new("w3"), [10, 77, 0, 23].into());
    other.nodes.push(w3);
    let mut state = harness::standing(&all);
    let before = routes_of_w1(&mut state);
    let address = all.nodes[4].internal_address;
    let of_w2 = before.iter().find(|(_, to)| **to == address).map(|(subnet, _)| *subnet).unwrap();

    state.meet(&other);
    let world = World::new(state);
    block_on(async {
        // Which the second pod of cluster DNS may need, and nothing else.
        let run = succeed(&world, &less, UP).await;
        assert!(run.plan.stages.iter().all(|stage| stage.phase == "images"), "{}", harness::words(&run.plan));
        succeed(&world, &other, UP).await;
    });
    let mut state = world.state();
    let with_w3 = routes_of_w1(&mut state);
    assert_eq!(with_w3.get(&of_w2), Some(&address), "no route to w2's pods");
    assert_eq!(with_w3.len(), before.len() + 1);

    state.kube.nodes.remove(&NodeName::new("w2"));
    state.machine(&NodeName::new("w2")).power_off();
    let world = World::new(state);
    block_on(succeed(&world, &other, UP));
    assert_eq!(routes_of_w1(&mut world.state()).get(&of_w2), None, "a route to nobody");
}

/// Its pods run on with addresses of the part that the others have routes to; a lower number may be free.
#[test]
fn a_node_that_lost_its_file_for_pods_keeps_its_part_of_the_subnet() {
    let cluster = harness::ha();
    let mut built = harness::standing(&cluster);
    let parts = |state: &State| {
        let part = |n: &Node| Some((n.name.clone(), state.machines[&n.name].files.text(layout::CNI_CONFIG)?));
        cluster.kubernetes_nodes().filter_map(part).collect::<BTreeMap<_, _>>()
    };
    let before = parts(&built);
    assert_eq!(before.len(), 5);
    // Its number is free then.
    let mut smaller = cluster.clone();
    smaller.nodes.retain(|n| n.name != NodeName::new("w1"));
    built.kube.nodes.remove(&NodeName::new("w1"));
    let world = World::new(built);
    block_on(succeed(&world, &smaller, UP));
    for lost in [&["w2"][..], &["m2", "w2"], &["m1", "m2", "m3", "w2"]] {
        let mut state = world.state();
        state.hang_up();
        for name in lost {
            state.machine(&NodeName::new(*name)).files.remove(layout::CNI_CONFIG);
        }
        let world = World::new(state);
        let run = block_on(succeed(&world, &smaller, UP));
        let written = run.plan.steps().filter(|(_, s)| !s.action.writes().is_empty());
        assert_eq!(written.count(), lost.len(), "{lost:?}:\n{}", harness::words(&run.plan));
        let after = parts(&world.state());
        assert!(after.iter().all(|(name, part)| before[name] == *part), "{lost:?}: {after:?}");
        block_on(in_sync(&world, &smaller, UP));
    }
}

/// As a VPN, a router's program or hardening does at any time.
#[test]
fn settings_of_the_kernel_that_somebody_changed_are_set_again() {
    let cluster = harness::ha();
    for line in ["net.ipv4.ip_forward = 1", "-net.bridge.bridge-nf-call-iptables = 1"] {
        let mut state = harness::standing(&cluster);
        assert!(state.machine(&NodeName::new("w1")).kernel.remove(line));
        let world = World::new(state);
        block_on(async {
            let run = succeed(&world, &cluster, UP).await;
            let key = line.trim_start_matches('-').trim_end_matches(" = 1");
            let steps = format!("w1: apply kernel settings ({key} is 0, not 1)\n");
            assert_eq!(harness::words(&run.plan), steps);
            in_sync(&world, &cluster, UP).await;
        });
    }
}

/// As after a boot of a host on which hardening has blacklisted it: the kernel has no such setting then. Pods get no answer from
/// services that have an endpoint on their own node.
#[test]
fn a_module_of_the_kernel_that_is_gone_is_loaded_again() {
    let cluster = harness::ha();
    let mut state = harness::standing(&cluster);
    let kernel = &mut state.machine(&NodeName::new("w1")).kernel;
    assert!(kernel.remove("br_netfilter") && kernel.remove("-net.bridge.bridge-nf-call-iptables = 1"));
    let world = World::new(state);
    block_on(async {
        let run = succeed(&world, &cluster, UP).await;
        assert_eq!(harness::words(&run.plan), "w1: apply kernel settings (br_netfilter is not loaded)\n");
        in_sync(&world, &cluster, UP).await;
    });
}

/// Another plugin that answers pods by itself passes no rules, and no kernel is asked for what it does not use.
#[test]
fn a_module_of_the_kernel_that_nothing_uses_may_be_gone() {
    let mut cluster = harness::ha();
    cluster.network.plugin = NetworkPlugin::None;
    cluster.kube_proxy.enabled = false;
    let mut state = harness::standing(&cluster);
    assert!(state.machine(&NodeName::new("w1")).kernel.remove("br_netfilter"));
    block_on(in_sync(&World::new(state), &cluster, UP));
}

#[test]
fn a_second_operator_is_told_who_is_at_work() {
    let cluster = harness::single();
    let world = World::new(State::new(&cluster));
    let first = world.fleet(&cluster);
    let refusal = block_on(async {
        rsadm::exec::lock::take(
            &first,
            "rsadm up by eve",
            rsadm::exec::lock::Mark::Own,
            &rsadm::event::Events::none(),
        )
        .await
        .unwrap();
        run(&world, &cluster, UP).await.err().unwrap()
    });
    assert!(refusal.contains("rsadm up by eve"), "{refusal}");
    drop(first);
    block_on(succeed(&world, &cluster, UP));
}

/// Two of three members missed a recovery: they are a quorum of the old cluster, and nothing is built on that.
#[test]
fn members_of_the_old_cluster_stop_a_run_before_its_first_change() {
    let cluster = harness::etcd_only();
    let mut state = block_on(harness::built(&cluster)).state();
    let recorded = |state: &mut State, host: &str| -> serde_json::Value {
        let text = state.machine(&NodeName::new(host)).files.text(rsadm::layout::IDENTITY).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let mut identity = recorded(&mut state, "e1");
    identity["replaces"] = serde_json::json!([identity["etcd_cluster_id"]]);
    identity["etcd_cluster_id"] = "abc".into();
    let text = identity.to_string();
    state.machine(&NodeName::new("e1")).files.put(rsadm::layout::IDENTITY, 0o644, text.as_bytes());
    let world = World::new(state);
    let refusal = block_on(run(&world, &cluster, UP)).err().unwrap();
    assert!(refusal.contains("e2, e3 have the data of the old cluster"), "{refusal}");
    assert!(refusal.contains("rsadm etcd replace e2"), "{refusal}");
}

#[test]
fn what_somebody_else_brings_is_not_brought_by_us() {
    for (cluster, ready, network) in
        [(harness::with_manifests(), true, Some("network-0")), (harness::without_plugin(), false, None)]
    {
        let mut state = harness::standing(&cluster);
        state.settle();
        let own = ["kubeadm", "kube-proxy", "coredns"];
        let others: Vec<&str> = state.kube.bundles.keys().map(String::as_str).collect();
        assert_eq!(others.into_iter().find(|name| !own.contains(name)), network);
        assert!(state.kube.nodes.values().all(|node| node.ready == ready), "{:?}", state.kube.nodes);
        let files = &state.machine(&cluster.nodes[0].name).files;
        assert!([layout::CNI_CONFIG, layout::NETWORK_UNIT].iter().all(|path| !files.has(path)));
    }
    let mut state = harness::standing(&harness::external_balancer());
    let worker = state.machine(&NodeName::new("w1"));
    assert!(worker.process("haproxy").is_none());
    let config = worker.files.text(layout::KUBELET_CONF).unwrap();
    assert!(config.contains("server: https://api.example.org:6443"), "{config}");
}
