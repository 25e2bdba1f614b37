//! The JSON of the status page; apart from the domain types, so that both can change.

use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::balancer::app::live::AppCounters;
use crate::balancer::app::members::{Admission, Closed};
use crate::balancer::app::view::AppView;
use crate::balancer::assign::Outcome;
use crate::balancer::state::Snapshot;

#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    generation: u64,
    apps: Vec<App>,
}

#[derive(Serialize)]
struct App {
    name: String,
    domains: Vec<String>,
    path_prefixes: Vec<String>,
    affinity: bool,
    requests_in_flight: u64,
    upgraded_connections: u64,
    pins_made: u64,
    pins_followed: u64,
    pins_moved: u64,
    requests_refused: u64,
    backends: Vec<Backend>,
}

#[derive(Serialize)]
struct Backend {
    id: String,
    address: String,
    weight: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    incarnation: Option<String>,
    admission: &'static str,
    reason: &'static str,
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_probe: Option<Probe>,
    requests: u64,
    requests_in_flight: u64,
    pins_made: u64,
    pins_followed: u64,
    /// Upgraded connections and responses of server-sent events.
    streams: u64,
    /// Pinned clients seen in the last 5 to 10 minutes, about.
    bound_clients: u64,
    /// Unix seconds; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<u64>,
}

#[derive(Serialize)]
struct Probe {
    /// Unix seconds.
    at: u64,
    result: String,
}

/// The status of everything.
pub(super) fn status(snapshot: &Snapshot) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION"),
        generation: snapshot.generation,
        apps: snapshot.apps.iter().map(|view| app(view)).collect(),
    }
}

fn app(view: &AppView) -> App {
    let app = &view.app;
    let counters = app.live.seen();
    let count = |read: fn(&AppCounters) -> u64| counters.map_or(0, read);
    App {
        name: app.name.to_string(),
        domains: app.policy.domains.iter().map(ToString::to_string).collect(),
        path_prefixes: app.policy.path_prefixes.iter().map(ToString::to_string).collect(),
        affinity: app.affinity.is_some(),
        requests_in_flight: count(|counters| counters.in_flight.read()),
        upgraded_connections: count(|counters| counters.upgraded.read()),
        pins_made: count(|counters| counters.outcome_total(Outcome::Made)),
        pins_followed: count(|counters| counters.outcome_total(Outcome::Followed)),
        pins_moved: count(|counters| counters.outcome_total(Outcome::Moved)),
        requests_refused: count(|counters| counters.outcome_total(Outcome::Refused)),
        backends: view
            .admissions()
            .map(|(slot, admission)| backend(app.backend(slot), admission))
            .collect(),
    }
}

fn backend(backend: &crate::balancer::app::backend::Backend, admission: Admission) -> Backend {
    let live = &backend.live;
    let last_used = live.last_used.load(Ordering::Relaxed);
    Backend {
        id: backend.id.to_string(),
        address: backend.address.to_string(),
        weight: backend.weight,
        incarnation: backend.incarnation.as_ref().map(ToString::to_string),
        admission: admission.as_str(),
        reason: admission.reason(),
        health: health(admission),
        last_probe: live
            .last_probe()
            .map(|probe| Probe { at: probe.at, result: probe.outcome.to_string() }),
        requests: live.requests.read(),
        requests_in_flight: live.in_flight.read(),
        pins_made: live.pins_made.read(),
        pins_followed: live.pins_followed.read(),
        streams: live.streams.read(),
        bound_clients: live.bound_clients(),
        last_used: (last_used > 0).then_some(last_used),
    }
}

/// The health that an admission tells of; one in maintenance may be either.
fn health(admission: Admission) -> &'static str {
    match admission {
        Admission::Open
        | Admission::PinnedOnly
        | Admission::Closed(Closed::Drained | Closed::Quarantined) => "healthy",
        Admission::Closed(Closed::Unhealthy) => "unhealthy",
        Admission::Closed(Closed::Unknown | Closed::Maintenance) => "unknown",
    }
}
