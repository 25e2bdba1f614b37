//! How slow the client of a connection may be: numbers that the phases set, and the watch over deadlines looks at.
//!
//! A deadline is moved on by every byte. What is watched here is not: a body that drips, a response that is read
//! in drops, a request that never ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a moment is that never comes, in milliseconds.
const NEVER: u64 = u64::MAX;

/// No moment.
const NONE: u64 = 0;

/// How often the kernel is asked how much a client has read that leaves some unread: a system call each.
const LOOK_MILLIS: u64 = 1000;

/// Bits of [`Slow`] in what is noted; the number of the request is above them.
const SLOW_BITS: u32 = 2;

/// What a client was too slow with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Slow {
    /// It sends its body more slowly than it may.
    Body = 1,
    /// It reads its response more slowly than it may.
    Read,
    /// The whole request took longer than it may.
    Total,
}

/// How slow a client may be, and was. Times are milliseconds on the clock of the watch.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the whole request has to be over.
    total_at: AtomicU64,
    /// Since when a byte of the client is waited for.
    pending_since: AtomicU64,
    /// For how long bytes of this body were waited for, and for how long they may be.
    waited: AtomicU64,
    budget: AtomicU64,
    /// Bytes a second that are to be read, and after which time; 0: as slowly as it likes.
    read_rate: AtomicU64,
    read_grace: AtomicU64,
    /// Since when a part of the response is left unread, and what the client had acknowledged then, and lately.
    unread_since: AtomicU64,
    acked_before: AtomicU64,
    acked: AtomicU64,
    looked_at: AtomicU64,
    /// The request that is looked at: a number that goes up with each.
    request: AtomicU64,
    /// What the client was too slow with, and with which request: what is found of one that ended meanwhile says
    /// nothing of the next one.
    slow: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            total_at: AtomicU64::new(NEVER),
            pending_since: AtomicU64::new(NONE),
            waited: AtomicU64::new(0),
            budget: AtomicU64::new(NEVER),
            read_rate: AtomicU64::new(0),
            read_grace: AtomicU64::new(0),
            unread_since: AtomicU64::new(NONE),
            acked_before: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            looked_at: AtomicU64::new(0),
            request: AtomicU64::new(0),
            slow: AtomicU64::new(NONE),
        }
    }
}

/// What was found of a client that leaves a part of its response unread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reading {
    /// It read some of it since the last look.
    Goes,
    /// It did not, or that was not looked at.
    Rests,
}

impl Pace {
    /// Forgets the last request.
    pub(super) fn reset(&self) {
        self.total_at.store(NEVER, Ordering::Relaxed);
        self.budget.store(NEVER, Ordering::Relaxed);
        self.waited.store(0, Ordering::Relaxed);
        self.slow.store(NONE, Ordering::Relaxed);
        // Last: who sees this number sees nothing of the request before.
        self.request.fetch_add(1, Ordering::Release);
    }

    /// Gives the whole request until `at`; `None`: any time.
    pub(super) fn end_at(&self, at: Option<u64>) {
        self.total_at.store(at.unwrap_or(NEVER), Ordering::Relaxed);
    }

    /// Begins a request, of whose body nothing was waited for yet. Asks for so many bytes a second of who reads the
    /// response, after this time.
    pub(super) fn begin(&self, rate: Option<u64>, grace: Duration) {
        set(&self.waited, 0);
        set(&self.read_rate, rate.unwrap_or(0));
        set(&self.read_grace, millis(grace));
    }

    /// Says for how long the body may be waited for in all; `None`: for ever.
    pub(super) fn budget(&self, budget: Option<Duration>) {
        set(&self.budget, budget.map_or(NEVER, millis));
    }

    /// A byte of the client is waited for, at `now`.
    pub(super) fn begin_wait(&self, now: u64) {
        if self.pending_since.load(Ordering::Relaxed) == NONE {
            self.pending_since.store(now.max(1), Ordering::Relaxed);
        }
    }

    /// One came. `now` is asked for when one was waited for.
    pub(super) fn end_wait(&self, now: impl FnOnce() -> u64) {
        let since = self.pending_since.load(Ordering::Relaxed);
        if since != NONE {
            self.pending_since.store(NONE, Ordering::Relaxed);
            self.waited.fetch_add(now().saturating_sub(since), Ordering::Relaxed);
        }
    }

    /// What the client was too slow with, if anything.
    pub(super) fn slow(&self) -> Option<Slow> {
        let noted = self.slow.load(Ordering::Relaxed);
        if noted == NONE || noted >> SLOW_BITS != self.request.load(Ordering::Relaxed) {
            return None;
        }
        [Slow::Body, Slow::Read, Slow::Total]
            .into_iter()
            .find(|slow| *slow as u64 == noted & ((1 << SLOW_BITS) - 1))
    }

