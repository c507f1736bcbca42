//! What no command and no choice of phases gets past: other versions of etcd, and hosts of another cluster.

use std::sync::Arc;

use rsadm::{
    fake::{Data, State, World},
    inventory::{Cluster, NodeName, Role},
    layout,
    observe::Observed,
    phases::{self, CERTS_RENEW, ETCD_MEMBERS, ETCD_UPGRADE, RESET, Table, UP, backups, ownership},
    plan::Refusal,
    versions::Version,
};
use time::OffsetDateTime;

use super::{
    changes,
    harness::{self, block_on, built, observe},
    members::with_e4,
};

/// Plans those phases of a table.
pub(super) fn plan(
    world: &Arc<World>,
    cluster: &Cluster,
    table: &Table,
    only: Option<&str>,
) -> Result<(), Refusal> {
    let seen = block_on(observe(world, cluster));
    let wants = |name: &str| only.is_none_or(|only| only == name);
    phases::plan(table, cluster, seen, OffsetDateTime::now_utc(), wants).map(|_| ())
}

/// Files of ours on a host without the note whose it is would look like somebody else's.
#[test]
fn what_one_phase_began_is_gone_on_with() {
    let cluster = harness::ha();
    let seen = block_on(observe(&World::new(State::new(&cluster)), &cluster));
    let now = OffsetDateTime::now_utc();
    let plan = |seen: &Observed, only: Option<&str>| {
        phases::plan(UP, &cluster, seen.clone(), now, |name| only.is_none_or(|only| only == name))
    };
    let mut begun = 0;
    for phase in UP.phases {
        let Ok((first, then)) = plan(&seen, Some(phase.name)) else { continue };
        begun += usize::from(first.changes() > 0);
        for again in [Some(phase.name), None] {
            let rule = plan(&then, again).err().map(|refusal| refusal.rule);
            assert_ne!(rule, Some("not-ours"), "{} and then {again:?}", phase.name);
        }
    }
    assert!(begun > 2, "{begun}");
    assert!(plan(&seen, Some("preflight")).unwrap().0.is_empty());
}

/// An API server that only learns of a new member would come back as another version.
#[test]
fn another_version_of_kubernetes_comes_along_with_nothing() {
    let mut cluster = harness::ha();
    let world = block_on(built(&cluster));
    let had = cluster.release.kubernetes;
    cluster.release = rsadm::versions::release(Version::new(had.major, had.minor - 1, 4)).unwrap();
    // Without it being asked for, etcd's own stays as it is.
    cluster.release = cluster.release.with_etcd(harness::ha().release.etcd);
    for (table, only) in
        [(UP, Some("control-plane")), (UP, Some("binaries")), (UP, Some("etcd")), (ETCD_MEMBERS, None)]
    {
        let refusal = plan(&world, &cluster, table, only).unwrap_err();
        assert_eq!(refusal.rule, "settled-version", "{only:?}: {refusal}");
        assert_eq!(refusal.help, format!("set kubernetes_version: {had}"));
    }
    assert_eq!(plan(&world, &cluster, UP, None).unwrap_err().rule, "preflight");
    assert_eq!(plan(&world, &cluster, RESET, None), Ok(()));
    assert_eq!(plan(&world, &cluster, ETCD_UPGRADE, None), Ok(()));
}

#[test]
fn another_version_of_etcd_is_no_setting_even_without_preflight() {
    let mut cluster = harness::etcd_only();
    let world = block_on(built(&cluster));
    assert_eq!(plan(&world, &cluster, UP, Some("etcd")), Ok(()));
    let had = cluster.release.etcd;
    for (wanted, way_out) in [
        (Version::new(3, had.minor, had.patch + 1), "`rsadm etcd upgrade` goes there".to_owned()),
        (Version::new(3, had.minor - 1, 8), format!("set etcd.version: {had}")),
    ] {
        cluster.release.etcd = wanted;
        let refusal = plan(&world, &cluster, UP, Some("etcd")).err().unwrap();
        assert_eq!(refusal.rule, "etcd-version", "{refusal}");
        assert!(refusal.why.contains(&format!("e1 has etcd {had}, e2 has")), "{refusal}");
        assert!(refusal.help.contains(&way_out), "{}", refusal.help);
    }
}

