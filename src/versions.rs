//! Kubernetes ↔ etcd ↔ CoreDNS ↔ pause ↔ containerd ↔ CNI plugins: what goes with what.
//!
//! Image tags are those that the kubeadm of that version names (`kubeadm config images list`); etcd's, CoreDNS's and
//! pause's versions move with the Kubernetes minor version only.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// `vMAJOR.MINOR.PATCH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// First part.
    pub major: u16,
    /// Second part.
    pub minor: u16,
    /// Third part.
    pub patch: u16,
}

impl Version {
    /// A version from its parts.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Version {
    type Err = ();

    /// Reads `v1.2.3` or `1.2.3`; nothing after the patch.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.strip_prefix('v').unwrap_or(text).split('.');
        let mut next = || parts.next().and_then(|p| p.parse().ok()).ok_or(());
        let version = Self::new(next()?, next()?, next()?);
        parts.next().is_none().then_some(version).ok_or(())
    }
}

/// One Kubernetes release and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Release {
    /// Kubernetes itself.
    pub kubernetes: Version,
    /// The etcd image's tag.
    pub etcd_tag: String,
    /// etcd's version inside that image.
    pub etcd: Version,
    /// CoreDNS.
    pub coredns: Version,
    /// The pause image's tag.
    pub pause_tag: &'static str,
    /// containerd, where we install it.
    pub containerd: Version,
    /// The oldest containerd that the kubelet of this release works with.
    pub min_containerd: Version,
    /// runc, where we install it.
    pub runc: Version,
    /// The reference CNI plugins.
    pub cni_plugins: Version,
    /// The tag of the haproxy image of node-local load balancers.
    pub haproxy_tag: &'static str,
}

/// True for a containerd that pins the pause image. Since 1.29 a kubelet that makes room spares of the images that nothing runs from
/// those alone that CRI calls pinned (kubernetes/kubernetes#118544), and one that was pulled past CRI, as ours are, is so since
/// these (containerd/containerd#9785, #9784); without it no pod starts where no registry is at hand.
pub fn pins_pause(containerd: Version) -> bool {
    match (containerd.major, containerd.minor) {
        (1, 6) => containerd.patch >= 30,
        _ => containerd >= Version::new(1, 7, 14),
    }
}

struct Row {
    minor: u16,
    newest_patch: u16,
    etcd_tag: &'static str,
    etcd: Version,
    coredns: Version,
    pause_tag: &'static str,
    min_containerd: Version,
}

/// What kubeadm of each minor version names. 1.36 and later need containerd 2 (the kubelet asks CRI for its cgroup driver).
const ROWS: [Row; 4] = [
    Row {
        minor: 34,
        newest_patch: 4,
        etcd_tag: "3.6.5-0",
        etcd: Version::new(3, 6, 5),
        coredns: Version::new(1, 12, 1),
        pause_tag: "3.10.1",
        min_containerd: Version::new(1, 6, 0),
    },
    Row {
        minor: 35,
        newest_patch: 4,
        etcd_tag: "3.6.6-0",
        etcd: Version::new(3, 6, 6),
        coredns: Version::new(1, 13, 1),
        pause_tag: "3.10.1",
        min_containerd: Version::new(1, 6, 0),
    },
    Row {
        minor: 36,
        newest_patch: 3,
        etcd_tag: "3.6.8-0",
        etcd: Version::new(3, 6, 8),
        coredns: Version::new(1, 14, 2),
        pause_tag: "3.10.2",
        min_containerd: Version::new(2, 0, 0),
    },
    Row {
        minor: 37,
        newest_patch: 2,
        etcd_tag: "3.7.0-0",
        etcd: Version::new(3, 7, 0),
        coredns: Version::new(1, 14, 6),
        pause_tag: "3.10.2",
        min_containerd: Version::new(2, 0, 0),
    },
];

/// The Kubernetes version that `rsadm init` writes.
pub const DEFAULT_KUBERNETES: Version = Version::new(1, 37, 2);

/// The newest patch that was tried of every minor version we know, oldest first.
pub fn known() -> Vec<Version> {
    ROWS.iter().map(|r| Version::new(1, r.minor, r.newest_patch)).collect()
}

/// All that goes with a Kubernetes version, or `None` for a minor version we do not know.
pub fn release(kubernetes: Version) -> Option<Release> {
    let row = ROWS.iter().find(|r| kubernetes.major == 1 && kubernetes.minor == r.minor)?;
    Some(Release {
        kubernetes,
        etcd_tag: row.etcd_tag.to_owned(),
        etcd: row.etcd,
        coredns: row.coredns,
        pause_tag: row.pause_tag,
        containerd: Version::new(2, 4, 2),
        min_containerd: row.min_containerd,
        runc: Version::new(1, 5, 2),
        cni_plugins: Version::new(1, 9, 1),
        haproxy_tag: "3.0",
    })
}

