//! What runs in `kube-system`: damaged, edited, late, or not wanted.

use rsadm::{
    fake::{State, World},
    inventory::{LoadBalancer, NetworkPlugin, NodeName},
    layout,
    phases::UP,
};

use crate::harness::{self, block_on, in_sync, succeed};

#[test]
fn add_ons_that_somebody_damaged_are_applied_again() {
    let cluster = harness::ha();
    for (bundle, damage) in [("coredns", "Deployment/coredns gone"), ("kube-proxy", "changed in the cluster")]
    {
        let mut state = harness::standing(&cluster);
        state.kube.damaged.insert(bundle.into(), damage.into());
        let world = World::new(state);
        block_on(async {
            let run = succeed(&world, &cluster, UP).await;
            let steps = harness::words(&run.plan);
            let wanted = format!(
                "m1: apply {bundle} ({damage})\nm1: wait until daemonset/kube-proxy, deployment/coredns are rolled out ()\n"
            );
            assert_eq!(steps, wanted);
            in_sync(&world, &cluster, UP).await;
        });
    }
}

/// Its bundle counts as applied, and a second run would else say that all is well.
#[test]
fn what_is_not_rolled_out_is_waited_for_again() {
    let cluster = harness::ha();
    for workload in ["daemonset/kube-proxy", "deployment/coredns"] {
        let mut state = harness::standing(&cluster);
        state.kube.crashing.insert(workload.into());
        let world = World::new(state.clone());
        let run = block_on(harness::run(&world, &cluster, UP)).unwrap();
        let waits = "m1: wait until daemonset/kube-proxy, deployment/coredns are rolled out ()\n";
        assert_eq!((harness::words(&run.plan).as_str(), run.plan.changes()), (waits, 0), "{workload}");
        assert!(run.result.is_err(), "{workload}");
        state.kube.crashing.clear();
        block_on(in_sync(&World::new(state), &cluster, UP));
    }
}

/// Cilium may do kube-proxy's work.
#[test]
fn without_kube_proxy_nothing_of_it_comes_and_what_is_left_is_told() {
    let with = harness::with_manifests();
    let mut without = with.clone();
    without.kube_proxy.enabled = false;
    let (world, had) = (World::new(State::new(&without)), World::new(harness::standing(&with)));
    block_on(async {
        let run = succeed(&world, &without, UP).await;
        let steps = harness::words(&run.plan);
        assert!(!steps.contains("kube-proxy"), "{steps}");
        assert!(steps.contains("wait until deployment/coredns is rolled out"), "{steps}");
        in_sync(&world, &without, UP).await;
        let plan = harness::plan(&had, &without, UP).await;
        assert!(plan.is_empty(), "{}", harness::words(&plan));
        assert!(plan.notices.iter().any(|n| n.text.starts_with("kube-proxy is there still")));
    });
}

#[test]
fn what_others_set_of_coredns_stays_and_is_said() {
    let cluster = harness::ha();
    let mut state = harness::standing(&cluster);
    state.kube.damaged.insert("coredns".into(), "changed in the cluster".into());
    state.kube.edited.extend(["ConfigMap".into(), "Deployment".into()]);
    let world = World::new(state);
    block_on(async {
        let run = succeed(&world, &cluster, UP).await;
        assert!(harness::words(&run.plan).starts_with("m1: apply coredns (changed in the cluster)\n"));
        for told in ["replicas", "Corefile"] {
            assert!(run.plan.notices.iter().any(|n| n.text.contains(told)), "{:?}", run.plan.notices);
        }
        in_sync(&world, &cluster, UP).await;
    });
}

/// The one address of the API that is right on every node, so whoever does kube-proxy's work may have been given that; and a
/// kube-proxy that is there still was.
#[test]
fn a_balancer_that_others_may_dial_stays_and_is_told() {
    let plain = harness::ha();
    let mut manifests = plain.clone();
    manifests.network.plugin = NetworkPlugin::Manifests(vec!["net.yaml".into()]);
    manifests.network_manifests = vec![("network-0".into(), "kind: Namespace\n".into())];
    for (about, cluster, proxy, stays, told) in [
        ("a plugin of the operator's", &manifests, true, true, true),
        ("kube-proxy is there still", &manifests, false, true, false),
        ("kube-proxy alone", &plain, true, false, false),
    ] {
        let mut other = cluster.clone();
        other.load_balancer = LoadBalancer::External;
        other.api.host = "10.77.0.11".into();
        other.kube_proxy.enabled = proxy;
        let world = World::new(harness::standing(cluster));
        block_on(async {
            let run = succeed(&world, &other, UP).await;
            let is_told = |plan: &rsadm::plan::Plan| {
                plan.notices
                    .iter()
                    .any(|n| n.text.starts_with("haproxy stays on w1, w2") && n.help.contains("rm /etc"))
            };
            assert_eq!(is_told(&run.plan), told, "{about}: {:?}", run.plan.notices);
            in_sync(&world, &other, UP).await;
            for name in ["w1", "w2"] {
                let machine = &world.state().machines[&NodeName::new(name)];
                let balances =
                    machine.process("haproxy").is_some() && machine.files.has(layout::HAPROXY_CONFIG);
                assert_eq!(balances, stays, "{about}: {name}");
            }
        });
    }
}

#[test]
fn the_image_of_cluster_dns_comes_to_as_many_hosts_as_it_has_pods() {
    let mut three = harness::ha();
    let image = three.release.coredns_image();
    let mut w3 = three.nodes.iter().find(|n| n.name.as_str() == "w2").unwrap().clone();
    w3.name = NodeName::new("w3");
    w3.internal_address = [10, 77, 0, 23].into();
    w3.address = w3.internal_address.to_string();
    let mut one = three.clone();
    one.nodes.retain(|n| n.name.as_str() != "w2");
    three.nodes.push(w3);
    for (cluster, wanted) in [(&three, ["w1", "w2"]), (&one, ["m1", "w1"]), (&harness::ha(), ["w1", "w2"])] {
        let mut state = harness::standing(cluster);
        let machines = state.machines.values().filter(|machine| machine.images.contains(&image));
        assert_eq!(machines.map(|machine| machine.name.to_string()).collect::<Vec<_>>(), wanted);
        // Where its pods went to since, the kubelets have fetched it.
        let (from, to) = (NodeName::new(wanted[0]), NodeName::new("m3"));
        state.machines.get_mut(&from).unwrap().images.remove(&image);
        state.machines.get_mut(&to).unwrap().images.insert(image.clone());
        block_on(in_sync(&World::new(state), cluster, UP));
    }
}
