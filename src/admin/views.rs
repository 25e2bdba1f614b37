//! The JSON of the status page; apart from the domain types, so that both can change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use crate::balancer::administrative::Administrative;
use crate::balancer::app::backend::Slot;
use crate::balancer::app::live::AppCounters;
use crate::balancer::app::members::{Admission, Closed};
use crate::balancer::app::panic::Then;
use crate::balancer::app::view::AppView;
use crate::balancer::assign::Outcome;
use crate::issued::{Issued, Standing};
use crate::shared::{Load, Published, Reported};

#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    generation: u64,
    /// The process that serves.
    process: u32,
    /// What there is little left of, so that nobody new is let in: `connections`, `memory`.
    pressure: Vec<&'static str>,
    /// Processes that were replaced, and finish what they have.
    finishing: Vec<Finishing>,
    /// Certificates that an ACME server gives; absent: none are had that way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<Certificate>,
    apps: Vec<App>,
}

#[derive(Serialize)]
struct Certificate {
    name: Box<str>,
    /// When it expires, in Unix seconds; absent: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    /// When the next one is ordered, in Unix seconds.
    next_order: u64,
    /// Orders that failed since the last one that did not.
    failures: u32,
    /// Why the last one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Box<str>>,
}

impl From<&Standing> for Certificate {
    fn from(standing: &Standing) -> Self {
        let Standing { name, expires, next, failures, error } = standing.clone();
        Self { name, expires, next_order: next, failures, error }
    }
}

#[derive(Serialize)]
struct Finishing {
    process: u32,
    connections: u64,
    streams: u64,
    /// Seconds until what is left is cut.
    deadline_seconds: u64,
    /// How long ago it said so, in milliseconds; absent: it said nothing yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    reported_ms_ago: Option<u64>,
}

#[derive(Serialize)]
struct App {
    name: String,
    domains: Vec<String>,
    path_prefixes: Vec<String>,
    affinity: bool,
    maintenance: bool,
    /// What the app does since most backends are unhealthy; absent: enough are healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    panic: Option<&'static str>,
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
    /// How much of its weight counts at this moment, in percent: less than all while it starts slowly, and more
    /// or less for the clients that it has, where they are rebalanced.
    share_percent: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    incarnation: Option<String>,
    /// What the operator wants.
    administrative: &'static str,
    /// When its drain ends, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<u64>,
    admission: &'static str,
    reason: &'static str,
    /// Whether it is ejected, since its requests fail. It is open all the same while no other backend is.
    ejected: bool,
    health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_probe: Option<Probe>,
    requests: u64,
    /// Those of replaced processes included, as for `streams`.
    requests_in_flight: u64,
    /// Requests that wait for a place here.
    requests_waiting: u64,
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
pub(super) fn status(
    published: &Published,
    pressure: Vec<&'static str>,
    issued: &Issued,
    now: Duration,
) -> Status {
    let (snapshot, elsewhere) = (published.load(), published.elsewhere());
    let known = Known { wanted: published.administrative(), elsewhere: &elsewhere };
    let finishing = |(pid, reported): (&u32, &Reported)| Finishing {
        process: *pid,
        connections: reported.held.connections,
        streams: reported.held.streams(),
        deadline_seconds: reported.held.deadline_seconds,
        reported_ms_ago: reported
            .at
            .and_then(|at| u64::try_from(now.saturating_sub(at).as_millis()).ok()),
    };
    Status {
        version: env!("CARGO_PKG_VERSION"),
        generation: snapshot.generation,
        process: std::process::id(),
        pressure,
        finishing: elsewhere.iter().map(finishing).collect(),
        certificates: issued.standings().iter().map(Certificate::from).collect(),
        apps: snapshot.apps.iter().map(|view| app(view, &known)).collect(),
    }
}

/// What is known of backends besides the snapshot.
struct Known<'k> {
    wanted: Arc<Administrative>,
    elsewhere: &'k BTreeMap<u32, Reported>,
}

impl Known<'_> {
    /// What replaced processes have in hand for a backend.
    fn held(&self, app: &str, backend: &str) -> Load {
        let mut load = Load::default();
        if self.elsewhere.is_empty() {
            return load;
        }
        let key = format!("{app}/{backend}");
        for held in self.elsewhere.values().filter_map(|one| one.held.backends.get(&key)) {
            load.requests_in_flight += held.requests_in_flight;
            load.streams += held.streams;
        }
        load
    }
}

fn app(view: &AppView, known: &Known<'_>) -> App {
    let app = &view.app;
    let counters = app.live.seen();
    let count = |read: fn(&AppCounters) -> u64| counters.map_or(0, read);
    App {
        name: app.name.to_string(),
        domains: app.policy.domains.iter().map(ToString::to_string).collect(),
        path_prefixes: app.policy.path_prefixes.iter().map(ToString::to_string).collect(),
        affinity: app.affinity.is_some(),
        maintenance: view.maintenance,
        panic: view.panic.map(Then::as_str),
        requests_in_flight: count(|counters| counters.in_flight.read()),
        upgraded_connections: count(|counters| counters.upgraded.read()),
        pins_made: count(|counters| counters.outcome_total(Outcome::Made)),
        pins_followed: count(|counters| counters.outcome_total(Outcome::Followed)),
        pins_moved: count(|counters| counters.outcome_total(Outcome::Moved)),
        requests_refused: count(|counters| counters.outcome_total(Outcome::Refused)),
        backends: view
            .admissions()
            .zip(view.bound_clients())
            .map(|((slot, _), bound)| backend(view, slot, bound, known))
            .collect(),
    }
}

fn backend(view: &AppView, slot: Slot, bound_clients: u64, known: &Known<'_>) -> Backend {
    let (app, backend, admission) = (&view.app.name, view.app.backend(slot), view.admission(slot));
    let live = &backend.live;
    let last_used = live.last_used.load(Ordering::Relaxed);
    let wish = known.wanted.wish(app.as_str(), backend.id.as_str());
    let held = known.held(app.as_str(), backend.id.as_str());
    Backend {
        id: backend.id.to_string(),
        address: backend.address.to_string(),
        weight: backend.weight,
        share_percent: view.weight(slot) / (u32::from(backend.weight) * 10),
        incarnation: backend.incarnation.as_ref().map(ToString::to_string),
        administrative: wish.state.as_str(),
        deadline: wish.deadline,
        admission: admission.as_str(),
        reason: view.reason(slot),
        ejected: view.is_ejected(slot),
        health: health(admission),
        last_probe: live
            .last_probe()
            .map(|probe| Probe { at: probe.at, result: probe.outcome.to_string() }),
        requests: live.requests.read(),
        requests_in_flight: live.in_flight.read() + held.requests_in_flight,
        requests_waiting: live.queue.len() as u64,
        pins_made: live.pins_made.read(),
        pins_followed: live.pins_followed.read(),
        streams: live.streams.read() + held.streams,
        bound_clients,
        last_used: (last_used > 0).then_some(last_used),
    }
}

/// The health that an admission tells of; one in maintenance may be either.
fn health(admission: Admission) -> &'static str {
    match admission {
        Admission::Open
        | Admission::PinnedOnly
        | Admission::Closed(Closed::Drained | Closed::Ejected | Closed::Quarantined) => "healthy",
        Admission::Closed(Closed::Unhealthy) => "unhealthy",
        Admission::Closed(Closed::Unknown | Closed::Maintenance) => "unknown",
    }
}
