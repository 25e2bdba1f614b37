//! What changes while the load goes on, and when.

use std::time::Duration;

/// Reloads in one run of `reloads`.
const RELOADS: u32 = 100;

/// Rotations in one run of `keys-rotate`.
const ROTATIONS: u32 = 3;

/// Restarts in one run of `restart`.
const RESTARTS: u32 = 5;

/// When the backend dies, and for how long it is gone.
const DIES_AT: Duration = Duration::from_secs(2);
const DEAD_FOR: Duration = Duration::from_secs(5);

/// No step is taken in the last part of a run, so that what a step breaks is seen.
const STILL_AT_THE_END: Duration = Duration::from_secs(2);

/// The shortest time for changes: the dead backend has to come back, and its return to be watched, also by an edge that
/// tries it again only 10 seconds after it failed.
pub(crate) const SECONDS_MIN: usize = 16;

/// One kind of change, or none for contrast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    Quiet,
    Reloads,
    BackendDies,
    KeysRotate,
    Restart,
    ScaleUp,
}

/// One thing that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The edge reads a configuration with another weight, and with another list of backends elsewhere.
    Reload,
    /// The first backend is killed.
    Kill,
    /// It comes back at the same address.
    Revive,
    /// The secret behind the cookies is replaced.
    Rotate,
    /// The edge's program is started anew.
    Restart,
    /// A fourth backend joins the three.
    ScaleUp,
}

impl Scenario {
    pub(crate) const ALL: [Self; 6] = [
        Self::Quiet,
        Self::Reloads,
        Self::BackendDies,
        Self::KeysRotate,
        Self::Restart,
        Self::ScaleUp,
    ];

    /// The name in tables and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Reloads => "reloads",
            Self::BackendDies => "backend-dies",
            Self::KeysRotate => "keys-rotate",
            Self::Restart => "restart",
            Self::ScaleUp => "scale-up",
        }
    }

    /// One sentence for the reader of the table.
    pub(crate) fn summary(self) -> String {
        match self {
            Self::Quiet => "nothing changes, for contrast".to_owned(),
            Self::Reloads => {
                format!("{RELOADS} reloads, each with another weight and another list elsewhere")
            }
            Self::BackendDies => format!(
                "one of three backends is killed and is back {} s later at the same address",
                DEAD_FOR.as_secs()
            ),
            Self::KeysRotate => {
                format!("the secret behind the cookies is replaced {ROTATIONS} times")
            }
            Self::Restart => format!("the edge's program is started anew {RESTARTS} times"),
            Self::ScaleUp => "a fourth backend joins the three".to_owned(),
        }
    }

    /// The steps of a run with so many seconds for changes, by time from their beginning.
    pub(crate) fn steps(self, seconds: usize) -> Vec<(Duration, Step)> {
        let span = Duration::from_secs(seconds as u64).saturating_sub(STILL_AT_THE_END);
        let spread = |count: u32, step: Step| {
            (0..count).map(|number| (span * number / count + span / (2 * count), step)).collect()
        };
        match self {
            Self::Quiet => vec![],
            Self::Reloads => spread(RELOADS, Step::Reload),
            Self::BackendDies => {
                vec![(DIES_AT, Step::Kill), (DIES_AT + DEAD_FOR, Step::Revive)]
            }
            Self::KeysRotate => spread(ROTATIONS, Step::Rotate),
            Self::Restart => spread(RESTARTS, Step::Restart),
            Self::ScaleUp => spread(1, Step::ScaleUp),
        }
    }
}
