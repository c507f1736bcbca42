//! Renewing certificates before and after their time: rows 26 to 28 and 30 of the fault matrix, as far as a world in
//! memory has them.

use std::{collections::BTreeMap, sync::Arc};

use rsadm::{
    event::Events,
    exec::{self, Context},
    fake::{State, World},
    inventory::{Cluster, NodeName},
    observe::{Facts, Observed},
    phases::{self, UP, certs::certificate_of_der},
    pki::{authorities::Ca, issue::Authority},
    plan::{Action, Plan, Refusal, Renewal},
    status::certificates::{Sources, assess},
};
use time::{Duration, OffsetDateTime};

use super::{
    harness::{self, block_on, built, in_sync, observe, succeed, words},
    prediction,
};

pub(super) const QUARTER: Renewal = Renewal { hosts: vec![], within: Some(Duration::days(90)) };
pub(super) const ALL: Renewal = Renewal { hosts: vec![], within: None };

pub(super) fn planned(cluster: &Cluster, seen: Observed, days: i64, renewal: &Renewal) -> (Plan, Observed) {
    let now = OffsetDateTime::now_utc() + Duration::days(days);
    phases::plan_renewal(cluster, seen, now, renewal.clone()).unwrap_or_else(|r| panic!("{r}; {}", r.help))
}

/// Renews `days` from now; what was planned.
pub(super) async fn renew(world: &Arc<World>, cluster: &Cluster, days: i64, renewal: &Renewal) -> Plan {
    let fleet = world.fleet(cluster);
    let seen = observe(world, cluster).await;
    let (plan, predicted) = planned(cluster, seen.clone(), days, renewal);
    let (events, members) = (Events::none(), world.members(cluster));
    let now = OffsetDateTime::now_utc() + Duration::days(days);
    let cx = Context::new(cluster, &fleet, &members, &events, seen, now, &|| false);
    exec::execute(&cx, &plan).await.unwrap_or_else(|e| panic!("{e:?}"));
    world.inner().state.settle();
    let seen = observe(world, cluster).await;
    assert_eq!(prediction::differences(&predicted, &seen), Vec::<String>::new());
    plan
}

/// The names of what a plan issues, each once.
pub(super) fn issued(plan: &Plan) -> Vec<String> {
    let names = plan.steps().filter_map(|(host, step)| match &step.action {
        Action::PutCert { spec, .. } => Some(format!("{host} {spec}")),
        _ => None,
    });
    names.collect()
}

