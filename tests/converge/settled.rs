//! What a cluster that is built keeps, whatever its inventory says since.

use time::OffsetDateTime;

use rsadm::{
    fake::World,
    inventory::{Cluster, LoadBalancer, NetworkPlugin, NodeName, Role, RuntimeInstall},
    layout,
    phases::{self, CERTS_RENEW, ETCD_MEMBERS, ETCD_UPGRADE, RESET, UP},
};

use super::{
    guards::plan,
    harness::{self, block_on, built, in_sync, observe, succeed, words},
    members::{by_kubeadm, with_e4},
};

#[test]
fn a_built_network_is_not_changed_whatever_is_wanted() {
    let cluster = harness::ha();
    let world = block_on(built(&cluster));
    let before = world.effects();
    let [mut services, mut pods, mut domain] = std::array::from_fn(|_| cluster.clone());
    services.network.service_subnet = "10.200.0.0/16".parse().unwrap();
    pods.network.pod_subnet = "10.32.0.0/16".parse().unwrap();
    domain.network.cluster_domain = "k8s.local".into();
    for (changed, why) in [
        (services, "service_subnet: m1, m2, m3 have 10.96.0.0/12, and the inventory says 10.200.0.0/16"),
        (pods, "pod_subnet: m1, m2, m3, w1, w2 have 10.244.0.0/16, and the inventory says 10.32.0.0/16"),
        (domain, "cluster_domain: m1, m2, m3, w1, w2 have cluster.local, and the inventory says k8s.local"),
    ] {
        let phases = [None, Some("binaries"), Some("certificates"), Some("control-plane"), Some("addons")];
        let tables =
            phases.map(|only| (UP, only)).into_iter().chain([(ETCD_MEMBERS, None), (CERTS_RENEW, None)]);
        for (table, only) in tables {
            let refusal = plan(&world, &changed, table, only).err().unwrap();
            assert_eq!(refusal.rule, "settled-network", "{only:?}: {refusal}");
            assert!(refusal.why.contains(why), "{refusal}");
        }
        assert!(block_on(harness::run(&world, &changed, UP)).is_err(), "{why}");
        world.inner().state.hang_up();
        assert_eq!(world.effects(), before, "changed something before it said: {why}");
        assert_eq!(plan(&world, &changed, RESET, None), Ok(()));
    }
    assert_eq!(plan(&world, &cluster, UP, None), Ok(()));
}

/// Two plugins of the operator's are his to exchange.
#[test]
fn bridge_takes_the_place_of_no_other_plugin() {
    let cluster = harness::with_manifests();
    let world = block_on(built(&cluster));
    let before = world.effects();
    let mut bridge = cluster.clone();
    bridge.network.plugin = NetworkPlugin::Bridge;
    for only in [None, Some("binaries"), Some("control-plane")] {
        let refusal = plan(&world, &bridge, UP, only).err().unwrap();
        assert_eq!(refusal.subject, "network.plugin of a cluster that is built cannot change", "{only:?}");
        let why = "m1 has another plugin, and the inventory says bridge: ";
        assert!(refusal.why.starts_with(why), "{refusal}");
    }
    assert_eq!(world.effects(), before);
    let mut none = cluster.clone();
    none.network.plugin = NetworkPlugin::None;
    assert_eq!(plan(&world, &none, UP, None), Ok(()));
    assert_eq!(plan(&world, &bridge, RESET, None), Ok(()));
}

