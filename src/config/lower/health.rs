//! The `health` section of an app.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::fields::{Problems, Toggle};
use super::super::problem::Problem;
use super::super::scalar::{self, Switch};
use super::super::tree::{Tree, Value};
use super::app::Scope;
use super::{MILLISECOND, SECOND};
use crate::balancer::app::health::Thresholds;
use crate::balancer::app::policy::{BackendTls, HealthPolicy, Probe, StatusRange};
use crate::balancer::name::DomainPattern;

/// The statuses that pass, unless the file says otherwise.
const STATUSES: StatusRange = StatusRange { first: 200, last: 399 };

/// Reads the section; `None`: backends are not probed.
pub(super) fn health(
    tree: Option<&Tree>,
    scope: Scope<'_>,
    tls: Option<&BackendTls>,
    problems: &mut Problems,
) -> Option<HealthPolicy> {
    const INTERVAL: RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(3600);
    let switches = [Switch::On, Switch::Off];
    let toggle = tree.map_or(Ok(Toggle::On), |tree| Toggle::of(tree, "health", &switches));
    let tree = match problems.noted(toggle)? {
        Toggle::Off => return None,
        Toggle::On => Tree::BARE,
        Toggle::Section(tree) => tree,
    };
    let mut fields = problems.fields(tree, "`health`")?;
    let probe = probe(
        fields.optional("path"),
        fields.optional("host"),
        fields.optional("statuses"),
        scope,
        tls,
        problems,
    );
    let interval = problems.duration_or(fields.optional("interval"), &INTERVAL, 5 * SECOND);
    let failing = fields.optional("interval_failing");
    let failing = problems.duration_or(failing, &INTERVAL, interval.min(2 * SECOND));
    let jitter_percent = problems.number_or(fields.optional("jitter_percent"), &(0..=50), 10);
    let timeout = (10 * MILLISECOND)..=(60 * SECOND);
    let timeout = problems.duration_or(fields.optional("timeout"), &timeout, 2 * SECOND);
    let rise = problems.number_or(fields.optional("rise"), &(1..=100), 2);
    let fall = problems.number_or(fields.optional("fall"), &(1..=100), 3);
    fields.finish(problems);
    Some(HealthPolicy {
        probe,
        interval,
        interval_failing: failing,
        jitter_percent,
        timeout,
        thresholds: Thresholds { rise, fall },
    })
}

fn probe(
    path_tree: Option<&Tree>,
    host_tree: Option<&Tree>,
    statuses_tree: Option<&Tree>,
    scope: Scope<'_>,
    tls: Option<&BackendTls>,
    problems: &mut Problems,
) -> Probe {
    let path = path_tree.and_then(|tree| problems.scalar(tree, scalar::request_path));
    let host = host_tree.and_then(|tree| problems.scalar(tree, scalar::host));
    let statuses = statuses_tree.map(|tree| statuses(tree, problems));
    // In `defaults` it may be the apps that say the path.
    if let (None, Scope::App { .. }) = (path_tree, scope) {
        for (tree, key) in [(host_tree, "host"), (statuses_tree, "statuses")] {
            let Some(tree) = tree else { continue };
            let text = format!("`{key}` needs `path`: without it a probe is a connect");
            problems.note(Problem::at(tree.place, text).help("add `path: /`"));
        }
    }
    match path {
        None => Probe::Tcp,
        Some(path) => Probe::Http {
            path,
            host: host.unwrap_or_else(|| probe_host(scope.domains(), tls)),
            statuses: statuses.unwrap_or_else(|| vec![STATUSES]),
        },
    }
}

fn statuses(tree: &Tree, problems: &mut Problems) -> Vec<StatusRange> {
    if matches!(&tree.value, Value::List(items) if items.is_empty()) {
        let problem = Problem::at(tree.place, "expected at least one status, found none");
        problems.note(problem.help("leave `statuses` out for `[200-399]`"));
    }
    let items = problems.list(tree).unwrap_or(&[]);
    items.iter().filter_map(|item| problems.scalar(item, scalar::statuses)).collect()
}

/// What a probe says in `Host`: the name on the certificate, else the first exact domain.
fn probe_host(domains: &[DomainPattern], tls: Option<&BackendTls>) -> Box<str> {
    let exact = domains.iter().find_map(|domain| match domain {
        DomainPattern::Exact(name) => Some(name.clone()),
        DomainPattern::Below(_) => None,
    });
    tls.map(|tls| tls.server_name.clone()).or(exact).unwrap_or_else(|| "homing".into())
}
