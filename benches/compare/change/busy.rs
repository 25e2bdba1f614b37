//! Who used how much of the machine in one run, and what that says of its figures.

use std::time::{Duration, Instant};

use crate::{plan::Placement, topology};

/// Above this part of its cores whoever feeds the edge has nothing left to give.
const SATURATED: f64 = 0.95;

/// Above this part of one core somebody else's work disturbs ours.
const DISTURBED: f64 = 0.15;

/// Processor time until a moment.
pub(crate) struct Spent {
    pub(crate) at: Instant,
    pub(crate) machine: Duration,
    pub(crate) edge: Duration,
    pub(crate) generator: Duration,
    pub(crate) backends: Duration,
}

/// Processor time over wall time: 1 is one core in full use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Busy {
    pub(crate) edge: f64,
    pub(crate) generator: f64,
    pub(crate) backends: f64,
    /// Everybody else on this machine, and processes of the edge that ended unseen.
    pub(crate) others: f64,
}

impl Spent {
    pub(crate) fn since(&self, earlier: &Self) -> Busy {
        let wall = (self.at - earlier.at).as_secs_f64();
        let part =
            |of: fn(&Self) -> Duration| of(self).saturating_sub(of(earlier)).as_secs_f64() / wall;
        let (edge, generator) = (part(|it| it.edge), part(|it| it.generator));
        let backends = part(|it| it.backends);
        let others = (part(|it| it.machine) - edge - generator - backends).max(0.0);
        Busy { edge, generator, backends, others }
    }
}

impl Busy {
    /// Whether generators or backends had no time left, so that latencies are not the edge's.
    pub(crate) fn is_full_beside(self, placement: Placement) -> bool {
        self.generator + self.backends > SATURATED * cores_beside(placement, topology::cores())
    }

    pub(crate) fn is_disturbed(self) -> bool {
        self.others > DISTURBED
    }
}

/// The cores that generators and backends have, at least for a part of the time.
fn cores_beside(placement: Placement, cores: usize) -> f64 {
    match placement {
        Placement::Free => cores as f64,
        Placement::Pinned => cores as f64 - 1.0,
    }
}
