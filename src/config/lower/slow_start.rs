//! The `slow_start` key of an app: `off`, a duration, or a section.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::fields::Problems;
use super::super::scalar;
use super::super::tree::{Tree, Value};
use super::SECOND;
use super::app::Scope;
use crate::balancer::app::slow_start::{PinnedStart, SlowStart};

/// How long a start may be told to take.
const DURATION: RangeInclusive<Duration> = SECOND..=Duration::from_secs(3600);

/// Reads the key; `None`: backends take their whole share at once.
pub(super) fn slow_start(
    tree: Option<&Tree>,
    scope: Scope<'_>,
    problems: &mut Problems,
) -> Option<SlowStart> {
    let tree = tree?;
    if !matches!(tree.value, Value::Map(_)) {
        let duration = problems.scalar(tree, word)??;
        return Some(SlowStart { duration, pinned: PinnedStart::AtOnce });
    }
    let mut fields = problems.fields(tree, "`slow_start`")?;
    let duration = match scope {
        Scope::App { .. } => fields.required("duration", problems),
        // It may be the apps that say how long.
        Scope::Defaults => fields.optional("duration"),
    };
    let duration =
        duration.map(|tree| problems.duration_or(Some(tree), &DURATION, *DURATION.start()));
    let pinned = [("at_once", PinnedStart::AtOnce), ("paced", PinnedStart::Paced)];
    let pinned = problems.choice(fields.optional("pinned"), &pinned);
    fields.finish(problems);
    Some(SlowStart { duration: duration?, pinned: pinned.unwrap_or(PinnedStart::AtOnce) })
}

fn word(text: &str) -> Result<Option<Duration>, String> {
    scalar::or_off(text, |text| scalar::duration_within(text, &DURATION))
}