#[test]
fn an_inventory_of_another_cluster_plans_nothing() {
    let ours = harness::etcd_only();
    let world = block_on(built(&ours));
    let mut other = ours.clone();
    other.name = "staging".into();
    let mut one = other.clone();
    one.nodes.truncate(1);
    for inventory in [other, one] {
        for (table, only) in [
            (UP, None),
            (UP, Some("etcd")),
            (UP, Some("certificates")),
            (ETCD_MEMBERS, None),
            (ETCD_UPGRADE, None),
            (CERTS_RENEW, None),
            (RESET, None),
        ] {
            let refusal = plan(&world, &inventory, table, only).err().unwrap();
            assert_eq!(refusal.rule, "another-cluster", "{only:?}: {refusal}");
            assert!(refusal.why.contains("e1 belongs to the cluster lab-etcd (etcd cluster "), "{refusal}");
        }
    }
}

/// The first step of a rotation of keys by hand, as Kubernetes describes it, is a second key on one host. Whoever does as he
/// is told loses nothing of it.
#[test]
fn a_key_that_one_host_alone_has_stays_by_the_advice() {
    const ANOTHER: &[u8] = b"-----BEGIN PRIVATE KEY-----\nYW5vdGhlcg==\n-----END PRIVATE KEY-----\n";
    let cluster = harness::ha();
    let built = block_on(built(&cluster)).state();
    let control: Vec<NodeName> = cluster.with_role(Role::ControlPlane).map(|n| n.name.clone()).collect();
    for (paths, words) in [
        (
            &[layout::ENCRYPTION_CONFIG][..],
            "of the host that has all keys over that of the others of m1, m2, m3",
        ),
        (
            &["/etc/kubernetes/pki/sa.pub", "/etc/kubernetes/pki/sa.key"],
            "/etc/kubernetes/pki/sa.pub and /etc/kubernetes/pki/sa.key of the host whose pair shall stay",
        ),
    ] {
        let mut state = built.clone();
        state.hang_up();
        paths.iter().for_each(|path| state.machine(&control[1]).files.put(path, 0o600, ANOTHER));
        let refusal = plan(&World::new(state.clone()), &cluster, UP, Some("certificates")).err().unwrap();
        assert_eq!(refusal.rule, "one-authority", "{refusal}");
        assert!(refusal.help.contains(words), "{}", refusal.help);
        assert!(!refusal.help.contains("reset"), "{}", refusal.help);
        for host in &control {
            paths.iter().for_each(|path| state.machine(host).files.put(path, 0o600, ANOTHER));
        }
        assert_eq!(plan(&World::new(state), &cluster, UP, Some("certificates")), Ok(()));
    }
}

/// Tokens of that host's API server would be refused by all others, and by itself.
#[test]
fn a_private_key_that_one_host_alone_has_is_refused_beside_the_right_public_one() {
    let cluster = harness::ha();
    let mut state = harness::standing(&cluster);
    let files = &mut state.machine(&NodeName::new("m2")).files;
    let other = files.read("/etc/kubernetes/pki/etcd/server.key").unwrap().to_vec();
    files.put("/etc/kubernetes/pki/sa.key", 0o600, &other);
    let refusal = plan(&World::new(state), &cluster, UP, Some("certificates")).err().unwrap();
    assert_eq!(refusal.rule, "one-authority", "{refusal}");
    assert!(refusal.why.starts_with("/etc/kubernetes/pki/sa.key differs: m1 "), "{refusal}");
}

#[test]
fn a_certificate_of_another_cluster_is_moved_away_by_the_advice() {
    const PAIR: [&str; 2] = ["/etc/kubernetes/pki/etcd/server.crt", "/etc/kubernetes/pki/etcd/server.key"];
    let cluster = harness::etcd_only();
    let mut state = block_on(built(&cluster)).state();
    let foreign = block_on(built(&cluster)).state();
    let host = &cluster.nodes[0].name;
    state.hang_up();
    for path in PAIR {
        let text = foreign.machines[host].files.text(path).unwrap();
        state.machine(host).files.put(path, 0o600, text.as_bytes());
    }
    let refusal = plan(&World::new(state.clone()), &cluster, UP, Some("certificates")).err().unwrap();
    assert_eq!(refusal.rule, "foreign-certificate", "{refusal}");
    let advice = format!("move {} away on it, and `up` issues a new one", PAIR.join(" and "));
    assert!(refusal.help.contains(&advice) && !refusal.help.contains("reset"), "{}", refusal.help);
    PAIR.iter().for_each(|path| state.machine(host).files.remove(path));
    assert_eq!(plan(&World::new(state), &cluster, UP, Some("certificates")), Ok(()));
}

