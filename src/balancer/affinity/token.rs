//! The sealed value of a pin.
//!
//! A token names *who* (app, backend id, incarnation), never *where*. It is sealed with HMAC-SHA256
//! alone, as a synthetic-IV construction (Rogaway and Shrimpton, *Deterministic
//! Authenticated-Encryption*, 2006; cf. RFC 5297) with HMAC as both pseudo-random functions:
//!
//! ```text
//! tag        = first 16 bytes of HMAC(K_mac, context ‖ header ‖ plaintext)
//! ciphertext = plaintext XOR first 27 bytes of HMAC(K_enc, tag)
//! token      = base64url(header ‖ tag ‖ ciphertext), 64 characters, no padding
//!
//! context    = "homing token 1" ‖ len(cookie name) ‖ cookie name ‖ len(app) ‖ app    (lengths: one byte)
//! header     = version (1 byte, 1) ‖ key id (4 bytes)
//! plaintext  = client (6) ‖ notes (1) ‖ issued (4) ‖ renewed (4) ‖ backend (8) ‖ incarnation (4)
//! ```
//!
//! Numbers are big endian; times are Unix seconds. The client is a random number that it keeps for as long as
//! it has a pin, wherever that leads; it is the nonce as well. Integrity, and nothing readable: neither names nor
//! the number of backends, nor whether two clients share one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use rand::Rng;
use sha2::{Digest, Sha256};

use super::keyring::{Key, KeyId, KeyUse, Keyring};
use crate::balancer::name::{AppName, BackendId, Incarnation};
use crate::balancer::rendezvous;

/// Length of every token, in characters.
pub const TOKEN_CHARS: usize = 64;

/// How far the clocks of two edges may lie apart, in seconds, before a token expires early or late.
pub const SKEW_SECONDS: u64 = 60;

const VERSION: u8 = 1;
const HEADER: usize = 5;
const TAG: usize = 16;
const CLIENT: usize = 6;
const WORDS: usize = CLIENT + 1;
const PLAINTEXT: usize = WORDS + 4 + 4 + 8 + 4;
const SEALED: usize = HEADER + TAG + PLAINTEXT;

/// What stands for a backend in a token: a hash of its id.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BackendHash(pub u64);

impl BackendHash {
    /// The first 8 bytes of SHA-256 over the id.
    pub fn of(id: &BackendId) -> Self {
        Self::of_text(id.as_str())
    }

    /// The same of a text that may be no id, and then is that of no backend.
    pub(super) fn of_text(text: &str) -> Self {
        Self(u64::from_be_bytes(prefix(&Sha256::digest(text.as_bytes()))))
    }
}

/// What stands for an incarnation in a token; zero when the backend has none.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct IncarnationHash(pub u32);

impl IncarnationHash {
    /// The first 4 bytes of SHA-256 over the incarnation.
    pub fn of(incarnation: Option<&Incarnation>) -> Self {
        let hash = |text: &Incarnation| prefix(&Sha256::digest(text.as_str().as_bytes()));
        Self(incarnation.map_or(0, |text| u32::from_be_bytes(hash(text))))
    }
}

pub(super) fn prefix<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut head = [0; N];
    head.copy_from_slice(&bytes[..N]);
    head
}

/// A client, as long as it has a pin: 48 random bits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClientId(u64);

impl ClientId {
    /// The number, less what is beyond 48 bits.
    pub fn new(number: u64) -> Self {
        Self(number & ((1 << (8 * CLIENT)) - 1))
    }

    /// Somebody new.
    pub fn draw(rng: &mut impl Rng) -> Self {
        Self::new(rng.next_u64())
    }

    /// 64 uniform bits that stand for the client in hashes.
    pub fn mark(self) -> u64 {
        rendezvous::mix(self.0)
    }
}

/// What a token says beside where it leads.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Notes {
    /// The app said that the client may be moved, and nothing happened since.
    pub may_move: bool,
    /// The pin was made to even out load; it is left alone for a while.
    pub rebalanced: bool,
}

impl Notes {
    const MAY_MOVE: u8 = 1;
    const REBALANCED: u8 = 2;

    fn byte(self) -> u8 {
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        bit(self.may_move, Self::MAY_MOVE) | bit(self.rebalanced, Self::REBALANCED)
    }

