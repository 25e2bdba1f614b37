//! The `limits` section of an app.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::fields::Problems;
use super::super::scalar;
use super::super::tree::Tree;
use super::COUNT;
use crate::balancer::app::limits::{AppLimits, OnOverload};

/// Longest queue: each that waits there is looked through when one leaves it.
const QUEUE_MAX: usize = 10_000;

/// Longest wait in a queue: that of the Heroku router for a connection.
const QUEUE_TIMEOUT_MAX: Duration = Duration::from_secs(75);

/// Largest share that may be kept for pinned clients: without pins nobody would get one.
const RESERVE_PERCENT_MAX: u64 = 90;

/// Bytes that a body may be limited to.
const BODY: RangeInclusive<u64> = 0..=(1 << 50);

/// Bytes a second that may be asked for.
const RATE: RangeInclusive<u64> = 1..=1_000_000;

/// How long a rate may count for nothing.
const RATE_GRACE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Reads the section.
pub(super) fn limits(tree: Option<&Tree>, problems: &mut Problems) -> AppLimits {
    let mut limits = AppLimits::default();
    let Some(mut fields) = tree.and_then(|tree| problems.fields(tree, "`limits`")) else {
        return limits;
    };
    for (key, value) in [
        ("app_in_flight", &mut limits.app_in_flight),
        ("backend_in_flight", &mut limits.backend_in_flight),
        ("connections", &mut limits.connections),
    ] {
        *value = problems.or_off(fields.optional(key), *value, |text| scalar::number(text, &COUNT));
    }
    let body = fields.optional("max_body");
    limits.max_body = problems.or_off(body, limits.max_body, |text| scalar::size(text, &BODY));
    for (key, value) in [("body_rate", &mut limits.body_rate), ("read_rate", &mut limits.read_rate)]
    {
        *value = problems.or_off(fields.optional(key), *value, |text| scalar::number(text, &RATE));
    }
    let grace = fields.optional("rate_grace");
    limits.rate_grace = problems.duration_or(grace, &RATE_GRACE, limits.rate_grace);
    let queue = fields.optional("queue");
    limits.queue = problems.number_or(queue, &(0..=QUEUE_MAX), limits.queue);
    limits.queue_timeout = problems.duration_or(
        fields.optional("queue_timeout"),
        &(Duration::ZERO..=QUEUE_TIMEOUT_MAX),
        limits.queue_timeout,
    );
    let reserve = fields.optional("reserve_percent");
    limits.reserve_percent =
        problems.number_or(reserve, &(0..=RESERVE_PERCENT_MAX), limits.reserve_percent);
    let ways = [("refuse", OnOverload::Refuse), ("move", OnOverload::Move)];
    let way = problems.choice(fields.optional("on_overload"), &ways);
    limits.on_overload = way.unwrap_or(limits.on_overload);
    fields.finish(problems);
    limits
}
