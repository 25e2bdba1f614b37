//! What the parts of a serving process share, whoever gives its orders.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::collector::Collector;
use super::drain::Draining;
use super::handover::{Counts, Predecessors, labelled};
use super::pages::Pages;
use super::resources::{connections, memory, raise_descriptors};
use crate::acme::Acme;
use crate::balancer::app::live::AppLive;
use crate::balancer::name::AppName;
use crate::balancer::rebalance::handed::forget_streams_elsewhere;
use crate::config::Config;
use crate::config::model::Api;
use crate::proxy::connection::Connections;
use crate::proxy::gate::Closed;
use crate::proxy::listeners::Listeners;
use crate::proxy::rate::Rates;
use crate::shared::{Clock, Published, Tallies};
use crate::supervisor::message::Tally;
use crate::telemetry::access_log::{AccessLog, Prepared};
use crate::wire::proxied::Refused;

/// A process that serves.
pub(super) struct Serving {
    pub(super) clock: Clock,
    pub(super) published: Arc<Published>,
    /// Counters of requests that no app serves.
    pub(super) unrouted: Arc<AppLive>,
    pub(super) connections: Arc<Connections>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) rates: Arc<Rates>,
    pub(super) drain: Arc<Draining>,
    pub(super) access_log: Arc<AccessLog>,
    pub(super) tallies: Arc<Tallies>,
    /// Who may change anything on the admin listener.
    pub(super) api: Arc<ArcSwapOption<Api>>,
    pub(super) predecessors: Predecessors,
    pub(super) gates: Gates,
    pub(super) pages: Pages,
    pub(super) collector: Collector,
    pub(super) acme: Acme,
    /// Answers to the operator that are being given.
    answering: Arc<AtomicU64>,
    watching_since: AtomicU64,
    /// When nothing else was left to do, on the monotonic clock.
    last_answers: OnceLock<Duration>,
    /// How long what runs may take to finish, by [`End`], in milliseconds.
    grace_periods: [AtomicU64; 2],
    /// Files that may be open at once.
    pub(super) descriptors: u64,
    /// Bytes of memory beyond which nobody new is let in; `u64::MAX`: no limit.
    memory_limit: AtomicU64,
}

/// Why a process ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// Another takes its place.
    Restart,
    /// Homing stops.
    Stop,
}

/// Which of the services may accept.
pub(super) struct Gates {
    clients: watch::Sender<bool>,
    admin: watch::Sender<bool>,
    admin_ended: watch::Sender<bool>,
}

impl Default for Gates {
    fn default() -> Self {
        let closed = || watch::Sender::new(false);
        Self { clients: closed(), admin: closed(), admin_ended: closed() }
    }
}

impl Gates {
    /// Lets clients in.
    pub(super) fn open_clients(&self) {
        self.clients.send_replace(true);
    }

    /// Lets those in who ask for metrics and status.
    pub(super) fn open_admin(&self) {
        self.admin.send_replace(true);
    }

    /// Leaves metrics and status to a successor.
    pub(super) fn end_admin(&self) {
        self.admin_ended.send_replace(true);
    }

    pub(super) fn clients(&self) -> watch::Receiver<bool> {
        self.clients.subscribe()
    }

    pub(super) fn admin(&self) -> (watch::Receiver<bool>, watch::Receiver<bool>) {
        (self.admin.subscribe(), self.admin_ended.subscribe())
    }
}