impl Release {
    /// The same with another etcd, whose image has the tag that kubeadm's images have.
    #[must_use]
    pub fn with_etcd(self, etcd: Version) -> Self {
        let etcd_tag = match etcd == self.etcd {
            true => self.etcd_tag,
            false => format!("{}.{}.{}-0", etcd.major, etcd.minor, etcd.patch),
        };
        Self { etcd, etcd_tag, ..self }
    }

    /// The image of a Kubernetes component such as `kube-apiserver`.
    pub fn kubernetes_image(&self, component: &str) -> String {
        format!("registry.k8s.io/{component}:{}", self.kubernetes)
    }

    /// The etcd image.
    pub fn etcd_image(&self) -> String {
        format!("registry.k8s.io/etcd:{}", self.etcd_tag)
    }

    /// The CoreDNS image.
    pub fn coredns_image(&self) -> String {
        format!("registry.k8s.io/coredns/coredns:{}", self.coredns)
    }

    /// The pod sandbox image.
    pub fn pause_image(&self) -> String {
        format!("registry.k8s.io/pause:{}", self.pause_tag)
    }

    /// The image of node-local load balancers.
    pub fn haproxy_image(&self) -> String {
        format!("docker.io/library/haproxy:{}", self.haproxy_tag)
    }
}

/// The oldest and the newest minor version of etcd 3 that rsadm runs: 3.5 has other flags.
pub const ETCD_MINORS: std::ops::RangeInclusive<u16> = 6..=7;

/// From here on an etcd 3.5 may be upgraded to 3.6: earlier ones can keep members in two lists that differ, after which
/// 3.6 revives the dead (etcd.io, "How to prevent the zombie members upgrade failure").
pub const LAST_BEFORE_3_6: Version = Version::new(3, 5, 26);

/// From here on an etcd 3.6 may be upgraded to 3.7: etcd does not vouch for members of earlier ones beside members of 3.7
/// (etcd.io, "Upgrade etcd from v3.6 to v3.7").
pub const LAST_BEFORE_3_7: Version = Version::new(3, 6, 11);

/// Why a member of one version may not be restarted with another, and what to do first; `None` where it may.
pub fn etcd_upgrade_obstacle(from: Version, to: Version) -> Option<(String, String)> {
    let told = |why: &str, help: String| Some((format!("{from} cannot become {to}: {why}"), help));
    match (from.major, to.major, from.minor, to.minor) {
        (3, 3, a, b) if a > b => told(
            "a newer minor version writes what an older one does not read",
            format!("set etcd.version: {from}; going back takes etcdctl downgrade, which is not ours to do"),
        ),
        (3, 3, a, b) if b > a + 1 => told(
            "it goes one minor version at a time",
            format!("set etcd.version to the newest 3.{}.x first", a + 1),
        ),
        (3, 3, 5, 6) if from < LAST_BEFORE_3_6 => told(
            "members that were removed long ago could come back",
            format!(
                "first bring it to {LAST_BEFORE_3_6} or a later 3.5, with what built it, and let it run for a moment"
            ),
        ),
        (3, 3, 6, 7) if from < LAST_BEFORE_3_7 => told(
            "etcd does not vouch for both side by side",
            format!(
                "first go to the newest 3.6, {LAST_BEFORE_3_7} or later: set etcd.version to it, and `rsadm etcd upgrade`"
            ),
        ),
        (3, 3, ..) => None,
        _ => told(
            "they have nothing in common",
            "compare etcd.version with what rsadm etcd status shows".into(),
        ),
    }
}