/// What is done to a host, and what is said of it.
type Fault = (fn(&mut Facts), &'static str);

/// What has nothing to do with certificates is told, and a cluster whose certificates have ended does not wait for it.
#[test]
fn only_what_concerns_certificates_stands_in_their_way() {
    let cluster = harness::ha();
    let world = block_on(built(&cluster));
    let with = |change: fn(&mut Facts)| {
        let mut seen = block_on(observe(&world, &cluster));
        seen.hosts.values_mut().for_each(change);
        phases::plan_renewal(&cluster, seen, OffsetDateTime::now_utc() + Duration::days(400), QUARTER)
    };
    let faults: [Fault; 4] = [
        (|f| f.missing.push("tar".into()), "lacks tar"),
        (|f| f.disk.values_mut().for_each(|free| *free = 5 << 20), " free"),
        (|f| drop(f.ports.insert(10_250, "nginx".into())), "is taken by nginx"),
        (|f| f.machine_id = "same".into(), "has the machine-id of"),
    ];
    for (fault, told) in faults {
        let (plan, _) = with(fault).unwrap_or_else(|r| panic!("{told}: {r}"));
        assert!(!issued(&plan).is_empty(), "{told}");
        let said = plan.notices.iter().any(|n| n.text.contains(told) && !n.help.is_empty());
        assert!(said, "{told}: {:?}", plan.notices);
    }
    let grave: [Fault; 6] = [
        (|f| f.swap = true, "swap is on"),
        (
            |f| {
                let other = f.hostname == "m2";
                let ca = f.files.get_mut("/etc/kubernetes/pki/etcd/ca.crt").filter(|_| other);
                ca.into_iter().for_each(|ca| ca.sha256 = "another".into());
            },
            "/etc/kubernetes/pki/etcd/ca.crt differs: ",
        ),
        (|f| f.disk.values_mut().for_each(|free| *free = 0), "has no room below"),
        (|f| f.addresses.clear(), "does not have the address"),
        (|f| f.time += if f.hostname == "m2" { 60_000_000_000 } else { 0 }, "ahead of the others"),
        (
            |f| f.programs.values_mut().for_each(|p| p.url = p.url.replace("v1.", "v1.1")),
            "and the inventory says",
        ),
    ];
    for (fault, why) in grave {
        let refusal = with(fault).err().unwrap_or_else(|| panic!("{why}"));
        assert!(refusal.why.contains(why), "{refusal}");
    }
}

/// As after a backup of another cluster that was put on the first host: its authority is no measure for the others' files, which
/// are good, and nobody is told to move them away.
#[test]
fn an_authority_that_is_another_on_one_host_makes_no_strangers_of_the_others() {
    let cluster = harness::ha();
    let now = OffsetDateTime::now_utc();
    let (all, m2) = (QUARTER, Renewal { hosts: vec![NodeName::new("m2")], ..ALL });
    for (ca, stranger) in [(Ca::Etcd, "m1"), (Ca::Etcd, "m2"), (Ca::Cluster, "m1")] {
        let mut state = block_on(built(&cluster)).state();
        let other = Authority::make(ca, now).unwrap();
        let files = &mut state.machine(&NodeName::new(stranger)).files;
        files.put(&ca.cert_path(), 0o644, other.files().cert.as_bytes());
        files.put(&ca.key_path(), 0o600, other.files().key.expose());
        let world = World::new(state);
        let seen = block_on(observe(&world, &cluster));
        for renewal in [&all, &m2] {
            let refusal = phases::plan_renewal(&cluster, seen.clone(), now, renewal.clone()).unwrap_err();
            assert_eq!(refusal.rule, "one-authority", "{refusal}; {}", refusal.help);
        }
        let (unreachable, served) = (BTreeMap::new(), BTreeMap::new());
        let (cluster, inventory) = (&cluster, "");
        let status = assess(&Sources {
            cluster,
            inventory,
            seen: &seen,
            unreachable: &unreachable,
            served: &served,
            now,
        });
        let told: Vec<&str> = status.advice.iter().map(|a| a.text.as_str()).collect();
        assert!(told[0].starts_with(&format!("the {ca} is not the same on all hosts: ")), "{told:?}");
        assert!(!told.iter().any(|text| text.contains("is signed by")), "{told:?}");
    }
}

fn files(state: &State) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, machine) in &state.machines {
        for path in ["apiserver", "apiserver-etcd-client", "front-proxy-client", "etcd/server", "etcd/peer"] {
            let path = format!("/etc/kubernetes/pki/{path}.crt");
            if let Some(text) = machine.files.text(&path) {
                all.insert(format!("{name} {path}"), text);
            }
        }
    }
    all
}

#[test]
fn young_certificates_stay() {
    for (name, cluster) in harness::topologies() {
        block_on(async {
            let world = built(&cluster).await;
            let seen = observe(&world, &cluster).await;
            let (plan, _) = planned(&cluster, seen, 0, &QUARTER);
            assert!(plan.is_empty(), "{name}: {}", words(&plan));
        });
    }
}

/// Every certificate is issued once, members go one at a time, nobody plans anything afterwards.
#[test]
fn row_28_what_ends_soon_and_what_has_ended_is_renewed() {
    for (name, cluster) in harness::topologies() {
        for days in [300, 400] {
            block_on(async {
                let world = built(&cluster).await;
                let plan = renew(&world, &cluster, days, &QUARTER).await;
                let all = issued(&plan);
                let wanted: usize =
                    cluster.nodes.iter().map(|n| rsadm::pki::specs::specs_for(&cluster, n).len()).sum();
                // A kubelet renews its own in time.
                let own = cluster.kubernetes_nodes().count();
                assert_eq!(
                    all.len(),
                    if days == 300 { wanted - own } else { wanted },
                    "{name}, {days} days: {all:?}"
                );
                let gated = plan.stages.iter().filter(|s| s.gated && s.phase == "certificates");
                let members = cluster.with_role(rsadm::inventory::Role::Etcd).count();
                assert_eq!(gated.count(), if days == 300 { members } else { 0 }, "{name}, {days} days");
                let (again, _) = planned(&cluster, observe(&world, &cluster).await, days, &QUARTER);
                assert!(again.is_empty(), "{name}, {days} days: {}", words(&again));
                in_sync(&world, &cluster, UP).await;
                assert_eq!(world.state().violations, Vec::<String>::new(), "{name}, {days} days");
            });
        }
    }
}

