//! The `apps` and `defaults` sections.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::fields::{Fields, Problems};
use super::super::problem::{Place, Problem};
use super::super::scalar::{self, Switch};
use super::super::tree::{Tree, Value};
use super::affinity::affinity;
use super::{DAY, MILLISECOND, SECOND, duration_or};
use crate::balancer::affinity::AffinityPolicy;
use crate::balancer::affinity::token::BackendHash;
use crate::balancer::app::backend::{Address, BACKENDS_MAX, BackendSpec, WEIGHT_MAX};
use crate::balancer::app::health::Thresholds;
use crate::balancer::app::policy::{
    BackendTls, HealthPolicy, Policy, Probe, StatusRange, Timeouts, Verify,
};
use crate::balancer::name::{AppName, BackendId, DomainPattern, Incarnation, PathPrefix};
use crate::balancer::route::{AppIndex, PREFIXES_MAX, RouteTable};
use crate::balancer::state::AppSpec;

/// The policies of an app: what `defaults` may set for all.
struct Policies {
    affinity: Option<AffinityPolicy>,
    health: Option<HealthPolicy>,
    timeouts: Timeouts,
    tls: Option<BackendTls>,
}

/// Checks the `defaults` section by itself, also where every app replaces it.
pub(super) fn check_defaults(tree: &Tree, problems: &mut Problems) {
    let mut fields = problems.fields(tree, "`defaults`");
    policies(&mut fields, &[], &[], problems);
    fields.finish(problems);
}

/// Reads all apps and the name of the default one.
pub(super) fn apps(
    tree: &Tree,
    defaults: Option<&Tree>,
    default_app: Option<&Tree>,
    problems: &mut Problems,
) -> (Vec<AppSpec>, Option<AppName>) {
    let default_name = default_app.and_then(|tree| problems.scalar(tree, AppName::parse));
    let items = problems.list(tree);
    if let (Value::List(_), true) = (&tree.value, items.is_empty()) {
        problems.note(Problem::at(tree.place, "expected at least one app, found none"));
    }
    let mut names: HashMap<AppName, Place> = HashMap::new();
    let mut apps = Vec::new();
    let mut routes = Routes::default();
    for item in items {
        let merged = defaults.map_or_else(|| item.clone(), |defaults| item.clone().over(defaults));
        let Some(app) = app(&merged, default_name.as_ref(), problems) else { continue };
        if let Some(first) = names.insert(app.name.clone(), item.place) {
            let text =
                format!("two apps are named `{}`; the first is on line {}", app.name, first.line);
            problems.note(Problem::at(item.place, text));
        }
        routes.add(&app, item.place, problems);
        apps.push(app);
    }
    if let (Some(tree), Some(name)) = (default_app, &default_name)
        && !names.contains_key(name)
    {
        problems.note(Problem::at(tree.place, format!("there is no app `{name}`")));
    }
    (apps, default_name)
}

fn app(tree: &Tree, default_app: Option<&AppName>, problems: &mut Problems) -> Option<AppSpec> {
    let mut fields = problems.fields(tree, "an app");
    let name = fields.required("name", problems);
    let name = name.and_then(|tree| problems.scalar(tree, AppName::parse));
    let domains = words(fields.optional("domains"), DomainPattern::parse, problems);
    let prefixes_tree = fields.optional("path_prefixes");
    let path_prefixes = words(prefixes_tree, PathPrefix::parse, problems);
    if let Some(tree) = prefixes_tree
        && path_prefixes.len() > PREFIXES_MAX
    {
        let text =
            format!("expected at most {PREFIXES_MAX} prefixes, found {}", path_prefixes.len());
        problems.note(Problem::at(tree.place, text));
    }
    let is_default = name.is_some() && name.as_ref() == default_app;
    let domains_are_missing = fields.optional("domains").is_none() && !is_default;
    if domains_are_missing && matches!(tree.value, Value::Map(_)) {
        let problem = Problem::at(tree.place, "an app has no `domains`: no request would reach it");
        problems.note(
            problem.help("such as `domains: [shop.example.com]`, or name it in `default_app`"),
        );
    }
    let policies = policies(&mut fields, &domains, &path_prefixes, problems);
    let backends = fields.required("backends", problems);
    let backends = backends.map_or_else(Vec::new, |tree| backends_of(tree, problems));
    fields.finish(problems);
    let policy = Policy {
        domains,
        path_prefixes,
        health: policies.health,
        timeouts: policies.timeouts,
        tls: policies.tls,
    };
    Some(AppSpec { name: name?, affinity: policies.affinity, policy: Arc::new(policy), backends })
}

/// A list of words, each parsed and each once.
fn words<T: PartialEq, E: std::fmt::Display>(
    tree: Option<&Tree>,
    parse: impl Fn(&str) -> Result<T, E>,
    problems: &mut Problems,
) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    for tree in tree.map_or(&[][..], |tree| problems.list(tree)) {
        let Some(word) = problems.scalar(tree, &parse) else { continue };
        if all.contains(&word) {
            problems.note(Problem::at(tree.place, "this is on the list already"));
        } else {
            all.push(word);
        }
    }
    all
}

