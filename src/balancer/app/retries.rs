//! The retry budget: an app that is sick is not killed by being asked again and again.
//!
//! As in Finagle and Linkerd, retries are a share of the requests of the last ten seconds, and a few more a second,
//! so that an app with little traffic has some as well. A first try needs no budget.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many seconds requests and retries are remembered, as in Linkerd.
pub const WINDOW_SECONDS: u32 = 10;
const SLOTS: usize = WINDOW_SECONDS as usize;

/// How often requests may be tried again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RetryPolicy {
    /// Most retries of one request, 0 to [`super::view::TRIES_MAX`] less one.
    pub max: u8,
    /// Retries of all requests together, in percent of those of the last [`WINDOW_SECONDS`].
    pub budget_percent: u8,
    /// Retries a second that are allowed beside those, on average over the same time.
    pub min_per_second: u32,
}

/// The requests and retries of an app in the last seconds. Lock-free.
#[derive(Debug, Default)]
pub struct Budget {
    requests: Window,
    retries: Window,
}

impl Budget {
    /// Notes a request, at `now` on the clock of this process.
    pub fn deposit(&self, now: Duration) {
        self.requests.add(second(now));
    }

    /// Asks for one retry, at `now` on the clock of this process.
    pub fn withdraw(&self, policy: &RetryPolicy, now: Duration) -> bool {
        let second = second(now);
        let share = self.requests.sum(second) * u64::from(policy.budget_percent) / 100;
        let most = share + u64::from(policy.min_per_second) * u64::from(WINDOW_SECONDS);
        if self.retries.sum(second) >= most {
            return false;
        }
        // Others may ask at the same moment: who finds too many has come too late.
        self.retries.add(second);
        let is_within = self.retries.sum(second) <= most;
        if !is_within {
            self.retries.take_back(second);
        }
        is_within
    }
}

fn second(now: Duration) -> u32 {
    // The clock begins with the process: 136 years.
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

/// Counts of single seconds: the second in the upper half of each number, the count in the lower.
#[derive(Debug, Default)]
struct Window([AtomicU64; SLOTS]);

const SECOND_SHIFT: u32 = 32;
const COUNT_MASK: u64 = u32::MAX as u64;

impl Window {
    fn slot(&self, second: u32) -> &AtomicU64 {
        &self.0[second as usize % SLOTS]
    }

    fn add(&self, second: u32) {
        let (slot, order) = (self.slot(second), Ordering::Relaxed);
        let mut last = slot.load(order);
        loop {
            // A thread that is late counts in the second that is there. None sees four billion requests.
            if last >> SECOND_SHIFT >= u64::from(second) {
                slot.fetch_add(1, order);
                return;
            }
            let first = u64::from(second) << SECOND_SHIFT | 1;
            match slot.compare_exchange_weak(last, first, order, order) {
                Ok(_) => return,
                Err(other) => last = other,
            }
        }
    }

    /// Takes one back, unless the slot is another second's by now.
    fn take_back(&self, second: u32) {
        let less = |last: u64| {
            let is_there = last >> SECOND_SHIFT == u64::from(second) && last & COUNT_MASK > 0;
            is_there.then(|| last - 1)
        };
        let _gone = self.slot(second).fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// How many there were in the last seconds, this one included.
    fn sum(&self, second: u32) -> u64 {
        let counted = |slot: &AtomicU64| {
            let slot = slot.load(Ordering::Relaxed);
            let age = u64::from(second).saturating_sub(slot >> SECOND_SHIFT);
            if age < u64::from(WINDOW_SECONDS) { slot & COUNT_MASK } else { 0 }
        };
        self.0.iter().map(counted).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::balancer::testing::{RETRIES, SECOND};

    /// How many of `asked` retries are allowed after as many `requests` at the same time.
    fn allowed(policy: &RetryPolicy, requests: u32, asked: u32) -> usize {
        let budget = Budget::default();
        (0..requests).for_each(|_| budget.deposit(SECOND));
        (0..asked).filter(|_| budget.withdraw(policy, SECOND)).count()
    }

    #[test]
    fn a_share_of_the_requests_may_be_tried_again_and_a_few_more() {
        assert_eq!(allowed(&RETRIES, 0, 1_000), 100);
        assert_eq!(allowed(&RETRIES, 1_000, 1_000), 300);
        assert_eq!(allowed(&RetryPolicy { min_per_second: 0, ..RETRIES }, 4, 10), 0);
        assert_eq!(allowed(&RetryPolicy { min_per_second: 0, ..RETRIES }, 5, 10), 1);
        assert_eq!(allowed(&RetryPolicy { budget_percent: 0, ..RETRIES }, 1_000, 1_000), 100);
    }

    #[test]
    fn what_was_spent_comes_back_after_ten_seconds_and_what_was_earned_goes() {
        let policy = RetryPolicy { min_per_second: 1, ..RETRIES };
        let budget = Budget::default();
        (0..100).for_each(|_| budget.deposit(SECOND));
        let spend = |now| (0..1_000).filter(|_| budget.withdraw(&policy, now)).count();
        assert_eq!(spend(SECOND), 30);
        assert_eq!(spend(10 * SECOND), 0);
        assert_eq!(spend(11 * SECOND), 10);
        assert_eq!(spend(1_000_000 * SECOND), 10);
    }

    #[test]
    fn a_thread_that_is_late_takes_nothing_away() {
        let budget = Budget::default();
        (0..10).for_each(|_| budget.deposit(15 * SECOND));
        budget.deposit(5 * SECOND);
        assert_eq!(budget.requests.sum(15), 11);
    }

    #[test]
    fn threads_that_ask_at_once_get_no_more_than_there_is() {
        let budget = Budget::default();
        let spend = || (0..500).filter(|_| budget.withdraw(&RETRIES, SECOND)).count();
        let got: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(spend)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(got, 100);
    }
}
