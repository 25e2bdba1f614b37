//! Private keys as they stand in files: PKCS#1, PKCS#8 and SEC 1, in PEM.

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{Error, PemObject};

use super::certificate::CertificateError;

/// The first private key in a file.
///
/// # Errors
/// When there is none, or it is encrypted.
pub fn read(pem: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
    if is_encrypted(pem) {
        return Err(CertificateError::EncryptedKey);
    }
    // Never with what stands in the file: it is a secret.
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let none = matches!(error, Error::NoItemsFound);
        if none { CertificateError::NoKey } else { CertificateError::DamagedKey }
    })
}

/// Whether a passphrase is needed: PKCS#8 (RFC 7468 §11), or OpenSSL's older way.
fn is_encrypted(pem: &[u8]) -> bool {
    [&b"-----BEGIN ENCRYPTED PRIVATE KEY-----"[..], b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| memchr::memmem::find(pem, mark).is_some())
}
