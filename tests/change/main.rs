//! Planned changes under load lose nothing: reloads, restarts, a killed worker, a drain.
//!
//! `cargo test --test change` is the short form, for CI. The whole of it takes some minutes:
//! `HOMING_CHANGE=full cargo test --test change -- --nocapture`. The figures are printed at the end of each
//! part. Socket.IO clients join when `node` and `tests/apps/node_modules` are there.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops at what it did not expect"
)]

#[expect(dead_code, unused_imports, reason = "shared with tests/it, which uses all of it")]
#[path = "../it/harness/mod.rs"]
mod harness;

mod crash;
mod drain;
mod figures;
mod load;
mod reload;
mod restart;
mod site;
mod socketio;
mod spoil;
mod streams;
mod wire;

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether the whole of it is asked for.
fn full() -> bool {
    std::env::var("HOMING_CHANGE").is_ok_and(|form| form == "full")
}

/// One part at a time: each has the machine to itself.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells something although the test passes.
fn tell(text: &str) {
    let _nobody_reads = writeln!(std::io::stderr(), "{text}");
}

/// A source of chance that a run repeats.
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

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let other = self.roll(last + 1);
            list.swap(last, other);
        }
    }
}
