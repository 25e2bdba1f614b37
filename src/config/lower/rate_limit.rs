//! The `rate_limit` section of an app.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::fields::{Problems, Toggle};
use super::super::scalar::Switch;
use super::super::tree::Tree;
use super::SECOND;
use super::app::Scope;
use crate::balancer::app::limits::RateLimit;

/// Requests that may be allowed in a span, and at once: a microsecond apart at least.
const REQUESTS: RangeInclusive<u32> = 1..=1_000_000;

/// The span.
const PER: RangeInclusive<Duration> = SECOND..=Duration::from_secs(3600);

/// Reads the section; `None`: clients ask as often as they like.
pub(super) fn rate_limit(
    tree: &Tree,
    scope: Scope<'_>,
    problems: &mut Problems,
) -> Option<RateLimit> {
    let tree = match problems.noted(Toggle::of(tree, "rate_limit", &[Switch::Off]))? {
        Toggle::Off | Toggle::On => return None,
        Toggle::Section(tree) => tree,
    };
    let mut fields = problems.fields(tree, "`rate_limit`")?;
    let requests = match scope {
        Scope::App { .. } => fields.required("requests", problems),
        // It may be the apps that say how many.
        Scope::Defaults => fields.optional("requests"),
    };
    let requests = requests.map(|tree| problems.number_or(Some(tree), &REQUESTS, 1));
    let burst_tree = fields.optional("burst");
    let burst = problems.number_or(burst_tree, &REQUESTS, requests.unwrap_or(1));
    let per = problems.duration_or(fields.optional("per"), &PER, SECOND);
    let _address = problems.choice(fields.optional("by"), &[("address", ())]);
    fields.finish(problems);
    let (requests, burst) = (NonZeroU32::new(requests?)?, NonZeroU32::new(burst)?);
    Some(RateLimit { requests, per, burst })
}
