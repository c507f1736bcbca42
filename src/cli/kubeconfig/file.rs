//! The file that a kubeconfig is written to: whether it may be replaced, and how.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::{
    cli::{CliError, Exit, shell::quoted},
    host::Secret,
    pki::{
        inspect::inspect,
        kubeconfig::{self, Kubeconfig},
    },
};

/// Users of the kubeconfigs that this command writes: what is lost of them it writes again.
const ADMINS: [&str; 2] = ["kubernetes-admin", "kubernetes-super-admin"];

/// Refuses to replace a file that holds the ways to other clusters or the operator's own to this one, or something else
/// altogether, or nobody knows what.
pub(super) fn keep_others(path: &Path, ours: &Kubeconfig) -> Result<(), CliError> {
    let others = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Some(format!("could not be read ({error})")),
        Ok(bytes) => match str::from_utf8(&bytes) {
            Ok(text) => others(text, ours),
            Err(_) => Some(NONE.to_owned()),
        },
    };
    let Some(others) = others else { return Ok(()) };
    let name = path.display();
    Err(CliError::new(Exit::Refused, format!("{name} {others}, and would be replaced"))
        .hint(format!("write another file, and use both: export KUBECONFIG={}:FILE", quoted(name)))
        .hint("--yes replaces it"))
}

const NONE: &str = "is no kubeconfig";

/// What a file holds beside a kubeconfig of this cluster. Names are not enough: kubeadm calls every cluster `kubernetes`.
fn others(text: &str, ours: &Kubeconfig) -> Option<String> {
    if text.trim().is_empty() {
        return None;
    }
    let Some(names) = kubeconfig::names(text) else { return Some(NONE.to_owned()) };
    let cluster = &ours.cluster;
    let fingerprint = |pem: &str| inspect(pem).ok().map(|info| info.fingerprint);
    let is_another =
        |(name, ca): &(String, String)| name == cluster && fingerprint(ca) != fingerprint(&ours.ca);
    if names.authorities.iter().any(is_another) {
        return Some(format!("is the way to another cluster of the name {cluster}"));
    }
    let contexts = ADMINS.map(|user| kubeconfig::context(user, cluster));
    let is_ours = |name: &str| contexts.iter().any(|context| context == name);
    [
        ("is the way to", beside(&names.clusters, |name| name == cluster)),
        ("has the user", beside(&names.users, |name| ADMINS.contains(&name))),
        ("has the context", beside(&names.contexts, is_ours)),
    ]
    .into_iter()
    .find_map(|(has, others)| Some(format!("{has} {} too", others?)))
}

fn beside(names: &[String], is_ours: impl Fn(&str) -> bool) -> Option<String> {
    let others: Vec<&str> = names.iter().map(String::as_str).filter(|name| !is_ours(name)).collect();
    (!others.is_empty()).then(|| others.join(", "))
}

/// Tries the nearest folder that is there, before anybody is dialled, and leaves nothing in it. A device or a pipe is nothing to
/// put another file in place of, least of all one that root shares with all others, such as `/dev/null`.
pub(super) fn can_be_written(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if !found.is_file() => {
            return Err(io::Error::other("it is no regular file; without --to the kubeconfig is printed"));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let whole = std::path::absolute(end_of(path))?;
    match whole.ancestors().skip(1).find(|folder| folder.exists()) {
        Some(folder) => tempfile::tempfile_in(folder).map(drop),
        None => Ok(()),
    }
}

pub(super) fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> CliError {
    move |source| CliError::new(Exit::StepFailed, Unwritable { path: path.to_owned(), source })
}

/// As many links as the kernel follows (`MAXSYMLINKS`).
const LINKS: usize = 40;

/// Where a path leads over links, also where nothing is there yet, as before a disk is mounted.
fn end_of(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let Ok(to) = fs::read_link(&path) else { break };
        path.set_file_name("");
        path.push(to);
    }
    path
}

