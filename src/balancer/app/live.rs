//! Counters that sit in an `Arc` of their own, found again by identity in the next configuration.
//!
//! They are plain atomics, so that a request costs a few additions and no look-up; telemetry turns
//! them into metrics when it is asked. An app that never saw a request has none.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::health::ProbeOutcome;
use super::histogram::{Ages, Durations};
use super::outliers::{Record, Why};
use super::queue::Queue;
use super::retries::Budget;
use super::seen::Seen;
use crate::balancer::assign::{Cause, Outcome};
use crate::balancer::rebalance::moves::Moves;

/// A number that goes up; with [`Counter::subtract`], a gauge.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to the number.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes from the number. What is read after it may not be read before: see [`super::queue`].
    pub fn subtract(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::SeqCst);
    }

    /// Adds one, unless the number is `limit` or more without those that `apart` counts. Answers whether it was added.
    pub(super) fn add_below(&self, limit: u64, apart: &Self) -> bool {
        // What ends is taken from `apart` first: read in this order, the number is never too small. Nor is `apart`
        // read before a wake-up was asked for: see `begin_stream`.
        let others = || apart.0.load(Ordering::SeqCst);
        let more = |number| (number < limit.saturating_add(others())).then_some(number + 1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// The number.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One more of something, for as long as this value lives.
#[derive(Debug)]
pub struct Held<T: AsRef<Counter>>(T);

impl<T: AsRef<Counter>> Held<T> {
    /// Counts one more.
    pub fn new(counted: T) -> Self {
        counted.as_ref().add(1);
        Self(counted)
    }
}

impl<T: AsRef<Counter>> Drop for Held<T> {
    fn drop(&mut self) {
        self.0.as_ref().subtract(1);
    }
}

/// The lowest status that is counted on its own; there are [`STATUSES`] of them.
const STATUS_MIN: u16 = 100;
const STATUSES: usize = 500;
/// Statuses of one class are counted in one block, made when the first of them is seen.
const CLASS: usize = 100;

/// What became of the requests of an app.
#[derive(Debug, Default)]
pub struct AppCounters {
    /// Requests that are being served.
    pub in_flight: Counter,
    /// Upgraded connections that are open.
    pub upgraded: Counter,
    /// Streams that are open: upgraded connections and responses of server-sent events.
    pub streams: Counter,
    /// Bytes of request bodies.
    pub request_bytes: Counter,
    /// Bytes of response bodies.
    pub response_bytes: Counter,
    /// How long requests took.
    pub durations: Durations,
    /// How old the pins were that were followed.
    pub pin_ages: Ages,
    /// Retries that the budget allowed.
    pub retries_allowed: Counter,
    /// Retries that were left out, since the budget was spent.
    pub retries_denied: Counter,
    by_status: [OnceLock<Box<[Counter; CLASS]>>; STATUSES / CLASS],
    failed: Mutex<BTreeMap<(u16, Cow<'static, str>), u64>>,
    affinity: [[Counter; Cause::COUNT + 1]; Outcome::COUNT],
}

impl AppCounters {
    /// Counts a request that ended with `status` (0: no response could be sent) and, when something
    /// went wrong between the parties, with the label of the failure.
    pub fn count_request(&self, status: u16, failure: Option<&'static str>) {
        self.add_requests(status, failure.map(Cow::Borrowed), 1);
    }

    /// Counts `count` requests that ended with `status` and this failure.
    pub(super) fn add_requests(&self, status: u16, failure: Option<Cow<'static, str>>, count: u64) {
        let index = usize::from(status).wrapping_sub(usize::from(STATUS_MIN));
        match failure {
            None if index < STATUSES => {
                let class = self.by_status[index / CLASS].get_or_init(Box::default_counters);
                class[index % CLASS].add(count);
            }
            failure => {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                *failed.entry((status, failure.unwrap_or_default())).or_default() += count;
            }
        }
    }

    /// Counts what became of the pin of a request.
    pub fn count_affinity(&self, outcome: Outcome, cause: Option<Cause>) {
        self.add_affinity(outcome, cause, 1);
    }

    /// Counts `count` requests whose pins all went this way.
    pub(super) fn add_affinity(&self, outcome: Outcome, cause: Option<Cause>, count: u64) {
        self.affinity[outcome as usize][cause.map_or(0, |cause| cause as usize + 1)].add(count);
    }

    /// Requests by status and failure; what was never seen is left out.
    pub fn requests(&self) -> Vec<(u16, Cow<'static, str>, u64)> {
        let blocks = self.by_status.iter().zip((STATUS_MIN..).step_by(CLASS));
        let counted = blocks.filter_map(|(block, first)| Some((block.get()?, first)));
        let mut all: Vec<_> = counted
            .flat_map(|(block, first)| block.iter().zip(first..))
            .filter(|(counter, _)| counter.read() > 0)
            .map(|(counter, status)| (status, Cow::Borrowed(""), counter.read()))
            .collect();
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(
            failed.iter().map(|((status, failure), count)| (*status, failure.clone(), *count)),
        );
        all
    }

    /// Requests by what became of their pin; what was never seen is left out.
    pub fn affinity(&self) -> Vec<(Outcome, Option<Cause>, u64)> {
        let mut all = Vec::new();
        for outcome in Outcome::ALL {
            let causes = std::iter::once(None).chain(Cause::ALL.map(Some));
            for (counter, cause) in self.affinity[outcome as usize].iter().zip(causes) {
                if counter.read() > 0 {
                    all.push((outcome, cause, counter.read()));
                }
            }
        }
        all
    }

    /// How many requests ended with this outcome, whatever the cause.
    pub fn outcome_total(&self, outcome: Outcome) -> u64 {
        self.affinity[outcome as usize].iter().map(Counter::read).sum()
    }
}

/// Makes a block of counters on the heap.
trait DefaultCounters {
    fn default_counters() -> Self;
}

impl DefaultCounters for Box<[Counter; CLASS]> {
    fn default_counters() -> Self {
        Self::new(std::array::from_fn(|_| Counter::default()))
    }
}

/// The counters of an app.
#[derive(Debug, Default)]
pub struct AppLive {
    /// How many retries there may be at present.
    pub retries: Budget,
    counters: OnceLock<Box<AppCounters>>,
    moves: OnceLock<Arc<Moves>>,
    /// Requests of clients that were known by a foreign cookie, by its name.
    adopted: Mutex<BTreeMap<Box<str>, Arc<Counter>>>,
}

impl AppLive {
    /// The counters; made by the first request.
    pub fn counters(&self) -> &AppCounters {
        self.counters.get_or_init(Box::default)
    }

    /// The counters, if there was a request.
    pub fn seen(&self) -> Option<&AppCounters> {
        self.counters.get().map(AsRef::as_ref)
    }

    /// What requests know of each other, where clients are rebalanced, if there was one.
    pub fn moves_seen(&self) -> Option<&Arc<Moves>> {
        self.moves.get()
    }

    /// What requests know of each other, where clients are rebalanced; made by the first who asks.
    pub fn moves(&self) -> &Arc<Moves> {
        self.moves.get_or_init(Arc::default)
    }

    /// The counters of foreign cookies of these names. Those of other names are forgotten.
    pub fn keep_adopted<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
    ) -> BTreeMap<Box<str>, Arc<Counter>> {
        let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = |name: &str| (name.into(), adopted.get(name).cloned().unwrap_or_default());
        *adopted = names.map(kept).collect();
        adopted.clone()
    }

    /// Requests of clients that were known by a foreign cookie, by its name.
    pub fn adopted(&self) -> Vec<(Box<str>, u64)> {
        let adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        adopted.iter().map(|(name, count)| (name.clone(), count.read())).collect()
    }

    /// Adds what another process counted; a cookie that is not on the list is skipped.
    pub(super) fn add_adopted(&self, name: &str, count: u64) {
        let adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = adopted.get(name) {
            counter.add(count);
        }
    }
}

/// A request in flight of an app, counted for as long as this value lives.
#[derive(Debug)]
pub struct AppInFlight(pub Arc<AppLive>);

impl AsRef<Counter> for AppInFlight {
    fn as_ref(&self) -> &Counter {
        &self.0.counters().in_flight
    }
}

/// An upgraded connection of an app, counted for as long as this value lives.
#[derive(Debug)]
pub struct AppUpgraded(pub Arc<AppLive>);

impl AsRef<Counter> for AppUpgraded {
    fn as_ref(&self) -> &Counter {
        &self.0.counters().upgraded
    }
}

/// A stream of an app, counted for as long as this value lives.
#[derive(Debug)]
pub struct AppStream(pub Arc<AppLive>);

impl AsRef<Counter> for AppStream {
    fn as_ref(&self) -> &Counter {
        &self.0.counters().streams
    }
}

/// How a connection to a backend came about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Connect {
    /// It failed in another way: no route, TLS, no descriptor.
    Failed,
    /// A new one was opened.
    Opened,
    /// The backend refused it.
    Refused,
    /// One was there already.
    Reused,
    /// The backend did not answer in time.
    TimedOut,
}

impl Connect {
    /// Every way, in the order of the labels.
    pub const ALL: [Self; 5] =
        [Self::Failed, Self::Opened, Self::Refused, Self::Reused, Self::TimedOut];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Opened => "opened",
            Self::Refused => "refused",
            Self::Reused => "reused",
            Self::TimedOut => "timed_out",
        }
    }
}

