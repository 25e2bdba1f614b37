//! What probes add up to.

use std::fmt;

/// What the probes of a backend add up to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// Probes pass.
    Healthy,
    /// Probes fail.
    Unhealthy,
    /// No probe answered yet. Unknown is not open.
    Unknown,
}

impl Health {
    /// The word for logs, labels and the status page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
        }
    }
}

/// How one probe ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProbeOutcome {
    /// The backend did not answer as expected; why, for the operator.
    Failed(Box<str>),
    /// The backend answered as expected.
    Passed,
}

impl fmt::Display for ProbeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => f.write_str(reason),
            Self::Passed => f.write_str("passed"),
        }
    }
}

/// How many probes in a row change the health of a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Thresholds {
    /// Passes that make an unhealthy backend healthy; at least 1.
    pub rise: u16,
    /// Failures that make a healthy backend unhealthy; at least 1.
    pub fall: u16,
}

/// Probe outcomes in, rare changes of health out.
///
/// The first outcome decides at once: a backend is unknown for as short as can be. From then on it
/// takes `rise` passes or `fall` failures in a row; one contrary outcome starts the count again.
#[derive(Clone, Copy, Debug)]
pub struct HealthTracker {
    health: Health,
    contrary: u16,
    probed: bool,
}

impl HealthTracker {
    /// A backend that waits for its first probe.
    pub fn unknown() -> Self {
        Self { health: Health::Unknown, contrary: 0, probed: true }
    }

    /// A backend that nobody probes, by the operator's choice: always healthy.
    pub fn unprobed() -> Self {
        Self { health: Health::Healthy, contrary: 0, probed: false }
    }

    /// What another process had reckoned of a backend that is probed.
    pub fn restored(health: Health, contrary: u16) -> Self {
        Self { health, contrary, probed: true }
    }

    /// How many of the last outcomes in a row say otherwise.
    pub fn contrary(&self) -> u16 {
        self.contrary
    }

    /// Whether nobody probes the backend, by the operator's choice.
    pub fn is_unprobed(&self) -> bool {
        !self.probed
    }

    /// The health by now.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Takes one outcome in.
    pub fn observe(&mut self, outcome: &ProbeOutcome, thresholds: Thresholds) {
        let (verdict, needed) = match outcome {
            ProbeOutcome::Passed => (Health::Healthy, thresholds.rise),
            ProbeOutcome::Failed(_) => (Health::Unhealthy, thresholds.fall),
        };
        if verdict == self.health {
            self.contrary = 0;
            return;
        }
        self.contrary = self.contrary.saturating_add(1);
        if self.health == Health::Unknown || self.contrary >= needed {
            *self = Self { health: verdict, contrary: 0, probed: true };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `outcomes`: `.` passed, `x` failed. `expected`: the health after each, `+` healthy, `-` not.
    #[track_caller]
    fn check(outcomes: &str, expected: &str) {
        let mut tracker = HealthTracker::unknown();
        let thresholds = Thresholds { rise: 2, fall: 3 };
        let health: String = outcomes
            .chars()
            .map(|outcome| {
                let outcome = match outcome {
                    '.' => ProbeOutcome::Passed,
                    _ => ProbeOutcome::Failed("refused".into()),
                };
                tracker.observe(&outcome, thresholds);
                match tracker.health() {
                    Health::Healthy => '+',
                    Health::Unhealthy => '-',
                    Health::Unknown => '?',
                }
            })
            .collect();
        assert_eq!(health, expected, "{outcomes}");
    }

    #[test]
    fn the_first_probe_decides_at_once() {
        check(".", "+");
        check("x", "-");
    }

    #[test]
    fn three_failures_in_a_row_make_a_backend_unhealthy() {
        check(".xxx", "+++-");
    }

    #[test]
    fn two_passes_in_a_row_make_it_healthy_again() {
        check("x..", "--+");
    }

    #[test]
    fn one_contrary_probe_starts_the_count_again() {
        check(".xx.xx.xxx", "+++++++++-");
        check("x.x..", "----+");
    }
}
