//! What the tests under load share: how much of them is asked for, whose turn it is, and chance that a run repeats.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether the whole of it is asked for, by this variable.
pub(crate) fn is_full(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|form| form == "full")
}

/// One part at a time: each has the machine to itself.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells something although the test passes.
pub(crate) fn tell(text: &str) {
    let _nobody_reads = writeln!(std::io::stderr(), "{text}");
}

/// A source of chance that a run repeats.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % sides as u64) as usize
    }

    /// Puts a list into an order of chance.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let other = self.roll(last + 1);
            list.swap(last, other);
        }
    }
}
