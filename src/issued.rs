//! Certificates that an ACME server issued, and our answers to its challenges: `acme/` writes them, handshakes and
//! requests read them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureScheme};

use crate::tls::certificate::{Certificate, Name, names_of};
use crate::tls::table::Table;

/// What the server asks for over HTTP, without TLS since there may be no certificate yet, up to the token (RFC 8555
/// §8.3).
pub const PATH: &str = "/.well-known/acme-challenge/";

/// The protocol that the server asks for over TLS (RFC 8737 §6.2).
pub const PROTOCOL: &[u8] = b"acme-tls/1";

/// What is served, by name, and what the server is answered.
#[derive(Debug, Default)]
pub struct Issued {
    certificates: ArcSwap<BTreeMap<Box<str>, Arc<Own>>>,
    /// There are some only while an order is under way.
    answer: ArcSwapOption<Answer>,
    standings: ArcSwap<Vec<Standing>>,
}

/// A certificate that was issued.
#[derive(Debug)]
pub struct Own {
    certified: Arc<CertifiedKey>,
    names: Vec<Name>,
}

impl Own {
    fn new(certified: Arc<CertifiedKey>) -> Self {
        let names = certified.end_entity_cert().map(|der| names_of(der)).unwrap_or_default();
        Self { certified, names }
    }
}

/// The answer to a challenge.
#[derive(Debug)]
pub enum Answer {
    /// Over HTTP: the key authorization of a token.
    Http {
        /// The token.
        token: Box<str>,
        /// The key authorization, which is the whole body.
        authorization: Box<str>,
    },
    /// Over TLS: a certificate for a name.
    Tls {
        /// The name.
        name: Box<str>,
        /// How it is answered: with a certificate that says the key authorization.
        server: Arc<ServerConfig>,
    },
}

/// How it stands with the certificate of a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Standing {
    /// The name.
    pub name: Box<str>,
    /// When the certificate expires, in Unix seconds; `None`: there is none.
    pub expires: Option<u64>,
    /// When the next one is ordered, in Unix seconds.
    pub next: u64,
    /// Orders that failed since the last one that did not.
    pub failures: u32,
    /// Why the last one failed.
    pub error: Option<Box<str>>,
}

impl Issued {
    /// The certificate of a name, in lower case.
    fn certificate(&self, name: &str) -> Option<Arc<Own>> {
        self.certificates.load().get(name).cloned()
    }

    /// Whether a client that offers these protocols is the server with its challenge: it offers this one alone
    /// (RFC 8737 §3).
    fn is_challenge<'p>(mut offered: impl Iterator<Item = &'p [u8]>) -> bool {
        offered.next() == Some(PROTOCOL) && offered.next().is_none()
    }

    /// The first of these names that has a certificate: for a client that says none.
    fn first(&self, names: &BTreeSet<Box<str>>) -> Option<Arc<Own>> {
        let certificates = self.certificates.load();
        names.iter().find_map(|name| certificates.get(name)).cloned()
    }

    /// How a challenge for a name is answered. A connection with it carries no request.
    fn challenge(&self, name: &str) -> Option<Arc<ServerConfig>> {
        match self.answer.load().as_deref()? {
            Answer::Tls { name: asked, server } if **asked == *name => Some(Arc::clone(server)),
            Answer::Tls { .. } | Answer::Http { .. } => None,
        }
    }

    /// The key authorization that is asked for by a path, if the order that is under way has it.
    pub fn key_authorization(&self, path: &str) -> Option<Box<str>> {
        let asked = path.strip_prefix(PATH)?;
        match self.answer.load().as_deref()? {
            Answer::Http { token, authorization } if **token == *asked => {
                Some(authorization.clone())
            }
            Answer::Http { .. } | Answer::Tls { .. } => None,
        }
    }

    /// How it stands with each name.
    pub fn standings(&self) -> Arc<Vec<Standing>> {
        self.standings.load_full()
    }

    /// Serves these certificates and no others.
    pub fn serve(&self, certificates: BTreeMap<Box<str>, Arc<CertifiedKey>>) {
        let own = |(name, certified)| (name, Arc::new(Own::new(certified)));
        self.certificates.store(Arc::new(certificates.into_iter().map(own).collect()));
    }

    /// Tells how it stands.
    pub fn tell(&self, standings: Vec<Standing>) {
        self.standings.store(Arc::new(standings));
    }

    /// Answers a challenge until what this returns is dropped.
    #[must_use]
    pub fn answer(self: &Arc<Self>, answer: Answer) -> Answering {
        let own = Some(Arc::new(answer));
        self.answer.store(own.clone());
        Answering { issued: Arc::clone(self), own }
    }
}

/// A challenge that is being answered.
#[derive(Debug)]
pub struct Answering {
    issued: Arc<Issued>,
    own: Option<Arc<Answer>>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        // Another one may be answered by now, which goes on.
        self.issued.answer.compare_and_swap(&self.own, None);
    }
}

/// The certificate that a client is shown.
#[derive(Clone, Debug)]
pub enum Chosen {
    /// One that was issued.
    Issued(Arc<Own>),
    /// One of the listener.
    Listed(Arc<Certificate>),
}

impl Chosen {
    /// The names that it is for.
    pub fn names(&self) -> &[Name] {
        match self {
            Self::Issued(own) => &own.names,
            Self::Listed(certificate) => certificate.names(),
        }
    }

    /// What rustls shows and signs with.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        match self {
            Self::Issued(own) => &own.certified,
            Self::Listed(certificate) => certificate.certified(),
        }
    }
}

