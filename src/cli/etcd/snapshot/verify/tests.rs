//! A restore for a try on hosts of which some have no etcdutl.

use std::sync::Arc;

use super::*;
use crate::host::{Host, Op, Output, testing};

/// An etcd host, or a new machine that is to be one.
fn machine(n: usize, has_etcdutl: bool) -> Arc<dyn Host> {
    testing::host(&format!("e{n}"), move |ops| {
        let answers = ops.iter().map(|op| match op {
            Op::Script(_, args, _) if args[0] == "scratch" && has_etcdutl => "/var/lib/rsadm/try\n",
            Op::Script(_, args, _) if args[0] == "scratch" => "",
            _ => {
                assert!(has_etcdutl, "nothing is sent in vain: {op:?}");
                ""
            }
        });
        Ok(answers.map(|text| Output { stdout: text.into(), ..Output::default() }).collect())
    })
}

/// How a snapshot was checked with hosts of which these have an etcdutl, and what is said of it.
async fn tried(hosts: &[bool]) -> (Check, Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("prod.db");
    std::fs::write(&snapshot, "data").unwrap();
    let keeper = |(n, has_etcdutl): (usize, &bool)| Keeper {
        host: machine(n + 1, *has_etcdutl),
        folder: layout::BACKUP_DIR.to_owned(),
    };
    let keepers: Vec<Keeper> = hosts.iter().enumerate().map(keeper).collect();
    let mut found = Verified {
        snapshot: "prod.db".to_owned(),
        check: Check::Checksum,
        revision: None,
        size: 4,
        whose: None,
        done: vec![],
        left: vec![],
    };
    try_there(&keepers, &snapshot, &mut found).await.unwrap();
    (found.check, found.done, found.left)
}

/// All hosts are lost, and this bundle is all that there is: nothing is wrong with it.
#[tokio::test]
async fn new_machines_have_no_etcdutl_and_that_is_a_remark() {
    let said = "not restored for a try: no etcdutl on PATH, and none on e1, e2 and e3";
    assert_eq!(tried(&[false; 3]).await, (Check::Checksum, vec![], vec![said.to_owned()]));
}

#[tokio::test]
async fn a_snapshot_is_tried_on_the_first_host_that_has_one() {
    let said = "etcdutl restored it for a try on e2";
    assert_eq!(tried(&[false, true, true]).await, (Check::Restored, vec![said.to_owned()], vec![]));
}
