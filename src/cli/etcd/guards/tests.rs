use super::*;
use crate::{
    etcd::status::tests::Scene,
    manifests::testing,
    observe::{FileFact, facts::ProcessFact},
};

#[test]
fn an_api_server_on_a_host_that_is_no_control_plane_is_not_restored_beside() {
    let cluster = testing::ha();
    let server = ProcessFact { name: "kube-apiserver".into(), revision: None, etcd_servers: vec![] };
    let on = |host: &str| {
        let facts = Facts { processes: vec![server.clone()], ..Facts::default() };
        Observed { hosts: [(NodeName::new(host), facts)].into(), ..Observed::default() }
    };
    assert_eq!(serves_as_nothing_else(&cluster, &on("m1")), Ok(()));
    let refusal = serves_as_nothing_else(&cluster, &on("w1")).unwrap_err();
    assert!(refusal.help.starts_with("give w1 the role control-plane"), "{refusal}");
}

#[test]
fn hosts_of_kubeadm_beside_one_without_a_manifest_are_refused_before_anything_makes_room() {
    let cluster = testing::ha();
    let targets: Vec<NodeName> = cluster.with_role(Role::Etcd).map(|n| n.name.clone()).collect();
    let with_manifest = Facts { etcd_manifest: Some(String::new()), etcd_data: true, ..Facts::default() };
    let ours = Facts { begun: Some(cluster.name.clone()), ..with_manifest.clone() };
    let mut kubeadms = with_manifest;
    let file = FileFact { mode: 0o600, owner: "0:0".into(), sha256: "ab".into() };
    kubeadms.files.insert(layout::KUBELET_CONF.into(), file);
    let bare = Facts { etcd_data: true, ..Facts::default() };
    let wiped = Facts { begun: ours.begun.clone(), ..Facts::default() };
    for (hosts, refused) in [
        ([&kubeadms, &kubeadms, &kubeadms], None),
        ([&kubeadms, &bare, &kubeadms], Some("etcd cannot be made anew with m2")),
        ([&kubeadms, &bare, &bare], Some("etcd cannot be made anew with m2, m3")),
        ([&ours, &bare, &wiped], None),
        ([&bare, &bare, &bare], None),
    ] {
        let hosts = targets.iter().cloned().zip(hosts.into_iter().cloned()).collect();
        let seen = Observed { hosts, ..Observed::default() };
        let said = gets_its_manifest(&cluster, seen, &targets);
        assert_eq!(said.err().map(|refusal| refusal.subject).as_deref(), refused);
    }
    // What lies on a host that gets none says that it is somebody else's, and `up` will not build beside it.
    let hosts = [("m1", &ours), ("m2", &bare), ("m3", &wiped), ("w1", &bare)];
    let hosts = hosts.map(|(name, facts)| (NodeName::new(name), facts.clone())).into();
    let said = gets_its_manifest(&cluster, Observed { hosts, ..Observed::default() }, &targets);
    assert_eq!(said.err().unwrap().subject, "etcd cannot be made anew with m2, m3");
}

/// It would be refused when the data is exchanged and API servers are stopped.
#[test]
fn a_host_of_another_role_is_told_before_anything_makes_room() {
    let cluster = testing::ha();
    let targets: Vec<NodeName> = cluster.with_role(Role::Etcd).map(|n| n.name.clone()).collect();
    let ours = Facts { begun: Some(cluster.name.clone()), ..Facts::default() };
    let member = Facts { etcd_manifest: Some(String::new()), etcd_data: true, ..ours.clone() };
    let mut former = ours.clone();
    let file = FileFact { mode: 0o600, owner: "0:0".into(), sha256: "ab".into() };
    former.files.insert(layout::manifest_of("kube-apiserver"), file);
    for (m3, w1, refused) in [
        (&ours, &former, Some("settled-role")),
        (&ours, &ours, None),
        // Members that have their manifests start with those.
        (&member, &former, None),
    ] {
        let hosts = [("m1", &member), ("m2", &member), ("m3", m3), ("w1", w1)];
        let hosts = hosts.map(|(name, facts)| (NodeName::new(name), facts.clone())).into();
        let said = gets_its_manifest(&cluster, Observed { hosts, ..Observed::default() }, &targets);
        assert_eq!(said.err().map(|refusal| refusal.rule), refused);
    }
}

#[test]
fn an_etcd_that_looks_elsewhere_is_told_before_anything_makes_room() {
    let targets = ["m1", "m2"].map(NodeName::new);
    let with =
        |elsewhere: Option<&str>| Facts { etcd_elsewhere: elsewhere.map(Into::into), ..Facts::default() };
    for (second, refused) in [
        (None, None),
        (
            Some("/data/etcd"),
            Some("etcd on m2 has its data or log at /data/etcd, and rsadm puts data at /var/lib/etcd"),
        ),
    ] {
        let hosts = targets.iter().cloned().zip([with(None), with(second)]).collect();
        let said = looks_where_data_is_put(&Observed { hosts, ..Observed::default() }, &targets);
        assert_eq!(said.err().map(|refusal| refusal.subject).as_deref(), refused);
    }
}

#[test]
fn a_bare_host_is_told_before_a_recovery_makes_room() {
    let targets = ["m1", "m2"].map(NodeName::new);
    let with = |images: &[&str]| Facts {
        images: images.iter().map(|image| (*image).to_owned()).collect(),
        ..Facts::default()
    };
    let equipped = with(&["registry.k8s.io/pause:3.10", "registry.k8s.io/etcd:3.6.6-0"]);
    for (second, refused) in [
        (equipped.clone(), None),
        (with(&[]), Some("m2 cannot take etcd's data")),
        (with(&["registry.k8s.io/pause:3.10"]), Some("m2 cannot take etcd's data")),
        (Facts { images_untold: true, ..with(&[]) }, None),
    ] {
        let hosts = targets.iter().cloned().zip([equipped.clone(), second]).collect();
        let said = has_programs(&Observed { hosts, ..Observed::default() }, &targets);
        assert_eq!(said.err().map(|refusal| refusal.subject).as_deref(), refused);
    }
}

/// Whoever was not let in, or led nowhere, did not find out that etcd is off.
#[test]
fn members_that_may_run_out_of_reach_are_not_taken_for_dead() {
    let running =
        |name: &str, unknown: Option<&str>| Running { name: name.into(), unknown: unknown.map(Into::into) };
    assert_eq!(runs_out_of_reach(&[]), Ok(()));
    let expired = running("m2", Some("certificate expired"));
    let refused = runs_out_of_reach(std::slice::from_ref(&expired)).unwrap_err();
    assert!(refused.subject.contains("not known whether m2 may run"), "{refused}");
    assert!(refused.why.contains("is off: m2: certificate expired;"), "{refused}");
    let refused = runs_out_of_reach(&[expired, running("m3", None)]).unwrap_err();
    assert_eq!(refused.subject, "etcd cannot be made anew beside m3");
}

#[test]
fn the_command_that_heals_a_member_names_it() {
    let silent = |members: &[usize]| {
        members.iter().fold(Scene::new(5), |scene, n| scene.silence(*n, "refused")).report()
    };
    for (ill, command) in [
        (&[][..], "HOST heals a single one"),
        (&[2], "m2 heals m2"),
        (&[2, 4], "HOST heals a single one of m2, m4"),
    ] {
        let hint = heals_one(&silent(ill), " prod.yaml");
        assert!(hint.ends_with(&format!("; rsadm etcd replace prod.yaml {command}")), "{hint}");
    }
}
