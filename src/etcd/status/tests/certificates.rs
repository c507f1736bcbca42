//! What members serve, to clients and to one another, and when it ends.

use super::*;
use crate::etcd::Cause;

/// What it serves to clients and what its peers see end on days of their own.
#[test]
fn a_certificate_for_peers_that_has_ended_is_told_of_members_that_answer() {
    let expired =
        Some(Box::new(Expired { file: "peer.crt".into(), on: "2026-11-22".into(), with_authority: false }));
    let process = Process {
        prepared: true,
        kubelet: true,
        manifest: true,
        running: true,
        expired,
        ..Process::default()
    };
    let told = |mut scene: Scene, hosts: &[&str]| {
        for host in hosts {
            scene.known.hosts.insert((*host).to_owned(), HostState::Seen(process.clone()));
        }
        scene.report().advice
    };
    let mut astray = Scene::new(3);
    astray.status(3).leader = 0;
    let apart = told(Scene::new(3).without_quorum(), &["m2", "m3"]);
    for advice in [told(Scene::new(3), &["m3"]), told(astray, &["m3"]), apart] {
        let words = "the certificate peer.crt of etcd on m3 has expired on 2026-11-22; this renews it:";
        let renews = advice.iter().find(|a| a.text == words).expect(words);
        assert_eq!(renews.command.as_deref(), Some("rsadm certs renew prod.yaml"));
        assert!(!advice.iter().any(|a| a.text.contains("look at the network")), "{advice:?}");
    }
    // One that is silent for it is told, and does not hide what keeps the others apart.
    let advice = told(Scene::new(3).silence(3, "late").without_quorum(), &["m3"]);
    let has = |words: &str| advice.iter().any(|a| a.text.contains(words));
    assert!(has("the certificate peer.crt of etcd on m3 has expired") && has("port 2380"), "{advice:?}");
}

/// Each may have been renewed without the other, as by `kubeadm certs renew etcd-server`.
#[test]
fn the_certificate_that_ends_first_is_told_with_whom_it_is_served_to() {
    const LATE: OffsetDateTime = datetime!(2027-11-18 14:00:00 UTC);
    const SOON: OffsetDateTime = datetime!(2026-12-01 14:00:00 UTC);
    const OVER: OffsetDateTime = datetime!(2026-11-01 14:00:00 UTC);
    for (clients, peers, days, told) in [
        (LATE, Some(LATE), 360, None),
        (SOON, Some(SOON), 8, Some("m3 serves will expire within 30 days;")),
        (SOON, None, 8, Some("m3 serves will expire within 30 days;")),
        (SOON, Some(LATE), 8, Some("m3 serves to clients will expire within 30 days;")),
        (LATE, Some(SOON), 8, Some("m3 serves to other members will expire within 30 days;")),
        (LATE, Some(OVER), -22, Some("m3 serves to other members has expired;")),
        (SOON, Some(OVER), -22, Some("m3 serves to other members has expired;")),
        (OVER, Some(LATE), -22, Some("m3 serves to clients has expired;")),
        (OVER, Some(OVER), -22, Some("m3 serves has expired;")),
    ] {
        let mut scene = Scene::new(3);
        (scene.answer(3).served_not_after, scene.answer(3).peer_not_after) = (Some(clients), peers);
        let report = scene.report();
        assert_eq!(report.members[2].days_left(), Some(days), "{clients} {peers:?}");
        let advice = &report.advice;
        assert_eq!(advice.len(), usize::from(told.is_some()), "{advice:?}");
        for (advice, told) in advice.iter().zip(told) {
            assert!(advice.text.starts_with(&format!("the certificate that {told}")), "{advice:?}");
            assert_eq!(advice.command.as_deref(), Some("rsadm certs renew prod.yaml"));
        }
    }
    // Nothing renews one that ends with its authority.
    let mut scene = Scene::new(3);
    scene.answer(3).peer_not_after = Some(SOON);
    let process = Process { prepared: true, running: true, authority_ends: Some(SOON), ..Process::default() };
    scene.known.hosts.insert("m3".to_owned(), HostState::Seen(process));
    let advice = scene.report().advice;
    assert!(
        advice[0].text.ends_with("within 30 days, and its authority with it; this tells more:"),
        "{advice:?}"
    );
}