/// Neither with the phase that looks at hosts nor without it, and also where a restore or a replacement has recorded whose
/// their data is.
#[test]
fn no_choice_of_phases_takes_over_what_kubeadm_built() {
    let cluster = harness::ha();
    let mut state = block_on(built(&cluster)).state();
    let records: Vec<_> = state
        .machines
        .iter()
        .filter_map(|(name, m)| Some((name.clone(), m.files.text(layout::IDENTITY)?)))
        .collect();
    state.hang_up();
    state.built_by_kubeadm();
    let mut recorded = state.clone();
    for (name, text) in records {
        recorded.machine(&name).files.put(layout::IDENTITY, 0o644, text.as_bytes());
    }
    for state in [state, recorded] {
        let world = World::new(state);
        for only in [None].into_iter().chain(UP.phases.iter().map(|phase| Some(phase.name))) {
            // It takes nothing over.
            if only == Some(backups::PHASE) {
                continue;
            }
            let refusal = plan(&world, &cluster, UP, only).err().unwrap();
            let rule = if only.is_none_or(|only| only == "preflight") { "preflight" } else { "not-ours" };
            assert_eq!(refusal.rule, rule, "{only:?}: {refusal}");
            assert!(
                refusal.why.contains("has Kubernetes that rsadm did not put there"),
                "{only:?}: {refusal}"
            );
        }
        assert_eq!(plan(&world, &cluster, ETCD_MEMBERS, None), Ok(()));
        let mut newer = cluster.clone();
        newer.release.etcd.patch += 1;
        let refusal = plan(&world, &newer, UP, None).err().unwrap();
        assert!(!refusal.to_string().contains("etcd v"), "names what `up` has no business with: {refusal}");
        let (reset, _) = phases::plan(
            RESET,
            &cluster,
            block_on(observe(&world, &cluster)),
            OffsetDateTime::now_utc(),
            |_| true,
        )
        .unwrap();
        assert!(reset.is_empty(), "would wipe what kubeadm built:\n{}", harness::words(&reset));
    }
}

