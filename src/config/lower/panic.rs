//! The `panic` key of an app: `off`, or a section.

use super::super::fields::{Problems, Toggle};
use super::super::scalar::Switch;
use super::super::tree::Tree;
use super::app::Scope;
use crate::balancer::app::panic::{PanicPolicy, Then};

/// The share of healthy backends below which an app panics, unless the file says otherwise: as in Envoy.
const BELOW_PERCENT: u8 = 50;

/// Reads the key; `None`: an app never panics. What it does then is said by the operator, and by nobody else.
pub(super) fn panic(
    tree: Option<&Tree>,
    scope: Scope<'_>,
    problems: &mut Problems,
) -> Option<PanicPolicy> {
    let tree = match problems.noted(Toggle::of(tree?, "panic", &[Switch::Off]))? {
        Toggle::Off | Toggle::On => return None,
        Toggle::Section(tree) => tree,
    };
    let mut fields = problems.fields(tree, "`panic`")?;
    let below = fields.optional("below_percent");
    let below_percent = problems.number_or(below, &(1..=100), BELOW_PERCENT);
    let then = match scope {
        Scope::App { .. } => fields.required("then", problems),
        // It may be the apps that say it.
        Scope::Defaults => fields.optional("then"),
    };
    let words = [("refuse", Then::Refuse), ("spread", Then::Spread)];
    let then = problems.choice(then, &words);
    fields.finish(problems);
    Some(PanicPolicy { below_percent, then: then? })
}
