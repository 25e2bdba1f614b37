//! Every metric: name, help, labels, in one list.
//!
//! Requests count in plain atomics that belong to apps and backends (`balancer::app::live`); this
//! collector turns them into series when Prometheus asks. What is not in the snapshot any more has no
//! series any more.

mod acme;
mod tls;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder, Registry, TextEncoder};

use crate::balancer::app::backend::{Backend, Slot};
use crate::balancer::app::histogram::{AGE_BOUNDS, DURATION_BOUNDS};
use crate::balancer::app::live::{AppLive, Connect};
use crate::balancer::app::members::Admission;
use crate::balancer::app::outliers::Why;
use crate::balancer::app::view::AppView;
use crate::balancer::assign::Cause;
use crate::balancer::state::Snapshot;
use crate::issued::Issued;
use crate::shared::{Published, Tallies};
use crate::telemetry::access_log::AccessLog;
use crate::tls::certificate::Certificate;
use crate::tls::tally::Tally;

/// The label `app` of requests that no app serves; no app can have this name.
const NO_APP: &str = "-";

/// What the metrics are read from.
pub struct Sources {
    /// Apps and backends.
    pub published: Arc<Published>,
    /// Requests that no app serves.
    pub unrouted: Arc<AppLive>,
    /// Client connections: how many are open, and how many were accepted.
    pub connections: Box<dyn Fn() -> (u64, u64) + Send + Sync>,
    /// Connections that were closed as they were accepted, by reason.
    pub closed: Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>,
    /// Connections that did not begin with a header of the PROXY protocol as they should, by reason.
    pub unproxied: Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>,
    /// Connections of HTTP/2 that were ended for their frames, by fault.
    pub http2_faults: Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>,
    /// What the process may run out of, and whether it does.
    pub short: Box<dyn Fn() -> [(&'static str, bool); 2] + Send + Sync>,
    /// The access log.
    pub access_log: Arc<AccessLog>,
    /// What the process counts of itself.
    pub tallies: Arc<Tallies>,
    /// Certificates of an ACME server.
    pub issued: Arc<Issued>,
    /// What became of handshakes of TLS.
    pub handshakes: Arc<Tally>,
    /// The certificates that are shown, and by which listeners.
    pub certificates: Box<dyn Fn() -> Vec<(SocketAddr, Arc<Certificate>)> + Send + Sync>,
}

/// The metrics of the process.
pub struct Metrics {
    registry: Registry,
    /// What is told for ever, from when another process counts on.
    last: RwLock<Option<Vec<u8>>>,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// When two metrics have the same name.
    pub fn new(sources: Sources) -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        registry.register(Box::new(SourceCollector(sources)))?;
        Ok(Self { registry, last: RwLock::default() })
    }

    /// All metrics in the text format of Prometheus.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn text(&self) -> prometheus::Result<Vec<u8>> {
        // Held while the counters are read, so that `settle` waits for this.
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map_or_else(|| self.now(), |text| Ok(text.clone()))
    }

    /// Tells nothing new from now on. What is counted later is told by the process that takes over, which
    /// goes on from what is reported to it next: so nobody is told more here than there.
    pub fn settle(&self) {
        let mut last = self.last.write().unwrap_or_else(PoisonError::into_inner);
        if last.is_none() {
            *last = self.now().ok();
        }
    }

    fn now(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

struct SourceCollector(Sources);

impl Collector for SourceCollector {
    // The registry holds this one collector of ours: there is nothing to tell apart.
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let snapshot = self.0.published.load();
        let mut families = process(&self.0, &snapshot);
        families.extend(apps(&self.0, &snapshot));
        families.extend(backends(&snapshot));
        families.retain(|family| !family.get_metric().is_empty());
        families
    }
}

/// One family being filled.
struct Family(MetricFamily);

impl Family {
    fn new(kind: MetricType, name: &str, help: &str) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        Self(family)
    }

    fn counter(name: &str, help: &str) -> Self {
        Self::new(MetricType::COUNTER, name, help)
    }