/// From cron, every night: what its authority has no more time for is renewed once.
#[test]
fn what_ends_with_its_authority_is_renewed_when_asked_for_alone() {
    let cluster = harness::etcd_only();
    block_on(async {
        let world = built(&cluster).await;
        // The authorities are ten years old 50 days later.
        let days = 3600;
        assert!(!issued(&renew(&world, &cluster, days, &QUARTER).await).is_empty());
        let seen = observe(&world, &cluster).await;
        let (again, _) = planned(&cluster, seen.clone(), days, &QUARTER);
        assert!(again.is_empty(), "{}", words(&again));
        assert!(!planned(&cluster, seen, days, &ALL).0.is_empty());
    });
}

/// A run that says nothing is all that many ever read; and once it is over none begins what it cannot end.
#[test]
fn the_end_of_an_authority_is_told_before_and_refused_after() {
    let cluster = harness::ha();
    let world = block_on(built(&cluster));
    let seen = block_on(observe(&world, &cluster));
    let at = |days: i64| OffsetDateTime::now_utc() + Duration::days(days);
    let up = |days, skips: &str| phases::plan(UP, &cluster, seen.clone(), at(days), |name| name != skips);
    for (days, told) in [(3000, 0), (3500, 3), (3640, 3)] {
        let renewed = phases::plan_renewal(&cluster, seen.clone(), at(days), QUARTER);
        for (plan, _) in [up(days, "preflight"), renewed].map(Result::unwrap) {
            let ends = |text: &str| text.contains("CA ends in ") && text.ends_with("all that it signed");
            assert_eq!(
                plan.notices.iter().filter(|n| ends(&n.text)).count(),
                told,
                "{days}: {:?}",
                plan.notices
            );
        }
    }
    let told = |refusal: &Refusal| {
        refusal.rule == "authorities"
            && refusal.help.contains("certs status")
            && !refusal.help.contains("--skip certificates")
    };
    let refusal = up(3660, "preflight").unwrap_err();
    assert!(told(&refusal), "{refusal:?}");
    assert!(up(3660, "certificates").is_ok());
    let refusal = phases::plan_renewal(&cluster, seen.clone(), at(3660), QUARTER).unwrap_err();
    assert!(told(&refusal), "{refusal:?}");
}

/// Without what the front proxy's authority signs all else can be done, as long as that is all that is lacking.
#[test]
fn what_the_end_of_the_front_proxys_authority_alone_leaves_to_do_is_told() {
    let cluster = harness::ha();
    let world = block_on(built(&cluster));
    let ended = Authority::make(Ca::FrontProxy, OffsetDateTime::now_utc() - Duration::days(3660)).unwrap();
    for name in ["m1", "m2", "m3"] {
        let mut inner = world.inner();
        let files = &mut inner.state.machine(&NodeName::new(name)).files;
        for (path, text) in [
            (Ca::FrontProxy.cert_path(), ended.files().cert.clone()),
            (Ca::FrontProxy.key_path(), String::from_utf8(ended.files().key.expose().to_vec()).unwrap()),
        ] {
            files.put(&path, 0o600, text.as_bytes());
        }
        files.remove("/etc/kubernetes/pki/front-proxy-client.crt");
    }
    let helps = |seen: Observed, skips: &str| {
        let now = OffsetDateTime::now_utc();
        phases::plan(UP, &cluster, seen, now, |name| name != skips).map_err(|r| (r.rule, r.help))
    };
    let mut seen = block_on(observe(&world, &cluster));
    let (rule, help) = helps(seen.clone(), "preflight").unwrap_err();
    assert!(rule == "authorities" && help.contains("up --skip certificates does the rest"), "{rule}: {help}");
    assert!(helps(seen.clone(), "certificates").is_ok());
    let lacking = seen.hosts.get_mut(&NodeName::new("w1")).unwrap();
    assert!(lacking.certs.remove("/var/lib/kubelet/pki/kubelet.crt").is_some());
    let (rule, help) = helps(seen, "preflight").unwrap_err();
    assert!(rule == "authorities" && !help.contains("--skip"), "{rule}: {help}");
}

