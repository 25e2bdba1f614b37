//! The `rebalance` key of an app's affinity: `off`, `on`, or a section.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::fields::{Problems, Toggle};
use super::super::scalar::Switch;
use super::super::tree::Tree;
use super::{DAY, SECOND};
use crate::balancer::rebalance::RebalancePolicy;

/// How many clients a backend may have, in thousandths of its share, unless the file says otherwise.
const BOUND: u16 = 1250;
/// What it may be told to be. Less would be chasing chance.
const BOUNDS: RangeInclusive<f64> = 1.01..=10.0;

/// Most clients that are moved in a minute, in percent, unless the file says otherwise.
const BUDGET_PERCENT: u8 = 10;

/// How long a client must have been idle, unless the file says otherwise: longer than pages poll.
const IDLE: Duration = SECOND.saturating_mul(60);
/// What it may be told to be.
const IDLES: RangeInclusive<Duration> = SECOND.saturating_mul(2)..=DAY;

/// How long a client that was moved is left alone, unless the file says otherwise.
const REST: Duration = SECOND.saturating_mul(3600);
/// What it may be told to be.
const RESTS: RangeInclusive<Duration> = SECOND..=DAY.saturating_mul(30);

/// Reads the key; `None`: clients stay where they are.
pub(super) fn rebalance(tree: Option<&Tree>, problems: &mut Problems) -> Option<RebalancePolicy> {
    let switches = [Switch::On, Switch::Off];
    let toggle = Toggle::of(tree?, "rebalance", &switches);
    let tree = match problems.noted(toggle)? {
        Toggle::Off => return None,
        Toggle::On => Tree::BARE,
        Toggle::Section(tree) => tree,
    };
    let mut fields = problems.fields(tree, "`rebalance`")?;
    let bound = fields.optional("bound").and_then(|tree| problems.scalar(tree, bound));
    let budget = fields.optional("budget_percent");
    let budget_percent = problems.number_or(budget, &(1..=100), BUDGET_PERCENT);
    let idle = problems.duration_or(fields.optional("idle"), &IDLES, IDLE);
    let rest = problems.duration_or(fields.optional("rest"), &RESTS, REST);
    fields.finish(problems);
    Some(RebalancePolicy { bound: bound.unwrap_or(BOUND), budget_percent, idle, rest })
}

/// A number such as `1.25`, in thousandths.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within BOUNDS, which fit"
)]
fn bound(text: &str) -> Result<u16, &'static str> {
    match text.parse::<f64>() {
        Ok(number) if BOUNDS.contains(&number) => Ok((number * 1000.0).round() as u16),
        Ok(_) | Err(_) => Err("expected a number from 1.01 to 10, such as 1.25"),
    }
}