/// Its file says on which day.
#[test]
fn a_certificate_for_peers_that_was_seen_to_have_ended_is_told_once() {
    let expired =
        Some(Box::new(Expired { file: "peer.crt".into(), on: "2026-11-01".into(), with_authority: false }));
    let process = Process { prepared: true, running: true, expired, ..Process::default() };
    let mut scene = Scene::new(3);
    scene.answer(3).peer_not_after = Some(datetime!(2026-11-01 14:00:00 UTC));
    scene.known.hosts.insert("m3".to_owned(), HostState::Seen(process));
    let advice: Vec<String> = scene.report().advice.into_iter().map(|a| a.text).collect();
    assert_eq!(advice, ["the certificate peer.crt of etcd on m3 has expired on 2026-11-01; this renews it:"]);
}

/// As `certs status` and `kubeconfig` have it.
#[test]
fn a_certificate_that_ends_within_thirty_days_has_fewer_whole_ones_left() {
    for (end, is_told) in
        [(datetime!(2026-12-22 15:00:00 UTC), false), (datetime!(2026-12-22 13:00:00 UTC), true)]
    {
        let mut scene = Scene::new(3);
        serves_until(&mut scene, 1, end);
        let advice = scene.report().advice;
        assert_eq!(
            advice.iter().any(|a| a.text.contains("will expire within")),
            is_told,
            "{end}: {advice:?}"
        );
    }
}

/// Who built a host is whose tool renews what is on it.
#[test]
fn what_has_ended_is_told_by_who_built_the_hosts() {
    let built = |prepared| HostState::Seen(Process { prepared, manifest: true, ..Process::default() });
    let mut mixed = Scene::new(3);
    for (n, prepared) in [(1, true), (2, false), (3, false)] {
        mixed.known.hosts.insert(format!("m{n}"), built(prepared));
        serves_until(&mut mixed, n, datetime!(2026-11-01 14:00:00 UTC));
    }
    let advice = mixed.report().advice;
    let told: Vec<_> =
        advice.iter().filter_map(|a| Some((a.text.split(';').next()?, a.command.as_deref()?))).collect();
    assert_eq!(
        told,
        [
            ("the certificate that m1 serves has expired", "rsadm certs renew prod.yaml"),
            ("the certificates that m2 and m3 serve have expired", "kubeadm certs renew all"),
        ]
    );
}

/// Within the first day after its end, too; and nothing renews what ends with its authority.
#[test]
fn what_has_ended_is_told_before_what_will_end() {
    let mut over = Scene::new(3);
    for (n, served, ends) in [
        (1, datetime!(2026-11-22 13:05:10 UTC), None),
        (2, datetime!(2026-12-01 14:00:00 UTC), Some(datetime!(2026-12-01 14:00:00 UTC))),
        (3, datetime!(2026-10-01 14:00:00 UTC), Some(datetime!(2026-11-01 14:00:00 UTC))),
    ] {
        serves_until(&mut over, n, served);
        let process = Process { prepared: true, running: true, authority_ends: ends, ..Process::default() };
        over.known.hosts.insert(format!("m{n}"), HostState::Seen(process));
    }
    let report = over.report();
    assert_eq!(report.members[0].certificate_days, Some(-1));
    let told: Vec<_> =
        report.advice.iter().map(|a| (a.text.as_str(), a.command.as_deref().unwrap_or_default())).collect();
    assert_eq!(
        told,
        [
            (
                "the certificate that m1 serves has expired; this renews what ends soon, with or without a quorum:",
                "rsadm certs renew prod.yaml"
            ),
            (
                "the certificate that m3 serves has expired, and its authority with it; this tells more:",
                "rsadm certs status prod.yaml"
            ),
            (
                "the certificate that m2 serves will expire within 30 days, and its authority with it; this tells more:",
                "rsadm certs status prod.yaml"
            ),
        ]
    );
}

#[test]
fn certificates_that_have_not_begun_are_told_with_the_clocks() {
    let early =
        "its certificate was not accepted: certificate not valid yet: verification time 1795356310 (UNIX)";
    let early = Silence::of(Cause::Certificate { early: true }, early);
    let scene = Scene::new(3).silence(1, early.clone()).silence(2, early);
    let told = summary(&scene);
    let text = "that m1 and m2 serve have not begun (rsadm preflight compares the clocks); this renews";
    assert!(told.contains(text), "{told}");
}
