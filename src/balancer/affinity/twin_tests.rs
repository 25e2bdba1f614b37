//! The cookie and its twin: read, handed out, taken back and taken out together.

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::balancer::testing;

const NOW: u64 = 1_000_000;

/// An affinity whose cookie has a twin, and three tokens of it, the oldest first.
fn twin() -> (Affinity, [String; 3]) {
    let mut policy = testing::affinity(OnUnavailable::Move);
    policy.cookie.twin = true;
    let affinity = Affinity::new(policy, &AppName::parse("shop").unwrap(), &testing::keyring());
    let backend = Backend::new(testing::backend("a"), Arc::default());
    let seal = |seed: u64| {
        let mut rng = SmallRng::seed_from_u64(seed);
        let now = NOW + seed;
        let token = affinity.token(&backend, &Presented::Nothing, now, &mut rng);
        affinity.sealer().seal(&token).as_str().to_owned()
    };
    let tokens = [0, 1, 2].map(seal);
    (affinity, tokens)
}

/// When the pin was renewed that this header shows, less [`NOW`].
fn read(affinity: &Affinity, line: &str) -> Option<u64> {
    let headers = HeaderMap::from_iter([(header::COOKIE, line.parse().unwrap())]);
    match affinity.read(&headers, NOW + 10) {
        Presented::Pin(pin) => Some(u64::from(pin.token.renewed) - NOW),
        Presented::Key(_) | Presented::Nothing | Presented::Unusable(_) => None,
    }
}

#[test]
fn a_token_is_read_from_the_cookie_and_from_its_twin() {
    let (affinity, [old, _, new]) = twin();
    let (a, b) = ("homing-affinity", "homing-affinity-twin");
    assert_eq!(read(&affinity, &format!("{a}={old}")), Some(0));
    assert_eq!(read(&affinity, &format!("x=1; {b}={new}")), Some(2));
    for line in [format!("{a}={old}; {b}={new}"), format!("{b}={old}; {a}={new}")] {
        assert_eq!(read(&affinity, &line), Some(2), "the last renewed: {line}");
    }
    assert_eq!(read(&affinity, &format!("{a}=damaged; {b}={old}")), Some(0));
    let plain = Affinity::new(
        testing::affinity(OnUnavailable::Move),
        &AppName::parse("shop").unwrap(),
        &testing::keyring(),
    );
    assert_eq!(read(&plain, &format!("{b}={new}")), None, "an app's own without `twin`");
}

#[test]
fn the_bound_on_what_is_opened_holds_over_both_and_a_value_counts_once() {
    let (affinity, [old, _, new]) = twin();
    let bad = |count: usize| -> String {
        (0..count).map(|number| format!("homing-affinity=bad{number}; ")).collect()
    };
    let line = format!("{}homing-affinity-twin={new}", bad(CANDIDATES_MAX - 1));
    assert_eq!(read(&affinity, &line), Some(2));
    let line = format!("{}homing-affinity-twin={new}", bad(CANDIDATES_MAX));
    assert_eq!(read(&affinity, &line), None);
    let same = format!("homing-affinity={old}; ").repeat(CANDIDATES_MAX);
    assert_eq!(read(&affinity, &format!("{same}homing-affinity-twin={new}")), Some(2));
}

#[test]
fn both_are_handed_out_taken_back_and_taken_out() {
    let (affinity, [old, _, _]) = twin();
    let opened = affinity.open(old.as_bytes(), NOW).unwrap();
    let set: Vec<String> = affinity.set_cookies(&opened.token, Scheme::Http, NOW).collect();
    assert!(set[0].starts_with(&format!("homing-affinity={old}; ")), "{set:?}");
    assert!(set[1].starts_with(&format!("homing-affinity-twin={old}; ")), "{set:?}");
    let deleted: Vec<String> = affinity.delete_cookies(Scheme::Http).collect();
    assert_eq!(deleted[0], "homing-affinity=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0");
    assert_eq!(deleted[1], "homing-affinity-twin=; HttpOnly; Path=/; Max-Age=0");
    let rest =
        |line: &str| affinity.without(line.as_bytes()).map(|rest| String::from_utf8(rest).unwrap());
    assert_eq!(rest("a=1; homing-affinity=x; homing-affinity-twin=x; b=2").unwrap(), "a=1; b=2");
    assert_eq!(rest("homing-affinity-twin=x").unwrap(), "");
    assert_eq!(rest("homing-affinity=x; a=1").unwrap(), "a=1");
    assert_eq!(rest("a=1; homing-affinity-twins=x"), None);
}
