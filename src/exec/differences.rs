//! What a plan changes in files that are there: read from the hosts, for those who look before they leap.

use std::collections::BTreeMap;

use crate::{
    host::{Host, HostError, Op, fleet::Fleet},
    inventory::NodeName,
    layout, manifests,
    plan::{Plan, action::REVISION_MARK},
};

/// Reads what will be written anew and can be shown, and tells flag by flag and setting by setting what that changes. Reads no
/// file that may have a secret in it. What a host does not tell stays untold.
pub async fn explain(fleet: &Fleet, plan: &mut Plan) {
    let mut wanted: BTreeMap<NodeName, Vec<String>> = BTreeMap::new();
    for (host, path) in plan.rewritten().filter(|(_, path)| is_shown(path)) {
        wanted.entry(host.clone()).or_default().push(path.to_owned());
    }
    let hosts: Vec<NodeName> = wanted.keys().cloned().collect();
    let texts = fleet.for_each(&hosts, |host| {
        let paths = wanted.get(host.name()).cloned().unwrap_or_default();
        async move { read(host.as_ref(), paths).await }
    });
    let texts: BTreeMap<NodeName, BTreeMap<String, String>> =
        texts.await.into_iter().filter_map(|(host, texts)| Some((host, texts.ok()?))).collect();
    plan.explain(|host, path, new| match texts.get(host).and_then(|texts| texts.get(path)) {
        Some(old) => manifests::difference(old, new, REVISION_MARK),
        None => Vec::new(),
    });
}

/// Manifests of static pods and the kubelet's configuration: flags and settings, and keys only by their paths.
fn is_shown(path: &str) -> bool {
    path == layout::KUBELET_CONFIG || path.starts_with(layout::MANIFESTS_DIR)
}

async fn read(host: &dyn Host, paths: Vec<String>) -> Result<BTreeMap<String, String>, HostError> {
    let ops: Vec<Op> = paths.iter().cloned().map(Op::Read).collect();
    let outputs = host.run(&ops, true).await?;
    let texts = paths.into_iter().zip(outputs).filter(|(_, output)| output.ok());
    Ok(texts.map(|(path, output)| (path, output.text())).collect())
}
