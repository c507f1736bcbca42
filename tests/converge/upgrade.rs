//! `etcd upgrade`: to the end wherever it was killed, back where the new version does not run, and not back once it served.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rsadm::{
    etcd::{EtcdApi, Silence},
    exec::{
        RunError,
        members::{MemberHost, Members},
    },
    fake::{Data, FakeMembers, State, World},
    inventory::{Cluster, NodeName, Role},
    layout,
    phases::{Aim, ETCD_UPGRADE, UP},
    versions::Version,
};

use crate::{
    faults::{heals_from_every_kill, undisturbed},
    harness::{self, block_on, in_sync, run, run_through, succeed},
    members::{self, Asked},
    rollback::{FLAG, kept, pods},
};

/// Members that never come are waited for by the clock of the machine that the tests run on.
const A_MOMENT: Duration = Duration::from_secs(1);

fn topologies() -> [Cluster; 3] {
    [harness::ha(), harness::single(), harness::etcd_only()]
}

fn newer(cluster: &Cluster) -> Cluster {
    let mut newer = cluster.clone();
    let had = newer.release.etcd;
    newer.release = newer.release.with_etcd(Version::new(had.major, had.minor + 1, 0));
    newer
}

/// The same, with something that the new version falls over.
fn useless(cluster: &Cluster) -> Cluster {
    let mut useless = newer(cluster);
    useless.etcd.extra_args.insert(FLAG.into(), "x".into());
    useless
}

fn first(cluster: &Cluster) -> NodeName {
    cluster.with_role(Role::Etcd).next().unwrap().name.clone()
}

#[test]
fn it_comes_to_its_end_wherever_it_was_killed() {
    for cluster in topologies() {
        let newer = newer(&cluster);
        let undisturbed = undisturbed(&newer, harness::standing(&cluster), ETCD_UPGRADE);
        let last = undisturbed.moments.last().unwrap();
        assert_eq!(kept(last), Vec::<String>::new(), "{}", cluster.name);
        assert!(undisturbed.moments.iter().any(|m| kept(m).len() == 1), "{}: nothing was kept", cluster.name);
        heals_from_every_kill(&cluster.name, &newer, &undisturbed, ETCD_UPGRADE);
    }
}

#[test]
fn a_version_that_does_not_run_is_taken_back_at_the_first_member() {
    for good in topologies() {
        let start = harness::standing(&good);
        let world = World::new(start.clone());
        let outcome = block_on(run(&world, &useless(&good), ETCD_UPGRADE)).unwrap();
        let Err(RunError::Failed(failures)) = outcome.result else { panic!("{}: not noticed", good.name) };
        let [failure] = &failures[..] else { panic!("{}: {failures:?}", good.name) };
        assert_eq!(failure.host, Some(first(&good)));
        let state = failure.state.join("\n");
        assert!(state.contains("etcd has its manifest from before again, and serves"), "{state}");

        world.inner().state.settle();
        assert_eq!(pods(&world.state()), pods(&start), "{}", good.name);
        assert_eq!(kept(&world.state()), Vec::<String>::new(), "{}", good.name);
        assert_eq!(world.state().violations, Vec::<String>::new(), "{}", good.name);
        block_on(async {
            in_sync(&world, &good, UP).await;
            succeed(&world, &newer(&good), ETCD_UPGRADE).await;
        });
    }
}

/// As a run leaves a host that was killed right behind its new manifest: what the refusal names leads back.
#[test]
fn each_way_back_that_is_named_is_one() {
    for good in topologies() {
        let (host, alone) = (first(&good), good.with_role(Role::Etcd).count() == 1);
        let world = World::new(harness::standing(&good));
        world.keep_snapshots();
        assert!(block_on(run(&world, &useless(&good), ETCD_UPGRADE)).unwrap().result.is_err());
        let written = format!("{host}: write {}", layout::ETCD_MANIFEST);
        let mut left = world.snapshots().into_iter().find(|m| m.log.last() == Some(&written)).unwrap();
        left.hang_up();
        left.settle();
        let world = World::new(left);
        for table in [ETCD_UPGRADE, UP] {
            let why = block_on(run(&world, &good, table)).err().unwrap();
            let (wanted, other) = ("`rsadm etcd replace HOST`", "`rsadm up` starts");
            let (wanted, other) = if alone { (other, wanted) } else { (wanted, other) };
            assert!(why.contains(wanted) && !why.contains(other), "{}: {why}", good.name);
        }
        world.inner().state.hang_up();
        match alone {
            true => world.inner().state.machine(&host).files.remove(layout::ETCD_MANIFEST),
            false => {
                let named: &'static [&str] = if host.as_str() == "m1" { &["m1"] } else { &["e1"] };
                block_on(members::run(&world, &good, Asked(named, named))).unwrap();
            }
        }
        world.inner().state.hang_up();
        block_on(async {
            succeed(&world, &good, UP).await;
            in_sync(&world, &good, UP).await;
        });
        assert_eq!(world.state().violations, Vec::<String>::new(), "{}", good.name);
    }
}

/// Members of which the first ends whenever it is asked with another manifest than it had.
struct Brittle {
    world: Arc<World>,
    members: FakeMembers,
    host: NodeName,
    had: Vec<u8>,
}

#[async_trait]
impl Members for Brittle {
    fn hosts(&self) -> Vec<MemberHost> {
        self.members.hosts()
    }

    async fn dial(&self, host: &NodeName) -> Result<Box<dyn EtcdApi>, Silence> {
        if *host == self.host {
            let mut inner = self.world.inner();
            let machine = inner.state.machine(host);
            if machine.files.read(layout::ETCD_MANIFEST) != Some(&self.had) {
                machine.kill_pods();
            }
        }
        self.members.dial(host).await
    }
}

