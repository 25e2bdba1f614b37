//! Panic: what happens when most backends of an app are unhealthy is the choice of its operator.
//!
//! When nearly all verdicts are bad at once, the verdicts themselves may be wrong: a probe path that broke with a
//! release, a network between here and there. Or the few that are left are drowned by the clients of all. The
//! answer is part of the admission of each backend, as everything else that requests see.

use super::health::Health;
use super::members::{AdminState, Member};

/// When an app panics, and what it does then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PanicPolicy {
    /// It does when fewer of its backends are healthy, in percent.
    pub below_percent: u8,
    /// What it does.
    pub then: Then,
}

/// What an app does in a panic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// It takes no new clients, so that those of the backends that are left are served.
    Refuse,
    /// It believes no verdict: unhealthy backends take clients as if they were healthy.
    Spread,
}

impl Then {
    /// The word for logs and the status page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Spread => "spread",
        }
    }
}

impl PanicPolicy {
    /// Whether an app with these members panics, and what it does then. Those that the operator closed do not
    /// count, nor those that nobody has probed yet. It is over as soon as enough are healthy: that a verdict takes
    /// several probes is what keeps it from coming and going.
    pub(in crate::balancer) fn judge(&self, members: &[Member]) -> Option<Then> {
        let counts = |member: &&Member| member.administrative == AdminState::Ready;
        let judged = || members.iter().filter(counts).map(|member| member.health.health());
        let healthy = judged().filter(|health| *health == Health::Healthy).count();
        let all = healthy + judged().filter(|health| *health == Health::Unhealthy).count();
        (healthy * 100 < all * usize::from(self.below_percent)).then_some(self.then)
    }
}
