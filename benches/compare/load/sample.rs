//! What became of one request, for those who want to know it of each.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// One request; times count from the start of the load.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Which of the clients of the load, from 0 on.
    pub(crate) client: usize,
    /// When it was to be sent. Latency counts from here.
    pub(crate) due: Duration,
    /// When it was sent.
    pub(crate) sent: Duration,
    /// When it was over.
    pub(crate) done: Duration,
    pub(crate) outcome: Outcome,
    /// A kept connection ended as it was under way, and it was sent again on a new one.
    pub(crate) is_repeated: bool,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// 2xx, from the backend that says so of itself: its port, or 0 when it does not say.
    Answered(u16),
    Failed(Trouble),
}

/// Why a request failed, although it was sent again where that is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Trouble {
    /// No connection.
    Refused,
    /// The connection ended before the answer did.
    Reset,
    /// An answer that is not 2xx.
    Status,
    /// Bytes that are no answer.
    Unreadable,
    /// Nothing within the time that a client waits.
    TimedOut,
}

impl Trouble {
    pub(crate) const ALL: [Self; 5] =
        [Self::Refused, Self::Reset, Self::Status, Self::Unreadable, Self::TimedOut];

    /// The name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Status => "not 2xx",
            Self::Unreadable => "unreadable",
            Self::TimedOut => "timed out",
        }
    }
}

/// The wall clock, since the epoch of Unix: by it two processes can tell each other when something was.
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
