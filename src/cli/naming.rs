//! Words of a command line that name hosts: whether the inventory has them.

use crate::{
    cli::{CliError, Exit},
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
            (vec![&etcd, &worker], Some(Role::Etcd), Some(format!("{worker} has no role etcd in the inventory"))),
            (vec![&etcd, &nobody], None, Some("the inventory has no host nobody".to_owned())),
            (vec![&nobody], Some(Role::Etcd), Some("the inventory has no host nobody".to_owned())),
        ] {
            let error = has_hosts(&cluster, names.clone(), role).err();
            assert_eq!(error.map(|e| e.message()), said, "{names:?} {role:?}");
        }
    }
}