/// The last probe of a backend.
#[derive(Clone, Debug)]
pub struct LastProbe {
    /// When it ended, in Unix seconds.
    pub at: u64,
    /// How it ended.
    pub outcome: ProbeOutcome,
}

/// The counters of a backend.
#[derive(Debug, Default)]
pub struct BackendLive {
    /// Requests that are being served.
    pub in_flight: Counter,
    /// Streams that are open: upgraded connections and responses of server-sent events.
    pub streams: Counter,
    /// Requests that wait for a place.
    pub queue: Queue,
    /// Requests that were assigned to it.
    pub requests: Counter,
    /// Pins made or moved here.
    pub pins_made: Counter,
    /// Requests that followed their pin here.
    pub pins_followed: Counter,
    /// Probes that passed.
    pub probes_passed: Counter,
    /// Probes that failed.
    pub probes_failed: Counter,
    /// When a request was last assigned to it, in Unix seconds; 0: never.
    pub last_used: AtomicU64,
    connects: [Counter; Connect::ALL.len()],
    transitions: [Counter; 3],
    /// What became of its last requests, where the app looks for outliers.
    pub record: Record,
    ejections: [Counter; Why::ALL.len()],
    /// How often it was an outlier, and stayed since too few others took clients.
    pub spared: Counter,
    last_probe: Mutex<Option<LastProbe>>,
    seen: OnceLock<Box<Seen>>,
    /// Set while streams are to end: the drain deadline of the backend passed.
    evict: AtomicBool,
}

