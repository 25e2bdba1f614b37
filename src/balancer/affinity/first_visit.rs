//! First visits that are drawn alike: a browser opens several connections before it has a cookie, and all of them
//! are to bring it to the same backend, whichever edge they reach.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, Mac};
use http::HeaderValue;
use http::header::USER_AGENT;
use sha2::Sha256;

use super::keyring::Key;
use super::token::prefix;
use super::way::{Shown, with_network};
use crate::balancer::name::AppName;
use crate::balancer::rendezvous;

/// How the backend of a first visit is drawn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FirstVisit {
    /// For as long as this, in whole seconds, all first visits of one client are drawn alike.
    ByClient(Duration),
    /// Each by chance.
    Random,
}

/// Draws first visits alike: by HMAC-SHA256 over the app, the address and the user agent, under a key that derives
/// from the newest secret of the ring. Nobody outside can choose a backend by choosing a user agent.
#[derive(Clone)]
pub(super) struct Alike {
    mac: Hmac<Sha256>,
    epoch_seconds: u64,
}

impl Alike {
    pub(super) fn new(key: &Key, app: &AppName, epoch: Duration) -> Self {
        // A name holds no zero: what follows it is no part of it.
        let mac = key.first_visit.clone().chain_update(app.as_str()).chain_update([0]);
        Self { mac, epoch_seconds: epoch.as_secs().max(1) }
    }

    /// The place of a client at `now` (Unix seconds): another one in each epoch. Epochs begin at another moment for
    /// each client, so that not all change at once.
    pub(super) fn place(&self, shown: &Shown<'_>, now: u64) -> u64 {
        let mut mac = self.mac.clone();
        let mut length = 0;
        if let Some(address) = shown.address {
            with_network(address, |bytes| {
                length = bytes.len();
                mac.update(bytes);
            });
        }
        // The address has one of three lengths, and the agent any: told last, they cannot be confused.
        mac.update(shown.headers.get(USER_AGENT).map_or(b"", HeaderValue::as_bytes));
        mac.update(&[u8::try_from(length).unwrap_or(u8::MAX)]);
        let hash = mac.finalize().into_bytes();
        let client = u64::from_be_bytes(prefix(&hash));
        let offset = u64::from_be_bytes(prefix(&hash[8..])) % self.epoch_seconds;
        let epoch = now.saturating_add(offset) / self.epoch_seconds;
        rendezvous::mix(client ^ rendezvous::mix(epoch))
    }
}

impl fmt::Debug for Alike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Alike({} s, redacted)", self.epoch_seconds)
    }
}