/// Why members of one version take no new member of another, and what to do first; `None` where they do.
pub fn etcd_join_obstacle(members: Version, newcomer: Version) -> Option<(String, String)> {
    let told = |why: &str| {
        Some((
            format!("the inventory says etcd {newcomer}, and members run {members}: {why}"),
            format!("set etcd.version: {members}"),
        ))
    };
    match (members.minor, newcomer.minor) {
        _ if members.major != newcomer.major => told("they have nothing in common"),
        (a, b) if b < a => {
            told("an older minor version does not read what they write, and they do not take it in")
        }
        (a, b) if b > a + 1 => told("versions side by side are at most one minor apart"),
        (6, 7) if members < LAST_BEFORE_3_7 => told("etcd does not vouch for both side by side"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_parse_and_print() {
        assert_eq!("v1.37.2".parse(), Ok(Version::new(1, 37, 2)));
        assert_eq!(Version::new(1, 37, 2).to_string(), "v1.37.2");
        for bad in ["", "v1", "1.37", "v1.37.2-rc.1", "v1.37.2.3", "latest", "v1.-1.2"] {
            assert_eq!(bad.parse::<Version>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn a_line_that_is_kept_up_has_what_newer_ones_have() {
        let pins = |patches: [(u16, u16, u16); 7]| patches.map(|(a, b, c)| pins_pause(Version::new(a, b, c)));
        let versions = [(1, 5, 40), (1, 6, 29), (1, 6, 30), (1, 7, 0), (1, 7, 13), (1, 7, 14), (2, 0, 0)];
        assert_eq!(pins(versions), [false, false, true, false, false, true, true]);
    }

    /// Row 50 of the fault matrix, and the steps between minor versions.
    #[test]
    fn row_50_etcd_goes_one_minor_version_at_a_time_and_leaves_3_5_late() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        for (from, to, obstacle) in [
            ("3.6.8", "3.6.8", None),
            ("3.6.8", "3.6.5", None),
            ("3.6.11", "3.7.0", None),
            ("3.6.10", "3.7.0", Some("v3.6.11 or later")),
            ("3.6.8", "3.6.14", None),
            ("3.5.26", "3.6.8", None),
            ("3.5.25", "3.6.8", Some("first bring it to v3.5.26")),
            ("3.5.4", "3.5.26", None),
            ("3.5.26", "3.7.0", Some("the newest 3.6.x first")),
            ("3.7.0", "3.6.8", Some("set etcd.version: v3.7.0")),
            ("2.3.8", "3.7.0", Some("compare")),
        ] {
            let found = etcd_upgrade_obstacle(version(from), version(to)).map(|(_, help)| help);
            assert_eq!(found.is_some(), obstacle.is_some(), "{from} to {to}: {found:?}");
            assert!(found.is_none_or(|help| help.contains(obstacle.unwrap())), "{from} to {to}");
        }
    }

    #[test]
    fn members_take_nobody_of_an_older_minor_version() {
        for (members, newcomer, may) in [
            ("3.7.0", "3.6.8", false),
            ("3.7.1", "3.7.0", true),
            ("3.6.11", "3.7.0", true),
            ("3.6.8", "3.7.0", false),
            ("3.5.26", "3.7.0", false),
            ("3.7.0", "2.3.8", false),
        ] {
            let version = |text: &str| format!("v{text}").parse::<Version>().unwrap();
            let obstacle = etcd_join_obstacle(version(members), version(newcomer));
            assert_eq!(obstacle.is_none(), may, "{newcomer} beside {members}: {obstacle:?}");
        }
    }

    /// What `kubeadm config images list` of each version prints, with that kubeadm.
    const OF_KUBEADM: &str = "
registry.k8s.io/kube-apiserver:v1.34.4
registry.k8s.io/kube-controller-manager:v1.34.4
registry.k8s.io/kube-scheduler:v1.34.4
registry.k8s.io/kube-proxy:v1.34.4
registry.k8s.io/coredns/coredns:v1.12.1
registry.k8s.io/pause:3.10.1
registry.k8s.io/etcd:3.6.5-0

registry.k8s.io/kube-apiserver:v1.35.4
registry.k8s.io/kube-controller-manager:v1.35.4
registry.k8s.io/kube-scheduler:v1.35.4
registry.k8s.io/kube-proxy:v1.35.4
registry.k8s.io/coredns/coredns:v1.13.1
registry.k8s.io/pause:3.10.1
registry.k8s.io/etcd:3.6.6-0

registry.k8s.io/kube-apiserver:v1.36.3
registry.k8s.io/kube-controller-manager:v1.36.3
registry.k8s.io/kube-scheduler:v1.36.3
registry.k8s.io/kube-proxy:v1.36.3
registry.k8s.io/coredns/coredns:v1.14.2
registry.k8s.io/pause:3.10.2
registry.k8s.io/etcd:3.6.8-0

registry.k8s.io/kube-apiserver:v1.37.2
registry.k8s.io/kube-controller-manager:v1.37.2
registry.k8s.io/kube-scheduler:v1.37.2
registry.k8s.io/kube-proxy:v1.37.2
registry.k8s.io/coredns/coredns:v1.14.6
registry.k8s.io/pause:3.10.2
registry.k8s.io/etcd:3.7.0-0
";

    #[test]
    fn every_known_version_has_the_images_of_its_kubeadm() {
        let images = |version| {
            let release = release(version).unwrap();
            let components = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"];
            let others = [release.coredns_image(), release.pause_image(), release.etcd_image()];
            components
                .map(|name| release.kubernetes_image(name))
                .into_iter()
                .chain(others)
                .collect::<Vec<_>>()
                .join("\n")
        };
        let all: Vec<String> = known().into_iter().map(images).collect();
        assert_eq!(all.join("\n\n"), OF_KUBEADM.trim());
        assert_eq!(known().last(), Some(&DEFAULT_KUBERNETES));
        assert_eq!(release(Version::new(1, 33, 1)), None);
    }
}
