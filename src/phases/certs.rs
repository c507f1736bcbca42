//! Authorities, certificates and kubeconfigs.
//!
//! An authority is made only where nothing was ever built with one: a new one beside existing data locks a cluster out
//! of itself (rke#1286). Holders of keys get them before any certificate is issued, so an authority that signed
//! something is never lost with one host.

use std::collections::BTreeMap;

use crate::{
    hash::sha256,
    inventory::{Cluster, Node, NodeName, Role},
    layout,
    observe::{Facts, Observed},
    phases::{control_plane, preflight::paths::dials_another},
    pki::{
        authorities::{Ca, holdings, holds_service_account_keys},
        inspect::{CertInfo, public_point},
        leaf::{LeafSpec, Place},
        specs,
        verdict::{Verdict, verdict},
    },
    plan::{
        Action, Mode, Planner, Refusal,
        action::FRESH,
        shared::{Shared, Source},
    },
};

use self::found::key_end;
pub use self::found::{
    certificate_of_der, certificate_of_kubeconfig, found_certificate, has_its_key, renews_itself,
};

mod ending;
mod found;
mod lost;
pub mod members;
pub mod renew;

/// The phase.
pub const PHASE: &str = "certificates";

/// All that hosts share.
const SHARED: [Shared; 5] = [
    Shared::Authority(Ca::Cluster),
    Shared::Authority(Ca::Etcd),
    Shared::Authority(Ca::FrontProxy),
    Shared::ServiceAccounts,
    Shared::Encryption,
];

/// See the module. What members serve with waits for its turn in [`members::of_serving`].
///
/// # Errors
/// Where authorities contradict one another, the key of one that was used is nowhere, or one that has to sign has expired.
pub fn plan(p: &mut Planner<'_>) -> Result<(), Refusal> {
    ending::notices(p);
    p.stage(PHASE, "authorities where their keys are kept", Mode::Parallel);
    let mut sources = Vec::new();
    for shared in SHARED {
        sources.push((shared, keys(p, shared)?));
    }
    p.stage(PHASE, "certificates and kubeconfigs", Mode::Parallel);
    for (shared, source) in sources {
        public_parts(p, shared, source.as_ref());
    }
    let serving = members::serving(p);
    for node in &p.cluster.nodes {
        let kept = members::kept_for_the_gate(p, &serving, node)?;
        for spec in specs::specs_for(p.cluster, node).iter().filter(|spec| !kept.contains(spec)) {
            certificate(p, node, spec)?;
        }
        if node.is_kubernetes() {
            kubelet_conf(p, node);
        }
    }
    Ok(())
}

/// Certificates of etcd and what it takes to make them: all that a host needs to become a member. For hosts that join alone, which
/// have no vote yet, or lose it under the gate before they join; so none of this waits for a turn.
///
/// # Errors
/// See [`plan`].
pub fn of_members(p: &mut Planner<'_>) -> Result<(), Refusal> {
    let shared = Shared::Authority(Ca::Etcd);
    p.stage(PHASE, "the etcd authority where its key is kept", Mode::Parallel);
    keys(p, shared)?;
    p.stage(PHASE, "certificates of members", Mode::Parallel);
    for node in p.cluster.with_role(Role::Etcd) {
        for spec in specs::specs_for(p.cluster, node).iter().filter(|spec| spec.ca == Ca::Etcd) {
            certificate(p, node, spec)?;
        }
    }
    Ok(())
}

