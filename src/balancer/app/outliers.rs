//! Outliers: backends whose requests fail, whatever their probes say. They get no new clients for a while.
//!
//! What became of a request is counted in atomics of its backend ([`Record`]); an event is told only when a
//! threshold is crossed. As in Envoy's outlier detection, the time grows with each repetition, and only a share of
//! the backends is ejected at once.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::health::ProbeOutcome;
use super::policy::StatusRange;

/// When a backend is an outlier, and what happens to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutlierPolicy {
    /// How many failures in a row make it one, at least 1; `None`: no number does.
    pub consecutive: Option<u32>,
    /// The share of failures that makes it one; `None`: no share does.
    pub share: Option<FailureShare>,
    /// The statuses that count as failures, besides responses that fail to come.
    pub statuses: Vec<StatusRange>,
    /// How long it is ejected for the first time; the n-th time takes n times as long.
    pub ejection: Duration,
    /// How long it is ejected at most.
    pub ejection_max: Duration,
    /// Most backends of the app that are ejected at once, in percent.
    pub max_ejected_percent: u8,
    /// What happens to the clients that are pinned to it.
    pub pinned: Pinned,
    /// What ends an ejection.
    pub end: End,
}

impl OutlierPolicy {
    /// How many of `backends` may be ejected at once: one where there are two, and never all.
    pub fn ejected_max(&self, backends: usize) -> usize {
        let share = backends.saturating_mul(usize::from(self.max_ejected_percent)) / 100;
        share.max(1).min(backends.saturating_sub(1))
    }

    /// Whether a response with this status is a failure.
    pub fn blames(&self, status: u16) -> bool {
        self.statuses.iter().any(|range| range.contains(status))
    }
}

/// The share of failures that makes a backend an outlier.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FailureShare {
    /// Of its requests, in percent.
    pub percent: u8,
    /// Of how many requests at least.
    pub requests: u32,
    /// Within this span; the count begins anew with each.
    pub interval: Duration,
}

/// What happens to clients that are pinned to an ejected backend.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Pinned {
    /// They are served: their sessions are there.
    #[default]
    Keep,
    /// They find their backend closed, as an unhealthy one.
    Move,
}

/// What ends an ejection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Time, or as many passed probes in a row as open an unhealthy backend, whichever is first.
    Probes,
    /// Time alone.
    Time,
}

/// Why a backend was found to be an outlier.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Why {
    /// As many failures in a row as the app puts up with.
    Consecutive,
    /// Too large a share of failures.
    Share,
}

impl Why {
    /// All of them, in the order of the labels.
    pub const ALL: [Self; 2] = [Self::Consecutive, Self::Share];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::Share => "failure_percent",
        }
    }

    /// For the log.
    pub fn text(self) -> &'static str {
        match self {
            Self::Consecutive => "too many requests in a row failed",
            Self::Share => "too large a share of its requests failed",
        }
    }
}

/// What became of the last requests of a backend.
#[derive(Debug, Default)]
pub struct Record {
    in_a_row: AtomicU32,
    /// The number of the interval, the requests in it and the failures among them: 24, 20 and 20 bits.
    window: AtomicU64,
}

/// A count of 20 bits at its end: enough to tell a share by.
const COUNT_MAX: u64 = (1 << 20) - 1;
const REQUESTS_SHIFT: u32 = 20;
const INTERVAL_SHIFT: u32 = 40;

impl Record {
    /// Notes a request that went well, at `now` on the clock of this process.
    pub fn note_success(&self, policy: &OutlierPolicy, now: Duration) {
        // Mostly there is nothing to forget, and nothing to write to what all threads share.
        if self.in_a_row.load(Ordering::Relaxed) > 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
        if let Some(share) = &policy.share {
            self.count(share, now, 0);
        }
    }

    /// Notes one that failed. Answers when that makes the backend an outlier; the count begins anew then.
    pub fn note_failure(&self, policy: &OutlierPolicy, now: Duration) -> Option<Why> {
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let failing = policy.share.is_some_and(|share| {
            let (requests, failures) = self.count(&share, now, 1);
            requests >= u64::from(share.requests)
                && failures * 100 >= requests * u64::from(share.percent)
        });
        let why = match policy.consecutive {
            Some(limit) if in_a_row >= limit => Why::Consecutive,
            Some(_) | None if failing => Why::Share,
            Some(_) | None => return None,
        };
        self.forget();
        Some(why)
    }

    /// Begins anew.
    pub fn forget(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
        self.window.store(0, Ordering::Relaxed);
    }

