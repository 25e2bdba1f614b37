//! When a certificate is ordered: pure, time and chance are arguments. Times are Unix seconds.

use std::time::Duration;

/// Orders in an hour at most, whatever goes wrong. Let's Encrypt allows an account 300 in three hours.
pub(super) const ORDERS_PER_HOUR_MAX: usize = 90;

/// The longest pause after failures: four attempts a day, of which one meets an administrator at work.
const PAUSE_MAX: Duration = Duration::from_secs(6 * 3600);

const HOUR: u64 = 3600;

/// How long a certificate lasts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Lifetime {
    pub(super) not_before: u64,
    pub(super) not_after: u64,
}

impl Lifetime {
    /// When it is renewed, where the server says nothing: at two thirds, and up to a 24th earlier, so that not all
    /// come at once. `chance` is from 0 to 1.
    pub(super) fn renewal(self, chance: f64) -> u64 {
        let lasts = self.not_after.saturating_sub(self.not_before);
        self.not_before + lasts - lasts / 3 - part(lasts / 24, chance)
    }

    /// When it is renewed at the earliest, whatever the server says: one that is never content gets no loop of orders.
    pub(super) fn earliest(self) -> u64 {
        let lasts = self.not_after.saturating_sub(self.not_before);
        self.not_before + (lasts / 24).min(HOUR)
    }

    /// When it is renewed at the latest, whatever the server says.
    pub(super) fn latest(self) -> u64 {
        let lasts = self.not_after.saturating_sub(self.not_before);
        self.not_after.max(self.not_before) - lasts / 12
    }
}

/// A moment of a window that the server suggests (RFC 9773 §4.2), alike for all of them.
pub(super) fn within(start: u64, end: u64, chance: f64) -> u64 {
    start + part(end.saturating_sub(start), chance)
}

/// How long is waited after so many failures: `first`, then twice that, and so on; up to a tenth shorter.
pub(super) fn pause(first: Duration, failures: u32, chance: f64) -> u64 {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(24));
    let seconds = doubled.min(PAUSE_MAX.max(first)).as_secs();
    seconds - part(seconds / 10, chance)
}

/// When another order may be made, after those at `orders` (ascending).
pub(super) fn allowed(orders: &[u64], now: u64) -> u64 {
    let last_hour = &orders[orders.partition_point(|at| at + HOUR <= now)..];
    match last_hour.len().checked_sub(ORDERS_PER_HOUR_MAX) {
        Some(over) => last_hour[over] + HOUR,
        None => now,
    }
}

/// Forgets orders that do not count any more.
pub(super) fn forget(orders: &mut Vec<u64>, now: u64) {
    // One from the future was made before the clock was set back: it would count for ever.
    orders.retain(|at| (at + HOUR > now) && *at <= now);
}

/// What is done next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next<'n> {
    /// The certificate of a name is ordered.
    Order(&'n str),
    /// The server is asked when to renew the certificate of a name.
    Ask(&'n str),
    /// Nothing for so many seconds.
    Sleep(u64),
}

/// What is done next, where `due` is when the first name is to be ordered, `allowed` when any may be, and `asked` when
/// the server is to be asked for the first name. Who waits for a certificate waits for no question; `None`: nothing.
pub(super) fn next<'n>(
    due: Option<(u64, &'n str)>,
    allowed: u64,
    asked: Option<(u64, &'n str)>,
    now: u64,
) -> Option<Next<'n>> {
    let due = due.map(|(due, name)| (due.max(allowed), name));
    match (due, asked) {
        (Some((due, name)), _) if due <= now => Some(Next::Order(name)),
        (_, Some((asked, name))) if asked <= now => Some(Next::Ask(name)),
        (due, asked) => {
            let first = due.into_iter().chain(asked).map(|(at, _)| at).min();
            first.map(|at| Next::Sleep(at - now))
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of some seconds"
)]
fn part(of: u64, chance: f64) -> u64 {
    (of as f64 * chance.clamp(0.0, 1.0)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life_or_a_little_earlier() {
        let lifetime = Lifetime { not_before: 1000 * DAY, not_after: 1090 * DAY };
        assert_eq!(lifetime.renewal(0.0), 1060 * DAY);
        assert_eq!(lifetime.renewal(1.0), 1060 * DAY - 90 * DAY / 24);
        assert_eq!(lifetime.latest(), 1090 * DAY - 90 * DAY / 12);
        assert_eq!(lifetime.earliest(), 1000 * DAY + HOUR);
        let short = Lifetime { not_before: 100, not_after: 148 };
        assert_eq!((short.earliest(), short.latest()), (102, 144));
        let backwards = Lifetime { not_before: 5, not_after: 3 };
        assert_eq!((backwards.renewal(0.5), backwards.latest()), (5, 5));
    }

    #[test]
    fn the_moment_lies_in_the_window_of_the_server() {
        assert_eq!(within(100, 200, 0.0), 100);
        assert_eq!(within(100, 200, 0.5), 150);
        assert_eq!(within(100, 200, 1.0), 200);
        assert_eq!(within(200, 100, 0.5), 200);
    }

    #[test]
    fn pauses_double_up_to_a_quarter_of_a_day() {
        let first = Duration::from_secs(300);
        let pauses = [1, 2, 3, 7, 8, 100].map(|failures| pause(first, failures, 0.0));
        assert_eq!(pauses, [300, 600, 1200, 19_200, 21_600, 21_600]);
        assert_eq!(pause(first, 1, 1.0), 270);
        assert_eq!(pause(Duration::from_secs(DAY), 3, 0.0), DAY, "who wants longer ones gets them");
    }

    #[test]
    fn what_is_due_is_ordered_before_the_server_is_asked_anything() {
        let next =
            |due, allowed, asked| next(Some((due, "due")), allowed, Some((asked, "asked")), 10);
        assert_eq!(next(10, 0, 0), Some(Next::Order("due")));
        assert_eq!(next(11, 0, 10), Some(Next::Ask("asked")));
        assert_eq!(next(0, 11, 10), Some(Next::Ask("asked")), "too many orders were made");
        assert_eq!(next(14, 0, 13), Some(Next::Sleep(3)));
        assert_eq!(next(0, 15, u64::MAX), Some(Next::Sleep(5)));
        assert_eq!(super::next(None, 0, None, 10), None);
    }

    #[test]
    fn no_more_orders_are_made_in_an_hour_than_may_be() {
        let most = ORDERS_PER_HOUR_MAX as u64;
        let mut orders: Vec<u64> = (0..most - 1).map(|n| 10_000 + n).collect();
        assert_eq!(allowed(&orders, 11_000), 11_000);
        orders.push(10_900);
        assert_eq!(allowed(&orders, 11_000), 13_600);
        assert_eq!(allowed(&orders, 13_600), 13_600);
        orders.push(10_901);
        assert_eq!(allowed(&orders, 11_000), 13_601);
        forget(&mut orders, 13_600 + most);
        assert_eq!(orders, [10_900, 10_901]);
        forget(&mut orders, 10_900);
        assert_eq!(orders, [10_900], "the clock was set back");
    }
}
