//! Words of a command line that name hosts and files: whether the inventory has them, and whether they stand where they
//! belong.

use crate::{
    cli::{CliError, Exit, InventoryArg, shell::quoted},
    inventory::{Cluster, Node, NodeName, Role},
};

/// Whether the inventory has all these hosts, with that role where one is asked for.
pub(super) fn has_hosts<'n>(
    cluster: &Cluster,
    names: impl IntoIterator<Item = &'n NodeName>,
    role: Option<Role>,
) -> Result<(), CliError> {
    let fits = |node: &Node| role.is_none_or(|role| node.is(role));
    let unfit = |name: &&NodeName| !cluster.node(name).is_some_and(fits);
    let Some(name) = names.into_iter().find(unfit) else { return Ok(()) };
    let what = match (cluster.node(name), role) {
        (Some(_), Some(role)) => format!("{name} has no role {role} in the inventory"),
        _ => format!("the inventory has no host {name}"),
    };
    let known: Vec<&str> = cluster.nodes.iter().filter(|n| fits(n)).map(|n| n.name.as_str()).collect();
    let those = role.map(|role| format!(" with the role {role}")).unwrap_or_default();
    Err(CliError::new(Exit::Usage, what).hint(format!("its hosts{those} are {}", known.join(", "))))
}

/// What a command takes behind the inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Hosts, by their names in the inventory.
    Hosts,
    /// A snapshot: a file, `HOST:FILE` or a URL.
    Snapshot,
}

impl Takes {
    /// True for a word that is meant as an inventory: no host and hardly a snapshot is called so, and no host has a slash in
    /// its name.
    pub(super) fn is_inventory(self, word: &str) -> bool {
        let is_yaml = word == "-" || word.ends_with(".yaml") || word.ends_with(".yml");
        is_yaml || (self == Self::Hosts && word.contains('/'))
    }

    /// Refuses an inventory that stands behind what it is to stand before: taken for a host or a snapshot, it would be
    /// looked for in vain, in the wrong file. `command` is without `rsadm`, and `words` follow the inventory.
    pub(super) fn after_inventory<S: AsRef<str>>(
        self,
        command: &str,
        inventory: &InventoryArg,
        words: &[S],
    ) -> Result<(), CliError> {
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        let Some(file) = words.iter().find(|word| self.is_inventory(word)) else { return Ok(()) };
        let (a_what, what) = match self {
            Self::Hosts => ("a host", "HOST"),
            Self::Snapshot => ("a snapshot", "SNAPSHOT"),
        };
        let first = inventory.as_typed();
        let others = [first.trim_start()].into_iter().filter(|word| !word.is_empty());
        let others: Vec<String> = others
            .map(str::to_owned)
            .chain(words.iter().map(quoted))
            .filter(|word| !self.is_inventory(word.trim_matches('\'')))
            .collect();
        let others = if others.is_empty() { what.to_owned() } else { others.join(" ") };
        let text = format!("{file} stands where {a_what} is to be named");
        Err(CliError::new(Exit::Usage, text)
            .hint(format!("the inventory stands before it: rsadm {command} {} {others}", quoted(file))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::testing;

    #[test]
    fn hosts_are_looked_up_before_anything_else() {
        let cluster = testing::external_etcd();
        let name = |node: &Node| node.name.clone();
        let etcd = cluster.with_role(Role::Etcd).map(name).next().unwrap();
        let worker = cluster.with_role(Role::Worker).map(name).next().unwrap();
        let nobody = NodeName::new("nobody");
        for (names, role, said) in [
            (vec![&etcd, &worker], None, None),
            (vec![&etcd], Some(Role::Etcd), None),
            (
                vec![&etcd, &worker],
                Some(Role::Etcd),
                Some(format!("{worker} has no role etcd in the inventory")),
            ),
            (vec![&etcd, &nobody], None, Some("the inventory has no host nobody".to_owned())),
            (vec![&nobody], Some(Role::Etcd), Some("the inventory has no host nobody".to_owned())),
        ] {
            let error = has_hosts(&cluster, names.clone(), role).err();
            assert_eq!(error.map(|e| e.message()), said, "{names:?} {role:?}");
        }
    }
}