/// Gives the secret to every host that keeps it; answers where it comes from, or `None` if this cluster has no use for it.
fn keys(p: &mut Planner<'_>, shared: Shared) -> Result<Option<Source>, Refusal> {
    let cluster = p.cluster;
    let keepers: Vec<&Node> = cluster.nodes.iter().filter(|n| keeps(n, shared)).collect();
    if keepers.is_empty() {
        return Ok(None);
    }
    one_and_the_same(p.cluster, p.seen(), shared)?;
    let has = |n: &&Node| shared.is_on(p.facts(&n.name));
    // A member that leaves may be the only one that has it.
    let was_member = |n: &&Node| {
        let facts = p.facts(&n.name);
        facts.identity.is_some() || facts.etcd_manifest.is_some()
    };
    let leaving = || cluster.nodes.iter().find(|n| has(n) && was_member(n));
    let holder = keepers.iter().copied().find(has).or_else(leaving);
    let source = match holder {
        Some(host) => Source::From(host.name.clone()),
        None => {
            lost::nothing_was_built(p, shared)?;
            Source::Made
        }
    };
    for node in keepers {
        if shared.is_on(p.facts(&node.name)) {
            p.mode(node, &shared.secret_path(), 0o600);
            p.checked();
        } else {
            p.push(&node.name, Action::PutShared { shared, source: source.clone(), secret: true }, "missing");
        }
    }
    Ok(Some(source))
}

fn keeps(node: &Node, shared: Shared) -> bool {
    match shared {
        Shared::Authority(ca) => holdings(node).iter().any(|h| h.ca == ca && h.key),
        Shared::ServiceAccounts => holds_service_account_keys(node),
        Shared::Encryption => node.is(Role::ControlPlane),
    }
}

/// Whether hosts that share a secret share the same: else they do not accept one another.
///
/// # Errors
/// The first that differs.
pub fn agree(cluster: &Cluster, seen: &Observed) -> Result<(), Refusal> {
    SHARED.into_iter().try_for_each(|shared| one_and_the_same(cluster, seen, shared))
}

/// All hosts that have it have the same: its public part, or all of it, and keys of the same public part.
///
/// # Errors
/// Where some differ.
pub fn one_and_the_same(cluster: &Cluster, seen: &Observed, shared: Shared) -> Result<(), Refusal> {
    match differs(cluster, seen, shared) {
        Some(differs) => Err(differs.refusal(shared)),
        None => Ok(()),
    }
}

/// What is not the same on all hosts that have it.
pub(super) struct Differs<'h> {
    path: String,
    found: Vec<(&'h NodeName, String)>,
}

/// Where hosts differ, if they do.
pub(super) fn differs<'h>(cluster: &'h Cluster, seen: &Observed, shared: Shared) -> Option<Differs<'h>> {
    let path = shared.public_path().unwrap_or_else(|| shared.secret_path());
    let hosts = || cluster.nodes.iter().filter_map(|n| Some((&n.name, seen.hosts.get(&n.name)?)));
    let of_file = hosts().filter_map(|(name, facts)| Some((name, facts.files.get(&path)?.sha256.clone())));
    let files = Differs { found: of_file.filter(|(_, sha)| sha != FRESH).collect(), path };
    if files.kinds().len() > 1 {
        return Some(files);
    }
    let path = shared.secret_path();
    let of_key =
        hosts().filter_map(|(name, facts)| Some((name, sha256(&public_point(facts.keys.get(&path)?)?))));
    let keys = Differs { found: of_key.collect(), path };
    (keys.kinds().len() > 1).then_some(keys)
}

impl Differs<'_> {
    /// Hosts that have the same.
    fn kinds(&self) -> Vec<Vec<&str>> {
        let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        self.found.iter().for_each(|(name, sha)| kinds.entry(sha).or_default().push(name.as_str()));
        kinds.into_values().collect()
    }

    /// The hosts of which there are fewest.
    pub(super) fn fewest(&self) -> String {
        self.kinds().into_iter().min_by_key(Vec::len).unwrap_or_default().join(", ")
    }

    pub(super) fn refusal(&self, shared: Shared) -> Refusal {
        let found = &self.found;
        let list: Vec<String> =
            found.iter().map(|(name, sha)| format!("{name} {}", &sha[..12.min(sha.len())])).collect();
        Refusal {
            rule: "one-authority",
            subject: format!("the {shared} is not the same on all hosts"),
            why: format!("{} differs: {}", self.path, list.join(", ")),
            help: one_for_all(shared, &found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>()),
        }
    }
}

