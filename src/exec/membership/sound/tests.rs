//! When the next member may be touched.

use super::*;
use crate::etcd::{KvHash, status::tests::Scene};

const HASH: KvHash = KvHash { hash: 7, revision: 48_211, newest: 48_211, compact_revision: 40_000 };

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
