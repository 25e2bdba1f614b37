//! What the `acme` section says.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::balancer::name::DomainPattern;

/// How certificates are had from an ACME server (RFC 8555).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Acme {
    /// The URL of the server's directory.
    pub directory: Box<str>,
    /// How the server reaches who is responsible, such as `mailto:admin@example.com`.
    pub contact: Vec<Box<str>>,
    /// The challenges that are answered, the preferred one first; at least one.
    pub challenges: Vec<Challenge>,
    /// Whom the server's own certificate is checked with; `None`: with the system's authorities.
    pub ca: Option<Authority>,
    /// The account that the server's operator knows us by (RFC 8555 §7.3.4).
    pub external_account: Option<ExternalAccount>,
    /// The first pause after an order that failed; each further one is twice as long.
    pub retry_after: Duration,
}

/// How the server sees that a name is ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Challenge {
    /// By a request to port 80 (RFC 8555 §8.3).
    Http01,
    /// By a handshake on port 443 (RFC 8737).
    TlsAlpn01,
}

impl Challenge {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::TlsAlpn01, Self::Http01];

    /// The word for it, which is the RFC's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

/// Certificates of authorities in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authority {
    /// The file.
    pub file: PathBuf,
    /// What was in it.
    pub pem: Vec<u8>,
}

/// An account at the server's operator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExternalAccount {
    /// The key identifier that the operator gave.
    pub id: Box<str>,
    /// The key that the operator gave.
    pub key: MacKey,
}

/// A key of HMAC-SHA256.
#[derive(Clone, Eq, PartialEq)]
pub struct MacKey(Vec<u8>);

impl MacKey {
    /// Keeps the bytes of a key.
    pub fn new(key: Vec<u8>) -> Self {
        Self(key)
    }

    /// The bytes.
    pub fn secret(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(..)")
    }
}

/// The name that a certificate can be had for by answering a challenge at that name: one name, of at least two
/// labels, and a host's.
pub fn certifiable(domain: &DomainPattern) -> Option<&str> {
    match domain {
        DomainPattern::Exact(name) => {
            let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
            let top = name.rsplit('.').next().filter(|top| top.len() < name.len());
            let is_host = !name.contains(['_', '[']) && top.is_some_and(|top| !numeric(top));
            is_host.then_some(name)
        }
        DomainPattern::Below(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_wildcards_and_names_of_no_host_have_no_certificate() {
        let check = |text: &str| {
            let domain = DomainPattern::parse(text).unwrap();
            certifiable(&domain).map(ToOwned::to_owned)
        };
        assert_eq!(check("Shop.example.com").as_deref(), Some("shop.example.com"));
        for none in ["*.example.com", "192.0.2.7", "[2001:db8::1]", "localhost", "a_b.example"] {
            assert_eq!(check(none), None, "{none}");
        }
    }

    #[test]
    fn the_key_of_an_account_is_not_for_logs() {
        assert_eq!(format!("{:?}", MacKey::new(vec![1, 2])), "MacKey(..)");
    }
}
