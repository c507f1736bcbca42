use base64::{Engine, prelude::BASE64_STANDARD};
use time::{Duration, macros::datetime};

use super::*;
use crate::{
    manifests::testing,
    observe::{FileFact, facts::KubeconfigFact},
    pki::{inspect::inspect, issue::Authority as Signer, leaf::Place},
    ui::certificates::render,
};

const NOW: OffsetDateTime = datetime!(2026-11-22 14:05:10 UTC);

/// A single node whose certificates were issued so many days ago, and what it serves.
struct Scene {
    cluster: Cluster,
    seen: Observed,
    served: BTreeMap<(NodeName, &'static str), Result<CertInfo, String>>,
    unreachable: BTreeMap<NodeName, String>,
}

impl Scene {
    fn aged(days: i64) -> Self {
        Self::of(NOW, |_| days)
    }

    /// The same with authorities of that moment, and an age for each name.
    fn of(founded: OffsetDateTime, age: impl Fn(&str) -> i64) -> Self {
        let cluster = testing::single();
        let node = cluster.nodes[0].clone();
        let (mut facts, mut served) = (Facts::default(), BTreeMap::new());
        for ca in Ca::ALL {
            let signer = Signer::make(ca, founded).unwrap();
            facts.certs.insert(ca.cert_path(), der(&signer.files().cert));
            let file = FileFact { mode: 0o600, owner: "0:0".into(), sha256: String::new() };
            facts.files.insert(ca.key_path(), file.clone());
            for spec in specs::specs_for(&cluster, &node).into_iter().filter(|s| s.ca == ca) {
                let issued = signer.issue(&spec, NOW - Duration::days(age(spec.name))).unwrap();
                facts.files.insert(spec.place.key_path().to_owned(), file.clone());
                if ["apiserver", "etcd-server", "etcd-peer", "kubelet-server"].contains(&spec.name) {
                    served.insert((node.name.clone(), spec.name), Ok(inspect(&issued.cert).unwrap()));
                }
                match &spec.place {
                    Place::Kubeconfig { path } => {
                        let cert = Some(BASE64_STANDARD.encode(&issued.cert));
                        let fact = KubeconfigFact { cert, ..KubeconfigFact::default() };
                        facts.kubeconfigs.insert(path.clone(), fact);
                    }
                    place => drop(facts.certs.insert(place.cert_path().to_owned(), der(&issued.cert))),
                }
            }
        }
        let seen = Observed { hosts: [(node.name, facts)].into(), ..Observed::default() };
        Self { cluster, seen, served, unreachable: BTreeMap::new() }
    }

    fn facts(&mut self) -> &mut Facts {
        self.seen.hosts.values_mut().next().unwrap()
    }

    fn warns(&self) -> Vec<String> {
        let advice = self.status().advice.into_iter().filter(|a| a.level == Level::Warning);
        advice.map(|a| a.text).collect()
    }

    fn status(&self) -> CertificatesStatus {
        self.status_in(0)
    }

    fn status_in(&self, days: i64) -> CertificatesStatus {
        assess(&Sources {
            cluster: &self.cluster,
            inventory: " prod.yaml",
            seen: &self.seen,
            unreachable: &self.unreachable,
            served: &self.served,
            now: NOW + Duration::days(days),
        })
    }