/// How hosts come to have the same again. What only one of them has may be all there is of it, so nothing is taken away.
fn one_for_all(shared: Shared, hosts: &[&str]) -> String {
    let paths: Vec<String> = shared.public_path().into_iter().chain([shared.secret_path()]).collect();
    let (paths, hosts) = (paths.join(" and "), hosts.join(", "));
    match shared {
        Shared::Encryption => format!(
            "a key may be in one of these files alone, and data written with it: copy {paths} of the host that has all keys \
             over that of the others of {hosts} (scp -p), then go on"
        ),
        Shared::ServiceAccounts => format!(
            "tokens that one pair has signed are good for that alone: copy {paths} of the host whose pair shall stay over \
             those of the others of {hosts} (scp -p), then go on"
        ),
        Shared::Authority(_) => format!(
            "take a host of another cluster out of this inventory; on one that was restored from elsewhere move {paths} \
             away, and have `up` bring those of the others of {hosts}"
        ),
    }
}

/// Whether an authority or a key of Kubernetes is on no host although etcd was founded: then what is in etcd decides whether
/// it was lost or never was.
pub fn depends_on_objects(cluster: &Cluster, seen: &Observed) -> bool {
    let is_kept = |shared: Shared| {
        let keepers = cluster.nodes.iter().filter(|n| keeps(n, shared));
        keepers.filter_map(|n| seen.hosts.get(&n.name)).any(|facts| shared.is_on(facts))
    };
    let founded = seen.hosts.values().any(|f| f.identity.is_some() || f.etcd_data);
    cluster.has_kubernetes() && founded && SHARED.into_iter().any(|s| is_of_kubernetes(s) && !is_kept(s))
}

fn is_of_kubernetes(shared: Shared) -> bool {
    shared != Shared::Authority(Ca::Etcd)
}

/// The public part for hosts that do not keep the secret.
fn public_parts(p: &mut Planner<'_>, shared: Shared, source: Option<&Source>) {
    let (Shared::Authority(ca), Some(source)) = (shared, source) else { return };
    for node in &p.cluster.nodes {
        if !holdings(node).iter().any(|h| h.ca == ca && !h.key) {
            continue;
        }
        if p.facts(&node.name).files.contains_key(&ca.cert_path()) {
            p.checked();
        } else {
            p.push(
                &node.name,
                Action::PutShared { shared, source: source.clone(), secret: false },
                "missing",
            );
        }
    }
}

fn certificate(p: &mut Planner<'_>, node: &Node, spec: &LeafSpec) -> Result<(), Refusal> {
    let server = dialled_by(p.cluster, node, spec);
    let Some(why) = reason(p, &node.name, spec, server.as_deref())? else {
        if let Place::Pair { key, .. } = &spec.place {
            p.mode(node, key, 0o600);
        }
        p.checked();
        return Ok(());
    };
    if let Some(refusal) = ending::expired_for_now(p, &node.name, spec) {
        return Err(refusal);
    }
    issue(p, node, spec, &why);
    Ok(())
}

/// Whom a certificate's owner dials, where it lies in a kubeconfig.
fn dialled_by(cluster: &Cluster, node: &Node, spec: &LeafSpec) -> Option<String> {
    match &spec.place {
        Place::Kubeconfig { path } => Some(control_plane::server_of(cluster, node, path)),
        Place::Pair { .. } | Place::Bundle { .. } => None,
    }
}

fn issue(p: &mut Planner<'_>, node: &Node, spec: &LeafSpec, why: &str) {
    let server = dialled_by(p.cluster, node, spec);
    let paths = match &spec.place {
        Place::Pair { cert, key } => vec![cert.clone(), key.clone()],
        Place::Bundle { path, link } => vec![link.clone(), path.clone()],
        Place::Kubeconfig { path } => vec![path.clone()],
    };
    p.push(&node.name, Action::PutCert { spec: spec.name, paths, server }, why);
}

