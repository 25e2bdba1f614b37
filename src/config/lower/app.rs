//! The `apps` section.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use super::super::fields::{Fields, Problems};
use super::super::problem::Problem;
use super::super::scalar;
use super::super::tree::{Tree, Value};
use super::affinity::affinity;
use super::backend_tls::{backend_protocol, backend_tls};
use super::backends::backends;
use super::defaults::Defaults;
use super::errors::errors;
use super::firsts::Firsts;
use super::health::health;
use super::hsts::hsts;
use super::known::Known;
use super::lenient::lenient;
use super::limits::limits;
use super::outliers::outliers;
use super::pages::Pages;
use super::panic::panic;
use super::proxy_protocol::proxy_protocol;
use super::rate_limit::rate_limit;
use super::response_limits::response_limits;
use super::retries::retries;
use super::routes::Routes;
use super::slow_start::slow_start;
use super::{DAY, MILLISECOND, SECOND};
use crate::balancer::affinity::AffinityPolicy;
use crate::balancer::app::hsts::ToldHsts;
use crate::balancer::app::limits::{AppLimits, RateLimit};
use crate::balancer::app::outliers::OutlierPolicy;
use crate::balancer::app::panic::PanicPolicy;
use crate::balancer::app::policy::{HealthPolicy, Policy, Timeouts};
use crate::balancer::app::protocol::BackendProtocol;
use crate::balancer::app::response_limits::ResponseLimits;
use crate::balancer::app::retries::RetryPolicy;
use crate::balancer::app::slow_start::SlowStart;
use crate::balancer::app::tls::BackendTls;
use crate::balancer::failure::page::ErrorPolicy;
use crate::balancer::name::{AppName, BackendId, DomainPattern, PathPrefix};
use crate::balancer::route::PREFIXES_MAX;
use crate::balancer::shared::Shared;
use crate::balancer::state::AppSpec;
use crate::wire::fault::Lenient;
use crate::wire::proxied::Version;

/// The policies of an app: what `defaults` may set for all.
pub(super) struct Policies {
    /// What failures are answered with; also those that belong to no app.
    pub(super) errors: ErrorPolicy,
    affinity: Option<AffinityPolicy>,
    health: Option<HealthPolicy>,
    timeouts: Timeouts,
    response_limits: ResponseLimits,
    limits: AppLimits,
    rate_limit: Option<RateLimit>,
    tls: Option<BackendTls>,
    protocol: BackendProtocol,
    proxy_protocol: Option<Version>,
    hsts: Option<ToldHsts>,
    slow_start: Option<SlowStart>,
    outliers: Option<OutlierPolicy>,
    retries: RetryPolicy,
    panic: Option<PanicPolicy>,
    lenient: Lenient,
}

/// What policies are read for. It decides which of them can be held against each other.
#[derive(Clone, Copy)]
pub(super) enum Scope<'a> {
    /// An app. Its prefixes are `None` where one of them is wrong, which was noted.
    App { domains: &'a [DomainPattern], prefixes: Option<&'a [PathPrefix]>, ids: &'a Ids<'a> },
    /// All apps: each may still add what is missing.
    Defaults,
}

impl<'a> Scope<'a> {
    /// The domains that are known.
    pub(super) fn domains(self) -> &'a [DomainPattern] {
        match self {
            Self::App { domains, .. } => domains,
            Self::Defaults => &[],
        }
    }

    /// The path prefixes, where all of them are known.
    pub(super) fn prefixes(self) -> Option<&'a [PathPrefix]> {
        match self {
            Self::App { prefixes, .. } => prefixes,
            Self::Defaults => None,
        }
    }

    /// The ids of the backends, where all of them are known.
    pub(super) fn ids(self) -> Option<&'a HashSet<BackendId>> {
        match self {
            Self::App { ids, .. } => ids.get(),
            Self::Defaults => None,
        }
    }
}

/// Reads all apps and the name of the default one.
pub(super) fn apps(
    tree: &Tree,
    defaults: &Defaults<'_>,
    default_app: Option<&Tree>,
    known: &Known<'_>,
    pages: &mut Pages<'_>,
    problems: &mut Problems,
) -> Option<(Vec<Shared<AppSpec>>, Option<AppName>)> {
    let default_name = default_app.and_then(|tree| problems.scalar(tree, AppName::parse));
    let items = problems.list(tree)?;
    if items.is_empty() {
        problems.note(Problem::at(tree.place, "expected at least one app, found none"));
    }
    let mut lines: Firsts<AppName, usize> = Firsts::default();
    let mut apps = Vec::with_capacity(items.len());
    let mut routes = Routes::default();
    for (item, index) in items.iter().zip(0..) {
        let mut found = Problems::default();
        let app = app(item, defaults, default_name.as_ref(), &mut routes, pages, &mut found);
        let name = app.as_ref().map(|app| &app.name);
        if let Some(name) = name
            && let Some(first) = lines.earlier(name.clone(), item.place.line)
        {
            let text = format!("two apps are named `{name}`; the first is on line {first}");
            problems.note(Problem::at(item.place, text));
        }
        defaults.pass_on(found, name, problems);
        apps.extend(app.map(|app| known.share(app, index)));
    }
    if let (Some(tree), Some(name)) = (default_app, &default_name)
        && !lines.has(name)
    {
        problems.note(Problem::at(tree.place, format!("there is no app `{name}`")));
    }
    Some((apps, default_name))
}

