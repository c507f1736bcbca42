//! What an inventory names on the computer that rsadm runs on: private keys and manifests.

use crate::{
    cli::{CliError, Exit},
    inventory::{Cluster, NetworkPlugin},
};

/// ssh goes on without a key file that is missing, and what it says then is of permissions on the hosts.
pub(super) fn keys_are_there(cluster: &Cluster) -> Result<(), CliError> {
    let keys = cluster.nodes.iter().filter_map(|n| Some((n, n.ssh.key_path.as_ref()?)));
    let unreadable = |path: &std::path::PathBuf| std::fs::metadata(path).err();
    let Some((node, path, why)) = keys.filter_map(|(n, path)| Some((n, path, unreadable(path)?))).next()
    else {
        return Ok(());
    };
    let text = format!("could not find the ssh key of {}: {}: {why}", node.name, path.display());
    Err(CliError::new(Exit::Inventory, text)
        .hint("ssh.key_path names a private key file on this computer; without it ssh's own keys and agent are used"))
}

/// The operator's manifests by a name for each: a file's text, or the URL itself, which the cluster's host fetches.
pub(super) fn network_manifests(cluster: &Cluster) -> Result<Vec<(String, String)>, CliError> {
    let NetworkPlugin::Manifests(places) = &cluster.network.plugin else { return Ok(vec![]) };
    let read = |place: &String| match place.starts_with("https://") || place.starts_with("http://") {
        true => Ok(place.clone()),
        false => std::fs::read_to_string(place).map_err(|e| {
            CliError::new(Exit::Inventory, format!("could not read network.manifests: {place}: {e}"))
                .hint("the path is taken from the folder that rsadm runs in")
        }),
    };
    places.iter().enumerate().map(|(i, place)| Ok((format!("network-{i}"), read(place)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifests::testing, ui::lines::Style};

    fn manifests(places: &[&str]) -> Result<Vec<(String, String)>, CliError> {
        let mut cluster = testing::ha();
        cluster.network.plugin = NetworkPlugin::Manifests(places.iter().map(|p| (*p).to_owned()).collect());
        network_manifests(&cluster)
    }

    #[test]
    fn manifests_are_read_here_and_urls_left_to_the_hosts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("net.yaml");
        std::fs::write(&file, "kind: Namespace\n").unwrap();
        let (url, file) = ("https://example.org/net.yaml", file.to_str().unwrap());
        let named = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
        };
        let expected = named(&[("network-0", url), ("network-1", "kind: Namespace\n")]);
        assert_eq!(manifests(&[url, file]).unwrap(), expected);
        let mut other = testing::ha();
        other.network.plugin = NetworkPlugin::None;
        assert_eq!(network_manifests(&other).unwrap(), vec![]);
    }

    #[test]
    fn a_manifest_that_is_not_there_is_an_error_of_the_inventory() {
        let error = manifests(&["no-such-folder/net.yaml"]).unwrap_err();
        assert_eq!(error.kind(), Exit::Inventory);
        insta::assert_snapshot!(error.text(Style { color: false }), @r"
        error: could not read network.manifests: no-such-folder/net.yaml: No such file or directory (os error 2)
          hint: the path is taken from the folder that rsadm runs in
        ");
    }
}
