//! What a cluster's data is useless without: its authorities, the keys of its service accounts, the key that encrypts
//! secrets at rest. Read from the hosts that keep them, into memory.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use futures::future::join_all;

use super::{BackupError, bundle::Carried, words};
use crate::{
    host::{Host, HostError, Op, Output},
    inventory::NodeName,
    layout,
    pki::authorities::{Ca, service_account_key_path, service_account_public_path},
    secret::Secret,
};

/// Begin what an API server has encrypted, before the version of the form. `k8s:enc:` alone stands in documents and scripts, too.
/// kubernetes `staging/src/k8s.io/apiserver/pkg/server/options/encryptionconfig/config.go`
pub const ENCRYPTED: [&str; 4] =
    ["k8s:enc:aescbc:v", "k8s:enc:aesgcm:v", "k8s:enc:secretbox:v", "k8s:enc:kms:v"];

/// How reading ends where there is no file (`host/ssh/remote.sh`, `do_read`).
const NOT_THERE: i32 = 1;

/// Paths on hosts that belong together, and whether a restore needs them.
pub fn wanted(kubernetes: bool) -> Vec<(Vec<String>, bool)> {
    let pair = |ca: Ca| vec![ca.cert_path(), ca.key_path()];
    let mut wanted = vec![(pair(Ca::Etcd), true)];
    if kubernetes {
        wanted.push((pair(Ca::Cluster), true));
        wanted.push((pair(Ca::FrontProxy), true));
        wanted.push((vec![service_account_public_path(), service_account_key_path()], true));
        // One that kubeadm built encrypts nothing, or by a file elsewhere: the data tells whether it is missed.
        wanted.push((vec![layout::ENCRYPTION_CONFIG.to_owned()], false));
    }
    wanted
}

/// All of them, each pair as one host has it.
///
/// # Errors
/// Where hosts have different ones, none has a pair that is needed, or one that could not be asked may be the only one that has
/// a pair.
pub async fn read(hosts: &[Arc<dyn Host>], kubernetes: bool) -> Result<Vec<Carried>, BackupError> {
    let wanted = wanted(kubernetes);
    let paths: Vec<String> = wanted.iter().flat_map(|(paths, _)| paths.clone()).collect();
    let (mut found, mut lost) = (Vec::new(), None);
    for asked in join_all(hosts.iter().map(|host| Found::on(host, &paths))).await {
        match asked {
            Ok(host) => found.push(host),
            Err(error) => lost = Some(error),
        }
    }
    chosen(&wanted, &found, lost)
}

/// What one host has of them: the bytes, nothing, or why that is not known.
struct Found {
    host: NodeName,
    files: BTreeMap<String, Result<Option<Secret>, String>>,
}

impl Found {
    async fn on(host: &Arc<dyn Host>, paths: &[String]) -> Result<Self, HostError> {
        let ops: Vec<Op> = paths.iter().cloned().map(Op::Read).collect();
        let outputs = host.run(&ops, true).await?;
        Ok(Self {
            host: host.name().clone(),
            files: paths.iter().cloned().zip(outputs.into_iter().map(read_as)).collect(),
        })
    }

    fn has(&self, path: &str) -> Option<&Secret> {
        self.files.get(path)?.as_ref().ok()?.as_ref()
    }

    /// All of these, where it has all.
    fn whole(&self, paths: &[String]) -> Option<Vec<Carried>> {
        let carried = |path: &String| Some(Carried { path: path.clone(), data: self.has(path)?.clone() });
        paths.iter().map(carried).collect()
    }

    /// The first of these that is there, or may be, and could not be read.
    fn failure(&self, paths: &[String]) -> Option<BackupError> {
        let why = |path: &String| Some((path.clone(), self.files.get(path)?.as_ref().err()?.clone()));
        let (path, why) = paths.iter().find_map(why)?;
        Some(BackupError::Step { host: self.host.clone(), doing: format!("read {path}"), why })
    }
}

/// A read that failed is not one that found nothing.
fn read_as(output: Output) -> Result<Option<Secret>, String> {
    match output.status {
        0 => Ok(Some(Secret::new(output.stdout))),
        NOT_THERE => Ok(None),
        _ => Err(output.stderr.trim().to_owned()),
    }
}

