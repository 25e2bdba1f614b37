//! How the backends of an app speak TLS: whom we trust, and what we show them of ourselves.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

/// How the backends of an app speak TLS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BackendTls {
    /// The name that is asked for (SNI) and that the certificate must hold. Never empty: without a name nothing
    /// would be checked.
    pub server_name: Box<str>,
    /// Whether the certificate is checked at all.
    pub verify: Verify,
    /// Who vouches for backends; `None`: who the system trusts.
    pub authorities: Option<Arc<Authorities>>,
    /// What we show backends that ask who we are; `None`: nothing.
    pub identity: Option<Arc<Identity>>,
    /// What the connector made of it.
    pub made: Made,
}

/// Whether a certificate is checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verify {
    /// Chain and name are checked.
    Full,
    /// Nothing is checked: the connection is encrypted, the backend may be anyone.
    Off,
}

impl BackendTls {
    /// Checked against whom the system trusts, and shown nothing.
    pub fn new(server_name: &str, verify: Verify) -> Self {
        let (authorities, identity, made) = (None, None, Made::default());
        Self { server_name: server_name.into(), verify, authorities, identity, made }
    }

    /// What tells connections apart that must not be shared: those to one address whose peers were checked against
    /// other authorities, or were shown another certificate. 0 where there is neither.
    pub fn mark(&self) -> u64 {
        let authorities = self.authorities.as_ref().map_or(0, |authorities| authorities.mark);
        let identity = self.identity.as_ref().map_or(0, |identity| identity.mark);
        authorities ^ identity.rotate_left(1)
    }
}

/// Certificates of authorities.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authorities {
    /// The file, as the configuration names it.
    pub name: Box<str>,
    /// The certificates (DER).
    pub certificates: Vec<Vec<u8>>,
    mark: u64,
}

impl Authorities {
    /// The certificates (DER) of a file.
    pub fn new(name: Box<str>, certificates: Vec<Vec<u8>>) -> Self {
        let mark = mark(certificates.iter().map(Vec::as_slice));
        Self { name, certificates, mark }
    }
}

/// A certificate of ours, and its key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The file of the certificate, as the configuration names it.
    pub name: Box<str>,
    /// The certificate and those between it and an authority (DER).
    pub chain: Vec<Vec<u8>>,
    /// The key of the first.
    pub key: PrivateKey,
    mark: u64,
}

impl Identity {
    /// A chain of certificates (DER) with the key of the first.
    pub fn new(name: Box<str>, chain: Vec<Vec<u8>>, key: PrivateKey) -> Self {
        let mark = mark(chain.iter().map(Vec::as_slice).chain([key.der()]));
        Self { name, chain, key, mark }
    }
}

/// A private key (DER).
#[derive(Clone, Eq, PartialEq)]
pub struct PrivateKey(Box<[u8]>);

impl PrivateKey {
    /// Keeps a key.
    pub fn new(der: &[u8]) -> Self {
        Self(der.into())
    }

    /// The key itself.
    pub fn der(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A place for what the connector makes of certificates and keys, so that it makes it once. It follows from the rest,
/// and says nothing in a comparison.
#[derive(Clone, Default)]
pub struct Made(Arc<OnceLock<Box<dyn Any + Send + Sync>>>);

impl Made {
    /// What was made, or is made now. `None`: somebody else made something else.
    pub fn get_or_make<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.0.get_or_init(|| Box::new(make())).downcast_ref()
    }
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Made(..)")
    }
}

impl PartialEq for Made {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Made {}

/// The first bytes of a hash over all parts, each with its length.
fn mark<'p>(parts: impl Iterator<Item = &'p [u8]>) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash: [u8; 32] = hash.finalize().into();
    hash.iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(authorities: &[&[u8]], identity: Option<(&[u8], &[u8])>) -> BackendTls {
        let own = authorities.iter().map(|one| one.to_vec()).collect::<Vec<_>>();
        let shown = identity.map(|(certificate, key)| {
            Arc::new(Identity::new("i".into(), vec![certificate.to_vec()], PrivateKey::new(key)))
        });
        BackendTls {
            server_name: "name".into(),
            verify: Verify::Full,
            authorities: (!own.is_empty()).then(|| Arc::new(Authorities::new("a".into(), own))),
            identity: shown,
            made: Made::default(),
        }
    }

    #[test]
    fn who_is_trusted_and_what_is_shown_tell_connections_apart() {
        let all = [
            tls(&[], None),
            tls(&[b"a"], None),
            tls(&[b"b"], None),
            tls(&[b"a", b"b"], None),
            tls(&[b"ab"], None),
            tls(&[], Some((b"a", b"k"))),
            tls(&[], Some((b"a", b"l"))),
            tls(&[b"a"], Some((b"a", b"k"))),
        ];
        assert_eq!(all[0].mark(), 0);
        for (index, one) in all.iter().enumerate() {
            for other in &all[index + 1..] {
                assert_ne!(one.mark(), other.mark(), "{one:?} {other:?}");
                assert_ne!(one, other);
            }
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        let shown = format!("{:?}", tls(&[], Some((b"c", b"secret"))));
        assert!(shown.contains("PrivateKey(..)") && !shown.contains("115"), "{shown}");
    }

    #[test]
    fn what_is_made_is_made_once_for_all_copies() {
        let first = tls(&[b"a"], None);
        let second = first.clone();
        assert_eq!(first.made.get_or_make(|| 1_u8), Some(&1));
        assert_eq!(second.made.get_or_make(|| 2_u8), Some(&1));
        assert_eq!(second.made.get_or_make(|| "other"), None);
    }
}
