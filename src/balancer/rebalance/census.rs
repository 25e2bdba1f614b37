//! Which live client is bound to which backend: a sample of bounded size that a request updates with a few
//! atomic loads.
//!
//! Distinct sampling (Gibbons, *Distinct Sampling for Highly-Accurate Answers to Distinct Values Queries*,
//! 2001): a client is in the sample if and only if the low bits of its mark are zero, as many as the level
//! says; the level rises when the sample fills up. Up to 26,000 live clients nearly all are in it, and the
//! count is as good as exact; beyond, a backend of which `n` are in the sample is known to 1/√n. A client
//! that is moved leaves its last backend at once, which a sketch of each backend could not tell.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::balancer::affinity::token::{BackendHash, seconds};

/// How long a client counts after it was last seen.
pub const LIVE: Duration = Duration::from_secs(600);

/// Cells of one bucket: where a client can be.
const WAYS: usize = 8;

/// Bits of a mark that choose its bucket, from the first table of a census to its last: 32 KiB, 256 KiB, and
/// 1 MiB. An app with few clients takes little.
const SIZES: [u32; 3] = [8, 11, 13];

/// A cell that was written within this many seconds is not written again.
const GRAIN_SECONDS: u32 = 8;

/// Beyond this share of its cells, in percent, the sample gets a larger table, or is halved when there is none.
/// One bucket in two hundred is full by then.
const FULL_PERCENT: usize = 40;

/// The sample is below this share of its cells, in percent: it is doubled.
const SPARSE_PERCENT: usize = 15;

/// Rises at most to this: more clients than there are people.
const LEVEL_MAX: u32 = 34;

/// Length of one client in [`Census::export`], in bytes.
const ENTRY: usize = 16;

/// The live clients of an app.
#[derive(Debug, Default)]
pub struct Census {
    tables: [OnceLock<Box<[Cell]>>; SIZES.len()],
    /// The table in use. It only grows.
    size: AtomicUsize,
    level: AtomicU32,
    /// The latest time that was noted, in Unix seconds.
    latest: AtomicU32,
}

/// One client of the sample. Both words change one after the other: a reader may see one of the client before
/// for a moment, which miscounts one.
#[derive(Debug, Default)]
struct Cell {
    /// Its mark; 0: nobody.
    mark: AtomicU64,
    /// Its [`Home`].
    home: AtomicU64,
}

/// Where a client was last seen, and when: 32 bits of the hash of the backend, 32 bits of Unix seconds.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Home {
    backend: Tag,
    seen: u32,
}

/// What stands for a backend in the sample.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Tag(u32);

impl Tag {
    /// The upper half of the hash of its id.
    pub fn of(backend: BackendHash) -> Self {
        Self(u32::try_from(backend.0 >> 32).unwrap_or(0))
    }
}

impl Home {
    fn pack(self) -> u64 {
        (u64::from(self.backend.0) << 32) | u64::from(self.seen)
    }

    fn unpack(word: u64) -> Self {
        let half = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
        Self { backend: Tag(half(word >> 32)), seen: half(word) }
    }

    fn is_live(self, now: u32) -> bool {
        u64::from(now.abs_diff(self.seen)) <= LIVE.as_secs()
    }
}

/// How many clients are bound to each backend.
#[derive(Debug, Default)]
pub struct Counts {
    sampled: HashMap<Tag, u64>,
    level: u32,
}

impl Counts {
    /// About how many are bound to this backend.
    pub fn bound(&self, backend: BackendHash) -> u64 {
        self.sampled.get(&Tag::of(backend)).copied().unwrap_or(0) << self.level
    }

    /// How many clients stand behind each one of the sample; 1: the counts are exact.
    pub fn scale(&self) -> u64 {
        1 << self.level
    }
}

impl Census {
    /// Notes that the client of this mark was seen at its backend at `now` (Unix seconds).
    pub fn note(&self, mark: u64, backend: BackendHash, now: u64) {
        let now = seconds(now);
        if self.latest.load(Ordering::Relaxed) != now {
            self.latest.store(now, Ordering::Relaxed);
        }
        self.put(mark, Home { backend: Tag::of(backend), seen: now }, now);
    }

    fn put(&self, mark: u64, home: Home, now: u32) {
        let mark = mark.max(1);
        if !self.samples(mark) {
            return;
        }
        let bucket = self.bucket(mark);
        if let Some(cell) = bucket.iter().find(|cell| cell.mark.load(Ordering::Relaxed) == mark) {
            let last = Home::unpack(cell.home.load(Ordering::Relaxed));
            let age = home.seen.abs_diff(last.seen);
            if last.backend != home.backend || age >= GRAIN_SECONDS {
                cell.home.store(home.pack(), Ordering::Relaxed);
            }
            return;
        }
        for cell in bucket {
            let mark_there = cell.mark.load(Ordering::Relaxed);
            let counts = mark_there != 0 && self.samples(mark_there) && cell.home().is_live(now);
            let swap = || {
                let order = Ordering::Relaxed;
                cell.mark.compare_exchange(mark_there, mark, order, order).is_ok()
            };
            if !counts && swap() {
                cell.home.store(home.pack(), Ordering::Relaxed);
                return;
            }
        }
        // A full bucket is full for all backends alike: the shares stay true.
    }