/// A certificate of one host and the key of another may be none of one authority, and an authority that a host was left with from
/// another cluster is none of this one's. A host that is `lost` may have a pair that no other has.
fn chosen(
    wanted: &[(Vec<String>, bool)],
    found: &[Found],
    lost: Option<HostError>,
) -> Result<Vec<Carried>, BackupError> {
    let mut all = Vec::new();
    for (paths, is_needed) in wanted {
        paths.iter().try_for_each(|path| are_the_same(path, found))?;
        match found.iter().find_map(|host| host.whole(paths)) {
            Some(carried) => all.extend(carried),
            None => {
                if let Some(failure) = found.iter().find_map(|host| host.failure(paths)) {
                    return Err(failure);
                }
                // Whether what is not needed is missed the data tells.
                if *is_needed {
                    if let Some(error) = lost {
                        return Err(error.into());
                    }
                    let text = format!(
                        "no host that answers has {}, without which nothing could be restored",
                        paths.join(" and ")
                    );
                    return Err(BackupError::Keys(text));
                }
            }
        }
    }
    Ok(all)
}

fn are_the_same(path: &str, found: &[Found]) -> Result<(), BackupError> {
    let mut holders: Vec<(&Secret, Vec<&str>)> = Vec::new();
    for host in found {
        let Some(own) = host.has(path) else { continue };
        match holders.iter_mut().find(|(secret, _)| *secret == own) {
            Some((_, hosts)) => hosts.push(host.host.as_str()),
            None => holders.push((own, vec![host.host.as_str()])),
        }
    }
    match holders.len() {
        0 | 1 => Ok(()),
        _ => {
            let of: Vec<String> = holders.iter().map(|(_, hosts)| hosts.join(" and ")).collect();
            Err(BackupError::Keys(format!(
                "hosts have different files {path} ({}), and only one of them can be the cluster's",
                of.join("; ")
            )))
        }
    }
}

/// Whether data may not be read with what is carried: some is encrypted, as far as its text tells, and the key to it does not go
/// along. What a database no longer uses still stands in its file, until it is defragmented.
///
/// # Errors
/// Where the snapshot cannot be read.
pub fn lack_the_key_to(snapshot: &Path, carried: &[Carried]) -> Result<bool, BackupError> {
    if carried.iter().any(|file| file.path == layout::ENCRYPTION_CONFIG) {
        return Ok(false);
    }
    Ok(words::mentions(snapshot, [&ENCRYPTED])? == [true])
}

