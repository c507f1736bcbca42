//! Certificates as a run finds them that nobody planned: rotated, without their keys, copied from other hosts.

use rsadm::{
    fake::World,
    host::Op,
    inventory::NodeName,
    layout,
    phases::UP,
    pki::{
        authorities::Ca,
        files::{Server, leaf},
        issue::{Authority, Issued},
        leaf::Place,
        specs::spec_for,
    },
    secret::Secret,
};
use time::OffsetDateTime;

use crate::harness::{self, block_on, in_sync, run};

#[test]
fn a_client_certificate_that_the_kubelet_rotated_is_kept() {
    let cluster = harness::single();
    let mut state = harness::standing(&cluster);
    let node = &cluster.nodes[0];
    let files = &mut state.machine(&node.name).files;
    let key = Secret::new(files.read(&Ca::Cluster.key_path()).unwrap().to_vec());
    let cert = files.text(&Ca::Cluster.cert_path()).unwrap();
    let authority = Authority::load(Ca::Cluster, Issued { cert, key }).unwrap();
    let mut spec = spec_for(&cluster, node, "kubelet-client").unwrap();
    let rotated = "/var/lib/kubelet/pki/kubelet-client-2026-05-01-00-00-00.pem";
    spec.place = Place::Bundle { path: rotated.into(), link: layout::KUBELET_CLIENT_CURRENT.into() };
    let issued = authority.issue(&spec, OffsetDateTime::now_utc()).unwrap();
    for op in leaf(&spec, &issued, &Server { cluster: "", url: "", ca: "" }) {
        if let Op::Put(file) = op {
            files.put(&file.path, file.mode, file.data.expose());
        }
    }
    files.link(layout::KUBELET_CLIENT_CURRENT, rotated);
    block_on(in_sync(&World::new(state), &cluster, UP));
}

/// A run that ends between the two files leaves a new key beside the old certificate; a full disk, or somebody, an empty one or a
/// part of one.
#[test]
fn a_certificate_whose_key_is_not_its_own_is_issued_anew() {
    let cluster = harness::ha();
    let m2 = NodeName::new("m2");
    let (key, cert) =
        (format!("{}/server.key", layout::ETCD_PKI_DIR), format!("{}/server.crt", layout::ETCD_PKI_DIR));
    let others = format!("{}/peer.key", layout::ETCD_PKI_DIR);
    for (length, why) in [(0, "missing"), (100, "missing"), (usize::MAX, "does not fit its key")] {
        let mut state = harness::standing(&cluster);
        let files = &mut state.machine(&m2).files;
        let before = files.text(&cert).unwrap();
        let spoiled = files.read(&others).unwrap().iter().copied().take(length).collect::<Vec<u8>>();
        files.put(&key, 0o600, &spoiled);
        let world = World::new(state);
        let run = block_on(run(&world, &cluster, UP)).unwrap();
        let words = harness::words(&run.plan);
        assert!(words.contains(why), "{why}: {words}");
        let mut state = world.state();
        let after = state.machine(&m2).files.text(&cert).unwrap();
        assert_ne!(after, before, "{why}");
        block_on(in_sync(&World::new(state), &cluster, UP));
    }
}

/// A file that somebody copied makes no other host of it.
#[test]
fn a_certificate_that_was_copied_from_another_host_is_issued_anew() {
    let cluster = harness::etcd_only();
    let mut state = harness::standing(&cluster);
    let server = |end: &str| format!("{}/server.{end}", layout::ETCD_PKI_DIR);
    for end in ["crt", "key"] {
        let copied = state.machine(&NodeName::new("e1")).files.read(&server(end)).unwrap().to_vec();
        state.machine(&NodeName::new("e3")).files.put(&server(end), 0o600, &copied);
    }
    let world = World::new(state);
    let run = block_on(run(&world, &cluster, UP)).unwrap();
    let words = harness::words(&run.plan);
    assert!(words.contains("issued to e1, not to e3"), "{words}");
    block_on(in_sync(&World::new(world.state()), &cluster, UP));
}

/// API servers run as root without the privilege to go past modes, and would not start again.
#[test]
fn folders_that_nobody_can_use_are_opened() {
    let cluster = harness::single();
    let node = cluster.nodes[0].name.clone();
    for folder in [layout::KUBERNETES_DIR, layout::PKI_DIR, layout::ETCD_PKI_DIR] {
        let mut state = harness::standing(&cluster);
        state.machine(&node).files.folder(folder, 0);
        let world = World::new(state);
        let run = block_on(run(&world, &cluster, UP)).unwrap();
        let words = harness::words(&run.plan);
        assert!(words.contains("root's own containers cannot use it"), "{folder}: {words}");
        block_on(in_sync(&World::new(world.state()), &cluster, UP));
    }
}
