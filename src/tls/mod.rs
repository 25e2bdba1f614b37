//! TLS of listeners: certificates and whom they are shown, client certificates, session tickets.
//!
//! Knows neither sockets nor the file: what is read elsewhere comes in as bytes, and what comes out is for rustls.

pub mod certificate;
mod chain;
pub mod clients;
pub mod identity;
pub mod key;
pub mod table;
pub mod tally;
pub mod terms;
#[cfg(test)]
pub(crate) mod testing;
pub mod tickets;

use std::fmt;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use sha2::{Digest, Sha256};

/// What rustls computes with, wherever we use it.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A SHA-256 hash by which a certificate is known. `Display` writes it as lower-case hexadecimal.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The hash of a certificate in DER.
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}
