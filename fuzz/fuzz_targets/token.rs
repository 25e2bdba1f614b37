//! Any value of our cookie: only what was sealed opens, and says what was sealed.

#![no_main]

use std::sync::LazyLock;

use homing::balancer::affinity::keyring::{Key, Keyring};
use homing::balancer::affinity::token::{
    BackendHash, ClientId, IncarnationHash, Notes, Sealer, Token,
};
use homing::balancer::name::AppName;
use libfuzzer_sys::fuzz_target;

static SEALER: LazyLock<Sealer> = LazyLock::new(|| {
    let key = |secret: &[u8]| Key::from_secret(secret).expect("a secret that is long enough");
    let keys = vec![
        key(b"the first of two secrets, long enough"),
        key(b"the second of two secrets, long enough"),
    ];
    let keyring = Keyring::new(keys).expect("two keys that differ");
    Sealer::new(&keyring, "homing-affinity", &AppName::parse("shop").expect("a name"))
});

/// A number of the bytes from `at` on.
fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.iter().skip(at).take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fuzz_target!(|bytes: &[u8]| {
    let narrow = |number: u64| (number & u64::from(u32::MAX)) as u32;
    // Nobody guesses a tag of 128 bits. What a run before this one sealed may come back, and is nothing else then.
    if let Ok(opened) = SEALER.open(bytes) {
        assert_eq!(SEALER.seal(&opened.token).as_str().as_bytes(), bytes);
    }
    let token = Token {
        client: ClientId::new(number(bytes, 0)),
        notes: Notes {
            may_move: bytes.first().is_some_and(|byte| byte & 1 != 0),
            rebalanced: bytes.len() % 2 == 0,
        },
        backend: BackendHash(number(bytes, 8)),
        incarnation: IncarnationHash(narrow(number(bytes, 16))),
        issued: narrow(number(bytes, 20)),
        renewed: narrow(number(bytes, 24)),
    };
    let sealed = SEALER.seal(&token);
    let opened = SEALER.open(sealed.as_str().as_bytes()).expect("what we sealed opens");
    assert_eq!(opened.token, token);
    // Spoiled at one place by the input.
    let mut spoiled = sealed.as_str().as_bytes().to_vec();
    if let [place, byte, ..] = bytes {
        let place = usize::from(*place) % spoiled.len();
        spoiled[place] = *byte;
        if spoiled != sealed.as_str().as_bytes() {
            assert!(SEALER.open(&spoiled).is_err(), "what is spoiled does not open");
        }
    }
    let now = number(bytes, 4);
    let _later = opened.token.renewed_at(now).age_at(now);
});
