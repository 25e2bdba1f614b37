//! What became of the pin of a request, and why: the labels of metrics, logs and the status page.

use crate::balancer::affinity::token::TokenError;

/// What became of the pin of a request: the label of metrics and logs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Outcome {
    /// Another backend stood in for the one of the pin, which stays; there is a [`Cause`].
    Borrowed,
    /// The client went where its pin leads.
    Followed,
    /// A first visit: a pin was made.
    Made,
    /// The pin leads elsewhere now; there is a [`Cause`].
    Moved,
    /// The app keeps no client on its backend.
    Off,
    /// No backend takes the request.
    Refused,
}

impl Outcome {
    /// Every outcome, in order.
    pub const ALL: [Self; 6] =
        [Self::Borrowed, Self::Followed, Self::Made, Self::Moved, Self::Off, Self::Refused];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Borrowed => "borrowed",
            Self::Followed => "followed",
            Self::Made => "made",
            Self::Moved => "moved",
            Self::Off => "off",
            Self::Refused => "refused",
        }
    }
}

/// Why a pin was moved or a request refused.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Cause {
    /// The backend refused the connection, or did not answer in time, now or seconds ago.
    ConnectFailed,
    /// The backend was drained, and the time its clients had to leave by themselves is over.
    DrainDeadline,
    /// Nobody used the pin for longer than its idle life.
    ExpiredIdle,
    /// The pin is older than its lifetime.
    ExpiredLifetime,
    /// The key is ours, the seal is not.
    Forged,
    /// The operator closed the backend, or the whole app.
    Maintenance,
    /// What the client showed is no token.
    Malformed,
    /// The backend is another run of itself, with an empty memory.
    NewIncarnation,
    /// Its backend, the app or Homing has as much in hand as it may.
    Overloaded,
    /// Its backend has more clients than its share, and the moment was safe.
    Rebalanced,
    /// The backend is not on the list any more.
    Removed,
    /// The probes of the backend fail.
    Unhealthy,
    /// The key is not on the ring.
    UnknownKey,
    /// The token is of another app on the same domain.
    WrongApp,
}

impl Cause {
    /// Every cause, in order.
    pub const ALL: [Self; 14] = [
        Self::ConnectFailed,
        Self::DrainDeadline,
        Self::ExpiredIdle,
        Self::ExpiredLifetime,
        Self::Forged,
        Self::Maintenance,
        Self::Malformed,
        Self::NewIncarnation,
        Self::Overloaded,
        Self::Rebalanced,
        Self::Removed,
        Self::Unhealthy,
        Self::UnknownKey,
        Self::WrongApp,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectFailed => "connect_failed",
            Self::DrainDeadline => "drain_deadline",
            Self::ExpiredIdle => "expired_idle",
            Self::ExpiredLifetime => "expired_lifetime",
            Self::Forged => "forged",
            Self::Maintenance => "maintenance",
            Self::Malformed => "malformed",
            Self::NewIncarnation => "new_incarnation",
            Self::Overloaded => "overloaded",
            Self::Rebalanced => "rebalanced",
            Self::Removed => "removed",
            Self::Unhealthy => "unhealthy",
            Self::UnknownKey => "unknown_key",
            Self::WrongApp => "wrong_app",
        }
    }
}

impl From<TokenError> for Cause {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::ExpiredIdle => Self::ExpiredIdle,
            TokenError::ExpiredLifetime => Self::ExpiredLifetime,
            TokenError::Forged => Self::Forged,
            TokenError::Malformed => Self::Malformed,
            TokenError::UnknownKey => Self::UnknownKey,
            TokenError::WrongApp => Self::WrongApp,
        }
    }
}