/// What a listener shows: what was issued for its names, else what it has otherwise.
#[derive(Clone, Debug)]
pub struct Shown {
    issued: Arc<Issued>,
    names: Arc<BTreeSet<Box<str>>>,
    otherwise: Arc<Table>,
}

impl Shown {
    /// For a listener with these names.
    pub fn new(issued: &Arc<Issued>, names: &BTreeSet<Box<str>>, otherwise: &Arc<Table>) -> Self {
        let names = Arc::new(names.clone());
        Self { issued: Arc::clone(issued), names, otherwise: Arc::clone(otherwise) }
    }

    /// How a client is answered that begins like this, if it is the server with its challenge.
    pub fn challenge(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let challenge = Issued::is_challenge(hello.alpn()?);
        challenge.then(|| self.issued.challenge(hello.server_name()?)).flatten()
    }

    /// Whether a certificate was issued for a client that says this name, if any.
    pub fn knows(&self, name: Option<&str>) -> bool {
        self.issued(name).is_some()
    }

    /// What a client is shown that says `name` (in lower case), if it says one, and verifies these signatures.
    pub fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Chosen> {
        let fits = |own: &Arc<Own>| own.certified.key.choose_scheme(schemes).is_some();
        let issued = self.issued(name).filter(fits).map(Chosen::Issued);
        let otherwise = || self.otherwise.choose(name, schemes).cloned().map(Chosen::Listed);
        issued.or_else(otherwise)
    }

    fn issued(&self, name: Option<&str>) -> Option<Arc<Own>> {
        if self.names.is_empty() {
            return None;
        }
        let Some(name) = name else {
            return self.issued.first(&self.names).filter(|_| !self.otherwise.has_default());
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        self.issued.certificate(name).filter(|_| self.names.contains(name))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // For TLS 1.2, rustls left out signatures that no cipher of the client goes with.
        let chosen = self.choose(hello.server_name(), hello.signature_schemes())?;
        Some(Arc::clone(chosen.certified()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::table::UnknownName;
    use crate::tls::testing::{ED25519, P256, certificate};

    #[test]
    fn what_is_shown_is_what_was_issued_and_has_the_names_of_that_alone() {
        const A: &str = "a.example.com";
        let both = [A, "b.example.com"];
        let listed = Arc::new(certificate(&both, P256));
        let names = BTreeSet::from([A.into()]);
        let table =
            |listed: &[Arc<Certificate>]| Arc::new(Table::new(listed, UnknownName::Default));
        let issued = Arc::new(Issued::default());
        let shown = Shown::new(&issued, &names, &table(&[listed]));
        let alone = Shown::new(&issued, &names, &table(&[]));
        let told = |shown: &Shown, name, scheme| {
            let chosen = shown.choose(name, &[scheme])?;
            Some(chosen.names().iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let (ed, p256) = (SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256);
        assert_eq!(told(&shown, Some(A), p256).unwrap(), both);
        assert_eq!(told(&alone, Some(A), p256), None);
        let own = certificate(&[A], ED25519);
        let other = certificate(&["b.example.com"], ED25519);
        issued.serve(BTreeMap::from([
            (A.into(), Arc::clone(own.certified())),
            ("b.example.com".into(), Arc::clone(other.certified())),
        ]));
        assert_eq!(told(&shown, Some(A), ed).unwrap(), [A]);
        assert_eq!(told(&shown, Some("a.example.com."), ed).unwrap(), [A]);
        // What the client cannot verify it is not shown.
        assert_eq!(told(&shown, Some(A), p256).unwrap(), both);
        // Issued, but for another listener.
        assert_eq!(told(&shown, Some("b.example.com"), p256).unwrap(), both);
        assert_eq!(told(&shown, Some("b.example.com"), ed), None);
        // Who says no name is shown the default, if there is one.
        assert_eq!(told(&shown, None, p256).unwrap(), both);
        assert_eq!(told(&alone, None, ed).unwrap(), [A]);
        assert!(alone.knows(None) && alone.knows(Some(A)) && !alone.knows(Some("b.example.com")));
    }

    #[test]
    fn a_token_is_answered_while_its_order_is_under_way_and_no_other_is() {
        let issued = Arc::new(Issued::default());
        let path = format!("{PATH}abc");
        assert_eq!(issued.key_authorization(&path), None);
        let answer = Answer::Http { token: "abc".into(), authorization: "abc.key".into() };
        let answering = issued.answer(answer);
        assert_eq!(issued.key_authorization(&path).as_deref(), Some("abc.key"));
        for other in ["/", PATH, "/.well-known/acme-challenge/abcd", "/abc", ""] {
            assert_eq!(issued.key_authorization(other), None, "{other}");
        }
        assert!(issued.challenge("abc").is_none());
        drop(answering);
        assert_eq!(issued.key_authorization(&path), None);
    }

    #[test]
    fn who_stops_to_answer_stops_no_other_answer() {
        let issued = Arc::new(Issued::default());
        let answer = |token: &str| {
            issued.answer(Answer::Http { token: token.into(), authorization: token.into() })
        };
        let first = answer("a");
        let second = answer("b");
        drop(first);
        let path = format!("{PATH}b");
        assert_eq!(issued.key_authorization(&path).as_deref(), Some("b"));
        drop(second);
        assert_eq!(issued.key_authorization(&path), None);
    }

    #[test]
    fn only_who_offers_nothing_else_asks_a_challenge() {
        let check = |offered: &[&[u8]]| Issued::is_challenge(offered.iter().copied());
        assert!(check(&[PROTOCOL]));
        let others: [&[&[u8]]; 4] = [&[], &[b"h2"], &[PROTOCOL, b"h2"], &[b"http/1.1", PROTOCOL]];
        for none in others {
            assert!(!check(none), "{none:?}");
        }
    }
}
