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
use crate::balancer::app::policy::{HealthPolicy, Probe, StatusRange};
use crate::balancer::app::protocol::BackendProtocol;
use crate::balancer::app::tls::BackendTls;
use crate::balancer::name::DomainPattern;

/// The statuses that pass, unless the file says otherwise.
const STATUSES: StatusRange = StatusRange { first: 200, last: 399 };

/// Longest name of a service, in bytes.
const SERVICE_BYTES_MAX: usize = 255;

/// Reads the section; `None`: backends are not probed.
pub(super) fn health(
    tree: Option<&Tree>,
    scope: Scope<'_>,
    tls: Option<&BackendTls>,
    protocol: BackendProtocol,
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
    let grpc = fields.optional("grpc").and_then(|tree| grpc(tree, scope, protocol, problems));
    let keys = Keys {
        path: fields.optional("path"),
        host: fields.optional("host"),
        statuses: fields.optional("statuses"),
    };
    let probe = probe(&keys, grpc, scope, tls, problems);
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

/// What says what is asked, and what is expected.
struct Keys<'t> {
    path: Option<&'t Tree>,
    host: Option<&'t Tree>,
    statuses: Option<&'t Tree>,
}

fn probe(
    keys: &Keys<'_>,
    grpc: Option<Box<str>>,
    scope: Scope<'_>,
    tls: Option<&BackendTls>,
    problems: &mut Problems,
) -> Probe {
    let path = keys.path.and_then(|tree| problems.scalar(tree, scalar::request_path));
    let host = keys.host.and_then(|tree| problems.scalar(tree, scalar::host));
    let statuses = keys.statuses.map(|tree| statuses(tree, problems));
    let host = || host.unwrap_or_else(|| probe_host(scope.domains(), tls));
    if let Some(service) = grpc {
        for (tree, key) in [(keys.path, "path"), (keys.statuses, "statuses")] {
            let Some(tree) = tree else { continue };
            let text = format!("`{key}` and `grpc` are two ways to ask");
            problems.note(Problem::at(tree.place, text).help("leave one of the two out"));
        }
        return Probe::Grpc { service, host: host() };
    }
    // In `defaults` it may be the apps that say the path.
    if let (None, Scope::App { .. }) = (keys.path, scope) {
        for (tree, key) in [(keys.host, "host"), (keys.statuses, "statuses")] {
            let Some(tree) = tree else { continue };
            let text = format!("`{key}` needs `path`: without it a probe is a connect");
            problems.note(Problem::at(tree.place, text).help("add `path: /`"));
        }
    }
    match path {
        None => Probe::Tcp,
        Some(path) => {
            Probe::Http { path, host: host(), statuses: statuses.unwrap_or_else(|| vec![STATUSES]) }
        }
    }
}

/// The service that the health check of gRPC asks for; `None`: there is none.
fn grpc(
    tree: &Tree,
    scope: Scope<'_>,
    protocol: BackendProtocol,
    problems: &mut Problems,
) -> Option<Box<str>> {
    let service = match problems.noted(Toggle::of(tree, "grpc", &[Switch::On, Switch::Off]))? {
        Toggle::Off => return None,
        Toggle::On => "".into(),
        Toggle::Section(section) => {
            let mut fields = problems.fields(section, "`grpc`")?;
            let service = fields.optional("service");
            let service = service.and_then(|tree| problems.scalar(tree, service_name));
            fields.finish(problems);
            service.unwrap_or_default()
        }
    };
    // In `defaults` it may be the apps that say how backends are spoken to.
    if let (BackendProtocol::Http1, Scope::App { .. }) = (protocol, scope) {
        let problem =
            Problem::at(tree.place, "`grpc` needs HTTP/2, and backends are asked in HTTP/1.1");
        problems.note(problem.help("add `backend_protocol: h2c`, or `h2` with `backend_tls`"));
    }
    Some(service)
}

/// A name such as `shop.Cart`; empty for the whole server.
fn service_name(text: &str) -> Result<Box<str>, &'static str> {
    let is_name =
        text.bytes().all(|byte| byte.is_ascii_graphic()) && text.len() <= SERVICE_BYTES_MAX;
    if is_name {
        Ok(text.into())
    } else {
        Err("expected the name of a service, such as `shop.Cart`")
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
