//! The upgrade of a member that kubeadm built: its manifest stays, but for the image and for arguments that the new version does
//! not know. A host where rsadm made a member of such a cluster anew has rsadm's manifest, which is changed in the same way.

use super::{
    arguments::{Replaced, replaced, value_of},
    is_pending, listed, version,
};
use crate::{
    inventory::Node,
    layout,
    plan::{Action, Planner, Refusal},
    versions::Release,
};

/// Why not: a rule, why, and what to do.
type Obstacle = (&'static str, String, String);

/// The image of the version to come. One that the manifest has already is that, whatever its tag.
pub(super) fn image(p: &Planner<'_>, node: &Node) -> Option<String> {
    let had = p.facts(&node.name).etcd_image.as_deref()?;
    match is_pending(p, node) {
        true => next(had, &p.cluster.release),
        false => Some(had.to_owned()),
    }
}

/// From where the manifest has its image, with a tag as kubeadm's have, or of etcd's own kind (`v3.7.0`) where it has that.
fn next(had: &str, release: &Release) -> Option<String> {
    let (repository, tag) = had.rsplit_once(':')?;
    Some(match tag.starts_with('v') && !tag.contains('-') {
        true => format!("{repository}:{}", release.etcd),
        false => format!("{repository}:{}", release.etcd_tag),
    })
}

/// Whether the manifest can be changed for the new version, asked of all members before the first is touched.
pub(super) fn may_be(p: &Planner<'_>, node: &Node) -> Result<(), Obstacle> {
    let facts = p.facts(&node.name);
    let Some(image) = &facts.etcd_image else {
        let why = format!("there is no {} with an image on its host", layout::ETCD_MANIFEST);
        return Err(("no-manifest", why, "rsadm etcd status tells what is on the host".into()));
    };
    let Some(found) = version(p, node) else {
        let why = format!("its image tells no version: {image}");
        let help = format!(
            "name it in {} with the tag that it has, as registry.k8s.io/etcd:3.6.14-0, one host after the other",
            layout::ETCD_MANIFEST
        );
        return Err(("etcd-version", why, help));
    };
    // Of other minor versions the rest of the phase tells.
    let wanted = p.cluster.release.etcd;
    if found.minor == wanted.minor && found > wanted {
        let why = format!("it has {found}, which is newer than the inventory's {wanted}");
        let help = format!("set etcd.version: {found} or a later one in the inventory");
        return Err(("etcd-version", why, help));
    }
    if is_pending(p, node) && !tells_its_version(p, node) {
        let why = "its metrics, by which it is told what runs, are not where kubeadm has them".to_owned();
        let help = format!(
            "put {} into --listen-metrics-urls in {}, one host after the other",
            metrics(),
            layout::ETCD_MANIFEST
        );
        return Err(("etcd-metrics", why, help));
    }
    changes(p, node).map(drop)
}

/// Adds the step, where the member does not run the new version, whatever its manifest says: a run may have died behind that.
///
/// # Errors
/// As [`may_be`], which was asked before.
pub(super) fn change(p: &mut Planner<'_>, node: &Node) -> Result<(), Refusal> {
    let says = |version: &String| version.parse() == Ok(p.cluster.release.etcd);
    let is_there = listed(p, node).is_none_or(|member| member.version.as_ref().is_some_and(says));
    let (Some(had), Some(image)) = (p.facts(&node.name).etcd_image.clone(), image(p, node)) else {
        return Ok(());
    };
    if !is_pending(p, node) && is_there {
        p.checked();
        for path in layout::ETCD_MANIFEST_KEPT {
            p.no_file(node, path, "the new version serves");
        }
        return Ok(());
    }
    let arguments = changes(p, node).map_err(|(rule, why, help)| Refusal {
        rule,
        subject: format!("etcd on {} is not upgraded", node.name),
        why,
        help,
    })?;
    let version = p.cluster.release.etcd;
    p.push(&node.name, Action::SetEtcdImage { had, image, version, arguments }, "");
    Ok(())
}

fn changes(p: &Planner<'_>, node: &Node) -> Result<Vec<Replaced>, Obstacle> {
    let wanted = p.cluster.release.etcd;
    replaced(flags(p, node), wanted.minor).map_err(|argument| {
        let why =
            format!("{wanted} does not know {argument} any more, and nothing is known that takes its place");
        let help = format!("take it out of {}, one host after the other", layout::ETCD_MANIFEST);
        ("etcd-argument", why, help)
    })
}

fn flags<'p>(p: &'p Planner<'_>, node: &Node) -> impl Iterator<Item = &'p str> + Clone {
    p.facts(&node.name).etcd_manifest.as_deref().unwrap_or_default().lines()
}

/// Where kubeadm's members have their metrics.
fn metrics() -> String {
    format!("http://127.0.0.1:{}", layout::ETCD_METRICS_PORT)
}

fn tells_its_version(p: &Planner<'_>, node: &Node) -> bool {
    let everywhere = format!("http://0.0.0.0:{}", layout::ETCD_METRICS_PORT);
    let mut urls = flags(p, node).filter_map(|flag| value_of(flag, "listen-metrics-urls"));
    urls.any(|urls| urls.split(',').any(|url| url == metrics() || url == everywhere))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifests::testing, versions::Version};

    #[test]
    fn the_image_comes_from_where_it_was_with_the_tag_that_it_had() {
        let release = testing::ha().release.with_etcd(Version::new(3, 8, 1));
        for (had, wanted) in [
            ("registry.k8s.io/etcd:3.7.0-0", Some("registry.k8s.io/etcd:3.8.1-0")),
            ("10.0.0.1:5000/etcd:v3.7.0", Some("10.0.0.1:5000/etcd:v3.8.1")),
            ("10.0.0.1:5000/etcd:v3.7.0-0", Some("10.0.0.1:5000/etcd:3.8.1-0")),
            ("etcd", None),
        ] {
            assert_eq!(next(had, &release).as_deref(), wanted, "{had}");
        }
    }
}
