//! A certificate with its chain and its key, checked before anybody is shown it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls::{Error, SignatureAlgorithm};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::{Fingerprint, chain, key, provider};

/// A certificate that is ready to be shown: its key matches, and each certificate of its chain is issued by the next.
#[derive(Clone)]
pub struct Certificate {
    names: Vec<Name>,
    kind: KeyKind,
    validity: Validity,
    serial: Box<str>,
    fingerprint: Fingerprint,
    chain: Fingerprint,
    certified: Arc<CertifiedKey>,
}

/// A name that a certificate is for (RFC 9525 §2).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Name {
    /// An IP address. Clients that ask for one say no name.
    Address(IpAddr),
    /// A host, in lower case.
    Host(Box<str>),
    /// Any one label before this domain: `*.example.com` is kept as `example.com`.
    Wildcard(Box<str>),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host(name) => f.write_str(name),
            Self::Wildcard(domain) => write!(f, "*.{domain}"),
        }
    }
}

/// The kind of a key: what a client must be able to verify. In the order of preference, the cheapest first.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum KeyKind {
    /// ECDSA, on P-256 or P-384.
    Ecdsa,
    /// Ed25519.
    Ed25519,
    /// RSA.
    Rsa,
}

/// What rustls signs with.
const KINDS: [(SignatureAlgorithm, KeyKind); 3] = [
    (SignatureAlgorithm::ECDSA, KeyKind::Ecdsa),
    (SignatureAlgorithm::ED25519, KeyKind::Ed25519),
    (SignatureAlgorithm::RSA, KeyKind::Rsa),
];

impl KeyKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ecdsa => "ecdsa",
            Self::Ed25519 => "ed25519",
            Self::Rsa => "rsa",
        }
    }
}

/// When a certificate is valid, both ends included, in Unix seconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// From when on.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
}

impl Validity {
    /// Whether a certificate is not valid at `now` (Unix seconds), and why.
    pub fn lapse(self, now: i64) -> Option<Lapse> {
        if now < self.not_before {
            return Some(Lapse::NotYet);
        }
        (now > self.not_after).then_some(Lapse::Expired)
    }
}

/// Why a certificate is not valid at a moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lapse {
    /// It was valid.
    Expired,
    /// It will be.
    NotYet,
}

impl Certificate {
    /// Reads a chain, the certificate itself first, and its key, both in PEM.
    ///
    /// # Errors
    /// When one of them cannot be used, or they do not belong together.
    pub fn read(chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, CertificateError> {
        let chain = chain::read(chain_pem)?;
        let key = key::read(key_pem)?;
        let all = chain::check(&chain)?;
        let Some(own) = all.first() else { return Err(CertificateError::NoCertificate) };
        let names = names(own);
        if names.is_empty() {
            return Err(CertificateError::Nameless(own.subject().to_string()));
        }
        let validity = Validity {
            not_before: own.validity().not_before.timestamp(),
            not_after: own.validity().not_after.timestamp(),
        };
        let serial = own.raw_serial_as_string().into();
        let fingerprint = Fingerprint::of(&chain[0]);
        let whole: Vec<u8> = chain.iter().flat_map(|der| der.iter().copied()).collect();
        let whole = Fingerprint::of(&whole);
        let certified = CertifiedKey::from_der(chain.clone(), key, &provider());
        let certified = certified.map_err(|error| {
            let mismatch = matches!(error, Error::InconsistentKeys(_));
            if mismatch { CertificateError::KeyMismatch } else { CertificateError::UnusableKey }
        })?;
        let algorithm = certified.key.algorithm();
        let found = KINDS.iter().find(|(own, _)| *own == algorithm);
        let kind = found.map(|(_, kind)| *kind).ok_or(CertificateError::UnusableKey)?;
        let certified = Arc::new(certified);
        Ok(Self { names, kind, validity, serial, fingerprint, chain: whole, certified })
    }

    /// The names that it is for; never none.
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// The name that it is called by: the first.
    pub fn name(&self) -> String {
        self.names.first().map(ToString::to_string).unwrap_or_default()
    }

    /// The kind of its key.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// When it is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Its serial number, in hexadecimal.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The SHA-256 hash of the certificate itself.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What rustls shows and signs with.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

// One key may stand in for another of the same certificate: they are the same key.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain
    }
}

impl Eq for Certificate {}

// Neither the key nor the whole chain is for logs.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("names", &self.names)
            .field("kind", &self.kind)
            .field("validity", &self.validity)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// The names of a certificate in DER; none of one that cannot be read.
pub fn names_of(der: &[u8]) -> Vec<Name> {
    X509Certificate::from_der(der).map(|(_, certificate)| names(&certificate)).unwrap_or_default()
}

/// The names of a certificate. What no client can ask for is none: `f*.example.com`, `*`.
fn names(certificate: &X509Certificate<'_>) -> Vec<Name> {
    let Ok(Some(listed)) = certificate.subject_alternative_name() else { return Vec::new() };
    let mut names: Vec<Name> = Vec::new();
    for listed in &listed.value.general_names {
        // A web site is asked for by no other kind of name.
        let name = if let GeneralName::DNSName(name) = listed {
            host(name)
        } else if let GeneralName::IPAddress(bytes) = listed {
            address(bytes).map(Name::Address)
        } else {
            None
        };
        names.extend(name.filter(|name| !names.contains(name)));
    }
    names
}

