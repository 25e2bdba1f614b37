//! What the parts of the program share: the clock, the snapshot to read, the channel to write.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::balancer::administrative::Administrative;
use crate::balancer::failure::page::ErrorPolicy;
use crate::balancer::state::{Event, Snapshot};

/// Events that may wait for the one task that applies them. Probers wait for a place; news of a
/// failed connect are dropped when there is none, since the next request brings them again.
const EVENTS_MAX: usize = 1024;

/// The only place that asks what time it is.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// What the wall clock said less what the monotonic one did, in microseconds; refreshed by
    /// [`Clock::adjust`], so that a request asks one clock only.
    offset: &'static AtomicI64,
}

impl Clock {
    /// Starts the monotonic clock.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn start() -> Self {
        // One for the life of the process: a clock is copied into everything.
        let clock = Self { start: Instant::now(), offset: Box::leak(Box::default()) };
        clock.adjust();
        clock
    }

    /// Follows the wall clock, which may be set at any time.
    pub fn adjust(&self) {
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let offset = micros(self.unix()).saturating_sub(micros(self.monotonic()));
        self.offset.store(offset, Ordering::Relaxed);
    }

    /// Time since 1970 at a moment of the monotonic clock, as of the last adjustment.
    pub fn unix_at(&self, monotonic: Duration) -> Duration {
        let offset = self.offset.load(Ordering::Relaxed);
        let distance = Duration::from_micros(offset.unsigned_abs());
        if offset >= 0 { monotonic + distance } else { monotonic.saturating_sub(distance) }
    }

    /// Time since the clock was started; never goes back.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn monotonic(&self) -> Duration {
        Instant::now().duration_since(self.start)
    }

    /// Time since 1970 on the wall clock.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn unix(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// The snapshot that requests read. One writer, many readers.
#[derive(Debug)]
pub struct Published {
    snapshot: ArcSwap<Snapshot>,
    trusted_proxies: ArcSwap<Vec<IpNet>>,
    errors: ArcSwap<ErrorPolicy>,
    administrative: ArcSwap<Administrative>,
    elsewhere: Mutex<BTreeMap<u32, Reported>>,
    changed: watch::Sender<()>,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            snapshot: ArcSwap::default(),
            trusted_proxies: ArcSwap::default(),
            errors: ArcSwap::default(),
            administrative: ArcSwap::default(),
            elsewhere: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl Published {
    /// The snapshot of this moment. A request asks once.
    pub fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Replaces the snapshot and wakes who waits for a change. Answers with the one before, which takes long to free
    /// when it is the last to have its apps: see [`Retired`].
    pub fn store(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let before = self.snapshot.swap(Arc::new(snapshot));
        self.changed.send_replace(());
        before
    }

    /// Proxies whose word on `X-Forwarded-*` counts.
    pub fn trusted_proxies(&self) -> arc_swap::Guard<Arc<Vec<IpNet>>> {
        self.trusted_proxies.load()
    }

    /// Whether the word of who has this address on `X-Forwarded-*` counts.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.load().iter().any(|network| network.contains(&address))
    }

    /// Replaces the list of trusted proxies.
    pub fn trust(&self, proxies: Vec<IpNet>) {
        self.trusted_proxies.store(Arc::new(proxies));
    }

    /// What is answered to requests that no app serves.
    pub fn errors(&self) -> Arc<ErrorPolicy> {
        self.errors.load_full()
    }

    /// Replaces that.
    pub fn answer_with(&self, errors: ErrorPolicy) {
        self.errors.store(Arc::new(errors));
    }

    /// What the operator wants of apps and backends.
    pub fn administrative(&self) -> Arc<Administrative> {
        self.administrative.load_full()
    }

    /// Replaces what the operator wants.
    pub fn want(&self, administrative: Administrative) {
        self.administrative.store(Arc::new(administrative));
    }

    /// What replaced processes still have in hand, by process id.
    pub fn elsewhere(&self) -> BTreeMap<u32, Reported> {
        self.lock_elsewhere().clone()
    }