/// Why a certificate has to be issued; `None` where it is as wanted.
fn reason(
    p: &Planner<'_>,
    host: &NodeName,
    spec: &LeafSpec,
    server: Option<&str>,
) -> Result<Option<String>, Refusal> {
    let Some(ca) = authority(p, spec.ca) else { return Ok(Some("of a new authority".into())) };
    let facts = p.facts(host);
    let has_key = facts.files.contains_key(spec.place.key_path());
    let found = found_certificate(facts, &spec.place).filter(|_| has_key);
    Ok(match verdict(spec, found.as_ref(), key_end(facts, &spec.place), &ca, p.now) {
        Verdict::Issue(reason) => Some(reason.to_string()),
        Verdict::ForeignCa { issuer } => {
            return Err(Refusal {
                rule: "foreign-certificate",
                subject: format!(
                    "{} on {} was not signed by this cluster's {}",
                    spec.place.cert_path(),
                    host,
                    spec.ca
                ),
                why: format!("its issuer is another {issuer}: the host may serve another cluster"),
                help: instead_of(&spec.place),
            });
        }
        Verdict::Keep => match (&spec.place, server) {
            (Place::Kubeconfig { path }, Some(server)) => kubeconfig_reason(facts, path, server, &ca),
            _ => None,
        },
    })
}

/// How a host gets a certificate of this cluster in place of another's, which stays at hand.
fn instead_of(place: &Place) -> String {
    let (cert, key) = (place.cert_path(), place.key_path());
    let away = if cert == key { cert.to_owned() } else { format!("{cert} and {key}") };
    format!(
        "where the host belongs here, move {away} away on it, and `up` issues a new one; else take it out of this inventory"
    )
}

fn kubeconfig_reason(facts: &Facts, path: &str, server: &str, ca: &CertInfo) -> Option<String> {
    let found = facts.kubeconfigs.get(path)?;
    if found.server != server {
        return Some(format!("dials {}", found.server));
    }
    let trusted = found.ca.as_deref().and_then(certificate_of_kubeconfig);
    (trusted.as_ref().map(|c| &c.fingerprint) != Some(&ca.fingerprint))
        .then(|| "trusts another authority".into())
}

/// What is known of an authority; `None` while it is still to be made in this run. Only who keeps its key is asked: this is
/// asked for every certificate of every host.
fn authority(p: &Planner<'_>, ca: Ca) -> Option<CertInfo> {
    let path = ca.cert_path();
    let mut keepers = p.cluster.nodes.iter().filter(|n| keeps(n, Shared::Authority(ca)));
    let found = keepers.find_map(|n| p.facts(&n.name).certs.get(&path).filter(|der| *der != FRESH))?;
    certificate_of_der(found)
}

/// A kubelet that runs dials another address once that has answered on its host: else all nodes would be lost together.
fn kubelet_conf(p: &mut Planner<'_>, node: &Node) {
    let server = p.cluster.api_url_from(node);
    let facts = p.facts(&node.name);
    let why = match (facts.kubeconfigs.get(layout::KUBELET_CONF), authority(p, Ca::Cluster)) {
        (None, _) => Some("missing".to_owned()),
        (Some(_), None) => Some("of a new authority".to_owned()),
        (Some(_), Some(ca)) => kubeconfig_reason(facts, layout::KUBELET_CONF, &server, &ca),
    };
    match why {
        None => p.checked(),
        Some(why) => {
            if dials_another(p.cluster, node, p.seen()).is_some() {
                p.push(&node.name, Action::Join { url: server.clone() }, "before its kubelet dials it");
            }
            p.push(&node.name, Action::PutKubeletConf { server }, why);
        }
    }
}