fn host(name: &str) -> Option<Name> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_host = |name: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        !name.is_empty() && name.bytes().all(allowed)
    };
    match name.strip_prefix("*.") {
        Some(domain) => is_host(domain).then(|| Name::Wildcard(domain.into())),
        None => is_host(&name).then(|| Name::Host(name.as_str().into())),
    }
}

/// An address as certificates have it: its bytes.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| IpAddr::from(Ipv4Addr::from(bytes)));
    let v6 = || <[u8; 16]>::try_from(bytes).map(|bytes| IpAddr::from(Ipv6Addr::from(bytes)));
    v4.or_else(|_| v6()).ok()
}

/// Why a certificate and a key cannot be used. Never holds anything of the key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CertificateError {
    /// There is no certificate in the file.
    NoCertificate,
    /// The certificate of this number, from 1, cannot be read.
    Damaged(usize),
    /// There are more certificates than any client follows.
    LongChain(usize),
    /// A certificate is not issued by the next one.
    Disordered {
        /// Its number, from 1.
        number: usize,
        /// Who issued it.
        issuer: String,
        /// Who the next one is of.
        next: String,
    },
    /// The certificate of who issued it is missing.
    Incomplete(String),
    /// It is for no name.
    Nameless(String),
    /// The key of a certificate is too short.
    WeakKey {
        /// Its number, from 1.
        number: usize,
        /// How long it is.
        bits: usize,
    },
    /// A certificate is signed in a way that can be forged.
    WeakSignature {
        /// Its number, from 1.
        number: usize,
        /// The hash that it is signed by.
        hash: &'static str,
    },
    /// There is no key in the file.
    NoKey,
    /// The key needs a passphrase.
    EncryptedKey,
    /// The key cannot be read.
    DamagedKey,
    /// The key is of a kind that we cannot sign with.
    UnusableKey,
    /// The key is that of another certificate.
    KeyMismatch,
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("there is no certificate in it"),
            Self::Damaged(number) => write!(f, "its certificate {number} cannot be read"),
            Self::LongChain(count) => {
                write!(f, "expected a chain of at most {} certificates, found {count}", chain_max())
            }
            Self::Disordered { number, issuer, next } => write!(
                f,
                "its certificate {number} is issued by `{issuer}`, and the one after it is not that, but `{next}`"
            ),
            Self::Incomplete(issuer) => {
                write!(
                    f,
                    "its chain is not complete: the certificate of its issuer `{issuer}` is missing"
                )
            }
            Self::Nameless(subject) => {
                write!(f, "the certificate of `{subject}` is for no name (subjectAltName)")
            }
            Self::WeakKey { number, bits } => write!(
                f,
                "the key of its certificate {number} has {bits} bits, which clients refuse"
            ),
            Self::WeakSignature { number, hash } => {
                write!(f, "its certificate {number} is signed with {hash}, which clients refuse")
            }
            Self::NoKey => f.write_str("there is no private key in it"),
            Self::EncryptedKey => f.write_str("the key is encrypted"),
            Self::DamagedKey => f.write_str("the key cannot be read"),
            Self::UnusableKey => f.write_str("the key is of no kind that can be used"),
            Self::KeyMismatch => f.write_str("the key is not that of the certificate"),
        }
    }
}

impl std::error::Error for CertificateError {}

fn chain_max() -> usize {
    chain::CHAIN_MAX
}

impl CertificateError {
    /// Whether the file of the key is at fault.
    pub fn is_of_key(&self) -> bool {
        match self {
            Self::NoKey | Self::EncryptedKey | Self::DamagedKey | Self::UnusableKey => true,
            Self::NoCertificate
            | Self::Damaged(_)
            | Self::LongChain(_)
            | Self::Disordered { .. }
            | Self::Incomplete(_)
            | Self::Nameless(_)
            | Self::WeakKey { .. }
            | Self::WeakSignature { .. }
            | Self::KeyMismatch => false,
        }
    }

    /// The way out.
    pub fn help(&self) -> &'static str {
        match self {
            Self::NoCertificate => {
                "the file has to hold the certificate in PEM (`-----BEGIN CERTIFICATE-----`), then its chain"
            }
            Self::Damaged(_) => "copy the file anew: openssl x509 -in FILE -noout has to read it",
            Self::LongChain(_) => "keep the certificate and those between it and the root",
            Self::Disordered { .. } => {
                "put the certificate of the site first, then its issuer, then the issuer of that"
            }
            Self::Incomplete(_) => {
                "append the certificate of the issuer: authorities call the whole `fullchain.pem`"
            }
            Self::Nameless(_) => {
                "ask for one with names; openssl req takes -addext subjectAltName=DNS:www.example.com"
            }
            Self::WeakKey { .. } => "make a key of ECDSA P-256, or of RSA with 2048 bits",
            Self::WeakSignature { .. } => "have it signed with SHA-256",
            Self::NoKey => {
                "the file has to hold the key in PEM, such as `-----BEGIN PRIVATE KEY-----`"
            }
            Self::EncryptedKey => {
                "decrypt it, for its owner alone: (umask 077; openssl pkey -in FILE -out PLAIN)"
            }
            Self::DamagedKey => "copy the file anew: openssl pkey -in FILE -noout has to read it",
            Self::UnusableKey => {
                "make a key of ECDSA P-256 or P-384, of RSA with 2048 to 4096 bits, or Ed25519"
            }
            Self::KeyMismatch => {
                "compare: openssl x509 -in CERTIFICATE -noout -pubkey, and openssl pkey -in KEY -pubout"
            }
        }
    }
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
