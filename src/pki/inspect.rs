//! Reads certificates. The only file that knows `x509-parser`.

use std::{collections::BTreeSet, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use time::{Duration, OffsetDateTime};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
    x509::X509Name,
};

use crate::{
    hash::{hex, sha256},
    pki::{
        leaf::{San, Usage},
        pem,
    },
};

/// Why a text could not be read as a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// There is no PEM block of a certificate.
    #[error("no certificate in PEM form")]
    NoPem,
    /// There is one, but it is not X.509.
    #[error("not an X.509 certificate: {0}")]
    NotX509(String),
}

/// What a certificate says. Nothing in it is secret.
#[derive(Clone, PartialEq, Eq)]
pub struct CertInfo {
    /// The subject's common name; empty where it has none.
    pub common_name: String,
    /// The subject's organizations, in order.
    pub organizations: Vec<String>,
    /// The common name of who signed it.
    pub issuer: String,
    /// Names and addresses it vouches for; other kinds (URI, email) are left out.
    pub sans: BTreeSet<San>,
    /// Extended key usages that we know.
    pub usages: BTreeSet<Usage>,
    /// True where it may sign others.
    pub is_ca: bool,
    /// Start of its validity.
    pub not_before: OffsetDateTime,
    /// End of its validity.
    pub not_after: OffsetDateTime,
    /// SHA-256 of the certificate, hexadecimal.
    pub fingerprint: String,
    /// SHA-256 of the public key's bits, hexadecimal.
    pub public_key_sha256: String,
    /// SHA-256 of the public key with its algorithm (SubjectPublicKeyInfo), hexadecimal: what kubeadm pins an authority by
    /// (`--discovery-token-ca-cert-hash sha256:…`).
    pub spki_sha256: String,
    /// Identifier of its own key, hexadecimal, where it has one.
    pub subject_key_id: Option<String>,
    /// Identifier of its signer's key, hexadecimal, where it has one.
    pub authority_key_id: Option<String>,
    der: Vec<u8>,
}

impl CertInfo {
    /// True from the first moment after its validity.
    pub fn is_expired(&self, now: OffsetDateTime) -> bool {
        now > self.not_after
    }

    /// True until its validity begins.
    pub fn is_early(&self, now: OffsetDateTime) -> bool {
        now < self.not_before
    }

    /// True where its validity ends within that time, or has ended.
    pub fn expires_within(&self, time: Duration, now: OffsetDateTime) -> bool {
        self.not_after - now <= time
    }

    /// True where a kubelet that replaces it by itself should have done so: that happens when between 70% and 90% of its time is over
    /// (client-go, `certificate_manager.go`), however long that is (`--cluster-signing-duration`).
    pub fn is_overdue(&self, now: OffsetDateTime) -> bool {
        self.expires_within((self.not_after - self.not_before) / 10, now)
    }

    /// True where its validity ends no earlier than that of `ca`: another one by it would hold no longer.
    pub fn ends_with(&self, ca: &Self) -> bool {
        self.not_after >= ca.not_after
    }

    /// True where `ca` signed it: the names chain and the signature is right. Says nothing of validity.
    pub fn is_signed_by(&self, ca: &Self) -> bool {
        let (Ok((_, leaf)), Ok((_, ca_cert))) =
            (X509Certificate::from_der(&self.der), X509Certificate::from_der(&ca.der))
        else {
            return false;
        };
        ca.is_ca
            && leaf.issuer().as_raw() == ca_cert.subject().as_raw()
            && leaf.verify_signature(Some(ca_cert.public_key())).is_ok()
    }

    /// True where these are the bits of its public key.
    pub fn has_public_key(&self, bits: &[u8]) -> bool {
        self.public_key_sha256 == sha256(bits)
    }

    /// True where the private key is its own of which a host tells this end.
    pub fn is_of_key(&self, end: &str) -> bool {
        public_point(end).is_some_and(|point| self.has_public_key(&[&[4], &point[..]].concat()))
    }

    /// The certificate in PEM form, alone.
    pub fn pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.der)
    }
}

impl fmt::Debug for CertInfo {
    /// In one line; the encoding itself would drown a test's output.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CertInfo({} by {}, until {}, {})",
            self.common_name, self.issuer, self.not_after, self.fingerprint
        )
    }
}