    fn of(byte: u8) -> Self {
        let has = |bit: u8| byte & bit != 0;
        Self { may_move: has(Self::MAY_MOVE), rebalanced: has(Self::REBALANCED) }
    }
}

/// What a token says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Token {
    /// Who was pinned.
    pub client: ClientId,
    /// What else is to be remembered of the pin.
    pub notes: Notes,
    /// The backend the client is pinned to.
    pub backend: BackendHash,
    /// The run of that backend the client was pinned to.
    pub incarnation: IncarnationHash,
    /// When the pin was made, in Unix seconds.
    pub issued: u32,
    /// When the token was last sealed, in Unix seconds.
    pub renewed: u32,
}

impl Token {
    /// Whether the token outlived its limits at `now` (Unix seconds).
    ///
    /// Honoured up to and including `renewed + idle` and `issued + lifetime`, and [`SKEW_SECONDS`]
    /// longer, for the clock of the edge that sealed it. A time in the future counts as now: only a
    /// key holder can write one, and a clock set back must not cost sessions.
    ///
    /// # Errors
    /// `ExpiredLifetime` before `ExpiredIdle`.
    pub fn check_age(&self, now: u64, limits: &Limits) -> Result<(), TokenError> {
        if limits.lifetime.is_some_and(|lifetime| self.is_older_than(lifetime, now)) {
            return Err(TokenError::ExpiredLifetime);
        }
        if outlived(self.renewed, limits.idle, now) {
            return Err(TokenError::ExpiredIdle);
        }
        Ok(())
    }

    /// How long ago the pin was made, in seconds at `now` (Unix seconds).
    pub fn age_at(&self, now: u64) -> u32 {
        seconds(now).saturating_sub(self.issued)
    }

    /// Whether its pin was made longer than `limit` before `now` (Unix seconds), and [`SKEW_SECONDS`] more.
    pub fn is_older_than(&self, limit: Duration, now: u64) -> bool {
        outlived(self.issued, limit, now)
    }

    /// Whether the token should be sealed anew at `now` (Unix seconds): it is as old as `renewal`, or it comes
    /// from further in the future than clocks lie apart.
    pub fn renewal_is_due(&self, now: u64, renewal: Duration) -> bool {
        let renewed = u64::from(self.renewed);
        let from_the_future = renewed > now.saturating_add(SKEW_SECONDS);
        from_the_future || now.saturating_sub(renewed) >= renewal.as_secs().max(1)
    }

    /// The same pin, renewed at `now`. What the app said of it does not hold any longer.
    #[must_use]
    pub fn renewed_at(self, now: u64) -> Self {
        let now = seconds(now);
        let notes = Notes { may_move: false, ..self.notes };
        Self { issued: self.issued.min(now), renewed: now, notes, ..self }
    }
}

/// Whether `limit` and [`SKEW_SECONDS`] passed from `since` to `now`, both in Unix seconds.
fn outlived(since: u32, limit: Duration, now: u64) -> bool {
    now.saturating_sub(u64::from(since)) > limit.as_secs().saturating_add(SKEW_SECONDS)
}

/// How long a pin lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// How long a pin is kept without use.
    pub idle: Duration,
    /// How long a pin is kept at all; `None`: as long as it is used.
    pub lifetime: Option<Duration>,
}

/// Why a token was not honoured. None of these is the client's fault for sure: the token may come
/// from another edge, from before a change of keys, or from a neighbour on the same domain.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum TokenError {
    /// Nobody used it for longer than [`Limits::idle`].
    ExpiredIdle,
    /// The pin is older than [`Limits::lifetime`].
    ExpiredLifetime,
    /// The key is ours, the seal is not.
    Forged,
    /// Not 64 characters of base64url, or of another version.
    Malformed,
    /// Sealed with a key that is not on the ring.
    UnknownKey,
    /// Sealed by us, for another app on the same domain.
    WrongApp,
}

/// A token that opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Opened {
    /// What it says.
    pub token: Token,
    /// The key that sealed it.
    pub key: KeyId,
    /// Whether that is the key that seals now.
    pub newest_key: bool,
}

/// Seals and opens the tokens of one app: the keyring, bound to the app's name and cookie name.
#[derive(Clone)]
pub struct Sealer(Box<[BoundKey]>);

#[derive(Clone)]
struct BoundKey {
    id: KeyId,
    used: Arc<KeyUse>,
    /// HMAC under K_mac that has read the context and the header already.
    mac: Hmac<Sha256>,
    encrypt: Hmac<Sha256>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| key.id)).finish()
    }
}

