//! What `rsadm etcd snapshot verify` answers: what was found, whose the snapshot is, and what speaks against it all the same.

use std::path::Path;

use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    backup::{Check, Manifest, bundle, keys},
    cli::{CliError, Exit},
    event::bytes,
    layout,
    pki::authorities::Ca,
};

/// What was found.
#[derive(Serialize)]
pub(super) struct Verified {
    pub(super) snapshot: String,
    pub(super) check: Check,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<u64>,
    pub(super) size: u64,
    /// What its manifest says of it; nothing where there is none.
    #[serde(flatten)]
    pub(super) whose: Option<Whose>,
    /// What was done, one thing each.
    pub(super) done: Vec<String>,
    /// What was not, and why.
    pub(super) left: Vec<String>,
}

/// Of which cluster and of when it is, which the operator has to know before a restore.
#[derive(Serialize)]
pub(super) struct Whose {
    cluster: String,
    cluster_id: String,
    member: String,
    #[serde(with = "time::serde::rfc3339")]
    taken_at: OffsetDateTime,
    /// What was wrong with its member when it was taken: no look at the file tells otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt: Option<String>,
}

impl Whose {
    pub(super) fn of(manifest: &Manifest) -> Self {
        let damaged = manifest.damaged.clone().filter(|_| manifest.of_sick_member);
        let doubt = damaged.or_else(|| manifest.may_lack());
        Self {
            cluster: manifest.cluster.clone(),
            cluster_id: manifest.cluster_id.clone(),
            member: manifest.member.clone(),
            taken_at: manifest.taken_at,
            doubt,
        }
    }
}

impl Verified {
    pub(super) fn restored(&mut self, how: String) {
        self.done.push(how);
        self.check = Check::Restored;
    }

    /// A bundle is for hosts that have nothing: what is whole and can be read by nobody there is none.
    pub(super) fn has_keys(&mut self, path: &Path, opened: &bundle::Opened) -> Result<(), CliError> {
        if opened.manifest.kubernetes.is_none() || opened.carried.is_empty() {
            return Ok(());
        }
        let (cluster, path) = (Ca::Cluster.key_path(), path.display());
        if !opened.carried.iter().any(|file| file.path == cluster) {
            let text = "it carries etcd's keys alone: only hosts that have the cluster's others can be restored from it";
            self.left.push(text.to_owned());
            return Ok(());
        }
        match keys::lack_the_key_to(&opened.snapshot, &opened.carried)? {
            false => Ok(()),
            true => {
                let text = format!(
                    "{path} is whole, and what API servers keep in it is encrypted with a key that it does not carry: restored on \
                     fresh hosts, nobody could read it"
                );
                Err(CliError::new(Exit::Refused, text).hint(format!(
                    "keep the file of kube-apiserver's --encryption-provider-config with it; a restore looks for it in {}. Where \
                     nothing is encrypted any more, `rsadm etcd defrag` clears what is left of it, for a new bundle",
                    layout::ENCRYPTION_CONFIG
                )))
            }
        }
    }
}

pub(super) fn text(verified: &Verified) -> String {
    let doubt = verified.whose.as_ref().and_then(|whose| whose.doubt.as_ref());
    let verdict = if doubt.is_some() { "whole" } else { "good" };
    let mut text = format!("{} is {verdict}", verified.snapshot);
    if let Some(revision) = verified.revision {
        text.push_str(&format!(": revision {revision}, {}", bytes(verified.size)));
    }
    text.push('\n');
    if let Some(Whose { cluster, cluster_id, member, taken_at, .. }) = &verified.whose {
        let (date, time) = (taken_at.date(), taken_at.time());
        let when = format!("{date} {:02}:{:02}:{:02} UTC", time.hour(), time.minute(), time.second());
        text.push_str(&format!("  of {cluster}, cluster {cluster_id}, taken {when} from {member}\n"));
    }
    if let Some(why) = doubt {
        text.push_str(&format!("  it does not count as verified: {why}\n"));
    }
    verified.done.iter().chain(&verified.left).for_each(|line| text.push_str(&format!("  {line}\n")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::manifest::tests::sample;

    #[test]
    fn the_answer_says_of_which_cluster_and_of_when_it_is() {
        let of = |manifest: &Manifest| {
            text(&Verified {
                snapshot: "a.db".into(),
                check: Check::Checksum,
                revision: Some(manifest.revision),
                size: manifest.size,
                whose: Some(Whose::of(manifest)),
                done: vec!["it is the file that its manifest tells of".into()],
                left: vec![],
            })
        };
        insta::assert_snapshot!(of(&sample()), @"
        a.db is good: revision 48211, 8 KiB
          of prod, cluster 7c1f0d2ab94e13aa, taken 2026-11-22 14:05:11 UTC from m2
          it is the file that its manifest tells of
        ");
        let sick =
            Manifest { damaged: Some("of m2: its data is corrupt".into()), of_sick_member: true, ..sample() };
        let said = of(&sick);
        assert!(
            said.starts_with("a.db is whole: ") && said.contains("verified: of m2: its data is corrupt"),
            "{said}"
        );
        let alone = Manifest { without_quorum: true, ..sample() };
        assert!(of(&alone).contains("it does not count as verified: no quorum stood behind its member"));
        let behind = Manifest { doubt: Some("its member was not well: 9 entries behind".into()), ..alone };
        assert!(of(&behind).contains("count as verified: its member was not well: 9 entries behind\n"));
    }
}