    /// Counts one request; answers with the requests and failures of this interval.
    fn count(&self, share: &FailureShare, now: Duration, failures: u64) -> (u64, u64) {
        let interval = now.as_millis() / share.interval.as_millis().max(1) % (1 << 24);
        let interval = u64::try_from(interval).unwrap_or(0);
        let counted = |window: u64| {
            let (requests, failed) = match window >> INTERVAL_SHIFT == interval {
                true => (window >> REQUESTS_SHIFT & COUNT_MAX, window & COUNT_MAX),
                false => (0, 0),
            };
            // A full count stays as it is: its share is known well enough.
            match requests < COUNT_MAX {
                true => (requests + 1, failed + failures),
                false => (requests, failed),
            }
        };
        let packed = |(requests, failed): (u64, u64)| {
            interval << INTERVAL_SHIFT | requests << REQUESTS_SHIFT | failed
        };
        let mut window = self.window.load(Ordering::Relaxed);
        loop {
            let next = counted(window);
            let (order, packed) = (Ordering::Relaxed, packed(next));
            match self.window.compare_exchange_weak(window, packed, order, order) {
                Ok(_) => return next,
                Err(other) => window = other,
            }
        }
    }
}

/// Whether and how often a backend was ejected.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ejections {
    /// Until when it is, on the clock of the events.
    until: Option<Duration>,
    /// How many in a row, those apart that were forgiven.
    strikes: u32,
    /// Since when it is not any more, on the clock of the events.
    clean_since: Duration,
    /// Probes that passed in a row since it is.
    passed: u16,
}

impl Ejections {
    /// What another process knew: how long it goes on, and how many there were. No ejection is longer than the
    /// policy allows, whatever is said.
    pub fn restored(
        left: Option<Duration>,
        strikes: u32,
        policy: &OutlierPolicy,
        now: Duration,
    ) -> Self {
        let until = left.map(|left| now.saturating_add(left.min(policy.ejection_max)));
        Self { until, strikes, clean_since: now, passed: 0 }
    }

    /// Until when the backend is ejected, on the clock of the events; `None`: it is not.
    pub fn until(&self) -> Option<Duration> {
        self.until
    }

    /// Whether the backend is ejected.
    pub fn is_on(&self) -> bool {
        self.until.is_some()
    }

    /// How many there were in a row at `now`: one is forgiven for each first ejection's time without any.
    pub fn strikes(&self, ejection: Duration, now: Duration) -> u32 {
        if self.is_on() {
            return self.strikes;
        }
        let clean = now.saturating_sub(self.clean_since).as_millis();
        let forgiven = clean / ejection.as_millis().max(1);
        self.strikes.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }

    /// Begins.
    pub fn begin(&mut self, policy: &OutlierPolicy, now: Duration) {
        self.strikes = self.strikes(policy.ejection, now).saturating_add(1);
        let length = policy.ejection.saturating_mul(self.strikes).min(policy.ejection_max);
        (self.until, self.passed) = (Some(now.saturating_add(length)), 0);
    }

    /// Ends at once. Answers whether there was anything to end.
    pub fn end(&mut self, now: Duration) -> bool {
        let was_on = self.until.take().is_some();
        if was_on {
            self.clean_since = now;
        }
        was_on
    }

    /// Ends when its time is over. Answers whether it did.
    pub fn pass(&mut self, now: Duration) -> bool {
        self.until.is_some_and(|until| until <= now) && self.end(now)
    }

