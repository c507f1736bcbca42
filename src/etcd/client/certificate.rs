//! What a TLS handshake with a member tells: the certificate it serves, and why one of us refused.

use std::{
    error::Error as StdError,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error,
    RootCertStore, SignatureScheme, Stream,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use time::OffsetDateTime;

use super::{Credentials, Dial};
use crate::etcd::EtcdError;

/// How long a member may take for each word of a handshake that is made by hand.
const PATIENCE: Duration = Duration::from_secs(1);

/// rustls' own verifier, which judges; beside it we note when the certificate expires.
///
/// The file on disk may be newer than what the process serves: only the handshake shows that a renewed certificate
/// has not arrived (kubernetes/kubernetes#102556).
#[derive(Debug)]
pub(super) struct Observer {
    judge: Arc<WebPkiServerVerifier>,
    seen: Mutex<Option<OffsetDateTime>>,
}

impl Observer {
    /// Trusts the CAs in a PEM bundle and nothing else.
    pub(super) fn new(ca_pem: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem) {
            let certificate = certificate.map_err(|e| e.to_string())?;
            roots.add(certificate).map_err(|e| e.to_string())?;
        }
        let provider = Arc::new(ring::default_provider());
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Ok(Self { judge: judge.map_err(|e| e.to_string())?, seen: Mutex::new(None) })
    }

    /// When the certificate of the last handshake expires.
    pub(super) fn not_after(&self) -> Option<OffsetDateTime> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the member that is dialled turns us away, if it does. Blocks, for a second at most.
    ///
    /// tonic only says "connection closed", since the alert comes after the handshake and gets lost in HTTP/2. So
    /// another handshake is made by hand, and the first record after it read.
    pub(super) fn rejection(self: Arc<Self>, dial: &Dial, credentials: &Credentials) -> Option<EtcdError> {
        let (mut session, mut tcp) = self.session(dial.address, &dial.server_name, credentials, &[b"h2"])?;
        let error = Stream::new(&mut session, &mut tcp).read(&mut [0]).err()?;
        untrusted(&dial.endpoint, &error)
    }

    /// Looks at the certificate that is served at an address, for a second or two at most. Whoever goes without a
    /// certificate of his own, or without a word, leaves a complaint in etcd's log, which people read: so it is asked for
    /// what it tells everybody there.
    pub(super) fn look(self: Arc<Self>, address: SocketAddr, server_name: &str, credentials: &Credentials) {
        let Some((mut session, mut tcp)) = self.session(address, server_name, credentials, &[]) else {
            return;
        };
        let mut stream = Stream::new(&mut session, &mut tcp);
        let asked = stream.write_all(b"GET /version HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n");
        // What it says does not matter, nor that it may say nothing.
        let _ = asked.and_then(|()| io::copy(&mut stream, &mut io::sink()));
    }

    fn session(
        self: Arc<Self>,
        address: SocketAddr,
        server_name: &str,
        credentials: &Credentials,
        protocols: &[&[u8]],
    ) -> Option<(ClientConnection, TcpStream)> {
        let tcp = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
        tcp.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut config = self.configuration(credentials)?;
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        let name = ServerName::try_from(server_name).ok()?.to_owned();
        Some((ClientConnection::new(Arc::new(config), name).ok()?, tcp))
    }

    fn configuration(self: Arc<Self>, credentials: &Credentials) -> Option<ClientConfig> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&credentials.certificate).collect();
        let key = PrivateKeyDer::from_pem_slice(credentials.key.expose()).ok()?;
        let provider = Arc::new(ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
        let builder = builder.dangerous().with_custom_certificate_verifier(self);
        builder.with_client_auth_cert(chain.ok()?, key).ok()
    }
}

impl ServerCertVerifier for Observer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let not_after = x509_parser::parse_x509_certificate(end_entity)
            .ok()
            .map(|(_, certificate)| certificate.validity().not_after.to_datetime());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = not_after;
        self.judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

/// A failed handshake, or `None` where the failure is of another kind (nobody there, cut off).
pub(super) fn untrusted(endpoint: &str, error: &(dyn StdError + 'static)) -> Option<EtcdError> {
    let (why, early) = match rustls_error(error)? {
        Error::InvalidCertificate(why) => {
            let early =
                matches!(why, CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. });
            (format!("its certificate was not accepted: {why}"), early)
        }
        Error::AlertReceived(alert) => (alert_words(*alert)?, false),
        _ => return None,
    };
    Some(EtcdError::Untrusted { endpoint: endpoint.to_owned(), why, early })
}

/// The member's complaint about our certificate, or its own, as far as TLS lets it say.
fn alert_words(alert: AlertDescription) -> Option<String> {
    use AlertDescription as A;
    match alert {
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA
        | A::AccessDenied
        | A::CertificateRequired => Some(format!("it did not accept our client certificate ({alert:?})")),
        // So it says where it cannot read its own certificate and key as a pair (crypto/tls, `getCertificate`).
        A::InternalError => Some(format!("it has no certificate with its key that it can use ({alert:?})")),
        _ => None,
    }
}

/// Finds rustls' error in a chain; it travels inside `io::Error`s, which hide it from `source()`.
fn rustls_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(found);
        }
        let hidden = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match hidden {
            Some(hidden) => Some(hidden),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_has_not_begun_is_told_from_others() {
        let time = |s| UnixTime::since_unix_epoch(Duration::from_secs(s));
        let not_begun = CertificateError::NotValidYetContext { time: time(1), not_before: time(2) };
        let ended = CertificateError::ExpiredContext { time: time(2), not_after: time(1) };
        for (why, early) in [
            (Error::InvalidCertificate(not_begun), Some(true)),
            (Error::InvalidCertificate(ended), Some(false)),
            (Error::AlertReceived(AlertDescription::UnknownCA), Some(false)),
            (Error::AlertReceived(AlertDescription::CloseNotify), None),
        ] {
            let told = untrusted("m1", &io::Error::other(why.clone()));
            let is_early = told.as_ref().map(|e| matches!(e, EtcdError::Untrusted { early: true, .. }));
            assert_eq!(is_early, early, "{why}: {told:?}");
        }
    }
}