impl Sealer {
    /// Binds a keyring to an app and the name of its cookie.
    pub fn new(keyring: &Keyring, cookie: &str, app: &AppName) -> Self {
        let bind = |key: &Key| {
            let mut mac = key.mac.clone();
            mac.update(b"homing token 1");
            for word in [cookie.as_bytes(), app.as_str().as_bytes()] {
                mac.update(&[u8::try_from(word.len()).unwrap_or(u8::MAX)]);
                mac.update(word);
            }
            mac.update(&header(key.id()));
            BoundKey {
                id: key.id(),
                used: Arc::clone(key.used()),
                mac,
                encrypt: key.encrypt.clone(),
            }
        };
        Self(keyring.keys().iter().map(bind).collect())
    }

    /// Seals a token with the newest key. The same token gives the same text.
    pub fn seal(&self, token: &Token) -> Sealed {
        let mut plaintext = [0; PLAINTEXT];
        plaintext[..CLIENT].copy_from_slice(&token.client.0.to_be_bytes()[2..]);
        plaintext[CLIENT] = token.notes.byte();
        let words = &mut plaintext[WORDS..];
        words[..4].copy_from_slice(&token.issued.to_be_bytes());
        words[4..8].copy_from_slice(&token.renewed.to_be_bytes());
        words[8..16].copy_from_slice(&token.backend.0.to_be_bytes());
        words[16..].copy_from_slice(&token.incarnation.0.to_be_bytes());
        self.0[0].seal(plaintext)
    }

    /// Counts that a pin was read with this key, at `now` (Unix seconds).
    pub fn note_use(&self, key: KeyId, now: u64) {
        if let Some(key) = self.0.iter().find(|own| own.id == key) {
            key.used.note(now);
        }
    }

    /// Opens a token that a client presented. Says nothing about its age; see [`Token::check_age`].
    ///
    /// # Errors
    /// `Malformed`, `UnknownKey`, `Forged`, in the order they are checked.
    pub fn open(&self, text: &[u8]) -> Result<Opened, TokenError> {
        let sealed = decode(text)?;
        let place = self.0.iter().position(|key| key.id.0 == sealed[1..HEADER]);
        let index = place.ok_or(TokenError::UnknownKey)?;
        let token = self.0[index].open(&sealed)?;
        Ok(Opened { token, key: self.0[index].id, newest_key: index == 0 })
    }
}

impl BoundKey {
    fn seal(&self, plaintext: [u8; PLAINTEXT]) -> Sealed {
        let tag = self.mac.clone().chain_update(plaintext).finalize().into_bytes();
        let mut sealed = [0; SEALED];
        sealed[..HEADER].copy_from_slice(&header(self.id));
        sealed[HEADER..HEADER + TAG].copy_from_slice(&tag[..TAG]);
        sealed[HEADER + TAG..].copy_from_slice(&plaintext);
        self.apply_keystream(&mut sealed);
        let mut text = [0; TOKEN_CHARS];
        let written = URL_SAFE_NO_PAD.encode_slice(sealed, &mut text);
        debug_assert_eq!(written, Ok(TOKEN_CHARS), "48 bytes are 64 characters");
        Sealed { text }
    }

    fn open(&self, sealed: &[u8; SEALED]) -> Result<Token, TokenError> {
        let mut opened = *sealed;
        self.apply_keystream(&mut opened);
        let plaintext = &opened[HEADER + TAG..];
        self.mac
            .clone()
            .chain_update(plaintext)
            // Compares in constant time.
            .verify_truncated_left(&opened[HEADER..HEADER + TAG])
            .map_err(|_| TokenError::Forged)?;
        let mut client = [0; 8];
        client[2..].copy_from_slice(&plaintext[..CLIENT]);
        let words = &plaintext[WORDS..];
        Ok(Token {
            client: ClientId(u64::from_be_bytes(client)),
            notes: Notes::of(plaintext[CLIENT]),
            issued: u32::from_be_bytes(prefix(words)),
            renewed: u32::from_be_bytes(prefix(&words[4..])),
            backend: BackendHash(u64::from_be_bytes(prefix(&words[8..]))),
            incarnation: IncarnationHash(u32::from_be_bytes(prefix(&words[16..]))),
        })
    }

