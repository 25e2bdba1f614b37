//! Client certificates: who vouches for them, and whether a client must show one.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest, Sha256};

use super::provider;
use super::tickets::Context;

/// Whether a client that shows no certificate is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Demand {
    /// It is. One that cannot be verified fails the handshake all the same.
    Optional,
    /// It is not.
    Required,
}

/// What a listener asks of client certificates.
#[derive(Clone)]
pub struct Clients {
    demand: Demand,
    authorities: usize,
    digest: Context,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Clients {
    /// Verifies against authorities in PEM, and lists of what they revoked, in PEM, if there are any.
    ///
    /// # Errors
    /// When there is no authority, or one of them or a list cannot be read.
    pub fn new(ca: &[u8], crl: Option<&[u8]>, demand: Demand) -> Result<Self, ClientsError> {
        let mut digest = Sha256::new();
        digest.update([u8::from(demand == Demand::Required)]);
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(ca) {
            let authority = authority.map_err(|_| ClientsError::Authority)?;
            digest.update(Sha256::digest(&authority));
            roots.add(authority).map_err(|_| ClientsError::Authority)?;
        }
        let authorities = roots.len();
        if authorities == 0 {
            return Err(ClientsError::NoAuthority);
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let verifier = match crl {
            Some(pem) => {
                let lists: Result<Vec<_>, _> =
                    CertificateRevocationListDer::pem_slice_iter(pem).collect();
                let lists = lists.map_err(|_| ClientsError::List)?;
                if lists.is_empty() {
                    return Err(ClientsError::NoList);
                }
                digest.update(b"lists");
                lists.iter().for_each(|list| digest.update(Sha256::digest(list)));
                // Those between client and root are in the hands of the operator's authority.
                verifier.with_crls(lists).only_check_end_entity_revocation()
            }
            None => verifier,
        };
        let verifier = match demand {
            Demand::Optional => verifier.allow_unauthenticated(),
            Demand::Required => verifier,
        };
        let verifier = verifier.build().map_err(|_| ClientsError::List)?;
        Ok(Self { demand, authorities, digest: digest.finalize().into(), verifier })
    }

    /// Whether a client must show one.
    pub fn demand(&self) -> Demand {
        self.demand
    }

    /// How many authorities are believed.
    pub fn authorities(&self) -> usize {
        self.authorities
    }

    /// What differs when anything differs that is asked of clients.
    pub fn digest(&self) -> Context {
        self.digest
    }

    /// What rustls verifies with.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }
}

impl PartialEq for Clients {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Clients {}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients")
            .field("demand", &self.demand)
            .field("authorities", &self.authorities)
            .finish_non_exhaustive()
    }
}

/// Why client certificates cannot be verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientsError {
    /// There is no authority in the file.
    NoAuthority,
    /// An authority cannot be read.
    Authority,
    /// There is no list in the file.
    NoList,
    /// A list cannot be read.
    List,
}

impl fmt::Display for ClientsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAuthority => "there is no certificate in it",
            Self::Authority => "a certificate in it cannot be read",
            Self::NoList => "there is no list in it",
            Self::List => "a list in it cannot be read",
        })
    }
}

impl std::error::Error for ClientsError {}

impl ClientsError {
    /// Whether the file of revocations is at fault.
    pub fn is_of_list(self) -> bool {
        match self {
            Self::NoList | Self::List => true,
            Self::NoAuthority | Self::Authority => false,
        }
    }

    /// The way out.
    pub fn help(self) -> &'static str {
        match self {
            Self::NoAuthority | Self::Authority => {
                "the file has to hold the authorities that issue client certificates, in PEM"
            }
            Self::NoList | Self::List => {
                "the file has to hold lists in PEM (`-----BEGIN X509 CRL-----`); openssl crl -inform der -in FILE makes one of DER"
            }
        }
    }
}