/// Somebody's own etcd on a host that joins the inventory for something else.
#[test]
fn an_etcd_that_nobody_knows_is_not_cleared() {
    let cluster = harness::etcd_only();
    let mut state = harness::standing(&cluster);
    let mut wider = cluster.clone();
    let mut other = cluster.nodes[0].clone();
    (other.name, other.internal_address) = (NodeName::new("x1"), [10, 77, 0, 61].into());
    other.roles = vec![Role::Worker];
    wider.nodes.push(other);
    state.meet(&wider);
    let files = &mut state.machine(&NodeName::new("x1")).files;
    files.put(Data::PATH, 0o700, br#"{"cluster":1,"member":2}"#);
    files.put(layout::ETCD_MANIFEST, 0o600, b"kind: Pod\n");
    let world = World::new(state);
    for (table, rule) in [(UP, "not-ours"), (ETCD_MEMBERS, "foreign-data")] {
        let refusal = plan(&world, &wider, table, Some("etcd")).err().unwrap();
        assert_eq!(refusal.rule, rule, "{refusal}");
        assert!(refusal.to_string().contains("x1"), "{refusal}");
    }
}

#[test]
fn no_member_joins_with_an_older_etcd_than_the_others() {
    let mut cluster = harness::etcd_only();
    let mut state = harness::standing(&cluster);
    let had = cluster.release.etcd;
    let mut e4 = cluster.nodes[0].clone();
    (e4.name, e4.internal_address) = (NodeName::new("e4"), [10, 77, 0, 34].into());
    cluster.nodes.push(e4);
    cluster.release.etcd = Version::new(3, had.minor - 1, 8);
    state.meet(&cluster);
    let refusal = plan(&World::new(state), &cluster, ETCD_MEMBERS, None).err().unwrap();
    assert_eq!(refusal.rule, "etcd-version", "{refusal}");
    assert!(refusal.to_string().contains("e4 cannot become a member of etcd"), "{refusal}");
    assert_eq!(refusal.help, format!("set etcd.version: {had}"));
}

#[test]
fn a_member_that_is_well_leaves_after_its_successor_votes() {
    let before = harness::etcd_only();
    let built = block_on(built(&before)).state();
    let change = changes::MEMBERSHIP.iter().find(|c| c.name == "one member instead of another").unwrap();
    let (cluster, start) = change.apply(&before, &built);
    let plan = block_on(harness::plan(&World::new(start), &cluster, UP));
    let words = harness::words(&plan);
    let place = |what: &str| words.lines().position(|line| line.contains(what)).unwrap();
    let [joins, leaves] = ["give e4 its vote", "remove e1 from etcd"].map(place);
    assert!(joins < leaves, "{words}");
}

/// Hosts whose addresses were exchanged in the inventory: what was built as one answers under the other's name.
#[test]
fn hosts_with_each_others_addresses_are_left_alone() {
    let cases = [
        (harness::ha(), "m1", "m2"),
        (harness::ha(), "w1", "w2"),
        (harness::ha(), "m3", "w1"),
        (harness::etcd_only(), "e1", "e3"),
    ];
    for (cluster, one, other) in cases {
        let world = block_on(built(&cluster));
        let mut seen = block_on(observe(&world, &cluster));
        let [one, other] = [one, other].map(NodeName::new);
        let (first, second) = (seen.hosts[&one].clone(), seen.hosts[&other].clone());
        seen.hosts.extend([(one.clone(), second), (other.clone(), first)]);
        let address = &cluster.node(&one).unwrap().address;
        let told = format!("at {address}, the address of {one}, is the host that was built as {other}");
        for (table, skipped) in
            [(UP, "etcd"), (UP, "preflight"), (ETCD_MEMBERS, ""), (CERTS_RENEW, ""), (RESET, "")]
        {
            let now = OffsetDateTime::now_utc();
            let refusal =
                phases::plan(table, &cluster, seen.clone(), now, |name| name != skipped).unwrap_err();
            assert_eq!(refusal.rule, "host-moved", "{refusal}");
            assert!(refusal.why.starts_with(&told), "{refusal}");
        }
        // Renamed: nobody else is called that.
        let mut renamed = cluster.clone();
        renamed.nodes.retain(|n| n.name != other);
        seen.hosts.remove(&other);
        assert_eq!(ownership::check(&renamed, &seen), Ok(()));
    }
}

#[test]
fn an_edited_address_takes_no_member_out_that_is_well() {
    let mut cluster = harness::etcd_only();
    let world = block_on(built(&cluster));
    for (host, address) in [(0, 51), (2, 53)] {
        let kept = cluster.nodes[host].internal_address;
        cluster.nodes[host].internal_address = [10, 77, 0, address].into();
        let tables =
            [(UP, "etcd"), (UP, "certificates"), (ETCD_MEMBERS, "etcd"), (CERTS_RENEW, "certificates")];
        for (table, only) in tables {
            let refusal = plan(&world, &cluster, table, Some(only)).err().unwrap();
            assert_eq!(refusal.rule, "member-moved", "{only}: {refusal}");
            assert!(refusal.why.contains(&kept.to_string()), "{refusal}");
        }
        cluster.nodes[host].internal_address = kept;
    }
}

/// The members are asked who else is one: without a single one that stays there is nobody to ask.
#[test]
fn all_members_are_not_exchanged_at_once() {
    let before = harness::ha();
    let (mut cluster, mut state) = with_e4(before.clone(), block_on(built(&before)).state());
    state.hang_up();
    cluster
        .nodes
        .iter_mut()
        .filter(|n| n.is(Role::ControlPlane))
        .for_each(|n| n.roles = vec![Role::ControlPlane]);
    for only in [None, Some("certificates"), Some("etcd")] {
        let refusal = plan(&World::new(state.clone()), &cluster, UP, only).err().unwrap();
        assert_eq!(refusal.rule, "settled-etcd", "{only:?}: {refusal}");
        assert!(
            refusal.help.starts_with("give m1, m2, m3 the role etcd again, beside e4"),
            "{}",
            refusal.help
        );
    }
    // Nobody logs in to hosts that the inventory has no more; API servers still dial their members.
    let before = harness::external_etcd();
    let mut external = before.clone();
    let left = harness::standing(&before);
    external.nodes.retain(|n| !n.is(Role::Etcd));
    external.nodes[0].roles.push(Role::Etcd);
    let refusal = plan(&World::new(left), &external, UP, None).err().unwrap();
    assert_eq!(refusal.rule, "settled-etcd", "{refusal}");
    assert!(refusal.why.starts_with("its members are at https://"), "{refusal}");
    cluster.nodes[0].roles.push(Role::Etcd);
    let refusal = plan(&World::new(state), &cluster, UP, None).err().map(|refusal| refusal.rule);
    assert_ne!(refusal, Some("settled-etcd"), "m1 stays");
}
