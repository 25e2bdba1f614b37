//! The `hsts` section of an app.

use std::time::Duration;

use super::super::fields::{Problems, Toggle};
use super::super::problem::Problem;
use super::super::scalar::{self, Switch};
use super::super::tree::Tree;
use crate::balancer::app::hsts::{Hsts, ToldHsts};

/// How long browsers may be told to remember.
const MAX_AGE_MAX: Duration = Duration::from_secs(730 * 86_400);

/// A year, which lists of browsers ask for at least.
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Reads the section; `None`: browsers are told nothing.
pub(super) fn hsts(tree: Option<&Tree>, problems: &mut Problems) -> Option<ToldHsts> {
    let tree = tree?;
    let mut hsts = Hsts { max_age: YEAR, include_subdomains: false, preload: false };
    let section = match problems.noted(Toggle::of(tree, "hsts", &[Switch::Off, Switch::On]))? {
        Toggle::Off => return None,
        Toggle::On => return Some(hsts.into()),
        Toggle::Section(section) => section,
    };
    let mut fields = problems.fields(section, "`hsts`")?;
    let limits = Duration::ZERO..=MAX_AGE_MAX;
    hsts.max_age = problems.duration_or(fields.optional("max_age"), &limits, hsts.max_age);
    let mut switch = |tree: Option<&Tree>| {
        tree.and_then(|tree| problems.scalar(tree, scalar::switch)) == Some(Switch::On)
    };
    hsts.include_subdomains = switch(fields.optional("include_subdomains"));
    let preload = fields.optional("preload");
    hsts.preload = switch(preload);
    fields.finish(problems);
    if let Some(tree) = preload.filter(|_| hsts.preload)
        && (hsts.max_age < YEAR || !hsts.include_subdomains)
    {
        let problem = Problem::at(tree.place, "the lists of browsers take no such app");
        let help =
            "say `include_subdomains: on` and a `max_age` of 365d at least, or leave `preload` out";
        problems.note(problem.help(help));
    }
    Some(hsts.into())
}