    /// The table in use, and the bits that choose a bucket of it.
    fn table(&self) -> (&[Cell], u32) {
        let size = self.size.load(Ordering::Relaxed).min(SIZES.len() - 1);
        let bits = SIZES[size];
        let empty = || std::iter::repeat_with(Cell::default).take(WAYS << bits).collect();
        (self.tables[size].get_or_init(empty), bits)
    }

    /// Where the client of this mark can be.
    fn bucket(&self, mark: u64) -> &[Cell] {
        let (cells, bits) = self.table();
        let first = usize::try_from(mark >> (u64::BITS - bits)).unwrap_or(0) * WAYS;
        &cells[first..first + WAYS]
    }

    /// Takes the next larger table into use, with all that is known; `false`: there is none.
    fn grow(&self) -> bool {
        let size = self.size.load(Ordering::Relaxed);
        if size + 1 >= SIZES.len() {
            return false;
        }
        let (last, _) = self.table();
        self.size.store(size + 1, Ordering::Relaxed);
        let now = self.latest.load(Ordering::Relaxed);
        for cell in last {
            let (mark, home) = (cell.mark.load(Ordering::Relaxed), cell.home());
            if mark != 0 && home.is_live(now) {
                self.take_in(mark, home, now);
            }
        }
        true
    }

    /// Puts a client in that was seen by somebody else, unless we saw it later.
    fn take_in(&self, mark: u64, home: Home, now: u32) {
        if self.find(mark).is_none_or(|own| own.seen <= home.seen) {
            self.put(mark, home, now);
        }
    }

    fn samples(&self, mark: u64) -> bool {
        mark.trailing_zeros() >= self.level.load(Ordering::Relaxed)
    }

    /// Notes a client once more where it was seen last, if it is in the sample.
    pub(super) fn refresh(&self, mark: u64) {
        if let Some(home) = self.find(mark.max(1)) {
            let now = self.latest.load(Ordering::Relaxed);
            self.put(mark, Home { seen: now.max(home.seen), ..home }, now);
        }
    }

    /// The latest time that was noted, in Unix seconds.
    pub(super) fn latest(&self) -> u64 {
        u64::from(self.latest.load(Ordering::Relaxed))
    }

    /// Counts the live clients, and forgets the others.
    pub fn count(&self) -> Counts {
        let now = self.latest.load(Ordering::Relaxed);
        let mut sampled = HashMap::new();
        for cell in self.table().0 {
            let mark = cell.mark.load(Ordering::Relaxed);
            if mark == 0 {
                continue;
            }
            let home = cell.home();
            if home.is_live(now) && self.samples(mark) {
                *sampled.entry(home.backend).or_default() += 1;
            } else {
                let order = Ordering::Relaxed;
                // Somebody else may have taken the place meanwhile.
                let _taken = cell.mark.compare_exchange(mark, 0, order, order);
            }
        }
        Counts { sampled, level: self.level.load(Ordering::Relaxed) }
    }

    /// The same, and fits the size of the sample to how many there are. For one caller at a time.
    pub fn sweep(&self) -> Counts {
        let counts = self.count();
        let cells = self.table().0.len();
        let taken = usize::try_from(counts.sampled.values().sum::<u64>()).unwrap_or(cells);
        let level = match taken * 100 / cells {
            percent if percent > FULL_PERCENT && self.grow() => counts.level,
            percent if percent > FULL_PERCENT => (counts.level + 1).min(LEVEL_MAX),
            percent if percent < SPARSE_PERCENT => counts.level.saturating_sub(1),
            _ => counts.level,
        };
        self.level.store(level, Ordering::Relaxed);
        counts
    }

    /// The sample, to be handed on or merged with that of another edge.
    pub fn export(&self) -> Vec<u8> {
        let now = self.latest.load(Ordering::Relaxed);
        let mut bytes = self.level.load(Ordering::Relaxed).to_be_bytes().to_vec();
        for cell in self.table().0 {
            let (mark, home) = (cell.mark.load(Ordering::Relaxed), cell.home());
            if mark != 0 && home.is_live(now) {
                bytes.extend(mark.to_be_bytes());
                bytes.extend(home.pack().to_be_bytes());
            }
        }
        bytes
    }