fn policies(
    fields: &mut Fields<'_>,
    domains: &[DomainPattern],
    prefixes: &[PathPrefix],
    problems: &mut Problems,
) -> Policies {
    let tls = fields.optional("backend_tls").and_then(|tree| backend_tls(tree, problems));
    Policies {
        affinity: affinity(fields.optional("affinity"), domains, prefixes, problems),
        health: health(fields.optional("health"), domains, tls.as_ref(), problems),
        timeouts: timeouts(fields.optional("timeouts"), problems),
        tls,
    }
}

fn backend_tls(tree: &Tree, problems: &mut Problems) -> Option<BackendTls> {
    if let Value::Scalar(_) = &tree.value {
        problems.choice(tree, &[("off", ())]);
        return None;
    }
    let mut fields = problems.fields(tree, "`backend_tls`");
    let server_name = fields.required("server_name", problems);
    let server_name = server_name.and_then(|tree| {
        problems.scalar(tree, |text| match DomainPattern::parse(text) {
            Ok(DomainPattern::Exact(name)) => Ok(name),
            Ok(DomainPattern::Below(_)) | Err(_) => Err("expected the name on the certificate"),
        })
    });
    let verify = fields.optional("verify").and_then(|tree| problems.scalar(tree, scalar::switch));
    fields.finish(problems);
    let verify = match verify {
        Some(Switch::Off) => Verify::Off,
        Some(Switch::On) | None => Verify::Full,
    };
    Some(BackendTls { server_name: server_name?, verify })
}

fn health(
    tree: Option<&Tree>,
    domains: &[DomainPattern],
    tls: Option<&BackendTls>,
    problems: &mut Problems,
) -> Option<HealthPolicy> {
    const INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));
    let nothing = Tree { place: Place::START, value: Value::Map(Vec::new()) };
    let tree = match tree {
        Some(tree) if matches!(tree.value, Value::Scalar(_)) => {
            match problems.scalar(tree, scalar::switch)? {
                Switch::Off => return None,
                Switch::On => &nothing,
            }
        }
        Some(tree) => tree,
        None => &nothing,
    };
    let mut fields = problems.fields(tree, "`health`");
    let path = fields.optional("path").and_then(|tree| problems.scalar(tree, scalar::request_path));
    let host_tree = fields.optional("host");
    let host = host_tree.and_then(|tree| problems.scalar(tree, scalar::host));
    let statuses_tree = fields.optional("statuses");
    let statuses = statuses_tree.map(|tree| words(Some(tree), scalar::statuses, problems));
    for (tree, key) in [(host_tree, "host"), (statuses_tree, "statuses")] {
        if let (Some(tree), None) = (tree, &path) {
            let problem = Problem::at(
                tree.place,
                format!("`{key}` needs `path`: without it a probe is a connect"),
            );
            problems.note(problem.help("add `path: /`"));
        }
    }
    let probe = match path {
        None => Probe::Tcp,
        Some(path) => Probe::Http {
            path,
            host: host.unwrap_or_else(|| probe_host(domains, tls)),
            statuses: statuses.unwrap_or_else(|| vec![StatusRange { first: 200, last: 399 }]),
        },
    };
    let interval = duration_or(fields.optional("interval"), INTERVAL, 5 * SECOND, problems);
    let failing = fields.optional("interval_failing");
    let policy = HealthPolicy {
        probe,
        interval,
        interval_failing: duration_or(failing, INTERVAL, interval.min(2 * SECOND), problems),
        jitter_percent: fields
            .optional("jitter_percent")
            .and_then(|tree| problems.number(tree, 0, 50))
            .unwrap_or(10),
        timeout: duration_or(
            fields.optional("timeout"),
            (10 * MILLISECOND, 60 * SECOND),
            2 * SECOND,
            problems,
        ),
        thresholds: Thresholds {
            rise: fields.optional("rise").and_then(|t| problems.number(t, 1, 100)).unwrap_or(2),
            fall: fields.optional("fall").and_then(|t| problems.number(t, 1, 100)).unwrap_or(3),
        },
    };
    fields.finish(problems);
    Some(policy)
}

/// What a probe says in `Host`: the name on the certificate, else the first exact domain.
fn probe_host(domains: &[DomainPattern], tls: Option<&BackendTls>) -> Box<str> {
    let exact = domains.iter().find_map(|domain| match domain {
        DomainPattern::Exact(name) => Some(name.clone()),
        DomainPattern::Below(_) => None,
    });
    tls.map(|tls| tls.server_name.clone()).or(exact).unwrap_or_else(|| "homing".into())
}