/// Where the API servers of those hosts that told have the key that encrypts, by their manifests, and `None` for who has none:
/// whoever set it up by hand chose the place. A host without such a manifest tells nothing: it may have been moved away.
pub async fn encryption_configs(hosts: &[Arc<dyn Host>]) -> BTreeMap<NodeName, Option<String>> {
    let read = [Op::Read(layout::manifest_of("kube-apiserver"))];
    let asked = hosts.iter().map(|host| async {
        let outputs = host.run(&read, true).await.ok()?;
        let text = outputs.first().filter(|o| o.ok())?.text();
        Some((host.name().clone(), encryption_config(&text).map(str::to_owned)))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// The flag of a static pod's manifest.
fn encryption_config(manifest: &str) -> Option<&str> {
    let words = manifest.lines().map(|line| line.trim().trim_start_matches("- ").trim_matches(['"', '\'']));
    words.filter_map(|word| word.strip_prefix("--encryption-provider-config=")).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with files by their path: `=TEXT`, or `!` for one that cannot be read.
    fn host(name: &str, files: &[(&str, &str)]) -> Found {
        let read = |text: &str| match text {
            "!" => Err("Input/output error".to_owned()),
            text => Ok(Some(Secret::new(text))),
        };
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), read(text))).collect();
        Found { host: NodeName::new(name), files }
    }

    fn came(found: &[Found]) -> Result<String, String> {
        let wanted = [(vec!["crt".to_owned(), "key".to_owned()], true), (vec!["enc".to_owned()], false)];
        let text = |c: &Carried| format!("{}={}", c.path, String::from_utf8_lossy(c.data.expose()));
        let chosen = chosen(&wanted, found, None).map_err(|e| e.to_string())?;
        Ok(chosen.iter().map(text).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_pair_is_one_hosts_and_the_same_on_all() {
        let (m1, e1) = (host("m1", &[("crt", "A"), ("key", "a"), ("enc", "x")]), host("e1", &[("crt", "A")]));
        assert_eq!(came(&[e1, m1]), Ok("crt=A key=a enc=x".into()));
        let old = host("m2", &[("crt", "B"), ("key", "b")]);
        let m3 = host("m3", &[("crt", "A"), ("key", "a")]);
        let m1 = host("m1", &[("crt", "A"), ("key", "a")]);
        assert_eq!(
            came(&[m1, old, m3]).unwrap_err(),
            "hosts have different files crt (m1 and m3; m2), and only one of them can be the cluster's"
        );
        let other = [host("m1", &[("crt", "A"), ("key", "a")]), host("m2", &[("crt", "A"), ("key", "b")])];
        assert!(came(&other).unwrap_err().starts_with("hosts have different files key (m1; m2)"));
        let split = [host("m1", &[("crt", "A")]), host("m2", &[("key", "a")])];
        assert!(came(&split).unwrap_err().starts_with("no host that answers has crt and key, without which"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_taken_for_one_that_is_not_there() {
        let sick = || host("m1", &[("crt", "A"), ("key", "!")]);
        assert_eq!(came(&[sick()]).unwrap_err(), "m1 could not read key: Input/output error");
        assert_eq!(came(&[sick(), host("m2", &[("crt", "A"), ("key", "a")])]), Ok("crt=A key=a".into()));
        let no_config = host("m1", &[("crt", "A"), ("key", "a"), ("enc", "!")]);
        assert_eq!(came(&[no_config]).unwrap_err(), "m1 could not read enc: Input/output error");
        let output = |status| Output {
            elapsed: std::time::Duration::ZERO,
            status,
            stdout: b"x".to_vec(),
            stderr: "Input/output error\n".into(),
        };
        assert_eq!(read_as(output(0)), Ok(Some(Secret::new("x"))));
        assert_eq!(read_as(output(1)), Ok(None));
        assert_eq!(read_as(output(2)), Err("Input/output error".into()));
    }

    #[test]
    fn a_host_that_is_lost_is_missed_only_where_no_other_has_the_pair() {
        let lost = || HostError::Lost {
            host: NodeName::new("m2"),
            doing: "read keys".into(),
            why: "closed by remote host".into(),
        };
        let pair = [(vec!["crt".to_owned(), "key".to_owned()], true), (vec!["enc".to_owned()], false)];
        let whole = [host("m1", &[("crt", "A"), ("key", "a")])];
        assert_eq!(chosen(&pair, &whole, Some(lost())).unwrap().len(), 2);
        let part = [host("m1", &[("crt", "A")])];
        let error = chosen(&pair, &part, Some(lost())).unwrap_err();
        assert!(matches!(error, BackupError::Host(HostError::Lost { .. })), "{error:?}");
    }

    #[test]
    fn the_place_of_the_key_that_encrypts_is_in_the_api_servers_manifest() {
        let manifest = "spec:\n  containers:\n  - command:\n    - kube-apiserver\n    \
                        - --encryption-provider-config=/etc/kubernetes/enc/enc.yaml\n    - --etcd-servers=x\n";
        assert_eq!(encryption_config(manifest), Some("/etc/kubernetes/enc/enc.yaml"));
        assert_eq!(encryption_config("    - \"--encryption-provider-config=/a b\"\n"), Some("/a b"));
        assert_eq!(encryption_config("    - --encryption-provider-config-automatic-reload=true\n"), None);
    }

    #[test]
    fn encrypted_data_takes_its_key_along() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let config = Carried { path: layout::ENCRYPTION_CONFIG.into(), data: Secret::new("x") };
        for (data, carried, lacks) in [
            ("/registry/secrets/a k8s:enc:aescbc:v1:key1:", &[][..], true),
            ("/registry/secrets/a k8s:enc:aescbc:v1:key1:", &[config], false),
            ("/registry/secrets/a k8s:enc:kms:v2:name:", &[], true),
            ("/registry/configmaps/a grep k8s:enc: or k8s:enc:aescbc", &[], false),
        ] {
            std::fs::write(&path, data).unwrap();
            assert_eq!(lack_the_key_to(&path, carried).unwrap(), lacks, "{data}");
        }
    }
}