/// Replaces the file at once or not at all; readable by its owner alone from the first byte. A link stays one.
pub(super) fn write(path: &Path, text: &Secret) -> io::Result<()> {
    let path = end_of(path);
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let private = fs::Permissions::from_mode(0o600);
    let mut file = tempfile::Builder::new().prefix(".rsadm-").permissions(private).tempfile_in(folder)?;
    file.write_all(text.expose())?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[error("could not write {}", path.display())]
struct Unwritable {
    path: PathBuf,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::pki::{authorities::Ca, issue::Authority, kubeconfig::Credential};

    const OURS: &str = "clusters: [{name: lab, cluster: {server: https://m1:6443}}]\n";
    const BOTH: &str = "clusters:\n- {name: lab, cluster: {server: https://m1:6443}}\n\
        - {name: dev, cluster: {server: https://d:6443}}\n";

    #[test]
    fn only_the_way_to_this_cluster_is_replaced_unasked() {
        let both_admins = ADMINS.map(|user| format!("{{name: {user}}}")).join(", ");
        let both_admins =
            format!("{OURS}users: [{both_admins}]\ncontexts: [{{name: kubernetes-super-admin@lab}}]\n");
        for (text, found) in [
            ("", None),
            (OURS, None),
            ("clusters: null\nusers: null\ncontexts: null\n", None),
            (&both_admins, None),
            (BOTH, Some("is the way to dev too")),
            (
                &format!("{OURS}users: [{{name: oidc, user: {{exec: {{command: x}}}}}}]\n"),
                Some("has the user oidc too"),
            ),
            (&format!("{OURS}contexts: [{{name: dev, context: {{}}}}]\n"), Some("has the context dev too")),
            (
                &format!("{OURS}contexts: [{{name: kubernetes-admin@dev}}]\n"),
                Some("has the context kubernetes-admin@dev too"),
            ),
            ("- a\n- list\n", Some("is no kubeconfig")),
        ] {
            assert_eq!(others(text, &ours("lab CA")).as_deref(), found, "{text:?}");
        }
    }

    /// A kubeconfig of this cluster.
    fn ours(ca: &str) -> Kubeconfig {
        let (cluster, server, user) = ("lab".into(), "https://m1:6443".into(), ADMINS[0].into());
        let credential = Credential::Files { cert: "a".into(), key: "b".into() };
        Kubeconfig { cluster, server, ca: ca.into(), user, credential }
    }

    #[test]
    fn a_cluster_of_the_same_name_is_told_by_its_authority() {
        let make = || Authority::make(Ca::Cluster, OffsetDateTime::UNIX_EPOCH).unwrap().files().cert.clone();
        let (this, other) = (ours(&make()), ours(&make()));
        let text =
            |kubeconfig: &Kubeconfig| String::from_utf8(kubeconfig.render().expose().to_vec()).unwrap();
        assert_eq!(others(&text(&this), &this), None);
        let told = others(&text(&other), &this);
        assert_eq!(told.as_deref(), Some("is the way to another cluster of the name lab"));
    }

    #[test]
    fn what_cannot_be_read_is_not_replaced_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("ours"), OURS).unwrap();
        fs::write(path("latin1"), b"clusters: [] # \xe9\n").unwrap();
        // As root every file can be read, and no folder.
        fs::create_dir(path("folder")).unwrap();
        for (name, said) in [
            ("missing", None),
            ("ours", None),
            ("latin1", Some("is no kubeconfig, and would be replaced")),
            ("folder", Some("could not be read (")),
        ] {
            let refused = keep_others(&path(name), &ours("lab CA")).err();
            assert_eq!(refused.is_some(), said.is_some(), "{name}");
            let told = refused.map(|e| (e.kind(), e.message()));
            assert!(told.as_ref().is_none_or(|(kind, _)| *kind == Exit::Refused), "{told:?}");
            assert!(told.is_none_or(|(_, text)| text.contains(said.unwrap_or_default())), "{name}");
        }
    }

    #[test]
    fn a_file_is_private_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config");
        for text in ["first, and longer", "second"] {
            write(&path, &Secret::new(text)).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "old").unwrap();
        for (link, to) in [("link", "file"), ("two", "link"), ("dangling", "later/file")] {
            std::os::unix::fs::symlink(to, path(link)).unwrap();
            can_be_written(&path(link)).unwrap();
            write(&path(link), &Secret::new(link)).unwrap();
            assert!(fs::symlink_metadata(path(link)).unwrap().is_symlink(), "{link}");
            assert_eq!(fs::read_to_string(path(link)).unwrap(), link);
        }
        assert_eq!(fs::read_to_string(path("file")).unwrap(), "two");
    }

    #[test]
    fn only_a_regular_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let _listener = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        std::os::unix::fs::symlink("loop", path("loop")).unwrap();
        let device = path("device");
        std::os::unix::fs::symlink("/dev/null", &device).unwrap();
        for (path, said) in [
            (path("socket"), "without --to"),
            (device, "without --to"),
            ("/dev/null".into(), "without --to"),
            (folder.path().to_owned(), "is a directory"),
            (path("loop"), "symbolic link"),
        ] {
            let error = can_be_written(&path).unwrap_err().to_string();
            assert!(error.contains(said), "{}: {error}", path.display());
        }
    }
}