    /// Notes that a process was replaced. What it has in hand is not known yet.
    pub fn is_replaced(&self, pid: u32) {
        self.lock_elsewhere().entry(pid).or_default();
    }

    /// Notes what a replaced process has in hand, `now` on the monotonic clock.
    pub fn is_elsewhere(&self, pid: u32, held: Elsewhere, now: Duration) {
        self.lock_elsewhere().insert(pid, Reported { held, at: Some(now) });
    }

    /// Forgets a replaced process.
    pub fn is_gone(&self, pid: u32) {
        self.lock_elsewhere().remove(&pid);
    }

    fn lock_elsewhere(&self) -> MutexGuard<'_, BTreeMap<u32, Reported>> {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when another snapshot is published. To miss none, subscribe before you load.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

/// Snapshots that were replaced, and that somebody may still read. They are freed where this is: a request that reads
/// one at the wrong moment must not be the one who frees 100,000 apps.
#[derive(Debug, Default)]
pub struct Retired(Vec<Arc<Snapshot>>);

impl Retired {
    /// Keeps a snapshot until nobody else has it, and frees those that nobody else has by now.
    pub fn keep(&mut self, snapshot: Arc<Snapshot>) {
        self.0.push(snapshot);
        self.free();
    }

    /// Frees those that nobody else has by now.
    pub fn free(&mut self) {
        self.0.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The way to change anything: events for the task that owns the balancer.
#[derive(Clone, Debug)]
pub struct Events(mpsc::Sender<Event>);

impl Events {
    /// Makes the channel.
    pub fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        (Self(sender), receiver)
    }

    /// Sends an event, waiting for a place.
    pub async fn send(&self, event: Event) {
        // The receiver is gone only when the process ends.
        let _ended = self.0.send(event).await;
    }

    /// Sends an event if there is a place.
    pub fn offer(&self, event: Event) {
        let _full_or_ended = self.0.try_send(event);
    }
}

/// What the process counts of itself, handed on from one to the next.
#[derive(Debug, Default)]
pub struct Tallies {
    /// Configurations that were accepted by reload.
    pub reloads_accepted: AtomicU64,
    /// Configurations that were refused.
    pub reloads_refused: AtomicU64,
    /// When a configuration was last accepted, in Unix seconds.
    pub last_accepted: AtomicU64,
    /// Restarts that went well.
    pub restarts: AtomicU64,
    /// Restarts whose successor failed.
    pub restarts_failed: AtomicU64,
    /// Workers that ended unasked.
    pub crashes: AtomicU64,
    /// Orders that an ACME server answered with a certificate.
    pub acme_issued: AtomicU64,
    /// Orders of certificates that failed.
    pub acme_failed: AtomicU64,
    /// Spans that a collector took.
    pub spans_sent: AtomicU64,
    /// Spans that were dropped because the queue was full.
    pub spans_dropped: AtomicU64,
    /// Spans that no collector took.
    pub spans_failed: AtomicU64,
    /// Lines of the access log that processes before this one dropped.
    pub log_dropped_before: AtomicU64,
    /// Writes of the access log that failed in processes before this one.
    pub log_failed_before: AtomicU64,
}

/// What a replaced process said last.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    /// What it has in hand.
    pub held: Elsewhere,
    /// When it said so, on the monotonic clock; `None`: it said nothing yet.
    pub at: Option<Duration>,
}

/// What a replaced process still has in hand.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Elsewhere {
    /// Client connections.
    pub connections: u64,
    /// Seconds until what is left is cut.
    pub deadline_seconds: u64,
    /// What each backend has of it, by `app/backend`; those that have nothing are left out.
    pub backends: BTreeMap<String, Load>,
}

impl Elsewhere {
    /// Upgraded connections and event streams.
    pub fn streams(&self) -> u64 {
        self.backends.values().map(|load| load.streams).sum()
    }
}

/// What a backend has in hand.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Load {
    /// Requests, streams included.
    pub requests_in_flight: u64,
    /// Upgraded connections and event streams.
    pub streams: u64,
}
