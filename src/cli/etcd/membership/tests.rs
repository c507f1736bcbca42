use super::*;
use crate::{
    manifests::testing,
    observe::{Fate, MemberFact},
};

fn wish(join: &[&str], leave: &[&str]) -> Wish {
    let names = |hosts: &[&str]| hosts.iter().map(|h| NodeName::new(*h)).collect();
    Wish {
        command: String::new(),
        inventory: String::new(),
        join: names(join),
        leave: names(leave),
        gate: GateArgs::default(),
    }
}

/// Each host has etcd; those that are listed are members, at the address that is changed so.
fn seen(cluster: &Cluster, listed: &[&str], at: fn(String) -> String) -> Observed {
    let mut seen = Observed::default();
    let mut members = Vec::new();
    for node in cluster.with_role(Role::Etcd) {
        seen.hosts.insert(node.name.clone(), Facts { etcd_data: true, ..Facts::default() });
        if listed.contains(&node.name.as_str()) {
            members.push(MemberFact {
                name: node.name.to_string(),
                peer_url: at(node.peer_url()),
                learner: false,
                healthy: true,
                version: None,
                fate: Fate::default(),
            });
        }
    }
    seen.membership = Some(members);
    seen
}

#[test]
fn beside_the_only_member_a_node_comes_without_one_first() {
    let help =
        |leave: &[&str], makes_two| node_first(&NodeName::new("m2"), &wish(&["m2"], leave), makes_two).help;
    assert!(
        help(&["m1"], true).starts_with("without the role etcd in the inventory, rsadm up makes m2 a node")
    );
    assert!(help(&["m1"], false).starts_with("rsadm up joins it as a whole"));
    assert!(help(&["m2"], false).starts_with("rsadm etcd remove m2"));
    let mut cluster = testing::ha();
    let same: fn(String) -> String = |url| url;
    let (one, three) = (seen(&cluster, &["m1"], same), seen(&cluster, &["m1", "m2", "m3"], same));
    assert!(!makes_two(&cluster, &one) && !makes_two(&cluster, &three));
    cluster.nodes.retain(|n| n.name.as_str() != "m3");
    assert!(makes_two(&cluster, &one) && !makes_two(&cluster, &three));
}

#[test]
fn a_host_without_room_takes_nobodys_place() {
    const MIB: u64 = 1 << 20;
    let host = NodeName::new("m1");
    let with = |free| {
        let disk = [(layout::ETCD_DATA_DIR.to_owned(), free)].into();
        has_room(&host, Some(&Facts { disk, ..Facts::default() }), 100 * MIB)
    };
    assert_eq!(with(228 * MIB), Ok(()));
    let refusal = with(227 * MIB).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "refused: m1 cannot become a member of etcd: it has 227 MiB free below /var/lib/etcd, and etcd's data takes 228 MiB"
    );
    assert!(refusal.help.contains(layout::ASIDE_DIR), "{}", refusal.help);
    assert_eq!(has_room(&host, None, 100 * MIB), Ok(()));
}

#[test]
fn only_the_named_host_is_touched() {
    let cluster = testing::ha();
    let same: fn(String) -> String = |url| url;
    let moved: fn(String) -> String = |url| url.replace("10.0.0.", "10.9.0.");
    for (wish, listed, at, rule) in [
        (wish(&["m3"], &[]), vec!["m1", "m2", "m3"], same, None),
        (wish(&["m3"], &[]), vec!["m1", "m2"], same, None),
        (wish(&[], &["m3"]), vec!["m1", "m2"], same, None),
        (wish(&[], &["m2"]), vec!["m1", "m2"], same, Some("only-the-named")),
        (wish(&["m3"], &["m2"]), vec!["m2", "m3"], same, Some("only-the-named")),
        (wish(&[], &["m3"]), vec!["m1", "m2", "m3"], moved, Some("member-moved")),
    ] {
        let said = only_the_named(&cluster, &seen(&cluster, &listed, at), &wish);
        assert_eq!(said.err().map(|r| r.rule), rule, "{:?} {:?} of {listed:?}", wish.join, wish.leave);
    }
}
