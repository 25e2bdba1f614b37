//! Certificates for tests: made by the tests.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm,
};

use super::certificate::Certificate;

/// A kind of key that tests use. RSA keys cannot be made here; those are tried with OpenSSL.
pub(crate) const P256: &SignatureAlgorithm = &PKCS_ECDSA_P256_SHA256;
/// Another curve.
pub(crate) const P384: &SignatureAlgorithm = &PKCS_ECDSA_P384_SHA384;
/// A third kind.
pub(crate) const ED25519: &SignatureAlgorithm = &PKCS_ED25519;

/// An authority.
pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority_of(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// A root.
pub(crate) fn root(name: &str) -> Authority {
    let key = KeyPair::generate_for(P256).unwrap();
    CertifiedIssuer::self_signed(authority_of(name), key).unwrap()
}

/// An authority below another.
pub(crate) fn below(name: &str, issuer: &Authority) -> Authority {
    let key = KeyPair::generate_for(P256).unwrap();
    CertifiedIssuer::signed_by(authority_of(name), key, issuer).unwrap()
}

/// What goes into a certificate for these names.
pub(crate) fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
}

/// A certificate and its key in PEM.
pub(crate) fn issued(
    params: &CertificateParams,
    key: &KeyPair,
    by: &Authority,
) -> (String, String) {
    (params.signed_by(key, by).unwrap().pem(), key.serialize_pem())
}

/// A certificate that is ready to be shown.
pub(crate) fn certificate(names: &[&str], kind: &'static SignatureAlgorithm) -> Certificate {
    let key = KeyPair::generate_for(kind).unwrap();
    let (chain, key) = issued(&params(names), &key, &root("root"));
    Certificate::read(chain.as_bytes(), key.as_bytes()).unwrap()
}