#[test]
fn all_of_one_host_can_be_asked_for() {
    let cluster = harness::ha();
    block_on(async {
        let world = built(&cluster).await;
        let before = files(&world.state());
        let renewal = Renewal { hosts: vec![NodeName::new("m2")], ..ALL };
        let plan = renew(&world, &cluster, 0, &renewal).await;
        assert!(issued(&plan).iter().all(|i| i.starts_with("m2 ")), "{}", words(&plan));
        assert_eq!(issued(&plan).len(), 13);
        for (path, text) in files(&world.state()) {
            assert_eq!(text == before[&path], !path.starts_with("m2 "), "{path}");
        }
        in_sync(&world, &cluster, UP).await;
    });
}

/// Without certificates that anybody accepts a member serves nobody, and one that stood still before stands still afterwards: who
/// waits for them waits in vain, and what comes after is not done.
#[test]
fn only_members_that_can_serve_are_waited_for() {
    let cluster = harness::ha();
    let world = block_on(built(&cluster));
    let all = block_on(observe(&world, &cluster));
    let m3 = NodeName::new("m3");
    let stop = |seen: &mut Observed| {
        seen.hosts.get_mut(&NodeName::new("m3")).unwrap().processes.retain(|p| p.name != "etcd");
    };
    let (mut off, mut stopped) = (all.clone(), all.clone());
    off.hosts.remove(&m3);
    stop(&mut stopped);
    let (mut newcomer, mut without) = (stopped.clone(), stopped.clone());
    let facts = newcomer.hosts.get_mut(&m3).unwrap();
    (facts.identity, facts.etcd_data, facts.etcd_manifest) = (None, false, None);
    facts.certs.retain(|path, _| !path.contains("/etcd/") || path.ends_with("ca.crt"));
    without.hosts.get_mut(&m3).unwrap().certs.remove("/etc/kubernetes/pki/etcd/server.crt");
    for (what, seen, days, hosts, waited) in [
        ("all serve", &all, 400, "", vec!["m1,m2,m3"]),
        ("one is off", &off, 400, "", vec!["m1,m2"]),
        ("the others have expired", &off, 400, "m1", vec![]),
        ("most are renewed", &off, 400, "m1,m2", vec!["m1,m2"]),
        ("one stands still", &stopped, 400, "", vec!["m1,m2"]),
        ("all hold, and one stands still", &stopped, 300, "", vec!["m1,m2"; 3]),
        ("one is to join", &newcomer, 400, "", vec!["m1,m2"]),
        ("one lacks its certificate alone", &without, 100, "", vec!["m1,m2,m3"]),
    ] {
        let hosts = hosts.split(',').filter(|name| !name.is_empty()).map(NodeName::new).collect();
        let (plan, _) = planned(&cluster, seen.clone(), days, &Renewal { hosts, ..QUARTER });
        let names = |members: &[(NodeName, String)]| {
            members.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",")
        };
        let awaited = plan.steps().filter_map(|(_, step)| match &step.action {
            Action::AwaitEtcd { members } => Some(names(members)),
            _ => None,
        });
        assert_eq!(awaited.collect::<Vec<_>>(), waited, "{what}: {}", words(&plan));
    }
}

/// A kubelet that has just started ends no static pod before it has heard an API server.
#[test]
fn controllers_are_replaced_once_the_api_server_beside_them_answers() {
    let cluster = harness::ha();
    let mut changed = cluster.clone();
    for extra_args in [
        &mut changed.api_server.extra_args,
        &mut changed.controller_manager.extra_args,
        &mut changed.scheduler.extra_args,
    ] {
        extra_args.insert("v".into(), "2".into());
    }
    block_on(async {
        let world = built(&cluster).await;
        let seen = observe(&world, &cluster).await;
        let (renewal, _) = planned(&cluster, seen.clone(), 0, &ALL);
        let up = phases::plan(UP, &changed, seen, OffsetDateTime::now_utc(), |_| true);
        let (up, _) = up.unwrap_or_else(|r| panic!("{r}"));
        let first = |plan: &Plan, node: &str, wanted: &dyn Fn(&Action) -> bool| {
            let mut steps = plan.steps().filter(|(host, _)| host.as_str() == node);
            steps.position(|(_, step)| wanted(&step.action)).unwrap()
        };
        let answers = |a: &Action| matches!(a, Action::AwaitApi { .. });
        for (plan, node) in [&renewal, &up].into_iter().flat_map(|plan| [(plan, "m1"), (plan, "m3")]) {
            for component in ["kube-controller-manager", "kube-scheduler"] {
                let path = rsadm::layout::manifest_of(component);
                let replaced = first(plan, node, &|a| a.writes().contains(&path));
                assert!(first(plan, node, &answers) < replaced, "{node}: {}", words(plan));
            }
        }
        let serves =
            |a: &Action| matches!(a, Action::AwaitServing { process, .. } if process == "kube-apiserver");
        assert!(first(&up, "m1", &serves) < first(&up, "m1", &answers));
    });
}

