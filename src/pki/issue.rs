//! Makes authorities, certificates and keys. The only file that knows `rcgen`.
//!
//! New keys are ECDSA on P-256. Authorities that kubeadm made are read too: RSA of 2048 bits or more, P-256, P-384, in
//! PKCS#1, SEC 1 or PKCS#8.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::{
    pki::{
        authorities::Ca,
        inspect::{CertInfo, InspectError, inspect},
        leaf::{LeafSpec, San, Usage},
        pem,
    },
    secret::Secret,
};

/// How long an authority is valid (kubeadm, `CACertificateValidityPeriod`).
pub const CA_VALIDITY: Duration = Duration::days(3650);
/// How long a certificate is valid (kubeadm, `CertificateValidityPeriod`).
pub const LEAF_VALIDITY: Duration = Duration::days(365);
/// How far validity begins in the past, for hosts whose clocks are late (kubeadm, `CertificateBackdate`).
pub const BACKDATE: Duration = Duration::minutes(5);

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// No key, or one of a kind that cannot sign here.
    #[error("read the key of the {ca}: {why}")]
    CaKey {
        /// Which authority.
        ca: Ca,
        /// What is wrong with it; never any of its bytes.
        why: &'static str,
    },
    /// The authority's certificate cannot be read.
    #[error("read the certificate of the {ca}")]
    CaCert {
        /// Which authority.
        ca: Ca,
        /// Why.
        #[source]
        source: InspectError,
    },
    /// It is a certificate, but not one that can sign others now.
    #[error("sign with the {ca}: {why}")]
    CaUnfit {
        /// Which authority.
        ca: Ca,
        /// What is wrong.
        why: String,
    },
    /// The signing library refused.
    #[error("make {what}")]
    Make {
        /// The certificate or key.
        what: String,
        /// Its words.
        #[source]
        source: rcgen::Error,
    },
    /// What was made does not stand the check that follows.
    #[error("make {what}: the result is not what was asked for")]
    Botched {
        /// The certificate or key.
        what: String,
    },
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// One PEM block.
    pub cert: String,
    /// One PEM block.
    pub key: Secret,
}

/// A public and a private key, without a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// `PUBLIC KEY`.
    pub public: String,
    /// `EC PRIVATE KEY`.
    pub private: Secret,
}

/// An authority that can sign: its certificate and key, in memory for as long as this lives.
pub struct Authority {
    ca: Ca,
    info: CertInfo,
    files: Issued,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({:?})", self.info)
    }
}

impl Authority {
    /// Makes a new one.
    ///
    /// # Errors
    /// Where there is no randomness.
    pub fn make(ca: Ca, now: OffsetDateTime) -> Result<Self, IssueError> {
        let what = ca.to_string();
        let key = KeyPair::generate().map_err(|source| IssueError::Make { what: what.clone(), source })?;
        let key = secret_pem(&key, &what)?;
        Self::make_with(ca, key, now)
    }

    /// Makes one of a key that exists already. Whatever an authority of that key and name has signed before stays good.
    ///
    /// # Errors
    /// Where the key cannot be read.
    pub fn make_with(ca: Ca, key: Secret, now: OffsetDateTime) -> Result<Self, IssueError> {
        let pair = read_key(ca, &key)?;
        let mut params = params(ca.common_name(), None, now, now + CA_VALIDITY);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert =
            params.self_signed(&pair).map_err(|source| IssueError::Make { what: ca.to_string(), source })?;
        Self::with_key(ca, Issued { cert: cert.pem(), key }, pair)
    }

    /// Takes one that exists, as read from a host.
    ///
    /// # Errors
    /// Where a part cannot be read, or they do not belong together, or the certificate is no authority's.
    pub fn load(ca: Ca, files: Issued) -> Result<Self, IssueError> {
        let pair = read_key(ca, &files.key)?;
        Self::with_key(ca, files, pair)
    }

