//! The file that a kubeconfig is written to: whether it may be replaced.

use std::{fs, io, path::Path};

use crate::{
    cli::{CliError, Exit, shell::quoted},
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
}
