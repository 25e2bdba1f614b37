//! No request is split, joined or framed otherwise by Homing than by who strictly reads what the client sent; no
//! response by Homing otherwise than by who strictly reads what the backend sent.
//!
//! Streams are made of right ones, by a table and by chance, and go over raw sockets to a backend that records
//! every byte. A reference that shares no code with Homing says what has to come of them. The seed is printed;
//! `HOMING_SMUGGLING_SEED` repeats a run.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops at what it did not expect"
)]

#[expect(dead_code, unused_imports, reason = "shared with tests/it, which uses all of it")]
#[path = "../it/harness/mod.rs"]
mod harness;

mod answers;
mod cases;
mod exchange;
mod grammar;
mod recorder;
mod request;
mod requests;
mod response;
mod responses;
mod shapes;
mod spoil;

use std::io::Write;

/// Where chance begins.
fn seed() -> u64 {
    let given = std::env::var("HOMING_SMUGGLING_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    tell(&format!("HOMING_SMUGGLING_SEED={seed}"));
    seed
}

/// Tells something although the test passes.
fn tell(text: &str) {
    let _nobody_reads = writeln!(std::io::stderr(), "{text}");
}

/// A source of chance that a run repeats.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    /// A number below `sides`.
    fn roll(&mut self, sides: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % sides as u64) as usize
    }
}
