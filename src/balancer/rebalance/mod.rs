//! Evening out after a scale-up: some pinned clients are moved, as few as it takes, at moments when it costs
//! them least.
//!
//! 1. [`census`]: which live client is bound to which backend, by a sample of bounded size.
//! 2. [`pace`]: every [`pace::PERIOD`], who has too many and who too few, and how many may be moved now.
//! 3. [`moves`]: one client, one decision: whether it is moved now, and where to.
//!
//! 4. [`handed`]: what a process tells its successor.
//!
//! A client is moved only when the cookie says that it was idle for [`RebalancePolicy::idle`] (or the app said
//! that it may), its request is safe, and it has no other request or stream in hand. New clients help: a
//! backend rich in pins gets fewer of them.

pub mod census;
pub mod handed;
pub mod moves;
pub mod pace;

use std::time::Duration;

use super::affinity::Pin;
use super::affinity::token::SKEW_SECONDS;

/// How an app evens out its clients among its backends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RebalancePolicy {
    /// How many clients a backend may have, in thousandths of its fair share; above 1000.
    pub bound: u16,
    /// Most clients that are moved in a minute, in percent of all that are bound; at least one is.
    pub budget_percent: u8,
    /// How long a client must have been idle to be moved.
    pub idle: Duration,
    /// How long a client that was moved is left alone.
    pub rest: Duration,
}

impl RebalancePolicy {
    /// How old a token may get before it is sealed anew: so that its age tells whether its client is idle.
    pub fn renewal(&self) -> Duration {
        self.idle / 2
    }

    /// Whether the cookie of a client says that it was idle for `factor` times [`RebalancePolicy::idle`] at
    /// `now`, whatever edge sealed it, where cookies have been renewed in this rhythm since `since` (Unix
    /// seconds).
    ///
    /// The token may have been sealed a [`RebalancePolicy::renewal`] before the last request, and by a clock
    /// that is [`SKEW_SECONDS`] slow. What was sealed before `since` says only that nobody asked after that.
    pub fn is_idle(&self, pin: &Pin, factor: u32, since: u64, now: u64) -> bool {
        let sure = self.idle.as_secs() * u64::from(factor) + self.renewal().as_secs();
        let renewed = u64::from(pin.token.renewed).max(since);
        now.saturating_sub(renewed) > sure + SKEW_SECONDS
    }

    /// Whether a client was moved so lately that it is left alone.
    pub fn is_resting(&self, pin: &Pin, now: u64) -> bool {
        let since = now.saturating_sub(u64::from(pin.token.issued));
        pin.token.notes.rebalanced && since < self.rest.as_secs() + SKEW_SECONDS
    }

    /// Whether a pin may be given up at all: its client is idle or the app says so, and it was not moved lately.
    /// `since` is that of [`RebalancePolicy::is_idle`].
    pub fn allows(&self, pin: &Pin, since: u64, now: u64) -> bool {
        let may = pin.token.notes.may_move || self.is_idle(pin, 1, since, now);
        may && !self.is_resting(pin, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::affinity::token::{Notes, Token};
    use crate::balancer::testing::{self, REBALANCE};

    fn pin(renewed: u32, notes: Notes) -> Pin {
        let pin = testing::pin("a");
        Pin { token: Token { issued: 1_000, renewed, notes, ..pin.token }, ..pin }
    }

    #[test]
    fn a_client_is_idle_when_its_cookie_is_older_than_clocks_and_renewals_explain() {
        let pin = pin(1_000, Notes::default());
        assert!(!REBALANCE.allows(&pin, 0, 1_000 + 60 + 30 + 60));
        assert!(REBALANCE.allows(&pin, 0, 1_000 + 60 + 30 + 60 + 1));
        assert!(!REBALANCE.is_idle(&pin, 8, 0, 1_000 + 8 * 60 + 30 + 60));
        assert!(!REBALANCE.allows(&pin, 0, 0), "a clock set back makes nobody idle");
    }

    #[test]
    fn a_cookie_of_the_time_before_says_only_that_nobody_asked_since() {
        let (pin, since) = (pin(1_000, Notes::default()), 50_000);
        assert!(!REBALANCE.allows(&pin, since, since + 60 + 30 + 60));
        assert!(REBALANCE.allows(&pin, since, since + 60 + 30 + 60 + 1));
    }

    #[test]
    fn a_client_that_was_moved_rests() {
        let rebalanced = Notes { rebalanced: true, ..Notes::default() };
        let pin = pin(1_000, rebalanced);
        assert!(!REBALANCE.allows(&pin, 0, 1_000 + 3600 + 59));
        assert!(REBALANCE.allows(&pin, 0, 1_000 + 3600 + 60));
    }

    #[test]
    fn the_app_may_say_that_a_client_need_not_be_idle() {
        let pin = pin(1_000, Notes { may_move: true, rebalanced: false });
        assert!(REBALANCE.allows(&pin, 0, 1_000));
    }
}
