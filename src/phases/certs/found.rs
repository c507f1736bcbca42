//! Certificates as hosts tell of them.

use base64::{Engine, prelude::BASE64_STANDARD};
use time::OffsetDateTime;

use crate::{
    observe::Facts,
    pki::{
        inspect::{CertInfo, inspect},
        leaf::{LeafSpec, Place},
    },
};

/// The certificate that a host has in a place of the table.
pub fn found_certificate(facts: &Facts, place: &Place) -> Option<CertInfo> {
    match place {
        Place::Kubeconfig { path } => {
            certificate_of_kubeconfig(facts.kubeconfigs.get(path)?.cert.as_deref()?)
        }
        Place::Pair { .. } | Place::Bundle { .. } => certificate_of_der(facts.certs.get(place.cert_path())?),
    }
}

/// True where the key of what was found in a place is there too, and is its own as far as the host tells.
pub fn has_its_key(facts: &Facts, place: &Place, found: &CertInfo) -> bool {
    facts.files.contains_key(place.key_path()) && key_end(facts, place).is_none_or(|end| found.is_of_key(end))
}

/// What the host tells of the key, for [`CertInfo::is_of_key`].
pub(super) fn key_end<'f>(facts: &'f Facts, place: &Place) -> Option<&'f str> {
    facts.keys.get(place.key_path()).map(String::as_str)
}

/// True where its kubelet replaces it by itself, and is not late with that: until then it is nobody's business.
pub fn renews_itself(spec: &LeafSpec, found: &CertInfo, now: OffsetDateTime) -> bool {
    matches!(spec.place, Place::Bundle { .. }) && !found.is_overdue(now)
}

/// A certificate from base64 of its DER form, as facts have it.
pub fn certificate_of_der(base64: &str) -> Option<CertInfo> {
    inspect(&format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")).ok()
}

/// The client certificate of a kubeconfig, from base64 of its PEM form, as facts have it.
pub fn certificate_of_kubeconfig(base64: &str) -> Option<CertInfo> {
    let pem = String::from_utf8(BASE64_STANDARD.decode(base64).ok()?).ok()?;
    inspect(&pem).ok()
}
