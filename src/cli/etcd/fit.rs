//! Whether a snapshot fits the hosts that shall take it: the keys that its data cannot be read without, the version of etcd,
//! and whose it is. Told before anything is asked or sent.

use super::recovery::Ground;
use crate::{
    backup::{Checked, Manifest, keys, words},
    cli::CliError,
    inventory::{Cluster, NodeName},
    layout,
    observe::Observed,
    phases::{etcd::upgrade::version_of, ownership::is_adopted},
    pki::authorities::Ca,
    plan::Refusal,
    secret::Secret,
    versions::Version,
};

/// Begins the keys of Kubernetes' objects.
const OBJECT: &str = "/registry/";

/// A snapshot that can be read here, and what travelled with it.
pub(super) struct Opened {
    pub(super) snapshot: std::path::PathBuf,
    pub(super) carried: Vec<(String, Secret)>,
    /// Whose it is and how it was taken; `None` where nothing says it.
    pub(super) manifest: Option<Manifest>,
}

impl Ground<'_> {
    /// Restored on these hosts, the snapshot could be served and read. What speaks against it all the same is told, to whoever
    /// is asked and to whoever is not.
    pub(super) async fn fits(
        &self,
        opened: &Opened,
        checked: &Checked,
        seen: &Observed,
    ) -> Result<(), CliError> {
        let cluster = &self.session.cluster;
        let data = Data::of(opened, cluster)?;
        has_keys(&lacking(cluster, seen, &opened.carried, &data))?;
        // Of a restore under way manifests wait elsewhere, and this was asked before.
        if self.standing().await?.under_way.is_none() {
            let stated = opened.manifest.as_ref().map(|m| m.etcd.as_str());
            let version = checked.structure.etcd.as_deref().or(stated).and_then(|v| v.parse().ok());
            starts_with(version, cluster, seen, &self.etcd_hosts())?;
        }
        for doubt in opened.manifest.iter().flat_map(|manifest| doubts(manifest, seen)) {
            self.session
                .events
                .warn(doubt, Some("rsadm etcd snapshot ls shows which others there are".into()));
        }
        Ok(())
    }
}

/// What of a cluster's keys the data of a snapshot has to do with.
struct Data {
    objects: bool,
    encrypted: bool,
}

impl Data {
    fn of(opened: &Opened, cluster: &Cluster) -> Result<Self, CliError> {
        let [objects, encrypted] = match cluster.has_kubernetes() {
            true => words::mentions(&opened.snapshot, [&[OBJECT], &keys::ENCRYPTED])?,
            false => [false; 2],
        };
        Ok(Self { objects, encrypted })
    }
}

/// Paths of keys that the snapshot's data needs, and that neither travelled with it nor are on a host. `up` and the restore
/// itself would make new ones on hosts that rsadm builds; beside hosts of somebody else's they build none of Kubernetes'.
fn lacking(cluster: &Cluster, seen: &Observed, carried: &[(String, Secret)], data: &Data) -> Vec<String> {
    let adopted = seen.hosts.values().any(is_adopted);
    let is_needed = |path: &str| match path {
        layout::ENCRYPTION_CONFIG => data.encrypted,
        _ => path.starts_with(layout::ETCD_PKI_DIR) || data.objects,
    };
    let is_there = |path: &String| {
        carried.iter().any(|(own, _)| own == path) || seen.hosts.values().any(|f| f.files.contains_key(path))
    };
    let wanted = keys::wanted(cluster.has_kubernetes() && !adopted).into_iter().flat_map(|(paths, _)| paths);
    wanted.filter(|path| is_needed(path) && !is_there(path)).collect()
}

fn has_keys(lacking: &[String]) -> Result<(), Refusal> {
    if lacking.is_empty() {
        return Ok(());
    }
    // Who has the others has a bundle that an etcd host took by itself, most likely.
    let etcds_alone = !lacking.contains(&Ca::Etcd.key_path());
    let elsewhere = match etcds_alone {
        true => "a schedule's bundle has etcd's alone where no etcd host is a control plane",
        false => "a snapshot without --with-pki has none",
    };
    Err(Refusal {
        rule: "authorities",
        subject: "these hosts cannot hold the snapshot".into(),
        why: format!(
            "it does not carry all keys that its data needs, and no host has them: {}; new ones would be made, and what the \
             old ones signed and encrypted could be read by nobody any more ({elsewhere})",
            lacking.join(", ")
        ),
        help: format!(
            "restore from a bundle that `rsadm etcd snapshot save --with-pki` took; or put a copy of these files first where \
             they belong: those in {} on an etcd host, all others on a control plane",
            layout::ETCD_PKI_DIR
        ),
    })
}