#[test]
fn a_killed_renewal_heals() {
    let cluster = harness::etcd_only();
    let start = block_on(built(&cluster)).state();
    let effects = block_on(async {
        let world = World::new(start.clone());
        world.keep_snapshots();
        renew(&world, &cluster, 300, &QUARTER).await;
        world.snapshots()
    });
    for (n, left) in effects.into_iter().enumerate() {
        block_on(async {
            let mut left = left;
            left.hang_up();
            let world = World::new(left);
            renew(&world, &cluster, 300, &QUARTER).await;
            let (again, _) = planned(&cluster, observe(&world, &cluster).await, 300, &QUARTER);
            assert!(again.is_empty(), "killed at {n}: {}", words(&again));
            assert_eq!(world.state().violations, Vec::<String>::new(), "killed at {n}");
        });
    }
}

/// Rows 26 and 30: what is missing is issued, a key that others could read is theirs no more, and nothing else changes.
#[test]
fn rows_26_and_30_only_what_is_missing_is_issued_and_open_keys_are_closed() {
    let cluster = harness::ha();
    block_on(async {
        let world = built(&cluster).await;
        let before = files(&world.state());
        {
            let mut inner = world.inner();
            let machine = inner.state.machine(&NodeName::new("m2"));
            machine.files.remove("/etc/kubernetes/pki/apiserver.crt");
            machine.files.remove("/etc/kubernetes/pki/etcd/peer.crt");
            machine.files.chmod("/etc/kubernetes/pki/front-proxy-client.key", 0o644);
        }
        let run = succeed(&world, &cluster, UP).await;
        assert_eq!(issued(&run.plan), ["m2 apiserver", "m2 etcd-peer"]);
        let modes = run.plan.steps().filter(|(_, s)| matches!(&s.action, Action::Mode { .. }));
        let told: Vec<String> = modes.map(|(host, s)| format!("{host}: {} ({})", s.action, s.why)).collect();
        assert_eq!(told, ["m2: set /etc/kubernetes/pki/front-proxy-client.key to 0600 (is 0644)"]);
        let missing = ["m2 /etc/kubernetes/pki/apiserver.crt", "m2 /etc/kubernetes/pki/etcd/peer.crt"];
        for (path, text) in files(&world.state()) {
            assert_eq!(text == before[&path], !missing.contains(&path.as_str()), "{path}");
        }
    });
}

/// Row 27.
#[test]
fn row_27_a_new_name_and_address_of_the_api_are_put_into_its_servers_certificates_alone() {
    let mut cluster = harness::ha();
    block_on(async {
        let world = built(&cluster).await;
        let before = files(&world.state());
        let new = ["k8s.example.org", "198.51.100.7"].map(str::to_owned);
        cluster.api.alternative_names.extend(new.clone());
        let run = succeed(&world, &cluster, UP).await;
        assert_eq!(issued(&run.plan), ["m1 apiserver", "m2 apiserver", "m3 apiserver"]);
        let after = files(&world.state());
        for (path, text) in &after {
            assert_eq!(*text == before[path], !path.ends_with("/apiserver.crt"), "{path}");
        }
        let seen = observe(&world, &cluster).await;
        let der = &seen.hosts[&NodeName::new("m1")].certs["/etc/kubernetes/pki/apiserver.crt"];
        let names = certificate_of_der(der).unwrap().sans;
        assert!(new.iter().all(|name| names.contains(&name.as_str().into())), "{names:?}");
    });
}