/// Whole days until the end of a validity. Rounded down, so that what has just expired has −1.
pub fn days_left(not_after: OffsetDateTime, now: OffsetDateTime) -> i64 {
    (not_after - now).whole_seconds().div_euclid(86_400)
}

/// True where nothing renews what ends then: its authority ends no later, or has ended.
pub fn ends_with_authority(
    not_after: OffsetDateTime,
    authority: OffsetDateTime,
    now: OffsetDateTime,
) -> bool {
    not_after >= authority || now > authority
}

/// The public point of a private key on P-256, without the mark of an uncompressed one, from the last 88 characters of base64
/// in its PEM text. Both forms of such keys end with it (PKCS#8, SEC 1): so a host can show which key it has, and the key stays
/// where it is.
pub fn public_point(end: &str) -> Option<[u8; 64]> {
    BASE64_STANDARD.decode(end).ok()?.last_chunk().copied()
}

/// Reads the first certificate of a PEM text: a file, a chain (the leaf comes first), or a bundle with its key.
///
/// # Errors
/// Where there is none, or where it is not X.509.
pub fn inspect(pem_text: &str) -> Result<CertInfo, InspectError> {
    inspect_der(&pem::first(pem_text, pem::CERTIFICATE).ok_or(InspectError::NoPem)?)
}

/// Reads a certificate in its binary form.
///
/// # Errors
/// Where it is not X.509.
pub fn inspect_der(der: &[u8]) -> Result<CertInfo, InspectError> {
    let (_, cert) = X509Certificate::from_der(der).map_err(|e| InspectError::NotX509(e.to_string()))?;
    let moment =
        |t: i64| OffsetDateTime::from_unix_timestamp(t).map_err(|e| InspectError::NotX509(e.to_string()));
    let mut info = CertInfo {
        common_name: common_name(cert.subject()),
        organizations: texts(cert.subject().iter_organization()),
        issuer: common_name(cert.issuer()),
        sans: BTreeSet::new(),
        usages: BTreeSet::new(),
        is_ca: cert.is_ca(),
        not_before: moment(cert.validity().not_before.timestamp())?,
        not_after: moment(cert.validity().not_after.timestamp())?,
        fingerprint: sha256(der),
        public_key_sha256: sha256(&cert.public_key().subject_public_key.data),
        spki_sha256: sha256(cert.public_key().raw),
        subject_key_id: None,
        authority_key_id: None,
        der: Vec::new(),
    };
    for extension in cert.extensions() {
        info.take(extension.parsed_extension());
    }
    info.der = der.to_vec();
    Ok(info)
}

impl CertInfo {
    fn take(&mut self, extension: &ParsedExtension<'_>) {
        match extension {
            ParsedExtension::SubjectAlternativeName(names) => {
                self.sans = names.general_names.iter().filter_map(san).collect();
            }
            ParsedExtension::ExtendedKeyUsage(eku) => {
                let all = [
                    (eku.any || eku.server_auth, Usage::Server),
                    (eku.any || eku.client_auth, Usage::Client),
                ];
                self.usages = all.into_iter().filter(|(has, _)| *has).map(|(_, usage)| usage).collect();
            }
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key_id = Some(hex(id.0)),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                self.authority_key_id = id.key_identifier.as_ref().map(|id| hex(id.0));
            }
            _ => {}
        }
    }
}

fn san(name: &GeneralName<'_>) -> Option<San> {
    match name {
        GeneralName::DNSName(name) => Some(San::Dns(name.to_ascii_lowercase())),
        GeneralName::IPAddress(octets) => match <[u8; 4]>::try_from(*octets) {
            Ok(v4) => Some(San::Ip(v4.into())),
            Err(_) => <[u8; 16]>::try_from(*octets).ok().map(|v6| San::Ip(v6.into())),
        },
        _ => None,
    }
}

fn common_name(name: &X509Name<'_>) -> String {
    texts(name.iter_common_name()).into_iter().next().unwrap_or_default()
}

fn texts<'a>(
    attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Vec<String> {
    attributes.filter_map(|a| a.as_str().ok()).map(str::to_owned).collect()
}
