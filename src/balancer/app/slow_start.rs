//! Slow start: a backend that just opened takes its share of clients little by little.

use std::time::Duration;

/// All of the share that a backend has by its weight. Shares are in thousandths of it.
pub const SHARE_WHOLE: u16 = 1000;

/// The share a backend begins with: enough to warm up with, too little to be drowned by.
const SHARE_FIRST: u16 = 100;

/// In how many steps a share grows. More would be more snapshots for a difference nobody sees.
const STEPS: u32 = 20;

/// Shortest step, so that short starts make no storm of snapshots.
const STEP_MIN: Duration = Duration::from_millis(200);

/// How an app lets clients in to a backend that just opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SlowStart {
    /// How long it takes a backend to its whole share; at least 1 s.
    pub duration: Duration,
    /// What happens to clients that are pinned to it.
    pub pinned: PinnedStart,
}

/// What happens to clients that are pinned to a backend which starts slowly.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PinnedStart {
    /// They return at once.
    AtOnce,
    /// They return little by little, as new ones come; until then they wait.
    Paced,
}

impl SlowStart {
    /// The share of a backend that has been open for so long, in thousandths: from a tenth to
    /// [`SHARE_WHOLE`], in a straight line.
    pub fn share(&self, open_for: Duration) -> u16 {
        let whole = self.duration.as_millis().max(1);
        let gained =
            u128::from(SHARE_WHOLE - SHARE_FIRST) * open_for.as_millis().min(whole) / whole;
        u16::try_from(gained).map_or(SHARE_WHOLE, |gained| SHARE_FIRST + gained)
    }

    /// After how long shares are reckoned anew.
    pub fn step(&self) -> Duration {
        (self.duration / STEPS).max(STEP_MIN)
    }
}

/// For how long a backend has been open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Elapsed {
    /// Since when, on the clock of the events.
    since: Duration,
    /// For how long it had been by then: a process before this one had another clock.
    before: Duration,
}

impl Elapsed {
    /// So since `since`, on the clock of the events, and for `before` before that.
    pub fn new(since: Duration, before: Duration) -> Self {
        Self { since, before }
    }

    /// When it will have been so for `limit`, on the clock of the events.
    pub fn reaches(self, limit: Duration) -> Duration {
        self.since.saturating_add(limit.saturating_sub(self.before))
    }

    /// For how long it has been so at `now`.
    pub fn at(self, now: Duration) -> Duration {
        self.before.saturating_add(now.saturating_sub(self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::testing::SECOND;

    const START: SlowStart =
        SlowStart { duration: Duration::from_secs(30), pinned: PinnedStart::Paced };

    #[test]
    fn a_share_grows_from_a_tenth_to_the_whole() {
        let shares = [0, 10, 15, 20, 30, 1000].map(|open| START.share(open * SECOND));
        assert_eq!(shares, [100, 400, 550, 700, 1000, 1000]);
        assert_eq!(START.share(Duration::MAX), SHARE_WHOLE);
        let never = SlowStart { duration: Duration::ZERO, ..START };
        assert_eq!((never.share(Duration::ZERO), never.share(SECOND)), (100, 1000));
    }

    #[test]
    fn shares_are_reckoned_anew_twenty_times_but_not_too_often() {
        assert_eq!(START.step(), Duration::from_millis(1500));
        assert_eq!(SlowStart { duration: SECOND, ..START }.step(), Duration::from_millis(200));
    }

    #[test]
    fn what_was_open_in_another_process_has_been_open_for_longer() {
        assert_eq!(Elapsed::new(SECOND, 20 * SECOND).at(3 * SECOND), 22 * SECOND);
        assert_eq!(Elapsed::new(SECOND, Duration::MAX).at(3 * SECOND), Duration::MAX);
    }
}
