//! Bad cookies through the socket: never an error, never the wrong app, never a crash.

use std::thread;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::harness::{Backend, Client, Edge, QUICK, shop};

/// Requests of one thread; with the property tests of the token and of the cookie, more than 100,000.
const REQUESTS: usize = 10_000;
const THREADS: u64 = 4;

#[test]
fn no_bad_cookie_is_an_error_for_the_client() {
    let (a, b) = (Backend::named("web.1"), Backend::named("web.2"));
    let edge = Edge::start_with("access_log: { format: off }\n", &shop(QUICK, &[&a, &b]));
    let token = edge.get("/").token().unwrap();
    let workers: Vec<_> = (0..THREADS)
        .map(|seed| {
            let (address, token) = (edge.address(), token.clone());
            thread::spawn(move || {
                let mut rng = SmallRng::seed_from_u64(seed);
                let mut client = Client::connect(address);
                for _ in 0..REQUESTS {
                    let line = bad_cookie(&token, &mut rng);
                    let response = client.get("/", &format!("Cookie: {line}\r\n"));
                    assert_eq!(response.status, 200, "{line}");
                    assert!(response.token().is_some(), "replaced: {line}");
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    let expected = REQUESTS as f64 * THREADS as f64;
    let moved: f64 =
        ["forged", "malformed", "unknown_key"].iter().map(|c| edge.affinity("moved", c)).sum();
    assert_eq!(moved, expected, "each is counted once, by cause");
}

/// Changes a good cookie so that it is good no more. All of them keep our name.
fn bad_cookie(token: &str, rng: &mut SmallRng) -> String {
    let (name, value) = token.split_once('=').unwrap();
    let mut bytes = value.as_bytes().to_vec();
    match rng.random_range(0..6) {
        0 => bytes.truncate(rng.random_range(..bytes.len())),
        1 => bytes.extend_from_within(..rng.random_range(1..=64)),
        2 => {
            for byte in &mut bytes {
                *byte = rng.random_range(b'a'..=b'z');
            }
        }
        3 => bytes = (0..rng.random_range(0..200)).map(|_| printable(rng)).collect(),
        4 => bytes.reverse(),
        _ => {
            let place = rng.random_range(..bytes.len());
            let other = if bytes[place] == b'A' { b'B' } else { b'A' };
            bytes[place] = other;
        }
    }
    let value = String::from_utf8(bytes).unwrap();
    let one = format!("{name}={value}");
    match rng.random_range(0..4) {
        0 => format!("{one}; {one}"),
        1 => format!("a=1; {one}; b=2"),
        _ => one,
    }
}

/// A character that a cookie may hold (RFC 6265 §4.1.1).
fn printable(rng: &mut SmallRng) -> u8 {
    loop {
        let byte = rng.random_range(b'!'..=b'~');
        if !b"\",;\\".contains(&byte) {
            return byte;
        }
    }
}