fn app(
    tree: &Tree,
    defaults: &Defaults<'_>,
    default_app: Option<&AppName>,
    routes: &mut Routes,
    pages: &mut Pages<'_>,
    problems: &mut Problems,
) -> Option<AppSpec> {
    let mut fields = problems.fields(tree, "an app")?;
    let name = fields.required("name", problems);
    let name = name.and_then(|tree| problems.scalar(tree, AppName::parse));
    let is_default = name.is_some() && name.as_ref() == default_app;
    let domains_tree = fields.optional("domains");
    let domains = words(domains_tree, DomainPattern::parse, problems);
    if let Some(problem) = unreachable(tree, domains_tree).filter(|_| !is_default) {
        problems.note(problem);
    }
    let prefixes = prefixes(fields.optional("path_prefixes"), problems);
    let ids = Ids::of(tree);
    let scope = Scope::App { domains: &domains, prefixes: prefixes.as_deref(), ids: &ids };
    let policies = policies(&mut fields, defaults, scope, pages, problems);
    let backends_tree = fields.required("backends", problems);
    let backends = backends_tree.map_or_else(Vec::new, |tree| backends(tree, problems));
    fields.finish(problems);
    let are_prefixes_right = prefixes.is_some();
    let policy = Policy {
        domains,
        path_prefixes: prefixes.unwrap_or_default(),
        health: policies.health,
        timeouts: policies.timeouts,
        response_limits: policies.response_limits,
        limits: policies.limits,
        rate_limit: policies.rate_limit,
        tls: policies.tls,
        protocol: policies.protocol,
        proxy_protocol: policies.proxy_protocol,
        hsts: policies.hsts,
        slow_start: policies.slow_start,
        outliers: policies.outliers,
        retries: policies.retries,
        panic: policies.panic,
        lenient: policies.lenient,
        errors: policies.errors,
    };
    let affinity = policies.affinity;
    let app = AppSpec { name: name?, affinity, policy: Arc::new(policy), backends };
    if are_prefixes_right {
        routes.add(&app, tree.place, problems);
    }
    Some(app)
}

/// The mistake of an app that no domain leads to, unless it is the default one.
fn unreachable(app: &Tree, domains: Option<&Tree>) -> Option<Problem> {
    let Some(domains) = domains else {
        let problem = Problem::at(app.place, "an app has no `domains`: no request would reach it");
        let help = "such as `domains: [shop.example.com]`, or name it in `default_app`";
        return Some(problem.help(help));
    };
    let is_empty = matches!(&domains.value, Value::List(items) if items.is_empty());
    let problem = Problem::at(domains.place, "expected at least one domain, found none");
    let help = "such as `domains: [shop.example.com]`, or name the app in `default_app` and leave `domains` out";
    is_empty.then(|| problem.help(help))
}

/// The ids of the backends of an app, read once they are asked for. They are read again with the rest.
pub(super) struct Ids<'a> {
    app: &'a Tree,
    found: OnceCell<Option<HashSet<BackendId>>>,
}

impl<'a> Ids<'a> {
    fn of(app: &'a Tree) -> Self {
        Self { app, found: OnceCell::new() }
    }

    /// All of them, if they are right.
    fn get(&self) -> Option<&HashSet<BackendId>> {
        let read = || {
            let Value::List(items) = &self.app.get("backends")?.value else { return None };
            items.iter().map(|item| BackendId::parse(item.get("id")?.value.text()).ok()).collect()
        };
        self.found.get_or_init(read).as_ref()
    }
}

/// The path prefixes, if all of them are right.
fn prefixes(tree: Option<&Tree>, problems: &mut Problems) -> Option<Vec<PathPrefix>> {
    let before = problems.found.len();
    let prefixes = words(tree, PathPrefix::parse, problems);
    if let Some(tree) = tree
        && prefixes.len() > PREFIXES_MAX
    {
        let text = format!("expected at most {PREFIXES_MAX} prefixes, found {}", prefixes.len());
        problems.note(Problem::at(tree.place, text));
    }
    (problems.found.len() == before).then_some(prefixes)
}

/// A list of words, each parsed and each once.
fn words<T: Clone + Eq + Hash, E: Display>(
    tree: Option<&Tree>,
    parse: impl Fn(&str) -> Result<T, E>,
    problems: &mut Problems,
) -> Vec<T> {
    let items = tree.and_then(|tree| problems.list(tree)).unwrap_or(&[]);
    let mut listed = Firsts::default();
    let mut words = Vec::with_capacity(items.len());
    for item in items {
        let Some(word) = problems.scalar(item, &parse) else { continue };
        if listed.earlier(word.clone(), ()).is_none() {
            words.push(word);
        } else {
            problems.note(Problem::at(item.place, "this is on the list already"));
        }
    }
    words
}

