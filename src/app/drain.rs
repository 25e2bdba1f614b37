//! The end of a process: accepting stops first, idle connections go last.
//!
//! A client that was promised keep-alive may send its next request at any moment. Each answer given
//! while stopping says `Connection: close`, so that those who are active leave politely; the idle ones
//! are dropped only after they had some time for that.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;

use crate::proxy::connection::{Connections, Drain};
use crate::shared::Clock;

/// Accepted connections reach the list a moment later: the list is not believed to be empty before.
const SETTLE: Duration = Duration::from_millis(300);

/// How long idle clients get to make their last request.
const IDLE_LINGER: Duration = Duration::from_secs(5);

/// How often the list is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Watches the connections of a process that stops.
pub(super) struct Draining {
    connections: Arc<Connections>,
    clock: Clock,
    grace_period: Duration,
    begun: OnceLock<Duration>,
}

impl Draining {
    pub(super) fn new(
        connections: Arc<Connections>,
        clock: Clock,
        grace_period: Duration,
    ) -> Arc<Self> {
        Arc::new(Self { connections, clock, grace_period, begun: OnceLock::new() })
    }

    /// Starts the grace period.
    pub(super) fn begin(&self) {
        self.begun.get_or_init(|| self.clock.monotonic());
    }

    /// Whether the process may end, and how many connections that cuts.
    pub(super) fn over(&self) -> Option<usize> {
        let (open, waited) = (self.connections.open(), self.waited());
        let finished = open == 0 && waited >= SETTLE;
        (finished || waited >= self.grace_period.max(SETTLE)).then_some(open)
    }

    fn waited(&self) -> Duration {
        let begun = self.begun.get().copied();
        begun.map_or(Duration::ZERO, |begun| self.clock.monotonic().saturating_sub(begun))
    }
}

#[async_trait]
impl Drain for Draining {
    async fn idle_may_go(&self) {
        let linger = IDLE_LINGER.min(self.grace_period / 2);
        while self.waited() < SETTLE || (self.connections.open() > 0 && self.waited() < linger) {
            tokio::time::sleep(POLL).await;
        }
    }
}
