//! The end of an authority, which no command of ours moves: told on every run while there is time, and a refusal afterwards.
//!
//! All three are made at once, so all that they signed ends on one day, and by then another authority has to be trusted.

use super::{PHASE, authority, found_certificate};
use crate::{
    inventory::{Node, NodeName},
    pki::{
        authorities::{Ca, WARNING_DAYS},
        inspect::days_left,
        leaf::LeafSpec,
        specs,
    },
    plan::{Planner, Refusal},
};

/// What whoever reads a run has to know of authorities. Runs from cron are read where they say something.
pub(super) fn notices(p: &mut Planner<'_>) {
    for ca in Ca::ALL {
        let Some(info) = authority(p, ca) else { continue };
        let text = match days_left(info.not_after, p.now) {
            WARNING_DAYS.. => continue,
            days @ 0.. => format!("the {ca} ends in {days} days, and with it all that it signed"),
            _ => format!("the {ca} has expired on {}", info.not_after.date()),
        };
        p.notice(PHASE, None, text, "rsadm certs renew cannot prolong it; rsadm certs status tells more");
    }
}

/// The refusal to have an authority sign that nobody accepts any more. `what` reads after "cannot be".
pub(super) fn expired(p: &Planner<'_>, host: &NodeName, spec: &LeafSpec, what: &str) -> Option<Refusal> {
    let ca = authority(p, spec.ca).filter(|ca| ca.is_expired(p.now))?;
    let ended = ca.not_after.date();
    Some(Refusal {
        rule: "authorities",
        subject: format!("{} on {host} cannot be {what}", spec.name),
        why: format!("the {} has itself expired, on {ended}: nobody accepts what it signs", spec.ca),
        help: "all who trust it have to be given another authority, which rsadm does not do; rsadm certs status shows what else \
               has ended"
            .into(),
    })
}

/// The same of a run that could do all but that. Without what the front proxy's authority signs a cluster stands, but for the
/// APIs that others add to it; without what another signs the hosts that lack it would be waited for in vain.
pub(super) fn expired_for_now(p: &Planner<'_>, host: &NodeName, spec: &LeafSpec) -> Option<Refusal> {
    let refusal = expired(p, host, spec, "issued")?;
    let is_well = |node: &Node, spec: &LeafSpec| {
        spec.ca == Ca::FrontProxy
            || found_certificate(p.facts(&node.name), &spec.place).is_some_and(|info| !info.is_expired(p.now))
    };
    let has_others = |node: &Node| specs::specs_for(p.cluster, node).iter().all(|spec| is_well(node, spec));
    if spec.ca != Ca::FrontProxy || !p.cluster.nodes.iter().all(has_others) {
        return Some(refusal);
    }
    let help = "the API servers have to be given another authority for it, which rsadm does not do; rsadm up --skip certificates \
                does the rest";
    Some(Refusal { help: help.into(), ..refusal })
}
