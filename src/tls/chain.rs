//! A chain of certificates: each issued by the next, none missing that clients need, none that they refuse.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error, PemObject};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{AuthorityInfoAccess, ParsedExtension, X509Extension};
use x509_parser::oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::certificate::CertificateError;

/// Most certificates in a chain. Public ones have two or three; a bundle of authorities has hundreds.
pub(super) const CHAIN_MAX: usize = 10;

/// Fewest bits of an RSA key (CA/Browser Forum, Baseline Requirements §6.1.5); rustls signs with no fewer.
const RSA_BITS_MIN: usize = 2048;

/// Signatures that can be forged: MD5 and SHA-1 with RSA (RFC 8017, Appendix C), SHA-1 with ECDSA (RFC 3279 §2.2.3).
const WEAK_SIGNATURES: [(&str, &str); 3] = [
    ("1.2.840.113549.1.1.4", "MD5"),
    ("1.2.840.113549.1.1.5", "SHA-1"),
    ("1.2.840.10045.4.1", "SHA-1"),
];

/// The certificates in a file, as they come.
///
/// # Errors
/// When there is none, or what is there is none.
pub(super) fn read(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain: Result<Vec<_>, Error> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(CertificateError::NoCertificate),
        Ok(chain) => Ok(chain),
        Err(_) => Err(CertificateError::Damaged(1)),
    }
}

/// Reads every certificate of a chain, and checks that each is issued by the next.
///
/// # Errors
/// With what is wrong first.
pub(super) fn check<'d>(
    chain: &'d [CertificateDer<'static>],
) -> Result<Vec<X509Certificate<'d>>, CertificateError> {
    if chain.len() > CHAIN_MAX {
        return Err(CertificateError::LongChain(chain.len()));
    }
    let mut all = Vec::with_capacity(chain.len());
    for (der, number) in chain.iter().zip(1..) {
        let read = X509Certificate::from_der(der.as_ref());
        let (_, certificate) = read.map_err(|_| CertificateError::Damaged(number))?;
        strong(&certificate, number)?;
        all.push(certificate);
    }
    for (pair, number) in all.windows(2).zip(1..) {
        let [one, next] = pair else { continue };
        let named = one.issuer().as_raw() == next.subject().as_raw();
        if !named || one.verify_signature(Some(next.public_key())).is_err() {
            return Err(CertificateError::Disordered {
                number,
                issuer: one.issuer().to_string(),
                next: next.subject().to_string(),
            });
        }
    }
    match all.as_slice() {
        // Who tells where its issuer can be had is issued by one that clients do not have.
        [alone] if !is_self_signed(alone) && tells_issuer(alone) => {
            Err(CertificateError::Incomplete(alone.issuer().to_string()))
        }
        _ => Ok(all),
    }
}

/// Whether nobody but itself vouches for a certificate.
pub(super) fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == certificate.subject().as_raw()
        && certificate.verify_signature(None).is_ok()
}

/// Whether a certificate says where that of its issuer can be had (RFC 5280 §4.2.2.1).
fn tells_issuer(certificate: &X509Certificate<'_>) -> bool {
    let tells = |access: &AuthorityInfoAccess<'_>| {
        access.iter().any(|one| one.access_method == OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS)
    };
    let mut extensions = certificate.extensions().iter().map(X509Extension::parsed_extension);
    extensions.any(|one| matches!(one, ParsedExtension::AuthorityInfoAccess(all) if tells(all)))
}

/// Refuses keys and signatures that clients refuse. That of a root is not looked at: nobody relies on it.
fn strong(certificate: &X509Certificate<'_>, number: usize) -> Result<(), CertificateError> {
    if let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed() {
        // What is written with a leading zero byte counts its bits all the same.
        let bits = key.key_size();
        if bits < RSA_BITS_MIN {
            return Err(CertificateError::WeakKey { number, bits });
        }
    }
    let signed = certificate.signature_algorithm.algorithm.to_id_string();
    let found = WEAK_SIGNATURES.iter().find(|(oid, _)| *oid == signed);
    match found {
        Some((_, hash)) if certificate.issuer().as_raw() != certificate.subject().as_raw() => {
            Err(CertificateError::WeakSignature { number, hash })
        }
        Some(_) | None => Ok(()),
    }
}
