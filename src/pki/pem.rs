//! PEM blocks, and the three forms in which private keys lie in them.
//!
//! kubeadm writes keys in the old forms (`RSA PRIVATE KEY`, PKCS#1; `EC PRIVATE KEY`, SEC 1), while the signing library
//! reads PKCS#8 alone. The forms hold the same numbers in other envelopes, so converting is concatenation. We write SEC 1
//! as kubeadm does: client-go's `ParsePublicKeysPEM`, which reads service account keys, knows EC keys in no other form.

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::secret::Secret;

/// Label of a certificate's block.
pub(crate) const CERTIFICATE: &str = "CERTIFICATE";
const PKCS8: &str = "PRIVATE KEY";
const PKCS1: &str = "RSA PRIVATE KEY";
const SEC1: &str = "EC PRIVATE KEY";

/// The bytes of the first block with that label. Text around the blocks is skipped, as RFC 7468 has it.
pub(crate) fn first(text: &str, label: &str) -> Option<Vec<u8>> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let (_, rest) = text.split_once(&begin)?;
    let (body, _) = rest.split_once(&end)?;
    BASE64_STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
}

/// One block.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let body = BASE64_STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for (i, c) in body.chars().enumerate() {
        if i > 0 && i % 64 == 0 {
            text.push('\n');
        }
        text.push(c);
    }
    text.push_str(&format!("\n-----END {label}-----\n"));
    text
}

/// What the key in a PEM text may be in PKCS#8; the reader tries each. Empty where there is no key.
///
/// More than one for `EC PRIVATE KEY`, where the envelope needs the curve's name and only the wrong guess is refused.
pub(crate) fn pkcs8_candidates(pem: &Secret) -> Vec<Vec<u8>> {
    let Ok(text) = std::str::from_utf8(pem.expose()) else { return Vec::new() };
    if let Some(der) = first(text, PKCS8) {
        return vec![der];
    }
    if let Some(der) = first(text, PKCS1) {
        return vec![envelope(RSA, &der)];
    }
    first(text, SEC1).map(|der| [P256, P384].map(|curve| envelope(curve, &der)).into()).unwrap_or_default()
}

/// A P-256 key, as this program's signing library generates it (PKCS#8 of fixed length), as `EC PRIVATE KEY`.
/// `None` for any other key.
pub(crate) fn sec1_from_p256(pkcs8: &[u8]) -> Option<Secret> {
    let inner = pkcs8.strip_prefix(P256_PKCS8_HEAD)?;
    let (scalar, rest) = inner.split_at_checked(32)?;
    let point = rest.strip_prefix(P256_POINT_HEAD).filter(|p| p.len() == 65)?;
    let der = [P256_SEC1_HEAD, scalar, P256_SEC1_CURVE, P256_POINT_HEAD, point].concat();
    Some(Secret::new(encode(SEC1, &der)))
}

/// AlgorithmIdentifier of RSA keys: `rsaEncryption`, NULL.
const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
/// AlgorithmIdentifier of keys on P-256: `ecPublicKey`, `prime256v1`.
const P256: &[u8] = b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
/// AlgorithmIdentifier of keys on P-384: `ecPublicKey`, `secp384r1`.
const P384: &[u8] = b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";

/// PrivateKeyInfo (version 0, `P256`, octet string) around ECPrivateKey (version 1, octet string) up to the scalar.
const P256_PKCS8_HEAD: &[u8] =
    b"\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\
\x3d\x03\x01\x07\x04\x6d\x30\x6b\x02\x01\x01\x04\x20";
/// `[1]` BIT STRING of 65 bytes.
const P256_POINT_HEAD: &[u8] = b"\xa1\x44\x03\x42\x00";
/// ECPrivateKey (version 1, octet string) up to the scalar.
const P256_SEC1_HEAD: &[u8] = b"\x30\x77\x02\x01\x01\x04\x20";
/// `[0]` `prime256v1`.
const P256_SEC1_CURVE: &[u8] = b"\xa0\x0a\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";

/// PKCS#8's PrivateKeyInfo: version 0, algorithm, and the key in its old form as an octet string.
fn envelope(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let body = [b"\x02\x01\x00", algorithm, &tagged(0x04, key)].concat();
    tagged(0x30, &body)
}

/// DER: tag, length, content.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let bytes = length.to_be_bytes();
    let significant = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
    let mut der = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => der.push(short),
        _ => {
            // A usize has at most eight bytes, so the count fits beside the flag.
            der.push(0x80 | significant.len() as u8);
            der.extend_from_slice(significant);
        }
    }
    der.extend_from_slice(content);
    der
}
