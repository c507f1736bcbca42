//! Why a snapshot is not taken, or not put where it was wanted.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    backup::{
        BackupError,
        choose::host_of,
        file,
        manifest::{BUNDLE, PLAIN},
    },
    cli::{CliError, Exit},
    etcd::status::MemberReport,
    inventory::NodeName,
    layout,
    line::chain,
};

/// Only others answer than the members of this cluster, of which this is the first.
pub(super) fn strangers(other: &MemberReport) -> CliError {
    let host = host_of(other);
    let why = other.error.as_ref().map_or_else(String::new, |trouble| format!(" ({host}: {trouble})"));
    CliError::new(
        Exit::StepFailed,
        format!("no member of this cluster answers, and who answers is none of its members{why}"),
    )
    .hint(format!("rsadm etcd status tells more; --member {host} takes what that one has all the same"))
}

/// What to do with a bundle whose data looks encrypted, and that has no key to it, by what the API servers of these hosts told:
/// `Ok` with a warning where it is left over, as far as they know.
pub(super) fn without_the_key(
    control_planes: &[&NodeName],
    told: &BTreeMap<NodeName, Option<String>>,
) -> Result<String, BackupError> {
    let places: Vec<String> =
        told.iter().filter_map(|(host, path)| Some(format!("{host}:{}", path.as_ref()?))).collect();
    let silent: Vec<&str> =
        control_planes.iter().filter(|host| !told.contains_key(**host)).map(|host| host.as_str()).collect();
    let config = layout::ENCRYPTION_CONFIG;
    if places.is_empty() && silent.is_empty() {
        return Ok(format!(
            "some of the data is in the form in which API servers encrypt it, and none of them has \
             --encryption-provider-config: it is left over from before, most likely, and verify and a restore will ask for \
             the key to it in {config}"
        ));
    }
    let place = match places.is_empty() {
        true => format!("what the API server on {} uses is not known", silent.join(" and ")),
        false => places.join(", "),
    };
    Err(BackupError::Keys(format!(
        "what API servers keep in etcd is encrypted, and the key to it is not in {config}, from where a bundle takes it ({place}): \
         nobody could read what is restored. Copy the file of --encryption-provider-config to {config} on a control plane; or, \
         where nothing is encrypted any more, {CLEARS}"
    )))
}

/// What takes away that nothing refers to any more.
pub(super) const CLEARS: &str = "run `rsadm etcd defrag`, which clears what is left of it, and save again";

/// The folder, and the file's name where one is wanted.
pub(super) fn destination(to: &Path, encrypted: bool) -> Result<(PathBuf, Option<String>), BackupError> {
    let is_folder = to.is_dir() || to.as_os_str().as_encoded_bytes().ends_with(b"/");
    let name = to.file_name().and_then(|n| n.to_str()).filter(|_| !is_folder);
    let end = if encrypted { BUNDLE } else { PLAIN };
    match name {
        None => Ok((to.to_owned(), None)),
        Some(name) if name.ends_with(end) => {
            let folder = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if to.exists() {
                return Err(BackupError::Refused(format!("{} exists already, and is kept", to.display())));
            }
            match file::manifest_of_another(to) {
                Some(manifest) => Err(BackupError::Refused(format!(
                    "{} exists already, most likely the manifest of a snapshot of that name: choose another",
                    manifest.display()
                ))),
                None => Ok((folder.to_owned(), Some(name.to_owned()))),
            }
        }
        Some(_) => Err(BackupError::Refused(format!(
            "{} is no folder, and the name of a snapshot ends with {end}",
            to.display()
        ))),
    }
}

/// Whether another member, or another host, may give what one did not. That a member's data is damaged is for somebody to see.
pub(super) fn may_be_better_elsewhere(error: &BackupError, on_host: bool) -> bool {
    on_host && error.damage().is_none() || matches!(error, BackupError::Etcd(_))
}

