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

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Uri};

    use super::*;

    const SECONDS: u64 = 10;

    fn alike(key: u8, app: &str) -> Alike {
        let key = Key::from_secret(&[key; 32]).unwrap();
        let epoch = Duration::from_secs(SECONDS);
        Alike::new(&key, &AppName::parse(app).unwrap(), epoch)
    }

    fn place(alike: &Alike, address: &str, agent: &str, now: u64) -> u64 {
        let mut headers = HeaderMap::new();
        if !agent.is_empty() {
            headers.insert(USER_AGENT, HeaderValue::from_str(agent).unwrap());
        }
        let uri = Uri::from_static("/");
        let address = address.parse().ok();
        alike.place(&Shown { headers: &headers, uri: &uri, address, memo: None }, now)
    }

    #[test]
    fn a_client_is_its_address_and_its_user_agent_at_an_app_under_a_key() {
        let at = |key, app, address, agent| place(&alike(key, app), address, agent, 1000);
        let one = at(1, "shop", "192.0.2.1", "Firefox");
        assert_eq!(one, at(1, "shop", "192.0.2.1", "Firefox"));
        let others = [
            at(2, "shop", "192.0.2.1", "Firefox"),
            at(1, "blog", "192.0.2.1", "Firefox"),
            at(1, "shop", "192.0.2.2", "Firefox"),
            at(1, "shop", "192.0.2.1", "Chrome"),
            at(1, "shop", "192.0.2.1", ""),
            at(1, "shop", "", "Firefox"),
            // Bytes of the address are none of the agent.
            at(1, "shop", "32.32.32.32", "Firefox"),
            at(1, "shop", "", "    Firefox"),
        ];
        let distinct: std::collections::BTreeSet<u64> = others.into_iter().chain([one]).collect();
        assert_eq!(distinct.len(), others.len() + 1);
    }

    #[test]
    fn epochs_are_of_one_length_and_begin_at_another_moment_for_each_client() {
        let alike = alike(1, "shop");
        let mut begins = [0; SECONDS as usize];
        for client in 0..500 {
            let address = format!("10.0.{}.{}", client / 250, client % 250);
            let at = |now| place(&alike, &address, "Firefox", now);
            let changes: Vec<u64> = (1001..1041).filter(|now| at(now - 1) != at(*now)).collect();
            assert!(changes.windows(2).all(|pair| pair[1] - pair[0] == SECONDS), "{changes:?}");
            assert_eq!(changes.len(), 4, "{changes:?}");
            begins[usize::try_from(changes[0] % SECONDS).unwrap()] += 1;
        }
        assert!(begins.iter().all(|count| (20..90).contains(count)), "{begins:?}");
    }
}
