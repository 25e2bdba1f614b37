//! How much of anything an app may have at once: plain values, read by the parts that act on them.

use std::num::NonZeroU32;
use std::time::Duration;

/// Requests in flight for each backend of an app, as the Heroku router has it.
pub const APP_IN_FLIGHT: u64 = 200;

/// Bytes a second that bodies bring, and clients read, at least: what Apache asks for, and what any modem brings.
const RATE: u64 = 500;

/// How much an app may have at once, and how slow its clients may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AppLimits {
    /// Requests in flight of the app, for each of its backends; `None`: any number. Streams are not counted.
    pub app_in_flight: Option<u64>,
    /// Requests in flight of one backend; `None`: any number. Streams are not counted.
    pub backend_in_flight: Option<u64>,
    /// Requests that wait for a place at one backend.
    pub queue: usize,
    /// How long each of them waits.
    pub queue_timeout: Duration,
    /// The share of what the app may have that is kept for pinned clients, in percent.
    pub reserve_percent: u64,
    /// What becomes of a pinned client whose backend has no place for it in time.
    pub on_overload: OnOverload,
    /// Requests and streams of the app together; `None`: any number.
    pub connections: Option<u64>,
    /// Bytes of the body of a request; `None`: any number.
    pub max_body: Option<u64>,
    /// Bytes a second that the body of a request brings at least; `None`: as slow as it likes.
    pub body_rate: Option<u64>,
    /// Bytes a second of a response that a client reads at least; `None`: as slow as it likes.
    pub read_rate: Option<u64>,
    /// How long either may take before its rate counts.
    pub rate_grace: Duration,
}

/// What becomes of a pinned client whose backend has no place for it in time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnOverload {
    /// It is moved to a backend that has one.
    Move,
    /// It gets an error, and keeps its pin.
    Refuse,
}

/// How often one client may ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RateLimit {
    /// Requests in each span, steadily.
    pub requests: NonZeroU32,
    /// The span.
    pub per: Duration,
    /// Requests at once, after a while without any.
    pub burst: NonZeroU32,
}

impl Default for AppLimits {
    fn default() -> Self {
        Self {
            app_in_flight: Some(APP_IN_FLIGHT),
            backend_in_flight: None,
            queue: 100,
            queue_timeout: Duration::from_secs(5),
            reserve_percent: 10,
            on_overload: OnOverload::Refuse,
            connections: None,
            max_body: None,
            body_rate: Some(RATE),
            read_rate: Some(RATE),
            rate_grace: Duration::from_secs(20),
        }
    }
}

impl AppLimits {
    /// Requests in flight of an app with so many backends; `None`: any number.
    pub fn in_flight_of(&self, backends: usize) -> Option<u64> {
        let backends = u64::try_from(backends.max(1)).unwrap_or(u64::MAX);
        self.app_in_flight.map(|each| each.saturating_mul(backends))
    }

    /// How long a client may be waited for in all while its body brings `bytes`; `None`: for ever.
    pub fn body_budget(&self, bytes: u64) -> Option<Duration> {
        let rate = self.body_rate?;
        Some(self.rate_grace + Duration::from_millis(bytes.saturating_mul(1000) / rate.max(1)))
    }

    /// What clients without a pin may have of `limit`: at least one, or nobody would ever get a pin.
    pub fn unreserved(&self, limit: u64) -> u64 {
        let kept = u128::from(limit) * u128::from(self.reserve_percent) / 100;
        limit.saturating_sub(u64::try_from(kept).unwrap_or(limit)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_kept_for_pinned_clients_but_never_all() {
        let limits = |reserve_percent| AppLimits { reserve_percent, ..AppLimits::default() };
        assert_eq!(limits(10).unreserved(400), 360);
        assert_eq!(limits(10).unreserved(5), 5);
        assert_eq!(limits(90).unreserved(1), 1);
        assert_eq!(limits(0).unreserved(7), 7);
        assert_eq!(limits(90).unreserved(u64::MAX), u64::MAX - u64::MAX / 10 * 9 - 4);
    }

    #[test]
    fn a_body_may_take_as_long_as_its_bytes_at_the_least_rate() {
        let limits = AppLimits { body_rate: Some(100), ..AppLimits::default() };
        assert_eq!(limits.body_budget(0), Some(Duration::from_secs(20)));
        assert_eq!(limits.body_budget(250), Some(Duration::from_millis(22_500)));
        assert_eq!(AppLimits { body_rate: None, ..limits }.body_budget(250), None);
    }

    #[test]
    fn an_app_without_backends_has_the_limit_of_one() {
        assert_eq!(AppLimits::default().in_flight_of(0), Some(200));
        assert_eq!(AppLimits::default().in_flight_of(3), Some(600));
        let off = AppLimits { app_in_flight: None, ..AppLimits::default() };
        assert_eq!(off.in_flight_of(3), None);
    }
}
