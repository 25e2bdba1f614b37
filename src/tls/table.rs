//! Which certificate a client is shown: by the name it asks for, and by what it can verify.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::{Certificate, Name};

/// What a client gets that asks for a name which no certificate has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UnknownName {
    /// The first certificate. The client decides what to think of it.
    Default,
    /// Nothing: the handshake fails (`unrecognized_name`, RFC 6066 §3).
    Refuse,
}

/// The certificates of a listener, by name. To look one up takes no allocation and at most two look-ups.
#[derive(Debug)]
pub struct Table {
    hosts: HashMap<Box<str>, Choice>,
    /// By the domain behind the first label.
    wildcards: HashMap<Box<str>, Choice>,
    default: Choice,
    unknown: UnknownName,
}

/// The certificates for one name, the kind of key that is cheapest first; one of a kind.
type Choice = Vec<Arc<Certificate>>;

impl Table {
    /// Makes the table. The first certificate is the one for who says no name; of two for the same name and of the
    /// same kind the first counts.
    pub fn new(certificates: &[Arc<Certificate>], unknown: UnknownName) -> Self {
        let (mut hosts, mut wildcards) = (HashMap::new(), HashMap::new());
        for certificate in certificates {
            for name in certificate.names() {
                let choice: &mut Choice = match name {
                    Name::Address(_) => continue,
                    Name::Host(name) => hosts.entry(name.clone()).or_default(),
                    Name::Wildcard(domain) => wildcards.entry(domain.clone()).or_default(),
                };
                add(choice, certificate);
            }
        }
        let mut default = Choice::new();
        if let Some(first) = certificates.first() {
            // Those for the same names stand beside it, for clients that cannot verify its kind.
            let same = certificates.iter().filter(|other| other.names() == first.names());
            same.for_each(|other| add(&mut default, other));
        }
        Self { hosts, wildcards, default, unknown }
    }

    /// Whether a client that says this name, if any, gets an answer at all.
    pub fn knows(&self, name: Option<&str>) -> bool {
        match (name, self.unknown) {
            (None, _) => self.has_default(),
            (Some(_), UnknownName::Default) if self.has_default() => true,
            (Some(name), _) => self.named(name).next().is_some(),
        }
    }

    /// Whether there is a certificate for who says no name: there is none where all are issued by an ACME server.
    pub fn has_default(&self) -> bool {
        !self.default.is_empty()
    }

    /// The certificate for a client that says `name` (in lower case), if it says one, and verifies these signatures,
    /// the best first.
    pub fn choose(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<&Arc<Certificate>> {
        let fits = |certificate: &&Arc<Certificate>| {
            certificate.certified().key.choose_scheme(schemes).is_some()
        };
        let Some(name) = name else { return self.default.iter().find(fits) };
        let mut named = self.named(name).peekable();
        if named.peek().is_none() && self.unknown == UnknownName::Default {
            return self.default.iter().find(fits);
        }
        named.flatten().find(fits)
    }

    /// What is there for a name: for the very name, then for any name of its domain.
    fn named<'t>(&'t self, name: &str) -> impl Iterator<Item = &'t Choice> + use<'t> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let domain = name.split_once('.').map(|(_, domain)| domain);
        let wild = domain.and_then(|domain| self.wildcards.get(domain));
        self.hosts.get(name).into_iter().chain(wild)
    }
}

fn add(choice: &mut Choice, certificate: &Arc<Certificate>) {
    if choice.iter().all(|other| other.kind() != certificate.kind()) {
        choice.push(Arc::clone(certificate));
        choice.sort_by_key(|certificate| certificate.kind());
    }
}

impl ResolvesServerCert for Table {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // For TLS 1.2, rustls left out signatures that no cipher of the client goes with.
        let chosen = self.choose(hello.server_name(), hello.signature_schemes())?;
        Some(Arc::clone(chosen.certified()))
    }
}
