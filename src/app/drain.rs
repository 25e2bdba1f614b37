//! The end of a process: accepting stops first, idle connections go last.
//!
//! A client that was promised keep-alive may send its next request at any moment. Each answer given
//! while stopping says `Connection: close`, so that those who are active leave politely; the idle ones
//! are dropped only after they had some time for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::proxy::connection::Connections;
use crate::proxy::edge::Drain;
use crate::shared::Clock;

/// Accepted connections reach the list a moment later: the list is not believed to be empty before.
const SETTLE: Duration = Duration::from_millis(300);

/// How long idle clients get to make their last request.
const IDLE_LINGER: Duration = Duration::from_secs(5);

/// How long streams that are told to end at the limit may take, so that they are counted and logged.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How often the list is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Not yet.
const NEVER: u64 = u64::MAX;

/// Watches the connections of a process that stops.
#[derive(Debug)]
pub(super) struct Draining {
    connections: Arc<Connections>,
    clock: Clock,
    /// When it began, and when what is left is cut: milliseconds on the monotonic clock.
    begun: AtomicU64,
    end: AtomicU64,
    /// Connections that were open at the end.
    cut: AtomicUsize,
}

impl Draining {
    pub(super) fn new(connections: Arc<Connections>, clock: Clock) -> Arc<Self> {
        let (begun, end) = (AtomicU64::new(NEVER), AtomicU64::new(NEVER));
        Arc::new(Self { connections, clock, begun, end, cut: AtomicUsize::new(0) })
    }

    /// Gives what runs `limit` to finish. Of several limits the one that ends first counts.
    pub(super) fn begin(&self, limit: Duration) {
        let now = millis(self.clock.monotonic());
        self.begun.fetch_min(now, Ordering::Relaxed);
        let limit = millis(limit.max(SETTLE));
        self.end.fetch_min(now.saturating_add(limit), Ordering::Relaxed);
    }

    /// Whether it began.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed) != NEVER
    }

    /// Resolves when it began, or a little later.
    pub(super) async fn begins(&self) {
        while !self.has_begun() {
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// How long what runs still has; `None`: nobody asked it to finish.
    pub(super) fn left(&self) -> Option<Duration> {
        let end = Duration::from_millis(self.end.load(Ordering::Relaxed));
        self.has_begun().then(|| end.saturating_sub(self.clock.monotonic()))
    }

    /// Whether the process may end, and how many connections that cuts.
    pub(super) fn over(&self) -> Option<usize> {
        let open = self.connections.open();
        let finished = open == 0 && self.waited() >= SETTLE;
        if !self.left()?.is_zero() {
            return finished.then_some(open);
        }
        let cut = self.cut.fetch_max(open, Ordering::Relaxed).max(open);
        let ended = self.connections.end_streams() == 0;
        let late = Duration::from_millis(self.end.load(Ordering::Relaxed)) + LAST_WORDS;
        (finished || ended || self.clock.monotonic() >= late).then_some(cut)
    }

    fn waited(&self) -> Duration {
        let begun = Duration::from_millis(self.begun.load(Ordering::Relaxed));
        self.clock.monotonic().saturating_sub(begun)
    }

    /// How long idle clients are waited for: half of a short limit, to leave time for what they send.
    fn linger(&self) -> Duration {
        let ends = [&self.begun, &self.end].map(|at| at.load(Ordering::Relaxed));
        IDLE_LINGER.min(Duration::from_millis(ends[1].saturating_sub(ends[0])) / 2)
    }

    /// Resolves when no client can send another request.
    pub(super) async fn is_quiet(&self) {
        while !self.has_begun() || self.waited() < IDLE_LINGER * 2 {
            tokio::time::sleep(SETTLE).await;
        }
    }
}

#[async_trait]
impl Drain for Draining {
    async fn idle_may_go(&self) {
        while self.waited() < SETTLE
            || (self.connections.open() > 0 && self.waited() < self.linger())
        {
            tokio::time::sleep(POLL).await;
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER - 1)
}