/// No etcd starts with data of a newer minor version; it would be told once the old data was set aside everywhere.
fn starts_with(
    version: Option<Version>,
    cluster: &Cluster,
    seen: &Observed,
    targets: &[NodeName],
) -> Result<(), Refusal> {
    let Some(version) = version else { return Ok(()) };
    let runs = |host: &NodeName| seen.hosts.get(host).and_then(|f| version_of(f.etcd_image.as_deref()?));
    let will_run = |host| (host, runs(host), runs(host).unwrap_or(cluster.release.etcd));
    let minor = |v: Version| (v.major, v.minor);
    let older = targets.iter().map(will_run).find(|(_, _, etcd)| minor(*etcd) < minor(version));
    let Some((host, runs, etcd)) = older else { return Ok(()) };
    Err(Refusal {
        rule: "newer-snapshot",
        subject: format!("{host} cannot start with the snapshot"),
        why: format!(
            "it is of etcd {version}, and {host} runs {etcd}, which reads no data of a newer minor version"
        ),
        help: match runs {
            Some(_) => format!(
                "bring etcd to {version} first while it serves (etcd.version: {version}, then rsadm etcd upgrade), or choose \
                 a snapshot of {etcd} or older"
            ),
            None => format!(
                "set etcd.version: {version} in the inventory, or a kubernetes_version that comes with it, or choose a snapshot \
                 of {etcd} or older"
            ),
        },
    })
}