    /// Takes in how a probe ended; `rise`: how many passed ones in a row end it. Answers whether they did.
    pub fn observe(&mut self, outcome: &ProbeOutcome, rise: u16, now: Duration) -> bool {
        self.passed = match outcome {
            ProbeOutcome::Passed => self.passed.saturating_add(1),
            ProbeOutcome::Failed(_) => 0,
        };
        self.passed >= rise && self.end(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balancer::testing::{OUTLIERS, SECOND};

    const SHARE: FailureShare =
        FailureShare { percent: 50, requests: 10, interval: Duration::from_secs(10) };

    fn by_share() -> OutlierPolicy {
        OutlierPolicy { consecutive: None, share: Some(SHARE), ..OUTLIERS }
    }

    /// `requests`: `.` went well, `x` failed. Answers with the places of those that crossed a threshold.
    fn crossed(policy: &OutlierPolicy, requests: &str, now: Duration) -> Vec<(usize, Why)> {
        let record = Record::default();
        let note = |(place, request)| match request {
            'x' => record.note_failure(policy, now).map(|why| (place, why)),
            _ => {
                record.note_success(policy, now);
                None
            }
        };
        requests.chars().enumerate().filter_map(note).collect()
    }

    #[test]
    fn five_failures_in_a_row_make_an_outlier_and_one_success_starts_the_count_again() {
        assert_eq!(crossed(&OUTLIERS, "xxxx.xxxx.xxxx", SECOND), []);
        assert_eq!(crossed(&OUTLIERS, ".xxxxx", SECOND), [(5, Why::Consecutive)]);
        let again = [(4, Why::Consecutive), (9, Why::Consecutive)];
        assert_eq!(crossed(&OUTLIERS, "xxxxxxxxx" /* nine */, SECOND), again[..1]);
        assert_eq!(crossed(&OUTLIERS, "xxxxxxxxxx", SECOND), again);
    }

    #[test]
    fn half_of_the_requests_make_an_outlier_if_there_are_enough_of_them() {
        assert_eq!(crossed(&by_share(), "xxxxxxxxx", SECOND), []);
        assert_eq!(crossed(&by_share(), "xxxxxxxxxx", SECOND), [(9, Why::Share)]);
        assert_eq!(crossed(&by_share(), ".x.x.x.x.x", SECOND), [(9, Why::Share)]);
        assert_eq!(crossed(&by_share(), "..x.x.x.x.x.x.x", SECOND), []);
    }

    #[test]
    fn the_share_is_that_of_one_interval() {
        let record = Record::default();
        let policy = by_share();
        for _ in 0..9 {
            assert_eq!(record.note_failure(&policy, 19 * SECOND), None);
        }
        for _ in 0..9 {
            assert_eq!(record.note_failure(&policy, 20 * SECOND), None);
        }
        assert_eq!(record.note_failure(&policy, 29 * SECOND), Some(Why::Share));
    }

    #[test]
    fn a_count_that_is_full_still_tells_a_share() {
        let record = Record::default();
        let policy = by_share();
        record.window.store(COUNT_MAX << REQUESTS_SHIFT | (COUNT_MAX / 2), Ordering::Relaxed);
        assert_eq!(record.note_failure(&policy, SECOND), None);
        record.window.store(COUNT_MAX << REQUESTS_SHIFT | (COUNT_MAX / 2 + 1), Ordering::Relaxed);
        assert_eq!(record.note_failure(&policy, SECOND), Some(Why::Share));
    }

    #[test]
    fn one_of_two_may_be_ejected_and_never_all() {
        let most = |percent, backends| {
            OutlierPolicy { max_ejected_percent: percent, ..OUTLIERS }.ejected_max(backends)
        };
        assert_eq!([0, 1, 2, 3, 4, 10].map(|backends| most(50, backends)), [0, 0, 1, 1, 2, 5]);
        assert_eq!([0, 1, 2, 3, 4, 10].map(|backends| most(100, backends)), [0, 0, 1, 2, 3, 9]);
        assert_eq!([1, 2, 200].map(|backends| most(1, backends)), [0, 1, 2]);
    }

    #[test]
    fn each_ejection_takes_longer_up_to_a_limit_and_time_forgives() {
        let policy = OutlierPolicy { ejection_max: 70 * SECOND, ..OUTLIERS };
        let mut ejections = Ejections::default();
        let mut now = 1000 * SECOND;
        for seconds in [30, 60, 70, 70] {
            ejections.begin(&policy, now);
            assert_eq!(ejections.until(), Some(now + seconds * SECOND));
            assert!(!ejections.pass(now + (seconds - 1) * SECOND));
            now += seconds * SECOND;
            assert!(ejections.pass(now) && !ejections.is_on());
        }
        // Three times 30 seconds without any: three of the four are forgiven.
        ejections.begin(&policy, now + 90 * SECOND);
        assert_eq!(ejections.until(), Some(now + 150 * SECOND));
    }

    #[test]
    fn passed_probes_in_a_row_end_an_ejection_where_that_is_wanted() {
        let mut ejections = Ejections::default();
        ejections.begin(&OUTLIERS, SECOND);
        assert!(!ejections.observe(&ProbeOutcome::Passed, 2, SECOND));
        assert!(!ejections.observe(&ProbeOutcome::Failed("no".into()), 2, SECOND));
        assert!(!ejections.observe(&ProbeOutcome::Passed, 2, SECOND));
        assert!(ejections.observe(&ProbeOutcome::Passed, 2, SECOND));
        assert!(!ejections.is_on());
    }

    proptest! {
        #[test]
        fn nothing_overflows(
            strikes in any::<u32>(), left in any::<u64>(), now in any::<u64>(), backends in any::<usize>()
        ) {
            let now = Duration::from_millis(now);
            let left = Duration::from_millis(left);
            let mut ejections = Ejections::restored(Some(left), strikes, &OUTLIERS, now);
            prop_assert!(ejections.until().is_some_and(|until| until <= now + OUTLIERS.ejection_max));
            ejections.end(now);
            ejections.begin(&OUTLIERS, now);
            prop_assert!(ejections.until().is_some_and(|until| until <= now + OUTLIERS.ejection_max));
            prop_assert!(backends == 0 || OUTLIERS.ejected_max(backends) < backends);
        }
    }
}