/// Members are kept and certificates renewed whatever the inventory says of pods; and who took ours off may move on.
#[test]
fn no_other_plugin_takes_the_place_of_bridge_while_that_is_there() {
    let cluster = harness::ha();
    let mut state = block_on(built(&cluster)).state();
    let mut other = cluster.clone();
    other.network.plugin = NetworkPlugin::None;
    state.hang_up();
    let world = World::new(state.clone());
    for only in [None, Some("binaries"), Some("control-plane"), Some("addons")] {
        let refusal = plan(&world, &other, UP, only).err().unwrap();
        let why = "m1, m2, m3, w1, w2 have bridge, and the inventory says none: ";
        assert!(refusal.why.starts_with(why), "{refusal}");
        let way = "sh /etc/rsadm/network.sh down; systemctl disable --now rsadm-network; rm -rf ";
        assert!(refusal.help.contains(way), "{}", refusal.help);
    }
    assert_eq!(world.effects(), 0);
    for table in [ETCD_MEMBERS, CERTS_RENEW, RESET] {
        assert_eq!(plan(&world, &other, table, None), Ok(()));
    }
    for machine in state.machines.values_mut() {
        for path in [layout::CNI_CONFIG, layout::NETWORK_SCRIPT, layout::NETWORK_UNIT] {
            machine.files.remove(path);
        }
    }
    assert_eq!(plan(&World::new(state), &other, UP, None), Ok(()));
}

/// With others every kubelet would end all pods on its host, on all hosts of a stage at once.
#[test]
fn no_running_pod_is_moved_to_other_cgroups() {
    let cluster = harness::ha();
    let world = block_on(built(&cluster));
    let before = world.effects();
    let mut other = cluster.clone();
    other.kubelet.config.insert("cgroupDriver".into(), "systemd".into());
    other.kubelet.config.insert("cgroupRoot".into(), "/pods".into());
    for (table, only) in [(UP, None), (UP, Some("workers")), (ETCD_MEMBERS, None), (CERTS_RENEW, None)] {
        let refusal = plan(&world, &other, table, only).err().unwrap();
        assert_eq!(refusal.rule, "settled-cgroups", "{only:?}: {refusal}");
        let driver =
            "kubelet.config.cgroupDriver: m1, m2, m3, w1, w2 have cgroupfs, and the inventory says systemd\n";
        let root = "kubelet.config.cgroupRoot: m1, m2, m3, w1, w2 have /, and the inventory says /pods\n";
        assert!(refusal.why.starts_with(&format!("{driver}{root}")), "{refusal}");
        assert!(
            refusal.help.starts_with("set it back: kubelet.config.cgroupDriver: cgroupfs"),
            "{}",
            refusal.help
        );
    }
    assert_eq!(world.effects(), before);
    assert_eq!(plan(&world, &other, RESET, None), Ok(()));
    // Where no pod runs, a setting that was wrong from the start is put right.
    let mut down = world.state();
    down.hang_up();
    for machine in down.machines.values_mut() {
        machine.stop("kubelet");
        machine.kill_pods();
    }
    assert_eq!(plan(&World::new(down), &other, UP, None), Ok(()));
    // What goes without saying, and what somebody wrote into the file that no kubelet was started with.
    let mut same = cluster.clone();
    same.kubelet.config.insert("cgroupsPerQOS".into(), true.into());
    assert_eq!(plan(&world, &same, UP, None), Ok(()));
    let mut state = world.state();
    state.hang_up();
    let files = &mut state.machine(&NodeName::new("w1")).files;
    let text = files.text(layout::KUBELET_CONFIG).unwrap().replace("cgroupfs", "systemd");
    files.put(layout::KUBELET_CONFIG, 0o600, text.as_bytes());
    let world = World::new(state);
    block_on(async {
        succeed(&world, &cluster, UP).await;
        in_sync(&world, &cluster, UP).await;
    });
}

