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
    pki::kubeconfig,
};

/// Users of the kubeconfigs that this command writes: what is lost of them it writes again.
const ADMINS: [&str; 2] = ["kubernetes-admin", "kubernetes-super-admin"];

/// Refuses to replace a file that holds the ways to other clusters or the operator's own to this one, or something else
/// altogether, or nobody knows what.
pub(super) fn keep_others(path: &Path, cluster: &str) -> Result<(), CliError> {
    let others = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Some(format!("could not be read ({error})")),
        Ok(bytes) => match str::from_utf8(&bytes) {
            Ok(text) => others(text, cluster),
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

/// What a file holds beside a kubeconfig of this cluster.
fn others(text: &str, cluster: &str) -> Option<String> {
    if text.trim().is_empty() {
        return None;
    }
    let Some(names) = kubeconfig::names(text) else { return Some(NONE.to_owned()) };
    let contexts = ADMINS.map(|user| kubeconfig::context(user, cluster));
    let ours = |name: &str| contexts.iter().any(|context| context == name);
    [
        ("is the way to", beside(&names.clusters, |name| name == cluster)),
        ("has the user", beside(&names.users, |name| ADMINS.contains(&name))),
        ("has the context", beside(&names.contexts, ours)),
    ]
    .into_iter()
    .find_map(|(has, others)| Some(format!("{has} {} too", others?)))
}

fn beside(names: &[String], is_ours: impl Fn(&str) -> bool) -> Option<String> {
    let others: Vec<&str> = names.iter().map(String::as_str).filter(|name| !is_ours(name)).collect();
    (!others.is_empty()).then(|| others.join(", "))
}

/// Tries the nearest folder that is there, before anybody is dialled, and leaves nothing in it.
pub(super) fn can_be_written(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let whole = std::path::absolute(path)?;
    match whole.ancestors().skip(1).find(|folder| folder.exists()) {
        Some(folder) => tempfile::tempfile_in(folder).map(drop),
        None => Ok(()),
    }
}

pub(super) fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> CliError {
    move |source| CliError::new(Exit::StepFailed, Unwritable { path: path.to_owned(), source })
}

/// Replaces the file at once or not at all; readable by its owner alone from the first byte. A link stays one.
pub(super) fn write(path: &Path, text: &Secret) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
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
    use super::*;

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
            assert_eq!(others(text, "lab").as_deref(), found, "{text:?}");
        }
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
            let refused = keep_others(&path(name), "lab").err();
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
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, &Secret::new("new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    }
}
