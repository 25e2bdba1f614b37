//! What a client may spend on frames that bring it nothing: a budget that time and useful work fill again.

use std::time::Duration;

/// How large a budget is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Allowance {
    /// The most that is ever in it, and what a connection begins with.
    pub most: u64,
    /// What comes back in a second.
    pub per_second: u64,
}

/// What is left of an allowance.
#[derive(Debug)]
pub(super) struct Budget {
    allowance: Allowance,
    left: u64,
    /// Up to when time has been counted in, on a clock that never goes back.
    as_of: Duration,
}

impl Budget {
    pub(super) fn new(allowance: Allowance, now: Duration) -> Self {
        Self { allowance, left: allowance.most, as_of: now }
    }

    /// Puts back what useful work earned.
    pub(super) fn earn(&mut self, amount: u64) {
        self.left = self.left.saturating_add(amount).min(self.allowance.most);
    }

    /// Takes `amount`. `false`: there is not as much in it. Asks for the time only then.
    pub(super) fn spend(&mut self, amount: u64, now: impl FnOnce() -> Duration) -> bool {
        if self.left < amount {
            self.refill(now());
        }
        let is_enough = self.left >= amount;
        self.left = self.left.saturating_sub(amount);
        is_enough
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.as_of);
        let rate = u128::from(self.allowance.per_second);
        let came = passed.as_nanos().saturating_mul(rate) / NANOS;
        // What is not a whole one yet stays in the time that was not counted in.
        let counted = (came * NANOS).checked_div(rate).unwrap_or_default();
        self.as_of += u64::try_from(counted).map_or(passed, Duration::from_nanos);
        self.earn(u64::try_from(came).unwrap_or(u64::MAX));
    }
}

/// Nanoseconds in a second.
const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: Allowance = Allowance { most: 10, per_second: 4 };

    /// How many of these are refused: `(milliseconds since the beginning, amount)`.
    fn refused(spent: &[(u64, u64)]) -> usize {
        let mut budget = Budget::new(SMALL, Duration::ZERO);
        let at = Duration::from_millis;
        spent.iter().filter(|(millis, amount)| !budget.spend(*amount, || at(*millis))).count()
    }

    #[test]
    fn what_is_spent_comes_back_with_time_and_never_above_the_most() {
        assert_eq!(refused(&[(0, 10)]), 0);
        assert_eq!(refused(&[(0, 10), (0, 1)]), 1);
        assert_eq!(refused(&[(0, 10), (249, 1)]), 1);
        assert_eq!(refused(&[(0, 10), (250, 1)]), 0);
        assert_eq!(refused(&[(0, 10), (250, 1), (499, 1)]), 1);
        assert_eq!(refused(&[(0, 10), (60_000, 10), (60_000, 1)]), 1);
    }

    #[test]
    fn time_is_asked_for_only_when_nothing_is_left() {
        let mut budget = Budget::new(SMALL, Duration::ZERO);
        for _ in 0..10 {
            assert!(budget.spend(1, || unreachable!("the budget is not used up")));
        }
    }

    proptest! {
        #[test]
        fn nobody_spends_more_than_the_most_and_what_time_brought(
            steps in prop::collection::vec((0_u64..400, 1_u64..4), 1..200),
        ) {
            let mut now = Duration::ZERO;
            let (mut budget, mut spent) = (Budget::new(SMALL, now), 0);
            for (millis, amount) in steps {
                now += Duration::from_millis(millis);
                if budget.spend(amount, || now) {
                    spent += amount;
                }
            }
            let came = now.as_millis() as u64 * SMALL.per_second / 1000;
            prop_assert!(spent <= SMALL.most + came);
        }
    }
}