    /// Whether the client is too slow with its request, at `now`.
    pub(super) fn watch(&self, now: u64) -> bool {
        // First: what is found is of this request, or of none.
        let request = self.request.load(Ordering::Acquire);
        let budget = self.budget.load(Ordering::Relaxed);
        let since = self.pending_since.load(Ordering::Relaxed);
        let waited = || self.waited.load(Ordering::Relaxed) + now.saturating_sub(since);
        if now >= self.total_at.load(Ordering::Relaxed) {
            self.note(Slow::Total, request)
        } else if budget != NEVER && since != NONE && waited() > budget {
            self.note(Slow::Body, request)
        } else {
            false
        }
    }

    /// The client reads what there is for it.
    pub(super) fn all_read(&self) {
        self.unread_since.store(NONE, Ordering::Relaxed);
    }

    /// Looks how fast a client reads that leaves something unread at `now`. `acked` asks the kernel how many bytes it
    /// acknowledged ever.
    pub(super) fn watch_reading(&self, now: u64, acked: impl FnOnce() -> Option<u64>) -> Reading {
        let request = self.request.load(Ordering::Acquire);
        let since = self.unread_since.load(Ordering::Relaxed);
        if since != NONE && now.saturating_sub(self.looked_at.load(Ordering::Relaxed)) < LOOK_MILLIS
        {
            return Reading::Rests;
        }
        self.looked_at.store(now, Ordering::Relaxed);
        let Some(acked) = acked() else { return Reading::Rests };
        let before = self.acked.swap(acked, Ordering::Relaxed);
        if since == NONE {
            self.unread_since.store(now.max(1), Ordering::Relaxed);
            self.acked_before.store(acked, Ordering::Relaxed);
            return Reading::Rests;
        }
        let (rate, grace) =
            (self.read_rate.load(Ordering::Relaxed), self.read_grace.load(Ordering::Relaxed));
        let span = now.saturating_sub(since);
        let read = acked.saturating_sub(self.acked_before.load(Ordering::Relaxed));
        if rate > 0 && span > grace && read.saturating_mul(1000) / span.max(1) < rate {
            self.note(Slow::Read, request);
        }
        if acked > before { Reading::Goes } else { Reading::Rests }
    }

    fn note(&self, slow: Slow, request: u64) -> bool {
        self.slow.store(request << SLOW_BITS | slow as u64, Ordering::Relaxed);
        true
    }
}

/// Stores a number that is mostly there already: a line that nobody writes to is in every cache.
fn set(cell: &AtomicU64, number: u64) {
    if cell.load(Ordering::Relaxed) != number {
        cell.store(number, Ordering::Relaxed);
    }
}

/// A time in milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_that_the_client_is_waited_for_counts() {
        let pace = Pace::default();
        pace.budget(Some(Duration::from_millis(300)));
        pace.begin_wait(1000);
        pace.end_wait(|| 1200);
        assert!(!pace.watch(9000), "the backend takes its time");
        pace.begin_wait(9000);
        assert!(!pace.watch(9100));
        assert!(pace.watch(9101));
        assert_eq!(pace.slow(), Some(Slow::Body));
        pace.reset();
        assert!(!pace.watch(20_000));
        assert_eq!(pace.slow(), None);
    }

    #[test]
    fn what_is_found_of_a_request_that_ended_meanwhile_says_nothing_of_the_next() {
        let pace = Pace::default();
        pace.end_at(Some(500));
        let found_of = pace.request.load(Ordering::Relaxed);
        pace.reset();
        assert!(pace.note(Slow::Total, found_of), "too late");
        assert_eq!(pace.slow(), None);
        pace.end_at(Some(900));
        assert!(pace.watch(900));
        assert_eq!(pace.slow(), Some(Slow::Total));
    }

    #[test]
    fn a_request_ends_in_time_whatever_it_does() {
        let pace = Pace::default();
        pace.end_at(Some(500));
        assert!(!pace.watch(499));
        assert!(pace.watch(500));
        assert_eq!(pace.slow(), Some(Slow::Total));
    }

    #[test]
    fn who_reads_steadily_goes_on_and_who_reads_drops_does_not() {
        let pace = Pace::default();
        pace.begin(Some(500), Duration::from_secs(2));
        assert_eq!(pace.watch_reading(1000, || Some(100)), Reading::Rests);
        assert_eq!(pace.watch_reading(1500, || panic!("too soon")), Reading::Rests);
        assert_eq!(pace.watch_reading(2000, || Some(700)), Reading::Goes);
        assert_eq!(pace.watch_reading(3000, || Some(1200)), Reading::Goes);
        assert_eq!(pace.watch_reading(4000, || Some(1600)), Reading::Goes);
        assert_eq!(pace.slow(), None);
        assert_eq!(pace.watch_reading(5000, || Some(1601)), Reading::Goes);
        assert_eq!(pace.slow(), Some(Slow::Read));
        pace.reset();
        pace.all_read();
        assert_eq!(pace.watch_reading(9000, || Some(1601)), Reading::Rests);
        assert_eq!(pace.slow(), None);
    }
}
