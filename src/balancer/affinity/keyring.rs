//! The secrets that seal tokens (the first) and open them (all).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Shortest secret, in bytes. 32 random bytes as base64url are 43; a passphrase is refused.
pub const SECRET_BYTES_MIN: usize = 32;

/// Most keys a ring holds. A rotation needs two; every further one costs a comparison a request.
pub const KEYS_MAX: usize = 16;

/// The first bytes of every token under a key: derives from the secret itself, so that edges agree
/// on it without naming keys.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyId(pub [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How a key is used. Found again by the id of the key in the next configuration.
#[derive(Debug, Default)]
pub struct KeyUse {
    opens: AtomicU64,
    last: AtomicU64,
}

impl KeyUse {
    /// Counts a pin that was read with the key, at `now` (Unix seconds).
    pub fn note(&self, now: u64) {
        self.opens.fetch_add(1, Ordering::Relaxed);
        // Once a second: to write what all threads read is dear.
        if self.last.load(Ordering::Relaxed) < now {
            self.last.store(now, Ordering::Relaxed);
        }
    }

    /// Adds what another process counted, the last time at `last` (Unix seconds).
    pub fn add(&self, opens: u64, last: u64) {
        self.opens.fetch_add(opens, Ordering::Relaxed);
        self.last.fetch_max(last, Ordering::Relaxed);
    }

    /// Pins that were read with the key.
    pub fn opens(&self) -> u64 {
        self.opens.load(Ordering::Relaxed)
    }

    /// When a pin was last read with it, in Unix seconds; 0: never, as far as is known.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }
}

/// One secret and the keys derived from it. `Debug` shows the id alone.
#[derive(Clone)]
pub struct Key {
    id: KeyId,
    used: Arc<KeyUse>,
    pub(super) mac: Hmac<Sha256>,
    pub(super) encrypt: Hmac<Sha256>,
    /// Draws first visits, where an app wants them drawn alike.
    pub(super) first_visit: Hmac<Sha256>,
    /// Makes the secrets that seal session tickets of TLS.
    tickets: Hmac<Sha256>,
}

impl Key {
    /// Derives the keys from a secret.
    ///
    /// # Errors
    /// When the secret is shorter than [`SECRET_BYTES_MIN`].
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyringError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyringError::ShortSecret);
        }
        let root = keyed(secret);
        let derive = |label: &[u8]| root.clone().chain_update(label).finalize().into_bytes();
        let id = derive(b"homing key id");
        Ok(Self {
            id: KeyId([id[0], id[1], id[2], id[3]]),
            used: Arc::default(),
            mac: keyed(&derive(b"homing token mac")),
            encrypt: keyed(&derive(b"homing token encrypt")),
            first_visit: keyed(&derive(b"homing first visit")),
            tickets: keyed(&derive(b"homing tls tickets")),
        })
    }

    /// The id that every token under this key carries.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The secret that seals session tickets in a period, by its number.
    pub fn ticket_secret(&self, period: u32) -> [u8; 32] {
        self.tickets.clone().chain_update(period.to_be_bytes()).finalize().into_bytes().into()
    }

    /// How it is used.
    pub fn used(&self) -> &Arc<KeyUse> {
        &self.used
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, redacted)", self.id)
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    // INVARIANT: HMAC accepts a key of any length (RFC 2104 §2), so this cannot fail.
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

/// The keys of this edge, newest first.
///
/// Guarantee: a token stays readable as long as the secret that sealed it is listed, wherever in the
/// list; one opened with an older key is sealed anew with the first on the same response.
#[derive(Clone, Debug)]
pub struct Keyring(Box<[Key]>);

impl Keyring {
    /// Makes a ring of keys, newest first.
    ///
    /// # Errors
    /// When there is no key, more than [`KEYS_MAX`], or one of them twice.
    pub fn new(keys: Vec<Key>) -> Result<Self, KeyringError> {
        if keys.is_empty() {
            return Err(KeyringError::NoKey);
        }
        if keys.len() > KEYS_MAX {
            return Err(KeyringError::TooManyKeys);
        }
        for (index, key) in keys.iter().enumerate() {
            if keys[..index].iter().any(|earlier| earlier.id == key.id) {
                return Err(KeyringError::Twice(key.id));
            }
        }
        Ok(Self(keys.into()))
    }

    /// The same keys, with what is known of their use from a ring before.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        for key in &mut self.0 {
            if let Some(same) = before.0.iter().find(|same| same.id == key.id) {
                key.used = Arc::clone(&same.used);
            }
        }
        self
    }

    /// The keys, newest first; never empty.
    pub fn keys(&self) -> &[Key] {
        &self.0
    }
}

/// Why secrets make no keyring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyringError {
    /// There is no key at all.
    NoKey,
    /// A secret is shorter than [`SECRET_BYTES_MIN`].
    ShortSecret,
    /// More than [`KEYS_MAX`] keys.
    TooManyKeys,
    /// The same secret is listed twice.
    Twice(KeyId),
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey => f.write_str("no key to seal with"),
            Self::ShortSecret => {
                write!(f, "expected a secret of at least {SECRET_BYTES_MIN} bytes")
            }
            Self::TooManyKeys => write!(f, "more than {KEYS_MAX} keys"),
            Self::Twice(id) => write!(f, "key {id} is listed twice"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Key {
        Key::from_secret(&[byte; 32]).unwrap()
    }

    #[test]
    fn a_short_secret_makes_no_key() {
        assert_eq!(Key::from_secret(&[7; 31]).unwrap_err(), KeyringError::ShortSecret);
    }

    #[test]
    fn a_ring_refuses_nothing_too_many_and_twins() {
        assert_eq!(Keyring::new(vec![]).unwrap_err(), KeyringError::NoKey);
        assert_eq!(
            Keyring::new(vec![key(1), key(2), key(1)]).unwrap_err(),
            KeyringError::Twice(key(1).id())
        );
        assert_eq!(
            Keyring::new((0..17).map(key).collect()).unwrap_err(),
            KeyringError::TooManyKeys
        );
    }

    #[test]
    fn a_key_never_shows_itself() {
        let shown = format!("{:?}", key(1));
        assert_eq!(shown, format!("Key({}, redacted)", key(1).id()));
    }
}