/// Its kubelet would register as another node before etcd was asked.
#[test]
fn a_member_keeps_its_name() {
    for (cluster, old) in
        [(harness::ha(), "m1"), (harness::etcd_only(), "e2"), (harness::external_etcd(), "e3")]
    {
        let mut state = harness::standing(&cluster);
        let mut renamed = cluster.clone();
        let node = renamed.nodes.iter_mut().find(|n| n.name.as_str() == old).unwrap();
        node.name = NodeName::new("a1");
        let is_node = node.is_kubernetes();
        let mut machine = state.machines.remove(&NodeName::new(old)).unwrap();
        machine.name = NodeName::new("a1");
        state.machines.insert(NodeName::new("a1"), machine);
        let world = World::new(state);
        for (table, only) in [
            (UP, None),
            (UP, Some("certificates")),
            (ETCD_MEMBERS, None),
            (ETCD_UPGRADE, None),
            (CERTS_RENEW, None),
        ] {
            let refusal = plan(&world, &renamed, table, only).err().unwrap();
            assert_eq!(refusal.rule, "member-renamed", "{only:?}: {refusal}");
            assert_eq!(refusal.subject, format!("the member of etcd on a1 is called {old}"));
            assert!(refusal.help.contains(&format!("rsadm etcd remove {old} while")), "{}", refusal.help);
            assert_eq!(refusal.help.contains("kubectl delete node"), is_node, "{}", refusal.help);
        }
        assert_eq!(world.effects(), 0);
        assert_eq!(plan(&world, &renamed, RESET, None), Ok(()));
    }
}

/// A control plane would go on as one that no command knows of, and a kubelet that is no node's any more ends all pods of its
/// host.
#[test]
fn a_host_keeps_its_role() {
    let cases: [(Cluster, &str, &[Role], &str); 5] = [
        (harness::ha(), "m3", &[Role::Etcd], "a control plane and has its kube-apiserver"),
        (harness::ha(), "m3", &[Role::Worker], "a control plane and has its kube-apiserver"),
        (harness::ha(), "w1", &[Role::Etcd], "a worker and has its haproxy"),
        (harness::ha(), "w1", &[Role::ControlPlane], "a worker and has its haproxy"),
        (harness::external_balancer(), "w1", &[Role::Etcd], "a node and has its kubelet.conf"),
    ];
    for (cluster, host, roles, words) in cases {
        let mut state = harness::standing(&cluster);
        let world = World::new(state.clone());
        let mut changed = cluster.clone();
        let node = changed.nodes.iter_mut().find(|n| n.name.as_str() == host).unwrap();
        node.roles = roles.to_vec();
        let joins = !cluster.node(&NodeName::new(host)).unwrap().is(Role::Etcd) && node.is(Role::Etcd);
        let refusal = plan(&world, &changed, UP, None).err().unwrap();
        assert!(refusal.why.contains(&format!("{host}: was built as {words} still")), "{refusal}");
        let skipping = [Some("binaries"), Some("etcd"), Some("workers")].map(|only| (UP, only));
        for (table, only) in skipping.into_iter().chain(joins.then_some((ETCD_MEMBERS, None))) {
            let refusal = plan(&world, &changed, table, only).err().unwrap();
            assert_eq!(refusal.rule, "settled-role", "{only:?}: {refusal}");
            assert_eq!(refusal.subject, format!("{host} was built as {words} still"));
        }
        assert_eq!(plan(&world, &changed, RESET, None), Ok(()));
        assert_eq!(plan(&world, &changed, UP, Some("backups")), Ok(()));
        let haproxy = layout::manifest_of("haproxy");
        let files = &mut state.machine(&NodeName::new(host)).files;
        let left = [haproxy.as_str(), layout::KUBELET_CONF].map(|path| files.text(path).map(|_| path));
        let left = left.into_iter().flatten().collect::<Vec<_>>();
        let alone = "where it is none any more and runs no pod, move ";
        let may_be_none = roles == [Role::Etcd] && host == "w1";
        assert_eq!(refusal.why.contains(alone), may_be_none, "{refusal}");
        if may_be_none {
            assert!(refusal.why.contains(&format!("{alone}{} away", left.join(" and "))), "{refusal}");
            left.into_iter().for_each(|path| files.remove(path));
            let world = World::new(state);
            assert_eq!(plan(&world, &changed, UP, None), Ok(()));
            let seen = block_on(harness::observe(&world, &changed));
            let now = time::OffsetDateTime::now_utc();
            let (plan, _) = phases::plan(UP, &changed, seen, now, |name| name == "workers").unwrap();
            let left = plan
                .notices
                .iter()
                .find(|n| n.help == format!("its host is to be none: kubectl delete node {host}"));
            assert!(left.is_some(), "{:?}", plan.notices);
        }
    }
}

