//! What `plan --observed` writes, in the form that `tests/plans` reads: whole, and without a secret.

use rsadm::{
    fake::{State, World},
    inventory::Cluster,
    manifests::to_yaml,
    observe::Observed,
    phases::{self, UP},
};
use time::OffsetDateTime;

use crate::harness::{self, block_on, observe, words};

/// How long a public point on P-256 is in base64, at the end of a key (`observe/facts.sh`).
const PUBLIC_POINT: usize = 88;

/// A plan's text, or why there is none.
fn planned(cluster: &Cluster, seen: Observed, now: OffsetDateTime) -> String {
    match phases::plan(UP, cluster, seen, now, |_| true) {
        Ok((plan, _)) => words(&plan),
        Err(refusal) => format!("{refusal}; {}", refusal.help),
    }
}

#[test]
fn read_again_it_gives_the_same_plan_and_shows_no_secret() {
    for (name, cluster) in harness::topologies() {
        block_on(async {
            let now = OffsetDateTime::now_utc();
            let bare = World::new(State::new(&cluster));
            let built = harness::built(&cluster).await;
            assert!(!built.inner().secrets.is_empty(), "{name}: nothing to look for");
            // With something to do on hosts that have all kinds of files, and where it refuses.
            let mut other = cluster.clone();
            other.etcd.heartbeat_interval *= 2;
            other.api_server.extra_args.insert("event-ttl".into(), "2h".into());
            let mut foreign = cluster.clone();
            foreign.name = "another".into();
            for (world, wanted) in
                [(&bare, &cluster), (&built, &cluster), (&built, &other), (&built, &foreign)]
            {
                let seen = observe(world, &cluster).await;
                let text = to_yaml("what was observed", &seen).unwrap();
                let read: Observed = serde_yaml::from_str(&text).unwrap();
                assert_eq!(read, seen, "{name}");
                assert_eq!(planned(wanted, read, now), planned(wanted, seen, now), "{name}");
                // The last line of a key's file is of its public end.
                let mut rest = observe(world, &cluster).await;
                let ends: Vec<String> =
                    rest.hosts.values_mut().flat_map(|f| std::mem::take(&mut f.keys).into_values()).collect();
                assert!(ends.iter().all(|end| end.len() == PUBLIC_POINT), "{name}: {ends:?}");
                let rest = to_yaml("what was observed", &rest).unwrap();
                assert_eq!(world.inner().secrets.in_text(&rest), None, "{name}: it shows a secret");
                assert!(!text.contains("PRIVATE KEY"), "{name}: it shows a private key");
            }
        });
    }
}

/// On a busy host. What it runs it has; what it is to run from now on is asked for again, by who fetches it.
#[test]
fn images_of_which_a_containerd_was_too_busy_to_tell_are_missing_only_where_they_are_not_run() {
    for (name, cluster) in harness::topologies() {
        block_on(async {
            let now = OffsetDateTime::now_utc();
            let untold = |mut seen: Observed| {
                for facts in seen.hosts.values_mut() {
                    facts.images.clear();
                    facts.images_untold = true;
                }
                seen
            };
            let built = harness::built(&cluster).await;
            assert_eq!(planned(&cluster, untold(observe(&built, &cluster).await), now), "", "{name}");
            let bare = World::new(State::new(&cluster));
            let first = planned(&cluster, untold(observe(&bare, &cluster).await), now);
            assert!(
                first.contains(": pull ") && first.contains("containerd was too busy"),
                "{name}: {first}"
            );
        });
    }
}
