//! Who is a member, against the inventory and the recorded cluster.

use super::*;

#[test]
fn strangers_are_members_that_were_not_asked() {
    let scene = Scene::new(3).listing(|list| list.push(member(9)));
    assert_eq!(strangers(&scene.gathered), [member(9)]);
    assert_eq!(strangers(&scene.without_quorum().gathered), [member(9)]);
    assert_eq!(strangers(&Scene::new(3).gathered), []);
}

#[test]
fn membership_against_the_inventory() {
    let stranger = Scene::new(3).listing(|list| list.push(member(9)));
    insta::assert_snapshot!(summary(&stranger), @"
    Degraded 3/4 can lose 0
    m9: not in the inventory, so not asked
    Warning: etcd survives no further failure: do not restart m1, m2 and m3 until m9 is healthy
    Warning: m9 (https://10.0.0.9:2380) is a member, and the inventory has no etcd host there: put it in, or this takes it out:
    Warning: --etcd-servers on m1, m2 and m3 lacks https://10.0.0.9:2379
    Note: 4 voters can lose no more than 3 can: an odd number is better
    ");
    let mut asked = Scene::new(4);
    (asked.answer(4).in_inventory, asked.answer(4).node) = (false, "m4".to_owned());
    asked.known.api_servers.truncate(3);
    insta::assert_snapshot!(summary(&asked), @"
    Degraded 4/4 can lose 1
    Warning: m4 (https://10.0.0.4:2380) is a member, and the inventory has no etcd host there: put it in, or this takes it out:
    Note: 4 voters can lose no more than 3 can: an odd number is better
    ");
    let removed = Scene::new(3).listing(|list| list.truncate(2));
    insta::assert_snapshot!(summary(&removed), @r"
    Degraded 2/2 can lose 0
    m3: not in the member list
    Warning: m3 is an etcd host of the inventory and no member of the cluster
    Warning: --etcd-servers on m1, m2 and m3 names what is no member: https://10.0.0.3:2379
    Note: 2 voters can lose no more than 1 can: an odd number is better
    ");
    let up = Some("rsadm up prod.yaml");
    let add = Some("rsadm etcd add prod.yaml m3");
    for (prepared, kubelet, command) in
        [(true, true, up), (true, false, up), (false, true, add), (false, false, None)]
    {
        let mut free = Scene::new(3).listing(|list| list.truncate(2));
        for host in ["m1", "m2", "m3"] {
            let process = Process { prepared, kubelet, manifest: host != "m3", ..Process::default() };
            free.known.hosts.insert(host.to_owned(), HostState::Seen(process));
        }
        let advice = free.report().advice;
        let told =
            advice.iter().find(|a| a.text.contains("no member of the cluster: take the role off it there"));
        assert_eq!(told.unwrap().command.as_deref(), command);
    }
    let mut missed = Scene::new(3).listing(|list| list.truncate(2));
    let process = Process { prepared: true, data: true, data_of: Some(0xbad), ..Process::default() };
    missed.known.hosts.insert("m3".to_owned(), HostState::Seen(process));
    let named = |scene: &Scene| {
        let advice = scene.report().advice;
        let told = advice.into_iter().find(|a| a.text.contains("m3 missed a restore or a recovery"));
        told.and_then(|a| a.command)
    };
    assert_eq!(named(&missed), None, "its record may be of anything");
    missed.known.old_clusters = vec![0xbad];
    assert_eq!(named(&missed).as_deref(), Some("rsadm etcd replace prod.yaml m3"));
    // The member is asked at its own address; nobody is at that of the inventory.
    let mut moved = Scene::new(3);
    let mut there = moved.answer(3).clone();
    there.peer_url = "https://10.0.0.33:2380".to_owned();
    there.status = Err("no route to host".into());
    there.quorum_list = Err("no route to host".into());
    there.own_list = None;
    moved.gathered.answers.push(there);
    moved.answer(3).in_inventory = false;
    insta::assert_snapshot!(summary(&moved), @"
    Degraded 3/3 can lose 1
    m3: no route to host
    Warning: m3 does not answer (no route to host)
    Warning: m3 is a member at https://10.0.0.3:2380, and the inventory has that host elsewhere: set its internal_address back; where it has to move, rsadm etcd remove takes it out first, while the inventory has its old address
    ");
    let mut anew = Scene::new(3).silence(3, "no route to host");
    anew.answer(3).peer_url = "https://10.0.0.33:2380".to_owned();
    let told = anew.report().advice;
    let told = told
        .iter()
        .find(|a| a.text.contains("the inventory has no etcd host there: put it in, or this takes it out"))
        .unwrap();
    assert_eq!(told.command.as_deref(), up);
    let mut foreign = Scene::new(3);
    foreign.status(3).cluster_id = 0xbad;
    foreign.answer(3).hash = None;
    insta::assert_snapshot!(summary(&foreign), @"
    Degraded 2/3 can lose 0
    m3: belongs to another cluster (bad)
    Warning: m3 serves the data of another cluster (bad), and only you can tell which of the two is the one to keep: stop etcd on the hosts of the other, by moving /etc/kubernetes/manifests/etcd.yaml away there
    Warning: etcd survives no further failure: do not restart m1 and m2 until m3 is healthy
    ");
    let mut reborn = Scene::new(3);
    reborn.status(3).member_id = 0xbeef;
    insta::assert_snapshot!(summary(&reborn), @"
    Degraded 2/3 can lose 0
    m3: runs as another member (beef)
    Warning: etcd on m3 runs with the data of another member (beef), which was removed or restored; this sets it aside and lets m3 join anew:
    Warning: etcd survives no further failure: do not restart m1 and m2 until m3 is healthy
    ");
}

/// After a recovery without them, two of three come back with what they had: they are more, and they are wrong.
#[test]
fn members_of_the_old_cluster_are_none_however_many_they_are() {
    let mut scene = Scene::new(3);
    for n in [2, 3] {
        scene.status(n).cluster_id = 0xbad;
    }
    let commands = |scene: &Scene| {
        let report = scene.report();
        let of = |m: &MemberReport| matches!(m.error, Some(Trouble::OtherCluster(_))).then(|| m.name.clone());
        let astray: Vec<String> = report.members.iter().filter_map(of).collect();
        let commands: Vec<String> = report.advice.into_iter().filter_map(|a| a.command).collect();
        (astray, commands)
    };
    // Nobody has recorded which is the one to keep: nothing is named that would set data aside.
    let (astray, named) = commands(&scene);
    assert_eq!(astray, ["m1"]);
    // That which serves is the one that is shown, however few its members are.
    for n in [2, 3] {
        scene.answer(n).quorum_list = Err("no answer within 2.0 s".into());
    }
    assert_eq!(commands(&scene).0, ["m2", "m3"]);
    assert!(!named.iter().any(|c| c.contains("replace")), "{named:?}");
    scene.known.old_clusters = vec![0xbad];
    let (astray, named) = commands(&scene);
    assert_eq!(astray, ["m2", "m3"]);
    for command in ["rsadm etcd replace prod.yaml m2", "rsadm etcd replace prod.yaml m3"] {
        assert!(named.iter().any(|c| c == command), "{named:?}");
    }
    insta::assert_snapshot!(scene.report().advice[0].text, @"m2 missed a restore or a recovery and still serves the old data (of cluster bad): let no API server ask it. This sets the old data aside and makes it a member again:");
}

/// They were cut off when the recovery began without them, and went on: nobody else has what clients wrote there since.
#[test]
fn an_old_cluster_that_takes_writes_is_kept_before_it_is_set_aside() {
    let mut scene = Scene::new(3);
    for n in [2, 3] {
        scene.status(n).cluster_id = 0xbad;
    }
    scene.known.old_clusters = vec![0xbad];
    let advice = scene.report().advice;
    let told: Vec<&Advice> = advice.iter().filter(|a| a.text.contains("with a quorum of its own")).collect();
    let commands: Vec<&str> = told.iter().filter_map(|a| a.command.as_deref()).collect();
    assert_eq!(commands, [2, 3].map(|n| format!("rsadm etcd snapshot save prod.yaml --member m{n}")));
    assert!(
        told[0].text.contains("; rsadm etcd replace prod.yaml m2 then sets it aside"),
        "{}",
        told[0].text
    );
}

/// kubeadm names members after their nodes, whatever the inventory calls their hosts.
#[test]
fn commands_name_the_inventorys_host() {
    let mut scene = Scene::new(3).listing(|list| list[2].name = "node-c".to_owned());
    scene.answer(3).hash.as_mut().unwrap().hash = 7;
    let advice = scene.report().advice;
    let odd = advice.iter().find(|a| a.text.contains("the data of node-c is not that")).unwrap();
    assert_eq!(odd.command.as_deref(), Some("rsadm etcd replace prod.yaml m3"));
}

/// As after `internal_address` was edited on all hosts: no member is asked where it is, so none tells of the others.
#[test]
fn members_that_are_asked_elsewhere_are_not_taken_for_stuck_ones() {
    let at = |host: &str, urls: &str| {
        let flags = [("listen-client-urls".to_owned(), urls.to_owned())].into();
        let process = Process {
            prepared: true,
            kubelet: true,
            manifest: true,
            running: true,
            flags,
            ..Process::default()
        };
        (host.to_owned(), HostState::Seen(process))
    };
    let silent =
        || (1..=3).fold(Scene::new(3).without_quorum(), |scene, n| scene.silence(n, "no route to host"));
    let moved = |n: usize| at(&format!("m{n}"), &format!("https://127.0.0.1:2379,https://10.9.0.{n}:2379"));
    let told = |hosts: Vec<(String, HostState)>| {
        let mut scene = silent();
        scene.known.hosts.extend(hosts);
        // Where they are stacked, API servers dial the members where they are.
        for server in &mut scene.known.api_servers {
            server.etcd_servers = vec!["https://10.9.0.1:2379".to_owned()];
        }
        scene.report().advice.into_iter().map(|a| a.text).collect::<Vec<_>>()
    };
    let all = told((1..=3).map(moved).collect());
    assert_eq!(
        all,
        [
            "etcd runs on m1, m2 and m3 and listens at https://10.9.0.1:2379, https://10.9.0.2:2379 and https://10.9.0.3:2379, \
          and the inventory has them elsewhere: set their internal_address back; where a host has to move, rsadm etcd remove \
          takes its member out first, while the inventory has its old address"
        ]
    );
    // One that is off besides.
    let two = told((1..=2).map(moved).collect());
    let has = |told: &[String], words: &str| told.iter().any(|text| text.contains(words));
    assert!(has(&two, "etcd runs on m1 and m2 and listens at") && has(&two, "m3 does not answer"), "{two:?}");
    // Those that listen where they were asked are slow, or stuck.
    let slow = told(
        (1..=3)
            .map(|n| at(&format!("m{n}"), "https://10.0.0.1:2379,https://10.0.0.2:2379,https://[::]:2379"))
            .collect(),
    );
    assert!(!has(&slow, "listens at"), "{slow:?}");
}