fn timeouts(tree: Option<&Tree>, problems: &mut Problems) -> Timeouts {
    let mut timeouts = Timeouts {
        connect: 5 * SECOND,
        first_byte: 30 * SECOND,
        idle: 55 * SECOND,
        upgraded_idle: 3600 * SECOND,
        admission: 10 * SECOND,
        keepalive: 50 * SECOND,
    };
    let Some(tree) = tree else { return timeouts };
    let mut fields = problems.fields(tree, "`timeouts`");
    for (key, value, least, most) in [
        ("connect", &mut timeouts.connect, 10 * MILLISECOND, 75 * SECOND),
        ("first_byte", &mut timeouts.first_byte, 100 * MILLISECOND, DAY),
        ("idle", &mut timeouts.idle, 100 * MILLISECOND, DAY),
        ("upgraded_idle", &mut timeouts.upgraded_idle, SECOND, 30 * DAY),
        ("admission", &mut timeouts.admission, Duration::ZERO, 75 * SECOND),
        ("keepalive", &mut timeouts.keepalive, SECOND, DAY),
    ] {
        *value = duration_or(fields.optional(key), (least, most), *value, problems);
    }
    fields.finish(problems);
    timeouts
}

fn backends_of(tree: &Tree, problems: &mut Problems) -> Vec<BackendSpec> {
    let items = problems.list(tree);
    if items.len() > BACKENDS_MAX {
        let text = format!("expected at most {BACKENDS_MAX} backends, found {}", items.len());
        problems.note(Problem::at(tree.place, text));
    }
    let mut hashes: HashMap<BackendHash, (BackendId, usize)> = HashMap::new();
    let mut addresses: HashMap<Address, usize> = HashMap::new();
    let mut backends = Vec::new();
    for item in items {
        let Some(backend) = backend(item, problems) else { continue };
        let line = item.place.line;
        if let Some((other, first)) =
            hashes.insert(BackendHash::of(&backend.id), (backend.id.clone(), line))
        {
            let text = if other == backend.id {
                format!("two backends have the id `{other}`; the first is on line {first}")
            } else {
                format!("`{}` and `{other}` (line {first}) have the same hash", backend.id)
            };
            problems.note(Problem::at(item.place, text).help("give one of them another id"));
        }
        if let Some(first) = addresses.insert(backend.address.clone(), line) {
            let text = format!(
                "two backends have the address `{}`; the first is on line {first}",
                backend.address
            );
            problems.note(
                Problem::at(item.place, text)
                    .help("one process is one backend; use `weight` for a larger share"),
            );
        }
        backends.push(backend);
    }
    backends
}

fn backend(tree: &Tree, problems: &mut Problems) -> Option<BackendSpec> {
    let mut fields = problems.fields(tree, "a backend");
    let id = fields.required("id", problems);
    let id = id.and_then(|tree| problems.scalar(tree, BackendId::parse));
    let address = fields.required("address", problems);
    let address = address.and_then(|tree| problems.scalar(tree, scalar::backend_address));
    let weight = match fields.optional("weight") {
        Some(tree) => problems.number(tree, 1, WEIGHT_MAX),
        None => Some(1),
    };
    let incarnation = fields.optional("incarnation");
    let incarnation = incarnation.and_then(|tree| problems.scalar(tree, Incarnation::parse));
    fields.finish(problems);
    Some(BackendSpec { id: id?, address: address?, weight: weight?, incarnation })
}

/// Which app has which domain and path, to find two that want the same.
#[derive(Default)]
struct Routes {
    table: RouteTable,
    places: Vec<(AppName, Place)>,
    /// The cookies under each domain: name, path, app.
    cookies: HashMap<DomainPattern, Vec<(Box<str>, Box<str>, AppName)>>,
}

impl Routes {
    fn add(&mut self, app: &AppSpec, place: Place, problems: &mut Problems) {
        let index = AppIndex(self.places.len());
        self.places.push((app.name.clone(), place));
        let prefixes = &app.policy.path_prefixes;
        for domain in &app.policy.domains {
            let whole = prefixes.is_empty().then_some(None);
            let mut conflicted = false;
            for prefix in whole.into_iter().chain(prefixes.iter().map(Some)) {
                if let Err(conflict) = self.table.add(domain, prefix, index) {
                    let (first, at) = &self.places[conflict.taken_by.0];
                    let text = format!(
                        "{conflict}: to `{first}` (line {}) and to `{}`",
                        at.line, app.name
                    );
                    problems.note(
                        Problem::at(place, text).help("part them by `domains` or `path_prefixes`"),
                    );
                    conflicted = true;
                }
            }
            if !conflicted {
                self.add_cookie(domain, app, place, problems);
            }
        }
    }

    /// Two apps on one domain whose cookies have the same name and path would overwrite each other's.
    fn add_cookie(
        &mut self,
        domain: &DomainPattern,
        app: &AppSpec,
        place: Place,
        problems: &mut Problems,
    ) {
        let Some(affinity) = &app.affinity else { return };
        let (name, path) = (&affinity.cookie.name, &affinity.cookie.path);
        let others = self.cookies.entry(domain.clone()).or_default();
        if let Some((_, _, other)) = others.iter().find(|(n, p, _)| n == name && p == path) {
            let text = format!(
                "`{}` and `{other}` share `{domain}`, and both set a cookie `{name}` with path `{path}`",
                app.name
            );
            let help = format!(
                "give one of them its own: `affinity: {{ cookie: {{ name: {name}-{} }} }}`",
                app.name
            );
            problems.note(Problem::at(place, text).help(help));
        }
        others.push((name.clone(), path.clone(), app.name.clone()));
    }
}