/// Nobody answers where they are dialled, and each would get certificates that the others refuse.
#[test]
fn edited_addresses_of_all_members_change_no_certificate() {
    let kubeadms = by_kubeadm();
    for (mut cluster, state, way) in [
        (harness::etcd_only(), None, "one after the other: `rsadm etcd remove HOST` while"),
        (harness::single(), None, "`rsadm etcd replace m1 NEW_HOST`, while"),
        (
            kubeadms.0,
            Some(kubeadms.1),
            "while the inventory has its old address, then change it and `rsadm etcd add HOST`, which makes",
        ),
    ] {
        let ours = state.is_none();
        let mut state = state.unwrap_or_else(|| block_on(built(&cluster)).state());
        state.hang_up();
        let kept = cluster.clone();
        for node in cluster.nodes.iter_mut().filter(|n| n.is(Role::Etcd)) {
            let [a, b, c, d] = node.internal_address.octets();
            node.internal_address = [a, b, c + 9, d].into();
        }
        let world = World::new(state);
        for (table, only) in
            [(UP, None), (UP, Some("certificates")), (CERTS_RENEW, None), (ETCD_UPGRADE, None)]
        {
            let refusal = plan(&world, &cluster, table, only).err().unwrap();
            assert_eq!(refusal.rule, "member-moved", "{only:?}: {refusal}");
            assert!(refusal.why.starts_with("it runs, as a member at https://10.77.0."), "{refusal}");
            assert!(
                refusal.help.starts_with("set internal_address of ") && refusal.help.contains(way),
                "{refusal:?}"
            );
        }
        let table = if ours { UP } else { ETCD_UPGRADE };
        assert_eq!(plan(&world, &kept, table, None), Ok(()));
    }
}

/// The first member with it would raise the alarm for all of them.
#[test]
fn no_quota_is_less_than_the_database_takes() {
    let cluster = harness::etcd_only();
    let state = block_on(built(&cluster)).state();
    let (mut with_e4, mut state) = with_e4(cluster, state);
    state.hang_up();
    let mut cluster = with_e4.clone();
    cluster.nodes.pop();
    let world = World::new(state);
    // A database has 16 KiB here.
    for inventory in [&mut cluster, &mut with_e4] {
        inventory.etcd.quota_backend_bytes = 17 << 10;
    }
    for (inventory, table, only) in [
        (&cluster, UP, None),
        (&cluster, UP, Some("etcd")),
        (&with_e4, UP, Some("etcd")),
        (&with_e4, ETCD_MEMBERS, None),
    ] {
        let refusal = plan(&world, inventory, table, only).err().unwrap();
        assert_eq!(refusal.rule, "quota", "{only:?}: {refusal}");
        assert!(refusal.help.starts_with("set etcd.quota_backend_bytes: 8GiB; or first"), "{}", refusal.help);
    }
    // What leaves, and who wants it as it is, has nothing to do with it.
    assert_eq!(plan(&world, &cluster, ETCD_MEMBERS, None), Ok(()));
    assert_eq!(plan(&world, &cluster, RESET, None), Ok(()));
    cluster.etcd.quota_backend_bytes = 19 << 10;
    assert_eq!(plan(&world, &cluster, UP, None), Ok(()));
}

