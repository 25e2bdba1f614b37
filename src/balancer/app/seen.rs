//! How many clients a backend served lately: an estimate that costs a request one atomic load.
//!
//! HyperLogLog (Flajolet, Fusy, Gandouet and Meunier, 2007) over marks that are uniform already, so
//! nothing is hashed. Two windows take turns: what is told is the union of the current one and the
//! one before.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

/// How long a window is filled; an estimate covers the last one to two of them.
pub const SEEN_WINDOW: Duration = Duration::from_secs(300);

/// Bits of a mark that choose its register.
const INDEX_BITS: u32 = 9;

/// Registers of one window. The standard error of an estimate is 1.04 / √512, or 5 percent; a window
/// takes 512 bytes.
const REGISTERS: usize = 1 << INDEX_BITS;

/// Length of what [`Seen::export`] gives, in bytes: the current window, then the one before.
pub const EXPORT_BYTES: usize = 2 * REGISTERS;

/// The highest rank: all bits of a mark behind the index are zero.
const RANK_MAX: u8 = 56;

/// The correction of the raw estimate for this many registers.
const ALPHA: f64 = 0.7213 / (1.0 + 1.079 / REGISTERS_F64);
const REGISTERS_F64: f64 = 512.0;

/// The clients of one backend, counted by their marks.
#[derive(Debug)]
pub struct Seen {
    windows: [[AtomicU8; REGISTERS]; 2],
    /// The window that is being filled.
    current: AtomicUsize,
}

impl Default for Seen {
    fn default() -> Self {
        let empty = || std::array::from_fn(|_| AtomicU8::new(0));
        Self { windows: [empty(), empty()], current: AtomicUsize::new(0) }
    }
}

impl Seen {
    /// Notes a client by its mark, 64 uniform bits. Mostly a load: a register seldom grows.
    pub fn observe(&self, mark: u64) {
        let index = usize::try_from(mark >> (u64::BITS - INDEX_BITS)).unwrap_or(0);
        let zeros = (mark << INDEX_BITS).leading_zeros();
        let rank = u8::try_from(zeros + 1).unwrap_or(RANK_MAX).min(RANK_MAX);
        raise(&self.windows[self.current()][index], rank);
    }

    /// About how many clients were seen in both windows together.
    pub fn estimate(&self) -> u64 {
        let [one, other] = &self.windows;
        let ranks = one.iter().zip(other).map(|(a, b)| read(a).max(read(b)));
        let (mut sum, mut empty) = (0.0, 0_u32);
        for rank in ranks {
            sum += f64::from(-i32::from(rank)).exp2();
            empty += u32::from(rank == 0);
        }
        let raw = ALPHA * REGISTERS_F64 * REGISTERS_F64 / sum;
        let few = raw <= 2.5 * REGISTERS_F64 && empty > 0;
        // Where many registers are empty, counting those is better (linear counting).
        rounded(if few { REGISTERS_F64 * (REGISTERS_F64 / f64::from(empty)).ln() } else { raw })
    }

    /// Forgets the earlier window and begins another, once every [`SEEN_WINDOW`].
    pub fn rotate(&self) {
        let next = 1 - self.current();
        self.windows[next].iter().for_each(|register| register.store(0, Ordering::Relaxed));
        self.current.store(next, Ordering::Relaxed);
    }

    /// Both windows, to be handed on.
    pub fn export(&self) -> Vec<u8> {
        let current = self.current();
        let windows = [&self.windows[current], &self.windows[1 - current]];
        windows.into_iter().flatten().map(read).collect()
    }

    /// Takes in what another process saw. Anything but what [`Seen::export`] gives is ignored.
    pub fn absorb(&self, exported: &[u8]) {
        if exported.len() != EXPORT_BYTES {
            return;
        }
        let current = self.current();
        let windows = [&self.windows[current], &self.windows[1 - current]];
        for (register, rank) in windows.into_iter().flatten().zip(exported) {
            raise(register, (*rank).min(RANK_MAX));
        }
    }

    fn current(&self) -> usize {
        // Only 0 and 1 are stored; the mask tells the compiler.
        self.current.load(Ordering::Relaxed) & 1
    }
}

fn read(register: &AtomicU8) -> u8 {
    register.load(Ordering::Relaxed)
}

fn raise(register: &AtomicU8, rank: u8) {
    if read(register) < rank {
        register.fetch_max(rank, Ordering::Relaxed);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate is finite and not negative"
)]
fn rounded(estimate: f64) -> u64 {
    estimate.round() as u64
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// A set that saw `clients` clients, each three times.
    fn seen(clients: usize, seed: u64) -> Seen {
        let (seen, mut rng) = (Seen::default(), SmallRng::seed_from_u64(seed));
        for _ in 0..clients {
            let mark = rng.next_u64();
            (0..3).for_each(|_| seen.observe(mark));
        }
        seen
    }

    #[track_caller]
    fn about(estimate: u64, clients: u64) {
        // Three standard errors.
        let (least, most) = (clients - clients * 14 / 100, clients + clients * 14 / 100);
        assert!((least..=most).contains(&estimate), "{estimate} is not about {clients}");
    }

    #[test]
    fn an_estimate_is_close_from_one_client_to_a_million() {
        assert_eq!(Seen::default().estimate(), 0);
        assert_eq!(seen(1, 1).estimate(), 1);
        assert!((9..=11).contains(&seen(10, 1).estimate()));
        for (clients, seed) in [(100, 2), (1_000, 3), (1_500, 4), (10_000, 5), (1_000_000, 6)] {
            about(seen(clients, seed).estimate(), clients as u64);
        }
    }

    #[test]
    fn a_client_is_forgotten_after_two_windows() {
        let seen = seen(100, 7);
        seen.rotate();
        about(seen.estimate(), 100);
        seen.rotate();
        assert_eq!(seen.estimate(), 0);
    }

    #[test]
    fn a_client_of_both_windows_counts_once() {
        let (seen, mut rng) = (seen(100, 8), SmallRng::seed_from_u64(8));
        seen.rotate();
        (0..100).for_each(|_| seen.observe(rng.next_u64()));
        about(seen.estimate(), 100);
    }

    #[test]
    fn what_is_handed_on_adds_to_what_was_seen_in_its_window() {
        let (predecessor, successor) = (seen(200, 9), seen(100, 10));
        predecessor.rotate();
        successor.absorb(&predecessor.export());
        successor.absorb(&predecessor.export());
        about(successor.estimate(), 300);
        successor.rotate();
        about(successor.estimate(), 100);
    }

    #[test]
    fn what_is_no_export_is_ignored() {
        let seen = Seen::default();
        seen.absorb(&[]);
        seen.absorb(&[1; EXPORT_BYTES - 1]);
        assert_eq!(seen.estimate(), 0);
        seen.absorb(&[255; EXPORT_BYTES]);
        seen.observe(0);
        assert!(seen.estimate() > 1_000_000);
    }
}