    fn apply_keystream(&self, sealed: &mut [u8; SEALED]) {
        let stream = self.encrypt.clone().chain_update(&sealed[HEADER..HEADER + TAG]).finalize();
        for (byte, key) in sealed[HEADER + TAG..].iter_mut().zip(stream.into_bytes()) {
            *byte ^= key;
        }
    }
}

/// A sealed token as the client gets it.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Sealed {
    text: [u8; TOKEN_CHARS],
}

impl Sealed {
    /// The characters.
    pub fn as_str(&self) -> &str {
        // INVARIANT: base64url is ASCII.
        std::str::from_utf8(&self.text).unwrap_or_default()
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(redacted)")
    }
}

fn header(id: KeyId) -> [u8; HEADER] {
    [VERSION, id.0[0], id.0[1], id.0[2], id.0[3]]
}

fn decode(text: &[u8]) -> Result<[u8; SEALED], TokenError> {
    if text.len() != TOKEN_CHARS {
        return Err(TokenError::Malformed);
    }
    let mut sealed = [0; SEALED];
    match URL_SAFE_NO_PAD.decode_slice(text, &mut sealed) {
        Ok(SEALED) if sealed[0] == VERSION => Ok(sealed),
        Ok(_) | Err(_) => Err(TokenError::Malformed),
    }
}