/// Of hosts that were all asked to keep one, what the last of them says.
pub(super) fn kept_nowhere(error: BackupError, asked: &[NodeName]) -> CliError {
    let names: Vec<&str> = asked.iter().map(NodeName::as_str).collect();
    let one = if names.len() > 1 { "one of " } else { "" };
    let is_full = error.is_full() || chain(&error).contains("no room in ");
    let error = CliError::from(error);
    if !is_full {
        return error;
    }
    error.hint(format!(
        "it takes one host that keeps it: make room in {} on {one}{} (rsadm etcd snapshot prune --from \
         hosts: takes old ones away)",
        layout::BACKUP_DIR,
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backup::{
            Manifest,
            choose::{candidates, others},
            manifest::tests::sample,
        },
        etcd::EtcdError,
        etcd::status::{Trouble, tests::Scene},
    };

    #[test]
    fn a_snapshot_takes_no_name_whose_manifest_is_anothers() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert_eq!(destination(&at("pre.db"), false).unwrap().1.as_deref(), Some("pre.db"));
        std::fs::write(at("pre.db"), "").unwrap();
        assert!(
            destination(&at("pre.db"), false)
                .unwrap_err()
                .to_string()
                .ends_with("exists already, and is kept")
        );
        assert!(destination(&at("pre.tar.age"), true).is_ok());
        std::fs::write(at("pre.json"), "").unwrap();
        let taken = destination(&at("pre.tar.age"), true).unwrap_err().to_string();
        assert!(taken.contains("pre.json exists already"), "{taken}");
        let gone = Manifest { file: "gone.db".into(), ..sample() };
        std::fs::write(at("gone.json"), gone.to_json()).unwrap();
        assert!(destination(&at("gone.db"), false).is_ok(), "its snapshot is not there any more");
    }

    #[test]
    fn what_was_encrypted_once_keeps_no_bundle_from_being_taken() {
        let (m1, m2) = (NodeName::new("m1"), NodeName::new("m2"));
        let said = |told: &[(&NodeName, Option<&str>)]| {
            let told = told.iter().map(|(host, path)| ((*host).clone(), path.map(str::to_owned))).collect();
            without_the_key(&[&m1, &m2], &told).map_err(|e| e.to_string())
        };
        let warning = said(&[(&m1, None), (&m2, None)]).unwrap();
        assert!(warning.contains("none of them has --encryption-provider-config"), "{warning}");
        let refused = said(&[(&m1, None), (&m2, Some("/etc/enc.yaml"))]).unwrap_err();
        assert!(refused.contains("(m2:/etc/enc.yaml)") && refused.contains(layout::ENCRYPTION_CONFIG));
        assert!(refused.contains("`rsadm etcd defrag`"), "{refused}");
        let silent = said(&[(&m1, None)]).unwrap_err();
        assert!(silent.contains("the API server on m2 uses is not known"), "{silent}");
    }

    /// As the one before an upgrade.
    #[test]
    fn a_host_without_room_is_not_the_last_that_is_asked() {
        let full = || BackupError::Step {
            host: NodeName::new("m1"),
            doing: "take a snapshot".into(),
            why: "no room in /var/lib/rsadm/backups: 1 MiB free".into(),
        };
        let silent = EtcdError::Unavailable { endpoint: "m1".into(), why: "no answer".into() };
        for (error, on_host, goes_on) in [
            (full(), true, true),
            (BackupError::NoRoom("no room in /srv".into()), false, false),
            (BackupError::Refused("/srv/a.db exists already".into()), false, false),
            (BackupError::Etcd(silent.clone()), false, true),
            (BackupError::Etcd(silent), true, true),
            (BackupError::Damaged("m1 could not restore it".into()), true, false),
        ] {
            assert_eq!(may_be_better_elsewhere(&error, on_host), goes_on, "{error:?}");
        }
        let hint = |asked: &[&str]| {
            let asked: Vec<NodeName> = asked.iter().map(|name| NodeName::new(*name)).collect();
            format!("{:?}", kept_nowhere(full(), &asked))
        };
        let silent =
            BackupError::Etcd(EtcdError::Unavailable { endpoint: "m1".into(), why: "no answer".into() });
        let other = format!("{:?}", kept_nowhere(silent, &[NodeName::new("m1")]));
        assert!(!other.contains("make room"), "{other}");
        assert!(
            hint(&["m1", "m2"]).contains("in /var/lib/rsadm/backups on one of m1, m2 ("),
            "{}",
            hint(&["m1", "m2"])
        );
        assert!(hint(&["m1"]).contains("in /var/lib/rsadm/backups on m1 ("));
    }

    #[test]
    fn who_is_another_clusters_is_not_taken_for_silent() {
        let scene = Scene::new(3).silence(2, "refused").silence(3, "refused").without_quorum();
        let mut report = scene.report();
        report.members.iter_mut().for_each(|m| m.error = Some(Trouble::NotAMember));
        assert!(candidates(&report, None).is_empty());
        let said = strangers(others(&report)[0]).message();
        assert!(said.ends_with("(m1: not in the member list)"), "{said}");
    }
}
