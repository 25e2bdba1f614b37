//! Session tickets that survive restarts and are good at every edge with the same affinity keys.
//!
//! A ticket is sealed (ChaCha20-Poly1305) with a key that derives from an affinity key and from the half of the day:
//! nothing has to be kept or agreed upon. The first affinity key seals, all open. What a listener asks of client
//! certificates is authenticated with it: rustls resumes whatever opens, so that a ticket from where no certificate
//! is asked for would else do instead of one.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use crate::balancer::affinity::keyring::{Key, Keyring};

/// How long a key seals, in seconds. It opens for as long again, so that every ticket is good for this long at least;
/// nginx and rustls take the same.
pub const PERIOD_SECONDS: u64 = 12 * 3600;

/// Longest ticket that is looked at, in bytes. One holds the client's certificates, if it showed any.
const TICKET_BYTES_MAX: usize = 32 << 10;

/// Key id, and number of the period.
const HEAD_BYTES: usize = 4 + 4;

/// What a ticket is good for, besides the name that rustls compares: authenticated, not stored.
pub type Context = [u8; 32];

/// Seals the state of a session at `now` (Unix seconds). `None`: there is no randomness to be had.
pub fn seal(ring: &Keyring, context: &Context, now: u64, state: &[u8]) -> Option<Vec<u8>> {
    let key = ring.keys().first()?;
    let period = period(now)?;
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).ok()?;
    let head = head(key, period);
    let mut ticket =
        Vec::with_capacity(HEAD_BYTES + NONCE_LEN + state.len() + CHACHA20_POLY1305.tag_len());
    ticket.extend_from_slice(&head);
    ticket.extend_from_slice(&nonce);
    ticket.extend_from_slice(state);
    let body = &mut ticket[HEAD_BYTES + NONCE_LEN..];
    let tag = aead(key, period)?
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad(&head, context), body)
        .ok()?;
    ticket.extend_from_slice(tag.as_ref());
    Some(ticket)
}

/// Opens a ticket at `now` (Unix seconds), unless it is none of ours, too old, or from elsewhere.
pub fn open(ring: &Keyring, context: &Context, now: u64, ticket: &[u8]) -> Option<Vec<u8>> {
    if ticket.len() > TICKET_BYTES_MAX {
        return None;
    }
    let (head, rest) = ticket.split_first_chunk::<HEAD_BYTES>()?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
    let (id, number) = head.split_first_chunk::<4>()?;
    let sealed_in = u32::from_be_bytes(number.try_into().ok()?);
    let age = i64::from(period(now)?) - i64::from(sealed_in);
    // One period ahead: clocks of edges differ.
    if !(-1..=1).contains(&age) {
        return None;
    }
    let key = ring.keys().iter().find(|key| key.id().0 == *id)?;
    let mut state = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let opened = aead(key, sealed_in)?.open_in_place(nonce, aad(head, context), &mut state).ok()?;
    let length = opened.len();
    state.truncate(length);
    Some(state)
}

/// Whether a session is one of TLS 1.3, by its state as rustls writes it: whether there is a name, the name, and the
/// version.
/// In TLS 1.3 a ticket opens no record that was sent before it (RFC 8446 §4.6.1). In TLS 1.2 it holds what opens all
/// of them, so that it must not be sealed with a key that lasts. What cannot be read is taken for the latter.
pub fn is_of_tls13(state: &[u8]) -> bool {
    let version = match state {
        [0, rest @ ..] => rest.first_chunk(),
        [1, length, rest @ ..] => {
            rest.get(usize::from(*length)..).and_then(|rest| rest.first_chunk())
        }
        _ => None,
    };
    version.map(|bytes| u16::from_be_bytes(*bytes)) == Some(0x0304)
}

fn period(now: u64) -> Option<u32> {
    u32::try_from(now / PERIOD_SECONDS).ok()
}

fn head(key: &Key, period: u32) -> [u8; HEAD_BYTES] {
    let ([a, b, c, d], [e, f, g, h]) = (key.id().0, period.to_be_bytes());
    [a, b, c, d, e, f, g, h]
}