/// Reads the policies, with what is left open taken from `defaults`.
pub(super) fn policies(
    fields: &mut Fields<'_>,
    defaults: &Defaults<'_>,
    scope: Scope<'_>,
    pages: &mut Pages<'_>,
    problems: &mut Problems,
) -> Policies {
    let tls = defaults.under_switch(fields.optional("backend_tls"), "backend_tls");
    let tls = tls.and_then(|tree| backend_tls(&tree, &mut pages.certificates, problems));
    let protocol_tree = defaults.under(fields.optional("backend_protocol"), "backend_protocol");
    let h2_tree = defaults.under(fields.optional("backend_h2"), "backend_h2");
    let protocol = backend_protocol(
        protocol_tree.as_deref(),
        h2_tree.as_deref(),
        tls.as_ref(),
        scope,
        problems,
    );
    let proxy_tree = defaults.under(fields.optional("proxy_protocol"), "proxy_protocol");
    let hsts_tree = defaults.under_switch(fields.optional("hsts"), "hsts");
    let affinity_tree = defaults.under_switch(fields.optional("affinity"), "affinity");
    let health_tree = defaults.under_switch(fields.optional("health"), "health");
    let timeouts_tree = defaults.under(fields.optional("timeouts"), "timeouts");
    let response_limits_tree =
        defaults.under(fields.optional("response_limits"), "response_limits");
    let rate_tree = defaults.under_switch(fields.optional("rate_limit"), "rate_limit");
    let limits_tree = defaults.under(fields.optional("limits"), "limits");
    let slow_start_tree = defaults.under(fields.optional("slow_start"), "slow_start");
    let lenient_tree = defaults.under(fields.optional("lenient"), "lenient");
    let outliers_tree = defaults.under_switch(fields.optional("outliers"), "outliers");
    let retries_tree = defaults.under_switch(fields.optional("retries"), "retries");
    let panic_tree = defaults.under(fields.optional("panic"), "panic");
    let errors_tree = defaults.under(fields.optional("errors"), "errors");
    if let Some(entry) = fields.renamed("maintenance_page") {
        let problem = Problem::at(entry, "`maintenance_page` is now one of several pages");
        problems.note(problem.help("say `errors: { pages: { maintenance: FILE } }`"));
    }
    Policies {
        affinity: affinity(affinity_tree.as_deref(), scope, problems),
        health: health(health_tree.as_deref(), scope, tls.as_ref(), protocol, problems),
        timeouts: timeouts(timeouts_tree.as_deref(), problems),
        response_limits: response_limits(response_limits_tree.as_deref(), problems),
        limits: limits(limits_tree.as_deref(), problems),
        rate_limit: rate_tree.and_then(|tree| rate_limit(&tree, scope, problems)),
        tls,
        protocol,
        proxy_protocol: proxy_protocol(proxy_tree.as_deref(), protocol, problems),
        hsts: hsts(hsts_tree.as_deref(), problems),
        slow_start: slow_start(slow_start_tree.as_deref(), scope, problems),
        outliers: outliers(outliers_tree.as_deref(), problems),
        retries: retries(retries_tree.as_deref(), problems),
        panic: panic(panic_tree.as_deref(), scope, problems),
        lenient: lenient(lenient_tree.as_deref(), problems),
        errors: errors(errors_tree.as_deref(), pages, problems),
    }
}

fn timeouts(tree: Option<&Tree>, problems: &mut Problems) -> Timeouts {
    let mut timeouts = Timeouts {
        connect: 5 * SECOND,
        connect_total: 15 * SECOND,
        total: None,
        first_byte: 30 * SECOND,
        idle: 55 * SECOND,
        upgraded_idle: 3600 * SECOND,
        admission: 10 * SECOND,
        keepalive: 50 * SECOND,
    };
    let Some(mut fields) = tree.and_then(|tree| problems.fields(tree, "`timeouts`")) else {
        return timeouts;
    };
    for (key, value, limits) in [
        ("connect", &mut timeouts.connect, (10 * MILLISECOND)..=(75 * SECOND)),
        ("connect_total", &mut timeouts.connect_total, (10 * MILLISECOND)..=(75 * SECOND)),
        ("first_byte", &mut timeouts.first_byte, (100 * MILLISECOND)..=DAY),
        ("idle", &mut timeouts.idle, (100 * MILLISECOND)..=DAY),
        ("upgraded_idle", &mut timeouts.upgraded_idle, SECOND..=(30 * DAY)),
        ("admission", &mut timeouts.admission, Duration::ZERO..=(75 * SECOND)),
        ("keepalive", &mut timeouts.keepalive, SECOND..=DAY),
    ] {
        *value = problems.duration_or(fields.optional(key), &limits, *value);
    }
    let total = fields.optional("total");
    timeouts.total = problems
        .or_off(total, None, |text| scalar::duration_within(text, &((100 * MILLISECOND)..=DAY)));
    fields.finish(problems);
    timeouts
}
