//! The wait before the gate's no: members that fall silent for a moment come back, and those that do not are not waited for in
//! vain for long. Row 38 of the fault matrix.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rsadm::{
    etcd::{EtcdApi, Silence},
    exec::{
        RunError,
        gate::PATIENCE,
        members::{MemberHost, Members},
    },
    fake::{FakeMembers, World},
    inventory::{Cluster, NodeName},
    layout,
    phases::UP,
};
use tokio::time::Instant;

use crate::{
    harness::{self, block_on},
    members::{self, Asked},
};

/// Members of which one is silent for some time; for ever where that is not told.
struct Flapping {
    members: FakeMembers,
    who: NodeName,
    until: Option<Instant>,
}

#[async_trait]
impl Members for Flapping {
    fn hosts(&self) -> Vec<MemberHost> {
        self.members.hosts()
    }

    async fn dial(&self, host: &NodeName) -> Result<Box<dyn EtcdApi>, Silence> {
        match *host == self.who && self.until.is_none_or(|until| Instant::now() < until) {
            true => Err("no answer".into()),
            false => self.members.dial(host).await,
        }
    }
}

/// What a change comes to while e3 is silent for so long, and how long that took.
async fn beside_a_silent_member<T>(
    world: &Arc<World>,
    cluster: &Cluster,
    silent: Option<Duration>,
    change: impl AsyncFnOnce(&Flapping) -> T,
) -> (T, Duration) {
    let begun = Instant::now();
    let until = silent.map(|time| begun + time);
    let members = Flapping { members: world.members(cluster), who: NodeName::new("e3"), until };
    let outcome = change(&members).await;
    (outcome, begun.elapsed())
}

const MOMENT: Option<Duration> = Some(Duration::from_secs(10));
const FOR_EVER: Option<Duration> = None;

#[test]
fn row_38_a_member_is_replaced_once_another_that_was_silent_answers_again() {
    let cluster = harness::etcd_only();
    let start = harness::standing(&cluster);
    for silent in [MOMENT, FOR_EVER] {
        let world = World::new(start.clone());
        let replace = async |members: &Flapping| {
            members::run_through(&world, &cluster, Asked(&["e1"], &["e1"]), members).await
        };
        let (outcome, took) = block_on(beside_a_silent_member(&world, &cluster, silent, replace));
        match silent {
            Some(moment) => {
                outcome.unwrap_or_else(|why| panic!("{why}"));
                assert!(took >= moment, "{took:?}: it was not waited for");
                assert_eq!(world.state().etcd.members.len(), 3);
            }
            None => {
                let why = outcome.unwrap_err();
                assert!(why.starts_with("refused: ") && why.contains("e3 is not healthy"), "{why}");
                assert!((PATIENCE..2 * PATIENCE).contains(&took), "{took:?}");
                assert_eq!(world.effects(), 0, "{:?}", world.state().log.last());
            }
        }
    }
}

/// Nor may a roll-out go on to its next member before that, and it has not begun where it may not.
#[test]
fn row_38_new_settings_wait_for_a_member_that_was_silent() {
    let cluster = harness::etcd_only();
    let start = harness::standing(&cluster);
    let mut tuned = cluster.clone();
    tuned.etcd.extra_args.insert("snapshot-count".into(), "5000".into());
    for silent in [MOMENT, FOR_EVER] {
        let world = World::new(start.clone());
        let roll_out =
            async |members: &Flapping| harness::run_through(&world, &tuned, UP, members, None).await;
        let (outcome, took) = block_on(beside_a_silent_member(&world, &tuned, silent, roll_out));
        let result = outcome.unwrap_or_else(|why| panic!("{why}")).result;
        match silent {
            Some(moment) => {
                assert!(result.is_ok(), "{result:?}");
                assert!(took >= moment, "{took:?}: it was not waited for");
            }
            None => {
                let Err(RunError::Refused(refusal)) = result else { panic!("not refused: {result:?}") };
                assert_eq!(refusal.rule, "quorum", "{refusal}");
                assert!((PATIENCE..2 * PATIENCE).contains(&took), "{took:?}");
                let log = world.state().log;
                let done = &log[start.log.len()..];
                assert!(!done.iter().any(|line| line.contains(layout::ETCD_MANIFEST)), "{done:?}");
            }
        }
    }
}