fn aad(head: &[u8; HEAD_BYTES], context: &Context) -> Aad<[u8; HEAD_BYTES + 32]> {
    let mut all = [0; HEAD_BYTES + 32];
    all[..HEAD_BYTES].copy_from_slice(head);
    all[HEAD_BYTES..].copy_from_slice(context);
    Aad::from(all)
}

fn aead(key: &Key, period: u32) -> Option<LessSafeKey> {
    let secret = key.ticket_secret(period);
    Some(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &secret).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 100 * PERIOD_SECONDS + 1;
    const HERE: Context = [1; 32];

    fn ring(secrets: &[u8]) -> Keyring {
        Keyring::new(secrets.iter().map(|byte| Key::from_secret(&[*byte; 32]).unwrap()).collect())
            .unwrap()
    }

    #[test]
    fn a_ticket_opens_with_its_key_until_the_next_period_is_over() {
        let ticket = seal(&ring(&[1]), &HERE, NOW, b"state").unwrap();
        let opened = |now| open(&ring(&[1]), &HERE, now, &ticket);
        assert_eq!(opened(NOW).as_deref(), Some(&b"state"[..]));
        assert_eq!(opened(NOW + 2 * PERIOD_SECONDS - 2).as_deref(), Some(&b"state"[..]));
        assert_eq!(opened(NOW + 2 * PERIOD_SECONDS), None);
        assert_eq!(opened(NOW - PERIOD_SECONDS).as_deref(), Some(&b"state"[..]));
        assert_eq!(opened(NOW - 2 * PERIOD_SECONDS), None);
    }

    #[test]
    fn every_listed_key_opens_and_the_first_seals() {
        let old = seal(&ring(&[1]), &HERE, NOW, b"state").unwrap();
        assert!(open(&ring(&[2, 1]), &HERE, NOW, &old).is_some());
        assert!(open(&ring(&[2]), &HERE, NOW, &old).is_none());
        let new = seal(&ring(&[2, 1]), &HERE, NOW, b"state").unwrap();
        assert!(open(&ring(&[1]), &HERE, NOW, &new).is_none());
    }

    #[test]
    fn a_ticket_is_no_good_where_other_client_certificates_are_asked_for() {
        let ticket = seal(&ring(&[1]), &HERE, NOW, b"state").unwrap();
        assert!(open(&ring(&[1]), &[2; 32], NOW, &ticket).is_none());
    }

    #[test]
    fn no_byte_of_a_ticket_may_differ() {
        let ticket = seal(&ring(&[1]), &HERE, NOW, b"state").unwrap();
        for place in 0..ticket.len() {
            let mut other = ticket.clone();
            other[place] ^= 1;
            assert_eq!(open(&ring(&[1]), &HERE, NOW, &other), None, "byte {place}");
        }
        for length in 0..ticket.len() {
            assert_eq!(open(&ring(&[1]), &HERE, NOW, &ticket[..length]), None, "{length} bytes");
        }
        assert_eq!(open(&ring(&[1]), &HERE, NOW, &[0; TICKET_BYTES_MAX + 1]), None);
    }

    #[test]
    fn only_a_session_that_is_surely_one_of_tls_1_3_is_taken_for_one() {
        for state in [&[0, 3, 4, 19, 1][..], &[1, 2, b'a', b'b', 3, 4, 19, 1]] {
            assert!(is_of_tls13(state));
        }
        for state in [
            &[0, 3, 3, 192, 43][..],
            &[1, 2, b'a', b'b', 3, 3],
            &[1, 9, 3, 4],
            &[2, 3, 4],
            &[0, 3],
            &[],
        ] {
            assert!(!is_of_tls13(state), "{state:?}");
        }
    }

    #[test]
    fn two_tickets_of_one_state_have_nothing_in_common_but_their_key() {
        let (one, other) =
            (seal(&ring(&[1]), &HERE, NOW, b"state"), seal(&ring(&[1]), &HERE, NOW, b"state"));
        assert_ne!(one.unwrap()[HEAD_BYTES..], other.unwrap()[HEAD_BYTES..]);
    }
}