    /// Takes in what another census exported: a client is where it was seen last. What makes no sense is
    /// ignored.
    pub fn absorb(&self, exported: &[u8]) {
        let Some((level, entries)) = exported.split_first_chunk::<4>() else { return };
        let level = u32::from_be_bytes(*level);
        if level > LEVEL_MAX || entries.len() % ENTRY != 0 {
            return;
        }
        self.level.fetch_max(level, Ordering::Relaxed);
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_be_bytes);
        let both = |entry: &[u8]| (word(&entry[..8]), Home::unpack(word(&entry[8..])));
        let entries = || entries.chunks_exact(ENTRY).map(both);
        let latest = entries().map(|(_, home)| home.seen).max().unwrap_or(0);
        let now = self.latest.fetch_max(latest, Ordering::Relaxed).max(latest);
        let is_full = |cells: usize| entries().len() * 100 > cells * FULL_PERCENT;
        while is_full(self.table().0.len()) && self.grow() {}
        for (mark, home) in entries().filter(|(mark, home)| *mark != 0 && home.is_live(now)) {
            self.take_in(mark, home, now);
        }
    }

    fn find(&self, mark: u64) -> Option<Home> {
        let mut bucket = self.bucket(mark).iter();
        bucket.find(|cell| cell.mark.load(Ordering::Relaxed) == mark).map(Cell::home)
    }
}

impl Cell {
    fn home(&self) -> Home {
        Home::unpack(self.home.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::rendezvous::mix;
    use crate::balancer::testing::hash;

    const NOW: u64 = 1_800_000_000;

    /// Notes clients `range` at `backend`, some hundred of them in each period.
    fn note(census: &Census, range: std::ops::Range<u64>, backend: &str, now: u64) {
        for number in range {
            census.note(mix(number), hash(backend), now);
            if number % 400 == 0 && number < 20_000 {
                census.sweep();
            }
        }
    }

    fn is_about(count: u64, expected: u64) -> bool {
        count.abs_diff(expected) * 100 <= expected
    }

    #[test]
    fn some_thousand_clients_are_counted_nearly_exactly() {
        let census = Census::default();
        note(&census, 0..3_000, "a", NOW);
        note(&census, 3_000..10_000, "b", NOW);
        note(&census, 0..3_000, "a", NOW + 60);
        let counts = census.sweep();
        assert_eq!(counts.scale(), 1);
        assert!(is_about(counts.bound(hash("a")), 3_000), "{}", counts.bound(hash("a")));
        assert!(is_about(counts.bound(hash("b")), 7_000), "{}", counts.bound(hash("b")));
        assert_eq!(counts.bound(hash("c")), 0);
    }

    #[test]
    fn a_client_that_was_moved_counts_at_its_new_backend_only() {
        let census = Census::default();
        note(&census, 0..100, "a", NOW);
        note(&census, 0..30, "b", NOW);
        let counts = census.count();
        assert_eq!((counts.bound(hash("a")), counts.bound(hash("b"))), (70, 30));
    }

    #[test]
    fn a_client_that_stays_away_counts_no_more() {
        let census = Census::default();
        note(&census, 0..100, "a", NOW);
        note(&census, 100..200, "b", NOW + LIVE.as_secs());
        assert_eq!(census.count().bound(hash("a")), 100);
        note(&census, 100..101, "b", NOW + LIVE.as_secs() + 1);
        assert_eq!(census.count().bound(hash("a")), 0);
        note(&census, 0..1, "a", NOW + LIVE.as_secs() + 2);
        assert_eq!(census.count().bound(hash("a")), 1);
    }

    #[test]
    fn a_million_clients_are_sampled_and_their_shares_stay_true() {
        let census = Census::default();
        for round in 0..8_u64 {
            for number in 0..1_000_000_u64 {
                let backend = if number % 10 < 3 { "a" } else { "b" };
                census.note(mix(number), hash(backend), NOW + round * 60);
            }
            census.sweep();
        }
        let counts = census.count();
        assert!(counts.scale() >= 16, "{}", counts.scale());
        for (backend, expected) in [("a", 300_000.0), ("b", 700_000.0)] {
            #[expect(clippy::cast_precision_loss, reason = "a million fits")]
            let share = counts.bound(hash(backend)) as f64 / expected;
            assert!((0.93..1.07).contains(&share), "{backend}: {share}");
        }
    }

    #[test]
    fn a_sample_grows_again_when_most_are_gone() {
        let census = Census::default();
        for _ in 0..4 {
            note(&census, 0..300_000, "a", NOW);
            census.sweep();
        }
        assert!(census.count().scale() > 1);
        for minute in 1..30 {
            note(&census, 0..500, "a", NOW + minute * 60);
            census.sweep();
        }
        assert_eq!(census.count().scale(), 1);
        assert_eq!(census.count().bound(hash("a")), 500);
    }

    #[test]
    fn two_edges_merged_know_each_client_once_where_it_was_last() {
        let (one, other) = (Census::default(), Census::default());
        note(&one, 0..100, "a", NOW);
        note(&other, 50..150, "b", NOW + 20);
        one.absorb(&other.export());
        let counts = one.count();
        assert_eq!((counts.bound(hash("a")), counts.bound(hash("b"))), (50, 100));
        other.absorb(&one.export());
        assert_eq!(other.count().bound(hash("b")), 100);
    }

    #[test]
    fn what_is_no_census_is_ignored() {
        let census = Census::default();
        for junk in [&[][..], &[0; 3], &[255; 4], &[255; 4 + 16 + 3], &[0; 4 + 32]] {
            census.absorb(junk);
        }
        assert!(census.count().sampled.values().sum::<u64>() <= 1);
    }
}
