//! The `outliers` key of an app: `off`, `on`, or a section.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::fields::{Problems, Toggle};
use super::super::problem::Problem;
use super::super::scalar::{self, Switch};
use super::super::tree::Tree;
use super::SECOND;
use crate::balancer::app::outliers::{End, FailureShare, OutlierPolicy, Pinned};
use crate::balancer::app::policy::StatusRange;

/// How many failures in a row make an outlier, unless the file says otherwise: as in Envoy.
const CONSECUTIVE: u32 = 5;
/// What it may be told to be. One alone would be any client that left its backend without an answer.
const CONSECUTIVES: RangeInclusive<u32> = 2..=1000;

/// What a gateway says of the app behind it, which is no answer of the app.
const STATUSES: StatusRange = StatusRange { first: 502, last: 504 };

/// Of how many requests a share is told, unless the file says otherwise: as in Envoy.
const REQUESTS: u32 = 50;
/// What it may be told to be; a count of so many fits in the record.
const REQUEST_COUNTS: RangeInclusive<u32> = 5..=100_000;

/// Within which span a share is told, unless the file says otherwise: as in Envoy.
const INTERVAL: Duration = SECOND.saturating_mul(10);
/// What it may be told to be.
const INTERVALS: RangeInclusive<Duration> = SECOND..=SECOND.saturating_mul(600);

/// How long the first ejection takes, unless the file says otherwise: as in Envoy.
const EJECTION: Duration = SECOND.saturating_mul(30);
/// How long any takes at most, unless the file says otherwise: as in Envoy.
const EJECTION_MAX: Duration = SECOND.saturating_mul(300);
/// What either may be told to be.
const EJECTIONS: RangeInclusive<Duration> = SECOND..=SECOND.saturating_mul(3600);

/// Reads the key; `None`: probes alone decide.
pub(super) fn outliers(tree: Option<&Tree>, problems: &mut Problems) -> Option<OutlierPolicy> {
    let switches = [Switch::On, Switch::Off];
    let toggle = Toggle::of(tree?, "outliers", &switches);
    let tree = match problems.noted(toggle)? {
        Toggle::Off => return None,
        Toggle::On => Tree::BARE,
        Toggle::Section(tree) => tree,
    };
    let mut fields = problems.fields(tree, "`outliers`")?;
    let consecutive = problems.or_off(fields.optional("consecutive"), Some(CONSECUTIVE), |text| {
        scalar::number(text, &CONSECUTIVES)
    });
    let percent = problems
        .or_off(fields.optional("failure_percent"), None, |text| scalar::number(text, &(1..=100)));
    let requests = problems.number_or(fields.optional("requests"), &REQUEST_COUNTS, REQUESTS);
    let interval = problems.duration_or(fields.optional("interval"), &INTERVALS, INTERVAL);
    let statuses = fields.optional("statuses").map(|tree| statuses(tree, problems));
    let ejection_tree = fields.optional("ejection");
    let ejection = problems.duration_or(ejection_tree, &EJECTIONS, EJECTION);
    let most = fields.optional("ejection_max");
    let ejection_max = problems.duration_or(most, &EJECTIONS, EJECTION_MAX.max(ejection));
    let max_ejected_percent =
        problems.number_or(fields.optional("max_ejected_percent"), &(1..=100), 50);
    let pinned = [("keep", Pinned::Keep), ("move", Pinned::Move)];
    let pinned = problems.choice(fields.optional("pinned"), &pinned);
    let end = [("time", End::Time), ("probes", End::Probes)];
    let end = problems.choice(fields.optional("end"), &end);
    let place = fields.place;
    fields.finish(problems);
    if consecutive.is_none() && percent.is_none() {
        let problem = Problem::at(place, "nothing makes a backend an outlier here");
        problems.note(problem.help("set `consecutive` or `failure_percent`, or `outliers: off`"));
    }
    if let Some(tree) = most.or(ejection_tree)
        && ejection_max < ejection
    {
        let text = "`ejection_max` is shorter than `ejection`";
        problems.note(Problem::at(tree.place, text));
    }
    let share = |percent| FailureShare { percent, requests, interval };
    Some(OutlierPolicy {
        consecutive,
        share: percent.map(share),
        statuses: statuses.unwrap_or_else(|| vec![STATUSES]),
        ejection,
        ejection_max,
        max_ejected_percent,
        pinned: pinned.unwrap_or_default(),
        end: end.unwrap_or(End::Time),
    })
}

fn statuses(tree: &Tree, problems: &mut Problems) -> Vec<StatusRange> {
    let items = problems.list(tree).unwrap_or(&[]);
    items.iter().filter_map(|item| problems.scalar(item, scalar::statuses)).collect()
}
