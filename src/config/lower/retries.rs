//! The `retries` key of an app: `off`, or a section.

use std::ops::RangeInclusive;

use super::super::fields::{Problems, Toggle};
use super::super::scalar::Switch;
use super::super::tree::Tree;
use crate::balancer::app::retries::RetryPolicy;

/// How often one request may be tried again: ten attempts in all, as the Heroku router makes them.
const RETRIES: RangeInclusive<u8> = 1..=9;

/// Retries in percent of the requests, unless the file says otherwise: as in Linkerd.
const BUDGET_PERCENT: u8 = 20;

/// Retries a second beside them, unless the file says otherwise: as in Linkerd.
const MIN_PER_SECOND: u32 = 10;

/// What holds without the key.
const DEFAULT: RetryPolicy = RetryPolicy {
    max: *RETRIES.end(),
    budget_percent: BUDGET_PERCENT,
    min_per_second: MIN_PER_SECOND,
};

/// Reads the key.
pub(super) fn retries(tree: Option<&Tree>, problems: &mut Problems) -> RetryPolicy {
    let Some(tree) = tree else { return DEFAULT };
    let tree = match problems.noted(Toggle::of(tree, "retries", &[Switch::On, Switch::Off])) {
        Some(Toggle::Off) => return RetryPolicy { max: 0, ..DEFAULT },
        Some(Toggle::On) | None => return DEFAULT,
        Some(Toggle::Section(tree)) => tree,
    };
    let Some(mut fields) = problems.fields(tree, "`retries`") else { return DEFAULT };
    let max = problems.number_or(fields.optional("max"), &RETRIES, DEFAULT.max);
    let percent = fields.optional("budget_percent");
    let budget_percent = problems.number_or(percent, &(0..=100), DEFAULT.budget_percent);
    let least = fields.optional("min_per_second");
    let min_per_second = problems.number_or(least, &(0..=1000), DEFAULT.min_per_second);
    fields.finish(problems);
    RetryPolicy { max, budget_percent, min_per_second }
}