    fn gauge(name: &str, help: &str) -> Self {
        Self::new(MetricType::GAUGE, name, help)
    }

    fn metric(&mut self, labels: &[(&str, &str)]) -> &mut Metric {
        let pair = |(name, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut metric = Metric::default();
        metric.set_label(labels.iter().map(pair).collect());
        let all = self.0.mut_metric();
        all.push(metric);
        let last = all.len() - 1;
        &mut all[last]
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus counts in floats, good to 53 bits")]
    fn add(&mut self, labels: &[(&str, &str)], value: u64) {
        let counts = self.0.get_field_type() == MetricType::COUNTER;
        let metric = self.metric(labels);
        if counts {
            let mut counter = Counter::default();
            counter.set_value(value as f64);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value as f64);
            metric.set_gauge(gauge);
        }
    }
}

fn process(sources: &Sources, snapshot: &Snapshot) -> Vec<MetricFamily> {
    let mut build = Family::gauge("homing_build_info", "The version that runs; always 1.");
    build.add(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    let mut generation =
        Family::gauge("homing_config_generation", "How many configurations were accepted.");
    generation.add(&[], snapshot.generation);
    let (open_now, accepted_ever) = (sources.connections)();
    let mut open = Family::gauge("homing_client_connections", "Client connections that are open.");
    open.add(&[], open_now);
    let mut accepted = Family::counter(
        "homing_client_connections_total",
        "Client connections that were accepted.",
    );
    accepted.add(&[], accepted_ever);
    let mut closed = Family::counter(
        "homing_client_connections_closed_total",
        "Client connections that were closed as they were accepted, by the limit they met.",
    );
    for (reason, count) in (sources.closed)() {
        closed.add(&[("reason", reason)], count);
    }
    let mut unproxied = Family::counter(
        "homing_proxy_protocol_refused_total",
        "Connections that were closed since they did not begin with a PROXY header as they should, by reason.",
    );
    for (reason, count) in (sources.unproxied)() {
        unproxied.add(&[("reason", reason)], count);
    }
    let mut faults = Family::counter(
        "homing_http2_faults_total",
        "Connections of HTTP/2 that were ended for their frames, by what was wrong.",
    );
    for (fault, count) in (sources.http2_faults)() {
        faults.add(&[("fault", fault)], count);
    }
    let mut pressure = Family::gauge(
        "homing_pressure",
        "Whether little is left of something, so that nobody new is let in: 1 while it is.",
    );
    for (reason, is_short) in (sources.short)() {
        pressure.add(&[("reason", reason)], u64::from(is_short));
    }
    let mut dropped = Family::counter(
        "homing_access_log_dropped_total",
        "Lines of the access log that were dropped because its buffer was full.",
    );
    let tallies = &sources.tallies;
    let read = |tally: &AtomicU64| tally.load(Ordering::Relaxed);
    dropped.add(&[], sources.access_log.dropped() + read(&tallies.log_dropped_before));
    let mut failed =
        Family::counter("homing_access_log_errors_total", "Writes of the access log that failed.");
    failed.add(&[], sources.access_log.failed() + read(&tallies.log_failed_before));
    let mut spans =
        Family::counter("homing_spans_total", "Spans of requests, by what became of them.");
    for (outcome, tally) in [
        ("dropped", &tallies.spans_dropped),
        ("failed", &tallies.spans_failed),
        ("sent", &tallies.spans_sent),
    ] {
        spans.add(&[("outcome", outcome)], read(tally));
    }
    let mut families = vec![
        build, generation, open, accepted, closed, unproxied, faults, pressure, dropped, failed,
        spans,
    ];
    families.extend(changes(sources));
    families.push(keys(snapshot));
    families.extend(acme::families(sources));
    families.extend(tls::families(sources));
    families.into_iter().map(|family| family.0).collect()
}

fn keys(snapshot: &Snapshot) -> Family {
    let mut opens = Family::counter(
        "homing_affinity_key_opens_total",
        "Pins that were read with a key, by its id.",
    );
    for key in snapshot.keyring.iter().flat_map(|ring| ring.keys()) {
        opens.add(&[("key", &key.id().to_string())], key.used().opens());
    }
    opens
}

/// Reloads, restarts, and what is left of processes that were replaced.
fn changes(sources: &Sources) -> Vec<Family> {
    let tallies = &sources.tallies;
    let read = |tally: &AtomicU64| tally.load(Ordering::Relaxed);
    let mut reloads = Family::counter(
        "homing_config_reloads_total",
        "Configurations that were read again, by what became of them.",
    );
    reloads.add(&[("outcome", "accepted")], read(&tallies.reloads_accepted));
    reloads.add(&[("outcome", "refused")], read(&tallies.reloads_refused));
    let mut last = Family::gauge(
        "homing_config_last_accepted_timestamp_seconds",
        "When a configuration was last accepted, in Unix seconds.",
    );
    last.add(&[], read(&tallies.last_accepted));
    let mut restarts = Family::counter(
        "homing_restarts_total",
        "Restarts since the service began, by what became of them.",
    );
    restarts.add(&[("outcome", "succeeded")], read(&tallies.restarts));
    restarts.add(&[("outcome", "failed")], read(&tallies.restarts_failed));
    let mut crashes = Family::counter(
        "homing_worker_crashes_total",
        "Workers that ended unasked since the service began.",
    );
    crashes.add(&[], read(&tallies.crashes));
    let elsewhere = sources.published.elsewhere();
    let mut finishing =
        Family::gauge("homing_finishing_workers", "Replaced workers that finish what they have.");
    finishing.add(&[], elsewhere.len() as u64);
    let mut connections =
        Family::gauge("homing_finishing_connections", "Client connections of replaced workers.");
    connections.add(&[], elsewhere.values().map(|one| one.held.connections).sum());
    let mut streams = Family::gauge(
        "homing_finishing_streams",
        "Upgraded connections and event streams of replaced workers.",
    );
    streams.add(&[], elsewhere.values().map(|one| one.held.streams()).sum());
    vec![reloads, last, restarts, crashes, finishing, connections, streams]
}

fn apps(sources: &Sources, snapshot: &Snapshot) -> Vec<MetricFamily> {
    let mut requests = Family::counter(
        "homing_http_requests_total",
        "Requests that ended, by the status sent (0: none was) and by what failed, if anything.",
    );
    let mut durations = Family::new(
        MetricType::HISTOGRAM,
        "homing_http_request_duration_seconds",
        "From the head of a request to the end of its response.",
    );
    let mut in_flight =
        Family::gauge("homing_http_requests_in_flight", "Requests that are being served.");
    let mut upgraded = Family::gauge(
        "homing_upgraded_connections",
        "Connections that became another protocol, such as WebSocket, and are open.",
    );
    let mut received =
        Family::counter("homing_http_request_bytes_total", "Bytes of request bodies.");
    let mut sent = Family::counter("homing_http_response_bytes_total", "Bytes of response bodies.");
    let mut affinity = Family::counter(
        "homing_affinity_requests_total",
        "Requests by what became of their pin, and why it was moved or refused.",
    );
    let mut pin_ages = Family::new(
        MetricType::HISTOGRAM,
        "homing_affinity_pin_age_seconds",
        "How long ago the pins of requests were made that followed them.",
    );
    let mut adopted = Family::counter(
        "homing_affinity_adopted_total",
        "Requests of clients that were known by the cookie of another load balancer, by its name.",
    );
    let mut retries = Family::counter(
        "homing_retries_total",
        "Retries of requests that failed before anything came of them, by whether the budget allowed them.",
    );
    let mut panic = Family::gauge(
        "homing_app_panic",
        "Whether most backends of an app that minds it are unhealthy: 1 while it panics.",
    );
    for view in snapshot.apps.iter() {
        if view.app.policy.panic.is_some() {
            panic.add(&[("app", view.app.name.as_str())], u64::from(view.panic.is_some()));
        }
        for (cookie, count) in view.app.live.adopted() {
            adopted.add(&[("app", view.app.name.as_str()), ("cookie", &cookie)], count);
        }
    }
    let named = snapshot.apps.iter().map(|view| (view.app.name.as_str(), &view.app.live));
    for (app, live) in named.chain([(NO_APP, &sources.unrouted)]) {
        let Some(counters) = live.seen() else { continue };
        for (status, failure, count) in counters.requests() {
            let status = status.to_string();
            requests.add(&[("app", app), ("status", &status), ("failure", &failure)], count);
        }
        let took = &counters.durations;
        let micros = histogram(&took.read(), &DURATION_BOUNDS, seconds(took.sum().read(), 1e6));
        durations.metric(&[("app", app)]).set_histogram(micros);
        let aged = &counters.pin_ages;
        let age = histogram(&aged.read(), &AGE_BOUNDS, seconds(aged.sum().read(), 1.0));
        pin_ages.metric(&[("app", app)]).set_histogram(age);
        in_flight.add(&[("app", app)], counters.in_flight.read());
        upgraded.add(&[("app", app)], counters.upgraded.read());
        if app != NO_APP {
            let (allowed, denied) = (&counters.retries_allowed, &counters.retries_denied);
            retries.add(&[("app", app), ("result", "allowed")], allowed.read());
            retries.add(&[("app", app), ("result", "denied")], denied.read());
        }
        received.add(&[("app", app)], counters.request_bytes.read());
        sent.add(&[("app", app)], counters.response_bytes.read());
        for (outcome, cause, count) in counters.affinity() {
            let cause = cause.map_or("", Cause::as_str);
            affinity.add(&[("app", app), ("outcome", outcome.as_str()), ("cause", cause)], count);
        }
    }
    let all = [
        requests, durations, in_flight, upgraded, received, sent, affinity, pin_ages, adopted,
        retries, panic,
    ];
    all.into_iter().map(|family| family.0).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a sum for a metric, good to 53 bits")]
fn seconds(sum: u64, per_second: f64) -> f64 {
    sum as f64 / per_second
}

fn histogram(counts: &[u64], bounds: &[f64], sum: f64) -> Histogram {
    let mut histogram = Histogram::default();
    let mut total = 0;
    let mut buckets = Vec::with_capacity(bounds.len());
    for (count, bound) in counts.iter().zip(bounds) {
        total += count;
        let mut bucket = Bucket::default();
        bucket.set_cumulative_count(total);
        bucket.set_upper_bound(*bound);
        buckets.push(bucket);
    }
    histogram.set_bucket(buckets);
    histogram.set_sample_count(counts.iter().sum());
    histogram.set_sample_sum(sum);
    histogram
}

fn backends(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let mut families = BackendFamilies::new();
    for view in snapshot.apps.iter() {
        let bound = view.bound_clients();
        for ((slot, admission), bound) in view.admissions().zip(&bound) {
            families.add(view, view.app.backend(slot), admission, *bound);
            if view.app.policy.outliers.is_some() {
                families.add_ejections(view, slot);
            }
        }
        if let Some(imbalance) = view.imbalance(&bound) {
            let labels = [("app", view.app.name.as_str())];
            let mut gauge = Gauge::default();
            gauge.set_value(imbalance);
            families.imbalance.metric(&labels).set_gauge(gauge);
        }
    }
    families.finish()
}

struct BackendFamilies {
    requests: Family,
    in_flight: Family,
    waiting: Family,
    admission: Family,
    transitions: Family,
    connects: Family,
    probes: Family,
    pins: Family,
    streams: Family,
    bound_clients: Family,
    imbalance: Family,
    ejections: Family,
    spared: Family,
    ejected: Family,
}

impl BackendFamilies {
    fn new() -> Self {
        Self {
            requests: Family::counter(
                "homing_backend_requests_total",
                "Requests assigned to a backend.",
            ),
            waiting: Family::gauge(
                "homing_backend_requests_waiting",
                "Requests that wait for a place at their backend.",
            ),
            in_flight: Family::gauge(
                "homing_backend_requests_in_flight",
                "Requests that a backend is serving.",
            ),
            admission: Family::gauge(
                "homing_backend_admission",
                "What a backend admits: 1 for the label that holds, 0 for the others.",
            ),
            transitions: Family::counter(
                "homing_backend_transitions_total",
                "Changes of what a backend admits, by what it admits since.",
            ),
            connects: Family::counter(
                "homing_backend_connects_total",
                "Attempts to get a connection to a backend, by how they ended.",
            ),
            probes: Family::counter("homing_health_probes_total", "Probes, by how they ended."),
            pins: Family::counter("homing_backend_pins_total", "Pins made and followed."),
            streams: Family::gauge(
                "homing_backend_streams",
                "Upgraded connections and responses of server-sent events that are open.",
            ),
            bound_clients: Family::gauge(
                "homing_backend_bound_clients",
                "Pinned clients seen in the last 5 to 10 minutes (estimate).",
            ),
            ejections: Family::counter(
                "homing_backend_ejections_total",
                "Ejections of a backend whose requests failed, by what showed it.",
            ),
            spared: Family::counter(
                "homing_backend_ejections_spared_total",
                "Ejections that were left out, since too few other backends take new clients.",
            ),
            ejected: Family::gauge(
                "homing_backend_ejected",
                "Whether a backend is ejected, where the app looks for outliers: 1 while it is.",
            ),
            imbalance: Family::gauge(
                "homing_affinity_imbalance_ratio",
                "The most pinned clients that an open backend has, as a multiple of its fair share.",
            ),
        }
    }

    fn add(&mut self, view: &AppView, backend: &Backend, admission: Admission, bound: u64) {
        let (app, id, live) = (view.app.name.as_str(), backend.id.as_str(), &backend.live);
        let one = [("app", app), ("backend", id)];
        let with = |name: &'static str, value| [("app", app), ("backend", id), (name, value)];
        self.requests.add(&one, live.requests.read());
        self.in_flight.add(&one, live.in_flight.read());
        self.waiting.add(&one, live.queue.len() as u64);
        for (index, label) in Admission::LABELS.iter().enumerate() {
            let holds = u64::from(index == admission.label_index());
            self.admission.add(&with("admission", label), holds);
            self.transitions.add(&with("to", label), live.transitions(index));
        }
        for connect in Connect::ALL {
            self.connects.add(&with("result", connect.as_str()), live.connects(connect));
        }
        self.probes.add(&with("result", "passed"), live.probes_passed.read());
        self.probes.add(&with("result", "failed"), live.probes_failed.read());
        self.pins.add(&with("event", "made"), live.pins_made.read());
        self.pins.add(&with("event", "followed"), live.pins_followed.read());
        self.streams.add(&one, live.streams.read());
        self.bound_clients.add(&one, bound);
    }

    fn add_ejections(&mut self, view: &AppView, slot: Slot) {
        let (app, backend) = (view.app.name.as_str(), view.app.backend(slot));
        let (id, live) = (backend.id.as_str(), &backend.live);
        let one = [("app", app), ("backend", id)];
        for why in Why::ALL {
            let labels = [("app", app), ("backend", id), ("reason", why.as_str())];
            self.ejections.add(&labels, live.ejections(why));
        }
        self.spared.add(&one, live.spared.read());
        self.ejected.add(&one, u64::from(view.is_ejected(slot)));
    }

    fn finish(self) -> Vec<MetricFamily> {
        let all = [
            self.requests,
            self.in_flight,
            self.waiting,
            self.admission,
            self.transitions,
            self.connects,
            self.probes,
            self.pins,
            self.streams,
            self.bound_clients,
            self.imbalance,
            self.ejections,
            self.spared,
            self.ejected,
        ];
        all.into_iter().map(|family| family.0).collect()
    }
}
