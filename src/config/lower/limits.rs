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
        *value = number_or_off(fields.optional(key), &COUNT, *value, problems);
    }
    let body = fields.optional("max_body");
    limits.max_body = bytes_or_off(body, &BODY, limits.max_body, problems);
    for (key, value) in [("body_rate", &mut limits.body_rate), ("read_rate", &mut limits.read_rate)]
    {
        *value = number_or_off(fields.optional(key), &RATE, *value, problems);
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

/// A duration within limits, or `off` for none.
pub(super) fn duration_or_off(
    tree: Option<&Tree>,
    within: &RangeInclusive<Duration>,
    problems: &mut Problems,
) -> Option<Duration> {
    let parse = |text: &str| match scalar::switch(text) {
        Ok(Switch::Off) => Ok(None),
        Ok(Switch::On) | Err(_) => match scalar::duration_within(text, within) {
            Ok(duration) => Ok(Some(duration)),
            Err(expected) => Err(format!("{expected}, or `off`")),
        },
    };
    tree.and_then(|tree| problems.scalar(tree, parse)).flatten()
}

/// A number of bytes within limits, or `off` for none; the default where there is neither.
pub(super) fn bytes_or_off(
    tree: Option<&Tree>,
    within: &RangeInclusive<u64>,
    default: Option<u64>,
    problems: &mut Problems,
) -> Option<u64> {
    const EXPECTED: &str = "expected a size such as `65536`, `64KiB`, `10MiB` or `2GiB`, or `off`";
    let parse = |text: &str| {
        if scalar::switch(text) == Ok(Switch::Off) {
            return Ok(None);
        }
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit = match &text[digits..] {
            "" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1_u64 << 30,
            _ => return Err(EXPECTED),
        };
        let bytes = text[..digits].parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
        bytes.filter(|bytes| within.contains(bytes)).map(Some).ok_or(EXPECTED)
    };
    let Some(tree) = tree else { return default };
    problems.scalar(tree, parse).unwrap_or(default)
}