/// All nodes at once would be lost to the cluster.
#[test]
fn kubelets_dial_a_balancer_once_it_answered_on_their_hosts() {
    let cluster = harness::ha();
    let state = block_on(built(&cluster)).state();
    let server = |world: &World, name: &str| {
        let file = world.state().machines[&NodeName::new(name)].files.text(layout::KUBELET_CONF).unwrap();
        file.lines().find_map(|line| line.trim().strip_prefix("server: ").map(str::to_owned)).unwrap()
    };
    for (host, answers) in [("10.77.0.11", true), ("10.77.0.99", false)] {
        let mut other = cluster.clone();
        other.load_balancer = LoadBalancer::External;
        other.api.host = host.into();
        let mut state = state.clone();
        state.hang_up();
        state.log.clear();
        let world = World::new(state);
        // Without the phase that starts kubelets anew, they go on dialling the one on their hosts.
        let seen = block_on(observe(&world, &other));
        let planned = phases::plan(UP, &other, seen, OffsetDateTime::now_utc(), |phase| phase != "workers");
        let steps = words(&planned.unwrap().0);
        assert!(steps.contains("kubelet.conf") && !steps.contains("haproxy"), "{steps}");
        let run = block_on(harness::run(&world, &other, UP)).unwrap();
        assert_eq!(run.result.is_ok(), answers, "{host}: {:?}", run.result);
        let dialled = if answers { format!("https://{host}:6443") } else { "https://127.0.0.1:6443".into() };
        assert_eq!([server(&world, "w1"), server(&world, "w2")], [dialled.clone(), dialled], "{host}");
        let log = world.state().log;
        let restarted = log.iter().any(|line| line.starts_with("w") && line.contains("restart kubelet"));
        assert!(answers || !restarted, "{log:?}");
        // It goes with the last who dials it.
        let balances = |name: &str| {
            let machine = &world.state().machines[&NodeName::new(name)];
            let files = [layout::manifest_of("haproxy"), layout::HAPROXY_CONFIG.to_owned()];
            (machine.process("haproxy").is_some(), files.iter().any(|path| machine.files.has(path)))
        };
        assert_eq!([balances("w1"), balances("w2")], [(!answers, !answers); 2], "{host}");
    }
}

/// A mirror that is gone would still be asked first.
#[test]
fn a_mirror_leaves_with_its_line_and_an_operators_own_stays() {
    let cluster = harness::ha();
    let mut with = cluster.clone();
    with.artifacts.registry_mirrors.insert("gcr.io".into(), "http://10.77.0.1:5000".into());
    let world = block_on(built(&with));
    let [ours, theirs] = ["gcr.io", "quay.io"].map(|of| format!("/etc/containerd/certs.d/{of}/hosts.toml"));
    let m1 = NodeName::new("m1");
    world.inner().state.machine(&m1).files.put(&theirs, 0o644, b"server = 'https://quay.io'\n");
    assert!(world.state().machines[&m1].files.has(&ours));
    block_on(succeed(&world, &cluster, UP));
    let state = world.state();
    assert!(state.machines.values().all(|machine| !machine.files.has(&ours)));
    assert!(state.machines[&m1].files.has(&theirs));
    block_on(in_sync(&world, &cluster, UP));
}

/// What runs in it may be all that a machine is for.
#[test]
fn a_containerd_of_the_hosts_own_outlives_a_reset_by_whatever_inventory() {
    let upstream = harness::ha();
    let mut existing = upstream.clone();
    existing.runtime.install = RuntimeInstall::Existing;
    let world = block_on(built(&existing));
    for (table, only) in [(UP, None), (UP, Some("binaries")), (UP, Some("addons"))] {
        let refusal = plan(&world, &upstream, table, only).err().unwrap();
        assert_eq!(refusal.rule, "settled-runtime", "{only:?}: {refusal}");
    }
    block_on(harness::run(&world, &upstream, RESET)).unwrap().result.unwrap();
    for machine in world.state().machines.values() {
        assert!(machine.process("containerd").is_some(), "{}", machine.name);
        assert!(machine.files.has(layout::CONTAINERD_CONFIG), "{}", machine.name);
    }

    let world = block_on(built(&upstream));
    assert_eq!(plan(&world, &existing, UP, None).err().unwrap().rule, "settled-runtime");
    // It prepares none of these, and who died is replaced whatever the others have.
    assert_eq!(plan(&world, &existing, ETCD_MEMBERS, None), Ok(()));
    block_on(harness::run(&world, &existing, RESET)).unwrap().result.unwrap();
    for machine in world.state().machines.values() {
        assert!(machine.process("containerd").is_none(), "{}", machine.name);
    }
}