    fn with_key(ca: Ca, files: Issued, key: KeyPair) -> Result<Self, IssueError> {
        let info = inspect(&files.cert).map_err(|source| IssueError::CaCert { ca, source })?;
        if !info.is_ca {
            return Err(IssueError::CaUnfit { ca, why: format!("{} is not an authority", info.common_name) });
        }
        if !info.has_public_key(rcgen::PublicKeyData::der_bytes(&key)) {
            return Err(IssueError::CaUnfit {
                ca,
                why: "its certificate and its key do not belong together".into(),
            });
        }
        let issuer = Issuer::from_ca_cert_pem(&info.pem(), key)
            .map_err(|source| IssueError::Make { what: ca.to_string(), source })?;
        Ok(Self { ca, info, files, issuer })
    }

    /// Which one it is.
    pub fn ca(&self) -> Ca {
        self.ca
    }

    /// What its certificate says.
    pub fn info(&self) -> &CertInfo {
        &self.info
    }

    /// Its certificate and key, as they lie on hosts.
    pub fn files(&self) -> &Issued {
        &self.files
    }

    /// Issues a certificate with a new key, for a year or for as long as the authority itself is valid.
    ///
    /// # Errors
    /// Where the authority is another's or expired, or a name cannot stand in a certificate.
    pub fn issue(&self, spec: &LeafSpec, now: OffsetDateTime) -> Result<Issued, IssueError> {
        if spec.ca != self.ca {
            return Err(self.unfit(format!("{} is signed by the {}", spec.name, spec.ca)));
        }
        if self.info.is_expired(now) {
            return Err(self.unfit(format!("it expired on {}", self.info.not_after.date())));
        }
        let failed = |source| IssueError::Make { what: spec.name.to_owned(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let until = self.info.not_after.min(now + LEAF_VALIDITY);
        let params = leaf_params(spec, now, until).map_err(failed)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?.pem();
        // The issuer's name went through two parsers on its way here, and a certificate that does not chain would only
        // be found out once a component had been restarted with it.
        if !inspect(&cert).is_ok_and(|info| info.is_signed_by(&self.info)) {
            return Err(IssueError::Botched { what: spec.name.to_owned() });
        }
        Ok(Issued { cert, key: secret_pem(&key, spec.name)? })
    }

    fn unfit(&self, why: String) -> IssueError {
        IssueError::CaUnfit { ca: self.ca, why }
    }
}

fn read_key(ca: Ca, pem: &Secret) -> Result<KeyPair, IssueError> {
    let candidates = pem::pkcs8_candidates(pem);
    if candidates.is_empty() {
        return Err(IssueError::CaKey { ca, why: "no unencrypted private key in PEM form" });
    }
    candidates.iter().find_map(|der| KeyPair::try_from(der.as_slice()).ok()).ok_or(IssueError::CaKey {
        ca,
        why: "not an RSA key of 2048 bits or more, nor one on P-256 or P-384",
    })
}

/// Makes the pair that signs and checks service account tokens (ES256).
///
/// # Errors
/// Where there is no randomness.
pub fn service_account_keys() -> Result<Keys, IssueError> {
    let what = "service account key";
    let key = KeyPair::generate().map_err(|source| IssueError::Make { what: what.to_owned(), source })?;
    Ok(Keys { public: key.public_key_pem(), private: secret_pem(&key, what)? })
}

fn leaf_params(
    spec: &LeafSpec,
    now: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(&spec.common_name, spec.organization, now, until);
    params.is_ca = IsCa::ExplicitNoCa;
    // kubeadm adds keyEncipherment for all keys; for EC keys RFC 8813 section 3 forbids it, and nothing asks for it.
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = spec
        .usages
        .iter()
        .map(|usage| match usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        })
        .collect();
    params.subject_alt_names = spec
        .sans
        .iter()
        .map(|san| match san {
            San::Dns(name) => Ok(SanType::DnsName(name.as_str().try_into()?)),
            San::Ip(address) => Ok(SanType::IpAddress(*address)),
        })
        .collect::<Result<_, rcgen::Error>>()?;
    Ok(params)
}

fn params(
    common_name: &str,
    organization: Option<&str>,
    now: OffsetDateTime,
    until: OffsetDateTime,
) -> CertificateParams {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.not_before = now - BACKDATE;
    params.not_after = until;
    params.use_authority_key_identifier_extension = true;
    params
}

fn secret_pem(key: &KeyPair, what: &str) -> Result<Secret, IssueError> {
    pem::sec1_from_p256(key.serialized_der())
        .ok_or_else(|| IssueError::Botched { what: format!("key of {what}") })
}