/// Unix seconds as a token holds them: enough until 2106.
pub fn seconds(now: u64) -> u32 {
    u32::try_from(now).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    const HOUR: u64 = 3600;
    const LIMITS: Limits = Limits {
        idle: Duration::from_secs(24 * HOUR),
        lifetime: Some(Duration::from_secs(48 * HOUR)),
    };

    const RENEWAL: Duration = Duration::from_secs(6 * HOUR);

    fn ring(secrets: &[u8]) -> Keyring {
        Keyring::new(secrets.iter().map(|byte| Key::from_secret(&[*byte; 32]).unwrap()).collect())
            .unwrap()
    }

    fn sealer(secrets: &[u8]) -> Sealer {
        Sealer::new(&ring(secrets), "homing-affinity", &AppName::parse("shop").unwrap())
    }

    fn token() -> Token {
        Token {
            client: ClientId::new(7),
            notes: Notes::default(),
            backend: BackendHash::of(&BackendId::parse("web.1").unwrap()),
            incarnation: IncarnationHash::of(None),
            issued: 1_000_000,
            renewed: 1_000_000,
        }
    }

    /// The token of one client or another.
    fn seal(sealer: &Sealer, seed: u64) -> Sealed {
        let client = ClientId::draw(&mut SmallRng::seed_from_u64(seed));
        sealer.seal(&Token { client, ..token() })
    }

    #[test]
    fn any_listed_key_opens_and_the_first_seals() {
        let old = seal(&sealer(&[1]), 0);
        let rotated = sealer(&[2, 1]);
        let opened = rotated.open(old.as_str().as_bytes()).unwrap();
        assert_eq!(Token { client: token().client, ..opened.token }, token());
        assert!(!opened.newest_key);
        assert!(rotated.open(seal(&rotated, 0).as_str().as_bytes()).unwrap().newest_key);
        assert_eq!(sealer(&[2]).open(old.as_str().as_bytes()), Err(TokenError::UnknownKey));
    }

    #[test]
    fn a_client_keeps_its_mark_through_a_renewal_and_marks_spread_evenly() {
        let sealer = sealer(&[1, 2]);
        let mark = |seed| {
            let client = ClientId::draw(&mut SmallRng::seed_from_u64(seed));
            let renewed = Token { client, ..token() }.renewed_at(1_000_777);
            let opened = sealer.open(sealer.seal(&renewed).as_str().as_bytes()).unwrap();
            assert_eq!(opened.token.client, client);
            opened.token.client.mark()
        };
        let low = (0..1000).filter(|seed| mark(*seed) < u64::MAX / 4).count();
        assert!((180..320).contains(&low), "{low}");
    }

    #[test]
    fn a_token_is_bound_to_its_app_and_to_the_name_of_its_cookie() {
        let sealed = seal(&sealer(&[1]), 0);
        for (cookie, app) in
            [("homing-affinity", "blog"), ("other", "shop"), ("homing-affinityshop", "x")]
        {
            let other = Sealer::new(&ring(&[1]), cookie, &AppName::parse(app).unwrap());
            assert_eq!(other.open(sealed.as_str().as_bytes()), Err(TokenError::Forged));
        }
    }

    #[test]
    fn tokens_of_two_clients_of_a_backend_share_nothing_but_the_key_id() {
        let (one, two) = (seal(&sealer(&[1]), 1), seal(&sealer(&[1]), 2));
        let differing =
            one.as_str().bytes().zip(two.as_str().bytes()).skip(7).filter(|(a, b)| a != b);
        assert!(differing.count() > 45);
    }

    #[test]
    fn a_pin_lives_its_idle_time_and_a_minute_of_skew() {
        let check = |age| token().check_age(1_000_000 + age, &LIMITS);
        assert_eq!(check(24 * HOUR + 60), Ok(()));
        assert_eq!(check(24 * HOUR + 61), Err(TokenError::ExpiredIdle));
        assert_eq!(check(48 * HOUR + 61), Err(TokenError::ExpiredLifetime));
    }

    #[test]
    fn a_clock_set_back_costs_no_pin_but_renews_it() {
        assert_eq!(token().check_age(5, &LIMITS), Ok(()));
        assert!(token().renewal_is_due(5, RENEWAL));
        let renewed = token().renewed_at(5);
        assert_eq!((renewed.issued, renewed.renewed), (5, 5));
    }

    #[test]
    fn a_token_is_sealed_anew_when_its_time_is_over() {
        assert!(!token().renewal_is_due(1_000_000 + 6 * HOUR - 1, RENEWAL));
        assert!(token().renewal_is_due(1_000_000 + 6 * HOUR, RENEWAL));
        assert_eq!(token().renewed_at(1_000_777).issued, 1_000_000);
    }

    /// Made by tests/token_vectors.py, which shares no code with this file.
    #[test]
    fn vectors_of_an_independent_implementation_hold() {
        let vectors = include_str!("../../../tests/token_vectors.txt");
        let mut count = 0;
        for line in vectors.lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            let [secret, cookie, app, client, notes, backend, incarnation, issued, renewed, sealed] =
                words[..]
            else {
                panic!("a vector has ten words: {line}");
            };
            let key = Key::from_secret(secret.as_bytes()).unwrap();
            let sealer = Sealer::new(
                &Keyring::new(vec![key]).unwrap(),
                cookie,
                &AppName::parse(app).unwrap(),
            );
            let incarnation =
                (incarnation != "-").then(|| Incarnation::parse(incarnation).unwrap());
            let expected = Token {
                client: ClientId::new(client.parse().unwrap()),
                notes: Notes::of(notes.parse().unwrap()),
                backend: BackendHash::of(&BackendId::parse(backend).unwrap()),
                incarnation: IncarnationHash::of(incarnation.as_ref()),
                issued: issued.parse().unwrap(),
                renewed: renewed.parse().unwrap(),
            };
            assert_eq!(sealer.open(sealed.as_bytes()).unwrap().token, expected);
            count += 1;
        }
        assert_eq!(count, 20);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_was_sealed_opens_to_itself(
            client: u64, notes in 0..4_u8, issued: u32, renewed: u32, backend: u64, incarnation: u32,
        ) {
            let token = Token {
                client: ClientId::new(client),
                notes: Notes::of(notes),
                backend: BackendHash(backend),
                incarnation: IncarnationHash(incarnation),
                issued,
                renewed,
            };
            let sealer = sealer(&[1, 2]);
            let sealed = sealer.seal(&token);
            prop_assert_eq!(sealer.open(sealed.as_str().as_bytes()).unwrap().token, token);
        }

        #[test]
        fn no_changed_character_opens(seed: u64, place in 0..TOKEN_CHARS, byte: u8) {
            let sealer = sealer(&[1]);
            let sealed = seal(&sealer, seed);
            let mut text = sealed.as_str().as_bytes().to_vec();
            prop_assume!(text[place] != byte);
            text[place] = byte;
            prop_assert!(sealer.open(&text).is_err());
        }

        #[test]
        fn no_cut_or_foreign_text_opens(text in prop::collection::vec(any::<u8>(), 0..200), cut in 0..TOKEN_CHARS) {
            let sealer = sealer(&[1]);
            prop_assert!(sealer.open(&text).is_err());
            prop_assert!(sealer.open(&seal(&sealer, 0).as_str().as_bytes()[..cut]).is_err());
        }
    }
}
