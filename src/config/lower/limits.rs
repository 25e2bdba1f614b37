//! The `limits` section of an app.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::fields::Problems;
use super::super::scalar::{self, Switch};
use super::super::tree::Tree;
use crate::balancer::app::limits::{AppLimits, OnOverload};

/// Most requests or connections that a limit may allow: more than any machine has ports for.
const COUNT: RangeInclusive<u64> = 1..=10_000_000;

/// Longest queue: each that waits there is looked through when one leaves it.
const QUEUE_MAX: usize = 10_000;

/// Longest wait in a queue: that of the Heroku router for a connection.
const QUEUE_TIMEOUT_MAX: Duration = Duration::from_secs(75);

/// Largest share that may be kept for pinned clients: without pins nobody would get one.
const RESERVE_PERCENT_MAX: u64 = 90;

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
        *value = number_or_off(fields.optional(key), &COUNT, *value, problems);
    }
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

/// A whole number within limits, or `off` for none; the default where there is neither.
pub(super) fn number_or_off(
    tree: Option<&Tree>,
    within: &RangeInclusive<u64>,
    default: Option<u64>,
    problems: &mut Problems,
) -> Option<u64> {
    let Some(tree) = tree else { return default };
    let parse = |text: &str| match (scalar::switch(text), text.parse::<u64>()) {
        (Ok(Switch::Off), _) => Ok(None),
        (_, Ok(number)) if within.contains(&number) => Ok(Some(number)),
        _ => {
            let (least, most) = (within.start(), within.end());
            Err(format!("expected a whole number from {least} to {most}, or `off`"))
        }
    };
    problems.scalar(tree, parse).unwrap_or(default)
}
