//! How clients behave: how long they stay, and how long they pause.

use std::fmt;

use rand::RngExt;
use rand::rngs::SmallRng;

/// How the clients of an app behave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Habit {
    /// A request every half minute or so, for half an hour.
    Steady,
    /// Some requests within seconds, then minutes of reading, for an hour.
    Bursty,
    /// Most pauses and visits are short, a few very long.
    HeavyTailed,
}

impl Habit {
    pub(crate) const ALL: [Self; 3] = [Self::Steady, Self::Bursty, Self::HeavyTailed];

    /// How long a visit lasts on average, in seconds.
    pub(crate) fn mean_visit(self) -> f64 {
        match self {
            Self::Steady => 1800.0,
            Self::Bursty => 3600.0,
            Self::HeavyTailed => 2400.0,
        }
    }

    /// How long a visit lasts, in seconds.
    pub(crate) fn visit(self, rng: &mut SmallRng) -> f64 {
        match self {
            Self::Steady | Self::Bursty => exponential(self.mean_visit(), rng),
            // The mean of a Pareto distribution is α / (α - 1) times its least: 3 for α = 1.5.
            Self::HeavyTailed => pareto(1.5, self.mean_visit() / 3.0, rng).min(86_400.0),
        }
    }

    /// How long the next pause is, in seconds.
    pub(crate) fn pause(self, rng: &mut SmallRng) -> f64 {
        match self {
            Self::Steady => exponential(30.0, rng),
            Self::Bursty if rng.random_bool(0.8) => rng.random_range(1.0..5.0),
            Self::Bursty => rng.random_range(120.0..480.0),
            Self::HeavyTailed => pareto(1.1, 6.0, rng).min(3600.0),
        }
    }
}

impl fmt::Display for Habit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Steady => "steady",
            Self::Bursty => "bursty",
            Self::HeavyTailed => "heavy-tailed",
        })
    }
}

fn exponential(mean: f64, rng: &mut SmallRng) -> f64 {
    -mean * (1.0 - rng.random::<f64>()).ln()
}

fn pareto(alpha: f64, least: f64, rng: &mut SmallRng) -> f64 {
    least / (1.0 - rng.random::<f64>()).powf(1.0 / alpha)
}
