//! When the next member may be touched.

use super::*;
use crate::etcd::{KvHash, status::tests::Scene};

const HASH: KvHash = KvHash { hash: 7, revision: 48_211, compact_revision: 40_000 };

/// Two members: nobody tells which of them is wrong.
fn with_hash(hash: Option<KvHash>) -> Scene {
    let mut scene = Scene::new(2);
    scene.answer(2).hash = hash;
    scene
}

#[test]
fn the_next_member_waits_for_all_to_be_well_and_to_hold_the_same() {
    let same = Scene::new(2).answer(1).hash;
    let compacted = same.map(|hash| KvHash { compact_revision: 41_000, ..hash });
    for (scene, wrong) in [
        (Scene::new(3), None),
        (with_hash(same), None),
        (Scene::with_learner(3), None),
        (with_hash(Some(HASH)), Some("members do not have equal hashes yet")),
        (with_hash(compacted), Some("members do not have equal hashes yet")),
        (with_hash(None), Some("m2 does not tell the hash of its data")),
        (Scene::new(3).silence(3, "no answer"), Some("m3: no answer")),
        (Scene::new(3).without_quorum(), Some("m1: knows no leader")),
    ] {
        let report = scene.report();
        assert_eq!(unwell(&report).or_else(|| unequal(&report)).as_deref(), wrong);
    }
}

/// The one that is down may be the right one, and what it has may be all that tells.
#[test]
fn nobody_is_made_anew_while_those_that_stay_hold_different_data() {
    let id = |n: usize| Scene::new(n).report().members[n - 1].id.map(|Id(id)| id).unwrap_or_default();
    let with = |n: usize, down: &[usize], odd: &[usize]| {
        let mut scene = down.iter().fold(Scene::new(n), |scene, n| scene.silence(*n, "refused"));
        odd.iter().for_each(|n| scene.answer(*n).hash = Some(HASH));
        scene.report()
    };
    let joins = Change::AddLearner { peer_url: "https://10.0.0.9:2380".into() };
    for (report, change, refused) in [
        (with(3, &[1], &[3]), Change::Remove { id: id(1) }, Some("m2 and m3 hold different data")),
        (with(3, &[1], &[]), Change::Remove { id: id(1) }, None),
        (with(3, &[], &[3]), Change::Remove { id: id(3) }, None),
        (with(2, &[], &[2]), joins.clone(), Some("m1 and m2 hold different data")),
        (with(2, &[], &[]), joins, None),
        // Whoever is known to be wrong may be taken out.
        (with(2, &[], &[2]), Change::Remove { id: id(2) }, None),
    ] {
        let why = decided(&report, &change).err().map(|refusal| refusal.why);
        assert_eq!(
            why.as_deref().map(|why| why.split(", ").next().unwrap_or_default()),
            refused,
            "{change:?}"
        );
    }
}
