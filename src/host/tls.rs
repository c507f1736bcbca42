//! The certificate that a server shows in a TLS handshake: what it really serves, whatever lies in a file.
//!
//! Nothing is asked of the server and nothing is sent to it, so that nothing needs to be trusted: the certificate is
//! looked at and compared, also where it has expired or where the server would not let us in.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// The certificate (DER) that a server at an address serves to those who call it `name`.
///
/// # Errors
/// In words, where nobody answers in time or what answers speaks no TLS.
pub async fn served(address: SocketAddr, name: &str, patience: Duration) -> Result<Vec<u8>, String> {
    let name = ServerName::try_from(name.to_owned()).map_err(|e| e.to_string())?;
    let look = tokio::task::spawn_blocking(move || look(address, name, patience));
    look.await.map_err(|e| e.to_string())?
}

fn look(address: SocketAddr, name: ServerName<'static>, patience: Duration) -> Result<Vec<u8>, String> {
    let watcher = Arc::new(Watcher::default());
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(watcher.clone())
        .with_no_client_auth();
    let mut tcp = TcpStream::connect_timeout(&address, patience).map_err(|e| e.to_string())?;
    tcp.set_read_timeout(Some(patience)).map_err(|e| e.to_string())?;
    tcp.set_write_timeout(Some(patience)).map_err(|e| e.to_string())?;
    let mut session = ClientConnection::new(Arc::new(config), name).map_err(|e| e.to_string())?;
    // A server that wants a certificate of ours ends the handshake, after it has shown its own.
    let ended = session.complete_io(&mut tcp);
    let seen = watcher.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    seen.ok_or_else(|| ended.map_or_else(|e| e.to_string(), |_| "it showed no certificate".to_owned()))
}

/// Notes the certificate and judges nothing.
#[derive(Debug, Default)]
struct Watcher(Mutex<Option<Vec<u8>>>);

impl ServerCertVerifier for Watcher {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