/// A stream of a backend, counted for as long as this value lives.
#[derive(Debug)]
pub struct BackendStream(pub Arc<BackendLive>);

impl AsRef<Counter> for BackendStream {
    fn as_ref(&self) -> &Counter {
        &self.0.streams
    }
}

impl BackendLive {
    /// Whether a request that comes now finds a place among `limit`. Streams hold none, and nobody overtakes who waits.
    pub fn has_place(&self, limit: u64) -> bool {
        let in_flight = self.in_flight.read();
        self.queue.is_empty() && in_flight < limit.saturating_add(self.streams.read())
    }

    /// Counts a stream, which gives its place to who waits.
    pub fn begin_stream(self: &Arc<Self>) -> Held<BackendStream> {
        let counted = Held::new(BackendStream(Arc::clone(self)));
        // Counted before it is looked who waits.
        fence(Ordering::SeqCst);
        self.queue.wake();
        counted
    }

    /// Says whether the streams of this backend are to end, those that begin later included.
    pub fn set_evict(&self, evict: bool) {
        self.evict.store(evict, Ordering::Relaxed);
    }

    /// Whether the streams of this backend are to end.
    pub fn evicts(&self) -> bool {
        self.evict.load(Ordering::Relaxed)
    }

    /// Counts one attempt to connect.
    pub fn count_connect(&self, connect: Connect) {
        self.add_connects(connect, 1);
    }