#[test]
fn a_version_that_has_served_is_not_taken_back_even_where_it_then_ends() {
    for good in [harness::single(), harness::etcd_only()] {
        let (world, host) = (World::new(harness::standing(&good)), first(&good));
        let manifest = |world: &Arc<World>| {
            world.inner().state.machine(&host).files.read(layout::ETCD_MANIFEST).map(<[u8]>::to_vec).unwrap()
        };
        let had = manifest(&world);
        world.inner().state.disaster = true;
        let members = world.members(&good);
        let brittle = Brittle { world: world.clone(), members, host: host.clone(), had: had.clone() };
        let outcome =
            block_on(run_through(&world, &newer(&good), ETCD_UPGRADE, &brittle, Some(A_MOMENT))).unwrap();
        let Err(RunError::Failed(failures)) = outcome.result else { panic!("{}: not noticed", good.name) };
        assert!(failures[0].step.contains("hold the same data"), "{failures:?}");
        assert!(manifest(&world) != had, "{}: {failures:?}", good.name);
        assert_eq!(kept(&world.state()), Vec::<String>::new(), "{}", good.name);
    }
}

/// Members of which one lacks what the others have, once it was started anew.
struct Forgetful {
    world: Arc<World>,
    members: FakeMembers,
    host: NodeName,
    had: Vec<u8>,
}

#[async_trait]
impl Members for Forgetful {
    fn hosts(&self) -> Vec<MemberHost> {
        self.members.hosts()
    }

    async fn dial(&self, host: &NodeName) -> Result<Box<dyn EtcdApi>, Silence> {
        {
            let mut inner = self.world.inner();
            let files = &mut inner.state.machine(&self.host).files;
            if files.read(layout::ETCD_MANIFEST) != Some(&self.had) {
                let mut data = Data::read(files.read(Data::PATH).unwrap()).unwrap();
                data.written.clear();
                files.put(Data::PATH, 0o700, &serde_json::to_vec(&data).unwrap());
            }
        }
        self.members.dial(host).await
    }
}

#[test]
fn no_member_follows_one_whose_data_is_not_that_of_the_others() {
    let good = harness::etcd_only();
    let (mut start, host) = (harness::standing(&good), first(&good));
    assert!(start.write("kept"));
    let had = start.machine(&host).files.read(layout::ETCD_MANIFEST).unwrap().to_vec();
    let world = World::new(start.clone());
    let members = world.members(&good);
    let forgetful = Forgetful { world: world.clone(), members, host: host.clone(), had };
    let outcome =
        block_on(run_through(&world, &newer(&good), ETCD_UPGRADE, &forgetful, Some(A_MOMENT))).unwrap();
    let Err(RunError::Failed(failures)) = outcome.result else { panic!("not noticed") };
    let [failure] = &failures[..] else { panic!("{failures:?}") };
    assert_eq!(failure.host, Some(host.clone()));
    let cause = failure.cause.clone().unwrap_or_default();
    assert!(cause.starts_with("e1: its data differs from the others"), "{cause}");
    let state = world.state();
    for node in &good.nodes {
        let manifest =
            |state: &State| state.machines[&node.name].files.read(layout::ETCD_MANIFEST).map(<[u8]>::to_vec);
        assert_eq!(manifest(&state) != manifest(&start), node.name == host, "{}", node.name);
    }
}

/// Row 50 of the fault matrix, with images that somebody put into the manifests by hand: both tables refuse, and say what does it.
#[test]
fn row_50_a_3_5_goes_to_3_6_late_and_a_downgrade_is_etcdctls() {
    let cluster = harness::etcd_only();
    let to_3_6 = Version::new(3, 6, 14);
    for (from, told) in [
        (
            Version::new(3, 5, 25),
            Some(["members that were removed long ago could come back", "first bring it to v3.5.26"]),
        ),
        (Version::new(3, 5, 26), None),
        (cluster.release.etcd, Some(["writes what an older one does not read", "takes etcdctl downgrade"])),
    ] {
        let mut state = harness::standing(&cluster);
        let image = |version| cluster.release.clone().with_etcd(version).etcd_image();
        let (had, has) = (image(cluster.release.etcd), image(from));
        for machine in state.machines.values_mut() {
            let manifest = machine.files.text(layout::ETCD_MANIFEST).unwrap();
            assert!(manifest.contains(&had), "{manifest}");
            machine.files.put(layout::ETCD_MANIFEST, 0o600, manifest.replace(&had, &has).as_bytes());
        }
        let world = World::new(state);
        let mut wanted = cluster.clone();
        wanted.release = wanted.release.with_etcd(to_3_6);
        for table in [ETCD_UPGRADE, UP] {
            let seen = block_on(harness::observe(&world, &wanted));
            let now = time::OffsetDateTime::now_utc();
            let refusal = rsadm::phases::plan(table, &wanted, seen, now, |_| true).err();
            let text = refusal.map(|r| format!("{r}; {}", r.help));
            match (told, table.aim == Aim::Build) {
                (Some(words), _) => {
                    let text = text.unwrap_or_else(|| panic!("{from} becomes {to_3_6}"));
                    assert!(words.iter().all(|word| text.contains(word)), "{from}: {text}");
                }
                (None, true) => assert!(text.unwrap().contains("`rsadm etcd upgrade` goes there"), "{from}"),
                (None, false) => assert_eq!(text, None, "{from}"),
            }
        }
    }
}
