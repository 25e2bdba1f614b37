//! What to measure: the answer to the command line.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{contestant::Contestant, workload::Workload};

/// One run of the comparison.
pub(crate) struct Plan {
    /// How often every proxy is measured for every workload; the table shows medians over these.
    pub(crate) rounds: usize,
    /// How long the generator runs in one round, in seconds.
    pub(crate) seconds: usize,
    /// Requests a second where that is fixed; none: half of what the slowest can do.
    pub(crate) rate: Option<f64>,
    pub(crate) contestants: Vec<&'static Contestant>,
    pub(crate) workloads: Vec<Workload>,
    /// Programs to use instead of those of the system or of this build, by contestant or tool.
    pub(crate) programs: BTreeMap<String, PathBuf>,
    pub(crate) placement: Placement,
}

/// Who may run on which core.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// The scheduler decides.
    Free,
    /// The proxies share the last core, of which only one at a time is at work; generator and backends have the rest.
    Pinned,
}

impl Placement {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Free => "placed by the scheduler",
            Self::Pinned => "the proxy alone on the last core",
        }
    }
}
