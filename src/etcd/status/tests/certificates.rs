//! What members serve, to clients and to one another, and when it ends.

use super::*;

/// What it serves to clients and what its peers see end on days of their own.
#[test]
fn a_certificate_for_peers_that_has_ended_is_told_of_members_that_answer() {
    let expired = Some(Expired { file: "peer.crt".into(), on: "2026-11-22".into(), with_authority: false });
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
    let expired = Some(Expired { file: "peer.crt".into(), on: "2026-11-01".into(), with_authority: false });
    let process = Process { prepared: true, running: true, expired, ..Process::default() };
    let mut scene = Scene::new(3);
    scene.answer(3).peer_not_after = Some(datetime!(2026-11-01 14:00:00 UTC));
    scene.known.hosts.insert("m3".to_owned(), HostState::Seen(process));
    let advice: Vec<String> = scene.report().advice.into_iter().map(|a| a.text).collect();
    assert_eq!(advice, ["the certificate peer.crt of etcd on m3 has expired on 2026-11-01; this renews it:"]);
}