fn doubts(manifest: &Manifest, seen: &Observed) -> Vec<String> {
    let mut doubts = Vec::new();
    if let Some(why) = &manifest.damaged {
        doubts.push(format!("the manifest of the snapshot says that it is damaged: {why}"));
    }
    if manifest.without_quorum {
        let lacks = "what other members had acknowledged may be missing";
        doubts.push(match &manifest.doubt {
            Some(why) => format!("of the snapshot {lacks}: {why}"),
            None => format!("the snapshot was taken without a quorum: {lacks}"),
        });
    }
    let known: Vec<&String> = seen
        .hosts
        .values()
        .filter_map(|f| f.identity.as_ref())
        .flat_map(|i| [&i.etcd_cluster_id].into_iter().chain(i.in_place_of()))
        .collect();
    if !known.is_empty() && !known.contains(&&manifest.cluster_id) {
        doubts.push(format!(
            "the snapshot is not of these hosts' etcd nor of one before it, but of another of the name {}, {}",
            manifest.cluster, manifest.cluster_id
        ));
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backup::manifest::tests::sample,
        manifests::testing,
        observe::{Facts, FileFact, Identity},
    };

    fn hosts(facts: &[(&str, Facts)]) -> Observed {
        let hosts = facts.iter().map(|(name, facts)| (NodeName::new(*name), facts.clone())).collect();
        Observed { hosts, ..Observed::default() }
    }

    fn with_files(paths: &[String]) -> Facts {
        let file = FileFact { mode: 0o600, owner: "root:root".into(), sha256: "ab".into() };
        let files = paths.iter().map(|path| (path.clone(), file.clone())).collect();
        Facts { files, ..Facts::default() }
    }

    #[test]
    fn keys_that_the_data_needs_are_in_the_bundle_or_on_a_host() {
        let all: Vec<String> = keys::wanted(true).into_iter().flat_map(|(paths, _)| paths).collect();
        let (etcds, kubernetes) = all.split_at(2);
        let encryption = kubernetes.last().cloned().map(|path| vec![path]).unwrap();
        let secrets = Data { objects: true, encrypted: true };
        let plain = Data { objects: true, encrypted: false };
        let bare = Data { objects: false, encrypted: false };
        for (name, carried, on_host, data, expected) in [
            ("nothing anywhere", &[][..], &[][..], &secrets, &all[..]),
            ("a whole bundle", &all, &[], &secrets, &[]),
            ("etcd's alone", etcds, &[], &secrets, kubernetes),
            ("etcd's alone, nothing encrypted", etcds, &[], &plain, &kubernetes[..6]),
            ("etcd's alone, nothing of Kubernetes in it", etcds, &[], &bare, &[]),
            ("a whole cluster", &[], &all, &secrets, &[]),
            ("etcd's, and a control plane", etcds, kubernetes, &secrets, &[]),
            ("its pki was put back, and no more", etcds, &kubernetes[..6], &secrets, &encryption),
        ] {
            let seen = hosts(&[("c1", with_files(on_host)), ("e1", Facts::default())]);
            let carried: Vec<(String, Secret)> =
                carried.iter().map(|path| (path.clone(), Secret::new("x"))).collect();
            let found = lacking(&testing::external_etcd(), &seen, &carried, data);
            assert_eq!(found, expected, "{name}");
            let refusal = has_keys(&found).err();
            assert_eq!(refusal.is_some(), !expected.is_empty(), "{name}");
            assert!(refusal.is_none_or(|r| expected.iter().all(|path| r.why.contains(path))), "{name}");
        }
        let mut kubeadms = with_files(etcds);
        kubeadms.files.insert(layout::KUBELET_CONF.into(), with_files(etcds).files[&etcds[0]].clone());
        let found = lacking(&testing::external_etcd(), &hosts(&[("e1", kubeadms)]), &[], &secrets);
        assert_eq!(found, Vec::<String>::new(), "nothing is made for somebody else's control planes");
    }

    #[test]
    fn data_of_a_newer_minor_version_is_refused_with_both_named() {
        let cluster = testing::external_etcd();
        let image = |image: &str| Facts { etcd_image: Some(image.into()), ..Facts::default() };
        let old = image("registry.k8s.io/etcd:3.6.8-0");
        let inventorys = cluster.release.etcd;
        let newer = Version::new(inventorys.major, inventorys.minor + 1, 0);
        for (version, e1, refused) in [
            (Some(Version::new(3, 7, 0)), old.clone(), Some("v3.7.0, and e1 runs v3.6.8")),
            (Some(Version::new(3, 6, 16)), old.clone(), None),
            (Some(Version::new(3, 5, 2)), old.clone(), None),
            (None, old.clone(), None),
            (Some(inventorys), Facts::default(), None),
            (Some(newer), Facts::default(), Some("and e1 runs v")),
        ] {
            let (seen, targets) = (hosts(&[("e1", e1)]), [NodeName::new("e1")]);
            let refusal = starts_with(version, &cluster, &seen, &targets).err();
            assert_eq!(refusal.is_some(), refused.is_some(), "{version:?}: {refusal:?}");
            assert!(refused.is_none_or(|words| refusal.unwrap().why.contains(words)), "{version:?}");
        }
    }

    #[test]
    fn what_speaks_against_a_snapshot_is_told() {
        let of = |id: &str, replaces: &[&str]| Facts {
            identity: Some(Identity {
                cluster: "prod".into(),
                etcd_cluster_id: id.into(),
                replaces: replaces.iter().map(|r| (*r).to_owned()).collect(),
                ..Identity::default()
            }),
            ..Facts::default()
        };
        let own = sample().cluster_id;
        let told = |manifest: &Manifest, facts: Facts| doubts(manifest, &hosts(&[("e1", facts)]));
        for facts in [Facts::default(), of(&own, &[]), of("b", &["a", &own])] {
            assert_eq!(told(&sample(), facts), [""; 0]);
        }
        assert!(told(&sample(), of("b", &["a"]))[0].ends_with(&format!("another of the name prod, {own}")));
        let doubtful = Manifest { damaged: Some("an alarm was on".into()), without_quorum: true, ..sample() };
        let lines = told(&doubtful, Facts::default());
        assert!(
            lines[0].ends_with("damaged: an alarm was on") && lines[1].contains("without a quorum"),
            "{lines:?}"
        );
        let behind =
            Manifest { damaged: None, doubt: Some("its member was not well: late".into()), ..doubtful };
        let lines = told(&behind, Facts::default());
        assert!(lines[0].ends_with("may be missing: its member was not well: late"), "{lines:?}");
    }
}
