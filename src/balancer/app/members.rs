//! Authoritative membership: what is known of each backend, and what it admits therefore.

use std::sync::Arc;
use std::time::Duration;

use super::backend::Backend;
use super::health::{Health, HealthTracker};

/// What the operator wants of a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AdminState {
    /// Pinned clients continue, nobody new comes.
    Drain,
    /// Nobody comes.
    Maintenance,
    /// Everybody comes.
    Ready,
}

impl AdminState {
    /// The word for logs and the status page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Maintenance => "maintenance",
            Self::Ready => "ready",
        }
    }
}

/// Why a backend takes nobody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Closed {
    /// The operator wants it so.
    Maintenance,
    /// It refused a connection and rests for some seconds.
    Quarantined,
    /// Its probes fail.
    Unhealthy,
    /// Nobody probed it yet.
    Unknown,
}

/// What a backend admits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// Nobody.
    Closed(Closed),
    /// Everybody.
    Open,
    /// Pinned clients only.
    PinnedOnly,
}

impl Admission {
    /// The labels, by [`Admission::label_index`].
    pub const LABELS: [&'static str; 3] = ["open", "pinned_only", "closed"];

    /// The place of the label.
    pub fn label_index(self) -> usize {
        match self {
            Self::Open => 0,
            Self::PinnedOnly => 1,
            Self::Closed(_) => 2,
        }
    }

    /// The label.
    pub fn as_str(self) -> &'static str {
        Self::LABELS[self.label_index()]
    }

    /// Why, in one word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Open => "healthy",
            Self::PinnedOnly => "drain",
            Self::Closed(Closed::Maintenance) => "maintenance",
            Self::Closed(Closed::Quarantined) => "quarantined",
            Self::Closed(Closed::Unhealthy) => "unhealthy",
            Self::Closed(Closed::Unknown) => "unknown",
        }
    }
}

/// What is known of one backend.
#[derive(Debug)]
pub struct Member {
    /// The backend.
    pub backend: Arc<Backend>,
    /// What its probes add up to.
    pub health: HealthTracker,
    /// What the operator wants.
    pub administrative: AdminState,
    /// Until when it rests after a refused connection, on the clock of the events.
    pub quarantined_until: Option<Duration>,
}

impl Member {
    /// What the backend admits: the one table that decides it.
    pub fn admission(&self) -> Admission {
        match (self.administrative, self.health.health(), self.quarantined_until) {
            (AdminState::Maintenance, _, _) => Admission::Closed(Closed::Maintenance),
            (_, Health::Unhealthy, _) => Admission::Closed(Closed::Unhealthy),
            (_, Health::Unknown, _) => Admission::Closed(Closed::Unknown),
            (_, Health::Healthy, Some(_)) => Admission::Closed(Closed::Quarantined),
            (AdminState::Drain, Health::Healthy, None) => Admission::PinnedOnly,
            (AdminState::Ready, Health::Healthy, None) => Admission::Open,
        }
    }
}
