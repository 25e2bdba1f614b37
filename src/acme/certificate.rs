//! Certificates and keys, from what the server sends and what the state directory holds to what handshakes need.

use std::fmt;
use std::sync::Arc;

use instant_acme::CertificateIdentifier;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use x509_parser::parse_x509_certificate;

use super::schedule::Lifetime;
use crate::issued::PROTOCOL;
use crate::tls::provider;

/// Why a chain and a key are no certificate for a name.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct CertificateError(pub(super) String);

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A certificate that can be served.
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) lifetime: Lifetime,
    /// What the server knows it by (RFC 9773 §4.1), where it says whose key signed it.
    pub(super) id: Option<CertificateIdentifier<'static>>,
}

impl Certificate {
    /// Reads a key and a chain in PEM, and looks whether they belong together and to the name.
    pub(super) fn read(pem: &str, name: &str) -> Result<Self, CertificateError> {
        let wrong = |error: &dyn fmt::Display| CertificateError(error.to_string());
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| wrong(&error))?;
        let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| wrong(&error))?;
        let key = ring::sign::any_supported_type(&key).map_err(|error| wrong(&error))?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|error| wrong(&error))?;
        let first = key.end_entity_cert().map_err(|error| wrong(&error))?;
        let parsed = ParsedCertificate::try_from(first).map_err(|error| wrong(&error))?;
        let server = ServerName::try_from(name).map_err(|error| wrong(&error))?;
        verify_server_name(&parsed, &server).map_err(|error| wrong(&error))?;
        let (_, fields) = parse_x509_certificate(first).map_err(|error| wrong(&error))?;
        let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
        let lifetime = Lifetime {
            not_before: seconds(fields.validity().not_before.timestamp()),
            not_after: seconds(fields.validity().not_after.timestamp()),
        };
        let id = CertificateIdentifier::try_from(first).ok();
        let id = id.map(CertificateIdentifier::into_owned);
        Ok(Self { key: Arc::new(key), lifetime, id })
    }
}

/// A key that Homing made, as PEM.
#[derive(Clone)]
pub(super) struct KeyPem(String);

impl fmt::Debug for KeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPem(..)")
    }
}

impl KeyPem {
    /// Makes one: ECDSA with P-256, which every client of this decade can do.
    pub(super) fn make() -> Result<Self, rcgen::Error> {
        Ok(Self(KeyPair::generate()?.serialize_pem()))
    }

    /// One that was made before.
    pub(super) fn kept(text: String) -> Self {
        Self(text)
    }

    /// The text, to be kept.
    pub(super) fn secret(&self) -> &str {
        &self.0
    }

    /// What the server is to sign, in DER (RFC 2986).
    pub(super) fn request(&self, name: &str) -> Result<Vec<u8>, rcgen::Error> {
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&KeyPair::from_pem(&self.0)?)?;
        Ok(request.der().to_vec())
    }
}

/// How a challenge over TLS is answered: with a certificate for the name that says the digest of the key authorization
/// (RFC 8737 §3).
pub(super) fn challenge(name: &str, digest: &[u8]) -> Result<Arc<ServerConfig>, CertificateError> {
    let wrong = |error: &dyn fmt::Display| CertificateError(error.to_string());
    let (certificate, key) = self_signed(name, digest).map_err(|error| wrong(&error))?;
    let key = ring::sign::any_supported_type(&key).map_err(|error| wrong(&error))?;
    // Not looked at: what rustls reads of certificates knows nothing of the extension, which must be understood.
    let shown = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key));
    let server = ServerConfig::builder_with_provider(provider());
    let server = server.with_safe_default_protocol_versions().map_err(|error| wrong(&error))?;
    let mut server = server.with_no_client_auth().with_cert_resolver(Arc::new(shown));
    server.alpn_protocols = vec![PROTOCOL.to_vec()];
    server.send_tls13_tickets = 0;
    Ok(Arc::new(server))
}

fn self_signed(
    name: &str,
    digest: &[u8],
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(name: &str, key: &KeyPem) -> String {
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let pair = KeyPair::from_pem(key.secret()).unwrap();
        params.self_signed(&pair).unwrap().pem()
    }

    #[test]
    fn a_key_and_its_chain_are_a_certificate_for_their_name_only() {
        let (key, other) = (KeyPem::make().unwrap(), KeyPem::make().unwrap());
        let chain = signed("a.example", &key);
        let whole = format!("{}{chain}", key.secret());
        let certificate = Certificate::read(&whole, "a.example").unwrap();
        assert!(certificate.lifetime.not_before < certificate.lifetime.not_after);
        assert!(Certificate::read(&whole, "b.example").is_err());
        for wrong in [format!("{}{chain}", other.secret()), key.secret().into(), chain, "".into()] {
            assert!(Certificate::read(&wrong, "a.example").is_err());
        }
    }

    #[test]
    fn a_key_is_not_for_logs() {
        assert_eq!(format!("{:?}", KeyPem::make().unwrap()), "KeyPem(..)");
    }

    #[test]
    fn a_challenge_over_tls_has_its_own_protocol() {
        let server = challenge("a.example", &[7; 32]).unwrap();
        assert_eq!(server.alpn_protocols, [PROTOCOL]);
    }

    #[test]
    fn the_certificate_of_a_challenge_says_the_digest_and_that_it_must_be_understood() {
        let (certificate, _) = self_signed("a.example", &[7; 32]).unwrap();
        let (_, fields) = parse_x509_certificate(&certificate).unwrap();
        let mut all = fields.iter_extensions();
        let said = all.find(|said| said.oid.to_id_string() == "1.3.6.1.5.5.7.1.31").unwrap();
        assert!(said.critical);
        assert_eq!(said.value, [&[4, 32][..], &[7; 32]].concat());
    }
}