    fn commands(status: &CertificatesStatus) -> Vec<&str> {
        status.advice.iter().filter_map(|a| a.command.as_deref()).collect()
    }
}

fn der(pem: &str) -> String {
    pem.lines().filter(|l| !l.starts_with('-')).collect()
}

#[test]
fn young_certificates_need_nothing() {
    let status = Scene::aged(0).status();
    assert_eq!((status.verdict, &status.advice[..]), (Verdict::Healthy, &[][..]));
    assert_eq!((status.certificates.len(), status.authorities.len()), (13, 3));
}

/// Rows 28 and 29.
#[test]
fn what_ends_is_told_in_time_and_what_has_ended_before_all() {
    for (age, days, verdict, command) in [
        (270, 0, Verdict::Healthy, None),
        (280, 0, Verdict::Healthy, Some("rsadm certs renew prod.yaml")),
        (334, 0, Verdict::Healthy, Some("rsadm certs renew prod.yaml")),
        (336, 0, Verdict::Degraded, Some("rsadm certs renew prod.yaml")),
        (366, 0, Verdict::Degraded, Some("rsadm certs renew prod.yaml")),
    ] {
        let status = Scene::aged(age).status_in(days);
        assert_eq!(status.verdict, verdict, "{age}");
        assert_eq!(Scene::commands(&status).first().copied(), command, "{age}: {:?}", status.advice);
    }
    let scene = Scene::aged(-3465);
    for (days, warned) in [(3469, false), (3471, true), (3651, true)] {
        let status = scene.status_in(days);
        assert_eq!(status.advice.iter().any(|a| a.text.contains("the cluster CA")), warned, "{days}");
        assert_eq!(status.verdict == Verdict::Degraded, warned, "{days}");
        // That of etcd alone can be prolonged.
        let steps = "etcd's authority ends";
        let told = status.advice.iter().filter(|a| a.text.contains(steps)).count();
        assert_eq!(told, usize::from(days == 3471), "{days}: {:?}", status.advice);
        assert!(include_str!("../../../README.md").contains(&format!("\n### {steps}\n")));
    }
}

/// A kubelet renews its own in time: one that has not is told before it is too late.
#[test]
fn a_kubelets_own_is_told_once_it_is_late() {
    for (age, verdict, commands) in [
        (300, Verdict::Healthy, vec![]),
        (328, Verdict::Healthy, vec![]),
        (330, Verdict::Healthy, vec!["rsadm certs renew prod.yaml"]),
        (336, Verdict::Degraded, vec!["rsadm certs renew prod.yaml"]),
    ] {
        let status = Scene::of(NOW, |name| if name == "kubelet-client" { age } else { 0 }).status();
        assert_eq!((status.verdict, Scene::commands(&status)), (verdict, commands), "{age}");
    }
}

/// Nothing that an authority signs outlives it, so renewing is no way out.
#[test]
fn what_ends_with_its_authority_is_told_with_it_alone() {
    let founded = NOW - Duration::days(3650 - 20);
    let status = Scene::of(founded, |_| 0).status();
    let told: Vec<&str> = status.advice.iter().map(|a| a.text.as_str()).collect();
    assert_eq!(
        (told.len(), Scene::commands(&status).len(), status.verdict),
        (3, 0, Verdict::Degraded),
        "{told:?}"
    );
    assert!(told.iter().all(|text| text.contains(" ends in 20 days, and with it everything")), "{told:?}");
    // What was issued earlier and ends before it can still be renewed, and not once it has ended.
    let scene = Scene::of(founded, |name| if name == "apiserver" { 360 } else { 0 });
    for (days, commands) in [(0, vec!["rsadm certs renew prod.yaml"]), (21, vec![])] {
        let status = scene.status_in(days);
        assert_eq!(Scene::commands(&status), commands, "{days}: {:?}", status.advice);
    }
    assert!(scene.status_in(21).advice.iter().all(|a| a.text.contains("has expired: nobody accepts")));
}

/// kubernetes/kubernetes#102556: the file is new, and the process has never heard of it.
#[test]
fn what_is_served_counts() {
    let (mut scene, old) = (Scene::aged(0), Scene::aged(400));
    let key = (NodeName::new("m1"), "apiserver");
    scene.served.insert(key.clone(), old.served[&key].clone());
    let status = scene.status();
    assert!(status.certificates.iter().any(|c| c.name == "apiserver" && c.is_lost()));
    assert_eq!(status.verdict, Verdict::Degraded);
    scene.served.insert(key, Err("connection refused".into()));
    assert_eq!(scene.status().verdict, Verdict::Healthy, "what does not run is for other commands to tell");
}

/// As after a renewal by a clock that was a day ahead: nobody accepts them until tomorrow.
#[test]
fn what_begins_in_the_future_of_its_hosts_is_lost() {
    let mut scene = Scene::aged(-1);
    let status = scene.status();
    assert!(status.certificates.iter().all(Certificate::is_lost));
    assert_eq!(Scene::commands(&status), ["rsadm certs renew prod.yaml"]);
    let text = render(&status);
    assert!(text.contains("13 MISSING, EXPIRED OR NOT BEGUN"), "{text}");
    assert!(text.contains("from 2026-11-23 14:00"), "{text}");
    // It is this computer that is late, and within a day that does no harm.
    let facts = scene.seen.hosts.get_mut(&NodeName::new("m1")).unwrap();
    (facts.asked_at, facts.time) = (nanoseconds(0), nanoseconds(24));
    assert_eq!((scene.status().verdict, scene.status().advice), (Verdict::Healthy, vec![]));
}

fn nanoseconds(hours: i64) -> i128 {
    (NOW + Duration::hours(hours)).unix_timestamp_nanos()
}

/// By such a clock the rest cannot be told.
#[test]
fn a_clock_of_this_computer_that_is_wrong_is_told_first() {
    for (hours, told) in [(0, false), (2, true), (24 * 400, true)] {
        let mut scene = Scene::aged(0);
        let facts = scene.seen.hosts.get_mut(&NodeName::new("m1")).unwrap();
        (facts.asked_at, facts.time) = (nanoseconds(hours), nanoseconds(0));
        let first = scene.status_in(hours / 24).advice.first().map(|a| a.text.clone()).unwrap_or_default();
        assert_eq!(first.starts_with("this computer's clock is"), told, "{hours} h: {first}");
    }
}

#[test]
fn people_get_a_table() {
    let mut scene = Scene::aged(290);
    let young = Scene::aged(10);
    let key = (NodeName::new("m1"), "etcd-server");
    scene.served.insert(key.clone(), young.served[&key].clone());
    scene.served.insert((NodeName::new("m1"), "kubelet-server"), Err("connection refused".into()));
    let facts = scene.seen.hosts.get_mut(&NodeName::new("m1")).unwrap();
    facts.certs.remove("/etc/kubernetes/pki/front-proxy-client.crt");
    scene.unreachable.insert(NodeName::new("m2"), "not reached: no route to host".into());
    insta::assert_snapshot!(render(&scene.status()));
}

/// Nothing can be renewed with a key that is nowhere; where nobody but kubeadm built, that may be on purpose.
#[test]
fn a_key_that_is_on_no_host_is_told() {
    let mut scene = Scene::aged(1);
    scene.facts().files.remove(&Ca::Cluster.key_path());
    assert_eq!(scene.warns(), Vec::<String>::new());
    scene.facts().begun = Some("prod".into());
    let warned = scene.warns();
    assert!(warned[0].starts_with("the key of the cluster CA is on no host that answers: "), "{warned:?}");
    assert_eq!(scene.status().verdict, Verdict::Degraded);
}

/// Its process may still have the one that was there, until it is started anew.
#[test]
fn a_certificate_without_its_own_key_is_lost() {
    let mut keyless = Scene::aged(1);
    keyless.facts().files.remove("/etc/kubernetes/pki/apiserver.key");
    let mut foreign = Scene::aged(1);
    foreign.facts().keys.insert("/etc/kubernetes/pki/apiserver.key".into(), BASE64_STANDARD.encode([7; 64]));
    for scene in [keyless, foreign] {
        let status = scene.status();
        let found = status.certificates.iter().find(|c| c.name == "apiserver").unwrap();
        assert!(found.is_lost(), "{found:?}");
        assert_eq!(Scene::commands(&status), ["rsadm certs renew prod.yaml"]);
    }
}

#[test]
fn a_certificate_of_another_host_is_told() {
    let mut scene = Scene::aged(1);
    let pki = "/etc/kubernetes/pki";
    let other = scene.facts().certs[&format!("{pki}/apiserver.crt")].clone();
    let path = format!("{pki}/apiserver-kubelet-client.crt");
    scene.facts().certs.insert(path.clone(), other);
    assert!(!scene.warns().iter().any(|w| w.contains("is issued to")), "kubeadm may name them otherwise");
    scene.facts().begun = Some("prod".into());
    let told = format!("{path} on m1 is issued to kube-apiserver: ");
    assert!(scene.warns().iter().any(|w| w.starts_with(&told)), "{:?}", scene.warns());
}

#[test]
fn who_signed_a_certificate_is_looked_at() {
    let mut scene = Scene::aged(1);
    let other = Scene::aged(1);
    let path = "/etc/kubernetes/pki/apiserver.crt";
    let stranger = other.seen.hosts.values().next().unwrap().certs[path].clone();
    scene.facts().certs.insert(path.into(), stranger);
    let status = scene.status();
    let found = status.certificates.iter().find(|c| c.path == path).unwrap();
    assert_eq!(found.authority, "another cluster CA");
    assert!(
        scene.warns()[0].contains("apiserver.crt on m1 is signed by another cluster CA: "),
        "{:?}",
        scene.warns()
    );
}
