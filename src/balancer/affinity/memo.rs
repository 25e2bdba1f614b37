//! The cookie that a connection brings with each of its requests, opened once.
//!
//! To open a token takes five blocks of SHA-256, a tenth of what a small request costs where the processor has
//! instructions for it, and a quarter where it has none. A client sends the same token with all requests of a
//! connection, mostly for hours: what was found in it is kept, and its age is checked each time.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use super::token::{Opened, Sealer, TOKEN_CHARS, TokenError};

/// The first token that opened on a connection, and what it says.
///
/// It stays the first one: of a connection that brings the tokens of many clients, or one renewed meanwhile, each
/// other is opened as if nothing was kept.
#[derive(Default)]
pub struct Memo(OnceLock<Box<Kept>>);

struct Kept {
    /// Who opened it: another one has other keys, or is that of another app.
    sealer: Weak<Sealer>,
    text: [u8; TOKEN_CHARS],
    opened: Opened,
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo(redacted)")
    }
}

impl Memo {
    /// Opens a token as `sealer` does, unless that is what it did last.
    ///
    /// # Errors
    /// Those of [`Sealer::open`].
    pub fn open(&self, sealer: &Arc<Sealer>, text: &[u8]) -> Result<Opened, TokenError> {
        let kept = self.0.get().filter(|kept| kept.is_of(sealer, text));
        if let Some(kept) = kept {
            return Ok(kept.opened);
        }
        let opened = sealer.open(text)?;
        if let Ok(text) = text.try_into() {
            self.0.get_or_init(|| Box::new(Kept { sealer: Arc::downgrade(sealer), text, opened }));
        }
        Ok(opened)
    }
}

impl Kept {
    fn is_of(&self, sealer: &Arc<Sealer>, text: &[u8]) -> bool {
        // In constant time, as the seal would be compared: connections of proxies are shared by strangers.
        let differing =
            || self.text.iter().zip(text).fold(0, |so_far, (own, byte)| so_far | (own ^ byte));
        self.sealer.as_ptr() == Arc::as_ptr(sealer) && text.len() == TOKEN_CHARS && differing() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::keyring::{Key, Keyring};
    use super::super::token::{ClientId, Token};
    use super::*;
    use crate::balancer::name::AppName;
    use crate::balancer::testing;

    fn sealer(secret: u8) -> Arc<Sealer> {
        let ring = Keyring::new(vec![Key::from_secret(&[secret; 32]).unwrap()]).unwrap();
        Arc::new(Sealer::new(&ring, "homing-affinity", &AppName::parse("shop").unwrap()))
    }

    fn token(client: u64) -> Token {
        Token { client: ClientId::new(client), ..testing::pin("a").token }
    }

    /// A memo that `sealer` opened the token of client 1 with.
    fn memo(sealer: &Arc<Sealer>) -> Memo {
        let memo = Memo::default();
        let sealed = sealer.seal(&token(1));
        let opened = memo.open(sealer, sealed.as_str().as_bytes()).unwrap();
        assert_eq!(opened.token, token(1));
        memo
    }

    #[test]
    fn what_was_opened_once_is_known_and_the_rest_is_opened() {
        let sealer = sealer(1);
        let memo = memo(&sealer);
        for client in [1, 2, 1] {
            let sealed = sealer.seal(&token(client));
            let opened = memo.open(&sealer, sealed.as_str().as_bytes());
            assert_eq!(opened, sealer.open(sealed.as_str().as_bytes()), "{client}");
            assert_eq!(opened.unwrap().token, token(client));
        }
    }

    #[test]
    fn no_changed_character_opens_because_of_a_memo() {
        let sealer = sealer(1);
        let memo = memo(&sealer);
        let sealed = sealer.seal(&token(1));
        let text = sealed.as_str().as_bytes();
        for place in 0..text.len() {
            let mut changed = text.to_vec();
            changed[place] ^= 1;
            assert!(memo.open(&sealer, &changed).is_err(), "{place}");
        }
        for cut in 0..text.len() {
            assert_eq!(memo.open(&sealer, &text[..cut]), Err(TokenError::Malformed));
        }
        let longer = [text, b"A"].concat();
        assert_eq!(memo.open(&sealer, &longer), Err(TokenError::Malformed));
    }

    #[test]
    fn what_one_sealer_opened_says_nothing_to_another() {
        let (one, other) = (sealer(1), sealer(2));
        let memo = memo(&one);
        let sealed = one.seal(&token(1));
        assert_eq!(memo.open(&other, sealed.as_str().as_bytes()), Err(TokenError::UnknownKey));
    }

    #[test]
    fn a_memo_keeps_no_keys_and_takes_no_new_sealer_for_the_old() {
        let one = sealer(1);
        let memo = memo(&one);
        let text = one.seal(&token(1)).as_str().to_owned();
        let gone = Arc::downgrade(&one);
        drop(one);
        assert!(gone.upgrade().is_none());
        assert_eq!(memo.open(&sealer(2), text.as_bytes()), Err(TokenError::UnknownKey));
    }
}