/// An answer to the operator that is being given: the process does not end before.
pub(super) struct Answering(Arc<AtomicU64>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Serving {
    pub(super) fn new(config: &Config, clock: Clock, access_log: Arc<AccessLog>) -> Self {
        let server = &config.server;
        let connections =
            Arc::new(Connections::new(server.head, server.head_timeout, server.keepalive_timeout));
        let tallies = Arc::<Tallies>::default();
        let published = Arc::<Published>::default();
        let acme = Acme::new(&config.state_dir, Arc::clone(&tallies), clock);
        let listeners = Listeners::new(Arc::clone(&published), clock, Arc::clone(&acme.issued));
        let serving = Self {
            clock,
            listeners: Arc::new(listeners),
            published,
            unrouted: Arc::default(),
            drain: Draining::new(Arc::clone(&connections), clock),
            connections,
            rates: Arc::default(),
            access_log,
            collector: Collector::new(Arc::clone(&tallies)),
            acme,
            tallies,
            api: Arc::default(),
            predecessors: Predecessors::default(),
            gates: Gates::default(),
            pages: Pages::new(&config.state_dir),
            answering: Arc::default(),
            last_answers: OnceLock::new(),
            watching_since: AtomicU64::new(clock.unix().as_secs()),
            grace_periods: Default::default(),
            descriptors: raise_descriptors(),
            memory_limit: AtomicU64::new(u64::MAX),
        };
        serving.tallies.last_accepted.store(clock.unix().as_secs(), Ordering::Relaxed);
        serving.settle(config, None);
        serving
    }

    /// Does as an accepted configuration says in what belongs to no app.
    pub(super) fn settle(&self, config: &Config, log: Option<Prepared>) {
        self.connections.limit(
            config.server.head,
            config.server.head_timeout,
            config.server.keepalive_timeout,
        );
        let server = &config.server;
        let total = server.connections.unwrap_or_else(|| connections(self.descriptors));
        let per_address = server.connections_per_address.unwrap_or((total / 4).max(1));
        self.connections.gate().allow(total, per_address);
        self.connections.limit_requests(server.requests_per_connection);
        self.connections.limit_streams(server.http2_streams);
        self.memory_limit.store(server.memory_limit.unwrap_or(u64::MAX), Ordering::Relaxed);
        for (end, limit) in
            [(End::Restart, server.restart_grace_period), (End::Stop, server.grace_period)]
        {
            let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            self.grace_periods[end as usize].store(millis, Ordering::Relaxed);
        }
        self.listeners.change(&config.listeners);
        self.published.trust(config.trusted_proxies.clone());
        self.published.answer_with(config.errors.clone());
        self.pages.want(config);
        self.acme.want(config);
        self.collector.settle(config.tracing.as_ref());
        let api = config.admin.as_ref().and_then(|admin| admin.api.clone());
        self.api.store(api.map(Arc::new));
        if let Some(Err(error)) = log.map(|log| self.access_log.change(log)) {
            tracing::error!(%error, "cannot start the access log");
        }
    }

    /// Looks whether the process runs out of memory or room for connections.
    pub(super) fn weigh(&self) {
        let limit = self.memory_limit.load(Ordering::Relaxed);
        let is_short = limit != u64::MAX && memory().is_some_and(|bytes| bytes > limit);
        for (short, begins) in self.connections.gate().weigh(is_short) {
            let of = short.as_str();
            match begins {
                true => tracing::warn!(of, "little is left: nobody new is let in"),
                false => tracing::info!(of, "enough is left again"),
            }
        }
    }

    /// Forgets clients whose requests are counted no more.
    pub(super) fn prune_rates(&self) {
        let snapshot = self.published.load();
        let limits = |app: &AppName| {
            snapshot.app(app.as_str()).is_some_and(|view| view.app.policy.rate_limit.is_some())
        };
        self.rates.prune(limits);
    }

    /// How long what runs may take to finish.
    pub(super) fn grace_period(&self, end: End) -> Duration {
        Duration::from_millis(self.grace_periods[end as usize].load(Ordering::Relaxed))
    }

    /// Counts an answer to the operator that is being given.
    pub(super) fn answering(&self) -> Answering {
        self.answering.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(&self.answering))
    }

    /// How many answers are being given.
    pub(super) fn answers(&self) -> u64 {
        self.answering.load(Ordering::Relaxed)
    }

    /// Whether the operator has every answer, or waited for it for `limit` since this was first asked.
    pub(super) fn has_answered(&self, limit: Duration) -> bool {
        let now = self.clock.monotonic();
        let asked = *self.last_answers.get_or_init(|| now);
        self.answers() == 0 || now.saturating_sub(asked) >= limit
    }

    /// What the process counted of itself, and those before it.
    pub(super) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            accepted: self.connections.accepted(),
            log_dropped: self.access_log.dropped() + read(&self.tallies.log_dropped_before),
            log_failed: self.access_log.failed() + read(&self.tallies.log_failed_before),
            reloads_accepted: read(&self.tallies.reloads_accepted),
            reloads_refused: read(&self.tallies.reloads_refused),
            spans_sent: read(&self.tallies.spans_sent),
            spans_dropped: read(&self.tallies.spans_dropped),
            spans_failed: read(&self.tallies.spans_failed),
            acme_issued: read(&self.tallies.acme_issued),
            acme_failed: read(&self.tallies.acme_failed),
            closed_address: self.connections.gate().closed(Closed::Address),
            closed_total: self.connections.gate().closed(Closed::Total),
            handshakes: labelled(self.listeners.tally().counted()),
            unproxied: labelled(
                Refused::ALL.map(|reason| (reason.as_str(), self.listeners.refused(reason))),
            ),
            http2_faults: labelled(self.connections.frame_faults().counts()),
        }
    }

    /// Adds what a process before this one counted.
    pub(super) fn add(&self, counts: Counts) {
        let add = |counter: &AtomicU64, count| counter.fetch_add(count, Ordering::Relaxed);
        self.connections.count_accepted(counts.accepted);
        add(&self.tallies.log_dropped_before, counts.log_dropped);
        add(&self.tallies.log_failed_before, counts.log_failed);
        add(&self.tallies.reloads_accepted, counts.reloads_accepted);
        add(&self.tallies.reloads_refused, counts.reloads_refused);
        add(&self.tallies.spans_sent, counts.spans_sent);
        add(&self.tallies.spans_dropped, counts.spans_dropped);
        add(&self.tallies.spans_failed, counts.spans_failed);
        add(&self.tallies.acme_issued, counts.acme_issued);
        add(&self.tallies.acme_failed, counts.acme_failed);
        self.connections.gate().add_closed(Closed::Address, counts.closed_address);
        self.connections.gate().add_closed(Closed::Total, counts.closed_total);
        self.listeners.tally().add(&counts.handshakes);
        for reason in Refused::ALL {
            let count = counts.unproxied.get(reason.as_str()).copied().unwrap_or_default();
            self.listeners.add_refused(reason, count);
        }
        self.connections.frame_faults().add(&counts.http2_faults);
    }

    /// Since when the use of keys is watched, in Unix seconds.
    pub(super) fn watching_since(&self) -> u64 {
        self.watching_since.load(Ordering::Relaxed)
    }

    /// A process before this one watched since `since`, in Unix seconds.
    pub(super) fn was_watched_since(&self, since: u64) {
        self.watching_since.fetch_min(since, Ordering::Relaxed);
    }

    /// Takes over what the supervisor counts.
    /// Forgets a process that was replaced, and what it had in hand.
    pub(super) fn is_gone(&self, pid: u32) {
        self.published.is_gone(pid);
        if self.published.elsewhere().is_empty() {
            forget_streams_elsewhere(&self.published.load());
        }
    }

    pub(super) fn tally(&self, tally: Tally) {
        self.tallies.restarts.store(tally.restarts, Ordering::Relaxed);
        self.tallies.restarts_failed.store(tally.restarts_failed, Ordering::Relaxed);
        self.tallies.crashes.store(tally.crashes, Ordering::Relaxed);
    }
}