    /// Counts `count` attempts to connect.
    pub(super) fn add_connects(&self, connect: Connect, count: u64) {
        self.connects[connect as usize].add(count);
    }

    /// Attempts to connect that ended this way.
    pub fn connects(&self, connect: Connect) -> u64 {
        self.connects[connect as usize].read()
    }

    /// Counts one ejection.
    pub fn count_ejection(&self, why: Why) {
        self.add_ejections(why, 1);
    }

    /// Counts `count` ejections.
    pub(super) fn add_ejections(&self, why: Why, count: u64) {
        self.ejections[why as usize].add(count);
    }

    /// Ejections for this reason.
    pub fn ejections(&self, why: Why) -> u64 {
        self.ejections[why as usize].read()
    }

    /// Counts one change of admission; `to` is the index of [`super::members::Admission::label_index`].
    pub fn count_transition(&self, to: usize) {
        self.add_transitions(to, 1);
    }

    /// Counts `count` changes of admission; one that does not exist is skipped.
    pub(super) fn add_transitions(&self, to: usize, count: u64) {
        if let Some(counter) = self.transitions.get(to) {
            counter.add(count);
        }
    }

    /// Changes of admission to this one.
    pub fn transitions(&self, to: usize) -> u64 {
        self.transitions[to].read()
    }

    /// Changes of admission, by the one they lead to.
    pub(super) fn all_transitions(&self) -> [u64; 3] {
        std::array::from_fn(|to| self.transitions(to))
    }

    /// Notes a client that is pinned here, by the mark of its cookie.
    pub fn note_client(&self, mark: u64) {
        self.seen.get_or_init(Box::default).observe(mark);
    }

    /// About how many pinned clients came in the last one to two [`super::seen::SEEN_WINDOW`]s.
    pub fn bound_clients(&self) -> u64 {
        self.seen.get().map_or(0, |seen| seen.estimate())
    }

    /// Forgets who came before the current window, and begins another.
    pub fn rotate_seen(&self) {
        if let Some(seen) = self.seen.get() {
            seen.rotate();
        }
    }

    /// Who came lately, to be handed on; `None`: nobody ever.
    pub fn export_seen(&self) -> Option<Vec<u8>> {
        self.seen.get().map(|seen| seen.export())
    }

    /// Takes in who came to another process.
    pub fn absorb_seen(&self, exported: &[u8]) {
        self.seen.get_or_init(Box::default).absorb(exported);
    }

    /// Remembers how a probe ended.
    pub fn record_probe(&self, probe: LastProbe) {
        match probe.outcome {
            ProbeOutcome::Passed => self.probes_passed.add(1),
            ProbeOutcome::Failed(_) => self.probes_failed.add(1),
        }
        self.remember_probe(probe);
    }

    /// The same without counting it: it was counted by another process.
    pub fn remember_probe(&self, probe: LastProbe) {
        *self.last_probe.lock().unwrap_or_else(PoisonError::into_inner) = Some(probe);
    }

    /// How the last probe ended, if there was one.
    pub fn last_probe(&self) -> Option<LastProbe> {
        self.last_probe.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
