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
    all: Box<[Arc<Certificate>]>,
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
        Self { all: certificates.into(), hosts, wildcards, default, unknown }
    }

    /// All certificates; the first is the default.
    pub fn certificates(&self) -> &[Arc<Certificate>] {
        &self.all
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{ED25519, P256, P384, certificate};

    const OLD: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
    const P384_ONLY: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP384_SHA384];
    const MODERN: &[SignatureScheme] =
        &[SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256];
    const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256];
    const ED: &[SignatureScheme] = &[SignatureScheme::ED25519];

    /// `a`, `*.b` and `x.b`, the first of them of two kinds; `other`.
    fn table(unknown: UnknownName) -> Table {
        let made = [
            (&["a.example.com"][..], P256),
            (&["a.example.com"], ED25519),
            (&["*.b.example.com", "b.example.com"], P256),
            (&["x.b.example.com"], ED25519),
            (&["other.example.com", "10.0.0.1"], P384),
            (&["a.example.com", "late.example.com"], P256),
        ];
        let all = made.into_iter().map(|(names, kind)| Arc::new(certificate(names, kind)));
        Table::new(&all.collect::<Vec<_>>(), unknown)
    }

    /// Which certificate is shown, by its place in the list.
    fn shown(table: &Table, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<usize> {
        let found = table.choose(name, schemes)?;
        table.certificates().iter().position(|own| Arc::ptr_eq(own, found))
    }

    #[test]
    fn a_client_is_shown_what_fits_its_name_best_and_what_it_can_verify() {
        let table = table(UnknownName::Default);
        let check = |name: &str, schemes, expected| {
            let name = (name != "-").then_some(name);
            assert_eq!(shown(&table, name, schemes), expected, "{name:?}");
        };
        check("a.example.com", OLD, Some(0));
        check("a.example.com", ED, Some(1));
        check("a.example.com", MODERN, Some(0));
        check("a.example.com.", OLD, Some(0));
        check("a.example.com", RSA, None);
        check("b.example.com", OLD, Some(2));
        check("y.b.example.com", OLD, Some(2));
        check("x.b.example.com", ED, Some(3));
        // The very name does not fit what it can verify; the wildcard does.
        check("x.b.example.com", OLD, Some(2));
        // One label, not two.
        check("z.y.b.example.com", OLD, Some(0));
        check("other.example.com", P384_ONLY, Some(4));
        // Of two of the same kind the first counts, name by name.
        check("late.example.com", OLD, Some(5));
        // No name, an unknown one, an address: the first.
        check("-", OLD, Some(0));
        check("-", ED, Some(1));
        check("nobody.example.com", OLD, Some(0));
        check("10.0.0.1", OLD, Some(0));
        check("com", OLD, Some(0));
        check("-", RSA, None);
    }

    #[test]
    fn an_unknown_name_may_be_refused_and_no_name_is_not() {
        let strict = table(UnknownName::Refuse);
        for (name, known) in [
            (None, true),
            (Some("a.example.com"), true),
            (Some("y.b.example.com"), true),
            (Some("nobody.example.com"), false),
            (Some("z.y.b.example.com"), false),
        ] {
            assert_eq!(strict.knows(name), known, "{name:?}");
            assert_eq!(shown(&strict, name, OLD).is_some(), known, "{name:?}");
        }
        assert!(table(UnknownName::Default).knows(Some("nobody.example.com")));
    }
}
